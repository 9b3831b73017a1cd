//! A new item on a live stream: after its first three events it is in the sink, and a search among its neighbours finds it.

use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::task::Poll;
use std::time::{Duration, Instant};

use negstream::event::{Interaction, Record};
use negstream::position::{Positions, Stream};
use negstream::source::{CommitTracker, PollStatus, SourceError};
use negstream::{Config, EventSource, Pipeline, StopReason};

use crate::kafka_source::PATIENCE;
use crate::sink_servers;
use crate::support::{Place, events, topic};

/// Events before the new item.
const BEFORE: usize = 20_000;
/// What a search gives.
const LIST: usize = 20;

/// Events as somebody sends them, until they hang up.
struct LiveSource {
    events: Receiver<Interaction>,
    next: u64,
}

impl EventSource for LiveSource {
    fn streams(&self) -> Vec<Stream> {
        vec![Stream { name: "live".to_owned(), label: "live".to_owned() }]
    }

    fn poll(&mut self, block: &mut Vec<Record>) -> Result<PollStatus, SourceError> {
        match self.events.recv_timeout(Duration::from_millis(5)) {
            Ok(event) => {
                for event in std::iter::once(event).chain(self.events.try_iter().take(1_000)) {
                    block.push(Record { stream: 0, offset: self.next, outcome: Ok(event), broker_timestamp: None });
                    self.next += 1;
                }
                Ok(PollStatus::More)
            }
            Err(RecvTimeoutError::Timeout) => Ok(PollStatus::Idle),
            Err(RecvTimeoutError::Disconnected) => Ok(PollStatus::End),
        }
    }

    fn commit_tracker(&self) -> Option<CommitTracker> {
        None
    }

    fn release(&mut self, _streams: &[u32], _durable: &Positions) -> Result<Poll<()>, SourceError> {
        Ok(Poll::Ready(()))
    }

    fn keep_alive(&mut self) {}
}

/// The items that a vector set has next to `item`, nearest first.
fn neighbors(connection: &mut redis::Connection, item: &str, n: usize) -> Vec<String> {
    let mut search = redis::cmd("VSIM");
    search.arg("negstream:vectors").arg("ELE").arg(item).arg("COUNT").arg(n).arg("EF").arg(4 * n);
    search.query(connection).unwrap_or_default()
}

#[test]
fn new_item_is_found_by_a_search_after_its_first_three_events() {
    let Some(server) = sink_servers::SinkServer::redis_with(&[]) else { return };
    let target = sink_servers::redis_url(&server);
    let place = Place::new();
    let dir = format!("checkpoint.dir={}", place.path("checkpoints").display());
    let settings = ["model.dim=32", "threads=1", "train.linger_ms=50", "checkpoint.every_seconds=0", &dir];
    let config = Config::with_settings(&settings).unwrap();
    let mut pipeline = Pipeline::builder(&config).named_sink("redis", &target).live(true).build().unwrap();
    let (live, events_of_source) = channel();
    let worker = std::thread::spawn(move || pipeline.run(LiveSource { events: events_of_source, next: 0 }).unwrap());

    let before = events(BEFORE, 91);
    // The last three who had something of the newest event's topic, and the item that each had: they come back for something new.
    let newest = before.last().unwrap();
    let of_topic = |event: &&Interaction| topic(&event.item) == topic(&newest.item);
    let mut users = Vec::new();
    for event in before.iter().rev().filter(of_topic) {
        if users.iter().all(|known: &Interaction| known.user != event.user) && users.len() < 3 {
            users.push(event.clone());
        }
    }
    let fresh = format!("{}-fresh", topic(&newest.item));
    before.iter().for_each(|event| live.send(event.clone()).unwrap());
    let mut connection = redis::Client::open(target.as_str()).unwrap().get_connection().unwrap();
    // The stream is learnt once its newest item, or what came with it, can be searched with.
    let known = newest.item.to_string();
    let deadline = Instant::now() + PATIENCE;
    let rows = |connection: &mut redis::Connection| -> usize {
        redis::cmd("VCARD").arg("negstream:vectors").query(connection).unwrap_or(0)
    };
    let distinct: std::collections::BTreeSet<&str> = before.iter().map(|event| event.item.as_str()).collect();
    while rows(&mut connection) < distinct.len() {
        assert!(Instant::now() < deadline, "{} of {} rows", rows(&mut connection), distinct.len());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(!neighbors(&mut connection, &known, LIST).contains(&fresh));

    let told = Instant::now();
    for event in &users {
        live.send(Interaction { item: fresh.as_str().into(), timestamp: newest.timestamp + 1, ..event.clone() })
            .unwrap();
    }
    loop {
        let found = neighbors(&mut connection, &known, LIST);
        if found.contains(&fresh) {
            break;
        }
        assert!(told.elapsed() < PATIENCE, "{fresh} is not next to {known}, but {found:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
    let seconds = told.elapsed().as_secs_f64();
    drop(live);
    assert_eq!(worker.join().unwrap(), StopReason::End);
    println!("measured: {fresh} is among the {LIST} next to {known} {seconds:.2} s after its third event");
}
