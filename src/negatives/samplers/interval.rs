//! `interval`: in inverse proportion to the mean gap between an item's events, q(j) ∝ 1/gap_j.
//!
//! The streaming estimator of Yi et al. 2019 (Sampling-bias-corrected neural modeling, RecSys). An item falls into one
//! bucket in each row of a sketch of fixed size. A bucket knows A, the number of the event when an item of it last
//! came, and B, the moving average of its gaps: when one comes at event t,
//!
//! `B ← (1 − s)·B + s·(t − A)`, `A ← t`.
//!
//! Sharing a bucket only makes gaps shorter, so the gap of an item is the largest over the rows. Here
//!
//! * gaps are counted in events, not in batches: an item that comes several times a batch has a gap below a batch;
//! * s = max(rate, 1/visits): a plain mean until it has as many gaps as the moving average looks back. For the first
//!   gap of a bucket, which has no beginning, stands the number of live items, which is the gap of an average item.
//!   (The time since the start of the stream would be a guess too, but one that tells of the stream's age, not of the
//!   item: what is new late in the stream would be held for rare for some 1/rate visits.) As one gap among others it
//!   keeps an item that came twice in a row from being held for the most frequent of all;
//! * what stops coming fades: a gap is at least as long as the one that is open, max(B, now − A).
//!
//! Draws go by weights 1/gap as of when an item was last looked at, and q is exact in these. Looked at are the items
//! of a batch and, in turn, as many others ([`LOOKS_PER_EVENT`]), so that fading costs O(1) an event.

use rand_pcg::Pcg64Mcg;

use super::classes::{Classes, Places};
use super::registry::{Origin, SamplerOptions};
use super::{BatchObservation, NoiseSampler, StreamView};
use crate::negatives::sketch::{Keys, SketchRows};
use crate::state_dict::{StateDict, StateDictError};
use crate::table::row_remap::RowRemap;
use crate::util::component::Component;
use crate::util::config_section::{Refusal, config_section, require};

/// Live items that are looked at again for each event, besides its own: n of them in n events, as often as the
/// average item comes by itself.
pub const LOOKS_PER_EVENT: usize = 1;

/// Sixteen bytes, as where an item's buckets are is what looking at it costs.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Bucket {
    /// A; a real number as all event numbers are: exact up to 2⁵³, and nothing to convert.
    last: f64,
    /// B; 0 as long as nothing came.
    gap: f32,
    visits: u32,
}

config_section! {
    /// The options of `interval`.
    pub struct IntervalOptions {
        /// Buckets of each row of the sketch.
        width: usize = 1 << 16 => [within(16..=1 << 26), check(fits)];
        /// Rows of the sketch.
        rows: usize = 2 => [within(1..=8)];
        /// Weight of the newest gap in the moving mean of a bucket's gaps.
        rate: f64 = 0.05 => [within(1e-6..=1.0)];
    }
}

impl Component for IntervalOptions {
    const NAME: &'static str = "interval";
    const SUMMARY: &'static str = "By the mean gap between an item's events, in a sketch.";
}

impl SamplerOptions for IntervalOptions {
    const ORIGIN: Origin = Origin::Stream("negatives.noise=[{sampler=\"interval\"}]");
    const TESTED: &'static [&'static str] = &["width = 512", "width = 16\nrows = 3"];

    fn build(&self) -> Box<dyn NoiseSampler> {
        Box::new(Interval::new(self.width, self.rows, self.rate))
    }
}

/// The whole sketch has at most 2²⁶ buckets.
fn fits(width: &usize, options: &IntervalOptions) -> Result<(), Refusal> {
    require(width * options.rows <= 1 << 26, "times 'rows' must be at most 67108864")
}

/// Draws by the inverse of the mean gap.
#[derive(Debug)]
pub struct Interval {
    rate: f32,
    rows: SketchRows,
    /// Row after row.
    buckets: Vec<Bucket>,
    keys: Keys,
    /// Events so far; the newest is number `now`.
    now: f64,
    /// Place among the live items of the one to be looked at next.
    cursor: usize,
    classes: Classes,
    places: Places,
    /// Whom to look at after a batch, and their gaps; not part of the state.
    looks: Vec<(u32, f64)>,
}

impl Interval {
    /// A sketch of `rows` rows of `width` buckets each, whose averages move by `rate` with each gap.
    pub fn new(width: usize, rows: usize, rate: f64) -> Self {
        let rows = SketchRows::new(width, rows);
        Self {
            rate: rate.clamp(0.0, 1.0) as f32,
            buckets: vec![Bucket::default(); rows.cells()],
            rows,
            keys: Keys::default(),
            now: 0.0,
            cursor: 0,
            classes: Classes::default(),
            places: Places::default(),
            looks: Vec::new(),
        }
    }

    /// Estimated mean gap of `item` at present, in events; 1 at least.
    pub fn gap(&self, item: u32) -> f64 {
        let of = |place: usize| {
            let Bucket { last, gap, .. } = self.buckets[place];
            f64::from(gap).max(self.now - last)
        };
        self.rows.places(u64::from(self.keys.of(item))).map(of).fold(1.0, f64::max)
    }

    /// One event; `first` stands for the first gap of a bucket.
    fn visit(&mut self, item: u32, first: f64) {
        self.now += 1.0;
        for place in self.rows.places(u64::from(self.keys.of(item))) {
            let bucket = &mut self.buckets[place];
            let gap = if bucket.visits == 0 { first } else { self.now - bucket.last };
            bucket.visits = bucket.visits.saturating_add(1);
            bucket.gap += self.rate.max((bucket.visits as f32).recip()) * (gap as f32 - bucket.gap);
            bucket.last = self.now;
        }
    }
}

impl NoiseSampler for Interval {
    fn observe(&mut self, view: StreamView<'_>, observed: BatchObservation<'_>) {
        let live = view.live.items();
        let first = live.len().max(1) as f64;
        observed.items.iter().for_each(|item| self.visit(*item, first));
        view.live.died().iter().for_each(|item| self.classes.set(&mut self.places, *item, 0.0));
        let mut looks = std::mem::take(&mut self.looks);
        looks.clear();
        // An item that comes and dies within one batch is not drawn either.
        looks.extend(observed.items.iter().filter(|item| view.live.contains(**item)).map(|item| (*item, 0.0)));
        for _ in 0..(LOOKS_PER_EVENT * observed.items.len()).min(live.len()) {
            // Others may have gone since.
            if self.cursor >= live.len() {
                self.cursor = 0;
            }
            looks.push((live[self.cursor], 0.0));
            self.cursor += 1;
        }
        // First all gaps, then all weights, so that the waits for memory overlap.
        looks.iter_mut().for_each(|(item, gap)| *gap = self.gap(*item));
        self.classes.approach(&self.places, looks.iter().map(|(item, _)| *item));
        looks.iter().for_each(|(item, gap)| self.classes.set(&mut self.places, *item, gap.recip()));
        self.looks = looks;
        self.classes.settle();
    }

    fn is_empty(&self, _view: StreamView<'_>) -> bool {
        self.classes.is_empty()
    }

    fn draw(&self, _view: StreamView<'_>, draws: usize, random: &mut Pcg64Mcg, out: &mut Vec<u32>) {
        if !self.classes.is_empty() {
            out.extend((0..draws).map(|_| self.classes.draw(random)));
        }
    }

    fn probability(&self, _view: StreamView<'_>, item: u32) -> f64 {
        if self.classes.is_empty() { 0.0 } else { self.classes.weight(&self.places, item) / self.classes.total() }
    }

    fn keep_items(&mut self, items: &RowRemap) {
        self.keys.keep(items);
        self.places.keep(items);
        self.classes.keep(&mut self.places, items);
        self.classes.settle();
    }

    fn save(&self, out: &mut StateDict) {
        out.put_f64("now", vec![self.now]);
        out.put_u32("cursor", vec![self.cursor as u32]);
        out.put_f64("last", self.buckets.iter().map(|bucket| bucket.last).collect());
        out.put_f64("gaps", self.buckets.iter().map(|bucket| f64::from(bucket.gap)).collect());
        out.put_u32("visits", self.buckets.iter().map(|bucket| bucket.visits).collect());
        self.keys.save(out);
        out.scope("classes", |out| self.classes.save(out));
    }

    fn restore(&mut self, view: StreamView<'_>, saved: &mut StateDict) -> Result<(), StateDictError> {
        let [now] = saved.take_f64("now")?[..] else { return Err(saved.error("now", "is not one number")) };
        let [cursor] = saved.take_u32("cursor")?[..] else { return Err(saved.error("cursor", "is not one number")) };
        if !(now >= 0.0 && now.is_finite() && now.fract() == 0.0) {
            return Err(saved.error("now", "is not a number of events"));
        }
        let (last, gaps, visits) = (saved.take_f64("last")?, saved.take_f64("gaps")?, saved.take_u32("visits")?);
        if [last.len(), gaps.len(), visits.len()] != [self.buckets.len(); 3] {
            return Err(saved.error("gaps", "are of a sketch of another size"));
        }
        let sketch = last.into_iter().zip(gaps).zip(visits);
        let buckets: Vec<_> = sketch.map(|((last, gap), visits)| Bucket { last, gap: gap as f32, visits }).collect();
        // A little room for rounding: averages of gaps that are 1 at least.
        let good = |bucket: &Bucket| match bucket.visits {
            0 => bucket.last == 0.0 && bucket.gap == 0.0,
            _ => (1.0..=now).contains(&bucket.last) && bucket.gap >= 0.999 && bucket.gap.is_finite(),
        };
        if !buckets.iter().all(good) {
            return Err(saved.error("gaps", "are not of a stream"));
        }
        let keys = Keys::restore(view.frequencies.len(), saved)?;
        let mut places = Places::default();
        let classes = saved.scope("classes", |saved| Classes::default().restored(&mut places, view.live, saved))?;
        (self.now, self.cursor, self.buckets) = (now, cursor as usize, buckets);
        (self.classes, self.places, self.keys) = (classes, places, keys);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Stream, any_damage, draws_fit, sums_to_one, zipf};
    use super::*;
    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng};

    fn world(n_items: usize, horizon: u64) -> Stream {
        Stream::new(n_items, horizon, Some(500.0))
    }

    fn step(world: &mut Stream, sampler: &mut Interval, items: &[u32]) {
        world.add(items);
        sampler.observe(world.view(), BatchObservation { items, ..BatchObservation::default() });
    }

    /// After `batches` batches of 50; `drift` of the most frequent items give way to new ones in every tenth batch.
    fn run(sampler: &mut Interval, horizon: u64, batches: u32, drift: u32) -> Stream {
        let mut world = world(2_000, horizon);
        let mut random = Pcg64Mcg::seed_from_u64(1);
        (0..batches).for_each(|batch| step(&mut world, sampler, &zipf(&mut random, batch / 10 * drift, 50)));
        world
    }

    #[test]
    fn interval_draws_follow_stated_probabilities() {
        for (horizon, drift) in [(u64::MAX, 0), (u64::MAX, 7), (1_000, 7)] {
            let mut sampler = Interval::new(1 << 10, 4, 0.02);
            let world = run(&mut sampler, horizon, 1_000, drift);
            sums_to_one(world.view(), &sampler, 2_000);
            draws_fit(world.view(), &sampler, 2_000);
            assert_eq!(sampler.probability(world.view(), 1_999), 0.0);
            assert!(world.live.items().iter().all(|item| sampler.probability(world.view(), *item) > 0.0));
        }
    }

    #[test]
    fn interval_learns_static_stream() {
        let mut sampler = Interval::new(1 << 10, 4, 0.01);
        let world = run(&mut sampler, u64::MAX, 4_000, 0);
        let truth = |item: u32| (f64::from(item + 2) / f64::from(item + 1)).ln() / 201f64.ln();
        let apart: f64 = (0..200).map(|item| (sampler.probability(world.view(), item) - truth(item)).abs()).sum();
        assert!(apart / 2.0 < 0.12, "total variation {}", apart / 2.0);
    }

    /// Item 0 comes once in fifty events, then once in five: ten times in each batch.
    #[test]
    fn interval_follows_jump() {
        let (mut sampler, mut world) = (Interval::new(1 << 12, 4, 0.05), world(1_000, u64::MAX));
        let (mut random, mut event) = (Pcg64Mcg::seed_from_u64(2), 0u32);
        let mut run = |sampler: &mut Interval, events: u32, every: u32| {
            for _ in 0..events / 50 {
                let item = |_| {
                    event += 1;
                    if event.is_multiple_of(every) { 0 } else { random.random_range(1..1_000) }
                };
                step(&mut world, sampler, &(0..50).map(item).collect::<Vec<_>>());
            }
            sampler.gap(0)
        };
        let gap = run(&mut sampler, 50_000, 50);
        assert!((gap / 50.0 - 1.0).abs() < 0.05, "{gap}");
        // The average halves its error in 14 gaps.
        let gap = run(&mut sampler, 5 * 14 * 7, 5);
        assert!((gap / 5.0 - 1.0).abs() < 0.2, "{gap}");
        let gap = run(&mut sampler, 10_000, 5);
        assert!((gap / 5.0 - 1.0).abs() < 0.01, "{gap}");
        // And back, with gaps that are longer each by itself.
        let gap = run(&mut sampler, 50 * 14 * 5, 50);
        assert!((gap / 50.0 - 1.0).abs() < 0.2, "{gap}");
    }

    #[test]
    fn interval_fades_stopped_items_and_starts_new_ones_at_average() {
        let (mut sampler, mut world) = (Interval::new(1 << 12, 4, 0.01), world(1_000, u64::MAX));
        let mut random = Pcg64Mcg::seed_from_u64(2);
        let mut batch = |from: u32| (0..50).map(|_| random.random_range(from..100)).collect::<Vec<_>>();
        (0..400).for_each(|_| step(&mut world, &mut sampler, &batch(0)));
        // An average item: one in a hundred and one.
        step(&mut world, &mut sampler, &[500]);
        assert!((sampler.probability(world.view(), 500) * 101.0 - 1.0).abs() < 0.25);
        (0..400).for_each(|_| step(&mut world, &mut sampler, &batch(1)));
        // Looked at within the last 101 events, and one batch.
        for gone in [0, 500] {
            let weight = sampler.classes.weight(&sampler.places, gone);
            assert!((1.0 / 20_060.0..1.0 / 19_840.0).contains(&weight), "{}", 1.0 / weight);
        }
    }

    #[test]
    fn interval_bucket_collisions_only_shorten_gaps() {
        let (mut small, mut large) = (Interval::new(64, 3, 0.01), Interval::new(1 << 16, 3, 0.01));
        run(&mut small, u64::MAX, 1_000, 0);
        run(&mut large, u64::MAX, 1_000, 0);
        let shorter = (0..200).filter(|item| small.gap(*item) <= large.gap(*item) * 1.0001).count();
        assert!(shorter > 190, "{shorter}");
    }

    fn again(world: &Stream, sampler: &Interval, (width, rows, rate): (usize, usize, f64)) -> Interval {
        let mut saved = StateDict::default();
        sampler.save(&mut saved);
        let mut again = Interval::new(width, rows, rate);
        again.restore(world.view(), &mut saved).unwrap();
        assert_eq!(saved.arrays().count(), 0);
        again
    }

    #[test]
    fn interval_restores_to_the_same_state() {
        let settings = (100, 3, 0.02);
        let mut sampler = Interval::new(settings.0, settings.1, settings.2);
        let mut world = run(&mut sampler, 1_000, 777, 7);
        let mut other = again(&world, &sampler, settings);
        let mut random = Pcg64Mcg::seed_from_u64(4);
        for _ in 0..20 {
            let draw = |sampler: &Interval| {
                let mut draws = Vec::new();
                sampler.draw(world.view(), 1_000, &mut Pcg64Mcg::seed_from_u64(5), &mut draws);
                draws
            };
            assert_eq!(draw(&sampler), draw(&other));
            for item in 0..2_000 {
                let [a, b] = [&sampler, &other].map(|sampler| sampler.probability(world.view(), item));
                assert_eq!(a.to_bits(), b.to_bits());
            }
            let items = zipf(&mut random, 550, 50);
            step(&mut world, &mut sampler, &items);
            other.observe(world.view(), BatchObservation { items: &items, ..BatchObservation::default() });
        }
    }

    #[test]
    fn interval_keeps_gaps_of_remaining_items_only() {
        let mut sampler = Interval::new(1 << 12, 4, 0.02);
        let mut world = run(&mut sampler, u64::MAX, 400, 0);
        let n_items = world.frequencies.len();
        let rows = RowRemap::of_rows(n_items, |row| row % 3 != 1 && row < 150);
        let gaps: Vec<f64> = rows.kept().map(|(old, _)| sampler.gap(old as u32)).collect();
        world.frequencies.keep(&rows);
        world.live.keep(&rows);
        sampler.keep_items(&rows);
        assert_eq!((0..rows.n_kept() as u32).map(|row| sampler.gap(row)).collect::<Vec<_>>(), gaps);
        let new = rows.n_kept() as u32;
        world.frequencies.grow(new as usize + 1);
        let expected = world.live.items().len() as f64 + 1.0;
        step(&mut world, &mut sampler, &[new]);
        assert!((sampler.gap(new) / expected - 1.0).abs() < 0.05, "{} {expected}", sampler.gap(new));
    }

    proptest! {
        #[test]
        fn interval_accepts_any_stream(
            batches in proptest::collection::vec(proptest::collection::vec(0u32..40, 0..30), 0..30),
            horizon in prop_oneof![Just(u64::MAX), 0u64..100],
            (width, rows, rate) in (0usize..50, 0usize..4, 0.0f64..1.0),
        ) {
            let (mut sampler, mut world) = (Interval::new(width, rows, rate), world(40, horizon));
            for items in &batches {
                step(&mut world, &mut sampler, items);
                let mut draws = Vec::new();
                sampler.draw(world.view(), 20, &mut Pcg64Mcg::seed_from_u64(6), &mut draws);
                prop_assert!(draws.iter().all(|item| world.live.contains(*item)));
                prop_assert_eq!(sampler.is_empty(world.view()), world.live.items().is_empty());
                prop_assert_eq!(draws.len(), if world.live.items().is_empty() { 0 } else { 20 });
                if !draws.is_empty() {
                    sums_to_one(world.view(), &sampler, 45);
                }
                again(&world, &sampler, (width, rows, rate));
            }
        }

        #[test]
        fn interval_restore_refuses_nonsense(
            damage in any_damage(),
        ) {
            let mut sampler = Interval::new(64, 2, 0.02);
            let world = run(&mut sampler, 1_000, 30, 7);
            let mut other = Interval::new(64, 2, 0.02);
            let result = other.restore(world.view(), &mut damage.of(&sampler));
            prop_assert!(!damage.is_cut() || result.is_err());
            if result.is_ok() {
                let mut draws = Vec::new();
                other.draw(world.view(), 100, &mut Pcg64Mcg::seed_from_u64(6), &mut draws);
                prop_assert!(draws.iter().all(|item| world.live.contains(*item)));
            }
        }
    }
}
