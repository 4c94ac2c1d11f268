//! What passes between the launcher and `lighter-enter`.
//!
//! The order travels in a memory file (JSON, then the compiled filter), everything else over one
//! `SOCK_SEQPACKET` pair: reports upwards, the opening of the gate downwards. End of file on it
//! means to `lighter-enter` that the engine is dead, and to the launcher that the program has been
//! exec'd (the socket closes on exec) or that `lighter-enter` is dead, told apart by
//! [`EXECUTING`].

use std::os::fd::{BorrowedFd, OwnedFd, RawFd};

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::{ContainerSpec, ExecSpec, StartError};

/// Upwards: everything is set up; carries the terminal's master if there is one.
pub const READY: u8 = b'R';
/// Upwards: the next thing is the exec.
pub const EXECUTING: u8 = b'X';
/// Upwards: a [`StartError`] as JSON follows.
pub const FAILED: u8 = b'F';
/// Downwards: go.
pub const GO: u8 = b'G';

/// Longest message.
pub const MESSAGE_LIMIT: usize = 16 * 1024;

/// What `lighter-enter` is to become.
#[derive(Debug, Serialize, Deserialize)]
pub enum Task<C = ContainerSpec, E = ExecSpec> {
    /// The first process of a container.
    Container(C),
    /// A further process of one.
    Exec(E),
}

/// The whole order. The launcher borrows the specification, `lighter-enter` owns it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Order<C = ContainerSpec, E = ExecSpec> {
    pub task: Task<C, E>,
    pub fds: Numbers,
}

/// Descriptors of `lighter-enter`, by number.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Numbers {
    pub stdin: Option<RawFd>,
    pub stdout: Option<RawFd>,
    pub stderr: Option<RawFd>,
    pub rootfs: Option<RawFd>,
    pub mounts: Vec<RawFd>,
    pub namespaces: Vec<RawFd>,
    /// The container's first process, for an exec.
    pub target: Option<RawFd>,
    /// The user namespace of the container, for an exec; for a container, `lighter-enter` is in it.
    pub user: Option<RawFd>,
    /// The `/dev` of a container with a user namespace, in which no node can be made.
    pub dev: Option<RawFd>,
    /// Its other device nodes, each under its index in [`ContainerSpec::devices`].
    pub nodes: Option<RawFd>,
    /// `lighter-enter` itself, if it is to stay as the container's init.
    pub program: Option<RawFd>,
}

impl Numbers {
    /// Every number named.
    pub fn all(&self) -> Vec<RawFd> {
        [
            self.stdin,
            self.stdout,
            self.stderr,
            self.rootfs,
            self.target,
            self.user,
            self.dev,
            self.nodes,
            self.program,
        ]
        .into_iter()
        .flatten()
        .chain(self.mounts.iter().copied())
        .chain(self.namespaces.iter().copied())
        .collect()
    }
}

/// Puts an order into a memory file.
pub fn write_order<C: Serialize, E: Serialize>(
    order: &Order<C, E>,
    filter: &[u8],
) -> Result<OwnedFd, StartError> {
    let fail = |errno| StartError::kernel("order", errno, "write the order");
    let json = serde_json::to_vec(order).map_err(|_| fail(Errno::INVAL))?;
    let file =
        rustix::fs::memfd_create("lighter-order", rustix::fs::MemfdFlags::CLOEXEC).map_err(fail)?;
    let mut bytes = Vec::with_capacity(8 + json.len() + filter.len());
    bytes.extend_from_slice(&(json.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&json);
    bytes.extend_from_slice(filter);
    let mut at = 0;
    while at < bytes.len() {
        match rustix::io::pwrite(&file, &bytes[at..], at as u64) {
            Ok(count) => at += count,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(fail(errno)),
        }
    }
    Ok(file)
}

/// Reads it back; the second part is the filter.
pub fn read_order(file: BorrowedFd<'_>) -> Option<(Order, Vec<u8>)> {
    let size = usize::try_from(rustix::fs::fstat(file).ok()?.st_size).ok()?;
    let mut bytes = vec![0; size];
    let mut at = 0;
    while at < size {
        match rustix::io::pread(file, &mut bytes[at..], at as u64) {
            Ok(0) => return None,
            Ok(count) => at += count,
            Err(Errno::INTR) => {}
            Err(_) => return None,
        }
    }
    let (length, rest) = bytes.split_first_chunk::<8>()?;
    let (json, filter) = rest.split_at_checked(u64::from_le_bytes(*length) as usize)?;
    Some((serde_json::from_slice(json).ok()?, filter.to_vec()))
}
