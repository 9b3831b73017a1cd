//! A folder on a disk, step by step: drafts that fail, numbers that are taken, runs that are not mixed.

use std::path::Path;

use super::{folder, manifest_of, newest, publish, state};
use crate::checkpoint::manifest::Manifest;
use crate::checkpoint::store::find;
use crate::checkpoint::store::{Pinned, Store};
use crate::checkpoint::{Checkpoint, CheckpointError};

fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn failed_draft_leaves_nothing_behind_and_tells_why() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&folder(dir.path())).unwrap();
    let mut draft = store.draft().unwrap();
    let full = || Box::new(std::io::Error::from_raw_os_error(28));
    let error = draft.file("items.parquet", |_| Err(full())).unwrap_err();
    let CheckpointError::Io { source, .. } = &error else { panic!("{error}") };
    assert_eq!(source.kind(), std::io::ErrorKind::StorageFull);
    drop(draft);
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, [".lock"]);
    publish(&store, 1).unwrap();
    assert_eq!(newest(&store).unwrap().0, Some(1));
}

#[test]
fn commit_does_not_overwrite_a_taken_number() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&folder(dir.path())).unwrap();
    let draft = store.draft().unwrap();
    // By whoever does not heed the lock.
    let taken = dir.path().join("0000000001");
    std::fs::create_dir(&taken).unwrap();
    std::fs::write(taken.join("manifest.json"), "theirs").unwrap();
    let manifest = Checkpoint::open(elsewhere()).unwrap().manifest().clone();
    let error = draft.publish(|_| manifest).unwrap_err();
    assert!(matches!(error, CheckpointError::NumberTaken { .. }), "{error}");
    assert_eq!(std::fs::read_to_string(taken.join("manifest.json")).unwrap(), "theirs");
    publish(&store, 8).unwrap();
    assert_eq!(newest(&store).unwrap().0, Some(8));
}

/// A place with a checkpoint in it.
fn elsewhere() -> std::path::PathBuf {
    let dir = tempfile::tempdir().unwrap().keep();
    publish(&Store::open(&folder(&dir)).unwrap(), 8).unwrap();
    dir
}

#[test]
fn restore_does_not_fall_back_to_another_run() {
    let dir = tempfile::tempdir().unwrap();
    for states in [[1, 2], [101, 102]] {
        // A store that never looked for a checkpoint begins a run of its own, as `--fresh` does.
        let store = Store::open(&folder(dir.path())).unwrap();
        states.into_iter().for_each(|state| drop(publish(&store, state).unwrap()));
    }
    let store = Store::open(&folder(dir.path())).unwrap();
    flip(&dir.path().join("0000000004/items.parquet"));
    let (found, passed) = newest(&store).unwrap();
    assert_eq!((found, passed.len()), (Some(101), 1), "within the run it is fallen back");
    for damaged in ["0000000003/state.json", "0000000003/manifest.json"] {
        flip(&dir.path().join(damaged));
        let error = newest(&store).unwrap_err();
        assert!(matches!(error, CheckpointError::OtherRun { .. }), "{damaged}: {error}");
        assert!(error.to_string().contains("0000000002") && error.to_string().contains("0000000003"), "{error}");
    }
    // Neither manifest nor lineage: it might be of any run.
    std::fs::remove_file(dir.path().join("0000000003/lineage")).unwrap();
    assert!(newest(&store).is_err());
    // The way out that the message names.
    std::fs::remove_dir_all(dir.path().join("0000000003")).unwrap();
    std::fs::remove_dir_all(dir.path().join("0000000004")).unwrap();
    assert_eq!(newest(&store).unwrap().0, Some(2));
}

#[test]
fn restore_falls_back_within_a_resumed_run() {
    let dir = tempfile::tempdir().unwrap();
    for expected in [None, Some(1), Some(2)] {
        let store = Store::open(&folder(dir.path())).unwrap();
        assert_eq!(newest(&store).unwrap().0, expected);
        publish(&store, expected.unwrap_or(0) + 1).unwrap();
    }
    flip(&dir.path().join("0000000003/manifest.json"));
    flip(&dir.path().join("0000000002/state.json"));
    let store = Store::open(&folder(dir.path())).unwrap();
    assert_eq!(newest(&store).unwrap().0, Some(1));
}

#[test]
fn writer_whose_lock_is_gone_is_fenced() {
    for replace in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&folder(dir.path())).unwrap();
        publish(&store, 1).unwrap();
        let begun = store.draft().unwrap();
        std::fs::remove_file(dir.path().join(".lock")).unwrap();
        let second = replace.then(|| Store::open(&folder(dir.path())).unwrap());
        let manifest = Checkpoint::open(elsewhere()).unwrap().manifest().clone();
        for outcome in
            [begun.publish(|_| manifest).map(drop), store.draft().map(drop), store.prune(1, &Pinned::default())]
        {
            let error = outcome.unwrap_err();
            assert!(error.is_fenced(), "{error}");
        }
        assert!(store.ensure_owned().unwrap_err().is_fenced());
        if let Some(second) = second {
            assert_eq!(newest(&second).unwrap().0, Some(1));
            publish(&second, 2).unwrap();
        }
    }
}

#[test]
fn pointer_of_somebody_else_stays() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("latest"), "their notes").unwrap();
    let store = Store::open(&folder(dir.path())).unwrap();
    let draft = store.draft().unwrap();
    draft.publish(|files| Manifest { items: 1, ..manifest_of(1, files) }).unwrap();
    assert_eq!(std::fs::read_to_string(dir.path().join("latest")).unwrap(), "their notes");
    // Where the file system has no links, a file has the text of one.
    std::fs::write(dir.path().join("latest"), "0000000001\n").unwrap();
    let draft = store.draft().unwrap();
    draft.publish(|files| Manifest { items: 1, ..manifest_of(2, files) }).unwrap();
    assert_eq!(std::fs::read_link(dir.path().join("latest")).unwrap(), Path::new("0000000002"));
}

#[test]
fn lock_refuses_a_second_worker_but_no_reader() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&folder(dir.path())).unwrap();
    publish(&store, 1).unwrap();
    assert!(matches!(Store::open(&folder(dir.path())), Err(CheckpointError::Locked { .. })));
    assert_eq!(state(&find(dir.path(), &folder(dir.path())).unwrap()).unwrap(), 1);
    assert_eq!(state(&find(&dir.path().join("0000000001"), &folder(dir.path())).unwrap()).unwrap(), 1);
    let url = format!("file://{}", dir.path().display());
    assert_eq!(state(&find(Path::new(&url), &folder(dir.path())).unwrap()).unwrap(), 1);
}
