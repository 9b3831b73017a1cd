//! A simulated group: whatever happens to its workers, each record ends in exactly one state.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::position::Positions;
use crate::source::{CommitTracker, RestorePoints};

/// A checkpoint: each partition's position and claim, and the records in it.
#[derive(Debug, Clone, Default)]
struct SavedState {
    positions: BTreeMap<usize, LocalClaim>,
    records: BTreeMap<(usize, u64), u32>,
}

impl SavedState {
    /// Positions of all partitions.
    fn reached(&self) -> Positions {
        self.positions.iter().map(|(partition, own)| (stream(*partition), own.position)).collect()
    }

    /// Positions of the partitions that the state holds by claims.
    fn claimed(&self) -> Positions {
        let claimed = self.positions.iter().filter(|(_, own)| matches!(own.record, OwnershipRecord::Claim(_)));
        claimed.map(|(partition, own)| (stream(*partition), own.position)).collect()
    }
}

fn stream(partition: usize) -> String {
    format!("kafka/t/{partition}")
}

/// Offsets and histories, by partition, that take effect together.
type Commit = BTreeMap<usize, (u64, Claims)>;

#[derive(Debug, Default)]
struct Worker {
    alive: bool,
    /// Oldest first.
    checkpoints: Vec<SavedState>,
    /// So many of them were there at its start; they are spared until the group has confirmed one of this life.
    restored: usize,
    state: SavedState,
    holds: BTreeMap<usize, (u64, Claims)>,
    commits: CommitTracker,
    /// On its way to the coordinator.
    flying: Option<Commit>,
    /// Whether an answer is on its way back.
    landed: bool,
    /// Whether its newest checkpoint is damaged: until it writes another.
    is_damaged: bool,
}

const WORKERS: usize = 3;
const PARTITIONS: usize = 2;

impl Worker {
    /// What its state holds by claims, and another may have by now.
    fn unsure(&self) -> Vec<usize> {
        let held = |own: &LocalClaim| self.alive && matches!(own.record, OwnershipRecord::Claim(_));
        let unsure =
            self.state.positions.iter().filter(|(partition, own)| held(own) && !self.holds.contains_key(partition));
        unsure.map(|(partition, _)| *partition).collect()
    }
}

/// The broker's side, and the workers.
#[derive(Debug, Default)]
struct Group {
    committed: [Option<(u64, Claims)>; PARTITIONS],
    workers: [Worker; WORKERS],
    /// Whether a worker has refused to start, since records are in no state any more: somebody has to bring one back.
    is_refused: bool,
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
        let me = Self::name(worker);
        let mut is_older = self.workers[worker].is_damaged;
        let sound = |saved: &SavedState, is_older: bool| {
            let is_own =
                saved.positions.iter().all(|(partition, own)| self.committed(*partition).1.check(&me, *own).is_ok());
            let reached = |partition| saved.positions.get(&partition).map(|own| own.position);
            let is_whole = (0..PARTITIONS)
                .all(|partition| self.committed(partition).1.check_whole(&me, reached(partition)).is_ok());
            is_own && (is_whole || !is_older)
        };
        // One that lacks records which nobody has is passed over for good.
        let is_short = |saved: &SavedState| {
            let check = |(partition, own): (&usize, &LocalClaim)| self.committed(*partition).1.check(&me, *own);
            saved.positions.iter().any(|held| matches!(check(held), Err(Conflict::Short { .. } | Conflict::Forgotten)))
        };
        let checkpoints = &self.workers[worker].checkpoints;
        let newest = checkpoints.iter().rposition(|saved| {
            let is_sound = sound(saved, is_older);
            is_older |= !is_sound && is_short(saved);
            is_sound
        });
        if is_older && newest.is_none() {
            self.is_refused = true;
            return;
        }
        assert!(newest.is_some() || checkpoints.is_empty(), "no checkpoint is sound: {self:?}");
        let known = newest.map_or(0, |newest| newest + 1);
        let worker_index = worker;
        let worker = &mut self.workers[worker_index];
        worker.checkpoints.truncate(known);
        (worker.commits, worker.flying, worker.landed) = (CommitTracker::default(), None, false);
        if worker.checkpoints.is_empty() {
            // Before it trains on anything, a new worker makes its beginning durable.
            worker.checkpoints.push(SavedState::default());
        }
        worker.restored = worker.checkpoints.len();
        worker.state = worker.checkpoints.last().cloned().unwrap_or_default();
        worker.alive = true;
        for partition in 0..PARTITIONS {
            let (_, claims) = self.committed(partition);
            let positions = &mut self.workers[worker_index].state.positions;
            let own = positions.get(&partition).copied();
            if (is_older || own.is_some())
                && let Some(gone_back) = claims.gone_back(&me, own)
            {
                positions.insert(partition, gone_back);
            }
        }
    }

    fn holder(&self, partition: usize) -> Option<usize> {
        (0..WORKERS).find(|holder| self.workers[*holder].holds.contains_key(&partition))
    }

    /// Takes a partition away: in good order, where that goes.
    fn revoke(&mut self, partition: usize) {
        let Some(holder) = self.holder(partition) else { return };
        if self.workers[holder].alive && self.workers[holder].unsure().is_empty() {
            self.let_go(partition, holder);
        } else {
            self.kill(holder);
            self.workers[holder].holds.remove(&partition);
        }
    }

    /// Gives a partition to a worker; whoever held it lets go of it, or is taken for dead. Where the answer to its claim is
    /// `lost`, it has not got it yet.
    fn assign(&mut self, partition: usize, worker: usize, lost: bool) {
        if !self.workers[worker].alive || self.holder(partition) == Some(worker) {
            return;
        }
        self.revoke(partition);
        let me = Self::name(worker);
        let (committed, claims) = self.committed(partition);
        let own = self.workers[worker].state.positions.get(&partition).copied();
        let (offset, claim, new) = match claims.begin(&me, own, committed) {
            Ok(Begin::At { offset, claim, new }) => (offset, claim, new),
            Ok(Begin::Fresh { claim }) => (0, claim, true),
            // What it is to read again was another's before it was assigned that.
            Err(Conflict::Short { .. }) => {
                self.is_refused = true;
                return self.kill(worker);
            }
            // Taken over and let go of since its start.
            Err(_) => return self.kill(worker),
        };
        let claims = if new { claims.claimed(&me, claim, offset, PARTITIONS as u32) } else { claims };
        if new {
            self.committed[partition] = Some((offset, claims.clone()));
        }
        if lost {
            return;
        }
        let worker = &mut self.workers[worker];
        let is_saved = worker.checkpoints.last().is_some_and(|newest| newest.records == worker.state.records);
        worker
            .state
            .positions
            .insert(partition, LocalClaim { position: offset, record: OwnershipRecord::Claim(claim) });
        worker.holds.insert(partition, (claim, claims));
        if is_saved {
            worker.commits.request(worker.state.reached());
        }
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

    /// A checkpoint; of the older ones only those stay that the group may send back to.
    fn checkpoint(&mut self, worker: usize) {
        let worker = &mut self.workers[worker];
        if !worker.alive {
            return;
        }
        let claimed: Vec<Positions> = worker.checkpoints.iter().map(SavedState::claimed).collect();
        let since = worker.restored.min(claimed.len());
        let RestorePoints { confirmed, unconfirmed } = worker.commits.restore_points(claimed[since..].iter());
        if confirmed.is_some() {
            worker.restored = 0;
        }
        let back: Vec<usize> = confirmed.into_iter().chain(unconfirmed).map(|index| index + since).collect();
        let mut index = 0..;
        let restored = worker.restored;
        worker.checkpoints.retain(|_| index.next().is_some_and(|index| index < restored || back.contains(&index)));
        worker.checkpoints.push(worker.state.clone());
        worker.is_damaged = false;
    }

    /// It is durable, and the group is to know.
    fn want(&mut self, worker: usize) {
        let Worker { alive: true, checkpoints, commits, restored, .. } = &self.workers[worker] else { return };
        if checkpoints.len() > *restored
            && let Some(newest) = checkpoints.last()
        {
            commits.request(newest.reached());
        }
    }

    fn send(&mut self, worker: usize) {
        let worker = &mut self.workers[worker];
        if worker.alive && worker.unsure().is_empty() && worker.flying.is_none() && !worker.landed {
            worker.flying = worker.commits.next_commit().map(|durable| Self::commit_of(worker, &durable, None));
        }
    }

    fn commit_of(worker: &Worker, durable: &Positions, closing: Option<usize>) -> Commit {
        let mut commit = Commit::new();
        for (partition, (_, claims)) in &worker.holds {
            let from = claims.newest().expect("it is claimed").from;
            let Some(next) = durable.next(&stream(*partition)).filter(|next| *next >= from) else { continue };
            let claims = if closing == Some(*partition) { claims.closed(next) } else { claims.clone() };
            commit.insert(*partition, (next, claims));
        }
        commit
    }

    /// The coordinator takes what is on its way, unless the sender is a member no more.
    fn arrive(&mut self, worker: usize) {
        let Some(commit) = self.workers[worker].flying.take() else { return };
        if commit.keys().all(|partition| self.workers[worker].holds.contains_key(partition)) {
            for (partition, told) in &commit {
                self.committed[*partition] = Some(told.clone());
            }
            self.workers[worker].landed = true;
        }
    }

    fn answer(&mut self, worker: usize) {
        let worker = &mut self.workers[worker];
        if std::mem::take(&mut worker.landed) && worker.alive {
            worker.commits.confirm();
        }
    }

    fn let_go(&mut self, partition: usize, worker: usize) {
        self.checkpoint(worker);
        self.arrive(worker);
        self.answer(worker);
        let durable = self.workers[worker].state.reached();
        let commit = Self::commit_of(&self.workers[worker], &durable, Some(partition));
        for (partition, told) in &commit {
            self.committed[*partition] = Some(told.clone());
        }
        let worker = &mut self.workers[worker];
        worker.commits.confirm_external(&durable);
        worker.holds.remove(&partition).expect("it is held");
        let own = worker.state.positions.get_mut(&partition).expect("what is held has a position");
        own.record = OwnershipRecord::Released;
    }

    /// A kill: nothing but the checkpoints stays; its partitions stay with it until somebody else gets them.
    fn kill(&mut self, worker: usize) {
        self.workers[worker].alive = false;
    }

    /// An end in good order: all is saved, and let go of.
    fn stop(&mut self, worker: usize) {
        let held: Vec<usize> = self.workers[worker].holds.keys().copied().collect();
        if self.workers[worker].alive && self.workers[worker].unsure().is_empty() {
            held.into_iter().for_each(|partition| self.let_go(partition, worker));
        }
        self.kill(worker);
    }

    /// The newest checkpoint of a worker that does not run is damaged.
    fn damage(&mut self, worker: usize) {
        let worker = &mut self.workers[worker];
        if !worker.alive && !worker.checkpoints.is_empty() {
            worker.checkpoints.pop();
            worker.is_damaged = true;
        }
    }

    /// It comes back: to so many of the partitions that nobody took meanwhile. The others are nobody's for now.
    fn come_back(&mut self, worker: usize, most: usize) {
        if self.workers[worker].alive {
            return;
        }
        let held: Vec<usize> = std::mem::take(&mut self.workers[worker].holds).into_keys().collect();
        self.start(worker);
        held.into_iter().take(most).for_each(|partition| self.assign(partition, worker, false));
    }

    /// It looks whether another took over what its state holds of an earlier life.
    fn look(&mut self, worker: usize) {
        for partition in self.workers[worker].unsure() {
            let (_, claims) = self.committed(partition);
            let own = self.workers[worker].state.positions.get_mut(&partition).expect("it is of the state");
            if let Err(conflict) = claims.check(&format!("w{worker}"), *own) {
                self.is_refused |= matches!(conflict, Conflict::Short { .. });
                return self.kill(worker);
            }
            let newest = claims.newest().expect("it is claimed");
            if OwnershipRecord::Claim(newest.number) != own.record || newest.until == Some(own.position) {
                own.record = OwnershipRecord::Released;
            }
        }
    }

    fn turn(&mut self, turn: Turn) {
        match turn {
            Turn::ComeBack(worker, most) => self.come_back(worker, most),
            Turn::Look(worker) => self.look(worker),
            Turn::Assign(partition, worker, lost) => self.assign(partition, worker, lost),
            Turn::LetGo(partition) => self.revoke(partition),
            Turn::LoseAnswer(worker) => self.workers[worker].landed = false,
            Turn::Train(worker, n) => self.train(worker, n),
            Turn::Checkpoint(worker) => {
                self.checkpoint(worker);
                self.want(worker);
            }
            Turn::Send(worker) => self.send(worker),
            Turn::Arrive(worker) => self.arrive(worker),
            Turn::Answer(worker) => self.answer(worker),
            Turn::Kill(worker) => self.kill(worker),
            Turn::Stop(worker) => self.stop(worker),
            Turn::Damage(worker) => self.damage(worker),
        }
    }
}

#[derive(Debug, Clone)]
enum Turn {
    ComeBack(usize, usize),
    Assign(usize, usize, bool),
    LetGo(usize),
    LoseAnswer(usize),
    Train(usize, u64),
    Checkpoint(usize),
    Send(usize),
    Arrive(usize),
    Answer(usize),
    Look(usize),
    Kill(usize),
    Stop(usize),
    Damage(usize),
}

fn turn() -> impl Strategy<Value = Turn> {
    let worker = 0..WORKERS;
    prop_oneof![
        2 => (worker.clone(), 0..=PARTITIONS).prop_map(|(worker, most)| Turn::ComeBack(worker, most)),
        2 => worker.clone().prop_map(Turn::Look),
        4 => (0..PARTITIONS, worker.clone(), prop::bool::weighted(0.2))
            .prop_map(|(partition, worker, lost)| Turn::Assign(partition, worker, lost)),
        1 => (0..PARTITIONS).prop_map(Turn::LetGo),
        1 => worker.clone().prop_map(Turn::LoseAnswer),
        4 => (worker.clone(), 1_u64..9).prop_map(|(worker, n)| Turn::Train(worker, n)),
        2 => worker.clone().prop_map(Turn::Checkpoint),
        2 => worker.clone().prop_map(Turn::Send),
        2 => worker.clone().prop_map(Turn::Arrive),
        2 => worker.clone().prop_map(Turn::Answer),
        2 => worker.prop_map(Turn::Kill),
    ]
}

/// Turns in which checkpoints are damaged, too.
fn turn_with_damage(workers: usize) -> impl Strategy<Value = Turn> {
    let worker = 0..workers;
    prop_oneof![
        10 => turn().prop_map(move |turn| turn.of(workers)),
        1 => worker.clone().prop_map(Turn::Stop),
        1 => worker.clone().prop_map(Turn::Damage),
        1 => worker.prop_map(|worker| Turn::ComeBack(worker, PARTITIONS)),
    ]
}

impl Turn {
    /// The same turn, of one of the first `n` workers.
    fn of(self, n: usize) -> Self {
        match self {
            Self::ComeBack(worker, most) => Self::ComeBack(worker % n, most),
            Self::Assign(partition, worker, lost) => Self::Assign(partition, worker % n, lost),
            Self::LetGo(partition) => Self::LetGo(partition),
            Self::LoseAnswer(worker) => Self::LoseAnswer(worker % n),
            Self::Train(worker, events) => Self::Train(worker % n, events),
            Self::Checkpoint(worker) => Self::Checkpoint(worker % n),
            Self::Send(worker) => Self::Send(worker % n),
            Self::Arrive(worker) => Self::Arrive(worker % n),
            Self::Answer(worker) => Self::Answer(worker % n),
            Self::Look(worker) => Self::Look(worker % n),
            Self::Kill(worker) => Self::Kill(worker % n),
            Self::Stop(worker) => Self::Stop(worker % n),
            Self::Damage(worker) => Self::Damage(worker % n),
        }
    }
}

/// Whatever the turns, each record that was read is in exactly one state in the end, or a worker has refused to start.
/// Whether one has.
fn check(turns: Vec<Turn>) -> bool {
    let mut group = Group::default();
    (0..WORKERS).for_each(|worker| group.start(worker));
    for turn in turns {
        group.turn(turn);
        if group.is_refused {
            return true;
        }
    }
    // Everybody comes back, what nobody holds is given to the first, and all that was ever read is read.
    for _ in 0..=WORKERS {
        (0..WORKERS).for_each(|worker| group.come_back(worker, PARTITIONS));
        if group.is_refused {
            return true;
        }
        for partition in 0..PARTITIONS {
            if group.workers.iter().all(|worker| !worker.holds.contains_key(&partition)) {
                group.assign(partition, 0, false);
            }
        }
        (0..WORKERS).for_each(|worker| group.look(worker));
        if group.is_refused {
            return true;
        }
    }
    assert!(group.workers.iter().all(|worker| worker.alive && worker.unsure().is_empty()), "{group:?}");
    let reached = |group: &Group, partition: usize| {
        group
            .workers
            .iter()
            .filter(|worker| worker.holds.contains_key(&partition))
            .map(|worker| worker.state.positions[&partition].position)
            .max()
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
            assert_eq!(times.remove(&(partition, offset)), Some(1), "partition {partition} offset {offset}");
        }
    }
    assert!(times.is_empty(), "beyond the ends: {times:?}");
    false
}

proptest! {
    #[test]
    fn simulated_group_keeps_each_record_in_exactly_one_state(turns in prop::collection::vec(turn(), 0..120)) {
        prop_assert!(!check(turns), "a worker has refused to start");
    }

    /// Where other workers have read on, a worker whose checkpoint is damaged may refuse; nothing is read twice, or left out.
    #[test]
    fn simulated_group_with_damaged_checkpoints_keeps_each_record_or_refuses(
        turns in prop::collection::vec(turn_with_damage(WORKERS), 0..120),
    ) {
        check(turns);
    }

    /// A worker that is alone goes back to any checkpoint that is left.
    #[test]
    fn simulated_lone_worker_reads_again_whatever_is_damaged(
        turns in prop::collection::vec(turn_with_damage(1), 0..120),
    ) {
        let mut group = Group::default();
        group.start(0);
        for turn in turns {
            let is_last = group.workers[0].checkpoints.len() == 1;
            if !(is_last && matches!(turn, Turn::Damage(_))) {
                group.turn(turn);
            }
            prop_assert!(!group.is_refused, "{group:?}");
        }
        // All the other workers' turns are idle: what there is was read by this one.
        group.come_back(0, PARTITIONS);
        (0..PARTITIONS).for_each(|partition| group.assign(partition, 0, false));
        prop_assert!(!group.is_refused && group.workers[0].alive, "{group:?}");
        let state = &group.workers[0].state;
        for (partition, own) in &state.positions {
            for offset in 0..own.position {
                prop_assert_eq!(state.records.get(&(*partition, offset)), Some(&1), "{:?}", &group);
            }
        }
        let n_reached: u64 = state.positions.values().map(|own| own.position).sum();
        prop_assert_eq!(state.records.len() as u64, n_reached);
    }
}

/// A checkpoint that was written while another worker's taking over was not known yet holds more by claims than what is
/// committed of it later: it is what the group knows all the same.
#[test]
fn confirmed_checkpoint_is_known_where_its_commit_names_fewer_partitions() {
    let save = |worker| [Turn::Train(worker, 5), Turn::Checkpoint(worker)];
    let commit = |worker| [Turn::Send(worker), Turn::Arrive(worker), Turn::Answer(worker)];
    let assign = |partition, worker| Turn::Assign(partition, worker, false);
    let mut turns = vec![assign(0, 0), assign(1, 0)];
    turns.extend(save(0).into_iter().chain(commit(0)));
    turns.extend([Turn::Kill(0), assign(1, 1), Turn::ComeBack(0, 1)]);
    turns.extend(save(0).into_iter().chain([Turn::Look(0)]).chain(commit(0)));
    // That one must outlast this one, of which the group never hears.
    turns.extend(save(0));
    turns.extend([Turn::Kill(0), assign(0, 1)]);
    check(turns);
}
