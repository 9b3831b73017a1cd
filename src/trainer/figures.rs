//! The trainer's figures for whoever watches it: plain results, read a few times a second.

use serde::Serialize;

use super::Trainer;
use crate::metric::{Instrumented, Metric};

/// How training stands: steps, loss, the learned scalars, and the numbers of rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct TrainingFigures {
    /// Steps taken since the very first start.
    pub steps: u64,
    /// Loss of the newest step, in nats; `None` before the first.
    pub loss: Option<f64>,
    /// Lower bound on the mutual information of context and next item, in nats, where an objective tells it.
    pub mi_bound: Option<f64>,
    /// β, the share of popularity that is preference.
    pub beta: Option<f64>,
    /// τ, the temperature that similarities are divided by.
    pub temperature: Option<f64>,
    /// Items that have a row.
    pub items: u64,
    /// Users that have a row.
    pub users: u64,
    /// Items that can be drawn as noise.
    pub live_items: u64,
    /// Half-life of the items' frequencies, in events: as configured, or as the stream has chosen.
    pub half_life: Option<f64>,
}

impl Trainer {
    /// How training stands.
    pub fn figures(&self) -> TrainingFigures {
        let state = &self.state;
        let is_trained = state.progress.last_loss != (0.0, 0.0);
        TrainingFigures {
            steps: state.progress.steps,
            loss: is_trained.then_some(state.progress.last_loss.0),
            mi_bound: state.progress.last_parts.iter().find(|part| part.of_next_item).and_then(|part| part.bound),
            beta: Some(state.model.beta().into()),
            temperature: Some(state.model.inverse_temperature().recip().into()),
            items: state.items.ids.len() as u64,
            users: state.users.ids.len() as u64,
            live_items: state.negatives.live.items().len() as u64,
            half_life: Some(state.negatives.frequencies.half_life()),
        }
    }
}

impl Instrumented for TrainingFigures {
    const METRICS: &'static [Metric<Self>] = &[
        Metric::counter("negstream_steps_total", "Training steps.", |figures, samples| samples.put(figures.steps)),
        Metric::gauge(
            "negstream_loss_nats",
            "Loss of the newest step; NaN before the first, and where the model has diverged.",
            |figures, samples| samples.put(figures.loss),
        ),
        Metric::gauge(
            "negstream_mi_bound_nats",
            "Lower bound on the mutual information of query and item.",
            |figures, samples| samples.put(figures.mi_bound),
        ),
        Metric::gauge(
            "negstream_popularity_share",
            "Beta, the share of popularity that is preference.",
            |figures, samples| samples.put(figures.beta),
        ),
        Metric::gauge("negstream_temperature", "Temperature that similarities are divided by.", |figures, samples| {
            samples.put(figures.temperature)
        }),
        Metric::gauge("negstream_items", "Items that have a row.", |figures, samples| samples.put(figures.items)),
        Metric::gauge("negstream_users", "Users that have a row.", |figures, samples| samples.put(figures.users)),
        Metric::gauge("negstream_live_items", "Items that can be drawn as noise.", |figures, samples| {
            samples.put(figures.live_items);
        }),
        Metric::gauge(
            "negstream_frequency_half_life_events",
            "Half-life of the items' frequencies: as configured, or as the stream has chosen.",
            |figures, samples| samples.put(figures.half_life),
        ),
    ];
}
