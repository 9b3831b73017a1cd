//! Where partitions begin for workers that share a model: what is part of it is known by the log of deltas, and not by the
//! offsets and the history of the group.
//!
//! A partition that comes to this worker begins behind what deltas cover, as soon as all deltas are part of the state that were in the log
//! when the partition came. For the pasts of its users some records before that are read again, back to where this worker knows
//! them, or `share.reread` records.

use std::sync::Arc;
use std::task::Poll;

use rdkafka::consumer::Consumer as _;

use super::super::client::{REQUEST_TIMEOUT, TopicClient};
use crate::kafka::describe;
use crate::share::LogView;

/// Where partitions begin by a log of deltas.
#[derive(Debug, Clone)]
pub struct SharedStarts {
    /// What is known of the log.
    pub view: Arc<LogView>,
    /// The topic of the log.
    pub topic: String,
    /// Records that are read again of a partition that another worker had.
    pub reread: u64,
}

impl SharedStarts {
    /// The end of the log now; pending where the brokers do not say.
    pub(super) fn end(&self, client: &mut TopicClient) -> Poll<u64> {
        match client.consumer.fetch_watermarks(&self.topic, 0, REQUEST_TIMEOUT) {
            Ok((_, end)) => Poll::Ready(end.try_into().unwrap_or_default()),
            Err(error) => {
                client.note_trouble(&describe(&error));
                Poll::Pending
            }
        }
    }

    /// The offset at which reading begins of a partition of which everything before `covered` is in deltas; the pasts of its users
    /// are `known` here up to an offset, and its oldest record is `low`.
    pub(super) fn first_read(&self, covered: u64, known: Option<u64>, low: u64) -> u64 {
        let reread = covered.saturating_sub(self.reread).max(low);
        known.map_or(reread, |known| known.max(reread)).min(covered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_begins_where_the_pasts_end_or_not_too_far_back() {
        let starts = SharedStarts { view: Arc::default(), topic: "t".to_owned(), reread: 100 };
        let first = |covered, known, low| starts.first_read(covered, known, low);
        assert_eq!(first(1_000, None, 0), 900, "another worker's");
        assert_eq!(first(1_000, None, 950), 950, "which is not all there any more");
        assert_eq!(first(1_000, Some(990), 0), 990, "its own, before it was killed");
        assert_eq!(first(1_000, Some(10), 0), 900, "its own, long ago");
        assert_eq!(first(1_000, Some(1_200), 0), 1_000, "what it read and did not send is read again");
        assert_eq!(first(40, None, 50), 40, "records that are gone are not passed over in silence");
    }
}
