//! Workers that publish to real servers: what a server holds in the end equals the final checkpoint, row for row, also where
//! the worker was killed on the way, and the checkpoint is that of a worker without sinks.

use std::collections::BTreeMap;
use std::path::Path;

use negstream::Checkpoint;
use negstream::publish::{self, SinkConfig, SinkState};

use crate::kafka_harness::Broker;
use crate::sink_servers;
use crate::support::{Background, Place, checkpoint_events, events, run, set, tree, write_described_log};

/// Bits of an item's embedding and of its log-frequency.
type Bits = BTreeMap<String, (Vec<u32>, u32)>;

fn bits(embedding: &[f32], log_frequency: f32) -> (Vec<u32>, u32) {
    (embedding.iter().map(|number| number.to_bits()).collect(), log_frequency.to_bits())
}

fn in_sink(sink: &str, target: &str) -> (SinkState, Bits) {
    let mut rows = Bits::new();
    let mut sink = publish::open(&SinkConfig::new(sink, target)).unwrap();
    let state = sink.read(&mut |row| {
        rows.insert(row.item_id, bits(&row.embedding, row.log_frequency));
    });
    (state.unwrap().expect("something was committed"), rows)
}

fn in_checkpoint(checkpoint: &Path) -> Bits {
    let items = Checkpoint::open(checkpoint).unwrap().items().unwrap().map(|item| item.unwrap());
    items.map(|item| (item.id, bits(&item.embedding, item.log_frequency))).collect()
}

/// The files of a checkpoint that do not name the run.
fn learnt(checkpoint: &Path) -> BTreeMap<std::path::PathBuf, Vec<u8>> {
    tree(checkpoint)
        .into_iter()
        .filter(|(file, _)| !["manifest.json", "lineage"].iter().any(|name| file.ends_with(name)))
        .collect()
}

#[test]
fn worker_that_publishes_and_is_killed_leaves_servers_equal_to_its_final_checkpoint() {
    let (redis, postgres) = (sink_servers::SinkServer::redis_with(&[]), sink_servers::postgres());
    let kafka = Broker::start();
    let mut targets = Vec::new();
    targets.extend(kafka.as_ref().map(|broker| ("kafka", format!("kafka://{}", broker.bootstrap()))));
    targets.extend(redis.as_ref().map(|server| ("redis", sink_servers::redis_url(server))));
    targets.extend(postgres.as_ref().map(|server| ("postgres", sink_servers::postgres_url(server))));
    let place = Place::new();
    targets.push(("parquet", place.path("lake").display().to_string()));
    let log = place.path("log.parquet");
    write_described_log(&log, &events(60_000, 19));
    let settings = ["memory.items.cap=300", "checkpoint.every_events=4000", "train.batch=64", "threads=1"];
    place.replay_in("quiet", &[log.to_str().unwrap()], &settings);

    let tables: Vec<String> =
        targets.iter().map(|(sink, target)| format!("{{sink=\"{sink}\",target=\"{target}\"}}")).collect();
    let sinks = format!("publish=[{}]", tables.join(","));
    let command = || {
        let mut command = place.negstream(&["replay", "--json", log.to_str().unwrap()]);
        set(&mut command, &settings);
        set(&mut command, &[&sinks]);
        command
    };
    for reached in [4_000, 12_000, 28_000] {
        let mut worker = Background::start(&mut command());
        worker.wait_for(|line| checkpoint_events(line).filter(|events| *events >= reached));
        assert!(worker.kill(), "it had ended before a checkpoint of {reached} events");
    }
    run(&mut command()).ended(0);
    let newest = place.newest("checkpoints");
    let (with, without) = (learnt(&newest), learnt(&place.newest("quiet")));
    let differing: Vec<_> = with.keys().filter(|file| with[*file] != without[*file]).collect();
    assert!(differing.is_empty(), "publishing changed {differing:?}");
    let (model_id, expected) = (Checkpoint::open(&newest).unwrap().manifest().model_id(), in_checkpoint(&newest));
    let mut epochs = Vec::new();
    for (sink, target) in &targets {
        let (state, rows) = in_sink(sink, target);
        assert_eq!(state.model_id, model_id, "{sink}");
        assert!(rows == expected, "{sink}: {} rows, not {}, or others", rows.len(), expected.len());
        epochs.push(state.version.epoch);
    }
    // Once more, with nothing to learn: a whole table under a new epoch.
    run(&mut command()).ended(0);
    for ((sink, target), epoch) in targets.iter().zip(epochs) {
        let (state, rows) = in_sink(sink, target);
        assert!(state.version.epoch > epoch && rows == expected, "{sink}: {}", state.version);
    }
}

#[test]
fn worker_whose_sink_is_away_or_of_another_model_ends_in_good_order_and_names_it() {
    let Some(server) = sink_servers::SinkServer::redis_with(&[]) else { return };
    let target = sink_servers::redis_url(&server);
    let place = Place::new();
    let log = place.path("log.parquet");
    write_described_log(&log, &events(2_000, 20));
    let replay = |checkpoints: &str, target: &str, more: &str| {
        let mut command = place.negstream_in(checkpoints, &["replay", log.to_str().unwrap()]);
        set(&mut command, &[&format!("publish=[{{sink=\"redis\",target=\"{target}\",patience=1{more}}}]")]);
        run(&mut command).ended(0)
    };
    replay("first", "redis://:canary@127.0.0.1:1/0", "").names(&["redis", "away", "does not hold the final table"]);
    replay("first", &target, "");
    let state = in_sink("redis", &target).0;
    replay("second", &target, "").names(&["redis", "another model", "replace = true", &state.model_id]);
    assert_eq!(in_sink("redis", &target).0, state);
    replay("second", &target, ",replace=true");
    assert!(in_sink("redis", &target).1 == in_checkpoint(&place.newest("second")));
}
