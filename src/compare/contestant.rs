//! Who is compared, and how they ranked.

use serde::{Deserialize, Serialize};

use crate::evaluate::rank_code::RankCode;

/// What a contestant is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ContestantKind {
    /// A model, as a configuration has it.
    Configuration,
    /// A ranking by counting.
    Peer,
}

/// A contestant and its ranks.
#[derive(Debug, Clone)]
pub struct Contestant {
    /// Its name, once only among all.
    pub name: String,
    /// What it is.
    pub kind: ContestantKind,
    /// What is special of it: the settings that differ from the first configuration's, or the setting that did best.
    pub setting: String,
    /// How many settings were tried on the very events that are reported; 1 where none was chosen.
    pub n_tried: usize,
    /// The rank of each judged event.
    pub ranks: Vec<RankCode>,
    /// Seconds that it took, trying included.
    pub seconds: f64,
    /// What training gave; `None` for a peer.
    pub training: Option<Training>,
}

/// What the training of a configuration gave.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Training {
    /// The report of its replay.
    pub report: serde_json::Value,
    /// The whole configuration; secrets are left out.
    pub configuration: serde_json::Value,
    /// A digest of what of it the model depends on, as checkpoints have it.
    pub configuration_digest: String,
    /// Mean loss of a step in nats, in equal stretches of the stream; `None` where nothing was learnt.
    pub loss: Vec<Option<f64>>,
    /// Mean lower bound on the mutual information of context and next item, likewise.
    pub mi_bound: Vec<Option<f64>>,
    /// Records read per second, ranking included.
    pub events_per_second: f64,
}

/// Means over equal stretches of a stream.
#[derive(Debug, Clone)]
pub struct StretchMeans {
    sums: Vec<(f64, u64)>,
    length: u64,
}

impl StretchMeans {
    /// So many stretches of a stream of `length` records.
    pub fn new(stretches: usize, length: u64) -> Self {
        Self { sums: vec![(0.0, 0); stretches], length: length.max(1) }
    }

    /// Adds a value of record number `place`.
    pub fn add(&mut self, place: u64, value: f64) {
        let last = self.sums.len() - 1;
        let stretch = (place as f64 / self.length as f64 * self.sums.len() as f64) as usize;
        let (sum, n) = &mut self.sums[stretch.min(last)];
        *sum += value;
        *n += 1;
    }

    /// The mean of each stretch; `None` where it had no value.
    pub fn means(&self) -> Vec<Option<f64>> {
        self.sums.iter().map(|(sum, n)| (*n > 0).then(|| sum / *n as f64)).collect()
    }
}
