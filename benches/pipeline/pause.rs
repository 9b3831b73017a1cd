//! What a checkpoint beside training costs training, at a million items and as many users.

use std::path::Path;
use std::task::Poll;
use std::time::Instant;

use negstream::context::Batch;
use negstream::event::{Interaction, Record};
use negstream::pipeline::{PipelineEvent, Restored};
use negstream::position::{Positions, Stream};
use negstream::signals::Stop;
use negstream::source::{CommitTracker, EventSource, PollStatus, SourceError};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use serde_json::json;

use super::{bare, configuration, resident_mb, rounded};

/// What is measured besides the defaults.
pub const KINDS: [(&str, &[&str]); 3] = [
    ("nothing ranked", &["evaluate.share=0"]),
    ("every tenth event ranked", &["evaluate.share=0.1"]),
    (
        "unigram and cooccurrence",
        &["evaluate.share=0", r#"negatives.noise=[{sampler="unigram"},{sampler="cooccurrence"}]"#],
    ),
];
/// Events in each user's past.
const PAST: usize = 20;

/// How large everything is.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    pub items: u32,
    pub users: u32,
    pub every_events: u64,
    pub checkpoints: usize,
}

/// Random events, without end.
struct Events {
    random: Pcg64Mcg,
    scale: Scale,
    offset: u64,
}

/// An item: half of the events are of a thousandth of the items, the rest of any.
fn item(random: &mut Pcg64Mcg, scale: Scale) -> u32 {
    let n_items = if random.random::<bool>() { (scale.items / 1_000).max(1) } else { scale.items };
    random.random_range(0..n_items)
}

fn user_name(user: u32) -> String {
    format!("user-{user:08}")
}

fn item_name(item: u32) -> String {
    format!("item-{item:08}")
}

impl EventSource for Events {
    fn streams(&self) -> Vec<Stream> {
        vec![Stream { name: "random".to_owned(), label: "random".to_owned() }]
    }

    fn poll(&mut self, block: &mut Vec<Record>) -> Result<PollStatus, SourceError> {
        for _ in 0..1024 {
            let event = Interaction {
                user: user_name(self.random.random_range(0..self.scale.users)).into(),
                item: item_name(item(&mut self.random, self.scale)).into(),
                kind: "click".into(),
                timestamp: 1_700_000_000_000 + self.offset as i64,
                session: None,
                value: None,
                features: Vec::new(),
            };
            block.push(Record { stream: 0, offset: self.offset, outcome: Ok(event), broker_timestamp: None });
            self.offset += 1;
        }
        Ok(PollStatus::More)
    }

    fn commit_tracker(&self) -> Option<CommitTracker> {
        None
    }

    fn release(&mut self, _streams: &[u32], _durable: &Positions) -> Result<Poll<()>, SourceError> {
        Ok(Poll::Ready(()))
    }

    fn keep_alive(&mut self) {}
}

/// Milliseconds from the end of a step to that of the next.
#[derive(Default)]
struct Gaps(Vec<f64>);

impl Gaps {
    fn at(&mut self, quantile: f64) -> f64 {
        self.0.sort_unstable_by(f64::total_cmp);
        let place = (quantile * self.0.len().saturating_sub(1) as f64).round() as usize;
        rounded(self.0.get(place).copied().unwrap_or(f64::NAN))
    }

    fn figures(&mut self) -> serde_json::Value {
        let mean = self.0.iter().sum::<f64>() / self.0.len().max(1) as f64;
        json!({ "steps": self.0.len(), "mean": rounded(mean), "median": self.at(0.5), "p99": self.at(0.99), "max": self.at(1.0) })
    }
}

/// Trains and saves; one line of JSON.
pub fn pause(scale: Scale, kind: &str, dir: &Path) -> anyhow::Result<()> {
    let (name, flags) = KINDS.iter().find(|(name, _)| *name == kind).expect("one of those there are");
    let every = format!("checkpoint.every_events={}", scale.every_events);
    let config = configuration(
        dir,
        &[&["train.batch=256", "negatives.bank=2048", "checkpoint.max_share=1", &every], *flags].concat(),
    )?;
    let mut random = Pcg64Mcg::seed_from_u64(1);
    let mut restored = Restored::find(&config, true)?;
    let state = &mut restored.state;
    for number in 0..scale.items {
        state.add_item(&item_name(number));
    }
    state.negatives.frequencies.grow(scale.items as usize);
    for numbers in (0..scale.items).collect::<Vec<_>>().chunks(1024) {
        state.negatives.live.observe(numbers);
    }
    let mut batch = Batch::default();
    for past in 0..PAST {
        for user in 0..scale.users {
            batch.clear(0);
            let row = if past == 0 { state.add_user(&user_name(user)) } else { user };
            state.users.histories.capture(&mut batch, row, item(&mut random, scale), past as i64 * 3_600_000);
            batch.capture_related(&mut state.items.cooccurrences);
        }
    }
    let stop = Stop::new();
    let mut pipeline = bare(&config).restored(restored).stop(stop.clone()).build()?;
    let (mut before, mut first, mut beside, mut after) =
        (Gaps::default(), Gaps::default(), Gaps::default(), Gaps::default());
    let (mut pauses, mut seconds, mut bytes) = (Vec::new(), Vec::new(), 0);
    let (mut at, mut is_writing, mut is_first, mut skipped, mut since) = (None, false, false, 0, 0);
    let (resident, mut largest) = (resident_mb(), 0.0f64);
    pipeline.run_observed(Events { random, scale, offset: 0 }, &mut |_, event| match event {
        PipelineEvent::Step { .. } => {
            let now = Instant::now();
            let gap = at.replace(now).map(|at: Instant| 1e3 * (now - at).as_secs_f64());
            since += 1;
            let gaps = match (is_writing, pauses.is_empty(), since) {
                (true, ..) if std::mem::take(&mut is_first) => &mut first,
                (true, ..) => &mut beside,
                // The tables are taken back.
                (false, false, ..1_000) => &mut after,
                // The first steps of all find everything cold.
                (false, true, ..1_000) => return,
                _ => &mut before,
            };
            gaps.0.extend(gap);
        }
        PipelineEvent::CheckpointStarted => (is_writing, is_first) = (true, true),
        PipelineEvent::CheckpointSkipped => skipped += 1,
        PipelineEvent::CheckpointWritten(last) => {
            (is_writing, since) = (false, 0);
            largest = largest.max(resident_mb());
            bytes = last.bytes;
            pauses.push(rounded(1e3 * last.pause.as_secs_f64()));
            seconds.push(rounded(last.took.as_secs_f64()));
            eprintln!("{name}: checkpoint {}, pause {:?}, written in {:?}", pauses.len(), last.pause, last.took);
            if pauses.len() == scale.checkpoints {
                stop.request();
            }
        }
        PipelineEvent::CheckpointFailed(error) => panic!("{error}"),
        _ => {}
    })?;
    let line = json!({
        "measure": "pause", "of": name, "items": pipeline.state().items.ids.len(),
        "users": pipeline.state().users.ids.len(), "dim": config.model.dim, "batch": config.train.batch,
        "mb": (bytes as f64 / 1e6).round(), "pause_ms": pauses, "write_seconds": seconds, "skipped": skipped,
        "step_ms": { "alone": before.figures(), "first_beside": first.figures(), "beside": beside.figures(),
            "after": after.figures() },
        "resident_mb": resident, "largest_resident_mb": largest,
    });
    println!("{line}");
    Ok(())
}
