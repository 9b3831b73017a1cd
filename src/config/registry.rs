//! The configuration of a schema registry.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A schema registry (Confluent's API).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RegistryConfig {
    /// Its address, `http://host:port`; then every record is in its wire format. Empty: none, records come plain.
    pub url: String,
    /// User for HTTP basic authentication; empty: none.
    pub user: String,
    /// The password of that user. Never shown.
    pub password: String,
    /// Longest wait for an answer, in milliseconds; it is asked again after that.
    pub timeout_ms: u64,
}

impl std::fmt::Debug for RegistryConfig {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { url, user, password: _, timeout_ms } = self;
        let mut all = formatter.debug_struct("RegistryConfig");
        all.field("url", url).field("user", user).field("timeout_ms", timeout_ms).finish_non_exhaustive()
    }
}

impl RegistryConfig {
    /// The key whose value is never shown.
    pub(super) const SECRET: &str = "source.registry.password";

    /// Key and message of the first value that is refused.
    pub(super) fn mistake(&self) -> Option<(&'static str, &'static str)> {
        match () {
            () if !is_address(&self.url) => Some((
                "source.registry.url",
                "must be http://host:port, or empty; user and password have keys of their own",
            )),
            () if self.url.starts_with("https:") && !cfg!(feature = "tls") => {
                Some(("source.registry.url", "https needs a program that was built with the feature 'tls'"))
            }
            () if !(1..=600_000).contains(&self.timeout_ms) => {
                Some(("source.registry.timeout_ms", "must lie in 1..=600000"))
            }
            () => None,
        }
    }

    /// Takes out what is never shown.
    pub(super) fn hide(&mut self) {
        if !self.password.is_empty() {
            "(not shown)".clone_into(&mut self.password);
        }
    }
}

/// Empty, or an address in the web that holds no password.
fn is_address(url: &str) -> bool {
    let host = url.strip_prefix("http://").or(url.strip_prefix("https://"));
    url.is_empty()
        || host.is_some_and(|host| {
            let harmless = |c: char| c.is_ascii_graphic() && !matches!(c, '@' | '?' | '#' | '"' | '\\' | '<' | '>');
            !host.is_empty() && !host.starts_with(['/', ':']) && host.chars().all(harmless)
        })
}
