//! The exact rank of each event's item, under the model and under decayed popularity.

use rayon::prelude::*;

use super::popularity::PopularityOrder;
use crate::context::Batch;
use crate::context::users::Users;
use crate::kernel::ranking::{Counts, Items, PackedQueries, count_above, score_items};
use crate::kernel::{Kernel, LANES};
use crate::negatives::frequency::Frequencies;
use crate::objective::score::{Model, Queries};
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
pub struct Standing<'a> {
    /// The model as it stands before the batch.
    pub model: &'a Model,
    /// The frequencies before the batch.
    pub frequencies: &'a Frequencies,
    /// Their order.
    pub popularity: &'a PopularityOrder,
    /// Occurrences of each item before the batch.
    pub occurrences: &'a [u64],
    /// The users, for their own items.
    pub users: &'a Users,
    /// How many items were seen before the batch: they have the first rows.
    pub n_known: usize,
    /// Items may recur.
    pub repeat: bool,
}

/// Ranks the chosen queries of a batch, in order.
pub fn rank(kernel: Kernel, standing: Standing<'_>, batch: &Batch, queries: &Queries, chosen: &[usize]) -> Vec<Ranked> {
    if chosen.is_empty() {
        return Vec::new();
    }
    let Standing { model, frequencies, n_known, .. } = standing;
    let inverse_temperature = model.inverse_temperature();
    let beta = model.beta();
    let scale: Vec<f32> = model.inverse_norms[..n_known].par_iter().map(|norm| norm * inverse_temperature).collect();
    let bias: Vec<f32> =
        (0..n_known as u32).into_par_iter().map(|item| beta * frequencies.log_frequency(item)).collect();
    let single = |item: u32| {
        let item = item as usize;
        (model.items.values.row(item), scale[item], bias[item])
    };

    // The targets' own scores, with ρ where it applies, and what has to be taken back from the plain count.
    let known = |query: usize| (batch.positive(query) as usize) < n_known;
    let own: Vec<OwnItems> = chosen
        .par_iter()
        .map_init(<(PackedQueries, Vec<f32>)>::default, |(packed, scores), &query| {
            if !known(query) {
                return OwnItems::default();
            }
            let mut own = OwnItems::of(standing, batch, query);
            let vector = &queries.unit.row(query)[..model.dim()];
            score_items(kernel, vector, own.items.iter().map(|item| single(*item)), packed, scores);
            own.scores.clone_from(scores);
            own.target = own.scores[0] + own.terms[0];
            own
        })
        .collect();

    let tiles: Vec<(PackedQueries, [f32; LANES])> = chosen
        .par_chunks(LANES)
        .zip(own.par_chunks(LANES))
        .map(|(chosen, own)| {
            let mut packed = PackedQueries::default();
            packed.pack(chosen.iter().map(|query| &queries.unit.row(*query)[..model.dim()]), model.dim());
            let mut targets = [f32::INFINITY; LANES];
            own.iter().zip(&mut targets).for_each(|(own, target)| *target = own.target);
            (packed, targets)
        })
        .collect();
    let dim = model.dim();
    // A chunk of the table at a time: with 64 dimensions it fills a quarter of a small second-level cache.
    let runs: Vec<(usize, &[f32])> = model
        .items
        .values
        .chunks()
        .enumerate()
        .map(|(chunk, rows)| (chunk * CHUNK, rows))
        .take_while(|(first, _)| *first < n_known)
        .collect();
    let none = || vec![Counts::default(); tiles.len()];
    let counts = runs
        .into_par_iter()
        .fold(none, |mut counts, (first, rows)| {
            let n_items = (rows.len() / dim).min(n_known - first);
            let items = Items {
                rows: &rows[..n_items * dim],
                scale: &scale[first..first + n_items],
                bias: &bias[first..first + n_items],
            };
            for ((packed, targets), counts) in tiles.iter().zip(&mut counts) {
                count_above(kernel, packed, items, targets, counts);
            }
            counts
        })
        .reduce(none, |mut a, b| {
            for (a, b) in a.iter_mut().zip(&b) {
                for lane in 0..LANES {
                    a.above[lane] += b.above[lane];
                    a.equal[lane] += b.equal[lane];
                }
            }
            a
        });

    (0..chosen.len())
        .into_par_iter()
        .map(|place| {
            let query = chosen[place];
            if !known(query) {
                return Ranked { model: None, popularity: None, occurrences: 0 };
            }
            let (counts, lane) = (&counts[place / LANES], place % LANES);
            let rank = own[place].rank(counts.above[lane], counts.equal[lane], standing.repeat);
            Ranked {
                model: Some(rank),
                popularity: Some(popularity_rank(standing, &own[place])),
                occurrences: standing.occurrences[batch.positive(query) as usize],
            }
        })
        .collect()
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
    fn of(standing: Standing<'_>, batch: &Batch, query: usize) -> Self {
        let positive = batch.positive(query);
        let mut own = Self { target: 0.0, items: vec![positive], terms: vec![0.0], scores: Vec::new() };
        if standing.repeat {
            for remembered in batch.own(query) {
                let term = standing.model.repetition.term(remembered.buckets);
                if remembered.item == positive {
                    own.terms[0] = term;
                } else if (remembered.item as usize) < standing.n_known {
                    own.items.push(remembered.item);
                    own.terms.push(term);
                }
            }
        } else {
            let mut all = standing.users.own(batch, query).to_vec();
            all.sort_unstable();
            all.dedup();
            own.items.extend(all.iter().filter(|item| **item != positive && (**item as usize) < standing.n_known));
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
fn popularity_rank(standing: Standing<'_>, own: &OwnItems) -> f64 {
    let counts = standing.frequencies.relative();
    let target = counts[own.items[0] as usize];
    let (above, equal) = standing.popularity.compare(target);
    let (mut above, mut equal) = (above as i64, equal as i64 - 1);
    if !standing.repeat {
        for item in &own.items[1..] {
            let count = counts[*item as usize];
            above -= i64::from(count > target);
            equal -= i64::from(count == target);
        }
    }
    above as f64 + equal as f64 / 2.0
}
