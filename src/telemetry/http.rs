//! The address that serves the page, metrics, health and status, on a thread of its own.
//!
//! | path | answer |
//! | --- | --- |
//! | `/`, `/page/…` | the page for people ([`super::page`]) |
//! | `/metrics` | Prometheus' text format |
//! | `/livez` | 200 while the training loop turns, 503 otherwise, with JSON that says since when |
//! | `/readyz` | 200 once everything is in place, 503 otherwise, with JSON that says what is missing |
//! | `/status` | every figure that is shown, as JSON |
//! | `/v1/…` | the API ([`crate::serve`]) |
//! | `POST /checkpoint` | asks for a checkpoint; needs `http.token` (`demand`) |
//!
//! [`serve`] has bound the address when it returns, so whoever gets a [`Server`] can be reached. It only reads, but for that
//! request: nothing else that arrives here reaches the trainer, and no number of connections takes from it what it needs
//! (`connections`). It deliberately knows no TLS, and no passwords for what is read; the default address is local, what is in front of it decides who may look,
//! and pages from elsewhere may not (`hosts`).

mod connections;
mod demand;
pub(super) mod hosts;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use tokio::sync::oneshot;

use super::phase::Stage;
use super::{HttpConfig, Telemetry, metrics, page};
use crate::pipeline::CheckpointRequests;
use crate::serve::Api;
use crate::util::token::Token;
use hosts::AllowedHosts;

/// What is no page may do nothing in a browser; the page has a policy of its own.
const POLICY: &str = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// How often a lingering server looks whether it may stop.
const LINGER_CHECK: Duration = Duration::from_millis(20);

/// What the answers are made from.
#[derive(Debug, Clone)]
struct Handlers {
    telemetry: Telemetry,
    /// Whether a scrape has shown that the worker has failed.
    failure_was_scraped: Arc<AtomicBool>,
    requests: CheckpointRequests,
    /// What a program has to show that asks for a checkpoint; `None` where nobody may.
    token: Option<Token>,
}

/// The reason why the address cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// Another process listens on the address.
    #[error("cannot serve on {listen}: the address is already in use; set http.listen to another")]
    InUse {
        /// The configured address.
        listen: String,
    },
    /// The text is no address, or the address may not be used.
    #[error("cannot serve on {listen}: {source}")]
    Bind {
        /// The configured address.
        listen: String,
        /// The refusal of the operating system.
        source: std::io::Error,
    },
}

/// A running server. Dropping it stops the server.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    failure_was_scraped: Arc<AtomicBool>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// The address that the server listens on, with the port that was found where the configuration left it open (`:0`).
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Keeps serving until a scrape of `/metrics` has shown that the worker failed, until `patience` is over, or until
    /// `stop` says so: Prometheus can raise no alert over what it never saw.
    pub fn linger(&self, patience: Duration, stop: impl Fn() -> bool) {
        let began = Instant::now();
        while began.elapsed() < patience && !self.failure_was_scraped.load(Ordering::Acquire) && !stop() {
            std::thread::park_timeout(LINGER_CHECK);
        }
    }

    /// Stops, after the answers that are under way, or half a second at most.
    pub fn shutdown(mut self) {
        self.stop();
    }

    fn stop(&mut self) {
        // The receiver is gone where the thread ended by itself; then there is nothing to stop.
        let _ = self.stop.take().map(|stop| stop.send(()));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Serves the page, metrics, health and status of `telemetry` on the address that `config` names, and takes requests for
/// checkpoints; and the API, where there is one.
///
/// # Errors
/// Where the address cannot be bound; the error names it.
pub fn serve(
    config: &HttpConfig,
    telemetry: Telemetry,
    requests: CheckpointRequests,
    api: Option<&Api>,
) -> Result<Server, HttpError> {
    let listen = &config.listen;
    let bind_error = |source: std::io::Error| match source.kind() {
        std::io::ErrorKind::AddrInUse => HttpError::InUse { listen: listen.clone() },
        _ => HttpError::Bind { listen: listen.clone(), source },
    };
    let listener = TcpListener::bind(listen).map_err(bind_error)?;
    listener.set_nonblocking(true).map_err(bind_error)?;
    let address = listener.local_addr().map_err(bind_error)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(bind_error)?;
    let (stop, stopped) = oneshot::channel();
    let failure_was_scraped = Arc::new(AtomicBool::new(false));
    let token = Token::new(&config.token);
    let handlers = Handlers { telemetry, failure_was_scraped: Arc::clone(&failure_was_scraped), requests, token };
    let api = api.map_or_else(Router::new, |api| api.router(address.ip().is_loopback()));
    let sampled = handlers.telemetry.clone();
    let router = router(handlers, api, AllowedHosts::new(listen, &config.allowed_hosts));
    let most = config.connections;
    let thread = std::thread::Builder::new().name("http".to_owned());
    let thread =
        thread.spawn(move || runtime.block_on(run(listener, most, router, sampled, stopped))).map_err(bind_error)?;
    Ok(Server { address, failure_was_scraped, stop: Some(stop), thread: Some(thread) })
}

async fn run(listener: TcpListener, most: usize, router: Router, telemetry: Telemetry, stopped: oneshot::Receiver<()>) {
    match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => tokio::select! {
            () = connections::serve(listener, most, router, stopped) => {}
            () = page::sample(telemetry) => {}
        },
        Err(error) => tracing::error!(%error, "the http listener cannot be used"),
    }
}

fn router(handlers: Handlers, api: Router, hosts: AllowedHosts) -> Router {
    let page = page::router(&handlers.telemetry);
    Router::new()
        .route("/metrics", get(exposition))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/status", get(status))
        .route("/checkpoint", post(demand::checkpoint))
        .with_state(handlers)
        .merge(page)
        .merge(api)
        .layer(axum::middleware::from_fn_with_state(hosts, check_host))
        .layer(axum::middleware::from_fn(guard))
}

/// Refuses requests for a name that somebody else may own. Programs that name no host are no browsers.
async fn check_host(State(hosts): State<AllowedHosts>, request: Request, next: Next) -> Response {
    let of_target = request.uri().authority().map(|authority| authority.as_str());
    let mut named =
        request.headers().get_all(header::HOST).iter().map(|host| host.to_str().unwrap_or(".")).chain(of_target);
    if named.any(|host| !hosts.accept(host)) {
        let advice = "this address is not served under that name: http.allowed_hosts lists the names that are\n";
        return (StatusCode::MISDIRECTED_REQUEST, advice).into_response();
    }
    next.run(request).await
}

/// Headers that keep browsers from doing more with an answer than showing it.
async fn guard(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    response.headers_mut().entry(header::CONTENT_SECURITY_POLICY).or_insert(HeaderValue::from_static(POLICY));
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn exposition(State(handlers): State<Handlers>) -> impl IntoResponse {
    let status = handlers.telemetry.snapshot();
    if matches!(status.lifecycle.stage, Stage::Failed { .. }) {
        handlers.failure_was_scraped.store(true, Ordering::Release);
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics::render(&status))
}

async fn livez(State(handlers): State<Handlers>) -> impl IntoResponse {
    let liveness = handlers.telemetry.health().liveness(Instant::now());
    (code(liveness.alive), Json(liveness))
}

async fn readyz(State(handlers): State<Handlers>) -> impl IntoResponse {
    let readiness = handlers.telemetry.health().readiness(Instant::now());
    (code(readiness.ready), Json(readiness))
}

async fn status(State(handlers): State<Handlers>) -> impl IntoResponse {
    Json(handlers.telemetry.snapshot())
}

fn code(good: bool) -> StatusCode {
    if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::super::LifecycleEvent;
    use super::super::health::MAX_SILENCE;
    use super::super::status::TrainerFigures;
    use super::*;
    use crate::exit::Exit;

    fn telemetry() -> Telemetry {
        Telemetry::new(Instant::now())
    }

    fn listening_on(listen: &str) -> HttpConfig {
        HttpConfig { listen: listen.to_owned(), ..HttpConfig::default() }
    }

    fn serve_locally(telemetry: &Telemetry) -> Server {
        serve(&listening_on("127.0.0.1:0"), telemetry.clone(), CheckpointRequests::default(), None)
            .expect("a free port")
    }

    fn get_path(server: &Server, path: &str) -> (u16, String, String) {
        get_path_of(server, "here", path)
    }

    fn get_path_of(server: &Server, host: &str, path: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(server.address()).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout can be set");
        write!(stream, "GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").expect("it takes requests");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a code");
        (code, head.to_ascii_lowercase(), body.to_owned())
    }

    #[test]
    fn server_answers_on_every_path() {
        let telemetry = telemetry();
        let mut figures = TrainerFigures::default();
        figures.training.items = 17;
        telemetry.update(|status| status.update(figures));
        telemetry.emit(LifecycleEvent::Restored);
        let server = serve_locally(&telemetry);
        let (code, head, body) = get_path(&server, "/");
        assert!(code == 200 && head.contains("text/html") && body.contains("</html>"));
        assert!(head.contains("content-security-policy: default-src 'none'"), "{head}");
        let (code, head, body) = get_path(&server, "/metrics");
        assert!(
            code == 200 && head.contains("text/plain; version=0.0.4") && body.contains("# TYPE negstream_info gauge")
        );
        let (code, _, body) = get_path(&server, "/status");
        let status: serde_json::Value = serde_json::from_str(&body).expect("json");
        assert!(code == 200 && status["items"] == 17 && status["phase"] == "waiting", "{status}");
        assert_eq!(get_path(&server, "/elsewhere").0, 404);
        let (code, _, body) = get_path(&server, "/page/update");
        let update: serde_json::Value = serde_json::from_str(&body).expect("json");
        assert!(code == 200 && update["diagnosis"]["condition"] == "changing", "{update}");
        assert_eq!(update["status"]["items"], 17);
        let (_, head, body) = get_path(&server, "/page/series");
        let series: serde_json::Value = serde_json::from_str(&body).expect("json");
        assert_eq!(series["tiers"][2]["seconds"], 120);
        assert!(series["plots"][0]["title"] == "Hit rate" && head.contains("frame-ancestors 'none'"), "{head}");
        server.shutdown();
    }

    #[test]
    fn events_come_without_end_and_streams_are_few() {
        let server = serve_locally(&telemetry());
        let open = || {
            let mut stream = TcpStream::connect(server.address()).expect("it listens");
            stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout can be set");
            stream.write_all(b"GET /page/events HTTP/1.1\r\nhost: here\r\n\r\n").expect("it takes requests");
            stream
        };
        let read_until = |stream: &mut TcpStream, wanted: &str, times: usize| {
            let mut text = String::new();
            while text.matches(wanted).count() < times {
                let mut bytes = [0; 4_096];
                let n = stream.read(&mut bytes).expect("it goes on");
                assert!(n > 0, "it ended: {text}");
                text.push_str(&String::from_utf8_lossy(&bytes[..n]));
            }
            text
        };
        // These are never read from but for their heads.
        let mut streams: Vec<TcpStream> = (0..page::MOST_STREAMS).map(|_| open()).collect();
        for stream in &mut streams {
            let head = read_until(stream, "\r\n\r\n", 1);
            assert!(head.contains("200 OK") && head.contains("text/event-stream"), "{head}");
        }
        let refused = read_until(&mut open(), "\r\n\r\n", 1).to_ascii_lowercase();
        assert!(refused.contains("503") && refused.contains("retry-after: 10"), "{refused}");
        let text = read_until(&mut streams[0], "\ndata: {", 2);
        assert!(text.contains(r#""sentence":"#) && text.contains(r#""history":[]"#), "{text}");
        // Whoever goes makes room.
        streams.truncate(1);
        loop {
            if read_until(&mut open(), "\r\n\r\n", 1).contains("200 OK") {
                break;
            }
        }
        let began = Instant::now();
        server.shutdown();
        assert!(began.elapsed() < connections::PATIENCE * 10);
    }

    #[test]
    fn server_tells_health_by_the_code() {
        let telemetry = telemetry();
        let server = serve_locally(&telemetry);
        let (code, _, body) = get_path(&server, "/readyz");
        assert_eq!(
            (code, body.as_str()),
            (
                503,
                r#"{"ready":false,"missing":["restored","source open","waiting for the group"],"draining":false,"unsaved":false}"#
            )
        );
        telemetry.emit(LifecycleEvent::Restored);
        telemetry.emit(LifecycleEvent::SourceOpened);
        assert_eq!(get_path(&server, "/readyz").0, 503);
        telemetry.emit(LifecycleEvent::Assigned);
        assert_eq!(get_path(&server, "/readyz").0, 200);
        telemetry.emit(LifecycleEvent::Draining);
        assert_eq!(get_path(&server, "/readyz").0, 503);
        assert_eq!(get_path(&server, "/livez").0, 200);
        if let Some(long_ago) = Instant::now().checked_sub(MAX_SILENCE * 2) {
            let silent = Telemetry::new(long_ago);
            silent.health().tick(long_ago);
            let (code, _, body) = get_path(&serve_locally(&silent), "/livez");
            assert!(code == 503 && body.contains(r#""alive":false"#), "{code} {body}");
        }
    }

    #[test]
    fn serve_names_an_address_in_use_or_invalid() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let listen = taken.local_addr().expect("bound").to_string();
        let error = serve(&listening_on(&listen), telemetry(), CheckpointRequests::default(), None)
            .expect_err("it is taken")
            .to_string();
        assert!(error.contains(&listen) && error.contains("already in use"), "{error}");
        let error = serve(&listening_on("no address"), telemetry(), CheckpointRequests::default(), None)
            .expect_err("it is none")
            .to_string();
        assert!(error.starts_with("cannot serve on no address: "), "{error}");
    }

    #[test]
    fn server_ends_although_a_client_never_finishes() {
        let server = serve_locally(&telemetry());
        let address = server.address();
        let mut slow = TcpStream::connect(address).expect("it listens");
        slow.write_all(b"GET /status HT").expect("it takes bytes");
        assert_eq!(get_path(&server, "/livez").0, 200);
        let began = Instant::now();
        drop(server);
        assert!(began.elapsed() < connections::PATIENCE * 10);
        assert!(TcpStream::connect(address).is_err(), "the port is free again");
    }

    #[test]
    fn half_open_requests_keep_nobody_out_and_are_closed_when_they_are_too_many() {
        let server = serve_locally(&telemetry());
        let open = || {
            let mut stream = TcpStream::connect(server.address()).expect("it listens");
            stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout can be set");
            // Where it was closed meanwhile, the bytes are lost.
            let _ = stream.write_all(b"GET /status HTTP/1.1\r\nX: ");
            stream
        };
        let mut idle: Vec<TcpStream> = (0..3 * HttpConfig::default().connections).map(|_| open()).collect();
        assert_eq!(get_path(&server, "/livez").0, 200);
        // The oldest went first, long before its head was late, and without an answer.
        let mut rest = Vec::new();
        let ended = idle[0].read_to_end(&mut rest);
        let still_open = |error: std::io::Error| error.kind() == std::io::ErrorKind::WouldBlock;
        assert!(!ended.is_err_and(still_open) && rest.is_empty(), "{rest:?}");
        assert_eq!(get_path(&server, "/metrics").0, 200);
        let began = Instant::now();
        server.shutdown();
        assert!(began.elapsed() < connections::PATIENCE * 10);
    }

    /// Asks over a connection that stays open, and gives the head of the answer.
    fn ask_over(kept: &mut TcpStream) -> std::io::Result<String> {
        kept.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
        let mut bytes = [0; 4096];
        let n = kept.read(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes[..n]).into_owned())
    }

    #[test]
    fn connections_over_which_somebody_asks_outlive_those_that_nobody_uses() {
        let server = serve_locally(&telemetry());
        let most = HttpConfig::default().connections;
        let open = || {
            let stream = TcpStream::connect(server.address()).expect("it listens");
            stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout can be set");
            stream
        };
        let mut kept: Vec<TcpStream> = (0..most / 2).map(|_| open()).collect();
        for round in 0..4 {
            for (number, kept) in kept.iter_mut().enumerate() {
                let head = ask_over(kept).unwrap_or_else(|error| panic!("{number} in round {round}: {error}"));
                assert!(head.starts_with("HTTP/1.1 200 "), "{number} in round {round}: {head}");
            }
            let silent: Vec<TcpStream> = (0..2 * most).map(|_| open()).collect();
            // Answered only after all of the silent ones were let in.
            assert_eq!(get_path(&server, "/livez").0, 200);
            drop(silent);
        }
        // Of so many that ask, those that asked longest ago leave.
        let later: Vec<TcpStream> = (0..2 * most)
            .map(|number| {
                let mut later = open();
                let head = ask_over(&mut later).unwrap_or_else(|error| panic!("{number}: {error}"));
                assert!(head.starts_with("HTTP/1.1 200 "), "{number}: {head}");
                later
            })
            .collect();
        assert!(ask_over(&mut kept[0]).map_or(true, |head| head.is_empty()), "its place was given away");
        drop(later);
    }

    #[test]
    fn names_that_somebody_else_may_own_are_refused() {
        let server = serve_locally(&telemetry());
        for path in ["/", "/metrics", "/status", "/page/events", "/page/series", "/readyz", "/livez", "/elsewhere"] {
            let (code, _, body) = get_path_of(&server, "attacker.example:9464", path);
            assert!(code == 421 && body.contains("http.allowed_hosts"), "{path}: {code} {body}");
        }
        assert_eq!(get_path_of(&server, "localhost:1", "/status").0, 200);
        let config = HttpConfig { allowed_hosts: vec!["worker.example".to_owned()], ..listening_on("127.0.0.1:0") };
        let server = serve(&config, telemetry(), CheckpointRequests::default(), None).expect("a free port");
        assert_eq!(get_path_of(&server, "worker.example:9464", "/livez").0, 200);
    }

    #[test]
    fn linger_ends_once_a_scrape_has_shown_the_failure() {
        let telemetry = telemetry();
        let server = serve_locally(&telemetry);
        assert!(!get_path(&server, "/metrics").2.contains("negstream_failure{"));
        telemetry.emit(LifecycleEvent::Failed(Exit::Diverged));
        server.linger(Duration::ZERO, || false);
        server.linger(Duration::MAX, || true);
        let forever = Duration::from_secs(3_600);
        std::thread::scope(|scope| {
            let lingering = scope.spawn(|| server.linger(forever, || false));
            let (_, _, body) = get_path(&server, "/metrics");
            assert!(body.contains("negstream_phase{phase=\"failed\"} 1"), "{body}");
            assert!(body.contains("negstream_failure{reason=\"diverged\"} 1"), "{body}");
            lingering.join().expect("it ends");
        });
    }
}
