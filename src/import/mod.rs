//! Vectors of other programs on their way in: a table of Parquet, or an array of NumPy with a list of names.
//!
//! | file | module | who an item is |
//! | --- | --- | --- |
//! | `….parquet` | `table` | a column; others for the vector, the number of events and the time of the newest |
//! | `….npy` | `npy` | its place in a list of JSON beside it, as `negstream export --to npy` writes both |
//!
//! Everything is read and looked at before anything is made of it: what is wrong is told with its row.

mod npy;
mod table;

use std::path::{Path, PathBuf};

use compact_str::CompactString;

use crate::table::ids::Ids;
use crate::util::escape::escape_for_terminal;

/// What is wrong with a file of vectors. Always found before anything is touched.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub struct ImportError {
    /// The file.
    pub path: PathBuf,
    /// In words.
    pub problem: String,
}

/// Where the items' columns are in a table.
#[derive(Debug, Clone, Copy)]
pub struct VectorColumns<'a> {
    /// The items' names.
    pub id: &'a str,
    /// The vectors; without a name `embedding`, or `vector`.
    pub vector: Option<&'a str>,
    /// Events of each item; without a name `count`, if there is such a column.
    pub count: Option<&'a str>,
    /// Time of each item's newest event; without a name `last_event`, if there is such a column.
    pub last_event: Option<&'a str>,
}

/// The items of a file, in its order: each has a name of its own, and finite numbers.
#[derive(Debug, Default)]
pub struct ForeignVectors {
    /// The items.
    pub ids: Ids,
    /// Numbers in a vector.
    pub dim: usize,
    /// The vectors, one behind the other: items × dim.
    pub numbers: Vec<f32>,
    /// Events of each item, where the file has them.
    pub counts: Option<Vec<u64>>,
    /// Time of each item's newest event, milliseconds since 1970 UTC, where the file has it.
    pub last_events: Option<Vec<i64>>,
    /// The columns that were read.
    pub columns: Vec<String>,
}

impl ForeignVectors {
    /// Reads the file at `path`, an array of NumPy where its name ends with `.npy`, with the names in `ids` (without a path: in the
    /// file beside it that ends with `.json`), else a table of Parquet.
    ///
    /// # Errors
    /// What is wrong with the file, and in which row.
    pub fn read(path: &Path, columns: VectorColumns<'_>, ids: Option<&Path>) -> Result<Self, ImportError> {
        let is_array = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("npy"));
        let vectors = match (is_array, ids) {
            (true, ids) => npy::read(path, &ids.map_or_else(|| path.with_extension("json"), Path::to_owned))?,
            (false, None) => table::read(path, columns)?,
            (false, Some(_)) => {
                return Err(problem(path, "names stand beside an array of NumPy (.npy); a table has a column of them"));
            }
        };
        if vectors.ids.is_empty() {
            return Err(problem(path, "it holds no item"));
        }
        Ok(vectors)
    }

    /// The vector of item `item`.
    pub fn vector(&self, item: usize) -> &[f32] {
        &self.numbers[item * self.dim..][..self.dim]
    }

    /// Adds the item of the next row.
    fn push(&mut self, path: &Path, name: CompactString, vector: impl Iterator<Item = f32>) -> Result<(), ImportError> {
        let (row, begin) = (self.ids.len() + 1, self.numbers.len());
        let wrong = |what: String| problem(path, &format!("row {row}, item '{}': {what}", escape_for_terminal(&name)));
        if let Some(first) = self.ids.get(&name) {
            return Err(wrong(format!("the item is there twice: row {} has it too", first + 1)));
        }
        self.numbers.extend(vector);
        let numbers = &self.numbers[begin..];
        if row == 1 {
            self.dim = numbers.len();
        }
        if numbers.len() != self.dim || numbers.is_empty() {
            return Err(wrong(format!("the vector has {} numbers; that of row 1 has {}", numbers.len(), self.dim)));
        }
        if let Some(place) = numbers.iter().position(|number| !number.is_finite()) {
            return Err(wrong(format!("number {} of the vector is {}", place + 1, numbers[place])));
        }
        self.ids.intern(&name);
        Ok(())
    }
}

/// The error of the file at `path`.
fn problem(path: &Path, problem: &str) -> ImportError {
    ImportError { path: path.to_owned(), problem: problem.to_owned() }
}

#[cfg(test)]
mod tests;
