//! `config`: the default, a check, the schema.

use super::{load, print};
use crate::cli::{ConfigAction, Layers};
use crate::config::{layers, schema, template};

pub(super) fn config(layers: &Layers, action: ConfigAction) -> anyhow::Result<()> {
    match action {
        ConfigAction::Default => print(&template::template()),
        ConfigAction::Check => print(&layers::to_redacted_toml(&load(layers)?)?),
        ConfigAction::Schema => print(&schema::to_text()),
    }
    Ok(())
}
