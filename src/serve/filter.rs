//! What the catalogue says of items: the rows of a view that a filter by its columns leaves, and titles.

use std::path::Path;
use std::sync::Arc;

use super::messages::Filter;
use super::problem::{ApiProblem, ProblemKind};
use crate::catalogue::{CatalogueError, ItemAttributes};
use crate::table::ids::Ids;

/// A row that no item of the catalogue has.
const NONE: u32 = u32::MAX;

/// The catalogue, and which of its items has which row.
#[derive(Debug, Clone, Default)]
pub(super) struct CatalogueFilter {
    /// `None` where no catalogue is configured.
    attributes: Option<Arc<ItemAttributes>>,
    /// By number of the item in the catalogue.
    rows: Vec<u32>,
    /// Rows that were looked up, and how often rows had been given other numbers then.
    seen: (usize, u64),
}

impl CatalogueFilter {
    /// Reads the catalogue at `path`, whose column `id` names the items, and `title` is what people call them; none where the path is
    /// empty.
    pub(super) fn open(path: &Path, (id, title): (&str, &str)) -> Result<Self, CatalogueError> {
        let open = || ItemAttributes::open(("serve.catalogue", path), id, title);
        let attributes = (!path.as_os_str().is_empty()).then(open).transpose()?.map(Arc::new);
        Ok(Self { attributes, ..Self::default() })
    }

    /// What people call an item.
    pub(super) fn title(&self, item: &str) -> Option<&str> {
        self.attributes.as_ref()?.title(item)
    }

    /// Whether any item has a title.
    pub(super) fn has_titles(&self) -> bool {
        self.attributes.as_ref().is_some_and(|attributes| attributes.has_titles())
    }

    /// The rows of the items that `filter` leaves.
    pub(super) fn rows(&mut self, filter: &Filter, items: &Ids) -> Result<Vec<u32>, ApiProblem> {
        let Self { attributes, rows, seen } = self;
        let Some(attributes) = attributes else {
            let why = "filter: there is no catalogue to filter by; serve.catalogue names one";
            return Err(ApiProblem::new(ProblemKind::Invalid, why));
        };
        if *seen != (items.len(), items.remaps()) {
            if seen.1 != items.remaps() || seen.0 > items.len() || rows.is_empty() {
                *rows = vec![NONE; attributes.len()];
                seen.0 = 0;
            }
            for row in seen.0..items.len() {
                if let Some(number) = attributes.number(items.name(row as u32)) {
                    rows[number as usize] = row as u32;
                }
            }
            *seen = (items.len(), items.remaps());
        }
        let mut left: Option<Vec<u32>> = None;
        for (column, wanted) in filter {
            let Some(found) = attributes.with(column, wanted.0.iter().map(String::as_str)) else {
                let columns = attributes.columns().collect::<Vec<_>>().join(", ");
                let why = format!("filter: the catalogue has no column '{column}'; there are {columns}");
                return Err(ApiProblem::new(ProblemKind::Invalid, why));
            };
            left = Some(match left {
                None => found,
                Some(left) => left.into_iter().filter(|item| found.binary_search(item).is_ok()).collect(),
            });
        }
        let rows_of = |numbers: Vec<u32>| numbers.into_iter().map(|number| rows[number as usize]);
        Ok(left.map_or_else(
            || (0..items.len() as u32).collect(),
            |left| rows_of(left).filter(|row| *row != NONE).collect(),
        ))
    }
}
