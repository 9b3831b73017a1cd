//! The section `checkpoint`: where checkpoints are, how often one is written, and how many are kept.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::util::cargo_feature::CargoFeature;
use crate::util::config_section::{Refusal, config_choice, config_section, require};
use crate::util::credentials::may_hold_credentials;
use crate::util::storage_options::{redact_options, validate_options};

config_choice! {
    /// The precision of the embeddings that other programs read.
    pub enum EmbeddingType {
        /// 32 bits, as they are trained.
        Float32 = "float32",
        /// 16 bits: half the size.
        Float16 = "float16",
    }
}

config_section! {
    /// Where checkpoints are, how often one is written, and how many are kept.
    pub struct CheckpointConfig {
        /// Where checkpoints appear: a folder, or `s3://bucket/prefix`; see docs/checkpoints.md.
        dir: PathBuf = "checkpoints".into() => [not_empty, check(|dir, _| validate_dir(dir))];
        /// Events read between checkpoints.
        every_events: u64 = 100_000 => [at_least(1)];
        /// On a live stream: longest time between checkpoints, in seconds, where anything was read since; 0: by events alone.
        /// Where writing takes long, as much time again passes between two of them. `replay` goes by events, and by `max_share`.
        every_seconds: u64 = 60 => [at_most(31_536_000)];
        /// In a replay: the largest share of its time that goes by while checkpoints are being written. Where one takes more than
        /// a second, the next is put off accordingly; 1: none is put off.
        max_share: f64 = 0.1 => [within(0.001..=1.0)];
        /// How many of the newest checkpoints are kept.
        keep: usize = 3 => [at_least(1)];
        /// Keep, by stream and offset, what became of each record, for `negstream audit`; grows with what is rejected.
        audit: bool = false;
        /// The numbers of the column `embedding` of `items.parquet`: `float32`, or `float16` for half the size (Spark and
        /// Athena do not read that). What is trained and gone on from has 32 bits in any case.
        embedding_type: EmbeddingType = EmbeddingType::Float32;
        /// In an object store: a worker that was not heard of for one and a half times this long, in milliseconds, is taken
        /// for dead by the next one.
        lease_ms: u64 = 15_000 => [within(100..=86_400_000)];
        /// Longest wait for an object store to begin an answer, in milliseconds; then the request is repeated.
        request_timeout_ms: u64 = 30_000 => [within(100..=3_600_000)];
        /// Options of the object store (region, endpoint, …), over those of the environment (`AWS_REGION`,
        /// `AWS_ENDPOINT_URL`, …).
        storage_options: BTreeMap<String, String> = BTreeMap::new() => [redacted(redact_options), check(|options, _| validate_options(options))];
    }
}

fn validate_dir(dir: &Path) -> Result<(), Refusal> {
    // `s3:/…` is a slip, and no folder of that name.
    let rest = dir.to_str().and_then(|dir| dir.split_once(":/")).map(|(_, rest)| rest);
    let message = "must be a folder or s3://bucket/prefix; credentials are AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or \
                   in checkpoint.storage_options";
    require(!rest.is_some_and(may_hold_credentials), message)?;
    CargoFeature::S3.require_if(dir.to_str().is_some_and(|dir| dir.starts_with("s3://")))?;
    Ok(())
}
