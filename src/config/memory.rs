//! What may be kept of items and users: limits that hold whatever the stream brings.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The highest `admit_after`.
const MOST_OCCURRENCES: u32 = 255;

/// What may be kept of items and users; see docs/memory.md.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MemoryConfig {
    /// Rows of items.
    pub items: Limits,
    /// Rows of users, with their pasts.
    pub users: Limits,
}

/// Who gets a row, and for how long. Time is counted in positive events of the stream, never by the clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Who came so many times is given a row; 1: at once.
    pub admit_after: u32,
    /// How many of the newest ids without a row are counted, at 8 bytes each; of no account where `admit_after` is 1.
    pub newcomers: usize,
    /// Whoever had no event for so many events of the stream goes; 0: nobody.
    pub expire_events: u64,
    /// How many rows there may be; to make room, those go first that had no event for longest. 0: any number.
    pub cap: usize,
}

impl MemoryConfig {
    /// What is wrong with it, by key, where steps are taken on `batch` events.
    pub fn mistake(&self, batch: usize) -> Option<(String, String)> {
        [("items", &self.items), ("users", &self.users)].into_iter().find_map(|(table, limits)| {
            let (key, mistake) = limits.mistake(batch)?;
            Some((format!("memory.{table}.{key}"), mistake))
        })
    }
}

impl Limits {
    fn mistake(&self, batch: usize) -> Option<(&'static str, String)> {
        match () {
            () if !(1..=MOST_OCCURRENCES).contains(&self.admit_after) => {
                Some(("admit_after", format!("must lie in 1..={MOST_OCCURRENCES}")))
            }
            () if !(8..=1 << 30).contains(&self.newcomers) => {
                Some(("newcomers", "must lie in 8..=1073741824".to_owned()))
            }
            () if self.cap > u32::MAX as usize => Some(("cap", "must be at most 4294967295".to_owned())),
            // Half of it may be new in each batch, and the rest must stay.
            () if self.cap > 0 && self.cap < 2 * batch => {
                Some(("cap", format!("must be 0, or at least {}: twice train.batch", 2 * batch)))
            }
            () => None,
        }
    }
}
