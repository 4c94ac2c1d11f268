//! What a container or an exec is to be, as plain data.
//!
//! The engine fills these; the launcher hands them to `lighter-enter` in a sealed memory file.
//! Descriptors are named by their index in [`crate::ContainerFds`]. Nothing here does I/O.

mod process;
mod resources;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use process::{
    Capabilities, ExecSpec, ProcessSpec, Rlimit, RlimitResource, Seccomp, TerminalSize,
};
pub use resources::{BlkioThrottle, Device, DeviceAccess, DeviceKind, DeviceRule, Resources};

/// One container, as it shall be when its first program runs.
///
/// [`ContainerSpec::new`] gives Docker's defaults; [`ContainerSpec::make_privileged`] what
/// `--privileged` changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// Name of the container's cgroup under the launcher's root, and of its session keyring.
    pub id: String,
    /// The first program and what it may do.
    pub process: ProcessSpec,
    /// Set in a new UTS namespace; ignored where `namespaces.uts` is not [`Namespace::New`].
    pub hostname: String,
    /// NIS domain name, set like the host name when not empty.
    pub domainname: String,
    /// Which namespaces are new, shared or joined. The mount namespace is always new.
    pub namespaces: Namespaces,
    /// Mounted in this order, each destination resolved inside the container's root.
    pub mounts: Vec<Mount>,
    /// Hidden: files under the null device, directories under an empty read-only tmpfs.
    pub masked_paths: Vec<String>,
    /// Made read-only where they are.
    pub readonly_paths: Vec<String>,
    /// `--read-only`.
    pub read_only_root: bool,
    /// Kernel settings by their dotted (or slashed) name; only those of a new namespace.
    pub sysctls: BTreeMap<String, String>,
    /// Device nodes beyond the standard ones.
    pub devices: Vec<Device>,
    /// What the device filter of the cgroup lets through, in order, the last match deciding.
    pub device_rules: Vec<DeviceRule>,
    /// `--init`: a small process stays as PID 1, hands on signals and reaps.
    pub init: bool,
    /// Limits of the container's cgroup.
    pub resources: Resources,
    /// `--cgroup-parent`: a path below the launcher's root, each part made when missing.
    pub cgroup_parent: Option<String>,
}

/// Where a namespace comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Namespace {
    /// A fresh one.
    #[default]
    New,
    /// That of `lighter-enter`'s caller: the engine's own.
    Host,
    /// That of a descriptor in [`crate::ContainerFds::namespaces`]: an open
    /// `/proc/PID/ns/KIND` file or a pidfd.
    Join(usize),
}

/// The namespaces a container may have for itself or share.
///
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespaces {
    /// Process ids.
    pub pid: Namespace,
    /// Network. In a new one the loopback interface is brought up.
    pub net: Namespace,
    /// System V IPC and POSIX message queues.
    pub ipc: Namespace,
    /// Host name.
    pub uts: Namespace,
    /// What the container sees as the root of the cgroup tree.
    pub cgroup: Namespace,
    /// User ids: the machine's, or joined. [`Namespace::New`] is refused: what
    /// [`crate::user_namespace`] makes is joined. The new ones of the others are its own then, and
    /// the mounts passed in have to be mapped by it.
    pub user: Namespace,
}

impl Namespaces {
    /// Whether ids inside are others than outside.
    #[must_use]
    pub fn maps_ids(&self) -> bool {
        self.user != Namespace::Host
    }
}

impl Default for Namespaces {
    fn default() -> Self {
        Self {
            pid: Namespace::New,
            net: Namespace::New,
            ipc: Namespace::New,
            uts: Namespace::New,
            cgroup: Namespace::New,
            user: Namespace::Host,
        }
    }
}

/// Something mounted into the container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mount {
    /// Where: an absolute path in the container. A missing one is made.
    pub destination: String,
    /// What.
    pub kind: MountKind,
    /// How.
    #[serde(default)]
    pub flags: MountFlags,
    /// Shown in errors in place of what a descriptor cannot tell: the source as the user wrote it.
    #[serde(default)]
    pub source: String,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MountKind {
    /// A detached mount (of a directory or a file) at this index of
    /// [`crate::ContainerFds::mounts`], as [`crate::mounts::bind`] makes it.
    Fd(usize),
    /// `/dev` as Docker lays it out: a small tmpfs with the standard nodes and links,
    /// [`ContainerSpec::devices`], and `console` when there is a terminal.
    Dev,
    /// A tmpfs with these `fsconfig` options (`size`, `mode`, `uid`, `gid`, `nr_inodes`, …).
    Tmpfs {
        /// Key and value as tmpfs takes them.
        options: Vec<(String, String)>,
    },
    /// procfs of the container's PID namespace.
    Proc,
    /// sysfs of the container's network namespace.
    Sysfs,
    /// The cgroup tree as the container's cgroup namespace shows it.
    Cgroup,
    /// A devpts instance of the container's own.
    Devpts,
    /// The message queues of the container's IPC namespace.
    Mqueue,
    /// `/dev/shm`: a tmpfs of this many bytes.
    Shm {
        /// Upper bound of its content.
        size: u64,
    },
}

/// Attributes of one mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct MountFlags {
    /// Not writable, mounts below it included where it is a bind.
    pub read_only: bool,
    /// With `read_only`: only the mount itself, not those below it.
    pub read_only_non_recursive: bool,
    /// Set-user-ID bits do nothing.
    pub nosuid: bool,
    /// Device nodes do not open.
    pub nodev: bool,
    /// Nothing executes.
    pub noexec: bool,
    /// How mount events pass; `None` is Docker's `rprivate`.
    pub propagation: Option<Propagation>,
}

/// How mount events pass between a mount and its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Propagation {
    /// Neither way, this mount only.
    Private,
    /// Neither way, with the mounts below it.
    Rprivate,
    /// From the source only.
    Slave,
    /// From the source only, with the mounts below it.
    Rslave,
    /// Both ways.
    Shared,
    /// Both ways, with the mounts below it.
    Rshared,
}
