//! A root that containers can be pivoted away from, and that nobody writes to.

use rustix::fs::CWD;
use rustix::mount::{
    MountFlags, MoveMountFlags, OpenTreeFlags, mount_remount, move_mount, open_tree,
};
use rustix::process::{chroot, fchdir};

use super::{At, BootError};

/// Puts a bind mount of `/` on top of `/` and moves into it.
///
/// The kernel unpacks the initramfs into the one mount that `pivot_root` refuses to leave. The
/// copy on top of it is an ordinary mount, whose root the process then calls its own.
pub fn make_pivotable() -> Result<(), BootError> {
    let step = "making the root pivotable";
    let copy = open_tree(
        CWD,
        "/",
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC,
    )
    .at(step)?;
    move_mount(&copy, "", CWD, "/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).at(step)?;
    fchdir(&copy).at(step)?;
    chroot(".").at(step)
}

/// Makes the initramfs read-only, file system and mount, once every mount point in it exists.
pub fn make_read_only() -> Result<(), BootError> {
    let step = "making the root read-only";
    mount_remount("/", MountFlags::RDONLY, "").at(step)?;
    mount_remount("/", MountFlags::RDONLY | MountFlags::BIND, "").at(step)
}
