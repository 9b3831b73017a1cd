//! `tune`: a search for better settings by successive halving.

use std::collections::HashMap;
use std::path::Path;

use anyhow::Context;
use serde_json::{Value as Json, json};

use super::contest::{SHARED, SILENT, Variant, chosen_peers, differences, rank_peers, read_positives, train};
use super::output::{check_file, check_output};
use super::tune_report::{RungOnLog, TuneReport, Tuning, how, rung_reports, say, toml_of};
use super::tune_state::{LastRung, TrialResult, TuneState};
use super::{CommandContext, load_over};
use crate::cli::{Layers, TuneArgs};
use crate::compare::contestant::{Contestant, ContestantKind};
use crate::compare::figures::of_ranks;
use crate::compare::judged::JudgedEvents;
use crate::compare::report::{ComparisonReport, LogFacts};
use crate::config::Config;
use crate::evaluate::rank_code::RankCode;
use crate::exit::UsageError;
use crate::peers::interactions::Interactions;
use crate::source::EventSource as _;
use crate::source::parquet::LogOptions;
use crate::source::parquet::ordered::OrderedLogs;
use crate::source::prefix::Prefix;
use crate::tune::halving::{Rung, rungs, survivors};
use crate::tune::space::{Assignment, Space, SpaceError};
use crate::util::escape::escape_for_terminal;

/// The largest share of a log that nothing may be chosen on.
const MOST_HELD_OUT: f64 = 0.9;

pub(super) fn tune(layers: &Layers, options: &TuneArgs) -> anyhow::Result<()> {
    check_output(&options.output)?;
    if let Some(path) = &options.html {
        check_file("--html", path)?;
    }
    if !(0.0..=MOST_HELD_OUT).contains(&options.holdout) {
        return Err(UsageError(format!("--holdout: a share from 0 to {MOST_HELD_OUT} is expected")).into());
    }
    let peers = chosen_peers(&options.peers)?;
    let space = space(options)?;
    let variants = variants(layers, options, &space)?;
    let config = &variants[0].config;
    let context = CommandContext::set_up(config)?;
    let open = |config: &Config| {
        let reading = LogOptions::new(&config.source, config.features.buckets > 0);
        OrderedLogs::open(&options.logs, reading, options.sort)
    };
    let logs = open(config)?;
    let rows = logs.rows();
    let digests: Vec<String> = logs.streams().into_iter().map(|stream| stream.name).collect();
    std::fs::create_dir_all(&options.dir).with_context(|| format!("cannot make {}", options.dir.display()))?;
    let plan = plan(options, &variants, &digests)?;
    let mut state = TuneState::open(&options.dir, plan, options.fresh)?;
    let n_before = state.trials.len();

    let schedule = rungs(variants.len(), options.eta as usize);
    let (log, stages) = read(config, logs, &schedule, options, &context)?;
    let mut going: Vec<usize> = (0..variants.len()).collect();
    let last = stages.len() - 1;
    for (rung, stage) in stages.iter().enumerate() {
        if rung > 0 {
            let figures: Vec<(usize, f64)> = going
                .iter()
                .filter_map(|trial| Some((*trial, figure(state.result(rung - 1, *trial)?, &options.by))))
                .collect();
            going = survivors(&figures, stage.places);
        }
        for (place, trial) in going.iter().copied().enumerate() {
            if state.result(rung, trial).is_some() {
                continue;
            }
            let label = format!("rung {}/{} trial {}/{}", rung + 1, last + 1, place + 1, going.len());
            let variant = Variant { name: label, ..variants[trial].clone() };
            let logs = Prefix::new(open(&variant.config)?, stage.rows);
            let Some((contestant, ranks)) = train(&variant, (logs, stage.rows), stage.judged.0, None, &context)? else {
                tracing::warn!("stopped by a signal; the same command goes on from here");
                return Ok(());
            };
            // All of a rung are judged by the events of its first trial: what another could not rank, it missed.
            let judged = state.result(rung, 0).map(|first| first.events);
            let (mut result, end) = (result(rung, trial, &ranks, stage, judged), log.len() as u64);
            if let (true, Some(training)) = (rung == last, contestant.training) {
                result.last = Some(LastRung::new(&ranks, (stage.judged.0, end), contestant.seconds, training));
            }
            state.trials.push(result);
            state.save(&options.dir)?;
            if rung < last {
                remove(&variant.config.checkpoint.dir)?;
            }
        }
    }
    if n_before > 0 {
        tracing::info!(trials = n_before, "went on from a search that was stopped");
    }
    let best = |trial: &usize| state.result(last, *trial).map_or(0.0, |result| figure(result, &options.by));
    let winner = going.iter().copied().reduce(|a, b| if best(&b) > best(&a) { b } else { a }).unwrap_or_default();

    let (mut contestants, judged) = finalists(&state, &going, &variants, &stages[last], &log, options)?;
    let left_out = rank_peers(&peers, &log, &judged, config.evaluate.repeat, &context, &mut contestants)?;
    if context.stop.requested() {
        tracing::warn!("stopped by a signal; the same command goes on from here");
        return Ok(());
    }
    let facts = LogFacts::new(&options.logs, (digests, rows), (&log, &judged), config.evaluate.repeat);
    let comparison = ComparisonReport::new(facts, &judged, contestants, left_out, config.seed);
    let tuning = Tuning {
        winner: variants[winner].name.clone(),
        toml: toml_of(&variants[winner].config)?,
        how: how(options, &stages[last], judged.len()),
        by: options.by.clone(),
        rungs: rung_reports(&state, &stages, &variants),
    };
    say(TuneReport { tuning, comparison }, options)
}

/// What is searched.
fn space(options: &TuneArgs) -> anyhow::Result<Space> {
    let mut space = Space::default();
    let usage = |error: SpaceError| UsageError(escape_for_terminal(&error.to_string()));
    if let Some(path) = &options.space {
        let text = std::fs::read_to_string(path)
            .map_err(|error| UsageError(format!("--space {}: cannot be read: {error}", path.display())))?;
        space.add_file(&text, &path.display().to_string()).map_err(usage)?;
    }
    for range in &options.ranges {
        space.add_range(range).map_err(usage)?;
    }
    for choice in &options.choices {
        space.add_choice(choice).map_err(usage)?;
    }
    if space.is_empty() {
        return Err(UsageError(
            "there is nothing to search: give --range KEY=LOW..HIGH, --choice KEY=VALUE,… or --space FILE.toml"
                .to_owned(),
        )
        .into());
    }
    for key in space.keys() {
        let is_of = |section: &&&str| key.split('.').next() == Some(section.trim_end_matches('.'));
        if let Some(section) = SHARED.iter().chain(&SILENT).find(is_of) {
            return Err(UsageError(format!(
                "'{}' cannot be searched: '{}' says what is read and judged, or nothing of the model",
                escape_for_terminal(key),
                section.trim_end_matches('.')
            ))
            .into());
        }
    }
    Ok(space)
}

/// The settings that are tried, first those of the layers alone.
fn variants(layers: &Layers, options: &TuneArgs, space: &Space) -> anyhow::Result<Vec<Variant>> {
    let defaults = ["log.level=warn".to_owned()];
    let load = |assignments: &[Assignment]| {
        let set = assignments.iter().map(|(key, value)| format!("{key}={value}"));
        load_over(&Layers { set: layers.set.iter().cloned().chain(set).collect(), ..layers.clone() }, &defaults)
    };
    let first = load(&[])?;
    // A key that does not exist, or takes no such value, is refused before anything is drawn.
    for extreme in space.extremes() {
        load(&[extreme])?;
    }
    if first.evaluate.share < 1.0 && space.keys().any(|key| key == "seed") {
        return Err(UsageError(
            "'seed' cannot be searched where evaluate.share is below 1: it says what is judged".to_owned(),
        )
        .into());
    }
    let mut variants = vec![Variant::of_layers(layers, first)?];
    for draw in space.draws(options.trials as usize - 1, options.draw_seed) {
        let config = load(&draw)?;
        let setting = differences(&variants[0].config, &config)?.join("; ");
        if !setting.is_empty() {
            variants.push(Variant { name: format!("trial {}", variants.len()), setting, config });
        }
    }
    for (trial, variant) in variants.iter_mut().enumerate() {
        variant.config.checkpoint.dir = options.dir.join(format!("trial-{trial}"));
    }
    Ok(variants)
}

/// What makes a search this one.
fn plan(options: &TuneArgs, variants: &[Variant], digests: &[String]) -> anyhow::Result<Json> {
    let TuneArgs { eta, by, holdout, .. } = options;
    let base = differences(&Config::default(), &variants[0].config)?;
    let settings: Vec<&str> = variants[1..].iter().map(|variant| variant.setting.as_str()).collect();
    let version = env!("CARGO_PKG_VERSION");
    Ok(
        json!({ "negstream": version, "logs": digests, "configuration": base, "settings": settings, "eta": eta, "by": by,
        "holdout": holdout }),
    )
}

/// The positive events, and the rungs on them.
fn read(
    config: &Config,
    logs: OrderedLogs,
    schedule: &[Rung],
    options: &TuneArgs,
    context: &CommandContext,
) -> anyhow::Result<(Interactions, Vec<RungOnLog>)> {
    let rows = logs.rows();
    let chosen_on = ((rows as f64) * (1.0 - options.holdout)).floor() as u64;
    let ends: Vec<u64> = schedule.iter().map(|rung| (chosen_on as f64 * rung.share).ceil() as u64).collect();
    let mut positives = vec![0u64; ends.len()];
    let log = read_positives(config, logs, context, |row| {
        ends.iter().zip(&mut positives).for_each(|(end, positives)| *positives += u64::from(row < *end));
    })?;
    let stage = |(place, rung): (usize, &Rung)| {
        let is_last = place + 1 == schedule.len();
        let from = (positives[place] as f64 * config.evaluate.from).ceil() as u64;
        RungOnLog {
            places: rung.places,
            rows: if is_last { rows } else { ends[place] },
            judged: (from, positives[place]),
        }
    };
    let stages: Vec<RungOnLog> = schedule.iter().enumerate().map(stage).collect();
    if let Some(empty) = stages.iter().find(|stage| stage.judged.0 >= stage.judged.1) {
        return Err(UsageError(format!(
            "{}: of the first {} rows, on which {} settings meet, no event could be judged (positives.kinds, evaluate.from); give \
             fewer --trials, a greater --eta or a smaller --holdout",
            options.logs.join(", "),
            empty.rows,
            empty.places
        ))
        .into());
    }
    Ok((log, stages))
}

/// How a trial did on the events that are chosen by; `judged` of them there are, where another trial has said so.
fn result(
    rung: usize,
    trial: usize,
    ranks: &HashMap<u32, RankCode>,
    stage: &RungOnLog,
    judged: Option<u64>,
) -> TrialResult {
    let mut of_events: Vec<(u32, RankCode)> = ranks
        .iter()
        .map(|(number, rank)| (*number, *rank))
        .filter(|(number, _)| u64::from(*number) < stage.judged.1)
        .collect();
    of_events.sort_unstable_by_key(|(number, _)| *number);
    let codes: Vec<RankCode> = of_events.into_iter().map(|(_, rank)| rank).collect();
    let events = judged.unwrap_or(codes.len() as u64);
    let (metrics, share) = (of_ranks(&codes), codes.len() as f64 / events.max(1) as f64);
    TrialResult { rung, trial, events, hit_rate: metrics.hit_rate * share, ndcg: metrics.ndcg * share, last: None }
}

fn figure(result: &TrialResult, by: &str) -> f64 {
    if by == "ndcg@20" { result.ndcg } else { result.hit_rate }
}

/// The contestants of the last rung, and the events that they are reported on.
fn finalists(
    state: &TuneState,
    going: &[usize],
    variants: &[Variant],
    stage: &RungOnLog,
    log: &Interactions,
    options: &TuneArgs,
) -> anyhow::Result<(Vec<Contestant>, JudgedEvents)> {
    let (mut contestants, mut judged) = (Vec::new(), JudgedEvents::default());
    for trial in going {
        let last = state.result(stage_of_last(state), *trial).and_then(|result| result.last.as_ref());
        let ranks = last.and_then(|last| Some((last, last.ranks(stage.judged.0)?)));
        let Some((last, ranks)) = ranks else {
            let path = options.dir.join("tune.json");
            return Err(UsageError(format!("{}: ranks are missing; --fresh begins anew", path.display())).into());
        };
        if contestants.is_empty() {
            let first = if options.holdout > 0.0 { stage.judged.1 } else { 0 };
            let mut numbers: Vec<u32> = ranks.keys().copied().filter(|number| u64::from(*number) >= first).collect();
            numbers.sort_unstable();
            judged = JudgedEvents::new(log, numbers, variants[0].config.evaluate.repeat);
            if judged.is_empty() {
                let why = "no event could be judged at the end of the log; give a greater --holdout, or 0";
                return Err(UsageError(format!("{}: {why}", options.logs.join(", "))).into());
            }
        }
        let Variant { name, setting, .. } = &variants[*trial];
        contestants.push(Contestant {
            name: name.clone(),
            kind: ContestantKind::Configuration,
            setting: setting.clone(),
            n_tried: 1,
            ranks: judged.numbers.iter().map(|number| ranks.get(number).copied().unwrap_or(RankCode::MISS)).collect(),
            seconds: last.seconds,
            training: Some(last.training.clone()),
        });
    }
    Ok((contestants, judged))
}

/// The last rung that has results.
fn stage_of_last(state: &TuneState) -> usize {
    state.trials.iter().map(|result| result.rung).max().unwrap_or_default()
}

/// Removes the checkpoints of a trial that is over.
fn remove(folder: &Path) -> anyhow::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}
