//! `exposure`: what the users of the batch were shown and did not choose.
//!
//! Each user has the newest items shown, each once, until it is chosen. All queries share their candidates, so a draw
//! picks one of those queries whose user has such items, then one of these, each alike:
//! `q(j) = (1/n) Σ_i [j shown to i] / (number shown to i)`.

use rand::RngExt;
use rand_pcg::Pcg64Mcg;

use super::registry::{Needs, Origin, SamplerOptions};
use super::{BatchObservation, NoiseSampler, QueryContext, StreamView};
use crate::state_dict::{StateDict, StateDictError};
use crate::table::row_remap::RowRemap;
use crate::util::component::Component;
use crate::util::config_section::config_section;

config_section! {
    /// The options of `exposure`.
    pub struct ExposureOptions {
        /// Items remembered of each user: the newest that were shown and not chosen.
        remembered: usize = 32 => [within(1..=4096)];
    }
}

impl Component for ExposureOptions {
    const NAME: &'static str = "exposure";
    const SUMMARY: &'static str = "What the user was shown and did not choose.";
}

impl SamplerOptions for ExposureOptions {
    const FULL_SUPPORT: bool = false;
    const NEEDS: Needs = Needs::Exposures;
    const ORIGIN: Origin = Origin::Stream("negatives.noise=[{sampler=\"exposure\"}], with negatives.exposure_kinds");
    const TESTED: &'static [&'static str] = &["remembered = 3"];

    fn build(&self) -> Box<dyn NoiseSampler> {
        Box::new(Exposure::new(self.remembered))
    }
}

/// Draws from what was shown.
#[derive(Debug)]
pub struct Exposure {
    capacity: usize,
    /// The items that each user was shown and did not choose, oldest first.
    shown: Vec<Vec<u32>>,
    /// What was shown to the asking users, one behind the other, and where each one's begins.
    items: Vec<u32>,
    starts: Vec<u32>,
    /// (item, probability), ascending.
    probabilities: Vec<(u32, f64)>,
}

impl Exposure {
    /// Remembers up to `capacity` items per user.
    pub fn new(capacity: usize) -> Self {
        Self { capacity, shown: Vec::new(), items: Vec::new(), starts: vec![0], probabilities: Vec::new() }
    }

    fn forget_who_asked(&mut self) {
        self.items.clear();
        self.starts.clear();
        self.starts.push(0);
        self.probabilities.clear();
    }
}

impl NoiseSampler for Exposure {
    fn observe(&mut self, _view: StreamView<'_>, observed: BatchObservation<'_>) {
        for event in observed.shown {
            let user = event.user as usize;
            if user >= self.shown.len() {
                if event.chosen {
                    continue;
                }
                self.shown.resize_with(user + 1, Vec::new);
            }
            let shown = &mut self.shown[user];
            shown.retain(|item| *item != event.item);
            if !event.chosen {
                if shown.len() >= self.capacity {
                    shown.remove(0);
                }
                shown.push(event.item);
            }
        }
    }

    fn set_queries(&mut self, view: StreamView<'_>, asking: QueryContext<'_>) {
        self.forget_who_asked();
        let Self { shown, items, starts, probabilities, .. } = self;
        for user in asking.users {
            let of_user = shown.get(*user as usize).map_or(&[][..], Vec::as_slice);
            items.extend(of_user.iter().filter(|item| view.live.contains(**item)));
            if items.len() as u32 > starts[starts.len() - 1] {
                starts.push(items.len() as u32);
            }
        }
        let n_users = (starts.len() - 1) as f64;
        for bounds in starts.windows(2) {
            let items = &items[bounds[0] as usize..bounds[1] as usize];
            let each = (n_users * items.len() as f64).recip();
            probabilities.extend(items.iter().map(|item| (*item, each)));
        }
        // Stable, so that equal items are added in the order of the queries.
        probabilities.sort_by_key(|(item, _)| *item);
        probabilities.dedup_by(|next, first| {
            let same = next.0 == first.0;
            first.1 += if same { next.1 } else { 0.0 };
            same
        });
    }

    fn depends_on_queries(&self) -> bool {
        true
    }

    fn is_empty(&self, _view: StreamView<'_>) -> bool {
        self.items.is_empty()
    }

    fn draw(&self, _view: StreamView<'_>, draws: usize, random: &mut Pcg64Mcg, out: &mut Vec<u32>) {
        if self.items.is_empty() {
            return;
        }
        out.extend((0..draws).map(|_| {
            let user = random.random_range(0..self.starts.len() - 1);
            self.items[random.random_range(self.starts[user]..self.starts[user + 1]) as usize]
        }));
    }

    fn probability(&self, _view: StreamView<'_>, item: u32) -> f64 {
        let place = self.probabilities.binary_search_by_key(&item, |(item, _)| *item);
        place.map_or(0.0, |place| self.probabilities[place].1)
    }

    fn keep_items(&mut self, items: &RowRemap) {
        self.forget_who_asked();
        self.shown.iter_mut().for_each(|shown| items.renumber(shown));
    }

    fn keep_users(&mut self, users: &RowRemap) {
        self.forget_who_asked();
        users.keep(&mut self.shown);
    }

    fn save(&self, out: &mut StateDict) {
        out.put_u32("lengths", self.shown.iter().map(|shown| shown.len() as u32).collect());
        out.put_u32("items", self.shown.concat());
    }

    fn restore(&mut self, view: StreamView<'_>, saved: &mut StateDict) -> Result<(), StateDictError> {
        let (lengths, items) = (saved.take_u32("lengths")?, saved.take_u32("items")?);
        if lengths.iter().any(|length| *length as usize > self.capacity) {
            return Err(saved.error("lengths", "are beyond what is remembered"));
        }
        if lengths.iter().map(|length| u64::from(*length)).sum::<u64>() != items.len() as u64 {
            return Err(saved.error("lengths", "do not add up"));
        }
        if items.iter().any(|item| *item as usize >= view.frequencies.len()) {
            return Err(saved.error("items", "names an item that is not there"));
        }
        let mut rest = &items[..];
        self.shown.clear();
        for length in lengths {
            let (shown, others) = rest.split_at(length as usize);
            self.shown.push(shown.to_vec());
            rest = others;
        }
        Ok(())
    }
}
