//! Copies what changed for the sinks, a few times a second, and brings them up to the final table at an end.
//!
//! Publishing reads the state between two steps and changes nothing of it that training, or a checkpoint, depends on. What sinks hold
//! may be ahead of the newest durable checkpoint: a worker that comes back publishes its whole table under a new epoch first, so
//! that nothing stays of what it had to take back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::outlet::{ChangeSet, SinkOutlet, Wants};
use crate::publish::{EmbeddingSink, SinkOptions, UpdateKind};
use crate::signals::Stop;
use crate::trainer::changes::EmbeddingChanges;
use crate::trainer::state::State;

/// How often sinks are given what changed.
const FEED_EVERY: Duration = Duration::from_millis(250);

/// The sinks of a pipeline.
#[derive(Debug, Default)]
pub(super) struct Publisher {
    outlets: Vec<SinkOutlet>,
    /// For each sink, when its log-frequencies were copied last, and the steps and events of that.
    popularity_at: Vec<Option<(Instant, (u64, u64))>>,
    fed_at: Option<Instant>,
    /// Steps taken when the changes were copied last.
    fed_step: Option<u64>,
}

impl Publisher {
    /// Starts a thread for each of `sinks`, whose embeddings are those of `model_id`.
    pub(super) fn start(sinks: Vec<(Box<dyn EmbeddingSink>, SinkOptions)>, model_id: &str) -> std::io::Result<Self> {
        let start = |(sink, options)| SinkOutlet::start(sink, options, model_id.to_owned());
        let outlets = sinks.into_iter().map(start).collect::<std::io::Result<Vec<_>>>()?;
        let popularity_at = vec![None; outlets.len()];
        Ok(Self { outlets, popularity_at, fed_at: None, fed_step: None })
    }

    /// Gives the sinks what changed, where it is time.
    pub(super) fn feed_if_due(&mut self, state: &mut State, stop: &Stop) {
        if !self.outlets.is_empty() && self.fed_at.is_none_or(|fed_at| fed_at.elapsed() >= FEED_EVERY) {
            self.feed(state, stop, false);
        }
    }

    /// Gives the sinks what changed; at the end, the log-frequencies of all items too.
    fn feed(&mut self, state: &mut State, stop: &Stop, is_end: bool) {
        let (now, step, at) = (Instant::now(), state.progress.steps, moment(state));
        self.fed_at = Some(now);
        let has_moved = self.fed_step != Some(step);
        let changes = if has_moved { state.drain_changes().unwrap_or_default() } else { EmbeddingChanges::default() };
        self.fed_step = Some(step);
        // Copied once, however many sinks there are.
        let (mut full, mut deltas) = (None, [None, None]);
        for (outlet, popularity_at) in self.outlets.iter().zip(&mut self.popularity_at) {
            let set = match outlet.wants() {
                Wants::Nothing => continue,
                Wants::Everything => {
                    *popularity_at = Some((now, at));
                    full.get_or_insert_with(|| Arc::new(everything(state)))
                }
                Wants::Changes if !has_moved => continue,
                Wants::Changes => {
                    let every = Duration::from_secs(outlet.options.popularity_every_seconds);
                    let with_popularity =
                        is_end || popularity_at.is_none_or(|(at, _)| now.saturating_duration_since(at) >= every);
                    if with_popularity {
                        *popularity_at = Some((now, at));
                    }
                    deltas[usize::from(with_popularity)]
                        .get_or_insert_with(|| Arc::new(what_changed(state, &changes, with_popularity)))
                }
            };
            outlet.offer(Arc::clone(set), stop);
        }
    }

    /// Brings the sinks up to `state`, and waits until they hold it, each for its patience at most.
    pub(super) fn finish(&mut self, state: &mut State) {
        if self.outlets.is_empty() {
            return;
        }
        let (begin, now, never) = (Instant::now(), moment(state), Stop::new());
        self.outlets.iter().for_each(SinkOutlet::hasten);
        self.feed(state, &never, true);
        for (outlet, popularity_at) in self.outlets.iter().zip(&self.popularity_at) {
            if popularity_at.is_none_or(|(_, at)| at != now) {
                // All embeddings of the newest step are there, without the frequencies; an update of one version comes once.
                outlet.want_everything();
            }
        }
        let mut is_waited_for = vec![true; self.outlets.len()];
        while is_waited_for.contains(&true) {
            self.feed(state, &never, true);
            for (outlet, is_waited_for) in self.outlets.iter().zip(&mut is_waited_for).filter(|(_, waits)| **waits) {
                let is_over = begin.elapsed() >= Duration::from_secs(outlet.options.patience);
                match outlet.is_settled() {
                    Some(true) => *is_waited_for = false,
                    Some(false) if !is_over => {}
                    Some(false) | None => {
                        tracing::error!(
                            sink = outlet.name(),
                            "a sink does not hold the final table; the next start makes it whole"
                        );
                        *is_waited_for = false;
                    }
                }
            }
        }
    }
}

/// Steps taken, and events read: frequencies move with the latter.
fn moment(state: &State) -> (u64, u64) {
    (state.progress.steps, state.progress.events.read)
}

/// The whole table.
fn everything(state: &State) -> ChangeSet {
    copy(state, UpdateKind::Full, 0..state.items.ids.len())
}

/// The rows of `changes`, and the log-frequencies of all others where they are asked for.
fn what_changed(state: &State, changes: &EmbeddingChanges, with_popularity: bool) -> ChangeSet {
    let mut set = copy(state, UpdateKind::Delta, changes.changed.iter().map(|row| *row as usize));
    set.removed.clone_from(&changes.removed);
    if with_popularity {
        let others = (0..state.items.ids.len() as u32).filter(|row| changes.changed.binary_search(row).is_err());
        let popularity =
            others.map(|row| (state.items.ids.name(row).into(), state.negatives.frequencies.log_frequency(row)));
        set.popularity = popularity.collect();
    }
    set
}

fn copy(state: &State, kind: UpdateKind, rows: impl Iterator<Item = usize>) -> ChangeSet {
    let (dim, rows): (usize, Vec<usize>) = (state.model.dim(), rows.collect());
    let mut embeddings = vec![0.0; rows.len() * dim];
    for (row, out) in rows.iter().zip(embeddings.chunks_exact_mut(dim)) {
        state.model.served(*row, out);
    }
    let log_frequency = |row: &usize| state.negatives.frequencies.log_frequency(*row as u32);
    ChangeSet {
        kind,
        step: state.progress.steps,
        dim,
        n_items: state.items.ids.len(),
        names: rows.iter().map(|row| state.items.ids.name(*row as u32).into()).collect(),
        embeddings,
        log_frequencies: rows.iter().map(log_frequency).collect(),
        removed: Vec::new(),
        popularity: Vec::new(),
    }
}
