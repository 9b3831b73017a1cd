//! What a command that works for a while has around it: logs, signals, the page, and the report at the end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use indicatif::{MultiProgress, ProgressBar};

use super::output::{print, progress_bar, write_whole};
use crate::checkpoint::Checkpoint;
use crate::cli::Output;
use crate::config::Config;
use crate::exit;
use crate::pipeline::{CheckpointRequests, Pipeline, SideFile};
use crate::recommend::slot::ViewSlot;
use crate::serve::Api;
use crate::signals::{self, Stop};
use crate::telemetry::http::{self, Server};
use crate::telemetry::logging::{self, LineWriter};
use crate::telemetry::observer::RunObserver;
use crate::telemetry::{LifecycleEvent, Telemetry, report_page, series};

/// The surroundings of a command that works for a while.
pub(super) struct CommandContext {
    pub(super) bars: MultiProgress,
    pub(super) stop: Stop,
    pub(super) telemetry: Telemetry,
    /// Who asks for checkpoints: by SIGUSR1, or over the network.
    pub(super) requests: CheckpointRequests,
    /// What requests to the API are answered from.
    pub(super) views: ViewSlot,
}

impl CommandContext {
    /// Sends logs to standard error from now on, and has signals stop the work in good order.
    pub(super) fn set_up(config: &Config) -> anyhow::Result<Self> {
        let bars = MultiProgress::new();
        logging::init(&config.log, LineWriter::above(bars.clone()))?;
        let stop = signals::install().context("cannot listen to signals")?;
        let requests = CheckpointRequests::with_flag(signals::checkpoint_flag().context("cannot listen to signals")?);
        Ok(Self { bars, stop, telemetry: Telemetry::new(Instant::now()), requests, views: ViewSlot::default() })
    }

    /// Serves metrics, health and the page, where an address is configured.
    pub(super) fn serve(&self, config: &Config) -> anyhow::Result<Option<Server>> {
        if config.http.listen.is_empty() {
            return Ok(None);
        }
        let names = (config.http.token.as_str(), config.source.fields.item_id.as_str());
        let api = Api::start(&config.serve, names, self.views.clone(), self.telemetry.serving())?;
        let server = http::serve(&config.http, self.telemetry.clone(), self.requests.clone(), Some(&api))?;
        tracing::info!(address = %server.address(), "serving the page, /metrics, /livez, /readyz and /v1");
        Ok(Some(server))
    }

    /// What the page keeps with checkpoints, so that it goes on where it was after a restart.
    pub(super) fn page_file(&self) -> SideFile {
        let telemetry = self.telemetry.clone();
        SideFile { name: series::FILE, content: Arc::new(move || telemetry.series().to_bytes()) }
    }

    /// Has the page go on from what is kept with a checkpoint; it begins anew where there is nothing.
    pub(super) fn restore_page(&self, checkpoint: &Checkpoint) {
        let is_kept = checkpoint.manifest().files.iter().any(|file| file.name == series::FILE);
        if !is_kept {
            return;
        }
        let path = checkpoint.folder().join(series::FILE);
        match crate::checkpoint::file::read_bounded(&path, series::LONGEST_FILE) {
            Ok(bytes) => self.telemetry.series().restore(&bytes),
            Err(error) => tracing::warn!(%error, "the page begins anew"),
        }
    }

    /// A progress bar for work that trains nothing.
    pub(super) fn bar(&self, total: u64, unit: &str) -> ProgressBar {
        self.bars.add(progress_bar(total, unit))
    }

    /// Serves what a failed run leaves to be seen: the failure is in `/metrics` and on the page until a scrape has shown
    /// it, for `http.linger_seconds` at most, or until a signal. Whatever the run held has to be let go of before.
    pub(super) fn show_failure(&self, config: &Config, server: Option<&Server>, error: &anyhow::Error) {
        self.telemetry.emit(LifecycleEvent::Failed(exit::code(error)));
        if let Some(server) = server
            && config.http.linger_seconds > 0
        {
            tracing::error!(
                error = exit::message(error),
                seconds = config.http.linger_seconds,
                "failed; /metrics is served until it is scraped, for some seconds at most"
            );
            server.linger(Duration::from_secs(config.http.linger_seconds), || self.stop.requested());
        }
    }

    /// Ends a run: the page says so, and the report is written and printed.
    pub(super) fn conclude(
        &self,
        pipeline: &Pipeline,
        observer: &mut RunObserver,
        output: &Output,
    ) -> anyhow::Result<()> {
        observer.finish();
        let checkpoint = pipeline.checkpoint_path().map(|path| path.display().to_string());
        let report = observer.report(pipeline.trainer(), checkpoint);
        self.telemetry.emit(LifecycleEvent::Done);
        if let Some(path) = &output.report {
            let text = match path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("html")) {
                true => report_page::page(&report, &self.telemetry.snapshot().history),
                false => format!("{}\n", serde_json::to_string_pretty(&report)?),
            };
            write_whole(path, &text)?;
        }
        print(&if output.json { format!("{}\n", serde_json::to_string(&report)?) } else { report.text() });
        Ok(())
    }
}
