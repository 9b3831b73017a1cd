//! The section `dead_letters`: what becomes of rejected records.

use crate::util::config_section::config_section;

config_section! {
    /// What becomes of rejected records.
    pub struct DeadLettersConfig {
        /// JSON-lines file that `replay` appends rejected records to (`run` has `kafka.dead_letter_topic`); empty: none. Runs may
        /// share it, one at a time.
        file: String = String::new();
        /// The worker stops where more than this share of the newest records was rejected; 1: never.
        max_share: f64 = 0.5 => [within(0.0..=1.0)];
        /// How many of the newest records that share is taken over; older ones fade out.
        window: u64 = 1000 => [at_least(1)];
    }
}
