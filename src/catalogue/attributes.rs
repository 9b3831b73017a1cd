//! What items are, as the catalogue says it: which items have a value in a column, for filters; and what people call them.

use std::collections::BTreeMap;
use std::path::Path;

use compact_str::CompactString;

use super::{CatalogueError, parts, read, whole};
use crate::table::ids::Ids;

/// The items that have a value, by column and value. Items are numbers of the catalogue's own ([`Self::number`]).
#[derive(Debug, Default)]
pub struct ItemAttributes {
    ids: Ids,
    columns: BTreeMap<String, BTreeMap<CompactString, Vec<u32>>>,
    /// By item; empty of one that has none. Shorter than the list of items where the last ones have none.
    titles: Vec<CompactString>,
}

impl ItemAttributes {
    /// Reads the catalogue in Parquet that the configuration's `key` names, in which `id` is the column of the items' names,
    /// and `title`, where it is there, the one of what people call them.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn open((key, path): (&'static str, &Path), id: &str, title: &str) -> Result<Self, CatalogueError> {
        let mut attributes = Self::default();
        let names = read((key, path), id, &[], |item, row, described| {
            let item = attributes.ids.intern(item);
            for (name, column) in described {
                if *name == title {
                    let titles = &mut attributes.titles;
                    titles.resize(titles.len().max(item as usize + 1), CompactString::default());
                    whole(column, row, &mut |text| titles[item as usize] = text.into());
                }
                if !attributes.columns.contains_key(*name) {
                    attributes.columns.insert((*name).to_owned(), BTreeMap::new());
                }
                let values = attributes.columns.get_mut(*name).expect("it is there by now");
                parts(column, row, &mut |value| values.entry(value.into()).or_default().push(item), whole);
            }
        })?;
        for values in attributes.columns.values_mut().flat_map(BTreeMap::values_mut) {
            values.sort_unstable();
            values.dedup();
        }
        for name in names {
            attributes.columns.entry(name).or_default();
        }
        Ok(attributes)
    }

    /// What people call an item.
    pub fn title(&self, item: &str) -> Option<&str> {
        let title = self.titles.get(self.ids.get(item)? as usize)?;
        (!title.is_empty()).then_some(title.as_str())
    }

    /// Whether any item has a title.
    pub fn has_titles(&self) -> bool {
        !self.titles.is_empty()
    }

    /// The number of an item; `None` of one that the catalogue does not name.
    pub fn number(&self, item: &str) -> Option<u32> {
        self.ids.get(item)
    }

    /// How many items there are.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are no items.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The columns that can be asked for.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.columns.keys().map(String::as_str)
    }

    /// The items that have one of `values` in `column`, ascending; `None` where there is no such column.
    pub fn with<'a>(&self, column: &str, values: impl Iterator<Item = &'a str>) -> Option<Vec<u32>> {
        let of_column = self.columns.get(column)?;
        let mut items: Vec<u32> = values.filter_map(|value| of_column.get(value)).flatten().copied().collect();
        items.sort_unstable();
        items.dedup();
        Some(items)
    }
}
