//! The votes of a context's items for their neighbours ([`super::cooccurrence`]): sums by item, where nobody can guess whether an item has any
//! yet.

use super::cooccurrence::{MOST_NEIGHBORS, WIDEST_WINDOW};
use crate::table::rows::GOLDEN;

/// The votes for one event: items, each once, found by a table that is never emptied. A buffer. There are few votes of many
/// items, so that a place for each item would be looked for in memory, and these are in the nearest cache.
#[derive(Debug, Default)]
pub struct Votes {
    /// Where in the list an item may be: by its hash, or behind that. A power of two, and at least four times as many as votes, so that
    /// hardly any two items want the same one.
    slots: Vec<VoteSlot>,
    /// Those of this round, and behind them what is left of others.
    list: Vec<Vote>,
    /// Number of votes of this round.
    n: usize,
    round: u64,
}

/// An item, the round that it was voted for in, and its place in the list of that round: 32, 15 and 17 bits. One of another round is free.
#[derive(Debug, Clone, Copy, Default)]
struct VoteSlot(u64);

impl VoteSlot {
    const PLACE_BITS: u32 = 17;
    const ROUNDS: u64 = 1 << 15;

    fn new(item: u32, round: u64, place: usize) -> Self {
        Self((u64::from(item) << 15 | round) << Self::PLACE_BITS | place as u64)
    }

    fn round(self) -> u64 {
        (self.0 >> Self::PLACE_BITS) % Self::ROUNDS
    }

    fn place(self) -> usize {
        self.0 as usize % (1 << Self::PLACE_BITS)
    }

    /// Whether both are of one item and one round.
    fn is_like(self, other: Self) -> bool {
        (self.0 ^ other.0) >> Self::PLACE_BITS == 0
    }
}

const _: () = assert!(MOST_NEIGHBORS * WIDEST_WINDOW <= 1 << VoteSlot::PLACE_BITS);

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Vote {
    pub(super) item: u32,
    pub(super) sums: VoteSums,
}

/// What the items of a context give to one item, or how much one of them gives for each co-occurrence.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct VoteSums {
    pub(super) confidence: f32,
    /// Not yet divided by the root of n(j) + 10, j being the item that is voted for.
    pub(super) cosine: f32,
    /// Not yet divided by the root of n(j).
    pub(super) plain_cosine: f32,
}

impl Votes {
    /// Begins anew, with room for `most` votes.
    pub(super) fn begin(&mut self, most: usize) {
        let n_slots = (4 * most).next_power_of_two();
        if self.slots.len() < n_slots {
            self.slots.resize(n_slots, VoteSlot::default());
            self.list.resize(n_slots / 4, Vote::default());
        }
        self.n = 0;
        self.round += 1;
        if self.round == VoteSlot::ROUNDS {
            self.slots.fill(VoteSlot::default());
            self.round = 1;
        }
    }

    /// Adds to the sums of `item`. Whether it has any yet is anybody's guess, so that nothing branches on that.
    #[inline]
    pub(super) fn add(&mut self, item: u32, more: VoteSums) {
        let Self { slots, list, n, round } = self;
        let mask = slots.len() - 1;
        let new = VoteSlot::new(item, *round, *n);
        // Fibonacci hashing: the upper half of the product.
        let mut slot = (u64::from(item).wrapping_mul(GOLDEN) >> 32) as usize & mask;
        let mut found = slots[slot];
        while found.round() == *round && !found.is_like(new) {
            slot = (slot + 1) & mask;
            found = slots[slot];
        }
        let is_known = found.is_like(new);
        let taken = if is_known { found } else { new };
        slots[slot] = taken;
        *n += usize::from(!is_known);
        let vote = &mut list[taken.place()];
        let known_bits = 0_u32.wrapping_sub(u32::from(is_known));
        let before = |number: f32| f32::from_bits(number.to_bits() & known_bits);
        let VoteSums { confidence, cosine, plain_cosine } = vote.sums;
        let sums = VoteSums {
            confidence: before(confidence) + more.confidence,
            cosine: before(cosine) + more.cosine,
            plain_cosine: before(plain_cosine) + more.plain_cosine,
        };
        *vote = Vote { item, sums };
    }

    /// Those of this round whose sums are wanted, in the order in which their items came; ends the round. Some are and some are not, so that
    /// nothing branches on that either.
    pub(super) fn retain(&mut self, is_wanted: impl Fn(&VoteSums) -> bool) -> &[Vote] {
        let mut n_kept = 0;
        for place in 0..self.n {
            let vote = self.list[place];
            self.list[n_kept] = vote;
            n_kept += usize::from(is_wanted(&vote.sums));
        }
        self.n = 0;
        &self.list[..n_kept]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Of a sequence of rounds, through the end of their numbers, each finds its own votes alone, in the order of their items' first ones.
        #[test]
        fn votes_are_those_of_their_round(
            rounds in proptest::collection::vec(proptest::collection::vec((0..200u32, 0.0..1.0f32), 0..100), 1..20),
            before_the_end in 0..20u64,
        ) {
            let mut votes = Votes { round: VoteSlot::ROUNDS - 1 - before_the_end, ..Votes::default() };
            for round in &rounds {
                votes.begin(round.len());
                let mut expected: Vec<(u32, f32)> = Vec::new();
                for (item, weight) in round {
                    votes.add(*item, VoteSums { confidence: *weight, cosine: 0.0, plain_cosine: 2.0 * weight });
                    match expected.iter_mut().find(|(of_item, _)| of_item == item) {
                        Some((_, sum)) => *sum += weight,
                        None => expected.push((*item, *weight)),
                    }
                }
                expected.retain(|(_, sum)| *sum >= 0.5);
                let found = votes.retain(|sums| sums.confidence >= 0.5);
                let found: Vec<_> = found.iter().map(|Vote { item, sums }| (*item, sums.confidence)).collect();
                prop_assert_eq!(found, expected);
            }
        }
    }
}
