//! Into the container's root file system, for good.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::mount::{MoveMountFlags, UnmountFlags};
use rustix::process::{fchdir, pivot_root};

use super::Step;
use super::inside::Root;
use crate::StartError;
use crate::sys::{self, MountAttr};

/// Makes the detached mount `rootfs` the root of this mount namespace and lets go of all others.
///
/// The mount is laid over the present root and pivoted into in place, so that no directory of the
/// machine is needed to hold it. Afterwards not one path leads to the machine's files.
pub fn enter(rootfs: &OwnedFd) -> Step<Root> {
    let fail = |what: &'static str| move |errno| StartError::kernel("rootfs", errno, what);
    let open = || rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    let machine = open().map_err(fail("open the machine's root"))?;
    // Nothing that is mounted from here on may be seen outside, and pivot_root wants it.
    let private = MountAttr {
        propagation: libc::MS_PRIVATE,
        ..MountAttr::default()
    };
    sys::mount_setattr(machine.as_fd(), true, &private).map_err(fail("make mounts private"))?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(rootfs, "", &machine, "", flags)
        .map_err(fail("attach the root file system"))?;
    drop(machine);
    fchdir(rootfs).map_err(fail("enter the root file system"))?;
    pivot_root(".", ".").map_err(fail("pivot_root"))?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).map_err(fail("let go of the machine"))?;
    rustix::process::chdir("/").map_err(fail("chdir"))?;
    Ok(Root::new(
        open().map_err(fail("open the container's root"))?,
    ))
}
