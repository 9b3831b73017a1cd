//! Work in a consumer group: which worker owns which partition, rebalances, and the offsets that are committed.

pub(super) mod committer;
pub(super) mod membership;
pub(super) mod ownership;
pub(super) mod rebalance;
pub(super) mod shared_starts;
