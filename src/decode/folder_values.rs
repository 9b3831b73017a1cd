//! Fields that the names of folders tell of every row in them (`event_type=click/`), for rows that do not have them
//! themselves.

use super::arrow_rows::PartitionValue;
use super::fields::{Field, FieldRules, FieldValue, FieldValues};

/// The fields of a log that the names of its folders tell.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FolderValues(Vec<(Field, Option<String>)>);

impl FolderValues {
    /// Which of the columns that folders tell are fields of an event.
    pub fn new(partitions: &[PartitionValue], rules: &FieldRules) -> Self {
        let of = |field: Field| {
            let name = field.name(&rules.names);
            partitions.iter().find(|(column, _)| column == name).map(|(_, value)| (field, value.clone()))
        };
        Self(Field::ALL.into_iter().filter_map(of).collect())
    }

    /// Whether a field is told.
    pub(super) fn tells(&self, field: Field) -> bool {
        self.0.iter().any(|(told, _)| *told == field)
    }

    /// The type of every event, where it is told.
    pub fn kind(&self) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(field, _)| *field == Field::Kind)?;
        Some(value.as_deref().unwrap_or_default())
    }

    /// Fills in what a row does not have itself.
    pub(super) fn fill<'a>(&'a self, found: &mut FieldValues<'a>) {
        for (field, value) in &self.0 {
            let slot = found.slot(*field);
            if matches!(slot, FieldValue::Absent) {
                *slot = value.as_deref().map_or(FieldValue::Null, |text| folder_value(text, *field));
            }
        }
    }
}

/// A value from the name of a folder, which is always text.
pub(super) fn folder_value(text: &str, field: Field) -> FieldValue<'_> {
    match field {
        Field::Value => text.parse().map_or(FieldValue::Text(text.into()), FieldValue::Float),
        Field::Features => FieldValue::Texts(vec![text.into()]),
        _ => FieldValue::Text(text.into()),
    }
}
