//! From an archive to a tree of files, as dockerd unpacks one.
//!
//! Every name is taken below the directory that is unpacked into: its directories are walked by
//! [`place::directory`], its last part is used without following a link, and owner, mode and
//! times are set on what was made, by descriptor (CVE-2021-41089).

use std::fs::File;
use std::io::{self, BufRead, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use lighter_images::tar::{Entry, Kind, Limits, TarError, TarProblem, TarReader};
use lighter_runtime::IdRange;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags, chownat, fchmod,
    fchown, fsetxattr, fstat, futimens, linkat, makedev, mkdirat, mknodat, openat, statat,
    symlinkat, utimensat,
};
use rustix::io::Errno;

use super::pack::DEPTH;
use super::place::{self, ParentError};

/// Most that the names of directories whose time is yet to be set may take up.
const MOST_KEPT: usize = 8 << 20;

/// How an archive is unpacked.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Options {
    /// A directory is not replaced by something else, nor something else by a directory.
    pub(super) keep_kinds: bool,
    /// Whose everything becomes, whatever the archive says.
    pub(super) owner: Option<(u32, u32)>,
    /// The ids outside that users of the tree have, if they are not the same.
    pub(super) ids: Option<IdRange>,
}

/// Why an archive could not be unpacked; the texts are dockerd's where it has some.
#[derive(Debug, thiserror::Error)]
pub(super) enum UnpackError {
    #[error("{0}")]
    Archive(String),
    #[error("invalid entry name \"{0}\"")]
    Name(String),
    #[error("container ID {0} cannot be mapped to a host ID")]
    Owner(u32),
    #[error("invalid hardlink target \"{0}\"")]
    Link(String),
    #[error("cannot overwrite directory \"{0}\" with non-directory \"{1}\"")]
    OverDirectory(String, String),
    #[error("cannot overwrite non-directory \"{0}\" with directory \"{1}\"")]
    OverOther(String, String),
    #[error("{step} {path}: {source}")]
    File {
        step: &'static str,
        path: String,
        source: ParentError,
    },
}

impl UnpackError {
    /// The kernel's answer, where it is one.
    pub(super) fn errno(&self) -> Option<Errno> {
        match self {
            Self::File {
                source: ParentError::Kernel(errno),
                ..
            } => Some(*errno),
            _ => None,
        }
    }
}

impl From<TarError> for UnpackError {
    fn from(error: TarError) -> Self {
        Self::Archive(match error.problem {
            TarProblem::Truncated => "unexpected EOF".into(),
            TarProblem::Checksum => "archive/tar: invalid tar header".into(),
            TarProblem::Type(flag) => format!("unhandled tar header type {flag}"),
            problem => problem.to_string(),
        })
    }
}

/// Unpacks a tar into the directory `base`; `shown` is what that is called in messages.
pub(super) fn unpack(
    base: BorrowedFd<'_>,
    shown: &str,
    input: impl BufRead,
    options: Options,
) -> Result<(), UnpackError> {
    let mut reader = TarReader::new(input, Limits::default());
    let mut unpacker = Unpacker {
        base,
        shown,
        options,
        directories: Vec::new(),
        kept: 0,
    };
    while let Some(entry) = reader.next_entry()? {
        unpacker.entry(&entry, &mut reader)?;
    }
    unpacker.set_times();
    Ok(())
}

struct Unpacker<'a> {
    base: BorrowedFd<'a>,
    shown: &'a str,
    options: Options,
    /// Directories, by their clean names, whose time is set when nothing more is made in them.
    directories: Vec<(Box<[u8]>, Timestamps)>,
    /// What these names take up.
    kept: usize,
}

impl Unpacker<'_> {
    fn entry<R: BufRead>(
        &mut self,
        entry: &Entry,
        reader: &mut TarReader<R>,
    ) -> Result<(), UnpackError> {
        let parts = clean(&entry.path).ok_or_else(|| UnpackError::Name(text(&entry.path)))?;
        let Some((name, parents)) = parts.split_last() else {
            // The directory itself stays as it is.
            return Ok(());
        };
        let owner = self.owner(entry)?;
        let path = text(&parts.join(&b'/'));
        let failed = |step| {
            let path = path.clone();
            move |source: ParentError| UnpackError::File { step, path, source }
        };
        let parent = place::directory(self.base, parents, true).map_err(|error| match error {
            ParentError::Escapes => UnpackError::File {
                step: "statat",
                path: text(&parents.join(&b'/')),
                source: error,
            },
            other => failed("openat")(other),
        })?;
        let parent = parent.as_fd();
        place::writable_kind(parent).map_err(|errno| failed("openat")(errno.into()))?;
        let there = self.clear_way(parent, name, entry.kind, &path)?;
        let make = || -> Result<(), MakeError> {
            match entry.kind {
                Kind::Directory => self.directory(parent, name, (entry, owner), there),
                Kind::Regular => self.file(parent, name, (entry, owner), reader),
                Kind::HardLink => self.link(parent, name, entry),
                _ => self.node(parent, name, (entry, owner)),
            }
        };
        let mut make = make;
        make().map_err(|error| match error {
            MakeError::Kernel(errno) => failed("openat")(errno.into()),
            MakeError::Place(error) => failed("openat")(error),
            MakeError::Content(error) => match Errno::from_io_error(&error) {
                Some(errno) => UnpackError::File {
                    step: "write",
                    path: format!("{}/{path}", self.shown.trim_end_matches('/')),
                    source: errno.into(),
                },
                None if error.kind() == io::ErrorKind::UnexpectedEof => {
                    UnpackError::Archive("unexpected EOF".into())
                }
                None => UnpackError::Archive(error.to_string()),
            },
            MakeError::Link => UnpackError::Link(text(&entry.link)),
        })?;
        if entry.kind == Kind::Directory {
            self.keep(parts.join(&b'/').into(), times(entry));
        }
        Ok(())
    }

    /// Remembers a directory's time. An archive of nothing but directories with the longest names is no
    /// way to the engine's memory: past some of them they get their times at once.
    fn keep(&mut self, name: Box<[u8]>, times: Timestamps) {
        self.kept += name.len() + size_of::<(Box<[u8]>, Timestamps)>();
        self.directories.push((name, times));
        if self.kept > MOST_KEPT {
            self.set_times();
        }
    }

    /// Removes what stands in the way; whether there is a directory to keep.
    fn clear_way(
        &self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        kind: Kind,
        path: &str,
    ) -> Result<bool, UnpackError> {
        let failed = |errno: Errno| UnpackError::File {
            step: "unlinkat",
            path: path.to_owned(),
            source: errno.into(),
        };
        let is_directory = match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(false),
            Err(errno) => return Err(failed(errno)),
            Ok(stat) => place::kind(&stat) == FileType::Directory,
        };
        let wanted = kind == Kind::Directory;
        let names = || (path.to_owned(), self.shown.to_owned());
        if self.options.keep_kinds && is_directory != wanted {
            let (path, shown) = names();
            return Err(if is_directory {
                UnpackError::OverDirectory(path, shown)
            } else {
                UnpackError::OverOther(path, shown)
            });
        }
        if is_directory && wanted {
            return Ok(true);
        }
        place::remove_all(parent, name, DEPTH).map_err(failed)?;
        Ok(false)
    }

    fn directory(
        &self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        (entry, owner): (&Entry, Owner),
        there: bool,
    ) -> Result<(), MakeError> {
        if !there {
            match mkdirat(parent, name, Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = openat(parent, name, flags, Mode::empty())?;
        // Something may be mounted there.
        place::writable_kind(made.as_fd())?;
        Ok(self.attributes(made.as_fd(), entry, owner)?)
    }

    fn file<R: BufRead>(
        &self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        (entry, owner): (&Entry, Owner),
        reader: &mut TarReader<R>,
    ) -> Result<(), MakeError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let mode = Mode::RUSR | Mode::WUSR;
        let mut file = File::from(openat(parent, name, flags | OFlags::CLOEXEC, mode)?);
        write(&mut file, entry, reader).map_err(MakeError::Content)?;
        self.attributes(file.as_fd(), entry, owner)?;
        Ok(futimens(&file, &times(entry))?)
    }

    fn link(&self, parent: BorrowedFd<'_>, name: &[u8], entry: &Entry) -> Result<(), MakeError> {
        let parts = clean(&entry.link).ok_or(MakeError::Link)?;
        let (target, parents) = parts.split_last().ok_or(MakeError::Link)?;
        let of = place::directory(self.base, parents, false).map_err(MakeError::Place)?;
        linkat(&of, *target, parent, name, AtFlags::empty())?;
        Ok(())
    }

    /// Links, devices and pipes: what has no content.
    fn node(
        &self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        (entry, (uid, gid)): (&Entry, Owner),
    ) -> Result<(), MakeError> {
        let kind = match entry.kind {
            Kind::CharDevice => FileType::CharacterDevice,
            Kind::BlockDevice => FileType::BlockDevice,
            Kind::Fifo => FileType::Fifo,
            _ => FileType::Symlink,
        };
        if kind == FileType::Symlink {
            symlinkat(&entry.link[..], parent, name)?;
        } else {
            let device = makedev(entry.device.0, entry.device.1);
            let mode = Mode::from_raw_mode(u32::from(entry.mode) & 0o777);
            mknodat(parent, name, kind, mode, device)?;
        }
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        chownat(parent, name, Some(uid), Some(gid), flags)?;
        if kind != FileType::Symlink {
            chmod_node(parent, name, u32::from(entry.mode))?;
        }
        Ok(utimensat(parent, name, &times(entry), flags)?)
    }

    /// Owner, mode and extended attributes; owner first, a change of it takes set-user-ID bits and
    /// capabilities away.
    fn attributes(
        &self,
        fd: BorrowedFd<'_>,
        entry: &Entry,
        (uid, gid): Owner,
    ) -> rustix::io::Result<()> {
        fchown(fd, Some(uid), Some(gid))?;
        fchmod(fd, Mode::from_raw_mode(u32::from(entry.mode)))?;
        for (name, value) in &entry.xattrs {
            // They say how layers are put together, not what a file is.
            if name.starts_with(b"trusted.") || name.starts_with(b"user.overlay.") {
                continue;
            }
            match fsetxattr(fd, &name[..], value, XattrFlags::empty()) {
                // A file system that has none, or not this one.
                Ok(()) | Err(Errno::NOTSUP | Errno::PERM) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    /// Whose something becomes. Fails for an id that nobody in the container can have.
    fn owner(&self, entry: &Entry) -> Result<Owner, UnpackError> {
        let (uid, gid) = self.options.owner.unwrap_or((entry.uid, entry.gid));
        let outside = |id: u32| match self.options.ids {
            None => Ok(id),
            Some(ids) => ids.outside(id).ok_or(UnpackError::Owner(id)),
        };
        Ok((Uid::from_raw(outside(uid)?), Gid::from_raw(outside(gid)?)))
    }

    /// Sets the times of directories. One that was moved away meanwhile keeps its own.
    fn set_times(&mut self) {
        self.kept = 0;
        for (name, times) in self.directories.drain(..).rev() {
            let parts: Vec<&[u8]> = place::components(&name).collect();
            let Some((name, parents)) = parts.split_last() else {
                continue;
            };
            let set = place::directory(self.base, parents, false)
                .map(|parent| utimensat(&parent, *name, &times, AtFlags::SYMLINK_NOFOLLOW));
            if let Err(error) = set {
                tracing::debug!(%error, "a directory keeps its time");
            }
        }
    }
}

type Owner = (Uid, Gid);

/// What went wrong in making one thing.
#[derive(Debug)]
enum MakeError {
    Kernel(Errno),
    Place(ParentError),
    Content(io::Error),
    Link,
}

impl From<Errno> for MakeError {
    fn from(errno: Errno) -> Self {
        Self::Kernel(errno)
    }
}

/// The mode of a device or pipe, through a descriptor that does not open it.
fn chmod_node(parent: BorrowedFd<'_>, name: &[u8], mode: u32) -> rustix::io::Result<()> {
    use std::os::fd::AsRawFd as _;
    let made: OwnedFd = place::child(parent, name)?;
    if place::kind(&fstat(&made)?) == FileType::Symlink {
        return Ok(());
    }
    let path = format!("/proc/self/fd/{}", made.as_raw_fd());
    rustix::fs::chmod(path, Mode::from_raw_mode(mode & 0o7777))
}

/// Writes the content of an entry. Pieces of zeros become holes, and so do those of a sparse entry.
fn write<R: BufRead>(file: &mut File, entry: &Entry, reader: &mut TarReader<R>) -> io::Result<()> {
    match &entry.sparse {
        None => copy(file, &mut *reader)?,
        Some(segments) => {
            for segment in segments {
                file.seek(SeekFrom::Start(segment.offset))?;
                copy(file, &mut reader.by_ref().take(segment.length))?;
            }
        }
    }
    file.set_len(entry.size)
}

fn copy(file: &mut File, input: &mut impl Read) -> io::Result<()> {
    const PIECE: usize = 64 << 10;
    let mut piece = vec![0; PIECE];
    loop {
        let mut count = 0;
        while count < PIECE {
            match input.read(&mut piece[count..]) {
                Ok(0) => break,
                Ok(more) => count += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let data = &piece[..count];
        if count == PIECE && data.iter().all(|byte| *byte == 0) {
            file.seek(SeekFrom::Current(PIECE as i64))?;
        } else {
            file.write_all(data)?;
        }
        if count < PIECE {
            return Ok(());
        }
    }
}

/// The components of a name, as Go's `filepath.Clean` leaves them; `None` if it leads upwards.
fn clean(path: &[u8]) -> Option<Vec<&[u8]>> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in place::components(path) {
        if part != b".." {
            parts.push(part);
        } else if parts.pop().is_none() && path.first() != Some(&b'/') {
            return None;
        }
    }
    Some(parts)
}

fn times(entry: &Entry) -> Timestamps {
    let time = Timespec {
        tv_sec: entry.mtime,
        tv_nsec: i64::from(entry.mtime_nsec),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests;
