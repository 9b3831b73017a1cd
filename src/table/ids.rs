//! External string ids and the row numbers they stand for, in the order in which they first came.

use std::hash::BuildHasher;

use compact_str::CompactString;
use hashbrown::{DefaultHashBuilder, HashTable};

use super::records::Records;
use super::row_remap::RowRemap;
use crate::kernel::rows::prefetch_one;

/// A growing set of names, numbered from 0. One of up to 24 bytes, like most identifiers, lies in the table itself.
#[derive(Debug, Default)]
pub struct Ids {
    names: Records<CompactString>,
    index: NameIndex,
}

/// What finds the row of a name; it is of use with the names alone.
#[derive(Debug, Clone, Default)]
pub struct NameIndex {
    rows: HashTable<u32>,
    // Seeded anew in each process: nothing ever walks the index, so its order reaches no result, and nobody outside
    // can choose ids that collide.
    hasher: DefaultHashBuilder,
    /// How often rows were given other numbers.
    remaps: u64,
}

impl NameIndex {
    /// Adds those of `names` that came since it was brought up to date.
    fn extend(&mut self, names: &Records<CompactString>) {
        let Self { rows, hasher, remaps: _ } = self;
        let hash_of = |row: u32| hasher.hash_one(names.get(row as usize).as_str());
        for row in rows.len() as u32..names.len() as u32 {
            rows.insert_unique(hash_of(row), row, |&row| hash_of(row));
        }
    }
}

impl Ids {
    /// Number of names.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there are no names.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The name of row `row`.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn name(&self, row: u32) -> &str {
        self.names.get(row as usize)
    }

    /// Asks memory for the name of a row, which will be read soon.
    #[inline]
    pub fn ask_ahead(&self, row: u32) {
        prefetch_one(self.names.get(row as usize));
    }

    /// The row of `name`.
    pub fn get(&self, name: &str) -> Option<u32> {
        let hash = self.index.hasher.hash_one(name);
        self.index.rows.find(hash, |&row| self.name(row) == name).copied()
    }

    /// The row of `name`, a new one where it had none.
    ///
    /// # Panics
    /// Beyond 2³² names.
    pub fn intern(&mut self, name: &str) -> u32 {
        if let Some(row) = self.get(name) {
            return row;
        }
        let row = u32::try_from(self.len()).expect("fewer than 2^32 ids");
        self.names.push(CompactString::new(name));
        self.index.extend(&self.names);
        row
    }

    /// A copy as they are now, to be looked up while these go on; the names are frozen ([`super::chunks`]). An index of an `earlier`
    /// copy is brought up to date where rows kept their numbers since, which takes as long as there are new names; else the
    /// index is copied.
    #[must_use]
    pub fn freeze_to_read(&mut self, earlier: Option<NameIndex>) -> Self {
        let names = self.names.freeze();
        let earlier = earlier.filter(|earlier| earlier.remaps == self.index.remaps);
        let mut index = earlier.unwrap_or_else(|| self.index.clone());
        index.extend(&names);
        Self { names, index }
    }

    /// The index, for the next copy ([`Self::freeze_to_read`]).
    pub fn into_index(self) -> NameIndex {
        self.index
    }

    /// How often rows were given other numbers: between two copies that agree in it, rows only came to.
    pub fn remaps(&self) -> u64 {
        self.index.remaps
    }

    /// Remaps names after eviction; evicted names are forgotten.
    pub fn keep(&mut self, rows: &RowRemap) {
        self.index.remaps += 1;
        self.index.rows.retain(|row| {
            let new = rows.get(*row);
            *row = new.unwrap_or(*row);
            new.is_some()
        });
        self.names.keep(rows);
    }

    /// The names in the order of their rows.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(CompactString::as_str)
    }

    /// A frozen copy of the names: [`super::chunks`].
    #[must_use]
    pub fn freeze(&mut self) -> Records<CompactString> {
        self.names.freeze()
    }

    /// Takes back names that frozen copies which are gone had shared: [`super::chunks::Chunks::thaw`].
    pub fn thaw(&mut self, budget: &mut usize) -> bool {
        self.names.thaw(budget)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rows_follow_first_appearance() {
        let mut ids = Ids::default();
        let rows: Vec<u32> = ["b", "a", "b", "", "\u{1F600}", "a"].iter().map(|name| ids.intern(name)).collect();
        assert_eq!(rows, [0, 1, 0, 2, 3, 1]);
        assert_eq!(ids.iter().collect::<Vec<_>>(), ["b", "a", "", "\u{1F600}"]);
        assert_eq!((ids.get("a"), ids.get("c")), (Some(1), None));
    }

    proptest! {
        #[test]
        fn ids_find_kept_names_and_forget_evicted_ones(
            rounds in proptest::collection::vec(
                (proptest::collection::vec("[a-e]{0,4}", 0..60), proptest::collection::vec(any::<bool>(), 600)), 0..8),
        ) {
            let (mut ids, mut truth, mut frozen) = (Ids::default(), Vec::<String>::new(), None);
            for (names, stays) in rounds {
                for name in names {
                    let row = truth.iter().position(|other| *other == name).unwrap_or_else(|| {
                        truth.push(name.clone());
                        truth.len() - 1
                    });
                    prop_assert_eq!(ids.intern(&name), row as u32);
                }
                let renumbering = RowRemap::of_rows(truth.len(), |row| stays[row as usize]);
                ids.keep(&renumbering);
                let gone: Vec<String> = (0..truth.len()).filter(|row| !stays[*row]).map(|row| truth[row].clone()).collect();
                renumbering.keep(&mut truth);
                prop_assert!(ids.iter().eq(truth.iter().map(String::as_str)));
                prop_assert!(gone.iter().all(|name| ids.get(name).is_none()));
                frozen = Some(ids.freeze_to_read(frozen.map(Ids::into_index)));
                let seen = frozen.as_ref().unwrap();
                prop_assert!(seen.iter().eq(truth.iter().map(String::as_str)));
                prop_assert!((0..).zip(&truth).all(|(row, name)| seen.get(name) == Some(row)));
                prop_assert!(gone.iter().all(|name| seen.get(name).is_none()));
                prop_assert!((0..).zip(&truth).all(|(row, name)| ids.get(name) == Some(row)));
            }
        }
    }

    #[test]
    fn ids_survive_growth() {
        let mut ids = Ids::default();
        for number in 0..10_000 {
            assert_eq!(ids.intern(&format!("item-{number}")), number);
        }
        assert!((0..10_000).all(|number| ids.get(&format!("item-{number}")) == Some(number)));
    }
}
