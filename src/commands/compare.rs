//! `compare`: configurations and peers over the same log.

use super::contest::{SHARED, Variant, chosen_peers, differences, rank_peers, read_positives, stem, train};
use super::late_ranks::{LateRanks, check_publishes, publish_delays};
use super::output::{check_file, check_output, print, write_whole};
use super::{CommandContext, load_over};
use crate::cli::{CompareArgs, Layers};
use crate::compare::contestant::Contestant;
use crate::compare::judged::JudgedEvents;
use crate::compare::report::{ComparisonReport, LogFacts};
use crate::compare::staleness::Staleness;
use crate::config::Config;
use crate::evaluate::rank_code::RankCode;
use crate::exit::UsageError;
use crate::source::EventSource as _;
use crate::source::parquet::LogOptions;
use crate::source::parquet::ordered::OrderedLogs;
use crate::util::escape::escape_for_terminal;

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
        OrderedLogs::open(&options.logs, reading, options.sort)
    };
    let logs = open(config)?;
    let (digests, rows) = (logs.streams().into_iter().map(|stream| stream.name).collect(), logs.rows());
    let log = read_positives(config, logs, &context, |_| ())?;
    if log.is_empty() {
        return Err(UsageError(format!(
            "{}: none of {} rows is an event that is trained on (positives.kinds, source.fields)",
            options.logs.join(", "),
            rows
        ))
        .into());
    }
    let from = (log.len() as f64 * config.evaluate.from).ceil() as u64;
    let mut contestants = Vec::new();
    let (mut judged, mut late) = (None, LateRanks::new(&delays));
    for (place, variant) in variants.iter().enumerate() {
        let late = (place == 0).then_some(&mut late);
        let Some((contestant, ranks)) = train(variant, (open(&variant.config)?, rows), from, late, &context)? else {
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
    let facts = LogFacts::new(&options.logs, (digests, rows), (&log, &judged), config.evaluate.repeat);
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

/// The configurations, that of the layers first.
fn variants(layers: &Layers, options: &CompareArgs) -> anyhow::Result<Vec<Variant>> {
    let defaults = ["log.level=warn".to_owned()];
    let mut variants = vec![Variant::of_layers(layers, load_over(layers, &defaults)?)?];
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

/// A name as part of a folder's name.
fn slug(name: &str) -> String {
    let plain = |character: char| if character.is_ascii_alphanumeric() { character } else { '-' };
    name.chars().take(40).map(plain).collect()
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
