//! What the registry of objectives knows of each, and the part of the configuration that chooses among them.
//!
//! The list itself is [`OBJECTIVES`], beside the objectives' modules. A new objective is one file, with its options (an
//! `ObjectiveOptions`) and its `Objective`, and one line there. Parsing, validation, the JSON Schema, the tables of
//! docs/objectives.md and the generic tests go over the list; what an objective needs of the model it says itself
//! (`ObjectiveOptions::requirements`).

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use toml::Table;

use super::OBJECTIVES;
use super::step::Objective;
#[cfg(test)]
use super::tests::reference::Reference;
use crate::model::ModelRequirements;
use crate::util::component::{self, Component, NameOrTables};
use crate::util::config_section::{ConfigValue, KeyEntry, Refusal, Shape, config_section, require, value_shape};

/// Why reading the options of a term again cannot fail.
const CHECKED: &str = "the options were checked when they were read";

/// The options of an objective, and what has to be known of it without an instance.
pub(super) trait ObjectiveOptions: Component {
    /// Options, as the inside of an inline TOML table, with which the generic tests compare gradients with finite
    /// differences of [`Self::reference_loss`].
    const TESTED: &'static [&'static str];

    /// The objective with these options, before the first step, as `weight` of the sum of objectives.
    fn build(&self, weight: f64, setting: ObjectiveSetting) -> Box<dyn Objective>;

    /// The parameters of the model that the objective learns besides those that every model has.
    fn requirements(&self) -> ModelRequirements {
        ModelRequirements::default()
    }

    /// Checks the options where so many items are remembered of each user.
    ///
    /// # Errors
    /// A sentence that names the option that asks for more.
    fn validate_memory(&self, _remembered_items: usize) -> Result<(), String> {
        Ok(())
    }

    /// The objective's loss in double precision, by its formula alone, in nats; without the weight in the sum.
    #[cfg(test)]
    fn reference_loss(&self, at: &Reference<'_>) -> f64;
}

/// The setting that an objective is built for.
#[derive(Debug, Clone, Copy)]
pub(super) struct ObjectiveSetting {
    /// Dimensions of an embedding.
    pub(super) dim: usize,
    /// The seed of the run.
    pub(super) seed: u64,
}

/// Builds an objective from the options that were given, its weight, and what it is built for.
type Build = fn(&Table, f64, ObjectiveSetting) -> Result<Box<dyn Objective>, String>;

/// A registered objective: its name, its documentation and its constructors.
pub struct ObjectiveEntry {
    /// The name in the configuration.
    pub name: &'static str,
    /// The documentation: one sentence.
    pub summary: &'static str,
    /// Options, as the inside of an inline TOML table, that the generic tests cover.
    pub tested: &'static [&'static str],
    keys: fn() -> Vec<KeyEntry>,
    rows: fn() -> Vec<String>,
    build: Build,
    requirements: fn(&Table) -> Result<ModelRequirements, String>,
    validate_memory: fn(&Table, usize) -> Result<(), String>,
    #[cfg(test)]
    reference_loss: fn(&Table, &Reference<'_>) -> f64,
}

impl ObjectiveEntry {
    /// The entry of the objective with options `O`.
    pub(super) const fn of<O: ObjectiveOptions>() -> Self {
        Self {
            name: O::NAME,
            summary: O::SUMMARY,
            tested: O::TESTED,
            keys: component::keys::<O>,
            rows: || component::option_rows::<O>(&format!("`{}`", O::NAME)),
            build: |given, weight, setting| Ok(component::options::<O>(O::NAME, given)?.build(weight, setting)),
            requirements: |given| Ok(component::options::<O>(O::NAME, given)?.requirements()),
            validate_memory: |given, items| component::options::<O>(O::NAME, given)?.validate_memory(items),
            #[cfg(test)]
            reference_loss: |given, at| component::options::<O>(O::NAME, given).expect(CHECKED).reference_loss(at),
        }
    }

    /// The objective called `name`.
    pub fn find(name: &str) -> Option<&'static Self> {
        OBJECTIVES.iter().find(|entry| entry.name == name)
    }

    /// The rows of the objective's options in a documentation table.
    pub fn option_rows(&self) -> Vec<String> {
        (self.rows)()
    }
}

impl PartialEq for ObjectiveEntry {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl std::fmt::Debug for ObjectiveEntry {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name)
    }
}

config_section! {
    /// The options that every objective has.
    pub struct SumOptions {
        /// The objective's share of the sum.
        weight: f64 = 1.0 => [within(1e-6..=1e6)];
    }
}

/// An objective as configured: `{ kind = "cpc", weight = 0.5, steps = 2 }`. Its options were checked when it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct ObjectiveTerm {
    /// The objective.
    pub kind: &'static ObjectiveEntry,
    /// The common options that were given.
    common: Table,
    /// The objective's own options that were given.
    given: Table,
}

impl ObjectiveTerm {
    /// The objective with its default options.
    pub fn new(kind: &'static ObjectiveEntry) -> Self {
        Self { kind, common: Table::new(), given: Table::new() }
    }

    fn read(mut table: Table) -> Result<Self, String> {
        let name = component::take_name("kind", &mut table)?;
        let kind = ObjectiveEntry::find(&name).ok_or_else(|| unknown_objective(&name))?;
        let common = component::take_declared::<SumOptions>(&mut table);
        component::options::<SumOptions>(kind.name, &common)?;
        (kind.requirements)(&table)?;
        Ok(Self { kind, common, given: table })
    }

    /// The objective's share of the sum.
    pub fn weight(&self) -> f64 {
        component::options::<SumOptions>(self.kind.name, &self.common).unwrap_or_default().weight
    }

    /// The objective's loss in double precision, without its weight.
    #[cfg(test)]
    pub(super) fn reference_loss(&self, at: &Reference<'_>) -> f64 {
        (self.kind.reference_loss)(&self.given, at)
    }

    /// The objective, before the first step.
    pub(super) fn build(&self, setting: ObjectiveSetting) -> Box<dyn Objective> {
        (self.kind.build)(&self.given, self.weight(), setting).expect(CHECKED)
    }

    fn requirements(&self) -> ModelRequirements {
        (self.kind.requirements)(&self.given).expect(CHECKED)
    }
}

fn unknown_objective(name: &str) -> String {
    let known: Vec<&str> = OBJECTIVES.iter().map(|entry| entry.name).collect();
    component::unknown_name("objective", name, &known)
}

impl Serialize for ObjectiveTerm {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        component::serialize_table(serializer, ("kind", self.kind.name), self.common.iter().chain(&self.given))
    }
}

/// The key `objective`: an objective's name, or a list of objectives with their options, whose losses are added up.
#[derive(Debug, Clone, PartialEq)]
pub enum ObjectiveChoice {
    /// One objective with its defaults.
    Name(&'static ObjectiveEntry),
    /// Objectives with their options.
    List(Vec<ObjectiveTerm>),
}

impl ObjectiveChoice {
    /// The objectives to add up.
    pub fn terms(&self) -> Vec<ObjectiveTerm> {
        match self {
            Self::Name(kind) => vec![ObjectiveTerm::new(kind)],
            Self::List(terms) => terms.clone(),
        }
    }

    /// What the objectives together need of the model.
    pub fn requirements(&self) -> ModelRequirements {
        self.terms()
            .iter()
            .map(ObjectiveTerm::requirements)
            .fold(ModelRequirements::default(), ModelRequirements::union)
    }

    /// Checks the objectives where so many items are remembered of each user.
    ///
    /// # Errors
    /// A sentence that names the objective and the option that ask for more.
    pub fn validate_memory(&self, remembered_items: usize) -> Result<(), String> {
        self.terms().iter().try_for_each(|term| (term.kind.validate_memory)(&term.given, remembered_items))
    }
}

impl Default for ObjectiveChoice {
    fn default() -> Self {
        Self::Name(&OBJECTIVES[0])
    }
}

impl ConfigValue for ObjectiveChoice {
    fn shape() -> Shape {
        let names: Vec<(&str, &str)> = OBJECTIVES.iter().map(|entry| (entry.name, entry.summary)).collect();
        let table = |entry: &ObjectiveEntry| {
            let options = [component::keys::<SumOptions>(), (entry.keys)()].concat();
            component::table_schema("kind", (entry.name, entry.summary), &options)
        };
        value_shape(component::name_or_list_schema(&names, OBJECTIVES.iter().map(table).collect()))
    }

    fn validate(&self) -> Result<(), Refusal> {
        let terms = self.terms();
        require(!terms.is_empty(), "names no objective")?;
        let twice = |place: usize| terms[..place].iter().any(|before| before.kind == terms[place].kind);
        match (0..terms.len()).find(|place| twice(*place)) {
            Some(place) => Err(format!("'{}' is there twice", terms[place].kind.name).into()),
            None => Ok(()),
        }
    }
}

impl Serialize for ObjectiveChoice {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Name(kind) => serializer.serialize_str(kind.name),
            Self::List(terms) => terms.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for ObjectiveChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let choice = match NameOrTables::deserialize(deserializer)? {
            NameOrTables::Name(name) => {
                ObjectiveEntry::find(&name).map(Self::Name).ok_or_else(|| unknown_objective(&name))
            }
            NameOrTables::Tables(tables) => {
                tables.into_iter().map(ObjectiveTerm::read).collect::<Result<_, _>>().map(Self::List)
            }
        };
        choice.map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(objective: &str) -> Result<ObjectiveChoice, String> {
        let table: Table = format!("objective = {objective}").parse().expect("TOML");
        table["objective"].clone().try_into().map_err(|error: toml::de::Error| error.message().trim().to_owned())
    }

    #[test]
    fn objectives_are_written_as_they_were_read() {
        for objective in [
            "'nce'",
            "[{ kind = 'infonce', weight = 0.5, event_weights = { buy = 3.0 } }, { kind = 'views', views = ['mask'] }]",
            "[{ kind = 'infomax', prior_kind = 'gaussian_mixture', components = 3 }, { kind = 'i2i', acceptance = 'raw' }]",
        ] {
            let choice = read(objective).unwrap();
            let json = serde_json::to_value(&choice).unwrap();
            assert_eq!(serde_json::from_value::<ObjectiveChoice>(json).unwrap(), choice, "{objective}");
        }
    }

    #[test]
    fn errors_name_option_and_objective() {
        for (objective, message) in [
            ("'infonec'", "unknown objective 'infonec', did you mean 'infonce'?"),
            ("[]", "names no objective"),
            ("[{ kind = 'nce' }, { kind = 'nce' }]", "'nce' is there twice"),
            ("[{ kind = 'nce', steps = 2 }]", "'steps' is not an option of 'nce'"),
            ("[{ kind = 'cpc', steps = 0 }]", "'steps' of 'cpc' must lie in 1..=32"),
            ("[{ kind = 'cpc', weight = 0.0 }]", "'weight' of 'cpc' must lie in"),
            ("[{ kind = 'infonce', event_weights = { buy = -1.0 } }]", "must be between 0 and 1e6, which 'buy' is not"),
            ("[{ kind = 'views', views = [] }]", "'views' of 'views' must name"),
            ("[{ kind = 'infomax', global = 0.0, local = 0.0, prior = 0.0 }]", "'infomax'"),
        ] {
            let refused = read(objective).and_then(|choice| choice.validate().map_err(|refusal| refusal.message));
            let said = refused.expect_err(objective);
            assert!(said.contains(message), "{objective}: {said}");
        }
    }

    #[test]
    fn options_are_documented() {
        let mut rows = component::option_rows::<SumOptions>("every objective");
        rows.extend(OBJECTIVES.iter().flat_map(ObjectiveEntry::option_rows));
        component::assert_options_documented("docs/objectives.md", &rows);
    }

    #[test]
    fn requirements_are_the_union_over_objectives() {
        let of = |objective: &str| read(objective).unwrap().requirements();
        assert_eq!(of("'infonce'"), ModelRequirements::default());
        let expected = ModelRequirements { item_biases: true, transforms: 2 };
        assert_eq!(of("[{ kind = 'nce' }, { kind = 'cpc', steps = 2 }]"), expected);
    }
}
