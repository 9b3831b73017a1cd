//! Workers that come and go on an object store, while requests fail, take effect without an answer, or are the last ones
//! of their process: what was said to be durable stays, and nobody who was taken for dead commits.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};
use proptest::prelude::*;

use super::faulty::{Fault, Faulty};
use super::{newest, publish};
use crate::checkpoint::CheckpointError;
use crate::checkpoint::store::backend::{Backend as _, WritableBackend};
use crate::checkpoint::store::object::ObjectBackend;
use crate::checkpoint::store::object::bucket::BucketClient;
use crate::checkpoint::store::object::lease::LeaseRecord;
use crate::checkpoint::store::{Pinned, Store};
use crate::remote::retry::RetryPolicy;

const PREFIX: &str = "some/prefix";
const RETRY: RetryPolicy = RetryPolicy { attempts: 4, pause: Duration::ZERO, timeout: Duration::from_secs(60) };
/// So long that it is never renewed by itself: then the requests come in a known order.
const LEASE: Duration = Duration::from_secs(3600);

pub(super) fn backend(store: Arc<dyn ObjectStore>, lease: Duration) -> Box<ObjectBackend> {
    let client = BucketClient::new(store, PREFIX, "memory://bucket/some/prefix".into(), RETRY).unwrap();
    Box::new(ObjectBackend::new(client, lease))
}

fn open(store: Arc<dyn ObjectStore>) -> Result<Store, CheckpointError> {
    Ok(Store::over(backend(store, LEASE).acquire()?))
}

fn now<T>(work: impl Future<Output = T>) -> T {
    work.now_or_never().expect("memory answers at once")
}

fn key(name: &str) -> Path {
    Path::from(format!("{PREFIX}/{name}"))
}

fn bytes(memory: &InMemory, key: &Path) -> Option<Vec<u8>> {
    Some(now(now(memory.get(key)).ok()?.bytes()).unwrap().to_vec())
}

fn keys(memory: &InMemory) -> Vec<String> {
    let found = futures_util::StreamExt::collect::<Vec<_>>(memory.list(Some(&Path::from(PREFIX))));
    let mut keys: Vec<String> = now(found).into_iter().map(|object| object.unwrap().location.to_string()).collect();
    keys.sort();
    keys
}

/// What a newcomer finds who has watched the lease for long enough: an owner that gave no sign.
fn outlive(memory: &InMemory) {
    let Some(text) = bytes(memory, &key("lease.json")) else { return };
    let mut lease: LeaseRecord = serde_json::from_slice(&text).unwrap();
    lease.released = true;
    now(memory.put(&key("lease.json"), serde_json::to_vec(&lease).unwrap().into())).unwrap();
}

/// How a worker fares.
#[derive(Debug, Clone)]
struct Life {
    /// For each of its requests, in order.
    faults: Vec<Option<Fault>>,
    checkpoints: u8,
    fresh: bool,
    /// It is stopped at the end, and goes on after the next one took over.
    zombie: bool,
}

fn life() -> impl Strategy<Value = Life> {
    let fault = prop_oneof![
        12 => Just(None),
        2 => Just(Some(Fault::Before)),
        2 => Just(Some(Fault::After)),
        2 => Just(Some(Fault::Conflict)),
        1 => Just(Some(Fault::DeathBefore)),
        1 => Just(Some(Fault::DeathAfter)),
    ];
    let faults = prop::collection::vec(fault, 0..60);
    (faults, 0_u8..4, prop::bool::weighted(0.1), any::<bool>()).prop_map(|(faults, checkpoints, fresh, zombie)| Life {
        faults,
        checkpoints,
        fresh,
        zombie,
    })
}

/// What everybody who may look must find: the newest checkpoint intact.
fn newest_visible(memory: &Arc<InMemory>) -> Option<u64> {
    let reader = backend(memory.clone(), LEASE);
    let number = reader.numbers().unwrap().last().copied()?;
    let checkpoint = reader.fetch(number).unwrap_or_else(|error| panic!("the newest checkpoint: {error}"));
    Some(super::state(&checkpoint).unwrap())
}

fn live(lives: &[Life]) {
    let memory = Arc::new(InMemory::new());
    // The newest state that anybody was told is durable.
    let mut durable: u64 = 0;
    let mut zombies: Vec<(Store, u64)> = Vec::new();
    for (generation, life) in lives.iter().enumerate() {
        outlive(&memory);
        let faulty = Faulty::new(&memory, life.faults.iter().copied());
        let Ok(store) = open(faulty.clone()) else { continue };
        // A run that begins anew has states of its own, above all others.
        let restored = if life.fresh {
            Ok(((generation as u64 + 1) * 1000, Vec::new()))
        } else {
            newest(&store).map(|(state, passed)| (state.unwrap_or(0), passed))
        };
        let Ok((mut state, passed)) = restored else { continue };
        assert!(passed.is_empty(), "{passed:?}");
        assert!(state >= durable, "{durable} was durable, {state} was restored");
        let begins = state == 0 || life.fresh;
        for _ in 0..u64::from(life.checkpoints) + u64::from(begins) {
            state += 1;
            match publish(&store, state) {
                Ok(_) => durable = state,
                Err(error) if error.is_fenced() => panic!("nobody took over: {error}"),
                Err(_) => {}
            }
            if faulty.is_dead() {
                break;
            }
            newest_visible(&memory);
            let _ = store.prune(2, &Pinned::default());
            newest_visible(&memory);
        }
        // Who was taken for dead before this one took its number commits no more, as soon as that number is taken.
        let took_over = durable == state && !faulty.is_dead();
        if took_over {
            for (zombie, last) in &zombies {
                assert!(publish(zombie, last + 1).is_err(), "a zombie committed");
            }
        }
        assert!(newest_visible(&memory).unwrap_or(0) >= durable);
        if life.zombie && !faulty.is_dead() {
            faulty.heal();
            zombies.push((store, state));
        } else if faulty.is_dead() {
            // Its destructors run here, but nothing of theirs arrives.
            drop(store);
        }
    }
    outlive(&memory);
    let store = open(memory.clone()).unwrap();
    let found = newest(&store).unwrap();
    assert!(found.0.unwrap_or(0) >= durable && found.1.is_empty(), "{durable} was durable, now {found:?}");
    let state = found.0.unwrap_or(0) + 1;
    publish(&store, state).unwrap();
    publish(&store, state + 1).unwrap();
    for (zombie, last) in &zombies {
        assert!(publish(zombie, last + 1).is_err(), "a zombie committed at the end");
    }
    store.prune(1, &Pinned::default()).unwrap();
    assert_eq!(newest_visible(&memory), Some(state + 1));
    // The lease, and one checkpoint: a manifest and three files. All else is swept.
    let left: Vec<String> = keys(&memory).into_iter().filter(|key| !key.contains("lease.json")).collect();
    assert_eq!(left.len(), 4, "{left:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn store_keeps_durable_states_whatever_fails(lives in prop::collection::vec(life(), 1..6)) {
        live(&lives);
    }
}

#[test]
fn commit_recognises_its_own_put_after_a_lost_answer() {
    let memory = Arc::new(InMemory::new());
    let faulty = Faulty::new(&memory, []);
    let store = open(faulty.clone()).unwrap();
    // Every request of a checkpoint, one after the other, loses its answer, conflicts, or fails once.
    for fault in [Fault::After, Fault::Conflict, Fault::Before] {
        for request in 0..8 {
            let state = newest_visible(&memory).unwrap_or(0) + 1;
            faulty.plan(std::iter::repeat_n(None, request).chain([Some(fault)]));
            publish(&store, state).unwrap_or_else(|error| panic!("{fault:?} at request {request}: {error}"));
            faulty.heal();
            assert_eq!(newest_visible(&memory), Some(state), "{fault:?} at request {request}");
            store.prune(2, &Pinned::default()).unwrap();
        }
    }
}

#[test]
fn lease_has_one_winner_among_simultaneous_newcomers() {
    let memory = Arc::new(InMemory::new());
    drop(open(memory.clone()).unwrap());
    let together = std::sync::Barrier::new(8);
    let opened: Vec<_> = std::thread::scope(|scope| {
        let start = || {
            together.wait();
            // A short time to live: whoever comes a little later sees the winner renew it.
            let owned: Result<Box<dyn WritableBackend>, _> =
                backend(memory.clone(), Duration::from_millis(200)).acquire();
            together.wait();
            owned.map(|_| ())
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(start)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(opened.iter().filter(|opened| opened.is_ok()).count(), 1, "{opened:?}");
    let refused =
        |error: &CheckpointError| matches!(error, CheckpointError::Fenced { .. } | CheckpointError::Locked { .. });
    assert!(opened.iter().filter_map(|opened| opened.as_ref().err()).all(refused), "{opened:?}");
}

#[test]
fn fenced_worker_does_not_commit() {
    let memory = Arc::new(InMemory::new());
    let zombie = open(memory.clone()).unwrap();
    newest(&zombie).unwrap();
    publish(&zombie, 1).unwrap();
    outlive(&memory);
    let heir = open(memory.clone()).unwrap();
    assert_eq!(newest(&heir).unwrap().0, Some(1));
    // Its lease is gone; but even one that had looked at it just before finds its number taken.
    let error = publish(&zombie, 2).unwrap_err();
    assert!(matches!(error, CheckpointError::Fenced { epoch: 2, .. }), "{error}");
    assert!(zombie.ensure_owned().unwrap_err().is_fenced());
    assert_eq!(newest_visible(&memory), Some(1));
    publish(&heir, 2).unwrap();
    assert_eq!(newest_visible(&memory), Some(2));
}

#[test]
fn fenced_worker_does_not_commit_when_stopped_between_lease_and_put() {
    for heir_publishes in [false, true] {
        let memory = Arc::new(InMemory::new());
        let faulty = Faulty::new(&memory, []);
        let zombie = open(faulty.clone()).unwrap();
        newest(&zombie).unwrap();
        publish(&zombie, 1).unwrap();
        let shared = memory.clone();
        faulty.before_the_manifest(move || {
            outlive(&shared);
            let heir = open(shared.clone()).unwrap();
            assert_eq!(newest(&heir).unwrap().0, Some(1));
            if heir_publishes {
                publish(&heir, 10).unwrap();
            }
        });
        let error = publish(&zombie, 2).unwrap_err();
        assert!(matches!(error, CheckpointError::Fenced { epoch: 2, .. }), "{error}");
        assert_eq!(newest_visible(&memory), Some(if heir_publishes { 10 } else { 1 }));
    }
}

#[test]
fn restore_finds_a_commit_made_during_its_search() {
    let memory = Arc::new(InMemory::new());
    let early = Faulty::new(&memory, []);
    let dying = open(early.clone()).unwrap();
    publish(&dying, 1).unwrap();
    // The newcomer's claim is on its way while the last put of the one before, which had looked at its lease in time,
    // arrives.
    let newcomer = Faulty::new(&memory, []);
    let (shared, mine) = (memory.clone(), newcomer.clone());
    let (found, restored) = std::sync::mpsc::channel();
    early.before_the_manifest(move || {
        outlive(&shared);
        let (go_on, reached) = std::sync::mpsc::channel();
        let (put, arrived) = std::sync::mpsc::channel::<()>();
        mine.before_the_manifest(move || {
            go_on.send(()).unwrap();
            arrived.recv().unwrap();
        });
        std::thread::spawn(move || {
            let heir = open(mine).unwrap();
            let state = newest(&heir).unwrap().0;
            found.send((state, put_later(&heir))).unwrap();
        });
        reached.recv().unwrap();
        // From here on the put of the dying one goes through; then the newcomer's.
        std::thread::spawn(move || {
            while keys(&shared).iter().filter(|key| key.ends_with("manifest.json")).count() < 2 {
                std::thread::yield_now();
            }
            put.send(()).unwrap();
        });
    });
    publish(&dying, 2).unwrap();
    assert_eq!(restored.recv().unwrap(), (Some(2), 3));
    assert_eq!(newest_visible(&memory), Some(3));
}

/// Publishes the state after the newest.
fn put_later(heir: &Store) -> u64 {
    publish(heir, 3).unwrap();
    3
}

#[test]
fn retention_does_not_count_restarts() {
    let memory = Arc::new(InMemory::new());
    let store = open(memory.clone()).unwrap();
    for state in 1..=3 {
        publish(&store, state).unwrap();
    }
    drop(store);
    for _ in 0..5 {
        // Each start takes a number, for a state that is there already.
        let store = open(memory.clone()).unwrap();
        assert_eq!(newest(&store).unwrap().0, Some(3));
        store.prune(3, &Pinned::default()).unwrap();
    }
    let files: Vec<String> = keys(&memory).into_iter().filter(|key| key.ends_with("/state.json")).collect();
    assert_eq!(files.len(), 3, "three states are kept: {files:?}");
    // The newest is damaged: all of its manifests refer to that file, and the state before is used.
    let newest_file = Path::from(files.last().unwrap().as_str());
    now(memory.put(&newest_file, "x".into())).unwrap();
    let store = open(memory.clone()).unwrap();
    assert_eq!(newest(&store).unwrap().0, Some(2));
}

#[test]
fn pinned_checkpoint_stays_whole_however_old() {
    let memory = Arc::new(InMemory::new());
    let store = open(memory.clone()).unwrap();
    let publish_many = |paths: &mut Vec<PathBuf>, pinned: &Pinned| {
        for _ in 0..4 {
            paths.push(publish(&store, paths.len() as u64 + 1).unwrap());
            store.prune(1, pinned).unwrap();
        }
    };
    let mut paths = Vec::new();
    publish_many(&mut paths, &Pinned::default());
    let pinned = Pinned { checkpoints: vec![paths[3].clone()], up_to: None };
    publish_many(&mut paths, &pinned);
    let mut files: Vec<String> = keys(&memory).into_iter().filter(|key| key.ends_with("/state.json")).collect();
    assert_eq!(files.len(), 2, "the newest and the one spared: {files:?}");
    // The newest is damaged: the one that was spared is whole.
    let newest_file = Path::from(files.pop().unwrap());
    now(memory.put(&newest_file, "x".into())).unwrap();
    drop(store);
    assert_eq!(newest(&open(memory.clone()).unwrap()).unwrap().0, Some(4));
}

#[test]
fn prune_leaves_foreign_objects_alone() {
    let memory = Arc::new(InMemory::new());
    let strange = ["README.md", "0000000001/notes.txt", "0000000001/e1-x/", "models/e1-00/items.parquet"];
    for name in strange {
        now(memory.put(&key(name), "theirs".into())).unwrap();
    }
    let store = open(memory.clone()).unwrap();
    for state in 1..=3 {
        publish(&store, state).unwrap();
        store.prune(1, &Pinned::default()).unwrap();
    }
    for name in strange {
        assert!(bytes(&memory, &key(name)).is_some(), "{name}");
    }
}
