//! A partition by its name in Kafka: the topic, and the number there.

use std::fmt;

use rdkafka::TopicPartitionList;
use rdkafka::topic_partition_list::TopicPartitionListElem;

/// The name of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TopicPartition {
    pub(super) topic: String,
    pub(super) id: i32,
}

impl TopicPartition {
    /// Partition `id` of `topic`.
    pub(super) fn new(topic: &str, id: i32) -> Self {
        Self { topic: topic.to_owned(), id }
    }

    /// The partition of an element of a list.
    pub(super) fn of(element: &TopicPartitionListElem<'_>) -> Self {
        Self::new(element.topic(), element.partition())
    }

    /// The partition whose stream is called `stream`, where that is one of a topic.
    pub(super) fn of_stream(stream: &str) -> Option<Self> {
        let (topic, id) = stream.strip_prefix("kafka/")?.split_once('/')?;
        Some(Self::new(topic, id.parse().ok()?))
    }

    /// The name of the partition's stream.
    pub(super) fn stream_name(&self) -> String {
        format!("{}{}", stream_prefix(&self.topic), self.id)
    }

    /// The partition's element of a list, where it is there.
    pub(super) fn find_in<'a>(&self, list: &'a TopicPartitionList) -> Option<TopicPartitionListElem<'a>> {
        list.find_partition(&self.topic, self.id)
    }
}

/// What a person calls the partition.
impl fmt::Display for TopicPartition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.topic, self.id)
    }
}

/// The beginning of the names of a topic's streams; no topic's name holds a slash.
pub(crate) fn stream_prefix(topic: &str) -> String {
    format!("kafka/{topic}/")
}

/// A list of partitions, for a call of the client.
pub(super) fn list_of<'a>(partitions: impl IntoIterator<Item = &'a TopicPartition>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for TopicPartition { topic, id } in partitions {
        list.add_partition(topic, *id);
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_topic_and_number() {
        let partition = TopicPartition::new("page.views", 3);
        assert_eq!(
            (partition.to_string(), partition.stream_name()),
            ("page.views/3".into(), "kafka/page.views/3".into())
        );
        assert_eq!(TopicPartition::of_stream("kafka/page.views/3"), Some(partition.clone()));
        assert!(["parquet/1", "kafka/a", "kafka/a/b"].iter().all(|stream| TopicPartition::of_stream(stream).is_none()));
        let list = list_of([&partition, &TopicPartition::new("buys", 3)]);
        assert_eq!(list.elements().iter().map(TopicPartition::of).collect::<Vec<_>>()[0], partition);
        assert!(partition.find_in(&list).is_some() && TopicPartition::new("buys", 0).find_in(&list).is_none());
    }
}
