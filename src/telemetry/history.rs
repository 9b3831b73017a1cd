//! The history behind the charts of the page: a bounded number of points, evenly spread over the whole run.

use serde::{Serialize, Serializer};

/// The largest number of points that are kept.
const CAPACITY: usize = 500;

/// A point of the charts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct HistoryPoint {
    /// Records read by then.
    pub events: u64,
    /// The model's HR@20 over the newest events.
    pub hit_rate: Option<f64>,
    /// The HR@20 of decayed popularity over the same events.
    pub popularity_hit_rate: Option<f64>,
    /// The loss of the newest step, in nats.
    pub loss: Option<f64>,
    /// Records read per second.
    pub events_per_second: f64,
}

/// A bounded number of points, evenly spread over everything that was offered. Once it is full, every other point is
/// dropped, and only every other offer is accepted from then on.
#[derive(Debug, Clone, PartialEq)]
pub struct History {
    points: Vec<HistoryPoint>,
    stride: u64,
    offered: u64,
}

impl Default for History {
    fn default() -> Self {
        Self { points: Vec::new(), stride: 1, offered: 0 }
    }
}

impl History {
    /// Offers a point.
    pub fn offer(&mut self, point: HistoryPoint) {
        if self.offered.is_multiple_of(self.stride) {
            self.points.push(point);
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

    /// The points, oldest first.
    pub fn points(&self) -> &[HistoryPoint] {
        &self.points
    }
}

impl Serialize for History {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.points.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_is_bounded_even_and_in_order() {
        let mut history = History::default();
        for events in 0..10_000 {
            history.offer(HistoryPoint { events, ..HistoryPoint::default() });
        }
        let points = history.points();
        assert!((CAPACITY / 2..=CAPACITY).contains(&points.len()), "{} points", points.len());
        let step = points[1].events - points[0].events;
        assert!(points.windows(2).all(|pair| pair[1].events - pair[0].events == step));
        assert!(points[points.len() - 1].events + step >= 10_000);
    }
}
