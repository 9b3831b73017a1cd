//! What lies beside the logs of a folder, and what a person should know of it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::FoundLog;
use super::content::FileKind;
use super::names::NameClaim;

/// Most examples that a message gives.
const EXAMPLES: usize = 3;
/// Files of a folder that nobody would take for data, such as notes.
const OTHER: &str = "other files";

/// What to do about a log in another format.
pub(super) const CONVERT: &str =
    "logs are Parquet, CSV or JSON lines: convert it, with DuckDB for instance: copy (from 'IN') to 'OUT.parquet'";

/// What lies beside the logs of a folder.
#[derive(Debug, Default)]
pub(super) struct Beside {
    /// Files that are no Parquet, by what they are.
    others: BTreeMap<&'static str, Vec<PathBuf>>,
    /// Files of the length 0 that end as Parquet does.
    empty: Vec<PathBuf>,
    /// Files in text that lie beside Parquet.
    texts: Vec<PathBuf>,
    /// Files that are still being written.
    unfinished: Vec<PathBuf>,
    /// Folders of tables that know by themselves which of their files count.
    tables: Vec<(&'static str, PathBuf)>,
}

impl Beside {
    /// Why nothing was found.
    pub(super) fn instead(&self) -> String {
        if let Some((kind, paths)) = self.others.iter().find(|(kind, _)| **kind != OTHER) {
            return format!("there is no log, but {kind} ({}): {}", examples(paths), CONVERT);
        }
        match (self.empty.as_slice(), self.unfinished.as_slice(), self.others.values().next()) {
            ([_, ..], ..) => format!("its files are empty (0 bytes): {}", examples(&self.empty)),
            (_, [_, ..], _) => format!("its files are still being written: {}", examples(&self.unfinished)),
            (_, _, Some(paths)) => format!("there is no log, but {}", examples(paths)),
            _ => "nothing is there by this name".to_owned(),
        }
    }

    /// What is said where logs were found all the same.
    pub(super) fn remarks(&self, pattern: &str) -> Vec<String> {
        let mut remarks = Vec::new();
        for (kind, paths) in self.others.iter().filter(|(kind, _)| **kind != OTHER) {
            remarks.push(format!("{pattern}: left out, since it is {kind}: {} ({CONVERT})", examples(paths)));
        }
        if !self.texts.is_empty() {
            remarks.push(format!(
                "{pattern}: left out, since it lies beside Parquet, which may hold the same: {} (name it to have it read)",
                examples(&self.texts)
            ));
        }
        if !self.empty.is_empty() {
            remarks.push(format!("{pattern}: empty files (0 bytes) hold no events: {}", examples(&self.empty)));
        }
        if !self.unfinished.is_empty() {
            remarks
                .push(format!("{pattern}: left out, since it is still being written: {}", examples(&self.unfinished)));
        }
        for (table, path) in &self.tables {
            remarks.push(format!(
                "{} is a {table} table: all of its files are read, and so rows that it has deleted or replaced come too \
                 (export the table, or compact and vacuum it)",
                path.display()
            ));
        }
        remarks
    }

    /// Takes note of a file of `length` bytes, whose content is looked at where its name does not tell what it is (`None`: that
    /// cannot be told). Whether it is a log.
    pub(super) fn add(
        &mut self,
        path: &Path,
        length: u64,
        look: impl FnOnce() -> io::Result<Option<FileKind>>,
    ) -> io::Result<bool> {
        let claim = NameClaim::of(path);
        match claim {
            NameClaim::Unfinished => self.unfinished.push(path.to_owned()),
            NameClaim::Log | NameClaim::Text if length == 0 => self.empty.push(path.to_owned()),
            NameClaim::Log | NameClaim::Text => return Ok(true),
            NameClaim::OtherData | NameClaim::Nothing if length == 0 => {}
            NameClaim::OtherData | NameClaim::Nothing => match look()? {
                Some(FileKind::Parquet) => return Ok(true),
                Some(FileKind::Other(kind)) if claim == NameClaim::OtherData => self.add_other(kind, path),
                _ => self.add_other(OTHER, path),
            },
        }
        Ok(false)
    }

    /// Leaves text out where there is Parquet, unless it is all that was named.
    pub(super) fn keep_one_storage(&mut self, logs: &mut Vec<FoundLog>) {
        let is_text = |log: &FoundLog| NameClaim::of(&log.path) == NameClaim::Text;
        if logs.iter().all(is_text) {
            return;
        }
        logs.retain(|log| {
            if is_text(log) {
                self.texts.push(log.path.clone());
            }
            !is_text(log)
        });
    }

    /// Takes note of a file that is no log for a reason of its own.
    pub(super) fn add_unreadable(&mut self, path: &Path) {
        self.add_other(OTHER, path);
    }

    fn add_other(&mut self, kind: &'static str, path: &Path) {
        self.others.entry(kind).or_default().push(path.to_owned());
    }

    /// Takes note of a folder that is a table of that kind.
    pub(super) fn add_table(&mut self, kind: &'static str, folder: &Path) {
        let table = (kind, folder.to_owned());
        if !self.tables.contains(&table) {
            self.tables.push(table);
        }
    }
}

fn examples(paths: &[PathBuf]) -> String {
    let shown: Vec<String> = paths.iter().take(EXAMPLES).map(|path| path.display().to_string()).collect();
    let more = paths.len().saturating_sub(EXAMPLES);
    if more == 0 { shown.join(", ") } else { format!("{} and {more} more", shown.join(", ")) }
}
