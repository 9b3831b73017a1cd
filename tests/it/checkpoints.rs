//! Checkpoints beside training: what is written is the state as it was frozen, training does not notice, they never
//! overlap, and one that fails is one that failed, no more.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use negstream::checkpoint::store::Store;
use negstream::config::{Config, layers};
use negstream::event::{Interaction, Record};
use negstream::kernel::Kernel;
use negstream::pipeline::{Pipeline, PipelineEvent, StopReason};
use negstream::position::{Positions, Stream};
use negstream::snapshot;
use negstream::source::parquet::{LogOptions, ParquetLogs};
use negstream::trainer::Trainer;
use negstream::trainer::state::State;
use negstream::trainer::state_snapshot::StateSnapshot;
use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64Mcg;

use crate::replay::SETTINGS;
use crate::support::{Place, events, tree, write_log};

/// One batch.
const BATCH: usize = 32;
/// Small, since there is much to try, and so that a step takes less than a checkpoint.
const SMALL: [&str; 4] = ["train.batch=32", "model.dim=16", "negatives.bank=256", "threads=2"];

fn configuration(settings: &[&str]) -> Config {
    let flags: Vec<String> = settings.iter().map(|setting| (*setting).to_owned()).collect();
    layers::load(None, std::iter::empty(), &flags).unwrap()
}

/// A trainer, and the events that it is still to get.
struct Training {
    config: Config,
    trainer: Trainer,
    events: Vec<Interaction>,
    taken: usize,
}

impl Training {
    fn new(settings: &[&str], events: &[Interaction]) -> Self {
        let config = configuration(&[settings, &SMALL].concat());
        let mut trainer = Trainer::new(&config, State::new(&config, Kernel::detect())).unwrap();
        trainer.set_streams(&[Stream { name: "log".to_owned(), label: "log".to_owned() }]);
        Self { config, trainer, events: events.to_vec(), taken: 0 }
    }

    fn take(&mut self, n_events: usize) {
        for offset in self.taken..(self.taken + n_events).min(self.events.len()) {
            let outcome = Ok(self.events[offset].clone());
            self.trainer.ingest(Record { stream: 0, offset: offset as u64, outcome, broker_timestamp: None });
        }
        self.taken += n_events;
    }

    /// What a checkpoint of `frozen` holds, file by file.
    fn written(&self, frozen: &StateSnapshot) -> BTreeMap<PathBuf, Vec<u8>> {
        let folder = tempfile::tempdir().unwrap();
        let mut config = self.config.checkpoint.clone();
        config.dir = folder.path().to_owned();
        let store = Store::open(&config).unwrap();
        snapshot::save(&self.config, frozen, None, store.draft().unwrap()).unwrap();
        let mut files = tree(&folder.path().join("0000000001"));
        // Which run a checkpoint descends from is drawn at random; the sums of the files are those of the files here.
        let manifest = files.get_mut(Path::new("manifest.json")).expect("a manifest");
        let value: serde_json::Value = serde_json::from_slice(manifest).unwrap();
        let told =
            ["configuration", "step", "events", "items", "users", "beta", "temperature", "positions", "ownerships"];
        *manifest = told.map(|key| value[key].to_string()).join("\n").into_bytes();
        files.remove(Path::new("lineage"));
        files
    }
}

fn same(left: &BTreeMap<PathBuf, Vec<u8>>, right: &BTreeMap<PathBuf, Vec<u8>>, what: &str) {
    let differing: Vec<_> =
        left.iter().filter(|(name, bytes)| right.get(*name) != Some(bytes)).map(|(n, _)| n).collect();
    assert!(left.len() == right.len() && differing.is_empty(), "{what}: {differing:?} differ");
}

#[test]
fn snapshot_written_later_equals_the_state_when_frozen() {
    let mut random = Pcg64Mcg::seed_from_u64(31);
    let mut all = events(40 * BATCH, 31);
    for event in &mut all {
        event.features = vec![crate::support::topic(&event.item).into()];
    }
    for settings in SETTINGS {
        let what = format!("{settings:?}");
        let mut training = Training::new(settings, &all);
        let mut undisturbed = Training::new(settings, &all);
        // Frozen states that are still to be written, each with what was written of it at once.
        let mut waiting: Vec<(StateSnapshot, BTreeMap<PathBuf, Vec<u8>>)> = Vec::new();
        for _ in 0..10 {
            let n_events = random.random_range(1..3 * BATCH);
            training.take(n_events);
            undisturbed.take(n_events);
            match random.random_range(0..4) {
                0 | 1 => {
                    let frozen = training.trainer.freeze();
                    let written = training.written(&frozen);
                    waiting.push((frozen, written));
                }
                2 if !waiting.is_empty() => {
                    let (frozen, expected) = waiting.swap_remove(random.random_range(0..waiting.len()));
                    same(&training.written(&frozen), &expected, &what);
                }
                _ => drop(training.trainer.state.thaw(random.random_range(0..200))),
            }
        }
        for (frozen, expected) in waiting.drain(..) {
            same(&training.written(&frozen), &expected, &what);
        }
        assert!(training.trainer.state.thaw(usize::MAX), "{what}: something is shared with nobody");
        let (left, right) = (training.trainer.freeze(), undisturbed.trainer.freeze());
        same(&training.written(&left), &undisturbed.written(&right), &what);
    }
}

/// A worker on a log of `n_events`, in a place of its own.
struct Work {
    place: Place,
    log: Vec<String>,
}

/// What the worker did about a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Did {
    Begin,
    Skip,
    Write(u64),
    Fail,
}

impl Work {
    fn new(n_events: usize) -> Self {
        let place = Place::new();
        write_log(&place.path("log.parquet"), &events(n_events, 32));
        let log = vec![place.path("log.parquet").display().to_string()];
        Self { place, log }
    }

    /// Works to the end of the log, with checkpoints in `folder`; `meddle` is told what happens, and may interfere.
    fn run(&self, folder: &str, settings: &[&str], mut meddle: impl FnMut(&Path, Did)) -> (Pipeline, Vec<Did>) {
        let folder = self.place.path(folder);
        let dir = format!("checkpoint.dir={}", folder.display());
        let config = configuration(&[&SMALL, settings, &[&dir]].concat());
        let options = LogOptions::new(&config.source, false);
        let source = ParquetLogs::open(&self.log, options, &Positions::default()).unwrap();
        let mut pipeline = Pipeline::new(&config).unwrap();
        let mut done = Vec::new();
        let ending = pipeline.run_observed(source, &mut |_, event| {
            let did = match event {
                PipelineEvent::CheckpointStarted => Did::Begin,
                PipelineEvent::CheckpointSkipped => Did::Skip,
                PipelineEvent::CheckpointWritten(last) => Did::Write(last.events),
                PipelineEvent::CheckpointFailed(_) => Did::Fail,
                _ => return,
            };
            done.push(did);
            meddle(&folder, did);
        });
        assert_eq!(ending.unwrap(), StopReason::End);
        (pipeline, done)
    }
}

#[test]
fn checkpoints_due_too_soon_are_skipped_without_effect() {
    let work = Work::new(300 * BATCH);
    let (_, done) = work.run("eager", &["evaluate.share=0", "checkpoint.every_events=32"], |_, _| {});
    work.run("lazy", &["evaluate.share=0", "checkpoint.every_events=1000000"], |_, _| {});
    assert!(work.place.items("eager") == work.place.items("lazy"), "items.parquet differs");
    let mut is_writing = false;
    for (place, did) in done.iter().enumerate() {
        match did {
            Did::Begin => assert!(!std::mem::replace(&mut is_writing, true), "two at a time: {:?}", &done[..=place]),
            Did::Write(_) | Did::Fail => assert!(std::mem::take(&mut is_writing), "{:?}", &done[..=place]),
            Did::Skip => {}
        }
    }
    let written: Vec<u64> =
        done.iter().filter_map(|did| if let Did::Write(events) = did { Some(*events) } else { None }).collect();
    // Nine files are written and flushed to the disk; a step on some items takes a fraction of a millisecond.
    assert!(done.contains(&Did::Skip), "none was skipped: {done:?}");
    assert!(written.len() > 1 && written.is_sorted() && written.last() == Some(&(300 * BATCH as u64)), "{written:?}");
}

#[test]
fn training_continues_while_checkpoint_folder_is_gone() {
    let work = Work::new(100 * BATCH);
    let aside = |folder: &Path| folder.with_extension("aside");
    let mut failures = 0;
    // A file stands in the folder's place until two have failed.
    let (pipeline, done) = work.run("checkpoints", &["checkpoint.every_events=700"], |folder, did| match did {
        Did::Begin if failures == 0 && !aside(folder).exists() => {
            std::fs::rename(folder, aside(folder)).unwrap();
            std::fs::write(folder, b"").unwrap();
        }
        Did::Fail => {
            failures += 1;
            if failures == 2 {
                std::fs::remove_file(folder).unwrap();
                std::fs::rename(aside(folder), folder).unwrap();
            }
        }
        _ => {}
    });
    let fails = done.iter().filter(|did| **did == Did::Fail).count();
    assert_eq!((fails, done.last()), (2, Some(&Did::Write(100 * BATCH as u64))), "{done:?}");
    assert_eq!(pipeline.state().progress.events.read, 100 * BATCH as u64);
    let left: Vec<_> = std::fs::read_dir(work.place.path("checkpoints")).unwrap().map(|entry| entry.unwrap()).collect();
    let hidden = |name: &std::ffi::OsStr| name.to_string_lossy().starts_with(".draft");
    assert!(left.iter().all(|entry| !hidden(&entry.file_name())), "{left:?}");
    work.run("undisturbed", &["checkpoint.every_events=1000000"], |_, _| {});
    assert!(work.place.items("checkpoints") == work.place.items("undisturbed"), "items.parquet differs");
}
