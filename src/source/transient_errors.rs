//! The count of errors that a source waits out instead of failing: brokers or a schema registry that are away.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::metric::{Instrumented, Metric};

/// The transient errors of this process, of all its sources together.
pub static TRANSIENT_ERRORS: TransientErrors = TransientErrors(AtomicU64::new(0));

/// A count of errors that were waited out. It only grows.
#[derive(Debug)]
pub struct TransientErrors(AtomicU64);

impl TransientErrors {
    /// Counts an error.
    pub fn increment(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Instrumented for TransientErrors {
    const METRICS: &'static [Metric<Self>] = &[Metric::counter(
        "negstream_source_errors_total",
        "Errors of the source that it waits out, such as a broker or a schema registry that is away.",
        |errors, samples| samples.put(errors.0.load(Ordering::Relaxed)),
    )];
}
