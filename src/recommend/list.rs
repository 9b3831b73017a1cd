//! The best of all items for each query: one pass over the table for all of them, then what only some items have.

use rayon::prelude::*;

use super::shortlist::{Scored, Shortlist, order};
use super::{ListRules, Recommendation, Recommender, Visitor, VisitorQueries};
use crate::kernel::aligned::Aligned;
use crate::kernel::ranking::{ItemTile, PackedQueries, score_items, score_tile};
use crate::kernel::{LANES, Lanes};
use crate::table::rows::CHUNK;

/// What an item has for one visitor besides its plain score.
#[derive(Debug, Clone, Copy)]
struct OwnTerms {
    item: u32,
    repetition: f32,
    cooccurrence: f32,
    is_excluded: bool,
}

impl OwnTerms {
    /// ρ + κ.
    fn sum(&self) -> f32 {
        self.repetition + self.cooccurrence
    }
}

/// The place of `item` in `terms`, which is sorted by item.
fn find(terms: &[OwnTerms], item: u32) -> Option<&OwnTerms> {
    terms.binary_search_by_key(&item, |terms| terms.item).ok().map(|place| &terms[place])
}

impl Recommender<'_> {
    /// The list of each query.
    pub(super) fn lists(
        &self,
        visitors: &[Visitor],
        queries: &VisitorQueries,
        rules: ListRules<'_>,
    ) -> Vec<Vec<Recommendation>> {
        if rules.k == 0 || queries.batch.n_queries() == 0 {
            return vec![Vec::new(); queries.batch.n_queries()];
        }
        let known: Vec<&Visitor> = visitors.iter().filter(|visitor| self.knows(visitor)).collect();
        let terms: Vec<Vec<OwnTerms>> =
            known.par_iter().enumerate().map(|(query, visitor)| self.terms(visitor, queries, query, rules)).collect();
        let plain = match rules.candidates {
            Some(candidates) => self.best_of(candidates, queries, &terms, rules.k),
            None => self.best_of_all(queries, &terms, rules.k),
        };
        let finish = |(query, (plain, terms)): (usize, (Shortlist, &Vec<OwnTerms>))| {
            self.finish(queries, query, plain, terms, rules)
        };
        plain.into_par_iter().zip(&terms).enumerate().map(finish).collect()
    }

    /// The items that do not have their plain score, or no place in the list, sorted, each once.
    fn terms(&self, visitor: &Visitor, queries: &VisitorQueries, query: usize, rules: ListRules<'_>) -> Vec<OwnTerms> {
        let VisitorQueries { batch, .. } = queries;
        let none = OwnTerms { item: 0, repetition: 0.0, cooccurrence: 0.0, is_excluded: false };
        let exclude = |item: &u32| OwnTerms { item: *item, is_excluded: true, ..none };
        let mut terms: Vec<OwnTerms> = rules.excluded.iter().map(exclude).collect();
        if self.histories.items_recur() {
            let own = batch.own(query).iter();
            terms.extend(own.map(|own| OwnTerms {
                item: own.item,
                repetition: self.model.repetition.term(own.buckets),
                ..none
            }));
        } else {
            match visitor {
                Visitor::User(user) => terms.extend(self.histories.get(*user).own.iter().map(exclude)),
                Visitor::Session(items) => terms.extend(items.iter().map(exclude)),
            }
        }
        let related = batch.related(query).iter();
        terms.extend(related.map(|related| OwnTerms {
            item: related.item,
            cooccurrence: self.model.cooccurrence.term(related.buckets),
            ..none
        }));
        terms.sort_by_key(|terms| terms.item);
        terms.dedup_by(|next, kept| {
            let is_same = next.item == kept.item;
            if is_same {
                // Each term of an item is there once.
                kept.repetition += next.repetition;
                kept.cooccurrence += next.cooccurrence;
                kept.is_excluded |= next.is_excluded;
            }
            is_same
        });
        terms
    }

    /// The best of all items by their plain scores, for each query; without those that have terms.
    fn best_of_all(&self, queries: &VisitorQueries, terms: &[Vec<OwnTerms>], k: usize) -> Vec<Shortlist> {
        let (kernel, dim, n_queries) = (self.model.kernel(), self.model.dim(), terms.len());
        let tiles: Vec<PackedQueries> = (0..n_queries)
            .step_by(LANES)
            .map(|first| {
                let mut packed = PackedQueries::default();
                let of_tile = first..(first + LANES).min(n_queries);
                packed.pack(of_tile.map(|query| &queries.encoded.scored_row(query)[..dim]), dim);
                packed
            })
            .collect();
        let vectors = self.model.vectors();
        let none = || vec![Shortlist::new(k); n_queries];
        let begin = || (none(), Aligned::default(), Vec::new());
        let fold = |(mut best, mut scratch, mut scores): (Vec<Shortlist>, Aligned<f32>, Vec<Lanes>), chunk: usize| {
            let first = chunk * CHUNK;
            let rows = vectors.chunk(chunk, &mut scratch);
            let n_items = (rows.len() / dim).min(self.n_items() - first);
            let items = ItemTile {
                rows: &rows[..n_items * dim],
                scale: &self.scale[first..first + n_items],
                bias: &self.popularity[first..first + n_items],
            };
            for (packed, (best, terms)) in tiles.iter().zip(best.chunks_mut(LANES).zip(terms.chunks(LANES))) {
                score_tile(kernel, packed, items, &mut scores);
                for (lane, (best, terms)) in best.iter_mut().zip(terms).enumerate() {
                    for (item, scores) in (first as u32..).zip(&scores) {
                        if best.takes(scores[lane]) && find(terms, item).is_none() {
                            best.push(scores[lane], item);
                        }
                    }
                }
            }
            (best, scratch, scores)
        };
        let merge = |a: Vec<Shortlist>, b: Vec<Shortlist>| a.into_iter().zip(b).map(|(a, b)| a.merge(b)).collect();
        let of_chunks = (0..vectors.n_chunks()).into_par_iter().fold(begin, fold);
        of_chunks.map(|(best, _, _)| best).reduce(none, merge)
    }

    /// The best of `candidates` by their plain scores, for each query; without those that have terms.
    fn best_of(
        &self,
        candidates: &[u32],
        queries: &VisitorQueries,
        terms: &[Vec<OwnTerms>],
        k: usize,
    ) -> Vec<Shortlist> {
        let mut candidates = candidates.to_vec();
        candidates.sort_unstable();
        candidates.dedup();
        let of_query = |(query, terms): (usize, &Vec<OwnTerms>)| {
            let plain: Vec<u32> = candidates.iter().copied().filter(|item| find(terms, *item).is_none()).collect();
            let mut best = Shortlist::new(k);
            for (item, score) in plain.iter().zip(self.scores(queries, query, &plain, true)) {
                best.offer(score, *item);
            }
            best
        };
        terms.par_iter().enumerate().map(of_query).collect()
    }

    /// The plain scores of `items` for one query; without (`popularity` is false) their popularity.
    fn scores(&self, queries: &VisitorQueries, query: usize, items: &[u32], popularity: bool) -> Vec<f32> {
        let vector = &queries.encoded.scored_row(query)[..self.model.dim()];
        let single = |item: &u32| {
            let row = *item as usize;
            let bias = if popularity { self.popularity[row] } else { 0.0 };
            (self.model.vectors().row(row), self.scale[row], bias)
        };
        let (mut scratch, mut scores) = (PackedQueries::default(), Vec::new());
        score_items(self.model.kernel(), vector, items.iter().map(single), &mut scratch, &mut scores);
        scores
    }

    /// The list of one query: the best plain ones, and those with terms.
    fn finish(
        &self,
        queries: &VisitorQueries,
        query: usize,
        mut best: Shortlist,
        terms: &[OwnTerms],
        rules: ListRules<'_>,
    ) -> Vec<Recommendation> {
        let may_come =
            |terms: &&OwnTerms| !terms.is_excluded && rules.candidates.is_none_or(|items| items.contains(&terms.item));
        let own: Vec<&OwnTerms> = terms.iter().filter(may_come).collect();
        let items: Vec<u32> = own.iter().map(|own| own.item).collect();
        for (own, plain) in own.iter().zip(self.scores(queries, query, &items, true)) {
            best.offer(plain + own.sum(), own.item);
        }
        let mut best = best.into_best();
        best.sort_unstable_by(order);
        let items: Vec<u32> = best.iter().map(|(_, item)| *item).collect();
        let similarities = self.scores(queries, query, &items, false);
        let recommendation = |((score, item), similarity): (Scored, f32)| {
            let own = find(terms, item);
            Recommendation {
                item,
                score,
                similarity,
                popularity: self.popularity[item as usize],
                repetition: own.map_or(0.0, |own| own.repetition),
                cooccurrence: own.map_or(0.0, |own| own.cooccurrence),
            }
        };
        best.into_iter().zip(similarities).map(recommendation).collect()
    }
}
