//! What commands print and write: text to standard output, files that are there whole or not at all, progress bars.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::Output;
use crate::exit::UsageError;

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

/// Checks whether a file can be made at `path`, as far as can be told without making it.
pub(super) fn check_file(flag: &str, path: &Path) -> anyhow::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if folder.is_dir() && !path.is_dir() {
        return Ok(());
    }
    Err(UsageError(format!("{flag} {}: no such folder, or a folder itself", path.display())).into())
}

/// Prints to standard output; a reader that has closed it is no error.
pub(super) fn print(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

/// Writes a file that is there whole or not at all.
pub(super) fn write_whole(path: &Path, text: &str) -> anyhow::Result<()> {
    write_whole_by(path, |file| Ok(file.write_all(text.as_bytes())?))
}

/// Writes a file by `write`; the file is there whole or not at all.
pub(super) fn write_whole_by(path: &Path, write: impl FnOnce(&mut File) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let unfinished = path.with_extension("unfinished");
    let write = || {
        let mut file = File::create(&unfinished)?;
        write(&mut file)?;
        Ok(std::fs::rename(&unfinished, path)?)
    };
    write()
        .inspect_err(|_: &anyhow::Error| drop(std::fs::remove_file(&unfinished)))
        .with_context(|| format!("cannot write {}", path.display()))
}
