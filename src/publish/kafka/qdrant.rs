//! Records as the Kafka connector of Qdrant takes them: a point each, for the collection that it names.
//!
//! Its converter for values is `JsonConverter` without schemas. A point's identifier is a UUID, since Qdrant takes no texts: version 8 of
//! RFC 9562, of the first 16 bytes of the SHA-256 of the item's identifier, which lies in the payload.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::publish::{ItemRow, Version};

/// A point, with the names of the connector.
#[derive(Serialize)]
struct PointRecord<'a> {
    collection_name: &'a str,
    id: String,
    vector: &'a [f32],
    payload: PointPayload<'a>,
}

#[derive(Serialize)]
struct PointPayload<'a> {
    item_id: &'a str,
    log_frequency: f32,
    model_id: &'a str,
    epoch: u64,
    step: u64,
}

#[derive(Deserialize)]
struct PointVector {
    vector: Vec<f32>,
}

/// A row as a point of `collection`.
pub(super) fn point(collection: &str, row: &ItemRow<'_>, model_id: &str, version: Version) -> Vec<u8> {
    let ItemRow { item_id, embedding, log_frequency } = *row;
    let Version { epoch, step } = version;
    let payload = PointPayload { item_id, log_frequency, model_id, epoch, step };
    let record = PointRecord { collection_name: collection, id: point_id(item_id), vector: embedding, payload };
    serde_json::to_vec(&record).unwrap_or_default()
}

/// The embedding of a point; `None` where it is none of [`point`]'s.
pub(super) fn embedding(value: &[u8]) -> Option<Vec<f32>> {
    serde_json::from_slice::<PointVector>(value).ok().map(|point| point.vector)
}

/// The identifier of an item's point.
fn point_id(item_id: &str) -> String {
    let digest = Sha256::digest(item_id.as_bytes());
    let mut id = String::with_capacity(36);
    for (place, byte) in digest.iter().take(16).enumerate() {
        let byte = match place {
            6 => byte & 0x0f | 0x80,
            8 => byte & 0x3f | 0x80,
            _ => *byte,
        };
        if [4, 6, 8, 10].contains(&place) {
            id.push('-');
        }
        id.push_str(&format!("{byte:02x}"));
    }
    id
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// What the connector does with a record's value (its ValueExtractor, ValueMapFactory and VectorsFactory, version 1.2.2): the point, or
    /// why it has none.
    fn taken_by_connector(value: &Value) -> Result<(String, String, Vec<f64>, Value), String> {
        let object = value.as_object().ok_or("no object")?;
        for field in ["collection_name", "id", "vector"] {
            if object.get(field).is_none_or(Value::is_null) {
                return Err(format!("'{field}' value is required"));
            }
        }
        let id = match &object["id"] {
            // java.util.UUID.fromString: five groups of hexadecimal digits.
            Value::String(id) => {
                let groups: Vec<&str> = id.split('-').collect();
                let is_hex = id.chars().all(|c| c == '-' || c.is_ascii_hexdigit());
                let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
                if !is_hex || lengths != [8, 4, 4, 4, 12] {
                    return Err("no UUID".to_owned());
                }
                id.clone()
            }
            // It reads numbers as doubles, and takes whole ones for integers.
            Value::Number(id) if id.as_f64().is_some_and(|id| id >= 0.0 && id.fract() == 0.0) => id.to_string(),
            _ => return Err("Point ID must be a UUID string or an integer".to_owned()),
        };
        let numbers = object["vector"].as_array().ok_or("Invalid vector format")?;
        let vector: Option<Vec<f64>> = numbers.iter().map(Value::as_f64).collect();
        let payload = object.get("payload").cloned().unwrap_or_default();
        if !payload.is_object() && !payload.is_null() {
            return Err("Payload must be an object.".to_owned());
        }
        let collection = object["collection_name"].as_str().ok_or("no name")?.to_owned();
        Ok((collection, id, vector.ok_or("Dense vector data must be a list of numbers")?, payload))
    }

    #[test]
    fn points_are_what_the_connector_takes() {
        // The sample in its README, so that the rules above are its own.
        let sample = json!({ "collection_name": "{collection_name}", "id": 1, "vector": [0.1, 0.2], "payload": { "name": "kafka" } });
        assert_eq!(taken_by_connector(&sample).unwrap().1, "1");
        assert!(taken_by_connector(&json!({ "id": "item 7", "collection_name": "c", "vector": [1] })).is_err());

        let row = ItemRow { item_id: "ß \"7\"", embedding: &[1.0, -0.25, 1e-9, 0.0], log_frequency: -3.5 };
        let bytes = point("shop", &row, "model", Version { epoch: 2, step: 1 << 40 });
        let value: Value = serde_json::from_slice(&bytes).unwrap();
        let keys: Vec<&String> = value.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["collection_name", "id", "vector", "payload"]);
        let (collection, id, vector, payload) = taken_by_connector(&value).unwrap();
        assert_eq!((collection.as_str(), id), ("shop", point_id("ß \"7\"")));
        assert!(vector.iter().map(|number| *number as f32).eq(row.embedding.iter().copied()));
        let expected = json!({ "item_id": "ß \"7\"", "log_frequency": -3.5, "model_id": "model", "epoch": 2, "step": 1_u64 << 40 });
        assert_eq!(payload, expected);
        assert_eq!(embedding(&bytes).unwrap(), row.embedding);
    }

    #[test]
    fn identifiers_are_uuids_that_anybody_can_compute() {
        // uuid.UUID(bytes=…) of hashlib.sha256(b"item-7").digest()[:16], with version and variant (docs/publishing.md).
        assert_eq!(point_id("item-7"), "de549e25-f961-8951-a5c8-76dfdcac07ed");
    }
}
