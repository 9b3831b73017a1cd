//! Samplers of negatives: what they cost, how close they come to the stream, and how far a gradient from their draws is
//! from that of the softmax over all items. One JSON line per result.
//!
//! `cargo bench --bench negatives [-- --quick] [--only NAME]… [--sampler NAME]… [--log FILE.parquet] [--markdown]`, with
//! the names
//!
//! | name | measures |
//! | --- | --- |
//! | `speed` | each sampler alone on a thread among 1,000,000 live items: draws, probabilities, events, queries |
//! | `kl` | log-loss of what comes next on a real log; on a drifting stream whose truth is known, KL(truth ‖ q) |
//! | `bias` | relative bias and deviation of the sampled gradient, by form of the correction and number of draws |
//!
//! The real log is that of `--log`, or MovieLens 100K where it lies beside this folder; without it, its part is left
//! out. `--markdown` adds the tables at the end; `negatives_plot.py` draws the third from the JSON lines. How exactly
//! each is measured stands at the head of its file. With `--quick` everything is smaller by far, to see that it works.

mod bias;
mod kl;
mod replay;
mod report;
mod speed;
mod streams;

use std::path::{Path, PathBuf};

use negstream::config::NoiseTerm;
use negstream::negatives::samplers::NoiseSampler;

use report::Report;

/// A sampler that is measured.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// What it is called in the results.
    pub name: &'static str,
    /// Its table in the configuration.
    toml: &'static str,
    /// Whether every live item can be drawn.
    pub full_support: bool,
}

impl Kind {
    /// A new one.
    pub fn sampler(&self) -> Box<dyn NoiseSampler> {
        let term: NoiseTerm = toml::from_str(self.toml).expect("a valid term");
        term.build()
    }
}

const fn kind(name: &'static str, toml: &'static str, full_support: bool) -> Kind {
    Kind { name, toml, full_support }
}

/// One of each. What has no full support stands alone, and half and half with a unigram.
const KINDS: [Kind; 12] = [
    kind("uniform", "sampler = 'uniform'", true),
    kind("unigram", "sampler = 'unigram'", true),
    kind("unigram^0.75", "sampler = 'unigram'\npower = 0.75", true),
    kind("log_uniform", "sampler = 'log_uniform'", true),
    kind("interval", "sampler = 'interval'", true),
    kind("cooccurrence", "sampler = 'cooccurrence'", true),
    kind("adaptive", "sampler = 'adaptive'\nclusters = 64", true),
    kind("uniform+unigram", "sampler = 'mixture'\nparts = [{ sampler = 'uniform' }, { sampler = 'unigram' }]", true),
    kind("hard", "sampler = 'hard'", false),
    kind("hard+unigram", "sampler = 'mixture'\nparts = [{ sampler = 'hard' }, { sampler = 'unigram' }]", true),
    kind("exposure", "sampler = 'exposure'", false),
    kind("exposure+unigram", "sampler = 'mixture'\nparts = [{ sampler = 'exposure' }, { sampler = 'unigram' }]", true),
];

/// What was asked for.
#[derive(Debug)]
pub struct Options {
    /// Smaller by far.
    pub quick: bool,
    /// The real log, where it is there.
    pub log: Option<PathBuf>,
    /// Names of those of [`KINDS`] that are measured; empty: all.
    samplers: Vec<String>,
}

impl Options {
    /// Those that are measured.
    pub fn kinds(&self) -> Vec<Kind> {
        let wanted = |kind: &Kind| self.samplers.is_empty() || self.samplers.iter().any(|name| name == kind.name);
        KINDS.into_iter().filter(wanted).collect()
    }
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let given = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let after = |flag: &str| -> Vec<&String> {
        arguments.windows(2).filter(|pair| pair[0] == flag).map(|pair| &pair[1]).collect()
    };
    let only = after("--only");
    let wanted = |name: &str| only.is_empty() || only.iter().any(|other| *other == name);
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/ml-100k/events.parquet");
    let log = after("--log").first().map_or(beside, PathBuf::from);
    let needed = wanted("kl") || wanted("bias");
    if needed && !log.is_file() {
        eprintln!("*** LEFT OUT: everything on a real log, for there is no {}; name one with --log", log.display());
    }
    let options = Options {
        quick: given("--quick"),
        log: log.is_file().then_some(log),
        samplers: after("--sampler").into_iter().cloned().collect(),
    };
    let mut report = Report::default();
    if wanted("speed") {
        speed::run(&options, &mut report);
    }
    if wanted("kl") {
        kl::run(&options, &mut report)?;
    }
    if wanted("bias") {
        bias::run(&options, &mut report)?;
    }
    if given("--markdown") {
        report.print_markdown();
    }
    Ok(())
}
