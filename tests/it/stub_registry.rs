//! A schema registry for tests, in this process: it knows what it is told, and can be in any mood.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

/// How it answers.
#[derive(Debug, Clone, PartialEq)]
pub enum Mood {
    /// As it should.
    Well,
    /// It hangs up on everybody.
    Down,
    /// It takes questions and says nothing.
    Silent,
    /// Always the same.
    Says(u16, &'static str),
}

/// See the module. It stops answering when the last test that holds it is done.
pub struct StubRegistry {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

struct State {
    mood: Mood,
    ids: BTreeMap<u32, Value>,
    versions: BTreeMap<String, Value>,
    requests: Vec<String>,
    /// Questions that are never answered; kept open.
    held: Vec<TcpStream>,
}

impl StubRegistry {
    /// Starts one that knows nothing.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = State {
            mood: Mood::Well,
            ids: BTreeMap::new(),
            versions: BTreeMap::new(),
            requests: Vec::new(),
            held: Vec::new(),
        };
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::downgrade(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Some(state) = shared.upgrade() else { break };
                // One at a time: there is one client. What it does wrong is its own test's failure.
                let _ = stream.and_then(|stream| serve(stream, &state));
            }
        });
        Self { address, state }
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on.
    pub fn mood(&self, mood: Mood) {
        let mut state = lock(&self.state);
        state.mood = mood;
        state.held.clear();
    }

    /// It knows this schema, of this type (empty: none is told), which refers to these subjects.
    pub fn add(&self, id: u32, kind: &str, schema: &str, references: &[&str]) {
        lock(&self.state).ids.insert(id, described(kind, schema, references));
    }

    /// It knows this schema as version 1 of this subject.
    pub fn add_version(&self, subject: &str, kind: &str, schema: &str, references: &[&str]) {
        lock(&self.state).versions.insert(subject.to_owned(), described(kind, schema, references));
    }

    /// What it was asked so far: method, path, and what stands for a password.
    pub fn requests(&self) -> Vec<String> {
        lock(&self.state).requests.clone()
    }
}

fn described(kind: &str, schema: &str, references: &[&str]) -> Value {
    let references: Vec<Value> =
        references.iter().map(|subject| json!({ "name": subject, "subject": subject, "version": 1 })).collect();
    let mut described = json!({ "schema": schema });
    if !kind.is_empty() {
        described["schemaType"] = Value::from(kind);
    }
    if !references.is_empty() {
        described["references"] = Value::from(references);
    }
    described
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(mut stream: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let (mut first, mut length, mut secret) = (String::new(), 0, String::new());
    reader.read_line(&mut first)?;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim().split_once(':') else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().unwrap_or(0),
            "authorization" => secret = value.trim().to_owned(),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let mut words = first.split_whitespace();
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut state = lock(state);
    state.requests.push(format!("{method} {path} {secret}").trim().to_owned());
    let (status, answer) = match state.mood {
        Mood::Down => return Ok(()),
        Mood::Silent => {
            state.held.push(stream);
            return Ok(());
        }
        Mood::Says(status, body) => (status, body.to_owned()),
        Mood::Well => answer(&mut state, method, path, &body),
    };
    write!(
        stream,
        "HTTP/1.1 {status} x\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{answer}",
        answer.len()
    )
}

fn answer(state: &mut State, method: &str, path: &str, body: &[u8]) -> (u16, String) {
    let missing = |code: u32| (404, json!({ "error_code": code, "message": "not found" }).to_string());
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    match (method, parts.as_slice()) {
        ("GET", ["schemas", "ids", id]) => {
            let found = id.parse().ok().and_then(|id: u32| state.ids.get(&id));
            found.map_or_else(|| missing(40_403), |found| (200, found.to_string()))
        }
        ("GET", ["subjects", subject, "versions", "1"]) => {
            let found = state.versions.get(*subject);
            found.map_or_else(|| missing(40_401), |found| (200, found.to_string()))
        }
        ("POST", ["subjects", _, "versions"]) => {
            let offered: Value = serde_json::from_slice(body).expect("a schema is offered as JSON");
            let known = state.ids.iter().find(|(_, known)| known["schema"] == offered["schema"]).map(|(id, _)| *id);
            let id = known.unwrap_or_else(|| state.ids.keys().max().map_or(1, |id| id + 1));
            state.ids.insert(id, offered);
            (200, json!({ "id": id }).to_string())
        }
        _ => (404, "no such page".to_owned()),
    }
}
