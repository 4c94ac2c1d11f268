//! Changes of the file in which a host says where it asks for names (resolv.conf(5)).
//!
//! It is written in place, replaced by another one, or a link whose target is: so the file itself is watched,
//! and every folder on the way to it.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};
use rustix::io::Errno;

/// Links followed; the kernel follows as many.
const MOST_LINKS: usize = 40;

/// Tells of the next change.
#[derive(Debug)]
pub struct ResolutionWatch {
    events: OwnedFd,
    /// Names of entries on the way to the file.
    names: Vec<OsString>,
}

impl ResolutionWatch {
    /// Begins to watch: what changes from now on is told.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn new() -> io::Result<Self> {
        Self::of(Path::new("/etc/resolv.conf"))
    }

    fn of(path: &Path) -> io::Result<Self> {
        let events = inotify::init(CreateFlags::CLOEXEC)?;
        let mut names = Vec::new();
        let mut next = Some(path.to_owned());
        for _ in 0..MOST_LINKS {
            let Some(at) = next else { break };
            if let (Some(folder), Some(name)) = (at.parent(), at.file_name()) {
                let changes = WatchFlags::CLOSE_WRITE
                    | WatchFlags::MOVED_TO
                    | WatchFlags::MOVED_FROM
                    | WatchFlags::CREATE
                    | WatchFlags::DELETE;
                ignore_missing(inotify::add_watch(&events, folder, changes))?;
                names.push(name.to_owned());
            }
            next = target(&at);
        }
        // One that is mounted from elsewhere changes in none of these folders.
        let changes = WatchFlags::CLOSE_WRITE | WatchFlags::MODIFY;
        ignore_missing(inotify::add_watch(&events, path, changes))?;
        Ok(Self { events, names })
    }

    /// Waits until something has changed; then a new watch is needed, for links may lead elsewhere.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn wait(&self) -> io::Result<()> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = Reader::new(&self.events, &mut buffer);
        loop {
            let event = match events.next() {
                Err(Errno::INTR) => continue,
                event => event?,
            };
            let name = event.file_name().map(|name| name.to_bytes());
            if self.concerns(name) {
                return Ok(());
            }
        }
    }

    /// Whether a change of this entry of a folder is one of the file. Without a name it is the file itself.
    fn concerns(&self, entry: Option<&[u8]>) -> bool {
        entry.is_none_or(|entry| self.names.iter().any(|name| name.as_bytes() == entry))
    }
}

/// Where a link leads; nothing for what is none.
fn target(link: &Path) -> Option<PathBuf> {
    let target = fs::read_link(link).ok()?;
    Some(link.parent()?.join(target))
}

fn ignore_missing(watched: Result<i32, Errno>) -> io::Result<()> {
    match watched {
        Ok(_) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::tempdir;

    use super::*;

    #[test]
    fn writing_replacing_linking_and_making_are_changes() {
        let dir = tempdir().unwrap();
        let (etc, run) = (dir.path().join("etc"), dir.path().join("run"));
        fs::create_dir(&etc).unwrap();
        fs::create_dir(&run).unwrap();
        let file = etc.join("resolv.conf");
        let stub = run.join("stub.conf");
        let changes: [&dyn Fn(); 6] = [
            &|| fs::write(&file, "nameserver 10.0.0.1\n").unwrap(),
            &|| fs::write(&file, "nameserver 10.0.0.2\n").unwrap(),
            &|| {
                fs::write(etc.join("new"), "nameserver 10.0.0.3\n").unwrap();
                fs::rename(etc.join("new"), &file).unwrap();
            },
            &|| {
                fs::remove_file(&file).unwrap();
                symlink("../run/stub.conf", &file).unwrap();
            },
            &|| fs::write(&stub, "nameserver 10.0.0.4\n").unwrap(),
            &|| {
                fs::write(run.join("new"), "nameserver 10.0.0.5\n").unwrap();
                fs::rename(run.join("new"), &stub).unwrap();
            },
        ];
        for change in changes {
            let watch = ResolutionWatch::of(&file).unwrap();
            // What is beside it is none.
            fs::write(etc.join("hosts"), "127.0.0.1 localhost\n").unwrap();
            change();
            watch.wait().unwrap();
        }
    }

    #[test]
    fn what_lies_beside_is_no_change() {
        let dir = tempdir().unwrap();
        let file = dir.path().join("resolv.conf");
        symlink("stub.conf", &file).unwrap();
        let watch = ResolutionWatch::of(&file).unwrap();
        for (entry, concerns) in [
            (Some(&b"hosts"[..]), false),
            (Some(b"resolv.conf.bak"), false),
            (Some(b"resolv.conf"), true),
            (Some(b"stub.conf"), true),
            (None, true),
        ] {
            assert_eq!(watch.concerns(entry), concerns, "{entry:?}");
        }
    }
}
