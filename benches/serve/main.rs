//! How long requests to `/v1/recommend` take, and what they cost training: an open loop of requests at a fixed rate, whatever comes
//! back. One JSON line for each phase.
//!
//! `cargo bench --bench serve -- [--items N] [--rate N] [--seconds N] [--rounds N] [--alike SHARE] [--set KEY=VALUE]…`
//!
//! | further | measures instead |
//! | --- | --- |
//! | `--freshness EVENTS_A_SECOND` | how long after a record was read an answer reflects it (`freshness`) |
//! | `--recall [--hour EVENTS] [--svg FILE]` | what the index finds while an hour of events is learnt (`recall`) |
//! | `--attack` | what open pages and hostile requests cost training (`attack`) |
//!
//! Each request has a time at which it is due; its latency counts from then on, also where the client was still busy, so that a
//! stall is seen by all requests that fall into it (no coordinated omission). Clients, answers and training share the machine.
//! Phases: requests alone; then, in each round, training alone and both, where requests ask for what is learnt at that moment. Speeds
//! are medians of the rounds, latencies those of all of them. Events are drawn from a
//! million items (or `--items`), half of them by popularity; they are ranked by nobody (`evaluate.share = 0`). Each item is of one of
//! 2,000 kinds, and of each user's events the share `--alike` (.8) is of a few kinds. What a stream of hundreds of millions of events
//! would have taught is there from the beginning: the vectors of a kind lie around one direction, with a cosine of about .7 to it, in a
//! space of 20 dimensions. (Of two logs' own vectors, 92,000 items of groceries and 46,000 of news, those with at least five
//! events have an intrinsic dimension of 27 and 14 around them, by the estimate of Levina & Bickel 2004 with 20 neighbours.) With
//! `--alike 0` no item is like any other, and vectors begin as in a new model.

mod attack;
mod client;
mod freshness;
mod recall;
mod stream;

use std::time::{Duration, Instant};

use client::{Measured, gauge, load};
use stream::{SpeedsAlone, Worker, median};

/// How long a few requests are sent at most before what is measured: an index over the items is made when somebody asks.
const WARM_UP: Duration = Duration::from_secs(30);

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let values = |flag: &str| -> Vec<&String> {
        arguments.windows(2).filter(|pair| pair[0] == flag).map(|pair| &pair[1]).collect()
    };
    let is_set = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let number = |flag: &str, default: u64| -> anyhow::Result<u64> {
        Ok(values(flag).first().map_or(Ok(default), |value| value.parse())?)
    };
    let (items, rate, seconds) = (number("--items", 1_000_000)?, number("--rate", 500)?, number("--seconds", 20)?);
    let (span, rounds) = (Duration::from_secs(seconds), number("--rounds", 1)?);
    let settings: Vec<String> = values("--set").into_iter().cloned().collect();
    if is_set("--freshness") {
        println!("{}", freshness::measure(number("--freshness", 0)?, span, &settings)?);
        return Ok(());
    }
    let alike = values("--alike").first().map_or(Ok(0.8), |value| value.parse::<f64>())?;
    let mut worker = Worker::start(items, alike, &settings)?;
    warm_up(&worker, items);
    if is_set("--recall") {
        return recall::measure(
            &mut worker,
            number("--hour", 3_600_000)?,
            values("--svg").first().map(|file| file.as_ref()),
        );
    }
    if is_set("--attack") {
        return attack::measure(&mut worker, span, rounds);
    }
    let address = worker.server.address();
    worker.leave_view();
    println!("{}", load(address, rate, span).line("requests alone", items, rate, address));
    let mut alone = SpeedsAlone::start(&mut worker, span);
    let (mut trained, mut shares, mut busy) = (Vec::new(), Vec::new(), Measured::default());
    for _ in 0..rounds {
        worker.leave_view();
        let (speed, measured) = worker.train_beside(|| load(address, rate, span));
        trained.push(speed);
        busy.add(measured);
        shares.push(alone.share_kept(&mut worker, speed));
    }
    let mut line = busy.line("requests while training", items, rate, address);
    line["events_per_second_alone"] = alone.median().round().into();
    line["events_per_second"] = median(trained).round().into();
    line["share_of_speed"] = ((median(shares) * 1e3).round() / 1e3).into();
    println!("{line}");
    Ok(())
}

/// Asks now and then until there is an index over the items.
fn warm_up(worker: &Worker, items: u64) {
    let (warming, address) = (Instant::now(), worker.server.address());
    let is_without_index = || gauge(address, "negstream_index_build_seconds_count") == Some(0.0);
    while items >= worker.config.serve.index_from as u64 && is_without_index() && warming.elapsed() < WARM_UP {
        load(address, 10, Duration::from_secs(1));
    }
}
