//! Keeps the house in order: every file says what it is, no type name is defined twice, modules import only what they may.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::support::read;

/// A source file: its path below `src`, and its lines without the tests at its end.
struct Source {
    path: PathBuf,
    text: String,
}

impl Source {
    /// The module of the crate that it belongs to: `kernel` of `kernel/dots.rs`.
    fn module(&self) -> String {
        let first = Path::new(self.path.components().next().expect("a path has parts").as_os_str());
        first.file_stem().expect("a file has a name").to_string_lossy().into_owned()
    }

    /// The file without its tests.
    fn product(&self) -> &str {
        self.text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default()
    }

    fn is_test(&self) -> bool {
        self.path.ends_with("tests.rs") || self.path.components().any(|part| part.as_os_str() == "tests")
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("src can be listed") {
            let path = entry.expect("src can be listed").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = String::from_utf8(read(&path)).expect("source is UTF-8");
                found.push(Source { path: path.strip_prefix(&root).expect("below src").to_owned(), text });
            }
        }
    }
    assert!(found.len() > 50);
    found
}

/// What a module may import of the crate, and why no more.
const RULES: [(&str, &[&str], &str); 43] = [
    ("util", &[], "a leaf: what every room may use"),
    ("state_dict", &[], "a leaf: named arrays, as checkpoints hold them"),
    ("position", &[], "a leaf: every side of the program speaks of positions"),
    ("metric", &[], "a leaf: how a room declares what it measures; showing it is telemetry's"),
    ("signals", &[], "only sets a flag; who looks at it is the application's"),
    (
        "publish",
        &["kafka", "registry", "remote", "util"],
        "a contract, its registry, and sinks; what is published comes from the pipeline",
    ),
    ("kernel", &[], "slices in, slices out: it can be tested against its reference, and replaced, alone"),
    ("event", &["metric"], "what decoding gives and everything downstream takes"),
    ("table", &["kernel"], "rows know nothing of what they stand for; their arithmetic is the kernel's"),
    ("context", &["table", "util"], "a user's past is made of item numbers"),
    ("decode", &["event", "util"], "bytes to events; where they came from is the source's"),
    ("synth", &["event", "util"], "a generator needs no model"),
    (
        "negatives",
        &["kernel", "metric", "state_dict", "table", "util"],
        "samplers see counts and vectors, never the model",
    ),
    (
        "model",
        &["config", "context", "kernel", "negatives", "share", "table", "util"],
        "the learned parameters, how contexts become queries, and the way back of gradients",
    ),
    (
        "objective",
        &["config", "context", "kernel", "metric", "model", "negatives", "state_dict", "table", "util"],
        "the mathematics: no I/O, no clock",
    ),
    (
        "evaluate",
        &["context", "kernel", "metric", "model", "negatives", "table", "util"],
        "reads the model, never changes it",
    ),
    (
        "share",
        &["kafka", "kernel", "position", "util"],
        "what workers tell each other, and the topic that it is in; what of a state it is, the trainer knows",
    ),
    ("peers", &["evaluate"], "rankings by counting; no model, and nothing of its own to evaluate by"),
    ("compare", &["evaluate", "peers", "util"], "ranks in, report out; who trains is the application's"),
    ("tune", &["table"], "what is tried, and who goes on; trying it is the application's"),
    ("check", &["decode", "event"], "what a log seems to be; who reads it is the commands'"),
    ("catalogue", &["config", "decode", "table", "util"], "what is known of items; what is made of it is the model's"),
    ("remote", &["util"], "how other machines are reached; what lies there is the business of whoever asks"),
    (
        "checkpoint",
        &["event", "position", "remote", "share", "util"],
        "durable bytes; what is in them is the snapshot's",
    ),
    ("export", &["checkpoint"], "numbers and names in; whose they are is the commands' business"),
    ("import", &["decode", "table", "util"], "vectors of other programs in; what is made of them is the trainer's"),
    ("neighbors", &["checkpoint", "kernel", "table"], "reads a checkpoint as anybody may"),
    ("kafka", &["decode", "event", "position", "util"], "clients; the consumer is a source"),
    (
        "source",
        &["decode", "event", "kafka", "metric", "position", "remote", "share", "util"],
        "records in, nothing of the model; it counts its own faults",
    ),
    ("dead_letters", &["decode", "event", "kafka", "signals", "util"], "keeps what was not ingested"),
    ("registry", &["decode", "kafka", "source", "util"], "what records are read by; reading them is decoding's"),
    (
        "trainer",
        &[
            "catalogue",
            "config",
            "context",
            "evaluate",
            "event",
            "kernel",
            "metric",
            "model",
            "negatives",
            "objective",
            "position",
            "share",
            "state_dict",
            "table",
            "util",
        ],
        "the sole owner of the model; where events come from is not its business",
    ),
    (
        "recommend",
        &["context", "kernel", "model", "negatives", "table", "trainer"],
        "reads a state that stands still; who asks, and how, is the commands'",
    ),
    (
        "serve",
        &["catalogue", "metric", "recommend", "table", "util"],
        "asks views of the state; who trains, and where it is mounted, is not its business",
    ),
    (
        "snapshot",
        &[
            "checkpoint",
            "config",
            "context",
            "evaluate",
            "kernel",
            "model",
            "negatives",
            "objective",
            "state_dict",
            "table",
            "trainer",
            "util",
        ],
        "state to files and back, one file of a checkpoint at a time",
    ),
    (
        "pipeline",
        &[
            "catalogue",
            "checkpoint",
            "config",
            "dead_letters",
            "event",
            "kafka",
            "kernel",
            "metric",
            "position",
            "publish",
            "recommend",
            "share",
            "signals",
            "snapshot",
            "source",
            "table",
            "trainer",
        ],
        "the loop that all commands share; concrete sources are the commands'",
    ),
    (
        "config",
        &[
            "checkpoint",
            "context",
            "dead_letters",
            "decode",
            "evaluate",
            "kafka",
            "model",
            "negatives",
            "objective",
            "publish",
            "serve",
            "share",
            "telemetry",
            "trainer",
            "util",
        ],
        "the sum of the sections that rooms declare, and the layers that fill it",
    ),
    (
        "telemetry",
        &[
            "evaluate",
            "event",
            "exit",
            "metric",
            "negatives",
            "objective",
            "pipeline",
            "position",
            "serve",
            "source",
            "trainer",
            "util",
        ],
        "observes the pipeline and shows what happened; it cannot reach into it",
    ),
    (
        "exit",
        &[
            "catalogue",
            "checkpoint",
            "config",
            "dead_letters",
            "import",
            "kafka",
            "pipeline",
            "publish",
            "registry",
            "share",
            "serve",
            "source",
            "telemetry",
            "util",
        ],
        "every error has its code",
    ),
    ("cli", &["exit", "peers", "synth"], "parses, and acts on nothing"),
    (
        "commands",
        &[
            "catalogue",
            "check",
            "checkpoint",
            "cli",
            "compare",
            "config",
            "context",
            "dead_letters",
            "decode",
            "evaluate",
            "event",
            "exit",
            "export",
            "import",
            "kafka",
            "kernel",
            "model",
            "negatives",
            "neighbors",
            "peers",
            "pipeline",
            "position",
            "publish",
            "recommend",
            "registry",
            "serve",
            "share",
            "signals",
            "snapshot",
            "source",
            "synth",
            "table",
            "telemetry",
            "trainer",
            "tune",
            "util",
        ],
        "the composition root, and the only one that may import nearly everything",
    ),
    ("lib", &[], "the map"),
    ("main", &[], "arguments in, exit code out"),
];

/// The modules that `text` refers to as `crate::NAME`, other than in comments.
fn imports(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
        for (place, _) in line.match_indices("crate::") {
            let rest = &line[place + "crate::".len()..];
            let name: String = rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
            assert!(!name.is_empty() || !rest.starts_with('{'), "one `use crate::` for each module: {line}");
            found.insert(name);
        }
    }
    found
}

#[test]
fn modules_import_only_what_they_may() {
    let rules: BTreeMap<&str, BTreeSet<&str>> =
        RULES.iter().map(|(module, allowed, _)| (*module, allowed.iter().copied().collect())).collect();
    let mut used: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in sources().iter().filter(|source| !source.is_test()) {
        let module = source.module();
        let allowed = rules.get(module.as_str()).unwrap_or_else(|| panic!("no rule for module {module}"));
        for import in imports(source.product()) {
            let fine = import == module || allowed.contains(import.as_str());
            assert!(fine, "{}: {module} may not import {import}", source.path.display());
            used.entry(module.clone()).or_default().insert(import);
        }
    }
    // A permission that nobody needs is a door left open.
    for (module, allowed) in &rules {
        let used = used.remove(*module).unwrap_or_default();
        let idle: Vec<_> = allowed.iter().filter(|name| !used.contains(**name)).collect();
        assert!(idle.is_empty(), "{module} no longer imports {idle:?}: take it out of the table");
    }
}

#[test]
fn concrete_sources_are_named_by_commands_alone() {
    for source in sources().iter().filter(|source| !["source", "commands"].contains(&source.module().as_str())) {
        for line in source.product().lines().filter(|line| !line.trim_start().starts_with("//")) {
            let names = line.contains("source::kafka::") || line.contains("source::parquet::");
            assert!(!names, "{}: {line}", source.path.display());
        }
    }
}

#[test]
fn every_file_says_what_it_is() {
    for Source { path, text } in sources() {
        assert!(text.starts_with("//! "), "{} does not open with `//! `", path.display());
    }
}

/// How long files are is shown, not limited: a file holds one concept, however long that is.
#[test]
fn file_lengths_are_printed() {
    let mut lengths: Vec<(usize, PathBuf)> =
        sources().into_iter().map(|source| (source.product().lines().count(), source.path)).collect();
    lengths.sort();
    let at = |percent: usize| lengths[(lengths.len() - 1) * percent / 100].0;
    let (longest, path) = lengths.last().expect("there are files");
    println!(
        "{} files; lines without tests: median {}, p90 {}, longest {longest} ({})",
        lengths.len(),
        at(50),
        at(90),
        path.display()
    );
}

/// Types that share a name, and why.
const SHARED_TYPE_NAMES: [(&str, &str); 0] = [];

/// The names of the types that a file defines at its top level.
fn type_names(text: &str) -> Vec<&str> {
    let mut names = Vec::new();
    for line in text.lines() {
        let line = line.strip_prefix("pub ").unwrap_or(line);
        let line = if line.starts_with("pub(") { line.split_once(") ").map_or(line, |(_, rest)| rest) } else { line };
        let Some((keyword, rest)) = line.split_once(' ') else { continue };
        if ["struct", "enum", "trait", "type", "union"].contains(&keyword) {
            names.push(rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default());
        }
    }
    names
}

#[test]
fn no_type_name_is_defined_twice() {
    let sources = sources();
    let mut places: BTreeMap<&str, Vec<&Path>> = BTreeMap::new();
    // A simulation is test code beside its module.
    let is_product = |source: &&Source| !source.is_test() && !source.path.ends_with("simulation.rs");
    for source in sources.iter().filter(is_product) {
        for name in type_names(source.product()) {
            places.entry(name).or_default().push(&source.path);
        }
    }
    let shared: BTreeMap<&str, &str> = SHARED_TYPE_NAMES.into_iter().collect();
    let twice: Vec<_> =
        places.iter().filter(|(name, places)| places.len() > 1 && !shared.contains_key(*name)).collect();
    assert!(twice.is_empty(), "give each a name of its own, or a reason in SHARED_TYPE_NAMES: {twice:#?}");
    for (name, reason) in shared {
        assert!(places.get(name).is_some_and(|places| places.len() > 1), "{name} ({reason}) is defined once");
    }
}

#[test]
fn nothing_unfinished_and_no_stray_printing() {
    for source in sources().iter().filter(|source| !source.is_test()) {
        let prints = ["commands", "main"].contains(&source.module().as_str());
        for (number, line) in source.product().lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            for word in ["todo!", "unimplemented!", "dbg!"] {
                assert!(!code.contains(word), "{}:{}: {word}", source.path.display(), number + 1);
            }
            let stray = ["println!", "print!("].iter().any(|word| code.contains(word));
            assert!(prints || !stray, "{}:{}: {code}", source.path.display(), number + 1);
        }
    }
}

#[test]
fn pure_modules_know_no_clock_no_log_and_no_chance_of_their_own() {
    // What the model is made of; a clock or an unseeded generator in it would end byte-identical runs.
    let pure = [
        "compare",
        "context",
        "decode",
        "evaluate",
        "event",
        "kernel",
        "model",
        "negatives",
        "objective",
        "peers",
        "synth",
        "table",
        "trainer",
    ];
    let banned = [
        "Instant::now",
        "SystemTime",
        "Utc::now",
        "rand::rng",
        "thread_rng",
        "from_os_rng",
        "std::fs",
        "std::net",
        "tracing::",
    ];
    let banned_maps = ["std::collections::HashMap", "std::collections::HashSet", "RandomState"];
    // The generator's writer writes a log.
    let exceptions = ["synth/log.rs"];
    for source in sources().iter().filter(|source| pure.contains(&source.module().as_str()) && !source.is_test()) {
        for word in banned.iter().chain(&banned_maps) {
            let fine = word.starts_with("std::fs") && exceptions.iter().any(|path| source.path.ends_with(path));
            assert!(fine || !source.product().contains(word), "{}: {word}", source.path.display());
        }
    }
}

#[test]
fn every_key_of_the_default_is_described_in_the_schema() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let schema: serde_json::Value = serde_json::from_slice(&read(&root.join("schemas/config.schema.json"))).unwrap();
    let default: toml::Table = String::from_utf8(read(&root.join("config/default.toml"))).unwrap().parse().unwrap();
    let mut waiting = vec![(String::new(), &schema, &default)];
    let mut keys = 0;
    while let Some((prefix, described, table)) = waiting.pop() {
        for (key, value) in table {
            let property = &described["properties"][key];
            let name = format!("{prefix}{key}");
            let reference = property["$ref"].as_str().and_then(|path| path.rsplit('/').next());
            let target = reference.map_or(property, |name| &schema["$defs"][name]);
            let description = property["description"].as_str().or(target["description"].as_str());
            assert!(description.is_some_and(|text| text.len() > 5), "{name} is not described: {property}");
            keys += 1;
            if let (Some(table), true) = (value.as_table(), target["properties"].is_object()) {
                waiting.push((format!("{name}."), target, table));
            }
        }
    }
    assert!(keys > 50, "{keys} keys");
}

#[test]
fn every_test_that_the_table_of_faults_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = String::from_utf8(read(&root.join("docs/faults.md"))).expect("it is UTF-8");
    let mut tests = String::new();
    for folder in ["tests/it", "tests/faults", "src"] {
        for (path, bytes) in crate::support::tree(&root.join(folder)) {
            if path.extension().is_some_and(|extension| extension == "rs") {
                tests.push_str(&String::from_utf8(bytes).expect("source is UTF-8"));
            }
        }
    }
    let is_test = |word: &&str| word.len() > 12 && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    let named: Vec<&str> =
        text.split('`').skip(1).step_by(2).filter(|word| word.contains('_')).filter(is_test).collect();
    assert!(named.len() > 40, "only {} tests are named", named.len());
    let missing: Vec<_> = named.into_iter().filter(|name| !tests.contains(&format!("fn {name}("))).collect();
    assert!(missing.is_empty(), "no such tests: {missing:?}");
}
