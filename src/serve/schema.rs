//! What bodies hold, declared once: the type that is read or written, and its JSON Schema.

use compact_str::CompactString;
use serde_json::{Map, Value, json};

/// A type that stands in a body.
pub(super) trait ApiSchema {
    /// Whether it may be left out of a request.
    const OPTIONAL: bool = false;

    /// Its JSON Schema; what has a name of its own is added to `components`.
    fn schema(components: &mut Map<String, Value>) -> Value;
}

macro_rules! plain_schemas {
    ($($type:ty: $schema:tt;)*) => {
        $(impl ApiSchema for $type {
            fn schema(_: &mut Map<String, Value>) -> Value {
                json!($schema)
            }
        })*
    };
}

plain_schemas! {
    String: {"type": "string"};
    CompactString: {"type": "string"};
    &str: {"type": "string"};
    bool: {"type": "boolean"};
    f32: {"type": ["number", "null"]};
    i64: {"type": "integer"};
    u64: {"type": "integer", "minimum": 0};
    usize: {"type": "integer", "minimum": 0};
    Value: {};
}

impl<T: ApiSchema> ApiSchema for Option<T> {
    const OPTIONAL: bool = true;

    fn schema(components: &mut Map<String, Value>) -> Value {
        let mut schema = T::schema(components);
        if let Some(Value::String(kind)) = schema.get("type").cloned() {
            schema["type"] = json!([kind, "null"]);
        } else if schema.get("$ref").is_some() {
            schema = json!({ "anyOf": [schema, { "type": "null" }] });
        }
        schema
    }
}

impl<T: ApiSchema> ApiSchema for Vec<T> {
    fn schema(components: &mut Map<String, Value>) -> Value {
        json!({ "type": "array", "items": T::schema(components) })
    }
}

/// Declares an object of a body, with serde's and its schema's side of it.
macro_rules! api_object {
    (
        $(#[doc = $about:literal])*
        $(#[derive($derive:ident)])?
        pub(super) struct $Name:ident $(<$lifetime:lifetime>)? {
            $($(#[doc = $doc:literal])* $field:ident: $type:ty,)*
        }
    ) => {
        $(#[doc = $about])*
        #[derive(Debug, Clone, PartialEq, serde::Serialize)]
        $(#[derive($derive)] #[serde(deny_unknown_fields)])?
        pub(super) struct $Name $(<$lifetime>)? {
            $($(#[doc = $doc])* pub(super) $field: $type,)*
        }

        impl $(<$lifetime>)? $crate::serve::schema::ApiSchema for $Name $(<$lifetime>)? {
            fn schema(components: &mut serde_json::Map<String, serde_json::Value>) -> serde_json::Value {
                use $crate::serve::schema::ApiSchema;
                let name = stringify!($Name);
                if !components.contains_key(name) {
                    // Before its fields, so that they may name it.
                    components.insert(name.to_owned(), serde_json::Value::Null);
                    let (mut properties, mut required) = (serde_json::Map::new(), Vec::new());
                    $(
                        let mut property = <$type as ApiSchema>::schema(components);
                        if property.get("$ref").is_none() {
                            property["description"] = [$($doc.trim()),*].join(" ").into();
                        }
                        properties.insert(stringify!($field).to_owned(), property);
                        if !<$type as ApiSchema>::OPTIONAL {
                            required.push(stringify!($field));
                        }
                    )*
                    let about = [$($about.trim()),*].join(" ");
                    let mut object = serde_json::json!({ "type": "object", "description": about, "properties": properties });
                    if !required.is_empty() {
                        object["required"] = required.into();
                    }
                    components.insert(name.to_owned(), object);
                }
                serde_json::json!({ "$ref": format!("#/components/schemas/{name}") })
            }
        }
    };
}

pub(super) use api_object;
