//! The JSON Schema of a configuration file, as `schemas/config.schema.json` holds it: for editors that complete and check.

use serde_json::{Map, Value as Json, json};

use super::{Config, template};
use crate::util::config_section::{KeyEntry, Shape};

/// The JSON Schema of the configuration. Every key may be left out, and no other key may be there.
pub fn schema() -> Json {
    let defaults = serde_json::to_value(template::defaults()).expect("the default configuration is JSON");
    let mut schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "negstream's configuration",
    });
    let whole = section(&Config::keys(), &defaults);
    if let Some(schema) = schema.as_object_mut() {
        schema.extend(whole);
    }
    schema
}

/// The JSON Schema as the text of a file.
pub fn to_text() -> String {
    format!("{:#}\n", schema())
}

fn section(keys: &[KeyEntry], defaults: &Json) -> Map<String, Json> {
    let properties = keys.iter().map(|key| {
        let mut schema = Map::new();
        schema.insert("description".to_owned(), Json::from(key.description.join(" ")));
        match &key.shape {
            Shape::Value(value) => {
                schema.extend(value.clone());
                schema.insert("default".to_owned(), defaults[key.name].clone());
            }
            Shape::Section(inner) => schema.extend(section(inner, &defaults[key.name])),
            Shape::OpenTable => {
                schema.insert("type".to_owned(), json!("object"));
                schema.insert("additionalProperties".to_owned(), json!({ "type": "string" }));
            }
        }
        (key.name.to_owned(), Json::Object(schema))
    });
    let properties: Map<String, Json> = properties.collect();
    let mut schema = Map::new();
    schema.insert("type".to_owned(), json!("object"));
    schema.insert("properties".to_owned(), Json::Object(properties));
    schema.insert("additionalProperties".to_owned(), Json::Bool(false));
    schema
}
