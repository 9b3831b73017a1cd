//! `demo`: everything at work, with nothing to set up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::neighbors::table;
use super::{CommandContext, load_over, print};
use crate::catalogue::Catalogue;
use crate::checkpoint::Checkpoint;
use crate::cli::{DemoArgs, Layers, Output};
use crate::config::Config;
use crate::dead_letters::DeadLetters;
use crate::kafka::Assignment;
use crate::kafka::embedded::EmbeddedBroker;
use crate::kafka::producer::{EventProducer, SendError};
use crate::neighbors::NeighborIndex;
use crate::pipeline::{Pipeline, PipelineEvent, Restored, StopReason};
use crate::registry;
use crate::source::kafka::{ResumeState, TopicConnection, Until};
use crate::synth::{EventGenerator, SynthConfig};
use crate::telemetry::LifecycleEvent;
use crate::telemetry::http::HttpError;
use crate::telemetry::observer::RunObserver;
use crate::trainer::Trainer;

/// The embedded broker keeps about 5 MiB of a partition, some 40,000 events: the producer must not run further ahead.
const LEAD: u64 = 15_000;
/// Lines of figures that are printed on the way, besides the lines of the beginning.
const LINES: u64 = 15;
/// Events before the first line of figures.
const FIRST_LINE: u64 = 1_000;

pub(super) fn demo(layers: &Layers, options: DemoArgs) -> anyhow::Result<()> {
    let dir = options.dir.join("checkpoints");
    let mut config = load_over(
        layers,
        &["evaluate.from=0".to_owned(), "log.level=warn".to_owned(), format!("checkpoint.dir={}", dir.display())],
    )?;
    "embedded".clone_into(&mut config.kafka.brokers);
    config.kafka.partitions = 1;
    config.kafka.topics.clear();
    config.source.registry.url.clear();
    let context = CommandContext::set_up(&config)?;
    let catalogue = Catalogue::open(&config)?;
    let server = match context.serve(&config) {
        Err(error) if matches!(error.downcast_ref(), Some(HttpError::InUse { .. })) => {
            // Nobody asked for that very port: any other shows the page as well.
            config.http.listen = "127.0.0.1:0".to_owned();
            context.serve(&config)?
        }
        served => served?,
    };
    let broker = EmbeddedBroker::start(&config.kafka.topic, 1)?;
    print(&format!(
        "negstream demo: {} synthetic events → embedded Kafka → embeddings, seconds old\n{}\n\
         Every event is ranked before it is learnt; decayed popularity is what to beat.\n\n{}",
        options.events,
        server.as_ref().map(|server| format!("Page: http://{}/", server.address())).unwrap_or_default(),
        heading()
    ));

    let restored = Restored::find(&config, true)?;
    context.telemetry.emit(LifecycleEvent::Restored);
    config.kafka.assignment = Assignment::All;
    let connection = TopicConnection::open(&config.kafka, broker.bootstrap(), context.stop.flag())?;
    let known =
        ResumeState { positions: &restored.state.sources.positions, ownerships: &restored.state.sources.ownerships };
    let source = connection.into_source(registry::decoder(&config.source)?, known, Until::Records(options.events))?;
    let mut observer = RunObserver::new(context.telemetry.clone(), &config.log, &restored.state);
    observer.show_lag(source.lag_probe());
    let mut pipeline = Pipeline::builder(&config)
        .restored(restored)
        .catalogue(catalogue)
        .dead_letters(DeadLetters::None)
        .stop(context.stop.clone())
        .checkpoint_requests(context.requests.clone())
        .views(context.views.clone())
        .build()?;
    let producer = Producer::start(&config, broker.bootstrap(), options.events)?;
    context.telemetry.emit(LifecycleEvent::SourceOpened);

    let every = (options.events / LINES).max(1);
    let mut next_line = FIRST_LINE.min(every);
    let taken = Arc::clone(&producer.taken);
    let result = pipeline.run_observed(source, &mut |trainer, event| {
        let read = trainer.state.progress.events.read;
        taken.store(trainer.ingested().read, Ordering::Relaxed);
        let is_step = matches!(event, PipelineEvent::Step { .. });
        observer.observe(trainer, event);
        if is_step && read >= next_line {
            // Close together at first, where most is learnt.
            next_line += next_line.min(every);
            print(&figures(trainer, observer.progress(trainer)));
        }
    });
    producer.stop()?;
    let reason = result?;
    pipeline.leave_view();
    show_neighbors(&config)?;
    if reason == StopReason::Stopped || options.until_done || server.is_none() {
        return context.conclude(&pipeline, &mut observer, &Output { report: None, json: false });
    }
    context.conclude(&pipeline, &mut observer, &Output { report: None, json: false })?;
    print("\nThe log is over; the page stays up until Ctrl-C.\n");
    while !context.stop.requested() {
        context.telemetry.health().tick(std::time::Instant::now());
        std::thread::park_timeout(Duration::from_millis(200));
    }
    Ok(())
}

fn heading() -> String {
    format!(
        "{:>9}  {:>7}  {:>6}  {:>9}  {:>8}  {:>10}\n",
        "events", "items", "users", "events/s", "HR@20", "popularity"
    )
}

fn figures(trainer: &Trainer, (seconds, read): (f64, u64)) -> String {
    let tally = &trainer.state.progress.evaluation;
    let (model, popularity) = (tally.recent_model(), tally.recent_popularity());
    let (Some(model), Some(popularity)) = (model, popularity) else { return String::new() };
    let bar = |share: f64| "█".repeat((share * 60.0).round() as usize);
    format!(
        "{:>9}  {:>7}  {:>6}  {:>9.0}  {:>8.3}  {:>10.3}  {}\n",
        trainer.state.progress.events.read,
        trainer.state.items.ids.len(),
        trainer.state.users.ids.len(),
        read as f64 / seconds,
        model.hit_rate,
        popularity.hit_rate,
        bar(model.hit_rate),
    )
}

/// Prints neighbours of the most frequent items of a few topics; a synthetic name tells its topic.
fn show_neighbors(config: &Config) -> anyhow::Result<()> {
    let checkpoint = Checkpoint::open_with(&config.checkpoint.dir, &config.checkpoint)?;
    let index = NeighborIndex::read(&checkpoint)?;
    let topic = |item: &str| item.rsplit_once('-').map_or(String::new(), |(topic, _)| topic.to_owned());
    let mut topics = Vec::new();
    let mut text = String::new();
    for item in index.most_frequent() {
        if topics.contains(&topic(item)) {
            continue;
        }
        topics.push(topic(item));
        if let Some(neighbors) = index.nearest(item, 4) {
            text.push_str(&format!("\nNearest to {item}:\n{}", table(&neighbors)));
        }
        if topics.len() == 3 {
            break;
        }
    }
    print(&format!("{text}\n"));
    Ok(())
}

/// The thread that sends the synthetic log, paced by what the trainer has read.
struct Producer {
    taken: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<(), SendError>>,
}

impl Producer {
    fn start(config: &Config, brokers: &str, events: u64) -> anyhow::Result<Self> {
        let (taken, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let mut synth = EventGenerator::new(SynthConfig { seed: config.seed, ..SynthConfig::default() });
        let encoder = registry::encoder(&config.source, &config.kafka.topic)?;
        let mut producer = EventProducer::open(&config.kafka, brokers, encoder)?;
        let (progress, stopped) = (Arc::clone(&taken), Arc::clone(&stop));
        let thread = std::thread::Builder::new().name("producer".to_owned()).spawn(move || {
            for sent in 0..events {
                while sent > progress.load(Ordering::Relaxed) + LEAD && !stopped.load(Ordering::Relaxed) {
                    std::thread::park_timeout(Duration::from_millis(5));
                }
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                producer.send(&synth.next_event())?;
            }
            Ok(producer.flush(Duration::from_secs(10))?)
        })?;
        Ok(Self { taken, stop, thread })
    }

    fn stop(self) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        Ok(self.thread.join().map_err(|_| anyhow::anyhow!("the producer's thread panicked"))??)
    }
}
