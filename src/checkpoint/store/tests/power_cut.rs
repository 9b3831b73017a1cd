//! A power cut at any moment, on a disk that has kept only what was flushed: the checkpoint that was last said to be
//! durable is there, or a newer one, whole.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use proptest::prelude::*;

use super::{folder, newest, publish};
use crate::checkpoint::store::disk::{DiskChange, journal};
use crate::checkpoint::store::{Pinned, Store};

/// A file or folder, whatever it is called.
#[derive(Debug, Default)]
struct Node {
    /// What was flushed of a file; `None` for a folder.
    content: Option<Vec<u8>>,
    /// A folder's names, as the running system sees them, and as the disk has them.
    names: [BTreeMap<String, usize>; 2],
}

const SEEN: usize = 0;
const FLUSHED: usize = 1;

/// What a disk may hold after a sequence of changes.
struct Disk {
    root: PathBuf,
    nodes: Vec<Node>,
}

impl Disk {
    fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), nodes: vec![Node::default()] }
    }

    fn node(&self, path: &Path) -> usize {
        let inner = path.strip_prefix(&self.root).unwrap();
        inner.iter().fold(0, |node, name| self.nodes[node].names[SEEN][name.to_str().unwrap()])
    }

    fn parent(&mut self, path: &Path) -> (&mut BTreeMap<String, usize>, String) {
        let node = self.node(path.parent().unwrap());
        (&mut self.nodes[node].names[SEEN], path.file_name().unwrap().to_str().unwrap().to_owned())
    }

    fn add(&mut self, path: &Path, content: Option<Vec<u8>>) {
        self.nodes.push(Node { content, ..Node::default() });
        let node = self.nodes.len() - 1;
        let (names, name) = self.parent(path);
        names.insert(name, node);
    }

    fn apply(&mut self, change: &DiskChange, content: &[u8]) {
        match change {
            DiskChange::Folder(path) => self.add(path, None),
            DiskChange::File(path) => self.add(path, Some(Vec::new())),
            DiskChange::FlushFile(path) => {
                let node = self.node(path);
                self.nodes[node].content = Some(content.to_vec());
            }
            DiskChange::FlushFolder(path) => {
                let node = self.node(path);
                self.nodes[node].names[FLUSHED] = self.nodes[node].names[SEEN].clone();
            }
            DiskChange::Rename(from, to) => {
                let (names, name) = self.parent(from);
                let node = names.remove(&name).unwrap();
                let (names, name) = self.parent(to);
                names.insert(name, node);
            }
            DiskChange::Remove(path) => {
                let (names, name) = self.parent(path);
                names.remove(&name);
            }
        }
    }

    /// Writes what is left to `to`: for each folder `kept` tells whether its newest names came through by chance.
    fn cut(&self, to: &Path, kept: &mut impl FnMut() -> bool) {
        self.cut_node(0, to, kept);
    }

    fn cut_node(&self, node: usize, to: &Path, kept: &mut impl FnMut() -> bool) {
        let node = &self.nodes[node];
        if let Some(content) = &node.content {
            std::fs::write(to, content).unwrap();
            return;
        }
        std::fs::create_dir_all(to).unwrap();
        let names = if kept() { SEEN } else { FLUSHED };
        for (name, inner) in &node.names[names] {
            self.cut_node(*inner, &to.join(name), kept);
        }
    }
}

/// Everything that is done to the disk while five checkpoints are made and two kept.
struct History {
    dir: PathBuf,
    changes: journal::Journal,
    /// How many changes there were when each checkpoint was said to be durable.
    durable: Vec<usize>,
}

fn history() -> &'static History {
    static HISTORY: LazyLock<History> = LazyLock::new(|| {
        let dir = tempfile::tempdir().unwrap();
        record(dir.path())
    });
    &HISTORY
}

fn record(dir: &Path) -> History {
    let mut durable = Vec::new();
    let ((), changes) = journal::recorded(|| {
        let store = Store::open(&folder(dir)).unwrap();
        for state in 1..=5 {
            publish(&store, state).unwrap();
            durable.push(journal::length());
            store.prune(2, &Pinned::default()).unwrap();
        }
    });
    History { dir: dir.to_owned(), changes, durable }
}

fn check(cut_at: usize, mut kept: impl FnMut() -> bool) {
    let after = tempfile::tempdir().unwrap();
    let History { dir, changes, durable } = history();
    let mut disk = Disk::new(dir);
    let cut_at = cut_at.min(changes.len());
    changes[..cut_at].iter().for_each(|(change, content)| disk.apply(change, content));
    disk.cut(after.path(), &mut kept);

    let said = durable.iter().filter(|length| **length <= cut_at).count() as u64;
    let store = Store::open(&folder(after.path())).unwrap();
    let (state, passed) = newest(&store).unwrap();
    assert!(passed.is_empty(), "half a checkpoint after change {cut_at}: {passed:?}");
    let state = state.unwrap_or(0);
    assert!(state == said || state == said + 1, "{said} was durable, {state} is there after change {cut_at}");
    publish(&store, state + 1).unwrap();
    assert_eq!(newest(&store).unwrap().0, Some(state + 1));
}

#[test]
fn durable_checkpoints_survive_the_loss_of_unflushed_changes() {
    assert_eq!(history().durable.len(), 5);
    for cut_at in 0..=history().changes.len() {
        check(cut_at, || false);
        check(cut_at, || true);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn durable_checkpoints_survive_partly_flushed_changes(cut_at in 0_usize..120, chances in prop::collection::vec(any::<bool>(), 16)) {
        let mut chance = chances.into_iter().cycle();
        check(cut_at, || chance.next().unwrap());
    }
}
