//! What the daemon hands in to start a machine.

use std::path::PathBuf;

use crate::{Secret, VmSpec};

/// A socket that is given away to the machine process.
#[cfg(unix)]
pub type ClientStream = std::os::fd::OwnedFd;
/// A pipe or socket that is given away to the machine process.
#[cfg(windows)]
pub type ClientStream = std::os::windows::io::OwnedHandle;

/// Everything needed to start a machine process.
#[derive(Debug)]
pub struct LaunchConfig {
    /// Directory (0700, the user's own) of `machine.lock` and `machine.sock`.
    pub run_dir: PathBuf,
    /// The program to start as the machine process: `lighter` itself.
    pub exe: PathBuf,
    /// Its arguments, usually `["machine"]`.
    pub args: Vec<String>,
    /// The machine.
    pub spec: VmSpec,
    /// The secret of this boot, kept by the machine process for the next daemon.
    pub secret: Secret,
    /// One connected vhost-user socket for each of `spec.shares`, in their order.
    pub share_sockets: Vec<ClientStream>,
    /// The name (an `O_PATH` descriptor) of a listening vhost-user socket for `spec.network`, if that is there.
    pub network_socket: Option<ClientStream>,
    /// Where the machine process writes its own messages; nowhere without it.
    pub log: Option<std::fs::File>,
    /// Further descriptors the machine process holds for as long as the machine lives and does not
    /// use: whoever has the other end learns by them that the machine ended.
    pub hold: Vec<ClientStream>,
}
