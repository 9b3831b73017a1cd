//! How a row lies in a record's value, by encoding.
//!
//! | encoding | the value | bytes |
//! | --- | --- | --- |
//! | `f32` | d numbers, little-endian | 4·d |
//! | `f16` | d half-precision numbers, little-endian | 2·d |
//! | `int8` | the scale, a little-endian f32, then d signed bytes; a number is its byte times the scale | 4 + d |
//! | `json` | an object: `item_id`, `embedding`, `log_frequency`, `model_id`, `epoch`, `step` | |
//! | `qdrant` | an object: a point for the Kafka connector of Qdrant | |
//! | `avro` | the same fields, by `schemas/published_item.avsc`, in the frame of schema registries | |
//!
//! A user's query is written alike; as an object, it has `user_id`, `query`, `beta_tau`, `model_id`, `epoch`, `step`.

use serde::{Deserialize, Serialize};

use super::avro::{self, SchemaIds};
use super::{numbers, qdrant};
use crate::publish::{ItemRow, UserQuery, VectorPrecision, Version};
use crate::util::config_section::config_choice;

config_choice! {
    /// How embeddings are written.
    pub enum VectorEncoding {
        /// Single-precision numbers.
        F32 = "f32",
        /// Half-precision numbers.
        F16 = "f16",
        /// Bytes with a scale.
        Int8 = "int8",
        /// An object, with the headers in it.
        Json = "json",
        /// A point for the Kafka connector of Qdrant; log-frequencies of their own, and queries, are as with `json`.
        Qdrant = "qdrant",
        /// A record by a schema of the registry, with the headers in it.
        Avro = "avro",
    }
}

/// How the sink writes its records.
#[derive(Debug, Clone)]
pub(super) struct RecordLayout {
    pub(super) encoding: VectorEncoding,
    /// Of `avro` alone.
    pub(super) ids: SchemaIds,
    /// Of `qdrant` alone: the collection that points are for.
    collection: String,
}

/// A row in JSON.
#[derive(Serialize)]
struct JsonRow<'a> {
    item_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    embedding: Option<&'a [f32]>,
    log_frequency: f32,
    model_id: &'a str,
    epoch: u64,
    step: u64,
}

/// A query in JSON.
#[derive(Serialize)]
struct JsonQuery<'a> {
    user_id: &'a str,
    query: &'a [f32],
    beta_tau: f32,
    model_id: &'a str,
    epoch: u64,
    step: u64,
}

#[derive(Deserialize)]
struct JsonVector {
    embedding: Vec<f32>,
}

#[derive(Deserialize)]
struct JsonFrequency {
    log_frequency: f32,
}

impl RecordLayout {
    /// The layout of the topics that begin with `prefix`.
    pub(super) fn new(encoding: VectorEncoding, prefix: &str) -> Self {
        Self { encoding, ids: SchemaIds::default(), collection: prefix.to_owned() }
    }

    /// The value of a row's record.
    pub(super) fn value(&self, row: &ItemRow<'_>, model_id: &str, version: Version) -> Vec<u8> {
        match self.encoding {
            VectorEncoding::Avro => return avro::item(self.ids, row, model_id, version),
            VectorEncoding::Qdrant => return qdrant::point(&self.collection, row, model_id, version),
            _ => {}
        }
        let ItemRow { item_id, embedding, log_frequency } = *row;
        numbers::encode(self.encoding, embedding).unwrap_or_else(|| {
            let Version { epoch, step } = version;
            let row = JsonRow { item_id, embedding: Some(embedding), log_frequency, model_id, epoch, step };
            serde_json::to_vec(&row).unwrap_or_default()
        })
    }

    /// The value of the record of a query.
    pub(super) fn query(&self, query: &UserQuery<'_>, model_id: &str, version: Version) -> Vec<u8> {
        if self.encoding == VectorEncoding::Avro {
            return avro::query(self.ids, query, model_id, version);
        }
        let UserQuery { user_id, vector, beta_tau } = *query;
        numbers::encode(self.encoding, vector).unwrap_or_else(|| {
            let Version { epoch, step } = version;
            serde_json::to_vec(&JsonQuery { user_id, query: vector, beta_tau, model_id, epoch, step })
                .unwrap_or_default()
        })
    }

    /// The value of a record of popularity: with the numeric encodings a little-endian f32.
    pub(super) fn popularity(&self, item_id: &str, log_frequency: f32, model_id: &str, version: Version) -> Vec<u8> {
        match self.encoding {
            VectorEncoding::Json | VectorEncoding::Qdrant => {
                let Version { epoch, step } = version;
                let row = JsonRow { item_id, embedding: None, log_frequency, model_id, epoch, step };
                serde_json::to_vec(&row).unwrap_or_default()
            }
            VectorEncoding::Avro => avro::popularity(self.ids, item_id, log_frequency, model_id, version),
            VectorEncoding::F32 | VectorEncoding::F16 | VectorEncoding::Int8 => log_frequency.to_le_bytes().to_vec(),
        }
    }

    /// The embedding of a record's value; `None` where it is none of [`value`](Self::value)'s.
    pub(super) fn embedding(&self, value: &[u8]) -> Option<Vec<f32>> {
        match self.encoding {
            VectorEncoding::Json => serde_json::from_slice::<JsonVector>(value).ok().map(|row| row.embedding),
            VectorEncoding::Avro => avro::embedding(value),
            VectorEncoding::Qdrant => qdrant::embedding(value),
            VectorEncoding::F32 | VectorEncoding::F16 | VectorEncoding::Int8 => numbers::decode(self.encoding, value),
        }
    }

    /// The way back of [`popularity`](Self::popularity).
    pub(super) fn log_frequency(&self, value: &[u8]) -> Option<f32> {
        match self.encoding {
            VectorEncoding::Json | VectorEncoding::Qdrant => {
                serde_json::from_slice::<JsonFrequency>(value).ok().map(|row| row.log_frequency)
            }
            VectorEncoding::Avro => avro::log_frequency(value),
            VectorEncoding::F32 | VectorEncoding::F16 | VectorEncoding::Int8 => {
                value.try_into().ok().map(f32::from_le_bytes)
            }
        }
    }

    /// What the encoding leaves of an embedding.
    pub(super) fn precision(&self) -> VectorPrecision {
        numbers::precision(self.encoding)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENCODINGS: [VectorEncoding; 6] = [
        VectorEncoding::F32,
        VectorEncoding::F16,
        VectorEncoding::Int8,
        VectorEncoding::Json,
        VectorEncoding::Avro,
        VectorEncoding::Qdrant,
    ];

    #[test]
    fn what_is_read_back_is_what_round_says() {
        let rows: [&[f32]; 4] =
            [&[0.1, -0.25, 1.0, -0.999], &[0.0; 4], &[3e-9, -1e-9, 0.0, 2e-9], &[1e4, -3.0, 0.5, 7.0]];
        for encoding in ENCODINGS {
            let layout = RecordLayout::new(encoding, "shop");
            for row in rows {
                let mut rounded = row.to_vec();
                layout.precision().round(&mut rounded);
                let item = ItemRow { item_id: "a\"b", embedding: row, log_frequency: -3.25 };
                let value = layout.value(&item, "model", Version { epoch: 1, step: 2 });
                assert_eq!(layout.embedding(&value).unwrap(), rounded, "{encoding:?}");
                let (most, largest) = (row.iter().fold(0.0_f32, |most, x| most.max(x.abs())), 1e-3);
                if !matches!(encoding, VectorEncoding::F16 | VectorEncoding::Int8) || most > largest {
                    let error = row.iter().zip(&rounded).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max);
                    assert!(error <= most / 254.0 * 1.001, "{encoding:?}: {error}");
                }
            }
            let value = layout.popularity("a", -7.125, "model", Version::default());
            assert_eq!(layout.log_frequency(&value), Some(-7.125), "{encoding:?}");
        }
        for (encoding, value) in ENCODINGS.into_iter().zip([&[1][..], &[1], &[1], b"{}", &[0; 5], b"{}"]) {
            assert_eq!(RecordLayout::new(encoding, "shop").embedding(value), None, "{encoding:?}");
        }
    }

    #[test]
    fn sizes_are_as_documented() {
        let row = ItemRow { item_id: "a", embedding: &[0.5; 64], log_frequency: 0.0 };
        let sizes =
            ENCODINGS.map(|encoding| RecordLayout::new(encoding, "shop").value(&row, "m", Version::default()).len());
        assert_eq!(sizes[..3], [256, 128, 68]);
    }
}
