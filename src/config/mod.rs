//! The configuration: the sum of the components' sections, layered as flags over environment over file over default.
//!
//! Each component declares its own section in a `config.rs` beside the code that reads it (see
//! [`config_section`](crate::util::config_section)): names, documentation, defaults, bounds, which keys a checkpoint's
//! state depends on, and which are secret. From these declarations come `config/default.toml` ([`template`]) and
//! `schemas/config.schema.json` ([`schema`]). This room adds what concerns several sections at once
//! ([`Config::validate`]) and the layers ([`layers`]). A key that is not declared does not exist.

pub mod layers;
pub mod schema;
pub mod template;

use serde_json::{Map, Value as Json, json};
use toml::Table;

pub use crate::checkpoint::CheckpointConfig;
use crate::checkpoint::manifest;
use crate::context::PositiveRules;
pub use crate::context::{ContextConfig, CooccurrenceConfig, EncoderKind, RepetitionConfig};
pub use crate::dead_letters::DeadLettersConfig;
pub use crate::decode::{CsvConfig, CsvHeader, CsvQuote, FieldNames, Format, RegistryConfig, SourceConfig};
pub use crate::evaluate::EvaluateConfig;
use crate::kafka::EMBEDDED;
pub use crate::kafka::{Assignment, KafkaConfig, OnDataLoss, StartingOffsets, TopicConfig};
pub use crate::model::{FeaturesConfig, ModelConfig, OptimizerKind, Preset, Similarity};
pub use crate::negatives::samplers::registry::{Noise, NoiseTerm};
pub use crate::negatives::{BankVectors, HalfLife, NegativesConfig};
pub use crate::objective::registry::{ObjectiveChoice, ObjectiveTerm};
pub use crate::publish::{SinkConfig, SinkOptions, WhenFull};
pub use crate::serve::ServeConfig;
pub use crate::share::{MovePrecision, ShareConfig};
pub use crate::telemetry::{HttpConfig, LogConfig, LogFormat};
pub use crate::trainer::{MemoryConfig, PositivesConfig, RowLimits, TrainConfig};
use crate::util::config_section::{ConfigValue, KeyEntry, Refusal, Shape, config_section, require};

config_section! {
    /// The whole configuration.
    pub struct Config {
        /// Seed of everything random: starting values and noise draws. Same seed, configuration and events, same bytes.
        seed: u64 = 1 => [state];
        /// Threads for the arithmetic; 0 takes every core. The result does not depend on it.
        threads: usize = 0 => [at_most(1024)];
        /// What the model is trained to do: a name (infonce, nce, cpc, infomax, views, i2i), or a list of tables
        /// `{ kind = "infonce", weight = 1.0, … }`; see docs/objectives.md.
        objective: ObjectiveChoice = ObjectiveChoice::default() => [state];
        /// Where embeddings are published while they are learnt: a table `[[publish]]` for each sink, with
        /// `{ sink = "redis", target = "redis://localhost:6379/0", … }`; see docs/publishing.md.
        publish: Vec<SinkConfig> = Vec::new() => [redacted(ConfigValue::redact)];
        /// How the records of a topic and the rows of a log are read.
        source: SourceConfig = SourceConfig::default();
        /// Which events count as positive.
        positives: PositivesConfig = PositivesConfig::default();
        /// What of a user's past makes the query.
        context: ContextConfig = ContextConfig::default();
        /// The memory of each user's items behind the repetition term ρ, which is idle where `evaluate.repeat` is off.
        repetition: RepetitionConfig = RepetitionConfig::default();
        /// The counts of items that follow one another in users' histories, behind the co-occurrence term κ.
        cooccurrence: CooccurrenceConfig = CooccurrenceConfig::default();
        /// Shape and score of the model.
        model: ModelConfig = ModelConfig::default();
        /// The steps of training.
        train: TrainConfig = TrainConfig::default();
        /// What is known of items besides who chose them, so that new ones are placed by what they are; see
        /// docs/features.md.
        features: FeaturesConfig = FeaturesConfig::default();
        /// How many items and users are kept, whatever the stream brings; see docs/memory.md.
        memory: MemoryConfig = MemoryConfig::default();
        /// Where negatives come from, besides the other positives of the batch.
        negatives: NegativesConfig = NegativesConfig::default();
        /// Test-then-train evaluation on the stream itself.
        evaluate: EvaluateConfig = EvaluateConfig::default();
        /// Where checkpoints are, how often one is written, and how many are kept.
        checkpoint: CheckpointConfig = CheckpointConfig::default();
        /// Brokers, topics, and the consumer group.
        kafka: KafkaConfig = KafkaConfig::default();
        /// One model of all workers of a `kafka.group`, by a topic in which they send each other what they learn; see
        /// docs/scale-out.md.
        share: ShareConfig = ShareConfig::default();
        /// What becomes of rejected records.
        dead_letters: DeadLettersConfig = DeadLettersConfig::default();
        /// The address for metrics, health and the page.
        http: HttpConfig = HttpConfig::default();
        /// The API at the address `http.listen`, below `/v1`: recommendations, scores, neighbours and vectors; see docs/serving.md.
        serve: ServeConfig = ServeConfig::default();
        /// Logs, on standard error.
        log: LogConfig = LogConfig::default();
    }
}

impl Config {
    /// The registry of all keys, in the order in which they are declared.
    pub fn keys() -> Vec<KeyEntry> {
        match Self::shape() {
            Shape::Section(keys) => keys,
            Shape::Value(_) | Shape::OpenTable => unreachable!("the configuration is a section"),
        }
    }

    /// Checks every value by the rules of its key, then the rules that concern several sections.
    ///
    /// # Errors
    /// The first value that is refused, by its full key.
    pub fn validate(&self) -> Result<(), Refusal> {
        ConfigValue::validate(self)?;
        let Self { context, repetition, cooccurrence, train, memory, negatives, objective, positives, .. } = self;
        let refuse = |key: &str, message: &str| Err(Refusal::of(key, message));
        if negatives.mask_recent > context.length {
            return refuse("negatives.mask_recent", "must be at most context.length");
        }
        let of_event = repetition.items.max(context.length).max(cooccurrence.neighbors * cooccurrence.window);
        if train.batch * of_event > 1 << 30 {
            let message =
                "must be smaller: with repetition.items, context.length or cooccurrence it makes too large a batch";
            return refuse("train.batch", message);
        }
        for (key, limits) in [("memory.items.cap", &memory.items), ("memory.users.cap", &memory.users)] {
            // Half of the rows may be new in each batch, and the rest must stay.
            let least = 2 * train.batch;
            let message = format!("must be 0, or at least {least}: twice train.batch");
            require(limits.cap == 0 || limits.cap >= least, &message).map_err(|refusal| refusal.below(key))?;
        }
        negatives.validate_exposure_kinds(&positives.kinds).map_err(|refusal| refusal.below("negatives"))?;
        objective.validate_memory(repetition.items).map_err(|message| Refusal::of("objective", message))?;
        self.validate_sharing()?;
        self.kafka.topic_sources(&self.source).map_err(|refusal| refusal.below("kafka.topics"))?;
        Ok(())
    }

    fn validate_sharing(&self) -> Result<(), Refusal> {
        let Self { share, kafka, objective, .. } = self;
        if !share.is_on() {
            return Ok(());
        }
        let refuse = |key: &str, message: &str| Err(Refusal::of(key, message));
        if kafka.topic_names().contains(&share.topic.as_str()) || kafka.dead_letter_topic == share.topic {
            return refuse("share.topic", "must be a topic of its own");
        }
        if kafka.assignment != Assignment::Group {
            return refuse("share.topic", "is for the workers of a group: kafka.assignment must be \"group\"");
        }
        if kafka.brokers == EMBEDDED {
            return refuse("share.topic", "outlasts the process: kafka.brokers must not be \"embedded\"");
        }
        if objective.terms().iter().any(|term| term.kind.name == "nce") {
            let message = "must not have 'nce' where a model is shared: each worker would set the normaliser by its own first \
                           batch";
            return refuse("objective", message);
        }
        Ok(())
    }

    /// Checks what only those who know which keys were `given` can tell: of some, one takes the place of the other.
    ///
    /// # Errors
    /// The key that is given beside the one whose place it takes.
    pub(crate) fn validate_given(&self, given: &Table) -> Result<(), Refusal> {
        let is_topic_given = given.get("kafka").and_then(|kafka| kafka.get("topic")).is_some();
        let message = "is given, and kafka.topic too: one topic is named by that, several are listed here";
        require(!is_topic_given || self.kafka.topics.is_empty(), message)
            .map_err(|refusal| refusal.below("kafka.topics"))
    }

    /// Which of a user's earlier items are never negatives, by `evaluate.repeat` and `negatives.mask_recent`.
    pub fn positive_rules(&self) -> PositiveRules {
        PositiveRules { repeat: self.evaluate.repeat, mask_recent: self.negatives.mask_recent }
    }

    /// The part of the configuration that a checkpoint's state depends on: two runs that agree on it can go on from each
    /// other's checkpoints.
    pub fn state_relevant(&self) -> Map<String, Json> {
        let Ok(Json::Object(mut whole)) = serde_json::to_value(self) else {
            unreachable!("a configuration is a JSON object")
        };
        retain_state_relevant(&mut whole, &Self::keys());
        whole
    }

    /// A digest of the settings by which records are read, without what is secret of them: where it changes, records that
    /// were read before may be rejected, and the other way round.
    pub fn reading_digest(&self) -> String {
        let mut source = self.source.clone();
        source.redact();
        let Ok(Json::Object(mut settings)) = serde_json::to_value(&source) else {
            unreachable!("a section is a JSON object")
        };
        // Checkpoints from before there were these keys know the digest without them.
        if self.source.event_type.is_empty() {
            settings.remove("event_type");
        }
        if self.source.csv == CsvConfig::default() {
            settings.remove("csv");
        }
        if !self.kafka.topics.is_empty() {
            settings.insert("topics".to_owned(), json!(self.kafka.topics));
        }
        manifest::digest(&settings)
    }
}

fn retain_state_relevant(table: &mut Map<String, Json>, keys: &[KeyEntry]) {
    table.retain(|name, value| match keys.iter().find(|key| key.name == name) {
        Some(KeyEntry { shape: Shape::Section(inner), .. }) => value.as_object_mut().is_some_and(|table| {
            retain_state_relevant(table, inner);
            !table.is_empty()
        }),
        key => key.is_some_and(|key| key.state_relevant),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn documented(keys: &[KeyEntry], section: &str) {
        for key in keys {
            let full = format!("{section}{}", key.name);
            assert!(!key.description.join("").is_empty(), "{full} has no documentation");
            if let Shape::Section(inner) = &key.shape {
                documented(inner, &format!("{full}."));
            }
        }
    }

    #[test]
    fn default_configuration_is_valid_and_every_key_is_documented() {
        Config::default().validate().unwrap();
        documented(&Config::keys(), "");
    }

    #[test]
    fn state_relevant_part_holds_what_training_depends_on() {
        let relevant = Config::default().state_relevant();
        let sections: Vec<&str> = relevant.keys().map(String::as_str).collect();
        let expected = [
            "seed",
            "objective",
            "positives",
            "context",
            "repetition",
            "cooccurrence",
            "model",
            "train",
            "features",
            "memory",
            "negatives",
            "evaluate",
        ];
        assert_eq!(sections, expected);
        assert_eq!(relevant["evaluate"], serde_json::json!({ "repeat": false, "popularity_half_life": 5000.0 }));
        assert_eq!(relevant["features"], serde_json::json!({ "buckets": 0, "columns": [] }));
        // Of these sections, all keys, but for the clock of live streams and the preset: what they did is in the checkpoints and
        // in the other keys. The precision of products is how, and not what, is computed: a model may go on in another.
        let mut all = serde_json::to_value(Config::default()).unwrap();
        assert!(all["train"].as_object_mut().unwrap().remove("linger_ms").is_some());
        assert!(all["model"].as_object_mut().unwrap().remove("preset").is_some());
        assert!(all["model"].as_object_mut().unwrap().remove("precision").is_some());
        for section in ["positives", "context", "repetition", "cooccurrence", "model", "train", "memory", "negatives"] {
            assert_eq!(relevant[section], all[section], "{section}");
        }
    }

    #[test]
    fn debug_output_hides_secrets() {
        let mut config = Config::default();
        config.source.registry.password = "hunter2".to_owned();
        config.kafka.properties.insert("sasl.password".to_owned(), "hunter2".to_owned());
        config.checkpoint.storage_options.insert("aws_secret_access_key".to_owned(), "hunter2".to_owned());
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}
