//! A sink in PostgreSQL with pgvector: a narrow table of vectors, and a table that says what it holds.
//!
//! An update is one transaction, so readers see whole updates alone. Rows come by COPY into a temporary table and from there
//! over the older ones; the position is written in the same transaction, under a lock that lets one writer in at a time.

mod connection;
mod copy;
mod tables;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut as _, BytesMut};
use futures_util::TryStreamExt as _;
use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::{Client, Config as ServerConfig, Row};
use tokio_postgres_rustls::MakeRustlsConnect;

use self::connection::{Connected, Trouble, connect, describe, is_away};
use self::copy::{COPY_HEAD, Vector, copy_row, merge, vector};
use self::tables::{Names, THERE, begin, loaded, state_of, stored, table_names};
use super::{
    EmbeddingSink, ItemRow, OwnOptions, SinkConfig, SinkError, SinkOptions, SinkState, StoredPrecision, StoredRow,
    Update, UpdateKind, VectorPrecision, Version,
};
use crate::util::component::Component;
use crate::util::config_section::config_section;

const NAME: &str = "postgres";

config_section! {
    /// What only `postgres` knows.
    pub struct PostgresOptions {
        /// Milliseconds that connecting, and every single request, may take.
        timeout_ms: u64 = 10_000 => [within(1..=600_000)];
        /// In which numbers embeddings are stored: `f32` (`vector`), or `f16` for half the bytes (`halfvec`, pgvector 0.7 and newer).
        precision: StoredPrecision = StoredPrecision::F32;
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
/// The sink. It connects when an update begins, and again after an error.
pub struct PostgresSink {
    server: ServerConfig,
    tls: MakeRustlsConnect,
    timeout: Duration,
    replace: bool,
    precision: StoredPrecision,
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
            precision: own.precision,
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
        let vector_type = match self.precision {
            StoredPrecision::F32 => "vector",
            StoredPrecision::F16 => "halfvec",
        };
        let (timeout, replace) = (self.timeout, self.replace);
        let names = Names { table: &self.table, state: &self.state, timeout, replace, vector_type };
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

impl EmbeddingSink for PostgresSink {
    fn name(&self) -> &str {
        NAME
    }

    fn precision(&self) -> VectorPrecision {
        self.precision.precision()
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
                    copy_row(
                        &mut copy,
                        &[row.item_id.as_bytes(), &vector(row.embedding, self.precision), &log_frequency],
                    );
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
