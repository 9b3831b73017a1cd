//! What negatives are drawn from.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::options::{derived_shape, mistake};
use crate::util::config_section::{ConfigValue, Refusal, Shape, require};

/// Noise: a sampler's name, or a list of tables.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Noise {
    /// One sampler with its defaults.
    Name(SamplerKind),
    /// Several, each with its number of draws.
    List(Vec<NoiseTerm>),
}

impl ConfigValue for Noise {
    fn shape() -> Shape {
        derived_shape::<Self>()
    }

    fn validate(&self) -> Result<(), Refusal> {
        let listed = if let Self::List(terms) = self { terms.as_slice() } else { &[] };
        let terms = self.terms();
        if let Some(mistake) = listed.iter().chain(&terms).find_map(NoiseTerm::mistake) {
            return Err(mistake.into());
        }
        let weighted = listed.iter().any(|term| term.weight.is_some());
        require(!weighted, "'weight' is for parts of a 'mixture'; samplers of the list have 'draws'")?;
        let mut parts = terms.iter().chain(terms.iter().flat_map(|term| &term.parts));
        let too_large = parts.any(|term| term.width() * term.rows() > 1 << 26);
        require(!too_large, "'width' times 'rows' of 'interval' must be at most 67108864")
    }
}

impl Noise {
    /// The samplers to draw from.
    pub fn terms(&self) -> Vec<NoiseTerm> {
        match self {
            Self::Name(sampler) => vec![NoiseTerm::new(*sampler)],
            Self::List(terms) => terms.clone(),
        }
        .into_iter()
        .filter(|term| term.sampler != SamplerKind::None)
        .collect()
    }
}

/// The samplers there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SamplerKind {
    /// No noise.
    None,
    /// Every live item alike.
    Uniform,
    /// In proportion to a power of the decayed frequency; one draw in twenty uniform.
    Unigram,
    /// By popularity rank.
    LogUniform,
    /// By the mean gap between an item's events, in a sketch.
    Interval,
    /// What follows the query's last item.
    Cooccurrence,
    /// The model itself, in two stages; one draw in twenty uniform.
    Adaptive,
    /// The top-scored of the batch and the bank.
    Hard,
    /// What the user was shown and did not choose.
    Exposure,
    /// Others, each with its weight.
    Mixture,
}

impl SamplerKind {
    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Uniform => "uniform",
            Self::Unigram => "unigram",
            Self::LogUniform => "log_uniform",
            Self::Interval => "interval",
            Self::Cooccurrence => "cooccurrence",
            Self::Adaptive => "adaptive",
            Self::Hard => "hard",
            Self::Exposure => "exposure",
            Self::Mixture => "mixture",
        }
    }
}

/// Declares the options of samplers: each belongs to some of them, and has a default and bounds.
macro_rules! options {
    ($($(#[$doc:meta])* $option:ident: $type:ty = $default:expr, $low:expr, $high:expr, [$($kind:ident),*];)*) => {
        /// One sampler of a list. Options that are left out have the defaults that docs/negatives.md lists.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub struct NoiseTerm {
            /// Which.
            pub sampler: SamplerKind,
            /// `mixture`: the samplers it is made of, each with its `weight`.
            #[serde(default, skip_serializing_if = "Vec::is_empty")]
            pub parts: Vec<NoiseTerm>,
            $($(#[$doc])* #[serde(default, skip_serializing_if = "Option::is_none")] pub $option: Option<$type>,)*
        }

        impl NoiseTerm {
            /// With all defaults.
            pub fn new(sampler: SamplerKind) -> Self {
                Self { sampler, parts: Vec::new(), $($option: None,)* }
            }

            $($(#[$doc])* pub fn $option(&self) -> $type { self.$option.unwrap_or($default) })*

            /// What is wrong with the options of this sampler, the mixture's parts included.
            pub fn mistake(&self) -> Option<String> {
                let name = self.sampler.name();
                $(if let Some(value) = &self.$option {
                    let (option, kinds) = (stringify!($option), [$(SamplerKind::$kind),*]);
                    let mistake = mistake((option, value), $low..=$high, (&self.sampler, name), &kinds);
                    if mistake.is_some() {
                        return mistake;
                    }
                })*
                match (self.sampler, self.parts.as_slice()) {
                    (SamplerKind::Mixture, []) => Some("'mixture' needs 'parts', a list of tables".to_owned()),
                    (SamplerKind::Mixture, parts) => parts.iter().find_map(|part| match part.sampler {
                        SamplerKind::Mixture => Some("a 'mixture' cannot be part of another".to_owned()),
                        SamplerKind::None => Some("'none' cannot be part of a 'mixture'".to_owned()),
                        _ if part.draws.is_some() => Some("parts of a 'mixture' have 'weight', not 'draws'".to_owned()),
                        _ if part.cap.is_some() => Some("parts of a 'mixture' have 'weight', not 'cap'".to_owned()),
                        _ => part.mistake(),
                    }),
                    (_, []) => None,
                    _ => Some(format!("'parts' is not an option of '{name}'")),
                }
            }
        }
    };
}

options! {
    /// Draws per step, shared by the batch.
    draws: usize = 512, 1, 1 << 20, [];
    /// What a part counts in a mixture.
    weight: f64 = 1.0, 1e-9, 1e9, [];
    /// At most this share of the candidates.
    cap: f64 = 0.2, 0.0, 1.0, [Hard];
    /// The power of the decayed frequency; within clusters, of `adaptive`.
    power: f64 = 1.0, 0.0, 4.0, [Unigram, Adaptive];
    /// Buckets of each row of the sketch.
    width: usize = 1 << 16, 16, 1 << 26, [Interval];
    /// Rows of the sketch.
    rows: usize = 2, 1, 8, [Interval];
    /// What the newest gap counts in the mean.
    rate: f64 = 0.05, 1e-6, 1.0, [Interval];
    /// Followers kept of each item.
    followers: usize = 32, 1, 1024, [Cooccurrence];
    /// Half-life of a follower's count, in events.
    half_life: f64 = 20_000.0, 1.0, 1e12, [Cooccurrence];
    /// Clusters of items.
    clusters: usize = 64, 1, 4096, [Adaptive];
    /// Items in the set.
    size: usize = 256, 1, 65_536, [Hard];
    /// Queries that look for them.
    probes: usize = 32, 1, 4096, [Hard];
    /// Items remembered per user.
    remembered: usize = 32, 1, 4096, [Exposure];
}
