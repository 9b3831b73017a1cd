//! A state as it was at a moment, to be asked while training goes on.
//!
//! The trainer freezes what scores depend on ([`FrozenView`]), which costs a pointer for each chunk; whoever asks makes the rest of
//! it ([`StateView`]): factors and popularity of all items, at the cost of a pass over some numbers of each.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rayon::prelude::*;

use super::index::{CopiedItems, IndexBuilder, SearchIndex};
use super::pass::{ScoreBounds, ScoredTable, best_of_table};
use super::shortlist::{Shortlist, order};
use super::terms::{CosineTerms, FollowedFrequencies, ItemTerms};
use super::{ListRules, Recommendation, Recommender, Visitor, VisitorEncoder, Wish};
use crate::context::cooccurrence::Cooccurrences;
use crate::context::users::UserHistories;
use crate::kernel::LANES;
use crate::kernel::aligned::Aligned;
use crate::kernel::rows::{dot, inverse_norm};
use crate::model::Model;
use crate::table::ids::{Ids, NameIndex};
use crate::table::paged::Paged;
use crate::table::rows::CHUNK;
use crate::trainer::state::State;

/// A visitor's newest items that others are compared with, to say which they are like.
const MOST_COMPARED: usize = 64;

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

/// What the next view goes on with: the indices of names, and log q̂.
#[derive(Debug)]
pub struct ViewRemains {
    items: NameIndex,
    users: NameIndex,
    log_frequencies: FollowedFrequencies,
    inverse_norms: Vec<f32>,
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
    /// The largest b; made when somebody asks the index.
    largest_bias: OnceLock<f32>,
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
        let (of_items, of_users, mut log_frequencies, mut norms) = match earlier {
            Some(ViewRemains { items, users, log_frequencies, inverse_norms }) => {
                (Some(items), Some(users), log_frequencies, inverse_norms)
            }
            None => Default::default(),
        };
        let (kernel, frequencies) = (model.kernel(), &mut negatives.frequencies);
        let of_vectors = || {
            norms.clone_from(&model.inverse_norms);
            model.freeze_to_read(norms)
        };
        let of_counts = || {
            let touched = frequencies.take_touched();
            log_frequencies.follow(kernel, frequencies, touched.as_deref(), index.as_deref());
            log_frequencies
        };
        let of_names = || {
            let ids = (items.ids.freeze_to_read(of_items), users.ids.freeze_to_read(of_users));
            (ids, users.histories.snapshot(), items.cooccurrences.snapshot(), items.occurrences.clone())
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
            largest_bias: OnceLock::new(),
            inverse_norms: OnceLock::new(),
            model,
        };
        index.into_iter().for_each(|index| view.attach_noted(index));
        view
    }

    /// Lets go of it, but for what the next one goes on with.
    pub fn into_remains(self) -> ViewRemains {
        let Self { items, users, log_frequencies, model, .. } = self;
        let (items, users, inverse_norms) = (items.into_index(), users.into_index(), model.inverse_norms);
        ViewRemains { items, users, log_frequencies, inverse_norms }
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
        let Self { model, histories, cooccurrences, .. } = self;
        let (index, encoder) = (self.asked_index(), VisitorEncoder { model, histories, cooccurrences });
        let bounds = if index.is_some() { None } else { self.bounds() };
        Recommender { encoder, terms: self.terms(), bounds: bounds.cloned(), index }
    }

    /// The index, and the largest b.
    fn asked_index(&self) -> Option<(&SearchIndex, f32)> {
        let index = self.index.as_deref()?;
        Some((index, *self.largest_bias.get_or_init(|| self.terms().largest_bias())))
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

    /// How many of the best `k` items for queries of late the index finds, and at how many items it looks: of as many queries as one pass
    /// over all items takes, or as were asked; none where there is no index.
    pub fn measure_index(&self, k: usize) -> Vec<MeasuredSearch> {
        let Some((index, largest_bias)) = self.asked_index() else { return Vec::new() };
        let queries = index.take_asked(LANES);
        let (model, terms) = (&self.model, self.terms());
        let (vectors, lengths): (Vec<&[f32]>, Vec<usize>) = queries.iter().map(|query| (query.as_slice(), k)).unzip();
        let table = ScoredTable { rows: model.vectors(), terms: &terms, bounds: self.bounds().map(Arc::as_ref) };
        let exact = best_of_table(model.kernel(), table, &vectors, &lengths, |_, _| false);
        let measure = |(exact, query): (Shortlist, &&[f32])| {
            let (exact, found) = (exact.into_best(), index.search(model, (&terms, largest_bias), query, k, |_| false));
            let first = &found.items[..found.items.len().min(k)];
            let kept = exact.iter().filter(|(_, item)| first.contains(item)).count();
            MeasuredSearch { found: kept, of: exact.len(), n_looked_at: found.n_looked_at }
        };
        exact.into_iter().zip(&vectors).map(measure).collect()
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

    /// For each of `asked` (an item, and how many), the items nearest to it by cosine, nearest first, without itself.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn neighbors(&self, asked: &[(u32, usize)]) -> Vec<Vec<NearItem>> {
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
        let Self { items, users, log_frequencies, model, .. } = self;
        let (items, users, inverse_norms) = (items.into_index(), users.into_index(), model.inverse_norms);
        ViewRemains { items, users, log_frequencies, inverse_norms }
    }
}
