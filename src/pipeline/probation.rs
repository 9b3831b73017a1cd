//! Probation: a run that has not taken a single record yet, of a new model or by other settings than before.
//!
//! Where the first records are all rejected, the settings by which they are read may be at fault rather than they: a field
//! that is called otherwise, a registry that nobody named. Until one is taken, nothing is saved behind them, and their dead
//! letters wait; so a run that is set right reads them again, and nobody has to throw letters away. Whoever allows every
//! record to be rejected (`dead_letters.max_share = 1`), and keeps them, has said that this is as it should be.

use super::error::NothingTaken;
use crate::config::Config;
use crate::event::{Reason, Rejection};

/// Most bytes of dead letters that wait for a first record that is taken.
const MOST_HELD: usize = 16 << 20;

/// A rejected record whose letter waits.
#[derive(Debug)]
pub(super) struct HeldLetter {
    /// Index of its stream.
    pub(super) stream: u32,
    /// Its place there.
    pub(super) offset: u64,
    /// What is wrong with it.
    pub(super) rejection: Rejection,
}

/// What was rejected while nothing had been taken.
#[derive(Debug)]
pub(super) struct Probation {
    /// Whether no record has been taken yet.
    is_open: bool,
    /// Whether topics have settings of their own.
    by_topic: bool,
    /// The first record that was rejected: where it stood, and why.
    first: Option<(String, u64, Reason, String)>,
    held: Vec<HeldLetter>,
    held_bytes: usize,
}

impl Probation {
    /// The probation of a run: open where its state has taken nothing (`has_taken_any`) by its settings (`read_by` is the digest
    /// of theirs), unless every record may be rejected, and letters `are_kept`.
    pub(super) fn new(config: &Config, are_kept: bool, has_taken_any: bool, read_by: Option<&str>) -> Self {
        let is_waived = config.dead_letters.max_share >= 1.0 && are_kept;
        let settings_changed = read_by.is_some_and(|read_by| read_by != config.reading_digest());
        let is_open = !is_waived && (!has_taken_any || settings_changed);
        Self { is_open, by_topic: !config.kafka.topics.is_empty(), first: None, held: Vec::new(), held_bytes: 0 }
    }

    /// Whether no record has been taken yet.
    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }

    /// Notes that a record is taken.
    pub(super) fn close(&mut self) {
        self.is_open = false;
    }

    /// Whether records were rejected, and none was taken: nothing may be saved.
    pub(super) fn has_only_rejected(&self) -> bool {
        self.is_open && self.first.is_some()
    }

    /// Notes a record that is rejected.
    pub(super) fn note(&mut self, label: &str, offset: u64, rejection: &Rejection) {
        if self.first.is_none() {
            self.first = Some((label.to_owned(), offset, rejection.reason, rejection.detail.clone()));
        }
    }

    /// Keeps a letter for later; `false` where too much waits already.
    pub(super) fn hold(&mut self, letter: HeldLetter) -> bool {
        let Rejection { detail, key, payload, .. } = &letter.rejection;
        self.held_bytes += size_of::<HeldLetter>() + detail.len() + payload.len() + key.as_ref().map_or(0, Vec::len);
        self.held.push(letter);
        self.held_bytes <= MOST_HELD
    }

    /// The letters that waited, which can go now.
    pub(super) fn release(&mut self) -> Vec<HeldLetter> {
        self.held_bytes = 0;
        std::mem::take(&mut self.held)
    }

    /// The error of a run that took none of `n_rejected` records.
    pub(super) fn error(&self, n_rejected: u64) -> NothingTaken {
        let (stream, offset, reason, detail) = self.first.clone().expect("a record was rejected");
        NothingTaken { n_rejected, stream, offset, by_topic: self.by_topic, reason, detail }
    }
}
