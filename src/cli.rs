//! The command line: parsed here, acted upon in `commands`. `help` is how its commands are shown.

mod help;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};

use crate::exit::{self, UsageError};
use crate::peers::registry::PEERS;

/// Live recommendation embeddings from a stream of user–item interactions.
#[derive(Debug, Parser)]
#[command(version, about, after_help = after_help(), propagate_version = true)]
pub struct Cli {
    /// The command.
    #[command(subcommand)]
    pub command: Command,
    /// The layers of the configuration.
    #[command(flatten)]
    pub layers: Layers,
}

impl Cli {
    /// Parses `arguments`, the first of which is the program's name. Where they ask for help, or are wrong, that is said and the
    /// process ends, as usual.
    ///
    /// # Errors
    /// An argument that is out of place and may be a secret: half of a `--set KEY VALUE`, or a `KEY=VALUE` without its
    /// `--set`. The parser would repeat it.
    pub fn parse_or_exit(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, UsageError> {
        let arguments: Vec<OsString> = arguments.into_iter().collect();
        let mut command = help::grouped(Self::command());
        let parsed = command.try_get_matches_from_mut(&arguments).and_then(|matches| Self::from_arg_matches(&matches));
        let error = match parsed {
            Ok(cli) => return Ok(cli),
            Err(error) => error.format(&mut command),
        };
        let kind = match error.kind() {
            ErrorKind::UnknownArgument => ContextKind::InvalidArg,
            ErrorKind::InvalidSubcommand => ContextKind::InvalidSubcommand,
            _ => error.exit(),
        };
        let Some(ContextValue::String(misplaced)) = error.get(kind) else { error.exit() };
        let number = arguments.iter().position(|argument| *argument == misplaced.as_str()).unwrap_or_default();
        let before =
            |back: usize| number.checked_sub(back).and_then(|place| arguments[place].to_str()).unwrap_or_default();
        // A key without its value, in `--set KEY VALUE`, `--set KEY = VALUE` or `--set KEY= VALUE`.
        let is_half = |set: &str| set.split_once('=').is_none_or(|(_, value)| value.is_empty());
        let is_value =
            (before(2) == "--set" && is_half(before(1))) || before(1).strip_prefix("--set=").is_some_and(is_half);
        match misplaced.split_once('=') {
            _ if misplaced.starts_with('-') => error.exit(),
            _ if is_value => {
                Err(UsageError("--set: expected KEY=VALUE, in one argument (in quotes where it has spaces)".to_owned()))
            }
            Some((key, _)) => Err(UsageError(format!("'{key}=…' is out of place; did you mean --set {key}=…?"))),
            None => error.exit(),
        }
    }
}

/// A number above zero.
fn positive(text: &str) -> Result<f32, String> {
    let number: f32 = text.parse().map_err(|error| format!("{error}"))?;
    if number.is_finite() && number > 0.0 { Ok(number) } else { Err("must be a number above 0".to_owned()) }
}

/// What follows the options in `--help`.
fn after_help() -> String {
    format!("{}\n\n{}", help::EXAMPLES, exit::TABLE)
}

/// The layers of the configuration: flags over environment (`NEGSTREAM__KAFKA__BROKERS`) over file over default.
#[derive(Debug, Clone, Args)]
pub struct Layers {
    /// Configuration file (TOML); without one the embedded default serves.
    #[arg(short, long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Overrides one key of the configuration; may be given any number of times.
    #[arg(long, global = true, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

/// The commands of the program.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show everything at work, with nothing to set up: a synthetic log, an embedded broker, a page at a local address.
    Demo(DemoArgs),
    /// Train on a Kafka topic until told to stop.
    Run(RunArgs),
    /// Train on historical logs (Parquet, CSV, JSON lines), through the same pipeline.
    ///
    /// Logs that were read before are not read again: a later call goes on with new ones. The end of a call ends a batch, so
    /// `replay a b` and `replay a`, then `replay b`, give models that differ in their last digits.
    Replay(ReplayArgs),
    /// Begin with the item vectors of another model: a first checkpoint, from which `run` and `replay` go on.
    Import(ImportArgs),
    /// Lay configurations and peers (popularity, item-kNN, VSTAN and others) side by side over the same log.
    ///
    /// The first configuration is that of --config, --set and the environment; each --variant is another one. All are ranked on
    /// the same events, each event before it is learnt, from the place on that `evaluate.from` says.
    Compare(CompareArgs),
    /// Search for better settings over logs: many on a little of them, the best of those on more.
    Tune(TuneArgs),
    /// Say what a log holds and what has to be set for it, and the command that replays it then.
    ///
    /// The first rows tell format, columns and times; then the log is read as `replay` would read it, and what would go wrong is
    /// told. What is set already (--config, --set) is kept. Nothing is touched but the file of --write.
    Check(CheckArgs),
    /// Put a log into the topic, keyed by user; all of it, each time.
    Produce(ProduceArgs),
    /// Keep the model, and set its positions anew: for a topic on another cluster, or one that was made anew.
    Migrate(MigrateArgs),
    /// Write a synthetic log with drift, new items and known structure.
    Synth(SynthArgs),
    /// Show the items nearest to one.
    Neighbors(NeighborsArgs),
    /// Recommend items to users, or to somebody who had some items, by the full score.
    Recommend(RecommendArgs),
    /// Serve the API (`/v1`) over the checkpoints that another worker writes, always from the newest.
    Serve(ServeArgs),
    /// Publish a checkpoint's embeddings to sinks, once; or `verify` that sinks hold what it holds.
    #[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
    Publish(PublishArgs),
    /// Write item vectors with popularity in them, and query vectors of users, for the indices of other programs.
    Export(ExportArgs),
    /// Draw negatives as a checkpoint's sampler does, and hold the draws against their exact probabilities.
    Negatives(NegativesArgs),
    /// Show what a checkpoint holds, and verify every checksum.
    Inspect(InspectArgs),
    /// Lay the audits of one or several workers side by side: is each record part of exactly one state?
    Audit(AuditArgs),
    /// Show the default configuration, check one, or print its schema.
    Config(ConfigArgs),
    /// Look at the machine and at all that the configuration names, and say what to do about what will not work.
    ///
    /// Brokers, registry, place for checkpoints, sinks and the address are tried, and processor, memory, disk, open files and
    /// clock looked at. The exit status is that with which a worker would end.
    Doctor(DoctorArgs),
    /// Print the completions of a shell: `negstream completions bash > /etc/bash_completion.d/negstream`.
    Completions(CompletionsArgs),
    /// Write the pages of the manual, one for each command: `negstream man /usr/local/share/man/man1`.
    Man(ManArgs),
}

/// Options of `demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Exit at the end of the log instead of keeping the page up.
    #[arg(long)]
    pub until_done: bool,
    /// Length of the log.
    #[arg(long, value_name = "N", default_value_t = 300_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub events: u64,
    /// Folder to work in; checkpoints are left in its `checkpoints`.
    #[arg(long, value_name = "DIR", default_value = "negstream-demo")]
    pub dir: PathBuf,
}

/// The report of a run, for others to read.
#[derive(Debug, Args)]
pub struct Output {
    /// Write the report to a file: as a page for a browser where its name ends with `.html`, else as JSON.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Print the report as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Options of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Stop at the ends that the partitions have now, write a checkpoint, and exit.
    #[arg(long)]
    pub until_end: bool,
    /// Begin anew, whatever checkpoints there are; they go once `checkpoint.keep` newer ones exist.
    #[arg(long)]
    pub fresh: bool,
    /// The report.
    #[command(flatten)]
    pub output: Output,
}

/// Options of `replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// Files, folders or patterns, in the order in which they are to be read; the files of a folder or a pattern come in the
    /// order of their names, in which numbers count as numbers. Of this machine, or `s3://…`, `gs://…`, `az://…`; single files
    /// also `https://…`.
    #[arg(required = true, value_name = "LOG")]
    pub logs: Vec<String>,
    /// Read the events of all logs in the order of time, however they are stored; takes room for temporary files (TMPDIR).
    #[arg(long)]
    pub sort: bool,
    /// Cut batches where a live worker did that read the same events in the same order: its checkpoints, all from the first on
    /// (`checkpoint.keep`). The models are the same then, byte for byte.
    #[arg(long, value_name = "CHECKPOINTS")]
    pub cuts: Option<PathBuf>,
    /// Begin anew, whatever checkpoints there are; they go once `checkpoint.keep` newer ones exist.
    #[arg(long)]
    pub fresh: bool,
    /// The report.
    #[command(flatten)]
    pub output: Output,
}

/// Options of `import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// A table of Parquet with a row for each item, or an array of NumPy (`.npy`), whose rows are named by a list of JSON.
    #[arg(value_name = "VECTORS")]
    pub vectors: PathBuf,
    /// The column of the items' names; without it, `source.fields.item_id`.
    #[arg(long, value_name = "COLUMN")]
    pub id: Option<String>,
    /// The column of the vectors; without it, `embedding`, or `vector`.
    #[arg(long, value_name = "COLUMN")]
    pub vector: Option<String>,
    /// The column of the number of events of each item; without it, `count`, where there is one.
    #[arg(long, value_name = "COLUMN")]
    pub count: Option<String>,
    /// The column of the time of each item's newest event; without it, `last_event`, where there is one.
    #[arg(long, value_name = "COLUMN")]
    pub last_event: Option<String>,
    /// The names of an array's rows: a list of JSON; without it, the file beside the array that ends with `.json`.
    #[arg(long, value_name = "FILE.json")]
    pub ids: Option<PathBuf>,
    /// The length that every vector is given; without it, .6 where the similarity is the cosine, and as they are where it is the
    /// dot product.
    #[arg(long, value_name = "NUMBER", value_parser = positive)]
    pub length: Option<f32>,
    /// Hold every vector as firmly as that of an item that had so many events; without it, as many as its count says, or 20.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub events: Option<u64>,
    /// Begin anew, whatever checkpoints there are; they go once `checkpoint.keep` newer ones exist.
    #[arg(long)]
    pub fresh: bool,
    /// Print as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Options of `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Files, folders or patterns, as `replay` takes them.
    #[arg(required = true, value_name = "LOG")]
    pub logs: Vec<String>,
    /// Most rows that figures are made of (0: all).
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    pub rows: u64,
    /// Write the settings that are proposed as a configuration file.
    #[arg(long, value_name = "FILE.toml")]
    pub write: Option<PathBuf>,
    /// Print as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Options of `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Print as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Options of `completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell.
    #[arg(value_name = "SHELL")]
    pub shell: clap_complete::Shell,
}

/// Options of `man`.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// The folder for the pages; without one, the first page is printed.
    #[arg(value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// Options of `compare`.
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// Files, folders or patterns, as `replay` takes them.
    #[arg(required = true, value_name = "LOG")]
    pub logs: Vec<String>,
    /// Read the events of all logs in the order of time, however they are stored; takes room for temporary files (TMPDIR).
    #[arg(long)]
    pub sort: bool,
    /// Another configuration: settings that differ from the first one's, and a name for it if they are to have one
    /// ("wide: model.dim=128; train.batch=128"). May be given any number of times.
    #[arg(long = "variant", value_name = "[NAME:] KEY=VALUE; …")]
    pub variants: Vec<String>,
    /// Another configuration from a file, in the place of --config; it is called by the file's name. May be given any number of
    /// times.
    #[arg(long = "variant-file", value_name = "FILE.toml")]
    pub variant_files: Vec<PathBuf>,
    /// The peers: names with commas between them, `all`, or `none`.
    #[arg(long, value_name = "PEERS", default_value = "recent,own-history,item-knn,vstan,mix", help = peers_help())]
    pub peers: String,
    /// What serving late costs: ranks the first configuration also by what it was so long before, in the time of the log ("1m,1h,1d";
    /// units ms, s, m, h, d).
    #[arg(long, value_name = "DELAYS", value_delimiter = ',')]
    pub publish_delay: Vec<String>,
    /// Write the comparison as a page for a browser.
    #[arg(long, value_name = "FILE.html")]
    pub html: Option<PathBuf>,
    /// Folder for the checkpoints of the configurations; they are left there.
    #[arg(long, value_name = "DIR", default_value = "negstream-compare")]
    pub dir: PathBuf,
    /// The report.
    #[command(flatten)]
    pub output: Output,
}

/// Options of `tune`.
#[derive(Debug, Args)]
pub struct TuneArgs {
    /// Files, folders or patterns, as `replay` takes them.
    #[arg(required = true, value_name = "LOG")]
    pub logs: Vec<String>,
    /// Read the events of all logs in the order of time, however they are stored; takes room for temporary files (TMPDIR).
    #[arg(long)]
    pub sort: bool,
    /// A setting that is drawn from a range, whole numbers where both ends are; with `:log` evenly in the logarithm
    /// ("train.learning_rate=0.01..0.2:log"). May be given any number of times.
    #[arg(long = "range", value_name = "KEY=LOW..HIGH[:log]")]
    pub ranges: Vec<String>,
    /// A setting that is drawn from a list of values ("model.dim=32,64,128"). May be given any number of times.
    #[arg(long = "choice", value_name = "KEY=VALUE,…")]
    pub choices: Vec<String>,
    /// Ranges and choices from a file: tables `range` and `choice`.
    #[arg(long, value_name = "FILE.toml")]
    pub space: Option<PathBuf>,
    /// How many settings are tried, that of --config and --set among them.
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = clap::value_parser!(u32).range(2..=10_000))]
    pub trials: u32,
    /// One in so many goes on to the next rung, which has as much more of the log.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(2..=100))]
    pub eta: u32,
    /// What settings are chosen by.
    #[arg(long, value_name = "FIGURE", default_value = "hr@20", value_parser = ["hr@20", "ndcg@20"])]
    pub by: String,
    /// The share of the log, at its end, that nothing is chosen on: the report is of its events. 0: of those that are chosen on.
    #[arg(long, value_name = "SHARE", default_value_t = 0.2)]
    pub holdout: f64,
    /// Seed of the draws; that of the models is `seed`.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub draw_seed: u64,
    /// The peers of the report, as `compare` takes them.
    #[arg(long, value_name = "PEERS", default_value = "none")]
    pub peers: String,
    /// Folder for where the search stands, the models of the last rung, and the best settings (`best.toml`).
    #[arg(long, value_name = "DIR", default_value = "negstream-tune")]
    pub dir: PathBuf,
    /// Begin anew, whatever stands in the folder.
    #[arg(long)]
    pub fresh: bool,
    /// Write the report of the last rung as a page for a browser.
    #[arg(long, value_name = "FILE.html")]
    pub html: Option<PathBuf>,
    /// The report.
    #[command(flatten)]
    pub output: Output,
}

/// What `--peers` takes.
fn peers_help() -> String {
    let mut help = "The peers: names with commas between them, `all`, or `none`".to_owned();
    for peer in PEERS {
        help.push_str(&format!("\n  {}: {}", peer.name, peer.about));
    }
    help
}

/// Options of `produce`.
#[derive(Debug, Args)]
pub struct ProduceArgs {
    /// Files, folders or patterns, in the order in which they are to be sent; addresses as for `replay`.
    #[arg(required = true, value_name = "LOG")]
    pub logs: Vec<String>,
    /// Read the events of all logs in the order of time, however they are stored; takes room for temporary files (TMPDIR).
    #[arg(long)]
    pub sort: bool,
    /// The topic for all of it, where several are configured; without it, each event goes to the topic whose `event_type` it
    /// has, or else to the first one without any.
    #[arg(long, value_name = "TOPIC")]
    pub topic: Option<String>,
}

/// Options of `migrate`.
#[derive(Debug, Args)]
pub struct MigrateArgs {
    /// Where the topic of `kafka.brokers` is read from: `earliest`, `latest`; `same`: the offsets are those of before;
    /// `group`: where `kafka.group` stands there, as mirroring tools set it; or a time (RFC 3339), by the brokers' timestamps.
    #[arg(long, value_name = "PLACE", required = true)]
    pub to: String,
    /// The only topic whose positions are set anew, where several are configured; without it, those of all are.
    #[arg(long, value_name = "TOPIC")]
    pub topic: Option<String>,
}

/// Options of `synth`.
#[derive(Debug, Args)]
pub struct SynthArgs {
    /// Length of the log.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub events: u64,
    /// The file to write.
    #[arg(short, long, value_name = "LOG.parquet")]
    pub output: PathBuf,
    /// Number of users.
    #[arg(long, value_name = "N", default_value_t = crate::synth::SynthConfig::default().users)]
    pub users: usize,
    /// Number of items alive at a time.
    #[arg(long, value_name = "N", default_value_t = crate::synth::SynthConfig::default().items)]
    pub items: usize,
    /// Number of topics that items belong to.
    #[arg(long, value_name = "N", default_value_t = crate::synth::SynthConfig::default().topics)]
    pub topics: usize,
    /// Events from an item's birth to its end.
    #[arg(long, value_name = "N", default_value_t = crate::synth::SynthConfig::default().lifetime)]
    pub lifetime: u64,
    /// Share of users who follow several interests at once, click by click within a session.
    #[arg(long, value_name = "SHARE", default_value_t = crate::synth::SynthConfig::default().interleave, value_parser = share)]
    pub interleave: f64,
}

fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err(format!("{share} is not between 0 and 1")) }
}

/// Options of `neighbors`.
#[derive(Debug, Args)]
pub struct NeighborsArgs {
    /// A checkpoint, or a folder of them (the newest is taken).
    #[arg(value_name = "CHECKPOINT")]
    pub checkpoint: PathBuf,
    /// The item.
    #[arg(value_name = "ITEM", allow_hyphen_values = true)]
    pub item: String,
    /// Number of neighbours.
    #[arg(short, value_name = "K", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub k: u32,
    /// Print as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Options of `recommend`.
#[derive(Debug, Args)]
pub struct RecommendArgs {
    /// A checkpoint, or a folder of them (the newest is taken).
    #[arg(value_name = "CHECKPOINT")]
    pub checkpoint: PathBuf,
    /// The users, each of whom gets a list.
    #[arg(long = "user", value_name = "USER", num_args = 1.., allow_hyphen_values = false, required_unless_present = "items")]
    pub users: Vec<String>,
    /// What somebody had of whom no more is known, newest last; may be given any number of times.
    #[arg(long = "item", value_name = "ITEM", num_args = 1.., conflicts_with = "users")]
    pub items: Vec<String>,
    /// Length of a list.
    #[arg(short, value_name = "K", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub k: u32,
    /// Items that must not be in a list; may be given any number of times.
    #[arg(long, value_name = "ITEM", num_args = 1..)]
    pub exclude: Vec<String>,
    /// The only items that may be in a list: a file with one a line, or names with commas between them.
    #[arg(long, value_name = "FILE|ITEMS")]
    pub candidates: Option<String>,
    /// When the users ask: a time (RFC 3339), or milliseconds since 1970 UTC; without it, the time of the newest event in the
    /// checkpoint.
    #[arg(long, value_name = "TIME")]
    pub at: Option<String>,
    /// Print as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Options of `serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// A folder of checkpoints or an object store with some, or one checkpoint alone.
    #[arg(value_name = "CHECKPOINTS")]
    pub checkpoints: PathBuf,
    /// How often a newer checkpoint is looked for, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(10..=3_600_000))]
    pub every_ms: u64,
}

/// A checkpoint, and a sink.
#[derive(Debug, Args)]
pub struct SinkPlaceArgs {
    /// A checkpoint, or a folder of them (the newest is taken).
    #[arg(value_name = "CHECKPOINT", required = true)]
    pub checkpoint: Option<PathBuf>,
    /// A sink (`redis`, `postgres`, …); without it, those of the tables `[[publish]]` of the configuration.
    #[arg(long, value_name = "NAME")]
    pub sink: Option<String>,
    /// Where the sink is. A password is better kept in the configuration.
    #[arg(long, value_name = "URL", requires = "sink")]
    pub target: Option<String>,
    /// The key prefix, table or index there.
    #[arg(long, value_name = "NAME", requires = "sink")]
    pub name: Option<String>,
    /// A further option of the sink, as in its table; may be given any number of times.
    #[arg(long = "option", value_name = "KEY=VALUE", requires = "sink")]
    pub options: Vec<String>,
}

/// Options of `publish`.
#[derive(Debug, Args)]
pub struct PublishArgs {
    /// What is done, where it is not publishing.
    #[command(subcommand)]
    pub action: Option<PublishAction>,
    /// What is published, and where to.
    #[command(flatten)]
    pub place: SinkPlaceArgs,
    /// Most rows a second.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub rows_per_second: Option<u64>,
    /// Print as JSON.
    #[arg(long)]
    pub json: bool,
}

/// The actions of `publish`.
#[derive(Debug, Subcommand)]
pub enum PublishAction {
    /// Compare what sinks hold with a checkpoint, row by row; exit status 8 where they differ.
    Verify(VerifyArgs),
}

/// Options of `publish verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// What is compared.
    #[command(flatten)]
    pub place: SinkPlaceArgs,
    /// Compare no log-frequencies: while a worker runs, they are older in a sink.
    #[arg(long)]
    pub embeddings_alone: bool,
    /// Megabytes that the rows compared at a time may take; a larger table is read in several passes.
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub memory_mb: u64,
    /// Print as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Options of `export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// A checkpoint, or a folder of them (the newest is taken).
    #[arg(value_name = "CHECKPOINT")]
    pub checkpoint: PathBuf,
    /// What is written: an index of Faiss, matrices that USearch loads, tables of Parquet, or arrays of NumPy.
    #[arg(long, value_name = "FORMAT", value_enum)]
    pub to: ExportFormat,
    /// The folder for the files; it is made where it is missing.
    #[arg(value_name = "OUT")]
    pub out: PathBuf,
    /// The users whose queries are written; without it, all that anything is known of.
    #[arg(long = "user", value_name = "USER", num_args = 1..)]
    pub users: Vec<String>,
    /// When the users ask: a time (RFC 3339), or milliseconds since 1970 UTC; without it, the time of the newest event in the
    /// checkpoint.
    #[arg(long, value_name = "TIME")]
    pub at: Option<String>,
    /// Print as JSON.
    #[arg(long)]
    pub json: bool,
}

/// What `export` writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// A Faiss index of the items, an array of NumPy of the queries.
    Faiss,
    /// Matrices in the form that USearch loads.
    Usearch,
    /// Tables of Parquet.
    Parquet,
    /// Arrays of NumPy.
    Npy,
}

/// Options of `negatives`.
#[derive(Debug, Args)]
pub struct NegativesArgs {
    /// A checkpoint, or a folder of them (the newest is taken).
    #[arg(value_name = "CHECKPOINT")]
    pub checkpoint: PathBuf,
    /// A sampler at work in the checkpoint (the first, where none is named), or one that counts and vectors suffice for.
    #[arg(long, value_name = "NAME")]
    pub sampler: Option<String>,
    /// Items of the context of the query, newest last; may be given any number of times.
    #[arg(long, value_name = "ITEM", num_args = 1..)]
    pub context: Vec<String>,
    /// The user of the query: for `exposure`, and for models with a row for each user.
    #[arg(long, value_name = "USER", allow_hyphen_values = true)]
    pub user: Option<String>,
    /// Number of draws.
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub draws: u64,
    /// Seed of the draws.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Write `item_id`, `log_q` and `draws` of every item that can be drawn to a file.
    #[arg(short, long, value_name = "FILE.parquet")]
    pub output: Option<PathBuf>,
    /// Print as JSON; what is infinite there is null.
    #[arg(long)]
    pub json: bool,
}

/// Options of `inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// A checkpoint, or a folder of them (the newest is taken).
    #[arg(value_name = "CHECKPOINT")]
    pub checkpoint: PathBuf,
    /// Print as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Options of `audit`.
#[derive(Debug, Args)]
pub struct AuditArgs {
    /// Checkpoints, or folders of them (the newest is taken): one for each worker.
    #[arg(value_name = "CHECKPOINT", required = true)]
    pub checkpoints: Vec<PathBuf>,
    /// Print as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Options of `config`.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// The action.
    #[command(subcommand)]
    pub action: ConfigAction,
}

/// The actions of `config`.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum ConfigAction {
    /// Print the default, every key with its meaning: a template.
    Default,
    /// Check the configuration and print what results from all layers.
    Check,
    /// Print the JSON Schema of the configuration.
    Schema,
}
