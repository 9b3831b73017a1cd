//! How logs on other machines are reached.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::decode::SourceConfig;

/// How logs on other machines are reached.
#[derive(Debug, Clone, Default)]
pub struct NetworkOptions {
    /// Options of object stores, over those of the environment.
    pub storage_options: BTreeMap<String, String>,
    /// Longest wait for the beginning of an answer.
    pub timeout: Duration,
}

impl NetworkOptions {
    /// The options that `source` has.
    pub fn new(source: &SourceConfig) -> Self {
        let timeout = Duration::from_millis(source.request_timeout_ms);
        Self { storage_options: source.storage_options.clone(), timeout }
    }
}
