//! Workers of one group that are killed, stopped and started again, as by a supervisor.

use std::time::Duration;

use rand::RngExt as _;
use rand_pcg::Pcg64Mcg;

use crate::group::Group;
use crate::support::Background;

/// What brokers allow at the least, so that a dead member is found out soon.
pub const SESSION: [&str; 3] = [
    "kafka.properties={\"session.timeout.ms\"=\"6000\",\"heartbeat.interval.ms\"=\"500\"}",
    "checkpoint.every_events=300",
    "log.format=text",
];

/// Workers by name, each alive or not, restarted like by a supervisor where they end by themselves.
pub struct Crew<'a> {
    group: &'a Group,
    names: &'a [&'a str],
    members: bool,
    running: Vec<Option<Background>>,
}

impl<'a> Crew<'a> {
    /// Workers of these names, none of which runs yet; with lasting places in the group where they are `members`.
    pub fn new(group: &'a Group, names: &'a [&'a str], members: bool) -> Self {
        Self { group, names, members, running: names.iter().map(|_| None).collect() }
    }

    /// Starts a worker, unless it runs.
    #[track_caller]
    pub fn start(&mut self, worker: usize) {
        if self.running[worker].as_mut().is_none_or(Background::has_ended) {
            if let Some(ended) = self.running[worker].take() {
                // Fenced, and nothing else, ends a worker that nobody stopped.
                assert_eq!(ended.end().code, Some(6), "{}", self.group.said(self.names[worker]));
            }
            self.running[worker] = Some(self.group.start(self.names[worker], self.members));
        }
    }

    /// Starts whoever does not run.
    #[track_caller]
    pub fn start_all(&mut self) {
        (0..self.names.len()).for_each(|worker| self.start(worker));
    }

    /// The process of a worker, if there is one.
    pub fn process(&self, worker: usize) -> Option<&Background> {
        self.running[worker].as_ref()
    }

    /// Ends it without notice.
    pub fn kill(&mut self, worker: usize) {
        if let Some(running) = self.running[worker].take() {
            running.kill();
        }
    }

    /// Ends it in good order.
    #[track_caller]
    pub fn terminate(&mut self, worker: usize) {
        if let Some(running) = self.running[worker].take() {
            running.terminate();
            let ended = running.end();
            assert!(matches!(ended.code, Some(0 | 6)), "{:?} {}", ended.code, self.group.said(self.names[worker]));
        }
    }

    /// Lets the group finish what was produced, and ends everybody; all is read afterwards.
    #[track_caller]
    pub fn finish(mut self) {
        self.start_all();
        let running = std::mem::take(&mut self.running);
        let running = self.names.iter().copied().zip(running).filter_map(|(name, running)| Some((name, running?)));
        self.group.finish(running.collect());
        let last: Vec<(&str, bool)> = self.names.iter().map(|worker| (*worker, self.members)).collect();
        self.group.read_to_end(&last);
    }
}

/// Waits a random while: the moment of a fault is the one place for a timer.
pub fn a_while(random: &mut Pcg64Mcg, at_most: u64) {
    std::thread::sleep(Duration::from_millis(random.random_range(0..at_most)));
}
