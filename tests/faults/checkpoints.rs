//! Checkpoints on a disk: workers that are killed at each step of one, disks that are full, read-only or broken, and
//! checkpoints that were tampered with.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{self, Place, Said, left_out, read, run, set, tree, write_log};

/// A small model: how good it is does not matter here.
const SETTINGS: [&str; 4] = ["checkpoint.every_events=800", "model.dim=16", "negatives.bank=256", "evaluate.share=0"];
const VARIABLE: &str = "NEGSTREAM_FAILPOINT";
/// Every step of a checkpoint, and the time at which it fails: in the second checkpoint, since there always is a first that
/// is due and a last (a checkpoint that is due while another is written is skipped).
const STEPS: [(&str, u64); 8] = [
    ("draft", 2),
    ("file", 12),
    ("flushed", 12),
    ("manifest", 2),
    ("commit", 2),
    ("committed", 2),
    ("published", 2),
    ("prune", 1),
];

/// A log, and the items of an undisturbed run over it.
struct DiskScenario {
    place: Place,
    items: Vec<u8>,
}

impl DiskScenario {
    fn new(events: usize) -> Self {
        let place = Place::new();
        write_log(&place.path("log.parquet"), &support::events(events, 6));
        place.replay_in("whole", &["log.parquet"], &SETTINGS);
        Self { items: place.items("whole"), place }
    }

    fn replay(&self, checkpoints: &str) -> Command {
        let mut command = self.place.negstream_in(checkpoints, &["replay", "--json", "log.parquet"]);
        set(&mut command, &SETTINGS);
        command
    }

    #[track_caller]
    fn ends_alike(&self, checkpoints: &str) -> Said {
        let said = run(&mut self.replay(checkpoints)).ended(0);
        assert!(self.place.items(checkpoints) == self.items, "items.parquet differs: {}", said.err);
        said
    }
}

/// Every checkpoint that is seen is intact.
fn all_intact(scenario: &DiskScenario, checkpoints: &str) {
    for path in scenario.place.checkpoints(checkpoints) {
        run(support::negstream().arg("inspect").arg(path)).ended(0);
    }
}

#[test]
fn worker_killed_at_each_checkpoint_step_recovers() {
    let scenario = DiskScenario::new(4_000);
    for (step, time) in STEPS {
        let mut command = scenario.replay(step);
        set(&mut command, &["checkpoint.keep=1"]);
        let said = run(command.env(VARIABLE, format!("{step}@{time}=kill")));
        assert_eq!(said.code, None, "it was to die at {step}: {}", said.err);
        all_intact(&scenario, step);
        scenario.ends_alike(step);
        let hidden = |path: &PathBuf| path.to_string_lossy().starts_with(".draft");
        assert!(!tree(&scenario.place.path(step)).keys().any(hidden), "something of {step} stays");
    }
}

#[test]
fn restore_killed_midway_changes_nothing() {
    let scenario = DiskScenario::new(4_000);
    run(scenario.replay("a").env(VARIABLE, "published@1=kill"));
    let before = tree(&scenario.place.path("a"));
    for _ in 0..2 {
        assert_eq!(run(scenario.replay("a").env(VARIABLE, "restore=kill")).code, None);
        assert!(tree(&scenario.place.path("a")) == before, "to restore is to read");
    }
    scenario.ends_alike("a");
}

#[test]
fn disk_errors_cost_a_checkpoint_but_not_the_run() {
    let scenario = DiskScenario::new(4_000);
    for (action, words) in [("enospc", "No space left"), ("eio", "Input/output error")] {
        for (step, time) in [("draft", 1), ("file", 2), ("flushed", 2), ("manifest", 1), ("commit", 1)] {
            let name = format!("{action}-{step}");
            let said = run(scenario.replay(&name).env(VARIABLE, format!("{step}@{time}={action}")));
            // It goes on refusing: from then on there is no checkpoint, and the last one has to be written.
            let said = said.ended(4).names(&["checkpoint failed, training goes on", words]);
            assert!(!said.err.contains("panicked"), "{}", said.err);
            all_intact(&scenario, &name);
            let hidden = |path: &PathBuf| path.to_string_lossy().starts_with(".draft");
            assert!(!tree(&scenario.place.path(&name)).keys().any(hidden), "the draft stays");
            scenario.ends_alike(&name);
        }
    }
}

/// A small file system of its own, unmounted when dropped.
struct Mount(PathBuf);

impl Mount {
    fn new(path: PathBuf, size: &str) -> Option<Self> {
        std::fs::create_dir_all(&path).expect("a writable folder");
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(&path).output();
        match mount {
            Ok(output) if output.status.success() => Some(Self(path)),
            Ok(output) => left_out("mount", String::from_utf8_lossy(&output.stderr).trim()),
            Err(error) => left_out("mount", &error.to_string()),
        }
    }

    fn remount(&self, options: &str) {
        let mut mount = Command::new("mount");
        assert!(mount.args(["-o", &format!("remount,{options}")]).arg(&self.0).status().expect("mount").success());
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn checkpoints_resume_once_a_full_disk_has_room() {
    let scenario = DiskScenario::new(4_000);
    let Some(mount) = Mount::new(scenario.place.path("disk"), "64m") else { return };
    run(scenario.replay("disk/a").env(VARIABLE, "published@1=kill"));
    let before = tree(&mount.0.join("a"));
    // Somebody else takes nearly all of the room.
    let used: usize = before.values().map(Vec::len).sum();
    let filler = mount.0.join("filler");
    std::fs::write(&filler, vec![0; (64 << 20) - used - (100 << 10)]).expect("there is room yet");
    let said =
        run(&mut scenario.replay("disk/a")).ended(4).names(&["checkpoint failed, training goes on", "No space left"]);
    assert!(said.err.contains("disk/a"), "{}", said.err);
    let after = tree(&mount.0.join("a"));
    let names = |tree: &BTreeMap<PathBuf, Vec<u8>>| tree.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&after), names(&before), "what was there stays, and nothing else does\n{}", said.err);
    assert!(after == before, "nothing of it is changed");
    std::fs::remove_file(&filler).expect("it can be removed");
    scenario.ends_alike("disk/a");
}

#[test]
fn read_only_checkpoint_folder_is_refused_and_left_alone() {
    let scenario = DiskScenario::new(2_000);
    let Some(mount) = Mount::new(scenario.place.path("disk"), "64m") else { return };
    run(scenario.replay("disk/a").env(VARIABLE, "published@1=kill"));
    mount.remount("ro");
    let before = tree(&mount.0);
    run(&mut scenario.replay("disk/a")).ended(4).names(&["disk/a", "Read-only file system"]);
    assert!(tree(&mount.0) == before);
    // To look needs no right to write.
    run(support::negstream().arg("inspect").arg(mount.0.join("a"))).ended(0);
    mount.remount("rw");
    scenario.ends_alike("disk/a");
}

#[test]
fn restore_falls_back_past_torn_or_empty_manifest() {
    let scenario = DiskScenario::new(4_000);
    scenario.ends_alike("sound");
    for (name, length) in [("empty", 0), ("torn", 100)] {
        support::copy(&scenario.place.path("sound"), &scenario.place.path(name));
        let path = scenario.place.newest(name).join("manifest.json");
        let text = read(&path);
        std::fs::write(&path, &text[..length]).expect("a writable file");
        scenario.ends_alike(name).names(&["checkpoint passed over", "manifest.json is damaged"]);
    }
}

#[test]
fn fresh_run_never_falls_back_to_the_previous_run() {
    let scenario = DiskScenario::new(4_000);
    scenario.ends_alike("a");
    let old = scenario.place.newest("a");
    // It dies as soon as it has said that it begins anew.
    run(scenario.replay("a").arg("--fresh").env(VARIABLE, "published=kill"));
    let first = scenario.place.newest("a");
    assert_ne!(first, old);
    let progress = first.join("progress.json");
    let sound = read(&progress);
    std::fs::write(&progress, b"{}").expect("a writable file");
    let before = tree(&scenario.place.path("a"));
    let name = |path: &Path| path.file_name().expect("a name").to_string_lossy().into_owned();
    let said = run(&mut scenario.replay("a")).ended(4);
    said.names(&["belong to another run", "progress.json", &name(&first), &name(&old)]);
    assert!(tree(&scenario.place.path("a")) == before, "the folder was changed");
    std::fs::write(&progress, sound).expect("a writable file");
    scenario.ends_alike("a");
}
