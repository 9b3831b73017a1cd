//! Row lifecycle: which items and users are given a row (admission), and which lose theirs (eviction).
//!
//! A name is admitted at its n-th event. A row expires when it had no event for a time, and beyond a cap the rows that had
//! none for longest are evicted: an eighth of the cap at once, so that all the remapping that follows costs each event O(1).
//! Time is counted in positive events of the stream, as of the ends of batches.
//!
//! Eviction happens as a step begins, before anything of its batch is captured, so that what a checkpoint holds and what is
//! in memory are the same at any time in between.

use crate::evaluate::popularity::PopularityOrder;
use crate::event::EvictedRows;
use crate::state_dict::{StateDict, StateDictError};
use crate::table::admission::AdmissionCounter;
use crate::table::ids::Ids;
use crate::table::paged::Paged;
use crate::table::row_remap::RowRemap;
use crate::table::rows::stable_hash;
use crate::trainer::RowLimits;
use crate::trainer::pending::{Arrivals, PendingBatch};
use crate::trainer::sharing::DeltaRecorder;
use crate::trainer::state::State;

/// One part in so many of a cap is cleared at once, and of an expiry passes from sweep to sweep.
const PARTS: usize = 8;

/// Admission and eviction of the rows of one table: the items', or the users'.
#[derive(Debug, Clone, PartialEq)]
pub struct RowLifecycle {
    limits: RowLimits,
    seed: u64,
    admission: AdmissionCounter,
    /// By row: the time of its newest event. Kept only where rows are ever evicted.
    last_active: Paged<u64>,
    /// When expired rows were last looked for.
    last_sweep: u64,
    evicted: EvictedRows,
}

/// Evicts the rows of items and users that have to go before the events of `pending` find room, at time `now`. Items and
/// users that these events name stay.
/// What leaves is noted by `recorder`, where the state is shared.
pub(super) fn make_room(
    state: &mut State,
    pending: &PendingBatch,
    (popularity, recorder): (&mut PopularityOrder, Option<&mut DeltaRecorder>),
    now: u64,
) {
    let incoming = pending.events.len();
    let (n_items, n_users) = (state.items.ids.len(), state.users.ids.len());
    if state.items.lifecycle.is_eviction_due(n_items, incoming, now) {
        let named = pending.events.iter().filter_map(|pending| state.items.ids.get(&pending.event.item));
        named.for_each(|item| state.items.lifecycle.touch(item, now));
        if let Some(rows) = state.items.lifecycle.evict(n_items, incoming, now) {
            if let Some(recorder) = recorder {
                recorder.note_eviction(&state.items.ids, &rows);
            }
            state.keep_items(&rows);
            *popularity = PopularityOrder::new(&state.negatives.frequencies);
        }
    }
    if state.users.lifecycle.is_eviction_due(n_users, incoming, now) {
        let named = pending.events.iter().filter_map(|pending| state.users.ids.get(&pending.event.user));
        named.for_each(|user| state.users.lifecycle.touch(user, now));
        if let Some(rows) = state.users.lifecycle.evict(n_users, incoming, now) {
            state.keep_users(&rows);
        }
    }
}

impl RowLifecycle {
    /// The lifecycle of a table without rows.
    pub fn new(limits: &RowLimits, seed: u64) -> Self {
        let n_counters = if limits.admit_after > 1 { limits.newcomers } else { 0 };
        Self {
            limits: limits.clone(),
            seed,
            admission: AdmissionCounter::new(n_counters),
            last_active: Paged::default(),
            last_sweep: 0,
            evicted: EvictedRows::default(),
        }
    }

    fn hash(&self, name: &str) -> u64 {
        stable_hash(self.seed, &[name])
    }

    /// Counts an event of `name`, in `arrivals`; whether it has a row among `ids`, or may be given one.
    pub(super) fn admits(&self, ids: &Ids, arrivals: &mut Arrivals, name: &str) -> bool {
        if self.limits.admit_after <= 1 || ids.get(name).is_some() {
            return true;
        }
        let hash = self.hash(name);
        self.admission.count(hash) + arrivals.add(hash) >= self.limits.admit_after
    }

    /// Adds the arrivals since the last batch to the counts for admission, and forgets the arrivals.
    pub(super) fn count_arrivals(&mut self, arrivals: &mut Arrivals) {
        arrivals.drain(|hash, count| {
            let count = (self.admission.count(hash) + count).min(self.limits.admit_after);
            self.admission.set(hash, count);
        });
    }

    /// Notes that `name` was given a row: were it to lose that, it would be counted anew.
    pub fn admitted(&mut self, name: &str) {
        if self.limits.admit_after > 1 {
            self.admission.forget(self.hash(name));
        }
    }

    /// Whether one of `incoming` that never came before can be given a row at once, and all of them find room beside
    /// `n_rows`.
    pub fn has_room(&self, n_rows: usize, incoming: usize) -> bool {
        self.limits.admit_after <= 1 && !self.is_full(n_rows, incoming)
    }

    /// Rows that were evicted so far.
    pub fn evicted(&self) -> EvictedRows {
        self.evicted
    }

    /// By row: the time of its newest event; empty where rows are never evicted.
    pub fn last_active(&self) -> &Paged<u64> {
        &self.last_active
    }

    fn is_full(&self, n_rows: usize, incoming: usize) -> bool {
        self.limits.cap > 0 && n_rows + incoming > self.limits.cap
    }

    fn is_sweep_due(&self, now: u64) -> bool {
        let RowLimits { expire_events, .. } = self.limits;
        expire_events > 0 && now.saturating_sub(self.last_sweep) >= (expire_events / PARTS as u64).max(1)
    }

    /// Marks row `row` as active at time `now`.
    pub fn touch(&mut self, row: u32, now: u64) {
        if self.limits.cap > 0 || self.limits.expire_events > 0 {
            self.extend_to(row as usize + 1, now);
            *self.last_active.get_mut(row as usize) = now;
        }
    }

    fn extend_to(&mut self, n_rows: usize, now: u64) {
        let missing = n_rows.saturating_sub(self.last_active.len());
        self.last_active.extend(std::iter::repeat_n(now, missing));
    }

    /// Whether [`Self::evict`] has rows to look at, of `n_rows`, before `incoming` more may come.
    pub fn is_eviction_due(&self, n_rows: usize, incoming: usize, now: u64) -> bool {
        self.is_full(n_rows, incoming) || self.is_sweep_due(now)
    }

    /// Evicts those of `n_rows` rows that are expired, or the least active ones, so that `incoming` more find room. Gives the
    /// new numbers of the rows that stay; `None` where all do.
    pub fn evict(&mut self, n_rows: usize, incoming: usize, now: u64) -> Option<RowRemap> {
        let RowLimits { cap, expire_events, .. } = self.limits;
        self.extend_to(n_rows, now);
        let mut oldest = 0;
        if self.is_sweep_due(now) {
            self.last_sweep = now;
            oldest = now.saturating_sub(expire_events);
        }
        let mut order: Vec<(u64, u32)> =
            self.last_active.iter().copied().zip(0..).filter(|(seen, _)| *seen >= oldest).collect();
        let n_expired = n_rows - order.len();
        let mut last_to_go = None;
        if self.is_full(order.len(), incoming) {
            let n_going = order.len() - (cap - incoming.max(cap / PARTS));
            last_to_go = Some(*order.select_nth_unstable(n_going - 1).1);
            self.evicted.capped += n_going as u64;
        }
        self.evicted.expired += n_expired as u64;
        let seen = &self.last_active;
        let rows = RowRemap::of_rows(n_rows, |row| {
            let seen = seen[row as usize];
            seen >= oldest && last_to_go.is_none_or(|last| (seen, row) > last)
        });
        self.last_active.keep(&rows);
        (rows.n_kept() < n_rows).then_some(rows)
    }

    /// Remaps rows after an eviction that somebody else has chosen, at time `now`.
    pub(super) fn keep(&mut self, rows: &RowRemap, now: u64) {
        if self.limits.cap > 0 || self.limits.expire_events > 0 {
            self.extend_to(rows.n_rows(), now);
            self.last_active.keep(rows);
        }
    }

    /// Writes what [`Self::restore`] needs.
    pub fn save(&self, out: &mut StateDict) {
        let halves = |number: &u64| [*number as u32, (number >> 32) as u32];
        let counts = [self.last_sweep, self.evicted.expired, self.evicted.capped];
        out.put_u32("counts", counts.iter().flat_map(halves).collect());
        out.put_u32("last_active", self.last_active.iter().flat_map(halves).collect());
        out.put_u32("admission", self.admission.slots().iter().flat_map(halves).collect());
    }

    /// Restores what [`Self::save`] wrote of a table of `n_rows` rows.
    ///
    /// # Errors
    /// Where an array is missing, or does not fit the limits or the rows.
    pub fn restore(&mut self, n_rows: usize, saved: &mut StateDict) -> Result<(), StateDictError> {
        let mut take = |name: &str| -> Result<Vec<u64>, StateDictError> {
            let halves = saved.take_u32(name)?;
            let (halves, []) = halves.as_chunks::<2>() else { return Err(saved.error(name, "ends in half a number")) };
            Ok(halves.iter().map(|[low, high]| u64::from(*low) | u64::from(*high) << 32).collect())
        };
        let (counts, last_active, admission) = (take("counts")?, take("last_active")?, take("admission")?);
        let [last_sweep, expired, capped] = counts[..] else { return Err(saved.error("counts", "are not three")) };
        if last_active.len() > n_rows {
            return Err(saved.error("last_active", "are of more rows than there are"));
        }
        let size = if self.limits.admit_after > 1 { self.limits.newcomers } else { 0 };
        let admission = AdmissionCounter::with_slots(size, admission);
        self.admission = admission.ok_or_else(|| saved.error("admission", "are of a table of another size"))?;
        self.last_active = last_active.into_iter().collect();
        (self.last_sweep, self.evicted) = (last_sweep, EvictedRows { expired, capped });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lifecycle(admit_after: u32, expire_events: u64, cap: usize) -> RowLifecycle {
        RowLifecycle::new(&RowLimits { admit_after, newcomers: 64, expire_events, cap }, 1)
    }

    #[test]
    fn admission_happens_at_the_nth_occurrence_in_any_batch() {
        let (mut lifecycle, mut ids, mut arrivals) = (lifecycle(3, 0, 0), Ids::default(), Arrivals::default());
        ids.intern("known");
        let came: Vec<bool> = ["a", "known", "b", "a"].map(|name| lifecycle.admits(&ids, &mut arrivals, name)).to_vec();
        assert_eq!(came, [false, true, false, false]);
        lifecycle.count_arrivals(&mut arrivals);
        assert!(!lifecycle.admits(&ids, &mut arrivals, "b"));
        // The third of each, and all after it, row or no row yet.
        assert!(["a", "b", "a"].iter().all(|name| lifecycle.admits(&ids, &mut arrivals, name)));
        lifecycle.count_arrivals(&mut arrivals);
        assert!(lifecycle.admits(&ids, &mut arrivals, "a"));
        lifecycle.count_arrivals(&mut arrivals);
        // Who was given a row, and lost it, is counted anew.
        lifecycle.admitted("a");
        let again = [(); 3].map(|()| lifecycle.admits(&ids, &mut arrivals, "a"));
        assert_eq!(again, [false, false, true]);
    }

    proptest! {
        /// Against a list of who has a row and when they were last seen.
        #[test]
        fn eviction_takes_the_coldest_rows_and_holds_the_cap(
            batches in proptest::collection::vec(proptest::collection::vec(0u32..200, 1..10), 1..60),
            expire_events in prop_oneof![Just(0u64), 1u64..150],
            cap in prop_oneof![Just(0usize), 20usize..80],
        ) {
            let mut lifecycle = lifecycle(1, expire_events, cap);
            let (mut truth, mut now, mut gone): (Vec<(u32, u64)>, u64, usize) = (Vec::new(), 0, 0);
            for names in batches {
                now += names.len() as u64;
                let n_rows = truth.len();
                if lifecycle.is_eviction_due(n_rows, names.len(), now) {
                    let sweeps = lifecycle.is_sweep_due(now);
                    if let Some(rows) = lifecycle.evict(n_rows, names.len(), now) {
                        gone += n_rows - rows.n_kept();
                        let stays = |row: u32| rows.get(row).is_some();
                        let coldness = |row: u32| (truth[row as usize].1, row);
                        let warmest_gone = (0..n_rows as u32).filter(|row| !stays(*row)).map(coldness).max();
                        let coldest_left = (0..n_rows as u32).filter(|row| stays(*row)).map(coldness).min();
                        prop_assert!(coldest_left.is_none() || warmest_gone < coldest_left);
                        let is_over = |row: u32| expire_events > 0 && truth[row as usize].1 + expire_events < now;
                        let none_left = (0..n_rows as u32).all(|row| !stays(row) || !is_over(row));
                        prop_assert!(!sweeps || none_left, "somebody whose time is over stays");
                        let needless = cap == 0 || n_rows + names.len() <= cap;
                        prop_assert!(!needless || (0..n_rows as u32).all(|row| stays(row) || is_over(row)));
                        // An eighth of the cap goes at once, and no more.
                        prop_assert!(needless || rows.n_kept() <= cap - names.len());
                        let before = (0..n_rows as u32).filter(|row| !(sweeps && is_over(*row))).count();
                        prop_assert!(cap == 0 || rows.n_kept() >= before.min(cap - names.len().max(cap / PARTS)));
                        rows.keep(&mut truth);
                    }
                }
                for name in names {
                    let row = truth.iter().position(|(other, _)| *other == name).unwrap_or(truth.len());
                    truth.resize(truth.len().max(row + 1), (name, 0));
                    truth[row].1 = now;
                    lifecycle.touch(row as u32, now);
                }
                prop_assert!(cap == 0 || truth.len() <= cap, "{} rows", truth.len());
                let EvictedRows { expired, capped } = lifecycle.evicted;
                prop_assert_eq!((expired + capped) as usize, gone);
                let mut saved = StateDict::default();
                lifecycle.save(&mut saved);
                let mut again = RowLifecycle::new(&lifecycle.limits, 1);
                again.restore(truth.len(), &mut saved).unwrap();
                prop_assert_eq!(&again, &lifecycle);
            }
        }
    }
}
