//! InfoNCE, and what can be asked of it besides.
//!
//! ```text
//! logit_ij = f(q_i, c_j) − log E_j + log m_j,  logit_ip = f(q_i, c_p)        L_i = −logit_ip + log Σ_j exp logit_ij
//! ```
//!
//! m_j draws of item j are one column with + log m_j. In the row of its own positive that column counts once, and
//! without a correction: it is there with certainty, not because it was drawn, and further draws of it are accidental
//! hits. (To correct it as if it had been drawn leaves a bias that more draws do not take away: docs/negatives.md.) The
//! score f is the whole one (see [`super`]; what each of its terms is worth: docs/quality.md). Its gate g belongs to
//! the query, and weighs every similarity of a row alike; popularity belongs to the column; ρ and κ belong to the pair.
//! Where own items leave the ranking, the remembered own items of the user are masked as well; where they may recur,
//! they carry the repetition term ρ. Neighbours of the user's newest items carry the co-occurrence term κ. (van den
//! Oord et al. 2018; correction: Bengio & Senécal 2008, Yi et al. 2019.)
//!
//! *Symmetric*: also, which of the batch's queries led to the item? (As CLIP, Radford et al. 2021.) *Debiased* and
//! *hardness-weighted*: see [`Reweighted`].

use std::cell::RefCell;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::contrast::{ItemContrast, add_candidates, tell_apart};
use super::inputs::PairTerms;
use super::registry::{ObjectiveOptions, ObjectiveSetting};
use super::step::{Objective, StepAccumulator, StepContext};
#[cfg(test)]
use super::tests::reference::{Reference, mean};
use crate::kernel::Kernel;
use crate::kernel::activations::{exponentials, largest};
use crate::kernel::aligned::Aligned;
use crate::kernel::contrast::{Gradients, Pairs, Problem, RowLoss, any, info_nce};
use crate::kernel::rows::add_scaled;
use crate::model::backward::{NO_ENTRY, PairSource};
use crate::model::encoder::Padded;
use crate::util::component::Component;
use crate::util::config_section::{ConfigValue, Refusal, Shape, config_section, value_shape};

config_section! {
    /// The options of `infonce`.
    pub struct InfoNceOptions {
        /// Weights of events by type, such as `{ purchase = 3, click = 0.5 }`; events of other types have weight 1.
        event_weights: EventWeights = EventWeights::default();
        /// Also tell, for each item, which query of the batch led to it.
        symmetric: bool = false;
        /// τ⁺: the share of items that are positives in truth (Chuang et al. 2020).
        debias: f64 = 0.0 => [within(0.0..=0.5)];
        /// β: negatives count by exp(β·score), so that hard ones count more (Robinson et al. 2021).
        hardness: f64 = 0.0 => [within(0.0..=10.0)];
    }
}

impl Component for InfoNceOptions {
    const NAME: &'static str = "infonce";
    const SUMMARY: &'static str = "InfoNCE with one correction over the whole candidate set.";
}

impl ObjectiveOptions for InfoNceOptions {
    const TESTED: &'static [&'static str] = &[
        "",
        "weight=0.7,symmetric=true",
        "event_weights={click=0.3,buy=3.0}",
        "event_weights={click=0.0},symmetric=true",
        "debias=0.1",
        "hardness=1.5",
        "debias=0.4,hardness=0.5,symmetric=true,event_weights={view=0.5}",
    ];

    fn build(&self, weight: f64, _setting: ObjectiveSetting) -> Box<dyn Objective> {
        Box::new(InfoNce {
            weight,
            symmetric: self.symmetric,
            debias: self.debias,
            hardness: self.hardness,
            event_weights: self.event_weights.0.clone(),
            weights: Vec::new(),
            reverse: ReverseDirection::default(),
        })
    }

    #[cfg(test)]
    fn reference_loss(&self, at: &Reference<'_>) -> f64 {
        let batch = &at.world.batch;
        let queries = at.scores.queries();
        let n = queries.len();
        let plain = self.debias == 0.0 && self.hardness == 0.0;
        let weight = |query: usize| {
            let kind = &batch.kinds[batch.with_context[query] as usize];
            if at.weighed { self.event_weights.0.get(kind.as_str()).copied().unwrap_or(1.0) } else { 1.0 }
        };
        let forth = |query: usize| {
            let scores = at.next_scores(query);
            let (term, masked) = (|item| scores.history_terms(query, item), |item| at.masked(query, item));
            let contrast = at.contrast(scores, &scores.gated(query), batch.positive(query), term, masked);
            if plain { at.softmax(contrast) } else { at.reweighted(contrast, self.debias, self.hardness) }
        };
        let back = |query: usize| {
            let item = batch.positive(query);
            let (vector, scores) = (at.scores.item_vector(item), at.next_scores(query));
            let score =
                |other: usize| at.scores.similarity(&vector, &queries[other]) + scores.history_terms(other, item);
            let rivals =
                (0..n).filter(|other| *other == query || (batch.positive(*other) != item && !at.masked(*other, item)));
            rivals.map(|other| score(other).exp()).sum::<f64>().ln() - score(query)
        };
        let mean = |of: &dyn Fn(usize) -> f64| mean((0..n).map(|query| weight(query) * of(query)));
        if self.symmetric { (mean(&forth) + mean(&back)) / 2.0 } else { mean(&forth) }
    }
}

/// Weights of events by their type.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventWeights(pub BTreeMap<String, f64>);

impl ConfigValue for EventWeights {
    fn shape() -> Shape {
        value_shape(
            json!({ "type": "object", "additionalProperties": { "type": "number", "minimum": 0, "maximum": 1e6 } }),
        )
    }

    fn validate(&self) -> Result<(), Refusal> {
        match self.0.iter().find(|(_, weight)| !(0.0..=1e6).contains(*weight)) {
            Some((kind, _)) => Err(format!("must be between 0 and 1e6, which '{kind}' is not").into()),
            None => Ok(()),
        }
    }
}

/// InfoNCE at work: its options, and buffers.
#[derive(Debug)]
pub(super) struct InfoNce {
    weight: f64,
    symmetric: bool,
    debias: f64,
    hardness: f64,
    event_weights: BTreeMap<String, f64>,
    /// The weight of each query; empty where all count alike.
    weights: Vec<f32>,
    reverse: ReverseDirection,
}

impl Objective for InfoNce {
    fn step(&mut self, step: &StepContext<'_>, accumulator: &mut StepAccumulator) {
        let StepContext { kernel, model, batch, candidates, columns, .. } = *step;
        let n_queries = batch.n_queries();
        self.weights.clear();
        if !self.event_weights.is_empty() {
            let of =
                |event: &u32| self.event_weights.get(batch.kinds[*event as usize].as_str()).copied().unwrap_or(1.0);
            self.weights.extend(batch.with_context.iter().map(|event| of(event) as f32));
        }
        let rules = step.rules();
        // Both directions together count what one of them would.
        let weight = if self.symmetric { self.weight / 2.0 } else { self.weight };
        let contrast = ItemContrast {
            rows: 0..n_queries,
            pairs: |pairs: &mut _| PairTerms::gather(pairs, model, batch, candidates, 0..n_queries, rules),
            weights: &self.weights,
            weight,
            is_next_item: true,
            merged: true,
        };
        let plain = self.debias == 0.0 && self.hardness == 0.0;
        let (loss, bound) = contrast.run(step, accumulator, plain, |problem, gradients| {
            if plain {
                return tell_apart(step, problem, gradients);
            }
            let draws = candidates.multiplicity.iter().zip(&candidates.log_expected);
            let log_measure: Vec<f32> = draws.map(|(m, e)| (*m as f32).ln() - e).collect();
            let exp = |log: f32| f64::from(log).exp();
            let measure = log_measure.iter().map(|log| exp(*log)).collect();
            let lowest = columns.merged_bias.iter().map(|bias| exp(bias - problem.inverse_temperature)).collect();
            let loss = Reweighted {
                kernel,
                positives: problem.positives,
                log_measure: &log_measure,
                debias: self.debias,
                hardness: self.hardness,
                measure,
                lowest,
            };
            any(problem, &loss, gradients);
        });
        accumulator.add_loss(InfoNceOptions::NAME, "", weight, loss, bound);
        accumulator.mark_next_item();
        if self.symmetric {
            let loss = self.reverse.run(step, accumulator, &self.weights, weight);
            accumulator.add_loss(InfoNceOptions::NAME, "item to query", weight, loss, None);
        }
    }
}

/// An item that a query's terms ρ or κ apply to.
#[derive(Debug, Clone, Copy)]
struct Likely {
    item: u32,
    query: u32,
    term: f32,
    source: PairSource,
}

/// From the items back to the queries of the batch: `−logit_ii + log Σ_k exp logit_ki`, by the same similarity and
/// terms, but without the gates, which would only say how sure each query is. What is the same for all queries
/// (popularity, correction) plays no part. Queries that led to the same item are masked, and those of which the item is
/// no negative.
#[derive(Debug, Default)]
struct ReverseDirection {
    gradients: Gradients,
    items: Padded,
    of_queries: Aligned<f32>,
    zeros: Vec<f32>,
    rows: Vec<u32>,
    starts: Vec<u32>,
    columns: Vec<u32>,
    terms: Vec<f32>,
    sources: Vec<PairSource>,
    /// In the order of the items, and then of the queries.
    likely: Vec<Likely>,
}

impl ReverseDirection {
    fn run(&mut self, step: &StepContext<'_>, accumulator: &mut StepAccumulator, weights: &[f32], weight: f64) -> f64 {
        let StepContext { kernel, model, batch, encoded, candidates, columns, .. } = *step;
        let (n, stride) = (batch.n_queries(), model.stride());
        let column_of = |query: usize| candidates.column(batch.positive(query)).expect("every positive is a candidate");
        self.items.resize_to(n, stride);
        for query in 0..n {
            self.items.row_mut(query).copy_from_slice(columns.vectors.row(column_of(query) as usize));
        }
        self.gather_likely(step);
        for numbers in [&mut self.rows, &mut self.starts, &mut self.columns] {
            numbers.clear();
        }
        self.terms.clear();
        self.sources.clear();
        self.starts.push(0);
        for row in 0..n {
            let item = batch.positive(row);
            self.rows.push(row as u32);
            let first = self.likely.partition_point(|likely| likely.item < item);
            let mut likely = self.likely[first..].iter().take_while(|likely| likely.item == item).peekable();
            for query in 0..n {
                let (mut term, mut source, mut applies) = (0.0, PairSource::NONE, query == row);
                // An item may be there twice, for ρ and for κ.
                while let Some(likely) = likely.next_if(|likely| likely.query == query as u32) {
                    term += likely.term;
                    source.own = source.own.min(likely.source.own);
                    source.related = source.related.min(likely.source.related);
                    applies = true;
                }
                let recent = || step.positive_rules.recent(batch.context(query)).contains(&item);
                // What the user had before is no candidate of its own query where own items leave the ranking, and so
                // none of others'.
                let is_own = !step.positive_rules.repeat && source.own != NO_ENTRY;
                if query != row && (batch.positive(query) == item || is_own || recent()) {
                    (term, source, applies) = (f32::NEG_INFINITY, PairSource::NONE, true);
                } else if is_own {
                    source.own = NO_ENTRY;
                }
                if applies {
                    self.columns.push(query as u32);
                    self.terms.push(term);
                    self.sources.push(source);
                }
            }
            self.starts.push(self.columns.len() as u32);
        }
        self.zeros.clear();
        self.zeros.resize(n, 0.0);
        let problem = Problem {
            queries: self.items.view(),
            query_inverse_norms: &[],
            query_scales: &[],
            candidates: encoded.normalized.rows(0..n),
            inverse_temperature: model.inverse_temperature(),
            bias: &self.zeros,
            slope: &self.zeros,
            positives: &self.rows,
            pairs: Pairs { starts: &self.starts, columns: &self.columns, terms: &self.terms },
            scale: weight as f32 * step.share / n as f32,
            weights,
        };
        info_nce(kernel, &problem, &mut self.gradients);
        let more = accumulator.gradients.extra_candidates_mut(candidates.items.len());
        for query in 0..n {
            let gradient = &self.gradients.queries[query * stride..][..stride];
            add_scaled(kernel, more.row_mut(column_of(query) as usize), gradient, 1.0);
        }
        add_candidates(step, accumulator, &self.gradients, 0, &mut self.of_queries);
        for row in (0..n).filter(|row| !batch.is_newcomer(*row)) {
            let of_row = self.starts[row] as usize..self.starts[row + 1] as usize;
            accumulator.gradients.add_pairs(batch, &self.sources[of_row.clone()], &self.gradients.pairs[of_row]);
        }
        accumulator.gradients.inverse_temperature += self.gradients.inverse_temperature;
        self.gradients.loss / n as f64
    }

    /// Lists which of the batch's positives the terms ρ and κ of which queries apply to. Where own items leave the
    /// ranking they have no term, but are listed.
    fn gather_likely(&mut self, step: &StepContext<'_>) {
        let StepContext { model, batch, .. } = *step;
        let n = batch.n_queries();
        let mut positives: Vec<u32> = (0..n).map(|query| batch.positive(query)).collect();
        positives.sort_unstable();
        self.likely.clear();
        for query in 0..n {
            let own = (batch.own_starts[query]..).zip(batch.own(query)).map(|(place, own)| {
                let term = if step.positive_rules.repeat { model.repetition.term(own.buckets) } else { 0.0 };
                (own.item, term, PairSource::of_own(place))
            });
            let related = batch.related_lists.places(query).map(|(place, related)| {
                (related.item, model.cooccurrence.term(related.buckets), PairSource::of_related(place))
            });
            let of_batch = own.chain(related).filter(|(item, ..)| positives.binary_search(item).is_ok());
            let query = query as u32;
            self.likely.extend(of_batch.map(|(item, term, source)| Likely { item, query, term, source }));
        }
        self.likely.sort_by_key(|likely| (likely.item, likely.query));
    }
}

/// InfoNCE with other weights of the negatives. With μ_j = m_j/E_j, what the draws of j stand for among all items,
///
/// ```text
/// hardness-weighted   G = Σ_j μ_j · Σ_j μ_j·exp((1+β)·f_j) / Σ_j μ_j·exp(β·f_j)      (Robinson et al. 2021)
/// debiased            G' = max((G − τ⁺·Σ_j μ_j·exp f_p)/(1 − τ⁺), Σ_j μ_j·exp(lowest score))      (Chuang et al. 2020)
///                     L = −f_p + log(exp f_p + G')
/// ```
///
/// where j runs over the negatives. Without correction (μ = 1) these are the papers' own formulas. The lowest score is
/// −1/τ + β·log q̂ (+ b_c), the gate, ρ and κ left out; where G' has come down to it, it is a constant: nothing moves
/// the negatives.
pub(super) struct Reweighted<'a> {
    pub(super) kernel: Kernel,
    /// The column of each query's positive.
    pub(super) positives: &'a [u32],
    /// log μ.
    pub(super) log_measure: &'a [f32],
    /// τ⁺.
    pub(super) debias: f64,
    /// β.
    pub(super) hardness: f64,
    /// μ.
    pub(super) measure: Vec<f64>,
    /// μ·exp(lowest score).
    pub(super) lowest: Vec<f64>,
}

impl RowLoss for Reweighted<'_> {
    fn of(&self, query: usize, logits: &mut [f32]) -> f64 {
        thread_local! {
            static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
        }
        let Self { kernel, debias, hardness, .. } = *self;
        let positive = self.positives[query] as usize;
        let score = f64::from(logits[positive]);
        logits[positive] = f32::NEG_INFINITY;
        let (mut total, mut floor) = (0.0, 0.0);
        for (logit, (measure, lowest)) in logits.iter().zip(self.measure.iter().zip(&self.lowest)) {
            if *logit > f32::NEG_INFINITY {
                (total, floor) = (total + measure, floor + lowest);
            }
        }
        SCRATCH.with_borrow_mut(|tilt| {
            // log μ + β·f: what each counts in the mean.
            tilt.clear();
            let tilted = |(logit, log): (&f32, &f32)| (1.0 - hardness as f32) * log + hardness as f32 * logit;
            tilt.extend(
                logits
                    .iter()
                    .zip(self.log_measure)
                    .map(|pair| if *pair.0 > f32::NEG_INFINITY { tilted(pair) } else { f32::NEG_INFINITY }),
            );
            // log μ + (1 + β)·f.
            logits.iter_mut().zip(&*tilt).zip(self.log_measure).for_each(|((logit, tilt), log)| *logit += tilt - log);
            let (high, low) = (largest(logits), largest(tilt));
            if high == f32::NEG_INFINITY {
                logits.fill(0.0);
                return 0.0;
            }
            let (above, below) = (exponentials(kernel, logits, 1.0, high), exponentials(kernel, tilt, 1.0, low));
            let log_sum = total.ln() + f64::from(high) + above.ln() - f64::from(low) - below.ln();
            let own = score.exp();
            let corrected = (log_sum.exp() - debias * total * own) / (1.0 - debias);
            let (rest, slope, own_slope) = match corrected > floor {
                true => (corrected, log_sum.exp() / (1.0 - debias), debias * total * own / (1.0 - debias)),
                false => (floor, 0.0, 0.0),
            };
            let sum = own + rest;
            let (above, below) =
                ((slope * (1.0 + hardness) / (sum * above)) as f32, (slope * hardness / (sum * below)) as f32);
            logits.iter_mut().zip(tilt).for_each(|(weight, tilt)| *weight = *weight * above - *tilt * below);
            logits[positive] = ((own - own_slope) / sum - 1.0) as f32;
            sum.ln() - score
        })
    }
}
