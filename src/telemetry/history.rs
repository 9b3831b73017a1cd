//! The history of a run by events: a bounded number of points, evenly spread over everything that it read. A report draws it.

use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};

use super::plots::{PlotKeys, PlotSampler, four_digits};
use super::status::Status;

/// The largest number of points that are kept.
const CAPACITY: usize = 500;

/// A bounded number of points, evenly spread over everything that was offered. Once it is full, every other point is
/// dropped, and only every other offer is accepted from then on.
#[derive(Debug, Clone, PartialEq)]
pub struct History {
    keys: PlotKeys,
    /// Records read by then, and the values in the order of the keys.
    points: Vec<(u64, Vec<f32>)>,
    stride: u64,
    offered: u64,
    sampler: PlotSampler,
}

impl Default for History {
    fn default() -> Self {
        let (keys, sampler) = (PlotKeys::default(), PlotSampler::default());
        Self { keys, points: Vec::new(), stride: 1, offered: 0, sampler }
    }
}

impl History {
    /// Offers a point: the status when so many `events` were read.
    pub fn offer(&mut self, events: u64, status: &Status) {
        if self.offered.is_multiple_of(self.stride) {
            let row = self.keys.row(&self.sampler.sample(status));
            self.points.push((events, row));
        }
        self.offered += 1;
        if self.points.len() > CAPACITY {
            let mut index = 0;
            self.points.retain(|_| {
                index += 1;
                index % 2 == 1
            });
            self.stride *= 2;
        }
    }

    /// The records that had been read at each point, oldest first.
    pub fn events(&self) -> impl Iterator<Item = u64> + '_ {
        self.points.iter().map(|(events, _)| *events)
    }

    /// The keys of the values.
    pub fn keys(&self) -> &[String] {
        self.keys.names()
    }

    /// The values of a key, a point each; `None` where there is none.
    pub fn values(&self, key: &str) -> Vec<Option<f64>> {
        let place = self.keys.names().iter().position(|known| known == key);
        let value = |row: &[f32]| {
            let value = row.get(place?).copied()?;
            value.is_finite().then_some(f64::from(value))
        };
        self.points.iter().map(|(_, row)| value(row)).collect()
    }
}

/// One point, as JSON has it: the records, and each value by its key.
struct HistoryPoint<'a>(&'a [String], &'a (u64, Vec<f32>));

impl Serialize for HistoryPoint<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(keys, (events, row)) = self;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("events", events)?;
        for (key, value) in keys.iter().zip(row) {
            map.serialize_entry(key, &four_digits(*value))?;
        }
        map.end()
    }
}

impl Serialize for History {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.points.iter().map(|point| HistoryPoint(self.keys.names(), point)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_is_bounded_even_and_in_order() {
        let (mut history, mut status) = (History::default(), Status::default());
        for events in 0..10_000 {
            status.trainer.training.loss = Some(events as f64);
            history.offer(events, &status);
        }
        let events: Vec<u64> = history.events().collect();
        assert!((CAPACITY / 2..=CAPACITY).contains(&events.len()), "{} points", events.len());
        let step = events[1] - events[0];
        assert!(events.windows(2).all(|pair| pair[1] - pair[0] == step));
        assert!(events[events.len() - 1] + step >= 10_000);
        assert_eq!(history.values("loss")[1], Some(step as f64));
        assert!(history.values("unknown").iter().all(Option::is_none));
        let json = serde_json::to_value(&history).expect("plain data");
        assert_eq!((&json[1]["events"], &json[1]["loss"]), (&step.into(), &(step as f64).into()));
    }
}
