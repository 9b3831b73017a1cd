//! What `negatives` prints.

use std::fmt::Write;

use serde::Serialize;

use super::Chosen;
use super::figures::{DrawStatistics, ItemDraws, PopularityBand};
use crate::checkpoint::Checkpoint;
use crate::cli::NegativesArgs;
use crate::trainer::state::State;
use crate::util::escape::escape_for_terminal;

/// Rows of the table.
const MOST: usize = 20;
/// Longest name in the table.
const LONGEST: usize = 44;
/// Columns of a terminal.
const WIDTH: usize = 80;

/// All of it; as JSON it is printed as it stands.
#[derive(Debug, Serialize)]
pub(super) struct Page<'a> {
    checkpoint: String,
    sampler: &'a str,
    /// Draws per step, where it was at work.
    draws_per_step: Option<usize>,
    depends_on_queries: bool,
    /// Newest last.
    context: Vec<&'a str>,
    /// Items of the past that were given and are too old to count.
    too_old: usize,
    user: Option<&'a str>,
    draws: u64,
    seed: u64,
    live_items: usize,
    #[serde(flatten)]
    figures: DrawStatistics,
    most_drawn: Vec<Drawn<'a>>,
    bands: Vec<PopularityBand>,
    file: Option<String>,
}

/// One item.
#[derive(Debug, Serialize)]
struct Drawn<'a> {
    item_id: &'a str,
    /// `null`, which is −∞, would be a fault of the sampler.
    log_q: f64,
    draws: u64,
    /// Share of the draws.
    share: f64,
    /// Share of the data.
    data: f64,
}

impl<'a> Page<'a> {
    /// Of these draws.
    pub(super) fn new(
        checkpoint: &Checkpoint,
        options: &'a NegativesArgs,
        chosen: &'a Chosen,
        context: Vec<&'a str>,
        state: &'a State,
        rows: &ItemDraws<'_>,
    ) -> Self {
        let drawn = |row: usize| Drawn {
            item_id: state.items.ids.name(row as u32),
            log_q: rows.probabilities[row].ln(),
            draws: rows.draws[row],
            share: rows.draws[row] as f64 / options.draws as f64,
            data: rows.data[row],
        };
        Self {
            checkpoint: checkpoint.path().display().to_string(),
            sampler: &chosen.name,
            draws_per_step: chosen.at_work,
            depends_on_queries: chosen.sampler.depends_on_queries(),
            too_old: options.context.len() - context.len(),
            context,
            user: options.user.as_deref(),
            draws: options.draws,
            seed: options.seed,
            live_items: state.negatives.live.items().len(),
            figures: rows.figures(),
            most_drawn: rows.most_drawn(MOST).into_iter().map(drawn).collect(),
            bands: rows.bands(),
            file: options.output.as_ref().map(|path| path.display().to_string()),
        }
    }

    /// For people; short where there is a file to look into.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        self.say_head(&mut text);
        match &self.file {
            None => {
                text.push('\n');
                self.say_most_drawn(&mut text);
                text.push('\n');
                self.say_figures(&mut text);
                text.push('\n');
                self.say_bands(&mut text);
            }
            Some(path) => {
                self.say_figures(&mut text);
                line(&mut text, "file", &format!("{}, {} rows", escape_for_terminal(path), self.figures.drawable));
            }
        }
        text
    }

    fn say_head(&self, text: &mut String) {
        line(text, "checkpoint", &escape_for_terminal(&self.checkpoint));
        let from = match self.draws_per_step {
            Some(draws) => format!("at work here, up to {draws} draws a step"),
            None => "not at work here: made of counts and vectors".to_owned(),
        };
        line(text, "sampler", &format!("{}, {from}", self.sampler));
        line(text, "query", &self.query());
        line(text, "draws", &format!("{}, seed {}", self.draws, self.seed));
    }

    fn query(&self) -> String {
        if !self.depends_on_queries {
            return "of no account: it draws alike for all".to_owned();
        }
        let names: Vec<String> = self.context.iter().map(|name| escape_for_terminal(name)).collect();
        let user = self.user.map(|user| format!("user {}", escape_for_terminal(user)));
        let mut parts = Vec::new();
        if !names.is_empty() {
            parts.push(format!("after {}", names.join(", ")));
        }
        if self.too_old > 0 {
            parts.push(format!("{} older ones do not count", self.too_old));
        }
        match self.sampler.split('-').next() {
            Some("exposure") => user.unwrap_or_default(),
            _ if !names.is_empty() => parts.into_iter().chain(user).collect::<Vec<_>>().join("; "),
            Some("mixture") => {
                let parts = "parts that need a past draw by frequency, or not at all".to_owned();
                user.into_iter().chain([parts]).collect::<Vec<_>>().join("; ")
            }
            _ => "none: it draws by frequency (--context asks for somebody with a past)".to_owned(),
        }
    }

    fn say_most_drawn(&self, text: &mut String) {
        let names: Vec<String> = self.most_drawn.iter().map(|drawn| cut(escape_for_terminal(drawn.item_id))).collect();
        let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).max(10);
        let title = "most drawn";
        writeln!(text, "{title:<width$}     log q      drawn       data").expect("text grows");
        for (name, Drawn { log_q, share, data, .. }) in names.iter().zip(&self.most_drawn) {
            writeln!(text, "{name:<width$}  {log_q:>8.4}  {}  {}", percent(*share), percent(*data))
                .expect("text grows");
        }
    }

    fn say_figures(&self, text: &mut String) {
        let DrawStatistics { drawable, sum, entropy, kl_noise_data, kl_data_noise, data_beyond, chi_square } =
            &self.figures;
        line(text, "items", &format!("{} live, {drawable} can be drawn", self.live_items));
        line(text, "Σ q", &format!("{sum:.12}"));
        line(text, "entropy", &format!("{entropy:.6} nats, that of {:.1} items alike", entropy.exp()));
        line(text, "KL", &format!("(q ‖ data) {}, (data ‖ q) {} nats", nats(*kl_noise_data), nats(*kl_data_noise)));
        if *data_beyond > 0.0 {
            line(text, "beyond", &format!("{} of the data cannot be drawn", percent(*data_beyond).trim_start()));
        }
        let chance = match chi_square.p_value {
            Some(p) => {
                format!("p = {} (Wilson–Hilferty)", if p < 1e-4 { format!("{p:.1e}") } else { format!("{p:.4}") })
            }
            None if *drawable > 1 => "too few draws".to_owned(),
            None => "nothing to choose between".to_owned(),
        };
        let freedom = chi_square.degrees_of_freedom;
        line(text, "chi-square", &format!("{:.2} with {freedom} degrees of freedom, {chance}", chi_square.statistic));
    }

    fn say_bands(&self, text: &mut String) {
        text.push_str("share by popularity, the number of an item's events so far\n");
        let label = |band: &PopularityBand| {
            [format!("{}–{}", band.from, band.to), format!("{} items", band.items), String::new()]
        };
        let labels: Vec<_> = self.bands.iter().map(label).collect();
        let width = labels.iter().flatten().map(|label| label.chars().count()).max().unwrap_or(0);
        let largest = |band: &PopularityBand| band.draws.max(band.probability).max(band.data);
        let most = self.bands.iter().map(largest).fold(0.0, f64::max);
        for (band, labels) in self.bands.iter().zip(labels) {
            let parts = [("draws", band.draws), ("q", band.probability), ("data", band.data)];
            for ((what, share), label) in parts.into_iter().zip(labels) {
                let before = format!("{label:>width$}  {what:<5}  {}  ", percent(share));
                let room = WIDTH.saturating_sub(before.chars().count());
                let row = format!("{before}{}", bar(share / most, room));
                writeln!(text, "{}", row.trim_end()).expect("text grows");
            }
        }
    }
}

fn line(text: &mut String, what: &str, said: &str) {
    writeln!(text, "{what:<10}  {said}").expect("text grows");
}

/// Nine columns.
fn percent(share: f64) -> String {
    format!("{:>7.3} %", share * 100.0)
}

fn nats(divergence: f64) -> String {
    if divergence.is_finite() { format!("{divergence:.6}") } else { "∞".to_owned() }
}

/// A name that leaves room for what is said of it.
fn cut(name: String) -> String {
    match name.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name,
    }
}

/// A bar of up to `width` columns, in eighths of one.
fn bar(part: f64, width: usize) -> String {
    let eighths = (part * width as f64 * 8.0).round() as usize;
    let rest = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"][eighths % 8];
    format!("{}{rest}", "█".repeat(eighths / 8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_truncates_bars_and_names() {
        assert_eq!(bar(1.0, 4), "████");
        assert_eq!(bar(0.5, 3), "█▌");
        assert_eq!((bar(0.0, 9), bar(f64::NAN, 9)), (String::new(), String::new()));
        assert_eq!(cut("ü".repeat(60)).chars().count(), LONGEST + 1);
        assert_eq!(cut("short".to_owned()), "short");
    }
}
