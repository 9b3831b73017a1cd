//! What a comparison means, in a sentence or two.

use super::contestant::ContestantKind;
use super::report::ContestantReport;

/// Says how the first configuration stands to the best peer, and which configuration is best.
pub(super) fn verdict(contestants: &[ContestantReport]) -> String {
    let Some(first) = contestants.first() else { return "Nothing was judged.".to_owned() };
    let best = |kind: ContestantKind| {
        let of_kind = contestants.iter().filter(move |contestant| contestant.kind == kind);
        of_kind.reduce(|a, b| if b.metrics.hit_rate > a.metrics.hit_rate { b } else { a })
    };
    let mut sentences = Vec::new();
    if let Some(peer) = best(ContestantKind::Peer) {
        let chosen = match peer.settings_tried {
            1 => String::new(),
            n => format!(" (the best of {n} settings, chosen on these very events)"),
        };
        sentences.push(format!(
            "{} finds {} of the next items among its first 20; the best peer, {}{chosen}, finds {}: {} times as many. {}",
            first.name,
            percent(first.metrics.hit_rate),
            peer.name,
            percent(peer.metrics.hit_rate),
            ratio(first.metrics.hit_rate, peer.metrics.hit_rate),
            difference(peer, "The peer")
        ));
    } else {
        sentences.push(format!(
            "{} finds {} of the next items among its first 20.",
            first.name,
            percent(first.metrics.hit_rate)
        ));
    }
    let n_configurations =
        contestants.iter().filter(|contestant| contestant.kind == ContestantKind::Configuration).count();
    if let Some(configuration) = best(ContestantKind::Configuration).filter(|_| n_configurations > 1) {
        sentences.push(match configuration.name == first.name {
            true => "No other configuration finds more.".to_owned(),
            false => format!(
                "Of the configurations {} finds most, {}. {}",
                configuration.name,
                percent(configuration.metrics.hit_rate),
                difference(configuration, "It")
            ),
        });
    }
    sentences.join(" ")
}

/// How `other` (`subject` in the sentence) differs from the first contestant, and whether that is more than chance.
fn difference(other: &ContestantReport, subject: &str) -> String {
    let interval = other.intervals.hit_rate_difference;
    match interval.excludes_zero() {
        false => format!(
            "{subject} may be as good: the difference in hit rate lies between {} and {} (95 %), which is not more than chance.",
            points(interval.low),
            points(interval.high)
        ),
        true => {
            let (low, high) =
                (interval.low.abs().min(interval.high.abs()), interval.low.abs().max(interval.high.abs()));
            let way = if interval.high < 0.0 { "behind" } else { "ahead" };
            format!(
                "{subject} is {way} by {:.2} to {:.2} points of hit rate (95 %), which is more than chance.",
                low * 100.0,
                high * 100.0
            )
        }
    }
}

pub(super) fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

/// A difference of shares, in points.
pub(super) fn points(difference: f64) -> String {
    format!("{:+.2}", difference * 100.0)
}

fn ratio(a: f64, b: f64) -> String {
    if b > 0.0 { format!("{:.2}", a / b) } else { "∞".to_owned() }
}
