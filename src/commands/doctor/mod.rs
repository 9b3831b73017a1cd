//! `doctor`: whether this machine, and what the configuration names, will do: brokers, registry, checkpoints, sinks, the
//! address, the clock; and what to do about what will not.
//!
//! Each part is looked at whatever the others said. Nothing is changed: folders get a file that is gone at once.

mod machine;
mod services;

use std::fmt::Write as _;
use std::io::IsTerminal as _;

use serde_json::{Value, json};

use super::{load, print};
use crate::cli::{DoctorArgs, Layers};
use crate::exit::{Exit, Unwell};
use crate::telemetry::logging::{self, LineWriter};
use crate::util::colours;
use crate::util::credentials::hide_credentials;
use crate::util::escape::escape_for_terminal;

/// How a part is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PartHealth {
    Fine,
    /// It works, but not as it might.
    Doubtful,
    /// A worker with this configuration would fail, and with this exit code.
    Failing(Exit),
    /// The configuration does not use it.
    Unused,
}

impl PartHealth {
    fn name(self) -> &'static str {
        match self {
            Self::Fine => "ok",
            Self::Doubtful => "warning",
            Self::Failing(_) => "failed",
            Self::Unused => "unused",
        }
    }

    /// The colour of the name, as terminals have it.
    fn colour(self) -> &'static str {
        match self {
            Self::Fine => "32",
            Self::Doubtful => "33",
            Self::Failing(_) => "31",
            Self::Unused => "2",
        }
    }
}

/// What was found of one part.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    part: String,
    health: PartHealth,
    /// What is so.
    said: String,
    /// What to do about it; empty where nothing is to be done.
    remedy: String,
}

impl Finding {
    fn fine(part: &str, said: impl Into<String>) -> Self {
        Self { part: part.to_owned(), health: PartHealth::Fine, said: said.into(), remedy: String::new() }
    }

    fn unused(part: &str, said: &str) -> Self {
        Self { health: PartHealth::Unused, ..Self::fine(part, said) }
    }

    fn doubtful(part: &str, said: impl Into<String>, remedy: &str) -> Self {
        Self { health: PartHealth::Doubtful, remedy: remedy.to_owned(), ..Self::fine(part, said) }
    }

    fn failing(part: &str, exit: Exit, said: impl Into<String>, remedy: &str) -> Self {
        Self { health: PartHealth::Failing(exit), remedy: remedy.to_owned(), ..Self::fine(part, said) }
    }

    fn json(&self) -> Value {
        json!({ "part": self.part, "health": self.health.name(), "said": self.said, "remedy": self.remedy })
    }

    fn text(&self, has_colours: bool) -> String {
        let name = self.health.name();
        let shown =
            if has_colours { format!("\x1b[{}m{name:<8}\x1b[0m", self.health.colour()) } else { format!("{name:<8}") };
        let mut text = format!("{shown} {:<12} {}\n", self.part, escape_for_terminal(&self.said));
        if !self.remedy.is_empty() {
            let _ = writeln!(text, "{:<21} → {}", "", escape_for_terminal(&self.remedy));
        }
        text
    }
}

pub(super) fn doctor(layers: &Layers, options: &DoctorArgs) -> anyhow::Result<()> {
    let config = load(layers)?;
    logging::init(&config.log, LineWriter::stderr())?;
    let mut findings = vec![machine::processor(&config), machine::memory(), machine::open_files(), machine::clock()];
    findings.extend(machine::temporary_folder());
    findings.extend(services::checkpoints(&config));
    findings.extend(services::brokers(&config));
    findings.extend(services::registry(&config));
    findings.extend(services::sinks(&config));
    findings.push(services::address(&config));
    for finding in &mut findings {
        finding.said = hide_credentials(&finding.said).into_owned();
    }
    let failing: Vec<&Finding> =
        findings.iter().filter(|finding| matches!(finding.health, PartHealth::Failing(_))).collect();
    if options.json {
        let found: Vec<Value> = findings.iter().map(Finding::json).collect();
        print(&format!("{}\n", json!({ "healthy": failing.is_empty(), "findings": found })));
    } else {
        let has_colours = colours::are_wanted(std::io::stdout().is_terminal());
        print(&findings.iter().map(|finding| finding.text(has_colours)).collect::<String>());
    }
    match failing.first().map(|finding| finding.health) {
        Some(PartHealth::Failing(exit)) => {
            let parts: Vec<&str> = failing.iter().map(|finding| finding.part.as_str()).collect();
            Err(Unwell { exit, parts: parts.join(", ") }.into())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_shown_with_what_to_do() {
        let finding = Finding::failing("brokers", Exit::Source, "no answer\u{1b}[31m", "start one");
        let text = finding.text(false);
        assert!(
            text.starts_with("failed   brokers") && text.contains("→ start one") && !text.contains('\u{1b}'),
            "{text:?}"
        );
        assert!(finding.text(true).starts_with("\u{1b}[31mfailed"));
        assert_eq!(finding.json()["health"], "failed");
    }
}
