//! A sink in PostgreSQL with pgvector: a narrow table of vectors, and a table that says what it holds.
//!
//! An update is one transaction, so readers see whole updates alone. Rows come by COPY into a temporary table and from there
//! over the older ones; the position is written in the same transaction, under a lock that lets one writer in at a time.

use std::error::Error as _;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::{SinkExt as _, TryStreamExt as _};
use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use tokio_postgres::types::{FromSql, Type};
use tokio_postgres::{Client, Config as ServerConfig, Error as ServerError, Row};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{
    EmbeddingSink, ItemRow, OwnOptions, SinkConfig, SinkError, SinkOptions, SinkState, StoredRow, Update, UpdateKind,
    Version,
};
use crate::util::component::Component;
use crate::util::config_section::config_section;

const NAME: &str = "postgres";

config_section! {
    /// What only `postgres` knows.
    pub struct PostgresOptions {
        /// Milliseconds that connecting, and every single request, may take.
        timeout_ms: u64 = 10_000 => [within(1..=600_000)];
    }
}

impl Component for PostgresOptions {
    const NAME: &'static str = NAME;
    const SUMMARY: &'static str = "A table in PostgreSQL with pgvector; its target is postgres://[USER[:PASSWORD]@]HOST[:PORT]/DATABASE, its name that of the table.";
}

impl OwnOptions for PostgresOptions {
    fn open(self, config: &SinkConfig) -> Result<Box<dyn EmbeddingSink>, SinkError> {
        Ok(Box::new(PostgresSink::open(&config.common, &self)?))
    }
}

/// Rows of a statement: what an index takes of them stays far below the timeout.
const ROWS_PER_STATEMENT: usize = 1_000;
/// Bytes of an identifier that an index over text always takes.
const MAX_ID_BYTES: usize = 2_600;
/// How long a connection may take to close.
const CLOSE_WITHIN: Duration = Duration::from_millis(500);
/// How a COPY in binary begins: its signature, and no flags.
const COPY_HEAD: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// The sink. It connects when an update begins, and again after an error.
pub struct PostgresSink {
    server: ServerConfig,
    tls: MakeRustlsConnect,
    timeout: Duration,
    replace: bool,
    /// The table as it is written in statements, and that of the state.
    table: String,
    state: String,
    runtime: Runtime,
    client: Option<Connected>,
    update: Option<OpenTransaction>,
    committed: Option<Version>,
    /// Whether it was said that an identifier cannot be a text here.
    said: bool,
}

#[derive(Debug, Clone, Copy)]
struct OpenTransaction {
    kind: UpdateKind,
    version: Version,
    /// The version in the types of the table.
    stored: (i64, i64),
}

impl std::fmt::Debug for PostgresSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The configuration of the server has a password.
        f.debug_struct("PostgresSink").field("table", &self.table).finish_non_exhaustive()
    }
}

/// A connection, and the task that carries it.
struct Connected {
    client: Client,
    task: JoinHandle<()>,
}

/// Why the server was not of use.
#[derive(Debug)]
enum Trouble {
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

impl PostgresSink {
    /// A sink as it is configured; nothing is asked of the server yet.
    ///
    /// # Errors
    /// Where its target is no address of a PostgreSQL, which is not repeated, or an option is unknown.
    pub fn open(common: &SinkOptions, own: &PostgresOptions) -> Result<Self, SinkError> {
        let timeout = Duration::from_millis(own.timeout_ms);
        let refused = |problem: &str| SinkError::refused(NAME, problem.to_owned());
        // The address may hold a password, which an error of the parser's could repeat.
        let mut server: ServerConfig = common
            .target
            .parse()
            .map_err(|_| refused("its target is no address like postgres://USER@HOST:PORT/DATABASE"))?;
        server.connect_timeout(timeout).application_name("negstream");
        let (table, state) = table_names(common.name_or("negstream_items"))
            .ok_or_else(|| refused("its name is that of a table, NAME or SCHEMA.NAME"))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_platform_verifier())
            .map_err(|error| SinkError::refused(NAME, error))?
            .with_no_client_auth();
        let runtime =
            Builder::new_current_thread().enable_all().build().map_err(|error| SinkError::refused(NAME, error))?;
        Ok(Self {
            server,
            tls: MakeRustlsConnect::new(tls),
            timeout,
            replace: common.replace,
            table,
            state,
            runtime,
            client: None,
            update: None,
            committed: None,
            said: false,
        })
    }

    /// Ends the update and the connection with it, which rolls back what was not committed.
    fn failed(&mut self, trouble: Trouble) -> SinkError {
        self.client = None;
        self.update = None;
        let (is_away, reason) = match trouble {
            Trouble::Late => (true, format!("it does not answer within {} ms", self.timeout.as_millis())),
            Trouble::Lost => {
                (true, "it does not hold the update before this one any more; a full update makes it whole".to_owned())
            }
            Trouble::Held(reason) => (false, reason),
            Trouble::Server(error) => (is_away(&error), describe(&error)),
        };
        let reason = format!("{}: {reason}", self.table);
        if is_away { SinkError::away(NAME, reason) } else { SinkError::refused(NAME, reason) }
    }

    fn open_update(&self) -> Result<OpenTransaction, SinkError> {
        self.update.ok_or_else(|| SinkError::refused(NAME, "no update was begun"))
    }

    /// Does `work` with the connection, which is made where there is none.
    fn with_client<T>(
        &mut self,
        work: impl AsyncFnOnce(&Client, &Names<'_>) -> Result<T, Trouble>,
    ) -> Result<T, SinkError> {
        let connected = match self.client.take() {
            Some(connected) => Ok(connected),
            None => self.runtime.block_on(connect(&self.server, &self.tls, self.timeout)),
        };
        let Connected { client, task } = connected.map_err(|trouble| self.failed(trouble))?;
        let names = Names { table: &self.table, state: &self.state, timeout: self.timeout, replace: self.replace };
        match self.runtime.block_on(work(&client, &names)) {
            Ok(result) => {
                self.client = Some(Connected { client, task });
                Ok(result)
            }
            Err(trouble) => {
                // The server is told, so that a transaction that is open there ends now, and its locks with it.
                drop(client);
                let _ = self.runtime.block_on(async { tokio::time::timeout(CLOSE_WITHIN, task).await });
                Err(self.failed(trouble))
            }
        }
    }

    /// Whether PostgreSQL can hold the identifier; said once where it cannot.
    fn takes(&mut self, item_id: &str) -> bool {
        let takes = !item_id.contains('\0') && item_id.len() <= MAX_ID_BYTES;
        if !takes && !self.said {
            self.said = true;
            tracing::warn!(
                sink = NAME,
                "items whose identifier has a NUL or more than {MAX_ID_BYTES} bytes are left out"
            );
        }
        takes
    }
}

/// What statements speak of, and how long they may take.
struct Names<'a> {
    table: &'a str,
    state: &'a str,
    timeout: Duration,
    replace: bool,
}

impl Names<'_> {
    async fn in_time<T>(&self, work: impl Future<Output = Result<T, ServerError>>) -> Result<T, Trouble> {
        in_time(self.timeout, work).await
    }
}

async fn in_time<T>(timeout: Duration, work: impl Future<Output = Result<T, ServerError>>) -> Result<T, Trouble> {
    match tokio::time::timeout(timeout, work).await {
        Ok(result) => result.map_err(Trouble::Server),
        Err(_) => Err(Trouble::Late),
    }
}

async fn connect(server: &ServerConfig, tls: &MakeRustlsConnect, timeout: Duration) -> Result<Connected, Trouble> {
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

/// The table and that of the state in its schema, quoted; `None` where it is no name.
fn table_names(table: &str) -> Option<(String, String)> {
    let quoted = |name: &str| (!name.is_empty()).then(|| format!("\"{}\"", name.replace('"', "\"\"")));
    match table.split_once('.') {
        None => Some((quoted(table)?, quoted("negstream_state")?)),
        Some((schema, table)) => {
            let schema = quoted(schema)?;
            Some((format!("{schema}.{}", quoted(table)?), format!("{schema}.{}", quoted("negstream_state")?)))
        }
    }
}

/// An error of the server's in one line, with what can be done about it.
fn describe(error: &ServerError) -> String {
    let Some(refusal) = error.as_db_error() else {
        let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
        return format!("{error}{cause}");
    };
    let advice = match refusal.code().code() {
        "28P01" | "28000" => "; it refuses the user or the password of the target",
        "42501" => "; the user of the target needs CREATE on the schema, or the table made for it (docs/publishing.md)",
        "53100" | "53200" | "53400" => "; it is full",
        "55P03" | "57014" => "; another writer holds its lock, or it is slower than the timeout",
        "58P01" | "0A000" | "42704" if refusal.message().contains("vector") => "; install pgvector there",
        _ => "",
    };
    format!("{} ({}){advice}", refusal.message(), refusal.code().code())
}

/// A version in the types of the table.
fn stored(version: Version) -> Option<(i64, i64)> {
    Some((i64::try_from(version.epoch).ok()?, i64::try_from(version.step).ok()?))
}

fn loaded(epoch: i64, step: i64) -> Version {
    Version { epoch: epoch.unsigned_abs(), step: step.unsigned_abs() }
}

/// The table's state: model, dimension, version.
async fn state_of(client: &Client, names: &Names<'_>, lock: &str) -> Result<Option<SinkState>, Trouble> {
    let select = format!("SELECT model_id, dim, epoch, step FROM {} WHERE items = $1 {lock}", names.state);
    let row = names.in_time(client.query_opt(&select, &[&names.table])).await?;
    row.map(|row| {
        let dim = usize::try_from(row.try_get::<_, i32>(1)?).unwrap_or_default();
        Ok(SinkState { model_id: row.try_get(0)?, dim, version: loaded(row.try_get(2)?, row.try_get(3)?) })
    })
    .transpose()
}

/// What was made, whoever made it at the same time.
fn made_by_anybody(made: Result<(), Trouble>) -> Result<(), Trouble> {
    match made {
        Err(Trouble::Server(error))
            if error.code().is_some_and(|code| ["23505", "42710", "42P07"].contains(&code.code())) =>
        {
            Ok(())
        }
        made => made,
    }
}

/// Begins the transaction: tables as they should be, and nothing in them that is newer, or another model's.
async fn begin(
    client: &Client,
    names: &Names<'_>,
    update: &Update<'_>,
    committed: Option<Version>,
) -> Result<(), Trouble> {
    let Names { table, state, .. } = names;
    let dim = update.dim;
    names.in_time(client.batch_execute("ROLLBACK")).await?;
    // What all tables share is made outside of the transaction: another worker that makes it too is no reason to fail.
    let has_vector = "SELECT to_regtype('vector') IS NOT NULL, to_regclass($1) IS NOT NULL";
    let there: Row = names.in_time(client.query_one(has_vector, &[state])).await?;
    if !there.try_get::<_, bool>(0)? {
        made_by_anybody(names.in_time(client.batch_execute("CREATE EXTENSION IF NOT EXISTS vector")).await)?;
    }
    if !there.try_get::<_, bool>(1)? {
        let create = format!(
            "CREATE TABLE IF NOT EXISTS {state} (items text PRIMARY KEY, model_id text NOT NULL, dim integer NOT NULL,
             epoch bigint NOT NULL, step bigint NOT NULL)"
        );
        made_by_anybody(names.in_time(client.batch_execute(&create)).await)?;
    }
    names.in_time(client.batch_execute("BEGIN")).await?;
    if names.replace && update.kind == UpdateKind::Full {
        let held = state_of(client, names, "FOR UPDATE").await?;
        if held.is_none_or(|held| held.model_id != update.model_id || held.dim != dim) {
            names.in_time(client.batch_execute(&format!("DROP TABLE IF EXISTS {table}"))).await?;
        }
    }
    let is_there: Row = names.in_time(client.query_one("SELECT to_regclass($1) IS NOT NULL", &[table])).await?;
    let is_there: bool = is_there.try_get(0)?;
    if !is_there {
        // Room in each page: a row whose vector stays is written beside itself, without a word to the index.
        let create = format!(
            "CREATE TABLE {table} (item_id text PRIMARY KEY, embedding vector({dim}) NOT NULL, log_frequency real NOT NULL,
             epoch bigint NOT NULL, step bigint NOT NULL) WITH (fillfactor = 70)"
        );
        names.in_time(client.batch_execute(&create)).await?;
        // Of a table that was dropped since.
        names.in_time(client.execute(&format!("DELETE FROM {state} WHERE items = $1"), &[table])).await?;
    }
    let held = state_of(client, names, "FOR UPDATE").await?;
    let columns = "SELECT atttypmod FROM pg_attribute WHERE attrelid = to_regclass($1) AND attname = 'embedding'";
    let column: Option<Row> = names.in_time(client.query_opt(columns, &[table])).await?;
    match column.map(|column| column.try_get::<_, i32>(0)).transpose()? {
        Some(found) if found == -1 || usize::try_from(found).is_ok_and(|found| found == dim) => {}
        Some(found) => {
            return Err(Trouble::Held(format!("it holds vectors of dimension {found}, not {dim}; {OTHERWISE}")));
        }
        None => return Err(Trouble::Held(format!("it has no column 'embedding'; {OTHERWISE}"))),
    }
    match held {
        None => {
            let any = format!("SELECT EXISTS (SELECT FROM {table})");
            if names.in_time(client.query_one(&any, &[])).await?.try_get(0)? {
                return Err(Trouble::Held(format!("it holds rows that negstream has not written; {OTHERWISE}")));
            }
        }
        Some(held) => {
            let model_id = update.model_id;
            if held.model_id != model_id {
                let other = held.model_id;
                return Err(Trouble::Held(format!(
                    "it holds vectors of another model, {other}, not of {model_id}; {OTHERWISE}"
                )));
            }
            if held.version >= update.version {
                let Version { epoch, step } = held.version;
                return Err(Trouble::Held(format!("it holds a version that is not older: epoch {epoch}, step {step}")));
            }
            if update.kind == UpdateKind::Delta && committed != Some(held.version) {
                return Err(Trouble::Lost);
            }
            return prepare(client, names).await;
        }
    }
    if update.kind == UpdateKind::Delta { Err(Trouble::Lost) } else { prepare(client, names).await }
}

/// Whether the table and that of the state are there.
const THERE: &str = "SELECT to_regclass($1) IS NOT NULL AND to_regclass($2) IS NOT NULL";
/// What can be done about a table of somebody else.
const OTHERWISE: &str = "set replace = true, or choose another table (name)";

/// Whether the connection failed, or the server will be there again by itself.
fn is_away(error: &ServerError) -> bool {
    error.as_db_error().is_none_or(|refusal| {
        let code = refusal.code().code();
        // It shuts down or starts, has no connection left, or another writer holds its lock.
        code.starts_with("57P0") || ["53300", "55P03", "57014", "25P03", "40001", "40P01"].contains(&code)
    })
}

async fn prepare(client: &Client, names: &Names<'_>) -> Result<(), Trouble> {
    let incoming = "CREATE TEMPORARY TABLE IF NOT EXISTS negstream_incoming
                    (item_id text, embedding vector, log_frequency real) ON COMMIT DELETE ROWS";
    names.in_time(client.batch_execute(incoming)).await
}

/// Brings rows of a COPY into the temporary table, does `statement` with them, and empties it.
async fn merge(
    client: &Client,
    names: &Names<'_>,
    rows: Bytes,
    columns: &str,
    statement: &str,
    version: (i64, i64),
) -> Result<(), Trouble> {
    let copy = format!("COPY negstream_incoming ({columns}) FROM STDIN (FORMAT binary)");
    names
        .in_time(async {
            let mut incoming = pin!(client.copy_in::<_, Bytes>(&copy).await?);
            incoming.send(rows).await?;
            incoming.as_mut().finish().await
        })
        .await?;
    names.in_time(client.execute(statement, &[&version.0, &version.1])).await?;
    names.in_time(client.batch_execute("DELETE FROM negstream_incoming")).await
}

/// A row of a COPY in binary: its fields, each with its length.
fn copy_row(copy: &mut BytesMut, fields: &[&[u8]]) {
    copy.put_i16(fields.len() as i16);
    for field in fields {
        copy.put_i32(field.len() as i32);
        copy.put_slice(field);
    }
}

/// A vector as pgvector sends and receives it.
fn vector(embedding: &[f32]) -> Vec<u8> {
    let head = (embedding.len() as u16).to_be_bytes().into_iter().chain([0, 0]);
    head.chain(embedding.iter().flat_map(|number| number.to_be_bytes())).collect()
}

/// What is read of a column of vectors.
struct Vector(Vec<f32>);

impl<'a> FromSql<'a> for Vector {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        let (numbers, _) = raw.get(4..).ok_or("a vector without its head")?.as_chunks::<4>();
        Ok(Self(numbers.iter().map(|number| f32::from_be_bytes(*number)).collect()))
    }

    fn accepts(kind: &Type) -> bool {
        kind.name() == "vector"
    }
}

impl EmbeddingSink for PostgresSink {
    fn name(&self) -> &str {
        NAME
    }

    fn begin(&mut self, update: &Update<'_>) -> Result<(), SinkError> {
        let (kind, version) = (update.kind, update.version);
        let too_large = || SinkError::refused(NAME, "a version beyond what a bigint holds");
        let stored = stored(version).ok_or_else(too_large)?;
        let committed = self.committed;
        self.update = None;
        self.with_client(async |client, names| begin(client, names, update, committed).await)?;
        self.update = Some(OpenTransaction { kind, version, stored });
        let state = &self.state;
        let position = format!(
            "INSERT INTO {state} AS held (items, model_id, dim, epoch, step)
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT (items) DO UPDATE SET epoch = excluded.epoch, step = excluded.step
             WHERE held.model_id = excluded.model_id AND (held.epoch, held.step) < (excluded.epoch, excluded.step)"
        );
        let (table, model_id, dim) = (self.table.clone(), update.model_id.to_owned(), update.dim as i32);
        self.with_client(async |client, names| {
            // Who else has begun at the same time with nothing to lock has made the row before us.
            match names.in_time(client.execute(&position, &[&table, &model_id, &dim, &stored.0, &stored.1])).await? {
                0 => Err(Trouble::Held("another worker has begun an update that is newer".to_owned())),
                _ => Ok(()),
            }
        })
    }

    fn remove(&mut self, item_ids: &[&str]) -> Result<(), SinkError> {
        let OpenTransaction { stored, .. } = self.open_update()?;
        let statement = format!(
            "DELETE FROM {} AS held USING negstream_incoming AS gone
             WHERE held.item_id = gone.item_id AND (held.epoch, held.step) <= ($1, $2)",
            self.table
        );
        for part in item_ids.chunks(ROWS_PER_STATEMENT) {
            let mut copy = BytesMut::from(COPY_HEAD);
            for item_id in part {
                if self.takes(item_id) {
                    copy_row(&mut copy, &[item_id.as_bytes()]);
                }
            }
            copy.put_i16(-1);
            self.with_client(async |client, names| {
                merge(client, names, copy.freeze(), "item_id", &statement, stored).await
            })?;
        }
        Ok(())
    }

    fn upsert(&mut self, rows: &[ItemRow<'_>]) -> Result<(), SinkError> {
        let OpenTransaction { stored, .. } = self.open_update()?;
        let statement = format!(
            "INSERT INTO {} AS held (item_id, embedding, log_frequency, epoch, step)
             SELECT item_id, embedding, log_frequency, $1, $2 FROM negstream_incoming
             ON CONFLICT (item_id) DO UPDATE SET embedding = excluded.embedding, log_frequency = excluded.log_frequency,
             epoch = excluded.epoch, step = excluded.step WHERE (held.epoch, held.step) < (excluded.epoch, excluded.step)",
            self.table
        );
        for part in rows.chunks(ROWS_PER_STATEMENT) {
            let mut copy = BytesMut::from(COPY_HEAD);
            for row in part {
                if self.takes(row.item_id) {
                    let log_frequency = row.log_frequency.to_be_bytes();
                    copy_row(&mut copy, &[row.item_id.as_bytes(), &vector(row.embedding), &log_frequency]);
                }
            }
            copy.put_i16(-1);
            let columns = "item_id, embedding, log_frequency";
            self.with_client(async |client, names| {
                merge(client, names, copy.freeze(), columns, &statement, stored).await
            })?;
        }
        Ok(())
    }

    fn set_popularity(&mut self, popularity: &[(&str, f32)]) -> Result<(), SinkError> {
        let OpenTransaction { stored, .. } = self.open_update()?;
        // The vector is not touched, and no index has the number: PostgreSQL writes the row beside itself.
        let statement = format!(
            "UPDATE {} AS held SET log_frequency = incoming.log_frequency FROM negstream_incoming AS incoming
             WHERE held.item_id = incoming.item_id AND (held.epoch, held.step) <= ($1, $2)",
            self.table
        );
        for part in popularity.chunks(ROWS_PER_STATEMENT) {
            let mut copy = BytesMut::from(COPY_HEAD);
            for (item_id, log_frequency) in part {
                if self.takes(item_id) {
                    copy_row(&mut copy, &[item_id.as_bytes(), &log_frequency.to_be_bytes()]);
                }
            }
            copy.put_i16(-1);
            self.with_client(async |client, names| {
                merge(client, names, copy.freeze(), "item_id, log_frequency", &statement, stored).await
            })?;
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<(), SinkError> {
        let OpenTransaction { kind, version, stored } = self.open_update()?;
        let sweep = format!("DELETE FROM {} WHERE (epoch, step) < ($1, $2)", self.table);
        self.with_client(async |client, names| {
            if kind == UpdateKind::Full {
                names.in_time(client.execute(&sweep, &[&stored.0, &stored.1])).await?;
            }
            names.in_time(client.batch_execute("COMMIT")).await
        })?;
        self.update = None;
        self.committed = Some(version);
        Ok(())
    }

    fn state(&mut self) -> Result<Option<SinkState>, SinkError> {
        self.update = None;
        self.with_client(async |client, names| {
            names.in_time(client.batch_execute("ROLLBACK")).await?;
            let there: Row = names.in_time(client.query_one(THERE, &[&names.table, &names.state])).await?;
            if there.try_get::<_, bool>(0)? { state_of(client, names, "").await } else { Ok(None) }
        })
    }

    fn read(&mut self, visit: &mut dyn FnMut(StoredRow)) -> Result<Option<SinkState>, SinkError> {
        self.update = None;
        self.with_client(async |client, names| {
            names.in_time(client.batch_execute("ROLLBACK; BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")).await?;
            let there: Row = names.in_time(client.query_one(THERE, &[&names.table, &names.state])).await?;
            if !there.try_get::<_, bool>(0)? {
                return Ok(None);
            }
            let state = state_of(client, names, "").await?;
            let select = format!("SELECT item_id, embedding, log_frequency, epoch, step FROM {}", names.table);
            let none: [&str; 0] = [];
            let mut rows = pin!(names.in_time(client.query_raw(&select, none)).await?);
            while let Some(row) = names.in_time(rows.try_next()).await? {
                visit(StoredRow {
                    item_id: row.try_get(0)?,
                    embedding: row.try_get::<_, Vector>(1)?.0,
                    log_frequency: row.try_get(2)?,
                    version: loaded(row.try_get(3)?, row.try_get(4)?),
                });
            }
            names.in_time(client.batch_execute("COMMIT")).await?;
            Ok(state)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_tables_are_quoted_and_the_state_lies_in_their_schema() {
        let of = |table| table_names(table).unwrap();
        assert_eq!(of("items"), ("\"items\"".to_owned(), "\"negstream_state\"".to_owned()));
        assert_eq!(of("a.b\"; DROP"), ("\"a\".\"b\"\"; DROP\"".to_owned(), "\"a\".\"negstream_state\"".to_owned()));
        assert!(table_names("").is_none() && table_names("a.").is_none());
    }

    #[test]
    fn vectors_come_back_as_they_are_sent() {
        let sent = vector(&[1.5, -0.0, f32::MIN_POSITIVE]);
        assert_eq!(sent[..4], [0, 3, 0, 0]);
        let Vector(read) = Vector::from_sql(&Type::BYTEA, &sent).unwrap();
        assert_eq!(
            read.iter().map(|x| x.to_bits()).collect::<Vec<_>>(),
            [1.5, -0.0_f32, f32::MIN_POSITIVE].map(f32::to_bits)
        );
    }
}
