//! The key `kafka.topics`: several topics for one worker, each with what is different about its records.
//!
//! A topic's table holds its name and any keys of the section `source`; what it does not say is as that section says. So there
//! is one list of what can be said of records, and it means the same in both places.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value as Json, json};
use toml::{Table, Value};

use crate::decode::{Format, SourceConfig};
use crate::util::component::{self, serialize_table, take_name};
use crate::util::config_section::{ConfigValue, KeyEntry, Refusal, Shape, require, value_shape};
use crate::util::nearest::nearest;

/// The key of a topic's table that holds the topic's name.
const NAME: &str = "name";
/// The part of `source` that is the same for all topics: it holds a secret, and one registry knows the schemas of many.
const SHARED: &str = "registry";

/// A topic, one of several that a worker reads: `{ name = "views", event_type = "view", fields.user_id = "uid" }`.
#[derive(Debug, Clone, PartialEq)]
pub struct TopicConfig {
    /// The topic.
    pub name: String,
    /// The keys of `source` that are others for this topic, as they were given.
    given: Table,
}

impl TopicConfig {
    /// A topic whose records are as `source` says.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), given: Table::new() }
    }

    fn read(mut table: Table) -> Result<Self, String> {
        let topic = Self { name: take_name(NAME, &mut table)?, given: table };
        topic.check_keys(&topic.given, &component::keys::<SourceConfig>(), "")?;
        topic.merged(&SourceConfig::default())?;
        Ok(topic)
    }

    /// Checks that `given`, of the section with the `prefix`, has keys of `source` alone that a topic may have for itself.
    fn check_keys(&self, given: &Table, declared: &[KeyEntry], prefix: &str) -> Result<(), String> {
        for (key, value) in given {
            let (full, name) = (format!("{prefix}{key}"), &self.name);
            if full == SHARED {
                return Err(format!("'{SHARED}' of topic '{name}': all topics have one registry, source.registry"));
            }
            match (declared.iter().find(|entry| entry.name == key).map(|entry| &entry.shape), value) {
                (None, _) => {
                    let nearest = nearest(declared.iter().map(|entry| entry.name), key)
                        .filter(|(_, similarity)| *similarity > 0.8)
                        .map(|(nearest, _)| format!(", did you mean '{prefix}{nearest}'?"));
                    return Err(format!("'{full}' is no setting of topic '{name}'{}", nearest.unwrap_or_default()));
                }
                (Some(Shape::Section(inner)), Value::Table(table)) => {
                    self.check_keys(table, inner, &format!("{full}."))?;
                }
                (Some(_), _) => {}
            }
        }
        Ok(())
    }

    /// The section `source` with the topic's own settings over it, unchecked but for their types.
    fn merged(&self, source: &SourceConfig) -> Result<SourceConfig, String> {
        let mut merged = Table::try_from(source).expect("a section can be written as TOML");
        for (key, value) in &self.given {
            match (merged.get_mut(key), value) {
                (Some(Value::Table(inner)), Value::Table(table)) => inner.extend(table.clone()),
                _ => drop(merged.insert(key.clone(), value.clone())),
            }
        }
        merged
            .try_into()
            .map_err(|error: toml::de::Error| format!("of topic '{}': {}", self.name, error.message().trim()))
    }

    /// How the records of the topic are read, where `source` says what it has in common with others.
    ///
    /// # Errors
    /// A setting that is refused, with the topic's name.
    pub fn source(&self, source: &SourceConfig) -> Result<SourceConfig, Refusal> {
        let merged = self.merged(source)?;
        merged.validate().map_err(|Refusal { key, message }| format!("'{key}' of topic '{}' {message}", self.name))?;
        Ok(merged)
    }

    /// The encoding of the topic's records, where it is one of its own.
    pub fn format(&self) -> Option<Format> {
        self.given.get("format").and_then(|format| format.clone().try_into().ok())
    }
}

impl Serialize for TopicConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize_table(serializer, (NAME, &self.name), self.given.iter())
    }
}

impl<'de> Deserialize<'de> for TopicConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::Table(table) => Self::read(table).map_err(serde::de::Error::custom),
            other => {
                let found = other.type_str();
                Err(serde::de::Error::custom(format!("expected a table, {{ name = \"…\", … }}, found {found}")))
            }
        }
    }
}

impl ConfigValue for Vec<TopicConfig> {
    fn shape() -> Shape {
        let name = json!({ "type": "string", "minLength": 1, "description": "The topic." });
        let mut keys = component::keys::<SourceConfig>();
        keys.retain(|key| key.name != SHARED);
        let mut table = table_schema(&keys);
        table["properties"][NAME] = name;
        table["required"] = json!([NAME]);
        value_shape(json!({ "type": "array", "items": table }))
    }

    fn validate(&self) -> Result<(), Refusal> {
        for (place, topic) in self.iter().enumerate() {
            require_one_topic(&topic.name).map_err(|refusal| format!("'{}' {}", topic.name, refusal.message))?;
            let is_twice = self[..place].iter().any(|before| before.name == topic.name);
            require(!is_twice, &format!("'{}' is there twice", topic.name))?;
        }
        Ok(())
    }
}

/// The JSON Schema of a table with these keys, all of which may be left out.
fn table_schema(keys: &[KeyEntry]) -> Json {
    let properties = keys.iter().map(|key| {
        let mut schema = match &key.shape {
            Shape::Value(schema) => Json::Object(schema.clone()),
            Shape::Section(inner) => table_schema(inner),
            Shape::OpenTable => json!({ "type": "object", "additionalProperties": { "type": "string" } }),
        };
        schema["description"] = json!(key.description.join(" "));
        (key.name.to_owned(), schema)
    });
    let properties: Map<String, Json> = properties.collect();
    json!({ "type": "object", "properties": properties, "additionalProperties": false })
}

/// Refuses what is no name of a topic: a list, for one, or a pattern.
pub(crate) fn require_one_topic(topic: &str) -> Result<(), Refusal> {
    let is_name = !topic.is_empty()
        && topic.len() <= 249
        && !matches!(topic, "." | "..")
        && topic.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    require(
        is_name,
        "must be the name of one topic (letters, digits, '.', '_' and '-'), no list and no pattern: several are listed in \
         kafka.topics, each in a table of its own",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(topics: &str) -> Result<Vec<TopicConfig>, String> {
        let table: Table = format!("topics = {topics}").parse().expect("TOML");
        let topics: Vec<TopicConfig> =
            table["topics"].clone().try_into().map_err(|error: toml::de::Error| error.message().trim().to_owned())?;
        topics.validate().map_err(|refusal| refusal.message)?;
        Ok(topics)
    }

    #[test]
    fn topic_says_what_is_different_about_its_records() {
        let topics = read(
            "[{ name = 'views', event_type = 'view' }, { name = 'buys', format = 'avro', fields = { user_id = 'uid' } }]",
        )
        .unwrap();
        let mut shared = SourceConfig { max_id_bytes: 7, ..SourceConfig::default() };
        shared.fields.item_id = "sku".to_owned();
        let views = topics[0].source(&shared).unwrap();
        assert_eq!(views, SourceConfig { event_type: "view".to_owned(), ..shared.clone() });
        let buys = topics[1].source(&shared).unwrap();
        assert_eq!((buys.format, buys.max_id_bytes), (Format::Avro, 7));
        assert_eq!((buys.fields.user_id.as_str(), buys.fields.item_id.as_str()), ("uid", "sku"));
        assert_eq!((topics[0].format(), topics[1].format()), (None, Some(Format::Avro)));
        assert_eq!(TopicConfig::new("plain").source(&shared).unwrap(), shared);
    }

    #[test]
    fn topics_are_written_as_they_were_read() {
        let topics = read("[{ name = 'views', event_type = 'view', fields = { user_id = 'uid' } }, { name = 'buys' }]");
        let json = serde_json::to_value(topics.as_ref().unwrap()).unwrap();
        assert_eq!(serde_json::from_value::<Vec<TopicConfig>>(json).map_err(|error| error.to_string()), topics);
    }

    #[test]
    fn errors_name_setting_and_topic() {
        for (topics, message) in [
            ("[{ event_type = 'view' }]", "missing 'name'"),
            ("['views']", "expected a table"),
            ("[{ name = 'a,b' }]", "'a,b' must be the name of one topic"),
            ("[{ name = '' }]", "must be the name of one topic"),
            ("[{ name = 'a' }, { name = 'a' }]", "'a' is there twice"),
            (
                "[{ name = 'a', evnt_type = 'view' }]",
                "'evnt_type' is no setting of topic 'a', did you mean 'event_type'?",
            ),
            ("[{ name = 'a', fields = { user = 'u' } }]", "'fields.user' is no setting of topic 'a'"),
            ("[{ name = 'a', registry = { password = 'S3CR3T' } }]", "all topics have one registry"),
            ("[{ name = 'a', format = 'xml' }]", "of topic 'a': unknown variant"),
        ] {
            let said = read(topics).expect_err(topics);
            assert!(said.contains(message) && !said.contains("S3CR3T"), "{topics}: {said}");
        }
    }

    #[test]
    fn settings_are_checked_together_with_those_of_all_topics() {
        let topics =
            read("[{ name = 'a', fields = { item_id = 'user_id' } }, { name = 'b', latest_year = 1999 }]").unwrap();
        let shared = SourceConfig { earliest_year: 2000, ..SourceConfig::default() };
        for (topic, message) in topics.iter().zip(["'fields' of topic 'a' every field", "'latest_year' of topic 'b'"]) {
            let said = topic.source(&shared).unwrap_err().message;
            assert!(said.contains(message), "{said}");
        }
    }
}
