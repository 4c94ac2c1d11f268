//! Paths inside the container's root, walked by descriptor.
//!
//! The image and other containers that share a volume decide what lies there and may change it
//! at any moment. So a path is resolved once, by the kernel, below the root's descriptor, without
//! magic links, and what comes out is a descriptor that is used from then on.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2};
use rustix::io::Errno;

/// What a mount point has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Directory,
    File,
}

/// The container's root directory.
pub struct Root {
    fd: OwnedFd,
}

impl Root {
    /// `fd`: the root directory, open (`O_PATH` suffices).
    pub const fn new(fd: OwnedFd) -> Self {
        Self { fd }
    }

    /// Opens `path`, symbolic links followed as a process in the container would.
    pub fn open(&self, path: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        self.open_with(path, flags, ResolveFlags::empty())
    }

    /// As `open`, and a symbolic link anywhere in `path` is an error (`ELOOP`).
    pub fn open_without_links(&self, path: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        self.open_with(path, flags, ResolveFlags::NO_SYMLINKS)
    }

    fn open_with(
        &self,
        path: &str,
        flags: OFlags,
        resolve: ResolveFlags,
    ) -> rustix::io::Result<OwnedFd> {
        let resolve = resolve | ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        // EAGAIN: something was renamed while `..` was walked. A container that does nothing else
        // may make this fail, for itself.
        for _ in 0..128 {
            match openat2(
                &self.fd,
                path,
                flags | OFlags::CLOEXEC,
                Mode::empty(),
                resolve,
            ) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return other,
            }
        }
        Err(Errno::AGAIN)
    }

    /// The directory or file at `path` as an `O_PATH` descriptor; made, with the directories
    /// above it, when missing.
    ///
    /// A dangling symbolic link is followed and its target made, inside the root.
    pub fn place(&self, path: &str, place: Place) -> rustix::io::Result<OwnedFd> {
        match self.open(path, OFlags::PATH) {
            Err(Errno::NOENT) => self.make(path, place),
            other => other,
        }
    }

    /// The directory that holds `path`'s last part (made when missing), and that part.
    pub fn parent<'a>(&self, path: &'a str) -> rustix::io::Result<(OwnedFd, &'a str)> {
        let path = path.trim_end_matches('/');
        let (parent, name) = path.rsplit_once('/').ok_or(Errno::INVAL)?;
        if matches!(name, "" | "." | "..") {
            return Err(Errno::INVAL);
        }
        let parent = if parent.is_empty() { "/" } else { parent };
        Ok((self.place(parent, Place::Directory)?, name))
    }

    /// Walks by single components, so that each step is either an existing directory, a link
    /// whose text is walked in turn, or made here.
    fn make(&self, path: &str, place: Place) -> rustix::io::Result<OwnedFd> {
        const LINKS: u32 = 40;
        let mut links = 0;
        let mut todo: VecDeque<Vec<u8>> = parts(path.as_bytes()).collect();
        let mut stack: Vec<OwnedFd> = vec![];
        while let Some(part) = todo.pop_front() {
            if part == b".." {
                stack.pop();
                continue;
            }
            let here = stack.last().unwrap_or(&self.fd);
            // Nothing can be made there, and its links are not what their text says.
            if is_procfs(here.as_fd())? {
                return Err(Errno::NOENT);
            }
            let last = todo.is_empty();
            let kind = if last { place } else { Place::Directory };
            let next = open_or_make(here.as_fd(), &part, kind)?;
            match FileType::from_raw_mode(fstat(&next)?.st_mode) {
                FileType::Symlink => {
                    links += 1;
                    if links > LINKS {
                        return Err(Errno::LOOP);
                    }
                    let target = rustix::fs::readlinkat(&next, "", vec![])?.into_bytes();
                    if target.first() == Some(&b'/') {
                        stack.clear();
                    }
                    for part in parts(&target).collect::<Vec<_>>().into_iter().rev() {
                        todo.push_front(part);
                    }
                    // A link with an empty rest (`/`, `.`) leaves us at a directory.
                }
                FileType::Directory => stack.push(next),
                _ if last => return Ok(next),
                _ => return Err(Errno::NOTDIR),
            }
        }
        match stack.pop() {
            Some(directory) => Ok(directory),
            None => rustix::io::fcntl_dupfd_cloexec(&self.fd, 3),
        }
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn parts(path: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    path.split(|byte| *byte == b'/')
        .filter(|part| !part.is_empty() && *part != b".")
        .map(<[u8]>::to_vec)
}

fn open_or_make(here: BorrowedFd<'_>, name: &[u8], place: Place) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(here, name, flags, Mode::empty()) {
        Err(Errno::NOENT) => {}
        other => return other,
    }
    let made = match place {
        Place::Directory => rustix::fs::mkdirat(here, name, Mode::from_raw_mode(0o755)),
        Place::File => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            openat(here, name, flags, Mode::from_raw_mode(0o755)).map(drop)
        }
    };
    match made {
        // Somebody else was faster: what is there now is looked at like anything else.
        Ok(()) | Err(Errno::EXIST) => openat(here, name, flags, Mode::empty()),
        Err(errno) => Err(errno),
    }
}

/// Reads at most `limit` bytes of the regular file at `path`; `None` if there is none.
///
/// A longer file is an error: half a passwd file must not decide who somebody is.
pub fn read_text(root: &Root, path: &str, limit: usize) -> rustix::io::Result<Option<String>> {
    // Non-blocking: the image may have put a named pipe there.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = match root.open(path, flags) {
        Ok(file) => file,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        Err(errno) => return Err(errno),
    };
    if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::RegularFile {
        return Err(Errno::INVAL);
    }
    let mut bytes = vec![];
    let mut block = [0; 8192];
    loop {
        match rustix::io::read(&file, &mut block) {
            Ok(0) => return Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            Ok(count) if bytes.len() + count > limit => return Err(Errno::FBIG),
            Ok(count) => bytes.extend_from_slice(&block[..count]),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Whether something is a directory.
pub fn is_directory(fd: BorrowedFd<'_>) -> rustix::io::Result<bool> {
    Ok(FileType::from_raw_mode(fstat(fd)?.st_mode) == FileType::Directory)
}

const PROC_SUPER_MAGIC: i64 = 0x9fa0;

/// Whether something lies on a procfs.
pub fn is_procfs(fd: BorrowedFd<'_>) -> rustix::io::Result<bool> {
    Ok(rustix::fs::fstatfs(fd)?.f_type == PROC_SUPER_MAGIC)
}

/// Refuses a file that only looks like one of procfs (CVE-2025-52881).
pub fn must_be_procfs(fd: BorrowedFd<'_>) -> rustix::io::Result<()> {
    if is_procfs(fd)? {
        Ok(())
    } else {
        Err(Errno::XDEV)
    }
}

/// Refuses what is not the device `major:minor` (a character device).
pub fn must_be_device(fd: BorrowedFd<'_>, major: u32, minor: u32) -> rustix::io::Result<()> {
    let stat = fstat(fd)?;
    let right = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
        && stat.st_rdev == rustix::fs::makedev(major, minor);
    if right { Ok(()) } else { Err(Errno::NXIO) }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::*;

    /// A root, and beside it what no path of it may reach.
    fn scene() -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["root/etc", "root/proc", "outside/inner"] {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        fs::write(dir.path().join("outside/canary"), "untouched").unwrap();
        let root = Root::new(fs::File::open(dir.path().join("root")).unwrap().into());
        (dir, root)
    }

    fn tree(path: &Path) -> Vec<String> {
        let mut found = Vec::new();
        for entry in fs::read_dir(path).unwrap() {
            let path = entry.unwrap().path();
            found.push(path.display().to_string());
            if path.is_dir() && !path.is_symlink() {
                found.extend(tree(&path));
            }
        }
        found.sort();
        found
    }

    /// CVE-2026-41579 without the walls behind it (the root is pivoted into before any of this runs): the
    /// links of an image, absolute, climbing and dangling, are read with its root as the root.
    #[test]
    fn cve_2026_41579_links_are_followed_below_the_root_only() {
        let (dir, root) = scene();
        let outside = dir.path().join("outside");
        let before = tree(&outside);
        let absolute = outside.display().to_string();
        let climbing = format!("../../../../../../../../../..{absolute}");
        let beside = "../outside".to_owned();
        for (number, target) in [&absolute, &climbing, &beside].into_iter().enumerate() {
            let (link, deep) = (format!("/link{number}"), format!("/etc/link{number}"));
            symlink(target, dir.path().join(format!("root{link}"))).unwrap();
            symlink(target, dir.path().join(format!("root{deep}"))).unwrap();
            for path in [&link, &deep] {
                let found = root.open(&format!("{path}/canary"), OFlags::PATH);
                assert_eq!(found.err(), Some(Errno::NOENT), "{path} -> {target}");
                assert!(root.open_without_links(path, OFlags::PATH).is_err());
                for (name, place) in [("made", Place::Directory), ("file", Place::File)] {
                    root.place(&format!("{path}/new/{name}"), place).unwrap();
                }
                let node = format!("{path}/more/node");
                let (_parent, name) = root.parent(&node).unwrap();
                assert_eq!(name, "node");
            }
        }
        assert_eq!(tree(&outside), before, "something was made outside");
        // It was made inside, where the container's own processes would find it.
        let inside = dir.path().join("root").join(&absolute[1..]);
        assert!(inside.join("new/made").is_dir() && inside.join("new/file").is_file());
        for path in [
            "/../outside/canary",
            "../outside/canary",
            "/etc/../../outside/canary",
        ] {
            assert_eq!(
                root.open(path, OFlags::PATH).err(),
                Some(Errno::NOENT),
                "{path}"
            );
        }
    }

    #[test]
    fn magic_links_lead_nowhere_and_nothing_is_made_on_a_procfs() {
        let root = Root::new(fs::File::open("/").unwrap().into());
        let canary = fs::File::open("/").unwrap();
        let number = std::os::fd::AsRawFd::as_raw_fd(&canary);
        for path in [
            format!("/proc/self/fd/{number}"),
            "/proc/self/root".into(),
            "/proc/self/cwd".into(),
        ] {
            assert_eq!(
                root.open(&path, OFlags::PATH).err(),
                Some(Errno::LOOP),
                "{path}"
            );
            assert!(
                root.place(&format!("{path}/new"), Place::Directory)
                    .is_err()
            );
        }
        let made = root.place("/proc/self/fd/new/x", Place::Directory);
        assert_eq!(made.err(), Some(Errno::NOENT));
        let file = fs::File::open("/etc").unwrap();
        assert_eq!(must_be_procfs(file.as_fd()), Err(Errno::XDEV));
        assert_eq!(must_be_device(file.as_fd(), 1, 3), Err(Errno::NXIO));
    }
}
