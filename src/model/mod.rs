//! The model's numbers: rows of items and users, and the few that belong to no row.

pub mod encoder;
pub mod features;
pub(crate) mod gru;
pub(crate) mod recurrent;
pub mod repetition;

use crate::config::{Config, Encoder, ObjectiveKind, OptimizerKind, Similarity};
use crate::kernel::rows::inverse_norm;
use crate::kernel::{Kernel, LANES};
use crate::negatives::Vectors;
use crate::table::adagrad::{Optimizer, Parameters, TrainedRows};
use crate::table::row_remap::RowRemap;
use crate::table::rows::{Rows, stable_hash, start};
use features::{Features, OWN_START};
use repetition::Repetition;

/// Every learned number of the score; what only an objective needs is that objective's.
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
    /// The weights of the recurrent unit, where that makes the queries.
    pub unit: Option<Parameters>,
    /// The state that each user carries, where there is such a unit: what it knows of the items before the context.
    pub carried: Rows,
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
    /// 1/norm of each item's vector (1 where the likeness is the dot product); as of its last refresh, where there are
    /// features.
    pub inverse_norms: Vec<f32>,
    likeness: Similarity,
    seed: u64,
    start_scale: f32,
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

impl Model {
    /// No rows yet; the few other numbers at their starting values.
    pub fn new(config: &Config) -> Self {
        let dim = config.model.dim;
        let optimizer = match config.train.optimizer {
            OptimizerKind::Adagrad => Optimizer::Adagrad,
            OptimizerKind::RowwiseAdagrad => Optimizer::RowwiseAdagrad,
        };
        let rows = |wanted: bool, dim: usize| wanted.then(|| TrainedRows::new(dim, optimizer));
        let objectives = config.objective.terms();
        let identity = || Parameters::new((0..dim * dim).map(|place| f32::from(place % (dim + 1) == 0)).collect());
        let steps = objectives.iter().filter(|term| term.kind == ObjectiveKind::Cpc).map(|term| term.steps()).max();
        Self {
            items: TrainedRows::new(dim, optimizer),
            features: (config.features.buckets > 0).then(|| Features::new(dim, optimizer, config.features.buckets)),
            contexts: rows(config.context.context_rows, dim),
            users: rows(config.context.user_row, dim),
            biases: rows(objectives.iter().any(|term| term.kind == ObjectiveKind::Nce), 1),
            position_weights: Parameters::new((0..config.context.length).map(|k| k as f32 * 0.8f32.ln()).collect()),
            unit: (config.context.encoder == Encoder::Gru)
                .then(|| Parameters::new(gru::start(dim, stable_hash(config.seed, &["unit"])))),
            carried: Rows::new(dim),
            transforms: (0..steps.unwrap_or(0)).map(|_| identity()).collect(),
            popularity: Parameters::new(vec![config.model.popularity_start as f32]),
            temperature: Parameters::new(vec![-(config.model.temperature.ln() as f32)]),
            normaliser: Parameters::new(vec![0.0]),
            repetition: Repetition::default(),
            inverse_norms: Vec::new(),
            likeness: config.model.likeness,
            seed: config.seed,
            start_scale: config.model.start_scale as f32,
        }
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
        let (seed, scale) = (self.seed, self.start_scale);
        let mut own = scale;
        if let Some(features) = &mut self.features {
            features.push(buckets);
            if !buckets.is_empty() {
                own *= OWN_START;
            }
        }
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

    /// Adds the row of a new user, where users have rows.
    pub fn add_user(&mut self, name: &str) {
        let (seed, scale) = (self.seed, self.start_scale);
        if self.unit.is_some() {
            self.carried.push(|row| row.fill(0.0));
        }
        if let Some(users) = &mut self.users {
            users.push(|row| start(row, seed, "user", name, scale));
        }
    }

    /// Keeps the rows of the items that stay.
    pub fn keep_items(&mut self, items: &RowRemap) {
        let Self { items: rows, features, contexts, biases, inverse_norms, .. } = self;
        let tables = [Some(rows), contexts.as_mut(), biases.as_mut()];
        tables.into_iter().flatten().for_each(|table| table.keep(items));
        if let Some(features) = features {
            features.keep_items(items);
        }
        items.keep(inverse_norms);
    }

    /// Bytes that an item's rows take, and a user's.
    pub fn row_bytes(&self) -> (usize, usize) {
        let row = |table: &TrainedRows| (table.values.dim() + table.sums.dim()) * size_of::<f32>();
        let Self { items, features, contexts, biases, users, unit, .. } = self;
        let vector = self.dim() * size_of::<f32>();
        let of_item: usize = [Some(items), contexts.as_ref(), biases.as_ref()].into_iter().flatten().map(row).sum();
        let of_user = users.as_ref().map_or(0, row) + if unit.is_some() { vector } else { 0 };
        (of_item + if features.is_some() { vector } else { 0 }, of_user)
    }

    /// Keeps the rows of the users that stay.
    pub fn keep_users(&mut self, users: &RowRemap) {
        if let Some(table) = &mut self.users {
            table.keep(users);
        }
        if self.unit.is_some() {
            self.carried.keep(users);
        }
    }

    /// Whether the likeness is the cosine.
    pub fn is_cosine(&self) -> bool {
        self.likeness == Similarity::Cosine
    }

    /// The items' vectors: their rows, or, where they have features, what was made of both at the last refresh.
    pub fn vectors(&self) -> &Rows {
        self.features.as_ref().map_or(&self.items.values, Features::vectors)
    }

    /// What a checkpoint holds of it, as it is; see [`crate::table::chunks`].
    #[must_use]
    pub fn freeze(&mut self) -> Self {
        let Self { items, features, contexts, users, biases, carried, .. } = self;
        Self {
            items: items.freeze(),
            features: features.as_mut().map(Features::freeze),
            contexts: contexts.as_mut().map(TrainedRows::freeze),
            users: users.as_mut().map(TrainedRows::freeze),
            biases: biases.as_mut().map(TrainedRows::freeze),
            carried: carried.freeze(),
            position_weights: self.position_weights.clone(),
            unit: self.unit.clone(),
            transforms: self.transforms.clone(),
            popularity: self.popularity.clone(),
            temperature: self.temperature.clone(),
            normaliser: self.normaliser.clone(),
            repetition: self.repetition.clone(),
            // Made anew where it is asked for.
            inverse_norms: Vec::new(),
            likeness: self.likeness,
            seed: self.seed,
            start_scale: self.start_scale,
        }
    }

    /// As [`crate::table::chunks::Chunks::thaw`].
    pub fn thaw(&mut self, budget: &mut usize) -> bool {
        let Self { items, features, contexts, users, biases, carried, .. } = self;
        items.thaw(budget)
            && features.as_mut().is_none_or(|features| features.thaw(budget))
            && [contexts, users, biases].into_iter().flatten().all(|table| table.thaw(budget))
            && carried.thaw(budget)
    }

    fn refresh_item(&mut self, item: usize) {
        let own = self.items.values.row(item);
        let vector = match &mut self.features {
            Some(features) => features.refresh(item, own),
            None => own,
        };
        if self.likeness == Similarity::Cosine {
            self.inverse_norms[item] = inverse_norm(vector);
        }
    }

    /// Brings the vectors of `items` up to date where they have features: before these are encoded or scored, after every
    /// step. (Rows alone are always up to date.)
    pub fn refresh(&mut self, items: &[u32]) {
        if self.features.is_some() {
            items.iter().for_each(|item| self.refresh_item(*item as usize));
        }
    }

    /// The same of all items.
    pub fn refresh_all(&mut self) {
        let cosine = self.is_cosine();
        if let Some(features) = &mut self.features {
            let norm = |vector: &[f32]| if cosine { inverse_norm(vector) } else { 1.0 };
            features.refresh_all(&self.items.values, &mut self.inverse_norms, norm);
        }
    }

    /// Makes all of [`Self::inverse_norms`] anew, and all vectors.
    pub fn refresh_all_norms(&mut self) {
        self.inverse_norms = vec![1.0; self.items.values.len()];
        (0..self.items.values.len()).for_each(|item| self.refresh_item(item));
    }

    /// The vector of `item` as an index serves it: divided by its norm where the likeness is the cosine. It is as new as
    /// the rows.
    pub fn served(&self, item: usize, out: &mut [f32]) {
        let row = self.items.values.row(item);
        match &self.features {
            Some(features) => features.compose(item, row, out),
            None => out.copy_from_slice(row),
        }
        if self.is_cosine() {
            let scale = inverse_norm(out);
            out.iter_mut().for_each(|number| *number *= scale);
        }
    }

    /// The numbers that belong to no row, by name.
    pub fn numbers(&self) -> Vec<(String, &Parameters)> {
        let Self { position_weights, popularity, temperature, normaliser, repetition, transforms, unit, .. } = self;
        let fixed = [
            ("position_weights", position_weights),
            ("popularity", popularity),
            ("temperature", temperature),
            ("normaliser", normaliser),
            ("repetition", &repetition.parameters),
        ];
        let transforms = transforms.iter().enumerate().map(|(k, numbers)| (transform_name(k), numbers));
        let unit = unit.iter().map(|numbers| ("unit".to_owned(), numbers));
        fixed.into_iter().map(|(name, numbers)| (name.to_owned(), numbers)).chain(transforms).chain(unit).collect()
    }

    /// The same, to be filled in.
    pub fn numbers_mut(&mut self) -> Vec<(String, &mut Parameters)> {
        let Self { position_weights, popularity, temperature, normaliser, repetition, transforms, unit, .. } = self;
        let fixed = [
            ("position_weights", position_weights),
            ("popularity", popularity),
            ("temperature", temperature),
            ("normaliser", normaliser),
            ("repetition", &mut repetition.parameters),
        ];
        let transforms = transforms.iter_mut().enumerate().map(|(k, numbers)| (transform_name(k), numbers));
        let unit = unit.iter_mut().map(|numbers| ("unit".to_owned(), numbers));
        fixed.into_iter().map(|(name, numbers)| (name.to_owned(), numbers)).chain(transforms).chain(unit).collect()
    }

    /// Moves b_c of `item` against `gradient`; whether it is still finite.
    pub fn move_bias(&mut self, kernel: Kernel, item: u32, gradient: f32, rate: f32) -> bool {
        self.biases.as_mut().is_none_or(|biases| !biases.step(kernel, item as usize, &[gradient], rate).is_nan())
    }
}

fn transform_name(k: usize) -> String {
    format!("transform {}", k + 1)
}
