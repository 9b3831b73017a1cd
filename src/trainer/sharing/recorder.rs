//! The recorder: what happened to the state since the last flush, and the delta that is made of it.
//!
//! Rows know by themselves what they were before they moved (`crate::table::baseline`); learned numbers are few, and are
//! compared with a copy. Events are noted as they are counted.

use compact_str::CompactString;

use crate::context::Batch;
use crate::position::Positions;
use crate::share::{
    ClockSpan, Delta, GroupClock, MovePrecision, ParameterMoves, RowMoves, SharedEvent, SharedItem, SharedTable,
    SourceSpan,
};
use crate::table::adagrad::Parameters;
use crate::table::generation_map::GenerationMap;
use crate::table::ids::Ids;
use crate::table::row_remap::RowRemap;
use crate::trainer::state::{ItemStore, State};

/// What happened to the state since the last flush.
#[derive(Debug)]
pub(in crate::trainer) struct DeltaRecorder {
    pub(super) worker: CompactString,
    /// The number of this process.
    pub(super) incarnation: u64,
    /// The configuration of the state, as a number.
    pub(super) configuration: u64,
    precision: MovePrecision,
    /// The number of the next delta.
    pub(super) sequence: u64,
    /// Deltas that were made and are not known to count; 0 where there is no log.
    pub(super) unconfirmed: u64,
    pub(super) clock: GroupClock,
    /// The clock at the last flush.
    flushed_at: f64,
    /// Own events of a positive type at the last flush.
    pub(super) positives: u64,
    /// Where the streams were read to at the last flush.
    pub(super) positions: Positions,
    pub(super) events: Vec<RecordedEvent>,
    /// The contexts of the events, one behind the other.
    pub(super) contexts: Vec<u32>,
    /// Items that have lost their row.
    pub(super) evicted: Vec<CompactString>,
    /// The learned numbers that belong to no row as of the last flush, and what others have moved them by since.
    pub(super) parameters: Vec<(String, Parameters)>,
    /// How many items of a context are sent.
    window: usize,
    /// By item: its place in the delta that is being made.
    places: GenerationMap,
}

/// An event that was counted since the last flush.
#[derive(Debug, Clone, Copy)]
pub(super) struct RecordedEvent {
    pub(super) item: u32,
    timestamp: i64,
    /// How many items of its context there are.
    context: u32,
}

/// Every learned number that belongs to no row, by name: the model's, and the objectives' own.
pub(super) fn parameters_mut(state: &mut State) -> impl Iterator<Item = (String, &mut Parameters)> {
    let State { model, objectives, .. } = state;
    let of_model = model.parameters_mut().map(|(name, parameters)| (name.into_owned(), parameters));
    of_model.chain(objectives.parameters_mut())
}

impl DeltaRecorder {
    /// Records what happens to `state` from now on.
    pub(super) fn new(state: &mut State, worker: &str, precision: MovePrecision, pace: f64) -> Self {
        state.model.track_moves();
        state.negatives.frequencies.share_evidence();
        let parameters = parameters_mut(state).map(|(name, parameters)| (name, parameters.clone())).collect();
        let mut clock = GroupClock::new(state.progress.events.used + state.progress.others.used, pace);
        clock.set_on(state.negatives.bank.now() as f64);
        state.negatives.follow(&clock);
        let progress = &state.progress;
        Self {
            worker: worker.into(),
            incarnation: 0,
            configuration: 0,
            precision,
            sequence: 0,
            unconfirmed: 0,
            clock,
            flushed_at: clock.now(),
            positives: progress.events.positives(),
            positions: state.sources.positions.clone(),
            events: Vec::new(),
            contexts: Vec::new(),
            evicted: Vec::new(),
            parameters,
            // A sampler may ask for the newest item, whatever else counts.
            window: state.items.cooccurrences.window().max(1),
            places: GenerationMap::default(),
        }
    }

    pub(super) fn clock(&self) -> &GroupClock {
        &self.clock
    }

    /// Notes the events of `batch`, on which a step was taken.
    pub(in crate::trainer) fn note(&mut self, batch: &Batch) {
        let mut query = 0;
        for (event, (item, timestamp)) in batch.items.iter().zip(&batch.timestamps).enumerate() {
            let has_context = batch.with_context.get(query).is_some_and(|of_query| *of_query as usize == event);
            let context = if has_context { batch.context(query) } else { &[] };
            let context = &context[..context.len().min(self.window)];
            self.contexts.extend(context);
            self.events.push(RecordedEvent { item: *item, timestamp: *timestamp, context: context.len() as u32 });
            query += usize::from(has_context);
        }
        self.clock.count_own(batch.len());
    }

    /// Notes that the state is about to evict rows of items, `ids` being their names, for reasons of its own.
    pub(in crate::trainer) fn note_eviction(&mut self, ids: &Ids, rows: &RowRemap) {
        let evicted = (0..ids.len() as u32).filter(|row| rows.get(*row).is_none());
        self.evicted.extend(evicted.map(|row| CompactString::new(ids.name(row))));
        self.keep_items(rows);
    }

    /// Remaps item rows after an eviction; events of evicted items leave, and evicted items leave the contexts.
    pub(super) fn keep_items(&mut self, rows: &RowRemap) {
        let (events, contexts) = (std::mem::take(&mut self.events), std::mem::take(&mut self.contexts));
        let mut rest = &contexts[..];
        for event in events {
            let (context, behind) = rest.split_at(event.context as usize);
            rest = behind;
            let Some(item) = rows.get(event.item) else { continue };
            let before = self.contexts.len();
            self.contexts.extend(context.iter().filter_map(|other| rows.get(*other)));
            let context = (self.contexts.len() - before) as u32;
            self.events.push(RecordedEvent { item, context, ..event });
        }
    }

    /// How many events of the item in row `item` there were since the last flush.
    pub(super) fn events_of(&self, item: u32) -> usize {
        self.events.iter().filter(|event| event.item == item).count()
    }

    /// Makes a delta of everything since the last flush; `None` where that is nothing.
    pub(super) fn take(&mut self, state: &mut State) -> Option<Delta> {
        let sources = spans(&self.positions, &state.sources.positions);
        let positives = state.progress.events.positives() - self.positives;
        if sources.is_empty() && positives == 0 && self.evicted.is_empty() {
            return None;
        }
        let mut items = NamedItems { places: &mut self.places, items: Vec::new() };
        items.places.begin(state.items.ids.len());
        let mut contexts = &self.contexts[..];
        let events = self.events.iter().map(|event| {
            let (context, behind) = contexts.split_at(event.context as usize);
            contexts = behind;
            SharedEvent {
                item: items.place(state, event.item),
                timestamp: event.timestamp,
                context: context.iter().map(|item| items.place(state, *item)).collect(),
            }
        });
        let events = events.collect();
        let (mut rows, mut moved) = (Vec::new(), Vec::new());
        for (table, of_table) in state.model.shared_tables_mut() {
            let mut moves = RowMoves::new(table, of_table.values.dim() + of_table.sums.dim());
            let taken = of_table.take_moves(|row, of_row| {
                self.precision.round(of_row);
                moves.keys.push(row);
                moves.moves.extend_from_slice(of_row);
            });
            if table == SharedTable::Items {
                moved = taken;
            }
            rows.push(moves);
        }
        state.model.refresh_moved(&moved);
        rows.retain(|moves| !moves.keys.is_empty());
        for RowMoves { table, keys, .. } in &mut rows {
            keys.iter_mut().for_each(|key| match table {
                SharedTable::Features => *key = bucket(state, *key),
                _ => *key = items.place(state, *key),
            });
        }
        let items = items.items;
        let mut kept = self.parameters.iter_mut();
        let parameters = parameters_mut(state).filter_map(|(name, now)| {
            let (_, before) = kept.next().expect("the list of parameters never changes");
            take_moves(name, now, before)
        });
        let parameters = parameters.collect();
        let evidence = state.negatives.frequencies.take_evidence();
        let delta = Delta {
            worker: self.worker.clone(),
            incarnation: self.incarnation,
            configuration: self.configuration,
            sequence: self.sequence,
            sources,
            clock: ClockSpan { from: self.flushed_at, until: self.clock.now() },
            positives,
            items,
            evicted: std::mem::take(&mut self.evicted),
            events,
            evidence,
            rows,
            parameters,
        };
        self.sequence += 1;
        self.unconfirmed += u64::from(state.sources.shared.is_some());
        self.events.clear();
        self.contexts.clear();
        self.clock.flushed();
        self.flushed_at = self.clock.now();
        self.positives += positives;
        self.positions = state.sources.positions.clone();
        state.negatives.follow(&self.clock);
        Some(delta)
    }

    /// Bytes that are kept of what happened since the last flush.
    pub(super) fn bytes(&self, state: &mut State) -> usize {
        let of_rows = state.model.shared_tables_mut().map(|(_, rows)| rows.baseline().map_or(0, |rows| rows.bytes()));
        of_rows.sum::<usize>()
            + self.events.capacity() * size_of::<RecordedEvent>()
            + self.contexts.capacity() * size_of::<u32>()
    }
}

/// The items that a delta names so far.
struct NamedItems<'a> {
    places: &'a mut GenerationMap,
    items: Vec<SharedItem>,
}

impl NamedItems<'_> {
    /// The place of the item in row `item`.
    fn place(&mut self, state: &State, item: u32) -> u32 {
        if let Some(place) = self.places.get(item) {
            return place;
        }
        let place = self.items.len() as u32;
        self.places.set(item, place);
        let ItemStore { ids, .. } = &state.items;
        let buckets = match &state.model.features {
            Some(features) => features.of(item as usize).iter().map(|row| features.buckets()[*row as usize]).collect(),
            None => Vec::new(),
        };
        self.items.push(SharedItem { name: ids.name(item).into(), buckets });
        place
    }
}

fn bucket(state: &State, row: u32) -> u32 {
    state.model.features.as_ref().map_or(0, |features| features.buckets()[row as usize])
}

/// How far learned numbers moved from what they were; they become what those who add that will have.
fn take_moves(name: String, now: &mut Parameters, before: &mut Parameters) -> Option<ParameterMoves> {
    if now == before {
        return None;
    }
    let difference = |now: &mut [f32], before: &[f32]| -> Vec<f32> {
        let moves: Vec<f32> = now.iter().zip(before).map(|(now, before)| now - before).collect();
        now.iter_mut().zip(before).zip(&moves).for_each(|((now, before), part)| *now = before + part);
        moves
    };
    let values = difference(&mut now.values, &before.values);
    let sums = difference(&mut now.sums, &before.sums);
    before.clone_from(now);
    Some(ParameterMoves { name, values, sums })
}

/// What was read between two positions, by stream.
fn spans(before: &Positions, now: &Positions) -> Vec<SourceSpan> {
    let spans = now.iter().map(|(stream, until)| {
        let from = before.next(stream).unwrap_or(0);
        SourceSpan { stream: stream.to_owned(), from, until }
    });
    spans.filter(|span| span.from < span.until).collect()
}
