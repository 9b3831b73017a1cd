//! The end of reading: at the declared end, or when the source is dropped.

use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, bounded};
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{CommitMode, Consumer};

use super::Until;
use super::client::TopicClient;
use super::group::membership::Membership;
use super::partitions::Partitions;
use super::reader::Reader;
use crate::kafka::describe;

/// Longest wait for the last commit and for leaving the group.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(3);

/// Whether the declared end is reached. In a group that is where this worker's share is read, or, where it has none, all
/// partitions are read by others.
pub(super) fn is_over(
    reader: &Reader,
    membership: Option<&mut Membership>,
    client: &mut TopicClient,
    partitions: &Partitions,
) -> bool {
    match reader.until() {
        Until::Stopped => return false,
        Until::Records(left) => return left == 0,
        Until::End => {}
    }
    let share_is_done = partitions.are_done();
    let Some(membership) = membership else { return share_is_done.unwrap_or(true) };
    if partitions.in_doubt().is_some() || client.callbacks().has_rebalances() || membership.is_rebalancing() {
        return false;
    }
    match share_is_done {
        Some(done) => done,
        None => membership.others_are_done(client, partitions),
    }
}

/// Sends the last commit and leaves the group, within a deadline: brokers that are away must not keep the process from
/// ending. `threads` hold the consumer, and are waited for: the committer's before the commit, the poller's after it.
pub(super) fn close(
    client: TopicClient,
    last_commit: Option<TopicPartitionList>,
    (committing, polling): (Option<JoinHandle<()>>, Option<JoinHandle<()>>),
) {
    let TopicClient { consumer, brokers, .. } = client;
    consumer.context().close();
    let (done, closed) = bounded::<()>(1);
    let closing = std::thread::Builder::new().name("kafka-close".to_owned()).spawn(move || {
        // The commit in flight comes first.
        if let Some(committing) = committing {
            let _ = committing.join();
        }
        if let Some(offsets) = last_commit
            && let Err(error) = consumer.commit(&offsets, CommitMode::Sync)
        {
            tracing::warn!(cause = describe(&error), "the last offsets were not committed to the group");
        }
        if let Some(polling) = polling {
            let _ = polling.join();
        }
        drop(consumer);
        drop(done);
    });
    if closing.is_ok() && closed.recv_timeout(SHUTDOWN_TIMEOUT) == Err(RecvTimeoutError::Timeout) {
        tracing::warn!(brokers, "the brokers do not answer; left without a last commit");
    }
}
