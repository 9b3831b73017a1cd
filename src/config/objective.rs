//! What the model is trained to do.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::options::{derived_shape, mistake};
use crate::util::config_section::{ConfigValue, Refusal, Shape};

/// The objective: a name, or a list of tables.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Objective {
    /// One objective with its defaults.
    Name(ObjectiveKind),
    /// Objectives with their options; what they give is added up.
    List(Vec<ObjectiveTerm>),
}

impl ConfigValue for Objective {
    fn shape() -> Shape {
        derived_shape::<Self>()
    }

    fn validate(&self) -> Result<(), Refusal> {
        self.mistake().map_or(Ok(()), |message| Err(message.into()))
    }
}

impl Objective {
    /// The objectives to add up.
    pub fn terms(&self) -> Vec<ObjectiveTerm> {
        match self {
            Self::Name(kind) => vec![ObjectiveTerm::new(*kind)],
            Self::List(terms) => terms.clone(),
        }
    }

    /// What is wrong with it.
    pub fn mistake(&self) -> Option<String> {
        let terms = self.terms();
        if terms.is_empty() {
            return Some("names no objective".to_owned());
        }
        let twice = |place: usize| terms[..place].iter().any(|before| before.kind == terms[place].kind);
        if let Some(place) = (0..terms.len()).find(|place| twice(*place)) {
            return Some(format!("'{}' is there twice", terms[place].kind.name()));
        }
        terms.iter().find_map(ObjectiveTerm::mistake)
    }
}

/// The objectives there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ObjectiveKind {
    /// InfoNCE with one correction over the whole candidate set.
    #[serde(rename = "infonce")]
    InfoNce,
    /// Noise-contrastive estimation: real or noise?
    Nce,
    /// Contrastive predictive coding: the item k steps ahead, for each of several k.
    Cpc,
    /// Deep InfoMax on sequences: summaries against whole sequences, against their items, and against a prior.
    #[serde(rename = "infomax")]
    InfoMax,
    /// Two views of the same sequence belong together.
    Views,
    /// Items of a session belong together, as far as the stream bears it out.
    I2i,
}

impl ObjectiveKind {
    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::InfoNce => "infonce",
            Self::Nce => "nce",
            Self::Cpc => "cpc",
            Self::InfoMax => "infomax",
            Self::Views => "views",
            Self::I2i => "i2i",
        }
    }
}

/// What codes are told apart from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PriorKind {
    /// Uniform on the unit sphere.
    Sphere,
    /// N(0, I/dim).
    Gaussian,
    /// A mixture of Gaussians that is itself estimated on the stream.
    GaussianMixture,
}

/// How a view is made of a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum View {
    /// A stretch of it.
    Crop,
    /// Items left out here and there.
    Mask,
    /// A stretch of it shuffled.
    Reorder,
}

/// What a pair of items must bring along to count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Acceptance {
    /// Nothing: every pair of a session counts.
    Raw,
    /// That the two come together more often on the stream than by chance.
    Lift,
    /// That their vectors agree.
    Agreement,
}

/// Declares the options of objectives that are numbers: each belongs to some of them, and has a default and bounds.
macro_rules! options {
    ($($(#[$doc:meta])* $option:ident: $type:ty = $default:expr, $low:expr, $high:expr, [$($kind:ident),*];)*) => {
        /// One objective of a list. Options that are left out have the defaults that docs/objectives.md lists.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub struct ObjectiveTerm {
            /// Which.
            pub kind: ObjectiveKind,
            /// `infonce`: what events of a type count; those that are not named count 1.
            #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
            pub event_weights: BTreeMap<String, f64>,
            /// `infomax`: what codes are told apart from.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub prior_kind: Option<PriorKind>,
            /// `views`: how views are made; each view in one of these ways.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub views: Option<Vec<View>>,
            /// `i2i`: what a pair must bring along.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub acceptance: Option<Acceptance>,
            $($(#[$doc])* #[serde(default, skip_serializing_if = "Option::is_none")] pub $option: Option<$type>,)*
        }

        impl ObjectiveTerm {
            /// With all defaults.
            pub fn new(kind: ObjectiveKind) -> Self {
                Self {
                    kind,
                    event_weights: BTreeMap::new(),
                    prior_kind: None,
                    views: None,
                    acceptance: None,
                    $($option: None,)*
                }
            }

            $($(#[$doc])* pub fn $option(&self) -> $type { self.$option.unwrap_or($default) })*

            fn number_mistake(&self) -> Option<String> {
                let name = self.kind.name();
                $(if let Some(value) = &self.$option {
                    let (option, kinds) = (stringify!($option), [$(ObjectiveKind::$kind),*]);
                    let mistake = mistake((option, value), $low..=$high, (&self.kind, name), &kinds);
                    if mistake.is_some() {
                        return mistake;
                    }
                })*
                None
            }
        }
    };
}

options! {
    /// Its share of the sum.
    weight: f64 = 1.0, 1e-6, 1e6, [];
    /// Also tell, for each item, which query of the batch led to it.
    symmetric: bool = false, false, true, [InfoNce];
    /// τ⁺: the share of negatives that are taken to be positives in truth.
    debias: f64 = 0.0, 0.0, 0.5, [InfoNce];
    /// β: negatives count by exp(β·score), so that hard ones count more.
    hardness: f64 = 0.0, 0.0, 10.0, [InfoNce];
    /// K: how many steps ahead is predicted, each with a matrix of its own.
    steps: usize = 3, 1, 32, [Cpc];
    /// What telling whole sequences apart counts.
    global: f64 = 0.03, 0.0, 1e6, [InfoMax];
    /// What telling the sequence's items apart counts.
    local: f64 = 0.1, 0.0, 1e6, [InfoMax];
    /// What matching the prior counts.
    prior: f64 = 0.01, 0.0, 1e6, [InfoMax];
    /// Components of the mixture.
    components: usize = 8, 1, 1024, [InfoMax];
    /// Share of a sequence that a view keeps (`crop`, `mask`), or leaves in order (`reorder`).
    keep: f64 = 0.6, 0.0, 1.0, [Views];
    /// Minutes without an event of the user that end a session.
    gap_minutes: f64 = 30.0, 0.0, 1e9, [I2i];
    /// How many items before an event it is paired with.
    window: usize = 5, 1, 128, [I2i];
    /// Half-life of the evidence, in pairs.
    half_life: f64 = 1e6, 1.0, 1e12, [I2i];
    /// Cells of each row of the sketch that pairs are counted in.
    width: usize = 1 << 18, 16, 1 << 26, [I2i];
}

impl ObjectiveTerm {
    /// What codes are told apart from.
    pub fn prior_kind(&self) -> PriorKind {
        self.prior_kind.unwrap_or(PriorKind::Sphere)
    }

    /// How views are made.
    pub fn views(&self) -> Vec<View> {
        self.views.clone().unwrap_or_else(|| vec![View::Crop, View::Mask, View::Reorder])
    }

    /// What a pair must bring along.
    pub fn acceptance(&self) -> Acceptance {
        self.acceptance.unwrap_or(Acceptance::Lift)
    }

    /// What is wrong with its options.
    pub fn mistake(&self) -> Option<String> {
        let name = self.kind.name();
        let of_others = [
            ("event_weights", !self.event_weights.is_empty(), ObjectiveKind::InfoNce),
            ("prior_kind", self.prior_kind.is_some(), ObjectiveKind::InfoMax),
            ("views", self.views.is_some(), ObjectiveKind::Views),
            ("acceptance", self.acceptance.is_some(), ObjectiveKind::I2i),
        ];
        if let Some((option, ..)) = of_others.iter().find(|(_, there, kind)| *there && self.kind != *kind) {
            return Some(format!("'{option}' is not an option of '{name}'"));
        }
        if let Some(kind) = self.event_weights.iter().find(|(_, weight)| !(0.0..=1e6).contains(*weight)) {
            return Some(format!("'event_weights' of '{name}' must be between 0 and 1e6, which '{}' is not", kind.0));
        }
        if self.views.as_ref().is_some_and(Vec::is_empty) {
            return Some(format!("'views' of '{name}' names none"));
        }
        if self.kind == ObjectiveKind::InfoMax && self.global() + self.local() + self.prior() == 0.0 {
            return Some(format!("nothing is left of '{name}': 'global', 'local' and 'prior' are 0"));
        }
        self.number_mistake()
    }
}
