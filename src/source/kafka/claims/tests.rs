//! Decisions by hand, and a simulated group: whatever happens to its workers, each record ends in exactly one state.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn own(position: u64, hold: Hold) -> Option<Own> {
    Some(Own { position, hold })
}

fn history(claims: &[(u64, &str, u64, Option<u64>)]) -> Claims {
    let claim =
        |&(number, by, from, until): &(u64, &str, u64, Option<u64>)| Claim { number, by: by.to_owned(), from, until };
    Claims { claims: claims.iter().map(claim).collect() }
}

#[test]
fn one_that_comes_back_goes_on_where_its_state_stands() {
    let claims = history(&[(3, "a", 10, None)]);
    let begin = claims.begin("a", own(50, Hold::Claim(3)), Some(40));
    assert_eq!(begin, Ok(Begin::At { offset: 50, claim: 3, new: false }));
    // Its state is gone: all since the claim is its own to read again.
    assert_eq!(claims.begin("a", None, Some(40)), Ok(Begin::At { offset: 10, claim: 3, new: false }));
}

#[test]
fn what_was_set_by_hand_is_ignored_where_a_state_knows_better() {
    let none = Claims::parse("");
    assert_eq!(none, Claims::parse("somebody else's metadata"));
    let here = Ok(Begin::At { offset: 50, claim: 3, new: true });
    assert_eq!(none.begin("a", own(50, Hold::Claim(3)), Some(7)), here);
    assert_eq!(none.begin("a", own(50, Hold::Claim(3)), None), here);
    let outside = none.begin("a", own(50, Hold::Outside), Some(7));
    assert_eq!(outside, Ok(Begin::At { offset: 50, claim: 0, new: true }));
    let let_go = none.begin("a", own(50, Hold::LetGo), Some(7));
    assert_eq!(let_go, Ok(Begin::At { offset: 7, claim: 0, new: true }));
    assert_eq!(none.begin("a", None, None), Ok(Begin::Fresh { claim: 0 }));
}

#[test]
fn a_state_that_was_overtaken_is_found_out() {
    let claims = history(&[(3, "a", 10, None), (4, "b", 40, Some(60)), (5, "c", 60, None)]);
    assert_eq!(claims.begin("a", own(50, Hold::Claim(3)), Some(80)), Err(Conflict::Overtaken { from: 40 }));
    assert_eq!(claims.begin("a", own(30, Hold::Claim(3)), Some(80)), Err(Conflict::Short { from: 40 }));
    assert_eq!(claims.begin("a", own(40, Hold::Claim(3)), Some(80)), Ok(Begin::At { offset: 80, claim: 6, new: true }));
    assert_eq!(claims.begin("a", own(9, Hold::Claim(1)), Some(80)), Err(Conflict::Forgotten));
    assert_eq!(claims.begin("b", own(60, Hold::Claim(4)), Some(80)), Ok(Begin::At { offset: 80, claim: 6, new: true }));
}

#[test]
fn histories_are_read_back_and_stay_short() {
    let claims = history(&[(3, "a\"\u{1f600}", 10, None), (4, "b", 40, Some(60))]);
    assert_eq!(Claims::parse(&claims.text()), claims);
    let mut long = Claims::default();
    for number in 0..500 {
        long = long.claimed(&"w".repeat(200), number, number * 10).closed(number * 10 + 10);
    }
    let text = long.text();
    assert!(text.len() <= LONGEST);
    assert_eq!(Claims::parse(&text).newest(), long.newest());
}

/// A checkpoint: each partition's position and claim, and the records in it.
#[derive(Debug, Clone, Default)]
struct Saved {
    positions: BTreeMap<usize, Own>,
    records: BTreeMap<(usize, u64), u32>,
}

#[derive(Debug, Default)]
struct Worker {
    alive: bool,
    /// Oldest first.
    checkpoints: Vec<Saved>,
    state: Saved,
    holds: BTreeMap<usize, (u64, Claims)>,
}

const WORKERS: usize = 3;
const PARTITIONS: usize = 2;

/// The broker's side, and the workers.
#[derive(Debug, Default)]
struct Group {
    committed: [Option<(u64, Claims)>; PARTITIONS],
    workers: [Worker; WORKERS],
}

impl Group {
    fn name(worker: usize) -> String {
        format!("w{worker}")
    }

    fn committed(&self, partition: usize) -> (Option<u64>, Claims) {
        match &self.committed[partition] {
            Some((offset, claims)) => (Some(*offset), claims.clone()),
            None => (None, Claims::default()),
        }
    }

    /// Starts a worker: the newest checkpoint whose every partition is its own.
    fn start(&mut self, worker: usize) {
        if self.workers[worker].alive {
            return;
        }
        let sound = |saved: &Saved| {
            saved.positions.iter().all(|(partition, own)| self.committed(*partition).1.check(*own).is_ok())
        };
        let checkpoints = &self.workers[worker].checkpoints;
        let newest = checkpoints.iter().rposition(sound);
        assert!(newest.is_some() || checkpoints.is_empty(), "no checkpoint is sound: {self:?}");
        let known = newest.map_or(0, |newest| newest + 1);
        let worker = &mut self.workers[worker];
        worker.checkpoints.truncate(known);
        if worker.checkpoints.is_empty() {
            // Before it trains on anything, a new worker makes its beginning durable.
            worker.checkpoints.push(Saved::default());
        }
        worker.state = worker.checkpoints.last().cloned().unwrap_or_default();
        worker.alive = true;
    }

    /// Gives a partition to a worker; whoever held it is taken for dead.
    fn assign(&mut self, partition: usize, worker: usize) {
        let holder = (0..WORKERS).find(|holder| self.workers[*holder].holds.contains_key(&partition));
        if !self.workers[worker].alive || holder == Some(worker) {
            return;
        }
        if let Some(holder) = holder {
            if self.workers[holder].alive {
                self.let_go(partition, holder);
            } else {
                self.workers[holder].holds.remove(&partition);
            }
        }
        let me = Self::name(worker);
        let (committed, claims) = self.committed(partition);
        let own = self.workers[worker].state.positions.get(&partition).copied();
        let (offset, claim, new) = match claims.begin(&me, own, committed).expect("it was checked at its start") {
            Begin::At { offset, claim, new } => (offset, claim, new),
            Begin::Fresh { claim } => (0, claim, true),
        };
        let claims = if new { claims.claimed(&me, claim, offset) } else { claims };
        if new {
            self.committed[partition] = Some((offset, claims.clone()));
        }
        let worker = &mut self.workers[worker];
        worker.state.positions.insert(partition, Own { position: offset, hold: Hold::Claim(claim) });
        worker.holds.insert(partition, (claim, claims));
    }

    fn train(&mut self, worker: usize, n: u64) {
        let Worker { alive: true, state, holds, .. } = &mut self.workers[worker] else { return };
        for partition in holds.keys() {
            let own = state.positions.get_mut(partition).expect("what is held has a position");
            for _ in 0..n {
                *state.records.entry((*partition, own.position)).or_default() += 1;
                own.position += 1;
            }
        }
    }

    fn checkpoint(&mut self, worker: usize) {
        let worker = &mut self.workers[worker];
        if worker.alive {
            worker.checkpoints.push(worker.state.clone());
        }
    }

    fn commit(&mut self, worker: usize) {
        let Worker { alive: true, checkpoints, holds, .. } = &self.workers[worker] else { return };
        let Some(saved) = checkpoints.last() else { return };
        for (partition, (claim, claims)) in holds {
            match saved.positions.get(partition) {
                Some(own) if own.hold == Hold::Claim(*claim) => {
                    self.committed[*partition] = Some((own.position, claims.clone()));
                }
                _ => {}
            }
        }
    }

    fn let_go(&mut self, partition: usize, worker: usize) {
        self.checkpoint(worker);
        self.commit(worker);
        let worker = &mut self.workers[worker];
        let (_, claims) = worker.holds.remove(&partition).expect("it is held");
        let own = worker.state.positions.get_mut(&partition).expect("what is held has a position");
        self.committed[partition] = Some((own.position, claims.closed(own.position)));
        own.hold = Hold::LetGo;
    }

    /// A kill: nothing but the checkpoints stays; its partitions stay with it until somebody else gets them.
    fn kill(&mut self, worker: usize) {
        let worker = &mut self.workers[worker];
        worker.alive = false;
    }

    /// It comes back: to the partitions that nobody took meanwhile.
    fn come_back(&mut self, worker: usize) {
        if self.workers[worker].alive {
            return;
        }
        let held: Vec<usize> = std::mem::take(&mut self.workers[worker].holds).into_keys().collect();
        self.start(worker);
        held.into_iter().for_each(|partition| self.assign(partition, worker));
    }
}

#[derive(Debug, Clone)]
enum Turn {
    ComeBack(usize),
    Assign(usize, usize),
    Train(usize, u64),
    Checkpoint(usize),
    Commit(usize),
    Kill(usize),
}

fn turn() -> impl Strategy<Value = Turn> {
    let worker = 0..WORKERS;
    prop_oneof![
        2 => worker.clone().prop_map(Turn::ComeBack),
        3 => (0..PARTITIONS, worker.clone()).prop_map(|(partition, worker)| Turn::Assign(partition, worker)),
        4 => (worker.clone(), 1_u64..9).prop_map(|(worker, n)| Turn::Train(worker, n)),
        2 => worker.clone().prop_map(Turn::Checkpoint),
        2 => worker.clone().prop_map(Turn::Commit),
        2 => worker.prop_map(Turn::Kill),
    ]
}

proptest! {
    #[test]
    fn each_record_ends_in_exactly_one_state(turns in prop::collection::vec(turn(), 0..120)) {
        let mut group = Group::default();
        (0..WORKERS).for_each(|worker| group.start(worker));
        for turn in turns {
            match turn {
                Turn::ComeBack(worker) => group.come_back(worker),
                Turn::Assign(partition, worker) => group.assign(partition, worker),
                Turn::Train(worker, n) => group.train(worker, n),
                Turn::Checkpoint(worker) => group.checkpoint(worker),
                Turn::Commit(worker) => group.commit(worker),
                Turn::Kill(worker) => group.kill(worker),
            }
        }
        // Everybody comes back, what nobody holds is given to the first, and all that was ever read is read.
        (0..WORKERS).for_each(|worker| group.come_back(worker));
        for partition in 0..PARTITIONS {
            if group.workers.iter().all(|worker| !worker.holds.contains_key(&partition)) {
                group.assign(partition, 0);
            }
        }
        let reached = |group: &Group, partition: usize| {
            group.workers.iter().filter(|worker| worker.holds.contains_key(&partition)).map(|worker| worker.state.positions[&partition].position).max()
        };
        let ends: Vec<u64> = (0..PARTITIONS).map(|partition| reached(&group, partition).unwrap_or(0)).collect();
        let mut times = BTreeMap::new();
        for worker in &group.workers {
            for (record, n) in &worker.state.records {
                *times.entry(*record).or_insert(0) += n;
            }
        }
        for (partition, end) in ends.into_iter().enumerate() {
            for offset in 0..end {
                prop_assert_eq!(times.remove(&(partition, offset)), Some(1), "partition {} offset {}", partition, offset);
            }
        }
        prop_assert!(times.is_empty(), "beyond the ends: {times:?}");
    }
}
