//! The sections `positives`, `train` and `memory`: what is trained on, in which steps, and for which items and users.

use crate::model::OptimizerKind;
use crate::util::config_section::config_section;

config_section! {
    /// Which events count as positive.
    pub struct PositivesConfig {
        /// Event types that are trained on; empty: all. Others are counted as ignored.
        kinds: Vec<String> = Vec::new() => [state];
    }
}

config_section! {
    /// The steps of training.
    pub struct TrainConfig {
        /// Events per step.
        batch: usize = 256 => [state, within(2..=65_536)];
        /// Close a batch early when its next event is this much later than its first, in event time; 0: never.
        batch_span_ms: u64 = 0 => [state];
        /// On a live stream: close a batch early when its oldest event was read this long ago, in milliseconds, and no further
        /// record is there; 0: never, so that the model depends on the log alone. Such cuts are kept with the checkpoints, and
        /// made again after a crash. `replay` makes none.
        linger_ms: u64 = 400 => [at_most(3_600_000)];
        /// Step size.
        learning_rate: f64 = 0.05 => [state, above_zero];
        /// The step size of ρ, in multiples of `learning_rate`.
        repetition_rate: f64 = 3.0 => [state, above_zero];
        /// That of κ, likewise.
        cooccurrence_rate: f64 = 3.0 => [state, above_zero];
        /// `adagrad`, or `rowwise_adagrad` for half the memory.
        optimizer: OptimizerKind = OptimizerKind::Adagrad => [state];
    }
}

config_section! {
    /// How many items and users are kept, whatever the stream brings; see docs/memory.md.
    pub struct MemoryConfig {
        /// Rows of items.
        items: RowLimits = RowLimits::default();
        /// Rows of users; with a user's row goes the user's past.
        users: RowLimits = RowLimits::default();
    }
}

config_section! {
    /// Which ids get a row, and for how long. Time is counted in positive events of the stream, never by the clock.
    pub struct RowLimits {
        /// An id that came so many times is given a row; 1: at once.
        admit_after: u32 = 1 => [state, within(1..=255)];
        /// How many of the newest ids without a row are counted, at 8 bytes each; of no account where `admit_after` is 1.
        newcomers: usize = 1 << 20 => [state, within(8..=1 << 30)];
        /// An id without an event for so many events of the stream loses its row; 0: never.
        expire_events: u64 = 0 => [state];
        /// How many rows there may be; to make room, those without an event for longest go. 0: any number.
        cap: usize = 1_000_000 => [state, at_most(u32::MAX as usize)];
    }
}
