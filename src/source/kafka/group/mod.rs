//! Work in a consumer group: who owns which partition, rebalances, and the offsets that are committed.

pub(in crate::source::kafka) mod committer;
pub(in crate::source::kafka) mod membership;
pub(in crate::source::kafka) mod ownership;
pub(in crate::source::kafka) mod rebalance;
