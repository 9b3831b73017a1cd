//! `serve`: the API over checkpoints that another worker writes, always from the newest.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::context::CommandContext;
use super::loaded::LoadedCheckpoint;
use super::{load, print};
use crate::checkpoint::CheckpointError;
use crate::checkpoint::manifest::MANIFEST;
use crate::checkpoint::store::newest_number;
use crate::cli::{Layers, ServeArgs};
use crate::config::Config;
use crate::exit::UsageError;
use crate::recommend::view::{FrozenView, StateView};
use crate::telemetry::status::ServedCheckpoint;
use crate::telemetry::{LifecycleEvent, observer};

/// How often a stop is looked for.
const STOP_CHECK: Duration = Duration::from_millis(50);
/// The pause after a checkpoint that could not be read.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) fn serve(layers: &Layers, options: ServeArgs) -> anyhow::Result<()> {
    let config = load(layers)?;
    let serves_nothing = config.http.listen.is_empty() || !config.serve.enabled;
    if serves_nothing {
        let why = "serve needs an address, http.listen, and serve.enabled";
        return Err(UsageError(why.to_owned()).into());
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(config.serve.threads).build()?;
    let context = CommandContext::set_up(&config)?;
    context.telemetry.emit(LifecycleEvent::Restoring);
    let server = context.serve(&config)?;
    if let Some(server) = &server {
        print(&format!(
            "serving {} at http://{1}/v1, with a page at http://{1}/\n",
            options.checkpoints.display(),
            server.address()
        ));
    }
    let mut follower =
        CheckpointFollower { layers, config: &config, path: &options.checkpoints, served: None, said_missing: false };
    let every = Duration::from_millis(options.every_ms);
    while !context.stop.requested() {
        context.telemetry.health().tick(Instant::now());
        let pause = match follower.look() {
            Ok(None) => every,
            Ok(Some(number)) => match pool.install(|| follower.read()) {
                Ok((view, age)) => {
                    let facts = view.facts();
                    tracing::info!(
                        step = facts.step,
                        events = facts.events,
                        items = view.items().len(),
                        "serving a checkpoint"
                    );
                    let served = ServedCheckpoint {
                        step: facts.step,
                        events: facts.events,
                        items: view.items().len() as u64,
                        written_at: observer::seconds_since_1970() - age.as_secs_f64(),
                    };
                    context.telemetry.serves(served);
                    let is_first = follower.served.is_none();
                    context.views.put(view, age);
                    follower.served = Some(number);
                    if is_first {
                        for event in [LifecycleEvent::Restored, LifecycleEvent::SourceOpened, LifecycleEvent::Assigned]
                        {
                            context.telemetry.emit(event);
                        }
                    }
                    every
                }
                // What was served before is served on. The checkpoint may just have made room for newer ones.
                Err(error) => {
                    tracing::warn!(error = format!("{error:#}"), "a checkpoint cannot be served; the one before is");
                    PATIENCE.min(every * 10)
                }
            },
            Err(error)
                if follower.served.is_none() && error.downcast_ref::<CheckpointError>().is_some_and(is_usage) =>
            {
                return Err(error);
            }
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "checkpoints cannot be listed");
                PATIENCE
            }
        };
        let until = Instant::now() + pause;
        while Instant::now() < until && !context.stop.requested() {
            std::thread::park_timeout(STOP_CHECK.min(pause));
        }
    }
    context.telemetry.emit(LifecycleEvent::Draining);
    if let Some(server) = server {
        server.shutdown();
    }
    tracing::info!("stopped by a signal");
    Ok(())
}

fn is_usage(error: &CheckpointError) -> bool {
    matches!(error, CheckpointError::InvalidLocation { .. })
}

/// Looks for checkpoints that are newer than what is served.
struct CheckpointFollower<'a> {
    layers: &'a Layers,
    config: &'a Config,
    path: &'a Path,
    served: Option<u64>,
    said_missing: bool,
}

impl CheckpointFollower<'_> {
    /// The number of the newest checkpoint, where it is not the one that is served; 0 stands for one that is named itself.
    fn look(&mut self) -> anyhow::Result<Option<u64>> {
        let number = match self.path.join(MANIFEST).exists() {
            true => Some(0),
            false => newest_number(self.path, &self.config.checkpoint)?,
        };
        if number.is_none() && !self.said_missing {
            self.said_missing = true;
            tracing::warn!(path = %self.path.display(), "no checkpoint is there yet; the first is waited for");
        }
        Ok(number.filter(|number| self.served != Some(*number)))
    }

    /// The newest checkpoint, ready to be asked, and how old it is.
    fn read(&self) -> anyhow::Result<(StateView, Duration)> {
        let LoadedCheckpoint { checkpoint, mut state, .. } = LoadedCheckpoint::read(self.layers, self.path)?;
        let written = std::fs::metadata(checkpoint.folder().join(MANIFEST)).and_then(|file| file.modified());
        let age = written.ok().and_then(|at| SystemTime::now().duration_since(at).ok()).unwrap_or_default();
        let view = FrozenView::of(&mut state, checkpoint.manifest().model_id().as_str().into(), None, None);
        // What only training needs goes before the rest is made.
        drop(state);
        let mut view = view.ready();
        if view.n_items() >= self.config.serve.index_from && view.can_have_index() {
            let index = view.index_of_all();
            view.attach(Arc::new(index));
        }
        Ok((view, age))
    }
}
