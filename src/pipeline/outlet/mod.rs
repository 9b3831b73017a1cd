//! The way from training to one sink: a bounded queue of changes, and a thread that sends them.
//!
//! Training hands over what changed and goes on. A sink that answers errors costs it nothing: what waits is dropped, and the whole
//! table follows once the sink is back. One that hangs fills its queue, and then holds up training for `patience`, once.

mod mailbox;
mod sender;

use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

pub(super) use mailbox::Wants;
use mailbox::{Mailbox, Queue};
use sender::Sender;

use super::change_set::ChangeSet;
use super::sink_figures::SinkFigures;
use crate::publish::{EmbeddingSink, SinkOptions, UpdateKind, WhenFull};
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
        let mailbox =
            Arc::new(Mailbox { queue: Mutex::new(Queue::new(label, sink.precision())), changed: Condvar::new() });
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

#[cfg(test)]
mod tests {
    use compact_str::CompactString;

    use super::super::freshness::EventAges;
    use super::super::user_queries::UserQueries;
    use super::*;
    use crate::publish::{ItemRow, MemorySink, SinkError, SinkState, StoredRow, Update, Version};

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

    pub(super) fn set(kind: UpdateKind, step: u64, names: &[&str]) -> Arc<ChangeSet> {
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
}
