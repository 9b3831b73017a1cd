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
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Json, Response};
use axum::routing::get;
use tokio::sync::oneshot;

use super::health::Health;
use super::metrics::Exposition;
use super::status::SharedStatus;

const PAGE: &str = include_str!("page.html");
/// The page brings its own style and script and talks to nobody but this address.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; \
                      img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// How long requests that are under way may take once the server is told to stop.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is served.
#[derive(Debug, Clone)]
pub struct Handles {
    /// Figures.
    pub status: SharedStatus,
    /// Liveness and readiness.
    pub health: Health,
    /// Metrics.
    pub metrics: Exposition,
}

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// Somebody else has the address.
    #[error("cannot serve on {listen}: the address is already in use; set http.listen to another")]
    InUse {
        /// As configured.
        listen: String,
    },
    /// The address is not one, or may not be used.
    #[error("cannot serve on {listen}: {source}")]
    Bind {
        /// As configured.
        listen: String,
        /// Why.
        source: std::io::Error,
    },
}

/// A running server. Dropping it stops it.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Where it listens; tells the port where the configuration left it open (`:0`).
    pub fn address(&self) -> SocketAddr {
        self.address
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

/// Serves `handles` on `listen` (`address:port`).
///
/// # Errors
/// Where the address cannot be had; the error names it.
pub fn serve(listen: &str, handles: Handles) -> Result<Server, HttpError> {
    let bind_error = |source: std::io::Error| match source.kind() {
        std::io::ErrorKind::AddrInUse => HttpError::InUse { listen: listen.to_owned() },
        _ => HttpError::Bind { listen: listen.to_owned(), source },
    };
    let listener = TcpListener::bind(listen).map_err(bind_error)?;
    listener.set_nonblocking(true).map_err(bind_error)?;
    let address = listener.local_addr().map_err(bind_error)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(bind_error)?;
    let (stop, stopped) = oneshot::channel();
    let thread = std::thread::Builder::new().name("http".to_owned());
    let thread = thread.spawn(move || runtime.block_on(run(listener, handles, stopped))).map_err(bind_error)?;
    Ok(Server { address, stop: Some(stop), thread: Some(thread) })
}

async fn run(listener: TcpListener, handles: Handles, stopped: oneshot::Receiver<()>) {
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
    let serving = tokio::spawn(axum::serve(listener, router(handles)).with_graceful_shutdown(graceful).into_future());
    // A server whose handle is gone without a word stops too.
    let _ = stopped.await;
    let _ = last_call.send(());
    // A client that never ends its request must not keep the worker from ending.
    let _ = tokio::time::timeout(PATIENCE, serving).await;
}

fn router(handles: Handles) -> Router {
    Router::new()
        .route("/", get(|| async { Html(PAGE) }))
        .route("/metrics", get(metrics))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/status", get(status))
        .layer(axum::middleware::from_fn(guard))
        .with_state(handles)
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

async fn metrics(State(handles): State<Handles>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], handles.metrics.render())
}

async fn livez(State(handles): State<Handles>) -> impl IntoResponse {
    let liveness = handles.health.liveness(Instant::now());
    (code(liveness.alive), Json(liveness))
}

async fn readyz(State(handles): State<Handles>) -> impl IntoResponse {
    let readiness = handles.health.readiness(Instant::now());
    (code(readiness.ready), Json(readiness))
}

async fn status(State(handles): State<Handles>) -> impl IntoResponse {
    Json(handles.status.snapshot())
}

fn code(good: bool) -> StatusCode {
    if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::super::health::{Latch, SILENCE};
    use super::super::metrics;
    use super::super::status::{Phase, Status};
    use super::*;

    fn handles() -> Handles {
        Handles { status: SharedStatus::new(), health: Health::new(Instant::now()), metrics: metrics::install() }
    }

    fn ask(server: &Server, path: &str) -> (u16, String, String) {
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
    fn every_path_answers() {
        let handles = handles();
        handles.status.publish(Status { phase: Phase::Training, items: 17, ..Status::default() });
        let server = serve("127.0.0.1:0", handles.clone()).expect("a free port");
        let (code, head, body) = ask(&server, "/");
        assert!(code == 200 && head.contains("text/html") && body.contains("</html>"));
        assert!(head.contains("content-security-policy: default-src 'none'"), "{head}");
        let (code, head, body) = ask(&server, "/metrics");
        assert!(
            code == 200 && head.contains("text/plain; version=0.0.4") && body.contains("# TYPE negstream_info gauge")
        );
        let (code, _, body) = ask(&server, "/status");
        let status: serde_json::Value = serde_json::from_str(&body).expect("json");
        assert!(code == 200 && status["items"] == 17 && status["phase"] == "training");
        assert_eq!(ask(&server, "/elsewhere").0, 404);
        server.shutdown();
    }

    #[test]
    fn health_is_told_by_the_code() {
        let handles = handles();
        let server = serve("127.0.0.1:0", handles.clone()).expect("a free port");
        let (code, _, body) = ask(&server, "/readyz");
        assert_eq!(
            (code, body.as_str()),
            (503, r#"{"ready":false,"missing":["restored","source open"],"draining":false,"unsaved":false}"#)
        );
        for latch in Latch::ALL {
            handles.health.release(latch);
        }
        assert_eq!(ask(&server, "/readyz").0, 200);
        handles.health.drain();
        assert_eq!(ask(&server, "/readyz").0, 503);
        assert_eq!(ask(&server, "/livez").0, 200);
        if let Some(long_ago) = Instant::now().checked_sub(SILENCE * 2) {
            let health = Health::new(long_ago);
            health.tick(long_ago);
            let server = serve("127.0.0.1:0", Handles { health, ..handles }).expect("a free port");
            let (code, _, body) = ask(&server, "/livez");
            assert!(code == 503 && body.contains(r#""alive":false"#), "{code} {body}");
        }
    }

    #[test]
    fn an_address_in_use_or_absurd_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let listen = taken.local_addr().expect("bound").to_string();
        let error = serve(&listen, handles()).expect_err("it is taken").to_string();
        assert!(error.contains(&listen) && error.contains("already in use"), "{error}");
        let error = serve("no address", handles()).expect_err("it is none").to_string();
        assert!(error.starts_with("cannot serve on no address: "), "{error}");
    }

    #[test]
    fn a_client_that_never_finishes_does_not_keep_it_from_ending() {
        let server = serve("127.0.0.1:0", handles()).expect("a free port");
        let address = server.address();
        let mut slow = TcpStream::connect(address).expect("it listens");
        slow.write_all(b"GET /status HT").expect("it takes bytes");
        assert_eq!(ask(&server, "/livez").0, 200);
        let began = Instant::now();
        drop(server);
        assert!(began.elapsed() < PATIENCE * 5);
        assert!(TcpStream::connect(address).is_err(), "the port is free again");
    }
}
