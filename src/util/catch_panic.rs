//! Panics of libraries that read files, as errors.
//!
//! A damaged file is the operator's to know of, with its name, and no defect of this program; yet some readers panic over
//! one. What they leave behind has to be thrown away by the caller. Nothing of our own is run in here.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    static CONTAINED: Cell<bool> = const { Cell::new(false) };
}

/// Does `work`; a panic in it becomes its words, and is not printed.
///
/// # Errors
/// What the panic said.
pub fn contained<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |panic| {
            if !CONTAINED.get() {
                before(panic);
            }
        }));
    });
    let outer = CONTAINED.replace(true);
    let outcome = catch_unwind(AssertUnwindSafe(work));
    CONTAINED.set(outer);
    outcome.map_err(|panic| {
        let words = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        format!("damaged: the reader gives up ({})", words.unwrap_or("without a word"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_become_words() {
        assert_eq!(contained(|| 7), Ok(7));
        let nothing: &[u8] = std::hint::black_box(&[]);
        let said = contained(|| nothing[3]).unwrap_err();
        assert_eq!(said, "damaged: the reader gives up (index out of bounds: the len is 0 but the index is 3)");
    }
}
