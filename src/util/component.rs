//! Components that the configuration chooses by name, each with options of its own: noise samplers and objectives.
//!
//! A component declares its options with [`config_section!`](super::config_section) in its own file, and a registry lists
//! it in one line. What a configuration gives for the component, `{ sampler = "unigram", power = 0.75 }`, is kept as a table
//! of what was given: [`options`] turns that table into the declared struct, with defaults for what was left out.

use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serializer};
use serde_json::{Map, Value as Json, json};
use toml::{Table, Value};

use super::config_section::{ConfigValue, KeyEntry, Shape};
use super::nearest::nearest;

/// The options of a component, and the words by which people know it.
pub trait Component: ConfigValue + Default + 'static {
    /// The component's name in the configuration.
    const NAME: &'static str;
    /// The component's documentation: one sentence.
    const SUMMARY: &'static str;
}

/// The options that `C` declares.
///
/// # Panics
/// If `C` was not declared as a section.
pub fn keys<C: ConfigValue>() -> Vec<KeyEntry> {
    match C::shape() {
        Shape::Section(keys) => keys,
        Shape::Value(_) | Shape::OpenTable => panic!("the options of a component are a section"),
    }
}

/// The options of the component `name` from those that were given; what was left out has its default.
///
/// # Errors
/// A sentence that names the option and the component: the option is unknown, of another type, or out of bounds.
pub fn options<C: ConfigValue + Default>(name: &str, given: &Table) -> Result<C, String> {
    let mut table = Table::try_from(C::default()).expect("defaults can be written as TOML");
    fill(&mut table, name, given, &keys::<C>())?;
    let options: C =
        table.try_into().map_err(|error: toml::de::Error| format!("'{name}': {}", error.message().trim()))?;
    options.validate().map_err(|refusal| match refusal.key.as_str() {
        "" => refusal.message,
        key => format!("'{key}' of '{name}' {}", refusal.message),
    })?;
    Ok(options)
}

/// Puts what was given over the defaults, section by section.
fn fill(defaults: &mut Table, name: &str, given: &Table, declared: &[KeyEntry]) -> Result<(), String> {
    for (option, value) in given {
        let Some(key) = declared.iter().find(|key| key.name == option) else {
            return Err(unknown_option(name, option, declared));
        };
        match (&key.shape, defaults.get_mut(option), value) {
            (Shape::Section(keys), Some(Value::Table(section)), Value::Table(given)) => {
                fill(section, &format!("{name}.{option}"), given, keys)?;
            }
            _ => drop(defaults.insert(option.clone(), value.clone())),
        }
    }
    Ok(())
}

/// A sentence for an option that none of `declared` is.
pub fn unknown_option(name: &str, option: &str, declared: &[KeyEntry]) -> String {
    let nearest = nearest(declared.iter().map(|key| key.name), option).filter(|(_, similarity)| *similarity > 0.8);
    let hint = nearest.map(|(key, _)| format!(", did you mean '{key}'?"));
    format!("'{option}' is not an option of '{name}'{}", hint.unwrap_or_default())
}

/// A sentence for a name that no component has.
pub fn unknown_name(kind: &str, name: &str, known: &[&str]) -> String {
    let (nearest, _) = nearest(known.iter().copied(), name).unwrap_or_default();
    format!("unknown {kind} '{name}', did you mean '{nearest}'? There are {}", known.join(", "))
}

/// The part of `given` that `C` declares, taken out of it.
pub fn take_declared<C: ConfigValue>(given: &mut Table) -> Table {
    keys::<C>().iter().filter_map(|key| Some((key.name.to_owned(), given.remove(key.name)?))).collect()
}

/// The text that `table` has under `tag`, taken out of it.
///
/// # Errors
/// The table has no text under `tag`.
pub fn take_name(tag: &str, table: &mut Table) -> Result<String, String> {
    match table.remove(tag) {
        Some(Value::String(name)) => Ok(name),
        Some(other) => Err(format!("'{tag}' must be a name, not a {}", other.type_str())),
        None => Err(format!("missing '{tag}': each table of the list says by it which one it configures")),
    }
}

/// What a key holds that chooses components: one name, or a list of tables.
pub enum NameOrTables {
    /// The name of one component, which has its defaults.
    Name(String),
    /// A table for each component.
    Tables(Vec<Table>),
}

// Written out, since serde's untagged enums answer every mistake with the same empty message.
impl<'de> Deserialize<'de> for NameOrTables {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let refused = |expected: &str, found: &Value| {
            serde::de::Error::custom(format!("expected {expected}, found {}", found.type_str()))
        };
        let table = |value| match value {
            Value::Table(table) => Ok(table),
            other => Err(refused("a table", &other)),
        };
        match Value::deserialize(deserializer)? {
            Value::String(name) => Ok(Self::Name(name)),
            Value::Array(values) => values.into_iter().map(table).collect::<Result<_, _>>().map(Self::Tables),
            other => Err(refused("a name or a list of tables", &other)),
        }
    }
}

/// Writes a component's table as it was given: its name under `tag`, then the options.
///
/// # Errors
/// Those of the serializer.
pub fn serialize_table<'a, S: Serializer>(
    serializer: S,
    (tag, name): (&str, &str),
    options: impl Iterator<Item = (&'a String, &'a Value)>,
) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(None)?;
    map.serialize_entry(tag, name)?;
    for (option, value) in options {
        map.serialize_entry(option, value)?;
    }
    map.end()
}

/// The JSON Schema of a component's table: its name under `tag`, and its options.
pub fn table_schema(tag: &str, (name, summary): (&str, &str), options: &[KeyEntry]) -> Json {
    let mut properties = Map::from_iter([(tag.to_owned(), json!({ "const": name }))]);
    for key in options {
        if let Shape::Value(schema) = &key.shape {
            let mut schema = schema.clone();
            schema.insert("description".to_owned(), json!(key.description.join(" ")));
            properties.insert(key.name.to_owned(), Json::Object(schema));
        }
    }
    json!({
        "type": "object",
        "description": summary,
        "properties": properties,
        "required": [tag],
        "additionalProperties": false,
    })
}

/// The JSON Schema of a key that holds a component's name, or a list of tables that follow `tables`.
pub fn name_or_list_schema(names: &[(&str, &str)], tables: Vec<Json>) -> Json {
    let names: Vec<Json> =
        names.iter().map(|(name, summary)| json!({ "const": name, "description": summary })).collect();
    json!({ "anyOf": [{ "oneOf": names }, { "type": "array", "items": { "anyOf": tables } }] })
}

/// A row of a documentation table for each option of `C`: `owner`, name, default, bounds, and what it means.
pub fn option_rows<C: ConfigValue + Default>(owner: &str) -> Vec<String> {
    let defaults = Table::try_from(C::default()).expect("defaults can be written as TOML");
    let row = |key: KeyEntry| {
        let bound = |name: &str| match &key.shape {
            Shape::Value(schema) => schema.get(name).map(number),
            Shape::Section(_) | Shape::OpenTable => None,
        };
        let bounds = match (bound("minimum"), bound("maximum")) {
            (Some(least), Some(most)) => format!("{least} … {most}"),
            _ => String::new(),
        };
        let default = defaults.get(key.name).map(ToString::to_string).unwrap_or_default();
        format!("| {owner} | `{}` | `{default}` | {bounds} | {} |", key.name, key.description.join(" "))
    };
    keys::<C>().into_iter().map(row).collect()
}

/// Compares the table of options of a documentation page with `rows`; with `UPDATE_GENERATED` set, writes it instead.
#[cfg(test)]
pub fn assert_options_documented(page: &str, rows: &[String]) {
    const BEGIN: &str = "<!-- options: written by UPDATE_GENERATED=1 cargo test --lib options_are_documented -->\n";
    const END: &str = "<!-- end of options -->";
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
    let text = std::fs::read_to_string(&path).expect("the page is there");
    let (before, rest) = text.split_once(BEGIN).expect("the page marks where the table of options begins");
    let (_, after) = rest.split_once(END).expect("the page marks where the table of options ends");
    let head = "| of | option | default | bounds | |\n| --- | --- | --- | --- | --- |";
    let expected = format!("{before}{BEGIN}{head}\n{}\n{END}{after}", rows.join("\n"));
    super::generated::assert_generated(page, &expected, "cargo test --lib options_are_documented");
}

fn number(bound: &Json) -> String {
    match bound.as_f64().filter(|_| bound.is_f64()) {
        Some(bound) if bound.abs() >= 1e6 || bound != 0.0 && bound.abs() < 1e-3 => format!("{bound:e}"),
        Some(bound) => bound.to_string(),
        None => bound.to_string(),
    }
}
