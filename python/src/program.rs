//! The whole program, as the command line has it, and what of it the package asks for.

use std::ffi::OsString;

use negstream::cli::Cli;
use negstream::negatives::samplers::SAMPLERS;
use negstream::{commands, exit};
use pyo3::prelude::*;

/// Runs a command line, the first of whose `arguments` is the program's name, and gives its exit status.
#[pyfunction]
pub fn main(py: Python<'_>, arguments: Vec<OsString>) -> u8 {
    // Other threads of Python go on meanwhile.
    py.detach(|| {
        let cli = Cli::parse_or_exit(arguments);
        match cli.map_err(Into::into).and_then(commands::dispatch) {
            Ok(()) => exit::Exit::Done as u8,
            Err(error) => {
                eprintln!("negstream: {}", exit::message(&error));
                exit::code(&error) as u8
            }
        }
    })
}

/// The version of the program.
#[pyfunction]
pub fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// Name and documentation of each sampler.
#[pyfunction]
pub fn samplers() -> Vec<(&'static str, &'static str)> {
    SAMPLERS.iter().map(|entry| (entry.name, entry.summary)).collect()
}
