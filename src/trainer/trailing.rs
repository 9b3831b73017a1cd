//! Histories that follow the stream at a distance: what had been counted a delay before ([`super::stale`]).

use std::collections::VecDeque;

use super::TrainerSettings;
use super::stale::{BatchToRank, StaleScratch};
use super::state::State;
use crate::context::cooccurrence::Cooccurrences;
use crate::context::users::UserHistories;
use crate::context::{Batch, NOBODY};
use crate::evaluate::popularity::PopularityOrder;
use crate::evaluate::ranking::ModelView;
use crate::model::Model;
use crate::negatives::frequency::Frequencies;

/// Counts are brought onto a scale of their own after so many events at most.
const LONGEST_FRAME: usize = 1024;

/// An event that waits until it is old enough.
#[derive(Debug, Clone, Copy)]
struct WaitingEvent {
    user: u32,
    item: u32,
    timestamp: i64,
}

/// What was counted of the events that are older than a delay. Those that are not wait: 16 bytes each.
#[derive(Debug)]
pub(super) struct TrailingHistories {
    waiting: VecDeque<WaitingEvent>,
    /// Time of the newest event that is counted.
    pub newest: Option<i64>,
    frequencies: Frequencies,
    occurrences: Vec<u64>,
    histories: UserHistories,
    cooccurrences: Cooccurrences,
    counted: Batch,
}

impl TrailingHistories {
    /// Those of `state`, from which they stay behind.
    pub(super) fn new(state: &mut State) -> Self {
        Self {
            waiting: VecDeque::new(),
            newest: None,
            frequencies: state.negatives.frequencies.clone(),
            occurrences: state.items.occurrences.iter().copied().collect(),
            histories: state.users.histories.snapshot(),
            cooccurrences: state.items.cooccurrences.snapshot(None),
            counted: Batch::default(),
        }
    }

    /// The events of `batch` will be counted when they are old enough.
    pub(super) fn wait(&mut self, batch: &Batch) {
        let events = batch.users.iter().zip(&batch.items).zip(&batch.timestamps);
        self.waiting.extend(events.map(|((user, item), timestamp)| WaitingEvent {
            user: *user,
            item: *item,
            timestamp: *timestamp,
        }));
    }

    /// Counts what waits, up to `time`.
    pub(super) fn count_until(&mut self, time: i64) {
        let mut n_counted = 0;
        while let Some(event) = self.waiting.front().copied().filter(|event| event.timestamp <= time) {
            self.waiting.pop_front();
            let is_full = self.frequencies.frame_is_full(1.0) || n_counted % LONGEST_FRAME == 0;
            if n_counted > 0 && (is_full || self.frequencies.frame_overflows()) {
                self.frequencies.refresh();
            }
            self.count(event);
            n_counted += 1;
        }
        if n_counted > 0 {
            self.histories.trim(&self.counted);
            self.counted.clear(0);
            self.frequencies.refresh();
        }
    }

    fn count(&mut self, WaitingEvent { user, item, timestamp }: WaitingEvent) {
        let Self { frequencies, occurrences, histories, cooccurrences, counted, newest, .. } = self;
        let (row, n_known) = (item as usize, occurrences.len());
        if counted.is_empty() {
            counted.clear(0);
        }
        if row >= n_known {
            occurrences.resize(row + 1, 0);
            (n_known..=row).for_each(|_| cooccurrences.push());
            frequencies.begin_batch(row + 1);
        }
        if user == NOBODY {
            UserHistories::capture_nobody(counted, item, timestamp);
        } else {
            (histories.len()..=user as usize).for_each(|_| histories.push());
            histories.capture(counted, user, item, timestamp);
        }
        counted.capture_related(cooccurrences);
        let is_repeat = counted.repeats.last().copied().unwrap_or_default();
        let is_evidence = occurrences[row] > 0 && !is_repeat;
        frequencies.observe(item, timestamp, is_evidence.then_some(n_known));
        occurrences[row] += 1;
        *newest = Some(newest.map_or(timestamp, |newest| newest.max(timestamp)));
    }

    /// The ranks of the chosen queries, by these histories and `model`, which may serve its first `n_served` items. Who has no
    /// history yet is served what was popular.
    pub(super) fn rank(
        &mut self,
        (model, n_served): (&Model, usize),
        settings: &TrainerSettings,
        BatchToRank { batch, chosen, .. }: BatchToRank<'_>,
        scratch: &mut StaleScratch,
    ) -> Vec<(u64, Option<f64>)> {
        let StaleScratch { sequences, encoded, history, ranking, batch: then, .. } = scratch;
        let Self { frequencies, occurrences, histories, cooccurrences, .. } = self;
        let (kernel, n_known) = (model.kernel(), occurrences.len());
        let n_served = n_served.min(n_known);
        then.clear(0);
        let mut found = Vec::with_capacity(chosen.len());
        for query in chosen {
            let (event, user, item) = (batch.with_context[*query] as usize, batch.user(*query), batch.positive(*query));
            let number = batch.numbers[event];
            if (user as usize) < histories.len() && histories.get(user).is_known() {
                histories.look(then, user, item, batch.timestamps[event]);
                cooccurrences.look(then);
                then.numbers.push(number);
                found.push((number, None));
            } else {
                found.push((number, popular_rank(frequencies, item as usize, n_served)));
            }
        }
        if then.n_queries() == 0 {
            return found;
        }
        let queries: Vec<usize> = (0..then.n_queries()).collect();
        history.observe_nothing(kernel, model, frequencies, then, n_known);
        history.leave_out(n_served);
        sequences.begin(then);
        model.encode(kernel, sequences, &[], encoded);
        let view = ModelView {
            model,
            history,
            frequencies,
            // Only ranks by popularity would ask for it.
            popularity: &PopularityOrder::default(),
            histories,
            repeat: settings.positive_rules.repeat,
            history_terms: true,
        };
        let ranked = ranking.rank(kernel, view, then, &queries, encoded);
        let mut ranked = ranked.iter().zip(&then.items).peekable();
        for (number, rank) in &mut found {
            if let Some((ranked, item)) = ranked.next_if(|(ranked, _)| ranked.number == *number) {
                *rank = ranked.model.filter(|_| (*item as usize) < n_served);
            }
        }
        found
    }
}

/// The rank of an item by decayed popularity alone, among the first `n_served`.
fn popular_rank(frequencies: &Frequencies, item: usize, n_served: usize) -> Option<f64> {
    (item < n_served).then(|| {
        let counts = frequencies.popularity().relative();
        let target = counts[item];
        let of =
            |holds: fn(&f64, &f64) -> bool| counts.iter().take(n_served).filter(|count| holds(count, &target)).count();
        of(|count, target| count > target) as f64 + (of(|count, target| count == target) - 1) as f64 / 2.0
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::kernel::Kernel;

    /// Captures events (user, item), a second apart, and gives their batch.
    fn capture(state: &mut State, events: &[(u32, u32)]) -> Batch {
        let mut batch = Batch::default();
        batch.clear(0);
        for ((user, item), second) in events.iter().zip(0..) {
            let row = state.add_item(&format!("i{item}"));
            match *user {
                0 => UserHistories::capture_nobody(&mut batch, row, second * 1000),
                _ => {
                    let user = state.add_user(&format!("u{user}"));
                    state.users.histories.capture(&mut batch, user, row, second * 1000);
                }
            }
            batch.capture_related(&mut state.items.cooccurrences);
            *state.items.occurrences.get_mut(row as usize) += 1;
        }
        batch
    }

    #[test]
    fn trailing_histories_are_those_of_what_is_old_enough() {
        let config = Config::with_settings(&["evaluate.repeat=true", "context.length=3"]).expect("a configuration");
        let state = || State::new(&config, Kernel::detect());
        let events: Vec<(u32, u32)> = (0..200u32).map(|n| (n * 7 % 13 % 5, n * n % 11)).collect();
        let mut trailing = TrailingHistories::new(&mut state());
        trailing.wait(&capture(&mut state(), &events));
        for old in [0usize, 1, 60, 61, 200] {
            let mut then = state();
            capture(&mut then, &events[..old]);
            trailing.count_until(old as i64 * 1000 - 1);
            assert_eq!(trailing.newest, old.checked_sub(1).map(|newest| newest as i64 * 1000));
            assert!(trailing.histories.iter().eq(then.users.histories.iter()), "{old}");
            assert!(trailing.occurrences.iter().eq(then.items.occurrences.iter()), "{old}");
            let n_items = then.items.cooccurrences.len() as u32;
            assert_eq!(trailing.cooccurrences.len() as u32, n_items);
            assert!((0..n_items).all(|item| trailing.cooccurrences.get(item) == then.items.cooccurrences.get(item)));
            assert_eq!(trailing.waiting.len(), events.len() - old);
        }
    }
}
