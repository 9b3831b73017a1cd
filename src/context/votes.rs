//! The votes of a context's items for their neighbours ([`super::cooccurrence`]): sums for each item that is voted for. Whether an item was voted for
//! before cannot be predicted, so that no branch depends on it.

use super::cooccurrence::{MOST_NEIGHBORS, WIDEST_WINDOW};
use crate::table::rows::GOLDEN;

/// The votes for one event: items, each once, found by a hash table that is not emptied between two events. There are few votes of many
/// items: a place for each item would be looked for in memory, and these are in the nearest caches. It is kept as a buffer from event to event.
#[derive(Debug, Default)]
pub struct Votes {
    /// Where in the list an item is, found by its hash with linear probing.
    slots: Vec<VoteSlot>,
    /// How many of them this round uses, less one: a power of two, and at least four times as many as votes, so that hardly any two
    /// items want the same one.
    mask: usize,
    /// Those of this round, and behind them what is left of others.
    list: Vec<Vote>,
    /// Number of votes of this round.
    n_votes: usize,
    round: u64,
}

/// An item, the round that it was voted for in, and its place in the list of that round: 32, 15 and 17 bits. A slot of another
/// round is free.
#[derive(Debug, Clone, Copy, Default)]
struct VoteSlot(u64);

impl VoteSlot {
    const PLACE_BITS: u32 = 17;
    const ROUND_BITS: u32 = 15;
    const ROUNDS: u64 = 1 << Self::ROUND_BITS;

    #[inline]
    fn new(item: u32, round: u64, place: usize) -> Self {
        Self((u64::from(item) << Self::ROUND_BITS | round) << Self::PLACE_BITS | place as u64)
    }

    #[inline]
    fn round(self) -> u64 {
        (self.0 >> Self::PLACE_BITS) % Self::ROUNDS
    }

    #[inline]
    fn place(self) -> usize {
        self.0 as usize % (1 << Self::PLACE_BITS)
    }

    /// Whether both are of one item and one round.
    #[inline]
    fn same_item_and_round(self, other: Self) -> bool {
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
    #[inline]
    pub(super) fn begin(&mut self, most: usize) {
        let n_slots = (4 * most).next_power_of_two();
        self.mask = n_slots - 1;
        if self.slots.len() < n_slots {
            self.slots.resize(n_slots, VoteSlot::default());
            self.list.resize(n_slots / 4, Vote::default());
        }
        self.n_votes = 0;
        self.round += 1;
        if self.round == VoteSlot::ROUNDS {
            self.slots.fill(VoteSlot::default());
            self.round = 1;
        }
    }

    /// Adds to the sums of `item`, which begin at 0.
    #[inline]
    pub(super) fn add(&mut self, item: u32, more: VoteSums) {
        let Self { slots, mask, list, n_votes, round } = self;
        let new = VoteSlot::new(item, *round, *n_votes);
        // Fibonacci hashing: the upper half of the product.
        let mut slot = (u64::from(item).wrapping_mul(GOLDEN) >> 32) as usize & *mask;
        let mut found = slots[slot];
        while found.round() == *round && !found.same_item_and_round(new) {
            slot = (slot + 1) & *mask;
            found = slots[slot];
        }
        let is_known = found.same_item_and_round(new);
        let taken = if is_known { found } else { new };
        slots[slot] = taken;
        *n_votes += usize::from(!is_known);
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

    /// Those of this round whose sums are wanted, in the order in which their items came; ends the round. No branch depends on
    /// which these are either.
    #[inline]
    pub(super) fn retain(&mut self, is_wanted: impl Fn(&VoteSums) -> bool) -> &[Vote] {
        let mut n_kept = 0;
        for place in 0..self.n_votes {
            let vote = self.list[place];
            self.list[n_kept] = vote;
            n_kept += usize::from(is_wanted(&vote.sums));
        }
        self.n_votes = 0;
        &self.list[..n_kept]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Each round finds its own votes alone, in the order of their items' first ones, also where the numbers of rounds begin anew and
        /// earlier ones had the same numbers.
        #[test]
        fn votes_are_those_of_their_round(
            rounds in proptest::collection::vec(proptest::collection::vec((0..200u32, 0.0..1.0f32), 0..100), 1..20),
        ) {
            let mut votes = Votes::default();
            for turn in 0..2 {
                for round in &rounds {
                    votes.begin(round.len());
                    let mut expected: Vec<(u32, [f32; 3])> = Vec::new();
                    for (item, weight) in round {
                        // From both ends of the numbers that there are.
                        let item = if item % 2 == 0 { *item } else { u32::MAX - item };
                        let more = VoteSums { confidence: *weight, cosine: 0.5 * weight, plain_cosine: 2.0 * weight };
                        votes.add(item, more);
                        let place = expected.iter().position(|(of_item, _)| *of_item == item).unwrap_or_else(|| {
                            expected.push((item, [0.0; 3]));
                            expected.len() - 1
                        });
                        let more = [more.confidence, more.cosine, more.plain_cosine];
                        expected[place].1.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
                    }
                    expected.retain(|(_, [confidence, ..])| *confidence >= 0.5);
                    let found = votes.retain(|sums| sums.confidence >= 0.5);
                    let found: Vec<_> = found
                        .iter()
                        .map(|Vote { item, sums }| (*item, [sums.confidence, sums.cosine, sums.plain_cosine]))
                        .collect();
                    prop_assert_eq!(found, expected);
                }
                if turn == 0 {
                    votes.round = VoteSlot::ROUNDS - 1;
                }
            }
        }
    }
}
