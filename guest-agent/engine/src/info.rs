//! What the engine says of itself and its machine.

use std::io;

use crate::engine::Engine;

/// Facts for `docker info` that only the machine knows.
#[derive(Debug, Clone)]
pub struct MachineInfo {
    /// Release of the kernel.
    pub kernel: String,
    /// `x86_64`, `aarch64`.
    pub architecture: String,
    /// Processors.
    pub cpus: usize,
    /// Memory in bytes.
    pub memory: u64,
    /// Descriptors the engine has open.
    pub descriptors: usize,
    /// Whether forwarding is on in the containers' network.
    pub forwarding: bool,
    /// Controllers that limits can be set by.
    pub controllers: Vec<String>,
    /// What the machine does not offer.
    pub warnings: Vec<String>,
}

impl Engine {
    /// The machine as it is now.
    pub fn machine_info(&self) -> MachineInfo {
        let uname = rustix::system::uname();
        let launcher = self.launcher();
        MachineInfo {
            kernel: uname.release().to_string_lossy().into_owned(),
            architecture: uname.machine().to_string_lossy().into_owned(),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            memory: memory_total().unwrap_or(0),
            descriptors: std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count),
            forwarding: std::fs::read("/proc/sys/net/ipv4/ip_forward")
                .is_ok_and(|text| text.starts_with(b"1")),
            controllers: launcher.cgroups().controllers().to_vec(),
            warnings: launcher
                .warnings()
                .iter()
                .map(|warning| warning.0.clone())
                .collect(),
        }
    }
}

/// `MemTotal` in bytes.
pub(crate) fn memory_total() -> io::Result<u64> {
    let text = std::fs::read_to_string("/proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    number
        .map(|kib| kib * 1024)
        .ok_or_else(|| io::Error::other("no MemTotal"))
}
