//! Who keeps a row, of items or of users.
//!
//! Who came often enough is admitted. Who had no event for a time expires, and beyond a cap those go that had none for
//! longest: an eighth of the cap at once, so that all the renumbering that follows costs each event O(1). Time is counted
//! in positive events of the stream, as of the ends of batches.

use crate::config::Config;
use crate::event::{Evicted, EvictedRows};
use crate::state_dict::{StateDict, StateDictError};
use crate::table::admission::AdmissionCounter;
use crate::table::ids::Ids;
use crate::table::paged::Paged;
use crate::table::row_remap::RowRemap;
use crate::table::rows::stable_hash;
use crate::trainer::RowLimits;

use crate::trainer::pending::Arrivals;

/// This part of a cap is cleared at once, and of an expiry passes from sweep to sweep.
const PART: usize = 8;

/// That of items and that of users.
#[derive(Debug, Clone, PartialEq)]
pub struct RowLifecycles {
    /// Of items.
    pub items: RowLifecycle,
    /// Of users.
    pub users: RowLifecycle,
}

/// See the module.
#[derive(Debug, Clone, PartialEq)]
pub struct RowLifecycle {
    limits: RowLimits,
    seed: u64,
    newcomers: AdmissionCounter,
    /// By row: the time of its newest event. Kept only where anybody ever goes.
    seen: Paged<u64>,
    /// When those that expire were last looked for.
    swept: u64,
    evicted: EvictedRows,
}

impl RowLifecycles {
    /// Nobody yet.
    pub fn new(config: &Config) -> Self {
        let of = |limits: &RowLimits| RowLifecycle::new(limits, config.seed);
        Self { items: of(&config.memory.items), users: of(&config.memory.users) }
    }

    /// How many went.
    pub fn evicted(&self) -> Evicted {
        Evicted { items: self.items.evicted, users: self.users.evicted }
    }

    /// Puts down what [`Self::restore`] needs.
    pub fn save(&self, out: &mut StateDict) {
        out.within("items", |out| self.items.save(out));
        out.within("users", |out| self.users.save(out));
    }

    /// Brings back what was saved, of so many items and users.
    ///
    /// # Errors
    /// Where something is missing or cannot be.
    pub fn restore(&mut self, (n_items, n_users): (usize, usize), saved: &mut StateDict) -> Result<(), StateDictError> {
        saved.within("items", |saved| self.items.restore(n_items, saved))?;
        saved.within("users", |saved| self.users.restore(n_users, saved))
    }
}

impl RowLifecycle {
    fn new(limits: &RowLimits, seed: u64) -> Self {
        let newcomers = if limits.admit_after > 1 { limits.newcomers } else { 0 };
        Self {
            limits: limits.clone(),
            seed,
            newcomers: AdmissionCounter::new(newcomers),
            seen: Paged::default(),
            swept: 0,
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
        self.newcomers.count(hash) + arrivals.add(hash) >= self.limits.admit_after
    }

    /// Takes in what came since the last batch.
    pub(super) fn take_in(&mut self, arrivals: &mut Arrivals) {
        arrivals.drain(|hash, count| {
            let count = (self.newcomers.count(hash) + count).min(self.limits.admit_after);
            self.newcomers.set(hash, count);
        });
    }

    /// `name` was given a row.
    pub fn settle_in(&mut self, name: &str) {
        if self.limits.admit_after > 1 {
            self.newcomers.forget(self.hash(name));
        }
    }

    /// Whether one of `incoming` that never came before can be given a row at once, and all of them find room beside
    /// `n_rows`.
    pub fn has_room(&self, n_rows: usize, incoming: usize) -> bool {
        self.limits.admit_after <= 1 && !self.is_full(n_rows, incoming)
    }

    fn is_full(&self, n_rows: usize, incoming: usize) -> bool {
        self.limits.cap > 0 && n_rows + incoming > self.limits.cap
    }

    fn sweeps(&self, now: u64) -> bool {
        let RowLimits { expire_events, .. } = self.limits;
        expire_events > 0 && now.saturating_sub(self.swept) >= (expire_events / PART as u64).max(1)
    }

    /// Row `row` had an event.
    pub fn see(&mut self, row: u32, now: u64) {
        if self.limits.cap > 0 || self.limits.expire_events > 0 {
            self.lengthen(row as usize + 1, now);
            *self.seen.get_mut(row as usize) = now;
        }
    }

    fn lengthen(&mut self, n_rows: usize, now: u64) {
        let missing = n_rows.saturating_sub(self.seen.len());
        self.seen.extend(std::iter::repeat_n(now, missing));
    }

    /// Whether to ask [`Self::evict`] who of `n_rows` has to go before there may be `incoming` more.
    pub fn is_due(&self, n_rows: usize, incoming: usize, now: u64) -> bool {
        self.is_full(n_rows, incoming) || self.sweeps(now)
    }

    /// Who of `n_rows` has to go before there may be `incoming` more; `None` where nobody has to.
    pub fn evict(&mut self, n_rows: usize, incoming: usize, now: u64) -> Option<RowRemap> {
        let RowLimits { cap, expire_events, .. } = self.limits;
        self.lengthen(n_rows, now);
        let mut oldest = 0;
        if self.sweeps(now) {
            self.swept = now;
            oldest = now.saturating_sub(expire_events);
        }
        let mut order: Vec<(u64, u32)> =
            self.seen.iter().copied().zip(0..).filter(|(seen, _)| *seen >= oldest).collect();
        let n_expired = n_rows - order.len();
        let mut last_to_go = None;
        if self.is_full(order.len(), incoming) {
            let n_going = order.len() - (cap - incoming.max(cap / PART));
            last_to_go = Some(*order.select_nth_unstable(n_going - 1).1);
            self.evicted.capped += n_going as u64;
        }
        self.evicted.expired += n_expired as u64;
        let seen = &self.seen;
        let rows = RowRemap::of_rows(n_rows, |row| {
            let seen = seen[row as usize];
            seen >= oldest && last_to_go.is_none_or(|last| (seen, row) > last)
        });
        self.seen.keep(&rows);
        (rows.n_kept() < n_rows).then_some(rows)
    }

    fn save(&self, out: &mut StateDict) {
        let halves = |number: &u64| [*number as u32, (number >> 32) as u32];
        let counts = [self.swept, self.evicted.expired, self.evicted.capped];
        out.put_whole("counts", counts.iter().flat_map(halves).collect());
        out.put_whole("seen", self.seen.iter().flat_map(halves).collect());
        out.put_whole("newcomers", self.newcomers.slots().iter().flat_map(halves).collect());
    }

    fn restore(&mut self, n_rows: usize, saved: &mut StateDict) -> Result<(), StateDictError> {
        let mut take = |name: &str| -> Result<Vec<u64>, StateDictError> {
            let halves = saved.take_whole(name)?;
            let (halves, []) = halves.as_chunks::<2>() else { return Err(saved.error(name, "ends in half a number")) };
            Ok(halves.iter().map(|[low, high]| u64::from(*low) | u64::from(*high) << 32).collect())
        };
        let (counts, seen, newcomers) = (take("counts")?, take("seen")?, take("newcomers")?);
        let [swept, expired, capped] = counts[..] else { return Err(saved.error("counts", "are not three")) };
        if seen.len() > n_rows {
            return Err(saved.error("seen", "are of more rows than there are"));
        }
        let size = if self.limits.admit_after > 1 { self.limits.newcomers } else { 0 };
        let newcomers = AdmissionCounter::with_slots(size, newcomers);
        self.newcomers = newcomers.ok_or_else(|| saved.error("newcomers", "are of a table of another size"))?;
        (self.seen, self.swept, self.evicted) = (seen.into_iter().collect(), swept, EvictedRows { expired, capped });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tenure(admit_after: u32, expire_events: u64, cap: usize) -> RowLifecycle {
        RowLifecycle::new(&RowLimits { admit_after, newcomers: 64, expire_events, cap }, 1)
    }

    #[test]
    fn the_nth_occurrence_is_admitted_in_whichever_batch() {
        let (mut tenure, mut ids, mut arrivals) = (tenure(3, 0, 0), Ids::default(), Arrivals::default());
        ids.intern("known");
        let came: Vec<bool> = ["a", "known", "b", "a"].map(|name| tenure.admits(&ids, &mut arrivals, name)).to_vec();
        assert_eq!(came, [false, true, false, false]);
        tenure.take_in(&mut arrivals);
        assert!(!tenure.admits(&ids, &mut arrivals, "b"));
        // The third of each, and all after it, row or no row yet.
        assert!(["a", "b", "a"].iter().all(|name| tenure.admits(&ids, &mut arrivals, name)));
        tenure.take_in(&mut arrivals);
        assert!(tenure.admits(&ids, &mut arrivals, "a"));
        tenure.take_in(&mut arrivals);
        // Who was given a row, and lost it, is counted anew.
        tenure.settle_in("a");
        let again = [(); 3].map(|()| tenure.admits(&ids, &mut arrivals, "a"));
        assert_eq!(again, [false, false, true]);
    }

    proptest! {
        /// Against a list of who has a row and when they were last seen.
        #[test]
        fn the_coldest_go_and_the_cap_holds(
            batches in proptest::collection::vec(proptest::collection::vec(0u32..200, 1..10), 1..60),
            expire_events in prop_oneof![Just(0u64), 1u64..150],
            cap in prop_oneof![Just(0usize), 20usize..80],
        ) {
            let mut tenure = tenure(1, expire_events, cap);
            let (mut truth, mut now, mut gone): (Vec<(u32, u64)>, u64, usize) = (Vec::new(), 0, 0);
            for names in batches {
                now += names.len() as u64;
                let n_rows = truth.len();
                if tenure.is_due(n_rows, names.len(), now) {
                    let sweeps = tenure.sweeps(now);
                    if let Some(rows) = tenure.evict(n_rows, names.len(), now) {
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
                        prop_assert!(rows.n_kept() >= before.min(cap - names.len().max(cap / PART)) || cap == 0);
                        rows.keep(&mut truth);
                    }
                }
                for name in names {
                    let row = truth.iter().position(|(other, _)| *other == name).unwrap_or(truth.len());
                    truth.resize(truth.len().max(row + 1), (name, 0));
                    truth[row].1 = now;
                    tenure.see(row as u32, now);
                }
                prop_assert!(cap == 0 || truth.len() <= cap, "{} rows", truth.len());
                let EvictedRows { expired, capped } = tenure.evicted;
                prop_assert_eq!((expired + capped) as usize, gone);
                let mut saved = StateDict::default();
                tenure.save(&mut saved);
                let mut again = RowLifecycle::new(&tenure.limits, 1);
                again.restore(truth.len(), &mut saved).unwrap();
                prop_assert_eq!(&again, &tenure);
            }
        }
    }
}
