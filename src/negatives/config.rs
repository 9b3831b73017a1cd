//! The section `negatives`: what a query's item is told apart from.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::json;

use super::samplers::registry::{Noise, NoiseTerm};
use crate::util::config_section::{ConfigValue, Refusal, Shape, config_choice, config_section, value_shape};

config_choice! {
    /// The kind of vectors that the bank of earlier positives holds.
    pub enum BankVectors {
        /// Items, whose vectors are read live and trained.
        Fresh = "fresh",
        /// Vectors as they were when they came in.
        Frozen = "frozen",
    }
}

config_section! {
    /// Where negatives come from, besides the other positives of the batch.
    pub struct NegativesConfig {
        /// How many of the newest positives are kept as negatives for later batches.
        bank: usize = 2048 => [state, at_most(1 << 22)];
        /// `fresh`: the bank's vectors are read live and trained. `frozen`: they stay as they were when they came in.
        bank_vectors: BankVectors = BankVectors::Fresh => [state];
        /// Entries leave the bank when they are more than so many events old; 0: at any age.
        bank_max_age: u64 = 0 => [state];
        /// Half-life of an item's frequency, in events, or in time (`30m`, `6h`, `1d`, `1w`); `inf` counts for ever; `auto`: the
        /// stream chooses.
        half_life: HalfLife = HalfLife::Auto => [state];
        /// Whether an item's popularity is what it has for its age: new ones had less time to be counted.
        age_correction: bool = true => [state];
        /// An item can be drawn as noise for so many events after its last one; 0: for ever.
        live_events: u64 = 0 => [state, at_most(1 << 28)];
        /// Noise: a sampler's name, or a list of tables `{ sampler = "unigram", draws = 256, … }`; see docs/negatives.md.
        noise: Noise = Noise::None => [state];
        /// Event types that tell what a user was shown; for the sampler `exposure`.
        exposure_kinds: Vec<String> = Vec::new() => [state];
        /// So many of a query's newest items are never its negatives. (Where `evaluate.repeat` is off, no own item is.)
        mask_recent: usize = 0 => [state];
        /// Share of the queries whose negatives are watched: were they chosen by the same user soon after?
        false_negative_share: f64 = 0.02 => [state, within(0.0..=1.0)];
        /// How many events the negatives of those queries are watched for.
        false_negative_window: u64 = 2000 => [state, at_most(1 << 16)];
    }
}

impl NegativesConfig {
    /// Checks `exposure_kinds` where events of `positive_kinds` (empty: all) are trained on.
    ///
    /// # Errors
    /// The sampler `exposure` has no such kinds, or nothing needs those that are named, or one is also a positive.
    pub fn validate_exposure_kinds(&self, positive_kinds: &[String]) -> Result<(), Refusal> {
        let refuse = |message: String| Err(Refusal::of("exposure_kinds", message));
        let needed = self.noise.terms().iter().any(NoiseTerm::needs_exposures);
        match self.exposure_kinds.iter().find(|kind| positive_kinds.contains(kind)) {
            _ if needed && self.exposure_kinds.is_empty() => {
                refuse("must name the event types that tell what was shown: 'exposure' needs them".to_owned())
            }
            _ if !needed && !self.exposure_kinds.is_empty() => {
                refuse("is for the sampler 'exposure', which negatives.noise does not name".to_owned())
            }
            Some(kind) => refuse(format!("'{kind}' is among positives.kinds: shown, or chosen?")),
            None => Ok(()),
        }
    }
}

/// The half-life of an item's frequency.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum HalfLife {
    /// Several half-lives side by side; the stream chooses.
    Auto,
    /// A half-life in events, which may be infinite.
    Events(f64),
    /// A half-life in the time of the events, in milliseconds.
    Millis(f64),
}

/// The units in which a half-life in time is written, with their milliseconds.
const UNITS: [(&str, f64); 5] = [("w", 604_800e3), ("d", 86_400e3), ("h", 3_600e3), ("m", 60e3), ("s", 1e3)];

impl ConfigValue for HalfLife {
    fn shape() -> Shape {
        value_shape(json!({ "oneOf": [
            { "const": "auto", "description": "Several half-lives side by side; the stream chooses." },
            { "type": "number", "minimum": 1, "description": "A half-life in events." },
            {
                "type": "string", "pattern": "^([0-9]+(\\.[0-9]+)?)[smhdw]$",
                "description": "A half-life in time: seconds, minutes, hours, days or weeks.",
            },
        ] }))
    }
}

impl HalfLife {
    /// A half-life in time, as it is written: `90s`, `30m`, `6h`, `1d`, `2w`.
    fn in_time(text: &str) -> Option<Self> {
        let (unit, millis) = UNITS.iter().find(|(unit, _)| text.ends_with(unit))?;
        let number: f64 = text[..text.len() - unit.len()].parse().ok()?;
        let half_life = number * millis;
        (half_life.is_finite() && half_life >= 1.0).then_some(Self::Millis(half_life))
    }
}

impl From<Option<f64>> for HalfLife {
    /// A half-life in events; `None` where the stream chooses.
    fn from(events: Option<f64>) -> Self {
        events.map_or(Self::Auto, Self::Events)
    }
}

impl fmt::Display for HalfLife {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => formatter.write_str("auto"),
            Self::Events(events) => write!(formatter, "{events}"),
            Self::Millis(millis) => {
                let whole = UNITS.iter().find(|(_, unit)| (millis / unit).fract() == 0.0);
                let (name, unit) = whole.unwrap_or(&UNITS[UNITS.len() - 1]);
                write!(formatter, "{}{name}", millis / unit)
            }
        }
    }
}

impl Serialize for HalfLife {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Events(events) if events.is_finite() => serializer.serialize_f64(*events),
            // JSON has no infinity.
            other => serializer.collect_str(other),
        }
    }
}

impl<'de> Deserialize<'de> for HalfLife {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl serde::de::Visitor<'_> for Visitor {
            type Value = HalfLife;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a number of events, a time such as `6h`, `inf`, or `auto`")
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
                    _ if text == "auto" => Ok(HalfLife::Auto),
                    Ok(events) => self.visit_f64(events),
                    Err(_) => {
                        HalfLife::in_time(text).ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
                    }
                }
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}
