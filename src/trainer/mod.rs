//! The trainer: the sole owner of the model, applying events in order.
//!
//! | file | what it holds |
//! | --- | --- |
//! | `ingest` | records on their way in: which are trained on, and when they become part of the state |
//! | `pending` | what was read since the last step |
//! | `step` | one step on a batch, in five phases |
//! | `lifecycle` | which items and users are given a row, and which lose theirs |
//! | `changes` | which embeddings changed since a mark |
//! | `stale` | how events would have been ranked by an older state |
//! | `trailing` | counts and histories that stay a delay behind the stream |
//! | `sharing` | one model of many workers: deltas of the state, and those of others |
//! | `state` | everything that a checkpoint holds, in groups |
//! | `memory_usage` | how much memory the state takes |
//! | `warm_start` | a beginning with the vectors of another model |
//! | `warnings` | what is likely set wrong, as the records show |
//!
//! The model is a pure function of configuration, seed, sequence of events, and the places at which batches were cut by something
//! else than the log ([`Trainer::finish`]). State moves at the end of a batch only;
//! events that wait for their batch to fill are no part of it, and a checkpoint says so: they are read again.

pub mod audit;
pub mod changes;
mod config;
pub mod figures;
mod ingest;
pub mod lifecycle;
pub mod memory_usage;
mod pending;
mod sharing;
pub mod stale;
pub mod state;
pub mod state_snapshot;
mod step;
#[cfg(test)]
mod tests;
mod trailing;
pub mod warm_start;
pub mod warnings;

pub use config::{MemoryConfig, PositivesConfig, RowLimits, TrainConfig};

use crate::catalogue::Catalogue;
use crate::config::Config;
use crate::context::PositiveRules;
use crate::evaluate::popularity::PopularityOrder;
use crate::evaluate::ranking::Ranked;
use crate::event::EventCounts;
use crate::negatives::proposals::{Proposal, proposals};
use crate::position::Stream;
use pending::PendingBatch;
use sharing::{DeltaRecorder, RereadBuffer};
pub use sharing::{MergeCounts, VoidDelta};
use stale::{StaleRank, StaleServing};
use state::State;
use state_snapshot::StateSnapshot;
use step::StepBuffers;
pub use step::StepReport;
use warnings::IgnoredKinds;

/// Trains the model on a stream: takes records one by one, and steps whenever they fill a batch.
///
/// The trainer owns the [`State`] and moves it at the end of a batch only, so that a frozen state between two records is
/// always one that a worker can go on from.
#[derive(Debug)]
pub struct Trainer {
    /// Everything that a checkpoint holds.
    pub state: State,
    settings: TrainerSettings,
    /// The threads that a step computes on.
    pool: rayon::ThreadPool,
    catalogue: Catalogue,
    streams: Vec<Stream>,
    pending: PendingBatch,
    ignored_kinds: IgnoredKinds,
    /// The items in the order of their frequencies; made anew from the state.
    popularity: PopularityOrder,
    buffers: StepBuffers,
    stale: Option<StaleServing>,
    /// What happened since the newest delta, where the model is shared.
    recorder: Option<DeltaRecorder>,
    /// What is read again of a model that is shared.
    reread: RereadBuffer,
}

/// The configuration, as far as the trainer itself goes by it.
#[derive(Debug, Clone)]
struct TrainerSettings {
    seed: u64,
    /// Events of a full batch.
    batch_size: usize,
    /// Longest time from the first event of a batch to its last one, in milliseconds; 0 where there is no such bound.
    batch_span_ms: u64,
    /// Types of the events that are trained on; empty for all.
    positive_kinds: Vec<String>,
    /// Types of the events that say what a user was shown.
    exposure_kinds: Vec<String>,
    /// Which of a user's earlier items are never negatives.
    positive_rules: PositiveRules,
    /// Share of the events that are ranked.
    ranked_share: f64,
    /// Share of the events whose negatives are watched.
    watched_share: f64,
    /// Memory of the rejected share, in records.
    rejections_window: u64,
}

impl TrainerSettings {
    fn new(config: &Config) -> Self {
        Self {
            seed: config.seed,
            batch_size: config.train.batch,
            batch_span_ms: config.train.batch_span_ms,
            positive_kinds: config.positives.kinds.clone(),
            exposure_kinds: config.negatives.exposure_kinds.clone(),
            positive_rules: config.positive_rules(),
            ranked_share: config.evaluate.share,
            watched_share: config.negatives.false_negative_share,
            rejections_window: config.dead_letters.window,
        }
    }

    /// Whether events of type `kind` say what a user was shown.
    fn is_exposure(&self, kind: &str) -> bool {
        self.exposure_kinds.iter().any(|exposure| exposure == kind)
    }

    /// Whether events of type `kind` are trained on, where they are no exposures.
    fn is_positive(&self, kind: &str) -> bool {
        self.positive_kinds.is_empty() || self.positive_kinds.iter().any(|positive| positive == kind)
    }
}

impl Trainer {
    /// A trainer that goes on from `state`: that of a new model, or of a checkpoint.
    ///
    /// # Errors
    /// Where the threads cannot be started.
    pub fn new(config: &Config, state: State) -> Result<Self, rayon::ThreadPoolBuildError> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(config.threads)
            .thread_name(|index| format!("compute-{index}"))
            .build()?;
        let popularity = PopularityOrder::new(&state.negatives.frequencies);
        let rejected_share = state.progress.rejected_share;
        Ok(Self {
            state,
            settings: TrainerSettings::new(config),
            pool,
            catalogue: Catalogue::empty(config),
            streams: Vec::new(),
            pending: PendingBatch { rejected_share, ..PendingBatch::default() },
            ignored_kinds: IgnoredKinds::default(),
            popularity,
            buffers: StepBuffers::new(config),
            stale: None,
            recorder: None,
            reread: RereadBuffer::default(),
        })
    }

    /// Describes the items that are still to come.
    #[must_use]
    pub fn with_catalogue(mut self, catalogue: Catalogue) -> Self {
        self.catalogue = catalogue;
        self
    }

    /// Share of the newest records that was rejected: an exponential moving average over `dead_letters.window` records.
    pub fn rejected_share(&self) -> f64 {
        self.pending.rejected_share
    }

    /// A frozen copy of the state; training may go on meanwhile.
    pub fn freeze(&mut self) -> StateSnapshot {
        let Self { pool, state, .. } = self;
        pool.install(|| state.freeze())
    }

    /// What `read` makes of the state, on the threads that steps compute on.
    pub fn in_pool<T: Send>(&mut self, read: impl FnOnce(&mut State) -> T + Send) -> T {
        let Self { pool, state, .. } = self;
        pool.install(|| read(state))
    }

    /// How the events of the newest step were ranked, each before it was learnt.
    pub fn ranked(&self) -> &[Ranked] {
        &self.buffers.ranked
    }

    /// From now on, ranks the events from number `from` on also by states that are as old as each of `delays_ms` in the time of
    /// the stream, milliseconds ([`stale`]). Encoders with a hidden state, and rankings by the last item alone, are ranked as if
    /// they had neither.
    pub fn serve_stale(&mut self, delays_ms: &[i64], from: u64) {
        self.stale = (!delays_ms.is_empty()).then(|| StaleServing::new(&mut self.state, delays_ms, from));
    }

    /// How the events of the newest step were ranked by older states; empty where that was not asked for.
    pub fn stale_ranks(&self) -> &[StaleRank] {
        self.stale.as_ref().map_or(&[], |stale| &stale.ranks)
    }

    /// What each proposal brought to the newest batch that trained.
    pub fn proposals(&self) -> Vec<Proposal> {
        let (view, noise) = self.state.stream_view();
        proposals(&self.buffers.candidates, noise, view)
    }

    /// Counts of all events that were ingested, part of the state or waiting for their batch; `used` counts those that were
    /// trained on.
    pub fn ingested(&self) -> EventCounts {
        let mut ingested = self.state.progress.events;
        ingested += self.pending.counts;
        ingested.used = self.state.progress.events.used;
        ingested
    }
}
