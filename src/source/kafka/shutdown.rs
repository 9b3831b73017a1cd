//! How reading ends: at the declared end, or when the source is dropped.

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{CommitMode, Consumer};

use super::{CLOSING, Client, KafkaSource, Until, bounded, words};
use crate::source::kafka::group::membership::Tried;

impl KafkaSource {
    /// What is committed when the worker ends: what is durable, and, where the group will not keep its place, that it
    /// lets go.
    pub(super) fn last_commit(&self) -> Option<TopicPartitionList> {
        let durable = self.commits.newest()?;
        if self.partitions.unsure().is_some() {
            return None;
        }
        let leaves = self.member.as_ref().is_some_and(|member| !member.is_static);
        let leaving: Vec<u32> = if leaves { (0..self.partitions.len() as u32).collect() } else { Vec::new() };
        let list = self.to_commit(&durable, &leaving);
        (list.count() > 0 && !self.committer.has_taken(&list)).then_some(list)
    }

    /// Whether the declared end is reached.
    pub(super) fn is_over(&mut self, consumer: &Client) -> bool {
        match self.until {
            Until::Stopped => return false,
            Until::Records(left) => return left == 0,
            Until::End => {}
        }
        let ours = {
            let mut ours = self.partitions.iter().filter(|partition| partition.is_read()).peekable();
            ours.peek().is_some().then(|| ours.all(|partition| partition.done))
        };
        let Some(member) = &mut self.member else { return ours.unwrap_or(true) };
        if self.partitions.unsure().is_some() || consumer.context().waits() || member.waiting.is_some() {
            return false;
        }
        if let Some(done) = ours {
            return done;
        }
        if !member.others_are_done && member.look_is_due() {
            let Tried::Done(group) = self.group(consumer) else { return false };
            let mut all = self.partitions.iter().zip(&group);
            let done = all.all(|(partition, (committed, _))| partition.end.unwrap_or(0) <= committed.unwrap_or(0));
            if let Some(member) = &mut self.member {
                member.others_are_done = done;
            }
        }
        self.member.as_ref().is_some_and(|member| member.others_are_done)
    }
}

impl Drop for KafkaSource {
    /// Passes on the last commit and takes leave of the brokers, within a deadline: brokers that are away must not keep
    /// the process from ending.
    fn drop(&mut self) {
        let Some(consumer) = self.consumer.take() else { return };
        let last = self.last_commit();
        let committing = self.committer.stop();
        let watcher = self.watcher.stop();
        consumer.context().close();
        let (done, closed) = bounded::<()>(1);
        let closing = std::thread::Builder::new().name("kafka-close".to_owned()).spawn(move || {
            // What is on its way comes first.
            if let Some(committing) = committing {
                let _ = committing.join();
            }
            if let Some(offsets) = last
                && let Err(error) = consumer.commit(&offsets, CommitMode::Sync)
            {
                tracing::warn!(cause = words(&error), "the last offsets were not committed to the group");
            }
            watcher.join();
            drop(consumer);
            drop(done);
        });
        if closing.is_ok() && closed.recv_timeout(CLOSING) == Err(crossbeam_channel::RecvTimeoutError::Timeout) {
            tracing::warn!(brokers = self.brokers, "the brokers do not answer; left without a last commit");
        }
    }
}
