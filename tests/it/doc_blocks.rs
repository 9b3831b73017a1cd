//! Every code block of README.md and docs/ is run by a test, or says why it is not.
//!
//! What a block is held to stands in a comment on the line above it; a reader of the page does not see it.
//!
//! | block | held to |
//! | --- | --- |
//! | `<!-- run: console -->` | each line is run by a shell, one after the other in the order of the page, here |
//! | `<!-- run: python -->` | it is run in the same folder, here |
//! | `<!-- run: NAME -->`, `<!-- snippet: NAME -->` | the test of that name, or the one that reads that snippet, runs it |
//! | `<!-- not run: WHY -->` | nothing, for that reason |
//! | `toml` | without a comment: it is a configuration that is taken |
//! | `json` | without a comment: it can be read |
//! | `text` | nothing: it is no code |
//!
//! Whether it is run or not, a line that begins with `negstream` has to be one that the program understands.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Parser as _;
use negstream::cli::Cli;
use negstream::config::layers;

use crate::support::{Background, Place, click, left_out, negstream, python, run, write_columns, write_log};

/// A fenced block.
struct Block {
    /// The page, from the root of the repository.
    page: String,
    line: usize,
    language: String,
    text: String,
    /// The comment above it.
    mark: Option<String>,
}

impl Block {
    fn place(&self) -> String {
        format!("{}:{}", self.page, self.line)
    }

    /// The commands of a console: what follows `$ `, lines that go on joined.
    fn commands(&self) -> Vec<String> {
        let mut commands: Vec<String> = Vec::new();
        let mut goes_on = false;
        for line in self.text.lines() {
            match (line.strip_prefix("$ "), goes_on) {
                (Some(command), _) => commands.push(command.to_owned()),
                (None, true) => {
                    let last = commands.last_mut().expect("a command goes on");
                    last.push('\n');
                    last.push_str(line);
                }
                // What the command prints.
                (None, false) => continue,
            }
            goes_on = line.ends_with('\\');
        }
        commands
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The pages of the documentation.
fn pages() -> Vec<String> {
    let mut pages = vec!["README.md".to_owned(), "CONTRIBUTING.md".to_owned(), "deploy/README.md".to_owned()];
    let mut folders = vec![PathBuf::from("docs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root().join(&folder)).expect("docs/ can be listed") {
            let path = folder.join(entry.expect("docs/ can be listed").file_name());
            if root().join(&path).is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                pages.push(path.to_str().expect("a name in Unicode").to_owned());
            }
        }
    }
    pages.sort();
    pages
}

fn blocks(page: &str) -> Vec<Block> {
    let text = fs::read_to_string(root().join(page)).unwrap_or_else(|error| panic!("{page}: {error}"));
    let (mut blocks, mut open, mut before): (Vec<Block>, Option<(usize, Block)>, &str) = (Vec::new(), None, "");
    let mut is_list = false;
    for (number, line) in (1..).zip(text.lines()) {
        let trimmed = line.trim_start();
        let indent = line.len() - trimmed.len();
        match &mut open {
            None if trimmed.starts_with("```") => {
                let mark = before.trim().strip_prefix("<!-- ").and_then(|mark| mark.strip_suffix(" -->"));
                let language = trimmed.trim_start_matches('`').to_owned();
                let mark = mark.map(str::to_owned);
                open =
                    Some((indent, Block { page: page.to_owned(), line: number, language, text: String::new(), mark }));
            }
            Some(_) if trimmed == "```" => blocks.push(open.take().expect("it is open").1),
            Some((indent, block)) => {
                block.text.push_str(line.get(*indent..).unwrap_or_default());
                block.text.push('\n');
            }
            None => {
                // After an empty line four spaces make a block too, but within a list.
                let is_block = before.is_empty() && line.starts_with("    ") && !is_list;
                assert!(!is_block, "{page}:{number}: a block by its indent: fence it");
            }
        }
        if open.is_none() && !line.is_empty() {
            let first = line.trim_start();
            is_list = line.starts_with(' ') && is_list
                || first.starts_with(['-', '*'])
                || first.split_once(". ").is_some_and(|(number, _)| number.parse::<u32>().is_ok());
        }
        before = line;
    }
    assert!(open.is_none(), "{page}: a block does not end");
    blocks
}

/// The text of all tests, in which names of tests and of snippets are looked for.
fn tests() -> String {
    let mut text = String::new();
    for folder in ["tests/it", "tests/faults", "python/tests", "src"] {
        let mut folders = vec![root().join(folder)];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("tests can be listed") {
                let path = entry.expect("tests can be listed").path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs" || extension == "py") {
                    text.push_str(&fs::read_to_string(&path).unwrap_or_default());
                }
            }
        }
    }
    text
}

#[test]
fn every_block_is_run_or_says_why_not() {
    let tests = tests();
    let (mut wrong, mut counts) = (Vec::new(), BTreeMap::<&str, usize>::new());
    for block in pages().iter().flat_map(|page| blocks(page)) {
        let mark = block.mark.as_deref().and_then(|mark| mark.split_once(": "));
        let (kind, problem) = match (mark, block.language.as_str()) {
            (Some(("run", runner @ ("console" | "python"))), language) if runner == language => ("run here", None),
            (Some(("run", test)), _) => {
                let is_there = tests.contains(&format!("fn {test}(")) || tests.contains(&format!("def {test}("));
                ("run by a test", (!is_there).then(|| format!("there is no test {test}")))
            }
            (Some(("snippet", name)), _) => {
                let is_read = tests.contains(&format!("snippet: {name} ")) || tests.contains(&format!("\"{name}\""));
                ("run by a test", (!is_read).then(|| format!("no test reads the snippet {name}")))
            }
            (Some(("not run", why)), _) => ("not run", unfounded(why)),
            (_, "toml") => ("taken as a configuration", refused_configuration(&block.text)),
            (_, "json") => {
                let read = serde_json::from_str::<serde_json::Value>(&block.text);
                ("read as JSON", read.err().map(|error| error.to_string()))
            }
            (_, "text") => ("no code", None),
            _ => ("not run", Some("neither run, nor is there a reason: see tests/it/doc_blocks.rs".to_owned())),
        };
        *counts.entry(kind).or_default() += 1;
        wrong.extend(problem.map(|problem| format!("{} ({}): {problem}", block.place(), block.language)));
    }
    println!("blocks: {counts:?}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What is wrong with a reason: it is none, or names tests that are not there (`it NAME`, `faults NAME`).
fn unfounded(why: &str) -> Option<String> {
    if why.len() < 15 {
        return Some("say why".to_owned());
    }
    why.split('`').skip(1).step_by(2).find_map(|named| {
        let (suite, test) = named.split_once(' ')?;
        let is_suite = ["it", "faults"].contains(&suite);
        let file = root().join("tests").join(suite).join(format!("{test}.rs"));
        (is_suite && !file.is_file()).then(|| format!("there is no {}", file.display()))
    })
}

/// Why a configuration is refused.
fn refused_configuration(text: &str) -> Option<String> {
    let place = Place::new();
    fs::write(place.path("worker.toml"), text).expect("a writable folder");
    let loaded = layers::load_with_defaults(&[], Some(&place.path("worker.toml")), std::iter::empty(), &[]);
    loaded.err().map(|error| error.to_string())
}

/// The words of a command, as a shell takes them apart; its comment is left out.
fn words(command: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None::<char>);
    let mut letters = command.chars().peekable();
    while let Some(letter) = letters.next() {
        match (letter, quote) {
            (_, Some(open)) if letter == open => quote = None,
            ('\'' | '"', None) => {
                quote = Some(letter);
                word.get_or_insert_with(String::new);
            }
            ('\\', None) if letters.peek() == Some(&'\n') => drop(letters.next()),
            ('#', None) if word.is_none() => break,
            (_, None) if letter.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_with(String::new).push(letter),
        }
    }
    words.extend(word);
    words
}

#[test]
fn every_command_of_the_docs_is_understood() {
    let mut n_commands = 0;
    for block in pages().iter().flat_map(|page| blocks(page)).filter(|block| block.language == "console") {
        for command in block.commands() {
            let words = words(&command);
            if words.first().is_some_and(|program| program == "negstream") {
                n_commands += 1;
                if let Err(error) = Cli::try_parse_from(&words)
                    && error.use_stderr()
                {
                    panic!("{}: {command}\n{error}", block.place());
                }
            }
        }
    }
    assert!(n_commands > 30, "{n_commands}");
}

/// Pages that make their own model; others find one.
const FROM_NOTHING: [&str; 3] = ["README.md", "docs/migration.md", "docs/tutorial.md"];
/// Where the pages say that something is served.
const SERVED: [&str; 3] = ["localhost:9464", "127.0.0.1:9464", "127.0.0.1:9465"];

/// What is true after the last block of Python of a page.
const CHECKS: [(&str, &str); 3] = [
    ("README.md", "assert vectors.shape == (len(table), 64)"),
    ("docs/checkpoints.md", "assert items.num_rows > 100"),
    ("docs/publishing.md", "assert point_id('item-7') == 'de549e25-f961-8951-a5c8-76dfdcac07ed'"),
];

/// What a page's reader has: the log as Parquet and as MovieLens has it, a catalogue, a list of items; and programs to call.
fn scene(page: &str) -> Place {
    let place = Place::new();
    let event = |number: u32| {
        // Each user keeps to one of five shelves, mostly.
        let user = (number * 7 + number / 61) % 60;
        let item = 5 * (number.wrapping_mul(2_654_435_761) >> 26) % 150
            + if number.is_multiple_of(5) { number % 3 } else { user % 5 };
        click(user + 1, item + 1, 1_767_225_600_000 + i64::from(number) * 60_000)
    };
    let events: Vec<_> = (0..4_000).map(event).collect();
    write_log(&place.path("events.parquet"), &events);
    let mut csv = "userId,movieId,rating,timestamp\n".to_owned();
    for event in &events {
        csv.push_str(&format!("{},{},4.0,{}\n", &event.user[1..], &event.item[1..], event.timestamp / 1_000));
    }
    fs::write(place.path("ratings.csv"), csv).expect("a writable folder");
    let items: Vec<String> = (1..=160).map(|item| format!("i{item}")).collect();
    let column = || crate::support::text(items.iter().map(Some));
    write_columns(&place.path("items.parquet"), vec![("item_id", column()), ("title", column())]);
    fs::write(place.path("in-stock.txt"), items.join("\n")).expect("a writable folder");
    if !FROM_NOTHING.contains(&page) {
        place.replay("events.parquet", &[]);
    }
    place
}

/// Runs a page's blocks of Python, in the place where its consoles were run.
fn run_python(page: &str, place: &Place, blocks: &[Block]) {
    let Some(mut python) = python(&["numpy", "pyarrow"]) else { return };
    let newest = place.newest("checkpoints");
    let mut program = "import os\nimport pyarrow.parquet\n".to_owned();
    program.extend(blocks.iter().map(|block| block.text.as_str()));
    let number = newest.file_name().and_then(|name| name.to_str()).expect("the name of a checkpoint");
    program = program.replace("0000000042", number);
    let (_, check) = CHECKS.into_iter().find(|(of, _)| *of == page).expect("something that is true then");
    program.push_str(check);
    run(python.args(["-c", &program]).current_dir(place.path(""))).ended(0);
}

/// Runs a page's consoles, from the first to the last.
fn run_consoles(page: &str, place: &Place, consoles: &[Block]) {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_negstream"));
    let path = std::env::join_paths(
        [program.parent().expect("it lies in a folder").to_owned()]
            .into_iter()
            .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())),
    );
    let path = path.expect("paths without colons");
    let mut served: Option<(Background, String)> = None;
    for (block, command) in consoles.iter().flat_map(|block| block.commands().into_iter().map(move |one| (block, one)))
    {
        let mut command = command.replace("ITEM", "7").replace("USER", "17").replace("CHECKPOINT", "checkpoints");
        if page != "README.md" && page != "docs/tutorial.md" {
            command = command.replace(" 7 ", " i7 ");
        }
        let words = words(&command);
        let asks = words.first().is_some_and(|program| program == "curl");
        if words.get(1).is_some_and(|word| word == "serve") || (asks && served.is_none()) {
            let arguments: Vec<&str> = match asks {
                true => vec!["serve", "checkpoints"],
                false => words[1..].iter().map(String::as_str).collect(),
            };
            let mut serving = negstream();
            serving.current_dir(place.path("")).args(arguments).args(["--set", "http.listen=127.0.0.1:0"]);
            let mut serving = Background::start(&mut serving);
            let address = serving.address();
            served = Some((serving, address));
        }
        if words.get(1).is_some_and(|word| word == "serve") {
            continue;
        }
        if asks {
            let (_, address) = served.as_ref().expect("it is served");
            command = SERVED.iter().fold(command, |command, there| command.replace(there, address));
            command = command.replacen("curl ", "curl --fail --silent --show-error ", 1);
        }
        let mut shell = Command::new("sh");
        shell.args(["-c", &command]).current_dir(place.path("")).stdin(Stdio::null());
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("NEGSTREAM")) {
            shell.env_remove(name);
        }
        shell.env("PATH", &path).env("NEGSTREAM__HTTP__LISTEN", "").env("NEGSTREAM__LOG__LEVEL", "warn");
        let said = run(&mut shell);
        assert!(said.code == Some(0), "{}: $ {command}\n{}{}", block.place(), said.out, said.err);
    }
}

#[test]
fn blocks_of_the_docs_run() {
    if Command::new("curl").arg("--version").output().is_err() {
        return left_out::<()>("curl", "it is not there").unwrap_or_default();
    }
    for page in pages() {
        let all = blocks(&page).into_iter();
        let (consoles, others): (Vec<Block>, Vec<Block>) =
            all.partition(|block| block.mark.as_deref() == Some("run: console"));
        let python: Vec<Block> =
            others.into_iter().filter(|block| block.mark.as_deref() == Some("run: python")).collect();
        if consoles.is_empty() && python.is_empty() {
            continue;
        }
        let begun = std::time::Instant::now();
        let place = scene(&page);
        run_consoles(&page, &place, &consoles);
        if !python.is_empty() {
            run_python(&page, &place, &python);
        }
        let (n_consoles, n_python) = (consoles.len(), python.len());
        println!("{page}: {n_consoles} consoles, {n_python} of Python, {:.1} s", begun.elapsed().as_secs_f64());
    }
}
