//! The address that serves the page, metrics, health and status, on a thread of its own.
//!
//! | path | answer |
//! | --- | --- |
//! | `/` | the page for people |
//! | `/metrics` | Prometheus' text format |
//! | `/livez` | 200 while the training loop turns, 503 otherwise, with JSON that says since when |
//! | `/readyz` | 200 once everything is in place, 503 otherwise, with JSON that says what is missing |
//! | `/status` | everything that the page shows, as JSON |
//!
//! [`serve`] has bound the address when it returns, so whoever gets a [`Server`] can be reached. It only reads: nothing
//! that arrives here reaches the trainer. It deliberately knows no TLS and no passwords; the default address is local,
//! and what is in front of it decides who may look.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Json, Response};
use axum::routing::get;
use tokio::sync::oneshot;

use super::phase::Stage;
use super::{Telemetry, metrics};

const PAGE: &str = include_str!("page.html");
/// The page brings its own style and script and talks to nobody but this address.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; \
                      img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// How often a lingering server looks whether it may stop.
const LINGER_CHECK: Duration = Duration::from_millis(20);
/// The longest time that requests under way may take once the server is told to stop.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the answers are made from.
#[derive(Debug, Clone)]
struct Handlers {
    telemetry: Telemetry,
    /// Whether a scrape has shown that the worker has failed.
    failure_was_scraped: Arc<AtomicBool>,
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

    /// Stops, after the answers that are under way, or some seconds at most.
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

/// Serves the page, metrics, health and status of `telemetry` on `listen` (`address:port`).
///
/// # Errors
/// Where the address cannot be bound; the error names it.
pub fn serve(listen: &str, telemetry: Telemetry) -> Result<Server, HttpError> {
    let bind_error = |source: std::io::Error| match source.kind() {
        std::io::ErrorKind::AddrInUse => HttpError::InUse { listen: listen.to_owned() },
        _ => HttpError::Bind { listen: listen.to_owned(), source },
    };
    let listener = TcpListener::bind(listen).map_err(bind_error)?;
    listener.set_nonblocking(true).map_err(bind_error)?;
    let address = listener.local_addr().map_err(bind_error)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(bind_error)?;
    let (stop, stopped) = oneshot::channel();
    let failure_was_scraped = Arc::new(AtomicBool::new(false));
    let handlers = Handlers { telemetry, failure_was_scraped: Arc::clone(&failure_was_scraped) };
    let thread = std::thread::Builder::new().name("http".to_owned());
    let thread = thread.spawn(move || runtime.block_on(run(listener, handlers, stopped))).map_err(bind_error)?;
    Ok(Server { address, failure_was_scraped, stop: Some(stop), thread: Some(thread) })
}

async fn run(listener: TcpListener, handlers: Handlers, stopped: oneshot::Receiver<()>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "the http listener cannot be used");
            return;
        }
    };
    let (last_call, called) = oneshot::channel::<()>();
    let graceful = async move {
        let _ = called.await;
    };
    let serving = tokio::spawn(axum::serve(listener, router(handlers)).with_graceful_shutdown(graceful).into_future());
    // A server whose handle is gone without a word stops too.
    let _ = stopped.await;
    let _ = last_call.send(());
    // A client that never ends its request must not keep the worker from ending.
    let _ = tokio::time::timeout(PATIENCE, serving).await;
}

fn router(handlers: Handlers) -> Router {
    Router::new()
        .route("/", get(|| async { Html(PAGE) }))
        .route("/metrics", get(exposition))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/status", get(status))
        .layer(axum::middleware::from_fn(guard))
        .with_state(handlers)
}

/// Headers that keep browsers from doing more with an answer than showing it.
async fn guard(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
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

    fn serve_locally(telemetry: &Telemetry) -> Server {
        serve("127.0.0.1:0", telemetry.clone()).expect("a free port")
    }

    fn get_path(server: &Server, path: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(server.address()).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout can be set");
        write!(stream, "GET {path} HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n").expect("it takes requests");
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
        server.shutdown();
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
        let error = serve(&listen, telemetry()).expect_err("it is taken").to_string();
        assert!(error.contains(&listen) && error.contains("already in use"), "{error}");
        let error = serve("no address", telemetry()).expect_err("it is none").to_string();
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
        assert!(began.elapsed() < PATIENCE * 5);
        assert!(TcpStream::connect(address).is_err(), "the port is free again");
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
