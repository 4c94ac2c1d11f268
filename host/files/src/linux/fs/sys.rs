//! The few ways in which this process touches the host's files, each by descriptor.
//!
//! Called by the rest of the file system. Nothing here takes a path of more than one component, but
//! `/proc/self/fd/N`, which names a descriptor that is already held.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Statx, StatxFlags, Timestamps, XattrFlags,
    openat, openat2, statx,
};
use rustix::io::Errno;

/// What goes wrong is an errno, for that is what the guest is told.
pub type Result<T> = std::result::Result<T, Errno>;

/// How one component is resolved: it cannot leave its directory, and no link of any kind is followed.
const ONE_COMPONENT: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_SYMLINKS);

/// File systems whose files act on the kernel or on this process when written or merely read.
const REFUSED_FILE_SYSTEMS: [i64; 2] = [libc::PROC_SUPER_MAGIC, libc::SYSFS_MAGIC];

/// Most directories above one another that are followed up: more than a path can name.
const MAX_DEPTH: usize = 4096;

/// What the host says of an inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostStat {
    /// Device it lives on.
    pub dev: u64,
    /// Inode number there.
    pub ino: u64,
    /// Birth time in nanoseconds, 0 where the file system has none: tells a reused inode number.
    pub born: u64,
    /// Type and permission bits.
    pub mode: u32,
    /// Hard links.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Size in bytes.
    pub size: u64,
    /// Blocks of 512 bytes.
    pub blocks: u64,
    /// Preferred block size.
    pub blksize: u32,
    /// Last access.
    pub atime: (i64, u32),
    /// Last change of content.
    pub mtime: (i64, u32),
    /// Last change of anything.
    pub ctime: (i64, u32),
}

impl HostStat {
    /// Which inode it is.
    pub fn identity(&self) -> (u64, u64) {
        (self.dev, self.ino)
    }

    /// The type part of the mode.
    pub fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.mode)
    }

    /// The nine permission bits.
    pub fn permissions(&self) -> u32 {
        self.mode & 0o777
    }
}

impl From<&Statx> for HostStat {
    fn from(s: &Statx) -> Self {
        let time = |t: &rustix::fs::StatxTimestamp| (t.tv_sec, t.tv_nsec);
        let born = if s.stx_mask & StatxFlags::BTIME.bits() == 0 {
            0
        } else {
            (s.stx_btime.tv_sec.unsigned_abs())
                .wrapping_mul(1_000_000_000)
                .wrapping_add(u64::from(s.stx_btime.tv_nsec))
        };
        Self {
            dev: rustix::fs::makedev(s.stx_dev_major, s.stx_dev_minor),
            ino: s.stx_ino,
            born,
            mode: u32::from(s.stx_mode),
            nlink: s.stx_nlink,
            uid: s.stx_uid,
            gid: s.stx_gid,
            size: s.stx_size,
            blocks: s.stx_blocks,
            blksize: s.stx_blksize,
            atime: time(&s.stx_atime),
            mtime: time(&s.stx_mtime),
            ctime: time(&s.stx_ctime),
        }
    }
}

/// Looks at the inode behind a descriptor.
pub fn stat(fd: impl AsFd) -> Result<HostStat> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::NO_AUTOMOUNT;
    Ok(HostStat::from(&statx(
        fd,
        c"",
        flags,
        StatxFlags::BASIC_STATS | StatxFlags::BTIME,
    )?))
}

/// Checks that `name` is exactly one component, and not one that leads up or nowhere.
///
/// The request decoder has already cut it at its NUL.
pub fn component(name: &CStr) -> Result<&CStr> {
    match name.to_bytes() {
        b"" | b"." | b".." => Err(Errno::INVAL),
        bytes if bytes.contains(&b'/') => Err(Errno::INVAL),
        bytes if bytes.len() > 255 => Err(Errno::NAMETOOLONG),
        _ => Ok(name),
    }
}

/// A descriptor that names `name` in `parent` without opening it: no device, FIFO or link is touched.
pub fn open_child(parent: impl AsFd, name: &CStr) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    retry(|| {
        openat2(
            parent.as_fd(),
            component(name)?,
            flags,
            Mode::empty(),
            ONE_COMPONENT,
        )
    })
}

/// Shows `visit` a directory and then each one above it, up to `/`, until it answers true; whether it did.
///
/// The one way up there is, for what the daemon names and never for the guest. It takes no more than the right
/// to pass through these directories.
pub fn any_upwards(
    directory: impl AsFd,
    mut visit: impl FnMut(BorrowedFd<'_>, &HostStat) -> Result<bool>,
) -> Result<bool> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut at = openat(directory, c".", flags, Mode::empty())?;
    let mut host = stat(&at)?;
    for _ in 0..MAX_DEPTH {
        if visit(at.as_fd(), &host)? {
            return Ok(true);
        }
        let above = openat(&at, c"..", flags, Mode::empty())?;
        let above_host = stat(&above)?;
        if above_host.identity() == host.identity() {
            return Ok(false);
        }
        (at, host) = (above, above_host);
    }
    Err(Errno::LOOP)
}

/// Creates the regular file `name` in `parent`, which must not exist.
pub fn create_child(parent: impl AsFd, name: &CStr, flags: OFlags, mode: u32) -> Result<OwnedFd> {
    let flags =
        flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NOCTTY;
    let mode = Mode::from_raw_mode(mode & 0o777);
    retry(|| openat2(parent.as_fd(), component(name)?, flags, mode, ONE_COMPONENT))
}

/// An unnamed regular file in `parent`.
pub fn create_unnamed(parent: impl AsFd, flags: OFlags, mode: u32) -> Result<OwnedFd> {
    let flags = flags | OFlags::TMPFILE | OFlags::CLOEXEC | OFlags::NOCTTY;
    retry(|| {
        openat2(
            parent.as_fd(),
            c".",
            flags,
            Mode::from_raw_mode(mode & 0o777),
            ONE_COMPONENT,
        )
    })
}

/// Opens the directory behind `fd` for listing.
pub fn open_directory(fd: impl AsFd) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOCTTY;
    retry(|| openat2(fd.as_fd(), c".", flags, Mode::empty(), ONE_COMPONENT))
}

// openat2 answers EAGAIN where a rename raced with it: the answer would not have been certain.
fn retry(mut open: impl FnMut() -> Result<OwnedFd>) -> Result<OwnedFd> {
    for _ in 0..64 {
        match open() {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}

/// Whether files on the file system of `fd` may be shown to the guest at all.
pub fn check_file_system(fd: impl AsFd) -> Result<()> {
    let magic = rustix::fs::fstatfs(fd)?.f_type;
    if REFUSED_FILE_SYSTEMS.contains(&magic) {
        Err(Errno::ACCESS)
    } else {
        Ok(())
    }
}

/// The door from a descriptor that only names an inode to operations that need an open one or a path.
#[derive(Debug)]
pub struct Proc {
    fds: OwnedFd,
}

impl Proc {
    /// Opens `/proc/self/fd`, once, at the start.
    pub fn open() -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fds = openat(CWD, c"/proc/self/fd", flags, Mode::empty())?;
        let magic = rustix::fs::fstatfs(&fds)?.f_type;
        if magic == libc::PROC_SUPER_MAGIC {
            Ok(Self { fds })
        } else {
            Err(Errno::NOSYS)
        }
    }

    /// Opens the regular file that `fd` names; `host` is what [`stat`] said of this very descriptor, so
    /// that no rename on the host can put a device or a FIFO in its place.
    pub fn reopen(&self, fd: impl AsFd, host: &HostStat, flags: OFlags) -> Result<OwnedFd> {
        match host.kind() {
            FileType::RegularFile => {}
            FileType::Directory => return Err(Errno::ISDIR),
            FileType::Symlink => return Err(Errno::LOOP),
            _ => return Err(Errno::ACCESS),
        }
        let flags = flags | OFlags::CLOEXEC | OFlags::NOCTTY;
        match openat(
            &self.fds,
            number(fd.as_fd()).as_c_str(),
            flags,
            Mode::empty(),
        ) {
            // The right to ask for this belongs to the file's owner.
            Err(Errno::PERM) if flags.contains(OFlags::NOATIME) => openat(
                &self.fds,
                number(fd.as_fd()).as_c_str(),
                flags - OFlags::NOATIME,
                Mode::empty(),
            ),
            other => other,
        }
    }

    /// A descriptor that only names the inode behind `fd`.
    pub fn path_of(&self, fd: impl AsFd) -> Result<OwnedFd> {
        openat(
            &self.fds,
            number(fd.as_fd()).as_c_str(),
            OFlags::PATH | OFlags::CLOEXEC,
            Mode::empty(),
        )
    }

    /// Sets permission bits.
    pub fn chmod(&self, fd: impl AsFd, mode: u32) -> Result<()> {
        rustix::fs::chmodat(
            &self.fds,
            number(fd.as_fd()).as_c_str(),
            Mode::from_raw_mode(mode),
            AtFlags::empty(),
        )
    }

    /// Sets access and modification times.
    pub fn set_times(&self, fd: impl AsFd, times: &Timestamps) -> Result<()> {
        rustix::fs::utimensat(
            &self.fds,
            number(fd.as_fd()).as_c_str(),
            times,
            AtFlags::empty(),
        )
    }

    /// Gives the inode behind `fd` another name.
    pub fn link(&self, fd: impl AsFd, parent: impl AsFd, name: &CStr) -> Result<()> {
        let number = number(fd.as_fd());
        rustix::fs::linkat(
            &self.fds,
            number.as_c_str(),
            parent,
            component(name)?,
            AtFlags::SYMLINK_FOLLOW,
        )
    }
}

fn number(fd: BorrowedFd<'_>) -> CString {
    CString::new(fd.as_raw_fd().to_string()).unwrap_or_default()
}

fn proc_path(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// Reads an extended attribute of at most `limit` bytes.
pub fn get_xattr(fd: impl AsFd, name: &CStr, limit: usize) -> Result<Vec<u8>> {
    let mut value = vec![0; limit];
    let length = rustix::fs::getxattr(proc_path(fd.as_fd()), name, value.as_mut_slice())?;
    value.truncate(length);
    Ok(value)
}

/// The length of an extended attribute.
pub fn xattr_length(fd: impl AsFd, name: &CStr) -> Result<usize> {
    rustix::fs::getxattr(proc_path(fd.as_fd()), name, &mut [0u8; 0][..])
}

/// Sets an extended attribute.
pub fn set_xattr(fd: impl AsFd, name: &CStr, value: &[u8], flags: XattrFlags) -> Result<()> {
    rustix::fs::setxattr(proc_path(fd.as_fd()), name, value, flags)
}

/// Removes an extended attribute.
pub fn remove_xattr(fd: impl AsFd, name: &CStr) -> Result<()> {
    rustix::fs::removexattr(proc_path(fd.as_fd()), name)
}

/// The names of all extended attributes, NUL-terminated one after another.
pub fn list_xattrs(fd: impl AsFd) -> Result<Vec<u8>> {
    // 64 KiB is the kernel's own limit (XATTR_LIST_MAX).
    let mut names = vec![0; 64 * 1024];
    let length = rustix::fs::listxattr(proc_path(fd.as_fd()), names.as_mut_slice())?;
    names.truncate(length);
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_single_components_pass() {
        for bad in [c"", c".", c"..", c"/", c"a/b", c"../x", c"x/"] {
            assert_eq!(component(bad), Err(Errno::INVAL), "{bad:?}");
        }
        for good in [c"a", c"...", c"..x", c" ", c"\n", c"\xff\xfe"] {
            assert_eq!(component(good), Ok(good));
        }
        let long = CString::new(vec![b'x'; 256]).expect("no NUL");
        assert_eq!(component(&long), Err(Errno::NAMETOOLONG));
    }
}
