//! How requests to the API fare.

use std::time::Duration;

use serde::Serialize;

use super::endpoint::Endpoint;
use crate::metric::{Histogram, Instrumented, Metric};
use crate::recommend::view::MeasuredSearch;

/// Upper bounds of the buckets for an answer: half a millisecond to seconds.
const ANSWER_BUCKETS: &[f64] = &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];
/// Upper bounds of the buckets for what a view costs training.
const PAUSE_BUCKETS: &[f64] = &[0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0];
/// Upper bounds of the buckets for the requests of a batch.
const BATCH_BUCKETS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];
/// Upper bounds of the buckets for making an index.
const BUILD_BUCKETS: &[f64] = &[0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// How far one measured list moves the averages.
const INDEX_STEP: f64 = 0.05;
/// The classes of answers.
const CLASSES: [&str; 3] = ["ok", "refused", "failed"];

/// How requests to the API fared since the process began.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ServingFigures {
    /// By endpoint: answers by class (done; refused, 4xx; failed, 5xx).
    answers: Vec<[u64; 3]>,
    /// By endpoint: times from the head of a request to its answer, in seconds.
    seconds: Vec<Histogram>,
    /// Requests answered in one pass over the items.
    batches: Histogram,
    /// Views made of the state.
    views: u64,
    /// Times that training stood still for a view, in seconds.
    view_pauses: Histogram,
    /// What the index finds of exact lists: an exponential moving average; without an index, lists are exact.
    index_recall: f64,
    /// How far it looks.
    index_reach: f64,
    /// At what share of the items it looks, likewise.
    index_share: f64,
    /// Times that one was made, in seconds.
    index_builds: Histogram,
}

impl Default for ServingFigures {
    fn default() -> Self {
        Self {
            answers: vec![[0; 3]; Endpoint::ALL.len()],
            seconds: vec![Histogram::new(ANSWER_BUCKETS); Endpoint::ALL.len()],
            batches: Histogram::new(BATCH_BUCKETS),
            views: 0,
            view_pauses: Histogram::new(PAUSE_BUCKETS),
            index_recall: 1.0,
            index_reach: 0.0,
            index_share: 0.0,
            index_builds: Histogram::new(BUILD_BUCKETS),
        }
    }
}

impl ServingFigures {
    /// Counts an answer.
    pub(super) fn answered(&mut self, endpoint: Endpoint, status: u16, took: Duration) {
        let class = match status {
            ..400 => 0,
            400..500 => 1,
            _ => 2,
        };
        self.answers[endpoint as usize][class] += 1;
        self.seconds[endpoint as usize].observe(took.as_secs_f64());
    }

    /// Counts a batch.
    pub(super) fn asked_together(&mut self, requests: usize) {
        self.batches.observe(requests as f64);
    }

    /// Counts a view.
    pub(super) fn saw_view(&mut self, pause: Duration) {
        self.views += 1;
        self.view_pauses.observe(pause.as_secs_f64());
    }

    /// Counts an index.
    pub(super) fn built_index(&mut self, took: Duration) {
        self.index_builds.observe(took.as_secs_f64());
    }

    /// Notes what an index with this `reach` found.
    pub(super) fn measured_index(&mut self, search: &MeasuredSearch, reach: f32, n_items: usize) {
        let recall = search.found as f64 / search.of.max(1) as f64;
        let share = search.n_looked_at as f64 / n_items.max(1) as f64;
        self.index_recall += INDEX_STEP * (recall - self.index_recall);
        self.index_share += INDEX_STEP * (share - self.index_share);
        self.index_reach = f64::from(reach);
    }
}

impl Instrumented for ServingFigures {
    const METRICS: &'static [Metric<Self>] = &[
        Metric::counter_by(
            "negstream_requests_total",
            &["endpoint", "answer"],
            "Requests to the API, by what became of them: ok, refused (4xx) or failed (5xx).",
            |figures, samples| {
                for endpoint in Endpoint::ALL {
                    for (class, name) in CLASSES.iter().enumerate() {
                        samples.put_for([endpoint.name(), name], figures.answers[endpoint as usize][class]);
                    }
                }
            },
        ),
        Metric::histogram_by(
            "negstream_request_seconds",
            &["endpoint"],
            "Time from the head of a request to the API to its answer.",
            |figures, samples| {
                for endpoint in Endpoint::ALL {
                    samples.put_for([endpoint.name()], &figures.seconds[endpoint as usize]);
                }
            },
        ),
        Metric::histogram(
            "negstream_request_batch_size",
            "Requests to the API that were answered together.",
            |figures, samples| samples.put(&figures.batches),
        ),
        Metric::histogram(
            "negstream_view_pause_seconds",
            "How long training stood still for a view of the state that requests are answered from.",
            |figures, samples| samples.put(&figures.view_pauses),
        ),
        Metric::gauge(
            "negstream_index_recall",
            "Share of the best 20 items that the index finds, measured on requests of late; 1 while there is none.",
            |figures, samples| samples.put(figures.index_recall),
        ),
        Metric::gauge(
            "negstream_index_reach",
            "How far beyond the middle of its cluster the index looks for an item, in deviations.",
            |figures, samples| samples.put(figures.index_reach),
        ),
        Metric::gauge(
            "negstream_index_items_looked_at",
            "Share of the items that the index looks at for a list.",
            |figures, samples| samples.put(figures.index_share),
        ),
        Metric::histogram(
            "negstream_index_build_seconds",
            "Time that it took to make the index over the items, beside whatever else went on.",
            |figures, samples| samples.put(&figures.index_builds),
        ),
    ];
}
