//! `completions` and `man`: what follows from the definition of the command line alone.

use std::path::Path;

use anyhow::Context as _;
use clap::CommandFactory as _;
use clap_complete::Shell;
use clap_mangen::Man;

use super::{print, write_whole_by};
use crate::cli::Cli;

pub(super) fn completions(shell: Shell) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), env!("CARGO_PKG_NAME"), &mut script);
    print(&String::from_utf8(script)?);
    Ok(())
}

pub(super) fn man(dir: Option<&Path>) -> anyhow::Result<()> {
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let Some(dir) = dir else {
        let mut page = Vec::new();
        Man::new(command).render(&mut page)?;
        print(&String::from_utf8(page)?);
        return Ok(());
    };
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make the folder {}", dir.display()))?;
    let pages = write_pages(dir, command)?;
    print(&format!("{pages} pages written to {}\n", dir.display()));
    Ok(())
}

/// Writes the page of a command and those of the commands below it; how many there are.
fn write_pages(dir: &Path, command: clap::Command) -> anyhow::Result<usize> {
    let below: Vec<clap::Command> = command.get_subcommands().filter(|below| !below.is_hide_set()).cloned().collect();
    let man = Man::new(command);
    write_whole_by(&dir.join(man.get_filename()), |file| Ok(man.render(file)?))?;
    let mut pages = 1;
    for command in below {
        pages += write_pages(dir, command)?;
    }
    Ok(pages)
}
