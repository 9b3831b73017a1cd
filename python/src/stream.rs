//! A stream of the caller's own: counts, live items, samplers and the bank, as a worker has them, without its model.
//!
//! Ids are places: item 7 is row 7. A call of `observe` is a batch of the worker's, and the draws of the k-th call of `draw` or
//! `gather` are those of its step k, from the same generator.

use negstream::Config;
use negstream::negatives::Vectors;
use negstream::negatives::bank::{Bank, BankEntry};
use negstream::negatives::candidates::{Candidates, noise_generator};
use negstream::negatives::frequency::Frequencies;
use negstream::negatives::live::LiveItems;
use negstream::negatives::samplers::mix::NoiseMix;
use negstream::negatives::samplers::registry::{Needs, Noise, NoiseTerm};
use negstream::negatives::samplers::{BatchObservation, QueryContext, Shown, StreamView};
use negstream::trainer::state::{NegativeSources, horizon};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;

use crate::arrays::{fill, flags, floats, ids, times};
use crate::failure::{exception, usage};
use crate::state;
use crate::vectors::{ItemArray, StreamVectors};

/// The samplers that look at vectors.
const LOOKS_AT_VECTORS: [&str; 2] = ["adaptive", "hard"];

/// A stream, and what negatives are drawn from.
#[pyclass(module = "negstream._native")]
pub struct Stream {
    pub(crate) config: Config,
    pub(crate) frequencies: Frequencies,
    pub(crate) live: LiveItems,
    pub(crate) noise: NoiseMix,
    pub(crate) bank: Bank,
    /// By item: whether it ever came.
    pub(crate) seen: Vec<bool>,
    /// Items that ever came.
    pub(crate) n_seen: usize,
    /// Calls that drew.
    pub(crate) steps: u64,
    pub(crate) vectors: StreamVectors,
    pub(crate) candidates: Candidates,
}

/// The queries that negatives are drawn for, as Python gives them.
#[derive(Default, FromPyObject)]
pub struct Asking<'py> {
    #[pyo3(item)]
    last_items: Option<Bound<'py, PyAny>>,
    #[pyo3(item)]
    users: Option<Bound<'py, PyAny>>,
    #[pyo3(item)]
    queries: Option<Bound<'py, PyAny>>,
    #[pyo3(item)]
    others: Option<Bound<'py, PyAny>>,
}

/// The same, read.
#[derive(Default)]
struct Queries {
    last_items: Vec<u32>,
    users: Vec<u32>,
    queries: Vec<f32>,
    others: Vec<u32>,
}

impl Asking<'_> {
    fn read(&self) -> PyResult<Queries> {
        let read = |array: &Option<Bound<'_, PyAny>>| array.as_ref().map_or(Ok(Vec::new()), ids);
        Ok(Queries {
            last_items: read(&self.last_items)?,
            users: read(&self.users)?,
            queries: self.queries.as_ref().map_or(Ok(Vec::new()), floats)?,
            others: read(&self.others)?,
        })
    }
}

impl Queries {
    fn context(&self, stride: usize) -> QueryContext<'_> {
        let Self { last_items, users, queries, others } = self;
        QueryContext { last_items, users, queries, stride, others }
    }
}

/// Whether the sampler, or a part of it, looks at vectors.
fn looks_at_vectors(term: &NoiseTerm) -> bool {
    LOOKS_AT_VECTORS.contains(&term.sampler.name) || term.parts().iter().any(looks_at_vectors)
}

impl Stream {
    /// Before the first event.
    pub(crate) fn empty(config: Config) -> Self {
        let negatives = &config.negatives;
        Self {
            frequencies: Frequencies::configured(negatives, config.evaluate.popularity_half_life),
            live: LiveItems::new(horizon(&config)),
            noise: NoiseMix::new(&negatives.noise.terms()),
            bank: Bank::new(negatives.bank, negatives.bank_max_age, false),
            seen: Vec::new(),
            n_seen: 0,
            steps: 0,
            vectors: StreamVectors::Missing { dim: 0 },
            candidates: Candidates::default(),
            config,
        }
    }

    /// What a checkpoint's trainer drew from, with the sampler `term` alone.
    pub(crate) fn of_checkpoint(
        mut config: Config,
        negatives: NegativeSources,
        term: NoiseTerm,
        vectors: StreamVectors,
    ) -> Self {
        let NegativeSources { frequencies, live, noise, bank, .. } = negatives;
        let n_items = frequencies.len();
        config.negatives.noise = Noise::List(vec![term]);
        let seen = vec![true; n_items];
        let candidates = Candidates::default();
        Self { config, frequencies, live, noise, bank, seen, n_seen: n_items, steps: 0, vectors, candidates }
    }

    pub(crate) fn view(&self) -> StreamView<'_> {
        StreamView { frequencies: &self.frequencies, live: &self.live, vectors: &self.vectors }
    }

    /// Makes room for the items of `ids`.
    fn grow(&mut self, ids: &[u32]) {
        let n_items = ids.iter().max().map_or(0, |largest| *largest as usize + 1);
        if n_items > self.seen.len() {
            self.seen.resize(n_items, false);
        }
        self.frequencies.begin_batch(self.seen.len());
    }

    /// Whether what samplers look at is there.
    fn check_vectors(&self, py: Python<'_>) -> PyResult<()> {
        match self.config.negatives.noise.terms().iter().find(|term| looks_at_vectors(term)) {
            Some(term) if !self.vectors.are_there() => {
                let name = term.sampler.name;
                Err(usage(py, format!("'{name}' looks at the items' vectors: give them, by set_vectors(array)")))
            }
            _ => Ok(()),
        }
    }

    /// The sampler is asked for these queries.
    fn ask(&mut self, py: Python<'_>, asking: &Queries) -> PyResult<()> {
        self.check_vectors(py)?;
        let dim = self.vectors.dim();
        if !asking.queries.is_empty() && (dim == 0 || !asking.queries.len().is_multiple_of(dim)) {
            return Err(usage(
                py,
                format!("queries have to have as many numbers as the items' vectors, which have {dim}"),
            ));
        }
        let Self { frequencies, live, noise, vectors, .. } = self;
        let view = StreamView { frequencies, live, vectors };
        noise.set_queries(view, asking.context(dim));
        Ok(())
    }

    /// Why there is nothing to draw from.
    fn nothing_to_draw(&self, py: Python<'_>) -> PyErr {
        let terms = self.config.negatives.noise.terms();
        let (name, needs) =
            terms.first().map_or(("none", Needs::Stream), |term| (term.sampler.name, term.sampler.needs));
        usage(
            py,
            match needs {
                _ if self.live.items().is_empty() => {
                    format!("'{name}' has nothing to draw from: no item lives; observe events first")
                }
                Needs::Exposures => format!(
                    "'{name}' draws what users were shown and did not choose: give context=Context(users=…), of whom that was \
                 observed (observe(…, shown=…))"
                ),
                Needs::Query => {
                    format!("'{name}' draws what scores highest: give context=Context(queries=…, candidates=…)")
                }
                Needs::Stream => format!("'{name}' has nothing to draw from yet: observe events first"),
            },
        )
    }
}

#[pymethods]
impl Stream {
    /// A stream before its first event, with these settings (`KEY=VALUE`).
    #[new]
    fn new(py: Python<'_>, settings: Vec<String>) -> PyResult<Self> {
        let config = Config::with_settings(&settings).map_err(|error| exception(py, &error.into()))?;
        Ok(Self::empty(config))
    }

    /// The settings of the sampler, as JSON.
    fn settings(&self) -> String {
        state::settings(&self.config).to_string()
    }

    /// Observes a batch of events.
    #[pyo3(signature = (items, *, previous=None, timestamps=None, repeats=None, shown=None))]
    fn observe(
        &mut self,
        py: Python<'_>,
        items: &Bound<'_, PyAny>,
        previous: Option<&Bound<'_, PyAny>>,
        timestamps: Option<&Bound<'_, PyAny>>,
        repeats: Option<&Bound<'_, PyAny>>,
        shown: Option<(Bound<'_, PyAny>, Bound<'_, PyAny>, Bound<'_, PyAny>)>,
    ) -> PyResult<()> {
        self.check_vectors(py)?;
        let items = ids(items)?;
        let timestamps = timestamps.map(times).transpose()?;
        let repeats = repeats.map(flags).transpose()?;
        let before = previous.map(|previous| before(previous, items.len())).transpose()?;
        let lengths =
            [timestamps.as_ref().map(Vec::len), repeats.as_ref().map(Vec::len), before.as_ref().map(Vec::len)];
        if lengths.into_iter().flatten().any(|length| length != items.len()) {
            return Err(usage(py, "observe: one of the arrays is not as long as items"));
        }
        let shown = match shown {
            Some((users, items, chosen)) => exposures(py, &ids(&users)?, &ids(&items)?, &flags(&chosen)?)?,
            None => Vec::new(),
        };
        self.grow(&items);
        for (event, item) in items.iter().enumerate() {
            let known = &mut self.seen[*item as usize];
            let is_repeat = repeats.as_ref().is_some_and(|repeats| repeats[event]);
            let evidence = (*known && !is_repeat).then_some(self.n_seen);
            let timestamp = timestamps.as_ref().map_or(0, |timestamps| timestamps[event]);
            self.frequencies.observe(*item, timestamp, evidence);
            self.n_seen += usize::from(!*known);
            *known = true;
            if self.frequencies.frame_overflows() {
                self.frequencies.refresh();
            }
        }
        self.frequencies.refresh();
        self.live.observe(&items);
        let known = |item: &u32| self.seen.get(*item as usize).copied().unwrap_or_default();
        let pairs: Vec<(u32, u32)> = before
            .iter()
            .flat_map(|before| before.iter().copied().zip(items.iter().copied()))
            .filter_map(|(before, item)| Some((before?, item)))
            .filter(|(before, _)| known(before))
            .collect();
        let shown: Vec<Shown> = shown.into_iter().filter(|shown| known(&shown.item)).collect();
        let Self { frequencies, live, noise, vectors, .. } = self;
        let view = StreamView { frequencies, live, vectors };
        noise.observe(view, BatchObservation { items: &items, pairs: &pairs, shown: &shown });
        Ok(())
    }

    /// Adds items to the bank.
    fn push(&mut self, items: &Bound<'_, PyAny>) -> PyResult<()> {
        let items = ids(items)?;
        self.bank.push(&items, &self.vectors);
        Ok(())
    }

    /// Draws into `out`, and writes the logarithm of each draw's probability into `log_q`.
    #[pyo3(signature = (out, log_q, asking, seed=None))]
    fn draw(
        &mut self,
        py: Python<'_>,
        out: &Bound<'_, PyAny>,
        log_q: &Bound<'_, PyAny>,
        asking: Asking<'_>,
        seed: Option<u64>,
    ) -> PyResult<()> {
        let draws = out.len()?;
        self.ask(py, &asking.read()?)?;
        let mut random = match seed {
            Some(seed) => Pcg64Mcg::seed_from_u64(seed),
            None => noise_generator(self.config.seed, self.steps, 0),
        };
        let mut drawn = Vec::with_capacity(draws);
        let view = self.view();
        let Some(term) = self.noise.terms.first() else { return Err(self.nothing_to_draw(py)) };
        if term.sampler.is_empty(view) {
            return Err(self.nothing_to_draw(py));
        }
        term.sampler.draw(view, draws, &mut random, &mut drawn);
        let probabilities = drawn.iter().map(|item| term.sampler.probability(view, *item).ln() as f32);
        fill(log_q, probabilities)?;
        fill(out, drawn.iter().map(|item| i64::from(*item)))?;
        self.steps += u64::from(seed.is_none());
        Ok(())
    }

    /// Writes the logarithm of each item's probability into `out`: −∞ for what cannot be drawn.
    fn log_prob(
        &mut self,
        py: Python<'_>,
        items: &Bound<'_, PyAny>,
        out: &Bound<'_, PyAny>,
        asking: Asking<'_>,
    ) -> PyResult<()> {
        let items = ids(items)?;
        self.ask(py, &asking.read()?)?;
        let (view, seen) = (self.view(), &self.seen);
        let Some(term) = self.noise.terms.first() else { return Err(self.nothing_to_draw(py)) };
        let probability = |item: &u32| match seen.get(*item as usize) {
            Some(true) => term.sampler.probability(view, *item),
            _ => 0.0,
        };
        fill(out, items.iter().map(|item| probability(item).ln() as f32))
    }

    /// Gathers the candidates of a batch: its positives, the bank, and noise. Gives the number of columns, and of draws before
    /// equal ones were merged.
    fn gather(&mut self, py: Python<'_>, positives: &Bound<'_, PyAny>, asking: Asking<'_>) -> PyResult<(usize, usize)> {
        let (positives, asking) = (ids(positives)?, asking.read()?);
        if let Some(item) = positives.iter().find(|item| !self.seen.get(**item as usize).copied().unwrap_or_default()) {
            return Err(usage(
                py,
                format!("positive {item} was never observed: observe a batch before its candidates"),
            ));
        }
        if asking.others.iter().any(|item| *item as usize >= self.seen.len()) {
            return Err(usage(py, "candidates name an item that was never observed"));
        }
        self.check_vectors(py)?;
        let Self { config, frequencies, live, noise, bank, steps, vectors, candidates, .. } = self;
        let view = StreamView { frequencies, live, vectors };
        let context = asking.context(vectors.dim());
        candidates.gather(positives.iter().copied(), bank, noise, view, context, (config.seed, *steps));
        self.steps += 1;
        Ok((self.candidates.items.len(), self.candidates.n_draws))
    }

    /// Writes the columns that were gathered: items, how many draws each stands for, and log E.
    fn columns(
        &self,
        items: &Bound<'_, PyAny>,
        multiplicity: &Bound<'_, PyAny>,
        log_expected: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let Candidates { items: columns, multiplicity: merged, log_expected: expected, .. } = &self.candidates;
        fill(items, columns.iter().map(|item| i64::from(*item)))?;
        fill(multiplicity, merged.iter().map(|draws| i64::from(*draws)))?;
        fill(log_expected, expected.iter().copied())
    }

    /// Writes the column of each of `items` among those that were gathered: −1 where it has none.
    fn labels(&self, items: &Bound<'_, PyAny>, out: &Bound<'_, PyAny>) -> PyResult<()> {
        let items = ids(items)?;
        let n_items = self.frequencies.len();
        let column = |item: &u32| match *item as usize {
            place if place < n_items => self.candidates.column(*item).map_or(-1, i64::from),
            _ => -1,
        };
        fill(out, items.iter().map(column))
    }

    /// Writes the bank's entries, oldest first: items, and how many events ago each came in.
    fn bank(&self, items: &Bound<'_, PyAny>, ages: &Bound<'_, PyAny>) -> PyResult<()> {
        let now = self.bank.now();
        fill(items, self.bank.entries().iter().map(|BankEntry { item, event: _ }| i64::from(*item)))?;
        fill(ages, self.bank.entries().iter().map(|BankEntry { item: _, event }| (now - event) as i64))
    }

    /// The number of the bank's entries.
    fn bank_size(&self) -> usize {
        self.bank.entries().len()
    }

    /// Items that can be drawn by a sampler of full support.
    fn n_live(&self) -> usize {
        self.live.items().len()
    }

    /// One more than the largest id that was observed.
    fn n_items(&self) -> usize {
        self.seen.len()
    }

    /// Writes the decayed share of each of `items` in the stream.
    fn shares(&self, items: &Bound<'_, PyAny>, out: &Bound<'_, PyAny>) -> PyResult<()> {
        let items = ids(items)?;
        let n_items = self.frequencies.len();
        let share = |item: &u32| if (*item as usize) < n_items { self.frequencies.share(*item) as f32 } else { 0.0 };
        fill(out, items.iter().map(share))
    }

    /// The half-life of the counts, in events: as configured, or as the stream has chosen.
    fn half_life(&self) -> f64 {
        self.frequencies.half_life()
    }

    /// Reads item vectors from this array from now on, where it lies.
    fn set_vectors(&mut self, vectors: &Bound<'_, PyAny>, temperature: f32, beta: f32) -> PyResult<()> {
        let array = ItemArray::new(vectors, temperature, beta)?;
        self.vectors = StreamVectors::Array(array);
        Ok(())
    }

    /// The state as bytes; vectors are no part of it.
    fn save<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &state::encode(self))
    }

    /// The stream that was saved.
    #[staticmethod]
    fn restore(py: Python<'_>, bytes: &[u8]) -> PyResult<Self> {
        state::decode(bytes).map_err(|problem| usage(py, format!("no state of a sampler: {problem}")))
    }
}

/// The item before each event; `None` for a negative number: no past.
fn before(previous: &Bound<'_, PyAny>, n_events: usize) -> PyResult<Vec<Option<u32>>> {
    let mut present = Vec::with_capacity(n_events);
    for number in times(previous)? {
        present.push(u32::try_from(number).ok());
    }
    Ok(present)
}

/// What was shown, and whether it was chosen.
fn exposures(py: Python<'_>, users: &[u32], items: &[u32], chosen: &[bool]) -> PyResult<Vec<Shown>> {
    if users.len() != items.len() || users.len() != chosen.len() {
        return Err(usage(py, "observe: users, items and chosen of what was shown are not equally long"));
    }
    let shown = users.iter().zip(items).zip(chosen);
    Ok(shown.map(|((user, item), chosen)| Shown { user: *user, item: *item, chosen: *chosen }).collect())
}
