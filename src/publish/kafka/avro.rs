//! Records in Avro, in the frame of schema registries: a 0, the number of the schema (four bytes, the highest first), the record.
//!
//! The schemas are those of `schemas/published_*.avsc`; they are registered under `TOPIC-value`, where Kafka Connect and
//! the usual deserializers look for them.

use crate::publish::{ItemRow, UserQuery, Version};
use crate::registry::{RegistrationError, RegistryConfig, SchemaId, register_avro};

/// The schema of a row, field by field as [`item`] writes it.
pub(super) const ITEM: &str = include_str!("../../../schemas/published_item.avsc");
/// The schema of a log-frequency of its own, as [`popularity`] writes it.
pub(super) const POPULARITY: &str = include_str!("../../../schemas/published_popularity.avsc");
/// The schema of a user's query, as [`query`] writes it.
pub(super) const USER: &str = include_str!("../../../schemas/published_user.avsc");

/// Bytes before a record.
const FRAME: usize = 5;

/// The numbers that the registry gave the schemas.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct SchemaIds {
    item: SchemaId,
    popularity: SchemaId,
    user: SchemaId,
}

impl SchemaIds {
    /// Registers the schemas of these topics, or finds their numbers.
    pub(super) fn register(
        registry: &RegistryConfig,
        (items, popularity): (&str, &str),
        users: Option<&str>,
    ) -> Result<Self, RegistrationError> {
        let register = |topic: &str, schema| register_avro(registry, &format!("{topic}-value"), schema);
        Ok(Self {
            item: register(items, ITEM)?,
            popularity: register(popularity, POPULARITY)?,
            user: users.map_or(Ok(0), |topic| register(topic, USER))?,
        })
    }
}

/// A row.
pub(super) fn item(ids: SchemaIds, row: &ItemRow<'_>, model_id: &str, version: Version) -> Vec<u8> {
    let ItemRow { item_id, embedding, log_frequency } = *row;
    let mut bytes = framed(ids.item, 4 * embedding.len() + item_id.len());
    put_text(&mut bytes, item_id);
    put_numbers(&mut bytes, embedding);
    bytes.extend(log_frequency.to_le_bytes());
    put_origin(&mut bytes, model_id, version);
    bytes
}

/// A log-frequency of its own.
pub(super) fn popularity(
    ids: SchemaIds,
    item_id: &str,
    log_frequency: f32,
    model_id: &str,
    version: Version,
) -> Vec<u8> {
    let mut bytes = framed(ids.popularity, item_id.len());
    put_text(&mut bytes, item_id);
    bytes.extend(log_frequency.to_le_bytes());
    put_origin(&mut bytes, model_id, version);
    bytes
}

/// The query of a user.
pub(super) fn query(ids: SchemaIds, query: &UserQuery<'_>, model_id: &str, version: Version) -> Vec<u8> {
    let UserQuery { user_id, vector, beta_tau } = *query;
    let mut bytes = framed(ids.user, 4 * vector.len() + user_id.len());
    put_text(&mut bytes, user_id);
    put_numbers(&mut bytes, vector);
    bytes.extend(beta_tau.to_le_bytes());
    put_origin(&mut bytes, model_id, version);
    bytes
}

/// The embedding of a row's record; `None` where it is none of [`item`]'s.
pub(super) fn embedding(value: &[u8]) -> Option<Vec<f32>> {
    let mut rest = opened(value)?;
    take_text(&mut rest)?;
    let count = usize::try_from(take_long(&mut rest)?).ok()?;
    let (numbers, _) = take(&mut rest, count.checked_mul(4)?)?.as_chunks::<4>();
    let is_whole = count == 0 || take_long(&mut rest)? == 0;
    take(&mut rest, 4)?;
    take_origin(&mut rest)?;
    (is_whole && rest.is_empty()).then(|| numbers.iter().map(|number| f32::from_le_bytes(*number)).collect())
}

/// The log-frequency of a record of popularity; `None` where it is none of [`popularity`]'s.
pub(super) fn log_frequency(value: &[u8]) -> Option<f32> {
    let mut rest = opened(value)?;
    take_text(&mut rest)?;
    let number = *take(&mut rest, 4)?.first_chunk::<4>()?;
    take_origin(&mut rest)?;
    rest.is_empty().then(|| f32::from_le_bytes(number))
}

fn framed(id: SchemaId, room: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(FRAME + room + 64);
    bytes.push(0);
    bytes.extend(id.to_be_bytes());
    bytes
}

fn put_long(bytes: &mut Vec<u8>, number: i64) {
    let mut rest = ((number << 1) ^ (number >> 63)).cast_unsigned();
    while rest >= 0x80 {
        bytes.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    put_long(bytes, text.len() as i64);
    bytes.extend(text.as_bytes());
}

/// An array is blocks with their lengths; an empty one ends it.
fn put_numbers(bytes: &mut Vec<u8>, numbers: &[f32]) {
    if !numbers.is_empty() {
        put_long(bytes, numbers.len() as i64);
        bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    }
    put_long(bytes, 0);
}

fn put_origin(bytes: &mut Vec<u8>, model_id: &str, Version { epoch, step }: Version) {
    put_text(bytes, model_id);
    put_long(bytes, epoch.cast_signed());
    put_long(bytes, step.cast_signed());
}

/// What is in the frame.
fn opened(value: &[u8]) -> Option<&[u8]> {
    value.strip_prefix(&[0])?.get(FRAME - 1..)
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(count)?;
    *rest = left;
    Some(taken)
}

fn take_long(rest: &mut &[u8]) -> Option<i64> {
    let mut number = 0_u64;
    for place in 0..10 {
        let byte = *take(rest, 1)?.first()?;
        number |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Some((number >> 1).cast_signed() ^ -((number & 1).cast_signed()));
        }
    }
    None
}

fn take_text<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let length = usize::try_from(take_long(rest)?).ok()?;
    std::str::from_utf8(take(rest, length)?).ok()
}

fn take_origin(rest: &mut &[u8]) -> Option<()> {
    take_text(rest)?;
    take_long(rest)?;
    take_long(rest).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDS: SchemaIds = SchemaIds { item: 0x0102_0304, popularity: 7, user: 8 };

    #[test]
    fn records_are_the_bytes_that_the_specification_has() {
        let row = ItemRow { item_id: "ab", embedding: &[1.0, -0.5], log_frequency: -2.0 };
        let bytes = item(IDS, &row, "m", Version { epoch: 1, step: 300 });
        let mut expected = vec![0, 1, 2, 3, 4, 4, b'a', b'b', 4];
        expected.extend([1.0_f32, -0.5].iter().flat_map(|number| number.to_le_bytes()));
        expected.push(0);
        expected.extend((-2.0_f32).to_le_bytes());
        expected.extend([2, b'm', 2, 0xd8, 0x04]);
        assert_eq!(bytes, expected);
        assert_eq!(embedding(&bytes), Some(vec![1.0, -0.5]));
        let user = UserQuery { user_id: "", vector: &[], beta_tau: 0.25 };
        let bytes = query(IDS, &user, "", Version::default());
        assert_eq!(bytes, [&[0, 0, 0, 0, 8, 0, 0][..], &0.25_f32.to_le_bytes(), &[0, 0, 0]].concat());
    }

    #[test]
    fn damaged_records_are_none() {
        let row = ItemRow { item_id: "ab", embedding: &[1.0, -0.5], log_frequency: -2.0 };
        let whole = item(IDS, &row, "model", Version { epoch: u64::MAX >> 1, step: 1 << 40 });
        assert!((0..whole.len()).all(|length| embedding(&whole[..length]).is_none()));
        assert!(embedding(&[&whole[..], &[0]].concat()).is_none() && embedding(&[1; 40]).is_none());
        let announced = [&[0, 0, 0, 0, 1, 0][..], &[0xff; 8], &[0x7f]].concat();
        assert_eq!(embedding(&announced), None);
        let whole = popularity(IDS, "ß", -7.5, "model", Version { epoch: 1, step: 2 });
        assert_eq!(log_frequency(&whole), Some(-7.5));
        assert!((0..whole.len()).all(|length| log_frequency(&whole[..length]).is_none()));
    }

    #[test]
    fn schemas_name_the_fields_that_are_written() {
        for (schema, fields) in [
            (ITEM, &["item_id", "embedding", "log_frequency", "model_id", "epoch", "step"][..]),
            (POPULARITY, &["item_id", "log_frequency", "model_id", "epoch", "step"]),
            (USER, &["user_id", "query", "beta_tau", "model_id", "epoch", "step"]),
        ] {
            let schema: serde_json::Value = serde_json::from_str(schema).unwrap();
            let named = schema["fields"].as_array().unwrap().iter().map(|field| field["name"].as_str().unwrap());
            assert!(named.eq(fields.iter().copied()), "{schema}");
        }
    }
}
