//! From a tree of files to an archive.
//!
//! The tree may change while it is read: everything is opened once, as `O_PATH`, looked at, and only
//! what is a file or a directory is then opened for reading through that descriptor, so that no
//! device or pipe is ever opened. What vanishes on the way is left out; what shrinks is filled up.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use lighter_images::tar::{Kind, NewEntry, TarWriter};
use lighter_runtime::IdRange;
use rustix::fs::{FileType, OFlags, Stat, fgetxattr, fstat, major, minor, readlinkat};
use rustix::io::Errno;

use super::place;

/// Directories below each other that are followed; each holds a descriptor open.
pub(super) const DEPTH: usize = 256;

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Says of a path below the root of the tree whether it is left out.
type LeftOut<'a> = Box<dyn Fn(&[u8], &Stat) -> bool + 'a>;

/// How a tree is packed.
#[derive(Default)]
pub(crate) struct Options<'a> {
    /// The tree is the upper directory of an overlay: its whiteouts become those of a layer.
    pub(crate) layer: bool,
    /// What is left out.
    pub(crate) left_out: Option<LeftOut<'a>>,
    /// The ids outside that users of the tree have, if they are not the same.
    pub(crate) ids: Option<IdRange>,
}

/// Writes trees into one archive.
pub(crate) struct Packer<'a, W> {
    out: TarWriter<W>,
    options: Options<'a>,
    /// First names of files with several.
    links: HashMap<(u64, u64), Vec<u8>>,
}

impl<'a, W: Write> Packer<'a, W> {
    pub(crate) fn new(out: W, options: Options<'a>) -> Self {
        Self {
            out: TarWriter::new(out),
            options,
            links: HashMap::new(),
        }
    }

    /// Ends the archive.
    pub(crate) fn finish(self) -> io::Result<W> {
        self.out.finish()
    }

    /// What the `O_PATH` descriptor `fd` is, by this name, with everything below it.
    pub(crate) fn tree(&mut self, fd: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
        let stat = self.look(fd)?;
        self.node(fd, &stat, name, None, DEPTH)
    }

    /// Everything in a directory, whose own name is `prefix` with its slash, or nothing.
    pub(crate) fn content(&mut self, dir: BorrowedFd<'_>, prefix: &[u8]) -> io::Result<()> {
        let stat = self.look(dir)?;
        self.directory(dir, &stat, prefix, DEPTH)
    }

    /// What something is, with the owner it has for the tree's users.
    fn look(&self, fd: BorrowedFd<'_>) -> io::Result<Stat> {
        let mut stat = fstat(fd)?;
        if let Some(ids) = self.options.ids {
            (stat.st_uid, stat.st_gid) = (ids.inside(stat.st_uid), ids.inside(stat.st_gid));
        }
        Ok(stat)
    }

    fn directory(
        &mut self,
        dir: BorrowedFd<'_>,
        stat: &Stat,
        prefix: &[u8],
        depth: usize,
    ) -> io::Result<()> {
        let Some(depth) = depth.checked_sub(1) else {
            return Err(io::Error::other(
                "directories are nested too deeply to be copied",
            ));
        };
        let open = place::reopen(dir, OFlags::RDONLY | OFlags::DIRECTORY)?;
        for name in place::names(open.as_fd())? {
            let child = match place::child(open.as_fd(), &name[..]) {
                Err(Errno::NOENT) => continue,
                other => other?,
            };
            let inner = self.look(child.as_fd())?;
            let path = [prefix, &name].concat();
            if let Some(left_out) = &self.options.left_out
                && left_out(&path, &inner)
            {
                continue;
            }
            if self.options.layer && name.starts_with(WHITEOUT) {
                tracing::warn!("a file whose name means a whiteout cannot be part of a layer");
                continue;
            }
            self.node(child.as_fd(), &inner, &path, Some(stat.st_dev), depth)?;
        }
        Ok(())
    }

    fn node(
        &mut self,
        fd: BorrowedFd<'_>,
        stat: &Stat,
        path: &[u8],
        above: Option<u64>,
        depth: usize,
    ) -> io::Result<()> {
        let kind = match place::kind(stat) {
            FileType::Directory => return self.subtree(fd, stat, path, above, depth),
            FileType::RegularFile => return self.file(fd, stat, path),
            FileType::Symlink => Kind::Symlink,
            FileType::CharacterDevice if self.options.layer && stat.st_rdev == 0 => {
                return self.whiteout(stat, path);
            }
            FileType::CharacterDevice => Kind::CharDevice,
            FileType::BlockDevice => Kind::BlockDevice,
            FileType::Fifo => Kind::Fifo,
            // A socket means nothing without the process that made it.
            FileType::Socket | FileType::Unknown => return Ok(()),
        };
        let mut entry = entry(kind, stat, path);
        let target;
        if kind == Kind::Symlink {
            target = readlinkat(fd, "", Vec::new())?.into_bytes();
            entry.link = &target;
        } else if kind != Kind::Fifo {
            entry.device = (major(stat.st_rdev), minor(stat.st_rdev));
        }
        if self.linked(stat, &mut entry)? {
            return Ok(());
        }
        self.out.entry(&entry, &mut io::empty()).map(drop)
    }

    fn subtree(
        &mut self,
        fd: BorrowedFd<'_>,
        stat: &Stat,
        path: &[u8],
        above: Option<u64>,
        depth: usize,
    ) -> io::Result<()> {
        let mut name = path.to_vec();
        if !name.ends_with(b"/") {
            name.push(b'/');
        }
        let written = entry(Kind::Directory, stat, &name);
        self.out.entry(&written, &mut io::empty())?;
        if above != Some(stat.st_dev) && place::is_kernels(fd)? {
            return Ok(());
        }
        if self.options.layer && is_opaque(fd)? {
            let mark = [&name[..], OPAQUE].concat();
            let mut mark = entry(Kind::Regular, stat, &mark);
            mark.mode &= 0o777;
            self.out.entry(&mark, &mut io::empty())?;
        }
        self.directory(fd, stat, &name, depth)
    }

    fn file(&mut self, fd: BorrowedFd<'_>, stat: &Stat, path: &[u8]) -> io::Result<()> {
        let mut entry = entry(Kind::Regular, stat, path);
        if self.linked(stat, &mut entry)? {
            return Ok(());
        }
        let open: OwnedFd = match place::reopen(fd, OFlags::RDONLY | OFlags::NONBLOCK) {
            // As dockerd: a file of the host's that may not be read is not in the archive.
            Err(Errno::ACCESS | Errno::PERM) => {
                tracing::warn!("a file may not be read and is left out of an archive");
                return Ok(());
            }
            other => other?,
        };
        let xattrs = capability(open.as_fd());
        entry.xattrs = &xattrs;
        entry.size = u64::try_from(stat.st_size).unwrap_or(0);
        let missing = self.out.entry(&entry, &mut File::from(open))?;
        if missing > 0 {
            tracing::warn!(missing, "a file became shorter while it was read");
        }
        Ok(())
    }

    /// Writes a further name of a file as a link to the first.
    fn linked(&mut self, stat: &Stat, entry: &mut NewEntry<'_>) -> io::Result<bool> {
        if stat.st_nlink < 2 {
            return Ok(false);
        }
        let key = (stat.st_dev, stat.st_ino);
        let Some(first) = self.links.get(&key) else {
            self.links.insert(key, entry.path.to_vec());
            return Ok(false);
        };
        let link = NewEntry {
            kind: Kind::HardLink,
            link: first,
            size: 0,
            device: (0, 0),
            ..entry.clone()
        };
        self.out.entry(&link, &mut io::empty())?;
        Ok(true)
    }

    fn whiteout(&mut self, stat: &Stat, path: &[u8]) -> io::Result<()> {
        let at = path
            .iter()
            .rposition(|byte| *byte == b'/')
            .map_or(0, |at| at + 1);
        let name = [&path[..at], WHITEOUT, &path[at..]].concat();
        let mut entry = entry(Kind::Regular, stat, &name);
        entry.mode = 0o600;
        self.out.entry(&entry, &mut io::empty()).map(drop)
    }
}

fn entry<'a>(kind: Kind, stat: &Stat, path: &'a [u8]) -> NewEntry<'a> {
    NewEntry {
        kind,
        path,
        link: b"",
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: stat.st_mtime,
        size: 0,
        device: (0, 0),
        xattrs: &[],
    }
}

/// The one attribute that dockerd's archives have.
fn capability(file: BorrowedFd<'_>) -> Vec<(Vec<u8>, Vec<u8>)> {
    const NAME: &str = "security.capability";
    const SIZE: usize = 20;
    let mut value = [0; 64];
    let Ok(count) = fgetxattr(file, NAME, &mut value[..]) else {
        return Vec::new();
    };
    let mut value = value[..count].to_vec();
    // The third form names the root user of a user namespace, which means nothing elsewhere.
    if value.get(3) == Some(&3) && value.len() >= SIZE {
        value[3] = 2;
        value.truncate(SIZE);
    }
    vec![(NAME.as_bytes().to_vec(), value)]
}

/// Whether a directory of an upper layer hides all that is below it.
pub(super) fn is_opaque(dir: BorrowedFd<'_>) -> io::Result<bool> {
    let open = place::reopen(dir, OFlags::RDONLY | OFlags::DIRECTORY)?;
    let mut value = [0; 4];
    match fgetxattr(&open, "trusted.overlay.opaque", &mut value[..]) {
        Ok(1) => Ok(value[0] == b'y'),
        Ok(_) | Err(Errno::NODATA | Errno::NOTSUP | Errno::RANGE) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lighter_images::tar::{Limits, TarReader};
    use std::os::unix::fs::symlink;
    use std::path::Path;

    fn listed(bytes: &[u8]) -> Vec<String> {
        let mut reader = TarReader::new(bytes, Limits::default());
        let mut names = Vec::new();
        while let Some(entry) = reader.next_entry().unwrap() {
            let name = String::from_utf8_lossy(&entry.path).into_owned();
            let link = String::from_utf8_lossy(&entry.link).into_owned();
            names.push(match entry.kind {
                Kind::HardLink => format!("{name} = {link}"),
                Kind::Symlink => format!("{name} -> {link}"),
                _ => name,
            });
        }
        names
    }

    fn packed(dir: &Path, name: &str, options: Options<'_>) -> Vec<u8> {
        let fd: OwnedFd = File::open(dir).unwrap().into();
        let mut packer = Packer::new(Vec::new(), options);
        packer.tree(fd.as_fd(), name.as_bytes()).unwrap();
        packer.finish().unwrap()
    }

    #[test]
    fn a_tree_is_packed_in_order_with_links_and_without_sockets() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at("b/c")).unwrap();
        std::fs::write(at("b/file"), "x").unwrap();
        std::fs::hard_link(at("b/file"), at("b-again")).unwrap();
        symlink("/etc/passwd", at("out")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        let bytes = packed(dir.path(), "etc", Options::default());
        assert_eq!(
            listed(&bytes),
            [
                "etc/",
                "etc/b/",
                "etc/b/c/",
                "etc/b/file",
                "etc/b-again = etc/b/file",
                "etc/out -> /etc/passwd"
            ]
        );
        let root = packed(dir.path(), "/", Options::default());
        assert_eq!(listed(&root)[..2], ["/", "/b/"]);
        let left_out = Options {
            left_out: Some(Box::new(|path, _| path.starts_with(b"x/b"))),
            ..Options::default()
        };
        assert_eq!(
            listed(&packed(dir.path(), "x", left_out)),
            ["x/", "x/out -> /etc/passwd"]
        );
    }

    #[test]
    fn file_systems_of_the_kernels_are_empty_directories() {
        let bytes = packed(Path::new("/proc"), "proc", Options::default());
        assert_eq!(listed(&bytes), ["proc/"]);
    }

    #[test]
    fn a_tree_that_is_too_deep_is_an_error_and_no_crash() {
        let dir = tempfile::tempdir().unwrap();
        let mut fd: OwnedFd = File::open(dir.path()).unwrap().into();
        for _ in 0..DEPTH + 10 {
            rustix::fs::mkdirat(&fd, "d", rustix::fs::Mode::RWXU).unwrap();
            fd = place::child(fd.as_fd(), "d").unwrap();
        }
        let root: OwnedFd = File::open(dir.path()).unwrap().into();
        let mut packer = Packer::new(io::sink(), Options::default());
        let error = packer.tree(root.as_fd(), b"x").unwrap_err();
        assert!(error.to_string().contains("nested too deeply"), "{error}");
        let error = place::remove_all(root.as_fd(), b"d", DEPTH).unwrap_err();
        assert_eq!(error, Errno::NAMETOOLONG);
        place::remove_all(root.as_fd(), b"d", DEPTH * 2).unwrap();
    }
}
