//! The connection to the server, its timeouts, and its errors in words that say what can be done.

use std::error::Error as _;
use std::future::Future;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_postgres::{Client, Config as ServerConfig, Error as ServerError};
use tokio_postgres_rustls::MakeRustlsConnect;

/// A connection, and the task that carries it.
pub(super) struct Connected {
    pub(super) client: Client,
    pub(super) task: JoinHandle<()>,
}

/// Why the server was not of use.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It did not answer in time.
    Late,
    /// It, or the connection, refused.
    Server(ServerError),
    /// It does not hold what a delta follows.
    Lost,
    /// It holds what this worker must not write over.
    Held(String),
}

impl From<ServerError> for Trouble {
    fn from(error: ServerError) -> Self {
        Self::Server(error)
    }
}

pub(super) async fn in_time<T>(
    timeout: Duration,
    work: impl Future<Output = Result<T, ServerError>>,
) -> Result<T, Trouble> {
    match tokio::time::timeout(timeout, work).await {
        Ok(result) => result.map_err(Trouble::Server),
        Err(_) => Err(Trouble::Late),
    }
}

pub(super) async fn connect(
    server: &ServerConfig,
    tls: &MakeRustlsConnect,
    timeout: Duration,
) -> Result<Connected, Trouble> {
    let (client, connection) = in_time(timeout, server.connect(tls.clone())).await?;
    // Its errors come with the statement that meets them.
    let task = tokio::spawn(async move { drop(connection.await) });
    // The server gives up as soon as this side does; and a worker that is stopped in an update keeps nobody out for long.
    let limit = timeout.as_millis();
    let idle = limit.max(60_000);
    let settings = format!(
        "SET statement_timeout = {limit}; SET lock_timeout = {limit}; SET client_min_messages = error;
         SET idle_in_transaction_session_timeout = {idle}"
    );
    in_time(timeout, client.batch_execute(&settings)).await?;
    Ok(Connected { client, task })
}

/// An error of the server's in one line, with what can be done about it.
pub(super) fn describe(error: &ServerError) -> String {
    let Some(refusal) = error.as_db_error() else {
        let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
        return format!("{error}{cause}");
    };
    let advice = match refusal.code().code() {
        "28P01" | "28000" => "; it refuses the user or the password of the target",
        "42501" => "; the user of the target needs CREATE on the schema, or the table made for it (docs/publishing.md)",
        "53100" | "53200" | "53400" => "; it is full",
        "55P03" | "57014" => "; another writer holds its lock, or it is slower than the timeout",
        "42704" if refusal.message().contains("halfvec") => "; precision = \"f16\" needs pgvector 0.7 or newer",
        "58P01" | "0A000" | "42704" if refusal.message().contains("vector") => "; install pgvector there",
        _ => "",
    };
    format!("{} ({}){advice}", refusal.message(), refusal.code().code())
}

/// Whether the connection failed, or the server will be there again by itself.
pub(super) fn is_away(error: &ServerError) -> bool {
    error.as_db_error().is_none_or(|refusal| {
        let code = refusal.code().code();
        // It shuts down or starts, has no connection left, or another writer holds its lock.
        code.starts_with("57P0") || ["53300", "55P03", "57014", "25P03", "40001", "40P01"].contains(&code)
    })
}
