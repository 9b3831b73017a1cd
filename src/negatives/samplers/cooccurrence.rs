//! `cooccurrence`: what follows the query's last item, a bigram model of the stream in bounded memory.
//!
//! For each live item a, the decayed counts c(a, j) of at most so many followers j, smoothed with the unigram by the
//! back-off of Witten & Bell 1991:
//!
//! `q(j | a) = (1 − λ_a)·c(a, j)/N_a + λ_a·unigram(j)`, `λ_a = T_a/(T_a + N_a)`,
//!
//! T_a being the number of distinct followers that are kept, and N_a the total count; λ_a = 1 where there are none.
//! So a follower has `c(a, j)/(T_a + N_a)` and the unigram what is left.
//!
//! * Where there is no room for a new follower, the lightest gives way, the new one counts from 1, and what is lost is
//!   kept as one sum, R_a, which is part of N_a and goes to the unigram: all that is known of it is that it was
//!   something else. A follower is there to stay once it has come a second time before as many new ones as there is
//!   room for. In Space-Saving (Metwally et al. 2005) the new one would inherit the count; that bounds errors, but of
//!   a hundred followers that came once each it makes a few that came often, and hardly leaves the unigram anything.
//! * Counts halve in so many events of the stream. Common to all followers of an item, that cancels between them, but
//!   it weighs them against the unigram, which is of today: an item that was long away comes back with old followers
//!   that count little. It is made up for when an item is next touched (its few followers are searched through then
//!   anyway), so there is never a pass over all items. Decay in an item's own events would cost no less, and never
//!   forget what rare items were followed by.
//! * Dead followers are left out of T_a and N_a, as if they had never come. Dead items have no followers themselves.
//!
//! All queries of a batch share their candidates, so what is drawn from is the mean of q(· | a) over their last items.
//! `set_queries` adds that up by item, over the followers alone, and the unigram's share is one number besides.

use rand::RngExt;
use rand_pcg::Pcg64Mcg;

use super::registry::{Origin, SamplerOptions};
use super::unigram::Unigram;
use super::{BatchObservation, NoiseSampler, QueryContext, StreamView};
use crate::state_dict::{StateDict, StateDictError};
use crate::table::row_remap::RowRemap;
use crate::util::component::Component;
use crate::util::config_section::config_section;

/// A follower with a count below this is forgotten, for it would go on counting as one in T_a.
const FAINT: f32 = 1.0 / 16.0;
/// To be replaced by a draw from the unigram.
const BACK_OFF: u32 = u32::MAX;

/// The items that followed one item, with their decayed counts.
#[derive(Debug, Clone, Default, PartialEq)]
struct Followers {
    /// (item, decayed count as of event `at`), in no particular order.
    counts: Vec<(u32, f32)>,
    /// R_a: decayed count of followers that are not, or no longer, among them.
    lost: f64,
    /// Event up to which it is decayed; real as all event numbers are exact up to 2⁵³.
    at: f64,
}

/// Buffers that [`NoiseSampler::set_queries`] fills; not part of the state.
#[derive(Debug, Default)]
struct QueryMixture {
    /// The mean probability of each item as a follower.
    mean: Vec<f64>,
    /// The followers, query after query, and running sums of their parts of the mean.
    followers: Vec<u32>,
    sums: Vec<f64>,
    /// Probability of the unigram.
    back_off: f64,
    /// For sorting the queries' last items.
    last_items: Vec<u32>,
}

config_section! {
    /// The options of `cooccurrence`.
    pub struct CooccurrenceOptions {
        /// Items that are remembered of each item as its followers.
        followers: usize = 32 => [within(1..=1024)];
        /// Half-life of a follower's count, in events.
        half_life: f64 = 20_000.0 => [within(1.0..=1e12)];
    }
}

impl Component for CooccurrenceOptions {
    const NAME: &'static str = "cooccurrence";
    const SUMMARY: &'static str = "What follows the query's last item.";
}

impl SamplerOptions for CooccurrenceOptions {
    const ORIGIN: Origin = Origin::Stream("negatives.noise=[{sampler=\"cooccurrence\"}]");
    const TESTED: &'static [&'static str] = &["followers = 4"];

    fn build(&self) -> Box<dyn NoiseSampler> {
        Box::new(Cooccurrence::new(self.followers, self.half_life))
    }
}

/// Draws by what followed the query's last item so far.
#[derive(Debug)]
pub struct Cooccurrence {
    most: usize,
    half_life: f64,
    unigram: Unigram,
    /// Events so far.
    now: f64,
    /// The followers of each item.
    items: Vec<Followers>,
    asked: QueryMixture,
}

impl Followers {
    /// Makes up for the decay until event `now`.
    fn decay(&mut self, now: f64, half_life: f64) {
        if now > self.at {
            let factor = decay(now - self.at, half_life);
            self.lost *= factor;
            self.at = now;
            let lost = &mut self.lost;
            self.counts.retain_mut(|(_, count)| {
                *count *= factor as f32;
                let kept = *count >= FAINT;
                *lost += if kept { 0.0 } else { f64::from(*count) };
                kept
            });
        }
    }

    /// Counts `item` once more.
    fn add(&mut self, item: u32, most: usize, view: StreamView<'_>) {
        if let Some((_, count)) = self.counts.iter_mut().find(|(follower, _)| *follower == item) {
            *count += 1.0;
            return;
        }
        if self.counts.len() >= most {
            self.counts.retain(|(follower, _)| view.live.contains(*follower));
        }
        if self.counts.len() >= most {
            // Of several that are as light, the first: the one that has been there for longest, mostly.
            let lightest = (0..self.counts.len()).min_by(|a, b| self.counts[*a].1.total_cmp(&self.counts[*b].1));
            let (_, count) = lightest.map(|place| self.counts.remove(place)).unwrap_or_default();
            self.lost += f64::from(count);
        }
        self.counts.push((item, 1.0));
    }
}

fn decay(events: f64, half_life: f64) -> f64 {
    (-events / half_life).exp2()
}

impl QueryMixture {
    /// Back to the unigram alone.
    fn clear(&mut self) {
        self.followers.iter().for_each(|item| self.mean[*item as usize] = 0.0);
        self.followers.clear();
        self.sums.clear();
        self.back_off = 1.0;
    }
}

impl Cooccurrence {
    /// Remembers `followers` followers of each item, whose counts halve in `half_life` events (∞: never).
    pub fn new(followers: usize, half_life: f64) -> Self {
        Self {
            most: followers.max(1),
            half_life: half_life.max(f64::MIN_POSITIVE),
            unigram: Unigram::new(1.0),
            now: 0.0,
            items: Vec::new(),
            asked: QueryMixture { back_off: 1.0, ..QueryMixture::default() },
        }
    }

    /// The part of one last item `item` in the mean, `share`.
    fn ask_for(&mut self, view: StreamView<'_>, item: u32, share: f64) {
        let Some(Followers { counts, lost, at }) = self.items.get(item as usize) else {
            self.asked.back_off += share;
            return;
        };
        let first = self.asked.followers.len();
        let live = counts.iter().filter(|(follower, _)| view.live.contains(*follower));
        let mut total = 0.0;
        for (follower, count) in live {
            total += f64::from(*count);
            self.asked.followers.push(*follower);
            self.asked.sums.push(f64::from(*count));
        }
        if self.asked.followers.len() == first {
            self.asked.back_off += share;
            return;
        }
        let (factor, distinct) = (decay(self.now - at, self.half_life), (self.asked.followers.len() - first) as f64);
        let unit = share / (distinct + factor * (total + lost));
        self.asked.back_off += unit * (distinct + factor * lost);
        let mut sum = if first == 0 { 0.0 } else { self.asked.sums[first - 1] };
        for (follower, part) in self.asked.followers[first..].iter().zip(&mut self.asked.sums[first..]) {
            let probability = unit * factor * *part;
            self.asked.mean[*follower as usize] += probability;
            sum += probability;
            *part = sum;
        }
    }
}

impl NoiseSampler for Cooccurrence {
    fn observe(&mut self, view: StreamView<'_>, observed: BatchObservation<'_>) {
        self.asked.clear();
        self.unigram.observe(view, observed);
        self.now += observed.items.len() as f64;
        for item in view.live.died() {
            if let Some(followers) = self.items.get_mut(*item as usize) {
                *followers = Followers::default();
            }
        }
        for (before, item) in observed.pairs {
            // Whoever comes back after a long time may have a last item that is dead.
            if !view.live.contains(*before) || !view.live.contains(*item) {
                continue;
            }
            if *before as usize >= self.items.len() {
                self.items.resize_with(*before as usize + 1, Followers::default);
            }
            let followers = &mut self.items[*before as usize];
            followers.decay(self.now, self.half_life);
            followers.add(*item, self.most, view);
        }
    }

    fn set_queries(&mut self, view: StreamView<'_>, asking: QueryContext<'_>) {
        self.asked.clear();
        if asking.last_items.is_empty() {
            return;
        }
        self.asked.back_off = 0.0;
        if self.asked.mean.len() < view.frequencies.len() {
            self.asked.mean.resize(view.frequencies.len(), 0.0);
        }
        let mut last_items = std::mem::take(&mut self.asked.last_items);
        last_items.clear();
        last_items.extend_from_slice(asking.last_items);
        last_items.sort_unstable();
        for alike in last_items.chunk_by(|a, b| a == b) {
            self.ask_for(view, alike[0], alike.len() as f64 / last_items.len() as f64);
        }
        self.asked.last_items = last_items;
    }

    fn depends_on_queries(&self) -> bool {
        true
    }

    fn is_empty(&self, view: StreamView<'_>) -> bool {
        self.unigram.is_empty(view)
    }

    fn draw(&self, view: StreamView<'_>, draws: usize, random: &mut Pcg64Mcg, out: &mut Vec<u32>) {
        if self.is_empty(view) {
            return;
        }
        // To pick a query, and then one of its followers or the unigram, is to pick a point of their common line.
        let QueryMixture { followers, sums, .. } = &self.asked;
        let known = sums.last().copied().unwrap_or(0.0);
        let (start, mut back_offs) = (out.len(), 0);
        out.extend((0..draws).map(|_| {
            let point = if followers.is_empty() { 1.0 } else { random.random::<f64>() };
            if point < known {
                followers[sums.partition_point(|sum| *sum <= point)]
            } else {
                back_offs += 1;
                BACK_OFF
            }
        }));
        // All at once, as the unigram prepares itself for each call.
        let mut drawn = Vec::with_capacity(back_offs);
        self.unigram.draw(view, back_offs, random, &mut drawn);
        let free = out[start..].iter_mut().filter(|item| **item == BACK_OFF);
        free.zip(drawn).for_each(|(item, drawn)| *item = drawn);
    }

    fn probability(&self, view: StreamView<'_>, item: u32) -> f64 {
        let known = self.asked.mean.get(item as usize).copied().unwrap_or(0.0);
        known + self.asked.back_off * self.unigram.probability(view, item)
    }

    fn keep_items(&mut self, items: &RowRemap) {
        self.asked.clear();
        items.keep(&mut self.items);
        // Those that go are left out of all sums, like the dead.
        self.items.iter_mut().for_each(|followers| items.renumber_by(&mut followers.counts, |(item, _)| item));
        self.unigram.keep_items(items);
    }

    fn save(&self, out: &mut StateDict) {
        let counts = || self.items.iter().flat_map(|followers| &followers.counts);
        out.put_f64("now", vec![self.now]);
        out.put_f64("at", self.items.iter().map(|followers| followers.at).collect());
        out.put_f64("lost", self.items.iter().map(|followers| followers.lost).collect());
        out.put_u32("lengths", self.items.iter().map(|followers| followers.counts.len() as u32).collect());
        out.put_u32("followers", counts().map(|(item, _)| *item).collect());
        out.put_f64("counts", counts().map(|(_, count)| f64::from(*count)).collect());
        out.scope("unigram", |out| self.unigram.save(out));
    }

    fn restore(&mut self, view: StreamView<'_>, saved: &mut StateDict) -> Result<(), StateDictError> {
        let n_items = view.frequencies.len();
        let [now] = saved.take_f64("now")?[..] else { return Err(saved.error("now", "is not one number")) };
        if !(now >= 0.0 && now.is_finite() && now.fract() == 0.0) {
            return Err(saved.error("now", "is not a number of events"));
        }
        let (at, lost, lengths) = (saved.take_f64("at")?, saved.take_f64("lost")?, saved.take_u32("lengths")?);
        let (followers, counts) = (saved.take_u32("followers")?, saved.take_f64("counts")?);
        if at.len() > n_items || lost.len() != at.len() || lengths.len() != at.len() {
            return Err(saved.error("lengths", "are not one for each item"));
        }
        let all: u64 = lengths.iter().map(|length| u64::from(*length)).sum();
        if followers.len() as u64 != all || counts.len() as u64 != all {
            return Err(saved.error("followers", "are not as many as was said"));
        }
        if lengths.iter().any(|length| *length as usize > self.most) {
            return Err(saved.error("lengths", "are above what is remembered"));
        }
        if !at.iter().all(|at| (0.0..=now).contains(at)) {
            return Err(saved.error("at", "is not an event of the past"));
        }
        if !lost.iter().all(|lost| *lost >= 0.0 && lost.is_finite()) {
            return Err(saved.error("lost", "is not a count"));
        }
        if !counts.iter().all(|count| (*count as f32) > 0.0 && (*count as f32).is_finite()) {
            return Err(saved.error("counts", "are not positive"));
        }
        let mut pairs = followers.into_iter().zip(counts).map(|(item, count)| (item, count as f32));
        let mut items = Vec::with_capacity(at.len());
        for ((at, lost), length) in at.into_iter().zip(lost).zip(lengths) {
            let counts: Vec<_> = pairs.by_ref().take(length as usize).collect();
            let mut sorted: Vec<_> = counts.iter().map(|(item, _)| *item).collect();
            sorted.sort_unstable();
            if sorted.last().is_some_and(|item| *item as usize >= n_items) || !sorted.is_sorted_by(|a, b| a < b) {
                return Err(saved.error("followers", "names an item twice, or one that is not there"));
            }
            items.push(Followers { counts, lost, at });
        }
        saved.scope("unigram", |saved| self.unigram.restore(view, saved))?;
        self.asked.clear();
        (self.now, self.items) = (now, items);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Stream, any_damage, draws_fit, sums_to_one, zipf};
    use super::*;
    use proptest::prelude::*;
    use rand::SeedableRng;

    fn world(n_items: usize, horizon: u64) -> Stream {
        Stream::new(n_items, horizon, Some(500.0))
    }

    fn step(world: &mut Stream, sampler: &mut Cooccurrence, items: &[u32], pairs: &[(u32, u32)]) {
        world.add(items);
        sampler.observe(world.view(), BatchObservation { items, pairs, ..BatchObservation::default() });
    }

    fn ask(world: &Stream, sampler: &mut Cooccurrence, last_items: &[u32]) {
        sampler.set_queries(world.view(), QueryContext { last_items, ..QueryContext::default() });
    }

    /// Each event follows the one before it.
    fn pairs(items: &[u32]) -> Vec<(u32, u32)> {
        items.windows(2).map(|pair| (pair[0], pair[1])).collect()
    }

    /// After `batches` batches of 50; `drift` of the most frequent items give way to new ones in every tenth batch.
    fn run(sampler: &mut Cooccurrence, horizon: u64, batches: u32, drift: u32) -> Stream {
        let mut world = world(2_000, horizon);
        let mut random = Pcg64Mcg::seed_from_u64(1);
        for batch in 0..batches {
            let items = zipf(&mut random, batch / 10 * drift, 50);
            step(&mut world, sampler, &items, &pairs(&items));
        }
        world
    }

    #[test]
    fn cooccurrence_draws_follow_stated_probabilities() {
        for (horizon, drift) in [(u64::MAX, 0), (u64::MAX, 7), (1_000, 7)] {
            let mut sampler = Cooccurrence::new(16, 5_000.0);
            let world = run(&mut sampler, horizon, 1_000, drift);
            let newest = 99 * drift;
            // Dead and unknown ones too.
            let some: Vec<u32> = (0..60).map(|k| newest + k % 40).chain([3, 1_999, 5_000, u32::MAX]).collect();
            for last_items in [&some[..], &[newest], &[], &[1_999]] {
                ask(&world, &mut sampler, last_items);
                sums_to_one(world.view(), &sampler, 2_000);
                draws_fit(world.view(), &sampler, 2_000);
                assert_eq!(sampler.probability(world.view(), 1_999), 0.0);
                if last_items.is_empty() || last_items == [1_999] {
                    let alike = |item| {
                        sampler.probability(world.view(), item) == sampler.unigram.probability(world.view(), item)
                    };
                    assert!((0..2_000).all(alike));
                }
            }
        }
    }

    #[test]
    fn cooccurrence_probability_is_the_mean_over_queries() {
        let mut sampler = Cooccurrence::new(16, 5_000.0);
        let world = run(&mut sampler, 1_000, 300, 7);
        let last_items = [205, 204, 205, 220, 7, 205];
        let mut mean = vec![0.0; 2_000];
        for last in last_items {
            ask(&world, &mut sampler, &[last]);
            let view = world.view();
            mean.iter_mut().zip(0..).for_each(|(sum, item)| *sum += sampler.probability(view, item) / 6.0);
        }
        ask(&world, &mut sampler, &last_items);
        for (mean, item) in mean.iter().zip(0..) {
            assert!((mean - sampler.probability(world.view(), item)).abs() < 1e-12);
        }
    }

    #[test]
    fn cooccurrence_backs_off_as_witten_and_bell() {
        let mut sampler = Cooccurrence::new(4, f64::INFINITY);
        let mut world = Stream::new(20, u64::MAX, Some(f64::INFINITY));
        step(&mut world, &mut sampler, &(0..10).collect::<Vec<_>>(), &[(0, 1), (0, 1), (0, 1), (0, 2)]);
        ask(&world, &mut sampler, &[0]);
        // T = 2, N = 4, and the unigram is even.
        for (item, expected) in [(1, 3.0 / 6.0 + 2.0 / 60.0), (2, 1.0 / 6.0 + 2.0 / 60.0), (3, 2.0 / 60.0)] {
            assert!((sampler.probability(world.view(), item) - expected).abs() < 1e-12);
        }
    }

    /// From each of 200 items to four others.
    #[test]
    fn cooccurrence_learns_a_chain() {
        let (mut sampler, mut world) = (Cooccurrence::new(32, 1e6), world(200, u64::MAX));
        let chances = [0.4, 0.3, 0.2, 0.1];
        let next = |item: u32, branch: u32| (item * 31 + 17 + branch * branch * 23) % 200;
        let (mut random, mut item) = (Pcg64Mcg::seed_from_u64(9), 0);
        for _ in 0..8_000 {
            let mut pairs = Vec::new();
            for _ in 0..50 {
                let point = random.random::<f64>();
                let branch = [0.4, 0.7, 0.9].iter().filter(|end| point >= **end).count() as u32;
                pairs.push((item, next(item, branch)));
                item = next(item, branch);
            }
            step(&mut world, &mut sampler, &pairs.iter().map(|(_, item)| *item).collect::<Vec<_>>(), &pairs);
        }
        let (mut worst, mut mean) = (0.0, 0.0);
        for last in world.live.items() {
            ask(&world, &mut sampler, &[*last]);
            let mut truth = vec![0.0; 200];
            (0..4).for_each(|branch| truth[next(*last, branch) as usize] += chances[branch as usize]);
            let apart = |(item, truth): (usize, &f64)| (sampler.probability(world.view(), item as u32) - truth).abs();
            let apart: f64 = truth.iter().enumerate().map(apart).sum();
            worst = f64::max(worst, apart / 2.0);
            mean += apart / 2.0 / world.live.items().len() as f64;
        }
        assert!(mean < 0.03 && worst < 0.15, "total variation {mean}, at worst {worst}");
    }

    /// What followed once each is told apart from what followed often, although there is no room for it.
    #[test]
    fn cooccurrence_gives_lost_mass_to_unigram() {
        let (mut sampler, mut world) = (Cooccurrence::new(8, f64::INFINITY), world(1_000, u64::MAX));
        let mut random = Pcg64Mcg::seed_from_u64(8);
        for other in 1..900 {
            let follower = if random.random_bool(0.1) { 999 } else { other };
            step(&mut world, &mut sampler, &[0, follower], &[(0, follower)]);
        }
        ask(&world, &mut sampler, &[0]);
        let unigram = 1.0 - sampler.asked.sums.last().unwrap();
        let known = sampler.asked.mean[999];
        // A tenth; the other seven count for next to nothing.
        assert!((known - 0.1).abs() < 0.03 && known + unigram > 0.985, "{known} {unigram}");
    }

    #[test]
    fn cooccurrence_follows_change_and_falls_back_to_unigram() {
        let (mut sampler, mut world) = (Cooccurrence::new(8, 1_000.0), world(100, u64::MAX));
        let others: Vec<u32> = (3..53).collect();
        step(&mut world, &mut sampler, &[0, 1, 2], &[]);
        (0..100).for_each(|_| step(&mut world, &mut sampler, &others, &[(0, 1), (1, 0)]));
        (0..80).for_each(|_| step(&mut world, &mut sampler, &others, &[(0, 2)]));
        ask(&world, &mut sampler, &[0]);
        assert!(
            sampler.asked.mean[2] > 10.0 * sampler.asked.mean[1] && sampler.asked.mean[2] > 0.8,
            "{:?}",
            &sampler.asked.mean[..3]
        );
        ask(&world, &mut sampler, &[1]);
        let before = sampler.asked.mean[0];
        (0..80).for_each(|_| step(&mut world, &mut sampler, &others, &[]));
        ask(&world, &mut sampler, &[1]);
        assert!(before > 2.0 * sampler.asked.mean[0] && before < 0.7, "{before} {}", sampler.asked.mean[0]);
    }

    fn again(world: &Stream, sampler: &Cooccurrence, followers: usize, half_life: f64) -> Cooccurrence {
        let mut saved = StateDict::default();
        sampler.save(&mut saved);
        let mut again = Cooccurrence::new(followers, half_life);
        again.restore(world.view(), &mut saved).unwrap();
        assert_eq!(saved.arrays().count(), 0);
        again
    }

    #[test]
    fn cooccurrence_restores_to_the_same_state() {
        let mut sampler = Cooccurrence::new(8, 700.0);
        let mut world = run(&mut sampler, 1_000, 777, 7);
        let mut other = again(&world, &sampler, 8, 700.0);
        let mut random = Pcg64Mcg::seed_from_u64(4);
        for _ in 0..20 {
            let items = zipf(&mut random, 550, 50);
            let draw = |sampler: &mut Cooccurrence| {
                ask(&world, sampler, &items);
                let mut draws = Vec::new();
                sampler.draw(world.view(), 1_000, &mut Pcg64Mcg::seed_from_u64(5), &mut draws);
                draws
            };
            assert_eq!(draw(&mut sampler), draw(&mut other));
            for item in 0..2_000 {
                let [a, b] = [&sampler, &other].map(|sampler| sampler.probability(world.view(), item));
                assert_eq!(a.to_bits(), b.to_bits());
            }
            step(&mut world, &mut sampler, &items, &pairs(&items));
            other.observe(
                world.view(),
                BatchObservation { items: &items, pairs: &pairs(&items), ..BatchObservation::default() },
            );
        }
    }

    proptest! {
        #[test]
        fn cooccurrence_accepts_any_stream(
            batches in proptest::collection::vec(proptest::collection::vec(0u32..40, 0..30), 0..30),
            horizon in prop_oneof![Just(u64::MAX), 0u64..100],
            (followers, half_life) in (0usize..6, prop_oneof![Just(f64::INFINITY), Just(0.0), 1.0f64..1e4]),
            last_items in proptest::collection::vec(0u32..50, 0..10),
        ) {
            let (mut sampler, mut world) = (Cooccurrence::new(followers, half_life), world(40, horizon));
            for items in &batches {
                step(&mut world, &mut sampler, items, &pairs(items));
                ask(&world, &mut sampler, &last_items);
                let mut draws = Vec::new();
                sampler.draw(world.view(), 20, &mut Pcg64Mcg::seed_from_u64(6), &mut draws);
                prop_assert!(draws.iter().all(|item| world.live.contains(*item)));
                prop_assert_eq!(sampler.is_empty(world.view()), world.live.items().is_empty());
                prop_assert_eq!(draws.len(), if world.live.items().is_empty() { 0 } else { 20 });
                if !draws.is_empty() {
                    sums_to_one(world.view(), &sampler, 45);
                }
                again(&world, &sampler, followers, half_life);
            }
        }

        #[test]
        fn cooccurrence_restore_refuses_nonsense(
            damage in any_damage(),
        ) {
            let mut sampler = Cooccurrence::new(4, 500.0);
            let world = run(&mut sampler, 1_000, 30, 7);
            let mut other = Cooccurrence::new(4, 500.0);
            let result = other.restore(world.view(), &mut damage.of(&sampler));
            prop_assert!(!damage.is_cut() || result.is_err());
            if result.is_ok() {
                ask(&world, &mut other, world.live.items());
                let mut draws = Vec::new();
                other.draw(world.view(), 100, &mut Pcg64Mcg::seed_from_u64(6), &mut draws);
                prop_assert!(draws.iter().all(|item| world.live.contains(*item)));
            }
        }
    }
}
