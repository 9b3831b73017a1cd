//! The best of all items for each query: one pass over the table for all of them, then what only some items have.

use rayon::prelude::*;

use super::index::Sought;
use super::pass::{ScoredTable, best_of_table};
use super::shortlist::{Scored, Shortlist, order};
use super::{ListRules, Recommendation, Recommender, Visitor, VisitorQueries, Wish};
use crate::kernel::ranking::{PackedQueries, score_items};

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
    /// The list of each query; `wishes` are those of the visitors that are known.
    pub(super) fn lists(&self, wishes: &[&Wish<'_>], queries: &VisitorQueries) -> Vec<Vec<Recommendation>> {
        let terms: Vec<Vec<OwnTerms>> =
            wishes.par_iter().enumerate().map(|(query, wish)| self.terms(wish, queries, query)).collect();
        // Those who may have any item share one pass over the table.
        let of_all: Vec<usize> = (0..wishes.len()).filter(|query| wishes[*query].rules.candidates.is_none()).collect();
        let plain_of = |(query, wish): (usize, &&Wish<'_>)| match wish.rules.candidates {
            Some(candidates) => self.best_of(candidates, wish.rules.k, queries, query, &terms[query]),
            None => Shortlist::new(wish.rules.k),
        };
        let mut plain: Vec<Shortlist> = wishes.par_iter().enumerate().map(plain_of).collect();
        for (query, best) in of_all.iter().zip(self.best_of_all(&of_all, wishes, queries, &terms)) {
            plain[*query] = best;
        }
        let finish = |(query, (plain, terms)): (usize, (Shortlist, &Vec<OwnTerms>))| {
            self.finish(queries, query, plain, terms, wishes[query].rules)
        };
        plain.into_par_iter().zip(&terms).enumerate().map(finish).collect()
    }

    /// The items that do not have their plain score, or no place in the list, sorted, each once.
    fn terms(&self, wish: &Wish<'_>, queries: &VisitorQueries, query: usize) -> Vec<OwnTerms> {
        let (Wish { visitor, rules }, VisitorQueries { batch, .. }) = (wish, queries);
        let none = OwnTerms { item: 0, repetition: 0.0, cooccurrence: 0.0, is_excluded: false };
        let exclude = |item: &u32| OwnTerms { item: *item, is_excluded: true, ..none };
        let mut terms: Vec<OwnTerms> = rules.excluded.iter().map(exclude).collect();
        if self.encoder.histories.items_recur() {
            let own = batch.own(query).iter();
            terms.extend(own.map(|own| OwnTerms {
                item: own.item,
                repetition: self.encoder.model.repetition.term(own.buckets),
                ..none
            }));
        } else if !rules.with_own {
            match visitor {
                Visitor::User(user) => terms.extend(self.encoder.histories.get(*user).own.iter().map(exclude)),
                Visitor::Session(items) => terms.extend(items.iter().map(exclude)),
            }
        }
        let related = batch.related(query).iter();
        terms.extend(related.map(|related| OwnTerms {
            item: related.item,
            cooccurrence: self.encoder.model.cooccurrence.term(related.buckets),
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

    /// The best of all items by their plain scores, for each of the queries `asked`; without those that have terms.
    fn best_of_all(
        &self,
        asked: &[usize],
        wishes: &[&Wish<'_>],
        queries: &VisitorQueries,
        terms: &[Vec<OwnTerms>],
    ) -> Vec<Shortlist> {
        let dim = self.encoder.model.dim();
        let vectors: Vec<&[f32]> = asked.iter().map(|query| &queries.encoded.scored_row(*query)[..dim]).collect();
        let lengths: Vec<usize> = asked.iter().map(|query| wishes[*query].rules.k).collect();
        if let Some((index, popularity)) = self.index {
            let search = |(place, query): (usize, &usize)| {
                let skips = |item| find(&terms[*query], item).is_some();
                index.keep_asked(vectors[place]);
                let sought = Sought::Best { terms: &self.terms, popularity };
                let found = index.search(self.encoder.model, sought, vectors[place], lengths[place], skips);
                let mut best = Shortlist::new(lengths[place]);
                for (item, score) in found.items.iter().zip(self.scores(queries, *query, &found.items, true)) {
                    best.offer(score, *item);
                }
                best
            };
            return asked.par_iter().enumerate().map(search).collect();
        }
        let table =
            ScoredTable { rows: self.encoder.model.vectors(), terms: &self.terms, bounds: self.bounds.as_deref() };
        best_of_table(self.encoder.model.kernel(), table, &vectors, &lengths, |place, item| {
            find(&terms[asked[place]], item).is_some()
        })
    }

    /// The best of `candidates` by their plain scores, for one query; without those that have terms.
    fn best_of(
        &self,
        candidates: &[u32],
        k: usize,
        queries: &VisitorQueries,
        query: usize,
        terms: &[OwnTerms],
    ) -> Shortlist {
        let mut plain: Vec<u32> = candidates.iter().copied().filter(|item| find(terms, *item).is_none()).collect();
        plain.sort_unstable();
        plain.dedup();
        let mut best = Shortlist::new(k);
        for (item, score) in plain.iter().zip(self.scores(queries, query, &plain, true)) {
            best.offer(score, *item);
        }
        best
    }

    /// The plain scores of `items` for one query; without (`popularity` is false) their popularity.
    fn scores(&self, queries: &VisitorQueries, query: usize, items: &[u32], popularity: bool) -> Vec<f32> {
        let vector = &queries.encoded.scored_row(query)[..self.encoder.model.dim()];
        self.scores_of(vector, items, popularity)
    }

    /// The plain scores of `items` for a query's vector.
    pub(super) fn plain_scores(&self, query: &[f32], items: &[u32]) -> impl Iterator<Item = f32> + use<> {
        self.scores_of(query, items, true).into_iter()
    }

    fn scores_of(&self, vector: &[f32], items: &[u32], popularity: bool) -> Vec<f32> {
        let single = |item: &u32| {
            let row = *item as usize;
            let bias = if popularity { self.terms.popularity(row) } else { 0.0 };
            (self.encoder.model.vectors().row(row), self.terms.scale(row), bias)
        };
        let (mut scratch, mut scores) = (PackedQueries::default(), Vec::new());
        score_items(self.encoder.model.kernel(), vector, items.iter().map(single), &mut scratch, &mut scores);
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
        let mut candidates = rules.candidates.map(<[u32]>::to_vec);
        candidates.iter_mut().for_each(|candidates| candidates.sort_unstable());
        let is_candidate = |item: u32| candidates.as_ref().is_none_or(|items| items.binary_search(&item).is_ok());
        let may_come = |terms: &&OwnTerms| !terms.is_excluded && is_candidate(terms.item);
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
                popularity: self.terms.popularity(item as usize),
                repetition: own.map_or(0.0, |own| own.repetition),
                cooccurrence: own.map_or(0.0, |own| own.cooccurrence),
            }
        };
        best.into_iter().zip(similarities).map(recommendation).collect()
    }
}
