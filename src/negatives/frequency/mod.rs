//! q̂: how often each item comes, decayed so that it follows the stream, at a rate that the stream itself chooses.
//!
//! Each [`DecayedCounts`] counts with one half-life, in events or in time: before an event is added, every count is multiplied
//! by 2^(−1/half-life), or by 2^(−elapsed/half-life). Instead of touching them all, the weight of a new event grows by the
//! inverse, and counts are read relative to it: `q̂(j) = (n_j + ½) / Σ n`.
//!
//! With several half-lives side by side, each event is predicted by all of them before it is counted, and
//! `q̂(j) = Σ_h s_h·n_jh/Σn_h + ½/Σn_b`, with the shares `s_h ∝ exp(discounted evidence of h)`: a mixture that forgets (cf.
//! Raftery, Kárný & Ettler 2010). The evidence is the log-likelihood, smoothed by the baseline b, and
//! what a half-life has of hits at the top of its list that is no matter of chance (`evidence.rs`). The top of a list is what a
//! memory is for; likelihood alone, which also asks for the right share of what is hardly seen any more, chooses one that is
//! too long for it where interest fades fast. News end up with a short memory, films with a long one; where nights are
//! quiet and noons busy, a half-life in time predicts better than any in events. Two kinds of events are counted, but tell
//! half-lives nothing. A user who comes back to an item says nothing of what others will choose. And an item that never came
//! before is predicted best by whoever remembers least, which is no merit. The half is that of the baseline b whichever
//! half-life counts: how much an item is given that has hardly been seen is another question than how long to remember, and
//! a long memory must not take it away.
//!
//! New items are given what they have for their age ([`Newcomers`]), in q̂ alone: [`Frequencies::counted_frequency`] is what was
//! counted. And beside the half-lives a long memory predicts that short ones may overrule for each item (`overruled.rs`); where it is
//! likelier than every half-life, it counts in their place.
//!
//! Popularity, as a baseline of the evaluation and as a rank, goes by one half-life whatever the others are
//! ([`POPULARITY`], or `evaluate.popularity_half_life`): what to beat must not move with what is tried.
//!
//! **Frames.** Counts move with every event; shares and scales, which all items have in common, move when
//! [`Frequencies::refresh`] says so, at the latest at the end of a batch. In between, in one *frame*, each mixture is read by
//! the scales of the frame's beginning: an item that is not touched keeps its q̂ to the bit, so that only the few that were
//! touched have to be looked at again. Counts of one half-life all decay alike, which changes no order. But the half that every
//! item is given seems to shrink as the weight of an event grows, and of several half-lives the shares of the short ones seem
//! to grow; a frame is full ([`Frequencies::frame_is_full`]) before that comes to much.
//!
//! One item of many may leave its rate while the stream as a whole keeps its own: the mixture, which the whole stream
//! chooses, notices late. So memories that are shorter than the chosen half-life may object, for each item by itself: the
//! three longest of them. Of an item with the share q, a memory of N decayed events expects λ = q·N; its decayed
//! count n varies by λ/2 (weights that halve in a half-life have a sum of squares half as large as their sum). Where
//! `(n − λ)² > 4²·(λ/2 + 1)`, q becomes n/N. Memories are asked from the longest to the shortest, each against what was
//! settled so far, as in the choice of a bandwidth: the largest that no smaller one contradicts (Lepski 1991). So an item
//! that jumps to ten times its rate is followed within one half-life, if enough events of it came to tell. What is as common
//! as before is left alone: four standard deviations are rare, and of an item that hardly comes, the 1 asks for five events
//! at least. A fixed half-life has a memory of a quarter of it beside, only to object.
//!
//! Where somebody objected, q̂ no longer sums to what it did. It need not. In the score only ratios count, and as the
//! probability with which the stream proposes an item it is an estimate, which is to be right for the item that is asked
//! for; taking from all others what one has gained would move each of them by next to nothing. What has to sum to 1 does:
//! [`Frequencies::share`], and the samplers' own probabilities, which come from the weights that they draw by.

mod decayed_counts;
mod evidence;
mod mixture;
mod most_common;
mod newcomers;
mod overruled;

pub use decayed_counts::DecayedCounts;
pub use mixture::FrequencyMixture;
pub use newcomers::Newcomers;

use self::evidence::{HalfLifeEvidence, Prediction};
use self::mixture::ScaledMemory;
use self::newcomers::NewcomerScale;
use self::overruled::{LONG, OVERRULING, OverruledMemory};
use super::{HalfLife, NegativesConfig};
use crate::kernel::Kernel;
use crate::kernel::frequency::{AgeCorrection, Contradiction};
use crate::kernel::rows::prefetch_one;
use crate::table::paged::Paged;
use crate::table::row_remap::RowRemap;

/// A frame that has not been refreshed ends before a weight comes near the end of what a double holds.
const OVERFLOWING_WEIGHT: f64 = 1e150;
const MINUTE: f64 = 60e3;
const HOUR: f64 = 60.0 * MINUTE;
const DAY: f64 = 24.0 * HOUR;
/// The half-lives that `auto` sets side by side: in events, ascending, then in time.
pub const AUTO: [HalfLife; 17] = [
    HalfLife::Events(25.0),
    HalfLife::Events(50.0),
    HalfLife::Events(100.0),
    HalfLife::Events(250.0),
    HalfLife::Events(500.0),
    HalfLife::Events(1_000.0),
    HalfLife::Events(2_000.0),
    HalfLife::Events(5_000.0),
    HalfLife::Events(20_000.0),
    HalfLife::Events(100_000.0),
    HalfLife::Millis(10.0 * MINUTE),
    HalfLife::Millis(30.0 * MINUTE),
    HalfLife::Millis(HOUR),
    HalfLife::Millis(2.0 * HOUR),
    HalfLife::Millis(6.0 * HOUR),
    HalfLife::Millis(DAY),
    HalfLife::Millis(7.0 * DAY),
];
/// The place in [`AUTO`] of the half-life whose half an event every item is given.
const AUTO_BASELINE: usize = 7;
/// The half-life that the popularity baseline and popularity ranks go by unless another is configured, in events.
pub const POPULARITY: f64 = 5_000.0;
/// Standard deviations of a decayed count that contradict a longer memory.
const DEVIATIONS: f64 = 4.0;
/// Variance there of a decayed count that is expected to be 0.
const LEAST_VARIANCE: f64 = 1.0;
/// The half-life of the memory beside a fixed half-life, as a share of it.
const COMPANION: f64 = 0.25;
/// The shortest half-life of a memory beside a fixed one, in events: fewer events contradict nothing.
const SHORTEST: f64 = 50.0;
/// How many memories may object to the mixture.
const OBJECTORS: usize = 3;
/// A frame is full when the weight of an event has grown by this factor in a memory that counts.
const LARGEST_TILT: f64 = 1.25;
/// Likewise in a memory that may object: what it objected to when the frame began is half forgotten.
const LARGEST_TILT_OF_OBJECTOR: f64 = 2.0;
/// Of so many items one may be counted before it is no longer noted which: by then a reader looks at all of them as fast.
const FEW: usize = 4;
/// A memory counts from this share on.
const COUNTING_SHARE: f64 = 0.01;
/// Up to this share it is not even looked at.
const LEAST_SHARE: f64 = 1e-9;

/// The decayed frequencies q̂ of all items: a mixture of half-lives, corrected where shorter memories contradict it.
#[derive(Debug, Clone, PartialEq)]
pub struct Frequencies {
    /// Counts by half-life: first the memory beside a fixed half-life, then the mixed ones, as in [`AUTO`]; at last that of
    /// popularity, where it is none of these.
    memories: Vec<DecayedCounts>,
    /// The place of the first mixed half-life in `memories`.
    first: usize,
    /// The place of the baseline in `memories`.
    baseline: usize,
    /// The place of the counts of popularity in `memories`.
    popularity: usize,
    /// Time of the newest event, milliseconds since 1970 UTC; `None` before the first.
    newest: Option<i64>,
    /// What speaks for each mixed half-life.
    evidence: HalfLifeEvidence,
    /// The weight of each mixed half-life; weights sum to 1.
    shares: Vec<f64>,
    /// The factors of the mixed half-lives' counts, with which they all together sum to 1.
    factors: Vec<f64>,
    /// When items came first, and how often new ones come again.
    newcomers: Newcomers,
    /// By mixed half-life: what tells new items.
    newcomer_scales: Vec<NewcomerScale>,
    /// By mixed half-life: what corrects the items' shares for their age, weighted as the half-life is.
    corrections: Vec<AgeCorrection>,
    /// Whether they correct anything.
    corrects_age: bool,
    /// The clock of the newcomers when the frame began.
    frame_clock: f64,
    /// Half an event of the baseline, which every item is given besides its count.
    floor: f64,
    /// The long memory that short ones may overrule, where there are several half-lives, and whether it counts in their place.
    overruled: OverruledMemory,
    is_overruled: bool,
    /// The memories that may object, longest first.
    objections: Vec<Objection>,
    /// By memory: the weight of an event when the frame began, and the inverse of the total.
    frame: Vec<(f64, f64)>,
    /// The items that were counted since somebody asked, where these are few.
    touched: Option<Vec<u32>>,
    /// Events of the group for each that is observed here; 1 where nobody else counts.
    pace: f64,
    /// What the events that were observed here since [`Self::take_evidence`] say of each half-life, where others are told that.
    own_evidence: Option<HalfLifeEvidence>,
}

/// An event that another worker has counted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AbsorbedEvent {
    /// The item's row.
    pub item: u32,
    /// Time of the event, milliseconds since 1970 UTC.
    pub timestamp: i64,
    /// How many events of the group have come since.
    pub events_since: f64,
}

/// A memory that is shorter than the chosen half-life and may contradict it.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Objection {
    /// Its place among the memories.
    memory: usize,
    /// The factor with which its counts sum to 1.
    factor: f64,
    /// The condition under which they overrule longer memories.
    contradiction: Contradiction,
}

impl Frequencies {
    /// Frequencies before the first event, with one half-life or with [`AUTO`], and popularity by [`POPULARITY`].
    pub fn new(half_life: impl Into<HalfLife>) -> Self {
        Self::with_popularity(half_life.into(), POPULARITY)
    }

    /// Frequencies before the first event, as `negatives` asks for them, and popularity by a half-life of `popularity` events.
    pub fn configured(negatives: &NegativesConfig, popularity: f64) -> Self {
        Self::with_popularity(negatives.half_life, popularity).with_age_correction(negatives.age_correction)
    }

    /// Frequencies before the first event, with one half-life or with [`AUTO`], and popularity by a half-life of `popularity`
    /// events.
    fn with_popularity(half_life: HalfLife, popularity: f64) -> Self {
        let mut half_lives = if half_life == HalfLife::Auto { AUTO.to_vec() } else { vec![half_life] };
        let n_mixed = half_lives.len();
        let companion = match half_life {
            HalfLife::Events(events) if (SHORTEST..events).contains(&(events * COMPANION)) => {
                Some(HalfLife::Events(events * COMPANION))
            }
            HalfLife::Millis(millis) => Some(HalfLife::Millis(millis * COMPANION)),
            _ => None,
        };
        if let Some(companion) = companion {
            half_lives.insert(0, companion);
        }
        let first = half_lives.len() - n_mixed;
        let mixed = first..half_lives.len();
        let by_popularity = HalfLife::Events(popularity);
        let popularity = mixed.clone().find(|place| half_lives[*place] == by_popularity).unwrap_or(mixed.end);
        if popularity == mixed.end {
            half_lives.push(by_popularity);
        }
        let mut frequencies = Self {
            memories: half_lives.into_iter().map(DecayedCounts::new).collect(),
            first,
            baseline: if half_life == HalfLife::Auto { AUTO_BASELINE } else { first },
            popularity,
            newest: None,
            evidence: HalfLifeEvidence::new(n_mixed),
            shares: vec![1.0; n_mixed],
            factors: Vec::new(),
            newcomers: Newcomers::new(n_mixed),
            newcomer_scales: Vec::new(),
            corrections: Vec::new(),
            corrects_age: true,
            frame_clock: 0.0,
            floor: 0.0,
            overruled: OverruledMemory::new(),
            is_overruled: false,
            objections: Vec::new(),
            frame: Vec::new(),
            touched: None,
            pace: 1.0,
            own_evidence: None,
        };
        frequencies.refresh();
        frequencies
    }

    /// These frequencies, of which each is what an item has for its age, or where `corrects_age` is false what was counted.
    fn with_age_correction(mut self, corrects_age: bool) -> Self {
        self.corrects_age = corrects_age;
        self.refresh();
        self
    }

    /// These frequencies with what was saved of others: the weight and total of each memory, its counts, the evidence, the
    /// time of the newest event, what is known of the overruled memory, and when items came first; `None` where the numbers of
    /// memories or items do not match.
    pub fn restored(
        mut self,
        scales: &[[f64; 2]],
        counts: Vec<Paged<f64>>,
        evidence: &[f64],
        newest: Option<i64>,
        [sum, due]: [f64; 2],
        newcomers: Newcomers,
    ) -> Option<Self> {
        let (n, n_items) = (self.memories.len(), counts.first().map_or(0, Paged::len));
        if [scales.len(), counts.len()] != [n, n] || !newcomers.is_sound(self.evidence.len(), n_items) {
            return None;
        }
        if !(sum > 0.0 && sum.is_finite() && due.is_finite()) {
            return None;
        }
        self.newcomers = newcomers;
        self.overruled = OverruledMemory { sum, due };
        // Counting never comes to other numbers than these, with which no half-life might have a share.
        let is_sound =
            |[weight, total]: &[f64; 2]| *weight > 0.0 && weight.is_finite() && *total >= 0.0 && total.is_finite();
        if !scales.iter().all(is_sound) {
            return None;
        }
        for ((memory, scales), counts) in self.memories.iter_mut().zip(scales).zip(counts) {
            memory.restore(*scales, counts);
        }
        self.evidence.restore(evidence)?;
        self.newest = newest;
        self.refresh();
        Some(self)
    }

    /// Begins with `counts` of events that came before the first one that is observed, by item, as if in no particular order, and
    /// as fast as nobody knows: half-lives in time take few of them. Without any event, it is as before the first.
    pub fn begin_with(&mut self, counts: &[u64]) {
        self.grow(counts.len());
        let events = counts.iter().sum::<u64>() as f64;
        if events > 0.0 {
            self.memories.iter_mut().for_each(|memory| memory.begin_with(counts, events));
            self.newcomers.begin_with(counts);
            self.newcomers.pass(events);
        }
        self.refresh();
    }

    /// Makes room for `n_items` items; new ones have a count of 0.
    pub fn grow(&mut self, n_items: usize) {
        let n_more = n_items.saturating_sub(self.len());
        self.memories.iter_mut().for_each(|memory| memory.counts.grow(n_more));
        self.newcomers.grow(n_more);
    }

    /// Remaps item rows after an eviction; shares are among the remaining items from now on.
    pub fn keep(&mut self, items: &RowRemap) {
        self.memories.iter_mut().for_each(|memory| memory.keep(items));
        self.newcomers.keep(items);
        // Its sum was of other items.
        self.overruled.due = 0.0;
        self.touched = None;
        self.refresh();
    }

    /// Begins a batch, at the end of which there are `n_items` items: from now on [`DecayedCounts::rescaled`] is of this batch.
    pub fn begin_batch(&mut self, n_items: usize) {
        self.memories.iter_mut().for_each(|memory| memory.rescaled = None);
        self.grow(n_items);
    }

    /// Lets all counts decay, every half-life predict the event, and counts it. Where the event tells half-lives apart (its item
    /// came before, and its user comes to it for the first time), `evidence` is the number of items that it might have been.
    pub fn observe(&mut self, item: u32, timestamp: i64, evidence: Option<usize>) {
        let elapsed = self.newest.map_or(0, |newest| timestamp.saturating_sub(newest).max(0)) as f64;
        self.newest = Some(self.newest.map_or(timestamp, |newest| newest.max(timestamp)));
        self.memories.iter_mut().for_each(|memory| memory.decay(elapsed));
        if let Some(n_known) = evidence.filter(|_| self.evidence.len() > 1) {
            let prior = self.baseline().probability(item, n_known);
            let mixed = &self.memories[self.first..self.first + self.evidence.len()];
            let predict = |memory: &DecayedCounts| Prediction {
                log_likelihood: memory.log_likelihood(item, prior),
                is_hit: memory.lists(item),
            };
            let overruled = self.overruled.log_likelihood(mixed, item, prior);
            self.evidence.add(self.pace, mixed.iter().map(predict), overruled);
            if let Some(own) = &mut self.own_evidence {
                own.add(self.pace, mixed.iter().map(predict), overruled);
            }
        }
        self.memories.iter_mut().for_each(|memory| memory.add(item));
        self.newcomers.note(item, 0.0, &self.newcomer_scales);
        self.overruled.pass(self.pace);
        self.newcomers.pass(self.pace);
        self.touch(item);
    }

    /// Notes, for whoever follows, that `item` was counted.
    fn touch(&mut self, item: u32) {
        if let Some(touched) = &mut self.touched {
            touched.push(item);
            if touched.len() > self.memories[0].counts.len() / FEW {
                self.touched = None;
            }
        }
    }

    /// Sums up what the events that are observed here say of the half-lives also by itself, for [`Self::take_evidence`].
    pub fn share_evidence(&mut self) {
        self.own_evidence = Some(HalfLifeEvidence::new(self.evidence.len()));
    }

    /// What the events that were observed here since the last call say of the half-lives, as [`Self::absorb`] takes it.
    pub fn take_evidence(&mut self) -> Vec<f64> {
        let Some(own) = &mut self.own_evidence else { return Vec::new() };
        let fresh = HalfLifeEvidence::new(own.len());
        std::mem::replace(own, fresh).sums().to_vec()
    }

    /// Counts by the events of a group from now on, of which there are `pace` for each that is observed here.
    pub fn set_pace(&mut self, pace: f64) {
        self.pace = pace;
        self.memories.iter_mut().for_each(|memory| memory.set_pace(pace));
    }

    /// Lets all counts decay by so many events of the group that were not observed here.
    pub fn pass(&mut self, events: f64) {
        self.memories.iter_mut().for_each(|memory| memory.pass(events));
        self.newcomers.pass(events);
        self.overruled.pass(events);
    }

    /// Counts events that others have observed, each as of its own time, and adds their `evidence`: that of others with as many
    /// half-lives. The frame goes on; [`Self::refresh`] has to follow.
    pub fn absorb(&mut self, events: &[AbsorbedEvent], evidence: &[f64]) {
        let Some(latest) = events.iter().map(|event| event.timestamp).max() else { return };
        let newest = self.newest.map_or(latest, |newest| newest.max(latest));
        let elapsed = self.newest.map_or(0, |before| newest.saturating_sub(before)) as f64;
        self.memories.iter_mut().for_each(|memory| memory.pass_time(elapsed));
        self.newest = Some(newest);
        for AbsorbedEvent { item, timestamp, events_since } in events {
            let elapsed = newest.saturating_sub(*timestamp).max(0) as f64;
            self.memories.iter_mut().for_each(|memory| memory.add_late(*item, *events_since, elapsed));
            self.newcomers.note(*item, *events_since + 1.0, &self.newcomer_scales);
            self.touch(*item);
        }
        if evidence.len() == self.evidence.sums().len() {
            self.evidence.add_sums(evidence);
        }
    }

    /// Counts a batch of `items` that came all at one time, none of them a repeat.
    pub fn add(&mut self, items: &[u32]) {
        self.begin_batch(self.len());
        items
            .iter()
            .for_each(|item| self.observe(*item, 0, (self.popularity().count(*item) > 0.0).then_some(self.len())));
        self.refresh();
    }

    /// Whether the frame would be too long if it were `stretch` times as long: the weight of an event would have grown by a quarter
    /// in a memory that counts, or have doubled in one that may object.
    pub fn frame_is_full(&self, stretch: f64) -> bool {
        let mixed = self.first..self.first + self.evidence.len();
        let mut tilted = mixed.zip(&self.shares).filter(|(_, share)| **share > COUNTING_SHARE);
        tilted.any(|(place, _)| self.tilt(place).powf(stretch) > LARGEST_TILT)
            || self
                .objections
                .iter()
                .any(|objection| self.tilt(objection.memory).powf(stretch) > LARGEST_TILT_OF_OBJECTOR)
    }

    /// Whether the frame has to end, since the weights grow too large.
    pub fn frame_overflows(&self) -> bool {
        self.memories.iter().any(|memory| memory.weight > OVERFLOWING_WEIGHT)
    }

    fn tilt(&self, place: usize) -> f64 {
        self.memories[place].weight / self.frame[place].0
    }

    /// Begins a frame: shares, scales and objections become those of the counts as they are.
    pub fn refresh(&mut self) {
        self.memories.iter_mut().for_each(DecayedCounts::rescale);
        let is_auto = self.evidence.len() > 1;
        if is_auto {
            self.overruled.follow(&self.memories[self.first..], self.newcomers.clock());
        }
        self.is_overruled = self.evidence.shares(&mut self.shares) && is_auto;
        if self.is_overruled {
            self.shares.fill(0.0);
            self.shares[LONG] = 1.0;
        }
        self.factors.clear();
        let mixed = self.memories[self.first..].iter().zip(&self.shares);
        self.factors.extend(mixed.map(|(memory, share)| share * memory.inverse_total()));
        let mixed = &self.memories[self.first..self.first + self.evidence.len()];
        self.newcomer_scales.clear();
        self.newcomer_scales.extend(mixed.iter().map(|memory| NewcomerScale::new(memory.events())));
        let correction = |(place, (memory, share)): (usize, (&DecayedCounts, &f64))| {
            if !self.corrects_age {
                return AgeCorrection::NONE;
            }
            self.newcomers.correction(place, memory.events(), memory.total / memory.weight).weighted(*share)
        };
        self.corrections.clear();
        self.corrections.extend(mixed.iter().zip(&self.shares).enumerate().map(correction));
        self.frame_clock = self.newcomers.clock();
        self.floor = self.baseline().half_an_event();
        self.object();
        self.frame.clear();
        self.frame.extend(self.memories.iter().map(|memory| (memory.weight, memory.inverse_total())));
    }

    /// Finds who may object.
    fn object(&mut self) {
        self.objections.clear();
        if self.is_overruled {
            self.objections.extend(OVERRULING.into_iter().map(|place| {
                let memory = &self.memories[self.first + place];
                Objection {
                    memory: self.first + place,
                    factor: memory.inverse_total(),
                    contradiction: OverruledMemory::contradiction(memory),
                }
            }));
            return;
        }
        let half_life = self.half_life();
        let asked = self.memories.iter().take(self.first + self.evidence.len()).enumerate();
        let objects = |(place, memory): &(usize, &DecayedCounts)| {
            *place < self.first || matches!(memory.half_life, HalfLife::Events(events) if events < half_life)
        };
        let mut shorter: Vec<_> = asked.filter(objects).collect();
        shorter.sort_by(|(_, a), (_, b)| b.events().total_cmp(&a.events()));
        self.objections.extend(shorter.into_iter().take(OBJECTORS).map(|(place, memory)| Objection {
            memory: place,
            factor: memory.inverse_total(),
            contradiction: memory.contradiction(DEVIATIONS, LEAST_VARIANCE),
        }));
    }

    /// All counts: the memory beside a fixed half-life, if there is one, then the mixed ones, then that of popularity, if it is
    /// none of them.
    pub fn memories(&self) -> &[DecayedCounts] {
        &self.memories
    }

    /// The counts that are mixed, one for each half-life, ascending.
    pub fn mixed(&self) -> &[DecayedCounts] {
        &self.memories[self.first..self.first + self.evidence.len()]
    }

    /// What speaks for each half-life, as [`Self::restored`] takes it back.
    pub fn evidence(&self) -> &[f64] {
        self.evidence.sums()
    }

    /// When items came first, as [`Self::restored`] takes it back.
    pub fn newcomers(&self) -> &Newcomers {
        &self.newcomers
    }

    /// What is known of the overruled memory, as [`Self::restored`] takes it back.
    pub fn overruled(&self) -> [f64; 2] {
        [self.overruled.sum, self.overruled.due]
    }

    /// The weights s_h of the mixed half-lives.
    pub fn shares(&self) -> &[f64] {
        &self.shares
    }

    /// Time of the newest event, milliseconds since 1970 UTC; `None` before the first.
    pub fn newest(&self) -> Option<i64> {
        self.newest
    }

    /// exp Σ_h s_h·log h: the half-life that the stream has chosen, in events. One in time counts as so many events as came in
    /// it of late.
    pub fn half_life(&self) -> f64 {
        let logs = self.mixed().iter().zip(&self.shares).filter(|(_, share)| **share > 0.0);
        let half_life = logs.map(|(memory, share)| share * memory.events().ln()).sum::<f64>().exp();
        // Thousandths of an event are rounding.
        (half_life * 1e3).round() / 1e3
    }

    /// The counts that the popularity baseline and popularity ranks go by.
    pub fn popularity(&self) -> &DecayedCounts {
        &self.memories[self.popularity]
    }

    /// The counts of which every item is given half an event: those of the fixed half-life, or of the middle one.
    pub fn baseline(&self) -> &DecayedCounts {
        &self.memories[self.baseline]
    }

    /// The counts that tell what came in the newest `events` where q̂ cannot, since the stream has chosen a shorter half-life or short
    /// memories overrule: of the mixed half-lives, the one that is nearest to so many. `None` where q̂ can: a longer memory knows rare items better, and
    /// does not take for common what happens to be among those events.
    pub fn counts_over_span(&self, events: f64) -> Option<&DecayedCounts> {
        let distance = |memory: &DecayedCounts| (memory.events() / events.max(1.0)).ln().abs();
        // How many events a half-life in time stands for changes from hour to hour.
        let in_events = self.mixed().iter().filter(|memory| matches!(memory.half_life, HalfLife::Events(_)));
        let nearest = in_events.min_by(|a, b| distance(a).total_cmp(&distance(b)));
        nearest.filter(|memory| self.is_overruled || memory.events() > self.half_life())
    }

    /// The number of items, seen or not.
    pub fn len(&self) -> usize {
        self.memories[0].counts.len()
    }

    /// Whether there are no items.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Share of item `item` in the decayed events: q̂ without the half, and whatever shorter memories say; it sums to 1.
    pub fn share(&self, item: u32) -> f64 {
        let both = self.mixed().iter().zip(&self.factors);
        both.map(|(memory, factor)| memory.counts[item as usize] * factor).sum()
    }

    /// Half an event of the baseline, which every item is given besides its count.
    pub fn floor(&self) -> f64 {
        self.floor
    }

    /// The memories that may contradict the mixture, longest first.
    fn shorter(&self) -> impl Iterator<Item = (&DecayedCounts, (f64, Contradiction))> {
        self.objections
            .iter()
            .map(|objection| (&self.memories[objection.memory], (objection.factor, objection.contradiction)))
    }

    /// Asks memory for the counts of `item`, whose frequency will be asked for soon.
    pub fn ask_ahead(&self, item: u32) {
        for memory in self.mixed().iter().chain(self.shorter().map(|(memory, _)| memory)) {
            prefetch_one(&memory.counts[item as usize]);
        }
        prefetch_one(&self.newcomers.arrivals()[item as usize]);
    }

    /// q̂ of item `item`: how often it comes now, for its age.
    pub fn frequency(&self, item: u32) -> f64 {
        let age = self.frame_clock - self.newcomers.arrival(item);
        let share = self.share_for_age(item, age, |place| self.factors[place]);
        self.settled(item, share, |_, of_frame| of_frame) + self.floor()
    }

    /// How much of what came of late is item `item`: as q̂, but whatever its age. So often it is expected to be among events that
    /// were drawn from those.
    pub fn counted_frequency(&self, item: u32) -> f64 {
        self.settled(item, self.share(item), |_, of_frame| of_frame) + self.floor()
    }

    /// The share of item `item` in the mixture, for its age in events; `factor` is that of the counts of a mixed half-life.
    fn share_for_age(&self, item: u32, age: f64, factor: impl Fn(usize) -> f64) -> f64 {
        let of = |(place, correction): (usize, &AgeCorrection)| {
            let share = self.memories[self.first + place].counts[item as usize] * factor(place);
            if correction.rate == 0.0 { share } else { correction.correct(share, correction.missing(age)) }
        };
        // Half-lives that count for nothing cost nothing.
        let counting = self.corrections.iter().enumerate().filter(|(place, _)| self.shares[*place] > LEAST_SHARE);
        counting.map(of).sum()
    }

    /// The share of item `item` when the memories that may object were asked, where the mixture says `share`. The factor with which
    /// a memory's counts sum to 1 is that of `factor`, which is told the one of the frame.
    fn settled(&self, item: u32, share: f64, factor: impl Fn(&DecayedCounts, f64) -> f64) -> f64 {
        self.shorter().fold(share, |longer, (memory, (of_frame, contradiction))| {
            contradiction.settle(longer, memory.counts[item as usize] * factor(memory, of_frame))
        })
    }

    /// log q̂ of item `item`, which was touched within the frame, on the scale of the frame: q̂ by all counts as they are now, times
    /// the factor by which the totals have grown since the frame began, as those of items that were not touched stand as they did.
    pub fn log_frequency_of_touched(&self, item: u32) -> f32 {
        let mut growth = 0.0;
        for (place, weight) in (self.first..).zip(&self.shares).filter(|(_, weight)| **weight > 0.0) {
            growth += weight * self.frame[place].1 / self.memories[place].inverse_total();
        }
        let now = |place: usize| self.shares[place] * self.memories[self.first + place].inverse_total();
        let share = self.share_for_age(item, self.newcomers.clock() - self.newcomers.arrival(item), now);
        let settled = self.settled(item, share, |memory, _| memory.inverse_total());
        ((settled + self.baseline().half_an_event()) * growth).ln() as f32
    }

    /// log q̂ of item `item`.
    pub fn log_frequency(&self, item: u32) -> f32 {
        self.frequency(item).ln() as f32
    }

    /// `out[k] = factor · log q̂` of item `first + k`.
    pub fn log_frequencies(&self, kernel: Kernel, first: usize, factor: f32, out: &mut [f32]) {
        self.mixture().log_frequencies(kernel, first, factor, out);
    }

    /// What log q̂ is made of.
    pub fn mixture(&self) -> FrequencyMixture<'_> {
        // Half-lives that count for nothing cost nothing.
        let mixed = self.mixed().iter().zip(&self.factors).zip(self.corrections.iter().zip(&self.shares));
        let counting = mixed.filter(|(_, (_, share))| **share > LEAST_SHARE);
        let mixed = counting.map(|((memory, factor), (correction, _))| {
            (ScaledMemory { counts: &memory.counts, factor: *factor }, *correction)
        });
        let shorter = self
            .shorter()
            .map(|(memory, (factor, contradiction))| (ScaledMemory { counts: &memory.counts, factor }, contradiction));
        FrequencyMixture {
            mixed: mixed.collect(),
            shorter: shorter.collect(),
            arrivals: self.newcomers.arrivals(),
            clock: self.frame_clock,
            floor: self.floor(),
        }
    }

    /// The items that were counted since the last call, some of them more than once; `None` where these are many, or there was no such
    /// call, or items have other rows since. Of all others q̂ moved only as all of them do. From now on it is noted which are counted.
    pub fn take_touched(&mut self) -> Option<Vec<u32>> {
        self.touched.replace(Vec::new())
    }
}

#[cfg(test)]
mod tests;
