//! The section `evaluate`: how the model is measured on the stream.

use crate::util::config_section::config_section;

config_section! {
    /// Test-then-train evaluation on the stream itself.
    pub struct EvaluateConfig {
        /// Items may recur: keep a user's earlier items in the ranking, and learn when they come back. Off: own items leave
        /// the ranking and the negatives.
        repeat: bool = false => [state];
        /// Share of the events that is ranked; 0: none.
        share: f64 = 1.0 => [within(0.0..=1.0)];
        /// Share of a log after which hits count (a live stream counts from its first event).
        from: f64 = 0.5 => [within(0.0..=1.0)];
        /// Own items remembered per user where `repeat` is off; the ranking is exact up to that many.
        own_items: usize = 10_000 => [at_most(65_536)];
        /// Half-life of the popularity that the model is compared with, in events; `inf`: popularity of all time.
        popularity_half_life: f64 = 5_000.0 => [state, at_least(1.0)];
        /// Rank by the user's last item alone, as an item-to-item list does, instead of by all of the context.
        last_item: bool = false;
        /// Rank by what an inner-product index gives: without ρ and κ, which are learnt all the same.
        index_only: bool = false;
    }
}
