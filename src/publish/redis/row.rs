//! A row as the hash holds it, packed.

use crate::publish::{ItemRow, StoredRow, Version};

/// Bytes of a packed row before its embedding: epoch and step (u64), log frequency (f32), all little-endian.
const ROW_HEAD: usize = 20;

/// A row as the hash holds it.
pub(super) fn pack(version: Version, row: &ItemRow<'_>) -> Vec<u8> {
    let mut packed = Vec::with_capacity(ROW_HEAD + 4 * row.embedding.len());
    packed.extend(version.epoch.to_le_bytes());
    packed.extend(version.step.to_le_bytes());
    packed.extend(row.log_frequency.to_le_bytes());
    packed.extend(row.embedding.iter().flat_map(|number| number.to_le_bytes()));
    packed
}

/// The way back of [`pack`]; `None` where that is none of its rows.
pub(super) fn unpack(item_id: String, packed: &[u8]) -> Option<StoredRow> {
    let (epoch, rest) = packed.split_first_chunk::<8>()?;
    let (step, rest) = rest.split_first_chunk::<8>()?;
    let (log_frequency, rest) = rest.split_first_chunk::<4>()?;
    let (numbers, rest) = rest.as_chunks::<4>();
    rest.is_empty().then(|| StoredRow {
        item_id,
        embedding: numbers.iter().map(|number| f32::from_le_bytes(*number)).collect(),
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
        let packed = pack(version, &ItemRow { item_id: "a", embedding: &embedding, log_frequency: -7.25 });
        assert_eq!(packed.len(), ROW_HEAD + 12);
        let row = unpack("a".to_owned(), &packed).unwrap();
        assert_eq!(row.embedding.iter().map(|x| x.to_bits()).collect::<Vec<_>>(), embedding.map(f32::to_bits));
        assert_eq!((row.version, row.log_frequency), (version, -7.25));
        assert!(unpack("a".to_owned(), &packed[..21]).is_none() && unpack("a".to_owned(), &[]).is_none());
    }
}
