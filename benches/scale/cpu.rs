//! Processor time: what a comparison of costs needs on a machine that others use too.

use std::fs::read_to_string;

/// Seconds that the calling thread has spent on a processor; 0 where the system does not tell.
pub fn of_thread() -> f64 {
    seconds("/proc/thread-self/schedstat")
}

/// Seconds that all threads of the process have spent on a processor.
pub fn of_process() -> f64 {
    let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    threads.map(|thread| seconds(&format!("{}/schedstat", thread.path().display()))).sum()
}

/// The first number of such a file are nanoseconds.
fn seconds(path: &str) -> f64 {
    let text = read_to_string(path).unwrap_or_default();
    text.split_whitespace().next().and_then(|number| number.parse::<f64>().ok()).unwrap_or(0.0) * 1e-9
}
