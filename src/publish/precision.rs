//! In how many bits a sink keeps the numbers of an embedding, and what rounding to them does.

use arrow_array::ArrowPrimitiveType;
use arrow_array::types::Float16Type;

use crate::util::config_section::config_choice;

type HalfNumber = <Float16Type as ArrowPrimitiveType>::Native;

/// The largest byte of [`VectorPrecision::Bytes`].
const LARGEST: f32 = 127.0;

config_choice! {
    /// In which numbers a sink stores embeddings.
    pub enum StoredPrecision {
        /// Single precision.
        F32 = "f32",
        /// Half precision: half the bytes, eleven significant bits.
        F16 = "f16",
    }
}

impl StoredPrecision {
    /// What rounding to it does.
    pub fn precision(self) -> VectorPrecision {
        match self {
            Self::F32 => VectorPrecision::Single,
            Self::F16 => VectorPrecision::Half,
        }
    }
}

/// The precision of the embeddings that readers of a sink see.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum VectorPrecision {
    /// Single precision, as the model has them.
    #[default]
    Single,
    /// Half precision.
    Half,
    /// A byte for each number, and a scale for each embedding.
    Bytes,
}

impl VectorPrecision {
    /// Rounds an embedding to it.
    pub fn round(self, embedding: &mut [f32]) {
        match self {
            Self::Single => {}
            Self::Half => embedding.iter_mut().for_each(|number| *number = half_number(half_bits(*number))),
            Self::Bytes => {
                let scale = byte_scale(embedding);
                embedding.iter_mut().for_each(|number| *number = f32::from(scaled_byte(*number, scale)) * scale);
            }
        }
    }

    /// Bytes that an embedding of `dim` numbers takes.
    pub fn n_bytes(self, dim: usize) -> usize {
        match self {
            Self::Single => 4 * dim,
            Self::Half => 2 * dim,
            Self::Bytes => 4 + dim,
        }
    }
}

/// The bits of a number in half precision, rounded to the nearest, ties to even.
pub(super) fn half_bits(number: f32) -> u16 {
    HalfNumber::from_f32(number).to_bits()
}

/// The number that has these bits in half precision.
pub(super) fn half_number(bits: u16) -> f32 {
    HalfNumber::from_bits(bits).to_f32()
}

/// What a byte stands for in an embedding.
pub(super) fn byte_scale(embedding: &[f32]) -> f32 {
    embedding.iter().fold(0.0_f32, |most, number| most.max(number.abs())) / LARGEST
}

/// A number as a byte of `scale`.
pub(super) fn scaled_byte(number: f32, scale: f32) -> i8 {
    if scale > 0.0 { (number / scale).round().clamp(-LARGEST, LARGEST) as i8 } else { 0 }
}
