//! The options of the sink.

use std::collections::BTreeMap;

use super::{KafkaSink, NAME, VectorEncoding};
use crate::kafka::{redact_properties, validate_properties};
use crate::publish::{EmbeddingSink, OwnOptions, SinkConfig, SinkError};
use crate::registry::RegistryConfig;
use crate::util::cargo_feature::CargoFeature;
use crate::util::component::Component;
use crate::util::config_section::{Refusal, config_section, require};

config_section! {
    /// What only `kafka` knows.
    pub struct KafkaSinkOptions {
        /// How embeddings are written: `f32`, `f16`, `int8` (with a scale), `json`, `avro` (with a schema registry), or `qdrant` (for its
        /// Kafka connector).
        encoding: VectorEncoding = VectorEncoding::F32 => [check(validate_encoding)];
        /// Whether the queries of users are written too, to `PREFIX-users`: of each user after their events, ready to be searched with.
        users: bool = false;
        /// Partitions of topics that have to be created.
        partitions: i32 = 1 => [within(1..=10_000)];
        /// Milliseconds that brokers may take to answer.
        timeout_ms: u64 = 10_000 => [within(1..=600_000)];
        /// Seconds that one update may take: brokers end what takes longer, and what a killed worker left open. At most their
        /// `transaction.max.timeout.ms`.
        transaction_timeout_seconds: u64 = 300 => [within(61..=86_400)];
        /// The schema registry (Confluent's API) that `avro` registers its schemas with: `{ url = "http://host:port", user = …,
        /// password = … }`.
        registry: RegistryConfig = RegistryConfig::default();
        /// Further librdkafka properties (`security.protocol`, `sasl.username`, …), passed on as they are.
        properties: BTreeMap<String, String> = BTreeMap::new() => [redacted(redact_properties), check(|properties, _| validate_properties(properties))];
    }
}

fn validate_encoding(encoding: &VectorEncoding, options: &KafkaSinkOptions) -> Result<(), Refusal> {
    if *encoding == VectorEncoding::Avro {
        CargoFeature::Registry.require_if(true)?;
        let message = "'avro' needs the address of a schema registry: registry = { url = \"http://host:port\" }";
        require(!options.registry.url.is_empty(), message)?;
    }
    Ok(())
}

impl Component for KafkaSinkOptions {
    const NAME: &'static str = NAME;
    const SUMMARY: &'static str = "Compacted topics in Kafka, keyed by item; its target is kafka://HOST:PORT[,HOST:PORT], its name the prefix of its topics.";
}

impl OwnOptions for KafkaSinkOptions {
    fn open(self, config: &SinkConfig) -> Result<Box<dyn EmbeddingSink>, SinkError> {
        Ok(Box::new(KafkaSink::open(&config.common, &self)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::util::config_section::ConfigValue as _;

    #[test]
    fn passwords_among_the_properties_are_never_shown_and_own_ones_are_refused() {
        let config = |properties: &str| {
            let table = format!("sink = 'kafka'\ntarget = 'kafka://b:1'\nproperties = {{ {properties} }}");
            SinkConfig::from_table(table.parse().unwrap()).unwrap()
        };
        let with_password = config("'sasl.password' = 'S3CR3T', 'sasl.mechanism' = 'PLAIN'");
        let sink = crate::publish::open(&with_password).unwrap();
        let mut shown = vec![with_password.clone()];
        shown.redact();
        let shown = serde_json::to_string(&shown).unwrap();
        for text in [shown, format!("{with_password:?}"), format!("{sink:?}")] {
            assert!(!text.contains("S3CR3T"), "{text}");
        }
        let said = crate::publish::open(&config("'transactional.id' = 'S3CR3T'")).unwrap_err().to_string();
        assert!(said.contains("transactional.id") && !said.contains("S3CR3T"), "{said}");
        let said = crate::publish::open(&config("'sasl.pasword' = 'S3CR3T'")).unwrap_err().to_string();
        assert!(said.contains("knows no such property") && !said.contains("S3CR3T"), "{said}");
    }
}
