//! The merge: deltas of other workers, added to the state.
//!
//! Moves are added to rows and numbers. Events are counted like the worker's own, but for what belongs to their users; each at
//! its place on the group's clock, by which the deltas are put in one order, since the stretches that they cover overlap.

use compact_str::CompactString;

use super::recorder::{DeltaRecorder, parameters_mut};
use crate::evaluate::popularity::PopularityOrder;
use crate::negatives::bank::BankEntry;
use crate::negatives::frequency::{AbsorbedEvent, Frequencies};
use crate::negatives::samplers::{BatchObservation, StreamView};
use crate::share::{Delta, ParameterMoves, RowMoves, SharedItem, SharedTable, SourceSpan};
use crate::table::adagrad::START;
use crate::table::row_remap::RowRemap;
use crate::trainer::state::{NegativeSources, State};

/// An event of another worker.
#[derive(Debug, Clone, Copy)]
struct MergedEvent<'a> {
    item: u32,
    timestamp: i64,
    /// Its place on the group's clock.
    clock: f64,
    /// Its context, as places in its delta.
    context: &'a [u32],
    /// Which of the deltas it is in.
    delta: usize,
}

impl DeltaRecorder {
    /// Adds `deltas` to `state`.
    pub(super) fn merge(&mut self, state: &mut State, popularity: &mut PopularityOrder, deltas: &[&Delta]) {
        // An eviction gives the rows other numbers: what was sent before it is counted before it.
        for run in deltas.chunk_by(|_, next| next.evicted.is_empty()) {
            self.evict(state, popularity, &run[0].evicted);
            self.add(state, popularity, run);
        }
    }

    /// Adds everything of `deltas` but their evictions.
    fn add(&mut self, state: &mut State, popularity: &mut PopularityOrder, deltas: &[&Delta]) {
        let (mut events, mut rows, mut set_on) = (Vec::new(), Vec::new(), 0.0);
        for (place, delta) in deltas.iter().enumerate() {
            for SourceSpan { stream, until, .. } in &delta.sources {
                state.sources.positions.advance(stream, *until);
                self.positions.advance(stream, *until);
            }
            let items = add_items(state, &delta.items);
            add_moves(state, &items, &delta.rows);
            self.add_parameters(state, &delta.parameters);
            let n = delta.events.len();
            events.extend(delta.events.iter().enumerate().map(|(number, event)| MergedEvent {
                item: items[event.item as usize],
                timestamp: event.timestamp,
                clock: delta.clock.at(number, n),
                context: &event.context,
                delta: place,
            }));
            rows.push(items);
            let others = &mut state.progress.others;
            others.used += n as u64;
            others.positives += delta.positives;
            others.deltas += 1;
            set_on += self.clock.count_others(n as u64);
            set_on += self.clock.set_on(delta.clock.until);
        }
        // Stable: what one worker saw in one order stays in it.
        events.sort_by(|one, other| one.clock.total_cmp(&other.clock));
        state.negatives.frequencies.pass(set_on);
        state.negatives.follow(&self.clock);
        let pairs = count_events(state, &events, &rows);
        self.count_frequencies(state, popularity, &events, deltas);
        let State { model, negatives: NegativeSources { frequencies, live, noise, bank, .. }, .. } = state;
        let items: Vec<u32> = events.iter().map(|event| event.item).collect();
        live.observe(&items);
        let view = StreamView { frequencies, live, vectors: &*model };
        noise.observe(view, BatchObservation { items: &items, pairs: &pairs, shown: &[] });
        let entries: Vec<BankEntry> =
            events.iter().map(|event| BankEntry { item: event.item, event: event.clock as u64 }).collect();
        bank.absorb(&entries, &*model);
    }

    /// Counts `events` of others in the decayed counts of every half-life, and brings the order of popularity up to date with them.
    fn count_frequencies(
        &self,
        state: &mut State,
        popularity: &mut PopularityOrder,
        events: &[MergedEvent<'_>],
        deltas: &[&Delta],
    ) {
        let (frequencies, n_items) = (&mut state.negatives.frequencies, state.items.ids.len());
        let n_known = frequencies.len();
        frequencies.begin_batch(n_items);
        let mut touched: Vec<u32> = events.iter().map(|event| event.item).collect();
        touched.sort_unstable();
        touched.dedup();
        let counts = |frequencies: &Frequencies, known: usize| -> Vec<f64> {
            let counts = frequencies.popularity().relative();
            touched.iter().filter(|item| (**item as usize) < known).map(|item| counts[*item as usize]).collect()
        };
        let gone = counts(frequencies, n_known);
        let now = self.clock.now();
        let late = |event: &MergedEvent<'_>| AbsorbedEvent {
            item: event.item,
            timestamp: event.timestamp,
            events_since: (now - event.clock).max(0.0),
        };
        let mut evidence: Vec<f64> = Vec::new();
        for delta in deltas {
            evidence.resize(evidence.len().max(delta.evidence.len()), 0.0);
            evidence.iter_mut().zip(&delta.evidence).for_each(|(sum, more)| *sum += more);
        }
        frequencies.absorb(&events.iter().map(late).collect::<Vec<_>>(), &evidence);
        let mut come = counts(frequencies, usize::MAX);
        // Items that have a row from now on, but no event yet.
        let rest = (n_known as u32..n_items as u32).filter(|item| touched.binary_search(item).is_err());
        come.extend(rest.map(|item| frequencies.popularity().relative()[item as usize]));
        popularity.update(gone, come);
        frequencies.refresh();
        if let Some(factor) = frequencies.popularity().rescaled() {
            popularity.rescale(factor);
        }
    }

    fn add_parameters(&mut self, state: &mut State, moves: &[ParameterMoves]) {
        let mut kept = self.parameters.iter_mut();
        for (name, now) in parameters_mut(state) {
            let (_, before) = kept.next().expect("the list of parameters never changes");
            let Some(moves) = moves.iter().find(|moves| moves.name == name) else { continue };
            for parameters in [now, before] {
                parameters.values.iter_mut().zip(&moves.values).for_each(|(number, part)| *number += part);
                parameters.sums.iter_mut().zip(&moves.sums).for_each(|(number, part)| *number += part);
            }
        }
    }

    /// Lets the rows leave that another worker has evicted. Of an item that came here since the last flush, what was before that
    /// leaves: others will give it a row anew by the deltas that they get of it.
    fn evict(&mut self, state: &mut State, popularity: &mut PopularityOrder, evicted: &[CompactString]) {
        let rows: Vec<u32> = evicted.iter().filter_map(|name| state.items.ids.get(name)).collect();
        if rows.is_empty() {
            return;
        }
        let mut stays = vec![true; state.items.ids.len()];
        for row in rows {
            let has_moved = state.model.items.baseline().is_some_and(|baseline| baseline.has(row as usize));
            match self.events_of(row) {
                0 if !has_moved => stays[row as usize] = false,
                events => state.restart_item(row, events as u64),
            }
        }
        let remap = RowRemap::of_rows(stays.len(), |row| stays[row as usize]);
        if remap.n_kept() < stays.len() {
            self.keep_items(&remap);
            state.items.lifecycle.keep(&remap, state.progress.group_positives());
            state.keep_items(&remap);
            *popularity = PopularityOrder::new(&state.negatives.frequencies);
        }
    }
}

/// Counts `events` of others where counts do not decay; `rows` are those of the items that each delta names. Gives the newest item
/// before it and the item of each event whose user had a past.
fn count_events(state: &mut State, events: &[MergedEvent<'_>], rows: &[Vec<u32>]) -> Vec<(u32, u32)> {
    let (items, now) = (&mut state.items, state.progress.group_positives());
    let (mut pairs, mut context) = (Vec::new(), Vec::new());
    for event in events {
        let (item, row) = (event.item, event.item as usize);
        context.clear();
        context.extend(event.context.iter().map(|place| rows[event.delta][*place as usize]));
        pairs.extend(context.first().map(|before| (*before, item)));
        *items.occurrences.get_mut(row) += 1;
        let newest = items.last_event.get_mut(row);
        *newest = (*newest).max(event.timestamp);
        items.cooccurrences.count(item, &context);
        items.lifecycle.touch(item, now);
    }
    pairs
}

/// The rows of `items`, new ones where they had none.
fn add_items(state: &mut State, items: &[SharedItem]) -> Vec<u32> {
    let n_buckets = state.model.features.as_ref().map_or(0, |features| features.n_buckets());
    items
        .iter()
        .map(|SharedItem { name, buckets }| {
            // Those of a worker with another configuration would have no place.
            let known = || buckets.iter().copied().filter(|bucket| (*bucket as usize) < n_buckets).collect();
            state.add_item_with(name, known)
        })
        .collect()
}

/// Adds `moves` of rows; `items` are the rows of the items that they refer to.
fn add_moves(state: &mut State, items: &[u32], moves: &[RowMoves]) {
    for of_table in moves {
        let of_features = state.model.features.as_mut().filter(|_| of_table.table == SharedTable::Features);
        let keys: Vec<u32> = match of_features {
            Some(features) => {
                let n_buckets = features.n_buckets();
                of_table.keys.iter().map(|bucket| features.row_of(*bucket % n_buckets as u32)).collect()
            }
            None if of_table.table == SharedTable::Features => continue,
            None => of_table.keys.iter().map(|place| items[*place as usize]).collect(),
        };
        let mut tables = state.model.shared_tables_mut();
        let Some((_, rows)) = tables.find(|(table, _)| *table == of_table.table) else { continue };
        if rows.values.dim() + rows.sums.dim() != of_table.width {
            continue;
        }
        keys.iter().zip(of_table.iter()).for_each(|(row, (_, moves))| rows.add_moves(*row as usize, moves));
        drop(tables);
        if of_table.table == SharedTable::Items {
            state.model.refresh_moved(&keys);
        }
    }
}

impl State {
    /// Makes of the rows of item `item` those of a new item, but for what has moved them since the last flush; it had `events` since
    /// then.
    fn restart_item(&mut self, item: u32, events: u64) {
        let name = self.items.ids.name(item).to_owned();
        let fresh = self.model.starting_rows(&name, item as usize);
        for ((_, rows), fresh) in self.model.shared_tables_mut().zip(fresh) {
            let Some(fresh) = fresh else { continue };
            let row = item as usize;
            let now = rows.values.row(row).iter().chain(rows.sums.row(row));
            let before: Vec<f32> = match rows.baseline().and_then(|baseline| baseline.copy(row)) {
                Some(copy) => copy.to_vec(),
                None => now.copied().collect(),
            };
            // What takes the copy to the values of a new row.
            let target = fresh.iter().copied().chain(std::iter::repeat(START));
            let moves: Vec<f32> = before.iter().zip(target).map(|(before, target)| target - before).collect();
            rows.add_moves(row, &moves);
        }
        self.model.refresh_moved(&[item]);
        *self.items.occurrences.get_mut(item as usize) = events;
    }
}
