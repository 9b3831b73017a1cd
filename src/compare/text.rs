//! A comparison as a table for a terminal.

use std::fmt::Write;

use super::report::{ComparisonReport, ContestantReport};
use super::staleness::{Staleness, length_of_time};
use crate::util::escape::escape_for_terminal;

/// Columns for a name.
const NAME: usize = 22;
/// Columns of a terminal.
const WIDTH: usize = 80;

pub(super) fn text(report: &ComparisonReport) -> String {
    let ComparisonReport { log, contestants, .. } = report;
    let mut text = String::new();
    let mut line = |said: String| writeln!(text, "{}", said.trim_end()).expect("text grows");
    line(format!(
        "{} positive events, {} users, {} items; judged by {} of {} users",
        log.positives, log.users, log.items, log.judged, log.judged_users
    ));
    line(String::new());
    line(format!(
        "{:<NAME$}  {:>6} {:>15}  {:>7}  {:>6}  {:>6}  {:>6}",
        "", "HR@20", "95 %", "NDCG@20", "cold", "tail", "head"
    ));
    for contestant in contestants {
        line(row(report, contestant));
    }
    for contestant in contestants.iter().filter(|contestant| !contestant.setting.is_empty()) {
        let tried = match contestant.settings_tried {
            1 => String::new(),
            n => format!(" (best of {n} on these events)"),
        };
        let said = format!("{}: {}{tried}", contestant.name, contestant.setting);
        fold(&escape_for_terminal(&said)).into_iter().for_each(&mut line);
    }
    report.left_out.iter().flat_map(|why| fold(why)).for_each(&mut line);
    if let Some(staleness) = &report.staleness {
        line(String::new());
        late_serving(staleness).into_iter().for_each(&mut line);
    }
    line(String::new());
    fold(&escape_for_terminal(&report.verdict)).into_iter().for_each(&mut line);
    text
}

fn row(report: &ComparisonReport, contestant: &ContestantReport) -> String {
    let interval = contestant.intervals.hit_rate;
    let name = cut(&escape_for_terminal(&contestant.name));
    let band = |name: &str| {
        let place = report.bands.iter().position(|band| band.name == name);
        place.and_then(|place| contestant.bands[place]).map_or_else(|| "–".to_owned(), |rate| format!("{rate:.4}"))
    };
    format!(
        "{name:<NAME$}  {:>6.4} {:>6.4} – {:>6.4}  {:>7.4}  {:>6}  {:>6}  {:>6}",
        contestant.metrics.hit_rate,
        interval.low,
        interval.high,
        contestant.metrics.ndcg,
        band("cold"),
        band("tail"),
        band("head")
    )
}

/// Hit rate against delay.
fn late_serving(staleness: &Staleness) -> Vec<String> {
    let title = format!("Served late, {}: hit rate by what is old and how old", staleness.contestant);
    let mut lines = fold(&escape_for_terminal(&title));
    let of_ages: String = staleness.ages.iter().map(|age| format!("  {:>13}", age.name)).collect();
    lines.push(format!("{:<16} {:>8} {:>6}{of_ages}", "", "age", "HR@20"));
    for row in &staleness.rows {
        let name = if row.age_ms.is_none() && row.stale == "nothing" {
            "live".to_owned()
        } else {
            format!("{} {}", row.delay, row.stale)
        };
        let age = row.age_ms.map(length_of_time).unwrap_or_default();
        let rate = |rate: &Option<f64>| rate.map_or_else(|| "–".to_owned(), |rate| format!("{rate:.4}"));
        let of_ages: String = row.by_age.iter().map(|of_age| format!("  {:>13}", rate(of_age))).collect();
        lines.push(format!("{name:<16} {age:>8} {:.4}{of_ages}", row.metrics.hit_rate));
    }
    lines
}

fn cut(name: &str) -> String {
    if name.chars().count() <= NAME {
        return name.to_owned();
    }
    let kept: String = name.chars().take(NAME - 1).collect();
    format!("{kept}…")
}

/// Breaks a text at spaces, so that it fits a terminal.
fn fold(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is one");
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > WIDTH {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}
