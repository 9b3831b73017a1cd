//! The drawing: examples per second by candidates, dimensions, size of the batch and threads, beside what bounds them.

use std::fmt::Write as _;

use serde_json::Value;

const WIDTH: f64 = 860.0;
const PANEL: f64 = 220.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 40.0;
const GAP: f64 = 60.0;
/// The most threads that the model of more threads is drawn for.
const MOST_THREADS: usize = 16;
/// Numbers of a row and its sums that a step moves: read when the row is scored and when it is moved, written then.
const TRANSFERS: f64 = 5.0;

/// Batch, bank, dimensions.
type Workload = (usize, usize, usize);
/// What a panel is called, what it shows, and where each stands on its axis.
type Axis = (&'static str, &'static [Workload], fn(Workload) -> f64);

const BY_BANK: [Workload; 5] =
    [(1024, 0, 64), (1024, 1024, 64), (1024, 4096, 64), (1024, 16384, 64), (1024, 65536, 64)];
const BY_DIM: [Workload; 4] = [(1024, 4096, 32), (1024, 4096, 64), (1024, 4096, 128), (1024, 4096, 256)];
const BY_BATCH: [Workload; 4] = [(256, 4096, 64), (1024, 4096, 64), (2048, 4096, 64), (4096, 4096, 64)];

/// What is measured, each once.
pub fn workloads() -> Vec<Workload> {
    let mut all: Vec<Workload> = [&BY_BANK[..], &BY_DIM, &BY_BATCH].concat();
    all.sort_unstable();
    all.dedup();
    all
}

/// What was measured of a workload.
fn find<'a>(measured: &'a [Value], workload: Workload, threads: usize, precision: &str) -> Option<&'a Value> {
    let is_it = |run: &&Value| {
        let number = |name: &str| run[name].as_u64().unwrap_or(0) as usize;
        (number("batch"), number("bank"), number("dim")) == workload
            && number("threads") == threads
            && run["precision"] == precision
    };
    measured.iter().find(is_it)
}

fn speed(run: &Value) -> f64 {
    run["examples_per_second"].as_f64().unwrap_or(0.0)
}

/// Examples per second if all that a step did were its products in single precision, at the rate of the best library.
fn bound_of_arithmetic(run: &Value, (_, _, dim): Workload) -> f64 {
    let columns = run["columns_after_merging"].as_f64().unwrap_or(0.0);
    run["matmul_gflops"].as_f64().unwrap_or(0.0) * 1e9 / (6.0 * columns * dim as f64)
}

/// Examples per second if all that a step did were to read and write the rows that it touches, at the rate of a copy.
fn bound_of_memory(run: &Value, (batch, _, dim): Workload, copy_rate: f64) -> f64 {
    let rows = run["columns_after_merging"].as_f64().unwrap_or(0.0) + batch as f64;
    batch as f64 * copy_rate / (rows * dim as f64 * 4.0 * TRANSFERS)
}

struct Line {
    name: String,
    colour: &'static str,
    dash: &'static str,
    points: Vec<(f64, f64)>,
}

/// Draws what was measured with one thread and with `threads`, which copy `copy_rate` bytes per second.
pub fn draw(measured: &[Value], threads: usize, copy_rate: f64) -> String {
    let height = TOP + 4.0 * (PANEL + GAP) + 10.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         role=\"img\" font-family=\"system-ui, sans-serif\" font-size=\"12\">\n<title>Examples per second, and what bounds \
         them</title>\n<style>text {{ fill: #666 }} .grid {{ stroke: #8884 }} path {{ fill: none; stroke-width: 2 }}</style>\n"
    );
    let axes: [Axis; 3] = [
        ("candidates (batch 1024, 64 dimensions)", &BY_BANK, |(batch, bank, _)| (batch + bank) as f64),
        ("dimensions (batch 1024, bank 4096)", &BY_DIM, |(_, _, dim)| dim as f64),
        ("size of the batch (bank 4096, 64 dimensions)", &BY_BATCH, |(batch, ..)| batch as f64),
    ];
    for (panel, (title, workloads, x)) in axes.into_iter().enumerate() {
        let of = |threads: usize, precision: &str, y: &dyn Fn(&Value, Workload) -> f64| -> Vec<(f64, f64)> {
            let runs = workloads.iter().filter_map(|at| Some((*at, find(measured, *at, threads, precision)?)));
            runs.map(|(at, run)| (x(at), y(run, at))).collect()
        };
        let line = |name: &str, colour, dash, points| Line { name: name.to_owned(), colour, dash, points };
        let lines = [
            line("one thread", "#1f77b4", "4 2", of(1, "f32", &|run, _| speed(run))),
            line(&format!("{threads} threads"), "#1f77b4", "", of(threads, "f32", &|run, _| speed(run))),
            line("bf16", "#d98200", "", of(threads, "bf16", &|run, _| speed(run))),
            line("products alone", "#888", "2 2", of(threads, "f32", &bound_of_arithmetic)),
            line("rows alone", "#2ca02c", "2 2", of(threads, "f32", &|run, at| bound_of_memory(run, at, copy_rate))),
        ];
        panel_of(&mut svg, panel, &format!("examples/s by {title}"), &lines);
    }
    let lines: Vec<Line> = [((256, 4096, 64), "#1f77b4"), ((1024, 4096, 64), "#d98200"), ((4096, 4096, 64), "#2ca02c")]
        .into_iter()
        .filter_map(|(at, colour)| {
            let alone = speed(find(measured, at, 1, "f32")?);
            let together = speed(find(measured, at, threads, "f32")?);
            // What is left of the time on so many threads, of which a part s is spent by one (Amdahl 1967).
            let (n, time) = (threads as f64, alone / together);
            let serial = ((time * n - 1.0) / (n - 1.0)).clamp(0.0, 1.0);
            let modelled = |n: f64| alone / (serial + (1.0 - serial) / n);
            let points =
                (0..=MOST_THREADS.ilog2()).map(|power| (1 << power) as f64).map(|n| (n, modelled(n))).collect();
            let name = format!("batch {}, serial {:.0}%", at.0, serial * 100.0);
            Some(Line { name, colour, dash: "", points })
        })
        .collect();
    let title = format!("examples/s by threads (bank 4096, 64 dimensions; modelled beyond {threads})");
    panel_of(&mut svg, 3, &title, &lines);
    svg.push_str("</svg>\n");
    svg
}

/// A panel whose axes are both logarithmic.
fn panel_of(svg: &mut String, panel: usize, title: &str, lines: &[Line]) {
    let top = TOP + panel as f64 * (PANEL + GAP);
    let all = || lines.iter().flat_map(|line| &line.points).filter(|(_, y)| *y > 0.0);
    let range = |of: fn(&(f64, f64)) -> f64| {
        all().map(of).fold((f64::MAX, f64::MIN), |(low, high), number| (low.min(number), high.max(number)))
    };
    let ((first, last), (low, high)) = (range(|point| point.0), range(|point| point.1));
    if first >= last || low >= high {
        return;
    }
    let scale = |number: f64, low: f64, high: f64| (number / low).ln() / (high / low).ln();
    let x = |number: f64| LEFT + (WIDTH - LEFT - RIGHT) * scale(number, first, last);
    let y = |number: f64| top + PANEL * (1.0 - scale(number, low, high));
    put(svg, format_args!("<text x=\"{LEFT}\" y=\"{}\">{title}</text>", top - 22.0));
    for power in 0..9 {
        for digit in [1.0, 2.0, 5.0] {
            let number = digit * 10f64.powi(power);
            if (low..=high).contains(&number) {
                let (at, end) = (y(number), WIDTH - RIGHT);
                put(
                    svg,
                    format_args!("<line class=\"grid\" x1=\"{LEFT}\" x2=\"{end}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>"),
                );
                put(svg, format_args!("<text x=\"8\" y=\"{:.1}\">{}</text>", at + 4.0, short(number)));
            }
        }
    }
    let mut places: Vec<f64> = all().map(|point| point.0).collect();
    places.sort_by(f64::total_cmp);
    places.dedup();
    for place in places {
        let bottom = top + PANEL + 16.0;
        put(svg, format_args!("<text x=\"{:.1}\" y=\"{bottom:.1}\" text-anchor=\"middle\">{place}</text>", x(place)));
    }
    for (place, line) in lines.iter().enumerate() {
        let Line { name, colour, dash, points } = line;
        let path: Vec<String> = points.iter().map(|point| format!("{:.1} {:.1}", x(point.0), y(point.1))).collect();
        let path = path.join("L");
        put(svg, format_args!("<path stroke=\"{colour}\" stroke-dasharray=\"{dash}\" d=\"M{path}\"/>"));
        let at = LEFT + (WIDTH - LEFT - RIGHT) / lines.len() as f64 * place as f64;
        put(svg, format_args!("<path stroke=\"{colour}\" stroke-dasharray=\"{dash}\" d=\"M{at} {}h24\"/>", top - 10.0));
        put(svg, format_args!("<text x=\"{}\" y=\"{}\">{name}</text>", at + 30.0, top - 6.0));
    }
}

/// A number in thousands or millions, where it is that large.
fn short(number: f64) -> String {
    match number {
        1e6.. => format!("{} M", number / 1e6),
        1e3.. => format!("{} k", number / 1e3),
        _ => number.to_string(),
    }
}

fn put(svg: &mut String, line: std::fmt::Arguments<'_>) {
    let _ = writeln!(svg, "{line}");
}
