//! A .proto file as it is written: messages and enums with their fields, all else passed over.
//!
//! It is read, not judged: what `protoc` would refuse (numbers that come twice, names that are nowhere) may pass.

use super::tokens::{Token, Tokens};
use crate::decode::cursor::MAX_DEPTH;

/// Highest number of a field.
const MAX_NUMBER: u64 = (1 << 29) - 1;

/// A .proto file.
#[derive(Debug, Default)]
pub(super) struct File {
    pub(super) package: String,
    /// Whether a field without a label tells nothing from its default (`proto3`).
    pub(super) implicit: bool,
    pub(super) messages: Vec<Message>,
    pub(super) enums: Vec<Enum>,
}

/// A message.
#[derive(Debug, Default)]
pub(super) struct Message {
    pub(super) name: String,
    pub(super) fields: Vec<FieldLine>,
    pub(super) messages: Vec<Message>,
    pub(super) enums: Vec<Enum>,
}

/// An enum: the names of its values.
#[derive(Debug, Default)]
pub(super) struct Enum {
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
    /// One of several that exclude each other.
    OneOf,
}

/// The line of a field.
#[derive(Debug)]
pub(super) struct FieldLine {
    pub(super) label: Label,
    /// Name of the type as written; `map` for a map, `group` for a group.
    pub(super) of: String,
    pub(super) name: String,
    pub(super) number: u64,
}

impl File {
    /// Reads a file.
    ///
    /// # Errors
    /// What is wrong with it, with the line.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut tokens = Tokens::of(text)?;
        let mut file = Self::default();
        while let Some(token) = tokens.peek() {
            match token {
                Token::Name("syntax") => {
                    tokens.any()?;
                    tokens.sign('=')?;
                    file.implicit = tokens.any()? == Token::Text("proto3");
                    tokens.sign(';')?;
                }
                Token::Name("package") => {
                    tokens.any()?;
                    file.package = tokens.path()?;
                    tokens.sign(';')?;
                }
                Token::Name("message") => {
                    tokens.any()?;
                    file.messages.push(message(&mut tokens, 0)?);
                }
                Token::Name("enum") => {
                    tokens.any()?;
                    file.enums.push(enumeration(&mut tokens)?);
                }
                Token::Name("import" | "option" | "service" | "extend" | "edition") | Token::Sign(';') => {
                    tokens.pass_statement()?;
                }
                _ => return Err(tokens.wrong("a statement of a .proto file")),
            }
        }
        Ok(file)
    }
}

/// A message, after its keyword.
fn message(tokens: &mut Tokens<'_>, depth: usize) -> Result<Message, String> {
    if depth > MAX_DEPTH {
        return Err(format!("messages are nested deeper than {MAX_DEPTH}"));
    }
    let mut message = Message { name: tokens.name()?.to_owned(), ..Message::default() };
    tokens.sign('{')?;
    body(tokens, &mut message, Label::None, depth)?;
    Ok(message)
}

/// What stands in the braces of a message, of a group, or of a `oneof`, to the closing one.
fn body(tokens: &mut Tokens<'_>, message: &mut Message, label: Label, depth: usize) -> Result<(), String> {
    while !tokens.passes(Token::Sign('}')) {
        match tokens.peek() {
            Some(Token::Name("message")) => {
                tokens.any()?;
                let inner = self::message(tokens, depth + 1)?;
                message.messages.push(inner);
            }
            Some(Token::Name("enum")) => {
                tokens.any()?;
                message.enums.push(enumeration(tokens)?);
            }
            Some(Token::Name("oneof")) if label == Label::None => {
                tokens.any()?;
                tokens.name()?;
                tokens.sign('{')?;
                body(tokens, message, Label::OneOf, depth)?;
            }
            Some(Token::Name("option" | "reserved" | "extensions" | "extend") | Token::Sign(';')) => {
                tokens.pass_statement()?;
            }
            _ => field(tokens, message, label, depth)?,
        }
    }
    Ok(())
}

fn field(tokens: &mut Tokens<'_>, message: &mut Message, label: Label, depth: usize) -> Result<(), String> {
    let label = match tokens.peek() {
        Some(Token::Name("optional")) => Label::Optional,
        Some(Token::Name("required")) => Label::Required,
        Some(Token::Name("repeated")) => Label::Repeated,
        _ => label,
    };
    if matches!(label, Label::Optional | Label::Required | Label::Repeated) {
        tokens.any()?;
    }
    let of = tokens.path()?;
    if of == "map" && tokens.passes(Token::Sign('<')) {
        tokens.path()?;
        tokens.sign(',')?;
        tokens.path()?;
        tokens.sign('>')?;
    }
    let name = tokens.name()?.to_owned();
    tokens.sign('=')?;
    let number = u64::try_from(tokens.number()?).ok().filter(|number| (1..=MAX_NUMBER).contains(number));
    let number = number.ok_or_else(|| format!("field {name:?} has a number outside 1..={MAX_NUMBER}"))?;
    tokens.pass_options()?;
    if of == "group" {
        if depth >= MAX_DEPTH {
            return Err(format!("messages are nested deeper than {MAX_DEPTH}"));
        }
        // Its fields are those of a message of their own, which nobody asks for.
        tokens.sign('{')?;
        body(tokens, &mut Message::default(), Label::None, depth + 1)?;
    } else {
        tokens.sign(';')?;
    }
    message.fields.push(FieldLine { label, of, name, number });
    Ok(())
}

/// An enum, after its keyword.
fn enumeration(tokens: &mut Tokens<'_>) -> Result<Enum, String> {
    let mut read = Enum { name: tokens.name()?.to_owned(), values: Vec::new() };
    tokens.sign('{')?;
    while !tokens.passes(Token::Sign('}')) {
        match tokens.peek() {
            Some(Token::Name("option" | "reserved") | Token::Sign(';')) => tokens.pass_statement()?,
            _ => {
                let name = tokens.name()?.to_owned();
                tokens.sign('=')?;
                let number = tokens.number()?;
                tokens.pass_options()?;
                tokens.sign(';')?;
                read.values.push((number, name));
            }
        }
    }
    Ok(read)
}
