//! One step: a batch is one whole thing, in this order.
//!
//! 1. [`capture`]: the context of each event is captured, new items and users get their rows, and the frequencies count the
//!    events one by one ([`BatchHistory`]), as does the co-occurrence;
//! 2. [`rank`]: events are ranked with the model as it stands, and with the history before each event;
//! 3. [`observe`] and [`gather`]: meanwhile samplers observe the batch, candidates are gathered;
//! 4. [`train`]: one step of the objectives on the events that have a context, against the batch's positives, the bank, and
//!    noise;
//! 5. [`commit`]: the batch's items enter the bank, and what was read becomes part of the state.
//!
//! Ranking reads the model and the counts, and phase 3 moves neither: the two run side by side.

use super::{Trainer, TrainerSettings};
use crate::catalogue::Catalogue;
use crate::config::Config;
use crate::context::Batch;
use crate::context::users::UserHistories;
use crate::evaluate::history::{BatchHistory, Counts};
use crate::evaluate::popularity::PopularityOrder;
use crate::evaluate::ranking::{ModelView, Ranked, Ranking};
use crate::model::Model;
use crate::model::encoder::{Encoded, LastItems};
use crate::negatives::bank::Bank;
use crate::negatives::candidates::Candidates;
use crate::negatives::false_negatives::QueryToWatch;
use crate::negatives::frequency::Frequencies;
use crate::negatives::live::LiveItems;
use crate::negatives::samplers::mix::NoiseMix;
use crate::negatives::samplers::{BatchObservation, QueryContext, Shown, StreamView};
use crate::objective::step::StepRequest;
use crate::objective::{LossStats, Scratch};
use crate::table::rows::stable_hash;
use crate::trainer::lifecycle::make_room;
use crate::trainer::pending::{PendingBatch, PendingEvent, SamplerInput};
use crate::trainer::sharing::DeltaRecorder;
use crate::trainer::stale::{BatchToRank, CountsBefore, StaleServing};
use crate::trainer::state::{NegativeSources, State};
use crate::util::attentive::attentive;

/// What a step did.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct StepReport {
    /// The loss; all zero where no event had a context.
    pub loss: LossStats,
    /// Number of events in the batch.
    pub events: usize,
    /// Number of events that were ranked.
    pub ranked: usize,
    /// Time of the last event, milliseconds since 1970 UTC.
    pub last_event: i64,
}

/// Buffers that are kept from step to step; none of them is part of the state.
#[derive(Debug)]
pub(super) struct StepBuffers {
    batch: Batch,
    samplers: SamplerInput,
    request: StepRequest,
    /// Hidden states that the queries' sequences begin with, queries × dim; empty without a recurrent encoder.
    initial_states: Vec<f32>,
    encoded: Encoded,
    /// Where events are ranked by the last item alone: that item, encoded.
    last_items: Option<LastItems>,
    /// Whether events are ranked as an index ranks, by what no user has of their own.
    index_only: bool,
    history: BatchHistory,
    /// The queries that are ranked.
    chosen: Vec<usize>,
    ranking: Ranking,
    pub(super) ranked: Vec<Ranked>,
    pub(super) candidates: Candidates,
    objectives: Scratch,
}

/// Where a step stands in the stream.
#[derive(Debug, Clone, Copy)]
struct StepClock {
    /// Seed of the configuration, and number of the step: what each random stream of the step starts from.
    random: (u64, u64),
    /// Positive events before the batch, those without a row for their item included.
    begin: u64,
    /// Positive events up to the end of the batch, those of other workers included: what rows live by.
    now: u64,
    /// Number of the batch's first event among the events that are trained on.
    first_event: u64,
}

impl StepBuffers {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            batch: Batch::default(),
            samplers: SamplerInput::default(),
            request: StepRequest::default(),
            initial_states: Vec::new(),
            encoded: Encoded::default(),
            last_items: config.evaluate.last_item.then(LastItems::default),
            index_only: config.evaluate.index_only,
            history: BatchHistory::default(),
            chosen: Vec::new(),
            ranking: Ranking::default(),
            ranked: Vec::new(),
            candidates: Candidates::default(),
            objectives: Scratch::default(),
        }
    }
}

impl StepClock {
    fn new(state: &State, pending: &PendingBatch, seed: u64) -> Self {
        let mut events = state.progress.events;
        let begin = events.positives();
        events += pending.counts;
        Self {
            random: (seed, state.progress.steps),
            begin,
            now: events.positives() + state.progress.others.positives,
            first_event: state.progress.events.used,
        }
    }

    /// The number of the event of query `query` of `batch` among the events that are trained on.
    fn event(&self, batch: &Batch, query: usize) -> u64 {
        self.first_event + u64::from(batch.with_context[query])
    }
}

impl Trainer {
    /// Takes a step on the pending events, however few they are.
    pub(super) fn step(&mut self) -> StepReport {
        let Self {
            state,
            settings,
            pool,
            catalogue,
            streams: _,
            pending,
            ignored_kinds: _,
            popularity,
            buffers,
            stale,
            recorder,
            reread: _,
        } = self;
        let around = (popularity, stale.as_mut(), recorder.as_mut());
        let report = pool.install(|| attentive(|| step(state, settings, catalogue, pending, around, buffers)));
        if let Some(recorder) = recorder {
            recorder.note(&buffers.batch);
        }
        pending.clear();
        self.settle();
        report
    }
}

fn step(
    state: &mut State,
    settings: &TrainerSettings,
    catalogue: &Catalogue,
    pending: &mut PendingBatch,
    (popularity, mut stale, recorder): (&mut PopularityOrder, Option<&mut StaleServing>, Option<&mut DeltaRecorder>),
    buffers: &mut StepBuffers,
) -> StepReport {
    let clock = StepClock::new(state, pending, settings.seed);
    make_room(state, pending, (popularity, recorder), clock.now);
    let n_known = state.items.ids.len();
    if let Some(stale) = &mut stale {
        stale.publish(state, pending);
    }

    let StepBuffers { batch, samplers, .. } = buffers;
    let missed = capture(state, settings, catalogue, pending, clock, (batch, samplers));
    let before = stale.is_some().then(|| CountsBefore::of(state));
    let ranks = prepare(state, settings, popularity, clock, n_known, buffers);

    let StepBuffers {
        batch,
        samplers,
        request,
        initial_states,
        encoded,
        last_items,
        index_only,
        history,
        chosen,
        ranking,
        ranked,
        candidates,
        objectives,
    } = buffers;
    if let (Some(stale), Some(before)) = (stale, before) {
        stale.rank(state, settings, &before, popularity, BatchToRank { batch, chosen, n_known });
    }
    let trains = batch.n_queries() > 0;
    let State { users, model, negatives, .. } = &mut *state;
    let NegativeSources { frequencies, live, noise, bank, .. } = negatives;
    let (model, frequencies) = (&*model, &*frequencies);
    let view = ModelView {
        model,
        history: &*history,
        frequencies,
        popularity: &*popularity,
        histories: &users.histories,
        repeat: settings.positive_rules.repeat,
        history_terms: last_items.is_none() && !*index_only,
    };
    let by_queries = noise.depends_on_queries();
    let (of_queries, ()) = rayon::join(
        || {
            model.encode(model.kernel(), &request.sequences, initial_states, encoded);
            rank(view, batch, chosen, encoded, last_items.as_mut(), ranking)
        },
        || {
            observe(model, (frequencies, live, noise), (batch, samplers));
            if trains && !by_queries {
                let view = StreamView { frequencies, live, vectors: model };
                gather(view, (bank, noise), clock, request, QueryContext::default(), candidates);
            }
        },
    );
    if trains && by_queries {
        let queries = encoded.scored(0..batch.n_queries());
        let queries = queries.to_slice().expect("padded rows are contiguous");
        let SamplerInput { last_items, users, .. } = &*samplers;
        let query_context = QueryContext { last_items, users, queries, stride: model.stride(), others: &[] };
        let view = StreamView { frequencies, live, vectors: model };
        gather(view, (bank, noise), clock, request, query_context, candidates);
    }
    *ranked = of_queries;
    let n_ranked = ranked.len();
    ranked.extend(missed);
    state.progress.evaluation.add(ranked);
    watch(state, settings, clock, batch, trains.then_some(candidates));
    // Nothing reads the order of popularity until the next step, so that it is brought up to date while the model is trained.
    let (loss, ()) = rayon::join(
        || match trains {
            true => train(state, clock, batch, (request, encoded), (candidates, !ranks), objectives),
            false => LossStats::default(),
        },
        || history.settle(popularity),
    );
    commit(state, batch, loss, objectives);
    let last_shown = pending.shown.last().map_or(0, |(_, shown)| shown.timestamp);
    StepReport {
        loss,
        events: batch.len(),
        ranked: n_ranked,
        last_event: batch.timestamps.last().copied().unwrap_or(last_shown),
    }
}

/// Phase 1: the batch of the pending events, each with the context of its user, and rows for the items and users that are
/// new. Gives the events that were missed: those that have no row for their item, but a user by whose history they would have
/// been ranked.
fn capture(
    state: &mut State,
    settings: &TrainerSettings,
    catalogue: &Catalogue,
    pending: &mut PendingBatch,
    clock: StepClock,
    (batch, samplers): (&mut Batch, &mut SamplerInput),
) -> Vec<Ranked> {
    let now = clock.now;
    batch.clear(clock.first_event);
    samplers.shown.clear();
    state.count_arrivals(pending);
    let PendingBatch { events, deferred, shown, .. } = pending;
    let deferred_before = state.progress.events.deferred;
    let (mut deferred, mut shown) = (deferred.iter().zip(deferred_before + 1..).peekable(), shown.iter().peekable());
    let (mut missed, mut event_number) = (Vec::new(), clock.begin);
    for place in 0..=events.len() {
        while let Some(((_, user), number)) = deferred.next_if(|((before, _), _)| *before <= place) {
            if state.touch_deferred(user, now) && is_chosen(settings.seed, "deferred", number, settings.ranked_share) {
                missed.push(Ranked::missed(event_number));
            }
            event_number += 1;
        }
        while let Some((_, shown)) = shown.next_if(|(before, _)| *before <= place) {
            let incoming = events.len() - place;
            let exposure = state.exposure(shown, incoming);
            samplers.shown.extend(exposure.inspect(|shown| state.users.lifecycle.touch(shown.user, now)));
        }
        let Some(PendingEvent { event, has_user }) = events.get(place) else { break };
        let n_items = state.items.ids.len();
        let item = state.add_item_with(&event.item, || catalogue.of(&event.item, &event.features));
        batch.newcomers.push(item as usize == n_items);
        state.items.lifecycle.touch(item, now);
        batch.kinds.push(event.kind.clone());
        batch.numbers.push(event_number);
        event_number += 1;
        if !has_user {
            UserHistories::capture_nobody(batch, item, event.timestamp);
            continue;
        }
        let user = state.add_user(&event.user);
        state.users.lifecycle.touch(user, now);
        state.users.histories.capture(batch, user, item, event.timestamp);
        if !settings.exposure_kinds.is_empty() {
            samplers.shown.push(Shown { user, item, chosen: true });
        }
    }
    if !state.negatives.noise.terms.is_empty() {
        samplers.set_queries(batch);
    }
    missed
}

/// Counts the events of the batch, before which `n_known` items had a row, captures what is related to them, and readies what
/// phases 2 to 4 read: what the objectives ask for, the vectors of all that is encoded or ranked, and the hidden states. Gives
/// whether the batch has events to be ranked; then the vectors of all items are up to date.
fn prepare(
    state: &mut State,
    settings: &TrainerSettings,
    popularity: &mut PopularityOrder,
    clock: StepClock,
    n_known: usize,
    buffers: &mut StepBuffers,
) -> bool {
    let StepBuffers { batch, request, initial_states, history, chosen, .. } = buffers;
    let State { items, model, objectives, negatives, .. } = state;
    objectives.prepare(batch, clock.random, request);
    let is_ranked =
        |query: &usize| is_chosen(settings.seed, "evaluate", clock.event(batch, *query), settings.ranked_share);
    chosen.clear();
    chosen.extend((0..batch.n_queries()).filter(is_ranked));
    // A ranking needs the vectors of all items; otherwise those that are used will do.
    let ranks = !chosen.is_empty();
    match ranks {
        true => model.refresh_all(),
        false => model.refresh(&request.sequences.items),
    }
    let kernel = model.kernel();
    model.advance_hidden_states(kernel, batch, request.longest, initial_states);
    let mut of_events = vec![false; batch.len()];
    chosen.iter().for_each(|query| of_events[batch.with_context[*query] as usize] = true);
    let counts = Counts {
        frequencies: &mut negatives.frequencies,
        popularity,
        occurrences: &mut items.occurrences,
        last_event: &mut items.last_event,
    };
    // Neither the co-occurrence nor the frequencies read the other, so that both are counted at the same time.
    let mut related = std::mem::take(&mut batch.related_lists);
    rayon::join(
        || items.cooccurrences.capture(batch, &mut related),
        || history.observe(kernel, model, counts, batch, n_known, &of_events),
    );
    batch.related_lists = related;
    ranks
}

/// Phase 2: the ranks of the chosen queries' items, by the encoded contexts, or (`last_items`) by their last items alone.
fn rank(
    view: ModelView<'_>,
    batch: &Batch,
    chosen: &[usize],
    encoded: &Encoded,
    last_items: Option<&mut LastItems>,
    ranking: &mut Ranking,
) -> Vec<Ranked> {
    let kernel = view.model.kernel();
    match last_items {
        Some(last_items) => ranking.rank(kernel, view, batch, chosen, last_items.encode(kernel, view.model, batch)),
        None => ranking.rank(kernel, view, batch, chosen, encoded),
    }
}

/// Phase 3: everything that negatives are drawn from observes the batch.
fn observe(
    model: &Model,
    (frequencies, live, noise): (&Frequencies, &mut LiveItems, &mut NoiseMix),
    (batch, samplers): (&Batch, &SamplerInput),
) {
    live.observe(&batch.items);
    let view = StreamView { frequencies, live, vectors: model };
    noise.observe(view, BatchObservation { items: &batch.items, pairs: &samplers.pairs, shown: &samplers.shown });
}

/// Phase 3: gathers the candidates: the positives that the objectives asked for, the bank, and draws of the samplers, which
/// may look at `queries`.
fn gather(
    view: StreamView<'_>,
    (bank, noise): (&Bank, &mut NoiseMix),
    clock: StepClock,
    request: &StepRequest,
    queries: QueryContext<'_>,
    candidates: &mut Candidates,
) {
    candidates.gather(request.positives.iter().copied(), bank, noise, view, queries, clock.random);
}

/// Watches a share of the queries' negatives (`candidates`, where the batch is trained on), and finds which watched ones
/// the batch proves false.
fn watch(
    state: &mut State,
    settings: &TrainerSettings,
    clock: StepClock,
    batch: &Batch,
    candidates: Option<&mut Candidates>,
) {
    let TrainerSettings { seed, watched_share, positive_rules, .. } = *settings;
    let State { items, negatives: NegativeSources { noise, bank, false_negatives, .. }, .. } = state;
    if let Some(candidates) = candidates.filter(|_| watched_share > 0.0) {
        let chosen = |query: &usize| is_chosen(seed, "ledger", clock.event(batch, *query), watched_share);
        let chosen: Vec<usize> = (0..batch.n_queries()).filter(chosen).collect();
        let positives: Vec<Vec<u32>> =
            chosen.iter().map(|query| batch.known_positives(*query, positive_rules)).collect();
        let queries = chosen.iter().zip(&positives).map(|(query, known_positives)| QueryToWatch {
            user: batch.user(*query),
            event: clock.event(batch, *query),
            known_positives,
        });
        let end = clock.first_event + batch.len() as u64;
        false_negatives.watch(candidates, (&*bank, &*noise), &items.occurrences, end, queries);
    }
    false_negatives.judge(clock.first_event, &batch.users, &batch.items);
}

/// Phase 4: one step of the objectives. The vectors of the candidates are brought up to date first, unless (`outdated` is
/// false) a ranking has done so with all vectors.
fn train(
    state: &mut State,
    clock: StepClock,
    batch: &Batch,
    (request, encoded): (&StepRequest, &mut Encoded),
    (candidates, outdated): (&Candidates, bool),
    scratch: &mut Scratch,
) -> LossStats {
    if candidates.items.len() < 2 {
        // A lone query, and nothing that its item could be told from.
        return LossStats::default();
    }
    let State { objectives, model, negatives, .. } = state;
    if outdated {
        model.refresh(&candidates.items);
    }
    let context = (model.kernel(), clock.random);
    objectives.step(context, model, batch, (request, encoded), (candidates, &negatives.bank), scratch)
}

/// Phase 5: the batch's items enter the bank, and the step is counted.
fn commit(state: &mut State, batch: &Batch, loss: LossStats, scratch: &Scratch) {
    let State { users, model, negatives, progress, .. } = state;
    negatives.bank.push(&batch.items, &*model);
    users.histories.trim(batch);
    progress.steps += 1;
    if loss.queries > 0 {
        progress.last_loss = (loss.loss, loss.information_bound);
        progress.last_parts.clear();
        progress.last_parts.extend_from_slice(scratch.losses());
    }
}

/// Whether event number `event` of the stream belongs to the share that is ranked, or watched: a function of its number
/// alone.
pub(super) fn is_chosen(seed: u64, purpose: &str, event: u64, share: f64) -> bool {
    share >= 1.0 || (stable_hash(seed ^ event.rotate_left(32), &[purpose]) >> 11) as f64 * (-53f64).exp2() < share
}
