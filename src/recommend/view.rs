//! A state as it was at a moment, to be asked while training goes on.
//!
//! The trainer freezes what scores depend on ([`FrozenView`]), which costs a pointer for each chunk; whoever asks makes the rest of
//! it ([`StateView`]): factors and popularity of all items, at the cost of a pass over some numbers of each.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rayon::prelude::*;

use super::index::{CopiedItems, IndexBuilder, SearchIndex, Sought};
use super::pass::{ScoreBounds, ScoredTable, best_of_table};
use super::shortlist::{Shortlist, order};
use super::terms::{CosineTerms, FollowedFrequencies, ItemTerms, RowTerms as _};
use super::{ListRules, Recommendation, Recommender, Visitor, VisitorEncoder, Wish};
use crate::context::cooccurrence::Cooccurrences;
use crate::context::users::UserHistories;
use crate::kernel::LANES;
use crate::kernel::aligned::Aligned;
use crate::kernel::ranking::{ItemTile, PackedQueries, score_tile};
use crate::kernel::rows::{dot, inverse_norm};
use crate::model::{Model, ReadTables};
use crate::table::ids::{Ids, NameIndex};
use crate::table::paged::Paged;
use crate::table::rows::CHUNK;
use crate::trainer::state::State;

/// A visitor's newest items that others are compared with, to say which they are like.
const MOST_COMPARED: usize = 64;
/// Items beyond the list that are kept while an index is measured: the model moves on meanwhile.
const MEASURED_BEYOND: usize = 32;

/// Which state a view is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewFacts {
    /// The space of the embeddings, as sinks and checkpoints name it.
    pub model_id: Arc<str>,
    /// Steps taken.
    pub step: u64,
    /// Records read.
    pub events: u64,
    /// Time of the newest event, milliseconds since 1970 UTC; `None` before the first.
    pub newest_event: Option<i64>,
    /// How long training stood still for the view.
    pub pause: Duration,
}

/// What the next view goes on with: tables that follow the state's, the indices of names, and log q̂.
#[derive(Debug)]
pub struct ViewRemains {
    items: NameIndex,
    users: NameIndex,
    log_frequencies: FollowedFrequencies,
    cooccurrences: Cooccurrences,
    tables: ReadTables,
}

impl ViewRemains {
    /// What is left of a view with these names (of items and users), counts and parameters: nothing that is shared with training, which
    /// would copy it as long as it is kept.
    fn of(
        (items, users): (Ids, Ids),
        log_frequencies: FollowedFrequencies,
        cooccurrences: Cooccurrences,
        model: Model,
    ) -> Self {
        Self {
            items: items.into_index(),
            users: users.into_index(),
            log_frequencies,
            cooccurrences: cooccurrences.into_own(),
            tables: model.into_read_tables(),
        }
    }
}

/// What the trainer freezes.
#[derive(Debug)]
pub struct FrozenView {
    facts: ViewFacts,
    model: Model,
    log_frequencies: FollowedFrequencies,
    histories: UserHistories,
    cooccurrences: Cooccurrences,
    items: Ids,
    users: Ids,
    occurrences: Paged<u64>,
    index: Option<Arc<SearchIndex>>,
}

/// A state that stands still, ready to be asked.
#[derive(Debug)]
pub struct StateView {
    facts: ViewFacts,
    model: Model,
    histories: UserHistories,
    cooccurrences: Cooccurrences,
    items: Ids,
    users: Ids,
    occurrences: Paged<u64>,
    log_frequencies: FollowedFrequencies,
    /// What scores items can have at most; made when somebody looks at all of them.
    bounds: OnceLock<Option<Arc<ScoreBounds>>>,
    index: Option<Arc<SearchIndex>>,
    /// By block of the index: the largest popularity; made when somebody asks the index, which is told nothing new while the view is there.
    largest_popularity: OnceLock<Vec<f32>>,
    /// By item: 1/norm of its vector; made when somebody asks for neighbours.
    inverse_norms: OnceLock<Vec<f32>>,
}

/// What an index finds, beside the exact list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MeasuredSearch {
    /// How many items of the exact list.
    pub found: usize,
    /// How many these are.
    pub of: usize,
    /// At how many items it looked.
    pub n_looked_at: usize,
}

/// Queries of late, and the best items for them among those that were looked at so far.
#[derive(Debug)]
pub struct IndexMeasurement {
    queries: Vec<Vec<f32>>,
    packed: PackedQueries,
    best: Vec<Shortlist>,
    k: usize,
    /// The numbering of rows.
    remaps: u64,
    /// The chunk of items that is next.
    next: usize,
    measured: Vec<MeasuredSearch>,
}

/// An item near to another one, by its row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NearItem {
    /// The item's row.
    pub item: u32,
    /// Cosine of both vectors.
    pub cosine: f32,
}

impl FrozenView {
    /// Freezes what scores depend on, on as many threads as it is called among; `earlier` is what is left of the view before, whose
    /// `index` is brought up to date where rows kept their numbers since.
    pub fn of(
        state: &mut State,
        model_id: Arc<str>,
        earlier: Option<ViewRemains>,
        index: Option<Arc<SearchIndex>>,
    ) -> Self {
        let State { items, users, model, negatives, progress, .. } = state;
        let facts = ViewFacts {
            model_id,
            step: progress.steps,
            events: progress.events.read,
            newest_event: negatives.frequencies.newest(),
            pause: Duration::ZERO,
        };
        let index = index.filter(|index| index.remaps() == items.ids.remaps());
        let (of_items, of_users, mut log_frequencies, of_cooccurrences, tables) = match earlier {
            Some(ViewRemains { items, users, log_frequencies, cooccurrences, tables }) => {
                (Some(items), Some(users), log_frequencies, Some(cooccurrences), Some(tables))
            }
            None => Default::default(),
        };
        let (kernel, frequencies) = (model.kernel(), &mut negatives.frequencies);
        let of_vectors = || model.freeze_to_read(tables);
        let of_counts = || {
            let touched = frequencies.take_touched();
            log_frequencies.follow(kernel, frequencies, touched.as_deref(), index.as_deref());
            log_frequencies
        };
        let of_names = || {
            let ids = (items.ids.freeze_to_read(of_items), users.ids.freeze_to_read(of_users));
            let cooccurrences = items.cooccurrences.snapshot(of_cooccurrences);
            (ids, users.histories.snapshot(), cooccurrences, items.occurrences.clone())
        };
        let (model, (log_frequencies, ((items, users), histories, cooccurrences, occurrences))) =
            rayon::join(of_vectors, || rayon::join(of_counts, of_names));
        Self { facts, model, log_frequencies, histories, cooccurrences, items, users, occurrences, index }
    }

    /// The same, with what it cost training.
    #[must_use]
    pub fn with_pause(mut self, pause: Duration) -> Self {
        self.facts.pause = pause;
        self
    }

    /// Finds lists by `index` once it is ready, if it is one of these rows.
    pub fn attach(&mut self, index: Arc<SearchIndex>) {
        if index.remaps() == self.items.remaps() {
            index.note_all(self.log_frequencies.values());
            self.index = Some(index);
        }
    }

    /// Makes it ready to be asked.
    pub fn ready(self) -> StateView {
        let Self { facts, mut model, log_frequencies, histories, cooccurrences, items, users, occurrences, index } =
            self;
        model.refresh_all();
        let mut view = StateView {
            facts,
            histories,
            cooccurrences,
            items,
            users,
            occurrences,
            log_frequencies,
            bounds: OnceLock::new(),
            index: None,
            largest_popularity: OnceLock::new(),
            inverse_norms: OnceLock::new(),
            model,
        };
        index.into_iter().for_each(|index| view.attach_noted(index));
        view
    }

    /// Lets go of it, but for what the next one goes on with.
    pub fn into_remains(self) -> ViewRemains {
        let Self { items, users, log_frequencies, cooccurrences, model, .. } = self;
        ViewRemains::of((items, users), log_frequencies, cooccurrences, model)
    }
}

impl StateView {
    /// Which state it is of.
    pub fn facts(&self) -> &ViewFacts {
        &self.facts
    }

    /// Names of the items.
    pub fn items(&self) -> &Ids {
        &self.items
    }

    /// Names of the users.
    pub fn users(&self) -> &Ids {
        &self.users
    }

    /// Positive events of an item.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn occurrences(&self, item: u32) -> u64 {
        self.occurrences[item as usize]
    }

    fn terms(&self) -> ItemTerms<'_> {
        ItemTerms::new(&self.model, Cow::Borrowed(self.log_frequencies.values()))
    }

    /// What makes lists.
    pub fn recommender(&self) -> Recommender<'_> {
        let Some(index) = self.asked_index() else { return self.exact_recommender() };
        let Self { model, histories, cooccurrences, .. } = self;
        let encoder = VisitorEncoder { model, histories, cooccurrences };
        Recommender { encoder, terms: self.terms(), bounds: None, index: Some(index) }
    }

    /// What makes lists by a look at all items, whether there is an index or not.
    pub fn exact_recommender(&self) -> Recommender<'_> {
        let Self { model, histories, cooccurrences, .. } = self;
        let encoder = VisitorEncoder { model, histories, cooccurrences };
        Recommender { encoder, terms: self.terms(), bounds: self.bounds().cloned(), index: None }
    }

    /// The index, and by block of it the largest popularity.
    fn asked_index(&self) -> Option<(&SearchIndex, &[f32])> {
        let index = self.index.as_deref()?;
        let popularity = || index.largest_popularity(self.model.beta(), self.terms().largest_bias());
        Some((index, self.largest_popularity.get_or_init(popularity)))
    }

    fn bounds(&self) -> Option<&Arc<ScoreBounds>> {
        self.bounds.get_or_init(|| ScoreBounds::of(&self.model, &self.terms()).map(Arc::new)).as_ref()
    }

    /// Finds lists by `index` from now on, if it is one of these rows.
    pub fn attach(&mut self, index: Arc<SearchIndex>) {
        index.note_all(self.log_frequencies.values());
        self.attach_noted(index);
    }

    /// The same by an index that has been told of log q̂.
    fn attach_noted(&mut self, index: Arc<SearchIndex>) {
        if index.remaps() == self.items.remaps() && index.len() <= self.n_items() && self.can_have_index() {
            self.index = Some(index);
            self.largest_popularity.take();
        }
    }

    /// The index that lists are found by.
    pub fn index(&self) -> Option<&Arc<SearchIndex>> {
        self.index.as_ref()
    }

    /// Whether an index can find lists: it is known how long vectors are.
    pub fn can_have_index(&self) -> bool {
        self.model.is_cosine()
    }

    /// How many items there are.
    pub fn n_items(&self) -> usize {
        self.log_frequencies.values().len()
    }

    /// Begins an index over the items: with the vectors that its clusters are made of.
    pub fn begin_index(&self) -> IndexBuilder {
        let mut builder = IndexBuilder::new(self.model.kernel(), self.model.dim(), self.items.remaps());
        IndexBuilder::sampled(self.n_items()).for_each(|item| builder.sample(self.model.vectors().row(item)));
        builder
    }

    /// An index over all items, made in one go.
    pub fn index_of_all(&self) -> SearchIndex {
        let (mut builder, mut next) = (self.begin_index(), CopiedItems::default());
        builder.cluster(self.n_items());
        while builder.n_placed() < self.n_items() {
            self.copy_items(&builder, CHUNK * LANES, &mut next);
            builder.place(&mut next);
        }
        builder.build()
    }

    /// Copies what an index needs of the next `n` items, or of as many as there are; `false` where rows have other numbers than when
    /// `builder` was begun.
    pub fn copy_items(&self, builder: &IndexBuilder, n: usize, next: &mut CopiedItems) -> bool {
        let CopiedItems { vectors, inverse_norms, log_frequencies } = next;
        let items = builder.n_placed()..self.n_items().min(builder.n_placed() + n);
        vectors.clear();
        items.clone().for_each(|item| vectors.extend_from_slice(self.model.vectors().row(item)));
        inverse_norms.clear();
        inverse_norms.extend_from_slice(&self.model.inverse_norms[items.clone()]);
        log_frequencies.clear();
        log_frequencies.extend_from_slice(&self.log_frequencies.values()[items]);
        builder.is_of(self.items.remaps())
    }

    /// Begins to measure how many of the best `k` items for queries of late the index finds: of as many queries as one look at all items
    /// takes, or as were asked. `None` where there is no index, or nobody asked.
    pub fn begin_measurement(&self, k: usize) -> Option<IndexMeasurement> {
        let queries = self.index.as_ref()?.take_asked(LANES);
        if queries.is_empty() {
            return None;
        }
        let mut packed = PackedQueries::default();
        packed.pack(queries.iter().map(Vec::as_slice), self.model.dim());
        let best = vec![Shortlist::new(k + MEASURED_BEYOND); queries.len()];
        Some(IndexMeasurement { queries, packed, best, k, remaps: self.items.remaps(), next: 0, measured: Vec::new() })
    }

    /// Looks at the next `n` chunks of items for `measurement`, and once there are no more, asks the index for one of its queries each time.
    /// Gives in the end what was measured, by the scores that were there then, and nothing where rows have got other numbers meanwhile.
    pub fn go_on_measuring(&self, measurement: &mut IndexMeasurement, n: usize) -> Option<Vec<MeasuredSearch>> {
        let IndexMeasurement { queries, packed, best, k, remaps, next, measured } = measurement;
        let Some((index, popularity)) = self.asked_index().filter(|_| *remaps == self.items.remaps()) else {
            return Some(Vec::new());
        };
        let (model, terms, n_items) = (&self.model, self.terms(), self.n_items());
        let (mut scratch, mut scores) = (Aligned::default(), Vec::new());
        let (mut scale, mut bias) = ([0.0; CHUNK], [0.0; CHUNK]);
        let chunks = *next..n_items.div_ceil(CHUNK).min(*next + n);
        *next = chunks.end;
        for chunk in chunks {
            let first = chunk * CHUNK;
            let rows = model.vectors().chunk(chunk, &mut scratch);
            let n_rows = rows.len() / model.dim();
            let (scale, bias) = (&mut scale[..n_rows], &mut bias[..n_rows]);
            terms.fill(first, scale, bias);
            score_tile(model.kernel(), packed, ItemTile { rows, scale, bias }, &mut scores);
            for (item, scores) in (first as u32..).zip(&scores) {
                best.iter_mut().zip(scores).for_each(|(best, score)| best.offer(*score, item));
            }
        }
        if *next * CHUNK < n_items {
            return None;
        }
        let (query, best) = (&queries[measured.len()], &best[measured.len()]);
        let now = |items: &[u32]| {
            let mut scored: Vec<(f32, u32)> =
                self.recommender().plain_scores(query, items).zip(items.iter().copied()).collect();
            scored.sort_unstable_by(order);
            scored.truncate(*k);
            scored
        };
        // The model has moved on since some of them were looked at: those that are best now.
        let exact = now(&best.clone().into_best().into_iter().map(|(_, item)| item).collect::<Vec<u32>>());
        let sought = Sought::Best { terms: &terms, popularity };
        let found = index.search(model, sought, query, *k, |_| false);
        let best = now(&found.items);
        let kept = exact.iter().filter(|(_, item)| best.iter().any(|(_, found)| found == item)).count();
        measured.push(MeasuredSearch { found: kept, of: exact.len(), n_looked_at: found.n_looked_at });
        (measured.len() == queries.len()).then(|| std::mem::take(measured))
    }

    /// The full scores of `items` for a visitor, best first, and also of those that they had; none where nothing is known of the
    /// visitor.
    ///
    /// # Panics
    /// If there is no such row of a user or an item.
    pub fn scores(&self, visitor: Visitor, items: &[u32], at: i64) -> Vec<Recommendation> {
        let rules = ListRules { k: items.len(), at, excluded: &[], candidates: Some(items), with_own: true };
        self.recommender().recommend_each(&[Wish { visitor, rules }]).pop().unwrap_or_default()
    }

    /// For each of `asked` (an item, and how many), the items nearest to it by cosine, nearest first, without itself; of many items,
    /// those that the index finds.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn neighbors(&self, asked: &[(u32, usize)]) -> Vec<Vec<NearItem>> {
        match &self.index {
            Some(index) => asked.iter().map(|(item, k)| self.neighbors_in(index, *item, *k)).collect(),
            None => self.exact_neighbors(asked),
        }
    }

    /// The `k` items nearest to `item`, as far as `index` finds them.
    fn neighbors_in(&self, index: &SearchIndex, item: u32, k: usize) -> Vec<NearItem> {
        let unit = |item: u32| -> Vec<f32> {
            let row = self.model.vectors().row(item as usize);
            let factor = inverse_norm(row);
            row.iter().map(|number| number * factor).collect()
        };
        let query = unit(item);
        let found = index.search(&self.model, Sought::Nearest, &query, k, |other| other == item);
        let mut near: Vec<(f32, u32)> = found.items.into_iter().map(|item| (dot(&query, &unit(item)), item)).collect();
        near.sort_unstable_by(order);
        near.truncate(k);
        near.into_iter().map(|(cosine, item)| NearItem { item, cosine }).collect()
    }

    /// The same by a look at all items.
    fn exact_neighbors(&self, asked: &[(u32, usize)]) -> Vec<Vec<NearItem>> {
        let model = &self.model;
        let scale = self.inverse_norms.get_or_init(|| {
            let mut norms = vec![0.0; self.log_frequencies.values().len()];
            norms.par_chunks_mut(CHUNK).enumerate().for_each_init(Aligned::default, |scratch, (chunk, norms)| {
                let rows = model.vectors().chunk(chunk, scratch).chunks_exact(model.dim());
                norms.iter_mut().zip(rows).for_each(|(norm, row)| *norm = inverse_norm(row));
            });
            norms
        });
        let unit = |(item, _): &(u32, usize)| -> Vec<f32> {
            model.vectors().row(*item as usize).iter().map(|number| number * scale[*item as usize]).collect()
        };
        let units: Vec<Vec<f32>> = asked.iter().map(unit).collect();
        let queries: Vec<&[f32]> = units.iter().map(Vec::as_slice).collect();
        let lengths: Vec<usize> = asked.iter().map(|(_, k)| *k).collect();
        let table = ScoredTable { rows: model.vectors(), terms: &CosineTerms { inverse_norms: scale }, bounds: None };
        let found = best_of_table(model.kernel(), table, &queries, &lengths, |place, item| asked[place].0 == item);
        let near = |list: Shortlist| {
            let mut best = list.into_best();
            best.sort_unstable_by(order);
            best.into_iter().map(|(cosine, item)| NearItem { item, cosine }).collect()
        };
        found.into_iter().map(near).collect()
    }

    /// For each of `items`, which of the items that the visitor had last is nearest to it by cosine, other than itself; of equal
    /// ones the newest. `None` where there is no other.
    ///
    /// # Panics
    /// If there is no such row of a user or an item.
    pub fn most_like(&self, visitor: &Visitor, items: &[u32]) -> Vec<Option<NearItem>> {
        let mut had: Vec<u32> = match visitor {
            Visitor::User(user) => self.histories.get(*user).recent.clone(),
            Visitor::Session(items) => items.clone(),
        };
        had.reverse();
        had.truncate(MOST_COMPARED);
        let unit = |item: u32| -> Vec<f32> {
            let row = self.model.vectors().row(item as usize);
            let factor = inverse_norm(row);
            row.iter().map(|number| number * factor).collect()
        };
        let of_had: Vec<(u32, Vec<f32>)> = had.into_iter().map(|item| (item, unit(item))).collect();
        let most_like = |item: &u32| {
            let own = unit(*item);
            let near = of_had
                .iter()
                .filter(|(other, _)| other != item)
                .map(|(other, vector)| NearItem { item: *other, cosine: dot(&own, vector) });
            near.reduce(|best, next| if next.cosine > best.cosine { next } else { best })
        };
        items.iter().map(most_like).collect()
    }

    /// Whether anything is known of the user in a row.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn knows_user(&self, user: u32) -> bool {
        self.histories.get(user).is_known()
    }

    /// The vector of an item as an index serves it, and what popularity adds to its score.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn item_vector(&self, item: u32) -> (Vec<f32>, f32) {
        let mut vector = vec![0.0; self.model.dim()];
        self.model.served(item as usize, &mut vector);
        (vector, self.terms().popularity(item as usize))
    }

    /// The query of a visitor: its inner product with an item's vector is the similarity of the score (e^g·s/τ). `None` where nothing
    /// is known of the visitor.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn query_vector(&self, visitor: &Visitor, at: i64) -> Option<Vec<f32>> {
        let recommender = self.recommender();
        recommender.knows(visitor).then(|| {
            let queries = recommender.queries(std::slice::from_ref(visitor), at);
            let row = &queries.encoded.scored_row(0)[..self.model.dim()];
            row.iter().map(|number| number * self.model.inverse_temperature()).collect()
        })
    }

    /// Lets go of it, but for what the next one goes on with.
    pub fn into_remains(self) -> ViewRemains {
        let Self { items, users, log_frequencies, cooccurrences, model, .. } = self;
        ViewRemains::of((items, users), log_frequencies, cooccurrences, model)
    }
}
