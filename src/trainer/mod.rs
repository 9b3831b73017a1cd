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

pub mod audit;
mod eviction;
mod features;
pub mod frozen;
pub mod held;
mod negatives;
pub mod snapshot;
pub mod state;
pub mod tenure;
mod waiting;

use crate::catalogue::Catalogue;
use crate::config::Config;
use crate::context::Batch;
use crate::context::users::Users;
use crate::evaluate::popularity::PopularityOrder;
use crate::evaluate::ranking::{Ranked, Ranking, Standing};
use crate::event::{EventCounts, Interaction, Record};
use crate::kernel::Kernel;
use crate::negatives::candidates::Candidates;
use crate::negatives::ledger::Watch;
use crate::negatives::noise::{Asking, Scene, Seen, Shown};
use crate::negatives::proposals::{Proposal, proposals};
use crate::objective::encoder::{Encoded, LastItems};
use crate::objective::term::Asked;
use crate::objective::{LossStats, Scratch};
use crate::position::Stream;
use crate::table::rows::stable_hash;
use audit::{Fate, Stretch};
use frozen::Frozen;
use state::State;
use waiting::{Notes, Taken, Waiting};

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
    waiting: Waiting,
    batch: Batch,
    asked: Asked,
    encoded: Encoded,
    carried: Vec<f32>,
    last_items: Option<LastItems>,
    catalogue: Catalogue,
    candidates: Candidates,
    scratch: Scratch,
    notes: Notes,
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
            waiting: Waiting { rejected_share, ..Waiting::default() },
            batch: Batch::default(),
            asked: Asked::default(),
            encoded: Encoded::default(),
            carried: Vec::new(),
            last_items: config.evaluate.last_item.then(LastItems::default),
            catalogue: Catalogue::empty(config),
            candidates: Candidates::default(),
            scratch: Scratch::default(),
            notes: Notes::default(),
        })
    }

    /// Describes the items that are still to come.
    #[must_use]
    pub fn with_catalogue(mut self, catalogue: Catalogue) -> Self {
        self.catalogue = catalogue;
        self
    }

    /// Names the streams that records refer to from now on, by their index; more may be added at any time.
    ///
    /// # Panics
    /// Where streams that are known are left out.
    pub fn follow(&mut self, streams: &[Stream]) {
        assert!(streams.len() >= self.streams.len(), "streams are only added");
        self.streams = streams.to_vec();
        self.waiting.next.resize(streams.len(), None);
    }

    /// Takes note of records that are gone for good.
    ///
    /// # Panics
    /// If the stream was not named.
    pub fn lose(&mut self, stream: u32, offsets: std::ops::Range<u64>) {
        self.waiting.counts.lost += offsets.end - offsets.start;
        if self.state.audit.is_some() {
            let stretch = Stretch { from: offsets.start, until: offsets.end, fate: Fate::Lost };
            self.waiting.fates.push((stream, stretch));
        }
        self.waiting.next[stream as usize] = Some((offsets.end, None));
        if self.waiting.is_empty() {
            self.settle();
        }
    }

    /// Takes a record; a step where it fills a batch.
    ///
    /// # Panics
    /// If the record's stream was not named.
    pub fn take(&mut self, record: Record) -> Option<StepReport> {
        let event = match record.outcome {
            Ok(event) if self.exposure_kinds.iter().any(|kind| *kind == event.kind) => {
                self.waiting.shown.push((self.waiting.events.len(), event));
                None
            }
            Ok(event) if self.kinds.is_empty() || self.kinds.iter().any(|kind| *kind == event.kind) => Some(Ok(event)),
            Ok(_) => None,
            Err(rejection) => Some(Err(rejection.reason)),
        };
        let is_fault = matches!(&event, Some(Err(reason)) if reason.is_fault());
        let cut = match (&event, self.waiting.events.first()) {
            (Some(Ok(event)), Some(first)) if self.batch_span_ms > 0 => {
                event.timestamp.saturating_sub(first.event.timestamp) >= self.batch_span_ms as i64
            }
            _ => false,
        };
        // A batch that ends before this event ends before its position too.
        let early = cut.then(|| self.step());
        let share = &mut self.waiting.rejected_share;
        *share += (f64::from(u8::from(is_fault)) - *share) / self.rejections_window as f64;
        self.waiting.counts.read += 1;
        let fate = match event {
            None => {
                self.waiting.counts.ignored += 1;
                Fate::Skipped
            }
            Some(Ok(event)) => self.admit(event),
            Some(Err(reason)) => {
                self.waiting.counts.rejected.add(reason, 1);
                if reason.is_fault() { Fate::Rejected } else { Fate::Skipped }
            }
        };
        self.waiting.next[record.stream as usize] = Some((record.offset + 1, record.stamp));
        if self.state.audit.is_some() {
            let stretch = Stretch { from: record.offset, until: record.offset + 1, fate };
            self.waiting.fates.push((record.stream, stretch));
        }
        let Waiting { events, shown, deferred, .. } = &self.waiting;
        let others = shown.len().max(deferred.len());
        if events.len() == self.batch_size || others >= self.batch_size * OTHERS_PER_EVENT {
            return Some(self.step());
        }
        if self.waiting.is_empty() {
            // No batch is begun: what is not trained on need not wait for one.
            self.pass_over(record.stream as usize);
        }
        early
    }

    /// Takes an event into the batch, where its item has a row or may be given one. Of its user that is not asked: what the
    /// item gains by it can be learnt all the same.
    fn admit(&mut self, event: Interaction) -> Fate {
        let Self { state: State { tenure, items, users, .. }, waiting, .. } = self;
        let has_item = tenure.items.admits(items, &mut waiting.items, &event.item);
        let has_user = tenure.users.admits(&users.ids, &mut waiting.users, &event.user);
        if has_item {
            waiting.counts.used += 1;
            waiting.events.push(Taken { event, has_user });
            Fate::Trained
        } else {
            waiting.counts.deferred += 1;
            waiting.deferred.push((waiting.events.len(), event.user));
            Fate::Deferred
        }
    }

    /// Makes a record part of the state that no batch waits for.
    fn pass_over(&mut self, stream: usize) {
        let Self { state, waiting, seed, share, .. } = self;
        state.events += std::mem::take(&mut waiting.counts);
        state.take_in(waiting);
        let (now, number) = (state.events.positives(), state.events.deferred);
        for (_, user) in waiting.deferred.drain(..) {
            if state.defer(&user, now) && is_chosen(*seed, "deferred", number, *share) {
                state.tally.add(now - 1, &[MISSED]);
            }
        }
        self.settle_records();
        self.settle_stream(stream);
    }

    /// The declared end: closes a short batch, and takes in what came after the last event.
    pub fn finish(&mut self) -> Option<StepReport> {
        if self.waiting.is_empty() {
            return None;
        }
        Some(self.step())
    }

    /// Whether everything that was taken is part of the state.
    pub fn is_settled(&self) -> bool {
        self.waiting.counts == EventCounts::default()
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
            carried,
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
        state.model.carry(*kernel, batch, asked.longest, carried);
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
                    model.encode(*kernel, &asked.sequences, carried, encoded);
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
                let queries = encoded.unit.rows(0..batch.n_queries()).to_slice().expect("standard layout");
                let Notes { last_items, users, .. } = &*notes;
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
        let Waiting { events, deferred, shown, .. } = waiting;
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
            let Some(Taken { event, has_user }) = events.get(place) else { break };
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

    /// Makes what was read part of the state.
    fn settle(&mut self) {
        self.settle_records();
        (0..self.streams.len()).for_each(|stream| self.settle_stream(stream));
    }

    fn settle_records(&mut self) {
        let Self { state, waiting, streams, .. } = self;
        state.events += std::mem::take(&mut waiting.counts);
        state.rejected_share = waiting.rejected_share;
        if let Some(audit) = &mut state.audit {
            for (stream, stretch) in waiting.fates.drain(..) {
                audit.note(&streams[stream as usize].name, stretch);
            }
        }
    }

    fn settle_stream(&mut self, stream: usize) {
        let Some((next, stamp)) = self.waiting.next[stream].take() else { return };
        let (State { positions, holdings, .. }, name) = (&mut self.state, &self.streams[stream].name);
        positions.advance(name, next);
        if stamp.is_some() || holdings.of(name).stamp.is_some() {
            holdings.stamp(name, stamp);
        }
    }
}

/// Whether event `event` of the stream belongs to the share that is ranked, or watched: a function of its number alone.
fn is_chosen(seed: u64, purpose: &str, event: u64, share: f64) -> bool {
    share >= 1.0 || (stable_hash(seed ^ event.rotate_left(32), &[purpose]) >> 11) as f64 * (-53f64).exp2() < share
}
