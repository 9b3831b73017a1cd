//! What is known of items besides who chose them: a Parquet file of item ids and columns that describe the items.
//!
//! Every feature is a text, hashed together with the name of its column to one of `features.buckets` buckets:
//!
//! | column | its features |
//! | --- | --- |
//! | list of text or of whole numbers | each element, whole |
//! | text with a `\|` in it (`Action\|Comedy`) | each part, whole |
//! | other text, such as a title | each of its words: runs of letters, digits and apostrophes |
//! | whole numbers, truth values | the value, as a category |
//!
//! Case and space around a feature do not count. An item that has several rows has the features of all of them. What an
//! event brings of features counts like a column named `features`.

mod attributes;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef};
use arrow_schema::{DataType, Field, Schema};
use compact_str::CompactString;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};

use crate::config::Config;
use crate::decode::arrow_rows::{identifier, is_uuid, names_things};
use crate::table::ids::Ids;
use crate::table::rows::stable_hash;
use crate::util::catch_panic::catch_panic;
pub use attributes::ItemAttributes;

/// The column that the features of events count as.
const OF_EVENTS: &str = "features";
/// An event's further features are not looked at.
pub(crate) const MOST_OF_EVENT: usize = 64;
/// So many new items of which nothing is known are no accident.
const CONVINCING: u64 = 100;
/// The key that names the catalogue whose columns are features.
const KEY: &str = "features.catalogue";

/// What is wrong with a catalogue. Always found before anything is touched.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// It is not there, cannot be read, or is not Parquet.
    #[error("{key}: cannot read {}: {cause}", path.display())]
    Unreadable {
        /// The key of the configuration that names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// A column is missing, or cannot be what it is asked to be.
    #[error("{key}: {}: column '{column}' {problem}", path.display())]
    Column {
        /// The key of the configuration that names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// In words.
        problem: String,
    },
    /// It describes nothing.
    #[error("{key}: {}: {problem}", path.display())]
    Empty {
        /// The key of the configuration that names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// In words.
        problem: String,
    },
}

/// The features of items, as buckets.
#[derive(Debug, Default)]
pub struct Catalogue {
    n_buckets: u64,
    seed: u64,
    ids: Ids,
    /// By item, each bucket once.
    buckets: Vec<Vec<u32>>,
    matches: Matches,
}

/// How many new items of the stream were asked for, and what was known of them; no part of the model.
#[derive(Debug, Default)]
struct Matches {
    asked: AtomicU64,
    /// Those that the catalogue describes.
    described: AtomicU64,
    /// Those whose event brought features along.
    with_features: AtomicU64,
}

impl Catalogue {
    /// One that describes no item; the features of events are hashed as `config` says.
    pub fn empty(config: &Config) -> Self {
        let n_buckets = config.features.buckets as u64;
        Self { n_buckets, seed: config.seed, ..Self::default() }
    }

    /// Reads the one that `config` names, if it names one.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn open(config: &Config) -> Result<Self, CatalogueError> {
        let mut catalogue = Self::empty(config);
        let path = &config.features.catalogue;
        if catalogue.n_buckets == 0 || path.as_os_str().is_empty() {
            return Ok(catalogue);
        }
        let names =
            read((KEY, path), &config.source.fields.item_id, &config.features.columns, |item, row, described| {
                catalogue.add(item, row, described);
            })?;
        if catalogue.ids.is_empty() {
            return Err(CatalogueError::Empty { key: KEY, path: path.clone(), problem: "it names no item".to_owned() });
        }
        let features: usize = catalogue.buckets.iter().map(Vec::len).sum();
        tracing::info!(items = catalogue.ids.len(), features, columns = names.join(", "), "catalogue read");
        Ok(catalogue)
    }

    fn add(&mut self, item: &str, row: usize, columns: &[(&str, &ArrayRef)]) {
        let place = self.ids.intern(item) as usize;
        if place == self.buckets.len() {
            self.buckets.push(Vec::new());
        }
        let mut found = std::mem::take(&mut self.buckets[place]);
        for (name, column) in columns {
            features(column, row, &mut |feature| {
                let bucket = self.bucket(name, feature);
                if !found.contains(&bucket) {
                    found.push(bucket);
                }
            });
        }
        self.buckets[place] = found;
    }

    fn bucket(&self, column: &str, feature: &str) -> u32 {
        let hash = stable_hash(self.seed, &[column, &feature.trim().to_lowercase()]);
        ((hash ^ (hash >> 32)) % self.n_buckets) as u32
    }

    /// Buckets of the features of `item`, which comes with an event that has `more` of them.
    pub fn of(&self, item: &str, more: &[CompactString]) -> Vec<u32> {
        if self.n_buckets == 0 {
            return Vec::new();
        }
        let place = self.ids.get(item);
        let Matches { asked, described, with_features } = &self.matches;
        asked.fetch_add(1, Ordering::Relaxed);
        described.fetch_add(u64::from(place.is_some()), Ordering::Relaxed);
        with_features.fetch_add(u64::from(!more.is_empty()), Ordering::Relaxed);
        let mut buckets = place.map(|place| self.buckets[place as usize].clone()).unwrap_or_default();
        buckets.extend(more.iter().take(MOST_OF_EVENT).map(|feature| self.bucket(OF_EVENTS, feature)));
        buckets
    }

    /// The warning where nothing was known of any new item, in a model that has `n_items` by now.
    pub fn warning(&self, n_items: usize) -> Option<String> {
        let Matches { asked, described, with_features } = &self.matches;
        let [asked, described, with_features] = [asked, described, with_features].map(|n| n.load(Ordering::Relaxed));
        // What a few newcomers lack says little of an old model.
        if asked == 0 || (asked < CONVINCING && (asked as usize) < n_items) || described > 0 {
            return None;
        }
        match self.ids.len() {
            0 if with_features > 0 => None,
            0 => Some(format!(
                "features.buckets is set, but none of {asked} new items came with features: there is no \
                 features.catalogue, and no event has any (source.fields.features says where they are)"
            )),
            known => Some(format!(
                "features.catalogue describes {known} items, and none of {asked} new items of the stream is among them: the \
                 ids of both must be equal as text"
            )),
        }
    }
}

/// Gives each item that the catalogue at `path` names to `take`, with its row in the columns that describe it; returns the names of
/// these: those `wanted`, or all that can be. `id` is the column of the names.
fn read(
    (key, path): (&'static str, &Path),
    id: &str,
    wanted: &[String],
    mut take: impl FnMut(&str, usize, &[(&str, &ArrayRef)]),
) -> Result<Vec<String>, CatalogueError> {
    let unreadable = |cause: &dyn std::fmt::Display| CatalogueError::Unreadable {
        key,
        path: path.to_owned(),
        cause: cause.to_string(),
    };
    let file = File::open(path).map_err(|error| unreadable(&error))?;
    // The writer's Arrow types are storage details: the Parquet types are few and always the same.
    let reading = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let metadata = catch_panic(|| ArrowReaderMetadata::load(&file, reading)).map_err(|words| unreadable(&words))?;
    let metadata = metadata.map_err(|error| unreadable(&error))?;
    let names = columns((key, path), metadata.schema(), id, wanted)?;
    let roots = metadata.schema().fields().iter().enumerate();
    let roots = roots.filter(|(_, field)| field.name() == id || names.contains(field.name()));
    let mask = ProjectionMask::roots(metadata.parquet_schema(), roots.map(|(root, _)| root));
    let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata.clone()).with_projection(mask);
    let reader = catch_panic(|| reader.build()).map_err(|words| unreadable(&words))?;
    let mut reader = reader.map_err(|error| unreadable(&error))?;
    while let Some(batch) = catch_panic(|| reader.next()).map_err(|words| unreadable(&words))? {
        let batch = batch.map_err(|error| unreadable(&error))?;
        let column = |name: &str| batch.column_by_name(name).expect("it was asked for");
        let (ids, are_uuids) = (column(id), is_uuid(metadata.parquet_schema(), &[id.to_owned()]));
        let described: Vec<(&str, &ArrayRef)> = names.iter().map(|name| (name.as_str(), column(name))).collect();
        for row in 0..batch.num_rows() {
            // Nobody can choose what has no name.
            if let Some(item) = identifier(ids, row, are_uuids) {
                take(&item, row, &described);
            }
        }
    }
    Ok(names)
}

/// The columns of a catalogue with `schema` that are features: those `wanted`, or all that can be.
fn columns(
    (key, path): (&'static str, &Path),
    schema: &Schema,
    id: &str,
    wanted: &[String],
) -> Result<Vec<String>, CatalogueError> {
    let problem = |column: &str, problem: String| CatalogueError::Column {
        key,
        path: path.to_owned(),
        column: column.to_owned(),
        problem,
    };
    let there: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    let kind = |name: &str| schema.field_with_name(name).ok().map(Field::data_type);
    let missing = |name: &str| problem(name, format!("is missing; there are {}", there.join(", ")));
    match kind(id) {
        Some(found) if names_things(found) => {}
        Some(found) => return Err(problem(id, format!("must be text or whole numbers, but is {found}"))),
        None => return Err(problem(id, format!("is missing; there are {} (source.fields.item_id)", there.join(", ")))),
    }
    let mut names = Vec::new();
    for name in wanted {
        match kind(name) {
            None => return Err(missing(name)),
            Some(_) if name == id => return Err(problem(id, "holds the item ids: these are no features".to_owned())),
            Some(found) if !describes(found) => {
                let what = "must be text, a list of text, whole numbers or truth values";
                return Err(problem(name, format!("{what}, but is {found}")));
            }
            Some(_) => names.push(name.clone()),
        }
    }
    for field in schema.fields().iter().filter(|field| wanted.is_empty() && field.name() != id) {
        if describes(field.data_type()) {
            names.push(field.name().clone());
        } else {
            tracing::info!(column = field.name(), "left out of the catalogue: no text, and no category");
        }
    }
    if names.is_empty() {
        let problem = format!("no column besides '{id}' describes items; there are {}", there.join(", "));
        return Err(CatalogueError::Empty { key, path: path.to_owned(), problem });
    }
    names.dedup();
    Ok(names)
}

/// Whether a column of this type holds features.
fn describes(kind: &DataType) -> bool {
    let one = |kind: &DataType| *kind == DataType::Utf8 || kind.is_integer() || *kind == DataType::Boolean;
    match kind {
        DataType::List(inner) => one(inner.data_type()),
        kind => one(kind),
    }
}

/// Gives the features in row `row` of `column` to `take`.
fn features(column: &ArrayRef, row: usize, take: &mut dyn FnMut(&str)) {
    parts(column, row, take, |column, row, take| match column.as_string_opt::<i32>() {
        Some(text) => words(text.value(row)).for_each(take),
        None => whole(column, row, take),
    });
}

/// What gives the parts of a value in a row of a column.
type GiveParts = fn(&ArrayRef, usize, &mut dyn FnMut(&str));

/// Gives the parts of what is in row `row` of `column` to `take`: each element of a list, each part of a text with a `|` in it;
/// anything else is left to `undivided`.
fn parts(column: &ArrayRef, row: usize, take: &mut dyn FnMut(&str), undivided: GiveParts) {
    if column.is_null(row) {
        return;
    }
    if let Some(list) = column.as_list_opt::<i32>() {
        let elements = list.value(row);
        return (0..elements.len()).for_each(|element| whole(&elements, element, take));
    }
    match column.as_string_opt::<i32>() {
        Some(text) if text.value(row).contains('|') => {
            text.value(row).split('|').filter(|part| !part.trim().is_empty()).for_each(take);
        }
        _ => undivided(column, row, take),
    }
}

/// Gives what is in row `row` of `column` to `take`, in one piece.
fn whole(column: &ArrayRef, row: usize, take: &mut dyn FnMut(&str)) {
    if let Some(values) = column.as_boolean_opt() {
        if column.is_valid(row) {
            take(if values.value(row) { "true" } else { "false" });
        }
    } else if let Some(text) = identifier(column, row, false).filter(|text| !text.trim().is_empty()) {
        take(&text);
    }
}

/// The words of `text`.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '\'' && c != '’')
        .map(|word| word.trim_matches(['\'', '’']))
        .filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_titles() {
        let found: Vec<_> = words("Rosencrantz & Guildenstern (1990): 'It''s' Children's Crème-Brûlée").collect();
        assert_eq!(found, ["Rosencrantz", "Guildenstern", "1990", "It''s", "Children's", "Crème", "Brûlée"]);
        assert_eq!(words(" -- ").count(), 0);
    }
}
