//! What a container has changed of its image's files: `docker diff`, as dockerd counts it.
//!
//! The container's own layer says where to look; what is there is then compared with the image.
//! A directory counts as changed if its mode or owner did, or something in it; a file, if its
//! mode, owner, size or time did. What the engine itself puts there for its mounts is no change.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat2};
use rustix::io::Errno;

use super::pack::{DEPTH, is_opaque};
use super::place;
use crate::engine::Engine;
use crate::error::{Error, Result};

/// What happened to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// It is another.
    Modified,
    /// It is new.
    Added,
    /// It is gone.
    Deleted,
}

/// A path that is not as in the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Absolute.
    pub path: String,
    /// What happened.
    pub kind: ChangeKind,
}

impl Engine {
    /// What a container has changed, in the order of paths.
    ///
    /// # Errors
    ///
    /// When there is no such container, or its files cannot be read.
    pub async fn container_changes(self: &Arc<Self>, reference: &str) -> Result<Vec<Change>> {
        let container = self.containers().find(reference)?;
        let _held = container.op.lock().await;
        let (engine, record) = (Arc::clone(self), container.record());
        let compared = tokio::task::spawn_blocking(move || {
            let image = engine.image_root(&record)?;
            let upper = std::fs::File::open(engine.upper(&record.id));
            let upper: OwnedFd = upper
                .map_err(|error| Error::internal("the container's layer cannot be read", error))?
                .into();
            compare(upper.as_fd(), image.as_fd())
                .map_err(|error| Error::internal("the changes cannot be read", error))
        });
        compared
            .await
            .map_err(|error| Error::internal("comparing was cut short", error))?
    }
}

/// The changes of an overlay's upper directory over the image's files.
fn compare(upper: BorrowedFd<'_>, image: BorrowedFd<'_>) -> io::Result<Vec<Change>> {
    let mut comparison = Comparison {
        image,
        placeholders: Placeholders::new(upper, image)?,
        changes: Vec::new(),
    };
    comparison.directory(upper, "", true, DEPTH)?;
    Ok(comparison.changes)
}

struct Comparison<'a> {
    image: BorrowedFd<'a>,
    placeholders: Placeholders<'a>,
    changes: Vec<Change>,
}

impl Comparison<'_> {
    /// `merged`: what the image has below this path is there as well.
    fn directory(
        &mut self,
        dir: BorrowedFd<'_>,
        path: &str,
        merged: bool,
        depth: usize,
    ) -> io::Result<()> {
        let depth = depth.checked_sub(1).ok_or(Errno::NAMETOOLONG)?;
        let open = place::reopen(dir, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let names = place::names(open.as_fd())?;
        let hides = !path.is_empty() && merged && is_opaque(dir)?;
        if hides {
            self.hidden(path, &names)?;
        }
        for name in &names {
            let path = format!("{path}/{}", String::from_utf8_lossy(name));
            match place::child(open.as_fd(), &name[..]) {
                Ok(child) => self.node(child.as_fd(), &path, merged, depth)?,
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    /// What an opaque directory hides of the image and has not made again.
    fn hidden(&mut self, path: &str, names: &[Vec<u8>]) -> io::Result<()> {
        let Some((below, stat)) = self.below(path)? else {
            return Ok(());
        };
        if place::kind(&stat) != FileType::Directory {
            return Ok(());
        }
        let below = place::reopen(below.as_fd(), OFlags::RDONLY | OFlags::DIRECTORY)?;
        for name in place::names(below.as_fd())? {
            if names.binary_search(&name).is_err() {
                let path = format!("{path}/{}", String::from_utf8_lossy(&name));
                self.note(path, ChangeKind::Deleted);
            }
        }
        Ok(())
    }

    fn node(
        &mut self,
        node: BorrowedFd<'_>,
        path: &str,
        merged: bool,
        depth: usize,
    ) -> io::Result<()> {
        let stat = fstat(node)?;
        if self
            .placeholders
            .has(path.trim_start_matches('/').as_bytes(), &stat)
        {
            return Ok(());
        }
        let below = if merged { self.below(path)? } else { None };
        let below = below.map(|(_, stat)| stat);
        if place::kind(&stat) == FileType::CharacterDevice && stat.st_rdev == 0 {
            if below.is_some() {
                self.note(path.to_owned(), ChangeKind::Deleted);
            }
            return Ok(());
        }
        let Some(below) = below else {
            self.note(path.to_owned(), ChangeKind::Added);
            if place::kind(&stat) == FileType::Directory {
                self.directory(node, path, false, depth)?;
            }
            return Ok(());
        };
        let before = self.changes.len();
        let differs = differ(&stat, &below);
        if place::kind(&stat) == FileType::Directory {
            let merged = place::kind(&below) == FileType::Directory;
            self.directory(node, path, merged, depth)?;
        }
        if differs || self.changes.len() > before {
            let kind = ChangeKind::Modified;
            let path = path.to_owned();
            self.changes.insert(before, Change { path, kind });
        }
        Ok(())
    }

    fn note(&mut self, path: String, kind: ChangeKind) {
        self.changes.push(Change { path, kind });
    }

    fn below(&self, path: &str) -> io::Result<Option<(OwnedFd, Stat)>> {
        in_image(self.image, path)
    }
}

/// What the image has at `path`.
fn in_image(
    image: BorrowedFd<'_>,
    path: impl rustix::path::Arg,
) -> io::Result<Option<(OwnedFd, Stat)>> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat2(image, path, flags, Mode::empty(), resolve) {
        Ok(fd) => {
            let stat = fstat(&fd)?;
            Ok(Some((fd, stat)))
        }
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// As dockerd compares: sizes and times of directories say nothing.
fn differ(new: &Stat, old: &Stat) -> bool {
    let owner = |stat: &Stat| (stat.st_mode, stat.st_uid, stat.st_gid, stat.st_rdev);
    if owner(new) != owner(old) {
        return true;
    }
    let time = |stat: &Stat| (stat.st_mtime, stat.st_mtime_nsec);
    place::kind(new) != FileType::Directory
        && (new.st_size != old.st_size || time(new) != time(old))
}

/// What a start makes for its own mounts where the image has nothing: no change of the
/// container's. Dockerd has these in a layer of their own.
pub(crate) struct Placeholders<'a> {
    image: BorrowedFd<'a>,
    /// Whether `etc` is there for nothing else.
    etc: bool,
}

impl<'a> Placeholders<'a> {
    /// Looks at an overlay's upper directory.
    pub(crate) fn new(upper: BorrowedFd<'_>, image: BorrowedFd<'a>) -> io::Result<Self> {
        let mut own = Self { image, etc: false };
        own.etc = match place::child(upper, "etc") {
            Ok(etc) => own.fills(etc.as_fd())?,
            Err(Errno::NOENT) => false,
            Err(errno) => return Err(errno.into()),
        };
        Ok(own)
    }

    /// Whether `path`, without its first slash, is one of them.
    pub(crate) fn has(&self, path: &[u8], stat: &Stat) -> bool {
        let kind = place::kind(stat);
        let known = match path {
            b"etc" => return self.etc,
            b"dev" | b"proc" | b"sys" => kind == FileType::Directory,
            b"etc/resolv.conf" | b"etc/hostname" | b"etc/hosts" => {
                kind == FileType::RegularFile && stat.st_size == 0
            }
            _ => false,
        };
        known && in_image(self.image, path).is_ok_and(|found| found.is_none())
    }

    /// Whether the directory `etc` has nothing else, and is else as in the image.
    fn fills(&self, etc: BorrowedFd<'_>) -> io::Result<bool> {
        let stat = fstat(etc)?;
        let below = in_image(self.image, "etc")?;
        if place::kind(&stat) != FileType::Directory
            || below.is_some_and(|(_, below)| differ(&stat, &below))
            || is_opaque(etc)?
        {
            return Ok(false);
        }
        let open = place::reopen(etc, OFlags::RDONLY | OFlags::DIRECTORY)?;
        for name in place::names(open.as_fd())? {
            let stat = fstat(place::child(open.as_fd(), &name[..])?)?;
            if !self.has(&[b"etc/", &name[..]].concat(), &stat) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    fn compared(upper: &Path, image: &Path) -> Vec<String> {
        let open = |path: &Path| OwnedFd::from(fs::File::open(path).unwrap());
        let changes = compare(open(upper).as_fd(), open(image).as_fd()).unwrap();
        let letter = |kind| match kind {
            ChangeKind::Modified => 'C',
            ChangeKind::Added => 'A',
            ChangeKind::Deleted => 'D',
        };
        changes
            .into_iter()
            .map(|change| format!("{} {}", letter(change.kind), change.path))
            .collect()
    }

    #[test]
    fn changes_are_counted_as_dockerd_does() {
        let dir = tempfile::tempdir().unwrap();
        let (image, upper) = (dir.path().join("image"), dir.path().join("upper"));
        for path in ["etc", "same/deep", "mode", "kind"] {
            fs::create_dir_all(image.join(path)).unwrap();
            fs::create_dir_all(upper.join(path)).unwrap();
        }
        fs::set_permissions(upper.join("mode"), fs::Permissions::from_mode(0o700)).unwrap();
        fs::write(image.join("etc/passwd"), "a").unwrap();
        fs::write(upper.join("etc/passwd"), "ab").unwrap();
        for name in ["hosts", "hostname", "resolv.conf"] {
            fs::write(upper.join("etc").join(name), "").unwrap();
        }
        for name in ["proc", "sys", "dev"] {
            fs::create_dir(upper.join(name)).unwrap();
        }
        fs::create_dir_all(upper.join("new/er")).unwrap();
        fs::write(upper.join("new/er/file"), "").unwrap();
        fs::write(image.join("file"), "").unwrap();
        fs::create_dir(upper.join("file")).unwrap();
        fs::write(upper.join("file/in"), "").unwrap();
        let expected = [
            "C /etc",
            "C /etc/passwd",
            "C /file",
            "A /file/in",
            "C /mode",
            "A /new",
            "A /new/er",
            "A /new/er/file",
        ];
        assert_eq!(compared(&upper, &image), expected);
    }

    #[test]
    fn what_a_start_makes_is_no_change() {
        let dir = tempfile::tempdir().unwrap();
        let (image, upper) = (dir.path().join("image"), dir.path().join("upper"));
        fs::create_dir_all(&image).unwrap();
        fs::create_dir_all(upper.join("etc")).unwrap();
        for name in ["etc/hosts", "etc/hostname", "etc/resolv.conf"] {
            fs::write(upper.join(name), "").unwrap();
        }
        fs::create_dir(upper.join("proc")).unwrap();
        assert!(compared(&upper, &image).is_empty());
        fs::write(upper.join("etc/other"), "").unwrap();
        assert_eq!(compared(&upper, &image), ["A /etc", "A /etc/other"]);
        fs::create_dir_all(image.join("proc")).unwrap();
        fs::set_permissions(upper.join("proc"), fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(compared(&upper, &image)[2], "C /proc");
    }

    #[test]
    fn whiteouts_and_opaque_directories_are_deletions() {
        use rustix::fs::{FileType, XattrFlags, makedev, mknodat, setxattr};
        let dir = tempfile::tempdir().unwrap();
        let (image, upper) = (dir.path().join("image"), dir.path().join("upper"));
        fs::create_dir_all(image.join("opaque/in")).unwrap();
        fs::create_dir_all(upper.join("opaque/new")).unwrap();
        fs::write(image.join("gone"), "").unwrap();
        let whiteout = |name: &str| {
            let mode = Mode::empty();
            let kind = FileType::CharacterDevice;
            mknodat(rustix::fs::CWD, upper.join(name), kind, mode, makedev(0, 0))
        };
        if whiteout("gone").is_err() {
            return;
        }
        whiteout("never").unwrap();
        let name = "trusted.overlay.opaque";
        if setxattr(upper.join("opaque"), name, b"y", XattrFlags::empty()).is_err() {
            // A file system without such attributes.
            return;
        }
        assert_eq!(
            compared(&upper, &image),
            ["D /gone", "C /opaque", "D /opaque/in", "A /opaque/new"]
        );
    }
}
