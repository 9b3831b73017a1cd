//! The encoder and the scores in double precision, anew from their formulas, as functions of the model's numbers.

use super::world::{Numbers, World};
use crate::context::cooccurrence::{CooccurrenceBuckets, RelatedItem};
use crate::context::repeat_memory::Buckets;
use crate::context::situation::Situation;
use crate::context::{EncoderKind, OwnItem};
use crate::model::Similarity;

/// Scores at some numbers.
#[derive(Clone, Copy)]
pub(in crate::objective) struct Scores<'a> {
    pub(in crate::objective) world: &'a World,
    pub(in crate::objective) numbers: &'a Numbers<f64>,
    /// Those of popularity, ρ and κ.
    pub(in crate::objective) terms: &'a Numbers<f64>,
}

impl Scores<'_> {
    pub(in crate::objective) fn number(&self, name: &str) -> f64 {
        self.numbers[name][0]
    }

    pub(in crate::objective) fn row(&self, table: &str, row: u32) -> Option<&[f64]> {
        let dim = if table == "bias" { 1 } else { self.world.config.model.dim };
        self.numbers.get(table).map(|numbers| &numbers[row as usize * dim..][..dim])
    }

    pub(in crate::objective) fn normalized(&self, mut row: Vec<f64>) -> Vec<f64> {
        if self.world.config.model.similarity == Similarity::Cosine {
            let norm = product(&row, &row).sqrt();
            row.iter_mut().for_each(|number| *number /= norm);
        }
        row
    }

    /// The item's vector as it enters the similarity.
    pub(in crate::objective) fn item_vector(&self, item: u32) -> Vec<f64> {
        let mut row = self.row("item", item).unwrap().to_vec();
        let config = &self.world.config.model;
        if config.similarity == Similarity::Cosine {
            let norm = (product(&row, &row) + config.shrinkage * config.shrinkage).sqrt();
            row.iter_mut().for_each(|number| *number /= norm);
        }
        row
    }

    /// The item's row, and its other one.
    fn input(&self, item: u32) -> Vec<f64> {
        let mut sum = self.row("item", item).unwrap().to_vec();
        if let Some(row) = self.row("context", item) {
            add(&mut sum, row, 1.0);
        }
        sum
    }

    /// The vector of a sequence, newest item first, of the user of `query`, or of nobody.
    pub(in crate::objective) fn encode(&self, items: &[u32], query: Option<usize>, step: usize) -> Vec<f64> {
        let dim = self.world.config.model.dim;
        let mut raw = match self.world.config.context.encoder {
            EncoderKind::Sum => {
                let weights: Vec<f64> = self.numbers["position"][..items.len()].iter().map(|log| log.exp()).collect();
                let mut sum = vec![0.0; dim];
                for (item, weight) in items.iter().zip(&weights) {
                    add(&mut sum, &self.input(*item), weight / weights.iter().sum::<f64>());
                }
                sum
            }
            EncoderKind::Gru => {
                let initial_states = query.map(|query| &self.world.initial_states[query * dim..][..dim]);
                let mut state: Vec<f64> =
                    initial_states.map_or(vec![0.0; dim], |state| state.iter().map(|x| f64::from(*x)).collect());
                items.iter().rev().for_each(|item| state = self.next_state(&state, &self.input(*item)));
                state
            }
        };
        if let (Some(query), true) = (query, self.numbers.contains_key("user")) {
            add(&mut raw, self.row("user", self.world.batch.user(query)).unwrap(), 1.0);
        }
        let batch = &self.world.batch;
        let situation = query.filter(|query| items == batch.context(*query)).map(|query| batch.situations[query]);
        if let (Some(situation), Some(vectors)) = (situation, self.numbers.get("situations")) {
            let Situation { activity, gap, hour, weekday, session } = situation;
            let [activity, gap, hour, weekday, session] = [activity, gap, hour, weekday, session].map(usize::from);
            for place in [activity, 24 + gap, 52 + hour, 76 + weekday, 83 + session] {
                add(&mut raw, &vectors[place * dim..][..dim], 1.0);
            }
        }
        match self.numbers.get(&format!("transform {step}")) {
            Some(transform) => self.normalized(transform.chunks(dim).map(|row| product(row, &raw)).collect()),
            None => self.normalized(raw),
        }
    }

    /// The gated recurrent unit (Cho et al. 2014, in cuDNN's form).
    fn next_state(&self, state: &[f64], input: &[f64]) -> Vec<f64> {
        let (dim, unit) = (state.len(), &self.numbers["gru"]);
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        // W_n, W_r, W_z side by side; then U_r, U_z, U_n; then b_n, b_r, b_z, c.
        let times = |numbers: &[f64], first: usize, gate: usize, k: usize| -> f64 {
            (0..dim).map(|from| numbers[from] * unit[first + from * 3 * dim + gate * dim + k]).sum()
        };
        let (of_input, of_state) = (0, 3 * dim * dim);
        let bias = |gate: usize, k: usize| unit[6 * dim * dim + gate * dim + k];
        let next = |k: usize| {
            let reset = sigmoid(times(input, of_input, 1, k) + times(state, of_state, 0, k) + bias(1, k));
            let update = sigmoid(times(input, of_input, 2, k) + times(state, of_state, 1, k) + bias(2, k));
            let inner = times(state, of_state, 2, k) + bias(3, k);
            let candidate = (times(input, of_input, 0, k) + bias(0, k) + reset * inner).tanh();
            (1.0 - update) * candidate + update * state[k]
        };
        (0..dim).map(next).collect()
    }

    /// The vectors of the batch's queries.
    pub(in crate::objective) fn queries(&self) -> Vec<Vec<f64>> {
        let batch = &self.world.batch;
        (0..batch.n_queries()).map(|query| self.encode(batch.context(query), Some(query), 0)).collect()
    }

    /// e^g times the vector of `query`, with which items are scored.
    pub(in crate::objective) fn gated(&self, query: usize) -> Vec<f64> {
        let batch = &self.world.batch;
        let mut vector = self.encode(batch.context(query), Some(query), 0);
        if let Some(gate) = self.numbers.get("gate") {
            let Situation { activity, gap, session, .. } = batch.situations[query];
            let g = gate[usize::from(activity)] + gate[24 + usize::from(gap)] + gate[52 + usize::from(session)];
            let factor = g.exp();
            vector.iter_mut().for_each(|number| *number *= factor);
        }
        vector
    }

    /// s/τ.
    pub(in crate::objective) fn similarity(&self, a: &[f64], b: &[f64]) -> f64 {
        product(a, b) * self.number("temperature").exp()
    }

    /// f, without ρ and κ, of a column.
    pub(in crate::objective) fn score(&self, query: &[f64], column: usize) -> f64 {
        let World { candidates, bank, .. } = self.world;
        let item = candidates.items[column];
        let vector = match column.checked_sub(candidates.n_live()) {
            None => self.item_vector(item),
            Some(place) => {
                let mut frozen = vec![0.0; query.len()];
                bank.frozen_vector(candidates.frozen[place] as usize, &mut frozen);
                frozen.into_iter().map(f64::from).collect()
            }
        };
        let bias = self.row("bias", item).map_or(0.0, |bias| bias[0]);
        self.similarity(query, &vector)
            + self.terms["popularity"][0] * f64::from(candidates.log_frequency[column])
            + bias
    }

    /// ρ + κ.
    pub(in crate::objective) fn history_terms(&self, query: usize, item: u32) -> f64 {
        self.repetition(query, item) + self.cooccurrence(query, item)
    }

    fn cooccurrence(&self, query: usize, item: u32) -> f64 {
        let related = self.world.batch.related(query).iter().find(|related| related.item == item);
        let Some(RelatedItem { buckets, .. }) = related else { return 0.0 };
        let tables = &self.terms["cooccurrence"];
        let CooccurrenceBuckets { confidence, cosine, plain_cosine } = buckets;
        // Where each table begins, and the place in it.
        let tables_at = [(0, confidence), (32, cosine), (64, plain_cosine)];
        let n_tables = if self.world.config.cooccurrence.plain_cosine { 3 } else { 2 };
        tables_at[..n_tables].iter().map(|(start, bucket)| tables[start + usize::from(**bucket)]).sum()
    }

    fn repetition(&self, query: usize, item: u32) -> f64 {
        let own = self.world.batch.own(query).iter().find(|own| own.item == item);
        let Some(OwnItem { buckets, .. }) = own.filter(|_| self.world.config.evaluate.repeat) else { return 0.0 };
        let tables = &self.terms["repetition"];
        let Buckets { count, recency, age, due, transition, rate, gap, session } = *buckets;
        // Where each table begins, and the place in it.
        let tables_at = [
            (0, 0),
            (1, count),
            (21, recency),
            (41, age),
            (69, due),
            (114, transition),
            (139, rate),
            (151, gap),
            (179, session),
        ];
        tables_at.map(|(start, bucket)| tables[start + usize::from(bucket)]).iter().sum()
    }
}

pub(in crate::objective) fn product(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(into: &mut [f64], row: &[f64], factor: f64) {
    into.iter_mut().zip(row).for_each(|(sum, number)| *sum += factor * number);
}
