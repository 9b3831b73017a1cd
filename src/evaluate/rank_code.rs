//! Ranks in a byte each, for whoever keeps those of every event: twice the rank among the first [`K`], since ties count half.

use super::K;

/// A rank among the first [`K`], or none of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RankCode(u8);

/// So many codes there are.
pub const N_CODES: usize = 2 * K + 1;

impl RankCode {
    /// Beyond the first [`K`], or never seen before.
    pub const MISS: Self = Self(2 * K as u8);

    /// Of a rank, from 0; `None` where there is none.
    pub fn new(rank: Option<f64>) -> Self {
        match rank {
            Some(rank) if rank < K as f64 => Self((2.0 * rank) as u8),
            _ => Self::MISS,
        }
    }

    /// Of `above` items above, and `equal` other ones as high.
    pub fn of_counts(above: usize, equal: usize) -> Self {
        Self((2 * above + equal).min(2 * K) as u8)
    }

    /// As an index, below [`N_CODES`].
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    /// The code of this index.
    ///
    /// # Panics
    /// Beyond [`N_CODES`].
    pub fn from_index(index: usize) -> Self {
        assert!(index < N_CODES, "no code {index}");
        Self(index as u8)
    }

    /// Whether it is among the first [`K`].
    pub fn is_hit(self) -> bool {
        self < Self::MISS
    }

    /// 1/log₂(rank + 2) where it is among the first [`K`], else 0.
    pub fn gain(self) -> f64 {
        if self.is_hit() { (f64::from(self.0) / 2.0 + 2.0).log2().recip() } else { 0.0 }
    }

    /// 1/(rank + 1) where it is among the first [`K`], else 0.
    pub fn reciprocal(self) -> f64 {
        if self.is_hit() { (f64::from(self.0) / 2.0 + 1.0).recip() } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rank_codes_keep_halves_and_know_misses() {
        assert_eq!(RankCode::new(Some(1.5)), RankCode::of_counts(1, 1));
        assert!((RankCode::new(Some(1.5)).gain() - 3.5f64.log2().recip()).abs() < 1e-15);
        assert_eq!(RankCode::new(Some(0.0)).reciprocal(), 1.0);
        for miss in
            [RankCode::new(None), RankCode::new(Some(20.0)), RankCode::of_counts(19, 2), RankCode::new(Some(f64::NAN))]
        {
            assert_eq!((miss, miss.gain(), miss.reciprocal(), miss.is_hit()), (RankCode::MISS, 0.0, 0.0, false));
        }
        assert!((0..N_CODES).all(|index| RankCode::from_index(index).index() == index));
    }
}
