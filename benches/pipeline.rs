//! What surrounds the kernel: whole replays, Kafka, decoding, checkpoints, and what rows cost. One JSON line each.
//!
//! `cargo bench --bench pipeline [-- --quick] [--only NAME]…`, with the names
//!
//! | name | measures |
//! | --- | --- |
//! | `replay` | Parquet → embeddings: events/s while training, and the trainer's share of that time |
//! | `checkpoint` | writing and restoring what the replay left: MB/s |
//! | `kafka` | the embedded broker → embeddings: events/s |
//! | `decode` | JSON, Avro, Protobuf → interactions, one thread: events/s |
//! | `pause` | what checkpoints cost the steps that they are written beside |
//! | `items` | inserting items, with all that is kept of each: seconds and memory per million |
//!
//! The replayed log is synthetic: 5,000,000 events of 1,000,000 users on 200,000 items, 64 dimensions, batches of 1024,
//! a bank of 4096, one event in a hundred ranked. It is made once and kept in `target/tmp`. With `--quick` everything is
//! smaller by far, to see that it works.

#[path = "pipeline/pause.rs"]
mod pause;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use negstream::checkpoint::Checkpoint;
use negstream::checkpoint::store::Store;
use negstream::config::{Assignment, CheckpointConfig, Config, KafkaConfig, layers};
use negstream::dead_letters::DeadLetters;
use negstream::kafka::embedded::EmbeddedBroker;
use negstream::kafka::producer::EventProducer;
use negstream::kernel::Kernel;
use negstream::pipeline::{Pipeline, PipelineBuilder, PipelineEvent};
use negstream::position::{Ownerships, Positions};
use negstream::registry;
use negstream::signals::Stop;
use negstream::snapshot;
use negstream::source::kafka::{ResumeState, TopicConnection, Until};
use negstream::source::parquet::{LogOptions, ParquetLogs};
use negstream::synth::log::write_parquet;
use negstream::synth::{EventGenerator, SynthConfig};
use negstream::trainer::state::State;
use serde_json::json;

/// How large everything is.
struct Scale {
    events: u64,
    users: usize,
    items: usize,
    kafka_events: u64,
    decoded: usize,
    inserted: usize,
    pause: pause::Scale,
}

const FULL: Scale = Scale {
    events: 5_000_000,
    users: 1_000_000,
    items: 200_000,
    kafka_events: 500_000,
    decoded: 1_000_000,
    inserted: 10_000_000,
    pause: pause::Scale { items: 1_000_000, users: 1_000_000, every_events: 750_000, checkpoints: 4 },
};
const QUICK: Scale = Scale {
    events: 60_000,
    users: 20_000,
    items: 4_000,
    kafka_events: 20_000,
    decoded: 20_000,
    inserted: 100_000,
    pause: pause::Scale { items: 20_000, users: 20_000, every_events: 100_000, checkpoints: 2 },
};

/// The kinds of rows whose memory is measured.
const ROWS: [(&str, &[&str]); 2] = [
    ("item rows, adagrad", &["context.context_rows=false"]),
    ("item and context rows, rowwise_adagrad", &["train.optimizer=rowwise_adagrad"]),
];

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let scale = if arguments.iter().any(|argument| argument == "--quick") { QUICK } else { FULL };
    let only: Vec<&String> = arguments.windows(2).filter(|pair| pair[0] == "--only").map(|pair| &pair[1]).collect();
    if let Some(pair) = arguments.windows(2).find(|pair| pair[0] == "--rows") {
        return items(&scale, &pair[1]);
    }
    if let Some(pair) = arguments.windows(2).find(|pair| pair[0] == "--pause") {
        return pause::pause(scale.pause, &pair[1], tempfile::tempdir()?.path());
    }
    let wanted = |name: &str| only.is_empty() || only.iter().any(|other| *other == name);
    let scratch = tempfile::tempdir()?;
    // Each in a process of its own, which holds nothing that others left.
    let apart = |flag: &str, name: &str| -> anyhow::Result<()> {
        let mut process = std::process::Command::new(std::env::current_exe()?);
        let status = process.args(&arguments[1..]).args([flag, name]).status()?;
        anyhow::ensure!(status.success(), "the process for '{name}' failed");
        Ok(())
    };
    if wanted("items") {
        ROWS.iter().try_for_each(|(name, _)| apart("--rows", name))?;
    }
    if wanted("pause") {
        pause::KINDS.iter().try_for_each(|(name, _)| apart("--pause", name))?;
    }
    if wanted("decode") {
        for format in ["json", "avro"] {
            decode_format(&scale, format)?;
        }
        if cfg!(feature = "protobuf") {
            decode_format(&scale, "protobuf")?;
        }
    }
    if wanted("replay") || wanted("checkpoint") {
        let config = configuration(&scratch.path().join("replay"), &[])?;
        let mut pipeline = replay(&scale, &config, wanted("replay"))?;
        if wanted("checkpoint") {
            checkpoint(&config, &mut pipeline, &scratch.path().join("checkpoint"))?;
        }
    }
    if wanted("kafka") {
        kafka(&scale, &configuration(&scratch.path().join("kafka"), &[])?)?;
    }
    Ok(())
}

fn configuration(dir: &Path, more: &[&str]) -> anyhow::Result<Config> {
    let mut flags: Vec<String> = [
        "model.dim=64",
        "train.batch=1024",
        "negatives.bank=4096",
        "evaluate.share=0.01",
        "evaluate.from=0.0",
        "evaluate.repeat=true",
        "checkpoint.every_events=1000000000",
        "log.level=warn",
    ]
    .iter()
    .chain(more)
    .map(|flag| (*flag).to_owned())
    .collect();
    flags.push(format!("checkpoint.dir={}", dir.display()));
    Ok(layers::load(None, std::iter::empty(), &flags)?)
}

fn synth(scale: &Scale) -> EventGenerator {
    // Items live through the whole log: there are as many as the scale says.
    let lifetime = scale.events * 20;
    EventGenerator::new(SynthConfig {
        users: scale.users,
        items: scale.items,
        topics: 100,
        lifetime,
        ..SynthConfig::default()
    })
}

/// The log of this scale, made where it is not there yet.
fn log(scale: &Scale) -> anyhow::Result<PathBuf> {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("pipeline-{}-{}-{}.parquet", scale.events, scale.users, scale.items));
    if !path.exists() {
        eprintln!("making {} …", path.display());
        write_parquet(&mut synth(scale), scale.events, &path, |_| {})?;
    }
    Ok(path)
}

/// A pipeline with a new model that knows no catalogue and keeps no dead letters.
fn bare(config: &Config) -> PipelineBuilder<'_> {
    Pipeline::builder(config).fresh(true).dead_letters(DeadLetters::None)
}

fn replay(scale: &Scale, config: &Config, print: bool) -> anyhow::Result<Pipeline> {
    let logs = [log(scale)?.display().to_string()];
    let source = ParquetLogs::open(&logs, LogOptions::new(&config.source, false), &Positions::default())?;
    let mut pipeline = bare(config).build()?;
    let begin = Instant::now();
    let (mut stepping, mut trained, mut columns, mut steps) = (Duration::ZERO, Duration::ZERO, 0, 0);
    let mut ranked = 0;
    pipeline.run_observed(source, &mut |_, event| match event {
        PipelineEvent::Step { report, took } => {
            stepping += took;
            ranked += report.ranked;
            columns += report.loss.columns;
            steps += 1;
        }
        PipelineEvent::CheckpointStarted => trained = begin.elapsed(),
        _ => {}
    })?;
    let state = pipeline.state();
    let events = state.progress.events.used as f64;
    if print {
        let line = json!({
            "measure": "replay", "events": state.progress.events.used, "users": state.users.ids.len(), "items": state.items.ids.len(),
            "dim": config.model.dim, "batch": config.train.batch, "bank": config.negatives.bank, "ranked": ranked,
            "events_per_second": (events / trained.as_secs_f64()).round(),
            "share_of_trainer": rounded(stepping.as_secs_f64() / trained.as_secs_f64()),
            "columns_after_merging": columns / steps.max(1), "resident_mb": resident_mb(),
        });
        println!("{line}");
    }
    Ok(pipeline)
}

fn checkpoint(config: &Config, pipeline: &mut Pipeline, dir: &Path) -> anyhow::Result<()> {
    let store = Store::open(&CheckpointConfig { dir: dir.to_owned(), ..config.checkpoint.clone() })?;
    let begin = Instant::now();
    let published = snapshot::save(config, &pipeline.state_mut().freeze(), None, store.draft()?)?;
    let written = begin.elapsed().as_secs_f64();
    let begin = Instant::now();
    let intact = Checkpoint::open_folder(&published.path)?;
    let verified = begin.elapsed().as_secs_f64();
    let state = snapshot::load(config, Kernel::detect(), &intact)?;
    let restored = begin.elapsed().as_secs_f64();
    assert_eq!(state.items.ids.len(), pipeline.state().items.ids.len());
    let mb = published.bytes as f64 / 1e6;
    let line = json!({
        "measure": "checkpoint", "items": state.items.ids.len(), "users": state.users.ids.len(), "mb": mb.round(),
        "write_seconds": rounded(written), "write_mb_per_second": (mb / written).round(),
        "verify_seconds": rounded(verified), "restore_seconds": rounded(restored),
        "restore_mb_per_second": (mb / restored).round(),
    });
    println!("{line}");
    Ok(())
}

fn kafka(scale: &Scale, config: &Config) -> anyhow::Result<()> {
    /// The embedded broker keeps some 40,000 events: the producer must not run further ahead.
    const LEAD: u64 = 15_000;
    let broker = EmbeddedBroker::start(&config.kafka.topic, 1)?;
    let stop = Stop::new();
    let taken = Arc::new(AtomicU64::new(0));
    let kafka = KafkaConfig { assignment: Assignment::All, ..config.kafka.clone() };
    let known = ResumeState { positions: &Positions::default(), ownerships: &Ownerships::default() };
    let source = TopicConnection::open(&kafka, broker.bootstrap(), stop.flag())?.into_source(
        registry::decoder(&config.source)?,
        known,
        Until::Stopped,
    )?;
    let encoder = registry::encoder(&config.source, &config.kafka.topic)?;
    let mut producer = EventProducer::open(&config.kafka, broker.bootstrap(), encoder)?;
    let (mut synth, events, progress) = (synth(scale), scale.kafka_events, Arc::clone(&taken));
    let sender = std::thread::spawn(move || {
        for sent in 0..events {
            while sent > progress.load(Ordering::Relaxed) + LEAD {
                std::thread::park_timeout(Duration::from_millis(1));
            }
            producer.send(&synth.next_event()).expect("the embedded broker takes it");
        }
        producer.flush(Duration::from_secs(10)).expect("the embedded broker takes it");
    });
    let mut pipeline = bare(config).stop(stop.clone()).build()?;
    let begin = Instant::now();
    let mut last = begin;
    pipeline.run_observed(source, &mut |trainer, event| {
        taken.store(trainer.ingested().read, Ordering::Relaxed);
        if matches!(event, PipelineEvent::Step { .. }) {
            last = Instant::now();
        }
        // What does not fill a batch stays unread.
        if trainer.state.progress.events.read + config.train.batch as u64 > events {
            stop.request();
        }
    })?;
    sender.join().expect("the producer does not panic");
    let read = pipeline.state().progress.events.read;
    let line = json!({
        "measure": "kafka", "events": read,
        "events_per_second": (read as f64 / (last - begin).as_secs_f64()).round(),
        "note": "broker and producer share the cores",
    });
    println!("{line}");
    Ok(())
}

fn decode_format(scale: &Scale, format: &str) -> anyhow::Result<()> {
    let config = layers::load(None, std::iter::empty(), &[format!("source.format={format}")])?;
    let (encoder, mut decoder) = (registry::encoder(&config.source, "unused")?, registry::decoder(&config.source)?);
    let mut synth = synth(&QUICK);
    let payloads: Vec<Vec<u8>> =
        (0..scale.decoded).map(|_| encoder.encode(&synth.next_event()).expect("there is room for it")).collect();
    let bytes: usize = payloads.iter().map(Vec::len).sum();
    let begin = Instant::now();
    for payload in &payloads {
        let event = decoder.decode(None, Some(payload));
        assert!(matches!(std::hint::black_box(event), Some(Ok(_))));
    }
    let seconds = begin.elapsed().as_secs_f64();
    let line = json!({
        "measure": "decode", "format": format, "events": payloads.len(),
        "events_per_second": (payloads.len() as f64 / seconds).round(),
        "mb_per_second": (bytes as f64 / seconds / 1e6).round(), "threads": 1,
    });
    println!("{line}");
    Ok(())
}

/// Items into the table, as a worker adds them.
fn items(scale: &Scale, rows: &str) -> anyhow::Result<()> {
    let (name, flags) = ROWS.iter().find(|(name, _)| *name == rows).expect("one of those there are");
    let config = configuration(Path::new("unused"), flags)?;
    let mut state = State::new(&config, Kernel::detect());
    let before = resident_mb();
    let (mut seconds, mut memory) = (Vec::new(), Vec::new());
    let mut id = String::new();
    for tenth in 0..10 {
        let begin = Instant::now();
        for item in tenth * scale.inserted / 10..(tenth + 1) * scale.inserted / 10 {
            id.clear();
            write!(id, "item-{item:08}")?;
            state.add_item(&id);
        }
        state.negatives.frequencies.grow(state.items.ids.len());
        seconds.push(rounded(begin.elapsed().as_secs_f64()));
        memory.push(resident_mb() - before);
    }
    let line = json!({
        "measure": "items", "rows": name, "items": state.items.ids.len(), "dim": config.model.dim,
        "mb_per_million": (memory[9] * 1e6 / scale.inserted as f64).round(),
        "seconds_by_tenth": seconds, "mb_by_tenth": memory,
    });
    println!("{line}");
    Ok(())
}

fn rounded(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

/// Memory of this process, in MB; 0 where the system does not tell.
fn resident_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kb =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse::<f64>().ok());
    (kb.unwrap_or(0.0) * 1024.0 / 1e6).round()
}
