//! Processor time: what a comparison of costs needs on a machine that others use too.

use std::fs::read_to_string;

/// Ticks of the system's accounts in a second: the same on every Linux.
const TICKS: f64 = 100.0;

/// Seconds that the calling thread has spent on a processor; 0 where the system does not tell.
pub fn of_thread() -> f64 {
    let text = read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    // The first number is of nanoseconds.
    text.split_whitespace().next().and_then(|number| number.parse::<f64>().ok()).unwrap_or(0.0) * 1e-9
}

/// Seconds that all threads of the process have spent on a processor, those that are gone included.
pub fn of_process() -> f64 {
    let text = read_to_string("/proc/self/stat").unwrap_or_default();
    // Behind the name, which may hold anything: the state, ten numbers, and then the ticks of the program and of the system for it.
    let numbers = text.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    numbers.filter_map(|number| number.parse::<f64>().ok()).sum::<f64>() / TICKS
}
