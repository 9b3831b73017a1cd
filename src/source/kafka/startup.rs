//! Where each partition is begun: a pure decision over the positions of the state and what the brokers hold.

use std::ops::Range;

use super::errors::KafkaSourceError;
use super::topic_partition::{TopicPartition, stream_prefix};
use crate::kafka::{KafkaConfig, OnDataLoss, StartingOffsets};
use crate::position::Positions;

/// The offsets that a partition holds: `low..high`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Watermarks {
    /// Number of the partition.
    pub(super) id: i32,
    /// Oldest offset.
    pub(super) low: u64,
    /// One past the newest offset.
    pub(super) high: u64,
}

impl Watermarks {
    /// Watermarks as the client gives them, which are never negative.
    pub(super) fn new(id: i32, low: i64, high: i64) -> Self {
        Self { id, low: u64::try_from(low).unwrap_or_default(), high: u64::try_from(high).unwrap_or_default() }
    }

    /// Whether reading can go on at `position`.
    fn contains(self, position: u64) -> bool {
        (self.low..=self.high).contains(&position)
    }
}

/// Whether a state holds anything of a topic.
pub(super) fn knows_topic(topic: &str, positions: &Positions) -> bool {
    let prefix = stream_prefix(topic);
    positions.iter().any(|(name, _)| name.starts_with(&prefix))
}

/// The offset at which a partition is begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StartOffset {
    /// First offset to read.
    pub(super) offset: u64,
    /// Offsets before it that were to be read, and are gone.
    pub(super) lost: Option<Range<u64>>,
}

/// The start offsets of the partitions of `topic`, by their `watermarks`: all of them are one worker's.
///
/// # Errors
/// A position that is not there.
pub(super) fn start_offsets(
    config: &KafkaConfig,
    topic: &str,
    positions: &Positions,
    watermarks: &[Watermarks],
) -> Result<Vec<StartOffset>, KafkaSourceError> {
    let topic_was_read = check_partitions_exist(topic, positions, watermarks)?;
    let start = |watermarks: &Watermarks| {
        let partition = TopicPartition::new(topic, watermarks.id);
        match positions.next(&partition.stream_name()) {
            Some(position) => resume_offset(&partition.to_string(), position, *watermarks, config.on_data_loss),
            None => {
                let offset = first_offset(config.starting_offsets, topic_was_read, *watermarks);
                Ok(StartOffset { offset, lost: None })
            }
        }
    };
    watermarks.iter().map(start).collect()
}

/// Whether anything of the topic was ever read.
///
/// # Errors
/// A partition in `positions` does not exist: the topic was created anew, with fewer of them.
pub(super) fn check_partitions_exist(
    topic: &str,
    positions: &Positions,
    watermarks: &[Watermarks],
) -> Result<bool, KafkaSourceError> {
    let prefix = stream_prefix(topic);
    let mut topic_was_read = false;
    for (name, position) in positions.iter() {
        let Some(partition) = name.strip_prefix(&prefix) else { continue };
        topic_was_read = true;
        if !watermarks.iter().any(|watermarks| watermarks.id.to_string() == partition) {
            let nothing = Watermarks { id: 0, low: 0, high: 0 };
            return Err(position_lost(&format!("{topic}/{partition}"), position, nothing));
        }
    }
    Ok(topic_was_read)
}

/// The start of a partition of which nothing was ever read. `kafka.starting_offsets` counts only where nothing of its topic was
/// (`topic_was_read`): otherwise the partition was added since, and is read whole.
pub(super) fn first_offset(start: StartingOffsets, topic_was_read: bool, watermarks: Watermarks) -> u64 {
    match start {
        StartingOffsets::Latest if !topic_was_read => watermarks.high,
        StartingOffsets::Earliest | StartingOffsets::Latest => watermarks.low,
    }
}

/// The start of a partition that was read up to `position`.
///
/// # Errors
/// The position is not there, and `on_data_loss` does not allow to skip what is gone.
pub(super) fn resume_offset(
    label: &str,
    position: u64,
    watermarks: Watermarks,
    on_data_loss: OnDataLoss,
) -> Result<StartOffset, KafkaSourceError> {
    match on_data_loss {
        _ if watermarks.contains(position) => Ok(StartOffset { offset: position, lost: None }),
        OnDataLoss::Skip if position < watermarks.low => {
            Ok(StartOffset { offset: watermarks.low, lost: Some(position..watermarks.low) })
        }
        OnDataLoss::Skip | OnDataLoss::Fail => Err(position_lost(label, position, watermarks)),
    }
}

fn position_lost(stream: &str, position: u64, watermarks: Watermarks) -> KafkaSourceError {
    let advice = if position < watermarks.low {
        "records were deleted before they were read (retention): bring them back, pass over them with \
         kafka.on_data_loss = \"skip\" (they are then counted as lost), or begin anew with an empty checkpoint.dir; a longer \
         retention.ms keeps it from happening again"
    } else {
        "the topic was created anew or lost its newest records: bring them back, begin anew with --fresh, or keep the model \
         and set the positions anew: `negstream migrate`"
    };
    let Watermarks { low, high, .. } = watermarks;
    KafkaSourceError::PositionLost { stream: stream.to_owned(), position, low, high, advice }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn starts(
        topic: &str,
        start: StartingOffsets,
        positions: &Positions,
        watermarks: &[Watermarks],
    ) -> Result<Vec<u64>, KafkaSourceError> {
        let config = KafkaConfig { starting_offsets: start, ..KafkaConfig::default() };
        let starts = start_offsets(&config, topic, positions, watermarks)?;
        assert!(starts.iter().all(|start| start.lost.is_none()));
        Ok(starts.into_iter().map(|start| start.offset).collect())
    }

    fn watermarks(all: &[(i32, u64, u64)]) -> Vec<Watermarks> {
        all.iter().map(|(id, low, high)| Watermarks { id: *id, low: *low, high: *high }).collect()
    }

    fn positions(all: &[(&str, u64)]) -> Positions {
        all.iter().copied().collect()
    }

    #[test]
    fn first_start_is_as_configured() {
        let watermarks = watermarks(&[(0, 5, 9), (1, 0, 0)]);
        let others = positions(&[("kafka/other/0", 3), ("kafka/t2/0", 3), ("parquet/abc", 1)]);
        assert_eq!(starts("t", StartingOffsets::Earliest, &others, &watermarks).unwrap(), [5, 0]);
        assert_eq!(starts("t", StartingOffsets::Latest, &others, &watermarks).unwrap(), [9, 0]);
    }

    #[test]
    fn added_partition_of_a_known_topic_starts_at_its_oldest_record() {
        let watermarks = watermarks(&[(0, 5, 9), (1, 2, 4)]);
        for start in [StartingOffsets::Earliest, StartingOffsets::Latest] {
            assert_eq!(starts("t", start, &positions(&[("kafka/t/0", 7)]), &watermarks).unwrap(), [7, 2]);
        }
    }

    #[test]
    fn positions_at_both_ends_of_a_partition_are_there() {
        let watermarks = watermarks(&[(0, 5, 9)]);
        for position in [5, 9] {
            let start = starts("t", StartingOffsets::Latest, &positions(&[("kafka/t/0", position)]), &watermarks);
            assert_eq!(start.unwrap(), [position]);
        }
    }

    #[test]
    fn lost_positions_are_errors_with_advice() {
        let watermarks = watermarks(&[(0, 5, 9)]);
        for (name, position, expected) in [
            ("kafka/t/0", 4, "position 4 of t/0 is not there: it holds 5..9; records were deleted"),
            ("kafka/t/0", 10, "position 10 of t/0 is not there: it holds 5..9; the topic was created anew"),
            ("kafka/t/1", 1, "position 1 of t/1 is not there: it holds 0..0; the topic was created anew"),
        ] {
            let error = starts("t", StartingOffsets::Earliest, &positions(&[(name, position)]), &watermarks);
            let error = error.unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn expired_records_are_skipped_where_allowed() {
        let watermarks = Watermarks { id: 0, low: 5, high: 9 };
        let resume = |position| resume_offset("t/0", position, watermarks, OnDataLoss::Skip);
        assert_eq!(resume(2).unwrap(), StartOffset { offset: 5, lost: Some(2..5) });
        assert_eq!(resume(7).unwrap(), StartOffset { offset: 7, lost: None });
        // Records beyond the end have not expired: the topic is another one.
        assert!(resume(10).is_err());
    }
}
