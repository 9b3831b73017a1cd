//! `compare`: configurations and peers over the same log.

use std::collections::HashMap;
use std::path::Path;
use std::time::Instant;

use indicatif::ProgressBar;
use serde_json::Value as Json;

use super::late_ranks::{LateRanks, check_publishes, publish_delays};
use super::output::{check_file, check_output, print, write_whole};
use super::{CommandContext, load_over};
use crate::catalogue::Catalogue;
use crate::checkpoint::manifest::digest;
use crate::cli::{CompareArgs, Layers};
use crate::compare::contestant::{Contestant, ContestantKind, StretchMeans, Training};
use crate::compare::figures::STRETCHES;
use crate::compare::judged::JudgedEvents;
use crate::compare::report::{ComparisonReport, LogFacts};
use crate::compare::staleness::Staleness;
use crate::config::Config;
use crate::evaluate::rank_code::RankCode;
use crate::exit::UsageError;
use crate::peers::interactions::Interactions;
use crate::peers::registry::{Contest, PEERS, Peer};
use crate::pipeline::{Pipeline, PipelineEvent, Restored, StopReason};
use crate::position::Positions;
use crate::source::parquet::{LogOptions, ParquetLogs};
use crate::source::{EventSource, PollStatus};
use crate::telemetry::report::Report;
use crate::util::config_section::ConfigValue as _;
use crate::util::credentials::hide_credentials;
use crate::util::escape::escape_for_terminal;
use crate::util::nearest::nearest;

/// Sections that no model depends on.
const SILENT: [&str; 4] = ["checkpoint.", "http.", "kafka.", "log."];
/// Sections that say what is judged and how: they are the same for all.
const SHARED: [&str; 3] = ["source", "positives", "evaluate"];

/// A configuration that is compared.
struct Variant {
    name: String,
    /// What differs from the first one.
    setting: String,
    config: Config,
}

pub(super) fn compare(layers: &Layers, options: CompareArgs) -> anyhow::Result<()> {
    check_output(&options.output)?;
    if let Some(path) = &options.html {
        check_file("--html", path)?;
    }
    let peers = chosen_peers(&options.peers)?;
    let delays = publish_delays(&options.publish_delay)?;
    let variants = variants(layers, &options)?;
    check_publishes(&variants[0].config, &delays)?;
    let config = &variants[0].config;
    let context = CommandContext::set_up(config)?;
    // Every log is opened before anything is trained.
    let open = |config: &Config| {
        let reading = LogOptions::new(&config.source, config.features.buckets > 0);
        ParquetLogs::open(&options.logs, reading, &Positions::default())
    };
    let logs = open(config)?;
    let mut facts = LogFacts {
        logs: options.logs.clone(),
        digests: logs.streams().into_iter().map(|stream| stream.name).collect(),
        rows: logs.rows().0,
        positives: 0,
        users: 0,
        items: 0,
        judged: 0,
        judged_users: 0,
        repeat: config.evaluate.repeat,
    };
    let log = read_positives(config, logs, &context)?;
    if log.is_empty() {
        return Err(UsageError(format!(
            "{}: none of {} rows is an event that is trained on (positives.kinds, source.fields)",
            options.logs.join(", "),
            facts.rows
        ))
        .into());
    }
    let from = (log.len() as f64 * config.evaluate.from).ceil() as u64;
    let mut contestants = Vec::new();
    let (mut judged, mut late) = (None, LateRanks::new(&delays));
    for (place, variant) in variants.iter().enumerate() {
        let late = (place == 0).then_some(&mut late);
        let Some((contestant, ranks)) = train(variant, open(&variant.config)?, from, late, &context)? else {
            tracing::warn!("stopped by a signal; nothing was compared");
            return Ok(());
        };
        let judged = judged.get_or_insert_with(|| {
            let mut numbers: Vec<u32> = ranks.keys().copied().collect();
            numbers.sort_unstable();
            JudgedEvents::new(&log, numbers, config.evaluate.repeat)
        });
        // What a configuration could not rank, since it had forgotten the user, it missed.
        let rank = |number: &u32| ranks.get(number).copied().unwrap_or(RankCode::MISS);
        contestants.push(Contestant { ranks: judged.numbers.iter().map(rank).collect(), ..contestant });
    }
    let judged = judged.unwrap_or_default();
    if judged.is_empty() {
        let why = "no event could be judged: none of a user who had one before, from evaluate.from on";
        return Err(UsageError(format!("{}: {why}", options.logs.join(", "))).into());
    }
    let left_out = rank_peers(&peers, &log, &judged, config.evaluate.repeat, &context, &mut contestants)?;
    if context.stop.requested() {
        tracing::warn!("stopped by a signal; nothing was compared");
        return Ok(());
    }
    facts.positives = log.len() as u64;
    (facts.users, facts.items) = (log.n_users() as u64, log.n_items() as u64);
    (facts.judged, facts.judged_users) = (judged.len() as u64, judged.n_users as u64);
    let staleness = (!delays.is_empty()).then(|| {
        let first = &contestants[0];
        Staleness::new(&first.name, &log, &judged, &first.ranks, &late.of(&judged.numbers), config.seed)
    });
    drop(log);
    let mut report = ComparisonReport::new(facts, &judged, contestants, left_out, config.seed);
    report.staleness = staleness;
    if let Some(path) = &options.html {
        write_whole(path, &report.page())?;
    }
    if let Some(path) = &options.output.report {
        write_whole(path, &format!("{}\n", serde_json::to_string_pretty(&report)?))?;
    }
    let mut text = if options.output.json { format!("{}\n", serde_json::to_string(&report)?) } else { report.text() };
    if let (Some(path), false) = (&options.html, options.output.json) {
        text.push_str(&format!("\nPage: {}\n", escape_for_terminal(&path.display().to_string())));
    }
    print(&text);
    Ok(())
}

/// The peers that `--peers` names.
fn chosen_peers(names: &str) -> Result<Vec<&'static Peer>, UsageError> {
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

/// The configurations, that of the layers first.
fn variants(layers: &Layers, options: &CompareArgs) -> anyhow::Result<Vec<Variant>> {
    let defaults = ["log.level=warn".to_owned()];
    let first = load_over(layers, &defaults)?;
    let name = layers.config.as_deref().and_then(stem).unwrap_or_else(|| "negstream".to_owned());
    let setting = differences(&Config::default(), &first)?.join("; ");
    let mut variants = vec![Variant { name, setting, config: first }];
    for variant in &options.variants {
        let (name, settings) = parse_variant(variant)?;
        let set = layers.set.iter().cloned().chain(settings).collect();
        let config = load_over(&Layers { set, ..layers.clone() }, &defaults)?;
        let setting = differences(&variants[0].config, &config)?.join("; ");
        variants.push(Variant { name: name.unwrap_or_else(|| setting.clone()), setting, config });
    }
    for file in &options.variant_files {
        let config = load_over(&Layers { config: Some(file.clone()), ..layers.clone() }, &defaults)?;
        let setting = differences(&variants[0].config, &config)?.join("; ");
        variants.push(Variant { name: stem(file).unwrap_or_default(), setting, config });
    }
    for place in 0..variants.len() {
        let (before, rest) = variants.split_at_mut(place);
        let variant = &mut rest[0];
        check_variant(variant, before)?;
        variant.config.checkpoint.dir = options.dir.join(format!("{place}-{}", slug(&variant.name)));
    }
    Ok(variants)
}

/// Checks that a configuration can be compared with those before it.
fn check_variant(variant: &Variant, before: &[Variant]) -> anyhow::Result<()> {
    let Variant { name, setting, config } = variant;
    let Some(first) = before.first() else { return Ok(()) };
    let refuse = |why: String| Err(UsageError(format!("configuration '{}' {why}", escape_for_terminal(name))).into());
    if setting.is_empty() {
        return refuse("does not differ from the first one".to_owned());
    }
    if before.iter().any(|other| other.name == *name) {
        return refuse(format!(
            "has the name of another one; give it one of its own: --variant 'NAME: {}'",
            escape_for_terminal(setting)
        ));
    }
    let (of_first, own) = (serde_json::to_value(&first.config)?, serde_json::to_value(config)?);
    if let Some(section) = SHARED.iter().find(|section| of_first[**section] != own[**section]) {
        return refuse(format!(
            "has another section '{section}' than the first one: what is read and judged has to be the same for all; give it with \
             --set or --config"
        ));
    }
    if config.evaluate.share < 1.0 && config.seed != first.config.seed {
        return refuse(
            "has another seed, and so would be judged by other events; evaluate.share has to be 1".to_owned(),
        );
    }
    Ok(())
}

/// The settings of `config` that `other` has otherwise (`KEY=VALUE`, by `other`), without what is secret and what no model
/// depends on.
fn differences(config: &Config, other: &Config) -> anyhow::Result<Vec<String>> {
    fn walk(key: &str, a: &Json, b: &Json, found: &mut Vec<String>) {
        match (a, b) {
            (Json::Object(a), Json::Object(b)) => {
                for (name, value) in b {
                    let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                    walk(&key, a.get(name).unwrap_or(&Json::Null), value, found);
                }
            }
            _ if a != b => found.push(format!("{key}={}", b.as_str().map_or_else(|| b.to_string(), str::to_owned))),
            _ => {}
        }
    }
    let mut found = Vec::new();
    walk("", &shown(config)?, &shown(other)?, &mut found);
    found.retain(|setting| !SILENT.iter().any(|section| setting.starts_with(section)));
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

/// A name as part of a folder's name.
fn slug(name: &str) -> String {
    let plain = |character: char| if character.is_ascii_alphanumeric() { character } else { '-' };
    name.chars().take(40).map(plain).collect()
}

fn stem(path: &Path) -> Option<String> {
    path.file_stem().map(|stem| stem.to_string_lossy().into_owned())
}

/// The name and the settings of a `--variant`.
fn parse_variant(text: &str) -> Result<(Option<String>, Vec<String>), UsageError> {
    // A name ends at a colon before the first `=`; values may have colons too.
    let (name, settings) = match text.split_once(':') {
        Some((name, settings)) if !name.contains('=') => (Some(name.trim().to_owned()), settings),
        _ => (None, text),
    };
    let settings: Vec<String> =
        settings.split(';').map(str::trim).filter(|setting| !setting.is_empty()).map(str::to_owned).collect();
    if settings.is_empty() || name.as_ref().is_some_and(String::is_empty) {
        return Err(UsageError("--variant: expected '[NAME:] KEY=VALUE; …', such as 'wide: model.dim=128'".to_owned()));
    }
    Ok((name, settings))
}

/// The positive events of the logs.
fn read_positives(config: &Config, mut logs: ParquetLogs, context: &CommandContext) -> anyhow::Result<Interactions> {
    let (kinds, exposures) = (&config.positives.kinds, &config.negatives.exposure_kinds);
    let bar = context.bar(logs.rows().0, "rows read");
    let (mut log, mut block) = (Interactions::default(), Vec::new());
    loop {
        let status = logs.poll(&mut block)?;
        bar.inc(block.len() as u64);
        for record in block.drain(..) {
            let Ok(event) = record.outcome else { continue };
            let is_positive = kinds.is_empty() || kinds.iter().any(|kind| *kind == event.kind);
            if is_positive && !exposures.iter().any(|kind| *kind == event.kind) {
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

/// Trains a configuration; gives the contestant without its ranks, and those of the events from number `from` on. `None` where a
/// signal stopped it.
fn train(
    variant: &Variant,
    logs: ParquetLogs,
    from: u64,
    mut late: Option<&mut LateRanks>,
    context: &CommandContext,
) -> anyhow::Result<Option<(Contestant, HashMap<u32, RankCode>)>> {
    let Variant { name, setting, config } = variant;
    let began = Instant::now();
    let catalogue = Catalogue::open(config)?;
    let mut restored = Restored::find(config, true)?;
    restored.state.progress.evaluation.counts_from = from;
    let rows = logs.rows().0;
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
fn rank_peers(
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

fn named_bar(context: &CommandContext, length: u64, name: &str) -> ProgressBar {
    let bar = context.bar(length, "");
    bar.set_style(
        indicatif::ProgressStyle::with_template("{bar:8.cyan/dim} {percent:>3}% {prefix} {msg}")
            .expect("a valid template")
            .progress_chars("━╸─"),
    );
    bar.set_prefix(escape_for_terminal(name));
    bar
}
