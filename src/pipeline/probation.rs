//! Probation: a model that has not taken a single record yet.
//!
//! Where the first records of a new model are all rejected, the configuration may be at fault rather than they: a field that
//! is called otherwise, a registry that nobody named. Until one is taken, nothing is saved behind them, and their dead
//! letters wait; so a run that is set right reads them again, and nobody has to throw letters away. Whoever allows every
//! record to be rejected (`dead_letters.max_share = 1`), and keeps them, has said that this is as it should be.

use super::error::NothingTaken;
use crate::dead_letters::DeadLettersConfig;
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
    /// Whether it may be that every record is rejected.
    is_waived: bool,
    /// The first record that was rejected: where it stood, and why.
    first: Option<(String, u64, Reason, String)>,
    held: Vec<HeldLetter>,
    held_bytes: usize,
}

impl Probation {
    /// The probation of a run, whose letters are kept or not.
    pub(super) fn new(config: &DeadLettersConfig, are_kept: bool) -> Self {
        let is_waived = config.max_share >= 1.0 && are_kept;
        Self { is_waived, first: None, held: Vec::new(), held_bytes: 0 }
    }

    /// Whether records were rejected under which a run that took none must not be saved.
    pub(super) fn has_rejections(&self) -> bool {
        self.first.is_some()
    }

    /// Notes a record that is rejected while nothing was taken; whether its letter, if any, may be sent at once.
    pub(super) fn note(&mut self, label: &str, offset: u64, rejection: &Rejection) -> bool {
        if !self.is_waived && self.first.is_none() {
            self.first = Some((label.to_owned(), offset, rejection.reason, rejection.detail.clone()));
        }
        self.is_waived
    }

    /// Keeps a letter for later; `false` where too much waits already.
    pub(super) fn hold(&mut self, letter: HeldLetter) -> bool {
        let Rejection { detail, key, payload, .. } = &letter.rejection;
        self.held_bytes +=
            size_of::<HeldLetter>() + detail.len() + payload.len() + key.as_ref().map_or(0, Vec::len);
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
        NothingTaken { n_rejected, stream, offset, reason, detail }
    }
}
