//! Sinks of embeddings: what a sink holds equals `items.parquet` of the last checkpoint, byte for byte, whatever happened.

use std::collections::BTreeMap;
use std::path::Path;

use negstream::source::parquet::{LogOptions, ParquetLogs};
use negstream::{Checkpoint, Config, MemorySink, Pipeline, StopReason};

use crate::support::{Place, events, write_described_log};

/// Every setting with which tables are trained, evicted from, and published.
const SETTINGS: [&[&str]; 4] = [
    &[],
    &["memory.items.cap=64", "memory.users.cap=64"],
    &["memory.items.expire_events=300", "memory.items.admit_after=2", "model.similarity=dot"],
    &["features.buckets=256", "memory.items.cap=100"],
];

/// The bits of each item's embedding, and of its log-frequency.
type Table = BTreeMap<String, (Vec<u32>, u32)>;

fn bits(embedding: &[f32], log_frequency: f32) -> (Vec<u32>, u32) {
    (embedding.iter().map(|number| number.to_bits()).collect(), log_frequency.to_bits())
}

struct Publishing {
    place: Place,
    config: Config,
    sink: MemorySink,
}

impl Publishing {
    fn new(settings: &[&str]) -> Self {
        let place = Place::new();
        let dir = format!("checkpoint.dir={}", place.path("checkpoints").display());
        let small = ["train.batch=32", "model.dim=16", "negatives.bank=64", "threads=1", "checkpoint.every_events=300"];
        let settings: Vec<&str> = small.iter().chain(settings).copied().chain([dir.as_str()]).collect();
        let config = Config::with_settings(&settings).unwrap();
        Self { place, config, sink: MemorySink::new() }
    }

    /// Trains on the events of `range` of the stream, from the newest checkpoint on.
    fn train(&self, range: std::ops::Range<usize>) {
        let log = self.place.path(&format!("{}.parquet", range.start));
        write_described_log(&log, &events(range.end, 77)[range]);
        let mut pipeline = Pipeline::builder(&self.config).sink(self.sink.clone()).build().unwrap();
        let options = LogOptions::new(&self.config.source, true);
        let logs = ParquetLogs::open(&[log.display().to_string()], options, pipeline.positions()).unwrap();
        assert_eq!(pipeline.run(logs).unwrap(), StopReason::End);
    }

    fn in_sink(&self) -> Table {
        self.sink.rows().into_iter().map(|(item_id, row)| (item_id, bits(&row.embedding, row.log_frequency))).collect()
    }

    fn in_checkpoint(&self) -> Table {
        read_items(&self.place.newest("checkpoints"))
    }
}

fn read_items(checkpoint: &Path) -> Table {
    let items = Checkpoint::open(checkpoint).unwrap().items().unwrap();
    items.map(|item| item.unwrap()).map(|item| (item.id, bits(&item.embedding, item.log_frequency))).collect()
}

#[test]
fn sink_holds_the_items_of_the_last_checkpoint_after_evictions_and_a_resume() {
    for settings in SETTINGS {
        let publishing = Publishing::new(settings);
        let mut earlier: Option<Table> = None;
        for range in [0..1_500, 1_500..2_000, 2_000..3_000] {
            publishing.train(range.clone());
            let (in_sink, in_checkpoint) = (publishing.in_sink(), publishing.in_checkpoint());
            assert!(in_sink.len() > 20, "{settings:?}: {} items", in_sink.len());
            assert!(in_sink == in_checkpoint, "{settings:?}, {range:?}: the sink differs from the checkpoint");
            let goes = |earlier: &Table| earlier.keys().any(|item_id| !in_sink.contains_key(item_id));
            let evicts = settings.iter().any(|setting| setting.starts_with("memory"));
            assert!(earlier.is_none_or(|earlier| goes(&earlier) == evicts), "{settings:?}: no item was evicted");
            earlier = Some(in_sink);
        }
    }
}

#[test]
fn sink_epoch_grows_with_every_restart() {
    let publishing = Publishing::new(&[]);
    let mut versions = Vec::new();
    for range in [0..600, 600..700, 700..1_400] {
        publishing.train(range);
        versions.push(publishing.sink.version().expect("an update"));
    }
    assert!(versions.is_sorted_by(|earlier, later| earlier.epoch < later.epoch), "{versions:?}");
    // Within a process, one full update and then changes.
    let (full, deltas) = publishing.sink.n_committed();
    assert!(full == 3 && deltas >= 1, "{full} full, {deltas} deltas");
}

#[test]
fn sink_that_refused_an_update_is_made_whole_by_the_next() {
    let publishing = Publishing::new(&["memory.items.cap=64"]);
    publishing.train(0..1_000);
    publishing.sink.refuse_commits(1);
    publishing.train(1_000..3_000);
    assert!(publishing.in_sink() == publishing.in_checkpoint(), "the sink differs from the checkpoint");
}

#[test]
fn sinks_by_name_are_opened_by_the_pipeline() {
    let publishing = Publishing::new(&[]);
    let error = Pipeline::builder(&publishing.config).named_sink("memry", "").build().unwrap_err().to_string();
    assert!(error.contains("'memry'") && error.contains("memory"), "{error}");
    let target = "sinks_by_name_are_opened_by_the_pipeline";
    Pipeline::builder(&publishing.config).named_sink("memory", target).build().unwrap();
}
