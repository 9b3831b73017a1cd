//! What the index finds while a stream goes on: recall@20 of lists that it gives, against those of a look at all items of the same view.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use negstream::recommend::{ListRules, Visitor, Wish};
use negstream::table::rows::split_mix;
use serde_json::json;

use crate::client::{gauge, load};
use crate::stream::{USERS, Worker};

/// Points of the curve.
const POINTS: u64 = 60;
/// Lists that are compared at each of them.
const LISTS: u64 = 240;
/// Their length.
const LENGTH: usize = 20;
/// Requests a second meanwhile, which the index is measured and set by.
const RATE: u64 = 20;

/// A point of the curve.
struct RecallPoint {
    /// Events learnt so far.
    events: u64,
    recall: f64,
    looked_at: f64,
    builds: f64,
}

/// Learns `hour` events as fast as can be, and compares lists at points in between; draws the curve to `svg`.
pub fn measure(worker: &mut Worker, hour: u64, svg: Option<&Path>) -> anyhow::Result<()> {
    let (address, first, is_over) = (worker.server.address(), worker.events.n, AtomicBool::new(false));
    worker.leave_view();
    let points = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Acquire) {
                load(address, RATE, Duration::from_secs(1));
            }
        });
        let mut points = vec![compare(worker, first)];
        for point in 1..=POINTS {
            while worker.events.n - first < hour * point / POINTS {
                worker.train_one();
            }
            points.push(compare(worker, first));
        }
        is_over.store(true, Ordering::Release);
        points
    });
    let recalls: Vec<f64> = points.iter().map(|point| point.recall).collect();
    let rounded = |number: f64| (number * 1e4).round() / 1e4;
    println!(
        "{}",
        json!({
            "bench": "serve", "phase": "recall of the index over an hour of events", "events": hour, "lists_at_each_point": LISTS,
            "points": recalls.len(), "mean": rounded(recalls.iter().sum::<f64>() / recalls.len() as f64),
            "lowest": rounded(recalls.iter().copied().fold(1.0, f64::min)),
            "looked_at": rounded(points.iter().map(|point| point.looked_at).sum::<f64>() / recalls.len() as f64),
            "builds": points.last().map(|point| point.builds),
            "curve": recalls.iter().map(|recall| rounded(*recall)).collect::<Vec<_>>(),
        })
    );
    if let Some(file) = svg {
        std::fs::write(file, draw(&points, hour))?;
    }
    Ok(())
}

/// What the index finds of the lists of some users, as things stand.
fn compare(worker: &mut Worker, first: u64) -> RecallPoint {
    let (n, address) = (worker.events.n, worker.server.address());
    worker.views.leave_last(&mut worker.trainer);
    let rules =
        ListRules { k: LENGTH, at: 1_700_000_000_000 + n as i64, excluded: &[], candidates: None, with_own: false };
    let wishes: Vec<Wish<'_>> =
        (0..LISTS).map(|list| Wish { visitor: Visitor::User((split_mix(n ^ list) % USERS) as u32), rules }).collect();
    let deadline = Instant::now() + Duration::from_secs(60);
    let lists = worker.slot.read(deadline, |view, _| {
        assert!(view.index().is_some(), "there is an index to compare");
        let is_known =
            |wish: &&Wish<'_>| matches!(wish.visitor, Visitor::User(user) if (user as usize) < view.users().len());
        let wishes: Vec<Wish<'_>> = wishes.iter().filter(is_known).cloned().collect();
        (view.exact_recommender().recommend_each(&wishes), view.recommender().recommend_each(&wishes))
    });
    let (exact, found) = lists.expect("a view is there");
    let (mut both, mut all) = (0, 0);
    for (exact, found) in exact.iter().zip(&found) {
        all += exact.len();
        both += exact.iter().filter(|row| found.iter().any(|found| found.item == row.item)).count();
    }
    let figure = |name: &str| gauge(address, name).unwrap_or_default();
    RecallPoint {
        events: n - first,
        recall: both as f64 / all.max(1) as f64,
        looked_at: figure("negstream_index_items_looked_at"),
        builds: figure("negstream_index_build_seconds_count"),
    }
}

/// The curve of recall, with the floor that is asked for; below it, how far the index looked.
fn draw(points: &[RecallPoint], hour: u64) -> String {
    let (left, width, top, height) = (64.0, 720.0, 30.0, 200.0);
    let x = |events: u64| left + width * events as f64 / hour as f64;
    let least = points.iter().map(|point| point.recall).fold(0.96, f64::min);
    let y = |recall: f64| top + height * (1.0 - recall) / (1.0 - least);
    let line = |value: &dyn Fn(&RecallPoint) -> f64| {
        let part = |point: &RecallPoint| format!("{:.1},{:.1}", x(point.events), value(point));
        points.iter().map(part).collect::<Vec<_>>().join(" ")
    };
    let mut svg = String::from(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 820 350\" width=\"820\" height=\"350\" font-family=\"sans-serif\" \
         font-size=\"13\">\n<rect width=\"820\" height=\"350\" fill=\"#fff\"/>\n<g fill=\"#333\" stroke-width=\"0\">\n",
    );
    let mut put = |text: String| writeln!(svg, "{text}").expect("a text grows");
    put(format!("<text x=\"{left}\" y=\"18\">recall@{LENGTH} of the index against a look at all items</text>"));
    for tick in [1.0, 0.98, 0.96].into_iter().filter(|tick| *tick >= least) {
        let at = y(tick);
        put(format!(
            "<path d=\"M{left} {at:.1}H{}\" stroke=\"{}\" stroke-width=\"1\"/><text x=\"20\" y=\"{:.1}\">{tick:.2}</text>",
            left + width,
            if tick == 0.98 { "#c0392b" } else { "#ddd" },
            at + 4.0
        ));
    }
    for quarter in 0..=4 {
        let at = left + width * f64::from(quarter) / 4.0;
        put(format!("<text x=\"{at:.0}\" y=\"345\" text-anchor=\"middle\">{} min</text>", 15 * quarter));
    }
    put(format!(
        "<polyline points=\"{}\" fill=\"none\" stroke=\"#2060a0\" stroke-width=\"2\"/>",
        line(&|point| y(point.recall))
    ));
    let most = points.iter().map(|point| point.looked_at).fold(1e-6, f64::max);
    put(format!(
        "<text x=\"{left}\" y=\"258\">share of the items that a list looks at, up to {:.2} %</text>",
        100.0 * most
    ));
    put(format!(
        "<polyline points=\"{}\" fill=\"none\" stroke=\"#888\" stroke-width=\"2\"/>",
        line(&|point| 325.0 - 55.0 * point.looked_at / most)
    ));
    for pair in points.windows(2).filter(|pair| pair[1].builds > pair[0].builds) {
        put(format!(
            "<path d=\"M{0:.1} 30V325\" stroke=\"#999\" stroke-width=\"1\" stroke-dasharray=\"3 4\"/>",
            x(pair[1].events)
        ));
    }
    svg.push_str("</g>\n</svg>\n");
    svg
}
