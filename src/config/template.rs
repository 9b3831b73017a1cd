//! The template of a configuration file: every key with its documentation and default, as `config/default.toml` holds it.

use toml::{Table, Value};

use super::Config;
use crate::util::config_section::{KeyEntry, Shape};

const HEAD: &str = "\
# negstream: every key there is, with its default. Copy what you change; the rest may be left out.
# `--set KEY=VALUE` overrides one key, and so does an environment variable (NEGSTREAM__TRAIN__BATCH=512).
# Written by `negstream config default` from the declarations in the source code; a test compares the two.
";

/// The default configuration as commented TOML.
pub fn template() -> String {
    let mut text = HEAD.to_owned();
    text.push('\n');
    section(&mut text, &Config::keys(), &defaults(), "");
    text
}

/// The default configuration as a table.
pub(super) fn defaults() -> Table {
    Table::try_from(Config::default()).expect("the default configuration is a TOML table")
}

/// Appends the keys of the section `name` (empty: the root), then the sections below it, each under its own header.
fn section(text: &mut String, keys: &[KeyEntry], values: &Table, name: &str) {
    for key in keys.iter().filter(|key| matches!(key.shape, Shape::Value(_))) {
        comment(text, key);
        *text += &format!("{} = {}\n", key.name, values[key.name]);
    }
    for key in keys {
        let full = if name.is_empty() { key.name.to_owned() } else { format!("{name}.{}", key.name) };
        match (&key.shape, &values[key.name]) {
            (Shape::Section(inner), Value::Table(values)) => {
                text.push('\n');
                comment(text, key);
                // A table of tables alone needs no header.
                if inner.iter().any(|key| matches!(key.shape, Shape::Value(_))) {
                    *text += &format!("[{full}]\n");
                }
                section(text, inner, values, &full);
            }
            (Shape::OpenTable, _) => {
                text.push('\n');
                comment(text, key);
                *text += &format!("[{full}]\n");
            }
            _ => {}
        }
    }
}

fn comment(text: &mut String, key: &KeyEntry) {
    for line in &key.description {
        *text += &format!("# {line}\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::schema;
    use crate::util::generated::assert_generated;

    const COMMAND: &str = "cargo test --lib config";

    #[test]
    fn default_toml_is_generated_from_the_declarations() {
        assert_generated("config/default.toml", &template(), COMMAND);
    }

    #[test]
    fn config_schema_is_generated_from_the_declarations() {
        assert_generated("schemas/config.schema.json", &schema::to_text(), COMMAND);
    }

    #[test]
    fn template_parses_as_the_default_configuration() {
        assert_eq!(template().parse::<Table>().unwrap(), defaults());
    }
}
