//! The registry of sinks: by which names the configuration finds them, and which options each of them knows.

use toml::Table;

use super::config::{SinkConfig, SinkOptions};
use super::{EmbeddingSink, SinkError, kafka, memory};
use crate::util::cargo_feature::CargoFeature;
use crate::util::component::{self, Component, unknown_name};
use crate::util::config_section::KeyEntry;

/// The sinks that can be opened by name.
pub const SINKS: &[SinkEntry] = &[
    SinkEntry::of::<kafka::KafkaSinkOptions>(),
    SinkEntry::of::<memory::MemoryOptions>(),
    #[cfg(feature = "opensearch")]
    SinkEntry::of::<super::opensearch::OpenSearchOptions>(),
    SinkEntry::of::<super::parquet::ParquetOptions>(),
    #[cfg(feature = "postgres")]
    SinkEntry::of::<super::postgres::PostgresOptions>(),
    #[cfg(feature = "redis")]
    SinkEntry::of::<super::redis::RedisOptions>(),
];

/// Features that are the names of sinks: who asks for one that was not built in learns which feature it needs.
const LEFT_OUT: [CargoFeature; 3] = [CargoFeature::Opensearch, CargoFeature::Postgres, CargoFeature::Redis];

/// The options that only one kind of sink knows, and how it is opened with them.
///
/// They are declared with `config_section!`; the sink's name and its line of documentation are the component's.
pub trait OwnOptions: Component {
    /// Opens a sink. No server has to be reached here: that is tried again at every update.
    ///
    /// # Errors
    /// [`SinkError::Refused`] where the target or an option is not what the sink can do.
    fn open(self, config: &SinkConfig) -> Result<Box<dyn EmbeddingSink>, SinkError>;
}

/// A kind of sink, as the registry lists it.
#[derive(Debug, Clone, Copy)]
pub struct SinkEntry {
    /// The name by which [`open`] finds it.
    pub name: &'static str,
    /// What it does, and what its target is, in one line.
    pub about: &'static str,
    /// Opens a sink as its table in the configuration says.
    pub open: fn(config: &SinkConfig) -> Result<Box<dyn EmbeddingSink>, SinkError>,
    options: fn() -> Vec<KeyEntry>,
    check: fn(&Table) -> Result<(), String>,
}

impl SinkEntry {
    /// The entry of the sink that is opened with the options `O`.
    pub const fn of<O: OwnOptions>() -> Self {
        Self {
            name: O::NAME,
            about: O::SUMMARY,
            open: |config| config.own::<O>().map_err(|error| SinkError::refused(O::NAME, error))?.open(config),
            options: component::keys::<O>,
            check: check::<O>,
        }
    }

    /// The options that only this sink knows.
    pub(super) fn options(&self) -> Vec<KeyEntry> {
        (self.options)()
    }

    /// Checks the sink's own options.
    pub(super) fn check(&self, given: &Table) -> Result<(), String> {
        (self.check)(given)
    }
}

fn check<O: OwnOptions>(given: &Table) -> Result<(), String> {
    let mut known: Vec<KeyEntry> = component::keys::<O>();
    known.extend(component::keys::<SinkOptions>());
    if let Some(option) = given.keys().find(|option| !known.iter().any(|key| key.name == **option)) {
        return Err(component::unknown_option(O::NAME, option, &known));
    }
    component::options::<O>(O::NAME, given).map(|_| ())
}

/// The entry of the sink called `name`.
///
/// # Errors
/// A sentence with the nearest name, where none has it.
pub fn find(name: &str) -> Result<&'static SinkEntry, String> {
    let known: Vec<&str> = SINKS.iter().map(|entry| entry.name).collect();
    SINKS.iter().find(|entry| entry.name == name).ok_or_else(|| match left_out(name) {
        Some(feature) => format!("sink '{name}': {}", feature.missing()),
        None => unknown_name("sink", name, &known),
    })
}

/// The feature that the sink called `name` needs, where it was not built in.
fn left_out(name: &str) -> Option<CargoFeature> {
    LEFT_OUT.into_iter().find(|feature| feature.name() == name && !feature.is_built_in())
}

/// Opens the sink that `config` describes.
///
/// # Errors
/// Where no sink has that name, or the sink refuses its target or an option.
pub fn open(config: &SinkConfig) -> Result<Box<dyn EmbeddingSink>, SinkError> {
    let entry = SINKS.iter().find(|entry| entry.name == config.sink).ok_or_else(|| match left_out(&config.sink) {
        Some(feature) => SinkError::refused(&config.sink, feature.missing()),
        None => SinkError::Unknown {
            name: config.sink.clone(),
            known: SINKS.iter().map(|entry| entry.name).collect::<Vec<_>>().join(", "),
        },
    })?;
    (entry.open)(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_finds_sinks_by_name_and_lists_them_where_there_is_none() {
        let memory = SinkConfig::new("memory", "open_finds_sinks_by_name");
        assert_eq!(open(&memory).unwrap().name(), "memory");
        assert!(SINKS.iter().all(|entry| !entry.about.is_empty()));
        let error = open(&SinkConfig::new("memroy", "")).unwrap_err().to_string();
        assert!(error.contains("'memroy'") && error.contains("memory"), "{error}");
    }
}
