//! The command line as people and scripts meet it: exit statuses, messages that name the place, output for programs.

use std::process::Command;

use serde_json::Value;

use crate::support::{self, Background, Place, negstream, read, run, set, tree, write_log};

/// Asserts that a command line is refused (exit status 2), that the message names `words`, and that no file is touched.
#[track_caller]
fn assert_wrong_usage(place: &Place, arguments: &[&str], words: &[&str]) {
    let before = tree(&place.path(""));
    let said = run(negstream().current_dir(place.path("")).args(arguments)).ended(2).names(words);
    assert!(said.out.is_empty(), "{}", said.out);
    assert!(tree(&place.path("")) == before, "wrong usage touches nothing");
}

/// A place with a log and a model trained on it.
fn trained_place() -> Place {
    let place = Place::new();
    write_log(&place.path("log.parquet"), &support::events(3_000, 12));
    place.replay("log.parquet", &[]);
    place
}

#[test]
fn command_line_refuses_wrong_usage_before_anything_is_touched() {
    let place = Place::new();
    write_log(&place.path("log.parquet"), &support::events(300, 12));
    std::fs::write(place.path("worker.toml"), "[train]\nbatc = 7\n").unwrap();
    std::fs::write(place.path("broken.toml"), "[train]\nbatch = = 7\n").unwrap();
    assert_wrong_usage(&place, &[], &["Usage: negstream", "replay"]);
    assert_wrong_usage(&place, &["reply", "log.parquet"], &["reply", "replay"]);
    assert_wrong_usage(&place, &["replay"], &["<LOG>"]);
    assert_wrong_usage(&place, &["replay", "log.parquet", "--frsh"], &["--frsh", "--fresh"]);
    assert_wrong_usage(
        &place,
        &["replay", "log.parquet", "--set", "train.batc=7"],
        &["'train.batc'", "did you mean 'train.batch'?"],
    );
    assert_wrong_usage(
        &place,
        &["replay", "log.parquet", "--set", "train.batch=many"],
        &["train.batch", "invalid type"],
    );
    assert_wrong_usage(
        &place,
        &["replay", "log.parquet", "--set", "model.dim=0"],
        &["'model.dim'", "must lie in 1..=4096"],
    );
    assert_wrong_usage(&place, &["replay", "log.parquet", "--set", "seed"], &["seed", "expected KEY=VALUE"]);
    assert_wrong_usage(
        &place,
        &["-c", "worker.toml", "replay", "log.parquet"],
        &["worker.toml", "'train.batc'", "'train.batch'"],
    );
    assert_wrong_usage(&place, &["-c", "broken.toml", "replay", "log.parquet"], &["broken.toml", "line 2, column 9"]);
    assert_wrong_usage(&place, &["-c", "none.toml", "replay", "log.parquet"], &["cannot read configuration none.toml"]);
    assert_wrong_usage(&place, &["synth", "--events", "0", "-o", "new.parquet"], &["--events"]);
    for share in ["1.5", "-0.1", "NaN", "some"] {
        let interleave = format!("--interleave={share}");
        assert_wrong_usage(
            &place,
            &["synth", "--events", "9", &interleave, "-o", "new.parquet"],
            &["--interleave", share],
        );
    }
    assert_wrong_usage(&place, &["produce", "log.parquet"], &["embedded broker", "kafka.brokers="]);
    assert_wrong_usage(&place, &["run"], &["no broker is named", "kafka.brokers", "negstream demo"]);
    assert_wrong_usage(&place, &["migrate", "--to", "earliest"], &["no broker is named", "kafka.brokers"]);
    for topic in ["clicks,purchases", "^clicks.*", "clicks purchases", ".."] {
        let setting = format!("kafka.topic={topic}");
        assert_wrong_usage(&place, &["run", "--set", &setting], &["kafka.topic", "the name of one topic"]);
    }
    let letters = ["run", "--set", "kafka.topic=clicks", "--set", "kafka.dead_letter_topic=clicks"];
    assert_wrong_usage(&place, &letters, &["kafka.dead_letter_topic", "must be another topic than kafka.topic"]);
    for share in ["nan", "-0.1", "1.01", "inf"] {
        let setting = format!("dead_letters.max_share={share}");
        assert_wrong_usage(&place, &["run", "--set", &setting], &["dead_letters.max_share", "must lie in 0..=1"]);
    }
    assert_wrong_usage(&place, &["run", "--set", "dead_letters.window=0"], &["dead_letters.window", "at least 1"]);
    assert_wrong_usage(&place, &["neighbors", "checkpoints", "item", "-k", "0"], &["-k"]);
    let kafka = "kafka.properties.enable.auto.commit=true";
    assert_wrong_usage(&place, &["run", "--set", kafka], &["'kafka.properties.enable.auto.commit' cannot be set"]);

    let mut command = place.negstream(&["replay", "log.parquet"]);
    command.env("NEGSTREAM__TRAIN__BATHC", "7");
    run(&mut command).ended(2).names(&["environment variable NEGSTREAM__TRAIN__BATHC", "'train.batch'"]);
    assert!(!place.path("checkpoints").exists());
}

#[test]
fn help_lists_commands_and_exit_statuses() {
    let said = run(negstream().arg("--help")).ended(0);
    for word in [
        "demo",
        "run",
        "replay",
        "produce",
        "synth",
        "neighbors",
        "recommend",
        "negatives",
        "inspect",
        "config",
        "Exit status:",
    ] {
        assert!(said.out.contains(word), "{word}: {}", said.out);
    }
    let said = run(negstream().arg("--version")).ended(0);
    assert_eq!(said.out, format!("negstream {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn commands_name_the_file_or_checkpoint_that_is_missing() {
    let place = Place::new();
    run(&mut place.negstream(&["replay", "nothing.parquet"])).ended(3).names(&["no such log: nothing.parquet"]);
    run(&mut place.negstream(&["replay", "no/*.parquet"])).ended(3).names(&["no such log: no/*.parquet"]);
    std::fs::create_dir(place.path("empty")).unwrap();
    run(&mut place.negstream(&["replay", "empty"])).ended(3).names(&["no such log: empty"]);
    for (command, rest) in [("neighbors", &["item"][..]), ("negatives", &[]), ("inspect", &[])] {
        for checkpoint in ["nowhere", "empty"] {
            let arguments = [&[command, checkpoint], rest].concat();
            run(&mut place.negstream(&arguments)).ended(4).names(&["no checkpoint at", checkpoint]);
        }
    }
    assert!(!place.path("checkpoints").exists());
    // A folder that cannot be one.
    write_log(&place.path("log.parquet"), &support::events(300, 12));
    let mut command = place.negstream_in("log.parquet", &["replay", "log.parquet"]);
    run(&mut command).ended(4).names(&["log.parquet", "cannot create the folder"]);
}

#[test]
fn config_check_accepts_its_own_output() {
    let place = Place::new();
    let config =
        |arguments: &[&str]| run(negstream().current_dir(place.path("")).arg("config").args(arguments)).ended(0).out;
    std::fs::write(place.path("default.toml"), config(&["default"])).unwrap();
    let checked = config(&["check"]);
    assert_eq!(config(&["check", "-c", "default.toml"]), checked);
    // What check shows is a configuration itself.
    std::fs::write(place.path("checked.toml"), &checked).unwrap();
    assert_eq!(config(&["check", "-c", "checked.toml"]), checked);
}

#[test]
fn flags_win_over_environment_over_file_over_default() {
    let place = Place::new();
    std::fs::write(place.path("worker.toml"), "seed = 2\n[train]\nbatch = 20\nlearning_rate = 0.2\n").unwrap();
    let mut command = negstream();
    command.current_dir(place.path("")).args(["config", "check", "-c", "worker.toml", "--set", "train.batch=40"]);
    command.env("NEGSTREAM__TRAIN__BATCH", "30").env("NEGSTREAM__TRAIN__LEARNING_RATE", "0.3");
    let checked: toml::Table = run(&mut command).ended(0).out.parse().unwrap();
    let train = &checked["train"];
    assert_eq!((checked["seed"].as_integer(), train["batch"].as_integer()), (Some(2), Some(40)));
    assert!((train["learning_rate"].as_float().unwrap() - 0.3).abs() < 1e-6);
    assert_eq!(checked["model"]["dim"].as_integer(), Some(64));
}

#[test]
fn config_never_shows_secrets() {
    const SECRET: &str = "31337";
    let place = Place::new();
    let with = |setting: &str| format!("kafka.properties.{setting}");
    let not_shown = |command: &mut Command, code: i32| {
        let said = run(command.current_dir(place.path(""))).ended(code);
        assert!(!said.out.contains(SECRET) && !said.err.contains(SECRET), "{}{}", said.out, said.err);
        said
    };
    let check = |settings: &[String]| {
        let mut command = negstream();
        command.args(["config", "check"]);
        set(&mut command, &settings.iter().map(String::as_str).collect::<Vec<_>>());
        command
    };
    let said = not_shown(&mut check(&[with(&format!("sasl.password={SECRET}"))]), 0);
    assert!(said.out.contains("\"sasl.password\" = \"(not shown)\""), "{}", said.out);
    // Nor where something is wrong: a mistyped key, a value that is refused, a file that is not TOML or holds a number.
    not_shown(&mut check(&[format!("kafka.propertis.sasl.password={SECRET}")]), 2);
    not_shown(&mut check(&[with(&format!("sasl.pasword={SECRET}"))]), 2);
    not_shown(&mut check(&[with(&format!("security.protocol={SECRET}"))]), 2);
    for (name, line) in [("number", SECRET.to_owned()), ("broken", format!("\"{SECRET}\" oops"))] {
        std::fs::write(place.path(name), format!("[kafka.properties]\n\"sasl.password\" = {line}\n")).unwrap();
        let said = not_shown(negstream().args(["config", "check", "-c", name]), 2);
        assert!(said.err.contains(if name == "number" { "sasl.password" } else { "line 2" }), "{}", said.err);
    }
    let mut command = negstream();
    command.args(["config", "check"]).env("NEGSTREAM__KAFKA__PROPERTIES__SASL__PASSWORD", SECRET);
    assert!(not_shown(&mut command, 0).out.contains("(not shown)"));
}

#[test]
fn config_prints_the_schema_and_the_default_in_the_tree() {
    for (what, path) in [("schema", "schemas/config.schema.json"), ("default", "config/default.toml")] {
        let written = read(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path));
        let printed = run(negstream().args(["config", what])).ended(0).out;
        assert!(printed.as_bytes() == written, "write it anew: negstream config {what} > {path}");
    }
}

#[test]
fn json_flags_print_json() {
    let place = trained_place();
    let report: Value = {
        let mut command = place.negstream(&["replay", "log.parquet", "--fresh", "--json", "--report", "report.json"]);
        let said = run(&mut command).ended(0);
        assert_eq!(said.out.lines().count(), 1);
        let written: Value = serde_json::from_slice(&read(&place.path("report.json"))).unwrap();
        assert_eq!(written, said.json());
        written
    };
    assert_eq!(report["events"]["read"], 3_000);

    let inspected = run(&mut place.negstream(&["inspect", "checkpoints", "--json"])).ended(0).json();
    let manifest = place.manifest("checkpoints");
    for key in ["format", "seed", "step", "events", "beta", "temperature", "positions", "files"] {
        assert_eq!(inspected[key], manifest[key], "{key}");
    }
    assert_eq!(inspected["intact"], true);

    let item = support::events(1, 12)[0].item.to_string();
    let found = run(&mut place.negstream(&["neighbors", "checkpoints", &item, "-k", "3", "--json"])).ended(0).json();
    assert_eq!((&found["item_id"], found["neighbors"].as_array().map(Vec::len)), (&item.as_str().into(), Some(3)));
    let cosines: Vec<f64> =
        found["neighbors"].as_array().unwrap().iter().map(|found| found["cosine"].as_f64().unwrap()).collect();
    assert!(cosines.is_sorted_by(|a, b| a >= b) && cosines[0] <= 1.0 + 1e-5, "{cosines:?}");
}

#[test]
fn inspect_and_neighbors_print_text_for_people() {
    let place = trained_place();
    let said = run(&mut place.negstream(&["inspect", "checkpoints"])).ended(0);
    for word in ["intact", "3000 read", "items.parquet", "sha256"] {
        assert!(said.out.contains(word), "{word}: {}", said.out);
    }
    let events = support::events(1, 12);
    let said = run(&mut place.negstream(&["neighbors", "checkpoints", &events[0].item, "-k", "4"])).ended(0);
    assert_eq!(said.out.lines().count(), 5);
}

#[test]
fn neighbors_of_an_unknown_item_names_the_nearest() {
    let place = trained_place();
    let item = support::events(1, 12)[0].item.to_string();
    let mistyped = format!("{item}x");
    let said = run(&mut place.negstream(&["neighbors", "checkpoints", &mistyped])).ended(2);
    said.names(&[&format!("no item '{mistyped}'"), "the nearest name is", &item]);
}

#[test]
fn run_names_an_address_that_is_in_use() {
    let place = Place::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let embedded = "kafka.brokers=embedded";
    let mut command =
        place.negstream(&["run", "--until-end", "--set", embedded, "--set", &format!("http.listen={address}")]);
    // The last of two settings wins.
    command.arg("--set").arg(format!("http.listen={address}"));
    run(&mut command).ended(5).names(&[&address, "already in use", "http.listen"]);
    assert!(!place.path("checkpoints").exists(), "nothing may be touched");
}

#[test]
fn second_worker_on_the_same_checkpoints_is_refused() {
    let place = Place::new();
    write_log(&place.path("log.parquet"), &support::events(300, 12));
    let embedded = "kafka.brokers=embedded";
    let mut first = Background::start(&mut place.negstream(&["run", "--set", embedded]));
    // It reads once it holds its checkpoints.
    first.wait_for(|line| line.contains("reading partition=").then_some(())).unwrap();
    let replays = [&["replay", "log.parquet"][..], &["replay", "--fresh", "log.parquet"]];
    for arguments in replays.into_iter().chain([&["run", "--until-end", "--set", embedded][..]]) {
        run(&mut place.negstream(arguments)).ended(6).names(&["checkpoints", "in use by another worker"]);
    }
    first.terminate();
    first.end().ended(0);
    // The lock goes with the process that held it.
    place.replay("log.parquet", &[]);
}

#[test]
fn synthetic_log_is_a_function_of_its_options() {
    let place = Place::new();
    let synth = |output: &str, options: &[&str]| {
        let arguments = [&["synth", "--events", "2000", "-o", output], options].concat();
        run(&mut place.negstream(&arguments)).ended(0);
        read(&place.path(output))
    };
    let first = synth("first.parquet", &[]);
    assert!(first == synth("again.parquet", &["--set", "threads=1"]), "the same options give the same bytes");
    assert!(first != synth("seed.parquet", &["--set", "seed=2"]));
    assert!(first != synth("users.parquet", &["--users", "50"]));
    assert!(first == synth("apart.parquet", &["--interleave", "0"]));
    assert!(first != synth("interleaved.parquet", &["--interleave", "0.5"]));
    assert_eq!(place.replay("first.parquet", &[])["events"]["used"], 2_000);
    let said = run(&mut place.negstream(&["synth", "--events", "9", "-o", "no/log.parquet"]));
    said.ended(2).names(&["--output no/log.parquet: no such folder"]);
}

/// Devices, links and neighbours of an output file stay what they are.
#[test]
fn output_goes_through_devices_and_links_and_touches_no_neighbour() {
    let place = Place::new();
    run(&mut place.negstream(&["synth", "--events", "3000", "-o", "/dev/null"])).ended(0);
    std::os::unix::fs::symlink("there.parquet", place.path("log.parquet")).unwrap();
    run(&mut place.negstream(&["synth", "--events", "3000", "-o", "log.parquet"])).ended(0);
    assert!(place.path("log.parquet").is_symlink() && place.path("there.parquet").is_file());
    std::fs::write(place.path("r.unfinished"), "precious").unwrap();
    let replay = |report: &str| run(&mut place.negstream(&["replay", "log.parquet", "--fresh", "--report", report]));
    replay("r.json").ended(0);
    assert_eq!(std::fs::read_to_string(place.path("r.unfinished")).unwrap(), "precious");
    replay("/dev/null").ended(0);
    assert!(!std::fs::metadata("/dev/null").unwrap().is_file());
    replay("/dev/full").names(&["cannot write /dev/full"]);
    let negatives = ["negatives", "checkpoints", "--sampler", "uniform", "-o", "/dev/null"];
    run(&mut place.negstream(&negatives)).ended(0);
    assert!(!std::fs::metadata("/dev/null").unwrap().is_file());
}

/// A result that nobody got is no success; a reader that has seen enough is none of that.
#[test]
fn standard_output_that_takes_nothing_is_an_error() {
    let place = Place::new();
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let mut command = place.negstream(&["config", "default"]);
    let output = command.stdout(full).stderr(std::process::Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("cannot write to standard output"), "{said}");
}
