//! Cases: what real streams and logs did to other programs of this trade.
//!
//! They lie beside the project (`../shared/cases`; `NEGSTREAM_CASES` names another folder). Each makes its own input, runs the
//! program and prints what happened, for people. What has to be among that, and what must not, stands here. Where the
//! folder, or a Python that has what a case needs, is missing, that is said, and is a failure where `NEGSTREAM_REQUIRE` names
//! `cases`.
//!
//! What a case shows is held without that folder too: by the tests that its line names, with inputs of their own.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use crate::kafka_harness::Broker;
use crate::support::{copy, left_out, negstream, tree};

/// A case, and how it has to end.
struct Case {
    /// Its folder.
    name: &'static str,
    /// What it imports in Python.
    modules: &'static [&'static str],
    /// What it has to print, and how often at least; `#` is any digit.
    says: &'static [(usize, &'static str)],
    /// What it must not print.
    never: &'static [&'static str],
    /// The tests that hold the same without it.
    tests: &'static [&'static str],
}

impl Case {
    /// Whether it needs a broker: all that do also write to it from Python.
    fn needs_broker(&self) -> bool {
        self.modules.contains(&"confluent_kafka")
    }

    /// What is wrong with what it printed.
    fn faults(&self, printed: &str) -> Vec<String> {
        let without_digits = printed.replace(|character: char| character.is_ascii_digit(), "#");
        let said = self.says.iter().filter_map(|(times, words)| {
            let found = if words.contains('#') { &without_digits } else { printed }.matches(words).count();
            (found < *times).then(|| format!("{words:?} comes {found} times, not {times}"))
        });
        let never =
            self.never.iter().filter(|words| printed.contains(**words)).map(|words| format!("there is {words:?}"));
        said.chain(never).collect()
    }
}

const NO_PYTHON: &[&str] = &[];
const ARROW: &[&str] = &["numpy", "pyarrow"];
const KAFKA: &[&str] = &["confluent_kafka"];
const KAFKA_AND_ARROW: &[&str] = &["confluent_kafka", "pyarrow"];

/// Exit status 0 with so many events, as most cases print it.
const ALL_300: &str = "exit 0  ({'read': 300, 'used': 300,";
const ALL_600: &str = "exit 0  {'read': 600, 'used': 600,";

/// Every case there is.
const CASES: &[Case] = &[
    Case {
        name: "audit-fails-on-transactions",
        modules: KAFKA,
        says: &[(1, "600 read, 600 used"), (1, "audit exit 0")],
        never: &[],
        tests: &["audit_passes_over_what_transactions_leave_behind"],
    },
    Case {
        name: "brotli",
        modules: ARROW,
        says: &[(5, ALL_600), (1, "[second file is brotli] exit 0  {'read': 1200, 'used': 1200,")],
        never: &[],
        tests: &["logs_are_read_however_their_columns_are_compressed"],
    },
    Case {
        name: "dead-letter-file-cut",
        modules: ARROW,
        says: &[(1, "720 letters (720 are due), of run two: 240")],
        never: &[],
        tests: &["dead_letters_of_another_run_are_kept"],
    },
    Case {
        name: "dead-letters-feed-themselves",
        modules: KAFKA,
        says: &[(1, "max_share=1: exit 2"), (1, "max_share=0.5: exit 2"), (3, "records in the topic: 1050")],
        never: &[],
        tests: &["command_line_refuses_wrong_usage_before_anything_is_touched"],
    },
    Case {
        name: "file-order",
        modules: ARROW,
        says: &[(1, "exit 0  {'read': 2400, 'used': 2400,")],
        never: &["time goes back"],
        tests: &["parts_come_in_the_order_of_their_numbers", "logs_out_of_order_are_told_and_can_be_sorted"],
    },
    Case {
        name: "fresh-deletes-foreign-folders",
        modules: NO_PYTHON,
        says: &[(1, "exit 0"), (1, "1600000000"), (2, "precious")],
        never: &[],
        tests: &["fresh_run_removes_nothing_of_somebody_else"],
    },
    Case {
        name: "http-fd-exhaustion",
        modules: NO_PYTHON,
        says: &[(1, "{\"alive\":true"), (1, "exit status after SIGTERM: 0"), (1, "checkpoints failed: 0")],
        never: &["NO ANSWER"],
        tests: &["half_open_requests_cost_neither_checkpoints_nor_the_drain"],
    },
    Case {
        name: "ids-decimal-uuid-binary",
        modules: &["duckdb", "numpy", "pyarrow"],
        says: &[(4, ALL_600)],
        never: &[],
        tests: &["ids_of_every_type_are_the_same_ids"],
    },
    Case {
        name: "items-parquet-in-spark",
        modules: &["duckdb", "numpy", "pandas", "polars", "pyarrow"],
        says: &[(1, "embedding.list.element ('PLAIN', 'RLE')"), (1, "('FLOAT[]', 'BIGINT')")],
        never: &[],
        tests: &["items_are_stored_as_every_reader_takes_them"],
    },
    Case {
        name: "items-parquet-ok",
        modules: &["duckdb", "numpy", "pandas", "polars", "pyarrow"],
        says: &[(1, "items 21"), (1, "pyarrow (21, 64) | polars Array(Float32, shape=(64,)) | pandas (21, 5)")],
        never: &["\u{202e}"],
        tests: &["items_with_cosine", "hostile_identifiers_are_only_data"],
    },
    Case {
        name: "kafka-all-rejected-is-success",
        modules: KAFKA_AND_ARROW,
        says: &[(3, "exit 3  (no report)"), (1, ALL_300), (1, "exit 0  ({'read': 5000, 'used': 5000,")],
        never: &[],
        tests: &["configuration_that_is_at_fault_for_every_rejection_loses_no_record"],
    },
    Case {
        name: "kafka-begin-anew-reads-nothing",
        modules: KAFKA_AND_ARROW,
        says: &[(3, "exit 0  ({'read': 3000, 'used': 3000,"), (1, "3000 records in all"), (1, "50 records in all")],
        never: &[],
        tests: &["model_begun_anew_reads_the_topic_again_or_says_what_it_leaves_out"],
    },
    Case {
        name: "kafka-cluster-migration",
        modules: KAFKA_AND_ARROW,
        says: &[(1, "exit 3  (no report)"), (1, "keep the model and set the positions anew")],
        never: &[],
        tests: &["topic_made_anew_is_refused_by_its_id_and_migrate_keeps_the_model"],
    },
    Case {
        name: "kafka-compacted",
        modules: KAFKA_AND_ARROW,
        says: &[(1, "(no stall, no error)] exit 0"), (1, "[LogAppendTime from here on (100)] exit 0  ({'read': 100,")],
        never: &["still waiting"],
        tests: &["lag_reaches_zero_past_gaps_and_deletion_markers"],
    },
    Case {
        name: "kafka-envelopes",
        modules: KAFKA_AND_ARROW,
        says: &[(2, "exit 0  ({'read': 50, 'used': 50,"), (1, "source.fields.user_id = \"payload.after.user_id\"")],
        never: &[],
        tests: &["fields_within_structs_are_found_by_their_paths"],
    },
    Case {
        name: "kafka-ok",
        modules: KAFKA_AND_ARROW,
        says: &[
            (1, "[five compressions (500)] exit 0  ({'read': 500, 'used': 500,"),
            (1, "the last record is a marker (60)] exit 0  ({'read': 60, 'used': 60,"),
            (1, "aborted items in the model: []"),
            (1, "(51 used)] exit 0  ({'read': 53, 'used': 51,"),
            (1, "grown while it was down (140)] exit 0  ({'read': 140,"),
            (4, "exit 2  (no report)"),
            (1, "made: []"),
            (1, "(80)] exit 0  ({'read': 80, 'used': 80,"),
        ],
        never: &["still waiting"],
        tests: &[
            "transaction_gaps_do_not_hold_up_the_end",
            "added_partitions_are_read_from_their_beginning",
            "missing_topic_is_named",
            "poison_is_delivered_as_rejections",
        ],
    },
    Case {
        name: "kafka-records",
        modules: KAFKA_AND_ARROW,
        says: &[
            (1, "exit 0  ({'read': 278,"),
            (1, "in a schema registry's frame?"),
            (1, "compressed by gzip?"),
            (3, "NaN and infinities are no JSON"),
            (1, "source.timestamp_unit = \"us\"?"),
        ],
        never: &[],
        tests: &[
            "poison_in_every_format_is_dead_lettered_or_trained",
            "seconds_taken_for_milliseconds_are_refused_and_the_unit_named",
        ],
    },
    Case {
        name: "kafka-registry-frame-unnamed",
        modules: &["confluent_kafka", "fastavro", "pyarrow"],
        says: &[(2, "in a schema registry's frame? (source.registry.url)"), (1, "NaN and infinities are no JSON")],
        never: &[],
        tests: &["configuration_that_is_at_fault_for_every_rejection_loses_no_record"],
    },
    Case {
        name: "kafka-several-topics",
        modules: KAFKA_AND_ARROW,
        // It was written when one worker read one topic; now the message says how several are listed.
        says: &[(2, "exit 2  (no report)"), (2, "several are listed in kafka.topics, each in a table of its own")],
        never: &[],
        tests: &["command_line_refuses_wrong_usage_before_anything_is_touched"],
    },
    Case {
        name: "kafka-time-units",
        modules: KAFKA_AND_ARROW,
        says: &[
            (2, "source.timestamp_unit = \"s\"?"),
            (5, "newest last_event: 2026-01-01 00:03:19+00:00"),
            (1, "source.timezone says which one is meant"),
        ],
        never: &["newest last_event: 1970"],
        tests: &["seconds_taken_for_milliseconds_are_refused_and_the_unit_named"],
    },
    Case {
        name: "kafka-topic-anew-same-timestamps",
        modules: KAFKA_AND_ARROW,
        says: &[(1, "800 other records] exit 3"), (1, "the topic was created anew")],
        never: &[],
        tests: &["topic_made_anew_is_refused_by_its_id_and_migrate_keeps_the_model"],
    },
    Case {
        name: "log-fingerprint-collision",
        modules: ARROW,
        says: &[(2, "80000 read, 80000 used")],
        never: &["named twice"],
        tests: &["logs_of_the_same_length_and_edges_are_two"],
    },
    Case {
        name: "member-folders-swapped",
        modules: KAFKA_AND_ARROW,
        says: &[(2, "exit 0, 0"), (2, "exit 3, 3"), (1, "in two states 0"), (1, "audit exit 0")],
        never: &[],
        tests: &["folder_of_another_worker_is_refused"],
    },
    Case {
        name: "not-on-this-machine",
        modules: ARROW,
        // A bucket may be read since then; this one says whose leave is missing.
        says: &[
            (3, "exit 3  (no report)"),
            (1, "cannot read s3://bucket/logs/: no credentials"),
            (2, "it is not Parquet"),
        ],
        never: &["Corrupt footer"],
        tests: &["what_is_no_log_is_told_by_what_it_is"],
    },
    Case {
        name: "nothing-learnt-in-silence",
        modules: ARROW,
        says: &[(3, "nothing was learnt: "), (1, "did you mean \"click\"?"), (1, "exit 2")],
        never: &[],
        tests: &[
            "log_that_teaches_nothing_is_told_with_the_setting",
            "event_type_that_no_event_has_is_refused_before_anything_is_saved",
        ],
    },
    Case {
        name: "parquet-epoch-timestamps",
        modules: ARROW,
        says: &[(2, ALL_600), (1, "source.timezone = \"UTC\""), (1, "source.timestamp_unit = \"s\"?")],
        never: &[],
        tests: &["times_of_every_type_are_the_same_times", "dates_are_times_once_a_zone_is_configured"],
    },
    Case {
        name: "parquet-hidden-files",
        modules: ARROW,
        says: &[(3, ALL_600)],
        never: &[],
        tests: &["folders_of_other_programs_hold_one_log"],
    },
    Case {
        name: "parquet-ok",
        modules: &["duckdb", "fastparquet", "numpy", "pandas", "polars", "pyarrow"],
        says: &[
            (22, ALL_600),
            (1, "[null_users] exit 0  {'read': 600, 'used': 504,"),
            (1, "[fallback] exit 0  {'read': 20000, 'used': 20000,"),
            (1, "[sym] exit 0  {'read': 1200, 'used': 1200,"),
            // The times of its second file are in 1970.
            (1, "[drift] exit 0  {'read': 1200, 'used': 600,"),
            (1, "[upper] exit 3"),
            (1, "[damaged] exit 3"),
            (1, "[cut] exit 3"),
            (1, "[empty] exit 3"),
        ],
        never: &[],
        tests: &["logs_of_random_writers_are_read_as_pyarrow_reads_them", "replay_refuses_files_that_are_not_parquet"],
    },
    Case {
        name: "quiet-stream-never-learns",
        modules: KAFKA,
        says: &[(1, "\"read\":200 \"used\":200"), (1, "\"read\":300 \"used\":300"), (1, "\"events\":0}]")],
        never: &[],
        tests: &["lone_events_are_trained_on_and_saved_without_any_further_record"],
    },
    Case {
        name: "read-ahead-unbounded-bytes",
        modules: KAFKA,
        says: &[(1, "batch ###: peak RSS ### MB"), (1, "batch ####: peak RSS ### MB")],
        never: &[],
        tests: &["features_without_number_do_not_fill_memory"],
    },
    Case {
        name: "replay-takes-what-live-rejects",
        modules: KAFKA_AND_ARROW,
        says: &[(1, "\"read\":5000 \"used\":3500"), (1, "\"read\":3500 \"used\":3500")],
        never: &[],
        tests: &["replay_refuses_the_rows_that_a_live_worker_refuses"],
    },
    Case {
        name: "report-replaces-device",
        modules: NO_PYTHON,
        says: &[(1, "precious"), (1, "link.json is now: symbolic link"), (1, "\"read\": 3000")],
        never: &["regular"],
        tests: &["output_goes_through_devices_and_links_and_touches_no_neighbour"],
    },
    Case {
        name: "secrets-in-messages",
        modules: NO_PYTHON,
        says: &[(6, "held  ")],
        never: &["LEAK"],
        tests: &["secrets_in_the_wrong_form_are_not_repeated"],
    },
    Case {
        name: "training-degenerate",
        modules: ARROW,
        says: &[(18, "finite True"), (2, "exit 2  (no report)"), (1, "[train.learning_rate=100] exit 7")],
        never: &["finite False"],
        tests: &["log_that_teaches_nothing_is_told_with_the_setting", "diverged_model_stops_and_saves_nothing"],
    },
    Case {
        name: "two-writers-after-lock-removed",
        modules: NO_PYTHON,
        says: &[(1, "first: exit 6"), (1, "second: exit 0"), (1, "intact")],
        never: &["both at work on one folder"],
        tests: &["worker_whose_lock_was_removed_is_fenced"],
    },
    Case {
        name: "unreadable-counts-as-damaged",
        modules: NO_PYTHON,
        says: &[(1, "cannot read: Permission denied"), (1, "exit 4")],
        never: &[],
        tests: &["restore_refuses_checkpoint_that_cannot_be_read"],
    },
    Case {
        name: "unused-columns-refused",
        modules: ARROW,
        says: &[(11, ALL_600), (1, "exit 0  {'read': 1200, 'used': 1200,")],
        never: &[],
        tests: &["columns_that_are_not_read_refuse_no_log"],
    },
    Case {
        name: "verify-reads-without-end",
        modules: NO_PYTHON,
        says: &[(1, "grown: exit 4"), (1, "fifo: exit 4")],
        never: &[],
        tests: &["what_grew_or_is_no_file_is_damage_at_once"],
    },
    Case {
        name: "zstd-batch-kills-worker",
        modules: KAFKA,
        says: &[(2, "receive.message.max.bytes"), (2, "exit 3"), (2, "pass it over")],
        never: &[],
        tests: &["batch_that_cannot_be_unpacked_is_named_and_can_be_passed_over"],
    },
];

/// What cases call by a name that it had when they were written.
const RENAMED: [(&str, &str); 3] = [
    ("kafka.member=", "kafka.group_instance_id="),
    ("checkpoint.store.", "checkpoint.storage_options."),
    ("bad_value|long_id", "value_not_finite|id_too_long"),
];

/// The longest that a case may take, in seconds.
const LONGEST: &str = "300";
/// Cases that run at a time: they wait more than they compute.
const AT_A_TIME: usize = 3;

#[test]
fn every_case_is_held_by_tests_of_this_tree() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let is_source = |path: &Path| path.extension().is_some_and(|extension| extension == "rs");
    let sources: String = tree(&root)
        .into_iter()
        .filter(|(path, _)| is_source(path))
        .map(|(_, bytes)| String::from_utf8(bytes).expect("source is UTF-8"))
        .collect();
    for case in CASES {
        assert!(!case.tests.is_empty(), "{}", case.name);
        for test in case.tests {
            assert!(sources.contains(&format!("fn {test}(")), "{}: there is no test {test}", case.name);
        }
    }
}

/// The folder of cases, where it is there.
fn folder_of_cases() -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/cases");
    let folder = std::env::var_os("NEGSTREAM_CASES").map_or_else(beside, PathBuf::from);
    if folder.is_dir() { Some(folder) } else { left_out("cases", &format!("there is no {}", folder.display())) }
}

/// A copy of the cases that calls everything by its name of today, each folder with an entry above.
fn copy_of_cases(folder: &Path) -> tempfile::TempDir {
    let place = tempfile::tempdir().expect("a temporary folder");
    copy(folder, place.path());
    let mut known: Vec<&str> = CASES.iter().map(|case| case.name).collect();
    for (path, text) in tree(place.path()) {
        if path.file_name() != Some("run.sh".as_ref()) {
            continue;
        }
        let name = path.parent().and_then(Path::to_str).expect("a case has a name");
        let place_of_name = known.iter().position(|known| *known == name);
        known
            .swap_remove(place_of_name.unwrap_or_else(|| panic!("nothing is known of how the case {name} has to end")));
        let text = String::from_utf8(text).expect("a script is UTF-8");
        let text = RENAMED.iter().fold(text, |text, (former, name)| text.replace(former, name));
        std::fs::write(place.path().join(&path), text).expect("a writable folder");
    }
    assert!(known.is_empty(), "no such cases: {known:?}");
    place
}

/// Whether Python has all that a case imports.
fn has_modules(python: &str, modules: &[&str]) -> bool {
    let import = format!("import {}", modules.join(", "));
    let mut command = Command::new(python);
    command.args(["-c", &import]).stdout(Stdio::null()).stderr(Stdio::null());
    modules.is_empty() || command.status().is_ok_and(|status| status.success())
}

#[test]
fn cases_end_as_a_user_may_expect() {
    let Some(folder) = folder_of_cases() else { return };
    let python = std::env::var("NEGSTREAM_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let cases = copy_of_cases(&folder);
    let (there, missing): (Vec<&Case>, Vec<&Case>) = CASES.iter().partition(|case| has_modules(&python, case.modules));
    if !missing.is_empty() {
        let names: Vec<&str> = missing.iter().map(|case| case.name).collect();
        left_out::<()>("cases", &format!("{python} lacks what {} of them import: {}", names.len(), names.join(", ")));
    }
    let broker = there.iter().any(|case| case.needs_broker()).then(Broker::shared).flatten();
    let to_run: Vec<&Case> = there.into_iter().filter(|case| broker.is_some() || !case.needs_broker()).collect();
    let (left, faults) = (Mutex::new(to_run.into_iter()), Mutex::new(Vec::new()));
    let work = || {
        while let Some(case) = { left.lock().expect("no case panics").next() } {
            let printed = run_case(case, cases.path(), &python, broker.as_deref());
            let found = case.faults(&printed);
            if !found.is_empty() {
                faults.lock().expect("no case panics").push(format!("{}: {}\n{printed}", case.name, found.join("; ")));
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(work);
        }
    });
    let faults = faults.into_inner().expect("no case panics");
    assert!(faults.is_empty(), "{} cases:\n{}", faults.len(), faults.join("\n"));
}

/// Runs a case; what it printed.
fn run_case(case: &Case, cases: &Path, python: &str, broker: Option<&Broker>) -> String {
    let mut command = Command::new("timeout");
    command.args([LONGEST, "bash", "run.sh"]).current_dir(cases.join(case.name)).stdin(Stdio::null());
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("NEGSTREAM")) {
        command.env_remove(name);
    }
    // WAIT: for how long a case looks at a worker that does nothing; shorter than people would.
    command.env("NEGSTREAM", negstream().get_program()).env("PY", python).env("WAIT", "5");
    if let Some(broker) = broker {
        command.env("BOOTSTRAP", broker.bootstrap());
    }
    let output = command.output().expect("cases are run by bash");
    let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let end = if output.status.code() == Some(124) { "it does not end\n" } else { "" };
    // What people may expect is told in words of its own.
    out.lines()
        .filter(|line| !line.starts_with("EXPECTED"))
        .chain(err.lines())
        .chain([end])
        .collect::<Vec<_>>()
        .join("\n")
}
