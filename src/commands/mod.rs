//! The commands: each brings its source to the worker, and shows what comes of it.
//!
//! This is the composition root. It alone names concrete sources, reads the environment, and listens to signals; what
//! it composes does neither.

mod audit;
mod config;
mod demo;
mod inspect;
mod negatives;
mod neighbors;
mod produce;
mod replay;
mod run;
mod synth;

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use anyhow::Context;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::checkpoint::store::{self, VerifiedCheckpoint};
use crate::cli::{Cli, Command, Layers, Output};
use crate::config::{Config, layers};
use crate::exit::UsageError;
use crate::pipeline::Worker;
use crate::reporter::Reporter;
use crate::reporter::report::Report;
use crate::signals::{self, Stop};
use crate::telemetry::health::Health;
use crate::telemetry::http::{self, Handles, Server};
use crate::telemetry::logging::{self, LineWriter};
use crate::telemetry::metrics;
use crate::telemetry::status::{Phase, SharedStatus};

/// Does what the command line says.
///
/// # Errors
/// Whatever stopped it; [`crate::exit::code`] tells which exit code that is.
pub fn dispatch(cli: Cli) -> anyhow::Result<()> {
    let Cli { command, layers } = cli;
    match command {
        Command::Demo(options) => demo::demo(&layers, options),
        Command::Run(options) => run::run(&load(&layers)?, options),
        Command::Replay(options) => replay::replay(&load(&layers)?, options),
        Command::Produce(options) => produce::produce(&load(&layers)?, options),
        Command::Synth(options) => synth::synth(&load(&layers)?, options),
        Command::Neighbors(options) => neighbors::neighbors(&layers, options),
        Command::Negatives(options) => negatives::negatives(&layers, options),
        Command::Audit(options) => audit::audit(&layers, options),
        Command::Inspect(options) => inspect::inspect(&layers, options),
        Command::Config(options) => config::config(&layers, options.action),
    }
}

/// The configuration from all its layers.
fn load(layers: &Layers) -> anyhow::Result<Config> {
    load_over(layers, &[])
}

/// The same, over defaults of a command's own.
fn load_over(layers: &Layers, defaults: &[String]) -> anyhow::Result<Config> {
    // Names of other programs' variables may be anything; ours are text.
    let environment =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let config = layers::load_over(defaults, layers.config.as_deref(), environment, &layers.set)?;
    crate::kafka::check_properties(&config.kafka)?;
    Ok(config)
}

/// The checkpoint that a command was told to look at. An object store has options in the configuration; a folder needs none.
fn checkpoint(layers: &Layers, path: &Path) -> anyhow::Result<VerifiedCheckpoint> {
    let config = if store::is_url(path) { load(layers)? } else { layers::default() };
    Ok(store::find(path, &config.checkpoint)?)
}

/// What every command that works for a while has around it.
struct CommandContext {
    bars: MultiProgress,
    stop: Stop,
    status: SharedStatus,
    health: Health,
}

impl CommandContext {
    /// Logs go to standard error from now on, and signals stop the work in good order.
    fn set_up(config: &Config) -> anyhow::Result<Self> {
        let bars = MultiProgress::new();
        logging::init(&config.log, LineWriter::above(bars.clone()))?;
        let stop = signals::install().context("cannot listen to signals")?;
        Ok(Self { bars, stop, status: SharedStatus::new(), health: Health::new(Instant::now()) })
    }

    /// Serves metrics, health and the page, where an address is configured.
    fn serve(&self, config: &Config) -> anyhow::Result<Option<Server>> {
        if config.http.listen.is_empty() {
            return Ok(None);
        }
        let metrics = metrics::install();
        let handles = Handles { status: self.status.clone(), health: self.health.clone(), metrics };
        let server = http::serve(&config.http.listen, handles)?;
        tracing::info!(address = %server.address(), "serving the page, /metrics, /livez and /readyz");
        Ok(Some(server))
    }

    /// A bar for work that trains nothing.
    fn bar(&self, total: u64, unit: &str) -> ProgressBar {
        self.bars.add(progress(total, unit))
    }

    /// Ends a run: the page says so, the report is written and printed.
    fn conclude(&self, worker: &Worker, reporter: &Reporter, output: &Output) -> anyhow::Result<()> {
        reporter.finish();
        self.status.enter(Phase::Done);
        let report =
            Report::new(&worker.trainer.state, reporter.worked(&worker.trainer.state), worker.checkpoint_path());
        if let Some(path) = &output.report {
            write_whole(path, &format!("{}\n", serde_json::to_string_pretty(&report)?))?;
        }
        print(&if output.json { format!("{}\n", serde_json::to_string(&report)?) } else { report.text() });
        Ok(())
    }
}

/// A bar, to be seen on a terminal alone.
fn progress(total: u64, unit: &str) -> ProgressBar {
    let style =
        format!("{{bar:30.cyan/dim}} {{percent:>3}}% {{human_pos}}/{{human_len}} {unit}  {{per_sec}}  {{eta}} left");
    let style = ProgressStyle::with_template(&style).expect("a valid template").progress_chars("━╸─");
    ProgressBar::new(total).with_style(style)
}

/// The one of `names` that is most like `name`.
fn nearest<'a>(names: impl Iterator<Item = &'a str>, name: &str) -> Option<&'a str> {
    let likeness = |other: &str| strsim::jaro_winkler(other, name);
    names.max_by(|a, b| likeness(a).total_cmp(&likeness(b)))
}

/// A report that could not be written is found out before the work, not after it.
fn check_output(output: &Output) -> anyhow::Result<()> {
    output.report.as_deref().map_or(Ok(()), |path| check_file("--report", path))
}

/// Whether a file can be made at `path`, as far as can be told without making it.
fn check_file(flag: &str, path: &Path) -> anyhow::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if folder.is_dir() && !path.is_dir() {
        return Ok(());
    }
    Err(UsageError(format!("{flag} {}: no such folder, or a folder itself", path.display())).into())
}

/// Prints to standard output; whoever reads it may have heard enough.
fn print(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

/// Writes a file that is there whole or not at all.
fn write_whole(path: &Path, text: &str) -> anyhow::Result<()> {
    write_whole_by(path, |file| Ok(file.write_all(text.as_bytes())?))
}

/// The same, of what `write` writes.
fn write_whole_by(path: &Path, write: impl FnOnce(&mut File) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let unfinished = path.with_extension("unfinished");
    let write = || {
        let mut file = File::create(&unfinished)?;
        write(&mut file)?;
        Ok(std::fs::rename(&unfinished, path)?)
    };
    write()
        .inspect_err(|_: &anyhow::Error| drop(std::fs::remove_file(&unfinished)))
        .with_context(|| format!("cannot write {}", path.display()))
}
