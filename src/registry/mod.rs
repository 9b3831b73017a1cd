//! Where schemas come from: the program itself, a file, or a registry; and the decoder and the encoder that are made of
//! them.
//!
//! A registry that is away, slow or out of order is waited for, however long, and a line in the log says so now and then:
//! no record is given up for its sake. Only what the registry says for certain (there is no such schema) is an answer.

mod client;
mod http;

use std::path::PathBuf;

use crate::decode::SourceConfig;
use crate::decode::{EventDecoder, EventEncoder, SchemaError, SchemaText};
pub use client::Registry;

/// What can be wrong with schemas before anything is read or written.
#[derive(Debug, thiserror::Error)]
pub enum RegistrySetupError {
    /// The file is not there or cannot be read.
    #[error("cannot read 'source.schema' {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A schema that cannot be used.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// The registry does not take a schema.
    #[error("schema registry {url}: subject '{subject}': {cause}")]
    Register {
        /// Its address.
        url: String,
        /// What the schema was to be registered under.
        subject: String,
        /// The registry's own words, or why there are none.
        cause: String,
    },
}

/// The decoder for the records that `source` describes.
///
/// # Errors
/// A schema that cannot be read, or that no interaction can be read by.
pub fn decoder(source: &SourceConfig) -> Result<EventDecoder, RegistrySetupError> {
    let registry = (!source.registry.url.is_empty()).then(|| Box::new(Registry::new(source)) as Box<_>);
    Ok(EventDecoder::new(source, &schema(source)?, registry)?)
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
    let id = client::register(source, &format!("{topic}-value"), &schema.text)?;
    Ok(EventEncoder::new(source, &schema, Some(id))?)
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
