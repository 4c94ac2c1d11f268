//! What a running machine says about itself.

use serde::{Deserialize, Serialize};

use crate::{Accelerator, Error};

/// What this host offers for running a machine; see [`crate::check_host`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostCheck {
    /// The monitor that would be used, and why where it is not ours, in words; or what is missing.
    pub backend: Result<String, Error>,
    /// Why machines are translated in software here, and what would change that; nothing where the
    /// processor runs them.
    pub slow_because: Option<String>,
}

/// The machine process's answer to [`crate::Machine::status`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The backend's name, such as `qemu`.
    pub backend: String,
    /// The monitor's version as it tells it, such as `10.0.2`.
    pub backend_version: String,
    /// What runs the guest's instructions.
    pub accelerator: Accelerator,
    /// The machine process.
    pub pid: u32,
    /// The monitor's process, where it is one of its own.
    pub vm_pid: Option<u32>,
    /// Whether the guest's vsock driver is up.
    pub guest_ready: bool,
    /// Open vsock streams.
    pub streams: u32,
    /// Whether the machine waits because the host's disk has no room for its writes.
    #[serde(default)]
    pub disk_full: bool,
    /// Milliseconds since the machine was started.
    pub uptime_ms: u64,
}
