//! The drawing: hit rates and bytes by the number of workers, one line for each log and time between flushes.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::simulation::{Outcome, Setting};

const WIDTH: f64 = 860.0;
const PANEL: f64 = 240.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 40.0;
const GAP: f64 = 56.0;
const LEGEND: f64 = 90.0;
const COLOURS: [&str; 3] = ["#1f77b4", "#d98200", "#2ca02c"];

/// What a panel shows of a run, relative to the run of a lone worker.
type Figure = fn(&Outcome, &Outcome) -> Option<f64>;

const PANELS: [(&str, Figure); 3] = [
    ("HR@20, of that of one worker", |outcome, alone| Some(outcome.hit_rate() / alone.hit_rate())),
    ("kilobytes told for each event", |outcome, _| {
        (outcome.bytes > 0).then(|| outcome.bytes as f64 / outcome.events as f64 / 1000.0)
    }),
    ("mean distance of two replicas, of a row's length", |outcome, _| outcome.distance),
];

/// Draws the runs; those of one worker are what others are measured by.
pub fn draw(runs: &[(&str, Setting, Outcome)]) -> String {
    let alone: BTreeMap<&str, &Outcome> =
        runs.iter().filter(|(_, setting, _)| setting.workers == 1).map(|(log, _, outcome)| (*log, outcome)).collect();
    let most = runs.iter().map(|(_, setting, _)| setting.workers).max().unwrap_or(2).max(2);
    let x = |workers: usize| LEFT + (WIDTH - LEFT - RIGHT) * (workers as f64).ln() / (most as f64).ln();
    // By log and time between flushes, in thousandths of a second (0: workers tell each other nothing).
    let mut lines: BTreeMap<(&str, u64), Vec<(usize, &Outcome)>> = BTreeMap::new();
    for (log, setting, outcome) in runs.iter().filter(|(_, setting, _)| setting.workers > 1) {
        let flush = (setting.flush.unwrap_or(0.0) * 1000.0) as u64;
        lines.entry((log, flush)).or_default().push((setting.workers, outcome));
    }
    let logs: Vec<&str> = alone.keys().copied().collect();
    let style = |log: &str, flush: u64| {
        let colour = logs.iter().position(|other| *other == log).unwrap_or(0) % COLOURS.len();
        let dash = match flush {
            0 => "1 4",
            1..=100 => "2 2",
            101..=1000 => "",
            _ => "8 4",
        };
        (COLOURS[colour], dash)
    };
    let height = TOP + PANELS.len() as f64 * (PANEL + GAP) + LEGEND;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         role=\"img\" font-family=\"system-ui, sans-serif\" font-size=\"12\">\n<title>Workers that share one model</title>\n\
         <style>text {{ fill: #666 }} .grid {{ stroke: #8884 }} path {{ fill: none; stroke-width: 2 }}</style>\n"
    );
    for (panel, (title, figure)) in PANELS.iter().enumerate() {
        let top = TOP + panel as f64 * (PANEL + GAP);
        let value = |log: &str, outcome: &Outcome| alone.get(log).and_then(|alone| figure(outcome, alone));
        let values: Vec<f64> = lines
            .iter()
            .flat_map(|((log, _), line)| line.iter().filter_map(|(_, outcome)| value(log, outcome)))
            .filter(|value| value.is_finite())
            .collect();
        let high = values.iter().copied().fold(f64::MIN, f64::max) * 1.02;
        let low = if panel == 0 { values.iter().copied().fold(f64::MAX, f64::min) * 0.99 } else { 0.0 };
        if values.is_empty() || high <= low {
            continue;
        }
        let y = |value: f64| top + PANEL * (1.0 - (value - low) / (high - low));
        put(&mut svg, format_args!("<text x=\"{LEFT}\" y=\"{}\">{title}</text>", top - 10.0));
        for step in 0..=4 {
            let value = low + (high - low) * f64::from(step) / 4.0;
            let (at, end) = (y(value), WIDTH - RIGHT);
            put(
                &mut svg,
                format_args!("<line class=\"grid\" x1=\"{LEFT}\" x2=\"{end}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>"),
            );
            let digits = if high < 0.1 { 4 } else { 3 };
            put(&mut svg, format_args!("<text x=\"8\" y=\"{:.1}\">{value:.digits$}</text>", at + 4.0));
        }
        let mut workers = 2;
        while workers <= most {
            put(
                &mut svg,
                format_args!(
                    "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{workers}</text>",
                    x(workers),
                    top + PANEL + 18.0
                ),
            );
            workers *= 2;
        }
        for ((log, flush), line) in &lines {
            let (colour, dash) = style(log, *flush);
            let points: Vec<String> = line
                .iter()
                .filter_map(|(workers, outcome)| Some(format!("{:.1} {:.1}", x(*workers), y(value(log, outcome)?))))
                .collect();
            if points.len() > 1 {
                put(
                    &mut svg,
                    format_args!("<path stroke=\"{colour}\" stroke-dasharray=\"{dash}\" d=\"M{}\"/>", points.join("L")),
                );
            }
        }
    }
    let bottom = height - LEGEND;
    put(
        &mut svg,
        format_args!(
            "<text x=\"{LEFT}\" y=\"{bottom}\">workers, left to right; colours are logs, dashes the time between flushes</text>"
        ),
    );
    for (place, log) in logs.iter().enumerate() {
        legend(&mut svg, (place, bottom + 24.0), style(log, 1000), log);
    }
    let mut flushes: Vec<u64> = lines.keys().map(|(_, flush)| *flush).collect();
    flushes.sort_unstable();
    flushes.dedup();
    for (place, flush) in flushes.into_iter().enumerate() {
        let name = if flush == 0 { "apart".to_owned() } else { format!("{} s", flush as f64 / 1000.0) };
        legend(&mut svg, (place, bottom + 48.0), ("#888", style("", flush).1), &name);
    }
    svg.push_str("</svg>\n");
    svg
}

fn legend(svg: &mut String, (place, y): (usize, f64), (colour, dash): (&str, &str), name: &str) {
    let x = LEFT + 190.0 * place as f64;
    put(svg, format_args!("<path stroke=\"{colour}\" stroke-dasharray=\"{dash}\" d=\"M{x} {y}h36\"/>"));
    put(svg, format_args!("<text x=\"{}\" y=\"{}\">{name}</text>", x + 44.0, y + 4.0));
}

fn put(svg: &mut String, line: std::fmt::Arguments<'_>) {
    let _ = writeln!(svg, "{line}");
}
