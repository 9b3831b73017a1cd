//! What negatives are drawn from.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::options::mistake;

/// Where negatives come from, besides the other positives of the batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NegativesConfig {
    /// How many of the newest positives are kept as negatives for later batches.
    pub bank: usize,
    /// `fresh`: the bank's vectors are read live and trained. `frozen`: they stay as they were when they came in.
    pub bank_vectors: BankVectors,
    /// Entries leave the bank when they are more than so many events old; 0: at any age.
    pub bank_age: u64,
    /// Half-life of an item's frequency, in events; `inf` counts for ever; `auto`: the stream chooses.
    pub half_life: HalfLife,
    /// An item can be drawn as noise for so many events after its last one; 0: for ever.
    pub live_events: u64,
    /// Noise: a sampler's name, or a list of tables `{ sampler = "unigram", draws = 256, … }`; see docs/negatives.md.
    pub noise: Noise,
    /// Event types that tell what a user was shown; for the sampler `exposure`.
    pub exposure_kinds: Vec<String>,
    /// So many of a query's newest items are never its negatives. (Where `evaluate.repeat` is off, no own item is.)
    pub mask_recent: usize,
    /// Share of the queries whose negatives are watched: were they chosen by the same user soon after?
    pub ledger_share: f64,
    /// For so many events.
    pub ledger_events: u64,
}

impl NegativesConfig {
    /// What is wrong with the noise, by key, where events of `positive_kinds` (empty: all) are trained on.
    pub fn mistake(&self, positive_kinds: &[String]) -> Option<(&'static str, String)> {
        let listed = if let Noise::List(terms) = &self.noise { terms.as_slice() } else { &[] };
        let terms = self.noise.terms();
        if let Some(mistake) = listed.iter().chain(&terms).find_map(NoiseTerm::mistake) {
            return Some(("negatives.noise", mistake));
        }
        let noise = |message: &str| Some(("negatives.noise", message.to_owned()));
        if listed.iter().any(|term| term.weight.is_some()) {
            return noise("'weight' is for parts of a 'mixture'; samplers of the list have 'draws'");
        }
        let parts = || terms.iter().chain(terms.iter().flat_map(|term| &term.parts));
        if parts().any(|term| term.width() * term.rows() > 1 << 26) {
            return noise("'width' times 'rows' of 'interval' must be at most 67108864");
        }
        let exposures = |message: String| Some(("negatives.exposure_kinds", message));
        let wanted = parts().any(|term| term.sampler == SamplerKind::Exposure);
        match self.exposure_kinds.iter().find(|kind| positive_kinds.contains(kind)) {
            _ if wanted && self.exposure_kinds.is_empty() => {
                exposures("must name the event types that tell what was shown: 'exposure' needs them".to_owned())
            }
            _ if !wanted && !self.exposure_kinds.is_empty() => {
                exposures("is for the sampler 'exposure', which negatives.noise does not name".to_owned())
            }
            Some(kind) => exposures(format!("'{kind}' is among positives.kinds: shown, or chosen?")),
            None => None,
        }
    }
}

/// What a bank holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BankVectors {
    /// Items, whose vectors are read live.
    Fresh,
    /// Vectors as they were.
    Frozen,
}

/// How long frequencies remember.
#[derive(Debug, Clone, Copy, PartialEq, JsonSchema)]
#[schemars(untagged)]
pub enum HalfLife {
    /// Several half-lives side by side; the stream chooses.
    Auto(AutoWord),
    /// In events.
    Events(f64),
}

/// The word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum AutoWord {
    /// The stream chooses.
    Auto,
}

impl HalfLife {
    /// In events; `None` where the stream chooses.
    pub fn events(self) -> Option<f64> {
        match self {
            Self::Auto(_) => None,
            Self::Events(events) => Some(events),
        }
    }
}

impl Serialize for HalfLife {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto(_) => serializer.serialize_str("auto"),
            Self::Events(events) => serializer.serialize_f64(*events),
        }
    }
}

impl<'de> Deserialize<'de> for HalfLife {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl serde::de::Visitor<'_> for Visitor {
            type Value = HalfLife;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a number of events, `inf`, or `auto`")
            }

            fn visit_f64<E: serde::de::Error>(self, events: f64) -> Result<HalfLife, E> {
                if events >= 1.0 { Ok(HalfLife::Events(events)) } else { Err(E::custom("must be at least 1")) }
            }

            fn visit_i64<E: serde::de::Error>(self, events: i64) -> Result<HalfLife, E> {
                self.visit_f64(events as f64)
            }

            fn visit_u64<E: serde::de::Error>(self, events: u64) -> Result<HalfLife, E> {
                self.visit_f64(events as f64)
            }

            // Flags and variables come as text, since the default is one.
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<HalfLife, E> {
                match text.parse::<f64>() {
                    _ if text == "auto" => Ok(HalfLife::Auto(AutoWord::Auto)),
                    Ok(events) => self.visit_f64(events),
                    Err(_) => Err(E::invalid_value(serde::de::Unexpected::Str(text), &self)),
                }
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

/// Noise: a sampler's name, or a list of tables.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Noise {
    /// One sampler with its defaults.
    Name(SamplerKind),
    /// Several, each with its number of draws.
    List(Vec<NoiseTerm>),
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
