//! The exact rank of each event's item, under the model and under decayed popularity.

use rayon::prelude::*;

use super::popularity::PopularityOrder;
use crate::context::Batch;
use crate::context::users::UserHistories;
use crate::kernel::aligned::Aligned;
use crate::kernel::ranking::{ItemTile, PackedQueries, RankCounts, count_above, score_items};
use crate::kernel::{Kernel, LANES};
use crate::model::Model;
use crate::model::encoder::Encoded;
use crate::negatives::frequency::Frequencies;
use crate::table::paged::Paged;
use crate::table::rows::CHUNK;

/// How one event fared; `None` where its item was never seen before.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ranked {
    /// Its rank under the model, from 0; ties count half.
    pub model: Option<f64>,
    /// Its rank under decayed popularity.
    pub popularity: Option<f64>,
    /// How often its item came before.
    pub occurrences: u64,
}

/// What ranking reads of the worker's state.
#[derive(Debug, Clone, Copy)]
pub struct ModelView<'a> {
    /// The model as it stands before the batch.
    pub model: &'a Model,
    /// The frequencies before the batch.
    pub frequencies: &'a Frequencies,
    /// Their order.
    pub popularity: &'a PopularityOrder,
    /// Occurrences of each item before the batch.
    pub occurrences: &'a Paged<u64>,
    /// The users' histories, for their own items.
    pub histories: &'a UserHistories,
    /// How many items were seen before the batch: they have the first rows.
    pub n_known: usize,
    /// Items may recur.
    pub repeat: bool,
    /// Own items carry ρ.
    pub repetition: bool,
}

/// A batch's ranking: first what the state before the batch has to say, then the work. In between the counts may move on;
/// the model must not. What is as long as the table is kept from batch to batch.
#[derive(Debug, Default)]
pub struct Ranking {
    chosen: Vec<usize>,
    /// By known item: factor of the dot product.
    scale: Vec<f32>,
    /// By known item: β·log q̂ + b_c.
    bias: Vec<f32>,
    own: Vec<OwnItems>,
    popularity: Vec<f64>,
    occurrences: Vec<u64>,
    repeat: bool,
}

impl Ranking {
    /// Takes note of what ranking the queries `chosen` needs of the state before the batch.
    pub fn prepare(&mut self, kernel: Kernel, view: ModelView<'_>, batch: &Batch, chosen: impl Iterator<Item = usize>) {
        self.chosen.clear();
        self.chosen.extend(chosen);
        let Self { chosen, scale, bias, own, popularity, occurrences, repeat } = self;
        own.clear();
        popularity.clear();
        occurrences.clear();
        if chosen.is_empty() {
            return;
        }
        let ModelView { model, frequencies, n_known, .. } = view;
        *repeat = view.repeat;
        scale.resize(n_known, 0.0);
        bias.resize(n_known, 0.0);
        let inverse_temperature = model.inverse_temperature();
        let rows = scale.par_chunks_mut(CHUNK).zip(bias.par_chunks_mut(CHUNK));
        rows.enumerate().for_each(|(chunk, (scale, bias))| {
            let norms = &model.inverse_norms[chunk * CHUNK..];
            scale.iter_mut().zip(norms).for_each(|(scale, norm)| *scale = norm * inverse_temperature);
            frequencies.log_frequencies(kernel, chunk * CHUNK, model.beta(), bias);
            if model.biases.is_some() {
                bias.iter_mut().enumerate().for_each(|(place, bias)| *bias += model.bias(chunk * CHUNK + place));
            }
        });
        own.resize_with(chosen.len(), OwnItems::default);
        popularity.resize(chosen.len(), f64::NAN);
        occurrences.resize(chosen.len(), 0);
        (&*chosen, own, popularity, occurrences).into_par_iter().for_each(|(query, own, popularity, occurrences)| {
            let positive = batch.positive(*query) as usize;
            if positive < n_known {
                *own = OwnItems::of(view, batch, *query);
                *popularity = popularity_rank(view, own);
                *occurrences = view.occurrences[positive];
            } else {
                own.target = f32::INFINITY;
            }
        });
    }

    /// Ranks the chosen queries, in order; query `i` is row `i` of `encoded`.
    pub fn rank(&mut self, kernel: Kernel, model: &Model, encoded: &Encoded) -> Vec<Ranked> {
        let Self { chosen, scale, bias, own, popularity, occurrences, repeat } = self;
        let (scale, bias) = (scale.as_slice(), bias.as_slice());
        let (n_known, dim) = (scale.len(), model.dim());
        if chosen.is_empty() {
            return Vec::new();
        }
        let single = |item: u32| {
            let item = item as usize;
            (model.vectors().row(item), scale[item], bias[item])
        };

        // The targets' own scores, with ρ where it applies, and what has to be taken back from the plain count.
        chosen.par_iter().zip(own.par_iter_mut()).for_each_init(
            <(PackedQueries, Vec<f32>)>::default,
            |scratch, (query, own)| {
                if own.is_known() {
                    let vector = &encoded.normalized.row(*query)[..dim];
                    score_items(
                        kernel,
                        vector,
                        own.items.iter().map(|item| single(*item)),
                        &mut scratch.0,
                        &mut scratch.1,
                    );
                    own.scores.clone_from(&scratch.1);
                    own.target = own.scores[0] + own.terms[0];
                }
            },
        );
        let tiles: Vec<(PackedQueries, [f32; LANES])> = chosen
            .par_chunks(LANES)
            .zip(own.par_chunks(LANES))
            .map(|(chosen, own)| {
                let mut packed = PackedQueries::default();
                packed.pack(chosen.iter().map(|query| &encoded.normalized.row(*query)[..dim]), dim);
                let mut targets = [f32::INFINITY; LANES];
                own.iter().zip(&mut targets).for_each(|(own, target)| *target = own.target);
                (packed, targets)
            })
            .collect();
        // A chunk of the table at a time: with 64 dimensions it fills a quarter of a small second-level cache.
        let vectors = model.vectors();
        let none = || vec![RankCounts::default(); tiles.len()];
        let with_scratch = || (none(), Aligned::default());
        let counts = (0..n_known.div_ceil(CHUNK))
            .into_par_iter()
            .fold(with_scratch, |(mut counts, mut scratch), chunk| {
                let (first, rows) = (chunk * CHUNK, vectors.chunk(chunk, &mut scratch));
                let n_items = (rows.len() / dim).min(n_known - first);
                let items = ItemTile {
                    rows: &rows[..n_items * dim],
                    scale: &scale[first..first + n_items],
                    bias: &bias[first..first + n_items],
                };
                for ((packed, targets), counts) in tiles.iter().zip(&mut counts) {
                    count_above(kernel, packed, items, targets, counts);
                }
                (counts, scratch)
            })
            .map(|(counts, _)| counts)
            .reduce(none, |mut a, b| {
                for (a, b) in a.iter_mut().zip(&b) {
                    for lane in 0..LANES {
                        a.above[lane] += b.above[lane];
                        a.equal[lane] += b.equal[lane];
                    }
                }
                a
            });

        own.iter()
            .enumerate()
            .map(|(place, own)| {
                if !own.is_known() {
                    return Ranked { model: None, popularity: None, occurrences: 0 };
                }
                let (counts, lane) = (&counts[place / LANES], place % LANES);
                Ranked {
                    model: Some(own.rank(counts.above[lane], counts.equal[lane], *repeat)),
                    popularity: Some(popularity[place]),
                    occurrences: occurrences[place],
                }
            })
            .collect()
    }
}

/// The target and the user's own known items, each once: what the plain count of all items gets wrong.
#[derive(Debug, Default)]
struct OwnItems {
    /// The target's score, ρ included.
    target: f32,
    /// The target first.
    items: Vec<u32>,
    /// ρ of each.
    terms: Vec<f32>,
    /// Score of each without ρ.
    scores: Vec<f32>,
}

impl OwnItems {
    /// Whether the target was ever seen before the batch.
    fn is_known(&self) -> bool {
        !self.items.is_empty()
    }

    fn of(view: ModelView<'_>, batch: &Batch, query: usize) -> Self {
        let positive = batch.positive(query);
        let mut own = Self { target: 0.0, items: vec![positive], terms: vec![0.0], scores: Vec::new() };
        if view.repeat {
            for remembered in batch.own(query) {
                let rho = view.repetition;
                let term = if rho { view.model.repetition.term(remembered.buckets) } else { 0.0 };
                if remembered.item == positive {
                    own.terms[0] = term;
                } else if (remembered.item as usize) < view.n_known {
                    own.items.push(remembered.item);
                    own.terms.push(term);
                }
            }
        } else {
            let mut all = view.histories.own(batch, query).to_vec();
            all.sort_unstable();
            all.dedup();
            own.items.extend(all.iter().filter(|item| **item != positive && (**item as usize) < view.n_known));
            own.terms.resize(own.items.len(), 0.0);
        }
        own
    }

    /// The rank, from the counts over all known items.
    fn rank(&self, above: u32, equal: u32, repeat: bool) -> f64 {
        if self.target.is_nan() {
            // Nothing compares with it: no rank is better than none.
            return f64::INFINITY;
        }
        let (mut above, mut equal) = (i64::from(above), i64::from(equal));
        for (place, (score, term)) in self.scores.iter().zip(&self.terms).enumerate() {
            above -= i64::from(*score > self.target);
            equal -= i64::from(*score == self.target);
            if repeat && place > 0 {
                above += i64::from(score + term > self.target);
                equal += i64::from(score + term == self.target);
            }
        }
        above as f64 + equal as f64 / 2.0
    }
}

/// The rank under decayed popularity: of all known items, without the user's own where those leave the ranking.
fn popularity_rank(view: ModelView<'_>, own: &OwnItems) -> f64 {
    let counts = view.frequencies.popularity().relative();
    let target = counts[own.items[0] as usize];
    let (above, equal) = view.popularity.compare(target);
    let (mut above, mut equal) = (above as i64, equal as i64 - 1);
    if !view.repeat {
        for item in &own.items[1..] {
            let count = counts[*item as usize];
            above -= i64::from(count > target);
            equal -= i64::from(count == target);
        }
    }
    above as f64 + equal as f64 / 2.0
}
