//! A .proto file: its messages and enums with their fields, as far as reading records needs them.
//!
//! The grammar is the crate `protox-parse`'s, behind the feature `protobuf`. A file is parsed, not compiled: what only
//! `protoc` would refuse (numbers that come twice, names that are nowhere) may pass. That crate knows no editions; a file
//! of `edition = "2023"` is read as `proto3` in which every field tells an absent value from its default.

use super::schema::Kind;

/// A .proto file.
#[derive(Debug, Default)]
pub(super) struct ProtoFile {
    pub(super) package: String,
    /// Whether a field without a label tells nothing from its default (`proto3`).
    pub(super) implicit: bool,
    pub(super) messages: Vec<MessageDeclaration>,
    pub(super) enums: Vec<EnumDeclaration>,
}

/// A message as it is declared.
#[derive(Debug, Default)]
pub(super) struct MessageDeclaration {
    pub(super) name: String,
    pub(super) fields: Vec<FieldDeclaration>,
    pub(super) messages: Vec<MessageDeclaration>,
    pub(super) enums: Vec<EnumDeclaration>,
}

/// An enum as it is declared: numbers and names of its values.
#[derive(Debug, Default)]
pub(super) struct EnumDeclaration {
    pub(super) name: String,
    pub(super) values: Vec<(i64, String)>,
}

/// How often a field comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Label {
    None,
    Optional,
    Required,
    Repeated,
    /// One of several fields that exclude each other.
    OneOf,
}

/// The type of a field as it is declared.
#[derive(Debug)]
pub(super) enum DeclaredType {
    /// One of the language's own types.
    Scalar(Kind),
    /// `map<K, V>`.
    Map,
    /// A group of `proto2`.
    Group,
    /// A message or an enum, by its name as written.
    Named(String),
}

/// A field as it is declared.
#[derive(Debug)]
pub(super) struct FieldDeclaration {
    pub(super) label: Label,
    pub(super) of: DeclaredType,
    pub(super) name: String,
    pub(super) number: u64,
}

impl ProtoFile {
    /// Reads a file.
    ///
    /// # Errors
    /// What is wrong with it, with the line; or that this program has no parser.
    #[cfg(not(feature = "protobuf"))]
    pub(super) fn parse(_text: &str) -> Result<Self, String> {
        Err(crate::util::cargo_feature::CargoFeature::Protobuf.missing())
    }

    /// Reads a file.
    ///
    /// # Errors
    /// What is wrong with it, with the line.
    #[cfg(feature = "protobuf")]
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        parser::parse(text)
    }
}

#[cfg(feature = "protobuf")]
mod parser {
    //! From the parser's descriptors to declarations.

    use std::borrow::Cow;

    use prost_types::field_descriptor_proto::{Label as Cardinality, Type};
    use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto};
    use protox_parse::ParseError;

    use super::{DeclaredType, EnumDeclaration, FieldDeclaration, Kind, Label, MessageDeclaration, ProtoFile};

    /// Longest message of the parser that is passed on, in characters: it may quote a word of any length.
    const LONGEST_MESSAGE: usize = 200;

    pub(super) fn parse(text: &str) -> Result<ProtoFile, String> {
        let (text, edition) = as_proto3(text);
        let file = protox_parse::parse("", &text).map_err(|error| message(&error, &text))?;
        Ok(ProtoFile {
            package: file.package.unwrap_or_default(),
            implicit: file.syntax.as_deref() == Some("proto3") && !edition,
            messages: file.message_type.into_iter().map(declaration).collect(),
            enums: file.enum_type.into_iter().map(enumeration).collect(),
        })
    }

    /// The file with `syntax = "proto3"` in place of its edition, on the same line, and whether it has one.
    fn as_proto3(text: &str) -> (Cow<'_, str>, bool) {
        let mut start = 0;
        for line in text.split_inclusive('\n') {
            let statement = line.trim_start().strip_prefix("edition").map(str::trim_start);
            if statement.is_some_and(|rest| rest.starts_with('=')) {
                let end = line.find(';').map_or(line.len(), |end| end + 1);
                return (format!("{}syntax = \"proto3\";{}", &text[..start], &text[start + end..]).into(), true);
            }
            start += line.len();
        }
        (text.into(), false)
    }

    /// What is wrong with a file: the first of the parser's errors, with its line, made fit for one line of a log.
    fn message(error: &ParseError, text: &str) -> String {
        let harmless = |c: char| if c.is_control() { ' ' } else { c };
        let problem: String = error.to_string().chars().map(harmless).take(LONGEST_MESSAGE).collect();
        match error.span().and_then(|span| text.get(..span.start)) {
            Some(before) => format!("line {}: {problem}", before.matches('\n').count() + 1),
            None => problem,
        }
    }

    fn declaration(message: DescriptorProto) -> MessageDeclaration {
        // A map is a list of messages of a type of its own, which the parser adds and nobody named; so it does for a group.
        let is_entry = |inner: &DescriptorProto| inner.options.as_ref().is_some_and(|options| options.map_entry());
        let (entries, mut messages): (Vec<_>, Vec<_>) = message.nested_type.into_iter().partition(is_entry);
        let is_group = |line: &&FieldDescriptorProto| line.r#type == Some(Type::Group.into());
        let groups: Vec<_> = message.field.iter().filter(is_group).collect();
        messages.retain(|inner| groups.iter().all(|group| group.type_name != inner.name));
        drop(groups);
        let fields = message.field.into_iter().map(|line| field(line, &entries)).collect();
        MessageDeclaration {
            name: message.name.unwrap_or_default(),
            fields,
            messages: messages.into_iter().map(declaration).collect(),
            enums: message.enum_type.into_iter().map(enumeration).collect(),
        }
    }

    fn enumeration(of: EnumDescriptorProto) -> EnumDeclaration {
        let values =
            of.value.into_iter().map(|value| (value.number().into(), value.name.unwrap_or_default())).collect();
        EnumDeclaration { name: of.name.unwrap_or_default(), values }
    }

    fn field(line: FieldDescriptorProto, entries: &[DescriptorProto]) -> FieldDeclaration {
        let is_map = line.type_name.is_some() && entries.iter().any(|entry| entry.name == line.type_name);
        let label = match line.label.and_then(|label| Cardinality::try_from(label).ok()) {
            _ if line.oneof_index.is_some() && line.proto3_optional != Some(true) => Label::OneOf,
            Some(Cardinality::Required) => Label::Required,
            Some(Cardinality::Repeated) => Label::Repeated,
            // The parser says optional of a proto3 field that has no label as well.
            Some(Cardinality::Optional) | None if line.proto3_optional == Some(true) => Label::Optional,
            Some(Cardinality::Optional) | None => Label::None,
        };
        let of = match line.r#type.and_then(|of| Type::try_from(of).ok()) {
            _ if is_map => DeclaredType::Map,
            Some(Type::Double) => DeclaredType::Scalar(Kind::Double),
            Some(Type::Float) => DeclaredType::Scalar(Kind::Float),
            Some(Type::Int32) => DeclaredType::Scalar(Kind::Int32),
            Some(Type::Int64) => DeclaredType::Scalar(Kind::Int64),
            Some(Type::Uint32 | Type::Uint64) => DeclaredType::Scalar(Kind::Unsigned),
            Some(Type::Sint32 | Type::Sint64) => DeclaredType::Scalar(Kind::Signed),
            Some(Type::Fixed32) => DeclaredType::Scalar(Kind::Fixed32),
            Some(Type::Fixed64) => DeclaredType::Scalar(Kind::Fixed64),
            Some(Type::Sfixed32) => DeclaredType::Scalar(Kind::SignedFixed32),
            Some(Type::Sfixed64) => DeclaredType::Scalar(Kind::SignedFixed64),
            Some(Type::Bool) => DeclaredType::Scalar(Kind::Boolean),
            Some(Type::String) => DeclaredType::Scalar(Kind::Text),
            Some(Type::Bytes) => DeclaredType::Scalar(Kind::Bytes),
            Some(Type::Group) => DeclaredType::Group,
            Some(Type::Message | Type::Enum) | None => DeclaredType::Named(line.type_name().to_owned()),
        };
        FieldDeclaration {
            label,
            of,
            name: line.name().to_owned(),
            number: u64::try_from(line.number()).unwrap_or_default(),
        }
    }
}
