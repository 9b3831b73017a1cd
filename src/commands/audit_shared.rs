//! `audit` of workers that share a model: whether what each of them counts is what the topic of deltas holds, to the event.
//!
//! The topic is read once, and judged as every worker judges it: of deltas that cover the same record the first counts. What has come out of
//! that at the place where a checkpoint stands is compared with the checkpoint, item by item.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use compact_str::CompactString;
use serde::Serialize;

use super::{load, print};
use crate::checkpoint::Checkpoint;
use crate::cli::{AuditArgs, Layers};
use crate::config::Config;
use crate::exit::UsageError;
use crate::share::log::LogTopic;
use crate::share::{Delta, DeltaVerdict, Ledger, SharedProgress, SourceSpan};
use crate::util::escape::escape_for_terminal;

/// Most items that are listed of a checkpoint which counts them otherwise.
const LISTED: usize = 20;
/// How long the next record of the topic may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the topic of deltas holds.
#[derive(Debug, Default, Serialize)]
struct LogAudit {
    topic: String,
    /// First offset of the topic, and one past its last.
    offsets: (u64, u64),
    /// Deltas that count.
    deltas: u64,
    /// Deltas that do not, since deltas of others covered their records, or some of these, before.
    void: u64,
    /// Events of deltas that count.
    events: u64,
    streams: BTreeMap<String, CoveredStream>,
    /// Deltas that count, by worker.
    workers: BTreeMap<String, u64>,
    checkpoints: Vec<CheckpointAudit>,
}

/// The records of a stream that deltas cover, each once.
#[derive(Debug, Serialize)]
struct CoveredStream {
    from: u64,
    until: u64,
}

/// A checkpoint beside the topic.
#[derive(Debug, Serialize)]
struct CheckpointAudit {
    checkpoint: PathBuf,
    worker: String,
    /// Events that its items count.
    counted: u64,
    /// Events that the topic counts for the same items, up to the same place.
    sent: u64,
    /// Whether the topic comes by the place where the checkpoint stands.
    is_of_topic: bool,
    /// Items that it counts otherwise.
    differing: u64,
    /// Some of them: name, counted here, counted by the topic.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    examples: Vec<(String, u64, u64)>,
}

/// A checkpoint that is waited for while the topic is read.
struct Awaited {
    path: PathBuf,
    worker: String,
    shared: SharedProgress,
    counts: HashMap<CompactString, u64>,
    result: Option<CheckpointAudit>,
}

/// Compares `checkpoints`, all of which are of workers that share a model, with its topic.
pub(super) fn audit(layers: &Layers, options: &AuditArgs, checkpoints: Vec<Checkpoint>) -> anyhow::Result<()> {
    let mut config = load(layers)?;
    if config.kafka.brokers.is_empty() {
        let message = "the workers share a model: set kafka.brokers to HOST:PORT, so that the topic can be read in which they \
                       send each other what they learn";
        return Err(UsageError(message.to_owned()).into());
    }
    let mut awaited = Vec::new();
    for checkpoint in checkpoints {
        let manifest = checkpoint.manifest();
        let Some(shared) = manifest.shared.clone() else {
            let path = checkpoint.path().display();
            return Err(
                UsageError(format!("{path} is of a worker that shares its model with nobody, unlike others")).into()
            );
        };
        let mut counts = HashMap::with_capacity(manifest.items as usize);
        for item in checkpoint.items()? {
            let item = item?;
            counts.insert(CompactString::from(item.id), item.count);
        }
        let (path, worker) = (checkpoint.path().to_owned(), manifest.ownerships.worker.clone());
        awaited.push(Awaited { path, worker, shared, counts, result: None });
    }
    let topic = awaited.first().map(|first| first.shared.topic.clone()).unwrap_or_default();
    if let Some(other) = awaited.iter().find(|other| other.shared.topic != topic) {
        let message =
            format!("'{topic}' is the topic of some, '{}' that of others: one model at a time", other.shared.topic);
        return Err(UsageError(message).into());
    }
    config.share.topic.clone_from(&topic);
    let audit = read_topic(&config, awaited)?;
    match options.json {
        true => print(&format!("{}\n", serde_json::to_string(&audit)?)),
        false => print(&text(&audit)?),
    }
    let strangers = audit.checkpoints.iter().filter(|checkpoint| !checkpoint.is_of_topic).count();
    let differing: u64 = audit.checkpoints.iter().map(|checkpoint| checkpoint.differing).sum();
    anyhow::ensure!(
        strangers + differing as usize == 0,
        "{differing} items are counted otherwise than in the topic, {strangers} checkpoints stand nowhere in it"
    );
    Ok(())
}

/// What is counted so far.
#[derive(Default)]
struct Account {
    ledger: Ledger,
    counts: HashMap<CompactString, u64>,
    /// Items that ever lost their row: what is counted of them begins anew in each worker at a moment of its own.
    evicted: HashSet<CompactString>,
}

fn read_topic(config: &Config, mut awaited: Vec<Awaited>) -> anyhow::Result<LogAudit> {
    let topic = LogTopic::open(&config.share, &config.kafka, &config.kafka.brokers)?;
    let (low, end) = (topic.low(), topic.end());
    let mut audit = LogAudit { topic: topic.name().to_owned(), offsets: (low, end), ..LogAudit::default() };
    let mut account = Account::default();
    let mut next = low;
    if low > 0 {
        // The oldest of them stands for what the topic does not hold any more.
        let oldest =
            awaited.iter().filter(|one| one.shared.ledger.next >= low).min_by_key(|one| one.shared.ledger.next);
        let Some(oldest) = oldest else {
            let message = format!("topic '{}' begins at offset {low}, behind all of these checkpoints", audit.topic);
            return Err(UsageError(message).into());
        };
        (account.ledger, account.counts) = (oldest.shared.ledger.clone(), oldest.counts.clone());
        next = oldest.shared.ledger.next;
    }
    compare(&mut awaited, &account);
    let log = topic.read_from(next)?;
    while next < end {
        let Some(received) = log.next(PATIENCE)? else {
            anyhow::bail!(
                "nothing more of topic '{}' came within {} s, at offset {next} of {end}",
                audit.topic,
                PATIENCE.as_secs()
            );
        };
        next = received.next;
        let Some(delta) = received.delta else { continue };
        match account.ledger.judge(&delta) {
            DeltaVerdict::Counts => count(&mut audit, &mut account, &delta),
            DeltaVerdict::Known => continue,
            DeltaVerdict::Void(_) => {
                audit.void += 1;
                continue;
            }
        }
        compare(&mut awaited, &account);
    }
    audit.workers = account.ledger.workers().map(|(worker, deltas)| (worker.to_owned(), deltas)).collect();
    audit.checkpoints = awaited.into_iter().map(Awaited::into_result).collect();
    Ok(audit)
}

fn count(audit: &mut LogAudit, account: &mut Account, delta: &Delta) {
    account.ledger.enter(delta);
    audit.deltas += 1;
    audit.events += delta.events.len() as u64;
    for SourceSpan { stream, from, until } in &delta.sources {
        let covered = audit.streams.entry(stream.clone()).or_insert(CoveredStream { from: *from, until: *from });
        covered.until = *until;
    }
    account.evicted.extend(delta.evicted.iter().cloned());
    for event in &delta.events {
        let name = &delta.items[event.item as usize].name;
        *account.counts.entry(name.clone()).or_default() += 1;
    }
}

/// Compares the checkpoints that stand where `account` does.
fn compare(awaited: &mut [Awaited], account: &Account) {
    for checkpoint in awaited.iter_mut().filter(|checkpoint| checkpoint.result.is_none()) {
        let theirs = &checkpoint.shared.ledger;
        if theirs.all_covered() != account.ledger.all_covered() || !theirs.workers().eq(account.ledger.workers()) {
            continue;
        }
        let mut result = CheckpointAudit::of(checkpoint, true);
        let names: HashSet<&CompactString> = checkpoint.counts.keys().chain(account.counts.keys()).collect();
        for name in names.into_iter().filter(|name| !account.evicted.contains(*name)) {
            let count = |counts: &HashMap<CompactString, u64>| counts.get(name).copied().unwrap_or(0);
            let (counted, sent) = (count(&checkpoint.counts), count(&account.counts));
            result.counted += counted;
            result.sent += sent;
            if counted != sent {
                result.differing += 1;
                result.examples.push((name.to_string(), counted, sent));
            }
        }
        result.examples.sort();
        result.examples.truncate(LISTED);
        checkpoint.result = Some(result);
    }
}

impl Awaited {
    fn into_result(self) -> CheckpointAudit {
        let stranger = CheckpointAudit::of(&self, false);
        self.result.unwrap_or(stranger)
    }
}

impl CheckpointAudit {
    fn of(checkpoint: &Awaited, is_of_topic: bool) -> Self {
        let (checkpoint, worker) = (checkpoint.path.clone(), checkpoint.worker.clone());
        Self { checkpoint, worker, counted: 0, sent: 0, is_of_topic, differing: 0, examples: Vec::new() }
    }
}

fn text(audit: &LogAudit) -> Result<String, std::fmt::Error> {
    let LogAudit { topic, offsets: (low, end), deltas, void, events, streams, workers, checkpoints } = audit;
    let mut text = format!(
        "topic {}: offsets {low}..{end}, {deltas} deltas count, {void} are void, {events} events\n\n",
        escape_for_terminal(topic)
    );
    writeln!(text, "{:<32} {:>12} {:>12}", "stream", "from", "until")?;
    for (stream, CoveredStream { from, until }) in streams {
        writeln!(text, "{:<32} {from:>12} {until:>12}", escape_for_terminal(stream))?;
    }
    writeln!(text, "\n{:<32} {:>12}", "worker", "deltas")?;
    for (worker, deltas) in workers {
        writeln!(text, "{:<32} {deltas:>12}", escape_for_terminal(worker))?;
    }
    writeln!(text, "\n{:<32} {:>12} {:>12} {:>10}", "checkpoint of", "counted", "sent", "differing")?;
    for checkpoint in checkpoints {
        let CheckpointAudit { checkpoint, worker, counted, sent, is_of_topic, differing, examples } = checkpoint;
        let worker = escape_for_terminal(worker);
        if !is_of_topic {
            writeln!(text, "{worker:<32} stands nowhere in the topic: {}", checkpoint.display())?;
            continue;
        }
        writeln!(text, "{worker:<32} {counted:>12} {sent:>12} {differing:>10}")?;
        for (item, counted, sent) in examples {
            writeln!(text, "    {}: {counted} counted, {sent} sent", escape_for_terminal(item))?;
        }
    }
    Ok(text)
}
