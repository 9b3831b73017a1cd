//! A comparison as a page for a browser: one file, nothing loaded from elsewhere, no script.

use std::fmt::Write;

use chrono::DateTime;

use super::contestant::{ContestantKind, Training};
use super::report::{ComparisonReport, ContestantReport};
use super::staleness::length_of_time;
use super::verdict::points;
use crate::util::chart::{self, COLOURS, ChartLine, IntervalRow};
use crate::util::escape::escape_html;

pub(super) fn page(report: &ComparisonReport) -> String {
    let title = format!("negstream compare: {}", report.log.logs.join(", "));
    let mut page = chart::page_begin(&title);
    for part in [head, table, hit_rates, along_stream, bands, staleness, training, settings] {
        page.push_str(&part(report));
    }
    page.push_str(chart::PAGE_END);
    page
}

/// The colour of the contestant at `place`, and for a peer the dash.
fn class(contestants: &[ContestantReport], place: usize) -> String {
    let kind = contestants[place].kind;
    let before = contestants[..place].iter().filter(|other| other.kind == kind).count() % COLOURS;
    match kind {
        ContestantKind::Configuration => format!("c{before}"),
        ContestantKind::Peer => format!("p{before} peer"),
    }
}

fn head(report: &ComparisonReport) -> String {
    let log = &report.log;
    let recur = if log.repeat { "items may recur" } else { "a user's own items leave the ranking" };
    format!(
        "<header>\n<h1>Who ranks the next item best?</h1>\n<p class=\"soft\">{}: {} positive events of {} users and {} items in \
         {} rows; {} events of {} users are judged, each before it is learnt, against every item that came before it ({recur}). \
         negstream {}.</p>\n</header>\n<section>\n<p class=\"verdict\">{}</p>\n</section>\n",
        escape_html(&log.logs.join(", ")),
        log.positives,
        log.users,
        log.items,
        log.rows,
        log.judged,
        log.judged_users,
        report.negstream,
        escape_html(&report.verdict)
    )
}

fn table(report: &ComparisonReport) -> String {
    let contestants = &report.contestants;
    let best = |of: fn(&ContestantReport) -> f64| contestants.iter().map(of).fold(f64::NEG_INFINITY, f64::max);
    let (best_rate, best_ndcg) = (best(|c| c.metrics.hit_rate), best(|c| c.metrics.ndcg));
    let cell =
        |value: f64, best: f64| format!("<td{}>{value:.4}</td>", if value == best { " class=\"best\"" } else { "" });
    let mut html = String::from(
        "<section>\n<h2>Figures</h2>\n<div class=\"wide\" tabindex=\"0\" role=\"region\" aria-label=\"Figures\">\n<table>\n<caption>\
         HR@20, NDCG@20 and MRR@20 over all judged events, with 95 % intervals (paired bootstrap over users); the difference is that \
         from the first contestant in hit rate, in points.</caption>\n<thead><tr><th scope=\"col\">contestant</th><th scope=\"col\">\
         HR@20</th><th scope=\"col\">95 %</th><th scope=\"col\">NDCG@20</th><th scope=\"col\">95 %</th><th scope=\"col\">MRR@20</th>\
         <th scope=\"col\">difference</th><th scope=\"col\">seconds</th></tr></thead>\n<tbody>\n",
    );
    for (place, contestant) in contestants.iter().enumerate() {
        let intervals = &contestant.intervals;
        let range = |low: f64, high: f64| format!("<td class=\"range\">{low:.4} – {high:.4}</td>");
        let difference = match place {
            0 => "<td></td>".to_owned(),
            _ => format!(
                "<td class=\"range\">{} … {}</td>",
                points(intervals.hit_rate_difference.low),
                points(intervals.hit_rate_difference.high)
            ),
        };
        put(
            &mut html,
            format_args!(
                "<tr><th scope=\"row\">{}</th>{}{}{}{}<td>{:.4}</td>{difference}<td>{:.1}</td></tr>\n",
                escape_html(&contestant.name),
                cell(contestant.metrics.hit_rate, best_rate),
                range(intervals.hit_rate.low, intervals.hit_rate.high),
                cell(contestant.metrics.ndcg, best_ndcg),
                range(intervals.ndcg.low, intervals.ndcg.high),
                contestant.metrics.mrr,
                contestant.seconds
            ),
        );
    }
    html.push_str("</tbody>\n</table>\n</div>\n</section>\n");
    html
}

fn hit_rates(report: &ComparisonReport) -> String {
    let row = |(place, contestant): (usize, &'_ ContestantReport)| {
        let interval = contestant.intervals.hit_rate;
        (class(&report.contestants, place), interval, contestant.metrics.hit_rate)
    };
    let facts: Vec<_> = report.contestants.iter().enumerate().map(row).collect();
    let rows: Vec<IntervalRow<'_>> = facts
        .iter()
        .zip(&report.contestants)
        .map(|((class, interval, value), contestant)| IntervalRow {
            name: &contestant.name,
            class: class.clone(),
            low: interval.low,
            value: *value,
            high: interval.high,
        })
        .collect();
    format!(
        "<section>\n<h2>Hit rate, and how sure it is</h2>\n{}\n</section>\n",
        chart::intervals("HR@20 of each contestant with its 95 % interval; the table has the same numbers", &rows)
    )
}

fn along_stream(report: &ComparisonReport) -> String {
    let series: Vec<ChartLine<'_>> = report
        .contestants
        .iter()
        .enumerate()
        .map(|(place, contestant)| ChartLine {
            name: &contestant.name,
            class: class(&report.contestants, place),
            values: contestant.curve.iter().copied().map(Some).collect(),
        })
        .collect();
    let ends = (day(report.stretches_from.first()), day(report.stretches_from.last()));
    let drawing = chart::lines("Hit rate along the stream", "HR@20", (&ends.0, &ends.1), &series);
    format!(
        "<section>\n<h2>Along the stream</h2>\n<p class=\"soft\">Stretches of as many judged events each.</p>\n{drawing}\n{}</section>\n",
        legend(report, |_| true)
    )
}

fn legend(report: &ComparisonReport, is_shown: impl Fn(&ContestantReport) -> bool) -> String {
    let mut html = String::from("<ul class=\"legend\">");
    for (place, contestant) in report.contestants.iter().enumerate().filter(|(_, contestant)| is_shown(contestant)) {
        let class = class(&report.contestants, place);
        put(&mut html, format_args!("<li class=\"{class}\">{}</li>", escape_html(&contestant.name)));
    }
    html.push_str("</ul>\n");
    html
}

fn bands(report: &ComparisonReport) -> String {
    let mut html = String::from(
        "<section>\n<h2>Where they differ</h2>\n<div class=\"wide\" tabindex=\"0\" role=\"region\" aria-label=\"Bands\">\n<table>\n\
         <caption>HR@20 over parts of the judged events; the best of each part is bold.</caption>\n<thead><tr><th scope=\"col\">\
         contestant</th>",
    );
    for band in &report.bands {
        put(
            &mut html,
            format_args!("<th scope=\"col\">{}<br><span class=\"range\">{} events</span></th>", band.name, band.events),
        );
    }
    html.push_str("</tr></thead>\n<tbody>\n");
    let best = |band: usize| report.contestants.iter().filter_map(|c| c.bands[band]).fold(f64::NEG_INFINITY, f64::max);
    let best: Vec<f64> = (0..report.bands.len()).map(best).collect();
    for contestant in &report.contestants {
        put(&mut html, format_args!("<tr><th scope=\"row\">{}</th>", escape_html(&contestant.name)));
        for (rate, best) in contestant.bands.iter().zip(&best) {
            match rate {
                Some(rate) if rate == best && *best > 0.0 => {
                    put(&mut html, format_args!("<td class=\"best\">{rate:.4}</td>"))
                }
                Some(rate) => put(&mut html, format_args!("<td>{rate:.4}</td>")),
                None => html.push_str("<td>–</td>"),
            }
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</tbody>\n</table>\n</div>\n<p class=\"soft\">");
    let said: Vec<String> = report.bands.iter().map(|band| format!("{}: {}", band.name, band.about)).collect();
    put(&mut html, format_args!("{}.</p>\n</section>\n", escape_html(&said.join("; "))));
    html
}

fn staleness(report: &ComparisonReport) -> String {
    let Some(staleness) = &report.staleness else { return String::new() };
    let live = staleness.rows.first().map(|row| row.metrics.hit_rate);
    let names = ["vectors", "histories", "everything"];
    let series = names.iter().enumerate().map(|(place, name)| {
        let values = std::iter::once(live).chain(staleness.of(name).map(|row| Some(row.metrics.hit_rate)));
        ChartLine { name, class: format!("c{place}"), values: values.collect() }
    });
    let series: Vec<ChartLine<'_>> = series.collect();
    let longest = staleness.rows.last().map(|row| row.delay.clone()).unwrap_or_default();
    let steps: Vec<&str> = staleness.of(names[0]).map(|row| row.delay.as_str()).collect();
    let drawing = chart::lines("Hit rate against delay", "HR@20", ("live", &longest), &series);
    let mut legend = String::from("<ul class=\"legend\">");
    for (place, name) in names.iter().enumerate() {
        put(&mut legend, format_args!("<li><span class=\"key c{place}\"></span>{name}</li>"));
    }
    legend.push_str("</ul>\n");
    let ages: String = staleness.ages.iter().map(|age| format!("<th scope=\"col\">{}</th>", age.name)).collect();
    let mut html = format!(
        "<section>\n<h2>Served late</h2>\n<p class=\"soft\">{}, ranked by a state that was published some time before: live, {}. \
         Old are what is learnt (vectors), what is counted (histories), or both; an item that came since cannot be \
         served.</p>\n{drawing}\n{legend}<div class=\"wide\" tabindex=\"0\" role=\"region\" aria-label=\"Hit rate by delay\">\n\
         <table>\n<caption>HR@20 by delay and by the time since the item came first; age is the median one of what was served; the difference is that from live serving, in points (95 %).</caption>\n<thead><tr><th scope=\"col\">delay</th>\
         <th scope=\"col\">old</th><th scope=\"col\">age</th><th scope=\"col\">HR@20</th><th scope=\"col\">NDCG@20</th>\
         <th scope=\"col\">difference</th>{ages}</tr></thead>\n<tbody>\n",
        escape_html(&staleness.contestant),
        escape_html(&steps.join(", "))
    );
    for row in &staleness.rows {
        let rate =
            |rate: &Option<f64>| rate.map_or_else(|| "<td>–</td>".to_owned(), |rate| format!("<td>{rate:.4}</td>"));
        let of_ages: String = row.by_age.iter().map(rate).collect();
        put(
            &mut html,
            format_args!(
                "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td>{:.4}</td><td>{:.4}</td><td class=\"range\">{} … {}</td>\
                 {of_ages}</tr>\n",
                escape_html(&row.delay),
                row.stale,
                row.age_ms.map(length_of_time).unwrap_or_default(),
                row.metrics.hit_rate,
                row.metrics.ndcg,
                points(row.difference.low),
                points(row.difference.high)
            ),
        );
    }
    html.push_str("</tbody>\n</table>\n</div>\n</section>\n");
    html
}

fn training(report: &ComparisonReport) -> String {
    let series = |of: fn(&Training) -> &[Option<f64>]| {
        let trained = report.contestants.iter().enumerate();
        let trained =
            trained.filter_map(|(place, contestant)| Some((place, contestant, contestant.training.as_ref()?)));
        let series = trained.map(|(place, contestant, training)| ChartLine {
            name: &contestant.name,
            class: class(&report.contestants, place),
            values: of(training).to_vec(),
        });
        series.collect::<Vec<_>>()
    };
    let ends = ("begin", "end of the log");
    let loss =
        chart::lines("Mean loss of a step along the stream", "loss, nats", ends, &series(|training| &training.loss));
    let bound = chart::lines(
        "Mean lower bound on the mutual information along the stream",
        "information, nats",
        ends,
        &series(|training| &training.mi_bound),
    );
    let mut html = format!(
        "<section>\n<h2>Training</h2>\n<p class=\"soft\">Loss, and the lower bound on the mutual information of context and next \
         item.</p>\n{loss}\n{bound}\n{}<table>\n<caption>Throughput with every judged event ranked.</caption>\n<thead><tr>\
         <th scope=\"col\">configuration</th><th scope=\"col\">events/s</th></tr></thead>\n<tbody>\n",
        legend(report, |contestant| contestant.training.is_some())
    );
    for contestant in &report.contestants {
        if let Some(training) = &contestant.training {
            let (name, rate) = (escape_html(&contestant.name), training.events_per_second);
            put(&mut html, format_args!("<tr><th scope=\"row\">{name}</th><td>{rate:.0}</td></tr>\n"));
        }
    }
    html.push_str("</tbody>\n</table>\n</section>\n");
    html
}

fn settings(report: &ComparisonReport) -> String {
    let mut html = String::from(
        "<section>\n<h2>What was compared</h2>\n<table>\n<caption>What is special of each contestant.</caption>\n<thead><tr>\
         <th scope=\"col\">contestant</th><th scope=\"col\" class=\"words\">setting</th></tr></thead>\n<tbody>\n",
    );
    for contestant in &report.contestants {
        let tried = match contestant.settings_tried {
            1 => String::new(),
            n => format!(" (the best of {n}, chosen on these very events)"),
        };
        let digest = contestant
            .training
            .as_ref()
            .map(|training| format!("<br><span class=\"range\">digest {}</span>", training.configuration_digest));
        put(
            &mut html,
            format_args!(
                "<tr><th scope=\"row\">{}</th><td class=\"words\">{}{tried}{}</td></tr>\n",
                escape_html(&contestant.name),
                escape_html(&contestant.setting),
                digest.unwrap_or_default()
            ),
        );
    }
    html.push_str("</tbody>\n</table>\n");
    for why in &report.left_out {
        put(&mut html, format_args!("<p class=\"soft\">{}</p>\n", escape_html(why)));
    }
    for contestant in &report.contestants {
        if let Some(training) = &contestant.training {
            let configuration = serde_json::to_string_pretty(&training.configuration).unwrap_or_default();
            put(
                &mut html,
                format_args!(
                    "<details><summary>Configuration of {}</summary>\n<pre tabindex=\"0\">{}</pre></details>\n",
                    escape_html(&contestant.name),
                    escape_html(&configuration)
                ),
            );
        }
    }
    put(
        &mut html,
        format_args!(
            "<p class=\"soft\">Content of the logs: {}.</p>\n</section>\n",
            escape_html(&report.log.digests.join(", "))
        ),
    );
    html
}

fn day(time: Option<&i64>) -> String {
    let time = time.and_then(|time| DateTime::from_timestamp_millis(*time));
    time.map(|time| time.format("%Y-%m-%d %H:%M").to_string()).unwrap_or_default()
}

fn put(text: &mut String, said: std::fmt::Arguments<'_>) {
    text.write_fmt(said).expect("text grows");
}
