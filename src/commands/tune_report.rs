//! What `tune` says of a search.

use anyhow::Context;
use serde::Serialize;

use super::contest::{Variant, different};
use super::output::{print, write_whole};
use super::tune_state::{TrialResult, TuneState};
use crate::cli::TuneArgs;
use crate::compare::report::ComparisonReport;
use crate::config::Config;
use crate::util::escape::escape_for_terminal;

/// What a search found, for others to read.
#[derive(Debug, Serialize)]
pub(super) struct TuneReport {
    pub(super) tuning: Tuning,
    /// The last rung.
    pub(super) comparison: ComparisonReport,
}

#[derive(Debug, Serialize)]
pub(super) struct Tuning {
    /// The name of the best settings.
    pub(super) winner: String,
    /// What they differ in from the defaults, as a configuration file.
    pub(super) toml: String,
    /// What was chosen by, and what the report is of.
    pub(super) how: String,
    pub(super) by: String,
    pub(super) rungs: Vec<RungReport>,
}

#[derive(Debug, Serialize)]
pub(super) struct RungReport {
    /// Rows of the log that were trained on.
    rows: u64,
    trials: Vec<TrialReport>,
}

#[derive(Debug, Serialize)]
struct TrialReport {
    name: String,
    setting: String,
    /// Events that it was chosen by.
    events: u64,
    #[serde(rename = "hr@20")]
    hit_rate: f64,
    #[serde(rename = "ndcg@20")]
    ndcg: f64,
}

/// A rung on a log: rows to train on, and the events to choose by.
#[derive(Debug, Clone, Copy)]
pub(super) struct RungOnLog {
    pub(super) places: usize,
    pub(super) rows: u64,
    /// Numbers of the first event that is judged, and of the one behind the last that is chosen by.
    pub(super) judged: (u64, u64),
}

/// What of a configuration is not as by default, as a configuration file.
pub(super) fn toml_of(config: &Config) -> anyhow::Result<String> {
    let mut text = String::new();
    for (key, value) in different(&Config::default(), config)? {
        let value = toml::Value::try_from(&value).with_context(|| format!("'{key}' has no form in TOML"))?;
        text.push_str(&format!("{key} = {value}\n"));
    }
    Ok(text)
}

/// What was chosen on, and what was not.
pub(super) fn how(options: &TuneArgs, stage: &RungOnLog, judged: usize) -> String {
    let by = &options.by;
    match options.holdout > 0.0 {
        true => format!(
            "Chosen by {by} on events {} to {} of the log; the figures are of {judged} events behind them, on which nothing was chosen.",
            stage.judged.0, stage.judged.1
        ),
        false => format!(
            "Chosen by {by} on the very events that are reported: the best of several is partly the luckiest, and will do worse on \
             others. With --holdout the figures are of events on which nothing was chosen."
        ),
    }
}

pub(super) fn rung_reports(state: &TuneState, stages: &[RungOnLog], variants: &[Variant]) -> Vec<RungReport> {
    let report = |(rung, stage): (usize, &RungOnLog)| {
        let mut results: Vec<&TrialResult> = state.trials.iter().filter(|result| result.rung == rung).collect();
        results.sort_by_key(|result| result.trial);
        let trial = |result: &&TrialResult| TrialReport {
            name: variants[result.trial].name.clone(),
            setting: variants[result.trial].setting.clone(),
            events: result.events,
            hit_rate: result.hit_rate,
            ndcg: result.ndcg,
        };
        RungReport { rows: stage.rows, trials: results.iter().map(trial).collect() }
    };
    stages.iter().enumerate().map(report).collect()
}

pub(super) fn say(report: TuneReport, options: &TuneArgs) -> anyhow::Result<()> {
    let best = options.dir.join("best.toml");
    write_whole(&best, &report.tuning.toml)?;
    if let Some(path) = &options.html {
        write_whole(path, &report.comparison.page())?;
    }
    if let Some(path) = &options.output.report {
        write_whole(path, &format!("{}\n", serde_json::to_string_pretty(&report)?))?;
    }
    if options.output.json {
        print(&format!("{}\n", serde_json::to_string(&report)?));
        return Ok(());
    }
    let TuneReport { tuning, comparison } = report;
    let mut text = String::new();
    for (place, rung) in tuning.rungs.iter().enumerate() {
        text.push_str(&format!("Rung {} of {}: {} rows\n", place + 1, tuning.rungs.len(), rung.rows));
        for TrialReport { name, setting, hit_rate, ndcg, .. } in &rung.trials {
            let said = format!("  {name:<12} HR@20 {hit_rate:.4}  NDCG@20 {ndcg:.4}  {setting}\n");
            text.push_str(&escape_for_terminal(said.trim_end()));
            text.push('\n');
        }
    }
    text.push_str(&format!("\n{}\n{}\n\n", comparison.text(), tuning.how));
    let settings = if tuning.toml.is_empty() { "# the defaults\n" } else { &tuning.toml };
    text.push_str(&format!("Best: {}, in {}\n\n{settings}", tuning.winner, best.display()));
    print(&text);
    Ok(())
}
