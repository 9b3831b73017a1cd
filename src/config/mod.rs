//! The configuration: one TOML file, every key documented here, layered as flags over environment over file over
//! default.
//!
//! `config/default.toml` is complete and embedded: it is the default and the template, and a key that is not in it does
//! not exist. The doc comments below become `schemas/config.schema.json` (`negstream config schema`).

pub mod layers;
pub mod memory;
pub mod negatives;
pub mod objective;
mod options;
mod registry;

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use memory::{Limits, MemoryConfig};
pub use negatives::{BankVectors, HalfLife, NegativesConfig, Noise, NoiseTerm, SamplerKind};
pub use objective::{Acceptance, Objective, ObjectiveKind, ObjectiveTerm, PriorKind, View};
pub use registry::RegistryConfig;

/// The whole configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Seed of everything random: starting values and noise draws. Same seed, configuration and events, same bytes.
    pub seed: u64,
    /// Threads for the arithmetic; 0 takes every core. The result does not depend on it.
    pub threads: usize,
    /// What the model is trained to do: a name, or a list of tables `{ kind = "infonce", weight = 1.0, … }`; see
    /// docs/objectives.md.
    pub objective: Objective,
    /// Events in: format, fields, limits.
    pub source: SourceConfig,
    /// Which events count as positive.
    pub positives: PositivesConfig,
    /// What of a user's past makes the query.
    pub context: ContextConfig,
    /// The memory behind the repetition term.
    pub repetition: RepetitionConfig,
    /// Shape and score of the model.
    pub model: ModelConfig,
    /// The steps.
    pub train: TrainConfig,
    /// What is known of items besides who chose them.
    pub features: FeaturesConfig,
    /// What may be kept of items and users.
    pub memory: MemoryConfig,
    /// Where negatives come from.
    pub negatives: NegativesConfig,
    /// Test-then-train evaluation on the stream itself.
    pub evaluate: EvaluateConfig,
    /// Durable state.
    pub checkpoint: CheckpointConfig,
    /// The Kafka side.
    pub kafka: KafkaConfig,
    /// Records that could not be taken.
    pub dead_letters: DeadLettersConfig,
    /// The address for metrics, health and the page.
    pub http: HttpConfig,
    /// Logs, on standard error.
    pub log: LogConfig,
}

/// How the records of a topic are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// One JSON object.
    Json,
    /// One Avro datum in the binary encoding.
    Avro,
    /// One Protobuf message.
    Protobuf,
}

/// Events in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// How the records of a topic are encoded: `json`, `avro` or `protobuf`; see docs/formats.md.
    pub format: Format,
    /// File with the schema of Avro (.avsc) or Protobuf (.proto) records; empty: negstream's own. Records in a registry's
    /// wire format are read by the schemas that they name; then this is what `produce` registers and writes by.
    pub schema: PathBuf,
    /// Name of the Protobuf message in that schema; empty: the first one.
    pub message: String,
    /// Where schemas are looked up.
    pub registry: RegistryConfig,
    /// Longest identifier in bytes; events with a longer one are rejected.
    pub max_id_bytes: usize,
    /// Events dated after this year are rejected.
    pub latest_year: u16,
    /// What the columns (Parquet) or fields (records) are called in your data.
    pub fields: FieldNames,
}

/// What the columns (Parquet) or fields (records) are called in your data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FieldNames {
    /// Who acted.
    pub user_id: String,
    /// What was acted upon.
    pub item_id: String,
    /// The type of the event; may be absent.
    pub event_type: String,
    /// When: milliseconds since 1970 or RFC 3339 in JSON, a timestamp column in Parquet; see docs/formats.md.
    pub timestamp: String,
    /// Session or basket; may be absent.
    pub session_id: String,
    /// Rating, price, …; may be absent.
    pub value: String,
    /// List of features; may be absent.
    pub features: String,
}

/// Which events count as positive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PositivesConfig {
    /// Event types that are trained on; empty: all. Others are counted as ignored.
    pub kinds: Vec<String>,
}

/// What of a user's past makes the query.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ContextConfig {
    /// How many of the user's newest items make the query (learned position weights).
    pub length: usize,
    /// Give each item a second row for its role in the context, besides the row it has as a candidate.
    pub context_rows: bool,
    /// Give each user a row of their own, added to the query.
    pub user_row: bool,
    /// How those items make the query: `sum`, by position weights, or `gru`.
    pub encoder: Encoder,
}

/// How items make a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Encoder {
    /// A sum with learned position weights.
    Sum,
    /// A gated recurrent unit over all of the user's items; trained through the newest `length`.
    Gru,
}

/// The memory behind the repetition term ρ.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RepetitionConfig {
    /// Distinct items remembered per user.
    pub items: usize,
    /// Half-life of an item's count, in events of the same user.
    pub half_life: f64,
}

/// How alike a query and an item are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Similarity {
    /// The cosine of the angle between them.
    Cosine,
    /// Their dot product.
    Dot,
}

/// Shape and score of the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Dimensions of an embedding.
    pub dim: usize,
    /// τ: similarity is divided by it.
    pub temperature: f64,
    /// Learn τ, beginning at `temperature`.
    pub learn_temperature: bool,
    /// `cosine` or `dot`.
    pub similarity: Similarity,
    /// Learn β, the share of popularity that is preference; otherwise it stays at `popularity_start`.
    pub learn_popularity: bool,
    /// Where β begins.
    pub popularity_start: f64,
    /// Standard deviation of a new row's norm: each number is N(0, (this/√dim)²). A quarter of it for the rows of items that
    /// have features.
    pub start_scale: f64,
}

/// What is known of items besides who chose them; see docs/features.md.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FeaturesConfig {
    /// Rows that features are hashed to, each of `model.dim` numbers and made when a feature first falls into it; 0: items
    /// have no features.
    pub buckets: usize,
    /// A Parquet file that describes items: a column of item ids, named as `source.fields.item_id` says, and further
    /// ones. Empty: none; then only the features of events count.
    pub catalogue: PathBuf,
    /// Which columns of the catalogue are features; empty: all others of text, lists of text, whole numbers and truth
    /// values.
    pub columns: Vec<String>,
}

/// The optimizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OptimizerKind {
    /// Adagrad, an accumulator per number; only touched rows move.
    Adagrad,
    /// Adagrad with one accumulator per row, of the mean of its squared gradients: half the memory.
    RowwiseAdagrad,
}

/// The steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// Events per step.
    pub batch: usize,
    /// Close a batch early when its next event is this much later than its first, in event time; 0: never.
    pub batch_span_ms: u64,
    /// Step size.
    pub learning_rate: f64,
    /// `adagrad`, or `rowwise_adagrad` for half the memory.
    pub optimizer: OptimizerKind,
}

/// Test-then-train evaluation on the stream itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EvaluateConfig {
    /// Items may recur: keep a user's earlier items in the ranking, and learn when they come back. Off: own items leave
    /// the ranking and the negatives.
    pub repeat: bool,
    /// Share of the events that is ranked; 0: none.
    pub share: f64,
    /// Share of a log after which hits count (a live stream counts from its first event).
    pub from: f64,
    /// Own items remembered per user where `repeat` is off; the ranking is exact up to that many.
    pub own_items: usize,
    /// Rank by the user's last item alone, as an item-to-item list does, instead of by all of the context.
    pub last_item: bool,
}

/// Durable state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckpointConfig {
    /// Where checkpoints appear: a folder, or `s3://bucket/prefix`; see docs/checkpoints.md.
    pub dir: PathBuf,
    /// Events read between checkpoints.
    pub every_events: u64,
    /// How many of the newest are kept.
    pub keep: usize,
    /// Keep, by stream and offset, what became of each record, for `negstream audit`; grows with what is rejected.
    pub audit: bool,
    /// In an object store: a worker that was not heard of for one and a half times this long, in milliseconds, is taken
    /// for dead by the next one.
    pub lease_ms: u64,
    /// For an object store to begin an answer, in milliseconds; then it is asked again.
    pub answer_ms: u64,
    /// Options of the object store, over what the environment says (`AWS_REGION`, `AWS_ENDPOINT_URL`, …).
    pub store: std::collections::BTreeMap<String, String>,
}

/// Where a topic is read from when nothing was read before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// From the oldest record that is there.
    Earliest,
    /// From now on.
    Latest,
}

/// Who reads which partitions of the topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Assignment {
    /// The workers of the group share them.
    Group,
    /// This worker reads all, whoever else does.
    All,
}

/// What becomes of records that retention deleted before they were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Expired {
    /// The worker stops.
    Fail,
    /// They are counted as lost, and passed over.
    Skip,
}

/// The Kafka side.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KafkaConfig {
    /// `host:port,…`, or `embedded` for a broker inside the process.
    pub brokers: String,
    /// The topic of events.
    pub topic: String,
    /// The consumer group.
    pub group: String,
    /// `group`: the workers of the group share the partitions, each record is learnt by one of them. `all`: this worker
    /// reads every partition, and commits offsets to the group for lag monitors alone.
    pub assignment: Assignment,
    /// This worker's lasting name in the group (static membership), different for each: restarted within
    /// `session.timeout.ms` it gets its own partitions back, without a rebalance. Empty: a name of its own making.
    pub member: String,
    /// Records deleted by retention before they were read: `fail`, or `skip` (counted as lost).
    pub expired: Expired,
    /// Where to begin on the very first start.
    pub start: Start,
    /// Topic for records that could not be taken; empty: none.
    pub dead_letter_topic: String,
    /// Partitions of a topic that has to be created.
    pub partitions: i32,
    /// Further librdkafka properties, passed on as they are.
    pub properties: std::collections::BTreeMap<String, String>,
}

/// Records that could not be taken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeadLettersConfig {
    /// JSON-lines file that `replay` appends them to (`run` has `kafka.dead_letter_topic`); empty: none.
    pub file: String,
    /// The worker stops where more than this share of the newest records was rejected; 1: never.
    pub max_share: f64,
    /// How many records that share remembers, fading.
    pub window: u64,
}

/// The address for metrics, health and the page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpConfig {
    /// `address:port` that `run` and `demo` serve on; empty: none.
    pub listen: String,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines: one JSON object a line.
    Json,
}

/// Logs, on standard error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogConfig {
    /// `text` or `json`.
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub level: String,
}
