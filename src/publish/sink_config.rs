//! How a sink is opened: its name, its target, how long it may take, and options of its own.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::SinkError;

/// What [`SinkEntry::open`](super::SinkEntry::open) is told.
#[derive(Clone)]
pub struct SinkConfig {
    /// The name of the sink in logs and errors.
    pub name: String,
    /// An address, a path, whatever the sink says its target is. It may hold a password, and is never shown.
    pub target: String,
    /// How long connecting, and every single request or statement, may take, in milliseconds.
    pub timeout_ms: u64,
    /// Options of the sink's own, by their names.
    pub options: BTreeMap<String, String>,
}

impl SinkConfig {
    /// A sink with no options, which may take ten seconds for a request.
    pub fn new(name: &str, target: &str) -> Self {
        Self { name: name.to_owned(), target: target.to_owned(), timeout_ms: 10_000, options: BTreeMap::new() }
    }

    /// The same with an option more.
    #[must_use]
    pub fn option(mut self, key: &str, value: &str) -> Self {
        self.options.insert(key.to_owned(), value.to_owned());
        self
    }

    /// [`Self::timeout_ms`].
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    /// The options `known`, each where it is given.
    ///
    /// # Errors
    /// Where an option is given that is not known.
    pub fn known_options<const N: usize>(&self, known: [&str; N]) -> Result<[Option<&str>; N], SinkError> {
        if let Some(unknown) = self.options.keys().find(|key| !known.contains(&key.as_str())) {
            let problem = format!("it has no option '{unknown}'; it has: {}", known.join(", "));
            return Err(SinkError::refused(&self.name, problem));
        }
        Ok(known.map(|key| self.options.get(key).map(String::as_str)))
    }
}

impl fmt::Debug for SinkConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, target: _, timeout_ms, options } = self;
        let mut shown = f.debug_struct("SinkConfig");
        shown.field("name", name).field("timeout_ms", timeout_ms).field("options", options).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_options_are_refused_and_targets_are_not_shown() {
        let config = SinkConfig::new("redis", "redis://:canary@host").option("prefix", "a").option("prefx", "b");
        let error = config.known_options(["prefix", "layout"]).unwrap_err().to_string();
        assert!(error.contains("redis") && error.contains("'prefx'") && error.contains("prefix, layout"), "{error}");
        assert_eq!(config.known_options(["prefix", "prefx"]).unwrap(), [Some("a"), Some("b")]);
        assert!(!format!("{config:?}").contains("canary"));
    }
}
