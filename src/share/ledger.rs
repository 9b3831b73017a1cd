//! The ledger: which deltas count, decided by everybody alike from the order of the log alone.
//!
//! The log of deltas is the one place where it is decided what is part of the shared model. A delta says which records it covers
//! and which number it has among its worker's; it *counts* where it goes on exactly where the deltas before it in the log have
//! ended, in both. Of two deltas that cover the same record the first in the log counts, and the other is *void*, in every
//! worker, its own included. So no lock and no transaction is needed: a worker that was frozen while others took its partitions over may
//! say what it likes when it wakes up, and finds by the log that it is void.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::delta::{Delta, SourceSpan};
use crate::position::{Positions, TopicIdentity};

/// What the log holds at a place.
#[derive(Debug)]
pub struct ReceivedRecord {
    /// The offset behind the record.
    pub next: u64,
    /// From where the log has to be read again to receive everything behind this.
    pub resume_at: u64,
    /// When it came to the log, milliseconds since 1970; `None` where brokers do not say.
    pub sent_at: Option<i64>,
    /// Bytes of the record.
    pub bytes: usize,
    /// The delta that ends with the record, if one does.
    pub delta: Option<Box<Delta>>,
}

/// What the log of deltas has come to, at one of its places.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// The offset in the log of the first record that is not entered yet. Some behind it may be: those are known again.
    pub next: u64,
    /// The configuration of the first delta that counts, which is that of the model.
    configuration: Option<u64>,
    /// By stream of the source: the first record that no delta covers.
    covered: Positions,
    /// By worker: the number of its next delta.
    sequences: BTreeMap<String, u64>,
}

/// What a delta is, by the deltas before it in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeltaVerdict {
    /// It is part of the model.
    Counts,
    /// It was entered before.
    Known,
    /// It is not part of the model.
    Void(DeltaConflict),
}

/// Why a delta is void.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeltaConflict {
    /// A delta of the worker's is missing before it.
    #[error("it is number {found} of its worker, of which number {expected} comes next")]
    Sequence {
        /// The delta's number.
        found: u64,
        /// The number that comes next.
        expected: u64,
    },
    /// It was made with another configuration than the first one of the log.
    #[error(
        "it was made with another configuration, as far as the model depends on it, than the first delta of the topic"
    )]
    Configuration,
    /// Other records of a stream come next.
    #[error("it covers {stream} from offset {from}, of which everything before {covered} is covered")]
    Covered {
        /// The stream.
        stream: String,
        /// The first offset that the delta covers.
        from: u64,
        /// The first offset that is not covered yet.
        covered: u64,
    },
}

impl Ledger {
    /// What `delta` is, as the next one of the log.
    pub fn judge(&self, delta: &Delta) -> DeltaVerdict {
        let expected = self.next_sequence(&delta.worker);
        match delta.sequence.cmp(&expected) {
            std::cmp::Ordering::Less => return DeltaVerdict::Known,
            std::cmp::Ordering::Greater => {
                return DeltaVerdict::Void(DeltaConflict::Sequence { found: delta.sequence, expected });
            }
            std::cmp::Ordering::Equal => {}
        }
        if self.configuration.is_some_and(|configuration| configuration != delta.configuration) {
            return DeltaVerdict::Void(DeltaConflict::Configuration);
        }
        for SourceSpan { stream, from, .. } in &delta.sources {
            if let Some(covered) = self.covered.next(stream).filter(|covered| covered != from) {
                return DeltaVerdict::Void(DeltaConflict::Covered { stream: stream.clone(), from: *from, covered });
            }
        }
        DeltaVerdict::Counts
    }

    /// Enters `delta`, which counts.
    pub fn enter(&mut self, delta: &Delta) {
        self.configuration.get_or_insert(delta.configuration);
        self.sequences.insert(delta.worker.to_string(), delta.sequence + 1);
        for SourceSpan { stream, until, .. } in &delta.sources {
            self.covered.advance(stream, *until);
        }
    }

    /// Whether deltas of workers with this configuration can count.
    pub fn is_of(&self, configuration: u64) -> bool {
        self.configuration.is_none_or(|known| known == configuration)
    }

    /// The first record of `stream` that no delta covers; `None` where none covers any of it.
    pub fn covered(&self, stream: &str) -> Option<u64> {
        self.covered.next(stream)
    }

    /// The same of every stream.
    pub fn all_covered(&self) -> &Positions {
        &self.covered
    }

    /// The number of the next delta of `worker`.
    pub fn next_sequence(&self, worker: &str) -> u64 {
        self.sequences.get(worker).copied().unwrap_or(0)
    }

    /// The workers that have sent anything, and the number of deltas of each that count.
    pub fn workers(&self) -> impl Iterator<Item = (&str, u64)> {
        self.sequences.iter().map(|(worker, next)| (worker.as_str(), *next))
    }
}

/// How far a worker that shares its model is with what others send, and with the pasts of its users: a part of its state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedProgress {
    /// The topic of the log.
    pub topic: String,
    /// What tells it from another of its name.
    pub identity: TopicIdentity,
    /// The log, as far as it is part of the state.
    pub ledger: Ledger,
    /// By stream: the first record that is not part of the pasts of the users here. It is behind what is covered where another
    /// worker has read the stream since, or this one has died.
    pub histories: Positions,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn delta(worker: &str, sequence: u64, spans: &[(&str, u64, u64)]) -> Delta {
        let sources = spans.iter().map(|(stream, from, until)| SourceSpan {
            stream: (*stream).to_owned(),
            from: *from,
            until: *until,
        });
        Delta { worker: worker.into(), sequence, sources: sources.collect(), ..Delta::default() }
    }

    #[test]
    fn first_delta_of_a_record_counts_and_the_second_is_void() {
        let mut ledger = Ledger::default();
        let first = delta("a", 0, &[("p0", 7, 20), ("p1", 0, 5)]);
        assert_eq!(ledger.judge(&first), DeltaVerdict::Counts, "a stream may begin anywhere");
        ledger.enter(&first);
        assert_eq!(ledger.judge(&first), DeltaVerdict::Known);
        let late = delta("b", 0, &[("p2", 0, 4), ("p1", 3, 9)]);
        let conflict = DeltaConflict::Covered { stream: "p1".to_owned(), from: 3, covered: 5 };
        assert_eq!(ledger.judge(&late), DeltaVerdict::Void(conflict));
        assert_eq!(ledger.judge(&delta("b", 0, &[("p1", 5, 9)])), DeltaVerdict::Counts);
        let conflict = DeltaConflict::Sequence { found: 2, expected: 1 };
        assert_eq!(ledger.judge(&delta("a", 2, &[])), DeltaVerdict::Void(conflict));
        let stranger = Delta { configuration: 9, ..delta("b", 0, &[("p1", 5, 9)]) };
        assert_eq!(ledger.judge(&stranger), DeltaVerdict::Void(DeltaConflict::Configuration));
        assert!(ledger.is_of(0) && !ledger.is_of(9));
        assert_eq!((ledger.covered("p0"), ledger.covered("p2")), (Some(20), None));
        assert_eq!(ledger.workers().collect::<Vec<_>>(), [("a", 1)]);
    }

    proptest! {
        /// Workers take partitions over from one another, each believing what it knew at some place of the log; whatever they
        /// say, what counts covers each record once.
        #[test]
        fn what_counts_covers_each_record_once(moves in proptest::collection::vec((0usize..3, 0usize..2, 1u64..9, any::<bool>()), 1..200)) {
            let streams = ["p0", "p1"];
            let (mut ledger, mut counted) = (Ledger::default(), vec![0u32; 2_000 * 2]);
            // What each worker believes: the ledger as it saw it last.
            let mut beliefs = [Ledger::default(), Ledger::default(), Ledger::default()];
            for (worker, stream, n, is_up_to_date) in moves {
                if is_up_to_date {
                    beliefs[worker] = ledger.clone();
                }
                let (name, belief) = (["a", "b", "c"][worker], &mut beliefs[worker]);
                let from = belief.covered(streams[stream]).unwrap_or(0);
                let said = delta(name, belief.next_sequence(name), &[(streams[stream], from, from + n)]);
                belief.enter(&said);
                if ledger.judge(&said) == DeltaVerdict::Counts {
                    ledger.enter(&said);
                    (from..from + n).for_each(|offset| counted[stream * 2_000 + offset as usize] += 1);
                }
            }
            for (place, stream) in streams.iter().enumerate() {
                let covered = ledger.covered(stream).unwrap_or(0) as usize;
                let counts = &counted[place * 2_000..][..2_000];
                prop_assert!(counts[..covered].iter().all(|n| *n == 1) && counts[covered..].iter().all(|n| *n == 0));
            }
        }
    }
}
