//! Pairs of a log with planted interests, each judged before it is counted: how many are of one topic, raw and by
//! evidence.

use std::collections::HashMap;

use compact_str::CompactString;

use super::evidence::Evidence;
use crate::synth::{EventGenerator, SynthConfig};

/// A longer pause ends a session, in milliseconds.
const GAP: i64 = 30 * 60 * 1_000;
const BATCH: usize = 1_024;

/// A log's pairs, batch by batch: each event with the `window` items before it in its session.
struct Log {
    batches: Vec<Vec<(u32, u32)>>,
    /// By item.
    topics: Vec<CompactString>,
}

impl Log {
    fn new(config: SynthConfig, events: usize, window: usize) -> Self {
        let (mut rows, mut topics) = (HashMap::new(), Vec::new());
        let mut users: HashMap<CompactString, (i64, Vec<u32>)> = HashMap::new();
        let (mut batches, mut batch) = (Vec::new(), Vec::new());
        for (number, event) in (1..).zip(EventGenerator::new(config).take(events)) {
            let topic = event.item.split_once('-').expect("an item's name is topic-number").0;
            let next = topics.len() as u32;
            let row = *rows.entry(event.item.clone()).or_insert(next);
            if row == next {
                topics.push(topic.into());
            }
            let (last, session) = users.entry(event.user).or_default();
            if event.timestamp - *last > GAP {
                session.clear();
            }
            *last = event.timestamp;
            batch.extend(session.iter().rev().take(window).filter(|item| **item != row).map(|item| (*item, row)));
            session.push(row);
            if number % BATCH == 0 {
                batches.push(std::mem::take(&mut batch));
            }
        }
        Self { batches, topics }
    }

    fn alike(&self, a: u32, b: u32) -> bool {
        self.topics[a as usize] == self.topics[b as usize]
    }
}

/// Weighted pairs.
#[derive(Default)]
struct Pairs {
    weights: HashMap<(u32, u32), f64>,
    all: f64,
    alike: f64,
}

impl Pairs {
    fn add(&mut self, log: &Log, (a, b): (u32, u32), weight: f64) {
        self.all += weight;
        self.alike += if log.alike(a, b) { weight } else { 0.0 };
        if weight > 0.0 {
            *self.weights.entry((a, b)).or_default() += weight;
            *self.weights.entry((b, a)).or_default() += weight;
        }
    }

    /// Share of the weight that is of one topic.
    fn purity(&self) -> f64 {
        self.alike / self.all
    }

    /// The ten others with the most weight, of each item that has as many.
    fn neighbours(&self) -> HashMap<u32, Vec<u32>> {
        let mut of: HashMap<u32, Vec<(u32, f64)>> = HashMap::new();
        self.weights.iter().for_each(|((a, b), weight)| of.entry(*a).or_default().push((*b, *weight)));
        of.retain(|_, others| others.len() >= 10);
        let nearest = |(item, mut others): (u32, Vec<(u32, f64)>)| {
            // Ties by number: items are numbered as they arrive, whatever their topic.
            others.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            (item, others[..10].iter().map(|(other, _)| *other).collect())
        };
        of.into_iter().map(nearest).collect()
    }
}

/// Share of the neighbours that are of their item's topic, over the items of which both know ten.
fn purities(log: &Log, [one, other]: [&Pairs; 2]) -> ([f64; 2], usize) {
    let (one, other) = (one.neighbours(), other.neighbours());
    let items: Vec<_> = one.keys().filter(|item| other.contains_key(item)).copied().collect();
    let purity = |of: &HashMap<u32, Vec<u32>>| {
        let alike = |item: &u32| of[item].iter().filter(|other| log.alike(*item, **other)).count();
        items.iter().map(alike).sum::<usize>() as f64 / (10 * items.len()) as f64
    };
    ([purity(&one), purity(&other)], items.len())
}

/// The pairs of the second half, raw and by acceptance, of users who follow several interests at once.
fn judged(window: usize) -> (Log, Pairs, Pairs) {
    let log = Log::new(SynthConfig { interleave: 0.9, ..SynthConfig::default() }, 300_000, window);
    let mut evidence = Evidence::new(50_000.0 * window as f64, 1 << 18, 4);
    let (mut raw, mut accepted) = (Pairs::default(), Pairs::default());
    for (number, batch) in log.batches.iter().enumerate() {
        if number >= log.batches.len() / 2 {
            for pair in batch {
                raw.add(&log, *pair, 1.0);
                accepted.add(&log, *pair, evidence.acceptance(pair.0, pair.1).into());
            }
        }
        evidence.observe(batch, log.topics.len());
    }
    (log, raw, accepted)
}

#[test]
fn acceptance_favours_pairs_of_one_interest() {
    for window in [1, 5] {
        let (log, raw, accepted) = judged(window);
        let ([of_raw, of_accepted], items) = purities(&log, [&raw, &accepted]);
        eprintln!(
            "window {window}: pairs raw {:.3}, accepted {:.3} (mean acceptance {:.3}); ten neighbours by weight of {items} \
             items raw {of_raw:.3}, accepted {of_accepted:.3}",
            raw.purity(),
            accepted.purity(),
            accepted.all / raw.all
        );
        assert!((0.3..0.5).contains(&raw.purity()), "clearly impure: {}", raw.purity());
        assert!(accepted.purity() > 1.3 * raw.purity(), "{} {}", accepted.purity(), raw.purity());
        // Items that are met so often know their own topic from raw counts too; it must not get worse.
        assert!(of_accepted > of_raw && items > 100, "{of_accepted} {of_raw} {items}");
        assert!(accepted.all > 0.05 * raw.all, "{} of the pairs are left", accepted.all / raw.all);
    }
}
