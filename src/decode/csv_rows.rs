//! Rows of a CSV log to interactions: which cell each field is in, and what its text means there.
//!
//! | field | cells |
//! | --- | --- |
//! | `user_id`, `item_id`, `session_id`, `event_type` | the text as it stands |
//! | `timestamp` | numbers of `source.timestamp_unit`, RFC 3339 and the like (`time`) |
//! | `value` | numbers |
//! | `features` | elements with `source.csv.list_delimiter` between them |
//!
//! An empty cell holds nothing. A row with more or fewer cells than there are columns is no event: nobody knows which of its
//! cells is which. Empty cells behind the last column are passed over.

use compact_str::CompactString;

use super::arrow_rows::{ColumnProblem, ColumnSelection, missing_among};
use super::fields::{Field, FieldRules, FieldValue, FieldValues, ListBuilder};
use super::{Fault, FolderValues};
use crate::event::{EventLimits, Interaction, Reason};

/// The cells of one row.
#[derive(Debug, Clone, Copy)]
pub struct CsvCells<'a> {
    bytes: &'a [u8],
    /// Where each cell ends, and the next one begins.
    ends: &'a [usize],
}

impl<'a> CsvCells<'a> {
    /// The cells of `bytes`, one behind the other, that end at `ends`.
    pub fn new(bytes: &'a [u8], ends: &'a [usize]) -> Self {
        Self { bytes, ends }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.ends.len()
    }

    /// A cell; empty where there is none.
    pub fn get(&self, place: usize) -> &'a [u8] {
        let begin = place.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        self.ends.get(place).and_then(|end| self.bytes.get(begin..*end)).unwrap_or_default()
    }

    /// All cells.
    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> {
        (0..self.count()).map(|place| self.get(place))
    }
}

/// Where the fields of interactions are in the rows of a CSV log.
#[derive(Debug, Clone)]
pub struct CsvColumns {
    places: [Option<usize>; Field::COUNT],
    /// How many columns there are.
    count: usize,
    folders: FolderValues,
    list_delimiter: String,
}

impl CsvColumns {
    /// Finds the fields among the columns `names`, and says what else a person should know of them.
    ///
    /// # Errors
    /// The first column that is missing.
    pub fn find(
        names: &[String],
        rules: &FieldRules,
        selection: ColumnSelection,
        folders: FolderValues,
        list_delimiter: &str,
    ) -> Result<(Self, Vec<ColumnProblem>), ColumnProblem> {
        let mut places = [None; Field::COUNT];
        let mut told = Vec::new();
        for field in Field::ALL {
            if field == Field::Features && selection == ColumnSelection::Model {
                continue;
            }
            let name = field.name(&rules.names);
            places[field as usize] = names.iter().position(|column| column == name);
            if places[field as usize].is_some() || folders.tells(field) {
                continue;
            }
            if matches!(field, Field::User | Field::Item | Field::Timestamp) {
                return Err((name.to_owned(), missing_among(names, name, field, rules)));
            }
            if !field.has_default_name(&rules.names) {
                told.push((name.to_owned(), format!("is missing, and so left out ({})", field.key())));
            }
        }
        Ok((Self { places, count: names.len(), folders, list_delimiter: list_delimiter.to_owned() }, told))
    }

    /// The interaction in a row.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(&self, cells: CsvCells<'_>, rules: &FieldRules, limits: EventLimits) -> Result<Interaction, Fault> {
        let is_surplus = |place: usize| !cells.get(place).is_empty();
        if cells.count() < self.count || (self.count..cells.count()).any(is_surplus) {
            let detail = format!("{} cells, where there are {} columns", cells.count(), self.count);
            return Err((Reason::Unparsable, detail));
        }
        let mut found = FieldValues::default();
        for field in Field::ALL {
            if let Some(place) = self.places[field as usize] {
                *found.slot(field) = self.value(field, cells.get(place));
            }
        }
        self.folders.fill(&mut found);
        let event = found.interaction(rules)?;
        limits.check(&event)?;
        Ok(event)
    }

    /// The type of the event in a row, whatever else the row holds; `None` where there is none.
    pub fn kind(&self, cells: CsvCells<'_>) -> Option<CompactString> {
        match self.places[Field::Kind as usize] {
            Some(place) => CompactString::from_utf8(cells.get(place)).ok(),
            None => self.folders.kind().map(CompactString::from),
        }
    }

    fn value<'a>(&self, field: Field, cell: &'a [u8]) -> FieldValue<'a> {
        if cell.is_empty() {
            return FieldValue::Null;
        }
        let text = FieldValue::bytes(cell);
        match (field, &text) {
            (Field::Value, FieldValue::Text(digits)) => digits.trim().parse().map_or(text, FieldValue::Float),
            (Field::Timestamp, FieldValue::Text(time)) => FieldValue::Text(time.trim().to_owned().into()),
            (Field::Features, FieldValue::Text(elements)) => {
                let mut list = ListBuilder::default();
                for element in elements.split(self.list_delimiter.as_str()).filter(|element| !element.is_empty()) {
                    list.push(&FieldValue::Text(element.into()));
                }
                list.into_value()
            }
            _ => text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn decoded(names: &[&str], row: &[&str], settings: &[&str]) -> Result<Interaction, String> {
        let source = Config::with_settings(settings).unwrap().source;
        let rules = FieldRules::new(&source);
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let find = CsvColumns::find(&names, &rules, ColumnSelection::All, FolderValues::default(), "|");
        let (columns, _) = find.map_err(|(column, problem)| format!("{column} {problem}"))?;
        let bytes = row.concat();
        let mut end = 0;
        let ends: Vec<usize> = row
            .iter()
            .map(|cell| {
                end += cell.len();
                end
            })
            .collect();
        let cells = CsvCells::new(bytes.as_bytes(), &ends);
        columns.decode(cells, &rules, crate::decode::limits(&source)).map_err(|(_, detail)| detail)
    }

    #[test]
    fn cells_are_fields_by_the_names_of_their_columns() {
        let names = ["timestamp", "item_id", "x", "user_id", "value", "features"];
        let event = decoded(&names, &["1767225600", "i", "y", "u", " 4.5", "a|b||c"], &["source.timestamp_unit=s"]);
        let event = event.unwrap();
        assert_eq!((event.user.as_str(), event.item.as_str(), event.timestamp), ("u", "i", 1_767_225_600_000));
        assert_eq!((event.value, event.features.len(), event.kind.as_str()), (Some(4.5), 3, ""));
    }

    #[test]
    fn wrong_rows_are_told_by_what_is_wrong() {
        let names = ["user_id", "item_id", "timestamp"];
        let said = |row: &[&str]| decoded(&names, row, &[]).unwrap_err();
        assert!(said(&["u", "i"]).contains("2 cells, where there are 3"));
        assert!(said(&["u", "i", "1767225600000", "x"]).contains("4 cells"));
        assert!(said(&["u", "", "1767225600000"]).contains("item_id: null"));
        assert!(said(&["u", "i", "yesterday"]).contains("yesterday"));
        assert!(decoded(&names, &["u", "i", "1767225600000", ""], &[]).is_ok(), "an empty cell at the end is none");
    }

    #[test]
    fn missing_columns_are_told_with_all_that_has_to_be_set() {
        let said = decoded(&["userId", "movieId", "rating", "timestamp"], &[], &[]).unwrap_err();
        for word in ["userId, movieId", "source.fields.user_id=userId", "source.fields.item_id=movieId"] {
            assert!(said.contains(word), "{word}: {said}");
        }
        assert!(!said.contains("fields.timestamp"), "{said}");
    }
}
