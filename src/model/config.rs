//! The section `model`: the embeddings' shape, and the score that is made of them.

use crate::util::config_section::{config_choice, config_section};

config_choice! {
    /// How alike a query and an item are.
    pub enum Similarity {
        /// The cosine of the angle between them.
        Cosine = "cosine",
        /// Their dot product.
        Dot = "dot",
    }
}

config_choice! {
    /// The numbers that the matrix products of training are made of.
    pub enum ProductPrecision {
        /// Single precision.
        F32 = "f32",
        /// bfloat16, summed up in single precision.
        Bf16 = "bf16",
    }
}

config_choice! {
    /// How gradients move the parameters.
    pub enum OptimizerKind {
        /// Adagrad, an accumulator per number; only touched rows move.
        Adagrad = "adagrad",
        /// Adagrad with one accumulator per row, of the mean of its squared gradients: half the memory.
        RowwiseAdagrad = "rowwise_adagrad",
    }
}

config_choice! {
    /// A set of defaults for what ranks better the more it computes.
    pub enum Preset {
        /// The defaults that each key is documented with.
        Fast = "fast",
        /// More dimensions, for the last percents: docs/quality.md has what it brings on each log, and what it costs.
        Best = "best",
    }
}

impl Preset {
    /// The defaults that differ from those of the keys: full key, and value as TOML.
    pub fn defaults(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Fast => &[],
            Self::Best => &[("model.dim", "256"), ("cooccurrence.plain_cosine", "true")],
        }
    }
}

config_section! {
    /// Shape and score of the model.
    pub struct ModelConfig {
        /// Where the defaults below come from: `fast` is what is written here, `best` has 256 dimensions and
        /// `cooccurrence.plain_cosine`, and takes more than twice as long. A key that is given holds, whatever the preset.
        preset: Preset = Preset::Fast;
        /// Dimensions of an embedding.
        dim: usize = 64 => [state, within(1..=4096)];
        /// The numbers that the matrix products of training are made of: `bf16` is faster where the processor has instructions
        /// for it (AVX512-BF16), and slower elsewhere, with the same results. Rows and their sums are in single precision anyway.
        precision: ProductPrecision = ProductPrecision::F32;
        /// τ: similarity is divided by it.
        temperature: f64 = 0.15 => [state, above_zero];
        /// Learn τ, beginning at `temperature`.
        learn_temperature: bool = false => [state];
        /// How alike a query and an item are: `cosine` or `dot`.
        similarity: Similarity = Similarity::Cosine => [state];
        /// How much an item has to be learnt before its similarity counts: where the similarity is the cosine, the item's vector of
        /// length n enters it with the length n/√(n² + this²). 0: with 1, from its first event on.
        shrinkage: f64 = 0.35 => [state, at_least(0.0)];
        /// Learn how much the similarity counts, by how active the user is, how long ago they came last, and the place in the
        /// session.
        gate: bool = true => [state];
        /// Learn β, the share of popularity that is preference; otherwise it stays at `popularity_init`.
        learn_popularity: bool = true => [state];
        /// Where β begins.
        popularity_init: f64 = 0.3 => [state, finite];
        /// Standard deviation of a new row's norm: each number is N(0, (this/√dim)²). A quarter of it for the rows of items
        /// that have features.
        init_scale: f64 = 0.1 => [state, above_zero];
    }
}
