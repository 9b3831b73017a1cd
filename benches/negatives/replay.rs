//! A stream that is trained on while samplers look on: the model with its frequencies and live items, and what each user
//! had before.
//!
//! No log at hand tells what users were shown. For the sampler `exposure`, each is therefore said to have been shown,
//! with every event, [`SHOWN`] items out of those that anybody took lately.

use std::collections::{HashMap, VecDeque};

use compact_str::CompactString;
use negstream::config::Config;
use negstream::context::Batch;
use negstream::event::{Interaction, Record};
use negstream::kernel::Kernel;
use negstream::model::encoder::{Encoded, Sequences};
use negstream::negatives::samplers::{BatchObservation, NoiseSampler, QueryContext, Shown, StreamView};
use negstream::position::Stream;
use negstream::trainer::Trainer;
use negstream::trainer::state::State;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

use crate::Kind;

/// Items that a user was shown with each event and did not choose.
const SHOWN: usize = 4;
/// How many of the newest examples are kept: the candidates that a batch and a bank of the defaults have.
const LATEST: usize = 2304;

/// Somebody with a past, and what they took next.
#[derive(Debug, Clone)]
pub struct Example {
    user: u32,
    /// Newest first; never empty.
    context: Vec<u32>,
    /// The item.
    pub positive: u32,
}

/// What a sampler is asked with.
#[derive(Debug, Default)]
pub struct StepRequest {
    last_items: Vec<u32>,
    users: Vec<u32>,
    /// Their vectors.
    pub queries: Encoded,
}

/// See the module.
#[derive(Debug)]
pub struct Replay {
    /// The model.
    pub trainer: Trainer,
    /// Those that look on, and their names.
    pub samplers: Vec<(Kind, Box<dyn NoiseSampler>)>,
    /// The newest examples, whose items are the other candidates of whoever asks.
    pub latest: VecDeque<Example>,
    events: Vec<Interaction>,
    /// Number of the next event.
    next: usize,
    /// Context length.
    length: usize,
    users: HashMap<CompactString, u32>,
    /// By user, newest first.
    pasts: Vec<Vec<u32>>,
    others: Vec<u32>,
    random: Pcg64Mcg,
}

fn remember(past: &mut Vec<u32>, item: u32, length: usize) {
    past.insert(0, item);
    past.truncate(length);
}

impl Replay {
    /// Nothing of `events` played yet.
    pub fn new(config: &Config, kinds: &[Kind], events: Vec<Interaction>) -> anyhow::Result<Self> {
        let mut trainer = Trainer::new(config, State::new(config, Kernel::detect()))?;
        trainer.set_streams(&[Stream { name: "bench".to_owned(), label: "bench".to_owned() }]);
        Ok(Self {
            trainer,
            samplers: kinds.iter().map(|kind| (*kind, kind.sampler())).collect(),
            latest: VecDeque::new(),
            events,
            next: 0,
            length: config.context.length,
            users: HashMap::new(),
            pasts: Vec::new(),
            others: Vec::new(),
            random: Pcg64Mcg::seed_from_u64(23),
        })
    }

    /// Plays all events before number `end`.
    pub fn run_to(&mut self, end: usize) {
        let mut waiting = self.next;
        while self.next < end.min(self.events.len()) {
            let outcome = Ok(self.events[self.next].clone());
            self.next += 1;
            let record = Record { stream: 0, offset: self.next as u64 - 1, broker_timestamp: None, outcome };
            let mut stepped = self.trainer.ingest(record).is_some();
            if self.next == end.min(self.events.len()) {
                stepped |= self.trainer.finish().is_some();
            }
            if stepped {
                self.look_on(waiting);
                waiting = self.next;
            }
        }
    }

    /// Shows samplers the events from number `first` on, which the model has just learnt.
    fn look_on(&mut self, first: usize) {
        let (mut items, mut pairs, mut shown) = (Vec::new(), Vec::new(), Vec::new());
        for event in &self.events[first..self.next] {
            let item = self.trainer.state.items.ids.get(&event.item).expect("it was learnt");
            let newest = self.users.len() as u32;
            let user = *self.users.entry(event.user.clone()).or_insert(newest);
            self.pasts.resize_with(self.users.len(), Vec::new);
            for _ in 0..SHOWN.min(self.latest.len()) {
                let item = self.latest[self.random.random_range(0..self.latest.len())].positive;
                shown.push(Shown { user, item, chosen: false });
            }
            shown.push(Shown { user, item, chosen: true });
            items.push(item);
            let past = &mut self.pasts[user as usize];
            if let Some(before) = past.first() {
                pairs.push((*before, item));
                self.latest.push_back(Example { user, context: past.clone(), positive: item });
            }
            remember(past, item, self.length);
        }
        self.latest.drain(..self.latest.len().saturating_sub(LATEST));
        self.others.clear();
        self.others.extend(self.latest.iter().map(|example| example.positive));
        let seen = BatchObservation { items: &items, pairs: &pairs, shown: &shown };
        let view = view(&self.trainer.state);
        self.samplers.iter_mut().for_each(|(_, sampler)| sampler.observe(view, seen));
    }

    /// Those of the next `events` events that are of a live item and of somebody with a past.
    pub fn upcoming(&self, events: usize) -> Vec<Example> {
        let mut pasts: HashMap<&str, Vec<u32>> = HashMap::new();
        let mut examples = Vec::new();
        for event in &self.events[self.next..(self.next + events).min(self.events.len())] {
            let Some(positive) = self.trainer.state.items.ids.get(&event.item) else { continue };
            let user = self.users.get(&event.user).copied();
            let known = || user.map_or_else(Vec::new, |user| self.pasts[user as usize].clone());
            let past = pasts.entry(&event.user).or_insert_with(known);
            if !past.is_empty() && self.trainer.state.negatives.live.contains(positive) {
                // Nothing was shown yet to who is new.
                let user = user.unwrap_or(u32::MAX);
                examples.push(Example { user, context: past.clone(), positive });
            }
            remember(past, positive, self.length);
        }
        examples
    }

    /// The vectors of `examples`, by the model as it is.
    pub fn asked(&self, examples: &[Example]) -> StepRequest {
        let (mut batch, mut asked) = (Batch::default(), StepRequest::default());
        batch.clear(0);
        for Example { user, context, positive } in examples {
            batch.push(*user, *positive, context);
            asked.last_items.push(context[0]);
            asked.users.push(*user);
        }
        let mut sequences = Sequences::default();
        sequences.begin(&batch);
        self.trainer.state.model.encode(Kernel::detect(), &sequences, &[], &mut asked.queries);
        asked
    }

    /// Lets sampler number `index` know who asks.
    pub fn ask(&mut self, index: usize, asked: &StepRequest) {
        let queries = asked.queries.normalized.view().to_slice().expect("standard layout");
        let (last_items, users, others) = (&asked.last_items, &asked.users, &self.others);
        let stride = self.trainer.state.model.stride();
        let asking = QueryContext { last_items, users, queries, stride, others };
        self.samplers[index].1.set_queries(view(&self.trainer.state), asking);
    }
}

/// What samplers see of `state`.
pub fn view(state: &State) -> StreamView<'_> {
    StreamView { frequencies: &state.negatives.frequencies, live: &state.negatives.live, vectors: &state.model }
}
