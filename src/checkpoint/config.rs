//! The section `checkpoint`: where checkpoints are, how often one is written, and how many are kept.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::util::cargo_feature::CargoFeature;
use crate::util::config_section::{REDACTED, Refusal, config_section};

config_section! {
    /// Where checkpoints are, how often one is written, and how many are kept.
    pub struct CheckpointConfig {
        /// Where checkpoints appear: a folder, or `s3://bucket/prefix`; see docs/checkpoints.md.
        dir: PathBuf = "checkpoints".into() => [not_empty, check(|dir, _| validate_dir(dir))];
        /// Events read between checkpoints.
        every_events: u64 = 100_000 => [at_least(1)];
        /// How many of the newest checkpoints are kept.
        keep: usize = 3 => [at_least(1)];
        /// Keep, by stream and offset, what became of each record, for `negstream audit`; grows with what is rejected.
        audit: bool = false;
        /// In an object store: a worker that was not heard of for one and a half times this long, in milliseconds, is taken
        /// for dead by the next one.
        lease_ms: u64 = 15_000 => [within(100..=86_400_000)];
        /// Longest wait for an object store to begin an answer, in milliseconds; then the request is repeated.
        request_timeout_ms: u64 = 30_000 => [within(100..=3_600_000)];
        /// Options of the object store (region, endpoint, …), over those of the environment (`AWS_REGION`,
        /// `AWS_ENDPOINT_URL`, …).
        storage_options: BTreeMap<String, String> = BTreeMap::new() => [redacted(redact_options)];
    }
}

fn validate_dir(dir: &Path) -> Result<(), Refusal> {
    CargoFeature::S3.require_if(dir.to_str().is_some_and(|dir| dir.starts_with("s3://")))?;
    Ok(())
}

fn redact_options(options: &mut BTreeMap<String, String>) {
    for (key, value) in options {
        let harmless = ["region", "endpoint", "allow_http", "virtual_hosted_style_request", "conditional_put"];
        if !harmless.contains(&key.strip_prefix("aws_").unwrap_or(key)) || value.contains('@') {
            REDACTED.clone_into(value);
        }
    }
}
