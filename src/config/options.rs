//! What the configurations of samplers and of objectives have in common: bounds of options, and a name or a list.

use std::fmt::Display;
use std::ops::RangeInclusive;

use serde::Deserialize;
use toml::Value;

use super::{Noise, Objective};
use crate::util::config_section::{Shape, value_shape};

/// The shape of values that describe themselves by a derived schema, definitions included.
pub(super) fn derived_shape<T: schemars::JsonSchema>() -> Shape {
    let settings = schemars::generate::SchemaSettings::draft2020_12().with(|settings| {
        settings.meta_schema = None;
    });
    value_shape(settings.into_generator().into_root_schema_for::<T>().into())
}

/// What is wrong with `value` of the option `option`, which belongs to `kinds` (none named: to all) and lies within
/// `bounds`, where it was given to `kind`, called `name`.
pub(super) fn mistake<Kind: PartialEq, Number: PartialOrd + Display>(
    (option, value): (&str, &Number),
    bounds: RangeInclusive<Number>,
    (kind, name): (&Kind, &str),
    kinds: &[Kind],
) -> Option<String> {
    if !kinds.is_empty() && !kinds.contains(kind) {
        return Some(format!("'{option}' is not an option of '{name}'"));
    }
    // Not a number lies between nothing.
    let within = bounds.contains(value);
    (!within).then(|| format!("'{option}' of '{name}' must lie in {}..={}", bounds.start(), bounds.end()))
}

// A name or a list: written out, since serde's untagged enums answer every mistake with the same empty message.

impl<'de> Deserialize<'de> for Noise {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        name_or_list(deserializer, Self::Name, Self::List)
    }
}

impl<'de> Deserialize<'de> for Objective {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        name_or_list(deserializer, Self::Name, Self::List)
    }
}

fn name_or_list<'de, D, N, T, R>(
    deserializer: D,
    name: impl Fn(N) -> R,
    list: impl Fn(Vec<T>) -> R,
) -> Result<R, D::Error>
where
    D: serde::Deserializer<'de>,
    N: serde::de::DeserializeOwned,
    T: serde::de::DeserializeOwned,
{
    use serde::de::Error;
    let said = |error: toml::de::Error| D::Error::custom(error.message().trim());
    match Value::deserialize(deserializer)? {
        value @ Value::String(_) => value.try_into().map(name).map_err(said),
        value @ Value::Array(_) => value.try_into().map(list).map_err(said),
        other => Err(D::Error::custom(format!("expected a name or a list of tables, found {}", other.type_str()))),
    }
}
