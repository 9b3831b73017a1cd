//! What a log seems to be: which of its columns are the fields of an event, what has to be set for that, and what would go
//! wrong all the same.
//!
//! | module | holds |
//! | --- | --- |
//! | [`columns`] | settings that follow from names and values of columns |
//! | [`survey`] | figures of the events that those settings give, and what they say of the log |
//!
//! What is proposed is a guess of a person who sees a log for the first time: it is shown with its reason, and never acted upon
//! unasked. Pure: who reads the log, and what day it is, is the caller's.

pub mod columns;
pub mod survey;

/// A setting that a log needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProposedSetting {
    /// The key.
    pub key: String,
    /// The value, as TOML.
    pub value: String,
    /// Why.
    pub why: String,
}

impl ProposedSetting {
    /// A setting of a text.
    pub fn text(key: &str, value: &str, why: impl Into<String>) -> Self {
        Self::plain(key, &quoted(value), why)
    }

    /// A setting whose value is TOML already.
    pub fn plain(key: &str, value: &str, why: impl Into<String>) -> Self {
        Self { key: key.to_owned(), value: value.to_owned(), why: why.into() }
    }

    /// A setting of a list of texts.
    pub fn list(key: &str, values: &[String], why: impl Into<String>) -> Self {
        let values: Vec<String> = values.iter().map(|value| quoted(value)).collect();
        Self::plain(key, &format!("[{}]", values.join(", ")), why)
    }
}

/// A text as TOML has it.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}
