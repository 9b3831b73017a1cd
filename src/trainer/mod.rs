//! The trainer: the sole owner of the model, applying events in order.
//!
//! A batch is one whole thing, in this order:
//!
//! 1. the past of each event is captured, new items get their rows;
//! 2. every event is ranked with the model and the frequencies as they stand;
//! 3. meanwhile the frequencies decay and take the batch in, noise samplers take note, candidates are gathered;
//! 4. one step on the events that have a context, against the batch's positives, the bank, and noise;
//! 5. the batch's items enter the bank.
//!
//! The model is a pure function of configuration, seed and sequence of events. State moves at the end of a batch only;
//! events that wait for their batch to fill are no part of it, and a checkpoint says so: they are read again.

mod config;
mod eviction;
pub(crate) mod features;
pub mod figures;
mod ingest;
pub mod lifecycle;
pub mod memory_usage;
mod pending;
pub mod state;

pub use config::{MemoryConfig, PositivesConfig, RowLimits, TrainConfig};

use crate::catalogue::Catalogue;
use crate::config::Config;
use crate::context::Batch;
use crate::context::users::Users;
use crate::evaluate::popularity::PopularityOrder;
use crate::evaluate::ranking::{Ranked, Ranking, Standing};
use crate::event::EventCounts;
use crate::kernel::Kernel;
use crate::model::encoder::{Encoded, LastItems};
use crate::negatives::candidates::Candidates;
use crate::negatives::false_negatives::Watch;
use crate::negatives::proposals::{Proposal, proposals};
use crate::negatives::samplers::{Asking, Scene, Seen, Shown};
use crate::objective::term::StepRequest;
use crate::objective::{LossStats, Scratch};
use crate::position::Stream;
use crate::snapshot::frozen::Frozen;
use crate::table::rows::stable_hash;
use pending::{PendingBatch, PendingEvent, SamplerInput};
use state::State;

/// A batch is closed, however few events it has, when so many times its size were shown, or deferred, meanwhile.
const OTHERS_PER_EVENT: usize = 64;
/// What ranking an item gives that has no row.
const MISSED: Ranked = Ranked { model: None, popularity: None, occurrences: 0 };

/// What a step did.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct StepReport {
    /// The loss; all zero where no event had a context.
    pub loss: LossStats,
    /// Events in the batch.
    pub events: usize,
    /// Events that were ranked.
    pub ranked: usize,
    /// Time of its last event, milliseconds since 1970 UTC.
    pub last_event: i64,
}

/// See the module.
#[derive(Debug)]
pub struct Trainer {
    /// Everything that a checkpoint holds.
    pub state: State,
    kernel: Kernel,
    pool: rayon::ThreadPool,
    seed: u64,
    batch_size: usize,
    batch_span_ms: u64,
    kinds: Vec<String>,
    repeat: bool,
    share: f64,
    exposure_kinds: Vec<String>,
    mask_recent: usize,
    ledger_share: f64,
    rejections_window: u64,
    popularity: PopularityOrder,
    ranking: Ranking,
    streams: Vec<Stream>,
    waiting: PendingBatch,
    batch: Batch,
    asked: StepRequest,
    encoded: Encoded,
    initial_states: Vec<f32>,
    last_items: Option<LastItems>,
    catalogue: Catalogue,
    candidates: Candidates,
    scratch: Scratch,
    notes: SamplerInput,
}

impl Trainer {
    /// With the state of a new model, or of a checkpoint.
    ///
    /// # Errors
    /// Where the threads cannot be started.
    pub fn new(config: &Config, state: State) -> Result<Self, rayon::ThreadPoolBuildError> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(config.threads)
            .thread_name(|index| format!("compute-{index}"))
            .build()?;
        let popularity = PopularityOrder::new(&state.frequencies);
        let rejected_share = state.rejected_share;
        Ok(Self {
            state,
            kernel: Kernel::detect(),
            pool,
            seed: config.seed,
            batch_size: config.train.batch,
            batch_span_ms: config.train.batch_span_ms,
            kinds: config.positives.kinds.clone(),
            repeat: config.evaluate.repeat,
            share: config.evaluate.share,
            exposure_kinds: config.negatives.exposure_kinds.clone(),
            mask_recent: config.negatives.mask_recent,
            ledger_share: config.negatives.ledger_share,
            rejections_window: config.dead_letters.window,
            popularity,
            ranking: Ranking::default(),
            streams: Vec::new(),
            waiting: PendingBatch { rejected_share, ..PendingBatch::default() },
            batch: Batch::default(),
            asked: StepRequest::default(),
            encoded: Encoded::default(),
            initial_states: Vec::new(),
            last_items: config.evaluate.last_item.then(LastItems::default),
            catalogue: Catalogue::empty(config),
            candidates: Candidates::default(),
            scratch: Scratch::default(),
            notes: SamplerInput::default(),
        })
    }

    /// Describes the items that are still to come.
    #[must_use]
    pub fn with_catalogue(mut self, catalogue: Catalogue) -> Self {
        self.catalogue = catalogue;
        self
    }

    /// Share of the newest records that was rejected, with a memory of `dead_letters.window` records that fades.
    pub fn rejected_share(&self) -> f64 {
        self.waiting.rejected_share
    }

    /// The state as it is, whatever becomes of it.
    pub fn freeze(&mut self) -> Frozen {
        let Self { pool, state, .. } = self;
        pool.install(|| state.freeze())
    }

    /// What each proposal brought to the newest batch that trained.
    pub fn proposals(&self) -> Vec<Proposal> {
        let (scene, noise) = self.state.scene();
        proposals(&self.candidates, noise, scene)
    }

    /// Everything that was taken, part of the state or waiting for its batch; used are those that were trained on.
    pub fn taken(&self) -> EventCounts {
        let mut taken = self.state.events;
        taken += self.waiting.counts;
        taken.used = self.state.events.used;
        taken
    }

    fn step(&mut self) -> StepReport {
        let mut now = self.state.events;
        // By the stream's own time, in which what was deferred passed too.
        let begin = now.positives();
        now += self.waiting.counts;
        let now = now.positives();
        self.make_room(now);
        let n_known = self.state.items.len();
        let first_event = self.state.events.used;
        let n_missed = self.capture(first_event, now);
        let Self {
            state,
            kernel,
            pool,
            batch,
            asked,
            encoded,
            initial_states,
            last_items,
            candidates,
            scratch,
            notes,
            waiting,
            popularity,
            ranking,
            ..
        } = self;
        if !state.noise.terms.is_empty() {
            notes.note(batch);
        }
        let last_shown = waiting.shown.last().map_or(0, |(_, shown)| shown.timestamp);
        let (seed, share, repeat) = (self.seed, self.share, self.repeat);
        let (ledger_share, mask_recent) = (self.ledger_share, self.mask_recent);
        let random = (seed, state.steps);
        state.objectives.ask(batch, random, asked);
        let is_ranked =
            |query: usize| is_chosen(seed, "evaluate", first_event + u64::from(batch.with_context[query]), share);
        // A ranking needs the vectors of all items; otherwise those that are used will do.
        let ranks = (0..batch.n_queries()).any(is_ranked);
        match ranks {
            true => pool.install(|| state.model.refresh_all()),
            false => state.model.refresh(&asked.sequences.items),
        }
        state.model.advance_hidden_states(*kernel, batch, asked.longest, initial_states);
        let report = pool.install(|| {
            let standing = Standing {
                model: &state.model,
                frequencies: &state.frequencies,
                popularity,
                occurrences: &state.occurrences,
                users: &state.users,
                n_known,
                repeat,
                repetition: repeat && last_items.is_none(),
            };
            let chosen = (0..batch.n_queries()).filter(|query| is_ranked(*query));
            ranking.prepare(*kernel, standing, batch, chosen);

            // Ranking reads the model, and the rest moves everything but the model.
            let State { model, frequencies, live, noise, occurrences, last_event, bank, items, .. } = &mut *state;
            let trains = batch.n_queries() >= 2;
            let positives = || asked.positives.iter().copied();
            let bank = &*bank;
            let (ranked, ()) = rayon::join(
                || {
                    model.encode(*kernel, &asked.sequences, initial_states, encoded);
                    match last_items {
                        Some(last_items) => ranking.rank(*kernel, model, last_items.encode(*kernel, model, batch)),
                        None => ranking.rank(*kernel, model, encoded),
                    }
                },
                || {
                    popularity.add(frequencies, items.len(), &batch.items);
                    live.observe(&batch.items);
                    let scene = Scene { frequencies, live, vectors: model };
                    noise.observe(scene, Seen { items: &batch.items, pairs: &notes.pairs, shown: &notes.shown });
                    for (item, timestamp) in batch.items.iter().zip(&batch.timestamps) {
                        *occurrences.get_mut(*item as usize) += 1;
                        *last_event.get_mut(*item as usize) = *timestamp;
                    }
                    if trains && !noise.depends_on_queries() {
                        candidates.gather(positives(), bank, noise, scene, Asking::default(), random);
                    }
                },
            );
            if trains && noise.depends_on_queries() {
                let scene = Scene { frequencies, live, vectors: &*model };
                let stride = model.stride();
                let queries = encoded.normalized.rows(0..batch.n_queries()).to_slice().expect("standard layout");
                let SamplerInput { last_items, users, .. } = &*notes;
                let asking = Asking { last_items, users, queries, stride, others: &[] };
                candidates.gather(positives(), bank, noise, scene, asking, random);
            }
            state.tally.add(begin, &ranked);
            (0..n_missed).for_each(|_| state.tally.add(begin, &[MISSED]));
            let end = first_event + batch.len() as u64;
            if trains && ledger_share > 0.0 {
                let chosen = |query: &usize| {
                    is_chosen(seed, "ledger", first_event + u64::from(batch.with_context[*query]), ledger_share)
                };
                let chosen: Vec<usize> = (0..batch.n_queries()).filter(chosen).collect();
                let settled: Vec<Vec<u32>> =
                    chosen.iter().map(|query| batch.settled(*query, repeat, mask_recent)).collect();
                state.ledger.watch(
                    candidates,
                    (&state.bank, &state.noise),
                    &state.occurrences,
                    end,
                    chosen.iter().zip(&settled).map(|(query, settled)| Watch {
                        user: batch.user(*query),
                        event: first_event + u64::from(batch.with_context[*query]),
                        settled,
                    }),
                );
            }
            state.ledger.judge(first_event, &batch.users, &batch.items);
            let mut loss = LossStats::default();
            if trains {
                let State { objectives, model, bank, .. } = &mut *state;
                if !ranks {
                    model.refresh(&candidates.items);
                }
                let on = (&*asked, &mut *encoded);
                loss = objectives.step((*kernel, random), model, batch, on, (candidates, bank), scratch);
            }
            state.bank.push(&batch.items, &state.model);
            StepReport {
                loss,
                events: batch.len(),
                ranked: ranked.len(),
                last_event: batch.timestamps.last().copied().unwrap_or(last_shown),
            }
        });
        state.users.trim(batch);
        state.steps += 1;
        if report.loss.queries > 0 {
            state.last_loss = (report.loss.loss, report.loss.information_bound);
            state.last_parts.clear();
            state.last_parts.extend_from_slice(scratch.losses());
        }
        waiting.events.clear();
        waiting.shown.clear();
        waiting.deferred.clear();
        self.settle();
        report
    }

    /// The batch of what waits, at time `now`: each event with the past of its user, and the rows of whoever and whatever is
    /// new. How many events were missed: deferred, where the user has a past by which they would be ranked.
    fn capture(&mut self, first_event: u64, now: u64) -> usize {
        let Self { state, batch, notes, waiting, catalogue, seed, share, .. } = self;
        batch.clear(first_event);
        notes.shown.clear();
        state.take_in(waiting);
        let PendingBatch { events, deferred, shown, .. } = waiting;
        let (mut deferred, mut shown) =
            (deferred.iter().zip(state.events.deferred + 1..).peekable(), shown.iter().peekable());
        let mut n_missed = 0;
        for place in 0..=events.len() {
            while let Some(((_, user), number)) = deferred.next_if(|((before, _), _)| *before <= place) {
                n_missed += usize::from(state.defer(user, now) && is_chosen(*seed, "deferred", number, *share));
            }
            while let Some((_, shown)) = shown.next_if(|(before, _)| *before <= place) {
                let incoming = events.len() - place;
                notes
                    .shown
                    .extend(state.show(shown, incoming).inspect(|shown| state.tenure.users.see(shown.user, now)));
            }
            let Some(PendingEvent { event, has_user }) = events.get(place) else { break };
            let item = state.add_item_with(&event.item, || catalogue.of(&event.item, &event.features));
            state.tenure.items.see(item, now);
            batch.kinds.push(event.kind.clone());
            if !has_user {
                Users::capture_nobody(batch, item, event.timestamp);
                continue;
            }
            let user = state.add_user(&event.user);
            state.tenure.users.see(user, now);
            state.users.capture(batch, user, item, event.timestamp);
            if !self.exposure_kinds.is_empty() {
                notes.shown.push(Shown { user, item, chosen: true });
            }
        }
        n_missed
    }
}

/// Whether event `event` of the stream belongs to the share that is ranked, or watched: a function of its number alone.
fn is_chosen(seed: u64, purpose: &str, event: u64, share: f64) -> bool {
    share >= 1.0 || (stable_hash(seed ^ event.rotate_left(32), &[purpose]) >> 11) as f64 * (-53f64).exp2() < share
}
