//! Drawings as SVG, part of a page that is one file: no script, and colours that its style sheet sets for light and dark.

use std::fmt::Write;

use crate::util::escape::escape_html;

/// The style of a page that is a report; drawings take their colours from it.
pub const STYLE: &str = concat!(include_str!("colours.css"), include_str!("page.css"));
/// Colours of a kind of lines before they begin anew.
pub const COLOURS: usize = 6;
/// Width of a drawing, in its own units.
const WIDTH: f64 = 860.0;
/// Height of a line chart.
const HEIGHT: f64 = 300.0;
/// Room on the left for the numbers of the axis, and for names.
const LEFT: f64 = 64.0;
const NAMES: f64 = 190.0;
/// Room on the other sides.
const MARGIN: f64 = 26.0;
/// Height of a row of intervals.
const ROW: f64 = 24.0;
/// Lines of an axis, about.
const TICKS: f64 = 5.0;

/// A line of a chart.
#[derive(Debug)]
pub struct ChartLine<'a> {
    /// What it is called in the legend.
    pub name: &'a str,
    /// Which colour and dash it has.
    pub class: String,
    /// Its values from left to right; `None` leaves a gap.
    pub values: Vec<Option<f64>>,
}

/// Lines over equal steps from left to right; `ends` are what the axis says at its ends.
pub fn lines(title: &str, unit: &str, ends: (&str, &str), series: &[ChartLine<'_>]) -> String {
    let values = series.iter().flat_map(|series| series.values.iter().flatten().copied());
    let (low, high) =
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
    if !(low.is_finite() && high.is_finite()) {
        return String::new();
    }
    let axis = Axis::new(low.min(if low >= 0.0 && low < 0.5 * high { 0.0 } else { low }), high);
    let steps = series.iter().map(|series| series.values.len()).max().unwrap_or(1).max(2) - 1;
    let x = |step: usize| LEFT + (WIDTH - LEFT - MARGIN) * step as f64 / steps as f64;
    let y = |value: f64| MARGIN + (HEIGHT - 2.0 * MARGIN) * (1.0 - axis.place(value));
    let mut svg = begin(title, HEIGHT);
    for tick in axis.ticks() {
        let y = y(tick);
        put(
            &mut svg,
            format_args!(r#"<line class="grid" x1="{LEFT}" x2="{}" y1="{y:.1}" y2="{y:.1}"/>"#, WIDTH - MARGIN),
        );
        put(
            &mut svg,
            format_args!(r#"<text class="end" x="{}" y="{:.1}">{}</text>"#, LEFT - 8.0, y + 4.0, axis.label(tick)),
        );
    }
    put(&mut svg, format_args!(r#"<text x="{LEFT}" y="14">{}</text>"#, escape_html(unit)));
    let below = HEIGHT - 6.0;
    put(&mut svg, format_args!(r#"<text x="{LEFT}" y="{below}">{}</text>"#, escape_html(ends.0)));
    put(
        &mut svg,
        format_args!(r#"<text class="end" x="{}" y="{below}">{}</text>"#, WIDTH - MARGIN, escape_html(ends.1)),
    );
    for ChartLine { name, class, values } in series {
        let mut path = String::new();
        let mut pen_is_down = false;
        for (step, value) in values.iter().enumerate() {
            if let Some(value) = value {
                let command = if std::mem::replace(&mut pen_is_down, true) { 'L' } else { 'M' };
                put(&mut path, format_args!("{command}{:.1} {:.1}", x(step), y(*value)));
            } else {
                pen_is_down = false;
            }
        }
        put(
            &mut svg,
            format_args!(r#"<path class="line {class}" d="{path}"><title>{}</title></path>"#, escape_html(name)),
        );
    }
    svg.push_str("</svg>");
    svg
}

/// A row of [`intervals`].
#[derive(Debug)]
pub struct IntervalRow<'a> {
    /// What it is called.
    pub name: &'a str,
    /// Which colour it has.
    pub class: String,
    /// The lower end of its interval.
    pub low: f64,
    /// Its value.
    pub value: f64,
    /// The upper end of its interval.
    pub high: f64,
}

/// A point with an interval for each row.
pub fn intervals(title: &str, rows: &[IntervalRow<'_>]) -> String {
    let high = rows.iter().map(|row| row.high).fold(0.0, f64::max);
    let axis = Axis::new(0.0, if high > 0.0 { high } else { 1.0 });
    let height = MARGIN + ROW * rows.len() as f64 + MARGIN;
    let x = |value: f64| NAMES + (WIDTH - NAMES - 2.0 * MARGIN) * axis.place(value);
    let bottom = height - MARGIN;
    let mut svg = begin(title, height);
    for tick in axis.ticks() {
        let x = x(tick);
        put(&mut svg, format_args!(r#"<line class="grid" x1="{x:.1}" x2="{x:.1}" y1="6" y2="{bottom}"/>"#));
        put(
            &mut svg,
            format_args!(r#"<text class="middle" x="{x:.1}" y="{}">{}</text>"#, height - 8.0, axis.label(tick)),
        );
    }
    for (place, IntervalRow { name, class, low, value, high }) in rows.iter().enumerate() {
        let y = 6.0 + ROW * (place as f64 + 0.5);
        let short: String =
            if name.chars().count() > 26 { name.chars().take(25).chain(['…']).collect() } else { (*name).to_owned() };
        put(
            &mut svg,
            format_args!(r#"<text class="end" x="{}" y="{}">{}</text>"#, NAMES - 12.0, y + 4.0, escape_html(&short)),
        );
        put(
            &mut svg,
            format_args!(r#"<line class="line {class}" x1="{:.1}" x2="{:.1}" y1="{y}" y2="{y}"/>"#, x(*low), x(*high)),
        );
        put(&mut svg, format_args!(r#"<circle class="dot {class}" cx="{:.1}" cy="{y}" r="5"/>"#, x(*value)));
    }
    svg.push_str("</svg>");
    svg
}

/// The head of a page with a title, up to where its parts begin; [`PAGE_END`] closes it.
pub fn page_begin(title: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{}</title>\n<link rel=\"icon\" href=\"data:,\">\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n",
        escape_html(title)
    )
}

/// What closes a page.
pub const PAGE_END: &str = "</main>\n</body>\n</html>\n";

fn begin(title: &str, height: f64) -> String {
    let title = escape_html(title);
    format!(r#"<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{title}">"#)
}

fn put(text: &mut String, said: std::fmt::Arguments<'_>) {
    text.write_fmt(said).expect("text grows");
}

/// A scale with round ticks.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Axis {
    low: f64,
    high: f64,
    step: f64,
}

impl Axis {
    /// From `low` to `high`, widened to round numbers.
    fn new(low: f64, high: f64) -> Self {
        let span = if high > low { high - low } else { high.abs().max(1.0) };
        let rough = span / TICKS;
        let power = 10f64.powf(rough.log10().floor());
        let step =
            [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().map(|n| n * power).find(|step| *step >= rough).unwrap_or(rough);
        Self { low: (low / step).floor() * step, high: (high / step).ceil() * step, step }
    }

    /// 0 at the low end, 1 at the high end.
    fn place(&self, value: f64) -> f64 {
        if self.high > self.low { (value - self.low) / (self.high - self.low) } else { 0.5 }
    }

    fn ticks(self) -> impl Iterator<Item = f64> {
        let n = ((self.high - self.low) / self.step).round() as usize;
        (0..=n).map(move |tick| self.low + self.step * tick as f64)
    }

    fn label(&self, tick: f64) -> String {
        let digits = (-self.step.log10().floor()).clamp(0.0, 6.0) as usize;
        let digits = if (self.step * 10f64.powi(digits as i32)).fract() > 1e-9 { digits + 1 } else { digits };
        format!("{tick:.digits$}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axis_has_round_ticks_that_hold_all_values() {
        let labels = |low: f64, high: f64| {
            let axis = Axis::new(low, high);
            axis.ticks().map(|tick| axis.label(tick)).collect::<Vec<_>>()
        };
        assert_eq!(labels(0.0, 0.35), ["0.0", "0.1", "0.2", "0.3", "0.4"]);
        assert_eq!(labels(3.1, 5.9), ["3", "4", "5", "6"]);
        assert_eq!(labels(0.21, 0.27), ["0.20", "0.22", "0.24", "0.26", "0.28"]);
        assert_eq!(labels(0.0, 0.0).len(), 1);
        assert_eq!(labels(0.0, 0.11), ["0.000", "0.025", "0.050", "0.075", "0.100", "0.125"]);
    }

    #[test]
    fn lines_leave_gaps_and_escape_names() {
        let series =
            [ChartLine { name: "<a>", class: "c0".to_owned(), values: vec![Some(1.0), None, Some(2.0), Some(3.0)] }];
        let svg = lines("title", "unit", ("from", "to"), &series);
        assert_eq!(svg.matches('M').count(), 2);
        assert!(svg.contains("&lt;a&gt;") && !svg.contains("<a>"));
        let empty = [ChartLine { name: "a", class: String::new(), values: vec![None] }];
        assert_eq!(lines("title", "unit", ("", ""), &empty), "");
    }
}
