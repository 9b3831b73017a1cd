//! Protobuf schemas: for each message of a .proto file, which of its fields is which of an interaction, and how it is
//! read.

use std::collections::BTreeMap;

use super::file::{DeclaredType, EnumDeclaration, Label, MessageDeclaration, ProtoFile};
use crate::decode::fields::{Field, FieldRules};
use crate::decode::names::NameTree;

/// The messages of a .proto file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ProtobufSchema {
    messages: Vec<MessageSchema>,
    /// The outermost messages, in the order of the file.
    top: Vec<usize>,
    pub(super) enums: Vec<BTreeMap<i64, String>>,
}

/// A message, as far as interactions are concerned.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct MessageSchema {
    /// With its package.
    pub(super) name: String,
    /// The messages within it, in the order of the file.
    inner: Vec<usize>,
    /// By their numbers.
    pub(super) fields: Vec<MessageField>,
    /// A field that must be there, and is none of an interaction's.
    pub(super) required: Option<String>,
}

/// A field of a message that is one of an interaction's, or a message that paths lead into.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct MessageField {
    pub(super) number: u64,
    pub(super) content: FieldContent,
    pub(super) kind: Kind,
    pub(super) repeated: bool,
    /// Whether it holds its default where it is not sent.
    pub(super) implicit: bool,
}

/// What the value of a message's field is good for.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum FieldContent {
    /// It is a field of the interaction.
    Field(Field),
    /// It is a message with fields of the interaction in it.
    Within(Vec<MessageField>),
}

impl MessageField {
    /// The field of the interaction that it is.
    pub(super) fn field(&self) -> Option<Field> {
        match self.content {
            FieldContent::Field(field) => Some(field),
            FieldContent::Within(_) => None,
        }
    }
}

/// How a value is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Double,
    Float,
    Int32,
    Int64,
    Unsigned,
    Signed,
    Fixed32,
    Fixed64,
    SignedFixed32,
    SignedFixed64,
    Boolean,
    Text,
    Bytes,
    /// Place in the list of enums.
    Enum(usize),
    /// `google.protobuf.Timestamp`.
    Timestamp,
    /// `google.protobuf.StringValue` and its kin.
    Wrapped(Scalar),
    /// Something that no field of an interaction is.
    Message,
    /// Of a type that is described elsewhere.
    Unknown,
}

/// What is in a wrapper of `google.protobuf`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scalar {
    Double,
    Float,
    Int32,
    Int64,
    Unsigned,
    Text,
}

impl Scalar {
    pub(super) fn kind(self) -> Kind {
        match self {
            Self::Double => Kind::Double,
            Self::Float => Kind::Float,
            Self::Int32 => Kind::Int32,
            Self::Int64 => Kind::Int64,
            Self::Unsigned => Kind::Unsigned,
            Self::Text => Kind::Text,
        }
    }
}

impl ProtobufSchema {
    /// Reads a .proto file. `references` are files whose types it may use; types of others are taken as they come.
    ///
    /// # Errors
    /// What is wrong with one of them.
    pub(crate) fn parse(text: &str, references: &[&str], rules: &FieldRules) -> Result<Self, String> {
        let references: Vec<ProtoFile> =
            references.iter().map(|text| ProtoFile::parse(text)).collect::<Result<_, _>>()?;
        let file = ProtoFile::parse(text)?;
        let mut known = KnownTypes::default();
        references.iter().for_each(|reference| known.learn(reference));
        known.learn(&file);
        let mut schema = Self { messages: Vec::new(), top: Vec::new(), enums: Vec::new() };
        let context = ParseContext { known: &known, rules, implicit: file.implicit };
        schema.top = file.messages.iter().map(|message| schema.add(message, &file.package, &context)).collect();
        schema.enums = known.values;
        if schema.top.is_empty() { Err("it describes no message".to_owned()) } else { Ok(schema) }
    }

    /// The message that a path of places stands for.
    pub(crate) fn at(&self, path: &[usize]) -> Option<&MessageSchema> {
        let (first, rest) = path.split_first()?;
        let mut message = &self.messages[*self.top.get(*first)?];
        for place in rest {
            message = &self.messages[*message.inner.get(*place)?];
        }
        Some(message)
    }

    /// The path to the message of that name, with or without the package; of the first one where the name is empty.
    pub(crate) fn path(&self, name: &str) -> Option<Vec<usize>> {
        if name.is_empty() {
            return Some(vec![0]);
        }
        let wanted = |full: &str| full == name || full.strip_suffix(name).is_some_and(|front| front.ends_with('.'));
        let mut waiting: Vec<(Vec<usize>, usize)> =
            self.top.iter().enumerate().rev().map(|(place, id)| (vec![place], *id)).collect();
        while let Some((path, id)) = waiting.pop() {
            let message = &self.messages[id];
            if wanted(&message.name) {
                return Some(path);
            }
            for (place, inner) in message.inner.iter().enumerate().rev() {
                waiting.push(([&path[..], &[place]].concat(), *inner));
            }
        }
        None
    }

    fn add(&mut self, message: &MessageDeclaration, space: &str, context: &ParseContext<'_>) -> usize {
        let name = join(space, &message.name);
        let mut required = None;
        let fields = context.fields(message, &name, &context.rules.tree, context.implicit, &mut required);
        let id = self.messages.len();
        self.messages.push(MessageSchema { name: name.clone(), inner: Vec::new(), fields, required });
        let inner = message.messages.iter().map(|inner| self.add(inner, &name, context)).collect();
        self.messages[id].inner = inner;
        id
    }
}

/// What types there are, by their full names.
#[derive(Debug, Default)]
struct KnownTypes<'a> {
    /// Each with whether its fields tell nothing from their defaults.
    messages: BTreeMap<String, (&'a MessageDeclaration, bool)>,
    enums: BTreeMap<String, usize>,
    values: Vec<BTreeMap<i64, String>>,
}

impl<'a> KnownTypes<'a> {
    fn learn(&mut self, file: &'a ProtoFile) {
        self.scope(&file.package, &file.messages, &file.enums, file.implicit);
    }

    fn scope(&mut self, space: &str, messages: &'a [MessageDeclaration], enums: &[EnumDeclaration], implicit: bool) {
        for of in enums {
            self.enums.insert(join(space, &of.name), self.values.len());
            // Of names for the same number the first one counts.
            self.values.push(of.values.iter().rev().cloned().collect());
        }
        for message in messages {
            let name = join(space, &message.name);
            self.scope(&name, &message.messages, &message.enums, implicit);
            self.messages.insert(name, (message, implicit));
        }
    }

    /// The type that `name` means within `space`, and its full name: that of the innermost scope which has one.
    fn find(&self, name: &str, space: &str) -> Option<(Kind, String)> {
        let (mut space, name, absolute) = match name.strip_prefix('.') {
            Some(name) => ("", name, true),
            None => (space, name, false),
        };
        loop {
            let full = join(space, name);
            if let Some(special) = well_known(&full) {
                return Some((special, full));
            }
            if let Some(id) = self.enums.get(&full) {
                return Some((Kind::Enum(*id), full));
            }
            if self.messages.contains_key(&full) {
                return Some((Kind::Message, full));
            }
            if space.is_empty() || absolute {
                return None;
            }
            space = space.rsplit_once('.').map_or("", |(outer, _)| outer);
        }
    }
}

struct ParseContext<'a> {
    known: &'a KnownTypes<'a>,
    rules: &'a FieldRules,
    implicit: bool,
}

impl ParseContext<'_> {
    /// The fields of a message, by their numbers, that mean something by `names`; the first of the others that must be
    /// there is put into `required`.
    fn fields(
        &self,
        message: &MessageDeclaration,
        space: &str,
        names: &NameTree,
        implicit: bool,
        required: &mut Option<String>,
    ) -> Vec<MessageField> {
        let mut fields = Vec::new();
        for line in &message.fields {
            let Some(entry) = names.get(&line.name) else {
                if line.label == Label::Required {
                    required.get_or_insert_with(|| line.name.clone());
                }
                continue;
            };
            let (kind, full) = match &line.of {
                DeclaredType::Map | DeclaredType::Group => (Kind::Message, None),
                DeclaredType::Scalar(kind) => (*kind, None),
                DeclaredType::Named(name) => match self.known.find(name, space) {
                    Some((kind, full)) => (kind, Some(full)),
                    None => (Kind::Unknown, None),
                },
            };
            let repeated = line.label == Label::Repeated || matches!(line.of, DeclaredType::Map);
            if let Some(field) = entry.field {
                let message = matches!(kind, Kind::Message | Kind::Timestamp | Kind::Wrapped(_) | Kind::Unknown);
                let implicit = implicit && line.label == Label::None && !message;
                let content = FieldContent::Field(field);
                fields.push(MessageField { number: line.number, content, kind, repeated, implicit });
            }
            let inner = full.as_ref().filter(|_| kind == Kind::Message && !repeated);
            let declared = inner.and_then(|full| self.known.messages.get(full));
            if let (Some(inner), Some((declared, implicit)), Some(full)) = (&entry.inner, declared, &full) {
                let content = FieldContent::Within(self.fields(declared, full, inner, *implicit, required));
                fields.push(MessageField { number: line.number, content, kind, repeated, implicit: false });
            }
        }
        fields.sort_by_key(|field| field.number);
        fields
    }
}

fn join(space: &str, name: &str) -> String {
    if space.is_empty() { name.to_owned() } else { format!("{space}.{name}") }
}

fn well_known(name: &str) -> Option<Kind> {
    Some(match name.strip_prefix("google.protobuf.")? {
        "Timestamp" => Kind::Timestamp,
        "DoubleValue" => Kind::Wrapped(Scalar::Double),
        "FloatValue" => Kind::Wrapped(Scalar::Float),
        "Int32Value" => Kind::Wrapped(Scalar::Int32),
        "Int64Value" => Kind::Wrapped(Scalar::Int64),
        "UInt32Value" | "UInt64Value" => Kind::Wrapped(Scalar::Unsigned),
        "StringValue" => Kind::Wrapped(Scalar::Text),
        _ => return None,
    })
}
