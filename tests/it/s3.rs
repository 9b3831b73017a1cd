//! An object store that speaks as much of S3 as checkpoints and logs need, in memory, and misbehaves as it is told to.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use tokio::sync::{Notify, oneshot};

/// How the server misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum S3Fault {
    /// 503, and nothing happened.
    Unavailable,
    /// 500, and nothing happened.
    Broken,
    /// 409, and nothing happened.
    Conflict,
    /// 403, and nothing happened.
    Denied,
    /// It takes effect, and there is never an answer.
    Silence,
    /// There is no answer until `release`, then 503; nothing happened.
    Stall,
}

/// Which requests a fault befalls.
#[derive(Debug, Clone)]
struct FaultRule {
    method: Method,
    /// A part of the key.
    part: &'static str,
    /// Requests that are answered before the fault begins.
    skip: usize,
    times: usize,
    fault: S3Fault,
}

#[derive(Debug, Default)]
struct BucketContent {
    objects: BTreeMap<String, (Bytes, u64)>,
    uploads: BTreeMap<String, BTreeMap<u32, Bytes>>,
    /// The newest number of a version or upload.
    counter: u64,
    rules: Vec<FaultRule>,
    release: Arc<Notify>,
    /// Method, key and status of each request; status 0 stands for no answer.
    requests: Vec<(Method, String, u16)>,
}

type SharedBucket = Arc<Mutex<BucketContent>>;

/// A server with one bucket. It ends when this is dropped.
#[derive(Debug)]
pub struct S3 {
    address: SocketAddr,
    content: SharedBucket,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// The bucket's name.
pub const BUCKET: &str = "models";

impl S3 {
    pub fn start() -> Self {
        let content = SharedBucket::default();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket");
        let address = listener.local_addr().expect("an address");
        let app = Router::new().fallback(answer).with_state(content.clone());
        let (stop, stopped) = oneshot::channel::<()>();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let serve = async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
            let server = tokio::spawn(axum::serve(listener, app).into_future());
            let _ = stopped.await;
            server.abort();
        };
        let thread = std::thread::spawn(move || runtime.block_on(serve));
        Self { address, content, stop: Some(stop), thread: Some(thread) }
    }

    /// Host and port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    fn content(&self) -> MutexGuard<'_, BucketContent> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells a program the server's address and credentials.
    pub fn known_to<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("AWS_") {
                command.env_remove(name);
            }
        }
        command
            .env("AWS_ENDPOINT_URL", format!("http://{}", self.address))
            .env("AWS_ALLOW_HTTP", "true")
            .env("AWS_REGION", "eu-test-1")
            .env("AWS_ACCESS_KEY_ID", "tester")
            .env("AWS_SECRET_ACCESS_KEY", "tester-secret")
    }

    /// The next `times` requests with this method and a key that has `part` in it end in `fault`.
    pub fn fail(&self, method: Method, part: &'static str, times: usize, fault: S3Fault) {
        self.fail_after(0, method, part, times, fault);
    }

    /// Does as [`Self::fail`], once `skip` of these requests were answered.
    pub fn fail_after(&self, skip: usize, method: Method, part: &'static str, times: usize, fault: S3Fault) {
        self.content().rules.push(FaultRule { method, part, skip, times, fault });
    }

    /// Answers the stalled requests.
    pub fn release(&self) {
        let release = self.content().release.clone();
        release.notify_waiters();
    }

    /// Waits until `times` requests like these are waiting for an answer that does not come.
    pub fn wait_for_silence(&self, method: &Method, part: &str, times: usize) {
        let deadline = Instant::now() + Duration::from_secs(120);
        while self.count(method, part, 0) < times {
            assert!(Instant::now() < deadline, "nobody asked for {part}");
            std::thread::yield_now();
        }
    }

    /// Keys of the bucket, in order.
    pub fn keys(&self) -> Vec<String> {
        self.content().objects.keys().cloned().collect()
    }

    /// An object.
    pub fn object(&self, key: &str) -> Option<Vec<u8>> {
        self.content().objects.get(key).map(|(bytes, _)| bytes.to_vec())
    }

    /// Replaces an object behind everybody's back.
    pub fn replace(&self, key: &str, bytes: Vec<u8>) {
        let mut content = self.content();
        content.counter += 1;
        let version = content.counter;
        content.objects.insert(key.to_owned(), (bytes.into(), version));
    }

    /// Removes an object behind everybody's back.
    pub fn remove(&self, key: &str) {
        self.content().objects.remove(key);
    }

    /// How many requests with this method, a key that has `part` in it, and this answer there were.
    pub fn count(&self, method: &Method, part: &str, status: u16) -> usize {
        let content = self.content();
        content.requests.iter().filter(|(m, key, s)| m == method && key.contains(part) && *s == status).count()
    }

    /// Numbers of the checkpoints below `prefix`.
    pub fn checkpoints(&self, prefix: &str) -> Vec<u64> {
        let number = |key: &String| {
            let rest = key.strip_prefix(prefix)?.strip_prefix('/')?.strip_suffix("/manifest.json")?;
            rest.parse().ok()
        };
        self.keys().iter().filter_map(number).collect()
    }

    /// The manifest of a checkpoint.
    pub fn manifest(&self, prefix: &str, number: u64) -> serde_json::Value {
        let key = format!("{prefix}/{number:010}/manifest.json");
        serde_json::from_slice(&self.object(&key).unwrap_or_else(|| panic!("no {key}"))).expect("a manifest is JSON")
    }

    /// The key of a file of the newest checkpoint.
    pub fn key_of(&self, prefix: &str, name: &str) -> String {
        let newest = *self.checkpoints(prefix).last().expect("there is a checkpoint");
        let manifest = self.manifest(prefix, newest);
        let files = manifest["files"].as_array().expect("a list of files");
        let file = files.iter().find(|file| file["name"] == name).expect("it has such a file");
        format!("{prefix}/{}", file["key"].as_str().expect("it has a key"))
    }

    /// A file of the newest checkpoint.
    pub fn newest(&self, prefix: &str, name: &str) -> Vec<u8> {
        self.object(&self.key_of(prefix, name)).expect("the file is there")
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn answer(State(shared): State<SharedBucket>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap_or_default();
    let path = head.uri.path().trim_start_matches('/');
    // Of another bucket there is nothing.
    let within = path.strip_prefix(BUCKET).filter(|rest| rest.is_empty() || rest.starts_with('/'));
    let key = decoded(within.unwrap_or_default().trim_start_matches('/'));
    let query: BTreeMap<String, String> = head.uri.query().map(parse).unwrap_or_default();
    let lock = || shared.lock().unwrap_or_else(PoisonError::into_inner);

    let fault = {
        let mut content = lock();
        let fits = |rule: &&mut FaultRule| rule.times > 0 && rule.method == head.method && key.contains(rule.part);
        content.rules.iter_mut().find(fits).and_then(|rule| {
            if rule.skip > 0 {
                rule.skip -= 1;
                return None;
            }
            rule.times -= 1;
            Some(rule.fault)
        })
    };
    let said = |status: u16| lock().requests.push((head.method.clone(), key.clone(), status));
    let refusal = match fault {
        None => None,
        Some(S3Fault::Unavailable) => Some(StatusCode::SERVICE_UNAVAILABLE),
        Some(S3Fault::Broken) => Some(StatusCode::INTERNAL_SERVER_ERROR),
        Some(S3Fault::Conflict) => Some(StatusCode::CONFLICT),
        Some(S3Fault::Denied) => Some(StatusCode::FORBIDDEN),
        Some(S3Fault::Silence) => {
            lock().take(&head.method, &key, &query, &head.headers, body);
            said(0);
            return std::future::pending().await;
        }
        Some(S3Fault::Stall) => {
            let release = lock().release.clone();
            let mut released = std::pin::pin!(release.notified());
            released.as_mut().enable();
            said(0);
            released.await;
            Some(StatusCode::SERVICE_UNAVAILABLE)
        }
    };
    let response = match refusal {
        Some(status) => (status, format!("<Error><Code>{status}</Code></Error>")).into_response(),
        None if within.is_none() => (StatusCode::NOT_FOUND, "<Error><Code>NoSuchBucket</Code></Error>").into_response(),
        None => lock().take(&head.method, &key, &query, &head.headers, body),
    };
    said(response.status().as_u16());
    response
}

fn parse(query: &str) -> BTreeMap<String, String> {
    let parts = query.split('&').map(|part| part.split_once('=').unwrap_or((part, "")));
    parts.map(|(key, value)| (key.into(), decoded(&value.replace('+', " ")))).collect()
}

/// A text without its `%2F` and the like.
fn decoded(text: &str) -> String {
    let mut pieces = text.split('%');
    let mut bytes = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        bytes.push(u8::from_str_radix(&piece[..2], 16).expect("two digits"));
        bytes.extend(&piece.as_bytes()[2..]);
    }
    String::from_utf8(bytes).expect("UTF-8")
}

/// The range that a request asks for.
fn range(headers: &HeaderMap) -> Option<(usize, usize)> {
    let (begin, end) = headers.get(header::RANGE)?.to_str().ok()?.strip_prefix("bytes=")?.split_once('-')?;
    Some((begin.parse().ok()?, end.parse().ok()?))
}

impl BucketContent {
    fn take(
        &mut self,
        method: &Method,
        key: &str,
        query: &BTreeMap<String, String>,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Response {
        let upload = query.get("uploadId").cloned();
        match (method.as_str(), upload) {
            ("GET", _) if key.is_empty() => self.list(query),
            ("GET" | "HEAD", _) => self.get(key, headers),
            ("PUT", Some(upload)) => {
                let Some(parts) = self.uploads.get_mut(&upload) else { return StatusCode::NOT_FOUND.into_response() };
                let part = query["partNumber"].parse().expect("a number");
                parts.insert(part, body);
                ([(header::ETAG, format!("\"part-{part}\""))], "").into_response()
            }
            ("PUT", None) => self.put(key, headers, body),
            ("POST", Some(upload)) => {
                let Some(parts) = self.uploads.remove(&upload) else { return StatusCode::NOT_FOUND.into_response() };
                let whole: Vec<u8> = parts.into_values().flat_map(|part| part.to_vec()).collect();
                let version = self.store(key, whole.into());
                let text = format!(
                    "<CompleteMultipartUploadResult><ETag>\"{version}\"</ETag></CompleteMultipartUploadResult>"
                );
                text.into_response()
            }
            ("POST", None) if query.contains_key("uploads") => {
                self.counter += 1;
                let upload = format!("upload-{}", self.counter);
                self.uploads.insert(upload.clone(), BTreeMap::new());
                let text = format!(
                    "<InitiateMultipartUploadResult><UploadId>{upload}</UploadId></InitiateMultipartUploadResult>"
                );
                text.into_response()
            }
            ("DELETE", Some(upload)) => {
                self.uploads.remove(&upload);
                StatusCode::NO_CONTENT.into_response()
            }
            ("DELETE", None) => {
                self.objects.remove(key);
                StatusCode::NO_CONTENT.into_response()
            }
            _ => StatusCode::NOT_IMPLEMENTED.into_response(),
        }
    }

    fn get(&self, key: &str, headers: &HeaderMap) -> Response {
        let Some((bytes, version)) = self.objects.get(key) else { return StatusCode::NOT_FOUND.into_response() };
        let version = format!("\"{version}\"");
        if headers.get(header::IF_MATCH).is_some_and(|asked| asked.as_bytes() != version.as_bytes()) {
            return StatusCode::PRECONDITION_FAILED.into_response();
        }
        let described = [(header::ETAG, version), (header::LAST_MODIFIED, "Tue, 24 Nov 2026 12:00:00 GMT".to_owned())];
        let Some((begin, end)) = range(headers) else { return (described, Body::from(bytes.clone())).into_response() };
        let end = (end + 1).min(bytes.len());
        let said = [(header::CONTENT_RANGE, format!("bytes {begin}-{}/{}", end - 1, bytes.len()))];
        (StatusCode::PARTIAL_CONTENT, described, said, Body::from(bytes.slice(begin..end))).into_response()
    }

    fn store(&mut self, key: &str, bytes: Bytes) -> u64 {
        self.counter += 1;
        self.objects.insert(key.to_owned(), (bytes, self.counter));
        self.counter
    }

    fn put(&mut self, key: &str, headers: &HeaderMap, body: Bytes) -> Response {
        let stands = self.objects.get(key).map(|(_, version)| format!("\"{version}\""));
        let condition = |name: header::HeaderName| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        let met = match (condition(header::IF_NONE_MATCH), condition(header::IF_MATCH)) {
            (Some(_), _) => stands.is_none(),
            (None, Some(version)) => stands.as_ref() == Some(&version),
            (None, None) => true,
        };
        if !met {
            return StatusCode::PRECONDITION_FAILED.into_response();
        }
        let version = self.store(key, body);
        ([(header::ETAG, format!("\"{version}\""))], "").into_response()
    }

    /// Lists two keys at a time, so that a client has to ask for the next page.
    fn list(&self, query: &BTreeMap<String, String>) -> Response {
        let prefix = query.get("prefix").map_or("", String::as_str);
        let after = query.get("continuation-token").map_or("", String::as_str);
        let mut found = self.objects.iter().filter(|(key, _)| key.starts_with(prefix) && key.as_str() > after);
        let page: Vec<_> = found.by_ref().take(2).collect();
        let mut text = String::from("<ListBucketResult>");
        for (key, (bytes, version)) in &page {
            text += &format!(
                "<Contents><Key>{}</Key><LastModified>2026-11-24T12:00:00.000Z</LastModified>\
                 <ETag>\"{version}\"</ETag><Size>{}</Size></Contents>",
                key.replace('&', "&amp;"),
                bytes.len()
            );
        }
        let more = found.next().is_some();
        if let (true, Some((last, _))) = (more, page.last()) {
            text += &format!("<NextContinuationToken>{last}</NextContinuationToken>");
        }
        text += &format!("<IsTruncated>{more}</IsTruncated></ListBucketResult>");
        text.into_response()
    }
}
