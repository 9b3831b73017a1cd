//! Every way out of the training loop, and what it leaves behind.

use std::path::Path;
use std::task::Poll;

use super::*;
use crate::checkpoint::Checkpoint;
use crate::checkpoint::CheckpointError;
use crate::config::layers;
use crate::dead_letters::{DeadLetterError, DeadLetterFile, DeadLetters};
use crate::event::Reason;
use crate::position::Positions;
use crate::source::{CommitTracker, KafkaSourceError, PollStatus};
use crate::synth::{EventGenerator, SynthConfig};

/// Events in a batch.
const BATCH: u64 = 32;
/// Events that every run here trains on or leaves: three batches, and a half that does not fill.
const EVENTS: u64 = 3 * BATCH + BATCH / 2;

/// A source that delivers records, and then says one thing more.
struct Script {
    records: Vec<Record>,
    then: Option<Result<PollStatus, SourceError>>,
    /// Told what is durable, where the source is one that has to be.
    commits: Option<CommitTracker>,
}

impl EventSource for Script {
    fn streams(&self) -> Vec<Stream> {
        vec![Stream { name: "script".to_owned(), label: "script".to_owned() }]
    }

    fn poll(&mut self, block: &mut Vec<Record>) -> Result<PollStatus, SourceError> {
        block.append(&mut self.records);
        self.then.take().unwrap_or(Ok(PollStatus::Idle))
    }

    fn commit_tracker(&self) -> Option<CommitTracker> {
        self.commits.clone()
    }

    fn release(&mut self, _streams: &[u32], _durable: &Positions) -> Result<Poll<()>, SourceError> {
        Ok(Poll::Ready(()))
    }

    fn keep_alive(&mut self) {}
}

fn event(offset: u64, outcome: Result<crate::event::Interaction, Rejection>) -> Record {
    Record { stream: 0, offset, outcome, broker_timestamp: None }
}

fn records() -> Vec<Record> {
    let mut synth = EventGenerator::new(SynthConfig { users: 20, items: 30, ..SynthConfig::default() });
    (0..EVENTS).map(|offset| event(offset, Ok(synth.next_event()))).collect()
}

fn configuration(dir: &Path, settings: &[&str]) -> Config {
    let mut flags: Vec<String> = ["train.batch=32", "model.dim=8", "negatives.bank=64", "threads=1"]
        .iter()
        .chain(settings)
        .map(|setting| (*setting).to_owned())
        .collect();
    flags.push(format!("checkpoint.dir={}", dir.display()));
    layers::load(None, std::iter::empty(), &flags).unwrap()
}

/// What a run left behind.
#[derive(Debug)]
struct Left {
    result: Result<StopReason, PipelineError>,
    /// Records in the newest checkpoint; `None` where there is no checkpoint.
    saved: Option<u64>,
    /// Position that the source was told to be durable.
    told: Option<u64>,
}

impl Left {
    fn new(dir: &Path, config: &Config, commits: &CommitTracker, result: Result<StopReason, PipelineError>) -> Self {
        let newest = Checkpoint::open_with(dir, &config.checkpoint).ok();
        let saved = newest.map(|checkpoint| checkpoint.manifest().events.read);
        Self { result, saved, told: commits.newest().and_then(|durable| durable.next("script")) }
    }

    #[track_caller]
    fn expect(&self, saved: Option<u64>) {
        assert_eq!((self.saved, self.told), (saved, saved), "{self:?}");
    }
}

/// Runs to the end of a script of `records` that ends by `then`.
fn run(settings: &[&str], records: Vec<Record>, then: Result<PollStatus, SourceError>) -> Left {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("checkpoints");
    let config = configuration(&dir, settings);
    let commits = CommitTracker::default();
    let source = Script { records, then: Some(then), commits: Some(commits.clone()) };
    let result = Pipeline::new(&config).unwrap().run(source);
    Left::new(&dir, &config, &commits, result)
}

/// Trains on all records, and then leaves by `exit`, without a source that would say so.
fn leave_by(exit: ExitPath) -> Left {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("checkpoints");
    let config = configuration(&dir, &[]);
    let commits = CommitTracker::default();
    let mut pipeline = Pipeline::new(&config).unwrap();
    let script = Script { records: Vec::new(), then: None, commits: Some(commits.clone()) };
    let source = spawn(Box::new(script)).unwrap();
    pipeline.streams.clone_from(&source.streams);
    pipeline.trainer.set_streams(&source.streams);
    for record in records() {
        pipeline.train(record, Instant::now(), &source, &mut |_, _| {}).unwrap();
    }
    let result = pipeline.conclude(exit, &source, &mut |_, _| {});
    source.close();
    Left::new(&dir, &config, &commits, result)
}

fn source_failure() -> SourceError {
    KafkaSourceError::Refused { brokers: "broker".to_owned(), problem: "gone".to_owned() }.into()
}

fn fenced() -> SourceError {
    KafkaSourceError::Fenced { stream: "script".to_owned(), from: 1, position: 2 }.into()
}

#[test]
fn end_of_source_trains_the_batch_in_progress_and_saves() {
    let left = run(&[], records(), Ok(PollStatus::End));
    left.expect(Some(EVENTS));
    assert_eq!(left.result.unwrap(), StopReason::End);
}

#[test]
fn stop_saves_what_was_trained_and_leaves_the_batch_in_progress_unread() {
    let left = leave_by(ExitPath::StopRequested);
    left.expect(Some(3 * BATCH));
    assert_eq!(left.result.unwrap(), StopReason::Stopped);
}

#[test]
fn stop_that_was_requested_before_the_run_trains_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let config = configuration(folder.path(), &[]);
    let mut pipeline = Pipeline::new(&config).unwrap();
    pipeline.stop_handle().request();
    let source = Script { records: records(), then: Some(Ok(PollStatus::End)), commits: None };
    assert_eq!(pipeline.run(source).unwrap(), StopReason::Stopped);
    assert_eq!(pipeline.state().progress.events.read, 0);
}

#[test]
fn source_failure_saves_what_was_trained() {
    let left = run(&[], records(), Err(source_failure()));
    left.expect(Some(3 * BATCH));
    assert!(
        matches!(left.result, Err(PipelineError::Source(SourceError::Kafka(KafkaSourceError::Refused { .. })))),
        "{left:?}"
    );
}

#[test]
fn source_failure_with_a_failing_checkpoint_tells_the_source_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("checkpoints");
    let config = configuration(&dir, &[]);
    let commits = CommitTracker::default();
    let mut pipeline = Pipeline::new(&config).unwrap();
    // A file stands in the folder's place.
    std::fs::rename(&dir, folder.path().join("aside")).unwrap();
    std::fs::write(&dir, b"").unwrap();
    let then = Some(Err(source_failure()));
    let result = pipeline.run(Script { records: records(), then, commits: Some(commits.clone()) });
    assert!(matches!(result, Err(PipelineError::Source(_))), "{result:?}");
    assert_eq!(commits.newest(), None, "a position that is not durable must not be committed");
}

#[test]
fn too_many_rejections_train_the_batch_in_progress_and_save() {
    let mut records = records();
    let reason = Reason::Unparsable;
    for offset in EVENTS..EVENTS + 100 {
        let rejection = Rejection { reason, detail: "not JSON".to_owned(), key: None, payload: Vec::new() };
        records.push(event(offset, Err(rejection)));
    }
    let left = run(&["dead_letters.window=10", "dead_letters.max_share=0.9"], records, Ok(PollStatus::Idle));
    let saved = left.saved.expect("a checkpoint");
    assert!((EVENTS + 1..EVENTS + 100).contains(&saved), "{left:?}");
    left.expect(Some(saved));
    assert!(matches!(left.result, Err(PipelineError::TooManyRejected(_))), "{left:?}");
}

#[test]
fn fenced_pipeline_saves_nothing() {
    let left = run(&[], records(), Err(fenced()));
    left.expect(None);
    assert!(
        matches!(left.result, Err(PipelineError::Source(SourceError::Kafka(KafkaSourceError::Fenced { .. })))),
        "{left:?}"
    );
    for error in [
        KafkaSourceError::OwnershipUnknown { stream: "script".to_owned(), why: "" },
        KafkaSourceError::DuplicateMember { member: "worker".to_owned() },
    ] {
        assert_eq!(ExitPath::from(SourceError::from(error)).policy(false).1, FinalCheckpoint::Forbidden);
    }
}

#[test]
fn failed_checkpoint_is_not_followed_by_another() {
    let error = CheckpointError::Missing { path: "checkpoints".into() };
    let left = leave_by(ExitPath::CheckpointFailed(error));
    left.expect(None);
    assert!(matches!(left.result, Err(PipelineError::Checkpoint(_))), "{left:?}");
}

#[test]
fn checkpoints_of_a_replay_that_take_long_are_put_off() {
    let folder = tempfile::tempdir().unwrap();
    let mut synth = EventGenerator::new(SynthConfig { users: 20, items: 30, ..SynthConfig::default() });
    let records: Vec<Record> = (0..20 * BATCH).map(|offset| event(offset, Ok(synth.next_event()))).collect();
    let slow = WrittenCheckpoint {
        path: folder.path().join("slow"),
        bytes: 1,
        events: 0,
        took: Duration::from_secs(1_800),
        pause: Duration::ZERO,
    };
    // Events at which checkpoints are written, and how many are put off, after one that took half an hour.
    let run = |name: &str, share: &str, commits: Option<CommitTracker>, is_live: bool| {
        let config = configuration(&folder.path().join(name), &["checkpoint.every_events=32", share]);
        let source = Script { records: records.clone(), then: Some(Ok(PollStatus::End)), commits };
        let mut pipeline = Pipeline::builder(&config).live(is_live).build().unwrap();
        pipeline.checkpoints.written = Some(slow.clone());
        let (mut written, mut n_put_off) = (Vec::new(), 0);
        let stop = pipeline.run_observed(source, &mut |_, did| match did {
            PipelineEvent::CheckpointWritten(checkpoint) => written.push(checkpoint.events),
            PipelineEvent::CheckpointPutOff { wait } => {
                assert!(wait > Duration::from_secs(1_800) && wait <= Duration::from_secs(18_000), "{wait:?}");
                n_put_off += 1;
            }
            _ => {}
        });
        assert_eq!(stop.unwrap(), StopReason::End);
        (written, n_put_off)
    };
    // The end is saved whatever it takes.
    assert_eq!(run("replay", "checkpoint.max_share=0.1", None, false), (vec![20 * BATCH], 20));
    let told = Some(CommitTracker::default());
    for (name, share, commits, is_live) in [
        ("all", "checkpoint.max_share=1", None, false),
        ("live", "checkpoint.max_share=0.1", None, true),
        ("told what is durable", "checkpoint.max_share=0.1", told, false),
    ] {
        let (written, n_put_off) = run(name, share, commits, is_live);
        assert!(written.len() > 1 && n_put_off == 0, "{name}: {written:?}, {n_put_off} put off");
    }
}

#[test]
fn failed_dead_letters_save_no_position_behind_them() {
    let folder = tempfile::tempdir().unwrap();
    let error: DeadLetterError = DeadLetterFile::open(folder.path(), None).unwrap_err();
    let left = leave_by(ExitPath::DeadLettersFailed(error));
    left.expect(None);
    assert!(matches!(left.result, Err(PipelineError::DeadLetters(_))), "{left:?}");
}

#[test]
fn dead_letters_that_cannot_be_made_durable_end_a_checkpoint_as_they_end_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let config = configuration(&folder.path().join("checkpoints"), &[]);
    let letters = DeadLetterFile::unwritable(&folder.path().join("letters"));
    // A file without a mark begins with a checkpoint; nothing is in it yet.
    let mut pipeline = Pipeline::builder(&config).dead_letters(DeadLetters::File(letters)).build().unwrap();
    let mut records = records();
    let rejection =
        Rejection { reason: Reason::Unparsable, detail: "not JSON".to_owned(), key: None, payload: Vec::new() };
    records.push(event(EVENTS, Err(rejection)));
    let source = Script { records, then: Some(Ok(PollStatus::End)), commits: None };
    let mut failed = 0;
    let result = pipeline.run_observed(source, &mut |_, event| {
        if let PipelineEvent::CheckpointFailed(SaveError::DeadLetters(_)) = event {
            failed += 1;
        }
    });
    let error = result.unwrap_err();
    assert!(matches!(error, PipelineError::DeadLetters(_)), "{error:?}");
    assert_eq!(failed, 1, "the observer is told");
    let error = anyhow::Error::from(error);
    assert_eq!(crate::exit::code(&error), crate::exit::Exit::Source);
    assert!(error.to_string().contains("letters:"), "the file of dead letters is named: {error}");
}

#[test]
fn diverged_model_is_not_saved() {
    let left = run(&["train.learning_rate=1e30", "model.similarity=dot"], records(), Ok(PollStatus::End));
    left.expect(None);
    assert!(matches!(left.result, Err(PipelineError::Diverged(_))), "{left:?}");
}

#[test]
fn second_source_on_the_same_pipeline_goes_on_from_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let config = configuration(folder.path(), &[]);
    let mut pipeline = Pipeline::new(&config).unwrap();
    let (mut first, second) = (records(), records().split_off(BATCH as usize));
    first.truncate(BATCH as usize);
    for records in [first, second] {
        let source = Script { records, then: Some(Ok(PollStatus::End)), commits: None };
        assert_eq!(pipeline.run(source).unwrap(), StopReason::End);
    }
    assert_eq!((pipeline.positions().next("script"), pipeline.progress().1), (Some(EVENTS), EVENTS));
    drop(pipeline);
    let again = Pipeline::new(&config).unwrap();
    assert_eq!((again.positions().next("script"), again.progress().1), (Some(EVENTS), 0));
}

/// A live source: a record in each block, and nothing in between for a while.
struct Trickle {
    records: std::collections::VecDeque<Record>,
    is_quiet: bool,
}

impl EventSource for Trickle {
    fn streams(&self) -> Vec<Stream> {
        vec![Stream { name: "script".to_owned(), label: "script".to_owned() }]
    }

    fn poll(&mut self, block: &mut Vec<Record>) -> Result<PollStatus, SourceError> {
        self.is_quiet = !self.is_quiet;
        if self.is_quiet && self.records.len() % 7 < 3 {
            // As a source does that waits for records.
            std::thread::sleep(Duration::from_millis(6));
            return Ok(PollStatus::Idle);
        }
        block.extend(self.records.pop_front());
        Ok(if block.is_empty() { PollStatus::End } else { PollStatus::More })
    }

    fn commit_tracker(&self) -> Option<CommitTracker> {
        None
    }

    fn release(&mut self, _streams: &[u32], _durable: &Positions) -> Result<Poll<()>, SourceError> {
        Ok(Poll::Ready(()))
    }

    fn keep_alive(&mut self) {}
}

/// Where batches were cut before the newest checkpoint in `dir`.
fn cuts_in(dir: &Path) -> Vec<u64> {
    Checkpoint::open(dir).unwrap().manifest().cuts.iter().flat_map(|cuts| cuts.places()).collect()
}

#[test]
fn replay_with_the_cuts_of_a_live_run_gives_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let items = |dir: &Path| std::fs::read(Checkpoint::open(dir).unwrap().folder().join("items.parquet")).unwrap();
    let (live, replayed, plain) =
        (folder.path().join("live"), folder.path().join("replayed"), folder.path().join("plain"));
    let config = configuration(&live, &["train.linger_ms=2", "checkpoint.every_seconds=0"]);
    let mut pipeline = Pipeline::builder(&config).live(true).build().unwrap();
    let source = Trickle { records: records().into(), is_quiet: false };
    assert_eq!(pipeline.run(source).unwrap(), StopReason::End);
    let freshness = pipeline.freshness();
    assert!(freshness.clock_cuts > 0 && freshness.read_to_weights.count() == EVENTS, "{freshness:?}");
    assert_eq!((freshness.read_to_checkpoint.count(), freshness.oldest_unsaved), (EVENTS, None));
    drop(pipeline);
    let cuts = cuts_in(&live);
    assert!(cuts.len() as u64 >= freshness.clock_cuts, "{cuts:?}");

    let replay = |dir: &Path, cuts: Vec<u64>| {
        let source = Script { records: records(), then: Some(Ok(PollStatus::End)), commits: None };
        let mut pipeline = Pipeline::builder(&configuration(dir, &[])).cuts(cuts).build().unwrap();
        assert_eq!(pipeline.run(source).unwrap(), StopReason::End);
        cuts_in(dir)
    };
    assert_eq!(replay(&replayed, cuts.clone()), cuts, "all of them, and no other");
    assert_eq!(items(&replayed), items(&live));
    assert_eq!(replay(&plain, Vec::new()), [EVENTS], "the end alone");
    assert_ne!(items(&plain), items(&live), "cuts are part of what the model depends on");
}

#[test]
fn stop_of_a_live_run_trains_on_everything_that_was_delivered() {
    let folder = tempfile::tempdir().unwrap();
    let config = configuration(folder.path(), &["train.linger_ms=3600000"]);
    let mut pipeline = Pipeline::builder(&config).live(true).build().unwrap();
    let stop = pipeline.stop_handle();
    // One block of them all: the stop comes after its first step.
    let source = Script { records: records(), then: Some(Ok(PollStatus::Idle)), commits: None };
    let result = pipeline.run_observed(source, &mut |_, event| {
        if matches!(event, PipelineEvent::Step { .. }) {
            stop.request();
        }
    });
    assert_eq!(result.unwrap(), StopReason::Stopped);
    assert_eq!(pipeline.state().progress.events.read, EVENTS);
    assert_eq!(cuts_in(folder.path()), [EVENTS]);
}

#[test]
fn checkpoint_is_written_for_who_asks() {
    let folder = tempfile::tempdir().unwrap();
    let config = configuration(folder.path(), &[]);
    let requests = CheckpointRequests::default();
    let mut pipeline = Pipeline::builder(&config).checkpoint_requests(requests.clone()).build().unwrap();
    let (mut ticket, stop) = (None, pipeline.stop_handle());
    let source = Script { records: records(), then: None, commits: None };
    let result = pipeline.run_observed(source, &mut |_, event| {
        if matches!(event, PipelineEvent::Step { .. }) {
            ticket = Some(requests.ask());
        }
        if ticket.is_some_and(|ticket| requests.answer(ticket).is_some()) {
            stop.request();
        }
    });
    assert_eq!(result.unwrap(), StopReason::Stopped);
    let answer = requests.answer(ticket.expect("it asked")).expect("an answer");
    // The log alone cuts batches: the one in progress is not part of it.
    assert_eq!(answer, CheckpointAnswer::Durable { name: "0000000001".to_owned(), events: 3 * BATCH });
}

#[test]
fn events_that_are_trained_on_alone_teach_as_much_as_in_batches() {
    let folder = tempfile::tempdir().unwrap();
    let n = 3_000;
    let records = || {
        let mut synth = EventGenerator::new(SynthConfig { users: 300, items: 300, ..SynthConfig::default() });
        (0..n).map(|offset| event(offset, Ok(synth.next_event()))).collect::<Vec<Record>>()
    };
    // By day batches are whole, by night the clock cuts off each event.
    let hit_rate = |name: &str, cuts: Vec<u64>| {
        let config = configuration(&folder.path().join(name), &["model.dim=8"]);
        let source = Script { records: records(), then: Some(Ok(PollStatus::End)), commits: None };
        let mut pipeline = Pipeline::builder(&config).cuts(cuts).build().unwrap();
        assert_eq!(pipeline.run(source).unwrap(), StopReason::End);
        let progress = &pipeline.state().progress;
        println!("measured: {name}: {} steps, {:?}", progress.steps, progress.evaluation.recent_model());
        progress.evaluation.recent_model().expect("events were ranked").hit_rate
    };
    let by_day = hit_rate("day", Vec::new());
    let by_night = hit_rate("night", (1..=n).collect());
    let in_turn = hit_rate("turns", (1..=n).filter(|place| place / 500 % 2 == 0).collect());
    assert!(by_night > 0.9 * by_day && in_turn > 0.9 * by_day, "{by_day} {by_night} {in_turn}");
}
