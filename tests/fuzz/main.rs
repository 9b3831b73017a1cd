//! Whatever reads bytes from outside, against bytes that nobody should write: records of every format, schemas,
//! configuration, logs in Parquet and text, manifests. Everything must end in a value or in a typed error; never in a panic, never
//! late, and never with a large piece of memory asked for.
//!
//! | command | runs |
//! | --- | --- |
//! | `cargo test --release --all-features --test fuzz` | some thousand changes of each file in `tests/corpus/TARGET/` |
//! | `NEGSTREAM_FUZZ=1000000 cargo test --release --all-features --test fuzz -- --ignored` | so many of each |
//!
//! Changes are drawn from a seed (`NEGSTREAM_FUZZ_SEED`), so that a run can be repeated; an input that fails is kept, and
//! its place is told. One that taught something belongs into the corpus.

mod allocations;
mod changes;
mod targets;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use changes::Changes;

/// Most that may be asked for at once, for files of a few KiB.
const MOST_BYTES: usize = 64 << 20;
/// Longest that one input may take, on any machine.
const LONGEST: Duration = Duration::from_secs(20);

/// Runs one target over its corpus: each file as it is, then `cases` changes of them.
fn fuzz(name: &str, cases: u64, target: &dyn Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(name);
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(&folder).expect("the corpus").map(|entry| entry.expect("a file").path()).collect();
    files.sort();
    let corpus: Vec<Vec<u8>> = files.iter().map(|path| std::fs::read(path).expect("a file")).collect();
    assert!(!corpus.is_empty(), "{} is empty", folder.display());
    let seed = std::env::var("NEGSTREAM_FUZZ_SEED").map_or(1, |seed| seed.parse().expect("a number"));
    let mut changes = Changes::new(seed, name);
    for case in 0..cases + corpus.len() as u64 {
        let input = match corpus.get(case as usize) {
            Some(whole) => whole.clone(),
            None => changes.of(&corpus),
        };
        allocations::forget();
        let begin = Instant::now();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| target(&input)));
        let (took, asked) = (begin.elapsed(), allocations::largest());
        if outcome.is_err() || took > LONGEST || asked > MOST_BYTES {
            let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{name}-{seed}-{case}"));
            std::fs::write(&kept, &input).expect("a writable folder");
            panic!("{name}: {outcome:?} after {took:?}, {asked} bytes at once; the input is {}", kept.display());
        }
    }
}

macro_rules! targets {
    ($($name:ident $folder:literal $cases:literal),* $(,)?) => {
        $(#[test]
        fn $name() {
            fuzz($folder, $cases, &targets::$name());
        })*

        mod long {
            /// Changes of each target.
            fn cases() -> u64 {
                std::env::var("NEGSTREAM_FUZZ").map_or(100_000, |cases| cases.parse().expect("a number"))
            }

            $(#[test]
            #[ignore = "as long as NEGSTREAM_FUZZ says"]
            fn $name() {
                super::fuzz($folder, cases(), &super::targets::$name());
            })*
        }
    };
}

targets! {
    json "json" 20_000,
    avro "avro" 20_000,
    avro_framed "avro-framed" 20_000,
    avro_schema "avro-schema" 5_000,
    protobuf "protobuf" 20_000,
    protobuf_framed "protobuf-framed" 20_000,
    protobuf_schema "protobuf-schema" 5_000,
    config "config" 300,
    set "set" 300,
    parquet "parquet" 2_000,
    text_log "text" 2_000,
    manifest "manifest" 3_000,
}
