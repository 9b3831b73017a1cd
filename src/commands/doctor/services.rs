//! What the configuration names: the place for checkpoints, brokers and topics, a schema registry, sinks, the address of the
//! page.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Finding;
use super::machine::{CLOCK_TOLERANCE, room, writable};
use crate::checkpoint::store::{self, is_url};
use crate::config::Config;
use crate::decode::text_time;
use crate::exit::{self, Exit};
use crate::kafka::{EMBEDDED, admin};
use crate::publish;

/// Longest wait for a broker, and for the registry.
const PATIENCE: Duration = Duration::from_secs(5);
/// How much of an answer is looked at.
const HEAD: u64 = 8 << 10;

pub(super) fn checkpoints(config: &Config) -> Vec<Finding> {
    const PART: &str = "checkpoints";
    let dir = &config.checkpoint.dir;
    let mut findings = Vec::new();
    match store::newest_number(dir, &config.checkpoint) {
        Err(error) => {
            let remedy = "checkpoint.dir names the place; docs/checkpoints.md has the credentials of object stores";
            return vec![Finding::failing(PART, Exit::Checkpoint, error.to_string(), remedy)];
        }
        Ok(Some(number)) => findings.push(Finding::fine(PART, format!("{number:010} is the newest in {}", shown(dir)))),
        Ok(None) => findings.push(Finding::fine(PART, format!("none yet in {}", shown(dir)))),
    }
    if is_url(dir) && !dir.starts_with("file:") {
        return findings;
    }
    if dir.is_file() {
        let said = format!("{} is a file", shown(dir));
        return vec![Finding::failing(PART, Exit::Checkpoint, said, "checkpoint.dir must be a folder, or become one")];
    }
    // A folder that is not there yet is made in the nearest one that is.
    let Some(folder) = nearest_folder(dir) else { return findings };
    findings.extend(writable(PART, &folder));
    findings.push(room("disk", &folder));
    findings
}

pub(super) fn brokers(config: &Config) -> Vec<Finding> {
    const PART: &str = "brokers";
    let kafka = &config.kafka;
    if kafka.brokers == EMBEDDED {
        return vec![Finding::fine(PART, "one inside the process: its records end with it")];
    }
    if !kafka.names_brokers() {
        return vec![Finding::unused(PART, "none is named (kafka.brokers): for replays none is needed")];
    }
    let mut findings = Vec::new();
    for topic in kafka.topic_names() {
        findings.push(match admin::partitions_within(kafka, &kafka.brokers, topic, PATIENCE) {
            Err(error) => {
                let remedy =
                    "is it running, reachable from here (kafka.brokers) and willing (kafka.properties)? docs/kafka.md";
                // The others would be asked in vain.
                findings.push(Finding::failing(PART, Exit::Source, error.to_string(), remedy));
                return findings;
            }
            Ok(None) => Finding::doubtful(
                PART,
                format!("{} answers, but has no topic '{topic}'", kafka.brokers),
                "create it with as many partitions as there will be workers; `run` creates it with kafka.partitions",
            ),
            Ok(Some(partitions)) => Finding::fine(
                PART,
                format!("{} answers; topic '{topic}' has {} partitions", kafka.brokers, partitions.len()),
            ),
        });
    }
    if !kafka.dead_letter_topic.is_empty()
        && matches!(admin::partitions_within(kafka, &kafka.brokers, &kafka.dead_letter_topic, PATIENCE), Ok(None))
    {
        let said = format!("no topic '{}' for dead letters yet", kafka.dead_letter_topic);
        findings.push(Finding::doubtful(PART, said, "create it, or let the worker (it needs the right to)"));
    }
    findings
}

pub(super) fn registry(config: &Config) -> Vec<Finding> {
    const PART: &str = "registry";
    let registry = &config.source.registry;
    if registry.url.is_empty() {
        return vec![Finding::unused(PART, "none is named (source.registry.url): records come plain")];
    }
    let remedy = "is it running, and reachable from here (source.registry.url)?";
    let failing = |said: String, remedy: &str| vec![Finding::failing(PART, Exit::Source, said, remedy)];
    let (is_plain, rest) = match registry.url.split_once("://") {
        Some((scheme, rest)) => (scheme == "http", rest),
        None => return failing(format!("{} is no address", registry.url), remedy),
    };
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let address =
        if host.contains(':') { host.to_owned() } else { format!("{host}:{}", if is_plain { 80 } else { 443 }) };
    let answer = ask(&address, is_plain.then(|| request(host, path, &registry.user, &registry.password)));
    let head = match answer {
        Ok(head) => head,
        Err(error) => return failing(format!("{address}: {error}"), remedy),
    };
    if !is_plain {
        return vec![Finding::fine(PART, format!("{address} can be reached; over TLS nothing more was asked"))];
    }
    let mut findings = Vec::new();
    let status = head.split_whitespace().nth(1).unwrap_or_default();
    findings.push(match status {
        "200" => Finding::fine(PART, format!("{address} answers")),
        "401" | "403" => {
            let remedy = "source.registry.user, and NEGSTREAM__SOURCE__REGISTRY__PASSWORD";
            Finding::failing(PART, Exit::Source, format!("{address} refuses user and password ({status})"), remedy)
        }
        _ => Finding::doubtful(
            PART,
            format!("{address} answers {status:?} to GET /subjects"),
            "is it a schema registry?",
        ),
    });
    findings.extend(clock_of(&head, &address, SystemTime::now()));
    findings
}

pub(super) fn sinks(config: &Config) -> Vec<Finding> {
    if config.publish.is_empty() {
        return vec![Finding::unused("sinks", "none is configured ([[publish]])")];
    }
    let look = |sink: &publish::SinkConfig| {
        let part = format!("sink {}", sink.sink);
        let failing = |error: publish::SinkError| {
            let remedy =
                "docs/publishing.md has what each sink needs; training goes on without it, and it is tried again";
            let said = exit::message(&error.into());
            Finding::failing(&part, Exit::Sink, said, remedy)
        };
        let mut opened = match publish::open(sink) {
            Ok(opened) => opened,
            Err(error) => return failing(error),
        };
        match opened.state() {
            Ok(Some(_)) => Finding::fine(&part, "answers, and holds embeddings"),
            Ok(None) => Finding::fine(&part, "answers, and holds nothing yet"),
            Err(error) => failing(error),
        }
    };
    config.publish.iter().map(look).collect()
}

/// Whether the page and the API can be served.
pub(super) fn address(config: &Config) -> Finding {
    const PART: &str = "address";
    let listen = &config.http.listen;
    if listen.is_empty() {
        return Finding::unused(PART, "http.listen is empty: neither page nor /metrics nor /v1");
    }
    match TcpListener::bind(listen) {
        Ok(_) => Finding::fine(PART, format!("{listen} is free")),
        Err(error) if error.kind() == ErrorKind::AddrInUse => Finding::doubtful(
            PART,
            format!("{listen} is in use"),
            "by a worker that runs already? http.listen names another one",
        ),
        Err(error) => {
            let remedy = "http.listen must be an address of this machine; ports below 1024 take a right of their own";
            Finding::failing(PART, Exit::Listen, format!("{listen}: {error}"), remedy)
        }
    }
}

/// The request for the subjects of a registry.
fn request(host: &str, path: &str, user: &str, password: &str) -> String {
    let path = path.trim_end_matches('/');
    let slash = if path.is_empty() { "" } else { "/" };
    let credentials = match user {
        "" => String::new(),
        user => format!("Authorization: Basic {}\r\n", STANDARD.encode(format!("{user}:{password}"))),
    };
    format!("GET {slash}{path}/subjects HTTP/1.0\r\nHost: {host}\r\nAccept: */*\r\n{credentials}\r\n")
}

/// Connects, and sends a request where there is one; the beginning of the answer.
fn ask(address: &str, request: Option<String>) -> std::io::Result<String> {
    let mut last = std::io::Error::new(ErrorKind::NotFound, "the name has no address");
    for place in address.to_socket_addrs()? {
        let mut connection = match TcpStream::connect_timeout(&place, PATIENCE) {
            Ok(connection) => connection,
            Err(error) => {
                last = error;
                continue;
            }
        };
        let Some(request) = request else { return Ok(String::new()) };
        connection.set_read_timeout(Some(PATIENCE))?;
        connection.set_write_timeout(Some(PATIENCE))?;
        connection.write_all(request.as_bytes())?;
        let mut head = Vec::new();
        let read = connection.take(HEAD).read_to_end(&mut head);
        if head.is_empty() {
            read?;
        }
        return Ok(String::from_utf8_lossy(&head).into_owned());
    }
    Err(last)
}

/// What the `Date` of an answer says of this machine's clock.
fn clock_of(head: &str, address: &str, now: SystemTime) -> Option<Finding> {
    let date = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("date").then(|| value.trim().to_owned())
    })?;
    let there = Duration::from_millis(u64::try_from(text_time(&date)?.milliseconds).ok()?);
    let here = now.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    let apart = here.abs_diff(there);
    (apart > CLOCK_TOLERANCE).then(|| {
        let said = format!("{} seconds from that of {address}", apart.as_secs());
        Finding::doubtful("clock", said, "have both follow a time server: freshness is measured by the clock")
    })
}

/// The folder, or the nearest one around it that is there.
fn nearest_folder(dir: &Path) -> Option<PathBuf> {
    let dir = dir.to_str().and_then(|text| text.strip_prefix("file://")).map_or(dir, Path::new);
    // The last one around a relative path is empty, and means the folder that the process is in.
    let mut around = dir.ancestors().map(|folder| if folder.as_os_str().is_empty() { Path::new(".") } else { folder });
    around.find(|folder| folder.is_dir()).map(Path::to_owned)
}

fn shown(dir: &Path) -> String {
    dir.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::PartHealth;

    #[test]
    fn requests_have_the_path_and_the_user() {
        let plain = request("r:8081", "", "", "");
        assert!(plain.starts_with("GET /subjects HTTP/1.0\r\nHost: r:8081\r\n") && !plain.contains("Authorization"));
        let other = request("r", "api/ccompat/", "ada", "x");
        assert!(other.starts_with("GET /api/ccompat/subjects ") && other.contains("Basic YWRhOng="));
    }

    #[test]
    fn clocks_are_compared_by_the_date_of_an_answer() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let head = |second: u32| format!("HTTP/1.1 200 OK\r\ndate: Sun, 06 Nov 1994 08:49:{second:02} GMT\r\n\r\n");
        assert_eq!(clock_of(&head(40), "r", now), None);
        let apart = clock_of(&head(1), "r", now).unwrap();
        assert!(apart.health == PartHealth::Doubtful && apart.said.starts_with("36 seconds"), "{apart:?}");
        assert_eq!(clock_of("HTTP/1.1 200 OK\r\n\r\n", "r", now), None);
    }

    #[test]
    fn folders_that_are_not_there_yet_are_looked_for_around() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(nearest_folder(&folder.path().join("a/b")), Some(folder.path().to_owned()));
        assert_eq!(nearest_folder(Path::new("not-there")), Some(PathBuf::from(".")));
    }
}
