//! Places where the fault suite may make a worker die, stop, or be refused by its disk.
//!
//! This module is there with the feature `failpoints` alone, which neither the default nor `full` has: a released program
//! never looks at the variable.
//!
//! `NEGSTREAM_FAILPOINT=STEP[@N]=ACTION` acts at the N-th time (the first, if not said) that a step of a checkpoint is
//! reached; the actions are `kill` (SIGKILL), `stop` (SIGSTOP, until somebody sends SIGCONT), `enospc` and `eio` (what
//! the disk would say). The environment is read once, and without the variable a step costs one comparison.
//!
//! | step | what was done by then |
//! | --- | --- |
//! | `draft` | a checkpoint was begun |
//! | `file` | a data file was written, but not flushed |
//! | `flushed` | it was flushed |
//! | `manifest` | all data is durable, the manifest is not written |
//! | `commit` | everything is durable but the commit: the rename, or the put of the manifest |
//! | `committed` | that took effect, but nobody knows yet |
//! | `published` | the checkpoint is durable |
//! | `prune` | an old checkpoint is none any more, but its files are there |
//! | `restore` | a checkpoint was verified, but not read |

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The environment variable.
pub const VARIABLE: &str = "NEGSTREAM_FAILPOINT";

const SIGKILL: i32 = 9;
const SIGSTOP: i32 = 19;
const EIO: i32 = 5;
const ENOSPC: i32 = 28;

#[derive(Debug)]
struct Failpoint {
    step: String,
    /// Visits of the step that are let pass before the action.
    left: AtomicU64,
    action: Action,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Signal(i32),
    Refuse(i32),
}

/// Reads `STEP[@N]=ACTION`; `None` where the text is malformed.
fn parse(text: &str) -> Option<Failpoint> {
    let (place, action) = text.rsplit_once('=')?;
    let (step, time) = place.split_once('@').unwrap_or((place, "1"));
    let action = match action {
        "kill" => Action::Signal(SIGKILL),
        "stop" => Action::Signal(SIGSTOP),
        "enospc" => Action::Refuse(ENOSPC),
        "eio" => Action::Refuse(EIO),
        _ => return None,
    };
    let left = AtomicU64::new(time.parse::<u64>().ok()?.checked_sub(1)?);
    Some(Failpoint { step: step.to_owned(), left, action })
}

fn configured() -> Option<&'static Failpoint> {
    static CONFIGURED: OnceLock<Option<Failpoint>> = OnceLock::new();
    let read = || {
        let text = std::env::var(VARIABLE).ok()?;
        let point = parse(&text);
        tracing::warn!(failpoint = %text, understood = point.is_some(), "{VARIABLE} is set: this worker is to fail");
        point
    };
    CONFIGURED.get_or_init(read).as_ref()
}

/// Marks that a worker is at `step` of a checkpoint.
///
/// # Errors
/// The error of the disk that the variable asks for at this step.
pub(super) fn reach(step: &str) -> io::Result<()> {
    let Some(point) = configured().filter(|point| point.step == step) else { return Ok(()) };
    let passed = point.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
    match (passed, point.action) {
        (Ok(_), _) => Ok(()),
        (Err(_), Action::Signal(signal)) => signal_hook::low_level::raise(signal),
        (Err(_), Action::Refuse(code)) => Err(io::Error::from_raw_os_error(code)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failpoint_parses_step_visit_and_action() {
        let point = parse("commit@3=kill").unwrap();
        assert_eq!(
            (point.step.as_str(), point.left.into_inner(), point.action),
            ("commit", 2, Action::Signal(SIGKILL))
        );
        assert_eq!(parse("file=enospc").unwrap().action, Action::Refuse(ENOSPC));
        for nonsense in ["", "commit", "commit=explode", "commit@0=kill", "commit@x=kill"] {
            assert!(parse(nonsense).is_none(), "{nonsense}");
        }
    }
}
