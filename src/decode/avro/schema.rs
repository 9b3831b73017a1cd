//! Avro schemas: their JSON, as far as reading and writing interactions needs it.
//!
//! Types are kept in a list and refer to each other by place, so that recursive schemas need nothing special. Defaults,
//! aliases, documentation and orders are ignored: a record is always read by the schema that it was written with.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::decode::fields::{Field, FieldRules};

/// Place of a type in the list.
pub(super) type TypeId = usize;

/// A schema, ready to read by.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AvroSchema {
    types: Vec<AvroType>,
    /// Whether a value of the type takes no bytes at all.
    empty: Vec<bool>,
    pub(super) root: TypeId,
}

/// A type of a schema.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum AvroType {
    Null,
    Boolean,
    Int(LogicalType),
    Long(LogicalType),
    Float,
    Double,
    Bytes(LogicalType),
    Text,
    Fixed(u64, LogicalType),
    Enum(Vec<String>),
    Array(TypeId),
    Map(TypeId),
    Union(Vec<TypeId>),
    Record(Vec<RecordField>),
}

/// What a number, or bytes, stand for, by their logical type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LogicalType {
    Number,
    Milliseconds,
    Microseconds,
    Nanoseconds,
    /// So many nanoseconds each, since 1970 on the clocks of a zone that is not told.
    Local(i64),
    /// A number with so many digits behind the point.
    Decimal(i32),
    Uuid,
    /// Something that no field of an interaction is.
    Other(&'static str),
}

/// A field of a record.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct RecordField {
    pub(super) name: String,
    /// Which field of the interaction it is, in an outermost record.
    pub(super) field: Option<Field>,
    /// Whether its name means anything in an outermost record: then it is a field, or paths lead into it.
    pub(super) is_named: bool,
    pub(super) of: TypeId,
}

impl AvroSchema {
    /// Reads a schema. `references` are schemas whose named types it may use, each after those that it uses itself.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(text: &str, references: &[&str], rules: &FieldRules) -> Result<Self, String> {
        let mut reading = SchemaParser { types: Vec::new(), named: BTreeMap::new(), rules };
        for reference in references {
            reading.text(reference)?;
        }
        let root = reading.text(text)?;
        let types = reading.types;
        let empty = takes_no_bytes(&types);
        let schema = Self { types, empty, root };
        match schema.get(root) {
            AvroType::Record(_) => Ok(schema),
            AvroType::Union(branches) if branches.iter().any(|of| matches!(schema.get(*of), AvroType::Record(_))) => {
                Ok(schema)
            }
            _ => Err("it describes no record".to_owned()),
        }
    }

    pub(super) fn get(&self, id: TypeId) -> &AvroType {
        &self.types[id]
    }

    /// Whether a value of the type takes no bytes at all: of such an array could hold any number.
    pub(super) fn takes_no_bytes(&self, id: TypeId) -> bool {
        self.empty[id]
    }
}

/// By the least that is true, so that a record that holds itself is not taken for empty.
fn takes_no_bytes(types: &[AvroType]) -> Vec<bool> {
    let mut empty = vec![false; types.len()];
    loop {
        let before = empty.clone();
        for (id, of) in types.iter().enumerate() {
            empty[id] = match of {
                AvroType::Null | AvroType::Fixed(0, _) => true,
                AvroType::Record(fields) => fields.iter().all(|field| empty[field.of]),
                _ => false,
            };
        }
        if empty == before {
            return empty;
        }
    }
}

struct SchemaParser<'a> {
    types: Vec<AvroType>,
    /// Records, enums and fixed by their full names.
    named: BTreeMap<String, TypeId>,
    rules: &'a FieldRules,
}

impl SchemaParser<'_> {
    fn text(&mut self, text: &str) -> Result<TypeId, String> {
        let value: Value = match serde_json::from_str(text) {
            Ok(value) => value,
            Err(error) => return Err(format!("it is not JSON: {error}")),
        };
        self.any(&value, "")
    }

    fn add(&mut self, of: AvroType) -> TypeId {
        self.types.push(of);
        self.types.len() - 1
    }

    fn any(&mut self, value: &Value, space: &str) -> Result<TypeId, String> {
        match value {
            Value::String(name) => self.reference(name, space),
            Value::Array(branches) => {
                let branches = branches.iter().map(|branch| self.any(branch, space)).collect::<Result<_, _>>()?;
                Ok(self.add(AvroType::Union(branches)))
            }
            Value::Object(object) => self.object(object, space),
            other => Err(format!("{other} is no type")),
        }
    }

    fn reference(&mut self, name: &str, space: &str) -> Result<TypeId, String> {
        if let Some(primitive) = primitive(name, LogicalType::Number) {
            return Ok(self.add(primitive));
        }
        let found = self.named.get(&full_name(name, space)).or_else(|| self.named.get(name));
        found.copied().ok_or_else(|| format!("there is no type {name:?}"))
    }

    fn object(&mut self, object: &Map<String, Value>, space: &str) -> Result<TypeId, String> {
        let kind = match object.get("type") {
            Some(Value::String(kind)) => kind.as_str(),
            Some(inner) => return self.any(inner, space),
            None => return Err("a type lacks \"type\"".to_owned()),
        };
        let part = |name: &str| object.get(name).ok_or_else(|| format!("{kind:?} lacks {name:?}"));
        match kind {
            "array" => {
                let items = self.any(part("items")?, space)?;
                Ok(self.add(AvroType::Array(items)))
            }
            "map" => {
                let values = self.any(part("values")?, space)?;
                Ok(self.add(AvroType::Map(values)))
            }
            "enum" => {
                let symbols = part("symbols")?.as_array().ok_or("the symbols of an enum are no list")?;
                let symbols = symbols.iter().map(|symbol| symbol.as_str().map(str::to_owned)).collect::<Option<_>>();
                let symbols = symbols.ok_or("a symbol of an enum is no text")?;
                self.name(object, space, AvroType::Enum(symbols)).map(|(id, _)| id)
            }
            "fixed" => {
                let size = part("size")?.as_u64().ok_or("the size of a fixed is no number")?;
                let meaning = logical_type(object);
                self.name(object, space, AvroType::Fixed(size, meaning)).map(|(id, _)| id)
            }
            "record" | "error" => {
                // Known by name before its fields are read: they may hold it.
                let (id, space) = self.name(object, space, AvroType::Record(Vec::new()))?;
                let described = part("fields")?.as_array().ok_or("the fields of a record are no list")?;
                let mut fields = Vec::with_capacity(described.len());
                for field in described {
                    let name = field.get("name").and_then(Value::as_str).ok_or("a field has no name")?;
                    let of = field.get("type").ok_or_else(|| format!("field {name:?} has no type"))?;
                    let of = self.any(of, &space)?;
                    let entry = self.rules.tree.get(name);
                    let (field, is_named) = (entry.and_then(|entry| entry.field), entry.is_some());
                    fields.push(RecordField { name: name.to_owned(), field, is_named, of });
                }
                self.types[id] = AvroType::Record(fields);
                Ok(id)
            }
            _ => match primitive(kind, logical_type(object)) {
                Some(primitive) => Ok(self.add(primitive)),
                None => self.reference(kind, space),
            },
        }
    }

    /// Adds a named type; gives back the namespace too that holds within it.
    fn name(&mut self, object: &Map<String, Value>, space: &str, of: AvroType) -> Result<(TypeId, String), String> {
        let name = object.get("name").and_then(Value::as_str).filter(|name| !name.is_empty());
        let name = name.ok_or("a named type has no name")?;
        let full = full_name(name, object.get("namespace").and_then(Value::as_str).unwrap_or(space));
        let inner = full.rsplit_once('.').map_or("", |(space, _)| space).to_owned();
        let id = self.add(of);
        match self.named.insert(full, id) {
            None => Ok((id, inner)),
            Some(_) => Err(format!("{name:?} is described twice")),
        }
    }
}

fn full_name(name: &str, space: &str) -> String {
    if space.is_empty() || name.contains('.') { name.to_owned() } else { format!("{space}.{name}") }
}

fn logical_type(object: &Map<String, Value>) -> LogicalType {
    match object.get("logicalType").and_then(Value::as_str) {
        Some("timestamp-millis") => LogicalType::Milliseconds,
        Some("timestamp-micros") => LogicalType::Microseconds,
        Some("timestamp-nanos") => LogicalType::Nanoseconds,
        Some("local-timestamp-millis") => LogicalType::Local(1_000_000),
        Some("local-timestamp-micros") => LogicalType::Local(1_000),
        Some("local-timestamp-nanos") => LogicalType::Local(1),
        Some("date") => LogicalType::Local(86_400_000_000_000),
        Some("time-millis" | "time-micros") => LogicalType::Other("a time of day"),
        Some("uuid") => LogicalType::Uuid,
        Some("decimal") => {
            let scale = object.get("scale").and_then(Value::as_i64).unwrap_or(0);
            i32::try_from(scale)
                .ok()
                .filter(|scale| (0..=1_000).contains(scale))
                .map_or(LogicalType::Number, LogicalType::Decimal)
        }
        // A logical type that is not known is none.
        _ => LogicalType::Number,
    }
}

fn primitive(name: &str, meaning: LogicalType) -> Option<AvroType> {
    Some(match name {
        "null" => AvroType::Null,
        "boolean" => AvroType::Boolean,
        "int" => AvroType::Int(meaning),
        "long" => AvroType::Long(meaning),
        "float" => AvroType::Float,
        "double" => AvroType::Double,
        "bytes" => AvroType::Bytes(meaning),
        "string" => AvroType::Text,
        _ => return None,
    })
}
