//! How a row lies in a record: the encodings of its value, and its headers.
//!
//! | encoding | the value | bytes |
//! | --- | --- | --- |
//! | `f32` | d numbers, little-endian | 4·d |
//! | `f16` | d half-precision numbers, little-endian | 2·d |
//! | `int8` | the scale, a little-endian f32, then d signed bytes; a number is its byte times the scale | 4 + d |
//! | `json` | an object: `item_id`, `embedding`, `log_frequency`, `model_id`, `epoch`, `step` | |
//!
//! A user's query is written alike; in JSON, its object has `user_id`, `query`, `beta_tau`, `model_id`, `epoch`, `step`.

use arrow_array::ArrowPrimitiveType;
use arrow_array::types::Float16Type;
use rdkafka::message::{Header, Headers as _, OwnedHeaders};
use serde::{Deserialize, Serialize};

use crate::publish::{ItemRow, UserQuery, Version};
use crate::util::config_section::config_choice;

config_choice! {
    /// How embeddings are written.
    pub enum VectorEncoding {
        /// Single-precision numbers.
        F32 = "f32",
        /// HalfNumber-precision numbers.
        F16 = "f16",
        /// Bytes with a scale.
        Int8 = "int8",
        /// An object, with the headers in it.
        Json = "json",
    }
}

type HalfNumber = <Float16Type as ArrowPrimitiveType>::Native;

/// The largest byte of `int8`.
const LARGEST: f32 = 127.0;

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

/// The value of a row's record.
pub(super) fn value(encoding: VectorEncoding, row: &ItemRow<'_>, model_id: &str, version: Version) -> Vec<u8> {
    let ItemRow { item_id, embedding, log_frequency } = *row;
    numbers(encoding, embedding).unwrap_or_else(|| {
        let Version { epoch, step } = version;
        let row = JsonRow { item_id, embedding: Some(embedding), log_frequency, model_id, epoch, step };
        serde_json::to_vec(&row).unwrap_or_default()
    })
}

/// The value of the record of a query.
pub(super) fn query(encoding: VectorEncoding, query: &UserQuery<'_>, model_id: &str, version: Version) -> Vec<u8> {
    let UserQuery { user_id, vector, beta_tau } = *query;
    numbers(encoding, vector).unwrap_or_else(|| {
        let Version { epoch, step } = version;
        serde_json::to_vec(&JsonQuery { user_id, query: vector, beta_tau, model_id, epoch, step }).unwrap_or_default()
    })
}

/// A vector as it lies in a record; `None` with `json`, where it is part of an object.
fn numbers(encoding: VectorEncoding, embedding: &[f32]) -> Option<Vec<u8>> {
    Some(match encoding {
        VectorEncoding::F32 => embedding.iter().flat_map(|number| number.to_le_bytes()).collect(),
        VectorEncoding::F16 => {
            embedding.iter().flat_map(|number| HalfNumber::from_f32(*number).to_bits().to_le_bytes()).collect()
        }
        VectorEncoding::Int8 => {
            let scale = scale(embedding);
            let bytes = embedding.iter().map(|number| byte(*number, scale).cast_unsigned());
            scale.to_le_bytes().into_iter().chain(bytes).collect()
        }
        VectorEncoding::Json => return None,
    })
}

/// The embedding of a record's value; `None` where it is none of [`value`]'s.
pub(super) fn embedding(encoding: VectorEncoding, value: &[u8]) -> Option<Vec<f32>> {
    match encoding {
        VectorEncoding::F32 => {
            let (numbers, rest) = value.as_chunks::<4>();
            rest.is_empty().then(|| numbers.iter().map(|number| f32::from_le_bytes(*number)).collect())
        }
        VectorEncoding::F16 => {
            let (numbers, rest) = value.as_chunks::<2>();
            let number = |bytes: &[u8; 2]| HalfNumber::from_bits(u16::from_le_bytes(*bytes)).to_f32();
            rest.is_empty().then(|| numbers.iter().map(number).collect())
        }
        VectorEncoding::Int8 => {
            let (scale, bytes) = value.split_first_chunk::<4>()?;
            let scale = f32::from_le_bytes(*scale);
            Some(bytes.iter().map(|byte| f32::from(byte.cast_signed()) * scale).collect())
        }
        VectorEncoding::Json => serde_json::from_slice::<JsonVector>(value).ok().map(|row| row.embedding),
    }
}

/// Rounds an embedding as the encoding does.
pub(super) fn round(encoding: VectorEncoding, embedding: &mut [f32]) {
    match encoding {
        VectorEncoding::F32 | VectorEncoding::Json => {}
        VectorEncoding::F16 => {
            embedding.iter_mut().for_each(|number| *number = HalfNumber::from_f32(*number).to_f32());
        }
        VectorEncoding::Int8 => {
            let scale = scale(embedding);
            embedding.iter_mut().for_each(|number| *number = f32::from(byte(*number, scale)) * scale);
        }
    }
}

fn scale(embedding: &[f32]) -> f32 {
    embedding.iter().fold(0.0_f32, |most, number| most.max(number.abs())) / LARGEST
}

fn byte(number: f32, scale: f32) -> i8 {
    if scale > 0.0 { (number / scale).round().clamp(-LARGEST, LARGEST) as i8 } else { 0 }
}

/// The value of a record of popularity: an object with `json`, else a little-endian f32.
pub(super) fn popularity(
    encoding: VectorEncoding,
    item_id: &str,
    log_frequency: f32,
    model_id: &str,
    Version { epoch, step }: Version,
) -> Vec<u8> {
    match encoding {
        VectorEncoding::Json => {
            let row = JsonRow { item_id, embedding: None, log_frequency, model_id, epoch, step };
            serde_json::to_vec(&row).unwrap_or_default()
        }
        VectorEncoding::F32 | VectorEncoding::F16 | VectorEncoding::Int8 => log_frequency.to_le_bytes().to_vec(),
    }
}

/// The way back of [`popularity`].
pub(super) fn log_frequency(encoding: VectorEncoding, value: &[u8]) -> Option<f32> {
    match encoding {
        VectorEncoding::Json => serde_json::from_slice::<JsonFrequency>(value).ok().map(|row| row.log_frequency),
        VectorEncoding::F32 | VectorEncoding::F16 | VectorEncoding::Int8 => {
            value.try_into().ok().map(f32::from_le_bytes)
        }
    }
}

/// The headers of a row's record, as text.
pub(super) fn headers(model_id: &str, version: Version, log_frequency: Option<f32>) -> OwnedHeaders {
    headers_with(model_id, version, log_frequency.map(|log_frequency| ("log_frequency", log_frequency)))
}

/// The headers of a query's record.
pub(super) fn query_headers(model_id: &str, version: Version, beta_tau: f32) -> OwnedHeaders {
    headers_with(model_id, version, Some(("beta_tau", beta_tau)))
}

fn headers_with(model_id: &str, version: Version, number: Option<(&str, f32)>) -> OwnedHeaders {
    let (epoch, step) = (version.epoch.to_string(), version.step.to_string());
    let number = number.map(|(key, number)| (key, number.to_string()));
    let mut headers = OwnedHeaders::new_with_capacity(4)
        .insert(Header { key: "model_id", value: Some(model_id) })
        .insert(Header { key: "epoch", value: Some(&epoch) })
        .insert(Header { key: "step", value: Some(&step) });
    if let Some((key, number)) = &number {
        headers = headers.insert(Header { key, value: Some(number) });
    }
    headers
}

/// What the headers of a record say: its version, and the log-frequency where there is one; `None` where they are none of
/// [`headers`]'s.
pub(super) fn read_headers(record: &impl rdkafka::Message) -> Option<(Version, Option<f32>)> {
    let (mut epoch, mut step, mut log_frequency) = (None, None, None);
    for header in record.headers()?.iter() {
        let text = std::str::from_utf8(header.value.unwrap_or_default()).ok()?;
        match header.key {
            "epoch" => epoch = text.parse().ok(),
            "step" => step = text.parse().ok(),
            "log_frequency" => log_frequency = text.parse().ok(),
            _ => {}
        }
    }
    Some((Version { epoch: epoch?, step: step? }, log_frequency))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENCODINGS: [VectorEncoding; 4] =
        [VectorEncoding::F32, VectorEncoding::F16, VectorEncoding::Int8, VectorEncoding::Json];

    #[test]
    fn what_is_read_back_is_what_round_says() {
        let rows: [&[f32]; 4] =
            [&[0.1, -0.25, 1.0, -0.999], &[0.0; 4], &[3e-9, -1e-9, 0.0, 2e-9], &[1e4, -3.0, 0.5, 7.0]];
        for encoding in ENCODINGS {
            for row in rows {
                let mut rounded = row.to_vec();
                round(encoding, &mut rounded);
                let item = ItemRow { item_id: "a\"b", embedding: row, log_frequency: -3.25 };
                let value = value(encoding, &item, "model", Version { epoch: 1, step: 2 });
                assert_eq!(embedding(encoding, &value).unwrap(), rounded, "{encoding:?}");
                let (most, largest) = (row.iter().fold(0.0_f32, |most, x| most.max(x.abs())), 1e-3);
                if matches!(encoding, VectorEncoding::F32 | VectorEncoding::Json) || most > largest {
                    let error = row.iter().zip(&rounded).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max);
                    assert!(error <= most / 254.0 * 1.001, "{encoding:?}: {error}");
                }
            }
            let value = popularity(encoding, "a", -7.125, "model", Version::default());
            assert_eq!(log_frequency(encoding, &value), Some(-7.125), "{encoding:?}");
        }
        assert_eq!((embedding(VectorEncoding::F32, &[1]), embedding(VectorEncoding::F16, &[1])), (None, None));
        assert_eq!((embedding(VectorEncoding::Int8, &[1]), embedding(VectorEncoding::Json, b"{}")), (None, None));
    }

    #[test]
    fn sizes_are_as_documented() {
        let row = ItemRow { item_id: "a", embedding: &[0.5; 64], log_frequency: 0.0 };
        let sizes = ENCODINGS.map(|encoding| value(encoding, &row, "m", Version::default()).len());
        assert_eq!(sizes[..3], [256, 128, 68]);
    }
}
