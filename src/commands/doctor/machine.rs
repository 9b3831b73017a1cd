//! The machine: processor, memory, open files, clock, room for temporary files.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Finding;
use crate::config::Config;
use crate::exit::Exit;
use crate::kernel::{Isa, Kernel};
use crate::util::encoding::random_id;
use crate::util::temporary::nameless_file;

/// Memory below which little fits, in bytes.
const LITTLE_MEMORY: u64 = 1 << 30;
/// Free room below which a folder will soon be full, in bytes.
const LITTLE_ROOM: u64 = 2 << 30;
/// Open files that sorting, checkpoints and connections take together, at most.
const FILES: u64 = 1024;
/// How far the clock of a file system, or of another machine, may be from this one's.
pub(super) const CLOCK_TOLERANCE: Duration = Duration::from_secs(10);
/// 2025-01-01, before which this program was not there, in seconds since 1970.
const BEFORE_THIS_PROGRAM: u64 = 1_735_689_600;

pub(super) fn processor(config: &Config) -> Finding {
    let there = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = if config.threads == 0 { there } else { config.threads };
    let isa = match Kernel::detect().isa() {
        Isa::Avx512Bf16 => "AVX-512 with bfloat16",
        Isa::Avx512 => "AVX-512",
        Isa::Avx2 => "AVX2 with FMA",
        Isa::Neon => "NEON",
        Isa::Plain => "no vector instructions that are used",
    };
    let said = format!("{isa}; {threads} threads on {there} processors");
    if Kernel::detect().isa() == Isa::Plain {
        return Finding::doubtful(
            "processor",
            said,
            "training is several times faster with AVX2 (a virtual machine may hide it)",
        );
    }
    if threads > there {
        return Finding::doubtful("processor", said, "threads = 0 takes as many as there are processors");
    }
    Finding::fine("processor", said)
}

pub(super) fn memory() -> Finding {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let of_machine = line_value(&read("/proc/meminfo"), "MemAvailable:").map(|kilobytes| kilobytes * 1024);
    // A container's own bound, which `max` says there is not.
    let number = |path: &str| read(path).trim().parse::<u64>().ok();
    let bound = number("/sys/fs/cgroup/memory.max");
    let of_container = bound.map(|most| most.saturating_sub(number("/sys/fs/cgroup/memory.current").unwrap_or(0)));
    let Some(available) = of_machine.into_iter().chain(of_container).min() else {
        return Finding::unused("memory", "this system does not tell how much is available");
    };
    let said = format!("{} available", gigabytes(available));
    if available < LITTLE_MEMORY {
        return Finding::doubtful(
            "memory",
            said,
            "[memory] caps how many items and users have a row; docs/memory.md has what they take",
        );
    }
    Finding::fine("memory", said)
}

pub(super) fn open_files() -> Finding {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    match line_value(&limits, "Max open files") {
        Some(most) if most < FILES => {
            Finding::doubtful("open files", format!("at most {most}"), "ulimit -n 4096 (systemd: LimitNOFILE=4096)")
        }
        Some(most) => Finding::fine("open files", format!("at most {most}")),
        None if limits.contains("Max open files") => Finding::fine("open files", "without a limit"),
        None => Finding::unused("open files", "this system does not tell its limit"),
    }
}

pub(super) fn clock() -> Finding {
    let now = SystemTime::now();
    let said = chrono::DateTime::<chrono::Utc>::from(now).format("%Y-%m-%d %H:%M:%S UTC").to_string();
    match now.duration_since(UNIX_EPOCH) {
        Ok(since) if since.as_secs() > BEFORE_THIS_PROGRAM => Finding::fine("clock", said),
        _ => Finding::doubtful("clock", said, "set it (timedatectl set-ntp true): freshness is measured by it"),
    }
}

/// Whether there is room for what sorting and copies of logs take.
pub(super) fn temporary_folder() -> Vec<Finding> {
    let folder = std::env::temp_dir();
    let shown = folder.display();
    if let Err(error) = nameless_file() {
        let said = format!("no file can be written to {shown}: {error}");
        return vec![Finding::doubtful("temporary", said, "TMPDIR names another folder; replay --sort writes there")];
    }
    vec![room("temporary", &folder)]
}

/// How much room there is in a folder.
pub(super) fn room(part: &str, folder: &Path) -> Finding {
    let shown = folder.display();
    match rustix::fs::statvfs(folder) {
        Ok(found) => {
            let free = found.f_bavail.saturating_mul(found.f_frsize);
            let said = format!("{} free in {shown}", gigabytes(free));
            if free < LITTLE_ROOM {
                return Finding::doubtful(part, said, "make room, or name another folder");
            }
            Finding::fine(part, said)
        }
        Err(error) => Finding::doubtful(part, format!("how much room {shown} has is not told: {error}"), ""),
    }
}

/// Whether files can be written to a folder, which is there, and renamed in it; and whether its file system has the same
/// clock.
pub(super) fn writable(part: &str, folder: &Path) -> Option<Finding> {
    let shown = folder.display();
    let id = random_id();
    let (draft, place) = (folder.join(format!(".doctor-{id}")), folder.join(format!(".doctor-{id}-renamed")));
    let write = || -> std::io::Result<SystemTime> {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).open(&draft)?;
        file.write_all(b"negstream doctor")?;
        file.sync_all()?;
        let written = file.metadata()?.modified()?;
        fs::rename(&draft, &place)?;
        Ok(written)
    };
    let before = SystemTime::now();
    let written = write();
    let after = SystemTime::now();
    let removed = fs::remove_file(&place).or_else(|_| fs::remove_file(&draft));
    match written {
        Err(error) => {
            let said = format!("no file can be written to {shown}: {error}");
            let remedy = "give the folder to the user of the worker (chown), or name another one: checkpoint.dir";
            Some(Finding::failing(part, Exit::Checkpoint, said, remedy))
        }
        Ok(_) if removed.is_err() => {
            let said = format!("files can be written to {shown}, but not removed");
            Some(Finding::failing(
                part,
                Exit::Checkpoint,
                said,
                "old checkpoints are removed: give the user that right",
            ))
        }
        Ok(written) if written + CLOCK_TOLERANCE < before || written > after + CLOCK_TOLERANCE => {
            let said = format!("the clock of {shown} is not that of this machine");
            Some(Finding::doubtful("clock", said, "have both follow the same time server"))
        }
        Ok(_) => None,
    }
}

/// The first number behind `name` in lines such as `MemAvailable:  123 kB`.
fn line_value(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

fn gigabytes(bytes: u64) -> String {
    format!("{:.1} GB", bytes as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::PartHealth;

    #[test]
    fn lines_of_the_system_are_read() {
        assert_eq!(line_value("A: 1 kB\nMemAvailable:   123 kB\n", "MemAvailable:"), Some(123));
        assert_eq!(line_value("Max open files            1024      4096   files", "Max open files"), Some(1024));
        assert_eq!(line_value("Max open files   unlimited", "Max open files"), None);
    }

    #[test]
    fn folders_are_tried_without_a_trace() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(writable("store", folder.path()), None);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let away = writable("store", &folder.path().join("away")).unwrap();
        assert_eq!(away.health, PartHealth::Failing(Exit::Checkpoint));
    }
}
