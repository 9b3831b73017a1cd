//! The positive events of a log, as numbers: what a pass over them needs.

use compact_str::CompactString;
use hashbrown::HashMap;

/// Positive events in the order of the stream, with users and items numbered as they came. 16 bytes an event.
#[derive(Debug, Default)]
pub struct Interactions {
    /// Number of each event's user.
    pub users: Vec<u32>,
    /// Number of each event's item.
    pub items: Vec<u32>,
    /// Time of each event, milliseconds since 1970 UTC.
    pub timestamps: Vec<i64>,
    user_numbers: HashMap<CompactString, u32>,
    item_numbers: HashMap<CompactString, u32>,
}

impl Interactions {
    /// Appends an event.
    ///
    /// # Panics
    /// Beyond 2³² users or items.
    pub fn push(&mut self, user: &str, item: &str, timestamp: i64) {
        self.users.push(number(&mut self.user_numbers, user));
        self.items.push(number(&mut self.item_numbers, item));
        self.timestamps.push(timestamp);
    }

    /// Number of events.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Number of users.
    pub fn n_users(&self) -> usize {
        self.user_numbers.len()
    }

    /// Number of items.
    pub fn n_items(&self) -> usize {
        self.item_numbers.len()
    }
}

fn number(numbers: &mut HashMap<CompactString, u32>, name: &str) -> u32 {
    let next = u32::try_from(numbers.len()).expect("fewer than 2³² names");
    match numbers.get(name) {
        Some(number) => *number,
        None => *numbers.entry(name.into()).insert(next).get(),
    }
}
