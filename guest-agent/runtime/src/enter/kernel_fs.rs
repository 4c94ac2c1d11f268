//! File systems made by the kernel: procfs, sysfs, tmpfs and their like, detached.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount,
    fsopen,
};

use super::{Step, inside};
use crate::{MountFlags, StartError};

/// Makes a mount of `kind` that nobody sees yet.
pub fn detached(kind: &str, options: &[(&str, &str)], flags: MountFlags) -> Step<OwnedFd> {
    make(kind, options, attributes(flags))
        .map_err(|errno| StartError::kernel("mount", errno, format!("error mounting \"{kind}\"")))
}

fn make(
    kind: &str,
    options: &[(&str, &str)],
    attributes: MountAttrFlags,
) -> rustix::io::Result<OwnedFd> {
    let fs = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    // What `mount` shows as the source: the kind, as Docker's mounts have it.
    let given = options
        .iter()
        .find(|(key, _)| *key == "source")
        .map(|(_, value)| *value);
    fsconfig_set_string(fs.as_fd(), "source", given.unwrap_or_else(|| source(kind)))?;
    for (key, value) in options.iter().filter(|(key, _)| *key != "source") {
        fsconfig_set_string(fs.as_fd(), *key, *value)?;
    }
    fsconfig_create(fs.as_fd())?;
    fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

fn source(kind: &str) -> &str {
    match kind {
        "cgroup2" => "cgroup",
        other => other,
    }
}

fn attributes(flags: MountFlags) -> MountAttrFlags {
    let mut attributes = MountAttrFlags::empty();
    attributes.set(MountAttrFlags::MOUNT_ATTR_RDONLY, flags.read_only);
    attributes.set(MountAttrFlags::MOUNT_ATTR_NOSUID, flags.nosuid);
    attributes.set(MountAttrFlags::MOUNT_ATTR_NODEV, flags.nodev);
    attributes.set(MountAttrFlags::MOUNT_ATTR_NOEXEC, flags.noexec);
    attributes
}

/// Writes a kernel setting through a procfs that is attached nowhere: no mount in the container
/// and no link in its root can turn the write to another file (CVE-2019-19921, CVE-2025-52881).
pub fn write_sysctl(procfs: BorrowedFd<'_>, name: &str, value: &str) -> Step<()> {
    let fail = |errno| StartError::kernel("sysctl", errno, format!("write sysctl key {name}"));
    let path = format!(
        "sys/{}",
        if name.contains('/') {
            name.to_owned()
        } else {
            name.replace('.', "/")
        }
    );
    let resolve = ResolveFlags::BENEATH
        | ResolveFlags::NO_XDEV
        | ResolveFlags::NO_MAGICLINKS
        | ResolveFlags::NO_SYMLINKS;
    let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOCTTY;
    let file = openat2(procfs, &path, flags, Mode::empty(), resolve).map_err(fail)?;
    inside::must_be_procfs(file.as_fd()).map_err(fail)?;
    rustix::io::write(&file, value.as_bytes())
        .map(drop)
        .map_err(fail)
}
