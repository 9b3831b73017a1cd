//! `check`: what a log holds, what has to be set for it, and the command that replays it then.
//!
//! Columns are looked at first, and settings proposed for them; then the log is read by these settings, as `replay` would read
//! it, so that figures and warnings are of what a replay would find.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use super::{check_file, load, load_with, print, write_whole};
use crate::check::ProposedSetting;
use crate::check::columns::{ColumnFindings, LogColumn, is_time_text, propose};
use crate::check::survey::Survey;
use crate::cli::{CheckArgs, Layers};
use crate::config::Config;
use crate::exit::LogUnusable;
use crate::position::Positions;
use crate::source::parquet::sample::LogSample;
use crate::source::parquet::{ColumnSelection, LogOptions, ParquetLogs};
use crate::source::{EventSource, PollStatus, SourceError};
use crate::telemetry::logging::{self, LineWriter};
use crate::util::escape::escape_for_terminal;

/// Rows whose columns are looked at.
const SAMPLE: usize = 2_000;
/// Settings of the command line that belong to the log, and go into the file with what is proposed. Those that may hold secrets, and
/// all others, stay on the command line.
const OF_THE_LOG: [&str; 3] = ["source.", "positives.", "evaluate."];
const MAY_BE_SECRET: [&str; 2] = ["source.registry.", "source.storage_options."];
/// Values of a column that are shown, and the longest of them.
const EXAMPLES: usize = 3;
const LONGEST_EXAMPLE: usize = 30;

pub(super) fn check(layers: &Layers, options: &CheckArgs) -> anyhow::Result<()> {
    if let Some(path) = &options.write {
        check_file("--write", path)?;
    }
    let config = load(layers)?;
    logging::init(&config.log, LineWriter::stderr())?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
    let selection = LogOptions::selecting(&config.source, ColumnSelection::Model);
    let sample = LogSample::read(&options.logs, &selection, SAMPLE).map_err(SourceError::from)?;
    let mut found = findings(&sample, &config, now);
    let mut survey = Survey::default();
    let mut rows = None;
    if found.problems.is_empty() {
        let config = with(layers, &found.settings)?;
        rows = Some(read(&options.logs, &config, options.rows, now, &mut survey)?);
        found.settings.extend(survey.settings().into_iter().filter(|setting| is_unset(setting, &config)));
        // What is proposed has to be what is accepted.
        with(layers, &found.settings)?;
    }
    let outcome = CheckOutcome {
        options,
        layers,
        sample,
        rows,
        settings: found.settings,
        problems: found.problems,
        missing: found.missing,
        unused_kinds: found.unused_kinds,
        survey,
    };
    if let Some(path) = &options.write
        && outcome.is_usable()
    {
        write_whole(path, &outcome.toml())?;
    }
    let text = if options.json { format!("{}\n", outcome.json()) } else { outcome.text() };
    print(&text);
    if outcome.is_usable() {
        return Ok(());
    }
    let mut why = outcome.problems;
    if why.is_empty() {
        why.push("none of its rows can be read".to_owned());
    }
    Err(LogUnusable(why.join("; ")).into())
}

/// What follows from the columns of the sample.
fn findings(sample: &LogSample, config: &Config, now: i64) -> ColumnFindings {
    let columns: Vec<LogColumn<'_>> = sample
        .columns
        .iter()
        .map(|column| LogColumn { name: &column.name, declared: &column.declared, values: &column.values })
        .collect();
    let is_named =
        |dialect: &crate::source::parquet::CsvDialect| dialect.has_header || !config.source.csv.columns.is_empty();
    let has_names = sample.dialect.as_ref().is_none_or(is_named);
    if sample.rows == 0 {
        let problems = vec![format!("{} has no rows", sample.path)];
        return ColumnFindings { problems, ..ColumnFindings::default() };
    }
    propose(&columns, has_names, sample.rows, &config.source, now)
}

/// The configuration with the proposed settings over it.
fn with(layers: &Layers, settings: &[ProposedSetting]) -> anyhow::Result<Config> {
    let proposed: Vec<String> = settings.iter().map(|setting| format!("{}={}", setting.key, setting.value)).collect();
    load_with(layers, &[], &proposed)
}

/// Whether a setting of the model is as it is by default: what somebody has set is not proposed otherwise.
fn is_unset(setting: &ProposedSetting, config: &Config) -> bool {
    let default = Config::default();
    match setting.key.as_str() {
        "evaluate.repeat" => config.evaluate.repeat == default.evaluate.repeat,
        _ => config.positives.kinds.is_empty(),
    }
}

/// Reads up to `most` rows of the logs (0: all); how many rows there are.
fn read(logs: &[String], config: &Config, most: u64, now: i64, survey: &mut Survey) -> anyhow::Result<u64> {
    let options = LogOptions::new(&config.source, config.features.buckets > 0);
    let mut logs = ParquetLogs::open(logs, options, &Positions::default())?;
    let (rows, _) = logs.rows();
    let mut left = if most == 0 { u64::MAX } else { most };
    let mut block = Vec::new();
    while left > 0 && logs.poll(&mut block)? != PollStatus::End {
        for record in block.drain(..) {
            if left > 0 {
                survey.take(record.stream, &record.outcome, now);
                left -= 1;
            }
        }
    }
    Ok(rows)
}

/// What was found, and how it is shown.
struct CheckOutcome<'a> {
    options: &'a CheckArgs,
    layers: &'a Layers,
    sample: LogSample,
    /// How many rows the logs have; `None` where they cannot be read.
    rows: Option<u64>,
    settings: Vec<ProposedSetting>,
    problems: Vec<String>,
    /// Keys that have to name a column.
    missing: Vec<&'static str>,
    /// The warning that a column may hold types of events.
    unused_kinds: Option<String>,
    survey: Survey,
}

impl CheckOutcome<'_> {
    fn is_usable(&self) -> bool {
        self.problems.is_empty() && self.survey.events() > 0
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = self.survey.warnings();
        warnings.extend(self.unused_kinds.clone());
        if self.survey.events() > 0 && self.sample.files > 1 && !self.survey.needs_sorting() {
            warnings.push(format!(
                "{} files are read one after the other: --sort merges them, where they overlap in time",
                self.sample.files
            ));
        }
        warnings
    }

    /// The format of the file, in words.
    fn format(&self) -> String {
        let LogSample { format, compression, dialect, .. } = &self.sample;
        let mut words = (*format).to_owned();
        if let Some(dialect) = dialect {
            let header = if dialect.has_header { "with a header" } else { "without a header" };
            let quote = if dialect.quote.is_none() { ", quotes are letters" } else { "" };
            let _ = write!(words, ", {:?} between cells, {header}{quote}", dialect.delimiter);
        }
        if !compression.is_empty() {
            let _ = write!(words, ", compressed by {compression}");
        }
        words
    }

    /// The settings as a configuration file, with those of the command line.
    fn toml(&self) -> String {
        let logs = self.options.logs.join(" ");
        let mut text = format!("# Settings for {}, as `negstream check` proposed them.\n", one_line(&logs));
        let given = self.given();
        if !given.is_empty() {
            text.push_str("\n# As the command line had it.\n");
            given.iter().for_each(|(key, value)| text.push_str(&format!("{key} = {}\n", toml_value(value))));
        }
        for ProposedSetting { key, value, why } in &self.settings {
            let _ = write!(text, "\n# {}.\n{key} = {value}\n", one_line(why));
        }
        if self.settings.is_empty() && given.is_empty() {
            text.push_str("\n# The log needs none.\n");
        }
        text
    }

    /// Keys and values of the command line that belong to the log, and are in no file yet.
    fn given(&self) -> Vec<(&str, &str)> {
        let pairs = self.layers.set.iter().filter_map(|setting| setting.split_once('='));
        pairs.map(|(key, value)| (key.trim(), value.trim())).filter(|(key, _)| self.is_written(key)).collect()
    }

    /// Whether a setting of the command line goes into the file of what is proposed.
    fn is_written(&self, key: &str) -> bool {
        let begins = |sections: &[&str]| sections.iter().any(|section| key.starts_with(section));
        self.layers.config.is_none() && begins(&OF_THE_LOG) && !begins(&MAY_BE_SECRET)
    }

    /// The command that replays the log.
    fn next(&self) -> Vec<String> {
        let mut command = vec!["negstream".to_owned(), "replay".to_owned()];
        command.extend(self.options.logs.iter().cloned());
        if self.survey.needs_sorting() {
            command.push("--sort".to_owned());
        }
        let file = self.options.write.as_deref().filter(|_| self.layers.config.is_none());
        if let Some(path) = file.or(self.layers.config.as_deref()) {
            command.extend(["--config".to_owned(), path.display().to_string()]);
        }
        let mut settings = self.layers.set.clone();
        if file.is_some() {
            settings.retain(|setting| setting.split_once('=').is_none_or(|(key, _)| !self.is_written(key.trim())));
        } else {
            settings.extend(self.settings.iter().map(|setting| format!("{}={}", setting.key, bare(&setting.value))));
        }
        command.extend(settings.into_iter().flat_map(|setting| ["--set".to_owned(), setting]));
        command
    }

    fn json(&self) -> Value {
        let columns: Vec<Value> = self
            .sample
            .columns
            .iter()
            .map(|column| json!({ "name": column.name, "holds": holds(&column.declared, &column.values), "examples": examples(&column.values) }))
            .collect();
        let settings: Map<String, Value> = self
            .settings
            .iter()
            .map(|setting| (setting.key.clone(), json!({ "value": setting.value, "why": setting.why })))
            .collect();
        let dialect = self.sample.dialect.as_ref();
        json!({
            "logs": self.options.logs,
            "files": self.sample.files,
            "format": self.sample.format,
            "compression": self.sample.compression,
            "delimiter": dialect.map(|dialect| &dialect.delimiter),
            "header": dialect.map(|dialect| dialect.has_header),
            "rows": self.rows,
            "columns": columns,
            "looked_at": self.survey.json(),
            "sort": self.survey.needs_sorting(),
            "problems": self.problems,
            "warnings": self.warnings(),
            "settings": settings,
            "next": if self.is_usable() { json!(self.next()) } else { Value::Null },
        })
    }

    fn text(&self) -> String {
        let mut lines = Vec::new();
        let more = if self.sample.files > 1 { format!(" and {} more", self.sample.files - 1) } else { String::new() };
        lines.push(("log", format!("{}{more}", self.sample.path)));
        lines.push(("format", self.format()));
        if let Some(rows) = self.rows {
            lines.push(("rows", rows.to_string()));
        }
        for (place, column) in self.sample.columns.iter().enumerate() {
            let label = if place == 0 { "columns" } else { "" };
            let shown = examples(&column.values).join(", ");
            lines.push((label, format!("{}: {} ({shown})", column.name, holds(&column.declared, &column.values))));
        }
        if self.survey.events() > 0 {
            lines.extend(self.survey.text());
        }
        lines.extend(self.problems.iter().map(|problem| ("problem", problem.clone())));
        lines.extend(self.warnings().into_iter().map(|warning| ("warning", warning)));
        let mut text = String::new();
        for (label, said) in lines {
            let _ = writeln!(text, "{label:<12} {}", escape_for_terminal(&said));
        }
        if !self.is_usable() {
            if !self.missing.is_empty() {
                let logs = self.options.logs.iter().map(|log| shell_quoted(log)).collect::<Vec<_>>().join(" ");
                let keys = self.missing.iter().map(|key| format!(" --set {key}=COLUMN")).collect::<String>();
                let _ = write!(
                    text,
                    "\nnext, with the names of the columns:\n  negstream check {}{keys}\n",
                    escape_for_terminal(&logs)
                );
            }
            return text;
        }
        match &self.options.write {
            Some(path) => {
                let _ = writeln!(text, "{:<12} {}", "written", escape_for_terminal(&path.display().to_string()));
            }
            None => {
                text.push('\n');
                text.push_str(&self.toml());
            }
        }
        let command: Vec<String> = self.next().iter().map(|argument| shell_quoted(argument)).collect();
        let _ = write!(text, "\nnext:\n  {}\n", escape_for_terminal(&command.join(" ")));
        text
    }
}

/// What a column holds, in words: as declared, or as its values look.
fn holds(declared: &str, values: &[String]) -> String {
    if !declared.is_empty() {
        return declared.to_owned();
    }
    let all = |is: &dyn Fn(&String) -> bool| !values.is_empty() && values.iter().all(is);
    let words = if values.is_empty() {
        "nothing"
    } else if all(&|value| value.parse::<i64>().is_ok()) {
        "whole numbers"
    } else if all(&|value| value.parse::<f64>().is_ok()) {
        "numbers"
    } else if all(&|value| is_time_text(value)) {
        "times"
    } else {
        "text"
    };
    words.to_owned()
}

/// The first few different values.
fn examples(values: &[String]) -> Vec<String> {
    let mut shown: Vec<String> = Vec::new();
    for value in values {
        let value = match value.char_indices().nth(LONGEST_EXAMPLE) {
            Some((end, _)) => format!("{}…", &value[..end]),
            None => value.clone(),
        };
        if shown.len() < EXAMPLES && !shown.contains(&value) {
            shown.push(value);
        }
    }
    shown
}

/// A text that cannot end the comment of a file that it stands in.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A value as a file of TOML has it: text without quotes, which the command line takes, gets them.
fn toml_value(text: &str) -> String {
    match format!("value = {text}").parse::<toml::Table>() {
        Ok(table) if table.len() == 1 => text.to_owned(),
        _ => toml::Value::String(text.to_owned()).to_string(),
    }
}

/// A value of TOML as `--set` takes it: simple texts need no quotes.
fn bare(value: &str) -> &str {
    let inner = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    let is_simple = |text: &&str| {
        text.starts_with(|first: char| first.is_ascii_alphabetic())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
            && !["true", "false", "inf", "nan"].contains(text)
    };
    inner.filter(is_simple).unwrap_or(value)
}

/// An argument as a shell takes it.
fn shell_quoted(argument: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=,@%+".contains(c);
    if !argument.is_empty() && argument.chars().all(is_plain) {
        return argument.to_owned();
    }
    format!("'{}'", argument.replace('\'', r"'\''"))
}
