//! Paths that the container may not see, or not write.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use super::inside::Root;
use super::{Step, inside, kernel_fs};
use crate::sys::{self, MountAttr};
use crate::{MountFlags, StartError};

/// The machine's null device as a detached mount, to hide files under.
///
/// Taken before the container's root is entered and checked by its device number: the one in the
/// container may be anything (CVE-2025-31133).
pub fn machine_null() -> Step<OwnedFd> {
    let fail = |errno| StartError::kernel("mask", errno, "open the null device");
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let null = open_tree(rustix::fs::CWD, "/dev/null", flags).map_err(fail)?;
    inside::must_be_device(null.as_fd(), 1, 3).map_err(fail)?;
    Ok(null)
}

/// Covers `paths`: a file by `null`, a directory by an empty read-only tmpfs.
pub fn mask(root: &Root, paths: &[String], null: &OwnedFd) -> Step<()> {
    let mut covers = Covers {
        null,
        null_used: false,
        empty: None,
    };
    for path in paths {
        covers.cover(root, path).map_err(|errno| {
            StartError::kernel("mask", errno, format!("can't mask path {path}"))
        })?;
    }
    Ok(())
}

struct Covers<'a> {
    null: &'a OwnedFd,
    null_used: bool,
    empty: Option<OwnedFd>,
}

impl Covers<'_> {
    fn cover(&mut self, root: &Root, path: &str) -> rustix::io::Result<()> {
        let Some(target) = existing(root, path)? else {
            return Ok(());
        };
        if !inside::is_directory(target.as_fd())? {
            let copy = if self.null_used {
                Some(clone(self.null.as_fd(), false)?)
            } else {
                None
            };
            self.null_used = true;
            return put(copy.as_ref().unwrap_or(self.null).as_fd(), target.as_fd());
        }
        // One tmpfs serves all: its later mounts are copies of the first.
        if let Some(empty) = &self.empty {
            return put(clone(empty.as_fd(), false)?.as_fd(), target.as_fd());
        }
        let flags = MountFlags {
            read_only: true,
            nosuid: true,
            nodev: true,
            noexec: true,
            ..MountFlags::default()
        };
        let options = [("mode", "755"), ("size", "0"), ("nr_inodes", "1")];
        let empty = kernel_fs::detached("tmpfs", &options, flags)
            .map_err(|error| Errno::from_raw_os_error(error.errno.unwrap_or(libc::EIO)))?;
        put(empty.as_fd(), target.as_fd())?;
        self.empty = Some(empty);
        Ok(())
    }
}

/// Makes `paths` read-only where they are.
pub fn read_only(root: &Root, paths: &[String]) -> Step<()> {
    for path in paths {
        protect(root, path).map_err(|errno| {
            StartError::kernel("readonly", errno, format!("can't make {path} read-only"))
        })?;
    }
    Ok(())
}

fn protect(root: &Root, path: &str) -> rustix::io::Result<()> {
    let Some(target) = existing(root, path)? else {
        return Ok(());
    };
    let copy = clone(target.as_fd(), true)?;
    let attr = MountAttr {
        set: libc::MOUNT_ATTR_RDONLY,
        ..MountAttr::default()
    };
    sys::mount_setattr(copy.as_fd(), true, &attr)?;
    put(copy.as_fd(), target.as_fd())
}

/// `--read-only`: the root mount itself, not what is mounted below it.
pub fn read_only_root(root: &Root) -> Step<()> {
    let fail = |errno| StartError::kernel("readonly", errno, "make the root read-only");
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let top = rustix::fs::openat(root.as_fd(), ".", flags, Mode::empty()).map_err(fail)?;
    let attr = MountAttr {
        set: libc::MOUNT_ATTR_RDONLY,
        ..MountAttr::default()
    };
    sys::mount_setattr(top.as_fd(), false, &attr).map_err(fail)
}

fn existing(root: &Root, path: &str) -> rustix::io::Result<Option<OwnedFd>> {
    match root.open(path, OFlags::PATH) {
        Ok(target) => Ok(Some(target)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(errno) => Err(errno),
    }
}

fn clone(mount: BorrowedFd<'_>, recursive: bool) -> rustix::io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
    open_tree(mount, "", flags)
}

fn put(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, "", target, "", flags)
}
