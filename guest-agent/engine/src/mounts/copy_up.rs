//! Fills an empty volume with what the image has at the place where it is mounted.
//!
//! The image is walked by descriptors inside the container's root, never by a path on the
//! machine, so no link of the image leads out of it. The copy is made beside the volume and put
//! in place in one step: a copy that was cut short is never taken for a volume's content.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, Uid,
    XattrFlags,
};
use rustix::io::Errno;

/// Directories below each other that are followed; each holds two descriptors open.
const DEPTH: usize = 256;

/// Whether the root file system has a directory at `destination`.
pub(crate) fn has_directory(root: BorrowedFd<'_>, destination: &str) -> bool {
    open_inside(root, destination).is_ok()
}

/// Copies what the root file system has at `destination` into a folder of somebody else's, opened as a
/// path, if that is empty: in its own place, since nothing beside it is ours. Blocks.
pub(crate) fn copy_into(
    root: BorrowedFd<'_>,
    destination: &str,
    folder: BorrowedFd<'_>,
) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let target = rustix::fs::openat(folder, c".", flags, Mode::empty())?;
    let taken = |entry: &rustix::io::Result<rustix::fs::DirEntry>| match entry {
        Ok(entry) => !matches!(entry.file_name().to_bytes(), b"." | b".."),
        Err(_) => true,
    };
    if Dir::read_from(&target)?.any(|entry| taken(&entry)) {
        return Ok(());
    }
    let source = open_inside(root, destination)?;
    let mut links = HashMap::new();
    directory(
        source.as_fd(),
        target.as_fd(),
        Path::new(""),
        &mut links,
        DEPTH,
    )?;
    copy_attributes(source.as_fd(), target.as_fd())
}

/// Copies what the root file system has at `destination` into the volume's directory `data`, if
/// that is empty. Blocks.
pub(crate) fn copy_up(root: BorrowedFd<'_>, destination: &str, data: &Path) -> io::Result<()> {
    std::fs::create_dir_all(data)?;
    if std::fs::read_dir(data)?.next().is_some() {
        return Ok(());
    }
    let source = match open_inside(root, destination) {
        Ok(source) => source,
        // A file there cannot fill a directory.
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        Err(errno) => return Err(errno.into()),
    };
    let mut name = data.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    match std::fs::remove_dir_all(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => std::fs::create_dir(&new)?,
    }
    let filled = fill(source.as_fd(), &new).and_then(|()| std::fs::rename(&new, data));
    if filled.is_err()
        && let Err(error) = std::fs::remove_dir_all(&new)
    {
        tracing::warn!(%error, dir = %new.display(), "half a copy is left behind");
    }
    filled
}

fn fill(source: BorrowedFd<'_>, new: &Path) -> io::Result<()> {
    let target: OwnedFd = File::open(new)?.into();
    let mut links = HashMap::new();
    directory(source, target.as_fd(), Path::new(""), &mut links, DEPTH)?;
    copy_attributes(source, target.as_fd())?;
    rustix::fs::syncfs(&target)?;
    Ok(())
}

fn open_inside(root: BorrowedFd<'_>, path: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(root, path, flags, Mode::empty(), resolve)
}

/// First names of files with several, relative to the volume's root.
type Links = HashMap<(u64, u64), PathBuf>;

fn directory(
    source: BorrowedFd<'_>,
    target: BorrowedFd<'_>,
    at: &Path,
    links: &mut Links,
    depth: usize,
) -> io::Result<()> {
    if depth == 0 {
        return Err(io::Error::other(
            "directories are nested too deeply to be copied",
        ));
    }
    let mut entries = Dir::read_from(source)?;
    while let Some(entry) = entries.read() {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let stat = rustix::fs::statat(source, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let path = at.join(OsStr::from_bytes(name.to_bytes()));
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let from = rustix::fs::openat(source, name, flags, Mode::empty())?;
                rustix::fs::mkdirat(target, name, Mode::RWXU)?;
                let to = rustix::fs::openat(target, name, flags, Mode::empty())?;
                directory(from.as_fd(), to.as_fd(), &path, links, depth - 1)?;
                copy_attributes(from.as_fd(), to.as_fd())?;
            }
            FileType::RegularFile => {
                let key = (stat.st_dev, stat.st_ino);
                if stat.st_nlink > 1 && links.contains_key(&key) {
                    let first = File::open(up_from(target, at)?)?;
                    let flags = AtFlags::empty();
                    rustix::fs::linkat(&first, &links[&key], target, name, flags)?;
                } else {
                    regular(source, target, name)?;
                    links.insert(key, path);
                }
            }
            FileType::Symlink => {
                let text = rustix::fs::readlinkat(source, name, Vec::new())?;
                rustix::fs::symlinkat(text, target, name)?;
                set_owner_and_times(target, name, &stat)?;
            }
            kind => {
                let mode = Mode::from_raw_mode(stat.st_mode);
                rustix::fs::mknodat(target, name, kind, mode, stat.st_rdev)?;
                set_owner_and_times(target, name, &stat)?;
            }
        }
    }
    Ok(())
}

/// The path from `target`, which lies at `at` below the volume's root, to that root.
fn up_from(target: BorrowedFd<'_>, at: &Path) -> io::Result<PathBuf> {
    let mut path = PathBuf::from(format!(
        "/proc/self/fd/{}",
        std::os::fd::AsRawFd::as_raw_fd(&target)
    ));
    path.extend(at.components().map(|_| ".."));
    Ok(path)
}

fn regular(
    source: BorrowedFd<'_>,
    target: BorrowedFd<'_>,
    name: &std::ffi::CStr,
) -> io::Result<()> {
    let read = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let write = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let from = File::from(rustix::fs::openat(source, name, read, Mode::empty())?);
    let mut to = File::from(rustix::fs::openat(
        target,
        name,
        write,
        Mode::RUSR | Mode::WUSR,
    )?);
    io::copy(&mut &from, &mut to)?;
    copy_attributes(from.as_fd(), to.as_fd())
}

/// Owner, mode, extended attributes and times of an open file or directory.
fn copy_attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    let stat = rustix::fs::fstat(from)?;
    // Owner first: a change of owner takes set-user-ID bits and capabilities away.
    rustix::fs::fchown(
        to,
        Some(Uid::from_raw(stat.st_uid)),
        Some(Gid::from_raw(stat.st_gid)),
    )?;
    rustix::fs::fchmod(to, Mode::from_raw_mode(stat.st_mode))?;
    copy_xattrs(from, to)?;
    Ok(rustix::fs::futimens(to, &times(&stat))?)
}

fn copy_xattrs(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    let mut names = vec![0u8; 64 * 1024];
    let count = match rustix::fs::flistxattr(from, &mut names[..]) {
        Ok(count) => count,
        Err(Errno::NOTSUP) => return Ok(()),
        Err(errno) => return Err(errno.into()),
    };
    let mut value = vec![0u8; 64 * 1024];
    for name in names[..count]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
    {
        // Others belong to the overlay or to the machine.
        if !(name.starts_with(b"user.") || name == b"security.capability") {
            continue;
        }
        let size = rustix::fs::fgetxattr(from, name, &mut value[..])?;
        rustix::fs::fsetxattr(to, name, &value[..size], XattrFlags::empty())?;
    }
    Ok(())
}

fn set_owner_and_times(dir: BorrowedFd<'_>, name: &std::ffi::CStr, stat: &Stat) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    rustix::fs::chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(rustix::fs::utimensat(
        dir,
        name,
        &times(stat),
        AtFlags::SYMLINK_NOFOLLOW,
    )?)
}

fn times(stat: &Stat) -> Timestamps {
    let time = |seconds: i64, nanoseconds: u64| Timespec {
        tv_sec: seconds,
        tv_nsec: i64::try_from(nanoseconds).unwrap_or(0),
    };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt, symlink};

    fn image() -> (tempfile::TempDir, OwnedFd) {
        let root = tempfile::tempdir().unwrap();
        let data = root.path().join("srv/data");
        std::fs::create_dir_all(data.join("sub")).unwrap();
        std::fs::write(data.join("sub/file"), "content").unwrap();
        std::fs::set_permissions(data.join("sub/file"), PermissionsExt::from_mode(0o640)).unwrap();
        std::fs::hard_link(data.join("sub/file"), data.join("second")).unwrap();
        symlink("/etc/passwd", data.join("link")).unwrap();
        std::fs::write(data.join(OsStr::from_bytes(b"\xff")), "no text").unwrap();
        std::fs::set_permissions(&data, PermissionsExt::from_mode(0o750)).unwrap();
        symlink("/srv/data", root.path().join("alias")).unwrap();
        symlink("/../../../etc", root.path().join("out")).unwrap();
        let fd = File::open(root.path()).unwrap().into();
        (root, fd)
    }

    #[test]
    fn content_modes_links_and_hard_links_are_kept() {
        let (_image, root) = image();
        let volume = tempfile::tempdir().unwrap();
        let data = volume.path().join("_data");
        copy_up(root.as_fd(), "/alias", &data).unwrap();
        assert_eq!(
            std::fs::read_to_string(data.join("second")).unwrap(),
            "content"
        );
        let bytes = data.join(OsStr::from_bytes(b"\xff"));
        assert_eq!(std::fs::read_to_string(bytes).unwrap(), "no text");
        let meta = |name: &str| std::fs::symlink_metadata(data.join(name)).unwrap();
        assert_eq!(meta("sub/file").ino(), meta("second").ino());
        assert_eq!(meta("sub/file").mode() & 0o777, 0o640);
        assert_eq!(std::fs::metadata(&data).unwrap().mode() & 0o777, 0o750);
        assert_eq!(
            std::fs::read_link(data.join("link")).unwrap(),
            Path::new("/etc/passwd")
        );
    }

    #[test]
    fn a_volume_with_content_and_a_path_out_of_the_image_stay_as_they_are() {
        let (_image, root) = image();
        let volume = tempfile::tempdir().unwrap();
        let data = volume.path().join("_data");
        copy_up(root.as_fd(), "/out", &data).unwrap();
        assert_eq!(std::fs::read_dir(&data).unwrap().count(), 0);
        std::fs::write(data.join("mine"), "x").unwrap();
        copy_up(root.as_fd(), "/srv/data", &data).unwrap();
        assert_eq!(std::fs::read_dir(&data).unwrap().count(), 1);
    }
}
