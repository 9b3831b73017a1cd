//! The audit: which records became part of the state, and what became of each, by stream and offset.
//!
//! Kept where `checkpoint.audit` asks for it; `negstream audit` lays the audits of one or several workers side by side
//! and says whether each record was applied exactly once. Neighbouring offsets of one fate are one stretch, so that it
//! stays short where little is rejected; it is not bounded.

use std::collections::BTreeMap;

use arrow_array::types::UInt64Type;
use arrow_schema::{DataType, Field};

use crate::checkpoint::columns::{self, Layout, numbers, text};
use crate::checkpoint::store::Draft;
use crate::checkpoint::{Checkpoint, CheckpointError};

/// The file of a checkpoint that holds it.
pub const AUDIT: &str = "audit.parquet";

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// It was trained on.
    Trained,
    /// Its item has no row yet.
    Deferred,
    /// Its type does not count as positive, or it has no value.
    Skipped,
    /// It was rejected.
    Rejected,
    /// It was gone before it was read.
    Lost,
}

impl Fate {
    /// Every fate.
    pub const ALL: [Self; 5] = [Self::Trained, Self::Deferred, Self::Skipped, Self::Rejected, Self::Lost];

    /// As it is written down.
    pub fn name(self) -> &'static str {
        match self {
            Self::Trained => "trained",
            Self::Deferred => "deferred",
            Self::Skipped => "skipped",
            Self::Rejected => "rejected",
            Self::Lost => "lost",
        }
    }
}

/// Offsets `from..until` of one fate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// The first.
    pub from: u64,
    /// One past the last.
    pub until: u64,
    /// What became of them.
    pub fate: Fate,
}

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Audit {
    /// By the stream's name, in the order in which they were applied.
    pub streams: BTreeMap<String, Vec<Stretch>>,
}

impl Audit {
    /// Notes what became of offsets.
    pub fn note(&mut self, stream: &str, stretch: Stretch) {
        if !self.streams.contains_key(stream) {
            self.streams.insert(stream.to_owned(), Vec::new());
        }
        let stretches = self.streams.get_mut(stream).expect("it is there now");
        match stretches.last_mut() {
            Some(last) if last.fate == stretch.fate && last.until == stretch.from => last.until = stretch.until,
            _ => stretches.push(stretch),
        }
    }

    /// Writes it.
    pub(crate) fn save(&self, draft: &mut Draft) -> Result<(), CheckpointError> {
        let all = self.streams.iter().flat_map(|(stream, stretches)| stretches.iter().map(move |one| (stream, one)));
        let rows: Vec<(&String, &Stretch)> = all.collect();
        let fields = vec![
            Field::new("stream", DataType::Utf8, false),
            Field::new("fate", DataType::Utf8, false),
            Field::new("from", DataType::UInt64, false),
            Field::new("until", DataType::UInt64, false),
        ];
        columns::write(draft, AUDIT, fields, rows.len(), Layout::Published, |range| {
            let rows = &rows[range];
            vec![
                text(rows.iter().map(|(stream, _)| stream.as_str())),
                text(rows.iter().map(|(_, stretch)| stretch.fate.name())),
                numbers::<UInt64Type>(rows.iter().map(|(_, stretch)| stretch.from)),
                numbers::<UInt64Type>(rows.iter().map(|(_, stretch)| stretch.until)),
            ]
        })
    }

    /// Reads it from a checkpoint; `None` where that has none.
    ///
    /// # Errors
    /// Where it does not hold what it must.
    pub fn load(intact: &Checkpoint) -> Result<Option<Self>, CheckpointError> {
        if !intact.manifest().files.iter().any(|file| file.name == AUDIT) {
            return Ok(None);
        }
        let mut audit = Self::default();
        let mut sound = true;
        columns::read(intact.folder(), AUDIT, |slice| {
            let (streams, fates) = (slice.text("stream")?, slice.text("fate")?);
            let (from, until) = (slice.numbers::<UInt64Type>("from")?, slice.numbers::<UInt64Type>("until")?);
            for row in 0..slice.len() {
                match Fate::ALL.into_iter().find(|fate| fate.name() == fates.value(row)) {
                    Some(fate) if from[row] < until[row] => {
                        audit.note(streams.value(row), Stretch { from: from[row], until: until[row], fate });
                    }
                    _ => sound = false,
                }
            }
            Ok(())
        })?;
        if sound {
            return Ok(Some(audit));
        }
        let problem = "it holds a fate that is not known, or no offsets".to_owned();
        Err(CheckpointError::Damaged { path: intact.path().join(AUDIT), problem })
    }
}
