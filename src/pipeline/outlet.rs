//! The way from training to one sink: a bounded queue of changes, and a thread that sends them.
//!
//! Training hands over what changed and goes on. A sink that answers errors costs it nothing: what waits is dropped, and the whole
//! table follows once the sink is back. One that hangs fills its queue, and then holds up training for `patience`, once.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use compact_str::CompactString;

use super::change_set::ChangeSet;
use super::freshness::EventAges;
use super::sink_figures::{SinkCondition, SinkFigures};
use super::user_queries::UserQueries;
use crate::publish::full_update::{ROWS_PER_CALL, next_epoch};
use crate::publish::{
    EmbeddingSink, ItemRow, SinkError, SinkOptions, Update, UpdateKind, UserQuery, Version, WhenFull,
};
use crate::signals::Stop;

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
    /// Whether the newest update failed.
    is_failed: bool,
    /// Of events whose update was dropped, or failed: they are visible by the next full one.
    lost: EventAges,
    figures: SinkFigures,
    /// Whether the run is at its end: no long waits any more.
    is_ending: bool,
    is_closed: bool,
}

#[derive(Debug)]
struct Mailbox {
    queue: Mutex<Queue>,
    changed: Condvar,
}

impl Queue {
    /// Drops what waits.
    fn clear(&mut self) {
        for set in std::mem::take(&mut self.sets) {
            self.lost.merge(set.ages.clone());
        }
        self.n_rows = 0;
    }

    fn condition(&self) -> SinkCondition {
        match () {
            () if self.is_refused => SinkCondition::Refused,
            () if self.is_failed => SinkCondition::Away,
            () if self.is_dropped => SinkCondition::Behind,
            () if self.is_settled() => SinkCondition::Settled,
            () => SinkCondition::Sending,
        }
    }

    /// Whether the sink holds everything that it was given.
    fn is_settled(&self) -> bool {
        self.wants == Wants::Changes && self.sets.is_empty() && !self.is_busy
    }

    /// Notes that the sink took an update.
    fn note_taken(&mut self, set: &ChangeSet) {
        let figures = &mut self.figures;
        if !set.is_empty() {
            (self.is_refused, self.is_failed) = (false, false);
            figures.rows += (set.names.len() + set.removed.len()) as u64;
            figures.popularity_rows += set.popularity.len() as u64;
            figures.bytes += set.n_bytes() as u64;
            figures.updates += 1;
        }
        let mut ages = set.ages.clone();
        if set.kind == UpdateKind::Full {
            figures.full_updates += 1;
            ages = std::mem::replace(&mut self.lost, EventAges::none());
            ages.merge(set.ages.clone());
        }
        ages.observe_into(&mut figures.read_to_visible, &mut figures.event_to_visible);
    }
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
            if let Some(first) = queue.sets.pop_front() {
                let mut taken = vec![first];
                // A sink that is slow is sent what follows at once, each row as it is by now.
                let is_delta = |set: Option<&Arc<ChangeSet>>| set.is_some_and(|set| set.kind == UpdateKind::Delta);
                while is_delta(taken.first()) && is_delta(queue.sets.front()) {
                    taken.extend(queue.sets.pop_front());
                }
                queue.n_rows -= taken.iter().map(|set| set.n_rows()).sum::<usize>();
                queue.is_busy = true;
                drop(queue);
                self.changed.notify_all();
                return ChangeSet::merged(&taken);
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Notes that an update failed, and drops what waits.
    fn note_failed(&self, set: &ChangeSet, is_refused: bool) {
        let mut queue = self.lock();
        (queue.wants, queue.is_busy, queue.is_refused) = (Wants::Nothing, false, is_refused);
        queue.is_failed = true;
        queue.figures.errors += 1;
        queue.lost.merge(set.ages.clone());
        queue.clear();
    }

    /// Asks for the whole table after `delay`, or soon where the run is at its end.
    fn wait_for_retry(&self, delay: Duration) {
        let since = Instant::now();
        let mut queue = self.lock();
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
pub(super) struct SinkOutlet {
    name: String,
    pub(super) options: SinkOptions,
    /// Whether the sink takes the queries of users.
    pub(super) takes_queries: bool,
    mailbox: Arc<Mailbox>,
}

impl SinkOutlet {
    /// Starts the thread of `sink`, which wants the whole table first.
    ///
    /// `label` is its name in metrics.
    pub(super) fn start(
        sink: Box<dyn EmbeddingSink>,
        options: SinkOptions,
        model_id: String,
        label: String,
    ) -> std::io::Result<Self> {
        let queue = Queue {
            sets: VecDeque::new(),
            n_rows: 0,
            wants: Wants::Everything,
            is_busy: false,
            is_dropped: false,
            is_refused: false,
            is_failed: false,
            lost: EventAges::none(),
            figures: SinkFigures::new(label),
            is_ending: false,
            is_closed: false,
        };
        let mailbox = Arc::new(Mailbox { queue: Mutex::new(queue), changed: Condvar::new() });
        let (name, takes_queries, inbox) = (sink.name().to_owned(), sink.takes_queries(), Arc::clone(&mailbox));
        let mut sender = Sender { sink, model_id, replace: options.replace, epoch: None, rises: false };
        std::thread::Builder::new().name(format!("publish {name}")).spawn(move || sender.run(&inbox))?;
        Ok(Self { name, options, takes_queries, mailbox })
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
            queue.clear();
            queue.wants = Wants::Changes;
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
                queue.clear();
                queue.figures.errors += 1;
                queue.lost.merge(set.ages.clone());
                (queue.wants, queue.is_dropped) = (Wants::Nothing, true);
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
        let mut queue = self.mailbox.lock();
        // Who refused is asked once more.
        (queue.is_ending, queue.is_refused) = (true, false);
        drop(queue);
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
        let mut queue = self.mailbox.lock();
        if !queue.is_settled() && queue.wants != Wants::Everything {
            queue = self.mailbox.wait(queue, LOOK_AGAIN);
        }
        if queue.is_refused { None } else { Some(queue.is_settled()) }
    }

    /// The figures as they stand.
    pub(super) fn figures(&self) -> SinkFigures {
        let queue = self.mailbox.lock();
        SinkFigures { condition: queue.condition(), queue_rows: queue.n_rows as u64, ..queue.figures.clone() }
    }

    /// The name of the sink.
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for SinkOutlet {
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
    /// Whether the next full update has an epoch of its own: not where the newest was refused.
    rises: bool,
}

impl Sender {
    fn run(&mut self, mailbox: &Mailbox) {
        let mut delay = RETRY[0];
        while let Some(set) = mailbox.take() {
            match self.send(&set) {
                Ok(()) => {
                    delay = RETRY[0];
                    mailbox.lock().note_taken(&set);
                }
                Err(error) => {
                    tracing::error!(%error, sink = self.sink.name(), "publishing failed, all rows follow");
                    // What was sent may have arrived, though nobody said so.
                    self.rises |= error.is_away();
                    let wait = if error.is_away() { delay } else { RETRY_REFUSED };
                    mailbox.note_failed(&set, !error.is_away());
                    drop(set);
                    mailbox.wait_for_retry(wait);
                    delay = (2 * delay).min(RETRY[1]);
                }
            }
        }
    }

    fn send(&mut self, set: &ChangeSet) -> Result<(), SinkError> {
        if set.is_empty() {
            return Ok(());
        }
        let epoch = match (self.epoch, set.kind) {
            // One that was refused is tried under its own epoch: who was overtaken by another worker climbs no higher than it.
            (Some(epoch), UpdateKind::Full) if self.rises => epoch + 1,
            (Some(epoch), _) => epoch,
            (None, _) => next_epoch(self.sink.as_mut(), &self.model_id, set.dim, self.replace)?,
        };
        self.epoch = Some(epoch);
        self.rises &= set.kind == UpdateKind::Delta;
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
        let UserQueries { names, vectors, beta_tau } = &set.queries;
        let query = |(user_id, vector)| UserQuery { user_id, vector, beta_tau: *beta_tau };
        let queries: Vec<UserQuery<'_>> =
            names.iter().map(CompactString::as_str).zip(vectors.chunks_exact(dim)).map(query).collect();
        queries.chunks(ROWS_PER_CALL).try_for_each(|queries| sink.set_queries(queries))?;
        sink.commit()?;
        if kind == UpdateKind::Full {
            tracing::info!(sink = sink.name(), rows = set.names.len(), epoch, step, "a sink holds the whole table");
        }
        self.rises = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publish::{MemorySink, SinkState, StoredRow};

    /// A sink whose updates wait until a gate is open.
    #[derive(Debug, Clone, Default)]
    struct GatedSink {
        inner: MemorySink,
        gate: Arc<(Mutex<bool>, Condvar)>,
    }

    impl GatedSink {
        fn open_gate(&self) {
            *self.gate.0.lock().unwrap() = true;
            self.gate.1.notify_all();
        }
    }

    impl EmbeddingSink for GatedSink {
        fn name(&self) -> &str {
            "gated"
        }

        fn read(&mut self, visit: &mut dyn FnMut(StoredRow)) -> Result<Option<SinkState>, SinkError> {
            self.inner.read(visit)
        }

        fn begin(&mut self, update: &Update<'_>) -> Result<(), SinkError> {
            drop(self.gate.1.wait_while(self.gate.0.lock().unwrap(), |is_open| !*is_open).unwrap());
            self.inner.begin(update)
        }

        fn remove(&mut self, item_ids: &[&str]) -> Result<(), SinkError> {
            self.inner.remove(item_ids)
        }

        fn upsert(&mut self, rows: &[ItemRow<'_>]) -> Result<(), SinkError> {
            self.inner.upsert(rows)
        }

        fn set_popularity(&mut self, popularity: &[(&str, f32)]) -> Result<(), SinkError> {
            self.inner.set_popularity(popularity)
        }

        fn commit(&mut self) -> Result<(), SinkError> {
            self.inner.commit()
        }
    }

    fn set(kind: UpdateKind, step: u64, names: &[&str]) -> Arc<ChangeSet> {
        Arc::new(ChangeSet {
            kind,
            step,
            dim: 1,
            n_items: names.len(),
            names: names.iter().map(CompactString::new).collect(),
            embeddings: vec![step as f32; names.len()],
            log_frequencies: vec![-1.0; names.len()],
            removed: Vec::new(),
            popularity: Vec::new(),
            queries: UserQueries::default(),
            ages: EventAges::none(),
        })
    }

    /// A change that fills a good half of a queue.
    fn large(step: u64, name: &str) -> Arc<ChangeSet> {
        let mut set = Arc::into_inner(set(UpdateKind::Delta, step, &[name])).unwrap();
        set.popularity = vec![("never there".into(), 0.0); SPARE_ROWS / 2 + 2];
        Arc::new(set)
    }

    fn start(sink: impl EmbeddingSink + 'static, options: SinkOptions) -> SinkOutlet {
        SinkOutlet::start(Box::new(sink), options, "model".to_owned(), "label".to_owned()).unwrap()
    }

    fn wait_for(outlet: &SinkOutlet, wanted: Wants) {
        let mut queue = outlet.mailbox.lock();
        while queue.wants != wanted {
            queue = outlet.mailbox.wait(queue, LOOK_AGAIN);
        }
    }

    /// Gives the whole table, and waits until the sink is at it.
    fn begin(outlet: &SinkOutlet, names: &[&str], stop: &Stop) {
        outlet.offer(set(UpdateKind::Full, 1, names), stop);
        while !outlet.mailbox.lock().sets.is_empty() {
            std::thread::yield_now();
        }
    }

    fn settle(outlet: &SinkOutlet) {
        while !outlet.is_settled().expect("nothing is refused") {}
    }

    #[test]
    fn sink_that_was_away_is_given_the_whole_table_again() {
        let reader = MemorySink::new();
        reader.refuse_commits(2);
        let (outlet, never) = (start(reader.clone(), SinkOptions::default()), Stop::new());
        for step in [1, 2, 3] {
            wait_for(&outlet, Wants::Everything);
            outlet.offer(set(UpdateKind::Full, step, &["a", "b"]), &never);
        }
        settle(&outlet);
        outlet.offer(set(UpdateKind::Delta, 4, &["b"]), &never);
        settle(&outlet);
        assert_eq!((reader.get("a").unwrap().embedding, reader.get("b").unwrap().embedding), (vec![3.0], vec![4.0]));
        assert_eq!(reader.version(), Some(Version { epoch: 3, step: 4 }));
    }

    #[test]
    fn sink_that_hangs_holds_up_nobody_for_longer_than_its_patience() {
        let sink = GatedSink::default();
        let options = SinkOptions { patience: 0, ..SinkOptions::default() };
        let (outlet, never) = (start(sink.clone(), options), Stop::new());
        begin(&outlet, &["a"], &never);
        for step in 2..6 {
            outlet.offer(large(step, "a"), &never);
        }
        assert_eq!(outlet.wants(), Wants::Nothing);
        sink.open_gate();
        wait_for(&outlet, Wants::Everything);
        outlet.offer(set(UpdateKind::Full, 9, &["b"]), &never);
        settle(&outlet);
        let rows = sink.inner.rows();
        assert_eq!((rows.len(), rows["b"].version), (1, Version { epoch: 2, step: 9 }));
    }

    #[test]
    fn sink_that_training_waits_for_loses_nothing() {
        let sink = GatedSink::default();
        let options = SinkOptions { patience: 0, when_full: WhenFull::Wait, ..SinkOptions::default() };
        let (outlet, never) = (start(sink.clone(), options), Stop::new());
        std::thread::scope(|scope| {
            let offers = scope.spawn(|| {
                outlet.offer(set(UpdateKind::Full, 1, &["a"]), &never);
                (2..6).for_each(|step| outlet.offer(large(step, &format!("item {step}")), &never));
            });
            // The queue is full by then, or will be: either way nothing may be dropped.
            while outlet.mailbox.lock().sets.is_empty() {
                std::thread::yield_now();
            }
            sink.open_gate();
            offers.join().unwrap();
        });
        settle(&outlet);
        assert_eq!((sink.inner.rows().len(), sink.inner.n_committed().0), (5, 1));
    }

    #[test]
    fn stop_ends_the_wait_for_a_sink() {
        let options = SinkOptions { when_full: WhenFull::Wait, ..SinkOptions::default() };
        let (outlet, stop) = (start(GatedSink::default(), options), Stop::new());
        stop.request();
        begin(&outlet, &["a"], &stop);
        (2..6).for_each(|step| outlet.offer(large(step, "a"), &stop));
        assert_eq!(outlet.wants(), Wants::Nothing);
    }

    #[test]
    fn other_models_and_dimensions_are_refused_unless_they_are_to_be_replaced() {
        let sink = MemorySink::new();
        let sender = |model_id: &str, replace| Sender {
            sink: Box::new(sink.clone()),
            model_id: model_id.to_owned(),
            replace,
            epoch: None,
            rises: false,
        };
        sender("a", false).send(&set(UpdateKind::Full, 7, &["x"])).unwrap();
        let said = sender("b", false).send(&set(UpdateKind::Full, 1, &["y"])).unwrap_err().to_string();
        assert!(said.contains("memory") && said.contains("replace = true") && said.contains("(a, "), "{said}");
        let wider = ChangeSet { dim: 2, ..Arc::into_inner(set(UpdateKind::Full, 1, &[])).unwrap() };
        let said = sender("a", false).send(&wider).unwrap_err().to_string();
        assert!(said.contains("memory") && said.contains("1 numbers") && said.contains("have 2"), "{said}");
        assert_eq!(sink.version(), Some(Version { epoch: 1, step: 7 }));
        sender("b", true).send(&set(UpdateKind::Full, 1, &["y"])).unwrap();
        assert_eq!((sink.rows().len(), sink.version()), (1, Some(Version { epoch: 2, step: 1 })));
    }

    #[test]
    fn worker_that_was_overtaken_climbs_no_higher_than_the_newer_one() {
        let sink = MemorySink::new();
        let sender = || Sender {
            sink: Box::new(sink.clone()),
            model_id: "model".to_owned(),
            replace: false,
            epoch: None,
            rises: false,
        };
        let (mut old, mut new) = (sender(), sender());
        old.send(&set(UpdateKind::Full, 1, &["x"])).unwrap();
        new.send(&set(UpdateKind::Full, 1, &["y"])).unwrap();
        new.send(&set(UpdateKind::Full, 2, &["y"])).unwrap();
        (3..20).for_each(|step| assert!(old.send(&set(UpdateKind::Full, step, &["x"])).is_err()));
        assert_eq!(sink.version(), Some(Version { epoch: 3, step: 2 }));
        assert!(sink.get("y").is_some());
    }
}
