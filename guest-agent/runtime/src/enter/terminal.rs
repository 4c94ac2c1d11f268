//! A terminal of the container's own devpts, reached by descriptor only.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};
use rustix::termios::Winsize;

use super::inside::Root;
use super::{Step, inside};
use crate::{StartError, TerminalSize, sys};

/// Both sides of a new terminal.
pub struct Terminal {
    pub master: OwnedFd,
    pub slave: OwnedFd,
}

impl Terminal {
    /// Makes a terminal of `devpts`, or, for an exec, of the devpts the container has.
    pub fn new(root: &Root, devpts: Option<BorrowedFd<'_>>, size: TerminalSize) -> Step<Self> {
        Self::open(root, devpts, size)
            .map_err(|errno| StartError::kernel("terminal", errno, "make a terminal"))
    }

    fn open(
        root: &Root,
        devpts: Option<BorrowedFd<'_>>,
        size: TerminalSize,
    ) -> rustix::io::Result<Self> {
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let master = match devpts {
            Some(devpts) => {
                let resolve = ResolveFlags::BENEATH
                    | ResolveFlags::NO_XDEV
                    | ResolveFlags::NO_MAGICLINKS
                    | ResolveFlags::NO_SYMLINKS;
                openat2(devpts, "ptmx", flags, Mode::empty(), resolve)?
            }
            None => open_ptmx(root, flags)?,
        };
        // Whatever name led here: it must be the multiplexer of a devpts.
        inside::must_be_device(master.as_fd(), 5, 2)?;
        sys::pty_unlock(master.as_fd())?;
        // The slave comes out of the master, not out of a name below /dev/pts (CVE-2025-52565).
        let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
        let slave = sys::pty_peer(master.as_fd(), flags)?;
        must_be_devpts(slave.as_fd())?;
        if size != TerminalSize::default() {
            let size = Winsize {
                ws_row: size.rows,
                ws_col: size.cols,
                ws_xpixel: 0,
                ws_ypixel: 0,
            };
            rustix::termios::tcsetwinsize(&slave, size)?;
        }
        Ok(Self { master, slave })
    }

    /// Binds the slave on the `console` file of `dev`, the `/dev` made here.
    pub fn be_console(&self, dev: BorrowedFd<'_>) -> Step<()> {
        let fail = |errno| StartError::kernel("terminal", errno, "bind /dev/console");
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let console = rustix::fs::openat(dev, "console", flags, Mode::empty()).map_err(fail)?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_EMPTY_PATH;
        let mount = open_tree(&self.slave, "", flags).map_err(fail)?;
        let flags =
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        move_mount(&mount, "", &console, "", flags).map_err(fail)
    }
}

fn open_ptmx(root: &Root, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    // A container that brought its own /dev may have no /dev/pts/ptmx that may be opened.
    match root.open("/dev/pts/ptmx", flags) {
        Err(Errno::NOENT | Errno::ACCESS) => root.open("/dev/ptmx", flags),
        other => other,
    }
}

fn must_be_devpts(slave: BorrowedFd<'_>) -> rustix::io::Result<()> {
    const DEVPTS_SUPER_MAGIC: i64 = 0x1cd1;
    let right = rustix::fs::fstatfs(slave)?.f_type == DEVPTS_SUPER_MAGIC;
    if right { Ok(()) } else { Err(Errno::XDEV) }
}
