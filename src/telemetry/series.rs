//! The series behind the plots of the page: the last day by the clock, in bounded memory, the newer the finer.
//!
//! | tier | a point for | points | reach |
//! | --- | --- | --- | --- |
//! | 0 | a second | 600 | ten minutes |
//! | 1 | ten seconds | 480 | eighty minutes |
//! | 2 | two minutes | 720 | a day |
//!
//! A point is the mean of the seconds that it stands for. The clock reaches these alone, never the model; a live worker keeps
//! them beside its checkpoints ([`FILE`]), so that the page goes on where it was after a restart.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::plots::{PLOTS, Plot, PlotKeys, PlotSampler, four_digits};
use super::status::Status;

/// The name of the file that holds them in a checkpoint.
pub const FILE: &str = "page.json";
/// No such file is longer, in bytes.
pub const LONGEST_FILE: u64 = 4 << 20;
/// The tiers: seconds of a point, and how many points there are.
const TIERS: [(u64, usize); 3] = [(1, 600), (10, 480), (120, 720)];
/// The version of the file.
const FORMAT: u32 = 1;

/// The mean of some seconds.
#[derive(Debug, Clone, PartialEq)]
struct SeriesPoint {
    /// The second that it begins at, since 1970.
    at: u64,
    values: Vec<f32>,
}

/// The points of one resolution.
#[derive(Debug, Clone, PartialEq)]
struct Tier {
    seconds: u64,
    capacity: usize,
    /// Oldest first.
    points: VecDeque<SeriesPoint>,
    /// Points that were ever added.
    added: u64,
    /// The second at which the open point begins; sums of its values, and how many there are.
    open: Option<(u64, Vec<(f64, u32)>)>,
}

/// The series.
#[derive(Debug, Clone)]
pub struct Series {
    keys: PlotKeys,
    tiers: [Tier; TIERS.len()],
    sampler: PlotSampler,
}

/// Points that were added since somebody last looked.
#[derive(Debug, Serialize)]
pub struct SeriesUpdate {
    /// How many values there are; where there are more than before, their keys have to be asked for.
    keys: usize,
    /// Tier, second, values.
    points: Vec<(usize, u64, Vec<Option<f32>>)>,
}

/// Everything, for who has nothing yet.
#[derive(Debug, Serialize)]
pub struct WholeSeries {
    plots: &'static [Plot],
    #[serde(flatten)]
    file: SeriesFile,
}

/// What is kept in a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct SeriesFile {
    format: u32,
    keys: Vec<String>,
    tiers: Vec<TierFile>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct TierFile {
    seconds: u64,
    /// Second, values.
    points: Vec<(u64, Vec<Option<f32>>)>,
}

impl Default for Series {
    fn default() -> Self {
        let tier = |(seconds, capacity)| Tier { seconds, capacity, points: VecDeque::new(), added: 0, open: None };
        Self { keys: PlotKeys::default(), tiers: TIERS.map(tier), sampler: PlotSampler::default() }
    }
}

impl Tier {
    /// Counts the values of second `now`.
    fn offer(&mut self, now: u64, row: &[f32]) {
        let begin = now - now % self.seconds;
        match &self.open {
            // A clock that goes back adds to the point that is open.
            Some((open, _)) if begin > *open => self.close(),
            _ => {}
        }
        let (_, sums) = self.open.get_or_insert_with(|| (begin, Vec::new()));
        sums.resize(row.len().max(sums.len()), (0.0, 0));
        for ((sum, n), value) in sums.iter_mut().zip(row).filter(|(_, value)| value.is_finite()) {
            (*sum, *n) = (*sum + f64::from(*value), *n + 1);
        }
    }

    fn close(&mut self) {
        let Some((at, sums)) = self.open.take() else { return };
        let mean = |(sum, n): (f64, u32)| if n > 0 { (sum / f64::from(n)) as f32 } else { f32::NAN };
        self.push(SeriesPoint { at, values: sums.into_iter().map(mean).collect() });
    }

    fn push(&mut self, point: SeriesPoint) {
        if self.points.len() == self.capacity {
            self.points.pop_front();
        }
        self.points.push_back(point);
        self.added += 1;
    }
}

impl SeriesPoint {
    fn shown(&self) -> (u64, Vec<Option<f32>>) {
        (self.at, self.values.iter().map(|value| four_digits(*value)).collect())
    }
}

impl Series {
    /// Counts the status as it is at second `now` since 1970.
    pub fn sample(&mut self, now: u64, status: &Status) {
        let row = self.keys.row(&self.sampler.sample(status));
        self.tiers.iter_mut().for_each(|tier| tier.offer(now, &row));
    }

    /// How many points each tier ever had: where [`Self::since`] goes on.
    pub fn counts(&self) -> [u64; TIERS.len()] {
        std::array::from_fn(|tier| self.tiers[tier].added)
    }

    /// What came since there were `counts` points, and how many there are now.
    pub fn since(&self, counts: [u64; TIERS.len()]) -> (SeriesUpdate, [u64; TIERS.len()]) {
        let mut points = Vec::new();
        for (number, (tier, seen)) in self.tiers.iter().zip(counts).enumerate() {
            let new = tier.added.saturating_sub(seen).min(tier.points.len() as u64) as usize;
            for point in tier.points.iter().skip(tier.points.len() - new) {
                let (at, values) = point.shown();
                points.push((number, at, values));
            }
        }
        (SeriesUpdate { keys: self.keys.names().len(), points }, self.counts())
    }

    /// All of it, with the plots that are drawn of it.
    pub fn whole(&self) -> WholeSeries {
        WholeSeries { plots: &PLOTS, file: self.file() }
    }

    fn file(&self) -> SeriesFile {
        let tier = |tier: &Tier| TierFile {
            seconds: tier.seconds,
            points: tier.points.iter().map(SeriesPoint::shown).collect(),
        };
        SeriesFile { format: FORMAT, keys: self.keys.names().to_vec(), tiers: self.tiers.iter().map(tier).collect() }
    }

    /// What [`Self::restore`] reads.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(&self.file()).unwrap_or_default()
    }

    /// Puts the points of a file before those of this process. Whatever is not as it is written here is left out: the page begins
    /// anew then.
    pub fn restore(&mut self, bytes: &[u8]) {
        let Ok(file) = serde_json::from_slice::<SeriesFile>(bytes) else { return };
        let is_ours = file.format == FORMAT
            && file.tiers.len() == TIERS.len()
            && file.tiers.iter().zip(TIERS).all(|(tier, (seconds, _))| tier.seconds == seconds);
        if !is_ours {
            return;
        }
        let mut restored = Self { sampler: std::mem::take(&mut self.sampler), ..Self::default() };
        restored.keys = PlotKeys::of(file.keys);
        let n_keys = restored.keys.names().len();
        for (tier, TierFile { points, .. }) in restored.tiers.iter_mut().zip(file.tiers) {
            let mut newest = 0;
            for (at, values) in points {
                if at > newest {
                    newest = at;
                    let values = values.into_iter().take(n_keys).map(|value| value.unwrap_or(f32::NAN)).collect();
                    tier.push(SeriesPoint { at, values });
                }
            }
        }
        *self = restored;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(loss: f64) -> Status {
        let mut status = Status::default();
        status.trainer.training.loss = Some(loss);
        status
    }

    /// The values of a key in a tier.
    fn values(series: &Series, tier: usize, key: &str) -> Vec<f32> {
        let place = series.keys.names().iter().position(|known| known == key).expect("a known key");
        series.tiers[tier].points.iter().map(|point| point.values.get(place).copied().unwrap_or(f32::NAN)).collect()
    }

    #[test]
    fn a_day_takes_bounded_memory_and_coarse_points_are_means() {
        let mut series = Series::default();
        for second in 0..200_000_u64 {
            series.sample(second, &status((second % 10) as f64));
        }
        for (tier, (seconds, capacity)) in series.tiers.iter().zip(TIERS) {
            assert_eq!(tier.points.len(), capacity);
            assert!(tier.points.iter().zip(tier.points.iter().skip(1)).all(|(a, b)| b.at - a.at == seconds));
        }
        assert!(values(&series, 1, "loss").iter().all(|loss| *loss == 4.5));
        assert_eq!(values(&series, 0, "loss")[..3], [9.0, 0.0, 1.0]);
        assert!((series.to_bytes().len() as u64) < LONGEST_FILE);
    }

    #[test]
    fn updates_bring_what_is_new_once_and_a_clock_may_go_back() {
        let mut series = Series::default();
        for second in [100, 101, 102, 50, 103] {
            series.sample(second, &status(1.0));
        }
        let (update, counts) = series.since([0; 3]);
        let seconds: Vec<u64> = update.points.iter().filter(|point| point.0 == 0).map(|point| point.1).collect();
        assert_eq!(seconds, [100, 101, 102]);
        assert!(series.since(counts).0.points.is_empty());
        series.sample(104, &status(1.0));
        assert_eq!(series.since(counts).0.points.len(), 1);
    }

    #[test]
    fn restored_series_go_on_with_a_gap_and_garbage_begins_anew() {
        let mut series = Series::default();
        (1_000..1_100).for_each(|second| series.sample(second, &status(3.0)));
        let bytes = series.to_bytes();
        let mut next = Series::default();
        next.restore(&bytes);
        assert_eq!(next.to_bytes(), bytes);
        (5_000..5_003).for_each(|second| next.sample(second, &status(2.0)));
        let losses = values(&next, 0, "loss");
        assert_eq!((losses.len(), losses[0], losses[losses.len() - 1]), (101, 3.0, 2.0));
        for garbage in ["", "{}", "[1]", r#"{"format":9,"keys":[],"tiers":[]}"#] {
            let mut fresh = Series::default();
            fresh.restore(garbage.as_bytes());
            assert_eq!(fresh.counts(), [0; 3], "{garbage}");
        }
        let forged = format!(
            r#"{{"format":1,"keys":[{}],"tiers":[{{"seconds":1,"points":[{}]}},{{"seconds":10,"points":[[5,[1e39]],[4,[]]]}},{{"seconds":120,"points":[]}}]}}"#,
            vec!["\"<b>\""; 5_000].join(","),
            (1..9_000).map(|at| format!("[{at},[null,1]]")).collect::<Vec<_>>().join(",")
        );
        let mut fresh = Series::default();
        fresh.restore(forged.as_bytes());
        assert!(fresh.tiers[0].points.len() <= 600 && fresh.keys.names().len() <= 40);
        fresh.sample(10, &status(1.0));
        assert!(!fresh.to_bytes().is_empty());
    }
}
