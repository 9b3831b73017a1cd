//! What the registry of noise samplers knows of each, and the part of the configuration that chooses among them.
//!
//! The list itself is [`SAMPLERS`], beside the samplers' modules. A new sampler is one file, with its options (a
//! [`SamplerOptions`]) and its [`NoiseSampler`], and one line there. Parsing, validation, the JSON Schema, the command
//! `negatives`, the tables of docs/negatives.md, the generic tests and the benches go over the list.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value as Json;
use toml::{Table, Value};

use super::{NoiseSampler, SAMPLERS, mixture};
use crate::util::component::{self, Component, NameOrTables};
use crate::util::config_section::{ConfigValue, KeyEntry, Refusal, Shape, config_section, require, value_shape};

/// The name in the configuration that stands for no noise at all.
pub const NONE: &str = "none";

/// The options of a noise sampler, and what has to be known of it without an instance.
pub trait SamplerOptions: Component {
    /// Whether every live item can be drawn.
    const FULL_SUPPORT: bool = true;
    /// What must be known before there is anything to draw from.
    const NEEDS: Needs = Needs::Stream;
    /// Whether, and how, the sampler can be made from a checkpoint in which it was not at work.
    const ORIGIN: Origin;
    /// Options, as TOML, that the generic tests cover besides the defaults: small ones, since their streams are small.
    const TESTED: &'static [&'static str];

    /// The sampler with these options, before the first event.
    fn build(&self) -> Box<dyn NoiseSampler>;

    /// The largest share of a batch's candidates that the sampler may bring.
    fn cap(&self) -> f64 {
        1.0
    }

    /// The samplers that the sampler is made of.
    fn parts(&self) -> Vec<NoiseTerm> {
        Vec::new()
    }
}

/// The properties of a sampler that its options tell without building it.
struct CheckedOptions {
    cap: f64,
    parts: Vec<NoiseTerm>,
}

/// Why reading the options of a term again cannot fail.
const CHECKED: &str = "the options were checked when they were read";

/// What must be known before a sampler has something to draw from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Some live item.
    Stream,
    /// A query vector.
    Query,
    /// A user of whom it is known what they were shown: `negatives.exposure_kinds` must name such events.
    Exposures,
}

/// Where a sampler's state comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Counts and vectors, which every checkpoint has; the sampler observes them so many times until it has settled.
    State(u32),
    /// The stream, from its first event; the text is a setting that puts the sampler to work.
    Stream(&'static str),
}

/// A registered sampler: its name, its documentation and its constructors.
pub struct SamplerEntry {
    /// The name in the configuration.
    pub name: &'static str,
    /// The documentation: one sentence.
    pub summary: &'static str,
    /// Whether every live item can be drawn.
    pub full_support: bool,
    /// What must be known before there is anything to draw from.
    pub needs: Needs,
    /// Where the sampler's state comes from.
    pub origin: Origin,
    /// Options, as TOML, that the generic tests cover besides the defaults.
    pub tested: &'static [&'static str],
    keys: fn() -> Vec<KeyEntry>,
    rows: fn() -> Vec<String>,
    check: fn(&Table) -> Result<CheckedOptions, String>,
    build: fn(&Table) -> Result<Box<dyn NoiseSampler>, String>,
}

impl SamplerEntry {
    /// The entry of the sampler with options `O`.
    pub(super) const fn of<O: SamplerOptions>() -> Self {
        Self {
            name: O::NAME,
            summary: O::SUMMARY,
            full_support: O::FULL_SUPPORT,
            needs: O::NEEDS,
            origin: O::ORIGIN,
            tested: O::TESTED,
            keys: component::keys::<O>,
            rows: || component::option_rows::<O>(&format!("`{}`", O::NAME)),
            check: |given| {
                let options = component::options::<O>(O::NAME, given)?;
                Ok(CheckedOptions { cap: options.cap(), parts: options.parts() })
            },
            build: |given| Ok(component::options::<O>(O::NAME, given)?.build()),
        }
    }

    /// The sampler called `name`.
    pub fn find(name: &str) -> Option<&'static Self> {
        SAMPLERS.iter().find(|entry| entry.name == name)
    }

    /// The rows of the sampler's options in a documentation table.
    pub fn option_rows(&self) -> Vec<String> {
        (self.rows)()
    }

    fn schema<C: ConfigValue>(&self) -> Json {
        let options = [component::keys::<C>(), (self.keys)()].concat();
        component::table_schema("sampler", (self.name, self.summary), &options)
    }
}

impl PartialEq for SamplerEntry {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl std::fmt::Debug for SamplerEntry {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name)
    }
}

config_section! {
    /// The options that every sampler of a list has.
    pub struct DrawOptions {
        /// Draws per step, shared by the batch.
        draws: usize = 512 => [within(1..=1 << 20)];
    }
}

config_section! {
    /// The options that every part of a mixture has.
    pub struct PartOptions {
        /// The part's weight in the mixture; weights need not sum to 1.
        weight: f64 = 1.0 => [within(1e-9..=1e9)];
    }
}

/// A sampler as configured: `{ sampler = "unigram", draws = 256, power = 0.75 }`. Its options were checked when it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct NoiseTerm {
    /// The sampler.
    pub sampler: &'static SamplerEntry,
    /// The common options that were given: `draws` in a list, `weight` in a mixture.
    common: Table,
    /// The sampler's own options that were given.
    given: Table,
}

impl NoiseTerm {
    /// The sampler with its default options.
    pub fn new(sampler: &'static SamplerEntry) -> Self {
        Self { sampler, common: Table::new(), given: Table::new() }
    }

    /// Reads a sampler's table, whose common options are `C`.
    fn read<C: ConfigValue + Default>(mut table: Table) -> Result<Self, String> {
        let name = component::take_name("sampler", &mut table)?;
        let sampler = SamplerEntry::find(&name).ok_or_else(|| unknown_sampler(&name))?;
        let common = component::take_declared::<C>(&mut table);
        component::options::<C>(sampler.name, &common)?;
        (sampler.check)(&table)?;
        Ok(Self { sampler, common, given: table })
    }

    /// The sampler, before the first event.
    pub fn build(&self) -> Box<dyn NoiseSampler> {
        (self.sampler.build)(&self.given).expect(CHECKED)
    }

    /// The largest share of a batch's candidates that the sampler may bring.
    pub fn cap(&self) -> f64 {
        (self.sampler.check)(&self.given).expect(CHECKED).cap
    }

    /// Draws per step.
    pub fn draws(&self) -> usize {
        component::options::<DrawOptions>(self.sampler.name, &self.common).expect(CHECKED).draws
    }

    /// The sampler's weight in a mixture.
    pub fn weight(&self) -> f64 {
        component::options::<PartOptions>(self.sampler.name, &self.common).expect(CHECKED).weight
    }

    /// The samplers that this one is made of; none, unless it is a mixture.
    pub fn parts(&self) -> Vec<Self> {
        (self.sampler.check)(&self.given).expect(CHECKED).parts
    }

    /// Whether the sampler, or a part of it, has to know what users were shown.
    pub fn needs_exposures(&self) -> bool {
        self.sampler.needs == Needs::Exposures || self.parts().iter().any(Self::needs_exposures)
    }
}

fn unknown_sampler(name: &str) -> String {
    let known: Vec<&str> = [NONE].into_iter().chain(SAMPLERS.iter().map(|entry| entry.name)).collect();
    component::unknown_name("sampler", name, &known)
}

impl Serialize for NoiseTerm {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        component::serialize_table(serializer, ("sampler", self.sampler.name), self.common.iter().chain(&self.given))
    }
}

impl<'de> Deserialize<'de> for NoiseTerm {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::read::<DrawOptions>(Table::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// The parts of a mixture, each with its weight.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub struct MixtureParts(pub Vec<NoiseTerm>);

impl<'de> Deserialize<'de> for MixtureParts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let part = |table: Table| {
            let name = table.get("sampler").and_then(Value::as_str).unwrap_or_default();
            match name {
                mixture::MixtureOptions::NAME => Err("a 'mixture' cannot be part of another".to_owned()),
                NONE => Err("'none' cannot be part of a 'mixture'".to_owned()),
                _ if table.contains_key("draws") => Err("parts of a 'mixture' have 'weight', not 'draws'".to_owned()),
                _ if table.contains_key("cap") => Err("parts of a 'mixture' have 'weight', not 'cap'".to_owned()),
                _ => NoiseTerm::read::<PartOptions>(table),
            }
        };
        let parts = Vec::<Table>::deserialize(deserializer)?.into_iter().map(part).collect::<Result<_, _>>();
        parts.map(Self).map_err(serde::de::Error::custom)
    }
}

impl ConfigValue for MixtureParts {
    fn shape() -> Shape {
        let parts = SAMPLERS.iter().filter(|entry| entry.name != mixture::MixtureOptions::NAME);
        let tables: Vec<Json> = parts.map(SamplerEntry::schema::<PartOptions>).collect();
        value_shape(serde_json::json!({ "type": "array", "minItems": 1, "items": { "anyOf": tables } }))
    }

    fn validate(&self) -> Result<(), Refusal> {
        require(!self.0.is_empty(), "must list the samplers that it is made of, as tables")
    }
}

/// The key `negatives.noise`: a sampler's name, or a list of samplers, each with its number of draws.
#[derive(Debug, Clone, PartialEq)]
pub enum Noise {
    /// No noise.
    None,
    /// One sampler with its defaults.
    Name(&'static SamplerEntry),
    /// Several samplers, each with its number of draws.
    List(Vec<NoiseTerm>),
}

impl Noise {
    /// The samplers to draw from.
    pub fn terms(&self) -> Vec<NoiseTerm> {
        match self {
            Self::None => Vec::new(),
            Self::Name(sampler) => vec![NoiseTerm::new(sampler)],
            Self::List(terms) => terms.clone(),
        }
    }
}

impl ConfigValue for Noise {
    fn shape() -> Shape {
        let mut names = vec![(NONE, "No noise.")];
        names.extend(SAMPLERS.iter().map(|entry| (entry.name, entry.summary)));
        let tables = SAMPLERS.iter().map(SamplerEntry::schema::<DrawOptions>).collect();
        value_shape(component::name_or_list_schema(&names, tables))
    }

    fn validate(&self) -> Result<(), Refusal> {
        // A name alone has defaults, and a mixture has no parts by default.
        match self {
            Self::Name(sampler) => (sampler.check)(&Table::new()).map(drop).map_err(Refusal::from),
            Self::None | Self::List(_) => Ok(()),
        }
    }
}

impl Serialize for Noise {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::None => serializer.serialize_str(NONE),
            Self::Name(sampler) => serializer.serialize_str(sampler.name),
            Self::List(terms) => terms.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Noise {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = |table: Table| match table.contains_key("weight") {
            true => Err("'weight' is for parts of a 'mixture'; samplers of the list have 'draws'".to_owned()),
            false => NoiseTerm::read::<DrawOptions>(table),
        };
        // A list may turn noise off by name, as the key itself may.
        let is_noise = |table: &Table| table.get("sampler").and_then(Value::as_str) != Some(NONE);
        let noise = match NameOrTables::deserialize(deserializer)? {
            NameOrTables::Name(name) if name == NONE => Ok(Self::None),
            NameOrTables::Name(name) => SamplerEntry::find(&name).map(Self::Name).ok_or_else(|| unknown_sampler(&name)),
            NameOrTables::Tables(tables) => {
                tables.into_iter().filter(is_noise).map(read).collect::<Result<_, _>>().map(Self::List)
            }
        };
        noise.map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(noise: &str) -> Result<Noise, String> {
        let table: Table = format!("noise = {noise}").parse().expect("TOML");
        table["noise"].clone().try_into().map_err(|error: toml::de::Error| error.message().trim().to_owned())
    }

    #[test]
    fn noise_is_written_as_it_was_read() {
        for noise in [
            "'none'",
            "'unigram'",
            "[{ sampler = 'unigram', draws = 7, power = 0.5 }, { sampler = 'uniform' }]",
            "[{ sampler = 'mixture', parts = [{ sampler = 'interval', weight = 2.0, width = 64 }] }]",
        ] {
            let read_noise = read(noise).unwrap();
            let json = serde_json::to_value(&read_noise).unwrap();
            assert_eq!(serde_json::from_value::<Noise>(json).unwrap(), read_noise, "{noise}");
        }
    }

    #[test]
    fn errors_name_option_and_sampler() {
        for (noise, message) in [
            ("'unigran'", "unknown sampler 'unigran', did you mean 'unigram'?"),
            ("[{ sampler = 'uniform', power = 1.0 }]", "'power' is not an option of 'uniform'"),
            ("[{ sampler = 'unigram', powr = 1.0 }]", "'powr' is not an option of 'unigram', did you mean 'power'?"),
            ("[{ sampler = 'uniform', draws = 0 }]", "'draws' of 'uniform' must lie in 1..=1048576"),
            ("[{ sampler = 'unigram', power = nan }]", "'power' of 'unigram' must lie in 0..=4"),
            ("[{ sampler = 'unigram', power = 'a' }]", "'unigram': invalid type"),
            ("[{ sampler = 'uniform', weight = 2.0 }]", "'weight' is for parts of a 'mixture'"),
            ("[{ sampler = 'mixture' }]", "'parts' of 'mixture' must list the samplers"),
            ("[{ sampler = 'mixture', parts = [{ sampler = 'mixture' }] }]", "a 'mixture' cannot be part of another"),
            ("[{ sampler = 'mixture', parts = [{ sampler = 'uniform', draws = 2 }] }]", "have 'weight', not 'draws'"),
            ("[{ draws = 2 }]", "missing 'sampler'"),
            ("3", "expected a name or a list of tables, found integer"),
        ] {
            let refused = read(noise).and_then(|noise| noise.validate().map_err(|refusal| refusal.message));
            let said = refused.expect_err(noise);
            assert!(said.contains(message), "{noise}: {said}");
        }
    }

    #[test]
    fn options_are_documented() {
        let mut rows = component::option_rows::<DrawOptions>("every sampler");
        rows.extend(component::option_rows::<PartOptions>("a part of a mixture"));
        rows.extend(SAMPLERS.iter().flat_map(SamplerEntry::option_rows));
        component::assert_options_documented("docs/negatives.md", &rows);
    }

    #[test]
    fn samplers_have_unique_names_and_documented_options() {
        for (place, entry) in SAMPLERS.iter().enumerate() {
            assert!(SAMPLERS[..place].iter().all(|other| other != entry), "{entry:?} is there twice");
            assert!(entry.summary.ends_with('.'), "{entry:?}: the summary is a sentence");
            let documented = (entry.keys)().iter().all(|key| !key.description.join("").is_empty());
            assert!(documented, "{entry:?} has an option without documentation");
        }
    }
}
