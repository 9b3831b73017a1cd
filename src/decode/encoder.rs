//! Encoding: interactions into records of the configured format.

use super::schema::RecordSchema;
use super::{Fault, SchemaError, SchemaId, SchemaText, avro, framing, json, protobuf};
use crate::decode::{FieldRules, Format, SourceConfig};
use crate::event::{Interaction, Reason};

/// Turns interactions into records that the [`EventDecoder`](super::EventDecoder) of the same configuration takes.
#[derive(Debug)]
pub struct EventEncoder {
    rules: FieldRules,
    /// `None`: JSON.
    schema: Option<RecordSchema>,
    /// Number of the schema, where records are framed.
    id: Option<SchemaId>,
}

impl EventEncoder {
    /// An encoder for the records that `source` describes, by `schema`; with the number of that schema in a registry, in the
    /// registry's frames.
    ///
    /// # Errors
    /// A schema that no interaction can be written by.
    pub fn new(source: &SourceConfig, schema: &SchemaText, id: Option<SchemaId>) -> Result<Self, SchemaError> {
        let rules = FieldRules::new(source);
        if source.format == Format::Json {
            return Ok(Self { rules, schema: None, id });
        }
        let parsed = RecordSchema::plain(source.format, schema, source)?;
        let checked = match &parsed {
            RecordSchema::Avro(schema) => avro::check(schema, &rules),
            RecordSchema::Protobuf(schema, path) => {
                schema.at(path).map_or(Err("it describes no message".to_owned()), protobuf::check)
            }
        };
        match checked {
            Ok(()) => Ok(Self { rules, schema: Some(parsed), id }),
            Err(problem) => Err(SchemaError { origin: schema.origin.clone(), problem }),
        }
    }

    /// The bytes of a record.
    ///
    /// # Errors
    /// What the schema has no room for.
    pub fn encode(&self, event: &Interaction) -> Result<Vec<u8>, Fault> {
        let (inner, path) = match &self.schema {
            None => (json::encode(event, &self.rules.names), None),
            Some(RecordSchema::Avro(schema)) => (avro::encode(event, schema, &self.rules)?, None),
            Some(RecordSchema::Protobuf(schema, path)) => {
                let message = schema.at(path).ok_or((Reason::UnknownSchema, "no such message".to_owned()))?;
                (protobuf::encode(event, schema, message)?, Some(path.as_slice()))
            }
        };
        Ok(match self.id {
            Some(id) => framing::close(id, path, &inner),
            None => inner,
        })
    }
}
