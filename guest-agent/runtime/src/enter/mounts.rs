//! What is mounted into the container, one after the other.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, move_mount};

use super::inside::{Place, Root};
use super::{Step, dev, inside, kernel_fs};
use crate::sys::{self, MountAttr};
use crate::{ContainerSpec, Mount, MountFlags, MountKind, Namespace, Propagation, StartError};

/// Files of procfs that may be replaced; everything else below `/proc` may not be mounted on.
const PROC_FILES: [&str; 9] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/sys/kernel/ns_last_pid",
];

/// Descriptors of what was mounted, for the steps that follow.
#[derive(Default)]
pub struct Mounted {
    /// The `/dev` made here.
    pub dev: Option<OwnedFd>,
    /// The container's devpts.
    pub devpts: Option<OwnedFd>,
}

/// Detached mounts that are there before the first is put on its place.
#[derive(Default)]
pub struct Made {
    /// What is bound, by the index in [`MountKind::Fd`].
    binds: Vec<Option<OwnedFd>>,
    /// Those of [`MountKind::Proc`] and [`MountKind::Sysfs`], in their order.
    kernels: VecDeque<OwnedFd>,
    /// The `/dev` of a container that cannot make one.
    dev: Option<OwnedFd>,
}

impl Made {
    /// Makes procfs and sysfs, and sets the kernel settings of `spec`.
    ///
    /// Must run while the machine's own are still in sight: in a user namespace the kernel makes
    /// none that shows more than one that can be seen.
    pub fn new(spec: &ContainerSpec, binds: Vec<OwnedFd>, dev: Option<OwnedFd>) -> Step<Self> {
        let mut kernels = VecDeque::new();
        for mount in &spec.mounts {
            match mount.kind {
                MountKind::Proc => {
                    kernels.push_back(kernel_fs::detached("proc", &[], mount.flags)?);
                }
                MountKind::Sysfs => {
                    kernels.push_back(kernel_fs::detached("sysfs", &[], mount.flags)?);
                }
                _ => {}
            }
        }
        set_sysctls(spec)?;
        Ok(Self {
            binds: binds.into_iter().map(Some).collect(),
            kernels,
            dev,
        })
    }
}

fn set_sysctls(spec: &ContainerSpec) -> Step<()> {
    if spec.sysctls.is_empty() {
        return Ok(());
    }
    let closed = MountFlags {
        nosuid: true,
        nodev: true,
        noexec: true,
        ..MountFlags::default()
    };
    let procfs = kernel_fs::detached("proc", &[], closed)?;
    let mut settings = spec.sysctls.iter();
    settings.try_for_each(|(name, value)| kernel_fs::write_sysctl(procfs.as_fd(), name, value))
}

/// Mounts everything `spec` names.
pub fn all(root: &Root, spec: &ContainerSpec, mut made: Made) -> Step<Mounted> {
    let mut mounted = Mounted::default();
    for mount in &spec.mounts {
        one(root, spec, mount, &mut made, &mut mounted)?;
    }
    Ok(mounted)
}

fn one(
    root: &Root,
    spec: &ContainerSpec,
    mount: &Mount,
    made: &mut Made,
    mounted: &mut Mounted,
) -> Step<()> {
    let flags = mount.flags;
    let missing = || StartError::kernel("mount", Errno::BADF, describe(mount));
    let made = match &mount.kind {
        MountKind::Fd(index) => {
            let bind = made.binds.get_mut(*index);
            let bind = bind.and_then(Option::take).ok_or_else(missing)?;
            restrict(bind.as_fd(), flags)
                .map_err(|errno| StartError::kernel("mount", errno, describe(mount)))?;
            bind
        }
        MountKind::Dev => match made.dev.take() {
            Some(dev) => dev,
            None => dev::make(flags, spec)?,
        },
        MountKind::Tmpfs { options } => {
            let options: Vec<_> = options
                .iter()
                .map(|(key, value)| (key.as_str(), value.as_str()))
                .collect();
            kernel_fs::detached("tmpfs", &options, flags)?
        }
        MountKind::Proc | MountKind::Sysfs => made.kernels.pop_front().ok_or_else(missing)?,
        MountKind::Cgroup => kernel_fs::detached("cgroup2", &[], flags)?,
        MountKind::Devpts => {
            let options = [("ptmxmode", "0666"), ("mode", "0620"), ("gid", "5")];
            kernel_fs::detached("devpts", &options, flags)?
        }
        MountKind::Mqueue => kernel_fs::detached("mqueue", &[], flags)?,
        MountKind::Shm { size } => {
            let size = size.to_string();
            let options = [("source", "shm"), ("mode", "1777"), ("size", &size)];
            kernel_fs::detached("tmpfs", &options, flags)?
        }
    };
    attach(root, mount, made.as_fd())
        .map_err(|errno| StartError::kernel("mount", errno, describe(mount)))?;
    match mount.kind {
        MountKind::Dev => mounted.dev = Some(made),
        MountKind::Devpts => mounted.devpts = Some(made),
        _ => {}
    }
    Ok(())
}

fn describe(mount: &Mount) -> String {
    let source = match &mount.kind {
        MountKind::Fd(_) => mount.source.as_str(),
        MountKind::Dev | MountKind::Tmpfs { .. } => "tmpfs",
        MountKind::Proc => "proc",
        MountKind::Sysfs => "sysfs",
        MountKind::Cgroup => "cgroup",
        MountKind::Devpts => "devpts",
        MountKind::Mqueue => "mqueue",
        MountKind::Shm { .. } => "shm",
    };
    format!(
        "error mounting \"{source}\" to rootfs at \"{}\"",
        mount.destination
    )
}

/// Puts a detached mount on its place, which is looked up once and held by descriptor
/// (CVE-2021-30465: a directory exchanged meanwhile changes nothing).
fn attach(root: &Root, mount: &Mount, made: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let path = mount.destination.as_str();
    let place = if inside::is_directory(made)? {
        Place::Directory
    } else {
        Place::File
    };
    let target = match mount.kind {
        // Through a link these would hide something else, and programs would read what the image
        // has put where they expect the kernel's word (CVE-2019-19921).
        MountKind::Proc | MountKind::Sysfs => match root.open_without_links(path, OFlags::PATH) {
            Err(Errno::NOENT) => root.place(path, place)?,
            other => other?,
        },
        _ => root.place(path, place)?,
    };
    if place == Place::Directory && !inside::is_directory(target.as_fd())? {
        return Err(Errno::NOTDIR);
    }
    if !matches!(mount.kind, MountKind::Proc) {
        check_proc(root, mount, target.as_fd(), made)?;
    }
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(made, "", &target, "", flags)
}

/// Keeps `/proc` what it says it is: the kernel settings and labels other programs write there
/// must reach the kernel.
fn check_proc(
    root: &Root,
    mount: &Mount,
    target: BorrowedFd<'_>,
    made: BorrowedFd<'_>,
) -> rustix::io::Result<()> {
    let path = format!("/{}", mount.destination.trim_matches('/'));
    let allowed = if inside::is_procfs(target)? {
        let again = path == "/proc" && inside::is_procfs(made)?;
        again || PROC_FILES.contains(&path.as_str())
    } else {
        inside::is_procfs(made)? || !is_proc_directory(root, target)?
    };
    if allowed { Ok(()) } else { Err(Errno::PERM) }
}

/// Whether `target` is the root's `/proc`, by whatever name it was reached.
fn is_proc_directory(root: &Root, target: BorrowedFd<'_>) -> rustix::io::Result<bool> {
    let proc = match root.open("/proc", OFlags::PATH) {
        Ok(proc) => rustix::fs::fstat(&proc)?,
        Err(Errno::NOENT) => return Ok(false),
        Err(errno) => return Err(errno),
    };
    let target = rustix::fs::fstat(target)?;
    Ok((proc.st_dev, proc.st_ino) == (target.st_dev, target.st_ino))
}

/// Sets attributes and propagation of a bind, while nobody can see it yet.
fn restrict(bind: BorrowedFd<'_>, flags: MountFlags) -> rustix::io::Result<()> {
    let mut set = 0;
    set |= if flags.nosuid {
        libc::MOUNT_ATTR_NOSUID
    } else {
        0
    };
    set |= if flags.nodev {
        libc::MOUNT_ATTR_NODEV
    } else {
        0
    };
    set |= if flags.noexec {
        libc::MOUNT_ATTR_NOEXEC
    } else {
        0
    };
    let (propagation, recursive) = match flags.propagation {
        None | Some(Propagation::Rprivate) => (libc::MS_PRIVATE, true),
        Some(Propagation::Private) => (libc::MS_PRIVATE, false),
        Some(Propagation::Rslave) => (libc::MS_SLAVE, true),
        Some(Propagation::Slave) => (libc::MS_SLAVE, false),
        Some(Propagation::Rshared) => (libc::MS_SHARED, true),
        Some(Propagation::Shared) => (libc::MS_SHARED, false),
    };
    let read_only = if flags.read_only {
        libc::MOUNT_ATTR_RDONLY
    } else {
        0
    };
    let deep = flags.read_only && !flags.read_only_non_recursive;
    let attr = |set, propagation| MountAttr {
        set,
        propagation,
        ..MountAttr::default()
    };
    if recursive == deep || (recursive && !flags.read_only && set == 0) {
        return sys::mount_setattr(bind, recursive, &attr(set | read_only, propagation));
    }
    sys::mount_setattr(bind, recursive, &attr(0, propagation))?;
    if set | read_only != 0 {
        sys::mount_setattr(bind, false, &attr(set | read_only, 0))?;
    }
    if deep {
        sys::mount_setattr(bind, true, &attr(read_only, 0))?;
    }
    Ok(())
}

/// Whether the cgroup namespace is to be made here (see [`crate::Launcher`]).
pub fn wants_cgroup_namespace(spec: &ContainerSpec) -> bool {
    spec.namespaces.cgroup == Namespace::New
}
