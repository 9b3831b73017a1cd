//! Vectors as bytes: the encodings `f32`, `f16` and `int8` of a record's value.

use arrow_array::ArrowPrimitiveType;
use arrow_array::types::Float16Type;

use super::VectorEncoding;

type HalfNumber = <Float16Type as ArrowPrimitiveType>::Native;

/// The largest byte of `int8`.
const LARGEST: f32 = 127.0;

/// A vector as it lies in a record; `None` with an encoding in which it is part of an object.
pub(super) fn encode(encoding: VectorEncoding, vector: &[f32]) -> Option<Vec<u8>> {
    Some(match encoding {
        VectorEncoding::F32 => vector.iter().flat_map(|number| number.to_le_bytes()).collect(),
        VectorEncoding::F16 => {
            vector.iter().flat_map(|number| HalfNumber::from_f32(*number).to_bits().to_le_bytes()).collect()
        }
        VectorEncoding::Int8 => {
            let scale = scale(vector);
            let bytes = vector.iter().map(|number| byte(*number, scale).cast_unsigned());
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
            let number = |bytes: &[u8; 2]| HalfNumber::from_bits(u16::from_le_bytes(*bytes)).to_f32();
            rest.is_empty().then(|| numbers.iter().map(number).collect())
        }
        VectorEncoding::Int8 => {
            let (scale, bytes) = value.split_first_chunk::<4>()?;
            let scale = f32::from_le_bytes(*scale);
            Some(bytes.iter().map(|byte| f32::from(byte.cast_signed()) * scale).collect())
        }
        VectorEncoding::Json | VectorEncoding::Avro | VectorEncoding::Qdrant => None,
    }
}

/// Rounds a vector as the encoding does.
pub(super) fn round(encoding: VectorEncoding, vector: &mut [f32]) {
    match encoding {
        VectorEncoding::F32 | VectorEncoding::Json | VectorEncoding::Avro | VectorEncoding::Qdrant => {}
        VectorEncoding::F16 => {
            vector.iter_mut().for_each(|number| *number = HalfNumber::from_f32(*number).to_f32());
        }
        VectorEncoding::Int8 => {
            let scale = scale(vector);
            vector.iter_mut().for_each(|number| *number = f32::from(byte(*number, scale)) * scale);
        }
    }
}

fn scale(vector: &[f32]) -> f32 {
    vector.iter().fold(0.0_f32, |most, number| most.max(number.abs())) / LARGEST
}

fn byte(number: f32, scale: f32) -> i8 {
    if scale > 0.0 { (number / scale).round().clamp(-LARGEST, LARGEST) as i8 } else { 0 }
}
