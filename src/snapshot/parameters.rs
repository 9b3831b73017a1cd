//! `parameters.parquet`: the learned parameters of model and objectives that belong to no row, by name.

use std::collections::BTreeMap;
use std::path::Path;

use arrow_array::types::Float32Type;
use arrow_schema::{DataType, Field};

use super::damaged;
use crate::checkpoint::CheckpointError;
use crate::checkpoint::columns::{self, Layout, list_column, list_field, string_column};
use crate::checkpoint::store::Draft;
use crate::model::Model;
use crate::objective::Objectives;
use crate::table::adagrad::Parameters;

const PARAMETERS: &str = "parameters.parquet";

/// Writes a row for each parameter: `name`, `values`, and the optimizer's `accumulators`.
pub(super) fn write(draft: &mut Draft, parameters: &[(String, Parameters)]) -> Result<(), CheckpointError> {
    let fields = vec![
        Field::new("name", DataType::Utf8, false),
        list_field::<Float32Type>("values"),
        list_field::<Float32Type>("accumulators"),
    ];
    columns::write(draft, PARAMETERS, fields, parameters.len(), Layout::Internal, |range| {
        let rows = &parameters[range];
        vec![
            string_column(rows.iter().map(|(name, _)| name.as_str())),
            list_column::<Float32Type, _>(rows.iter().map(|(_, parameters)| parameters.values.iter().copied())),
            list_column::<Float32Type, _>(rows.iter().map(|(_, parameters)| parameters.sums.iter().copied())),
        ]
    })
}

/// Reads every parameter of `model` and `objectives`.
pub(super) fn read(folder: &Path, model: &mut Model, objectives: &mut Objectives) -> Result<(), CheckpointError> {
    let mut named: BTreeMap<String, (Vec<f32>, Vec<f32>)> = BTreeMap::new();
    columns::read(folder, PARAMETERS, |slice| {
        let names = slice.strings("name")?;
        let values = slice.lists::<Float32Type>("values")?;
        let accumulators = slice.lists::<Float32Type>("accumulators")?;
        for row in 0..slice.len() {
            named.insert(names.value(row).to_owned(), (values.row(row).to_vec(), accumulators.row(row).to_vec()));
        }
        Ok(())
    })?;
    let of_model = model.parameters_mut().map(|(name, parameters)| (name.into_owned(), parameters));
    for (name, parameters) in of_model.chain(objectives.parameters_mut()) {
        let missing = || damaged(folder, PARAMETERS, &format!("'{name}' is missing"));
        let (values, sums) = named.remove(&name).ok_or_else(missing)?;
        if [values.len(), sums.len()] != [parameters.values.len(); 2] {
            return Err(damaged(folder, PARAMETERS, &format!("'{name}' is of another length")));
        }
        *parameters = Parameters { values, sums };
    }
    Ok(())
}
