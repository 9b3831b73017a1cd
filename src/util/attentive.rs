//! Threads of a pool that stay awake while something is worked on in many short parts.
//!
//! A thread that finds nothing to do for some microseconds goes to sleep, and to wake it takes longer than many a part of a step. So
//! while the work is under way the other threads look for what there is to do, and sleep only when there was nothing for a while.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rayon::Yield;

/// A thread that had nothing to do for so long sleeps until the next part: then parts are long enough for it to be woken.
const PATIENCE: Duration = Duration::from_micros(100);
/// How often a thread looks for something to do before it offers its core to whoever else wants it.
const LOOKS: usize = 16;

/// Does `work` on a thread of a pool, while the pool's other threads stay awake for its parts.
pub fn attentive<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let (is_done, at_work) = (AtomicBool::new(false), rayon::current_thread_index());
    let attend = || {
        // Whoever does the work may come here while it waits for a part, and would wait for itself.
        if rayon::current_thread_index() != at_work {
            help(&is_done);
        }
    };
    let work = || {
        let result = work();
        is_done.store(true, Ordering::Release);
        result
    };
    beside(rayon::current_num_threads() - 1, &attend, work)
}

/// Does `work`, and `n` times `other` beside it.
fn beside<T: Send>(n: usize, other: &(impl Fn() + Sync), work: impl FnOnce() -> T + Send) -> T {
    match n {
        0 => work(),
        _ => rayon::join(work, || beside(n - 1, other, other)).0,
    }
}

/// Does what there is to do, until all is done or there was nothing for a while.
fn help(is_done: &AtomicBool) {
    let mut last_work = Instant::now();
    while !is_done.load(Ordering::Acquire) {
        for _ in 0..LOOKS {
            match rayon::yield_now() {
                Some(Yield::Executed) => last_work = Instant::now(),
                _ => std::hint::spin_loop(),
            }
        }
        if last_work.elapsed() > PATIENCE {
            return;
        }
        std::thread::yield_now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_in_many_parts_is_done_on_any_number_of_threads() {
        for threads in [1, 2, 3, 8] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
            let sum_of = |n: u64| (0..n).fold((0, 0), |(a, b), k| rayon::join(|| a + k, || b + 2 * k));
            for _ in 0..20 {
                let sums = pool.install(|| attentive(|| sum_of(500)));
                assert_eq!(sums, (124_750, 249_500), "{threads} threads");
            }
        }
    }

    #[test]
    fn a_panic_in_the_work_goes_on() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().expect("threads");
        let panics = || pool.install(|| attentive(|| -> usize { panic!("of the work") }));
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(panics)).is_err());
    }
}
