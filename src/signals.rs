//! SIGINT and SIGTERM: the first asks the worker to stop in good order, a second ends the process at once. SIGUSR1 asks it for a
//! checkpoint.
//!
//! | signal | first | second (of either kind) |
//! | --- | --- | --- |
//! | SIGINT (Ctrl-C) | the flag is set | exit status 130 |
//! | SIGTERM | the flag is set | exit status 143 |
//! | SIGUSR1 | a flag of its own is set | the same |
//!
//! The second does not wait for anything: what it interrupts is what a power cut would, and the checkpoint stands. This
//! module only sets the flag; who looks at it, and what is finished first, is the application's.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use signal_hook::flag;

/// A request to stop, made by a signal or by [`Stop::request`]. Clones are cheap and share the request.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// A request that no signal makes: for tests, and for pipelines that are stopped by their owner.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether a stop was requested.
    pub fn requested(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// The shared flag, for code that knows of no signals.
    pub fn flag(&self) -> &AtomicBool {
        &self.0
    }

    /// Requests a stop, as the first signal does.
    pub fn request(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Installs handlers of both signals. Call this once, before any work begins that has to be finished in good order.
///
/// # Errors
/// Where the operating system refuses.
pub fn install() -> io::Result<Stop> {
    let stop = Stop::new();
    for (signal, status) in [(SIGINT, 130), (SIGTERM, 143)] {
        // Order matters: the first signal must find the flag unset here, and only then set it below.
        flag::register_conditional_shutdown(signal, status, Arc::clone(&stop.0))?;
        flag::register(signal, Arc::clone(&stop.0))?;
    }
    Ok(stop)
}

/// The flag that SIGUSR1 sets from now on: somebody asks for a checkpoint. Whoever serves that unsets it.
///
/// # Errors
/// Where the operating system refuses.
pub fn checkpoint_flag() -> io::Result<Arc<AtomicBool>> {
    let asked = Arc::new(AtomicBool::new(false));
    flag::register(SIGUSR1, Arc::clone(&asked))?;
    Ok(asked)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use signal_hook::low_level::raise;

    use super::*;

    #[test]
    fn first_signal_sets_the_flag_and_the_second_ends_the_process() {
        let this = std::env::current_exe().expect("the test knows itself");
        for (case, status) in [("interrupted", 130), ("terminated", 143), ("interrupted_then_terminated", 143)] {
            let name = format!("signals::tests::{case}");
            let output = Command::new(&this).args(["--exact", "--ignored", "--nocapture", &name]).output();
            let output = output.expect("the test runs itself");
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(status), "{case}: {said}");
            assert!(said.contains("asked to stop") && !said.contains("still here"), "{case}: {said}");
        }
    }

    fn receive(first: i32, second: i32) {
        let stop = install().expect("signals can be listened to");
        assert!(!stop.requested());
        raise(first).expect("a signal can be sent");
        assert!(stop.requested());
        eprintln!("asked to stop");
        raise(second).expect("a signal can be sent");
        eprintln!("still here");
    }

    #[test]
    #[ignore = "ends the process: run by the test above"]
    fn interrupted() {
        receive(SIGINT, SIGINT);
    }

    #[test]
    #[ignore = "ends the process: run by the test above"]
    fn terminated() {
        receive(SIGTERM, SIGTERM);
    }

    #[test]
    #[ignore = "ends the process: run by the test above"]
    fn interrupted_then_terminated() {
        receive(SIGINT, SIGTERM);
    }
}
