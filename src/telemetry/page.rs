//! The page for people, and what it asks this address for besides the API.
//!
//! | path | answer |
//! | --- | --- |
//! | `/` | the page: one document, with its own style and script |
//! | `/page/series` | the plots, and the points of the last day |
//! | `/page/update` | diagnosis, status, and nothing of the past |
//! | `/page/events` | the same once a second, with the points that came since, as server-sent events |
//!
//! The page may run the script and the style that are in it and nothing else: the policy names their digests. A stream of events makes
//! each of them when its client takes it, from what is there then, so that a slow one holds nothing up and costs no memory; there are
//! [`MOST_STREAMS`] at most, and whoever finds none asks for updates now and then.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Json, Response};
use axum::routing::get;
use hyper::body::Frame;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Interval, MissedTickBehavior};

use super::diagnosis::{Diagnosis, diagnose};
use super::history::History;
use super::observer::seconds_since_1970;
use super::series::SeriesUpdate;
use super::status::Status;
use super::{Telemetry, health};
use crate::util::encoding::{base64, random_id, sha256_bytes};

/// Most streams of events at a time.
pub const MOST_STREAMS: usize = 16;
/// The time between two events of a stream, and between two samples of the series.
const EVERY: Duration = Duration::from_secs(1);

const HTML: &str = include_str!("page/page.html");
const STYLE: &str = concat!(include_str!("../util/colours.css"), include_str!("page/page.css"));
const SCRIPT: &str = concat!(
    "\"use strict\";\n",
    include_str!("page/text.js"),
    include_str!("page/plot.js"),
    include_str!("page/figures.js"),
    include_str!("page/ask.js"),
    include_str!("page/map.js"),
    include_str!("page/main.js"),
);

/// The document and its policy.
struct PageDocument {
    html: String,
    policy: HeaderValue,
}

static DOCUMENT: LazyLock<PageDocument> = LazyLock::new(|| {
    let html = HTML.replace("{{style}}", STYLE).replace("{{script}}", SCRIPT);
    let digest = |text: &str| base64(&sha256_bytes(text.as_bytes()));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; connect-src 'self'; img-src data:; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
        digest(STYLE),
        digest(SCRIPT)
    );
    PageDocument { html, policy: HeaderValue::from_str(&policy).expect("base64 fits into a header") }
});

/// What the page is told each second.
#[derive(Debug, Serialize)]
struct PageUpdate {
    /// A name of this process alone: with another one, the worker was started anew.
    process: String,
    /// Seconds since 1970.
    now: f64,
    diagnosis: Diagnosis,
    status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    series: Option<SeriesUpdate>,
}

/// What answers are made of.
#[derive(Debug, Clone)]
struct PageState {
    telemetry: Telemetry,
    streams: Arc<Semaphore>,
    process: Arc<str>,
}

impl PageState {
    fn update(&self, series: Option<SeriesUpdate>) -> PageUpdate {
        let (health, moment) = (self.telemetry.health(), Instant::now());
        let (liveness, readiness): (health::Liveness, health::Readiness) =
            (health.liveness(moment), health.readiness(moment));
        // The past is the business of the series.
        let status = Status { history: History::default(), ..self.telemetry.snapshot() };
        let now = seconds_since_1970();
        let diagnosis = diagnose(&status, &liveness, &readiness, now);
        PageUpdate { process: self.process.to_string(), now, diagnosis, status, series }
    }
}

/// The router of the page.
pub(super) fn router(telemetry: &Telemetry) -> Router {
    let streams = Arc::new(Semaphore::new(MOST_STREAMS));
    let state = PageState { telemetry: telemetry.clone(), streams, process: random_id().into() };
    Router::new()
        .route("/", get(document))
        .route("/page/series", get(series))
        .route("/page/update", get(update))
        .route("/page/events", get(events))
        .with_state(state)
}

/// Samples the series until the future is dropped.
pub(super) async fn sample(telemetry: Telemetry) {
    let mut interval = tokio::time::interval(EVERY);
    interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        interval.tick().await;
        telemetry.sample(seconds_since_1970() as u64);
    }
}

async fn document() -> Response {
    let mut response = Html(DOCUMENT.html.as_str()).into_response();
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, DOCUMENT.policy.clone());
    response
}

async fn series(State(state): State<PageState>) -> Response {
    let whole = state.telemetry.series().whole();
    Json(whole).into_response()
}

async fn update(State(state): State<PageState>) -> Response {
    Json(state.update(None)).into_response()
}

async fn events(State(state): State<PageState>) -> Response {
    let Ok(permit) = Arc::clone(&state.streams).try_acquire_owned() else {
        let advice = "so many streams of events are open as there may be; ask for /page/update\n";
        return (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "10")], advice).into_response();
    };
    let mut interval = tokio::time::interval(EVERY);
    // Where a client was slow, it is told how things are, not how they were.
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let seen = state.telemetry.series().counts();
    let stream = EventStream { state, interval, seen, _permit: permit };
    ([(header::CONTENT_TYPE, "text/event-stream")], Body::new(stream)).into_response()
}

/// A body that never ends: an update each second, made when it is taken.
struct EventStream {
    state: PageState,
    interval: Interval,
    /// Points of each tier that the client knows.
    seen: [u64; 3],
    _permit: OwnedSemaphorePermit,
}

impl HttpBody for EventStream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.interval.poll_tick(context).is_pending() {
            return Poll::Pending;
        }
        let (series, seen) = self.state.telemetry.series().since(self.seen);
        self.seen = seen;
        let update = self.state.update(Some(series));
        // JSON has no line breaks of its own, so that it is one line of an event, whatever names are in it.
        let json = serde_json::to_string(&update).unwrap_or_default();
        Poll::Ready(Some(Ok(Frame::data(format!("retry: 1000\ndata: {json}\n\n").into()))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_one_and_its_policy_names_what_is_in_it() {
        let PageDocument { html, policy } = &*DOCUMENT;
        assert!(!html.contains("{{"), "every part is in its place");
        for (tag, text) in [("style", STYLE), ("script", SCRIPT)] {
            assert_eq!(html.matches(&format!("<{tag}>{text}</{tag}>")).count(), 1);
            assert_eq!(html.matches(&format!("<{tag}")).count(), 1);
            let digest = format!("'sha256-{}'", base64(&sha256_bytes(text.as_bytes())));
            assert!(policy.to_str().expect("text").contains(&digest));
        }
        let policy = policy.to_str().expect("text");
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        // What would run text as a program, or load anything from elsewhere.
        for word in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "https://",
            "style=\"",
            " onclick",
        ] {
            assert!(!html.contains(word), "{word}");
        }
    }
}
