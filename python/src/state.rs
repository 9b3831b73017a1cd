//! A stream's state to and from bytes: a line of JSON, then arrays of little-endian numbers one behind the other.
//!
//! The line has the settings, from which an empty stream is made, and name, kind and length of each array. Vectors are no part
//! of the state: they are the caller's.

use negstream::Config;
use negstream::commands::loaded::configuration;
use negstream::negatives::Vectors;
use negstream::negatives::bank::{Bank, BankEntry};
use negstream::negatives::frequency::{DecayedCounts, Newcomers};
use negstream::negatives::live::LiveItems;
use negstream::negatives::samplers::StreamView;
use negstream::state_dict::{Array, StateDict};
use negstream::trainer::state::horizon;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::stream::Stream;
use crate::vectors::StreamVectors;

/// The number of the format.
const FORMAT: u32 = 2;

/// The line before the arrays.
#[derive(Serialize, Deserialize)]
struct Header {
    negstream_sampler: u32,
    settings: Map<String, Value>,
    n_seen: usize,
    steps: u64,
    newest: Option<i64>,
    bank_now: u64,
    /// Numbers in a vector.
    dim: usize,
    /// By half-life: weight of an event, and total.
    scales: Vec<[f64; 2]>,
    /// Name, whether its numbers are real, and length of each array.
    arrays: Vec<(String, bool, usize)>,
}

/// The settings that a stream is made of.
pub fn settings(config: &Config) -> Value {
    json!({
        "seed": config.seed,
        "negatives": config.negatives,
        "evaluate": { "popularity_half_life": config.evaluate.popularity_half_life },
    })
}

/// The state of `stream`.
pub fn encode(stream: &Stream) -> Vec<u8> {
    // Named one by one, so that a field which is not saved does not compile.
    let Stream { config, frequencies, live, noise, bank, seen, n_seen, steps, vectors, candidates: _ } = stream;
    let mut saved = StateDict::default();
    saved.put_u32("seen", seen.iter().map(|seen| u32::from(*seen)).collect());
    saved.put_f64("evidence", frequencies.evidence().to_vec());
    for (index, memory) in frequencies.memories().iter().enumerate() {
        saved.put_f64(&format!("counts_{index}"), memory.relative().iter().copied().collect());
    }
    saved.put_f64("overruled", frequencies.overruled().to_vec());
    let newcomers = frequencies.newcomers();
    saved.put_f64("clock", vec![newcomers.clock()]);
    saved.put_f64("arrivals", newcomers.arrivals().iter().copied().collect());
    saved.put_f64("newcomers", newcomers.seen().as_flattened().to_vec());
    saved.put_u32("bank_items", bank.entries().iter().map(|entry| entry.item).collect());
    // Ages fit where numbers of events might not.
    saved.put_f64("bank_events", bank.entries().iter().map(|entry| entry.event as f64).collect());
    saved.scope("live", |saved| live.save(saved));
    saved.scope("noise", |saved| noise.save(saved));
    let Value::Object(settings) = settings(config) else { unreachable!("settings are an object") };
    let header = Header {
        negstream_sampler: FORMAT,
        settings,
        n_seen: *n_seen,
        steps: *steps,
        newest: frequencies.newest(),
        bank_now: bank.now(),
        dim: vectors.dim(),
        scales: frequencies.memories().iter().map(DecayedCounts::scale_parts).collect(),
        arrays: saved
            .arrays()
            .map(|(name, array)| match array {
                Array::U32(numbers) => (name.to_owned(), false, numbers.len()),
                Array::F64(numbers) => (name.to_owned(), true, numbers.len()),
            })
            .collect(),
    };
    let mut bytes = serde_json::to_vec(&header).expect("a header can be written as JSON");
    bytes.push(b'\n');
    for (_, array) in saved.arrays() {
        match array {
            Array::U32(numbers) => numbers.iter().for_each(|number| bytes.extend(number.to_le_bytes())),
            Array::F64(numbers) => numbers.iter().for_each(|number| bytes.extend(number.to_le_bytes())),
        }
    }
    bytes
}

/// The arrays behind the header.
fn arrays(header: &Header, mut bytes: &[u8]) -> Result<StateDict, String> {
    let mut arrays = Vec::new();
    for (name, is_real, length) in &header.arrays {
        let size = length.checked_mul(if *is_real { 8 } else { 4 }).filter(|size| *size <= bytes.len());
        let (own, rest) = bytes.split_at(size.ok_or_else(|| format!("it ends within '{name}'"))?);
        bytes = rest;
        let array = match is_real {
            true => Array::F64(own.as_chunks().0.iter().map(|number| f64::from_le_bytes(*number)).collect()),
            false => Array::U32(own.as_chunks().0.iter().map(|number| u32::from_le_bytes(*number)).collect()),
        };
        arrays.push((name.clone(), array));
    }
    if bytes.is_empty() { Ok(StateDict::from_arrays(arrays)) } else { Err("something follows it".to_owned()) }
}

/// The stream with the state `bytes`; what is wrong, where that is none.
pub fn decode(bytes: &[u8]) -> Result<Stream, String> {
    let end = bytes.iter().position(|byte| *byte == b'\n').ok_or("it has no header")?;
    let header: Header = serde_json::from_slice(&bytes[..end]).map_err(|error| format!("its header: {error}"))?;
    if header.negstream_sampler != FORMAT {
        return Err(format!("it has format {}, this version reads {FORMAT}", header.negstream_sampler));
    }
    let mut saved = arrays(&header, &bytes[end + 1..])?;
    let config = configuration(&header.settings).map_err(|error| error.to_string())?;
    let mut stream = Stream::empty(config);
    let Header { n_seen, steps, newest, bank_now, dim, scales, .. } = header;
    let said = |error: negstream::state_dict::StateDictError| error.to_string();
    stream.seen = saved.take_u32("seen").map_err(said)?.into_iter().map(|seen| seen != 0).collect();
    let n_items = stream.seen.len();
    (stream.n_seen, stream.steps, stream.vectors) = (n_seen, steps, StreamVectors::Missing { dim });
    let evidence = saved.take_f64("evidence").map_err(said)?;
    let mut counts = Vec::new();
    for index in 0..stream.frequencies.memories().len() {
        let of_items = saved.take_f64(&format!("counts_{index}")).map_err(said)?;
        if of_items.len() != n_items {
            return Err("it does not have a count for each item".to_owned());
        }
        counts.push(of_items.into_iter().collect());
    }
    let overruled = saved.take_f64("overruled").map_err(said)?;
    let overruled = overruled.try_into().map_err(|_| "it does not have the two numbers of the overruled memory")?;
    let [clock] = saved.take_f64("clock").map_err(said)?.try_into().map_err(|_| "it does not have one clock")?;
    let arrivals = saved.take_f64("arrivals").map_err(said)?.into_iter().collect();
    let newcomers = saved.take_f64("newcomers").map_err(said)?.as_chunks().0.to_vec();
    let newcomers = Newcomers::restored(clock, arrivals, newcomers);
    let restored = stream.frequencies.clone().restored(&scales, counts, &evidence, newest, overruled, newcomers);
    stream.frequencies = restored.ok_or("its counts do not fit its half-lives or its items")?;
    let (items, events) = (saved.take_u32("bank_items").map_err(said)?, saved.take_f64("bank_events").map_err(said)?);
    let is_sound = items.len() == events.len()
        && items.iter().all(|item| (*item as usize) < n_items)
        && events.iter().all(|event| (0.0..=bank_now as f64).contains(event));
    let entries = items.into_iter().zip(events).map(|(item, event)| BankEntry { item, event: event as u64 }).collect();
    let negatives = &stream.config.negatives;
    let bank =
        Bank::new(negatives.bank, negatives.bank_max_age, false).with_entries(entries, Vec::new(), dim, bank_now);
    stream.bank = bank.filter(|_| is_sound).ok_or("its bank holds what it cannot")?;
    let horizon = horizon(&stream.config);
    stream.live = saved.scope("live", |saved| LiveItems::restore(horizon, n_items, saved)).map_err(said)?;
    let Stream { frequencies, live, noise, vectors, .. } = &mut stream;
    let view = StreamView { frequencies, live, vectors };
    saved.scope("noise", |saved| noise.restore(view, saved)).map_err(said)?;
    Ok(stream)
}
