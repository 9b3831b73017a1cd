//! What change-aware publishing sends, and what lists of what was published are worth: recall@20 against bytes. One JSON line each.
//!
//! `cargo bench --bench publish -- LOG.parquet [--rate N]… [--events N] [--kind TYPE]`
//!
//! A log is replayed with the shipped defaults. A stream of `--rate` events a second (1,000 and 10,000) is imitated: a sink is fed
//! every quarter of a second, so every so many events, and each controller measures once a second. Rows stand still for fixed
//! thresholds, or for controllers with a wanted recall; all look at the same training. What each sent is counted against sending
//! every touched row, and its lists are compared once a second with those of the live model, for users of the newest events and
//! over all items, whatever its own controller measured. No row is sent for its age.
//!
//! The same is told of rows that are sent with half the precision, or as bytes with a scale, as the sink in Kafka can: what their
//! lists are worth, and their bytes, against every touched row in single precision.

use std::path::Path;

use arrow_array::ArrowPrimitiveType;
use arrow_array::types::Float16Type;
use negstream::config::{Config, layers};
use negstream::event::{Interaction, Record};
use negstream::kernel::Kernel;
use negstream::pipeline::change_filter::ChangeFilter;
use negstream::pipeline::recall_controller::RecallController;
use negstream::pipeline::selection::with_live_rows;
use negstream::position::{Positions, Stream};
use negstream::recommend::recall::kept_in_lists;
use negstream::source::parquet::{LogOptions, ParquetLogs};
use negstream::source::{EventSource, PollStatus};
use negstream::trainer::Trainer;
use negstream::trainer::state::State;
use serde_json::json;

/// Feeds a second.
const FEEDS: usize = 4;
/// Length of a list.
const K: usize = 20;
/// Users whose lists a controller compares, and those by whose lists the result is judged.
const USERS: [usize; 2] = [64, 64];
/// Fixed thresholds.
const FIXED: [f64; 6] = [0.02, 0.04, 0.08, 0.16, 0.32, 0.64];
/// Wanted recalls.
const WANTED: [f64; 6] = [0.9, 0.95, 0.98, 0.99, 0.995, 0.999];

/// A way to choose rows, and what came of it.
struct Contestant {
    filter: ChangeFilter,
    controller: Option<RecallController>,
    wanted: Option<f64>,
    rows: u64,
    bytes: u64,
    judged: [u64; 2],
    /// The least recall of any ten seconds.
    least: f64,
    window: [u64; 2],
    /// The same as `bytes` and `judged`, of rows that are rounded to fewer bits.
    rounded: [(u64, [u64; 2]); 2],
}

/// Numbers of half the precision, and bytes with a scale: their name, the bytes of a row's numbers, and how a row is rounded.
type Rounding = (&'static str, fn(usize) -> usize, fn(&mut [f32]));
const ROUNDINGS: [Rounding; 2] = [
    (
        "f16",
        |dim| 2 * dim,
        |row| {
            type Half = <Float16Type as ArrowPrimitiveType>::Native;
            row.iter_mut().for_each(|number| *number = Half::from_f32(*number).to_f32());
        },
    ),
    (
        "int8",
        |dim| dim + 4,
        |row| {
            let scale = row.iter().fold(f32::MIN_POSITIVE, |most, number| most.max(number.abs())) / 127.0;
            row.iter_mut().for_each(|number| *number = (*number / scale).round() * scale);
        },
    ),
];

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let values = |flag: &str| -> Vec<&String> {
        arguments.windows(2).filter(|pair| pair[0] == flag).map(|pair| &pair[1]).collect()
    };
    let Some(log) = arguments.first().filter(|argument| !argument.starts_with("--")) else {
        println!("no log is named: nothing is measured");
        return Ok(());
    };
    let rates: Vec<usize> = values("--rate").into_iter().map(|rate| rate.parse()).collect::<Result<_, _>>()?;
    let most = values("--events").first().map_or(Ok(usize::MAX), |events| events.parse())?;
    let mut flags = vec!["evaluate.share=0.0".to_owned(), "negatives.false_negative_share=0.0".to_owned()];
    flags.extend(values("--set").into_iter().cloned());
    if let Some(kind) = values("--kind").first() {
        flags.push(format!("positives.kinds=[\"{kind}\"]"));
    }
    let config = layers::load(None, std::iter::empty(), &flags)?;
    let mut events = read(Path::new(log), &config)?;
    events.truncate(most);
    for rate in if rates.is_empty() { vec![1_000, 10_000] } else { rates } {
        measure(log, &config, &events, rate)?;
    }
    Ok(())
}

/// The events of a Parquet log, in order.
fn read(path: &Path, config: &Config) -> anyhow::Result<Vec<Interaction>> {
    let options = LogOptions::new(&config.source, false);
    let mut source = ParquetLogs::open(&[path.display().to_string()], options, &Positions::default())?;
    let mut block = Vec::new();
    while !matches!(source.poll(&mut block)?, PollStatus::End) {}
    Ok(block.into_iter().filter_map(|record| record.outcome.ok()).collect())
}

fn measure(log: &str, config: &Config, events: &[Interaction], rate: usize) -> anyhow::Result<()> {
    let dim = config.model.dim;
    let mut trainer = Trainer::new(config, State::new(config, Kernel::detect()))?;
    trainer.set_streams(&[Stream { name: "bench".to_owned(), label: "bench".to_owned() }]);
    trainer.state.track_changes();
    let contestant = |wanted: Option<f64>, threshold: f64| {
        let mut filter = ChangeFilter::new(dim, u64::MAX);
        filter.threshold = threshold as f32;
        let controller = wanted.map(RecallController::new);
        let (rounded, judged, window) = ([(0, [0; 2]); 2], [0; 2], [0; 2]);
        Contestant { filter, controller, wanted, rows: 0, bytes: 0, judged, least: 1.0, window, rounded }
    };
    let fixed = FIXED.map(|threshold| contestant(None, threshold));
    let mut contestants: Vec<Contestant> =
        fixed.into_iter().chain(WANTED.map(|wanted| contestant(Some(wanted), 0.0))).collect();
    let (mut touched, mut touched_bytes, mut feeds) = (0_u64, 0_u64, 0_usize);
    for (place, events_of_feed) in events.chunks((rate / FEEDS).max(1)).enumerate() {
        for (offset, event) in events_of_feed.iter().enumerate() {
            let offset = (place * (rate / FEEDS) + offset) as u64;
            trainer.ingest(Record { stream: 0, offset, broker_timestamp: None, outcome: Ok(event.clone()) });
        }
        feeds += 1;
        let now = feeds as u64 * 1_000 / FEEDS as u64;
        let changes = trainer.state.drain_changes().expect("they are tracked");
        let state = &trainer.state;
        let n_rows = state.items.ids.len();
        let row_bytes = |row: &u32| (state.items.ids.name(*row).len() + 4 * dim + 4) as u64;
        touched += changes.changed.len() as u64;
        touched_bytes += changes.changed.iter().map(row_bytes).sum::<u64>();
        for contestant in &mut contestants {
            contestant.filter.follow(&changes.evictions);
            if let Some(controller) = &contestant.controller {
                contestant.filter.threshold = controller.threshold();
            }
            let filter = &mut contestant.filter;
            let selected = with_live_rows(state, |table| filter.select(&changes.changed, now, table));
            contestant.rows += selected.len() as u64;
            contestant.bytes += selected.iter().map(row_bytes).sum::<u64>();
            for ((_, row_size, _), (bytes, _)) in ROUNDINGS.iter().zip(&mut contestant.rounded) {
                let row_bytes = |row: &u32| (state.items.ids.name(*row).len() + row_size(dim) + 4) as u64;
                *bytes += selected.iter().map(row_bytes).sum::<u64>();
            }
        }
        if feeds % FEEDS > 0 {
            continue;
        }
        let at = events_of_feed.last().map_or(0, |event| event.timestamp);
        let newest = events_of_feed.iter().rev().filter_map(|event| state.users.ids.get(&event.user));
        let users: Vec<u32> = newest.collect();
        for contestant in &mut contestants {
            let Contestant { filter, controller, judged, window, least, rounded, .. } = contestant;
            let sample = |n: usize, shift: usize| -> Vec<u32> {
                let step = (users.len() / n).max(1);
                users.iter().copied().skip(shift.min(step - 1)).step_by(step).take(n).collect()
            };
            if let Some(controller) = controller {
                let older = |row: u32| filter.held(row as usize);
                let (compared, kept) = kept_in_lists(state, &sample(USERS[0], 1), at, K, 0..n_rows as u32, older);
                controller.measured(compared, kept);
            }
            let second = feeds / FEEDS;
            if second.is_multiple_of((10_000 / rate).clamp(1, 5)) {
                let older = |row: u32| filter.held(row as usize);
                let (compared, kept) = kept_in_lists(state, &sample(USERS[1], 0), at, K, 0..n_rows as u32, older);
                *judged = [judged[0] + compared, judged[1] + kept];
                *window = [window[0] + compared, window[1] + kept];
                // Of the wanted recalls alone: it takes a while.
                for ((_, _, round), (_, judged)) in ROUNDINGS.iter().zip(rounded).filter(|_| controller.is_some()) {
                    let mut held = vec![0.0; n_rows * dim];
                    for (row, out) in held.chunks_exact_mut(dim).enumerate() {
                        match filter.published(row) {
                            Some(published) => out.copy_from_slice(published),
                            None => state.model.served(row, out),
                        }
                        round(out);
                    }
                    let older = |row: u32| Some(&held[row as usize * dim..][..dim]);
                    let (compared, kept) = kept_in_lists(state, &sample(USERS[1], 0), at, K, 0..n_rows as u32, older);
                    *judged = [judged[0] + compared, judged[1] + kept];
                }
            }
            if second.is_multiple_of(10) && window[0] > 0 {
                if second > 30 {
                    *least = least.min(window[1] as f64 / window[0] as f64);
                }
                *window = [0; 2];
            }
        }
    }
    let items = trainer.state.items.ids.len();
    let rounded = |value: f64| (value * 1e5).round() / 1e5;
    println!(
        "{}",
        json!({
            "log": log, "rate": rate, "events": events.len(), "items": items, "touched_rows": touched,
            "touched_bytes": touched_bytes, "touched_rows_per_event": rounded(touched as f64 / events.len() as f64),
        })
    );
    for contestant in contestants {
        let share = |bytes: u64| rounded(bytes as f64 / touched_bytes as f64);
        let recall = |[compared, kept]: [u64; 2]| rounded(kept as f64 / compared.max(1) as f64);
        let with = |((name, ..), (bytes, judged)): (&Rounding, (u64, [u64; 2]))| {
            (name.to_string(), json!({ "recall": recall(judged), "bytes_of_touched": share(bytes) }))
        };
        let of_fewer_bits = contestant.controller.is_some().then(|| ROUNDINGS.iter().zip(contestant.rounded).map(with));
        let of_fewer_bits: serde_json::Map<String, serde_json::Value> = of_fewer_bits.into_iter().flatten().collect();
        println!(
            "{}",
            json!({
                "rate": rate, "recall_wanted": contestant.wanted, "threshold": contestant.filter.threshold,
                "recall": recall(contestant.judged),
                "least_recall_of_10_s": rounded(contestant.least),
                "rows_of_touched": rounded(contestant.rows as f64 / touched as f64),
                "bytes_of_touched": share(contestant.bytes),
                "bytes_per_event": rounded(contestant.bytes as f64 / events.len() as f64),
                "rounded": of_fewer_bits,
            })
        );
    }
    Ok(())
}
