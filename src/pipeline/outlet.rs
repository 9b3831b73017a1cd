//! The way from training to one sink: a bounded queue of changes, and a thread that sends them.
//!
//! Training hands over what changed and goes on. A sink that answers errors costs it nothing: what waits is dropped, and the whole
//! table follows once the sink is back. One that hangs fills its queue, and then holds up training for `patience`, once.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use compact_str::CompactString;

use crate::publish::{EmbeddingSink, ItemRow, SinkError, SinkOptions, Update, UpdateKind, Version, WhenFull};
use crate::signals::Stop;

/// Rows that a sink is given at a time.
const ROWS_PER_CALL: usize = 4_096;
/// Rows that may wait for a sink, besides as many as the table has.
const SPARE_ROWS: usize = 65_536;
/// How long until a sink that was away is tried again: at first, and at most.
const RETRY: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(15)];
/// How long until a sink is tried again that refused.
const RETRY_REFUSED: Duration = Duration::from_secs(60);
/// How often a wait for a sink is looked after.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// How often a wait for a sink is logged.
const REMIND_EVERY: Duration = Duration::from_secs(5);

/// Rows of the table at one moment, and what left it.
#[derive(Debug)]
pub(super) struct ChangeSet {
    pub(super) kind: UpdateKind,
    /// Training steps taken.
    pub(super) step: u64,
    pub(super) dim: usize,
    /// Rows of the whole table.
    pub(super) n_items: usize,
    pub(super) names: Vec<CompactString>,
    /// The embeddings of `names`, one behind the other.
    pub(super) embeddings: Vec<f32>,
    /// The log-frequencies of `names`.
    pub(super) log_frequencies: Vec<f32>,
    pub(super) removed: Vec<CompactString>,
    /// Log-frequencies of items that are not in `names`.
    pub(super) popularity: Vec<(CompactString, f32)>,
}

impl ChangeSet {
    fn n_rows(&self) -> usize {
        self.names.len() + self.removed.len() + self.popularity.len()
    }
}

/// What a sink is to be given next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wants {
    /// The whole table.
    Everything,
    /// What changes.
    Changes,
    /// Nothing: it failed a moment ago, or what waited for it was dropped.
    Nothing,
}

/// What waits for a sink, and how the sink is.
#[derive(Debug)]
struct Queue {
    sets: VecDeque<Arc<ChangeSet>>,
    n_rows: usize,
    wants: Wants,
    is_busy: bool,
    /// Whether changes were dropped that did not fit.
    is_dropped: bool,
    /// Whether the newest update was refused.
    is_refused: bool,
    /// Whether the run is at its end: no long waits any more.
    is_ending: bool,
    is_closed: bool,
}

#[derive(Debug)]
struct Mailbox {
    queue: Mutex<Queue>,
    changed: Condvar,
}

impl Mailbox {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, queue: MutexGuard<'a, Queue>, most: Duration) -> MutexGuard<'a, Queue> {
        self.changed.wait_timeout(queue, most).unwrap_or_else(PoisonError::into_inner).0
    }

    /// The next changes to be sent; `None` once nothing is wanted any more.
    fn take(&self) -> Option<Arc<ChangeSet>> {
        let mut queue = self.lock();
        queue.is_busy = false;
        loop {
            if queue.is_closed {
                return None;
            }
            if std::mem::take(&mut queue.is_dropped) {
                queue.wants = Wants::Everything;
            }
            self.changed.notify_all();
            if let Some(set) = queue.sets.pop_front() {
                queue.n_rows -= set.n_rows();
                queue.is_busy = true;
                return Some(set);
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Drops what waits, and asks for the whole table after `delay`, or soon where the run is at its end.
    fn start_over(&self, delay: Duration, is_refused: bool) {
        let since = Instant::now();
        let mut queue = self.lock();
        (queue.wants, queue.is_busy, queue.is_refused) = (Wants::Nothing, false, is_refused);
        queue.sets.clear();
        queue.n_rows = 0;
        loop {
            let delay = if queue.is_ending { delay.min(RETRY[0]) } else { delay };
            let left = delay.saturating_sub(since.elapsed());
            if left.is_zero() || queue.is_closed {
                break;
            }
            queue = self.wait(queue, left);
        }
        (queue.wants, queue.is_dropped) = (Wants::Everything, false);
        self.changed.notify_all();
    }
}

/// A sink, its thread, and what waits for it.
#[derive(Debug)]
pub(super) struct Outlet {
    name: String,
    pub(super) options: SinkOptions,
    mailbox: Arc<Mailbox>,
}

impl Outlet {
    /// Starts the thread of `sink`, which wants the whole table first.
    pub(super) fn start(sink: Box<dyn EmbeddingSink>, options: SinkOptions, model_id: String) -> std::io::Result<Self> {
        let queue = Queue {
            sets: VecDeque::new(),
            n_rows: 0,
            wants: Wants::Everything,
            is_busy: false,
            is_dropped: false,
            is_refused: false,
            is_ending: false,
            is_closed: false,
        };
        let mailbox = Arc::new(Mailbox { queue: Mutex::new(queue), changed: Condvar::new() });
        let (name, inbox) = (sink.name().to_owned(), Arc::clone(&mailbox));
        let mut sender = Sender { sink, model_id, replace: options.replace, epoch: None };
        std::thread::Builder::new().name(format!("publish {name}")).spawn(move || sender.run(&inbox))?;
        Ok(Self { name, options, mailbox })
    }

    /// What the sink is to be given next.
    pub(super) fn wants(&self) -> Wants {
        self.mailbox.lock().wants
    }

    /// Hands over changes; waits for room as the options say, but not once `stop` is requested.
    pub(super) fn offer(&self, set: Arc<ChangeSet>, stop: &Stop) {
        let (patience, since) = (Duration::from_secs(self.options.patience), Instant::now());
        let (mut queue, mut reminded) = (self.mailbox.lock(), since);
        if set.kind == UpdateKind::Full {
            // It holds all that waits.
            queue.sets.clear();
            (queue.n_rows, queue.wants) = (0, Wants::Changes);
        }
        while queue.wants == Wants::Changes
            && !queue.sets.is_empty()
            && queue.n_rows + set.n_rows() > SPARE_ROWS + set.n_items
        {
            let is_over = since.elapsed() >= patience && self.options.when_full == WhenFull::DropAndResync;
            if is_over || stop.requested() {
                tracing::error!(
                    sink = self.name,
                    "a sink does not keep up; what waits for it is dropped, all rows follow"
                );
                queue.sets.clear();
                (queue.n_rows, queue.wants, queue.is_dropped) = (0, Wants::Nothing, true);
                return;
            }
            if reminded.elapsed() >= REMIND_EVERY {
                reminded = Instant::now();
                tracing::warn!(sink = self.name, "training waits for a sink that does not keep up");
            }
            queue = self.mailbox.wait(queue, LOOK_AGAIN);
        }
        if queue.wants == Wants::Changes {
            queue.n_rows += set.n_rows();
            queue.sets.push_back(set);
            self.mailbox.changed.notify_all();
        }
    }

    /// Has the sink finish soon: the run is at its end.
    pub(super) fn hasten(&self) {
        self.mailbox.lock().is_ending = true;
        self.mailbox.changed.notify_all();
    }

    /// Asks for the whole table, whatever the sink holds.
    pub(super) fn want_everything(&self) {
        let mut queue = self.mailbox.lock();
        if queue.wants == Wants::Changes {
            queue.wants = Wants::Everything;
        }
    }

    /// Waits a moment; whether the sink holds everything that it was given by then, or `None` where it refuses.
    pub(super) fn is_settled(&self) -> Option<bool> {
        let is_settled = |queue: &Queue| queue.wants == Wants::Changes && queue.sets.is_empty() && !queue.is_busy;
        let mut queue = self.mailbox.lock();
        if !is_settled(&queue) && queue.wants != Wants::Everything {
            queue = self.mailbox.wait(queue, LOOK_AGAIN);
        }
        if queue.is_refused { None } else { Some(is_settled(&queue)) }
    }

    /// The name of the sink.
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        // The thread is not waited for: a sink that hangs must not hang the program.
        self.mailbox.lock().is_closed = true;
        self.mailbox.changed.notify_all();
    }
}

/// What the thread of a sink knows.
#[derive(Debug)]
struct Sender {
    sink: Box<dyn EmbeddingSink>,
    model_id: String,
    replace: bool,
    /// The epoch of the newest full update of this process.
    epoch: Option<u64>,
}

impl Sender {
    fn run(&mut self, mailbox: &Mailbox) {
        let mut delay = RETRY[0];
        while let Some(set) = mailbox.take() {
            match self.send(&set) {
                Ok(()) => {
                    delay = RETRY[0];
                    mailbox.lock().is_refused = false;
                }
                Err(error) => {
                    tracing::error!(%error, sink = self.sink.name(), "publishing failed, all rows follow");
                    drop(set);
                    mailbox.start_over(if error.is_away() { delay } else { RETRY_REFUSED }, !error.is_away());
                    delay = (2 * delay).min(RETRY[1]);
                }
            }
        }
    }

    fn send(&mut self, set: &ChangeSet) -> Result<(), SinkError> {
        let epoch = match (self.epoch, set.kind) {
            (Some(epoch), UpdateKind::Delta) => epoch,
            (Some(epoch), UpdateKind::Full) => epoch + 1,
            (None, _) => self.first_epoch(set.dim)?,
        };
        // Also where it fails: the next one is above whatever is written now.
        self.epoch = Some(epoch);
        let ChangeSet { kind, step, dim, .. } = *set;
        let sink = self.sink.as_mut();
        sink.begin(&Update { kind, version: Version { epoch, step }, dim, model_id: &self.model_id })?;
        for item_ids in set.removed.chunks(ROWS_PER_CALL) {
            sink.remove(&item_ids.iter().map(|item_id| item_id.as_str()).collect::<Vec<_>>())?;
        }
        let rows = set.names.iter().zip(set.embeddings.chunks_exact(dim)).zip(&set.log_frequencies);
        let rows: Vec<ItemRow<'_>> = rows
            .map(|((item_id, embedding), log_frequency)| ItemRow {
                item_id: item_id.as_str(),
                embedding,
                log_frequency: *log_frequency,
            })
            .collect();
        rows.chunks(ROWS_PER_CALL).try_for_each(|rows| sink.upsert(rows))?;
        for popularity in set.popularity.chunks(ROWS_PER_CALL) {
            let popularity: Vec<(&str, f32)> =
                popularity.iter().map(|(item_id, log)| (item_id.as_str(), *log)).collect();
            sink.set_popularity(&popularity)?;
        }
        sink.commit()
    }

    /// The epoch above what the sink holds.
    fn first_epoch(&mut self, dim: usize) -> Result<u64, SinkError> {
        let Some(held) = self.sink.state()? else { return Ok(1) };
        if held.model_id != self.model_id && !self.replace {
            let message = format!(
                "holds embeddings of another model ({}, and this one is {}); set replace = true to have them replaced, or another \
                 name",
                held.model_id, self.model_id
            );
            return Err(SinkError::refused(self.sink.name(), message));
        }
        if held.dim != dim && !self.replace {
            let message = format!("holds embeddings of {} numbers, and this model's have {dim}", held.dim);
            return Err(SinkError::refused(self.sink.name(), message));
        }
        Ok(held.version.epoch + 1)
    }
}
