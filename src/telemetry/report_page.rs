//! The report of a run as a page for a browser: one file, nothing loaded from elsewhere, no script; the plots are those of the
//! worker's page, over events instead of time.

use std::fmt::Write;

use super::history::History;
use super::plots::{PLOTS, Plot, PlotUnit};
use super::report::Report;
use crate::util::chart::{self, COLOURS, ChartLine};
use crate::util::escape::escape_html;

/// The page of a report, with how it came about.
pub fn page(report: &Report, history: &History) -> String {
    let mut page = chart::page_begin("negstream: a run");
    page.push_str(&head(report));
    page.push_str(&figures(report));
    for plot in &PLOTS {
        page.push_str(&section(plot, history));
    }
    page.push_str(&whole(report));
    page.push_str(chart::PAGE_END);
    page
}

fn head(report: &Report) -> String {
    let (model, popularity) = report.hit_rates();
    let verdict = match (model, popularity) {
        (Some(model), Some(popularity)) => {
            let times =
                if popularity > 0.0 { format!(", {:.1} times as often", model / popularity) } else { String::new() };
            format!(
                "The next item was among the model's best 20 for {:.1} % of the events, and among the most popular 20 for {:.1} %{times}.",
                100.0 * model,
                100.0 * popularity
            )
        }
        _ => "No event was ranked.".to_owned(),
    };
    let mut html = format!(
        "<header>\n<h1>What the model learnt</h1>\n<p class=\"soft\">{} events read, {} trained on in {} steps; {} items, {} users; \
         {:.1} s, {:.0} events a second. negstream {}.</p>\n</header>\n<section>\n<p class=\"verdict\">{verdict}</p>\n",
        report.events.read,
        report.events.used,
        report.steps,
        report.items,
        report.users,
        report.seconds,
        report.events_per_second,
        env!("CARGO_PKG_VERSION")
    );
    if !report.warnings.is_empty() {
        html.push_str("<h2>Warnings</h2>\n<ul>\n");
        for warning in &report.warnings {
            put(&mut html, format_args!("<li>{}</li>\n", escape_html(warning)));
        }
        html.push_str("</ul>\n");
    }
    html.push_str("</section>\n");
    html
}

fn figures(report: &Report) -> String {
    let mut html =
        String::from("<section>\n<h2>Figures</h2>\n<pre tabindex=\"0\" role=\"region\" aria-label=\"Figures\">");
    html.push_str(&report.text().lines().map(escape_html).collect::<Vec<_>>().join("\n"));
    html.push_str("</pre>\n</section>\n");
    html
}

/// A plot over events; nothing where none of its values is known.
fn section(plot: &Plot, history: &History) -> String {
    let (factor, unit) = match plot.unit {
        PlotUnit::Share => (1.0, ""),
        PlotUnit::Nats => (1.0, "nats"),
        PlotUnit::Count => (1.0, ""),
        PlotUnit::Seconds => (1.0, "seconds"),
        PlotUnit::Bytes => (1e-6, "MB"),
    };
    let others = history.keys().iter().filter_map(|key| Some((key.as_str(), key.strip_prefix(plot.others?)?)));
    let named = plot.lines.iter().map(|line| (line.key, line.name)).chain(others);
    let lines: Vec<ChartLine<'_>> = named
        .map(|(key, name)| (name, history.values(key)))
        .filter(|(_, values)| values.iter().any(Option::is_some))
        .enumerate()
        .map(|(place, (name, values))| ChartLine {
            name,
            class: format!("c{}", place % COLOURS),
            values: values.into_iter().map(|value| Some(value? * factor)).collect(),
        })
        .collect();
    let end = history.events().last().unwrap_or_default();
    let begin = history.events().next().unwrap_or_default();
    let ends = (format!("{begin} events"), format!("{end} events"));
    let drawing = chart::lines(&format!("{} over events", plot.title), unit, (&ends.0, &ends.1), &lines);
    if drawing.is_empty() {
        return String::new();
    }
    let mut html = format!(
        "<section>\n<h2>{}</h2>\n<p class=\"soft\">{}</p>\n{drawing}\n<ul class=\"legend\">",
        escape_html(plot.title),
        escape_html(plot.about)
    );
    for ChartLine { name, class, values } in &lines {
        let newest = values.iter().rev().flatten().next().copied().unwrap_or(f64::NAN);
        put(&mut html, format_args!("<li class=\"{class}\">{} ({})</li>", escape_html(name), number(newest)));
    }
    html.push_str("</ul>\n</section>\n");
    html
}

/// Everything, for programs and for those who want to know more.
fn whole(report: &Report) -> String {
    let json = serde_json::to_string_pretty(report).unwrap_or_default();
    let json = json.lines().map(escape_html).collect::<Vec<_>>().join("\n");
    format!(
        "<section>\n<details>\n<summary>The report as JSON</summary>\n\
         <pre tabindex=\"0\" role=\"region\" aria-label=\"The report as JSON\">{json}</pre>\n</details>\n</section>\n"
    )
}

/// A number with four digits.
fn number(value: f64) -> String {
    match value.abs() {
        1_000.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.4}"),
    }
}

fn put(text: &mut String, said: std::fmt::Arguments<'_>) {
    text.write_fmt(said).expect("text grows");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::negatives::proposals::Proposal;
    use crate::telemetry::status::Status;

    #[test]
    fn the_page_draws_what_is_known_and_escapes_what_comes_from_outside() {
        let mut status = Status::default();
        status.trainer.proposals = vec![Proposal { name: "<b>".to_owned(), share: 0.5, ..Proposal::default() }];
        for events in 1..50 {
            status.trainer.training.loss = Some(1.0 / f64::from(events));
            let mut history = std::mem::take(&mut status.history);
            history.offer(u64::from(events as u32), &status);
            status.history = history;
        }
        let report = Report::new(&status, 2.0, 49, None, vec!["<script>alert(1)</script>".to_owned()]);
        let html = page(&report, &status.history);
        assert!(html.contains("&lt;script&gt;") && !html.contains("<script") && html.contains("&lt;b&gt;"));
        assert!(
            html.contains("Loss and information over events") && html.contains("Where negatives come from over events")
        );
        assert!(!html.contains("Lag over events"), "nothing is known of it");
        assert!(html.ends_with("</html>\n") && !html.contains("https://"));
    }
}
