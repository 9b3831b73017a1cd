//! `config`: the default, a check, the schema.

use super::{load, print};
use crate::cli::{ConfigAction, Layers};
use crate::config::{Config, layers};

pub(super) fn config(layers: &Layers, action: ConfigAction) -> anyhow::Result<()> {
    match action {
        ConfigAction::Default => print(layers::DEFAULT),
        ConfigAction::Check => print(&layers::shown(&load(layers)?)?),
        ConfigAction::Schema => print(&schema()?),
    }
    Ok(())
}

/// The JSON Schema of the configuration, as `schemas/config.schema.json` holds it.
pub fn schema() -> anyhow::Result<String> {
    Ok(format!("{}\n", serde_json::to_string_pretty(&schemars::schema_for!(Config))?))
}
