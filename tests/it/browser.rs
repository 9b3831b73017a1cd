//! The pages in a real browser: the worker's own at three widths, in light and dark, through a restart of the worker; and reports.
//!
//! `tests/browser/check.py` drives Chromium; it says what it needs, and a test here does it. Where there is no browser, or no Python that
//! can drive it, that is said, and is a failure where `NEGSTREAM_REQUIRE` names `browser`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::serve::wait_until_read;
use crate::support::{Background, Place, click, events, left_out, run, set, write_log};

/// Names that would be markup, a program, or drive a terminal.
const HOSTILE: [&str; 4] = [
    "<script>injected=1</script>",
    "<img src=x onerror=injected=1>",
    "\u{202e}txt.\u{1b}[31m\u{7}",
    "a\"'>&amp;<b>/../?#%",
];

/// The driver, at work on `job`.
fn driver(job: &Value) -> Option<Child> {
    let python = std::env::var_os("NEGSTREAM_PYTHON").unwrap_or_else(|| "python3".into());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser");
    let found = "import sys; sys.path.insert(0, sys.argv[1]); import chromium; assert chromium.program(), 'there is no chromium'";
    match Command::new(&python).args(["-c", found]).arg(&folder).output() {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            return left_out("browser", said.lines().last().unwrap_or("it fails"));
        }
        Err(error) => return left_out("browser", &format!("{}: {error}", python.to_string_lossy())),
    }
    let mut command = Command::new(python);
    command.arg(folder.join("check.py")).arg(job.to_string()).env("PYTHONDONTWRITEBYTECODE", "1");
    Some(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the driver starts"))
}

/// Does what the driver asks for by `act`, until it is done.
fn serve_driver(mut driver: Child, mut act: impl FnMut(&str)) {
    let mut answers = driver.stdin.take().expect("it is piped");
    let words = BufReader::new(driver.stdout.take().expect("it is piped"));
    let mut is_done = false;
    for word in words.lines() {
        let word = word.expect("it speaks UTF-8");
        if word == "done" {
            is_done = true;
            continue;
        }
        act(&word);
        writeln!(answers, "done").expect("it listens");
    }
    let status = driver.wait().expect("it ends");
    assert!(is_done && status.success(), "what the browser found is above");
}

#[test]
fn the_page_is_followed_asked_and_survives_a_restart() {
    let place = Place::new();
    let mut log = events(6_000, 77);
    for (number, name) in HOSTILE.iter().enumerate() {
        for round in 0..20_u32 {
            let mut event = click(round, 0, log[log.len() - 1].timestamp + 1);
            event.item = (*name).into();
            log.insert(3_000 + 40 * round as usize + number, event);
        }
    }
    // In order of time, as inserted.
    let begin = log[0].timestamp;
    (0_i64..).zip(&mut log).for_each(|(second, event)| event.timestamp = begin + 1_000 * second);
    write_log(&place.path("log.parquet"), &log);

    let start = |listen: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_negstream"));
        command.current_dir(place.path("")).arg("run");
        let listen = format!("http.listen={listen}");
        set(&mut command, &["kafka.brokers=embedded", &listen, "checkpoint.dir=checkpoints", "model.dim=16"]);
        set(&mut command, &["train.linger_ms=50", "threads=1", "checkpoint.every_seconds=0"]);
        let mut worker = Background::start(&mut command);
        let address = worker.address();
        let brokers =
            worker.wait_for(|line| Some(line.split("bootstrap=").nth(1)?.split_whitespace().next()?.to_owned()));
        let brokers = format!("kafka.brokers={}", brokers.expect("it names its broker"));
        run(&mut place.negstream(&["produce", "log.parquet", "--set", &brokers])).ended(0);
        (worker, address)
    };
    let job = |address: &str| json!({ "page": format!("http://{address}/"), "hostile": HOSTILE });
    let (worker, address) = start("127.0.0.1:0");
    wait_until_read(&address, log[0].item.as_str(), log.len() as u64, "");
    let Some(driver) = driver(&job(&address)) else { return };
    let mut worker = Some(worker);
    serve_driver(driver, |word| match word {
        "stop" => {
            let running = worker.take().expect("it is there");
            running.terminate();
            running.end().ended(0);
        }
        "restart" => worker = Some(start(&address).0),
        other => panic!("the driver says {other}"),
    });
    let running = worker.take().expect("it is there again");
    running.terminate();
    running.end().ended(0);
}

#[test]
fn reports_are_pages_that_anybody_can_read() {
    let place = Place::new();
    write_log(&place.path("log.parquet"), &events(4_000, 78));
    let mut replay = place.negstream(&["replay", "log.parquet", "--report", "run.html"]);
    set(&mut replay, &["model.dim=16"]);
    run(&mut replay).ended(0);
    let mut compare =
        place.negstream(&["compare", "log.parquet", "--variant", "<b>: model.dim=8", "--html", "compare.html"]);
    set(&mut compare, &["model.dim=16"]);
    run(&mut compare).ended(0);
    let page = String::from_utf8(crate::support::read(&place.path("run.html"))).expect("it is text");
    assert!(page.starts_with("<!doctype html>") && page.contains("Hit rate over events"), "{page}");
    assert!(!page.contains("<script") && !page.contains("://"), "nothing is loaded, and nothing runs");
    let reports = ["run.html", "compare.html"].map(|name| place.path(name));
    let Some(driver) = driver(&json!({ "reports": reports })) else { return };
    serve_driver(driver, |word| panic!("the driver says {word}"));
}
