//! Killed, stopped, damaged: whatever happens to a worker, it ends byte-identical to one that nothing happened to, or
//! it refuses and says why.

use std::path::Path;
use std::time::{Duration, Instant};

use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64Mcg;
use serde_json::Value;

use crate::support::{self, Background, Place, checkpoint_events, run, set, tree, write_log};

/// A report without the keys that depend on how often and how long the worker ran.
pub fn without_run_details(report: &Value) -> Value {
    let mut report = report.clone();
    for key in ["seconds", "events_per_second", "peak_bytes", "checkpoint", "disorder"] {
        assert!(report.as_object_mut().expect("an object").remove(key).is_some(), "{key} is not reported");
    }
    report
}

/// The moment at which a worker is killed.
#[derive(Debug)]
enum Moment {
    /// This long after a checkpoint was announced: zero is between two checkpoints, more may be anywhere.
    After(Duration),
    /// This long after the draft of the next checkpoint appeared on the disk.
    During(Duration),
}

/// Kills `worker` at `moment`, once it announced a checkpoint of `events` events (0: from its start). Gives whether it was
/// still running.
fn kill_at(mut worker: Background, events: u64, moment: &Moment, checkpoints: &Path) -> bool {
    if events > 0 {
        worker.wait_for(|line| checkpoint_events(line).filter(|announced| *announced >= events));
    }
    let wait = match moment {
        Moment::After(wait) => wait,
        Moment::During(wait) => {
            let is_draft = |entry: std::io::Result<std::fs::DirEntry>| {
                entry.is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with(".draft-00"))
            };
            let deadline = Instant::now() + Duration::from_secs(60);
            while !std::fs::read_dir(checkpoints).is_ok_and(|mut folder| folder.any(is_draft)) {
                assert!(Instant::now() < deadline && !worker.has_ended(), "no checkpoint was begun");
                std::thread::yield_now();
            }
            wait
        }
    };
    // The moment of a kill is the one place for a timer: whatever it hits, the end must be the same.
    std::thread::sleep(*wait);
    worker.kill()
}

#[test]
fn replay_killed_twenty_times_ends_identical() {
    const EVERY: u64 = 3_000;
    let Some(log) = support::data("ml-100k") else { return };
    let _alone = support::alone();
    let place = Place::new();
    let whole = place.replay_in("whole", &[log.to_str().unwrap()], &[]);

    let every = format!("checkpoint.every_events={EVERY}");
    let command = || {
        let mut command = place.negstream(&["replay", "--json", log.to_str().unwrap()]);
        set(&mut command, &[&every]);
        command
    };
    // Sorted, so that the kills are spread over the log.
    let mut random = Pcg64Mcg::seed_from_u64(20);
    let mut reached: Vec<u64> = (0..20).map(|_| random.random_range(0..=100_000 / EVERY - 8) * EVERY).collect();
    reached.sort_unstable();
    reached[0] = 0;
    for (place_in_order, events) in reached.into_iter().enumerate() {
        let moment = match place_in_order % 3 {
            0 => Moment::After(Duration::from_millis(random.random_range(0..40))),
            1 => Moment::During(Duration::from_micros(random.random_range(0..20_000))),
            _ => Moment::After(Duration::ZERO),
        };
        let worker = Background::start(&mut command());
        let at_work = kill_at(worker, events, &moment, &place.path("checkpoints"));
        assert!(at_work, "it had ended before a checkpoint of {events} events, {moment:?}");
    }
    let report = run(&mut command()).ended(0).json();
    assert!(place.items("checkpoints") == place.items("whole"), "items.parquet differs");
    assert_eq!(without_run_details(&report), without_run_details(&whole));
}

#[test]
fn replay_stopped_by_signal_ends_identical() {
    let place = Place::new();
    let log = place.path("log.parquet");
    write_log(&log, &support::events(150_000, 3));
    let whole = place.replay_in("whole", &["log.parquet"], &[]);
    let command = || {
        let mut command = place.negstream(&["replay", "--json", "log.parquet"]);
        set(&mut command, &["checkpoint.every_events=10000"]);
        command
    };
    for events in [10_000, 40_000, 70_000] {
        let mut worker = Background::start(&mut command());
        worker.wait_for(|line| checkpoint_events(line).filter(|announced| *announced >= events)).unwrap();
        worker.terminate();
        let said = worker.end().ended(0).names(&["stopped by a signal", "goes on from here"]);
        let report = said.json();
        assert!(report["events"]["read"].as_u64().unwrap() < 150_000, "it was not stopped midway");
        let newest = format!("checkpoints/{}", place.newest("checkpoints").file_name().unwrap().display());
        assert_eq!(report["checkpoint"], newest, "the last thing it did was to write a checkpoint");
        // Only a declared end closes a short batch.
        assert_eq!(place.manifest("checkpoints")["events"]["read"].as_u64().unwrap() % 256, 0);
    }
    let report = run(&mut command()).ended(0).json();
    assert_eq!(without_run_details(&report), without_run_details(&whole));
    assert!(place.items("checkpoints") == place.items("whole"), "items.parquet differs");
}

/// Logs read to their ends, with a checkpoint at each, of which tests damage some.
struct DamagedCheckpoints {
    place: Place,
    bytes: Vec<u8>,
    report: Value,
}

/// Logs of whole batches, so that no end cuts a batch short.
const LOGS: [&str; 4] = ["1.parquet", "2.parquet", "3.parquet", "4.parquet"];

impl DamagedCheckpoints {
    fn new() -> Self {
        let place = Place::new();
        for (log, events) in LOGS.iter().zip(support::events(12 * 256 * LOGS.len(), 4).chunks(12 * 256)) {
            write_log(&place.path(log), events);
        }
        let replay = |n_logs: usize| place.replay_in("sound", &LOGS[..n_logs], &["evaluate.from=0"]);
        (1..LOGS.len()).for_each(|n_logs| drop(replay(n_logs)));
        let report = replay(LOGS.len());
        assert_eq!(place.checkpoints("sound").len(), 3, "checkpoint.keep");
        Self { bytes: place.items("sound"), report: without_run_details(&report), place }
    }

    /// A copy of the checkpoints, named `name`, whose newest `damage` is done to.
    fn copy(&self, name: &str, damage: impl Fn(&Path)) {
        support::copy(&self.place.path("sound"), &self.place.path(name));
        damage(&self.place.newest(name));
    }

    fn resume(&self, name: &str) -> support::Said {
        let mut command = self.place.negstream_in(name, &["replay", "--json", "--set", "evaluate.from=0"]);
        command.args(LOGS);
        run(&mut command)
    }
}

fn flip(path: &Path) {
    let mut bytes = support::read(path);
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

fn truncate(path: &Path) {
    let bytes = support::read(path);
    std::fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
}

fn delete(path: &Path) {
    std::fs::remove_file(path).unwrap();
}

#[test]
fn restore_falls_back_past_damaged_checkpoint() {
    let damaged = DamagedCheckpoints::new();
    let files: Vec<_> = tree(&damaged.place.newest("sound")).into_keys().collect();
    assert!(files.len() >= 7 && files.contains(&"manifest.json".into()), "{files:?}");
    for (how, damage) in [("flipped", flip as fn(&Path)), ("truncated", truncate), ("deleted", delete)] {
        for file in &files {
            let name = format!("{how} {}", file.display());
            damaged.copy(&name, |newest| damage(&newest.join(file)));
            let victim = format!("0000000004/{}", file.display());
            let said = damaged.resume(&name).ended(0).names(&[&victim, "is damaged", "0000000003"]);
            assert!(damaged.place.items(&name) == damaged.bytes, "{name}: items.parquet differs");
            assert_eq!(without_run_details(&said.json()), damaged.report, "{name}");
            assert!(damaged.place.newest(&name).ends_with("0000000005"), "{name}: the damaged one was written over");
        }
    }
}

/// Permissions, open files, a disk that does not answer: with the trouble gone the checkpoint is whole, and so it is no reason to
/// go on from an older one.
#[test]
fn restore_refuses_checkpoint_that_cannot_be_read() {
    let damaged = DamagedCheckpoints::new();
    damaged.copy("loop", |newest| {
        // Whoever runs as root may read everything, but follows no link to itself.
        std::fs::remove_file(newest.join("items.parquet")).unwrap();
        std::os::unix::fs::symlink("items.parquet", newest.join("items.parquet")).unwrap();
    });
    let before = tree(&damaged.place.path("loop"));
    let said = damaged.resume("loop").ended(4).names(&["0000000004/items.parquet", "cannot read"]);
    assert!(!said.err.contains("damaged") && !said.err.contains("passed over"), "{}", said.err);
    assert!(tree(&damaged.place.path("loop")) == before, "the folder was changed");
}

#[test]
fn what_grew_or_is_no_file_is_damage_at_once() {
    let damaged = DamagedCheckpoints::new();
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 3] = [
        ("grown", |path| std::fs::File::options().write(true).open(path).unwrap().set_len(1 << 40).unwrap()),
        ("endless", |path| {
            delete(path);
            std::os::unix::fs::symlink("/dev/zero", path).unwrap();
        }),
        ("pipe", |path| {
            delete(path);
            let made = std::process::Command::new("mkfifo").arg(path).status().unwrap();
            assert!(made.success());
        }),
    ];
    for (name, damage) in damages {
        for file in ["items.parquet", "manifest.json"] {
            let copy = format!("{name} {file}");
            damaged.copy(&copy, |newest| damage(&newest.join(file)));
            let place = damaged.place.path("");
            run(support::negstream().current_dir(&place).args(["inspect", &copy]))
                .ended(4)
                .names(&[file, "is damaged"]);
        }
        let copy = format!("{name} items.parquet");
        damaged.resume(&copy).ended(0).names(&["passed over", "0000000003"]);
        assert!(damaged.place.items(&copy) == damaged.bytes, "{copy}: items.parquet differs");
    }
}

/// Somebody else keeps folders whose names are ten digits, as seconds since 1970 are.
#[test]
fn fresh_run_removes_nothing_of_somebody_else() {
    let place = Place::new();
    write_log(&place.path("log.parquet"), &support::events(3_000, 4));
    let theirs = ["1600000000/deep/db.sql", "1700000000/db.sql", "1700000000/manifest.json"];
    for file in theirs {
        let path = place.path("backups").join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "precious").unwrap();
    }
    let settings = ["--set", "checkpoint.keep=2", "--set", "checkpoint.every_events=500"];
    let replay = |arguments: &[&str]| {
        run(&mut place.negstream_in("backups", &[&["replay", "log.parquet"], &settings[..], arguments].concat()))
    };
    replay(&[]).ended(4).names(&["backups", "1700000000"]);
    replay(&["--fresh"]).ended(0).names(&["left alone"]);
    for file in theirs {
        assert_eq!(std::fs::read_to_string(place.path("backups").join(file)).unwrap(), "precious", "{file}");
    }
    assert_eq!(place.checkpoints("backups").len(), 4, "two of theirs, two of ours");
}

/// Two runs, each with checkpoints of its own, and one file of dead letters.
#[test]
fn dead_letters_of_another_run_are_kept() {
    let place = Place::new();
    let settings = ["dead_letters.file=letters.jsonl", "dead_letters.max_share=1"];
    for (log, item) in [("0", "a"), ("1", "b"), ("2", "c")] {
        let row = |row: usize| if row.is_multiple_of(5) { String::new() } else { format!("u{}", row % 50) };
        let users = support::text((0..1_000).map(|index| Some(row(index))));
        let items = support::text((0..1_000).map(|index| Some(format!("{item}{}", index % 90))));
        let times = support::times((0..1_000).map(|index| Some(1_700_000_000_000 + index)));
        let columns = vec![("user_id", users), ("item_id", items), ("timestamp", times)];
        support::write_columns(&place.path(&format!("{log}.parquet")), columns);
    }
    for (run, log) in [("one", "0.parquet"), ("two", "1.parquet"), ("one", "2.parquet"), ("two", "0.parquet")] {
        place.replay_in(run, &[log], &settings);
    }
    let letters = std::fs::read_to_string(place.path("letters.jsonl")).unwrap();
    let of = |log: &str| letters.lines().filter(|line| line.contains(&format!("{log}.parquet"))).count();
    assert_eq!((of("0"), of("1"), of("2"), letters.lines().count()), (400, 200, 200, 800));
}

/// The name of the lock is all that a second worker sees of it.
#[test]
fn worker_whose_lock_was_removed_is_fenced() {
    let place = Place::new();
    write_log(&place.path("log.parquet"), &support::events(60_000, 4));
    let settings = ["--set", "checkpoint.every_events=1000", "--set", "evaluate.share=0"];
    let command = || place.negstream_in("ck", &[&["replay", "log.parquet"], &settings[..]].concat());
    let mut first = Background::start(&mut command());
    first.wait_for(checkpoint_events).expect("a checkpoint");
    std::fs::remove_file(place.path("ck/.lock")).unwrap();
    let second = run(&mut command());
    let first = first.end();
    assert_eq!((first.code, second.code), (Some(6), Some(0)), "{}\n{}", first.err, second.err);
    assert!(first.err.contains("the lock that this worker holds is not there any more"), "{}", first.err);
    run(&mut place.negstream(&["inspect", "ck"])).ended(0);
}

/// Whoever loads what was learnt follows `latest`.
#[test]
fn latest_leads_to_the_newest_checkpoint() {
    let place = Place::new();
    write_log(&place.path("log.parquet"), &support::events(3_000, 4));
    place.replay("log.parquet", &["checkpoint.keep=1", "checkpoint.every_events=1000"]);
    let checkpoints = place.path("checkpoints");
    // How many there were before depends on how fast they are written.
    let newest = place.checkpoints("checkpoints").pop().expect("a checkpoint");
    assert_eq!(Some(std::fs::read_link(checkpoints.join("latest")).unwrap().as_os_str()), newest.file_name());
    assert!(support::read(&checkpoints.join("latest/items.parquet")) == place.items("checkpoints"));
    run(&mut place.negstream(&["inspect", "checkpoints/latest"])).ended(0);
}

#[test]
fn inspect_reports_damage() {
    let damaged = DamagedCheckpoints::new();
    damaged.copy("flipped", |newest| flip(&newest.join("bank.parquet")));
    let inspect = |path: &str| run(support::negstream().current_dir(damaged.place.path("")).args(["inspect", path]));
    inspect("flipped").ended(4).names(&["0000000004/bank.parquet", "checksum"]);
    inspect("flipped/0000000003").ended(0);
}

#[test]
fn restore_refuses_when_every_checkpoint_is_damaged() {
    let damaged = DamagedCheckpoints::new();
    damaged.copy("all", |_| {});
    for checkpoint in damaged.place.checkpoints("all") {
        flip(&checkpoint.join("item_state.parquet"));
    }
    let before = tree(&damaged.place.path("all"));
    damaged.resume("all").ended(4).names(&["none of the 3 checkpoints", "0000000004/item_state.parquet"]);
    assert!(tree(&damaged.place.path("all")) == before, "the folder was changed");

    // The way out is to begin anew, which goes on with the numbers that follow.
    let mut command = damaged.place.negstream_in("all", &["replay", "--fresh"]);
    command.args(LOGS);
    run(&mut command).ended(0);
    assert!(damaged.place.items("all") == damaged.bytes, "items.parquet differs");
}

#[test]
fn restore_refuses_checkpoint_of_another_format() {
    let damaged = DamagedCheckpoints::new();
    for (name, format) in [("older", 1), ("newer", 3)] {
        damaged.copy(name, |newest| {
            let path = newest.join("manifest.json");
            let mut manifest: Value = serde_json::from_slice(&support::read(&path)).unwrap();
            manifest.as_object_mut().unwrap().shift_remove("manifest_sha256").expect("a checksum of its own");
            assert_eq!(std::mem::replace(&mut manifest["format"], format.into()), 2);
            manifest["manifest_sha256"] = negstream::util::encoding::sha256(manifest.to_string().as_bytes()).into();
            std::fs::write(path, manifest.to_string()).unwrap();
        });
        let before = tree(&damaged.place.path(name));
        let format = format!("format {format}");
        damaged.resume(name).ended(4).names(&["0000000004", &format, "reads format 2 alone"]);
        assert!(tree(&damaged.place.path(name)) == before, "the folder was changed");
    }
}

#[test]
fn altered_format_version_is_damage() {
    let damaged = DamagedCheckpoints::new();
    damaged.copy("altered", |newest| {
        let path = newest.join("manifest.json");
        let text = String::from_utf8(support::read(&path)).unwrap();
        assert!(text.contains("\"format\": 2,"));
        std::fs::write(path, text.replace("\"format\": 2,", "\"format\": 1,")).unwrap();
    });
    damaged.resume("altered").ended(0).names(&["0000000004/manifest.json is damaged"]);
    assert!(damaged.place.items("altered") == damaged.bytes, "items.parquet differs");
}

#[test]
fn diverged_model_stops_and_saves_nothing() {
    let damaged = DamagedCheckpoints::new();
    damaged.copy("sound", |_| {});
    let mut command = damaged.place.negstream_in("wild", &["replay", LOGS[0]]);
    set(&mut command, &["train.learning_rate=1e37"]);
    run(&mut command).ended(7).names(&["the model diverged at step", "lower train.learning_rate"]);
    assert!(damaged.place.checkpoints("wild").is_empty(), "nothing of it was saved");
}

#[test]
fn drafts_of_dead_workers_are_removed() {
    let damaged = DamagedCheckpoints::new();
    damaged.copy("swept", |_| {});
    for name in [".draft-0000000005", ".draft-old-0000000001"] {
        let draft = damaged.place.path("swept").join(name);
        std::fs::create_dir(&draft).unwrap();
        std::fs::write(draft.join("items.parquet"), b"half").unwrap();
    }
    let before = damaged.place.checkpoints("swept");
    damaged.resume("swept").ended(0);
    assert_eq!(damaged.place.checkpoints("swept"), before, "an end that was reached before needs no new checkpoint");
    let left: Vec<_> = tree(&damaged.place.path("swept")).into_keys().filter(|path| path.starts_with(".d")).collect();
    assert!(left.is_empty() && !damaged.place.path("swept/.draft-0000000005").exists(), "{left:?}");
}
