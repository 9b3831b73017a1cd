//! A checkpoint that is asked in this process: lists, neighbours, queries, and the samplers that its trainer drew from.

use std::path::PathBuf;

use negstream::checkpoint::Checkpoint;
use negstream::cli::Layers;
use negstream::commands::loaded::LoadedCheckpoint;
use negstream::exit::UsageError;
use negstream::negatives::samplers::BatchObservation;
use negstream::negatives::samplers::registry::{NoiseTerm, Origin, SamplerEntry};
use negstream::recommend::view::{FrozenView, StateView};
use negstream::recommend::{ListRules, Recommendation, Visitor};
use negstream::table::ids::Ids;
use negstream::util::nearest::nearest;
use pyo3::prelude::*;

use crate::arrays::fill;
use crate::failure::{exception, usage};
use crate::stream::Stream;
use crate::vectors::StreamVectors;

/// A row of a list: item, score, similarity, popularity, repetition, co-occurrence.
type Scored = (String, f32, f32, f32, f32, f32);

/// A checkpoint, ready to be asked.
#[pyclass(module = "negstream._native", frozen)]
pub struct Model {
    /// Also keeps a downloaded copy for as long as somebody may read its files.
    checkpoint: Checkpoint,
    place: PathBuf,
    layers: Layers,
    view: StateView,
    /// Time of the newest event of any item, milliseconds since 1970 UTC.
    newest: i64,
    dim: usize,
}

fn row(what: &str, ids: &Ids, name: &str, place: &std::path::Path) -> Result<u32, UsageError> {
    ids.get(name).ok_or_else(|| {
        let like = nearest(ids.iter(), name).map(|(like, _)| format!("; the nearest name is '{like}'"));
        UsageError(format!("no {what} '{name}' in {}{}", place.display(), like.unwrap_or_default()))
    })
}

impl Model {
    fn items(&self, names: &[String]) -> Result<Vec<u32>, UsageError> {
        names.iter().map(|name| row("item", self.view.items(), name, &self.place)).collect()
    }

    fn user(&self, name: &str) -> Result<Visitor, UsageError> {
        let visitor = Visitor::User(row("user", self.view.users(), name, &self.place)?);
        match self.view.recommender().knows(&visitor) {
            true => Ok(visitor),
            false => Err(UsageError(format!(
                "user '{name}' has no event with an item that still has a row in {}: give what they had just now, newest \
                 last: items=[…]",
                self.place.display()
            ))),
        }
    }

    fn scored(&self, list: Vec<Recommendation>) -> Vec<Scored> {
        let name = |row: u32| self.view.items().name(row).to_owned();
        let scored = |row: Recommendation| {
            let Recommendation { item, score, similarity, popularity, repetition, cooccurrence } = row;
            (name(item), score, similarity, popularity, repetition, cooccurrence)
        };
        list.into_iter().map(scored).collect()
    }
}

#[pymethods]
impl Model {
    /// Opens the checkpoint at `path`, or the newest one there; `settings` (`KEY=VALUE`) are for object stores.
    #[new]
    fn new(py: Python<'_>, path: PathBuf, settings: Vec<String>) -> PyResult<Self> {
        let layers = Layers { config: None, set: settings };
        let read = py.detach(|| {
            LoadedCheckpoint::read(&layers, &path).map(|loaded| {
                let LoadedCheckpoint { checkpoint, config, mut state } = loaded;
                let newest = state.items.last_event.iter().copied().max().unwrap_or_default();
                let model_id = checkpoint.manifest().model_id().into();
                let view = FrozenView::of(&mut state, model_id, None, None).ready();
                (checkpoint, view, newest, config.model.dim)
            })
        });
        let (checkpoint, view, newest, dim) = read.map_err(|error| exception(py, &error))?;
        Ok(Self { checkpoint, place: path, layers, view, newest, dim })
    }

    /// The checkpoint's own place, and the folder on this machine that has its files.
    fn places(&self) -> (PathBuf, PathBuf) {
        (self.checkpoint.path().to_owned(), self.checkpoint.folder().to_owned())
    }

    /// The manifest, as JSON.
    fn manifest(&self) -> PyResult<String> {
        serde_json::to_string(self.checkpoint.manifest())
            .map_err(|error| pyo3::exceptions::PyRuntimeError::new_err(error.to_string()))
    }

    /// The names of the users that something is known of, in the order of their rows.
    fn users(&self) -> Vec<String> {
        let recommender = self.view.recommender();
        let known = |row: &u32| recommender.knows(&Visitor::User(*row));
        let rows = (0..self.view.users().len() as u32).filter(known);
        rows.map(|row| self.view.users().name(row).to_owned()).collect()
    }

    /// Writes the queries of these users into `out`, one behind the other.
    fn user_queries(
        &self,
        py: Python<'_>,
        users: Vec<String>,
        at: Option<i64>,
        out: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let at = at.unwrap_or(self.newest);
        let queries: Result<Vec<f32>, UsageError> = py.detach(|| {
            let mut all = Vec::with_capacity(users.len() * self.dim);
            for name in &users {
                all.extend(self.view.query_vector(&self.user(name)?, at).unwrap_or_else(|| vec![0.0; self.dim]));
            }
            Ok(all)
        });
        let queries = queries.map_err(|error| exception(py, &error.into()))?;
        fill(out, queries.into_iter())
    }

    /// Writes the query of somebody who had `items`, oldest first, into `out`.
    fn items_query(&self, py: Python<'_>, items: Vec<String>, at: Option<i64>, out: &Bound<'_, PyAny>) -> PyResult<()> {
        let rows = self.items(&items).map_err(|error| exception(py, &error.into()))?;
        let query = self.view.query_vector(&Visitor::Session(rows), at.unwrap_or(self.newest));
        let query = query.ok_or_else(|| usage(py, "items: an empty list asks nothing"))?;
        fill(out, query.into_iter())
    }

    /// The `k` items nearest to `item`, with their cosines and events.
    fn neighbors(&self, py: Python<'_>, item: &str, k: usize) -> PyResult<Vec<(String, f32, u64)>> {
        let row = row("item", self.view.items(), item, &self.place).map_err(|error| exception(py, &error.into()))?;
        let near = py.detach(|| self.view.neighbors(&[(row, k)])).pop().unwrap_or_default();
        let named = near
            .into_iter()
            .map(|near| (self.view.items().name(near.item).to_owned(), near.cosine, self.view.occurrences(near.item)));
        Ok(named.collect())
    }

    /// The lists of `users`, or the list of somebody who had `items`.
    #[expect(clippy::too_many_arguments, reason = "keywords of Python's, each of them named where it is called")]
    #[pyo3(signature = (users, items, *, k, exclude, candidates, at))]
    fn recommend(
        &self,
        py: Python<'_>,
        users: Option<Vec<String>>,
        items: Option<Vec<String>>,
        k: usize,
        exclude: Vec<String>,
        candidates: Option<Vec<String>>,
        at: Option<i64>,
    ) -> PyResult<Vec<Vec<Scored>>> {
        let lists = || -> Result<Vec<Vec<Scored>>, UsageError> {
            let visitors: Vec<Visitor> = match (users, items) {
                (Some(users), None) => users.iter().map(|name| self.user(name)).collect::<Result<_, _>>()?,
                (None, Some(items)) if !items.is_empty() => vec![Visitor::Session(self.items(&items)?)],
                (None, Some(_)) => return Err(UsageError("items: an empty list asks nothing".to_owned())),
                _ => return Err(UsageError("give either user or items".to_owned())),
            };
            let excluded = self.items(&exclude)?;
            // A shop's own list may name items that no event was seen of: they have no score, and are no mistake.
            let only: Option<Vec<u32>> =
                candidates.map(|names| names.iter().filter_map(|name| self.view.items().get(name)).collect());
            if only.as_ref().is_some_and(Vec::is_empty) {
                let place = self.place.display();
                return Err(UsageError(format!("candidates: none of them is an item of {place}")));
            }
            let at = at.unwrap_or(self.newest);
            let rules = ListRules { k, at, excluded: &excluded, candidates: only.as_deref(), with_own: false };
            let lists = self.view.recommender().recommend(&visitors, rules);
            Ok(lists.into_iter().map(|list| self.scored(list)).collect())
        };
        py.detach(lists).map_err(|error| exception(py, &error.into()))
    }

    /// The names of the items, in the order of their rows.
    fn item_ids(&self) -> Vec<String> {
        self.view.items().iter().map(str::to_owned).collect()
    }

    /// The sampler `name` as the checkpoint's trainer had it: the first at work, where none is named. Ids are rows.
    fn sampler(&self, py: Python<'_>, name: Option<String>, seed: u64) -> PyResult<Stream> {
        let made = py.detach(|| -> anyhow::Result<Stream> {
            let LoadedCheckpoint { config, state, .. } = LoadedCheckpoint::read(&self.layers, self.checkpoint.path())?;
            stream_of(config, state, name, seed)
        });
        made.map_err(|error| exception(py, &error))
    }
}

/// What the trainer of `state` drew from, with one sampler.
fn stream_of(
    mut config: negstream::Config,
    state: negstream::trainer::state::State,
    name: Option<String>,
    seed: u64,
) -> anyhow::Result<Stream> {
    let mut negatives = state.negatives;
    config.seed = seed;
    let terms = config.negatives.noise.terms();
    let at_work: Vec<String> = negatives.noise.terms.iter().map(|term| term.name.clone()).collect();
    let name = name.or_else(|| at_work.first().cloned()).unwrap_or_else(|| "unigram".to_owned());
    let vectors = StreamVectors::Model(Box::new(state.model));
    if let Some(place) = at_work.iter().position(|other| *other == name) {
        let source = negatives.noise.terms.swap_remove(place);
        negatives.noise.terms = vec![source];
        return Ok(Stream::of_checkpoint(config, negatives, terms[place].clone(), vectors));
    }
    let were = if at_work.is_empty() { "no sampler".to_owned() } else { at_work.join(", ") };
    match SamplerEntry::find(&name).map(|entry| (entry, entry.origin)) {
        Some((entry, Origin::State(rounds))) => {
            let term = NoiseTerm::new(entry);
            negatives.noise = negstream::negatives::samplers::mix::NoiseMix::new(std::slice::from_ref(&term));
            let mut stream = Stream::of_checkpoint(config, negatives, term, vectors);
            for _ in 0..rounds {
                stream.settle();
            }
            Ok(stream)
        }
        Some((_, Origin::Stream(setting))) => Err(UsageError(format!(
            "'{name}' has to watch the stream from its beginning, and was not at work in this checkpoint; at work: {were}. \
             Train with {setting}"
        ))
        .into()),
        None => Err(UsageError(format!("no sampler '{name}'; at work: {were}")).into()),
    }
}

impl Stream {
    /// The samplers observe all live items once: counts and vectors suffice them.
    fn settle(&mut self) {
        let items = self.live.items().to_vec();
        let Self { frequencies, live, noise, vectors, .. } = self;
        let view = negstream::negatives::samplers::StreamView { frequencies, live, vectors };
        noise.observe(view, BatchObservation { items: &items, ..BatchObservation::default() });
    }
}
