//! What the operating system says of this process. Linux tells in a file; elsewhere nothing is known.

/// Memory of this process, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resident {
    /// At present.
    pub now: u64,
    /// At most so far.
    pub peak: u64,
}

/// How much memory this process has; `None` where that is not known.
pub fn resident() -> Option<Resident> {
    parse(&std::fs::read_to_string("/proc/self/status").ok()?)
}

fn parse(text: &str) -> Option<Resident> {
    let kilobytes = |name: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix("kB")?.trim().parse().ok()
    };
    Some(Resident { now: kilobytes("VmRSS:")? * 1024, peak: kilobytes("VmHWM:")? * 1024 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_status_file_are_read() {
        let text = "Name:\tnegstream\nVmHWM:\t  2048 kB\nVmRSS:\t    12 kB\nThreads:\t3\n";
        assert_eq!(parse(text), Some(Resident { now: 12 << 10, peak: 2 << 20 }));
        assert_eq!(parse("Name:\tnegstream\n"), None);
    }
}
