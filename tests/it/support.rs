//! What the tests share: the real binary in a place of its own, small logs, checkpoints, the real data, and what is
//! said where something is missing.
//!
//! Tests that need what not every machine has (`browser`, `kafka`, `python`, `data`) are left out where it is missing, loudly; where
//! the environment variable `NEGSTREAM_REQUIRE` (a list with commas) names it, that is a failure instead.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arrow_array::builder::{ListBuilder, StringBuilder};
use arrow_array::{ArrayRef, RecordBatch, StringArray, TimestampMillisecondArray};
use negstream::event::Interaction;
use negstream::synth::{EventGenerator, SynthConfig};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use serde_json::Value;

/// What is missing: said past the capture of the test harness, so that it is seen; a failure where it is required.
pub fn left_out<T>(need: &str, why: &str) -> Option<T> {
    let required = std::env::var("NEGSTREAM_REQUIRE").unwrap_or_default();
    assert!(!required.split(',').any(|name| name.trim() == need), "{need} is required: {why}");
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    // In one piece, since other tests speak at the same time.
    let line = format!("\n*** LEFT OUT: {test} needs {need}: {why}\n\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
    None
}

/// The events of a real log, where the data folder is there.
pub fn data(log: &str) -> Option<PathBuf> {
    shared(&format!("data/{log}/events.parquet"))
}

/// A file of the folder that holds data and protocol, beside the project (`NEGSTREAM_DATA` names its `data` folder).
pub fn shared(file: &str) -> Option<PathBuf> {
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    let data = std::env::var_os("NEGSTREAM_DATA").map_or_else(beside, PathBuf::from);
    let path = match file.strip_prefix("data/") {
        Some(inner) => data.join(inner),
        None => data.join("..").join(file),
    };
    if path.is_file() { Some(path) } else { left_out("data", &format!("there is no {}", path.display())) }
}

/// A Python that has `modules`, where there is one (`NEGSTREAM_PYTHON` names another than `python3`).
pub fn python(modules: &[&str]) -> Option<Command> {
    let program = std::env::var_os("NEGSTREAM_PYTHON").unwrap_or_else(|| "python3".into());
    let shown = program.to_string_lossy().into_owned();
    match Command::new(&program).args(["-c", &format!("import {}", modules.join(", "))]).output() {
        Ok(output) if output.status.success() => Some(Command::new(program)),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            left_out("python", &format!("{shown}: {}", said.lines().last().unwrap_or("it fails")))
        }
        Err(error) => left_out("python", &format!("{shown}: {error}")),
    }
}

/// Held by tests that keep every core busy for long: two at a time would only wait for each other.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The program, without any configuration from the environment of the tests.
pub fn negstream() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_negstream"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("NEGSTREAM") {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null());
    command
}

/// What a program that ended has said.
pub struct Said {
    /// Exit status; `None` where a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

/// Runs to the end.
pub fn run(command: &mut Command) -> Said {
    let output = command.output().expect("the program starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Said { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
}

impl Said {
    /// It ended with this exit status.
    #[track_caller]
    pub fn ended(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}{}", self.out, self.err);
        self
    }

    /// Standard error holds all of these.
    #[track_caller]
    pub fn names(self, words: &[&str]) -> Self {
        for word in words {
            assert!(self.err.contains(word), "'{word}' is not named: {}", self.err);
        }
        self
    }

    /// Standard output, which is JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }
}

/// A folder for one test: logs, configuration, and the checkpoints of one worker.
pub struct Place(tempfile::TempDir);

impl Place {
    /// An empty one.
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The program at work here: checkpoints go to `checkpoints`, HTTP is off.
    pub fn negstream(&self, arguments: &[&str]) -> Command {
        self.negstream_in("checkpoints", arguments)
    }

    /// The same with another folder of checkpoints.
    pub fn negstream_in(&self, checkpoints: &str, arguments: &[&str]) -> Command {
        let mut command = negstream();
        command.current_dir(self.0.path()).args(arguments).args(["--set", "http.listen="]);
        command.arg("--set").arg(format!("checkpoint.dir={checkpoints}"));
        if arguments.first() == Some(&"run") {
            // What a worker learnt is compared byte for byte with a replay of the log: the log alone cuts its batches, and
            // checkpoints are where they are in every run. Tests of what the clock does set these anew.
            command.args(["--set", "train.linger_ms=0", "--set", "checkpoint.every_seconds=0"]);
        }
        command
    }

    /// Replays `log` with `settings` (`KEY=VALUE`), to the end.
    #[track_caller]
    pub fn replay(&self, log: impl AsRef<Path>, settings: &[&str]) -> Value {
        self.replay_in("checkpoints", &[log.as_ref().to_str().expect("a path in Unicode")], settings)
    }

    /// Replays `logs` into another folder of checkpoints.
    #[track_caller]
    pub fn replay_in(&self, checkpoints: &str, logs: &[&str], settings: &[&str]) -> Value {
        let mut command = self.negstream_in(checkpoints, &["replay", "--json"]);
        command.args(logs);
        set(&mut command, settings);
        run(&mut command).ended(0).json()
    }

    /// Folders of the checkpoints, oldest first.
    pub fn checkpoints(&self, checkpoints: &str) -> Vec<PathBuf> {
        let Ok(folder) = std::fs::read_dir(self.path(checkpoints)) else { return Vec::new() };
        let entries = folder.map(|entry| entry.expect("the folder can be listed").path());
        let is_number = |name: &OsStr| name.to_string_lossy().bytes().all(|byte| byte.is_ascii_digit());
        let mut found: Vec<PathBuf> = entries.filter(|path| path.file_name().is_some_and(is_number)).collect();
        found.sort();
        found
    }

    /// Folder of the newest checkpoint.
    pub fn newest(&self, checkpoints: &str) -> PathBuf {
        self.checkpoints(checkpoints).pop().expect("there is a checkpoint")
    }

    /// Bytes of the newest `items.parquet`.
    pub fn items(&self, checkpoints: &str) -> Vec<u8> {
        read(&self.newest(checkpoints).join("items.parquet"))
    }

    /// The newest manifest.
    pub fn manifest(&self, checkpoints: &str) -> Value {
        serde_json::from_slice(&read(&self.newest(checkpoints).join("manifest.json"))).expect("the manifest is JSON")
    }
}

/// Adds `--set` for each.
pub fn set(command: &mut Command, settings: &[&str]) {
    for setting in settings {
        command.args(["--set", setting]);
    }
}

/// A whole file.
pub fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every file below a folder, but for links: its path from there, and its bytes.
pub fn tree(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(folder).expect("the folder can be listed") {
        let path = entry.expect("the folder can be listed").path();
        let name = PathBuf::from(path.file_name().expect("an entry has a name"));
        if path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            files.extend(tree(&path).into_iter().map(|(inner, bytes)| (name.join(inner), bytes)));
        } else {
            files.insert(name, read(&path));
        }
    }
    files
}

/// Copies a folder of folders.
pub fn copy(from: &Path, to: &Path) {
    for (name, bytes) in tree(from) {
        let path = to.join(name);
        std::fs::create_dir_all(path.parent().expect("a file has a folder")).expect("a writable folder");
        std::fs::write(path, bytes).expect("a writable folder");
    }
}

/// The program in the background, whose standard error is read line by line, or goes to a file.
pub struct Background {
    child: Child,
    lines: Option<BufReader<ChildStderr>>,
    said: String,
}

impl Background {
    /// Starts it.
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
        let lines = Some(BufReader::new(child.stderr.take().expect("it is piped")));
        Self { child, lines, said: String::new() }
    }

    /// Starts it, with a file that takes down what it says.
    pub fn start_logging(command: &mut Command, log: File) -> Self {
        let child = command.stdout(Stdio::piped()).stderr(log).spawn().expect("the program starts");
        Self { child, lines: None, said: String::new() }
    }

    /// Waits until it is stopped, as the system sees it.
    #[track_caller]
    pub fn wait_until_stopped(&self) {
        let deadline = Instant::now() + Duration::from_secs(120);
        while !std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))
            .is_ok_and(|stat| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T')))
        {
            assert!(Instant::now() < deadline, "it never stopped");
            std::thread::yield_now();
        }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it is there.
    pub fn is_running(&self) -> bool {
        Path::new(&format!("/proc/{}/stat", self.child.id())).exists()
    }

    /// Sends it a signal by its name.
    pub fn signal(&self, name: &str) {
        // The shell's own: there is one wherever the tests run, a program of that name is not.
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().expect("a shell").success());
    }

    /// Waits for a line that `wanted` makes something of; `None` where the program ends before.
    pub fn wait_for<T>(&mut self, wanted: impl Fn(&str) -> Option<T>) -> Option<T> {
        loop {
            let mut line = String::new();
            let lines = self.lines.as_mut()?;
            if lines.read_line(&mut line).expect("it speaks UTF-8") == 0 {
                return None;
            }
            self.said.push_str(&line);
            if let Some(found) = wanted(&line) {
                return Some(found);
            }
        }
    }

    /// Waits for the address that it serves on.
    #[track_caller]
    pub fn address(&mut self) -> String {
        let address = self.wait_for(|line| Some(line.split("address=").nth(1)?.trim().to_owned()));
        address.unwrap_or_else(|| panic!("it serves nothing: {}", self.said))
    }

    /// Whether it ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("it can be asked for").is_some()
    }

    /// Asks it to stop, as an operator does.
    pub fn terminate(&self) {
        self.signal("TERM");
    }

    /// SIGKILL, and waits until it is gone; false where it had ended by itself before.
    pub fn kill(mut self) -> bool {
        use std::os::unix::process::ExitStatusExt as _;
        let _ = self.child.kill();
        self.child.wait().expect("it can be waited for").signal() == Some(9)
    }

    /// Waits for its end.
    pub fn end(mut self) -> Said {
        while self.wait_for(|_| None::<()>).is_some() {}
        let said = std::mem::take(&mut self.said);
        let mut out = String::new();
        let mut stdout = self.child.stdout.take().expect("it is piped");
        std::io::Read::read_to_string(&mut stdout, &mut out).expect("it speaks UTF-8");
        Said { code: self.child.wait().expect("it can be waited for").code(), out, err: said }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // A test that failed leaves no process behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The events in the checkpoint that a log line says was written or gone on from. (Its number is not told by them: one
/// that is due while another is being written is skipped.)
pub fn checkpoint_events(line: &str) -> Option<u64> {
    let (_, fields) = line.split_once(" checkpoint=")?;
    let events = fields.split_whitespace().find_map(|field| field.strip_prefix("events="))?;
    events.parse().ok()
}

/// The first `n` events of a synthetic stream.
pub fn events(n: usize, seed: u64) -> Vec<Interaction> {
    let config = SynthConfig { seed, users: 200, items: 300, ..SynthConfig::default() };
    let mut synth = EventGenerator::new(config);
    (0..n).map(|_| synth.next_event()).collect()
}

/// Writes columns as a log, by their names.
pub fn write_columns(path: &Path, columns: Vec<(&str, ArrayRef)>) {
    write_compressed(path, columns, Compression::UNCOMPRESSED);
}

/// The same, compressed.
pub fn write_compressed(path: &Path, columns: Vec<(&str, ArrayRef)>, compression: Compression) {
    let batch =
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true)))
            .expect("columns of one length");
    // Small groups, so that a log of a few thousand rows has several.
    let properties =
        WriterProperties::builder().set_max_row_group_row_count(Some(5_000)).set_compression(compression).build();
    let file = File::create(path).expect("a writable folder");
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties)).expect("a schema for Parquet");
    writer.write(&batch).expect("a writable file");
    writer.close().expect("a writable file");
}

/// A column of text.
pub fn text<T: AsRef<str>>(values: impl IntoIterator<Item = Option<T>>) -> ArrayRef {
    Arc::new(values.into_iter().collect::<StringArray>())
}

/// A column of times.
pub fn times(values: impl IntoIterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(values.into_iter().collect::<TimestampMillisecondArray>().with_timezone("UTC"))
}

/// A column of lists of text.
pub fn lists(values: impl IntoIterator<Item = Vec<String>>) -> ArrayRef {
    let mut lists = ListBuilder::new(StringBuilder::new());
    values.into_iter().for_each(|list| lists.append_value(list.into_iter().map(Some)));
    Arc::new(lists.finish())
}

/// The topic that the name of a synthetic item tells.
pub fn topic(item: &str) -> &str {
    item.rsplit_once('-').map_or(item, |(topic, _)| topic)
}

/// A click of user `u…` on item `i…`, milliseconds since 1970 UTC.
pub fn click(user: u32, item: u32, timestamp: i64) -> Interaction {
    Interaction {
        user: format!("u{user}").into(),
        item: format!("i{item}").into(),
        kind: "click".into(),
        timestamp,
        value: None,
        session: None,
        features: Vec::new(),
    }
}

/// Writes `events` as a log.
pub fn write_log(path: &Path, events: &[Interaction]) {
    write_columns(path, columns(events));
}

/// The same, each with its item's topic as a feature.
pub fn write_described_log(path: &Path, events: &[Interaction]) {
    let mut columns = columns(events);
    columns.push(("features", lists(events.iter().map(|event| vec![topic(&event.item).to_owned()]))));
    write_columns(path, columns);
}

fn columns(events: &[Interaction]) -> Vec<(&'static str, ArrayRef)> {
    vec![
        ("user_id", text(events.iter().map(|event| Some(&event.user)))),
        ("item_id", text(events.iter().map(|event| Some(&event.item)))),
        ("event_type", text(events.iter().map(|event| Some(&event.kind)))),
        ("timestamp", times(events.iter().map(|event| Some(event.timestamp)))),
    ]
}
