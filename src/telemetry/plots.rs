//! What is plotted: one list of plots, which the page and the report of a replay draw alike, and the values of their lines.
//!
//! A value has a key (`hit_rate`). Some are one of many, whose number is the configuration's business: the share of each
//! proposal of negatives (`share:bank`), the freshness of each sink (`sink:redis`). A plot names such lines by how their keys begin.

use std::collections::BTreeMap;

use serde::Serialize;

use super::status::Status;
use crate::metric::Histogram;

/// Most values that are kept; whatever comes after them is not plotted.
const MOST_KEYS: usize = 40;
/// The share of the events within whose time the shown age lies.
const MOST_EVENTS: f64 = 0.9;

/// How the numbers of a plot are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PlotUnit {
    /// A share, 0 to 1.
    Share,
    /// Natural units of information.
    Nats,
    /// A number of things.
    Count,
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
}

/// A line of a plot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PlotLine {
    /// The key of its values.
    pub key: &'static str,
    /// What it is called.
    pub name: &'static str,
}

/// A plot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Plot {
    /// What it shows.
    pub title: &'static str,
    /// What that means, in a sentence.
    pub about: &'static str,
    /// How its numbers are written.
    pub unit: PlotUnit,
    /// Its lines.
    pub lines: &'static [PlotLine],
    /// How the keys of its other lines begin; what follows is what they are called.
    pub others: Option<&'static str>,
}

const fn line(key: &'static str, name: &'static str) -> PlotLine {
    PlotLine { key, name }
}

/// Every plot, the most telling one first.
pub const PLOTS: [Plot; 9] = [
    Plot {
        title: "Hit rate",
        about: "How often the next item was among the best 20, each event ranked before it is learnt; recent popularity is what to beat.",
        unit: PlotUnit::Share,
        lines: &[line("hit_rate", "model"), line("popularity_hit_rate", "recent popularity")],
        others: None,
    },
    Plot {
        title: "Loss and information",
        about: "Loss of the newest step, and how much its queries tell of the next item, at least.",
        unit: PlotUnit::Nats,
        lines: &[line("loss", "loss"), line("mi_bound", "information bound")],
        others: None,
    },
    Plot {
        title: "Events a second",
        about: "Records read and trained on, a second.",
        unit: PlotUnit::Count,
        lines: &[line("events_per_second", "events a second")],
        others: None,
    },
    Plot {
        title: "Lag",
        about: "Records that are there and not trained on yet.",
        unit: PlotUnit::Count,
        lines: &[line("lag", "records behind")],
        others: None,
    },
    Plot {
        title: "Freshness",
        about: "Nine events in ten are there within this time after they were read: in the weights, in a checkpoint, visible in a sink.",
        unit: PlotUnit::Seconds,
        lines: &[
            line("read_to_weights", "weights"),
            line("event_to_weights", "weights, since it happened"),
            line("read_to_checkpoint", "checkpoint"),
        ],
        others: Some("sink:"),
    },
    Plot {
        title: "Where negatives come from",
        about: "The share of each proposal in the negatives of the newest batch.",
        unit: PlotUnit::Share,
        lines: &[],
        others: Some("share:"),
    },
    Plot {
        title: "False negatives",
        about: "The share of watched negatives that the same user chose soon after.",
        unit: PlotUnit::Share,
        lines: &[line("false_negatives", "of those watched")],
        others: None,
    },
    Plot {
        title: "Half-life of frequencies",
        about: "Events after which an event counts half in what is popular: as configured, or as the stream has chosen.",
        unit: PlotUnit::Count,
        lines: &[line("half_life", "events")],
        others: None,
    },
    Plot {
        title: "Memory",
        about: "Of the process, and of that the tables that grow with the stream.",
        unit: PlotUnit::Bytes,
        lines: &[line("resident", "process"), line("state", "tables")],
        others: None,
    },
];

/// Reads the values that are plotted; ages are those since it was last asked.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PlotSampler {
    earlier: BTreeMap<String, Histogram>,
}

impl PlotSampler {
    /// The values as the status stands; none where a value is not known.
    pub fn sample(&mut self, status: &Status) -> Vec<(String, f64)> {
        let Status { run, trainer, .. } = status;
        let mut values: Vec<(String, f64)> = Vec::new();
        let mut put = |key: &str, value: Option<f64>| {
            values.extend(value.filter(|value| value.is_finite()).map(|value| (key.to_owned(), value)));
        };
        put("hit_rate", trainer.evaluation.model_recent.map(|figures| figures.hit_rate));
        put("popularity_hit_rate", trainer.evaluation.popularity_recent.map(|figures| figures.hit_rate));
        put("loss", trainer.training.loss);
        put("mi_bound", trainer.training.mi_bound);
        put("events_per_second", Some(run.events_per_second));
        put("lag", (!run.lag.is_empty()).then(|| run.lag.iter().map(|lag| lag.events).sum::<u64>() as f64));
        let watched = trainer.false_negatives.iter();
        let (used, found) =
            watched.fold((0, 0), |sum, watched| (sum.0 + watched.count.used, sum.1 + watched.count.r#false));
        put("false_negatives", (used > 0).then(|| found as f64 / used as f64));
        put("half_life", trainer.training.half_life);
        put("resident", run.memory.resident.map(|bytes| bytes as f64));
        let tables = trainer.state_memory.items + trainer.state_memory.users + trainer.state_memory.names;
        put("state", (tables > 0).then_some(tables as f64));
        for proposal in &trainer.proposals {
            put(&format!("share:{}", proposal.name), Some(proposal.share));
        }
        let freshness = &run.freshness;
        for (key, histogram) in [
            ("read_to_weights", &freshness.read_to_weights),
            ("event_to_weights", &freshness.event_to_weights),
            ("read_to_checkpoint", &freshness.read_to_checkpoint),
        ] {
            put(key, self.newest(key, histogram));
        }
        for sink in &run.sinks {
            let key = format!("sink:{}", sink.sink);
            put(&key, self.newest(&key, &sink.read_to_visible));
        }
        values
    }

    /// The age within which most of what was observed since the last time lies.
    fn newest(&mut self, key: &str, histogram: &Histogram) -> Option<f64> {
        let earlier = self.earlier.get(key);
        if earlier.is_some_and(|earlier| earlier.count() == histogram.count()) {
            return None;
        }
        let newest = earlier.map_or_else(|| histogram.clone(), |earlier| histogram.since(earlier));
        if self.earlier.len() < MOST_KEYS {
            self.earlier.insert(key.to_owned(), histogram.clone());
        }
        newest.quantile(MOST_EVENTS)
    }
}

/// The keys of values, each with a place in every row.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct PlotKeys(Vec<String>);

impl PlotKeys {
    /// These keys, as far as there is room.
    pub fn of(keys: Vec<String>) -> Self {
        Self(keys.into_iter().take(MOST_KEYS).collect())
    }

    /// The values in the order of the keys, NaN where there is none. Keys that are new get a place, as long as there is room.
    pub fn row(&mut self, values: &[(String, f64)]) -> Vec<f32> {
        let mut row = vec![f32::NAN; self.0.len()];
        for (key, value) in values {
            let place = self.0.iter().position(|known| known == key).or_else(|| {
                (self.0.len() < MOST_KEYS).then(|| {
                    self.0.push(key.clone());
                    row.push(f32::NAN);
                    row.len() - 1
                })
            });
            place.into_iter().for_each(|place| row[place] = *value as f32);
        }
        row
    }

    /// The keys, in order.
    pub fn names(&self) -> &[String] {
        &self.0
    }
}

/// `value` to four digits, as JSON has it; nothing where it is not known.
pub fn four_digits(value: f32) -> Option<f32> {
    if value == 0.0 {
        return Some(0.0);
    }
    let power = 10_f64.powf(3.0 - f64::from(value.abs()).log10().floor());
    value.is_finite().then(|| ((f64::from(value) * power).round() / power) as f32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::negatives::proposals::Proposal;

    #[test]
    fn every_value_has_a_line_and_ages_are_those_since_the_last_time() {
        let mut status = Status::default();
        status.trainer.training.loss = Some(2.0);
        status.trainer.training.half_life = Some(1e4);
        status.trainer.proposals = vec![Proposal { name: "bank".to_owned(), share: 0.5, ..Proposal::default() }];
        status.run.freshness.read_to_weights.observe_many(100.0, 1_000);
        let mut sampler = PlotSampler::default();
        let first = sampler.sample(&status);
        status.run.freshness.read_to_weights.observe_many(0.2, 10);
        let second = sampler.sample(&status);
        let age = |values: &[(String, f64)]| {
            values.iter().find(|(key, _)| key == "read_to_weights").map(|(_, seconds)| *seconds)
        };
        assert!(age(&first).is_some_and(|seconds| seconds > 90.0), "{first:?}");
        assert!(age(&second).is_some_and(|seconds| seconds < 0.3), "{second:?}");
        assert_eq!(age(&sampler.sample(&status)), None, "nothing came");
        for (key, _) in second {
            let is_drawn = |plot: &Plot| {
                plot.lines.iter().any(|line| line.key == key)
                    || plot.others.is_some_and(|others| key.starts_with(others))
            };
            assert!(PLOTS.iter().any(is_drawn), "{key} is in no plot");
        }
    }

    #[test]
    fn rows_keep_their_places_and_are_bounded() {
        let mut keys = PlotKeys::default();
        let value = |key: &str, value: f64| (key.to_owned(), value);
        assert_eq!(keys.row(&[value("a", 1.0), value("b", 2.0)]), [1.0, 2.0]);
        let row = keys.row(&[value("c", 3.0), value("b", 4.0)]);
        assert!(row[0].is_nan() && row[1..] == [4.0, 3.0]);
        let many: Vec<_> = (0..1_000).map(|n| value(&n.to_string(), 1.0)).collect();
        assert_eq!(keys.row(&many).len(), MOST_KEYS);
        assert_eq!(keys.names().len(), MOST_KEYS);
    }

    #[test]
    fn numbers_are_short() {
        let text = |value: f32| serde_json::to_string(&four_digits(value)).unwrap();
        assert_eq!(
            [0.0, 0.123_456, 123_456.0, -2.5, f32::NAN].map(text),
            ["0.0", "0.1235", "123500.0", "-2.5", "null"]
        );
    }
}
