//! What a metric is: name, kind, labels and help, and how its samples are read from the figures that it shows.
//!
//! A room declares the metrics of its figures beside them, by implementing [`Instrumented`]; `telemetry::status` lists the
//! figures, and a scrape reads every sample from one snapshot of them. Nothing here holds a value, so a metric costs
//! nothing until somebody looks, and cannot disagree with the page or the log. Names follow Prometheus' rules: the
//! application's prefix, base units, `_total` for counters. An unknown value is NaN, not 0.

use serde::{Serialize, Serializer};

/// How the samples of a metric behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// A number that only grows.
    Counter,
    /// A number that goes up and down.
    Gauge,
    /// Observations, counted in buckets.
    Histogram,
}

impl MetricKind {
    /// The word of Prometheus' text format.
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A metric of figures of type `F`.
pub struct Metric<F: ?Sized> {
    name: &'static str,
    kind: MetricKind,
    labels: &'static [&'static str],
    help: &'static str,
    read: fn(&F, &mut Samples),
}

impl<F: ?Sized> Metric<F> {
    /// A counter without labels, whose samples `read` takes from the figures.
    pub const fn counter(name: &'static str, help: &'static str, read: fn(&F, &mut Samples)) -> Self {
        Self { name, kind: MetricKind::Counter, labels: &[], help, read }
    }

    /// A gauge without labels, whose samples `read` takes from the figures.
    pub const fn gauge(name: &'static str, help: &'static str, read: fn(&F, &mut Samples)) -> Self {
        Self { name, kind: MetricKind::Gauge, labels: &[], help, read }
    }

    /// A histogram without labels, which `read` takes from the figures.
    pub const fn histogram(name: &'static str, help: &'static str, read: fn(&F, &mut Samples)) -> Self {
        Self { name, kind: MetricKind::Histogram, labels: &[], help, read }
    }

    /// A histogram with labels. Their values must come from closed lists: each combination is a series that stays.
    pub const fn histogram_by(
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
        read: fn(&F, &mut Samples),
    ) -> Self {
        Self { name, kind: MetricKind::Histogram, labels, help, read }
    }

    /// A counter with labels. Their values must come from closed lists: each combination is a series that stays.
    pub const fn counter_by(
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
        read: fn(&F, &mut Samples),
    ) -> Self {
        Self { name, kind: MetricKind::Counter, labels, help, read }
    }

    /// A gauge with labels. Their values must come from closed lists: each combination is a series that stays.
    pub const fn gauge_by(
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
        read: fn(&F, &mut Samples),
    ) -> Self {
        Self { name, kind: MetricKind::Gauge, labels, help, read }
    }
}

/// Figures that are shown as metrics.
pub trait Instrumented: 'static {
    /// Every metric that shows these figures.
    const METRICS: &'static [Metric<Self>];

    /// The metrics, with their samples as the figures stand.
    fn families(&self) -> Vec<MetricFamily> {
        let family = |metric: &Metric<Self>| {
            let mut samples = Samples(Vec::new());
            (metric.read)(self, &mut samples);
            let Metric { name, kind, labels, help, read: _ } = *metric;
            MetricFamily { name, kind, labels, help, samples: samples.0 }
        };
        Self::METRICS.iter().map(family).collect()
    }
}

/// A metric with its samples: what a scrape shows.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricFamily {
    /// The full name.
    pub name: &'static str,
    /// How its samples behave.
    pub kind: MetricKind,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it tells, for people.
    pub help: &'static str,
    /// One sample for each combination of the labels' values.
    pub samples: Vec<Sample>,
}

/// A sample: the values of the labels, in the order of the labels' names, and what was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Values of the labels; may be data from outside, which whoever prints them has to escape.
    pub labels: Vec<String>,
    /// The measured value.
    pub value: SampleValue,
}

/// What was measured.
#[derive(Debug, Clone, PartialEq)]
pub enum SampleValue {
    /// A number, of a counter or a gauge; NaN where it is unknown.
    Number(f64),
    /// A distribution, of a histogram.
    Distribution(Histogram),
}

/// The samples of one metric, as they are read.
#[derive(Debug)]
pub struct Samples(Vec<Sample>);

impl Samples {
    /// Adds the only sample of a metric without labels.
    pub fn put(&mut self, value: impl Into<SampleValue>) {
        self.put_for([], value);
    }

    /// Adds the sample for these values of the labels.
    pub fn put_for<const N: usize>(&mut self, labels: [&str; N], value: impl Into<SampleValue>) {
        self.0.push(Sample { labels: labels.map(str::to_owned).to_vec(), value: value.into() });
    }
}

impl From<f64> for SampleValue {
    fn from(value: f64) -> Self {
        Self::Number(value)
    }
}

impl From<u64> for SampleValue {
    fn from(value: u64) -> Self {
        Self::Number(value as f64)
    }
}

impl From<usize> for SampleValue {
    fn from(value: usize) -> Self {
        Self::Number(value as f64)
    }
}

impl From<bool> for SampleValue {
    fn from(value: bool) -> Self {
        Self::Number(f64::from(u8::from(value)))
    }
}

impl<T: Into<SampleValue>> From<Option<T>> for SampleValue {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Number(f64::NAN), T::into)
    }
}

impl From<&Histogram> for SampleValue {
    fn from(histogram: &Histogram) -> Self {
        Self::Distribution(histogram.clone())
    }
}

/// Observations counted in buckets.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    bounds: &'static [f64],
    /// Observations by bucket; the last bucket has no upper bound.
    counts: Vec<u64>,
    sum: f64,
}

impl Histogram {
    /// An empty histogram; `bounds` are the inclusive upper bounds of its buckets, in ascending order.
    pub fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, counts: vec![0; bounds.len() + 1], sum: 0.0 }
    }

    /// Counts an observation.
    pub fn observe(&mut self, value: f64) {
        self.observe_many(value, 1);
    }

    /// Counts `n` observations of the same value.
    pub fn observe_many(&mut self, value: f64, n: u64) {
        self.counts[self.bounds.partition_point(|bound| *bound < value)] += n;
        self.sum += value * n as f64;
    }

    /// The value that the share `share` of the observations does not exceed, on a straight line between the bounds of its bucket,
    /// as Prometheus has it; the last finite bound where it lies beyond. `None` without an observation.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let count = self.count();
        let wanted = share * count as f64;
        let (mut below, mut low) = (0_u64, 0.0);
        for (bound, reached) in self.cumulative().filter(|_| count > 0) {
            if reached as f64 >= wanted && reached > below {
                let part = (wanted - below as f64) / (reached - below) as f64;
                return Some(if bound.is_finite() { low + (bound - low) * part.clamp(0.0, 1.0) } else { low });
            }
            (below, low) = (reached, if bound.is_finite() { bound } else { low });
        }
        None
    }

    /// What was observed since `earlier`, which is an earlier state of the same histogram.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let counts = self.counts.iter().zip(&earlier.counts).map(|(now, before)| now.saturating_sub(*before));
        Self { bounds: self.bounds, counts: counts.collect(), sum: self.sum - earlier.sum }
    }

    /// The number of observations.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The sum of the observations.
    pub fn sum(&self) -> f64 {
        self.sum
    }

    /// For each upper bound, how many observations do not exceed it; the last bound is infinite.
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        bounds.zip(self.counts.iter().scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        }))
    }
}

impl Serialize for Histogram {
    /// Writes the number of observations, their sum, and some quantiles.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct as _;
        let mut summary = serializer.serialize_struct("Histogram", 5)?;
        summary.serialize_field("count", &self.count())?;
        summary.serialize_field("sum", &self.sum)?;
        for (name, share) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99)] {
            summary.serialize_field(name, &self.quantile(share))?;
        }
        summary.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histogram_buckets_include_their_upper_bound() {
        let mut histogram = Histogram::new(&[0.5, 1.0]);
        for value in [0.1, 0.5, 0.7, 2.0] {
            histogram.observe(value);
        }
        let cumulative: Vec<_> = histogram.cumulative().collect();
        assert_eq!(cumulative, [(0.5, 2), (1.0, 3), (f64::INFINITY, 4)]);
        assert_eq!((histogram.count(), histogram.sum()), (4, 3.3));
        assert_eq!(
            (histogram.quantile(0.25), histogram.quantile(0.5), histogram.quantile(0.75)),
            (Some(0.25), Some(0.5), Some(1.0))
        );
        assert_eq!(histogram.quantile(0.99), Some(1.0), "no more is known than that it lies beyond");
        assert_eq!(Histogram::new(&[0.5]).quantile(0.5), None);
        histogram.observe_many(0.75, 2);
        assert_eq!((histogram.count(), histogram.sum()), (6, 4.8));
    }

    #[test]
    fn families_read_their_samples_from_the_figures() {
        struct Rows {
            items: u64,
            age: Option<f64>,
        }
        impl Instrumented for Rows {
            const METRICS: &'static [Metric<Self>] = &[
                Metric::gauge_by("rows", &["table"], "Rows.", |rows, samples| samples.put_for(["items"], rows.items)),
                Metric::gauge("age", "Age.", |rows, samples| samples.put(rows.age)),
            ];
        }
        let families = Rows { items: 3, age: None }.families();
        assert_eq!(families[0].labels, ["table"]);
        assert_eq!(families[0].samples, [Sample { labels: vec!["items".to_owned()], value: 3_u64.into() }]);
        assert!(matches!(families[1].samples[0].value, SampleValue::Number(age) if age.is_nan()));
    }
}
