//! Declaration of configuration sections: each component declares its own keys, beside the code that reads them.
//!
//! `config_section!` turns one declaration into the section's struct, its defaults, the validation of its values, and
//! the description from which `config/default.toml` and `schemas/config.schema.json` are generated. `config_choice!` does
//! the same for a key that takes one of several names. The sum of all sections, and the layers that fill it, belong to
//! [`config`](crate::config).

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value as Json, json};

/// A value that a configuration may not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The key, relative to the section that was validated; empty where that section itself is refused.
    pub key: String,
    /// The reason, as the end of a sentence that begins with the key.
    pub message: String,
}

impl Refusal {
    /// Refuses the value of `key`.
    pub fn of(key: &str, message: impl Into<String>) -> Self {
        Self { key: key.to_owned(), message: message.into() }
    }

    /// The same refusal, as the section sees it that holds the refused section under `key`.
    #[must_use]
    pub fn below(self, key: &str) -> Self {
        let key = if self.key.is_empty() { key.to_owned() } else { format!("{key}.{}", self.key) };
        Self { key, ..self }
    }
}

impl From<String> for Refusal {
    fn from(message: String) -> Self {
        Self { key: String::new(), message }
    }
}

impl From<&str> for Refusal {
    fn from(message: &str) -> Self {
        Self::from(message.to_owned())
    }
}

/// Refuses with `message` unless `condition` holds.
///
/// # Errors
/// `message`, where the condition does not hold.
pub fn require(condition: bool, message: &str) -> Result<(), Refusal> {
    if condition { Ok(()) } else { Err(message.into()) }
}

/// What a key holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Shape {
    /// A value, and the JSON Schema that it follows.
    Value(Map<String, Json>),
    /// A table of further keys.
    Section(Vec<KeyEntry>),
    /// A table from free keys to texts.
    OpenTable,
}

/// What is known of a key without its value.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyEntry {
    /// The last part of the key's full name.
    pub name: &'static str,
    /// What the key means, in the lines of its doc comment.
    pub description: Vec<String>,
    /// What the key holds.
    pub shape: Shape,
    /// Whether a checkpoint's state depends on the value: a run with another value cannot go on from it.
    pub state_relevant: bool,
    /// Whether the value, or part of it, must never be shown.
    pub secret: bool,
}

/// A type that a key may hold.
pub trait ConfigValue: Serialize + DeserializeOwned + Clone {
    /// What keys of this type hold.
    fn shape() -> Shape;

    /// Checks the value, and everything below it.
    ///
    /// # Errors
    /// The first value that is refused.
    fn validate(&self) -> Result<(), Refusal> {
        Ok(())
    }

    /// Replaces what must never be shown.
    fn redact(&mut self) {}
}

/// The rules of one key: what its declaration says behind `=>`.
///
/// `T` is the type of the key's value, `S` the section that holds the key.
pub struct KeyRules<T, S> {
    checks: Vec<Check<T, S>>,
    schema: Map<String, Json>,
    state_relevant: bool,
    redact: Option<fn(&mut T)>,
}

type Check<T, S> = Box<dyn Fn(&T, &S) -> Result<(), Refusal>>;

impl<T: ConfigValue + 'static, S: 'static> Default for KeyRules<T, S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: ConfigValue + 'static, S: 'static> KeyRules<T, S> {
    /// Any value of the type is accepted, no state depends on it, and it may be shown.
    pub fn new() -> Self {
        Self { checks: Vec::new(), schema: Map::new(), state_relevant: false, redact: None }
    }

    /// The state of a checkpoint depends on the value: it cannot be changed between a checkpoint and its successor.
    #[must_use]
    pub fn state(mut self) -> Self {
        self.state_relevant = true;
        self
    }

    /// Part of the value is secret: `hide` replaces it wherever a configuration is shown, and errors do not repeat it.
    #[must_use]
    pub fn redacted(mut self, hide: fn(&mut T)) -> Self {
        self.redact = Some(hide);
        self
    }

    /// Accepts what `check` accepts; it is given the value and the whole section.
    #[must_use]
    pub fn check<F: Fn(&T, &S) -> Result<(), Refusal> + 'static>(mut self, check: F) -> Self {
        self.checks.push(Box::new(check));
        self
    }

    /// Accepts values within `bounds`, both included.
    #[must_use]
    pub fn within(self, bounds: RangeInclusive<T>) -> Self
    where
        T: PartialOrd + Display,
    {
        let message = format!("must lie in {}..={}", bounds.start(), bounds.end());
        self.schema("minimum", bounds.start())
            .schema("maximum", bounds.end())
            // Not a number lies in no range.
            .check(move |value, _| require(bounds.contains(value), &message))
    }

    /// Accepts values up to `most`, included.
    #[must_use]
    pub fn at_most(self, most: T) -> Self
    where
        T: PartialOrd + Display,
    {
        let message = format!("must be at most {most}");
        self.schema("maximum", &most).check(move |value, _| require(*value <= most, &message))
    }

    /// Accepts values from `least` on, included.
    #[must_use]
    pub fn at_least(self, least: T) -> Self
    where
        T: PartialOrd + Display,
    {
        let message = format!("must be at least {least}");
        self.schema("minimum", &least).check(move |value, _| require(*value >= least, &message))
    }

    /// Accepts texts and paths that are not empty.
    #[must_use]
    pub fn not_empty(self) -> Self
    where
        T: AsRef<OsStr>,
    {
        self.schema("minLength", &1).check(|value, _| require(!value.as_ref().is_empty(), "must not be empty"))
    }

    /// Accepts one of these texts.
    #[must_use]
    pub fn one_of(self, names: &'static [&'static str]) -> Self
    where
        T: AsRef<str>,
    {
        let (last, others) = names.split_last().expect("a key that takes one of some names has some");
        let message = format!("must be {} or {last}", others.join(", "));
        self.schema("enum", &names).check(move |value, _| require(names.contains(&value.as_ref()), &message))
    }

    fn schema(mut self, keyword: &str, value: &impl Serialize) -> Self {
        self.schema.insert(keyword.to_owned(), json!(value));
        self
    }

    /// What is known of the key `name`, whose doc comment is `description`, one line after the other.
    pub fn entry(self, name: &'static str, description: &[&str]) -> KeyEntry {
        let shape = match T::shape() {
            Shape::Value(mut schema) => {
                schema.extend(self.schema);
                Shape::Value(schema)
            }
            table => table,
        };
        KeyEntry {
            name,
            description: description.iter().map(|line| line.trim().to_owned()).collect(),
            shape,
            state_relevant: self.state_relevant,
            secret: self.redact.is_some(),
        }
    }

    /// Checks the value of the key `name` in `section`: first by itself, then by the rules of the key.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn validate(&self, name: &str, value: &T, section: &S) -> Result<(), Refusal> {
        value
            .validate()
            .and_then(|()| self.checks.iter().try_for_each(|check| check(value, section)))
            .map_err(|refusal| refusal.below(name))
    }

    /// Replaces what must never be shown of the key's value.
    pub fn redact(&self, value: &mut T) {
        value.redact();
        if let Some(hide) = self.redact {
            hide(value);
        }
    }
}

impl<S: 'static> KeyRules<f64, S> {
    /// Accepts numbers above 0 in single precision, which is what is computed with.
    #[must_use]
    pub fn above_zero(self) -> Self {
        self.schema("exclusiveMinimum", &0)
            .check(|value, _| require((*value as f32).is_normal() && *value > 0.0, "must be above 0"))
    }

    /// Accepts what is a finite number in single precision.
    #[must_use]
    pub fn finite(self) -> Self {
        self.check(|value, _| require((*value as f32).is_finite(), "must be a number"))
    }
}

/// What is shown in place of a secret value.
pub const REDACTED: &str = "(not shown)";

/// Replaces a secret text, unless it is empty.
pub fn redact_text(text: &mut String) {
    if !text.is_empty() {
        REDACTED.clone_into(text);
    }
}

/// A [`Shape::Value`] of the JSON Schema `schema`.
///
/// # Panics
/// If `schema` is not a JSON object.
pub fn value_shape(schema: Json) -> Shape {
    match schema {
        Json::Object(schema) => Shape::Value(schema),
        other => panic!("a JSON Schema is an object, not {other}"),
    }
}

macro_rules! plain_values {
    ($($type:ty: $schema:tt;)*) => {
        $(impl ConfigValue for $type {
            fn shape() -> Shape {
                value_shape(json!($schema))
            }
        })*
    };
}

plain_values! {
    bool: {"type": "boolean"};
    f64: {"type": "number"};
    i32: {"type": "integer", "format": "int32"};
    u16: {"type": "integer", "format": "uint16", "minimum": 0};
    u32: {"type": "integer", "format": "uint32", "minimum": 0};
    u64: {"type": "integer", "format": "uint64", "minimum": 0};
    usize: {"type": "integer", "format": "uint", "minimum": 0};
    String: {"type": "string"};
    PathBuf: {"type": "string"};
    Vec<String>: {"type": "array", "items": {"type": "string"}};
}

impl ConfigValue for BTreeMap<String, String> {
    fn shape() -> Shape {
        Shape::OpenTable
    }
}

/// Declares a section of the configuration.
///
/// Each key is declared as `name: Type = default => [rule, rule(argument), …];`, where the rules are methods of
/// [`KeyRules`] and may be left out. The doc comment of a key is its documentation everywhere: in rustdoc, in
/// `config/default.toml`, and in `schemas/config.schema.json`. The section's struct is `Debug` without its secrets.
macro_rules! config_section {
    (
        $(#[doc = $about:literal])*
        pub struct $Section:ident {
            $(
                $(#[doc = $doc:literal])*
                $key:ident: $type:ty = $default:expr
                    $(=> [$($rule:ident $(($($argument:expr),*))?),* $(,)?])?;
            )*
        }
    ) => {
        $(#[doc = $about])*
        #[derive(Clone, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $Section {
            $($(#[doc = $doc])* pub $key: $type,)*
        }

        const _: () = {
            use $crate::util::config_section::{ConfigValue, Refusal, Shape};

            $(fn $key() -> $crate::util::config_section::KeyRules<$type, $Section> {
                $crate::util::config_section::KeyRules::<$type, $Section>::new()$($(.$rule($($($argument),*)?))*)?
            })*

            impl Default for $Section {
                fn default() -> Self {
                    Self { $($key: $default,)* }
                }
            }

            impl ConfigValue for $Section {
                fn shape() -> Shape {
                    Shape::Section(vec![$($key().entry(stringify!($key), &[$($doc),*]),)*])
                }

                fn validate(&self) -> Result<(), Refusal> {
                    $($key().validate(stringify!($key), &self.$key, self)?;)*
                    Ok(())
                }

                fn redact(&mut self) {
                    $($key().redact(&mut self.$key);)*
                }
            }

            impl std::fmt::Debug for $Section {
                fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    let mut shown = self.clone();
                    shown.redact();
                    formatter.debug_struct(stringify!($Section))$(.field(stringify!($key), &shown.$key))*.finish()
                }
            }
        };
    };
}

/// Declares a key's type that is one of several names, each `Variant = "name"`.
macro_rules! config_choice {
    (
        $(#[doc = $about:literal])*
        pub enum $Choice:ident {
            $($(#[doc = $doc:literal])* $variant:ident = $name:literal,)*
        }
    ) => {
        $(#[doc = $about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        pub enum $Choice {
            $($(#[doc = $doc])* #[serde(rename = $name)] $variant,)*
        }

        impl $Choice {
            /// The name that the configuration knows this choice by.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }

        impl $crate::util::config_section::ConfigValue for $Choice {
            fn shape() -> $crate::util::config_section::Shape {
                let choices = [$((Self::$variant.name(), [$($doc),*].map(str::trim).join(" "))),*];
                let choices = choices.map(|(name, doc)| serde_json::json!({ "const": name, "description": doc }));
                $crate::util::config_section::value_shape(serde_json::json!({ "oneOf": choices }))
            }
        }
    };
}

pub(crate) use {config_choice, config_section};
