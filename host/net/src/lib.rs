//! The user-mode network: the one process that opens sockets to the world for the guest.
//!
//! It is the router behind the guest's only network card. Nothing of the host's own network has to be
//! changed for it, and nothing there is reached that the host's user could not reach.
//!
//! Called by: the daemon, through [`NetProcess`] (start, find again, tell where the host asks for names); the
//! command `lighter net`, which is [`process_main`].
//! Must never: open anything by name, listen, or reach what [`nat::plan`] refuses.

pub mod close;
pub mod control;
pub mod nat;

// The one place that chooses what the host system offers.
#[cfg(not(target_os = "linux"))]
#[path = "absent/mod.rs"]
mod sys;
#[cfg(target_os = "linux")]
#[path = "linux/mod.rs"]
mod sys;

/// A connected socket, for the virtual machine's front end.
#[cfg(all(unix, not(target_os = "linux")))]
type Socket = std::os::fd::OwnedFd;
/// A connected socket, for the virtual machine's front end.
#[cfg(windows)]
type Socket = std::os::windows::io::OwnedHandle;

pub use sys::{NetError, NetProcess, SpawnConfig, process_main, set_names, status};

/// The name of the control socket in the run directory.
pub const CONTROL_SOCKET: &str = "net.sock";
