//! The drawing: hit rates, bytes and distances by the number of workers, one line for each log and way of sending.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;

const WIDTH: f64 = 860.0;
const PANEL: f64 = 240.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 40.0;
const GAP: f64 = 56.0;
const LEGEND: f64 = 90.0;
const COLOURS: [&str; 3] = ["#1f77b4", "#d98200", "#2ca02c"];

/// What a panel shows of a run, beside the run of a lone worker.
type Figure = fn(&Value, &Value) -> Option<f64>;

const PANELS: [(&str, Figure); 3] = [
    ("HR@20, of that of one worker", |run, alone| Some(number(run, "hr@20")? / number(alone, "hr@20")?)),
    ("kilobytes sent for each event", |run, _| number(run, "bytes_per_event").filter(|n| *n > 0.0).map(|n| n / 1000.0)),
    ("mean distance of two replicas, of a row's length", |run, _| number(run, "distance")),
];

fn number(run: &Value, name: &str) -> Option<f64> {
    run[name].as_f64()
}

/// How often workers send each other deltas: milliseconds from flush to flush (0: not at all), and whether none comes earlier.
type Way = (u64, bool);

/// Draws runs, as they were printed; those of one worker are what others are measured by.
pub fn draw(runs: &[Value]) -> String {
    let log_of = |run: &Value| run["log"].as_str().unwrap_or_default().to_owned();
    let workers_of = |run: &Value| number(run, "workers").unwrap_or(1.0) as usize;
    let alone: BTreeMap<String, &Value> =
        runs.iter().filter(|run| workers_of(run) == 1).map(|run| (log_of(run), run)).collect();
    let most = runs.iter().map(workers_of).max().unwrap_or(2).max(2);
    let x = |workers: usize| LEFT + (WIDTH - LEFT - RIGHT) * (workers as f64).ln() / (most as f64).ln();
    let mut lines: BTreeMap<(String, Way), Vec<(usize, &Value)>> = BTreeMap::new();
    for run in runs.iter().filter(|run| workers_of(run) > 1) {
        let flush = (number(run, "flush_seconds").unwrap_or(0.0) * 1000.0) as u64;
        let is_patient = flush > 0 && run["patient"].as_bool().unwrap_or(false);
        lines.entry((log_of(run), (flush, is_patient))).or_default().push((workers_of(run), run));
    }
    lines.values_mut().for_each(|line| line.sort_by_key(|(workers, _)| *workers));
    let logs: Vec<&String> = alone.keys().collect();
    let style = |log: &str, way: Way| {
        let colour = logs.iter().position(|other| *other == log).unwrap_or(0) % COLOURS.len();
        let dash = match way {
            (0, _) => "1 4",
            (1..=100, _) => "2 2",
            (101..=1000, false) => "",
            (101..=1000, true) => "8 4",
            _ => "12 3 2 3",
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
        let value = |log: &str, run: &Value| alone.get(log).and_then(|alone| figure(run, alone));
        let values: Vec<f64> = lines
            .iter()
            .flat_map(|((log, _), line)| line.iter().filter_map(|(_, run)| value(log, run)))
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
        for ((log, way), line) in &lines {
            let (colour, dash) = style(log, *way);
            let points: Vec<(f64, f64)> =
                line.iter().filter_map(|(workers, run)| Some((x(*workers), y(value(log, run)?)))).collect();
            let path: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1} {y:.1}")).collect();
            if path.len() > 1 {
                let path = path.join("L");
                put(&mut svg, format_args!("<path stroke=\"{colour}\" stroke-dasharray=\"{dash}\" d=\"M{path}\"/>"));
            }
            for (x, y) in points {
                put(&mut svg, format_args!("<circle fill=\"{colour}\" r=\"3\" cx=\"{x:.1}\" cy=\"{y:.1}\"/>"));
            }
        }
    }
    let bottom = height - LEGEND;
    put(
        &mut svg,
        format_args!(
            "<text x=\"{LEFT}\" y=\"{bottom}\">workers, left to right; colours are logs, dashes ways of sending</text>"
        ),
    );
    for (place, log) in logs.iter().enumerate() {
        legend(&mut svg, (place, bottom + 24.0), style(log, (1000, false)), log);
    }
    let mut ways: Vec<Way> = lines.keys().map(|(_, way)| *way).collect();
    ways.sort_unstable();
    ways.dedup();
    for (place, (flush, is_patient)) in ways.into_iter().enumerate() {
        let name = match (flush, is_patient) {
            (0, _) => "apart".to_owned(),
            (_, false) => format!("{} s", flush as f64 / 1000.0),
            (_, true) => format!("{} s, patient", flush as f64 / 1000.0),
        };
        legend(&mut svg, (place, bottom + 48.0), ("#888", style("", (flush, is_patient)).1), &name);
    }
    svg.push_str("</svg>\n");
    svg
}

fn legend(svg: &mut String, (place, y): (usize, f64), (colour, dash): (&str, &str), name: &str) {
    let x = LEFT + 160.0 * place as f64;
    put(svg, format_args!("<path stroke=\"{colour}\" stroke-dasharray=\"{dash}\" d=\"M{x} {y}h36\"/>"));
    put(svg, format_args!("<text x=\"{}\" y=\"{}\">{name}</text>", x + 44.0, y + 4.0));
}

fn put(svg: &mut String, line: std::fmt::Arguments<'_>) {
    let _ = writeln!(svg, "{line}");
}
