//! The contract of [`Backend`] and [`WritableBackend`], clause by clause, for each backend there is: a folder, an object
//! store, and the double in memory.

use std::io::Write as _;
use std::path::Path;

use super::memory::MemoryBackend;
use super::{folder, manifest_of, newest, publish, state};
use crate::checkpoint::CheckpointError;
use crate::checkpoint::manifest::Manifest;
use crate::checkpoint::store::backend::{Backend, DraftId, WritableBackend};
use crate::checkpoint::store::location::backend_at;
use crate::checkpoint::store::{LINEAGE, Pinned, Store};

/// Does `check` with each kind of backend; each call of the function that it gets opens the same, new place.
fn for_each_backend(check: impl Fn(&str, &dyn Fn() -> Box<dyn Backend>)) {
    let dir = tempfile::tempdir().unwrap();
    let config = folder(&dir.path().join("new"));
    check("folder", &|| backend_at(&config.dir, &config).unwrap());
    #[cfg(feature = "s3")]
    {
        let store = std::sync::Arc::new(object_store::memory::InMemory::new());
        // So short that a newcomer soon knows whether its owner is alive.
        let lease = std::time::Duration::from_millis(200);
        check("object store", &|| super::object_store::backend(store.clone(), lease));
    }
    let memory = MemoryBackend::default();
    check("memory", &|| Box::new(memory.clone()));
}

/// Writes a file of `draft` whole.
fn write(backend: &dyn WritableBackend, draft: &DraftId, name: &str, content: &str) {
    let mut file = backend.create(draft, name).unwrap();
    file.write_all(content.as_bytes()).unwrap();
    file.finish().unwrap();
}

#[test]
fn backend_lists_nothing_before_first_commit() {
    for_each_backend(|kind, open| {
        assert!(open().numbers().unwrap().is_empty(), "{kind}: a place that does not exist yet");
        let owner = open().acquire().unwrap();
        let draft = owner.begin().unwrap();
        write(&*owner, &draft, LINEAGE, "a\n");
        assert!(open().numbers().unwrap().is_empty(), "{kind}: a draft is not seen");
        owner.discard(&draft, &[]);
        assert!(open().numbers().unwrap().is_empty(), "{kind}: a discarded draft is not seen");
    });
}

#[test]
fn backend_shows_committed_checkpoint_to_every_reader() {
    for_each_backend(|kind, open| {
        let store = Store::over(open().acquire().unwrap());
        let path = publish(&store, 7).unwrap();
        let reader = open();
        assert_eq!(reader.numbers().unwrap(), [1], "{kind}");
        assert_eq!(path, reader.address().join("0000000001"), "{kind}");
        assert_eq!(reader.manifest(1).unwrap().step, 7, "{kind}");
        let lineage = reader.manifest(1).unwrap().provenance.lineage;
        assert_eq!(reader.lineage_marker(1), Some(lineage), "{kind}");
        let checkpoint = reader.fetch(1).unwrap();
        assert_eq!(checkpoint.path(), path, "{kind}");
        assert_eq!(state(&checkpoint).unwrap(), 7, "{kind}");
        assert!(matches!(reader.fetch(2), Err(CheckpointError::Damaged { .. })), "{kind}");
    });
}

#[test]
fn backend_has_one_owner_at_a_time() {
    for_each_backend(|kind, open| {
        let owner = open().acquire().unwrap();
        owner.ensure_owned().unwrap();
        let error = open().acquire().unwrap_err();
        assert!(matches!(error, CheckpointError::Locked { .. }), "{kind}: {error}");
        drop(owner);
        open().acquire().unwrap_or_else(|error| panic!("{kind}: it was given back: {error}"));
    });
}

#[test]
fn backend_numbers_only_grow() {
    for_each_backend(|kind, open| {
        for expected in 1..=4 {
            let store = Store::over(open().acquire().unwrap());
            let next = store.backend().next_number().unwrap();
            assert!(next >= expected, "{kind}: {next}");
            assert!(open().numbers().unwrap().last().is_none_or(|last| *last < next), "{kind}");
            // A claim may take a number of its own.
            assert_eq!(newest(&store).unwrap().0.unwrap_or(0), expected - 1, "{kind}");
            publish(&store, expected).unwrap();
        }
    });
}

#[test]
fn backend_claim_refuses_taken_number_or_locks_others_out() {
    for_each_backend(|kind, open| {
        let store = Store::over(open().acquire().unwrap());
        publish(&store, 1).unwrap();
        let backend = store.backend();
        let next = backend.next_number().unwrap();
        assert!(backend.claim(next, &open().manifest(1).unwrap()).unwrap(), "{kind}");
        assert_eq!(newest(&store).unwrap().0, Some(1), "{kind}: a claim is the same state");
    });
}

#[test]
fn backend_prune_keeps_newest_and_pinned_whole() {
    for_each_backend(|kind, open| {
        let store = Store::over(open().acquire().unwrap());
        let paths: Vec<_> = (1..=6).map(|number| publish(&store, number).unwrap()).collect();
        let pinned = Pinned { checkpoints: vec![paths[2].clone()], up_to: None };
        store.prune(2, &pinned).unwrap();
        let reader = open();
        assert_eq!(reader.numbers().unwrap(), [3, 5, 6], "{kind}");
        for number in [3, 5, 6] {
            assert_eq!(state(&reader.fetch(number).unwrap()).unwrap(), number, "{kind}");
        }
    });
}

#[test]
fn backend_points_to_the_newest_checkpoint_that_holds_an_item() {
    for_each_backend(|kind, open| {
        assert_eq!(open().latest().unwrap(), None, "{kind}");
        let publish_items = |store: &Store, items: u64| {
            let draft = store.draft().unwrap();
            draft.publish(|files| Manifest { items, ..manifest_of(1, files) }).unwrap();
            store.prune(1, &Pinned::default()).unwrap();
        };
        let store = Store::over(open().acquire().unwrap());
        for (items, expected) in [(0, None), (1, Some(2)), (2, Some(3))] {
            publish_items(&store, items);
            assert_eq!(open().latest().unwrap(), expected, "{kind}: {items} items");
        }
        drop(store);
        // A run that begins anew has nothing to show at first; what was pointed to stays for as long.
        let store = Store::over(open().acquire().unwrap());
        publish_items(&store, 0);
        assert_eq!(open().latest().unwrap(), Some(3), "{kind}");
        assert_eq!(open().numbers().unwrap(), [3, 4], "{kind}");
        publish_items(&store, 9);
        assert_eq!((open().latest().unwrap(), open().numbers().unwrap()), (Some(5), vec![5]), "{kind}");
    });
}

#[test]
fn backend_commit_replaces_nothing() {
    for_each_backend(|kind, open| {
        let owner = open().acquire().unwrap();
        let (first, second) = (owner.begin().unwrap(), owner.begin().unwrap());
        for (draft, state) in [(&first, 1), (&second, 2)] {
            if draft.folder == first.folder && state == 2 {
                // A folder has room for one draft.
                return;
            }
            write(&*owner, draft, LINEAGE, "a\n");
            match owner.commit(draft, manifest_of(state, Vec::new())) {
                Ok(path) => assert!(path.ends_with(format!("{:010}", open().numbers().unwrap().len())), "{kind}"),
                Err(error) => assert!(matches!(error, CheckpointError::NumberTaken { .. }), "{kind}: {error}"),
            }
        }
        assert_eq!(open().manifest(1).unwrap().step, 1, "{kind}");
    });
}

#[test]
fn failed_checkpoint_costs_only_itself() {
    let methods = ["numbers", "begin", "create", "write", "finish", "commit"];
    for method in methods {
        let place = MemoryBackend::default();
        let store = Store::over(Box::new(place.clone()).acquire().unwrap());
        publish(&store, 1).unwrap();
        place.state.lock().unwrap().failing = Some(method);
        publish(&store, 2).unwrap_err();
        assert_eq!(place.n_drafts(), 0, "{method}: something of the draft is left");
        assert_eq!(newest(&store).unwrap().0, Some(1), "{method}");
        publish(&store, 3).unwrap();
        assert_eq!(newest(&store).unwrap().0, Some(3), "{method}");
    }
}

#[test]
fn restore_reports_backend_failure_instead_of_falling_back() {
    for method in ["numbers", "fetch", "claim"] {
        let place = MemoryBackend::default();
        let store = Store::over(Box::new(place.clone()).acquire().unwrap());
        publish(&store, 1).unwrap();
        publish(&store, 2).unwrap();
        place.state.lock().unwrap().failing = Some(method);
        let error = newest(&store).unwrap_err();
        assert!(matches!(error, CheckpointError::Io { .. }), "{method}: {error}");
        assert_eq!(newest(&store).unwrap(), (Some(2), Vec::new()), "{method}: nothing was damaged");
    }
}

#[test]
fn checkpoint_path_of_backend_is_below_its_address() {
    for_each_backend(|kind, open| {
        let store = Store::over(open().acquire().unwrap());
        let path = publish(&store, 1).unwrap();
        assert_eq!(path.parent().unwrap(), open().address(), "{kind}");
        assert_eq!(path.file_name(), Some(Path::new("0000000001").as_os_str()), "{kind}");
    });
}
