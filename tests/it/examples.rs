//! The programs of `examples/`: each does what its first lines say.
//!
//! `cargo test` builds them, a test of this target alone does not: then they are left out, loudly.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{Said, left_out, run};

/// The example `name`, where it has been built.
fn example(name: &str) -> Option<Command> {
    let programs = Path::new(env!("CARGO_BIN_EXE_negstream")).parent().expect("programs lie in a folder");
    let path = programs.join("examples").join(name);
    if path.is_file() { Some(Command::new(path)) } else { left_out("examples", "`cargo build --examples` makes them") }
}

fn succeeds(command: &mut Command) -> Said {
    run(command.stdin(Stdio::null())).ended(0)
}

#[test]
fn replay_and_neighbors_prints_neighbours_of_the_same_topic_first() {
    let Some(mut example) = example("replay_and_neighbors") else { return };
    let said = succeeds(&mut example);
    assert!(said.out.starts_with("End after 20000 events: "), "{}", said.out);
    assert_eq!((said.out.matches("nearest to ").count(), said.out.lines().count()), (3, 1 + 3 * 6), "{}", said.out);
}

#[test]
fn own_source_counts_its_lines() {
    let Some(mut example) = example("own_source") else { return };
    let folder = tempfile::tempdir().unwrap();
    let lines = folder.path().join("lines");
    std::fs::write(&lines, "ann tea\nbob tea\nnonsense\nann milk\n").unwrap();
    let said = run(example.stdin(std::fs::File::open(lines).unwrap())).ended(0);
    assert_eq!(said.out, "4 lines read, 1 rejected, 2 items known\n");
}

#[test]
fn own_sink_gets_a_full_update_before_any_other() {
    let Some(mut example) = example("own_sink") else { return };
    let said = succeeds(&mut example);
    assert!(said.out.starts_with("Full update, epoch 1, "), "{}", said.out);
    assert!(said.out.lines().count() >= 2, "{}", said.out);
}

#[test]
fn samplers_alone_draws_with_exact_probabilities() {
    let Some(mut example) = example("samplers_alone") else { return };
    let said = succeeds(&mut example);
    let mut rows = said.out.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    assert_eq!(rows.next().unwrap()[..3], ["item", "log", "q"], "{}", said.out);
    for row in rows {
        let [_, log_q, share] = row[..] else { panic!("{}", said.out) };
        let (q, share) = (log_q.parse::<f64>().unwrap().exp(), share.parse::<f64>().unwrap());
        // Five standard deviations of 10,000 draws, and the rounding of both.
        assert!((q - share).abs() < 5.0 * (q * (1.0 - q) / 1e4).sqrt() + 1e-3, "{q}, {share}");
    }
}
