//! The exposition: every metric of a status in Prometheus' text format (version 0.0.4).
//!
//! Metrics are declared beside the figures that they show ([`crate::metric::Instrumented`]) and listed by
//! [`super::status`]. A scrape reads them all from one snapshot, so that nothing has to be recorded anywhere before
//! somebody looks; that is why this writes the format itself instead of keeping a client library's registry of live
//! values beside the status.
//!
//! Labels come from closed lists, with one exception: the label of a stream. Of each metric at most [`MAX_SERIES`] series
//! are shown, with harmless labels of at most `MAX_LABEL` characters. Identifiers of users and items never become labels.

use std::fmt::Write;

use super::status::Status;
use crate::metric::{Histogram, MetricFamily, SampleValue};
use crate::util::escape::is_unsafe;

/// The largest number of series that a metric shows.
pub const MAX_SERIES: usize = 256;
/// The longest value of a label, in characters.
const MAX_LABEL: usize = 120;

/// Every metric there is, without samples.
pub fn catalogue() -> Vec<MetricFamily> {
    let without_samples = |family: MetricFamily| MetricFamily { samples: Vec::new(), ..family };
    Status::default().families().into_iter().map(without_samples).collect()
}

/// Every metric in Prometheus' text format.
pub fn render(status: &Status) -> String {
    let mut text = String::new();
    for family in status.families() {
        render_family(&mut text, &family);
    }
    text
}

fn render_family(text: &mut String, family: &MetricFamily) {
    let MetricFamily { name, kind, labels: label_names, help, samples } = family;
    let help = help.replace('\\', "\\\\").replace('\n', "\\n");
    put(text, format_args!("# HELP {name} {help}\n# TYPE {name} {}\n", kind.name()));
    for sample in samples.iter().take(MAX_SERIES) {
        let labels: Vec<(&str, String)> =
            label_names.iter().zip(&sample.labels).map(|(name, value)| (*name, harmless(value))).collect();
        match &sample.value {
            SampleValue::Number(value) => render_sample(text, name, &labels, *value),
            SampleValue::Distribution(histogram) => render_histogram(text, name, &labels, histogram),
        }
    }
}

fn render_histogram(text: &mut String, name: &str, labels: &[(&str, String)], histogram: &Histogram) {
    for (bound, count) in histogram.cumulative() {
        let mut labels = labels.to_vec();
        labels.push(("le", number(bound)));
        render_sample(text, &format!("{name}_bucket"), &labels, count as f64);
    }
    render_sample(text, &format!("{name}_sum"), labels, histogram.sum());
    render_sample(text, &format!("{name}_count"), labels, histogram.count() as f64);
}

fn render_sample(text: &mut String, name: &str, labels: &[(&str, String)], value: f64) {
    text.push_str(name);
    if !labels.is_empty() {
        let labels: Vec<String> = labels
            .iter()
            .map(|(name, value)| format!("{name}=\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"")))
            .collect();
        put(text, format_args!("{{{}}}", labels.join(",")));
    }
    put(text, format_args!(" {}\n", number(value)));
}

fn put(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments).expect("a string takes any text");
}

/// A number as Prometheus writes it.
fn number(value: f64) -> String {
    match value {
        f64::INFINITY => "+Inf".to_owned(),
        f64::NEG_INFINITY => "-Inf".to_owned(),
        _ => value.to_string(),
    }
}

/// A label that may be shown anywhere: nothing unsafe, not too long. The end is kept, since paths differ there.
fn harmless(label: &str) -> String {
    let skipped = label.chars().count().saturating_sub(MAX_LABEL);
    label.chars().skip(skipped).map(|character| if is_unsafe(character) { '_' } else { character }).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::status::StreamLag;
    use super::*;
    use crate::event::Reason;
    use crate::metric::MetricKind;
    use crate::telemetry::phase::{Lifecycle, Stage};

    #[test]
    fn metric_names_follow_the_rules_and_are_declared_once() {
        let mut names = BTreeSet::new();
        for metric in catalogue() {
            let name = metric.name;
            assert!(names.insert(name), "{name} is declared twice");
            assert!(name.starts_with("negstream_"), "{name}");
            assert_eq!(name.ends_with("_total"), metric.kind == MetricKind::Counter, "{name}");
            assert!(
                name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_' || byte.is_ascii_digit()),
                "{name}"
            );
            assert!(metric.help.len() > 5 && metric.help.ends_with('.'), "{name}: {}", metric.help);
        }
        assert!(names.len() > 50);
    }

    #[test]
    fn metrics_without_labels_are_shown_from_the_beginning() {
        // A rate over a counter sees its first increment only if it was shown before.
        for metric in Status::default().families() {
            assert!(!metric.samples.is_empty() || !metric.labels.is_empty(), "{}", metric.name);
            assert!(metric.samples.iter().all(|sample| sample.labels.len() == metric.labels.len()), "{}", metric.name);
        }
    }

    #[test]
    fn render_shows_every_kind_of_metric() {
        let mut status = Status::default();
        status.run.step_seconds.observe(0.003);
        status.run.step_seconds.observe(0.03);
        status.run.dead_letters = 4;
        status.trainer.events.read = 100;
        status.trainer.events.rejected.add(Reason::IdTooLong, 7);
        status.trainer.training.loss = Some(2.5);
        status.lifecycle = Lifecycle { stage: Stage::Failed { reason: "diverged" }, ..Lifecycle::default() };
        let text = render(&status);
        for line in [
            "# TYPE negstream_step_seconds histogram",
            "negstream_step_seconds_bucket{le=\"0.005\"} 1",
            "negstream_step_seconds_bucket{le=\"0.05\"} 2",
            "negstream_step_seconds_bucket{le=\"+Inf\"} 2",
            "negstream_step_seconds_sum 0.033",
            "negstream_step_seconds_count 2",
            "negstream_dead_letters_total 4",
            "negstream_phase{phase=\"failed\"} 1",
            "negstream_phase{phase=\"training\"} 0",
            "negstream_failure{reason=\"diverged\"} 1",
            "negstream_events_read_total 100",
            "negstream_events_rejected_total{reason=\"id_too_long\"} 7",
            "negstream_loss_nats 2.5",
            "negstream_mi_bound_nats NaN",
            "negstream_mrr_at_20{ranking=\"popularity\",window=\"all\"} NaN",
        ] {
            assert!(text.lines().any(|shown| shown == line), "not shown: {line}\n{text}");
        }
    }

    #[test]
    fn hostile_stream_labels_add_neither_lines_nor_series_without_end() {
        let hostile = StreamLag { stream: format!("{}\"}} 1\nevil 2\u{1b}[0m\\", "x".repeat(500)), events: 1 };
        let many = (0..10_000).map(|number| StreamLag { stream: number.to_string(), events: 1 });
        let mut status = Status::default();
        status.run.lag = std::iter::once(hostile).chain(many).collect();
        let text = render(&status);
        assert!(text.lines().all(|line| line.starts_with("negstream_") || line.starts_with("# ")));
        assert!(!text.contains('\u{1b}') && text.lines().all(|line| line.len() < 400));
        assert_eq!(text.lines().filter(|line| line.starts_with("negstream_lag_events{")).count(), MAX_SERIES);
    }
}
