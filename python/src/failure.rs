//! Errors of the library become exceptions of the package, with the program's own words.

use negstream::exit::{self, Exit, UsageError};
use pyo3::prelude::*;

/// The exception for `error`: of the class that its exit code has.
pub fn exception(py: Python<'_>, error: &anyhow::Error) -> PyErr {
    of_code(py, exit::code(error), &exit::message(error))
}

/// The exception for wrong usage.
pub fn usage(py: Python<'_>, message: impl Into<String>) -> PyErr {
    exception(py, &UsageError(message.into()).into())
}

/// The classes are Python's, so that they have documentation and a name in the package.
fn of_code(py: Python<'_>, code: Exit, message: &str) -> PyErr {
    let made = py.import("negstream._errors").and_then(|module| module.getattr("of_code"));
    match made.and_then(|of_code| of_code.call1((code as u8, message))) {
        Ok(exception) => PyErr::from_value(exception),
        Err(error) => error,
    }
}
