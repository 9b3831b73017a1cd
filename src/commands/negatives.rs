//! `negatives`: draws from a sampler as a checkpoint restores it, beside the exact probabilities that it states.
//!
//! So that anyone can check: training divides by these probabilities, and whether they are those of the draws is seen
//! here, on the state of a real run. The file that it writes is all that a test by others needs.

mod figures;
mod page;

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_array::types::Float64Type;
use arrow_schema::{DataType, Field, Schema};
use indicatif::ProgressBar;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;

use self::figures::ItemDraws;
use self::page::Page;
use super::loaded::{LoadedCheckpoint, row};
use super::{check_file, print, progress_bar, write_whole_by};
use crate::checkpoint::Checkpoint;
use crate::checkpoint::columns::{count_column, primitive_column, string_column};
use crate::cli::{Layers, NegativesArgs};
use crate::config::Config;
use crate::context::Batch;
use crate::exit::UsageError;
use crate::kernel::Kernel;
use crate::model::encoder::{Encoded, Sequences};
use crate::negatives::samplers::SAMPLERS;
use crate::negatives::samplers::registry::{Needs, NoiseTerm, Origin, SamplerEntry};
use crate::negatives::samplers::unigram::UnigramOptions;
use crate::negatives::samplers::{BatchObservation, NoiseSampler, QueryContext, StreamView};
use crate::table::ids::Ids;
use crate::trainer::state::State;
use crate::util::component::Component;
use crate::util::escape::escape_for_terminal;
use crate::util::nearest::nearest;

/// The sampler that is drawn from where none is named and none was at work.
const FALLBACK: &str = UnigramOptions::NAME;
/// Draws at a time.
const PIECE: u64 = 65_536;
/// From so many draws on it takes long enough for a bar.
const LONG: u64 = 5_000_000;
/// Rows written at a time.
const SLICE: usize = 16_384;

/// The sampler to draw from.
struct Chosen {
    name: String,
    /// Its draws per step, where it was at work.
    at_work: Option<usize>,
    sampler: Box<dyn NoiseSampler>,
}

/// Whom to draw for.
struct SampledQuery {
    /// Newest first.
    context: Vec<u32>,
    user: Option<u32>,
    vectors: Encoded,
}

pub(super) fn negatives(layers: &Layers, options: NegativesArgs) -> anyhow::Result<()> {
    options.output.as_deref().map_or(Ok(()), |path| check_file("--output", path))?;
    let LoadedCheckpoint { checkpoint, config, mut state } = LoadedCheckpoint::read(layers, &options.checkpoint)?;
    let mut chosen = choose(options.sampler.as_deref(), &mut state)?;
    let query = SampledQuery::new(&options, &config, &state)?;
    let (view, _) = state.stream_view();
    query.ask(chosen.sampler.as_mut(), view, &state);
    if chosen.sampler.is_empty(view) {
        return Err(nothing_to_draw(&chosen.name, &options, view, &checkpoint).into());
    }
    let rows = ItemDraws {
        probabilities: (0..state.items.ids.len() as u32).map(|item| chosen.sampler.probability(view, item)).collect(),
        draws: draw(chosen.sampler.as_ref(), view, state.items.ids.len(), &options),
        data: (0..state.items.ids.len() as u32).map(|item| state.negatives.frequencies.share(item)).collect(),
        occurrences: &state.items.occurrences,
    };
    if let Some(path) = &options.output {
        write_whole_by(path, |file| write(file, &state.items.ids, &rows))?;
    }
    let context = query.context.iter().rev().map(|item| state.items.ids.name(*item)).collect();
    let page = Page::new(&checkpoint, &options, &chosen, context, &state, &rows);
    print(&if options.json { format!("{}\n", serde_json::to_string(&page)?) } else { page.text() });
    Ok(())
}

/// The sampler of that name, or the first at work.
fn choose(wanted: Option<&str>, state: &mut State) -> Result<Chosen, UsageError> {
    let terms = &state.negatives.noise.terms;
    let first = || terms.first().map_or(FALLBACK, |term| &term.name);
    let name = wanted.unwrap_or_else(first).to_owned();
    let at_work: Vec<String> = terms.iter().map(|term| term.name.clone()).collect();
    if let Some(place) = at_work.iter().position(|term| *term == name) {
        let term = state.negatives.noise.terms.swap_remove(place);
        return Ok(Chosen { name, at_work: Some(term.draws), sampler: term.sampler });
    }
    let were = if at_work.is_empty() { "no sampler".to_owned() } else { at_work.join(", ") };
    match SamplerEntry::find(&name).map(|entry| (entry, entry.origin)) {
        Some((entry, Origin::State(rounds))) => {
            let sampler = from_state(entry, rounds, state.stream_view().0);
            Ok(Chosen { name, at_work: None, sampler })
        }
        Some((_, Origin::Stream(setting))) => Err(UsageError(format!(
            "'{name}' has to watch the stream from its beginning, and was not at work in this checkpoint; at work: \
             {were}. Train with {setting}"
        ))),
        None => {
            let known = at_work.iter().map(String::as_str).chain(SAMPLERS.iter().map(|entry| entry.name));
            let (like, _) = nearest(known, &name).unwrap_or_default();
            Err(UsageError(format!(
                "no sampler '{}'; the nearest name is '{like}'; at work: {were}",
                escape_for_terminal(&name)
            )))
        }
    }
}

/// A sampler with default options that observes what the checkpoint holds until it has settled.
fn from_state(entry: &'static SamplerEntry, rounds: u32, view: StreamView<'_>) -> Box<dyn NoiseSampler> {
    let mut sampler = NoiseTerm::new(entry).build();
    (0..rounds).for_each(|_| {
        sampler.observe(view, BatchObservation { items: view.live.items(), ..BatchObservation::default() })
    });
    sampler
}

impl SampledQuery {
    fn new(options: &NegativesArgs, config: &Config, state: &State) -> Result<Self, UsageError> {
        let context: Result<Vec<u32>, _> =
            options.context.iter().map(|name| row("item", &state.items.ids, name, &options.checkpoint)).collect();
        let mut context = context?;
        let user = options.user.as_deref().map(|name| row("user", &state.users.ids, name, &options.checkpoint));
        let user = user.transpose()?;
        context.reverse();
        // What the trainer would have forgotten.
        context.truncate(config.context.length);
        let mut vectors = Encoded::default();
        if let Some(newest) = context.first() {
            if config.context.user_row && user.is_none() {
                let why = "this model has a row for each user, which is part of the query: give --user USER too";
                return Err(UsageError(why.to_owned()));
            }
            // Made as the trainer makes it. What the user would come to next is no part of it.
            let batch = Batch {
                users: vec![user.unwrap_or_default()],
                items: vec![*newest],
                timestamps: vec![0],
                with_context: vec![0],
                contexts: context.clone(),
                context_starts: vec![0, context.len() as u32],
                own_starts: vec![0, 0],
                all_own: vec![0],
                ..Batch::default()
            };
            let mut sequences = Sequences::default();
            sequences.begin(&batch);
            // Somebody of whom no more is known carries nothing.
            let carried = match user {
                Some(user) if state.model.gru.is_some() => state.model.hidden_states.row(user as usize).to_vec(),
                _ => vec![0.0; state.model.dim()],
            };
            state.model.encode(Kernel::detect(), &sequences, &carried, &mut vectors);
        }
        Ok(Self { context, user, vectors })
    }

    /// Asks for it; where nothing is known of it, for nobody.
    fn ask(&self, sampler: &mut dyn NoiseSampler, view: StreamView<'_>, state: &State) {
        let banked: Vec<u32> = state.negatives.bank.entries().iter().map(|entry| entry.item).collect();
        let vectors = if self.context.is_empty() { &[] } else { self.vectors.normalized.row(0) };
        sampler.set_queries(
            view,
            QueryContext {
                last_items: &self.context[..self.context.len().min(1)],
                users: self.user.as_slice(),
                queries: vectors,
                stride: state.model.stride(),
                others: if banked.is_empty() { view.live.items() } else { &banked },
            },
        );
    }
}

/// The error that says what a sampler lacks that has nothing to draw from.
fn nothing_to_draw(name: &str, options: &NegativesArgs, view: StreamView<'_>, checkpoint: &Checkpoint) -> UsageError {
    let path = checkpoint.path().display();
    let kind = name.split('-').next().unwrap_or_default();
    let needs = SamplerEntry::find(kind).map_or(Needs::Stream, |entry| entry.needs);
    UsageError(match (needs, &options.user) {
        _ if view.live.items().is_empty() => format!("there is no live item in {path}"),
        (Needs::Exposures, None) => {
            format!("'{name}' draws what a user was shown and did not choose: give --user USER")
        }
        (Needs::Exposures, Some(user)) => {
            format!(
                "'{name}' has nothing to draw from: no item is remembered that user '{}' was shown and did not choose",
                escape_for_terminal(user)
            )
        }
        (Needs::Query, _) if options.context.is_empty() => {
            format!("'{name}' draws what the model scores highest for a query: give --context ITEM …")
        }
        _ => format!("'{name}' has nothing to draw from in {path}: give --context ITEM … or --user USER, or others"),
    })
}

/// How often each item was drawn.
fn draw(sampler: &dyn NoiseSampler, view: StreamView<'_>, n_items: usize, options: &NegativesArgs) -> Vec<u64> {
    let total = options.draws;
    let bar = if total >= LONG { progress_bar(total, "draws") } else { ProgressBar::hidden() };
    let mut random = Pcg64Mcg::seed_from_u64(options.seed);
    let (mut counts, mut drawn) = (vec![0; n_items], Vec::new());
    let mut done = 0;
    while done < total {
        let piece = PIECE.min(total - done);
        drawn.clear();
        sampler.draw(view, piece as usize, &mut random, &mut drawn);
        drawn.iter().for_each(|item| counts[*item as usize] += 1);
        done += piece;
        bar.set_position(done);
    }
    bar.finish_and_clear();
    counts
}

/// One row for each item that can be drawn, in the order of their rows.
fn write(file: &mut std::fs::File, items: &Ids, rows: &ItemDraws<'_>) -> anyhow::Result<()> {
    let schema = Arc::new(Schema::new(vec![
        Field::new("item_id", DataType::Utf8, false),
        Field::new("log_q", DataType::Float64, false),
        Field::new("draws", DataType::Int64, false),
    ]));
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1).expect("a known level")))
        .set_created_by(concat!("negstream ", env!("CARGO_PKG_VERSION")).to_owned())
        .build();
    let mut writer = ArrowWriter::try_new(&*file, Arc::clone(&schema), Some(properties))?;
    for slice in rows.drawable().collect::<Vec<_>>().chunks(SLICE) {
        let columns = vec![
            string_column(slice.iter().map(|row| items.name(*row as u32))),
            primitive_column::<Float64Type>(slice.iter().map(|row| rows.probabilities[*row].ln())),
            count_column(slice.iter().map(|row| rows.draws[*row])),
        ];
        writer.write(&RecordBatch::try_new(Arc::clone(&schema), columns)?)?;
    }
    writer.close()?;
    Ok(())
}
