//! Panics of libraries that read files, as errors.
//!
//! A damaged file is news for the operator, with its name, and no defect of this program; yet some readers panic over one. The
//! caller has to throw away what the reader leaves behind. Of this crate only the reading of a checkpoint runs in here: a forged one
//! may say what no reader expects.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    static IS_CATCHING: Cell<bool> = const { Cell::new(false) };
}

/// Does `work`; a panic in it becomes an error with the panic's message, and is not printed.
///
/// # Errors
/// Where `work` panics.
pub fn catch_panic<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |panic| {
            if !IS_CATCHING.get() {
                before(panic);
            }
        }));
    });
    let outer = IS_CATCHING.replace(true);
    let outcome = catch_unwind(AssertUnwindSafe(work));
    IS_CATCHING.set(outer);
    outcome.map_err(|panic| {
        let message = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        format!("damaged: the reader gives up ({})", message.unwrap_or("without a message"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn catch_panic_returns_the_message_of_a_panic() {
        assert_eq!(catch_panic(|| 7), Ok(7));
        let nothing: &[u8] = std::hint::black_box(&[]);
        let said = catch_panic(|| nothing[3]).unwrap_err();
        assert_eq!(said, "damaged: the reader gives up (index out of bounds: the len is 0 but the index is 3)");
    }
}
