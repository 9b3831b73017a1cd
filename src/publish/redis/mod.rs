//! A sink in Redis: a hash of rows for servers that look vectors up, and a vector set over it for servers that search.
//!
//! Three keys, all of one prefix: `PREFIX:rows`, a hash with one packed row an item; `PREFIX:vectors`, a vector
//! set with the same embeddings (layout `vectors`, Redis 8 and newer); `PREFIX:state`, a hash with the model, the dimension
//! and the version of what was committed last. All writing is done by one script, which writes what is newer alone and
//! refuses whoever is no longer the newest writer; an embedding that is there as it is costs the index nothing.

mod row;

use std::collections::BTreeSet;
use std::time::Duration;

use redis::{Client, Connection, ErrorKind, Pipeline, RedisError, Script, Value};
use serde_json::json;

use self::row::{pack, unpack};
use super::{
    EmbeddingSink, ItemRow, OwnOptions, RowPart, SinkConfig, SinkError, SinkOptions, SinkState, StoredPrecision,
    StoredRow, Update, UpdateKind, VectorPrecision, Version,
};
use crate::util::component::Component;
use crate::util::config_section::{Refusal, config_choice, config_section, require};

const NAME: &str = "redis";

config_choice! {
    /// What is written besides the rows.
    pub enum RedisLayout {
        /// A vector set over them.
        Vectors = "vectors",
        /// Nothing.
        Hash = "hash",
    }
}

config_section! {
    /// What only `redis` knows.
    pub struct RedisOptions {
        /// `vectors` for a vector set over the rows (Redis 8 and newer), `hash` for rows alone.
        layout: RedisLayout = RedisLayout::Vectors;
        /// In which numbers the rows of `hash` hold embeddings: `f32`, or `f16` for half the bytes. A vector set takes `f32` alone.
        precision: StoredPrecision = StoredPrecision::F32 => [check(validate_precision)];
        /// Rows that a vector set looks at for the neighbours of one that is written (`EF` of `VADD`): fewer are faster, and leave more
        /// of what lies near out of later searches.
        exploration: u32 = 100 => [within(1..=1_000_000)];
        /// Links of a row to its neighbours in a vector set (`M` of `VADD`): half of them are written twice as fast, and searches find
        /// less. A set keeps those that it was made with.
        links: u32 = 16 => [within(4..=4_096)];
        /// Milliseconds that connecting, and every single request, may take.
        timeout_ms: u64 = 10_000 => [within(1..=600_000)];
    }
}

fn validate_precision(precision: &StoredPrecision, options: &RedisOptions) -> Result<(), Refusal> {
    let is_right = *precision == StoredPrecision::F32 || options.layout == RedisLayout::Hash;
    require(is_right, "f16 needs layout = \"hash\": a vector set is written in single precision")
}

impl Component for RedisOptions {
    const NAME: &'static str = NAME;
    const SUMMARY: &'static str = "A hash of rows in Redis, and a vector set (Redis 8) over it; its target is redis://[USER:PASSWORD@]HOST[:PORT][/DB], its name the prefix of its keys.";
}

impl OwnOptions for RedisOptions {
    fn open(self, config: &SinkConfig) -> Result<Box<dyn EmbeddingSink>, SinkError> {
        Ok(Box::new(RedisSink::open(&config.common, &self)?))
    }
}

/// Rows that one call of the script writes: the server does nothing else meanwhile.
const ROWS_PER_CALL: usize = 64;
/// Calls that are sent before their answers are read.
const CALLS_PER_TRIP: usize = 16;
/// Rows of a page of the sweep, about.
const ROWS_PER_PAGE: usize = 500;
/// What writes. `KEYS`: state, rows, vectors; `ARGV`: what to do, epoch and step of the update, layout, then what it takes.
/// It answers with `ok`, a cursor, or the reason of a refusal after `no: `.
const SCRIPT: &str = include_str!("write.lua");

/// The sink. It connects when an update begins, and again after an error.
pub struct RedisSink {
    client: Client,
    timeout: Duration,
    replace: bool,
    /// As the state has it, with the precision.
    layout: &'static str,
    precision: StoredPrecision,
    /// `EF` and `M` of `VADD`.
    effort: [String; 2],
    /// State, rows, vectors.
    keys: [String; 3],
    script: String,
    connection: Option<Connection>,
    update: Option<(UpdateKind, Version)>,
    committed: Option<Version>,
    calls: Pipeline,
}

impl std::fmt::Debug for RedisSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The client knows a password.
        f.debug_struct("RedisSink").field("keys", &self.keys).finish_non_exhaustive()
    }
}

impl RedisSink {
    /// A sink as it is configured; nothing is asked of the server yet.
    ///
    /// # Errors
    /// Where its target is no address of a Redis, which is not repeated, or an option is unknown.
    pub fn open(common: &SinkOptions, own: &RedisOptions) -> Result<Self, SinkError> {
        let layout = match (own.layout, own.precision) {
            (RedisLayout::Vectors, _) => "vectors",
            (RedisLayout::Hash, StoredPrecision::F32) => "hash",
            (RedisLayout::Hash, StoredPrecision::F16) => "hash-f16",
        };
        // The address may hold a password, which an error of the client's could repeat.
        let client = Client::open(common.target.as_str())
            .map_err(|_| SinkError::refused(NAME, "its target is no address like redis://HOST:PORT/DB"))?;
        let prefix = common.name_or("negstream");
        Ok(Self {
            client,
            timeout: Duration::from_millis(own.timeout_ms),
            replace: common.replace,
            layout,
            precision: own.precision,
            effort: [own.exploration, own.links].map(|number| number.to_string()),
            keys: ["state", "rows", "vectors"].map(|key| format!("{prefix}:{key}")),
            script: String::new(),
            connection: None,
            update: None,
            committed: None,
            calls: redis::pipe(),
        })
    }

    fn refused(&self, reason: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> SinkError {
        SinkError::refused(NAME, reason)
    }

    /// An error of the server or the connection, which is given up.
    fn failed(&mut self, error: RedisError) -> SinkError {
        self.connection = None;
        self.update = None;
        let address = self.client.get_connection_info().addr().to_string();
        if error.is_timeout() {
            return SinkError::away(NAME, format!("{address} does not answer within {} ms", self.timeout.as_millis()));
        }
        let is_away = error.is_io_error() || error.is_connection_dropped() || error.is_connection_refusal();
        let is_refusal = error.kind() == ErrorKind::AuthenticationFailed;
        // Of the calls of a trip, the first that failed says what there is to say.
        let whole = error.to_string();
        let first = error.into_server_errors().and_then(|errors| errors.first().map(|(_, error)| error.to_string()));
        let said = first.unwrap_or(whole);
        let advice = match said.as_str() {
            _ if is_refusal => "; it refuses the user or the password of the target",
            said if ["NOAUTH", "WRONGPASS", "NOPERM"].iter().any(|code| said.contains(code)) => {
                "; it refuses the user or the password of the target"
            }
            said if said.contains("OOM") => "; it is full (maxmemory): give it more, or publish fewer items",
            said if said.contains("M value mismatch") => {
                "; its vector set was made with other links: choose them, or another prefix (name), or delete its keys"
            }
            said if said.contains("VADD") => "; vector sets need Redis 8: set layout = \"hash\" for older ones",
            _ => "",
        };
        let reason = format!("{address}: {said}{advice}");
        if is_away || said.contains("LOADING") { SinkError::away(NAME, reason) } else { self.refused(reason) }
    }

    /// The connection, made where there is none.
    fn connect(&mut self) -> Result<(), RedisError> {
        if self.connection.is_some() {
            return Ok(());
        }
        let mut connection = self.client.get_connection_with_timeout(self.timeout)?;
        connection.set_read_timeout(Some(self.timeout))?;
        connection.set_write_timeout(Some(self.timeout))?;
        let known: Vec<Value> = redis::cmd("COMMAND").arg("INFO").arg("VADD").query(&mut connection)?;
        if self.layout == "vectors" && matches!(known.as_slice(), [Value::Nil]) {
            return Err(RedisError::from((ErrorKind::InvalidClientConfig, "it does not know VADD")));
        }
        self.script = redis::cmd("SCRIPT").arg("LOAD").arg(SCRIPT).query(&mut connection)?;
        debug_assert_eq!(self.script, Script::new(SCRIPT).get_hash());
        self.connection = Some(connection);
        Ok(())
    }

    /// Appends a call of the script.
    fn call(&mut self, version: Version, what: &str, arguments: &[&[u8]]) {
        let command = self.calls.cmd("EVALSHA").arg(&self.script).arg(self.keys.len());
        for key in &self.keys {
            command.arg(key);
        }
        command.arg(what).arg(version.epoch).arg(version.step).arg(self.layout);
        for argument in arguments {
            command.arg(*argument);
        }
    }

    /// Sends the calls, and gives the last answer.
    fn send(&mut self) -> Result<String, SinkError> {
        let calls = std::mem::replace(&mut self.calls, redis::pipe());
        let answers: Result<Vec<String>, RedisError> = match (&mut self.connection, calls.is_empty()) {
            (_, true) => return Ok(String::new()),
            (Some(connection), _) => calls.query(connection),
            (None, _) => return Err(self.refused("no update was begun")),
        };
        let answers = answers.map_err(|error| self.failed(error))?;
        if let Some(reason) = answers.iter().find_map(|answer| answer.strip_prefix("no: ")) {
            self.update = None;
            // A full update mends this, and it may come soon.
            let is_lost = reason.contains("a full update") || reason.contains("keys were deleted");
            return Err(if is_lost { SinkError::away(NAME, reason) } else { self.refused(reason) });
        }
        Ok(answers.into_iter().next_back().unwrap_or_default())
    }

    /// Calls the script for `head` and `arguments`, so many of these at a time as make [`ROWS_PER_CALL`] rows.
    fn call_in_parts(
        &mut self,
        what: &str,
        head: &[String],
        arguments: &[Vec<u8>],
        per_row: usize,
    ) -> Result<(), SinkError> {
        let (_, version) = self.update.ok_or_else(|| self.refused("no update was begun"))?;
        for part in arguments.chunks(ROWS_PER_CALL * per_row) {
            let part: Vec<&[u8]> =
                head.iter().map(|head| head.as_bytes()).chain(part.iter().map(Vec::as_slice)).collect();
            self.call(version, what, &part);
            if self.calls.len() == CALLS_PER_TRIP {
                self.send()?;
            }
        }
        self.send().map(drop)
    }
}

impl EmbeddingSink for RedisSink {
    fn name(&self) -> &str {
        NAME
    }

    fn precision(&self) -> VectorPrecision {
        self.precision.precision()
    }

    fn begin(&mut self, update: &Update<'_>) -> Result<(), SinkError> {
        self.calls = redis::pipe();
        self.connect().map_err(|error| self.failed(error))?;
        let kind: &[u8] = if update.kind == UpdateKind::Full { b"full" } else { b"delta" };
        let (epoch, step) =
            self.committed.map(|version| (version.epoch.to_string(), version.step.to_string())).unwrap_or_default();
        let dim = update.dim.to_string();
        let replace: &[u8] = if self.replace { b"replace" } else { b"" };
        let arguments = [kind, update.model_id.as_bytes(), dim.as_bytes(), epoch.as_bytes(), step.as_bytes(), replace];
        self.call(update.version, "begin", &arguments);
        self.send()?;
        self.update = Some((update.kind, update.version));
        Ok(())
    }

    fn remove(&mut self, item_ids: &[&str]) -> Result<(), SinkError> {
        let arguments: Vec<Vec<u8>> = item_ids.iter().map(|item_id| item_id.as_bytes().to_vec()).collect();
        self.call_in_parts("remove", &[], &arguments, 1)
    }

    fn upsert(&mut self, rows: &[ItemRow<'_>]) -> Result<(), SinkError> {
        let version = self.update.map(|(_, version)| version).unwrap_or_default();
        let precision = self.precision;
        let row_arguments = |row: &ItemRow<'_>| {
            // A vector set holds directions: whoever ranks its answers needs the length too.
            let norm = row.embedding.iter().map(|number| number * number).sum::<f32>().sqrt();
            let attributes = json!({ "log_frequency": row.log_frequency, "norm": norm }).to_string();
            [row.item_id.as_bytes().to_vec(), pack(version, row, precision), attributes.into_bytes()]
        };
        let arguments: Vec<Vec<u8>> = rows.iter().flat_map(row_arguments).collect();
        let effort = self.effort.clone();
        self.call_in_parts("upsert", &effort, &arguments, 3)
    }

    fn set_popularity(&mut self, popularity: &[(&str, f32)]) -> Result<(), SinkError> {
        let arguments: Vec<Vec<u8>> = popularity
            .iter()
            .flat_map(|(item_id, log_frequency)| {
                let text = json!(log_frequency).to_string();
                [item_id.as_bytes().to_vec(), log_frequency.to_le_bytes().to_vec(), text.into_bytes()]
            })
            .collect();
        self.call_in_parts("popularity", &[], &arguments, 3)
    }

    fn commit(&mut self) -> Result<(), SinkError> {
        let (kind, version) = self.update.ok_or_else(|| self.refused("no update was begun"))?;
        if kind == UpdateKind::Full {
            let mut cursor = "0".to_owned();
            loop {
                let page = ROWS_PER_PAGE.to_string();
                self.call(version, "sweep", &[cursor.as_bytes(), page.as_bytes()]);
                cursor = self.send()?;
                if cursor == "0" {
                    break;
                }
            }
        }
        self.call(version, "commit", &[]);
        self.send()?;
        self.update = None;
        self.committed = Some(version);
        Ok(())
    }

    fn state(&mut self) -> Result<Option<SinkState>, SinkError> {
        self.connect().map_err(|error| self.failed(error))?;
        self.held(["begun_epoch", "begun_step"]).map_err(|error| self.failed(error))
    }

    fn read(&mut self, visit: &mut dyn FnMut(StoredRow)) -> Result<Option<SinkState>, SinkError> {
        self.read_part(RowPart::WHOLE, visit)
    }

    fn read_part(&mut self, part: RowPart, visit: &mut dyn FnMut(StoredRow)) -> Result<Option<SinkState>, SinkError> {
        self.connect().map_err(|error| self.failed(error))?;
        self.read_rows(part, visit).map_err(|error| self.failed(error))
    }
}

impl RedisSink {
    fn read_rows(&mut self, part: RowPart, visit: &mut dyn FnMut(StoredRow)) -> Result<Option<SinkState>, RedisError> {
        let state = self.held(["epoch", "step"])?;
        let Some(connection) = &mut self.connection else { return Ok(None) };
        // A scan may show a row twice.
        let mut seen = BTreeSet::new();
        let mut cursor = 0_u64;
        loop {
            type ScanPage = (u64, Vec<(String, Vec<u8>)>);
            let (next, page): ScanPage =
                redis::cmd("HSCAN").arg(&self.keys[1]).arg(cursor).arg("COUNT").arg(ROWS_PER_PAGE).query(connection)?;
            for (item_id, packed) in page {
                if !part.holds(item_id.as_bytes()) || !seen.insert(item_id.clone()) {
                    continue;
                }
                let Some(row) = unpack(item_id, &packed, self.precision) else {
                    return Err(RedisError::from((
                        ErrorKind::UnexpectedReturnType,
                        "a row that negstream has not written",
                    )));
                };
                visit(row);
            }
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
        Ok(state)
    }

    /// The state, with the version in the fields `version`.
    fn held(&mut self, [epoch, step]: [&str; 2]) -> Result<Option<SinkState>, RedisError> {
        type Held = (Option<String>, Option<usize>, Option<u64>, Option<u64>);
        let Some(connection) = &mut self.connection else { return Ok(None) };
        let fields = ["model_id", "dim", epoch, step];
        let held: Held = redis::cmd("HMGET").arg(&self.keys[0]).arg(&fields).query(connection)?;
        Ok(match held {
            (Some(model_id), Some(dim), Some(epoch), Some(step)) => {
                Some(SinkState { model_id, version: Version { epoch, step }, dim })
            }
            _ => None,
        })
    }
}
