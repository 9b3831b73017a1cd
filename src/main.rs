//! The program: arguments in, exit code out; everything else is in the library.

use std::process::ExitCode;

use negstream::cli::Cli;
use negstream::{commands, exit};

fn main() -> ExitCode {
    let cli = Cli::parse_or_exit(std::env::args_os());
    match cli.map_err(Into::into).and_then(commands::dispatch) {
        Ok(()) => ExitCode::from(exit::Exit::Done as u8),
        Err(error) => {
            eprintln!("negstream: {}", exit::message(&error));
            ExitCode::from(exit::code(&error) as u8)
        }
    }
}
