//! Where schemas come from: the program itself, a file, or a registry; and the decoder and the encoder that are made of
//! them.
//!
//! A registry that is away, slow or out of order is waited for, however long, and a line in the log says so now and then:
//! no record is given up for its sake. Only what the registry says for certain (there is no such schema) is an answer.

#[cfg(feature = "registry")]
mod client;
#[cfg(feature = "registry")]
mod http;

use std::path::PathBuf;

use crate::decode::{EventDecoder, EventEncoder, Format, SchemaError, SchemaResolver, SchemaText, SourceConfig};
pub use crate::decode::{RegistryConfig, SchemaId};
use crate::kafka::KafkaConfig;
#[cfg(feature = "registry")]
pub use client::SchemaRegistry;
#[cfg(feature = "registry")]
use client::{offer, register};

/// A fault of the schemas that is found before anything is read or written.
#[derive(Debug, thiserror::Error)]
pub enum RegistrySetupError {
    /// The file of a schema is not there or cannot be read.
    #[error("cannot read 'source.schema' {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The reason of the operating system.
        source: std::io::Error,
    },
    /// A schema that cannot be used.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// The thread that asks the registry was not started by the operating system.
    #[error("cannot start the thread that asks the schema registry: {0}")]
    Thread(#[source] std::io::Error),
    /// A fault of the schema of one topic, where there are several.
    #[error("topic '{topic}' (kafka.topics): {source}")]
    OfTopic {
        /// The topic.
        topic: String,
        /// The fault.
        source: Box<Self>,
    },
    /// A topic whose settings are refused, in a configuration that was not loaded.
    #[error("kafka.topics: {0}")]
    Topics(String),
    /// The registry does not take a schema.
    #[error("schema registry {url}: subject '{subject}': {cause}")]
    Register {
        /// The registry's address.
        url: String,
        /// The subject under which the schema was to be registered.
        subject: String,
        /// The registry's own words, or why there are none.
        cause: String,
    },
}

/// A schema that a registry has not taken.
#[derive(Debug, thiserror::Error)]
#[error("schema registry {url}: subject '{subject}': {cause}")]
pub struct RegistrationError {
    /// The registry's address.
    pub url: String,
    /// The subject under which the schema was to be registered.
    pub subject: String,
    /// The registry's own words, or why there are none.
    pub cause: String,
    /// Whether the registry refused it: asking again does not help.
    pub is_refusal: bool,
}

/// Registers an Avro schema under `subject`, or finds the number that it has there already. The registry is asked once.
///
/// # Errors
/// The registry refuses the schema, does not answer, or the program was built without the feature `registry`.
pub fn register_avro(registry: &RegistryConfig, subject: &str, schema: &str) -> Result<SchemaId, RegistrationError> {
    let (cause, is_refusal) = match offer(registry, Format::Avro, subject, schema) {
        Ok(Ok(id)) => return Ok(id),
        Ok(Err(refusal)) => (refusal, true),
        Err(trouble) => (trouble, false),
    };
    Err(RegistrationError { url: registry.url.clone(), subject: subject.to_owned(), cause, is_refusal })
}

/// The decoder for the records that `source` describes.
///
/// # Errors
/// A schema that cannot be read, or that no interaction can be read by.
pub fn decoder(source: &SourceConfig) -> Result<EventDecoder, RegistrySetupError> {
    let registry = if source.registry.url.is_empty() { None } else { Some(schemas_of(source)?) };
    Ok(EventDecoder::new(source, &schema(source)?, registry)?)
}

/// The decoder for the records of each topic of `kafka`, in its order, where `source` says what they have in common.
///
/// # Errors
/// Those of [`decoder`]; where there are several topics, with the topic.
pub fn decoders(kafka: &KafkaConfig, source: &SourceConfig) -> Result<Vec<EventDecoder>, RegistrySetupError> {
    of_topics(kafka, source, |_, source| decoder(source))
}

/// The encoder for the records of each topic of `kafka`, in its order, where `source` says what they have in common.
///
/// # Errors
/// Those of [`encoder`]; where there are several topics, with the topic.
pub fn encoders(kafka: &KafkaConfig, source: &SourceConfig) -> Result<Vec<EventEncoder>, RegistrySetupError> {
    of_topics(kafka, source, |topic, source| encoder(source, topic))
}

fn of_topics<T>(
    kafka: &KafkaConfig,
    source: &SourceConfig,
    make: impl Fn(&str, &SourceConfig) -> Result<T, RegistrySetupError>,
) -> Result<Vec<T>, RegistrySetupError> {
    if kafka.topics.is_empty() {
        return Ok(vec![make(&kafka.topic, source)?]);
    }
    let sources = kafka.topic_sources(source).map_err(|refusal| RegistrySetupError::Topics(refusal.message))?;
    let made = kafka.topic_names().into_iter().zip(sources).map(|(topic, source)| {
        make(topic, &source)
            .map_err(|cause| RegistrySetupError::OfTopic { topic: topic.to_owned(), source: Box::new(cause) })
    });
    made.collect()
}

/// The encoder for the records of `topic`; its schema is registered first, where there is a registry.
///
/// # Errors
/// A schema that cannot be read, that no interaction can be written by, or that the registry does not take.
pub fn encoder(source: &SourceConfig, topic: &str) -> Result<EventEncoder, RegistrySetupError> {
    let schema = schema(source)?;
    if source.registry.url.is_empty() {
        return Ok(EventEncoder::new(source, &schema, None)?);
    }
    // Looked at before anybody else sees it.
    EventEncoder::new(source, &schema, None)?;
    let id = register(source, &format!("{topic}-value"), &schema.text)?;
    Ok(EventEncoder::new(source, &schema, Some(id))?)
}

/// The schemas of the registry that `source` names.
#[cfg(feature = "registry")]
fn schemas_of(source: &SourceConfig) -> Result<Box<dyn SchemaResolver>, RegistrySetupError> {
    Ok(Box::new(SchemaRegistry::new(source)?))
}

#[cfg(not(feature = "registry"))]
fn schemas_of(source: &SourceConfig) -> Result<Box<dyn SchemaResolver>, RegistrySetupError> {
    Err(not_built_in(source))
}

#[cfg(not(feature = "registry"))]
fn register(source: &SourceConfig, _: &str, _: &str) -> Result<SchemaId, RegistrySetupError> {
    Err(not_built_in(source))
}

#[cfg(not(feature = "registry"))]
fn offer(_: &RegistryConfig, _: Format, _: &str, _: &str) -> Result<Result<SchemaId, String>, String> {
    Ok(Err(crate::util::cargo_feature::CargoFeature::Registry.missing()))
}

/// The error for a configuration that was made in a program rather than loaded, which would have refused it.
#[cfg(not(feature = "registry"))]
fn not_built_in(source: &SourceConfig) -> RegistrySetupError {
    let problem = crate::util::cargo_feature::CargoFeature::Registry.missing();
    SchemaError { origin: source.registry.url.clone(), problem }.into()
}

/// The schema of the configuration.
fn schema(source: &SourceConfig) -> Result<SchemaText, RegistrySetupError> {
    if source.schema.as_os_str().is_empty() {
        return Ok(SchemaText::built_in(source.format));
    }
    let path = source.schema.clone();
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(SchemaText { text, references: Vec::new(), origin: path.display().to_string() }),
        Err(source) => Err(RegistrySetupError::File { path, source }),
    }
}
