//! Weighted items, sorted into classes of like weight: a weight changes in O(1), and a draw takes O(1).
//!
//! A class spans a quarter of an octave, or, where ranks are wanted, an eighth. A draw picks a class by its number of items
//! times its upper bound, and in it an item, each alike; the item is taken with probability weight / upper bound, or else all is done again. So the items
//! are drawn exactly in proportion to their weights, whatever rounding befell the sum of these. (Rejection within classes
//! of like weight: Matias, Vitter & Ni 2003.) Classes in order also give every item a rank.
//!
//! Where an item lies in its class depends on the past, so this order is part of the state.

mod persist;

use std::collections::VecDeque;

use rand::RngExt;
use rand_pcg::Pcg64Mcg;

use crate::negatives::live::LiveItems;
use crate::state_dict::{StateDict, StateDictError};
use crate::table::row_remap::RowRemap;

/// log₂ of the number of classes per octave: so nine draws in ten are taken…
const COARSE: u32 = 2;
/// …so ranks are good…
const FINE: u32 = 3;
/// …and so one of many is kept cheaply.
const SMALL: u32 = 1;
/// The largest relative rounding error of a total before the weights are summed up again.
const ROUNDING: f64 = 1e-10;
/// Not among the items.
const ABSENT: u32 = u32::MAX;

/// The places of items in one or several [`Classes`]. An item is in one of them at most.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Places(Vec<(u16, u32)>);

impl Places {
    fn of(&self, item: u32) -> Option<(u16, usize)> {
        let (class, place) = *self.0.get(item as usize)?;
        (place != ABSENT).then_some((class, place as usize))
    }

    /// Whether `item` has a weight.
    pub fn contains(&self, item: u32) -> bool {
        self.of(item).is_some()
    }

    /// Remaps item rows after an eviction; [`Classes::keep`] must follow for each of the classes.
    pub fn keep(&mut self, items: &RowRemap) {
        items.keep(&mut self.0);
    }

    fn set(&mut self, item: u32, class: u16, place: u32) {
        if item as usize >= self.0.len() {
            self.0.resize(item as usize + 1, (0, ABSENT));
        }
        self.0[item as usize] = (class, place);
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct ClassMember {
    weight: f64,
    item: u32,
}

/// Items in classes of similar weight, from which items are drawn in proportion to their weights in O(1).
#[derive(Debug, Clone, PartialEq)]
pub struct Classes {
    /// log₂ of the number of classes per octave.
    parts: u32,
    /// Members of each class, lightest first, without a gap; neither the first nor the last is empty.
    classes: VecDeque<Vec<ClassMember>>,
    /// Key of the first class.
    first: u16,
    total: f64,
    /// The largest rounding error that `total` can have since the weights were last summed up.
    rounding: f64,
    len: usize,
    /// Running sums over `classes` of members × upper bound; see [`Self::settle`].
    mass: Vec<f64>,
    /// The first rank of each class.
    ranks: Vec<u32>,
    guide: Guide,
    /// Whether that is still to be done.
    unsettled: bool,
}

/// Finds the interval that a number lies in, in O(1) on average: a table says where to begin (Chen & Asau 1974).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Guide {
    /// By equal steps from 0 to the last end: the first interval that reaches into the step.
    first: Vec<u32>,
    steps_per_unit: f64,
}

impl Guide {
    /// For intervals that end at `ends`, ascending, the first of which begins at 0.
    pub fn build(&mut self, ends: &[f64]) {
        self.first.clear();
        let Some(last) = ends.last() else { return };
        let n_steps = ends.len() * 2;
        self.steps_per_unit = n_steps as f64 / last;
        let mut interval = 0;
        for step in 0..n_steps {
            let begin = step as f64 / self.steps_per_unit;
            while ends[interval] <= begin && interval + 1 < ends.len() {
                interval += 1;
            }
            self.first.push(interval as u32);
        }
    }

    /// The first interval whose end is above `point`, or the last.
    #[inline]
    pub fn find(&self, ends: &[f64], point: f64) -> usize {
        let step = ((point * self.steps_per_unit) as usize).min(self.first.len() - 1);
        let mut interval = self.first[step] as usize;
        // Rounding may have begun one too far.
        while interval > 0 && ends[interval - 1] > point {
            interval -= 1;
        }
        while interval + 1 < ends.len() && ends[interval] <= point {
            interval += 1;
        }
        interval
    }
}

impl Default for Classes {
    fn default() -> Self {
        Self::with_parts(COARSE)
    }
}

impl Classes {
    /// For ranks.
    pub fn fine() -> Self {
        Self::with_parts(FINE)
    }

    /// Classes for one of many clusters, each of which changes with every batch.
    pub fn small() -> Self {
        Self::with_parts(SMALL)
    }

    fn with_parts(parts: u32) -> Self {
        Self {
            parts,
            classes: VecDeque::new(),
            first: 0,
            total: 0.0,
            rounding: 0.0,
            len: 0,
            mass: Vec::new(),
            ranks: Vec::new(),
            guide: Guide::default(),
            unsettled: false,
        }
    }

    /// Upper bits of a positive number: exponent and first bits of the mantissa.
    fn key(&self, weight: f64) -> u16 {
        (weight.to_bits() >> (52 - self.parts)) as u16
    }

    /// Number of items.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no items.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Sum of all weights.
    pub fn total(&self) -> f64 {
        self.total
    }

    /// Weight of `item`; 0 where it is not there.
    pub fn weight(&self, places: &Places, item: u32) -> f64 {
        let Some((key, place)) = places.of(item) else { return 0.0 };
        self.members(key)[place].weight
    }

    fn members(&self, key: u16) -> &Vec<ClassMember> {
        &self.classes[usize::from(key - self.first)]
    }

    /// Upper bound of the weights in class `class`.
    fn upper(&self, class: usize) -> f64 {
        f64::from_bits((u64::from(self.first) + class as u64 + 1) << (52 - self.parts))
    }

    /// Gives `item` a weight (0, or too small for a normal number: takes it out). [`Self::settle`] before the next draw.
    pub fn set(&mut self, places: &mut Places, item: u32, weight: f64) {
        debug_assert!(weight >= 0.0 && weight.is_finite());
        let there = places.of(item);
        if let Some((old, place)) = there {
            let class = usize::from(old - self.first);
            if weight >= f64::MIN_POSITIVE && self.key(weight) == old {
                let member = &mut self.classes[class][place];
                let change = weight - member.weight;
                member.weight = weight;
                return self.change_total(change);
            }
            self.remove(places, class, place);
        }
        if weight >= f64::MIN_POSITIVE {
            self.insert(places, item, weight);
        }
    }

    /// Brings what [`Self::set`] will need of `items` near, all at once instead of one after the other: with many items
    /// each of them lies far away, in several places.
    pub fn approach(&self, places: &Places, items: impl Iterator<Item = u32> + Clone) {
        let class = |item: u32| {
            let (key, place) = places.of(item)?;
            Some((self.members(key), place))
        };
        let near: usize = items.clone().filter_map(|item| places.of(item)).map(|(_, place)| place).sum();
        let weights: f64 = items.clone().filter_map(class).map(|(members, place)| members[place].weight).sum();
        // The last member of a class moves to where another leaves.
        let last = items.filter_map(class).filter_map(|(members, _)| members.last());
        let moved: usize = last.filter_map(|member| places.of(member.item)).map(|(_, place)| place).sum();
        std::hint::black_box((near, weights, moved));
    }

    fn remove(&mut self, places: &mut Places, class: usize, place: usize) {
        self.unsettled = true;
        let members = &mut self.classes[class];
        let gone = members.swap_remove(place);
        if let Some(moved) = members.get(place) {
            places.0[moved.item as usize].1 = place as u32;
        }
        self.cut_empty_ends();
        places.0[gone.item as usize].1 = ABSENT;
        self.len -= 1;
        self.change_total(-gone.weight);
        if self.len == 0 {
            (self.first, self.total, self.rounding) = (0, 0.0, 0.0);
        }
    }

    fn insert(&mut self, places: &mut Places, item: u32, weight: f64) {
        let key = self.key(weight);
        self.unsettled = true;
        if self.classes.is_empty() {
            self.first = key;
        }
        for _ in key..self.first {
            self.classes.push_front(Vec::new());
        }
        self.first = self.first.min(key);
        let class = usize::from(key - self.first);
        self.classes.resize_with(self.classes.len().max(class + 1), Vec::new);
        let members = &mut self.classes[class];
        places.set(item, key, members.len() as u32);
        members.push(ClassMember { weight, item });
        self.len += 1;
        self.change_total(weight);
    }

    fn change_total(&mut self, change: f64) {
        let before = self.total;
        self.total += change;
        self.rounding += f64::EPSILON * before.max(self.total).max(change.abs());
    }

    /// Makes ready for draws and ranks.
    pub fn settle(&mut self) {
        // When far more weight went in and out than is left, which is seldom.
        if self.rounding > ROUNDING * self.total {
            self.total = self.iter().map(|(_, weight)| weight).sum();
            self.rounding = f64::EPSILON * self.total;
        }
        if !std::mem::take(&mut self.unsettled) {
            return;
        }
        self.mass.clear();
        self.ranks.clear();
        let (mut mass, mut above) = (0.0, self.len as u32);
        for (class, members) in self.classes.iter().enumerate() {
            mass += members.len() as f64 * self.upper(class);
            above -= members.len() as u32;
            self.mass.push(mass);
            if self.parts == FINE {
                self.ranks.push(above);
            }
        }
        if self.parts == COARSE {
            self.guide.build(&self.mass);
        }
    }

    /// Draws an item in proportion to its weight.
    ///
    /// # Panics
    /// If there are no items.
    #[inline]
    pub fn draw(&self, random: &mut Pcg64Mcg) -> u32 {
        let all = *self.mass.last().expect("something to draw from");
        loop {
            let point = random.random::<f64>() * all;
            let class = match self.parts {
                COARSE => self.guide.find(&self.mass, point),
                _ => self.mass.partition_point(|mass| *mass <= point).min(self.classes.len() - 1),
            };
            let before = if class == 0 { 0.0 } else { self.mass[class - 1] };
            let (upper, members) = (self.upper(class), &self.classes[class]);
            // Which member, and, what is left over, whether to take it.
            let place = (point - before) / upper;
            let Some(member) = members.get(place as usize) else { continue };
            if place.fract() * upper < member.weight {
                return member.item;
            }
        }
    }

    /// The first rank of each class, lightest class first; of [`Self::fine`] ones only. Within a class ranks are arbitrary.
    pub fn ranks(&self) -> &[u32] {
        &self.ranks
    }

    /// The item of rank `rank`, from 0, which is one of class `class`.
    pub fn at_rank(&self, class: usize, rank: u32) -> u32 {
        self.classes[class][(rank - self.ranks[class]) as usize].item
    }

    /// The rank of `item`, where it is there.
    pub fn rank(&self, places: &Places, item: u32) -> Option<u32> {
        let (key, place) = places.of(item)?;
        Some(self.ranks[usize::from(key - self.first)] + place as u32)
    }

    /// The items, lightest class first, with their weights.
    pub fn iter(&self) -> impl Iterator<Item = (u32, f64)> {
        self.classes.iter().flatten().map(|member| (member.item, member.weight))
    }

    /// Multiplies all weights by `factor`.
    pub fn scale(&mut self, places: &mut Places, factor: f64) {
        let members: Vec<_> = self.iter().collect();
        members.iter().for_each(|(item, _)| places.0[*item as usize].1 = ABSENT);
        *self = Self { unsettled: true, ..Self::with_parts(self.parts) };
        members.into_iter().for_each(|(item, weight)| self.set(places, item, weight * factor));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::SeedableRng;

    proptest! {
        #[test]
        fn classes_keep_weights_ranks_and_state(
            changes in proptest::collection::vec((0u32..40, prop_oneof![Just(0.0), 1e-12f64..1e12]), 1..300),
        ) {
            let (mut classes, mut places, mut truth) = (Classes::fine(), Places::default(), vec![0.0; 40]);
            for (item, weight) in changes {
                classes.set(&mut places, item, weight);
                truth[item as usize] = weight;
            }
            classes.settle();
            for (item, weight) in truth.iter().enumerate() {
                prop_assert_eq!(classes.weight(&places, item as u32), *weight);
                let rank = classes.rank(&places, item as u32);
                prop_assert_eq!(rank.is_some(), *weight > 0.0);
                if let Some(rank) = rank {
                    let class = classes.ranks().partition_point(|first| *first > rank);
                    prop_assert_eq!(classes.at_rank(class, rank), item as u32);
                    let clearly_above = truth.iter().filter(|other| **other > weight * 1.13).count();
                    let clearly_below = truth.iter().filter(|other| **other * 1.13 < *weight && **other > 0.0).count();
                    prop_assert!((clearly_above..classes.len() - clearly_below).contains(&(rank as usize)));
                }
            }
            prop_assert_eq!(classes.len(), truth.iter().filter(|weight| **weight > 0.0).count());
            let mut saved = StateDict::default();
            classes.save(&mut saved);
            let mut places_again = Places::default();
            let mut live = LiveItems::new(u64::MAX);
            live.observe(&(0..40).collect::<Vec<_>>());
            let again = Classes::fine().restored(&mut places_again, &live, &mut saved).unwrap();
            prop_assert_eq!(&again, &classes);
            if !classes.is_empty() {
                let (mut a, mut b) = (Pcg64Mcg::seed_from_u64(1), Pcg64Mcg::seed_from_u64(1));
                for _ in 0..50 {
                    let item = classes.draw(&mut a);
                    prop_assert!(truth[item as usize] > 0.0);
                    prop_assert_eq!(again.draw(&mut b), item);
                }
            }
        }
    }

    #[test]
    fn class_draws_are_proportional_to_weights() {
        let (mut classes, mut places) = (Classes::default(), Places::default());
        let weights = [1.0, 1.001, 1.999, 2.0, 3.7, 0.01, 100.0, 55.5];
        weights.iter().enumerate().for_each(|(item, weight)| classes.set(&mut places, item as u32, *weight));
        classes.settle();
        let mut random = Pcg64Mcg::seed_from_u64(5);
        let mut counts = [0.0; 8];
        (0..1_000_000).for_each(|_| counts[classes.draw(&mut random) as usize] += 1.0);
        let statistic: f64 = weights
            .iter()
            .zip(counts)
            .map(|(weight, count): (&f64, f64)| {
                let expected = weight / classes.total() * 1e6;
                (count - expected).powi(2) / expected
            })
            .sum();
        // 7 degrees of freedom: 30 is beyond a chance of 1e-4.
        assert!(statistic < 30.0, "chi-square {statistic}");
    }
}
