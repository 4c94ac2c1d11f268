//! Finding a place in a container's tree, by descriptor.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, StatxAttributes, StatxFlags, fstat,
    fstatfs, mkdirat, openat, openat2, readlinkat, statx,
};
use rustix::io::Errno;

use crate::error::words;

/// Links that are followed for one name; the kernel's own limit.
const LINKS: u32 = 40;

/// Opens what `path` names below `root` as an `O_PATH` descriptor; a link at its end is not followed
/// unless a slash stands behind it.
pub(super) fn open(root: BorrowedFd<'_>, path: &str) -> rustix::io::Result<OwnedFd> {
    open_with(root, path, OFlags::PATH | OFlags::NOFOLLOW)
}

/// Opens the directory that `path` names below `root`, links followed, as an `O_PATH` descriptor.
pub(super) fn open_followed(root: BorrowedFd<'_>, path: &str) -> rustix::io::Result<OwnedFd> {
    open_with(root, path, OFlags::PATH)
}

fn open_with(root: BorrowedFd<'_>, path: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    // EAGAIN: something was renamed while `..` was walked. A container that does nothing else may
    // make this fail, for itself.
    for _ in 0..128 {
        match openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}

/// Opens for reading what the `O_PATH` descriptor `fd` already is.
pub(super) fn reopen(fd: BorrowedFd<'_>, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    use std::os::fd::AsRawFd as _;
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty())
}

/// A directory's entry as an `O_PATH` descriptor, never through a link.
pub(super) fn child(
    dir: BorrowedFd<'_>,
    name: impl rustix::path::Arg,
) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(dir, name, flags, Mode::empty())
}

pub(super) fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Why a directory of an archive could not be reached.
#[derive(Debug, thiserror::Error)]
pub(super) enum ParentError {
    /// A link leads above the directory that is unpacked into.
    #[error("path escapes from parent")]
    Escapes,
    /// The kernel's answer.
    #[error("{}", words(.0))]
    Kernel(#[from] Errno),
}

/// The directory `path` (its components) below `base`; `make`: made where it is missing.
///
/// One component at a time: links are read and walked as text, an absolute one from `base`, so
/// that nothing leads out of it; `..` goes back to a directory this walk came through.
pub(super) fn directory(
    base: BorrowedFd<'_>,
    path: &[&[u8]],
    make: bool,
) -> Result<OwnedFd, ParentError> {
    let mut links = 0;
    let mut todo: VecDeque<Vec<u8>> = path.iter().map(|part| part.to_vec()).collect();
    let mut stack: Vec<OwnedFd> = Vec::new();
    while let Some(part) = todo.pop_front() {
        if part == b".." {
            stack.pop().ok_or(ParentError::Escapes)?;
            continue;
        }
        let here = stack.last().map_or(base, AsFd::as_fd);
        let next = if make {
            child_or_new(here, &part)?
        } else {
            child(here, &part[..])?
        };
        match kind(&fstat(&next)?) {
            FileType::Symlink => {
                links += 1;
                if links > LINKS {
                    return Err(Errno::LOOP.into());
                }
                let target = readlinkat(&next, "", Vec::new())?.into_bytes();
                if target.first() == Some(&b'/') {
                    stack.clear();
                }
                for part in components(&target).collect::<Vec<_>>().into_iter().rev() {
                    todo.push_front(part.to_vec());
                }
            }
            FileType::Directory => stack.push(next),
            _ => return Err(Errno::NOTDIR.into()),
        }
    }
    match stack.pop() {
        Some(directory) => Ok(directory),
        None => Ok(rustix::io::fcntl_dupfd_cloexec(base, 3)?),
    }
}

fn child_or_new(here: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    match child(here, name) {
        Err(Errno::NOENT) => {}
        other => return other,
    }
    writable_kind(here)?;
    match mkdirat(here, name, Mode::from_raw_mode(0o755)) {
        // Somebody else was faster: what is there now is looked at like anything else.
        Ok(()) | Err(Errno::EXIST) => child(here, name),
        Err(errno) => Err(errno),
    }
}

/// The components of a path, without empty ones and `.`.
pub(super) fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/')
        .filter(|part| !part.is_empty() && *part != b".")
}

/// Fails on a directory of the kernel's.
pub(super) fn writable_kind(directory: BorrowedFd<'_>) -> rustix::io::Result<()> {
    if is_kernels(directory)? {
        return Err(Errno::PERM);
    }
    Ok(())
}

/// Whether something lies on a file system that holds the kernel's words and no files.
pub(super) fn is_kernels(fd: BorrowedFd<'_>) -> rustix::io::Result<bool> {
    /// Their magic numbers, from `linux/magic.h`.
    const KERNELS: [u32; 19] = [
        0x0000_9fa0, // procfs
        0x6265_6572, // sysfs
        0x6367_7270, // cgroup v2
        0x0027_e0eb, // cgroup v1
        0x1980_0202, // mqueue
        0x0000_1cd1, // devpts
        0x7363_6673, // securityfs
        0x6462_6720, // debugfs
        0x7472_6163, // tracefs
        0xcafe_4a11, // bpf
        0x6165_676c, // pstore
        0xde5e_81e4, // efivarfs
        0x6265_6570, // configfs
        0x6573_5543, // fusectl
        0x4249_4e4d, // binfmt_misc
        0x6e73_6673, // nsfs
        0x6759_6969, // rpc_pipefs
        0xf97c_ff8c, // selinuxfs
        0x0765_5821, // resctrl
    ];
    let magic = fstatfs(fd)?.f_type;
    Ok(KERNELS
        .iter()
        .any(|known| i64::from(*known) == magic as i64))
}

/// Whether something is the root of a mount.
pub(super) fn is_mount_root(fd: BorrowedFd<'_>) -> rustix::io::Result<bool> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW;
    let stat = statx(fd, "", flags, StatxFlags::TYPE)?;
    Ok(stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// The mount that something lies on.
pub(super) fn mount_id(fd: BorrowedFd<'_>) -> rustix::io::Result<u64> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW;
    Ok(statx(fd, "", flags, StatxFlags::MNT_ID)?.stx_mnt_id)
}

/// Removes what `name` is in `dir`, with everything below it if it is a directory.
pub(super) fn remove_all(dir: BorrowedFd<'_>, name: &[u8], depth: usize) -> rustix::io::Result<()> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR) => {}
        Err(errno) => return Err(errno),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let inner = openat(dir, name, flags, Mode::empty())?;
    writable_kind(inner.as_fd())?;
    let below = depth.checked_sub(1).ok_or(Errno::NAMETOOLONG)?;
    for name in names(inner.as_fd())? {
        remove_all(inner.as_fd(), &name, below)?;
    }
    drop(inner);
    rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR)
}

/// The names in an open directory, in order.
pub(super) fn names(dir: BorrowedFd<'_>) -> rustix::io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    let mut entries = rustix::fs::Dir::read_from(dir)?;
    while let Some(entry) = entries.read() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            names.push(name.to_vec());
        }
    }
    names.sort_unstable();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn base(dir: &std::path::Path) -> OwnedFd {
        fs::File::open(dir).unwrap().into()
    }

    #[test]
    fn links_of_the_tree_stay_below_the_base() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("inner");
        fs::create_dir_all(inner.join("a/b")).unwrap();
        symlink("/run", inner.join("absolute")).unwrap();
        symlink("../../..", inner.join("a/up")).unwrap();
        symlink("loop", inner.join("loop")).unwrap();
        fs::write(inner.join("file"), "").unwrap();
        let base = base(&inner);
        let walk = |path: &str| {
            let parts: Vec<&[u8]> = components(path.as_bytes()).collect();
            directory(base.as_fd(), &parts, true)
        };
        walk("absolute/made").unwrap();
        assert!(inner.join("run/made").is_dir() && !dir.path().join("run").exists());
        assert!(matches!(walk("a/up/x"), Err(ParentError::Escapes)));
        assert!(matches!(
            walk("loop"),
            Err(ParentError::Kernel(Errno::LOOP))
        ));
        assert!(matches!(
            walk("file/x"),
            Err(ParentError::Kernel(Errno::NOTDIR))
        ));
        walk("").unwrap();
        let missing = directory(base.as_fd(), &[b"missing"], false);
        assert!(matches!(missing, Err(ParentError::Kernel(Errno::NOENT))));
        walk("a/b/../c").unwrap();
        assert!(inner.join("a/c").is_dir());
    }

    #[test]
    fn paths_of_requests_stay_below_the_root() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("run")).unwrap();
        fs::create_dir_all(dir.path().join("var")).unwrap();
        symlink("/run", dir.path().join("var/run")).unwrap();
        let root = base(dir.path());
        let is_link = |path: &str| {
            let fd = open(root.as_fd(), path).unwrap();
            kind(&fstat(&fd).unwrap()) == FileType::Symlink
        };
        assert!(is_link("/var/run") && !is_link("/var/run/") && !is_link("/var/run/."));
        assert!(!is_link("/../../.."));
        assert!(open(root.as_fd(), "/var/run/../../etc/passwd").is_err());
    }

    #[test]
    fn nothing_is_made_on_a_file_system_of_the_kernels() {
        let base = base(std::path::Path::new("/proc"));
        assert!(is_kernels(base.as_fd()).unwrap());
        assert!(matches!(
            directory(base.as_fd(), &[b"made"], true),
            Err(ParentError::Kernel(Errno::PERM))
        ));
        let tmp = tempfile::tempdir().unwrap();
        assert!(!is_kernels(self::base(tmp.path()).as_fd()).unwrap());
    }

    #[test]
    fn removal_goes_through_no_link() {
        let dir = tempfile::tempdir().unwrap();
        let kept = dir.path().join("kept");
        fs::create_dir_all(kept.join("x")).unwrap();
        fs::create_dir_all(dir.path().join("gone/deep/er")).unwrap();
        symlink(&kept, dir.path().join("gone/deep/link")).unwrap();
        let fd = base(dir.path());
        assert_eq!(remove_all(fd.as_fd(), b"gone", 1), Err(Errno::NAMETOOLONG));
        remove_all(fd.as_fd(), b"gone", 10).unwrap();
        assert!(!dir.path().join("gone").exists() && kept.join("x").exists());
        remove_all(fd.as_fd(), b"never", 10).unwrap();
    }
}
