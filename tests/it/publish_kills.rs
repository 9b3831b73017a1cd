//! A worker that publishes to several servers and is killed at random, while now and then one of them is stopped: in the end each
//! holds the final table, row for row.
//!
//! `NEGSTREAM_KILLS` says how often (5 by default; 100 takes some minutes).

use std::time::Duration;

use crate::sink_servers::{self, SinkServer};
use crate::support::{Background, Place, checkpoint_events, events, run, set, write_described_log};

/// Chance of the test's own, the same in every run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

#[test]
fn servers_hold_the_final_table_however_often_the_worker_is_killed_and_they_are_stopped() {
    let kills: usize = std::env::var("NEGSTREAM_KILLS").map_or(5, |kills| kills.parse().expect("a number"));
    let servers: Vec<(&str, SinkServer)> =
        [("redis", SinkServer::redis_with(&[])), ("postgres", SinkServer::postgres_alone())]
            .into_iter()
            .filter_map(|(sink, server)| Some((sink, server?)))
            .collect();
    let target = |sink: &str, server: &SinkServer| match sink {
        "redis" => sink_servers::redis_url(server),
        _ => sink_servers::postgres_url(server),
    };
    let place = Place::new();
    let log = place.path("log.parquet").display().to_string();
    write_described_log(log.as_ref(), &events(8_000 * (kills + 2), 51));
    let tables = servers.iter().map(|(sink, server)| {
        format!("{{sink=\"{sink}\",target=\"{}\",timeout_ms=2000,patience=60,max_age=2}}", target(sink, server))
    });
    let sinks = format!("publish=[{}]", tables.collect::<Vec<_>>().join(","));
    // Items come and go: deletions are part of it.
    let settings = ["memory.items.cap=200", "checkpoint.every_events=1000", "train.batch=64", "threads=1", &sinks];
    let worker = || {
        let mut command = place.negstream(&["replay", "--json", &log]);
        set(&mut command, &settings);
        command
    };
    let mut chance = Chance(52);
    let mut deaths = 0;
    for _ in 0..kills {
        let stopped = match chance.below(3) {
            0 if !servers.is_empty() => Some(&servers[chance.below(servers.len() as u64) as usize].1),
            _ => None,
        };
        let stops_first = chance.below(2) == 0;
        if let Some(server) = stopped.filter(|_| stops_first) {
            server.signal("STOP");
        }
        let mut running = Background::start(&mut worker());
        // The first line of a checkpoint tells what it goes on from.
        let written = |line: &str| checkpoint_events(line).filter(|_| line.contains("written"));
        for _ in 0..=chance.below(3) {
            running.wait_for(written);
        }
        if let Some(server) = stopped.filter(|_| !stops_first) {
            server.signal("STOP");
            running.wait_for(written);
        }
        // Not to wait for anything: anywhere within a few updates.
        std::thread::sleep(Duration::from_millis(chance.below(300)));
        deaths += usize::from(running.kill());
        if let Some(server) = stopped {
            server.signal("CONT");
        }
    }
    assert!(deaths >= kills.min(3), "it had ended before it could be killed: {deaths} deaths");
    let report = run(&mut worker()).ended(0).json();
    let newest = place.newest("checkpoints").display().to_string();
    for (sink, server) in &servers {
        let target = target(sink, server);
        let verify = ["publish", "verify", &newest, "--sink", sink, "--target", &target];
        let said = run(&mut place.negstream(&verify));
        assert_eq!(said.code, Some(0), "after {deaths} deaths: {}{}\n{}", said.out, said.err, report["sinks"]);
    }
    println!("measured: {deaths} deaths, each of {} servers equal to the final checkpoint", servers.len());
}
