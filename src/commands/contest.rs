//! What `compare` and `tune` share: configurations are trained on a log, peers are ranked on it, and both become contestants.

use std::collections::HashMap;
use std::path::Path;
use std::time::Instant;

use indicatif::ProgressBar;
use serde_json::Value as Json;

use super::CommandContext;
use super::late_ranks::{LateRanks, check_kept};
use crate::catalogue::Catalogue;
use crate::checkpoint::manifest::digest;
use crate::cli::Layers;
use crate::compare::contestant::{Contestant, ContestantKind, StretchMeans, Training};
use crate::compare::figures::STRETCHES;
use crate::compare::judged::JudgedEvents;
use crate::config::Config;
use crate::evaluate::rank_code::RankCode;
use crate::exit::UsageError;
use crate::peers::interactions::Interactions;
use crate::peers::registry::{Contest, PEERS, Peer};
use crate::pipeline::{Pipeline, PipelineEvent, Restored, StopReason};
use crate::source::parquet::ordered::OrderedLogs;
use crate::source::{EventSource, PollStatus};
use crate::telemetry::report::Report;
use crate::util::config_section::ConfigValue as _;
use crate::util::credentials::hide_credentials;
use crate::util::escape::escape_for_terminal;
use crate::util::nearest::nearest;

/// Sections that no model depends on.
pub(super) const SILENT: [&str; 4] = ["checkpoint.", "http.", "kafka.", "log."];
/// Sections that say what is judged and how: they are the same for all.
pub(super) const SHARED: [&str; 3] = ["source", "positives", "evaluate"];

/// A configuration that is compared.
#[derive(Debug, Clone)]
pub(super) struct Variant {
    pub(super) name: String,
    /// What differs from the first one.
    pub(super) setting: String,
    pub(super) config: Config,
}

impl Variant {
    /// The first one, `config`, which is that of `layers`: it has the name of their file.
    pub(super) fn of_layers(layers: &Layers, config: Config) -> anyhow::Result<Self> {
        let name = layers.config.as_deref().and_then(stem).unwrap_or_else(|| "negstream".to_owned());
        let setting = differences(&Config::default(), &config)?.join("; ");
        Ok(Self { name, setting, config })
    }
}

pub(super) fn stem(path: &Path) -> Option<String> {
    path.file_stem().map(|stem| stem.to_string_lossy().into_owned())
}

/// The peers that `--peers` names.
pub(super) fn chosen_peers(names: &str) -> Result<Vec<&'static Peer>, UsageError> {
    match names.trim() {
        "none" | "" => return Ok(Vec::new()),
        "all" => return Ok(PEERS.iter().collect()),
        _ => {}
    }
    let find = |name: &str| {
        PEERS.iter().find(|peer| peer.name == name).ok_or_else(|| {
            let (like, _) = nearest(PEERS.iter().map(|peer| peer.name), name).unwrap_or_default();
            let all: Vec<&str> = PEERS.iter().map(|peer| peer.name).collect();
            UsageError(format!(
                "--peers: no peer '{}', did you mean '{like}'? There are {}",
                escape_for_terminal(name),
                all.join(", ")
            ))
        })
    };
    let mut chosen: Vec<&Peer> = Vec::new();
    for name in names.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        let peer = find(name)?;
        if !chosen.iter().any(|other| other.name == peer.name) {
            chosen.push(peer);
        }
    }
    Ok(chosen)
}

/// The settings of `config` that `other` has otherwise (`KEY=VALUE`, by `other`), without what is secret and what no model
/// depends on.
pub(super) fn differences(config: &Config, other: &Config) -> anyhow::Result<Vec<String>> {
    let said = |(key, value): (String, Json)| {
        format!("{key}={}", value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    };
    Ok(different(config, other)?.into_iter().map(said).collect())
}

/// The same as keys and values.
pub(super) fn different(config: &Config, other: &Config) -> anyhow::Result<Vec<(String, Json)>> {
    fn walk(key: &str, a: &Json, b: &Json, found: &mut Vec<(String, Json)>) {
        match (a, b) {
            (Json::Object(a), Json::Object(b)) => {
                for (name, value) in b {
                    let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                    walk(&key, a.get(name).unwrap_or(&Json::Null), value, found);
                }
            }
            _ if a != b => found.push((key.to_owned(), b.clone())),
            _ => {}
        }
    }
    let mut found = Vec::new();
    walk("", &shown(config)?, &shown(other)?, &mut found);
    found.retain(|(key, _)| !SILENT.iter().any(|section| key.starts_with(section)));
    Ok(found)
}

/// A configuration for others to see, without what is secret.
fn shown(config: &Config) -> anyhow::Result<Json> {
    fn hide(value: &mut Json) {
        match value {
            Json::String(text) => *text = hide_credentials(text).into_owned(),
            Json::Array(values) => values.iter_mut().for_each(hide),
            Json::Object(values) => values.values_mut().for_each(hide),
            _ => {}
        }
    }
    let mut config = config.clone();
    config.redact();
    let mut shown = serde_json::to_value(&config)?;
    hide(&mut shown);
    Ok(shown)
}

/// The positive events of the logs; `row_of_positive` is told at which row each is.
pub(super) fn read_positives(
    config: &Config,
    mut logs: OrderedLogs,
    context: &CommandContext,
    mut row_of_positive: impl FnMut(u64),
) -> anyhow::Result<Interactions> {
    let (kinds, exposures) = (&config.positives.kinds, &config.negatives.exposure_kinds);
    let bar = context.bar(logs.rows(), "rows read");
    let (mut log, mut block, mut row) = (Interactions::default(), Vec::new(), 0);
    loop {
        let status = logs.poll(&mut block)?;
        bar.inc(block.len() as u64);
        for record in block.drain(..) {
            row += 1;
            let Ok(event) = record.outcome else { continue };
            let is_positive = kinds.is_empty() || kinds.iter().any(|kind| *kind == event.kind);
            if is_positive && !exposures.iter().any(|kind| *kind == event.kind) {
                row_of_positive(row - 1);
                log.push(&event.user, &event.item, event.timestamp);
            }
        }
        if status == PollStatus::End {
            break;
        }
    }
    bar.finish_and_clear();
    Ok(log)
}

/// Trains a configuration on so many rows; gives the contestant without its ranks, and those of the events from number `from` on. `None` where a
/// signal stopped it.
pub(super) fn train(
    variant: &Variant,
    (logs, rows): (impl EventSource + 'static, u64),
    from: u64,
    mut late: Option<&mut LateRanks>,
    context: &CommandContext,
) -> anyhow::Result<Option<(Contestant, HashMap<u32, RankCode>)>> {
    let Variant { name, setting, config } = variant;
    let began = Instant::now();
    let catalogue = Catalogue::open(config)?;
    let mut restored = Restored::find(config, true)?;
    restored.state.progress.evaluation.counts_from = from;
    let mut pipeline =
        Pipeline::builder(config).restored(restored).catalogue(catalogue).stop(context.stop.clone()).build()?;
    if let Some(late) = &late {
        pipeline.serve_stale(&late.delays(), from);
    }
    let bar = named_bar(context, rows, name);
    let mut ranks = HashMap::new();
    let (mut loss, mut bound) = (StretchMeans::new(STRETCHES, rows), StretchMeans::new(STRETCHES, rows));
    let reason = pipeline.run_observed(logs, &mut |trainer, event| {
        let read = trainer.state.progress.events.read;
        match event {
            PipelineEvent::Step { report, .. } => {
                if report.loss.queries > 0 {
                    loss.add(read, report.loss.loss);
                    bound.add(read, report.loss.information_bound);
                }
                let counted = trainer.ranked().iter().filter(|ranked| ranked.number >= from);
                ranks.extend(counted.map(|ranked| (ranked.number as u32, RankCode::new(ranked.model))));
                if let Some(late) = &mut late {
                    trainer.stale_ranks().iter().for_each(|rank| late.note(rank));
                }
            }
            PipelineEvent::Tick => bar.set_position(read),
            _ => {}
        }
    });
    bar.finish_and_clear();
    if reason? == StopReason::Stopped {
        return Ok(None);
    }
    if late.is_some() {
        check_kept(pipeline.state().evicted())?;
    }
    let report = Report::of(&pipeline);
    let training = Training {
        configuration: shown(config)?,
        configuration_digest: digest(&config.state_relevant()),
        loss: loss.means(),
        mi_bound: bound.means(),
        events_per_second: report.events_per_second,
        report: serde_json::to_value(&report)?,
    };
    let contestant = Contestant {
        name: name.clone(),
        kind: ContestantKind::Configuration,
        setting: setting.clone(),
        n_tried: 1,
        ranks: Vec::new(),
        seconds: began.elapsed().as_secs_f64(),
        training: Some(training),
    };
    tracing::info!(configuration = name, seconds = contestant.seconds, checkpoints = %config.checkpoint.dir.display(), "trained");
    Ok(Some((contestant, ranks)))
}

/// Ranks by the peers, unless a signal stops it; gives which were left out, and why.
pub(super) fn rank_peers(
    peers: &[&Peer],
    log: &Interactions,
    judged: &JudgedEvents,
    repeat: bool,
    context: &CommandContext,
    contestants: &mut Vec<Contestant>,
) -> anyhow::Result<Vec<String>> {
    if peers.is_empty() {
        return Ok(Vec::new());
    }
    let bar = named_bar(context, peers.len() as u64, "peers");
    bar.enable_steady_tick(std::time::Duration::from_millis(200));
    let contest = Contest::new(log, &judged.numbers, repeat);
    let mut left_out = Vec::new();
    for peer in peers {
        if context.stop.requested() {
            break;
        }
        bar.set_message(peer.name);
        let began = Instant::now();
        let ranked = contest.rank(peer);
        if ranked.is_empty() {
            left_out.push(format!("{} is left out: items do not recur (evaluate.repeat).", peer.name));
        }
        let n = ranked.len();
        for (place, of_setting) in ranked.into_iter().enumerate() {
            contestants.push(Contestant {
                name: if n == 1 { peer.name.to_owned() } else { format!("{} ({})", peer.name, ["HR", "NDCG"][place]) },
                kind: ContestantKind::Peer,
                setting: of_setting.setting,
                n_tried: of_setting.n_tried,
                ranks: of_setting.ranks,
                seconds: began.elapsed().as_secs_f64(),
                training: None,
            });
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(left_out)
}

pub(super) fn named_bar(context: &CommandContext, length: u64, name: &str) -> ProgressBar {
    let bar = context.bar(length, "");
    bar.set_style(
        indicatif::ProgressStyle::with_template("{bar:8.cyan/dim} {percent:>3}% {prefix} {msg}")
            .expect("a valid template")
            .progress_chars("━╸─"),
    );
    bar.set_prefix(escape_for_terminal(name));
    bar
}
