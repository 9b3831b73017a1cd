//! A row as the hash holds it, packed.

use crate::publish::precision::{half_bits, half_number};
use crate::publish::{ItemRow, StoredPrecision, StoredRow, Version};

/// Bytes of a packed row before its embedding: epoch and step (u64), log frequency (f32), all little-endian.
const ROW_HEAD: usize = 20;

/// A row as the hash holds it.
pub(super) fn pack(version: Version, row: &ItemRow<'_>, precision: StoredPrecision) -> Vec<u8> {
    let mut packed = Vec::with_capacity(ROW_HEAD + 4 * row.embedding.len());
    packed.extend(version.epoch.to_le_bytes());
    packed.extend(version.step.to_le_bytes());
    packed.extend(row.log_frequency.to_le_bytes());
    match precision {
        StoredPrecision::F32 => packed.extend(row.embedding.iter().flat_map(|number| number.to_le_bytes())),
        StoredPrecision::F16 => packed.extend(row.embedding.iter().flat_map(|number| half_bits(*number).to_le_bytes())),
    }
    packed
}

/// The way back of [`pack`]; `None` where that is none of its rows.
pub(super) fn unpack(item_id: String, packed: &[u8], precision: StoredPrecision) -> Option<StoredRow> {
    let (epoch, rest) = packed.split_first_chunk::<8>()?;
    let (step, rest) = rest.split_first_chunk::<8>()?;
    let (log_frequency, rest) = rest.split_first_chunk::<4>()?;
    let (embedding, rest): (Vec<f32>, &[u8]) = match precision {
        StoredPrecision::F32 => {
            let (numbers, rest) = rest.as_chunks::<4>();
            (numbers.iter().map(|number| f32::from_le_bytes(*number)).collect(), rest)
        }
        StoredPrecision::F16 => {
            let (numbers, rest) = rest.as_chunks::<2>();
            (numbers.iter().map(|bits| half_number(u16::from_le_bytes(*bits))).collect(), rest)
        }
    };
    rest.is_empty().then(|| StoredRow {
        item_id,
        embedding,
        log_frequency: f32::from_le_bytes(*log_frequency),
        version: Version { epoch: u64::from_le_bytes(*epoch), step: u64::from_le_bytes(*step) },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_rows_come_back_bit_for_bit() {
        let (version, embedding) = (Version { epoch: 3, step: u64::MAX }, [0.1_f32, -0.0, f32::MIN_POSITIVE]);
        let row = ItemRow { item_id: "a", embedding: &embedding, log_frequency: -7.25 };
        let packed = pack(version, &row, StoredPrecision::F32);
        assert_eq!(packed.len(), ROW_HEAD + 12);
        let read = |packed: &[u8], precision| unpack("a".to_owned(), packed, precision);
        let row_read = read(&packed, StoredPrecision::F32).unwrap();
        assert_eq!(row_read.embedding.iter().map(|x| x.to_bits()).collect::<Vec<_>>(), embedding.map(f32::to_bits));
        assert_eq!((row_read.version, row_read.log_frequency), (version, -7.25));
        assert!(read(&packed[..21], StoredPrecision::F32).is_none() && read(&[], StoredPrecision::F32).is_none());
        let packed = pack(version, &row, StoredPrecision::F16);
        let mut rounded = embedding;
        StoredPrecision::F16.precision().round(&mut rounded);
        assert_eq!(packed.len(), ROW_HEAD + 6);
        assert_eq!(read(&packed, StoredPrecision::F16).unwrap().embedding, rounded);
        assert!(read(&packed[..25], StoredPrecision::F16).is_none());
    }
}
