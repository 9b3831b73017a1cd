//! The schemas that binary records are read by: as text, ready to use, and those of a registry that are in use.

use super::{Fault, avro, framing, protobuf};
use crate::decode::{FieldRules, Format, SourceConfig};
use crate::event::{Interaction, Reason};

/// Number of a schema in its registry.
pub type SchemaId = u32;

/// Most schemas of a registry that are kept ready. A topic has few: a new one comes with each change of its producers.
const CACHED: usize = 256;

/// A schema as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaText {
    /// The schema.
    pub text: String,
    /// The schemas whose types it uses, each after those that it uses itself.
    pub references: Vec<String>,
    /// Where it comes from, for messages.
    pub origin: String,
}

impl SchemaText {
    /// The schema of negstream's own events.
    pub fn built_in(format: Format) -> Self {
        let (text, name) = match format {
            Format::Json => (include_str!("../../schemas/interaction.schema.json"), "interaction.schema.json"),
            Format::Avro => (include_str!("../../schemas/interaction.avsc"), "interaction.avsc"),
            Format::Protobuf => (include_str!("../../schemas/interaction.proto"), "interaction.proto"),
        };
        Self { text: text.to_owned(), references: Vec::new(), origin: format!("schemas/{name} (built in)") }
    }
}

/// A schema that no interaction can be read or written by.
#[derive(Debug, thiserror::Error)]
#[error("schema {origin}: {problem}")]
pub struct SchemaError {
    /// Where it comes from.
    pub origin: String,
    /// What is wrong with it.
    pub problem: String,
}

/// The result of looking up a schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SchemaLookup {
    /// The schema.
    Found(SchemaText),
    /// No usable schema has this number, and why: its records cannot be read, now or later.
    Unknown(String),
    /// The answer is not known at the moment: look up again.
    NotYet,
}

/// A resolver of schemas by their numbers, such as a registry.
pub trait SchemaResolver: Send + std::fmt::Debug {
    /// Looks up schema `id`. Waits for an answer no longer than a fraction of a second; asked again with the same
    /// number, it goes on waiting for the same answer.
    fn schema(&mut self, id: SchemaId) -> SchemaLookup;
}

/// A schema, ready to read by.
#[derive(Debug)]
pub(super) enum RecordSchema {
    Avro(avro::AvroSchema),
    /// With the path to the message of records that come plain.
    Protobuf(protobuf::ProtobufSchema, Vec<usize>),
}

impl RecordSchema {
    /// The schema of records that come plain.
    pub(super) fn plain(format: Format, text: &SchemaText, source: &SourceConfig) -> Result<Self, SchemaError> {
        let wrong = |problem| SchemaError { origin: text.origin.clone(), problem };
        let mut schema = Self::parse(format, text, &FieldRules::new(source)).map_err(wrong)?;
        if let Self::Protobuf(messages, path) = &mut schema {
            *path = messages
                .path(&source.message)
                .ok_or_else(|| wrong(format!("there is no message {:?} (source.message)", source.message)))?;
        }
        Ok(schema)
    }

    fn parse(format: Format, text: &SchemaText, rules: &FieldRules) -> Result<Self, String> {
        let references: Vec<&str> = text.references.iter().map(String::as_str).collect();
        match format {
            Format::Avro => avro::AvroSchema::parse(&text.text, &references, rules).map(Self::Avro),
            Format::Protobuf => protobuf::ProtobufSchema::parse(&text.text, &references, rules)
                .map(|schema| Self::Protobuf(schema, vec![0])),
            Format::Json => Err("JSON is read without a schema".to_owned()),
        }
    }

    /// The bytes of one record that came plain.
    pub(super) fn decode(&self, payload: &[u8], rules: &FieldRules) -> Result<Interaction, Fault> {
        match self {
            Self::Avro(schema) => avro::decode(payload, schema, rules),
            Self::Protobuf(schema, path) => decode_message(payload, schema, path, rules),
        }
    }

    /// The bytes of one record, taken out of its frame.
    pub(super) fn decode_framed(&self, inner: &[u8], rules: &FieldRules) -> Result<Interaction, Fault> {
        match self {
            Self::Avro(schema) => avro::decode(inner, schema, rules),
            Self::Protobuf(schema, _) => {
                let (path, message) = framing::open_message(inner)?;
                decode_message(message, schema, &path, rules)
            }
        }
    }
}

fn decode_message(
    payload: &[u8],
    schema: &protobuf::ProtobufSchema,
    path: &[usize],
    rules: &FieldRules,
) -> Result<Interaction, Fault> {
    match schema.at(path) {
        Some(message) => protobuf::decode(payload, schema, message, rules),
        None => Err((Reason::UnknownSchema, format!("the schema has no message at the places {path:?}"))),
    }
}

/// The schemas of a registry that were used last; those that cannot be used, with the problem.
#[derive(Debug, Default)]
pub(super) struct SchemaCache(Vec<(SchemaId, Result<RecordSchema, String>)>);

impl SchemaCache {
    /// RecordSchema `id`, looked up where it is not at hand; `None` where that takes longer.
    pub(super) fn schema(
        &mut self,
        id: SchemaId,
        format: Format,
        rules: &FieldRules,
        registry: &mut dyn SchemaResolver,
    ) -> Option<Result<&RecordSchema, String>> {
        match self.0.iter().position(|(known, _)| *known == id) {
            Some(0) => {}
            Some(place) => self.0[..=place].rotate_right(1),
            None => {
                let parsed = match registry.schema(id) {
                    SchemaLookup::Found(text) => RecordSchema::parse(format, &text, rules),
                    // Not kept: it may be registered yet.
                    SchemaLookup::Unknown(problem) => return Some(Err(problem)),
                    SchemaLookup::NotYet => return None,
                };
                self.0.truncate(CACHED - 1);
                self.0.insert(0, (id, parsed));
            }
        }
        Some(self.0[0].1.as_ref().map_err(Clone::clone))
    }

    /// The numbers of the schemas that are at hand, the newest first.
    #[cfg(test)]
    pub(super) fn ids(&self) -> Vec<SchemaId> {
        self.0.iter().map(|(id, _)| *id).collect()
    }
}
