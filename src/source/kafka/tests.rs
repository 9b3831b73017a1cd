//! Where a partition is begun, without a broker.

use super::*;
use crate::kafka::OnDataLoss;
use crate::kafka::StartingOffsets;
use startup::Entry;

fn starts(
    topic: &str,
    start: StartingOffsets,
    positions: &Positions,
    marks: &[Marks],
) -> Result<Vec<u64>, SourceError> {
    let mut config = crate::config::Config::default().kafka;
    (config.topic, config.starting_offsets) = (topic.to_owned(), start);
    let entries = startup::starts(&config, positions, marks)?;
    assert!(entries.iter().all(|entry| entry.lost.is_none()));
    Ok(entries.into_iter().map(|entry| entry.offset).collect())
}

fn marks(all: &[(i32, u64, u64)]) -> Vec<Marks> {
    all.iter().map(|(id, low, high)| Marks { id: *id, low: *low, high: *high }).collect()
}

fn positions(all: &[(&str, u64)]) -> Positions {
    let mut positions = Positions::default();
    for (name, next) in all {
        positions.advance(name, *next);
    }
    positions
}

#[test]
fn the_very_first_start_is_as_configured() {
    let marks = marks(&[(0, 5, 9), (1, 0, 0)]);
    let others = positions(&[("kafka/other/0", 3), ("kafka/t2/0", 3), ("parquet/abc", 1)]);
    assert_eq!(starts("t", StartingOffsets::Earliest, &others, &marks).unwrap(), [5, 0]);
    assert_eq!(starts("t", StartingOffsets::Latest, &others, &marks).unwrap(), [9, 0]);
}

#[test]
fn a_new_partition_of_a_known_topic_begins_at_its_oldest_record() {
    let marks = marks(&[(0, 5, 9), (1, 2, 4)]);
    for start in [StartingOffsets::Earliest, StartingOffsets::Latest] {
        assert_eq!(starts("t", start, &positions(&[("kafka/t/0", 7)]), &marks).unwrap(), [7, 2]);
    }
}

#[test]
fn both_ends_of_a_partition_are_there() {
    let marks = marks(&[(0, 5, 9)]);
    for position in [5, 9] {
        assert_eq!(
            starts("t", StartingOffsets::Latest, &positions(&[("kafka/t/0", position)]), &marks).unwrap(),
            [position]
        );
    }
}

#[test]
fn positions_that_are_not_there_are_errors_with_advice() {
    let marks = marks(&[(0, 5, 9)]);
    for (name, position, expected) in [
        ("kafka/t/0", 4, "position 4 of t/0 is not there: it holds 5..9; records were deleted"),
        ("kafka/t/0", 10, "position 10 of t/0 is not there: it holds 5..9; the topic was created anew"),
        ("kafka/t/1", 1, "position 1 of t/1 is not there: it holds 0..0; the topic was created anew"),
    ] {
        let error =
            starts("t", StartingOffsets::Earliest, &positions(&[(name, position)]), &marks).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
}

#[test]
fn expired_records_are_passed_over_where_that_is_allowed() {
    let marks = Marks { id: 0, low: 5, high: 9 };
    assert_eq!(startup::entry("t/0", 2, marks, OnDataLoss::Skip).unwrap(), Entry { offset: 5, lost: Some(2..5) });
    assert_eq!(startup::entry("t/0", 7, marks, OnDataLoss::Skip).unwrap(), Entry { offset: 7, lost: None });
    // What lies beyond the end was not expired: the topic is another one.
    assert!(startup::entry("t/0", 10, marks, OnDataLoss::Skip).is_err());
}

#[test]
fn what_waiting_cannot_mend_is_final() {
    use RDKafkaErrorCode as Code;
    for (code, expected) in [
        (Code::AutoOffsetReset, Verdict::OutOfRange),
        (Code::UnknownTopicOrPartition, Verdict::Final),
        (Code::BadMessage, Verdict::Final),
        (Code::BrokerTransportFailure, Verdict::Transient),
        (Code::AllBrokersDown, Verdict::Transient),
        (Code::LeaderNotAvailable, Verdict::Transient),
        (Code::GroupAuthorizationFailed, Verdict::Transient),
    ] {
        assert_eq!(verdict(code), expected, "{code:?}");
    }
}
