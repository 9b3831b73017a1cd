//! What commands print and write: text to standard output, files that are there whole or not at all, progress bars.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::sync::OnceLock;

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::Output;
use crate::exit::UsageError;
use crate::util::output_file::OutputFile;

/// A progress bar, which only a terminal shows.
pub(super) fn progress_bar(total: u64, unit: &str) -> ProgressBar {
    let style =
        format!("{{bar:10.cyan/dim}} {{percent:>3}}% {{human_pos}}/{{human_len}} {unit}  {{per_sec}}  {{eta}} left");
    let style = ProgressStyle::with_template(&style).expect("a valid template").progress_chars("━╸─");
    ProgressBar::new(total).with_style(style)
}

/// Finds out before the work, not after it, that the report could not be written.
pub(super) fn check_output(output: &Output) -> anyhow::Result<()> {
    output.report.as_deref().map_or(Ok(()), |path| check_file("--report", path))
}

/// Checks whether output can be written to `path`.
pub(super) fn check_file(flag: &str, path: &Path) -> anyhow::Result<()> {
    let said = match OutputFile::check(path) {
        Ok(()) => return Ok(()),
        Err(error)
            if [ErrorKind::NotFound, ErrorKind::IsADirectory, ErrorKind::NotADirectory].contains(&error.kind()) =>
        {
            "no such folder, or a folder itself".to_owned()
        }
        Err(error) => format!("cannot be written: {error}"),
    };
    Err(UsageError(format!("{flag} {}: {said}", path.display())).into())
}

/// What standard output refused first.
static REFUSED: OnceLock<std::io::Error> = OnceLock::new();

/// Prints to standard output; a reader that has closed it is no error. Any other refusal is told by [`check_printed`].
pub(super) fn print(text: &str) {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => drop(REFUSED.set(error)),
        _ => {}
    }
}

/// Checks that standard output took all that was printed: a result that nobody got is no success.
pub(super) fn check_printed() -> anyhow::Result<()> {
    REFUSED.get().map_or(Ok(()), |error| Err(anyhow::anyhow!("cannot write to standard output: {error}")))
}

/// Writes a file that is there whole or not at all.
pub(super) fn write_whole(path: &Path, text: &str) -> anyhow::Result<()> {
    write_whole_by(path, |file| Ok(file.write_all(text.as_bytes())?))
}

/// Writes a file by `write`; the file is there whole or not at all.
pub(super) fn write_whole_by(path: &Path, write: impl FnOnce(&mut File) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let write = || {
        let mut output = OutputFile::create(path)?;
        write(output.file())?;
        anyhow::Ok(output.finish()?)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}
