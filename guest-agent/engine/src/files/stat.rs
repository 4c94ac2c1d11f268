//! What a path is, as `docker cp` asks first.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Stat, fstat, readlinkat};
use rustix::io::Errno;

use super::place;
use crate::clock::Timestamp;
use crate::error::{Error, Kind, Result};

/// What a path is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathStat {
    /// The last part of the path as it was asked for.
    pub name: String,
    /// Size in bytes.
    pub size: i64,
    /// Permissions and kind, in the bits of Go's `os.FileMode`.
    pub mode: u32,
    /// When it was last changed.
    pub mtime: Timestamp,
    /// Where a link leads, all links followed; empty if it is none.
    pub link_target: String,
}

/// A path that is there.
pub(super) struct Found {
    /// What it is; `O_PATH`.
    pub(super) fd: OwnedFd,
    pub(super) stat: PathStat,
}

/// Looks a path up below the container's root; `container` is the name it was asked for by.
pub(super) fn look_up(root: BorrowedFd<'_>, path: &str, container: &str) -> Result<Found> {
    let failed = |errno| failure(errno, path, container);
    let fd = place::open(root, path).map_err(failed)?;
    let look = || -> rustix::io::Result<Stat> {
        // The kernel's words are no files of the container's; where they are mounted is.
        if place::is_kernels(fd.as_fd())? && !place::is_mount_root(fd.as_fd())? {
            return Err(Errno::NOENT);
        }
        fstat(&fd)
    };
    let raw = look().map_err(failed)?;
    let link_target = if place::kind(&raw) == FileType::Symlink {
        target(root, path)
    } else {
        String::new()
    };
    let nanoseconds = raw.st_mtime.saturating_mul(1_000_000_000);
    let stat = PathStat {
        name: base_name(path).to_owned(),
        size: raw.st_size,
        mode: go_mode(raw.st_mode),
        mtime: Timestamp::from_unix_ns(nanoseconds.saturating_add(raw.st_mtime_nsec as i64)),
        link_target,
    };
    Ok(Found { fd, stat })
}

/// The error for a path, in dockerd's words.
pub(super) fn failure(errno: Errno, path: &str, container: &str) -> Error {
    match errno {
        Errno::NOENT => Error::not_found(format!(
            "Could not find the file {path} in container {container}"
        )),
        errno => Error::new(Kind::Internal, format!("lstat {path}"))
            .with_source(std::io::Error::from(errno)),
    }
}

/// The last part of a path as Go's `filepath.Base` has it.
pub(super) fn base_name(path: &str) -> &str {
    let trimmed = path.trim_end_matches('/');
    match (path, trimmed) {
        ("", _) => ".",
        (_, "") => "/",
        (_, trimmed) => trimmed.rsplit('/').next().unwrap_or(trimmed),
    }
}

/// Where a link leads in the end, as a path in the container: for people and for clients that
/// ask again; nothing is opened by it.
fn target(root: BorrowedFd<'_>, path: &str) -> String {
    let mut done: Vec<Vec<u8>> = Vec::new();
    let mut todo: Vec<Vec<u8>> = place::components(path.as_bytes())
        .map(<[u8]>::to_vec)
        .collect();
    todo.reverse();
    let mut links = 0;
    while let Some(part) = todo.pop() {
        if part == b".." {
            done.pop();
            continue;
        }
        done.push(part);
        let so_far = String::from_utf8_lossy(&done.join(&b'/')).into_owned();
        let link = place::open(root, &so_far).and_then(|fd| readlinkat(&fd, "", Vec::new()));
        let Ok(link) = link else { continue };
        links += 1;
        if links > 255 {
            break;
        }
        let link = link.into_bytes();
        if link.first() == Some(&b'/') {
            done.clear();
        } else {
            done.pop();
        }
        let parts: Vec<_> = place::components(&link).map(<[u8]>::to_vec).collect();
        todo.extend(parts.into_iter().rev());
    }
    format!("/{}", String::from_utf8_lossy(&done.join(&b'/')))
}

/// A mode in the bits of Go's `os.FileMode`.
fn go_mode(mode: u32) -> u32 {
    let kind = match FileType::from_raw_mode(mode) {
        FileType::Directory => 1 << 31,
        FileType::Symlink => 1 << 27,
        FileType::BlockDevice => 1 << 26,
        FileType::CharacterDevice => (1 << 26) | (1 << 21),
        FileType::Fifo => 1 << 25,
        FileType::Socket => 1 << 24,
        FileType::RegularFile => 0,
        FileType::Unknown => 1 << 19,
    };
    let bit = |from: u32, to: u32| if mode & from == 0 { 0 } else { 1 << to };
    kind | bit(0o4000, 23) | bit(0o2000, 22) | bit(0o1000, 20) | (mode & 0o777)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn names_and_modes_are_gos() {
        for (path, name) in [
            ("/", "/"),
            ("/etc", "etc"),
            ("/etc/", "etc"),
            ("/etc/.", "."),
            (".", "."),
            ("..", ".."),
        ] {
            assert_eq!(base_name(path), name);
        }
        assert_eq!(go_mode(0o040_755), 2_147_484_141);
        assert_eq!(go_mode(0o120_777), 134_218_239);
        assert_eq!(go_mode(0o104_755), 0o755 | (1 << 23));
        assert_eq!(go_mode(0o041_777), (1 << 31) | (1 << 20) | 0o777);
    }

    #[test]
    fn a_link_is_followed_to_its_end_as_text() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("bin")).unwrap();
        for (name, text) in [
            ("bin/sh", "busybox"),
            ("b", "/bin"),
            ("dangling", "/nowhere/x"),
            ("loop", "loop"),
            ("up", "../../b/sh"),
        ] {
            symlink(text, dir.path().join(name)).unwrap();
        }
        let root: OwnedFd = std::fs::File::open(dir.path()).unwrap().into();
        let of = |path: &str| look_up(root.as_fd(), path, "c").unwrap().stat.link_target;
        assert_eq!(of("/bin/sh"), "/bin/busybox");
        assert_eq!(of("/b"), "/bin");
        assert_eq!(of("/up"), "/bin/busybox");
        assert_eq!(of("/dangling"), "/nowhere/x");
        assert!(of("/loop").starts_with('/'));
        assert_eq!(of("/bin"), "");
        let missing = look_up(root.as_fd(), "/none", "c").err().unwrap();
        assert_eq!(
            missing.text(),
            "Could not find the file /none in container c"
        );
        let error = look_up(root.as_fd(), "/bin/sh/x", "c").err().unwrap();
        assert_eq!(error.kind(), Kind::NotFound);
    }
}
