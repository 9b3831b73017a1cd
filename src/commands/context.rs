//! What a command that works for a while has around it: logs, signals, the page, and the report at the end.

use std::time::Instant;

use anyhow::Context;
use indicatif::{MultiProgress, ProgressBar};

use super::output::{print, progress_bar, write_whole};
use crate::cli::Output;
use crate::config::Config;
use crate::pipeline::Pipeline;
use crate::reporter::Reporter;
use crate::reporter::report::Report;
use crate::signals::{self, Stop};
use crate::telemetry::health::Health;
use crate::telemetry::http::{self, Handles, Server};
use crate::telemetry::logging::{self, LineWriter};
use crate::telemetry::metrics;
use crate::telemetry::status::{Phase, SharedStatus};

/// The surroundings of a command that works for a while.
pub(super) struct CommandContext {
    pub(super) bars: MultiProgress,
    pub(super) stop: Stop,
    pub(super) status: SharedStatus,
    pub(super) health: Health,
}

impl CommandContext {
    /// Sends logs to standard error from now on, and has signals stop the work in good order.
    pub(super) fn set_up(config: &Config) -> anyhow::Result<Self> {
        let bars = MultiProgress::new();
        logging::init(&config.log, LineWriter::above(bars.clone()))?;
        let stop = signals::install().context("cannot listen to signals")?;
        Ok(Self { bars, stop, status: SharedStatus::new(), health: Health::new(Instant::now()) })
    }

    /// Serves metrics, health and the page, where an address is configured.
    pub(super) fn serve(&self, config: &Config) -> anyhow::Result<Option<Server>> {
        if config.http.listen.is_empty() {
            return Ok(None);
        }
        let metrics = metrics::install();
        let handles = Handles { status: self.status.clone(), health: self.health.clone(), metrics };
        let server = http::serve(&config.http.listen, handles)?;
        tracing::info!(address = %server.address(), "serving the page, /metrics, /livez and /readyz");
        Ok(Some(server))
    }

    /// A progress bar for work that trains nothing.
    pub(super) fn bar(&self, total: u64, unit: &str) -> ProgressBar {
        self.bars.add(progress_bar(total, unit))
    }

    /// Ends a run: the page says so, and the report is written and printed.
    pub(super) fn conclude(&self, pipeline: &Pipeline, reporter: &Reporter, output: &Output) -> anyhow::Result<()> {
        reporter.finish();
        self.status.enter(Phase::Done);
        let state = pipeline.state();
        let checkpoint = pipeline.checkpoint_path().map(|path| path.display().to_string());
        let report = Report::new(state, reporter.worked(state), checkpoint);
        if let Some(path) = &output.report {
            write_whole(path, &format!("{}\n", serde_json::to_string_pretty(&report)?))?;
        }
        print(&if output.json { format!("{}\n", serde_json::to_string(&report)?) } else { report.text() });
        Ok(())
    }
}
