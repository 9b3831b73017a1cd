//! A web server with a few files, in memory, that answers ranges or not, and misbehaves as it is told to.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// How the server misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WebFault {
    /// An answer of this status, without the file.
    Status(u16),
    /// Half of what was announced, then the end of the connection.
    Cut,
}

/// A request, as far as tests look at it.
#[derive(Debug, Clone)]
pub struct WebRequest {
    /// Path and query.
    pub target: String,
    /// Value of the header `Authorization`.
    pub authorization: Option<String>,
    /// Number of bytes that the answer held.
    pub sent: usize,
}

#[derive(Debug, Default)]
struct Site {
    /// Bytes and entity tag of each file, by its path.
    files: BTreeMap<String, (Vec<u8>, u64)>,
    /// Where requests for a path are sent on to.
    redirects: BTreeMap<String, String>,
    /// Whether ranges are answered.
    ranges: bool,
    /// What takes a file's place, once so many more requests were answered.
    replacement: Option<(usize, String, Vec<u8>)>,
    /// The next requests end so: how many are answered before, how many are struck.
    faults: Vec<(usize, usize, WebFault)>,
    requests: Vec<WebRequest>,
    is_over: bool,
}

/// A server. It ends when this is dropped.
#[derive(Debug)]
pub struct WebServer {
    pub address: SocketAddr,
    site: Arc<Mutex<Site>>,
    thread: Option<JoinHandle<()>>,
}

impl WebServer {
    pub fn start(ranges: bool) -> Self {
        let site = Arc::new(Mutex::new(Site { ranges, ..Site::default() }));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::clone(&site);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if lock(&shared).is_over {
                    break;
                }
                let (stream, shared) = (stream.expect("a connection"), Arc::clone(&shared));
                // Who goes away in the middle is no fault of the server's.
                std::thread::spawn(move || drop(answer(&stream, &shared)));
            }
        });
        Self { address, site, thread: Some(thread) }
    }

    /// The address of a file.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Puts a file.
    pub fn put(&self, path: &str, bytes: Vec<u8>) {
        lock(&self.site).put(path, bytes);
    }

    /// Puts a file once `skip` more requests were answered.
    pub fn replace_after(&self, skip: usize, path: &str, bytes: Vec<u8>) {
        lock(&self.site).replacement = Some((skip, path.to_owned(), bytes));
    }

    /// Sends requests for `path` on.
    pub fn redirect(&self, path: &str, to: String) {
        lock(&self.site).redirects.insert(path.to_owned(), to);
    }

    /// Once `skip` more requests were answered, the next `times` end in `fault`.
    pub fn fail_after(&self, skip: usize, times: usize, fault: WebFault) {
        lock(&self.site).faults.push((skip, times, fault));
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<WebRequest> {
        lock(&self.site).requests.clone()
    }
}

impl Drop for WebServer {
    fn drop(&mut self) {
        lock(&self.site).is_over = true;
        // Wakes the thread up.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lock(site: &Mutex<Site>) -> MutexGuard<'_, Site> {
    site.lock().unwrap_or_else(PoisonError::into_inner)
}

fn answer(mut stream: &TcpStream, site: &Mutex<Site>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    let target = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut headers = BTreeMap::new();
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    if target.is_empty() {
        return Ok(());
    }
    let (head, body, cut) = lock(site).answer(&target, &headers);
    stream
        .write_all(format!("HTTP/1.1 {head}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len()).as_bytes())?;
    stream.write_all(if cut { &body[..body.len() / 2] } else { &body })
}

impl Site {
    fn put(&mut self, path: &str, bytes: Vec<u8>) {
        let version = self.files.get(path).map_or(1, |(_, version)| version + 1);
        self.files.insert(path.to_owned(), (bytes, version));
    }

    /// Status line and headers of the answer, its body, and whether that is cut short.
    fn answer(&mut self, target: &str, headers: &BTreeMap<String, String>) -> (String, Vec<u8>, bool) {
        let fault = self.faults.iter_mut().find(|(_, times, _)| *times > 0).and_then(|(skip, times, fault)| {
            if *skip > 0 {
                *skip -= 1;
                return None;
            }
            *times -= 1;
            Some(*fault)
        });
        match self.replacement.take() {
            Some((0, path, bytes)) => self.put(&path, bytes),
            Some((skip, path, bytes)) => self.replacement = Some((skip - 1, path, bytes)),
            None => {}
        }
        let path = target.split('?').next().unwrap_or_default();
        let (head, body) = match (fault, self.redirects.get(path), self.files.get(path)) {
            (Some(WebFault::Status(status)), ..) => (format!("{status} Of Trouble\r\n"), Vec::new()),
            (_, Some(onward), _) => (format!("302 Found\r\nLocation: {onward}\r\n"), Vec::new()),
            (_, None, None) => ("404 Not Found\r\n".to_owned(), Vec::new()),
            (_, None, Some((bytes, version))) => {
                let tag = format!("ETag: \"{version}\"\r\n");
                let range = headers.get("range").and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
                match range.filter(|_| self.ranges) {
                    Some(_) if bytes.is_empty() => {
                        ("416 Range Not Satisfiable\r\nContent-Range: bytes */0\r\n".to_owned(), Vec::new())
                    }
                    Some((begin, end)) => {
                        let begin: usize = begin.parse().expect("a number");
                        let end = (end.parse::<usize>().expect("a number") + 1).min(bytes.len());
                        let said = format!("Content-Range: bytes {begin}-{}/{}\r\n", end - 1, bytes.len());
                        (format!("206 Partial Content\r\n{tag}{said}"), bytes[begin..end].to_vec())
                    }
                    None => (format!("200 OK\r\n{tag}"), bytes.clone()),
                }
            }
        };
        let authorization = headers.get("authorization").cloned();
        self.requests.push(WebRequest { target: target.to_owned(), authorization, sent: body.len() });
        (head, body, fault == Some(WebFault::Cut))
    }
}
