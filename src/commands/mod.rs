//! The commands: each brings its source to the pipeline, and shows what comes of it.
//!
//! This is the composition root. It alone names concrete sources, reads the environment, and listens to signals; what
//! it composes does none of that.

mod audit;
mod audit_shared;
mod check;
mod compare;
mod config;
mod contest;
mod context;
mod demo;
mod doctor;
mod export;
mod import;
mod inspect;
mod late_ranks;
pub mod loaded;
mod manual;
mod migrate;
mod negatives;
mod neighbors;
mod output;
mod produce;
mod publish;
mod recommend;
mod replay;
mod run;
mod serve;
mod synth;
mod topics;
mod tune;
mod tune_report;
mod tune_state;

use std::path::Path;

use crate::checkpoint::Checkpoint;
use crate::checkpoint::store::is_url;
use crate::cli::{Cli, Command, Layers};
use crate::config::{Config, layers};
use crate::exit::UsageError;
use context::CommandContext;
use output::{check_file, check_output, print, progress_bar, write_whole, write_whole_by};

/// Runs the command of a command line.
///
/// # Errors
/// The error that stopped the command; [`crate::exit::code`] gives its exit code.
pub fn dispatch(cli: Cli) -> anyhow::Result<()> {
    let Cli { command, layers } = cli;
    perform(command, &layers)?;
    output::check_printed()
}

fn perform(command: Command, layers: &Layers) -> anyhow::Result<()> {
    match command {
        Command::Demo(options) => demo::demo(layers, options),
        Command::Run(options) => run::run(&load(layers)?, options),
        Command::Replay(options) => replay::replay(&load(layers)?, options),
        Command::Import(options) => import::import(layers, &options),
        Command::Compare(options) => compare::compare(layers, options),
        Command::Tune(options) => tune::tune(layers, &options),
        Command::Produce(options) => produce::produce(&load(layers)?, options),
        Command::Migrate(options) => migrate::migrate(&load(layers)?, &options),
        Command::Synth(options) => synth::synth(&load(layers)?, options),
        Command::Neighbors(options) => neighbors::neighbors(layers, options),
        Command::Recommend(options) => recommend::recommend(layers, options),
        Command::Serve(options) => serve::serve(layers, options),
        Command::Publish(options) => publish::publish(layers, options),
        Command::Export(options) => export::export(layers, options),
        Command::Negatives(options) => negatives::negatives(layers, options),
        Command::Audit(options) => audit::audit(layers, options),
        Command::Inspect(options) => inspect::inspect(layers, options),
        Command::Config(options) => config::config(layers, options.action),
        Command::Check(options) => check::check(layers, &options),
        Command::Doctor(options) => doctor::doctor(layers, &options),
        Command::Completions(options) => manual::completions(options.shell),
        Command::Man(options) => manual::man(options.dir.as_deref()),
    }
}

/// The configuration from all its layers.
fn load(layers: &Layers) -> anyhow::Result<Config> {
    load_over(layers, &[])
}

/// The configuration from all its layers, over defaults of a command's own.
fn load_over(layers: &Layers, defaults: &[String]) -> anyhow::Result<Config> {
    load_with(layers, defaults, &[])
}

/// The configuration from all its layers, over `defaults`, and with `settings` over them.
fn load_with(layers: &Layers, defaults: &[String], settings: &[String]) -> anyhow::Result<Config> {
    let mut environment = Vec::new();
    for (name, value) in std::env::vars_os() {
        match (name.into_string(), value.into_string()) {
            (Ok(name), Ok(value)) => environment.push((name, value)),
            (Ok(name), Err(_)) if name.starts_with(layers::ENVIRONMENT_PREFIX) => {
                return Err(UsageError(format!("environment variable {name}: its value is not UTF-8")).into());
            }
            // Variables of other programs need not be Unicode.
            _ => {}
        }
    }
    let flags = [layers.set.as_slice(), settings].concat();
    let config = layers::load_with_defaults(defaults, layers.config.as_deref(), environment.into_iter(), &flags)?;
    crate::kafka::check_properties(&config.kafka)?;
    Ok(config)
}

/// The checkpoint that a command line names. An object store has options in the configuration; a folder needs none.
fn checkpoint(layers: &Layers, path: &Path) -> anyhow::Result<Checkpoint> {
    let config = if is_url(path) { load(layers)? } else { Config::default() };
    Ok(Checkpoint::open_with(path, &config.checkpoint)?)
}
