//! Building a pipeline: what it goes on from, and what it is given besides its configuration.

use std::path::Path;
use std::time::{Duration, Instant};

use super::checkpoint_writer::{SharedDeadLetters, SideFile};
use super::checkpoints::{CheckpointSchedule, LiveOptions};
use super::disorder::OrderWatch;
use super::live::ClockCuts;
use super::on_demand::CheckpointRequests;
use super::probation::Probation;
use super::publisher::{OpenSink, Publisher, open_sinks};
use super::publishing_turn::PublishingTurn;
use super::sharing::Sharing;
use super::{Pipeline, PipelineError, Restored};
use crate::catalogue::Catalogue;
use crate::checkpoint::manifest;
use crate::config::Config;
use crate::dead_letters::{DeadLetterFile, DeadLetters};
use crate::publish::{EmbeddingSink, SinkConfig, SinkOptions};
use crate::recommend::slot::{ViewSlot, ViewWriter};
use crate::share::{DeltaLog, ShareError};
use crate::signals::Stop;
use crate::source::SourceError;
use crate::trainer::Trainer;

/// A [`Pipeline`] in the making. What is not set comes from the configuration.
#[derive(Debug)]
pub struct PipelineBuilder<'a> {
    config: &'a Config,
    fresh: bool,
    restored: Option<Restored>,
    catalogue: Option<Catalogue>,
    dead_letters: Option<DeadLetters>,
    stop: Stop,
    is_live: bool,
    cuts: Vec<u64>,
    requests: CheckpointRequests,
    views: Option<ViewSlot>,
    side_file: Option<SideFile>,
    sinks: Vec<OpenSink>,
    named_sinks: Vec<SinkConfig>,
    log: Option<(DeltaLog, String)>,
}

impl<'a> PipelineBuilder<'a> {
    pub(super) fn new(config: &'a Config) -> Self {
        Self {
            config,
            fresh: false,
            restored: None,
            catalogue: None,
            dead_letters: None,
            stop: Stop::new(),
            is_live: false,
            cuts: Vec::new(),
            requests: CheckpointRequests::default(),
            views: None,
            side_file: None,
            sinks: Vec::new(),
            named_sinks: Vec::new(),
            log: None,
        }
    }

    /// Begins with a new model, whatever checkpoints there are; they go once `checkpoint.keep` newer ones exist.
    #[must_use]
    pub fn fresh(mut self, fresh: bool) -> Self {
        self.fresh = fresh;
        self
    }

    /// Goes on from `restored` instead of looking for a checkpoint.
    #[must_use]
    pub fn restored(mut self, restored: Restored) -> Self {
        self.restored = Some(restored);
        self
    }

    /// Describes new items by `catalogue` instead of the file that `features.catalogue` names.
    #[must_use]
    pub fn catalogue(mut self, catalogue: Catalogue) -> Self {
        self.catalogue = Some(catalogue);
        self
    }

    /// Keeps rejected records in `dead_letters` instead of the file that `dead_letters.file` names.
    #[must_use]
    pub fn dead_letters(mut self, dead_letters: DeadLetters) -> Self {
        self.dead_letters = Some(dead_letters);
        self
    }

    /// Stops the run in good order once `stop` is requested.
    #[must_use]
    pub fn stop(mut self, stop: Stop) -> Self {
        self.stop = stop;
        self
    }

    /// Follows the clock too, since the stream is live: batches are cut after `train.linger_ms`, checkpoints come every
    /// `checkpoint.every_seconds`, a stop trains on all that was delivered, and freshness is measured. Where batches were cut is
    /// kept with the checkpoints. Otherwise the model depends on the source alone; and where that is not told what is durable, and so can
    /// be read again, checkpoints that take long are put off (`checkpoint.max_share`).
    #[must_use]
    pub fn live(mut self, is_live: bool) -> Self {
        self.is_live = is_live;
        self
    }

    /// Cuts batches behind the records of these numbers, counted since the very first start: where another run's clock did, as
    /// its checkpoints tell.
    #[must_use]
    pub fn cuts(mut self, places: impl IntoIterator<Item = u64>) -> Self {
        self.cuts = places.into_iter().collect();
        self
    }

    /// Writes a checkpoint whenever `requests` ask for one.
    #[must_use]
    pub fn checkpoint_requests(mut self, requests: CheckpointRequests) -> Self {
        self.requests = requests;
        self
    }

    /// Leaves views of the state in `views` while it is trained, for those who ask.
    #[must_use]
    #[doc(hidden)]
    pub fn views(mut self, views: ViewSlot) -> Self {
        self.views = Some(views);
        self
    }

    /// Writes `file` beside each checkpoint of a live stream ([`Self::live`]); other checkpoints hold nothing but the state.
    #[must_use]
    #[doc(hidden)]
    pub fn side_file(mut self, file: SideFile) -> Self {
        self.side_file = Some(file);
        self
    }

    /// Publishes embeddings to `sink` while they are learnt; may be called any number of times.
    #[must_use]
    pub fn sink(mut self, sink: impl EmbeddingSink + 'static) -> Self {
        self.sinks.push((Box::new(sink), SinkOptions::default()));
        self
    }

    /// Publishes embeddings to the sink that the registry ([`SINKS`](crate::publish::SINKS)) calls `name`, on `target`.
    #[must_use]
    pub fn named_sink(mut self, name: &str, target: &str) -> Self {
        self.named_sinks.push(SinkConfig::new(name, target));
        self
    }

    /// Shares the model with the workers that send and receive by `log`, which the restored state is a part of
    /// ([`Restored::share`]). Of these workers the one publishes that reads the stream called `publishes`.
    #[must_use]
    pub fn log(mut self, log: DeltaLog, publishes: impl Into<String>) -> Self {
        self.log = Some((log, publishes.into()));
        self
    }

    /// Restores the newest intact checkpoint, or begins with a new model, and starts the threads.
    ///
    /// A first checkpoint is written at once where older ones could be taken for this pipeline's state: by one that begins
    /// anew beside them, and by one that goes on from before those that another worker has overtaken. One with a file of
    /// dead letters records where its own begin, lest a restart write them twice; one with sinks that begins anew, so that the name
    /// of its model outlasts a crash.
    ///
    /// # Errors
    /// Where the checkpoint folder is in use, no checkpoint in it is usable, or the first one cannot be written; where the
    /// catalogue, the file of dead letters or a sink cannot be opened; where a thread cannot be started.
    pub fn build(self) -> Result<Pipeline, PipelineError> {
        let Self {
            config,
            fresh,
            restored,
            catalogue,
            dead_letters,
            stop,
            is_live,
            cuts,
            requests,
            views,
            side_file,
            mut sinks,
            named_sinks,
            log,
        } = self;
        let configured: Vec<SinkConfig> = config.publish.iter().chain(&named_sinks).cloned().collect();
        let (log, publishes_by) = log.unzip();
        let publishes_by = publishes_by.unwrap_or_default();
        let (of_one_worker, of_this) = if log.is_some() { (configured, Vec::new()) } else { (Vec::new(), configured) };
        sinks.extend(open_sinks(&of_this)?);
        let catalogue = catalogue.map_or_else(|| Catalogue::open(config), Ok)?;
        let restored = restored.map_or_else(|| Restored::find(config, fresh), Ok)?;
        if let (None, Some(shared)) = (&log, &restored.state.sources.shared) {
            let topic = shared.topic.clone();
            return Err(SourceError::from(ShareError::OthersLeftOut { topic }).into());
        }
        let dead_letters = match (dead_letters, config.dead_letters.file.as_str()) {
            (Some(dead_letters), _) => dead_letters,
            (None, "") => DeadLetters::None,
            (None, file) => DeadLetters::File(DeadLetterFile::open(Path::new(file), restored.dead_letters(config))?),
        };
        let begins_with_a_checkpoint = begins_with_a_checkpoint(config, &restored, &dead_letters)?
            || (restored.checkpoint.is_none() && !sinks.is_empty());
        let publishes = !sinks.is_empty() || !of_one_worker.is_empty();
        let dead_letters = SharedDeadLetters::new(dead_letters);
        let read_by = restored.state.sources.ownerships.read_by.as_deref();
        let has_taken_any = restored.state.progress.events.has_taken_any();
        let probation = Probation::new(config, dead_letters.are_kept(), has_taken_any, read_by);
        let live = LiveOptions { is_live, requests, side_file: side_file.filter(|_| is_live) };
        let model_id = manifest::model_id(&manifest::digest(&config.state_relevant()), &restored.store.run());
        let turn = PublishingTurn::new(of_one_worker, publishes_by, &model_id, restored.state.model.dim())?;
        let publisher = Publisher::start(sinks, &model_id, restored.state.model.dim())?;
        let mut checkpoints = CheckpointSchedule::start(config, &restored, &dead_letters, live)?;
        checkpoints.views = views.map(|slot| ViewWriter::new(slot, &model_id));
        let read_at_start = restored.state.progress.events.read;
        let mut state = restored.state;
        if !probation.is_open() {
            // Of a state that does not know by which settings its records were read, it is these from now on.
            state.sources.ownerships.read_by.get_or_insert_with(|| config.reading_digest());
        }
        if publishes {
            state.track_changes();
            checkpoints.freshness.keep_for_sinks();
        }
        let mut trainer = Trainer::new(config, state)
            .map_err(|error| PipelineError::Thread { purpose: "compute", source: std::io::Error::other(error) })?
            .with_catalogue(catalogue);
        trainer.plan_cuts(cuts);
        if let Some(log) = log {
            let sharing = Sharing::begin(config, log, &mut trainer, &stop).map_err(SourceError::from)?;
            checkpoints.sharing = Some(sharing);
        }
        let linger = Duration::from_millis(config.train.linger_ms);
        let now = Instant::now();
        let mut pipeline = Pipeline {
            trainer,
            config: config.clone(),
            checkpoints,
            dead_letters,
            stop,
            streams: Vec::new(),
            n_rejected: 0,
            probation,
            started: now,
            read_at_start,
            observed: now,
            clock: ClockCuts::new(Some(linger).filter(|linger| is_live && !linger.is_zero())),
            order: OrderWatch::default(),
            publisher,
            turn,
        };
        if begins_with_a_checkpoint {
            pipeline.checkpoints.save(&mut pipeline.trainer, &mut |_, _| {})?;
        }
        Ok(pipeline)
    }
}

fn begins_with_a_checkpoint(
    config: &Config,
    restored: &Restored,
    dead_letters: &DeadLetters,
) -> Result<bool, PipelineError> {
    let Restored { checkpoint, store, overtaken, .. } = restored;
    let marked = checkpoint.as_ref().and_then(|checkpoint| checkpoint.manifest().dead_letters.as_ref());
    let unmarked = dead_letters.length().is_some() && marked.is_none_or(|mark| mark.file != config.dead_letters.file);
    Ok(unmarked || *overtaken || (checkpoint.is_none() && store.requires_initial_checkpoint()?))
}
