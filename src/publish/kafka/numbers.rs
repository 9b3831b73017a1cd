//! Vectors as bytes: the encodings `f32`, `f16` and `int8` of a record's value.

use super::VectorEncoding;
use crate::publish::precision::{VectorPrecision, byte_scale, half_bits, half_number, scaled_byte};

/// A vector as it lies in a record; `None` with an encoding in which it is part of an object.
pub(super) fn encode(encoding: VectorEncoding, vector: &[f32]) -> Option<Vec<u8>> {
    Some(match encoding {
        VectorEncoding::F32 => vector.iter().flat_map(|number| number.to_le_bytes()).collect(),
        VectorEncoding::F16 => vector.iter().flat_map(|number| half_bits(*number).to_le_bytes()).collect(),
        VectorEncoding::Int8 => {
            let scale = byte_scale(vector);
            let bytes = vector.iter().map(|number| scaled_byte(*number, scale).cast_unsigned());
            scale.to_le_bytes().into_iter().chain(bytes).collect()
        }
        VectorEncoding::Json | VectorEncoding::Avro | VectorEncoding::Qdrant => return None,
    })
}

/// The way back of [`encode`]; `None` where the bytes are none of its own.
pub(super) fn decode(encoding: VectorEncoding, value: &[u8]) -> Option<Vec<f32>> {
    match encoding {
        VectorEncoding::F32 => {
            let (numbers, rest) = value.as_chunks::<4>();
            rest.is_empty().then(|| numbers.iter().map(|number| f32::from_le_bytes(*number)).collect())
        }
        VectorEncoding::F16 => {
            let (numbers, rest) = value.as_chunks::<2>();
            rest.is_empty().then(|| numbers.iter().map(|bits| half_number(u16::from_le_bytes(*bits))).collect())
        }
        VectorEncoding::Int8 => {
            let (scale, bytes) = value.split_first_chunk::<4>()?;
            let scale = f32::from_le_bytes(*scale);
            Some(bytes.iter().map(|byte| f32::from(byte.cast_signed()) * scale).collect())
        }
        VectorEncoding::Json | VectorEncoding::Avro | VectorEncoding::Qdrant => None,
    }
}

/// What an encoding leaves of a vector.
pub(super) fn precision(encoding: VectorEncoding) -> VectorPrecision {
    match encoding {
        VectorEncoding::F32 | VectorEncoding::Json | VectorEncoding::Avro | VectorEncoding::Qdrant => {
            VectorPrecision::Single
        }
        VectorEncoding::F16 => VectorPrecision::Half,
        VectorEncoding::Int8 => VectorPrecision::Bytes,
    }
}
