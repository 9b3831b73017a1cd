//! The decoders of the topics.

use crate::decode::EventDecoder;

/// A decoder for the records of each topic, in the order of the configuration; or one for those of all.
#[derive(Debug)]
pub struct TopicDecoders(Vec<EventDecoder>);

impl TopicDecoders {
    /// The decoder for the records of the topic at the place `topic`.
    pub(super) fn of_topic(&mut self, topic: usize) -> &mut EventDecoder {
        let last = self.0.len() - 1;
        &mut self.0[topic.min(last)]
    }
}

impl From<EventDecoder> for TopicDecoders {
    fn from(decoder: EventDecoder) -> Self {
        Self(vec![decoder])
    }
}

impl From<Vec<EventDecoder>> for TopicDecoders {
    /// # Panics
    /// If there is none.
    fn from(decoders: Vec<EventDecoder>) -> Self {
        assert!(!decoders.is_empty(), "a topic has a decoder");
        Self(decoders)
    }
}
