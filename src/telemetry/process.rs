//! The memory of this process, as the operating system counts it. Linux tells in a file; elsewhere nothing is known.

use serde::Serialize;

use crate::metric::{Instrumented, Metric};

/// Resident memory of this process, in bytes; `None` where the operating system does not tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ProcessMemory {
    /// Resident bytes at present.
    pub resident: Option<u64>,
    /// The largest number of resident bytes so far.
    pub peak: Option<u64>,
}

impl ProcessMemory {
    /// The memory of this process, now.
    pub fn now() -> Self {
        std::fs::read_to_string("/proc/self/status").map_or_else(|_| Self::default(), |text| Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let bytes = |name: &str| -> Option<u64> {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
        };
        Self { resident: bytes("VmRSS:"), peak: bytes("VmHWM:") }
    }
}

impl Instrumented for ProcessMemory {
    const METRICS: &'static [Metric<Self>] = &[
        Metric::gauge("negstream_resident_bytes", "Memory of the process.", |memory, samples| {
            samples.put(memory.resident);
        }),
        Metric::gauge("negstream_resident_peak_bytes", "Largest memory of the process so far.", |memory, samples| {
            samples.put(memory.peak);
        }),
    ];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_memory_is_parsed_from_the_status_file() {
        let text = "Name:\tnegstream\nVmHWM:\t  2048 kB\nVmRSS:\t    12 kB\nThreads:\t3\n";
        assert_eq!(ProcessMemory::parse(text), ProcessMemory { resident: Some(12 << 10), peak: Some(2 << 20) });
        assert_eq!(ProcessMemory::parse("Name:\tnegstream\n"), ProcessMemory::default());
    }
}
