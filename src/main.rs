//! The program: arguments in, exit code out; everything else is in the library.

use std::process::ExitCode;

use clap::Parser;
use negstream::cli::Cli;
use negstream::{commands, exit};

fn main() -> ExitCode {
    match commands::dispatch(Cli::parse()) {
        Ok(()) => ExitCode::from(exit::Exit::Done as u8),
        Err(error) => {
            eprintln!("negstream: {}", exit::message(&error));
            ExitCode::from(exit::code(&error) as u8)
        }
    }
}
