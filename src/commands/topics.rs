//! The topics of a configuration, for commands that go through them one by one.

use std::time::Duration;

use crate::config::Config;
use crate::event::Interaction;
use crate::exit::UsageError;
use crate::kafka::pacing::EmbeddedPace;
use crate::kafka::producer::{EventProducer, SendError};
use crate::kafka::{ClientError, KafkaConfig, admin};
use crate::registry;
use crate::util::escape::escape_for_terminal;

/// How long the last records may take to be acknowledged.
const PATIENCE: Duration = Duration::from_secs(60);

/// The configuration for one of several topics alone.
///
/// # Errors
/// There is no such topic in it.
pub(super) fn configured_topic(kafka: &KafkaConfig, topic: &str) -> Result<KafkaConfig, UsageError> {
    let names = kafka.topic_names();
    if names.contains(&topic) {
        return Ok(kafka.for_topic(topic));
    }
    let (topic, names) = (escape_for_terminal(topic), names.join(", "));
    Err(UsageError(format!("--topic {topic}: no such topic is configured; there are {names} (kafka.topics)")))
}

/// A topic that events are sent to.
pub(super) struct Outlet {
    /// The topic.
    pub(super) topic: String,
    /// The type of its events, where all are of one; empty: of any.
    event_type: String,
    producer: EventProducer,
    pace: Option<EmbeddedPace>,
    /// Events that were sent.
    pub(super) sent: u64,
}

impl Outlet {
    /// The outlets to the topics of `kafka`, in its order; those that do not exist are created.
    ///
    /// # Errors
    /// A schema that no event can be written by, or brokers that do not answer.
    pub(super) fn open_all(config: &Config, kafka: &KafkaConfig) -> anyhow::Result<Vec<Self>> {
        let sources = kafka.topic_sources(&config.source).map_err(|refusal| UsageError(refusal.message))?;
        let encoders = registry::encoders(kafka, &config.source)?;
        let mut outlets = Vec::new();
        for ((topic, source), encoder) in kafka.topic_names().into_iter().zip(sources).zip(encoders) {
            let alone = kafka.for_topic(topic);
            admin::ensure_topic(&alone, &kafka.brokers, topic)?;
            outlets.push(Self {
                topic: topic.to_owned(),
                event_type: source.event_type,
                producer: EventProducer::open(&alone, &kafka.brokers, encoder)?,
                pace: EmbeddedPace::of(&alone)?,
                sent: 0,
            });
        }
        Ok(outlets)
    }

    /// The outlet for an event: the only one; of several, the one of its type or, where there is none, the first for events
    /// of any type.
    pub(super) fn choose<'a>(outlets: &'a mut [Self], event: &Interaction) -> Option<&'a mut Self> {
        let types: Vec<&str> = outlets.iter().map(|outlet| outlet.event_type.as_str()).collect();
        choose(&types, &event.kind).map(|place| &mut outlets[place])
    }

    /// Sends an event, no faster than an embedded broker's reader takes it.
    ///
    /// # Errors
    /// If the schema has no room for it, or this or an earlier event cannot be delivered.
    pub(super) fn send(&mut self, event: &Interaction, stopped: impl Fn() -> bool) -> Result<(), SendError> {
        self.producer.send(event)?;
        self.sent += 1;
        if let Some(pace) = self.pace.as_mut().filter(|pace| pace.is_look_due(self.sent, self.producer.bytes())) {
            self.producer.flush(PATIENCE)?;
            pace.wait(self.sent, self.producer.bytes(), stopped)?;
        }
        Ok(())
    }

    /// Waits until everything is delivered.
    ///
    /// # Errors
    /// If something was not delivered, or not in time.
    pub(super) fn flush(&mut self) -> Result<(), ClientError> {
        self.producer.flush(PATIENCE)
    }
}

/// The place of the topic for an event of the type `kind`, where those of the topics are `types`; an empty one takes any.
fn choose(types: &[&str], kind: &str) -> Option<usize> {
    let of = |wanted: &str| types.iter().position(|of_topic| *of_topic == wanted);
    match types {
        [_] => Some(0),
        _ => of(kind).or_else(|| of("")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_goes_to_the_topic_of_its_type_or_to_the_first_for_any() {
        assert_eq!(choose(&["view", "", "buy", ""], "buy"), Some(2));
        assert_eq!(choose(&["view", "", "buy", ""], "cart"), Some(1));
        assert_eq!(choose(&["view", "buy"], "cart"), None);
        assert_eq!(choose(&["view", ""], ""), Some(1));
        assert_eq!(choose(&["view"], "cart"), Some(0), "whoever names one topic means it");
    }

    #[test]
    fn configured_topic_keeps_what_is_said_of_it() {
        let topics = "kafka.topics=[{name=\"views\", event_type=\"view\"}, {name=\"buys\", format=\"avro\"}]";
        let kafka = Config::with_settings(&[topics]).unwrap().kafka;
        let buys = configured_topic(&kafka, "buys").unwrap();
        assert_eq!((buys.topic_names(), buys.topics.as_slice()), (vec!["buys"], &kafka.topics[1..]));
        let error = configured_topic(&kafka, "clicks").unwrap_err().to_string();
        assert!(error.contains("clicks") && error.contains("views, buys"), "{error}");
        let one = Config::default().kafka;
        assert_eq!(configured_topic(&one, &one.topic).unwrap(), one);
    }
}
