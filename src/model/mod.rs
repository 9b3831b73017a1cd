//! The model: every learned parameter of the score, and what a query is made of.
//!
//! | file | what it holds |
//! | --- | --- |
//! | `mod` | [`Model`]: rows of items and users, and the few parameters that belong to no row |
//! | `encoder` | sequences of items to queries |
//! | `recurrent`, `gru` | the recurrent encoder, and the gated recurrent unit that it runs |
//! | `features` | rows that items share |
//! | `repetition` | ρ, what having had an item before adds to its score |
//! | `gate` | how much the similarity counts in an event's situation |
//! | `situation` | vectors that are added to queries for the time and the user's activity |
//! | `cooccurrence` | κ, what coming together with items of the context adds to an item's score |
//! | `backward` | gradients back to rows and parameters, which move once a step |

pub mod backward;
mod config;
pub mod cooccurrence;
pub mod encoder;
pub mod features;
pub mod gate;
pub(crate) mod gru;
pub(crate) mod recurrent;
pub mod repetition;
pub mod situation;

pub use config::{ModelConfig, OptimizerKind, Preset, ProductPrecision, Similarity};

use std::borrow::Cow;

use crate::config::Config;
use crate::context::EncoderKind;
use crate::kernel::rows::inverse_norm;
use crate::kernel::{Kernel, LANES};
use crate::negatives::Vectors;
use crate::share::SharedTable;
use crate::table::adagrad::{Optimizer, Parameters, TrainedRows};
use crate::table::changes::{ChangeMark, RowChanges};
use crate::table::row_remap::RowRemap;
use crate::table::rows::{Rows, stable_hash, start};
use cooccurrence::CooccurrenceTerm;
pub use features::FeaturesConfig;
use features::{Features, OWN_START};
use gate::SimilarityGate;
use repetition::Repetition;
use situation::SituationVectors;

/// The parameters that objectives need of a model besides those that every model has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ModelRequirements {
    /// Whether each item has a learned bias b_c.
    pub item_biases: bool,
    /// The number of learned transforms W_k of the query, each dim × dim.
    pub transforms: usize,
}

impl ModelRequirements {
    /// What satisfies both.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self { item_biases: self.item_biases || other.item_biases, transforms: self.transforms.max(other.transforms) }
    }
}

/// The tables of a copy for readers that is gone: the next one goes on with them ([`Model::freeze_to_read`]).
#[derive(Debug, Default)]
pub struct ReadTables {
    /// Of each table, the rows where the copy had its own.
    rows: ByTable<Option<Rows>>,
    inverse_norms: Vec<f32>,
}

/// Something of each table whose rows events name: of items, of items in the context, of users, and of items' biases.
#[derive(Debug, Default)]
struct ByTable<T> {
    items: T,
    contexts: T,
    users: T,
    biases: T,
}

/// Every learned parameter of the score. Parameters that only an objective needs are that objective's.
#[derive(Debug, Clone)]
pub struct Model {
    /// Rows of the items, as candidates and in the context.
    pub items: TrainedRows,
    /// What is added to the items' rows, where they have features.
    pub features: Option<Features>,
    /// A second row for an item's role in the context.
    pub contexts: Option<TrainedRows>,
    /// Rows of the users.
    pub users: Option<TrainedRows>,
    /// b_c, a number for each item, where an objective learns it (`nce`).
    pub biases: Option<TrainedRows>,
    /// Logarithm of the weight of the k-th newest item.
    pub position_weights: Parameters,
    /// The weights of the gated recurrent unit (`gru`), where that makes the queries.
    pub gru: Option<Parameters>,
    /// The unit's hidden state of each user before the items of the context, users × dim; no rows where there is no unit.
    pub hidden_states: Rows,
    /// Vectors of the situations of events, where queries have them.
    pub situations: Option<SituationVectors>,
    /// W_k, dim × dim by rows, where an objective learns them (`cpc`); the first makes the query.
    pub transforms: Vec<Parameters>,
    /// β.
    pub popularity: Parameters,
    /// log(1/τ).
    pub temperature: Parameters,
    /// The logarithm of what unnormalised scores are divided by (`nce`); the same for all items, so no ranking needs it.
    pub normaliser: Parameters,
    /// ρ.
    pub repetition: Repetition,
    /// What the similarity is multiplied by in the situation of an event, where it is.
    pub gate: Option<SimilarityGate>,
    /// κ.
    pub cooccurrence: CooccurrenceTerm,
    /// 1/norm of each item's vector (1 where the similarity is the dot product); as of its last refresh, where there are
    /// features.
    pub inverse_norms: Vec<f32>,
    similarity: Similarity,
    /// The square of `model.shrinkage`.
    pub(crate) shrinkage: f32,
    kernel: Kernel,
    seed: u64,
    init_scale: f32,
}

impl<T> ByTable<Option<T>> {
    fn map<U>(self, mut with: impl FnMut(T) -> U) -> ByTable<Option<U>> {
        let Self { items, contexts, users, biases } = self;
        ByTable {
            items: items.map(&mut with),
            contexts: contexts.map(&mut with),
            users: users.map(&mut with),
            biases: biases.map(with),
        }
    }

    fn filter(self, keeps: impl Fn(&T) -> bool) -> Self {
        let Self { items, contexts, users, biases } = self;
        Self {
            items: items.filter(&keeps),
            contexts: contexts.filter(&keeps),
            users: users.filter(&keeps),
            biases: biases.filter(keeps),
        }
    }

    /// Each that is there with the same of `others`.
    fn zip<U>(self, others: ByTable<U>) -> ByTable<Option<(T, U)>> {
        let pair = |(one, other): (Option<T>, U)| one.map(|one| (one, other));
        ByTable {
            items: pair((self.items, others.items)),
            contexts: pair((self.contexts, others.contexts)),
            users: pair((self.users, others.users)),
            biases: pair((self.biases, others.biases)),
        }
    }
}

impl Vectors for Model {
    fn dim(&self) -> usize {
        self.dim()
    }

    fn vector(&self, item: u32, out: &mut [f32]) {
        self.served(item as usize, out);
    }

    fn inverse_temperature(&self) -> f32 {
        self.inverse_temperature()
    }

    fn beta(&self) -> f32 {
        self.beta()
    }
}

/// 1/√(n² + s²), where `inverse_norm` is 1/n and `shrinkage` is s²: the factor by which an item's vector enters the cosine. What
/// has hardly been learnt is short and says little; the gradient of the factor is that of 1/n with the shorter vector in the
/// place of the unit vector.
#[inline]
pub(crate) fn shrunk(inverse_norm: f32, shrinkage: f32) -> f32 {
    inverse_norm / (1.0 + shrinkage * inverse_norm * inverse_norm).sqrt()
}

impl Model {
    /// A model without rows, its other parameters at their starting values. It computes with `kernel`.
    pub fn new(config: &Config, kernel: Kernel) -> Self {
        let dim = config.model.dim;
        let kernel = kernel.with_bf16_products(config.model.precision == ProductPrecision::Bf16);
        let optimizer = match config.train.optimizer {
            OptimizerKind::Adagrad => Optimizer::Adagrad,
            OptimizerKind::RowwiseAdagrad => Optimizer::RowwiseAdagrad,
        };
        let rows = |wanted: bool, dim: usize| wanted.then(|| TrainedRows::new(dim, optimizer));
        let ModelRequirements { item_biases, transforms } = config.objective.requirements();
        let identity = || Parameters::new((0..dim * dim).map(|place| f32::from(place % (dim + 1) == 0)).collect());
        Self {
            items: TrainedRows::new(dim, optimizer),
            features: (config.features.buckets > 0).then(|| Features::new(dim, optimizer, config.features.buckets)),
            contexts: rows(config.context.context_rows, dim),
            users: rows(config.context.user_row, dim),
            biases: rows(item_biases, 1),
            position_weights: Parameters::new((0..config.context.length).map(|k| k as f32 * 0.8f32.ln()).collect()),
            gru: (config.context.encoder == EncoderKind::Gru)
                .then(|| Parameters::new(gru::start(dim, stable_hash(config.seed, &["unit"])))),
            hidden_states: Rows::new(dim),
            situations: config.context.situation.then(|| SituationVectors::new(dim)),
            transforms: (0..transforms).map(|_| identity()).collect(),
            popularity: Parameters::new(vec![config.model.popularity_init as f32]),
            temperature: Parameters::new(vec![-(config.model.temperature.ln() as f32)]),
            normaliser: Parameters::new(vec![0.0]),
            repetition: Repetition::new(&config.repetition),
            gate: config.model.gate.then(SimilarityGate::default),
            cooccurrence: CooccurrenceTerm::new(&config.cooccurrence),
            inverse_norms: Vec::new(),
            similarity: config.model.similarity,
            shrinkage: (config.model.shrinkage * config.model.shrinkage) as f32,
            kernel,
            seed: config.seed,
            init_scale: config.model.init_scale as f32,
        }
    }

    /// The instruction set that the model computes with.
    pub fn kernel(&self) -> Kernel {
        self.kernel
    }

    /// Dimensions of an embedding.
    pub fn dim(&self) -> usize {
        self.items.values.dim()
    }

    /// Length of a row in a padded matrix.
    pub fn stride(&self) -> usize {
        self.dim().next_multiple_of(LANES)
    }

    /// β.
    pub fn beta(&self) -> f32 {
        self.popularity.values[0]
    }

    /// 1/τ.
    pub fn inverse_temperature(&self) -> f32 {
        self.temperature.values[0].exp()
    }

    /// b_c of `item`; 0 where there are none.
    pub fn bias(&self, item: usize) -> f32 {
        self.biases.as_ref().map_or(0.0, |biases| biases.values.row(item)[0])
    }

    /// Adds the rows of a new item of which nothing is known.
    pub fn add_item(&mut self, name: &str) {
        self.add_item_with(name, &[]);
    }

    /// Adds the rows of a new item whose features fall into `buckets`; of no account where items have no features.
    ///
    /// # Panics
    /// If there is no such bucket.
    pub fn add_item_with(&mut self, name: &str, buckets: &[u32]) {
        if let Some(features) = &mut self.features {
            features.push(buckets);
        }
        let (seed, scale, own) = (self.seed, self.init_scale, self.own_scale(!buckets.is_empty()));
        self.items.push(|row| start(row, seed, "item", name, own));
        if let Some(contexts) = &mut self.contexts {
            contexts.push(|row| start(row, seed, "context", name, scale));
        }
        if let Some(biases) = &mut self.biases {
            biases.push(|row| row.fill(0.0));
        }
        self.inverse_norms.push(1.0);
        self.refresh_item(self.items.values.len() - 1);
    }

    /// The scale of the own row of a new item.
    fn own_scale(&self, has_features: bool) -> f32 {
        if self.features.is_some() && has_features { self.init_scale * OWN_START } else { self.init_scale }
    }

    /// The values that the rows of item `item`, called `name`, began with, by table as in [`Self::shared_tables_mut`]; none of rows
    /// that are no item's own.
    pub fn starting_rows(&self, name: &str, item: usize) -> Vec<Option<Vec<f32>>> {
        let has_features = self.features.as_ref().is_some_and(|features| !features.of(item).is_empty());
        let begin = |role: &str, scale: f32| {
            let mut row = vec![0.0; self.dim()];
            start(&mut row, self.seed, role, name, scale);
            Some(row)
        };
        let of_items = begin("item", self.own_scale(has_features));
        let others = [
            self.contexts.as_ref().map(|_| begin("context", self.init_scale)),
            self.biases.as_ref().map(|_| Some(vec![0.0])),
            self.features.as_ref().map(|_| None),
        ];
        std::iter::once(of_items).chain(others.into_iter().flatten()).collect()
    }

    /// Sets the rows of `item` as if they had been learnt: its `vector`, and, where it has one, its row for the context. `sum` is
    /// where the optimizer's sums stand: the smaller, the further the next gradients move the rows.
    pub fn set_item(&mut self, item: usize, vector: &[f32], context: &[f32], sum: f32) {
        for (table, row) in [(Some(&mut self.items), vector), (self.contexts.as_mut(), context)] {
            let Some(table) = table else { continue };
            table.set(item, row, sum);
        }
        self.refresh_item(item);
    }

    /// Adds the row of a new user, where users have rows.
    pub fn add_user(&mut self, name: &str) {
        let (seed, scale) = (self.seed, self.init_scale);
        if self.gru.is_some() {
            self.hidden_states.push(|row| row.fill(0.0));
        }
        if let Some(users) = &mut self.users {
            users.push(|row| start(row, seed, "user", name, scale));
        }
    }

    /// Remaps item rows after eviction.
    pub fn keep_items(&mut self, rows: &RowRemap) {
        // Named one by one, so that a new field asks whether it has a row for each item.
        let Self {
            items,
            features,
            contexts,
            users: _,
            biases,
            position_weights: _,
            gru: _,
            hidden_states: _,
            situations: _,
            transforms: _,
            popularity: _,
            temperature: _,
            normaliser: _,
            repetition: _,
            gate: _,
            cooccurrence: _,
            inverse_norms,
            similarity: _,
            shrinkage: _,
            kernel: _,
            seed: _,
            init_scale: _,
        } = self;
        let tables = [Some(items), contexts.as_mut(), biases.as_mut()];
        tables.into_iter().flatten().for_each(|table| table.keep(rows));
        if let Some(features) = features {
            features.keep_items(rows);
        }
        rows.keep(inverse_norms);
    }

    /// Remaps user rows after eviction.
    pub fn keep_users(&mut self, rows: &RowRemap) {
        // Named one by one, so that a new field asks whether it has a row for each user.
        let Self {
            items: _,
            features: _,
            contexts: _,
            users,
            biases: _,
            position_weights: _,
            gru,
            hidden_states,
            situations: _,
            transforms: _,
            popularity: _,
            temperature: _,
            normaliser: _,
            repetition: _,
            gate: _,
            cooccurrence: _,
            inverse_norms: _,
            similarity: _,
            shrinkage: _,
            kernel: _,
            seed: _,
            init_scale: _,
        } = self;
        if let Some(users) = users {
            users.keep(rows);
        }
        if gru.is_some() {
            hidden_states.keep(rows);
        }
    }

    /// Bytes that the rows of one item take, and those of one user.
    pub fn row_bytes(&self) -> (usize, usize) {
        let row = |table: &TrainedRows| (table.values.dim() + table.sums.dim()) * size_of::<f32>();
        let Self { items, features, contexts, biases, users, gru, .. } = self;
        let vector = self.dim() * size_of::<f32>();
        let of_item: usize = [Some(items), contexts.as_ref(), biases.as_ref()].into_iter().flatten().map(row).sum();
        let of_user = users.as_ref().map_or(0, row) + if gru.is_some() { vector } else { 0 };
        (of_item + if features.is_some() { vector } else { 0 }, of_user)
    }

    /// Whether the similarity is the cosine.
    pub fn is_cosine(&self) -> bool {
        self.similarity == Similarity::Cosine
    }

    /// The items' vectors: their rows, or, where they have features, what was made of both at the last refresh.
    pub fn vectors(&self) -> &Rows {
        self.features.as_ref().map_or(&self.items.values, Features::vectors)
    }

    /// A frozen copy of what a checkpoint holds of the model; training goes on meanwhile ([`crate::table::chunks`]).
    #[must_use]
    pub fn freeze(&mut self) -> Self {
        self.frozen(|tables| tables.map(TrainedRows::freeze), Features::freeze)
    }

    /// A copy whose tables are frozen by `freeze`, and whose features by `freeze_features`.
    fn frozen(
        &mut self,
        freeze: impl FnOnce(ByTable<Option<&mut TrainedRows>>) -> ByTable<Option<TrainedRows>>,
        freeze_features: fn(&mut Features) -> Features,
    ) -> Self {
        // Named one by one, so that a field which is not saved does not compile.
        let Self {
            items,
            features,
            contexts,
            users,
            biases,
            position_weights,
            gru,
            hidden_states,
            situations,
            transforms,
            popularity,
            temperature,
            normaliser,
            repetition,
            gate,
            cooccurrence,
            inverse_norms: _,
            similarity,
            shrinkage,
            kernel,
            seed,
            init_scale,
        } = self;
        let tables =
            ByTable { items: Some(items), contexts: contexts.as_mut(), users: users.as_mut(), biases: biases.as_mut() };
        let ByTable { items, contexts, users, biases } = freeze(tables);
        Self {
            items: items.expect("items have rows"),
            features: features.as_mut().map(freeze_features),
            contexts,
            users,
            biases,
            position_weights: position_weights.clone(),
            gru: gru.clone(),
            hidden_states: hidden_states.freeze(),
            situations: situations.clone(),
            transforms: transforms.clone(),
            popularity: popularity.clone(),
            temperature: temperature.clone(),
            normaliser: normaliser.clone(),
            repetition: repetition.clone(),
            gate: gate.clone(),
            cooccurrence: cooccurrence.clone(),
            // Norms are made anew by whoever asks a frozen model for vectors.
            inverse_norms: Vec::new(),
            similarity: *similarity,
            shrinkage: *shrinkage,
            kernel: *kernel,
            seed: *seed,
            init_scale: *init_scale,
        }
    }

    /// A copy for readers: what scores and queries are made of, without what only training needs. Where items have features,
    /// their vectors are as of their last refresh ([`Self::refresh_all`]). The first one shares the tables of this model; later ones are
    /// given what the one before has left as `earlier` ([`Self::into_read_tables`]), and have rows of their own, which follow this model's.
    #[must_use]
    pub fn freeze_to_read(&mut self, earlier: Option<ReadTables>) -> Self {
        let Some(ReadTables { rows, mut inverse_norms }) = earlier else {
            let inverse_norms = self.inverse_norms.clone();
            let frozen = self.frozen(|tables| tables.map(TrainedRows::freeze_values), Features::freeze_to_read);
            return Self { inverse_norms, ..frozen };
        };
        inverse_norms.clone_from(&self.inverse_norms);
        let follow = |(table, rows): (&mut TrainedRows, Option<Rows>)| {
            let rows = rows.unwrap_or_else(|| Rows::new(table.values.dim()));
            table.follow_values(rows)
        };
        let frozen = self.frozen(|tables| tables.zip(rows).map(follow), Features::freeze_to_read);
        Self { inverse_norms, ..frozen }
    }

    /// What the next copy for readers is made of faster: [`Self::freeze_to_read`].
    #[must_use]
    pub fn into_read_tables(self) -> ReadTables {
        let Self { items, contexts, users, biases, inverse_norms, .. } = self;
        let tables = ByTable { items: Some(items), contexts, users, biases };
        ReadTables { rows: tables.map(|table| table.values).filter(Rows::is_own), inverse_norms }
    }

    /// Takes back the rows that frozen copies which are gone had shared, at most `budget` of them; whether no row is shared
    /// any more. See [`crate::table::chunks::Chunks::thaw`].
    pub fn thaw(&mut self, budget: &mut usize) -> bool {
        let Self { items, features, contexts, users, biases, hidden_states, .. } = self;
        let mut is_whole = items.thaw(budget);
        is_whole &= features.as_mut().is_none_or(|features| features.thaw(budget));
        for table in [contexts, users, biases].into_iter().flatten() {
            is_whole &= table.thaw(budget);
        }
        is_whole & hidden_states.thaw(budget)
    }

    /// Starts to track which items' vectors change; all of them count as changed at first.
    pub fn track_changes(&mut self) {
        self.items.track_changes();
        if let Some(features) = &mut self.features {
            features.rows.track_changes();
        }
    }

    /// Sets a mark: changes from here on are changes since it. `None` where changes are not tracked.
    pub fn mark_changes(&mut self) -> Option<ChangeMark> {
        // Both tables are marked together, so that a mark means the same moment in both.
        if let Some(changes) = self.features.as_mut().and_then(|features| features.rows.changes_mut()) {
            changes.mark();
        }
        self.items.changes_mut().map(RowChanges::mark)
    }

    /// The rows of the items whose vector may have changed since `mark`, ascending; `None` where changes are not tracked.
    pub fn changed_since(&self, mark: ChangeMark) -> Option<Vec<u32>> {
        let items = self.items.changes()?;
        let of_features = self.features.as_ref().and_then(|features| Some((features, features.rows.changes()?)));
        let is_changed = |item: &u32| {
            let item = *item as usize;
            items.is_changed(item, mark)
                || of_features.is_some_and(|(features, changes)| {
                    features.of(item).iter().any(|row| changes.is_changed(*row as usize, mark))
                })
        };
        Some((0..self.items.values.len() as u32).filter(is_changed).collect())
    }

    /// The interval between marks in which changes fall now; `None` where changes are not tracked.
    pub fn change_interval(&self) -> Option<ChangeMark> {
        self.items.changes().map(RowChanges::interval)
    }

    /// The tables that the workers of a group share. (Rows of users are their worker's own.)
    pub fn shared_tables_mut(&mut self) -> impl Iterator<Item = (SharedTable, &mut TrainedRows)> {
        let Self { items, features, contexts, biases, .. } = self;
        let others = [
            contexts.as_mut().map(|rows| (SharedTable::Contexts, rows)),
            biases.as_mut().map(|rows| (SharedTable::Biases, rows)),
            features.as_mut().map(|features| (SharedTable::Features, &mut features.rows)),
        ];
        std::iter::once((SharedTable::Items, items)).chain(others.into_iter().flatten())
    }

    /// Starts to keep what the rows of the shared tables are before they move.
    pub fn track_moves(&mut self) {
        self.shared_tables_mut().for_each(|(_, rows)| rows.track_moves());
    }

    /// Keeps copies of the rows of `items`, which are about to move, and of those that `items` have in contexts where they are among
    /// `in_contexts`; does nothing where moves are not tracked.
    pub(crate) fn keep_copies(&mut self, items: &[u32], in_contexts: impl Iterator<Item = u32>, biased: &[u32]) {
        if self.items.baseline().is_none() {
            return;
        }
        let Self { items: rows, features, contexts, biases, .. } = self;
        rows.keep_copies(items.iter().copied());
        if let Some(contexts) = contexts {
            contexts.keep_copies(in_contexts);
        }
        if let Some(biases) = biases {
            biases.keep_copies(biased.iter().copied());
        }
        if let Some(features) = features {
            features.keep_copies(items);
        }
    }

    /// Brings norms and vectors of `items` up to date, whose rows have been moved by other means than a step.
    pub fn refresh_moved(&mut self, items: &[u32]) {
        items.iter().for_each(|item| self.refresh_item(*item as usize));
    }

    fn refresh_item(&mut self, item: usize) {
        let (kernel, own) = (self.kernel, self.items.values.row(item));
        let vector = match &mut self.features {
            Some(features) => features.refresh(kernel, item, own),
            None => own,
        };
        if self.similarity == Similarity::Cosine {
            self.inverse_norms[item] = shrunk(inverse_norm(vector), self.shrinkage);
        }
    }

    /// Brings the vectors of `items` up to date where they have features: before these are encoded or scored, after every
    /// step. (Rows alone are always up to date.)
    pub fn refresh(&mut self, items: &[u32]) {
        if self.features.is_some() {
            items.iter().for_each(|item| self.refresh_item(*item as usize));
        }
    }

    /// Brings the vectors of all items up to date where they have features.
    pub fn refresh_all(&mut self) {
        let cosine = self.is_cosine();
        if let Some(features) = &mut self.features {
            let shrinkage = self.shrinkage;
            let norm = |vector: &[f32]| if cosine { shrunk(inverse_norm(vector), shrinkage) } else { 1.0 };
            features.refresh_all(self.kernel, &self.items.values, &mut self.inverse_norms, norm);
        }
    }

    /// Makes all of [`Self::inverse_norms`] anew, and all vectors.
    pub fn refresh_all_norms(&mut self) {
        self.inverse_norms = vec![1.0; self.items.values.len()];
        (0..self.items.values.len()).for_each(|item| self.refresh_item(item));
    }

    /// The vector of `item` as an index serves it: divided by its norm where the similarity is the cosine. It is as new as
    /// the rows.
    pub fn served(&self, item: usize, out: &mut [f32]) {
        let row = self.items.values.row(item);
        match &self.features {
            Some(features) => features.compose(self.kernel, item, row, out),
            None => out.copy_from_slice(row),
        }
        if self.is_cosine() {
            let scale = shrunk(inverse_norm(out), self.shrinkage);
            out.iter_mut().for_each(|number| *number *= scale);
        }
    }

    /// Every parameter that belongs to no row, by its name in a checkpoint: the one list by which parameters are saved,
    /// restored, and checked to be finite.
    pub fn parameters_mut(&mut self) -> impl Iterator<Item = (Cow<'static, str>, &mut Parameters)> {
        // Named one by one, so that a new parameter asks for a place in the list.
        let Self {
            items: _,
            features: _,
            contexts: _,
            users: _,
            biases: _,
            position_weights,
            gru,
            hidden_states: _,
            situations,
            transforms,
            popularity,
            temperature,
            normaliser,
            repetition,
            gate,
            cooccurrence,
            inverse_norms: _,
            similarity: _,
            shrinkage: _,
            kernel: _,
            seed: _,
            init_scale: _,
        } = self;
        let fixed = [
            ("position_weights", position_weights),
            ("popularity", popularity),
            ("temperature", temperature),
            ("normaliser", normaliser),
            ("repetition", &mut repetition.parameters),
            ("cooccurrence", &mut cooccurrence.parameters),
        ];
        let transform = |(k, parameters)| (Cow::Owned(format!("transform {}", k + 1)), parameters);
        let situations = situations.iter_mut().map(|vectors| ("situations", &mut vectors.parameters));
        let gate = gate.iter_mut().map(|gate| ("gate", &mut gate.parameters));
        let fixed =
            fixed.into_iter().chain(gate).chain(situations).chain(gru.iter_mut().map(|parameters| ("gru", parameters)));
        let fixed = fixed.map(|(name, parameters)| (Cow::Borrowed(name), parameters));
        fixed.chain(transforms.iter_mut().enumerate().map(transform))
    }

    /// Moves b_c of `item` against `gradient`; whether it is still finite.
    pub fn move_bias(&mut self, kernel: Kernel, item: u32, gradient: f32, rate: f32) -> bool {
        self.biases.as_mut().is_none_or(|biases| !biases.step(kernel, item as usize, &[gradient], rate).is_nan())
    }
}
