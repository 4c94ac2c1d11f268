//! Project quotas: what the files of one project may take of a file system. A project is a number that
//! files carry, and that what is made in a directory takes over from it.
//!
//! Called by the engine. A descriptor stands for its file system; it must not be `O_PATH`.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

use super::{Result, check};

/// Kernel's `struct fsxattr`.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    cow_extent_size: u32,
    reserved: [u8; 8],
}

/// `FS_XFLAG_PROJINHERIT`: what is made in this directory has its project.
const INHERIT: u32 = 0x200;
/// `_IOR('X', 31, struct fsxattr)`.
const GET_ATTRIBUTES: u32 = 0x801c_581f;
/// `_IOW('X', 32, struct fsxattr)`.
const SET_ATTRIBUTES: u32 = 0x401c_5820;

/// Kernel's `struct if_nextdqblk`; `struct if_dqblk` ends where its padding becomes an id.
#[repr(C)]
#[derive(Default)]
struct Entry {
    /// In blocks of 1 KiB, as the next one.
    hard_limit: u64,
    soft_limit: u64,
    bytes: u64,
    inode_hard_limit: u64,
    inode_soft_limit: u64,
    inodes: u64,
    grace: u64,
    inode_grace: u64,
    valid: u32,
    id: u32,
}

const BLOCK: u64 = 1024;
/// `QIF_BLIMITS`: the limits of blocks are what is set.
const BLOCK_LIMITS: u32 = 1;

/// Kernel's `struct fs_quota_statv`, of which the flags are of interest.
#[repr(C)]
struct State {
    version: i8,
    padding: u8,
    flags: u16,
    in_core: u32,
    files: [u64; 9],
    rest: [u64; 10],
}

/// `FS_QUOTA_PDQ_ENFD`: limits of projects are in force.
const ENFORCED: u16 = 1 << 5;

/// `PRJQUOTA`.
const PROJECTS: libc::c_int = 2;
const GET: libc::c_int = 0x80_0007;
const SET: libc::c_int = 0x80_0008;
const NEXT: libc::c_int = 0x80_0009;
/// `Q_XGETQSTATV`.
const STATE: libc::c_int = 0x5808;

/// A project and what it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Its number.
    pub project: u32,
    /// Bytes its files take.
    pub bytes: u64,
    /// How many files there are, directories included.
    pub files: u64,
    /// Bytes they may take; 0 for as many as there are.
    pub limit: u64,
}

impl Usage {
    fn of(project: u32, entry: &Entry) -> Self {
        Self {
            project,
            bytes: entry.bytes,
            files: entry.inodes,
            limit: entry.hard_limit.saturating_mul(BLOCK),
        }
    }
}

/// Whether limits of projects are in force on the file system of `on`.
pub fn is_enforced(on: BorrowedFd<'_>) -> bool {
    let mut state = State {
        version: 1,
        padding: 0,
        flags: 0,
        in_core: 0,
        files: [0; 9],
        rest: [0; 10],
    };
    let asked = quotactl(on, STATE, 0, &raw mut state);
    asked.is_ok() && state.flags & ENFORCED != 0
}

/// The project of a file or directory; 0 is everybody's.
pub fn project(of: BorrowedFd<'_>) -> Result<u32> {
    Ok(attributes(of)?.project)
}

/// Gives a directory a project, and what is made in it from now on.
pub fn set_project(directory: BorrowedFd<'_>, project: u32) -> Result<()> {
    let mut wanted = attributes(directory)?;
    wanted.project = project;
    wanted.flags |= INHERIT;
    let wanted = &raw const wanted;
    // SAFETY: FS_IOC_FSSETXATTR reads one `fsxattr`, which lives until the call returns.
    check(unsafe { libc::ioctl(directory.as_raw_fd(), SET_ATTRIBUTES as _, wanted) }.into())
        .map(drop)
}

fn attributes(of: BorrowedFd<'_>) -> Result<Attributes> {
    let mut found = Attributes::default();
    // SAFETY: FS_IOC_FSGETXATTR writes one `fsxattr`.
    check(unsafe { libc::ioctl(of.as_raw_fd(), GET_ATTRIBUTES as _, &raw mut found) }.into())?;
    Ok(found)
}

/// What a project takes of the file system of `on`.
pub fn usage(on: BorrowedFd<'_>, project: u32) -> Result<Usage> {
    let mut entry = Entry::default();
    quotactl(on, GET, project, &raw mut entry)?;
    Ok(Usage::of(project, &entry))
}

/// The first project from `project` upwards that takes anything or has a limit; `None` behind the last.
pub fn next(on: BorrowedFd<'_>, project: u32) -> Result<Option<Usage>> {
    let mut entry = Entry::default();
    match quotactl(on, NEXT, project, &raw mut entry) {
        Ok(()) => Ok(Some(Usage::of(entry.id, &entry))),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Limits a project to so many bytes, in whole KiB and at least one; 0 takes the limit away.
pub fn limit(on: BorrowedFd<'_>, project: u32, bytes: u64) -> Result<()> {
    let blocks = bytes.div_ceil(BLOCK);
    let mut entry = Entry {
        hard_limit: blocks,
        soft_limit: blocks,
        valid: BLOCK_LIMITS,
        ..Entry::default()
    };
    quotactl(on, SET, project, &raw mut entry)
}

fn quotactl<T>(
    on: BorrowedFd<'_>,
    command: libc::c_int,
    project: u32,
    address: *mut T,
) -> Result<()> {
    // SAFETY: quotactl_fd(2) reads or writes, by its command, one of the structures above, which is
    // what the callers in this file pass with each; it lives until the call returns.
    check(unsafe {
        libc::syscall(
            libc::SYS_quotactl_fd,
            on.as_raw_fd(),
            command << 8 | PROJECTS,
            project,
            address,
        )
    })
    .map(drop)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn structures_have_the_kernels_sizes() {
        assert_eq!(size_of::<Attributes>(), 28);
        assert_eq!(size_of::<Entry>(), 72);
        assert_eq!(size_of::<State>(), 160);
    }

    /// Where limits are in force is tested in the machine, whose disk has them.
    #[test]
    fn a_file_system_without_projects_says_so() {
        let proc = std::fs::File::open("/proc").expect("open");
        assert!(!is_enforced(proc.as_fd()));
        assert!(usage(proc.as_fd(), 7).is_err());
        assert!(limit(proc.as_fd(), 7, 1).is_err());
        assert!(next(proc.as_fd(), 1).is_err());
        assert!(set_project(proc.as_fd(), 7).is_err());
    }
}
