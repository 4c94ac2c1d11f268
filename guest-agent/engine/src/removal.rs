//! Removes trees of files that containers have made, of whatever depth.
//!
//! Called for containers and volumes that go, on threads that may block, again at the start of the engine
//! after a crash. A tree may be deeper than a path is long, than there are descriptors, than a thread's
//! stack: so it is gone through a part at a time, and what lies below a part is first moved up.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, RenameFlags, openat, renameat_with, unlinkat,
};
use rustix::io::Errno;

/// Directories below each other that are gone through at once; each holds two descriptors.
const DEPTH: usize = 64;

/// Removes `dir` with everything in it. Links in it are removed, not followed; a link in its own place as well.
///
/// # Errors
///
/// When it is not there, or something in it cannot be removed.
pub(crate) fn tree(dir: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (dir.parent(), dir.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent = openat(CWD, parent, flags, Mode::empty())?;
    loop {
        match unlinkat(&parent, name, AtFlags::REMOVEDIR) {
            Ok(()) => return Ok(()),
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            Err(Errno::NOTDIR) => return Ok(unlinkat(&parent, name, AtFlags::empty())?),
            Err(errno) => return Err(errno.into()),
        }
        let top = open(parent.as_fd(), name)?;
        let mut pass = Pass {
            top: top.as_fd(),
            lifted: 0,
            gone: 0,
        };
        pass.clear(top.as_fd(), DEPTH)?;
        if pass.gone == 0 {
            // Somebody fills it as fast as it is emptied, or what is in it is not to be seen.
            return Err(Errno::NOTEMPTY.into());
        }
    }
}

fn open(dir: BorrowedFd<'_>, name: impl rustix::path::Arg) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(dir, name, flags, Mode::empty())
}

/// One time through the tree.
struct Pass<'a> {
    top: BorrowedFd<'a>,
    /// For the next name that something is given in `top`.
    lifted: u64,
    gone: u64,
}

impl Pass<'_> {
    /// Removes what is in `dir` and `depth` directories below.
    fn clear(&mut self, dir: BorrowedFd<'_>, depth: usize) -> rustix::io::Result<()> {
        let mut entries = Dir::read_from(dir)?;
        while let Some(entry) = entries.read() {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") || self.unlink(dir, name, &entry)? {
                continue;
            }
            match depth.checked_sub(1) {
                Some(depth) => {
                    let inner = open(dir, name)?;
                    self.clear(inner.as_fd(), depth)?;
                    drop(inner);
                    unlinkat(dir, name, AtFlags::REMOVEDIR)?;
                }
                None => self.lift(dir, name)?,
            }
            self.gone += 1;
        }
        Ok(())
    }

    /// False if it is a directory with something in it.
    fn unlink(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &CStr,
        entry: &rustix::fs::DirEntry,
    ) -> rustix::io::Result<bool> {
        if entry.file_type() != FileType::Directory {
            match unlinkat(dir, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {
                    self.gone += 1;
                    return Ok(true);
                }
                // A file system that does not say what an entry is.
                Err(Errno::ISDIR) => {}
                Err(errno) => return Err(errno),
            }
        }
        match unlinkat(dir, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => {
                self.gone += 1;
                Ok(true)
            }
            Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    /// Moves a directory to the top, under a name that is free there; this pass or the next meets it again.
    fn lift(&mut self, dir: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<()> {
        loop {
            let new = format!(".lifted-{}", self.lifted);
            self.lifted += 1;
            match renameat_with(dir, name, self.top, new, RenameFlags::NOREPLACE) {
                Err(Errno::EXIST) => {}
                other => return other,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Makes directories below each other, past what a path can name.
    fn deep(dir: &Path, levels: usize) {
        let mut here: OwnedFd = fs::File::open(dir).unwrap().into();
        for level in 0..levels {
            let name = if level % 2 == 0 { "d" } else { ".lifted-0" };
            rustix::fs::mkdirat(&here, name, Mode::RWXU).unwrap();
            if level % 1000 == 0 {
                let flags = OFlags::CREATE | OFlags::WRONLY;
                openat(&here, "file", flags, Mode::RUSR).unwrap();
            }
            here = openat(&here, name, OFlags::PATH, Mode::empty()).unwrap();
        }
    }

    #[test]
    fn a_tree_deeper_than_any_stack_is_removed() {
        let outer = tempfile::tempdir().unwrap();
        let dir = outer.path().join("tree");
        fs::create_dir(&dir).unwrap();
        deep(&dir, 5000);
        // As others that have a stack of this size.
        let removing = std::thread::Builder::new().stack_size(256 << 10);
        let removed = removing.spawn(move || tree(&dir)).unwrap().join();
        removed.unwrap().unwrap();
        assert_eq!(fs::read_dir(outer.path()).unwrap().count(), 0);
    }

    #[test]
    fn links_are_removed_and_not_followed() {
        let outer = tempfile::tempdir().unwrap();
        let (dir, canary) = (outer.path().join("tree"), outer.path().join("canary"));
        fs::create_dir_all(dir.join("a/b/c")).unwrap();
        fs::create_dir(&canary).unwrap();
        fs::write(canary.join("file"), "kept").unwrap();
        for link in ["link", "a/link", "a/b/c/link"] {
            std::os::unix::fs::symlink(&canary, dir.join(link)).unwrap();
        }
        fs::write(dir.join("a/file"), "x").unwrap();
        tree(&dir).unwrap();
        assert!(!dir.exists());
        std::os::unix::fs::symlink(&canary, &dir).unwrap();
        tree(&dir).unwrap();
        assert!(!dir.is_symlink());
        assert_eq!(fs::read_to_string(canary.join("file")).unwrap(), "kept");
        let missing = tree(&dir).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }
}
