//! The two names a machine has in the run directory: `machine.lock` and `machine.sock`.
//!
//! The lock is an flock on an open file that the machine process inherits: it is held for exactly
//! as long as that process lives, whoever took it. The socket is reached through the directory's
//! descriptor, so that a long run directory does not meet the 108 bytes of a socket address.

use std::{
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::{
    fs::{AtFlags, FlockOperation, Mode, OFlags},
    io::Errno,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType},
};

use crate::{Error, SOCKET};

const LOCK: &str = "machine.lock";
/// How often a lock is tried that others only look at: each look is over in microseconds.
const TRIES: usize = 100;
/// Time between two tries.
const MOMENT: Duration = Duration::from_millis(1);

/// An open run directory.
#[derive(Debug)]
pub struct RunDir {
    dir: OwnedFd,
    path: PathBuf,
}

impl RunDir {
    /// Opens a directory that must exist.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let flags = OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC;
        let dir = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|e| Error::system(format!("open `{}`", path.display()), e))?;
        Ok(Self {
            dir,
            path: path.to_owned(),
        })
    }

    /// Takes the lock, or says that a machine holds it. Whoever only looks whether one does shares it
    /// for a moment, and stops nobody for that.
    pub fn lock(&self) -> Result<OwnedFd, Error> {
        let failed = |e| Error::system(format!("lock `{}`", self.path.join(LOCK).display()), e);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file =
            rustix::fs::openat(&self.dir, LOCK, flags, Mode::RUSR | Mode::WUSR).map_err(failed)?;
        for _ in 0..TRIES {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(file),
                Err(Errno::WOULDBLOCK) => {}
                Err(e) => return Err(failed(e)),
            }
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Err(Error::AlreadyRunning),
                Err(e) => return Err(failed(e)),
            }
            rustix::fs::flock(&file, FlockOperation::Unlock).map_err(failed)?;
            std::thread::sleep(MOMENT);
        }
        Err(Error::AlreadyRunning)
    }

    /// Makes the listening socket. Only the holder of the lock may call this: it removes a stale one.
    pub fn listen(&self) -> Result<OwnedFd, Error> {
        let failed = |e| {
            Error::system(
                format!("listen on `{}`", self.path.join(SOCKET).display()),
                e,
            )
        };
        match rustix::fs::unlinkat(&self.dir, SOCKET, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(e) => return Err(failed(e)),
        }
        let socket = self.socket().map_err(failed)?;
        rustix::net::bind(&socket, &self.address().map_err(failed)?).map_err(failed)?;
        // Nobody can connect before `listen`, so the mode is right by the time it matters.
        rustix::fs::chmodat(&self.dir, SOCKET, Mode::RUSR | Mode::WUSR, AtFlags::empty())
            .map_err(failed)?;
        rustix::net::listen(&socket, 8).map_err(failed)?;
        Ok(socket)
    }

    /// Connects to the machine process, if one listens.
    pub fn connect(&self) -> Result<Option<OwnedFd>, Error> {
        let failed = |e| {
            Error::system(
                format!("connect to `{}`", self.path.join(SOCKET).display()),
                e,
            )
        };
        let socket = self.socket().map_err(failed)?;
        match rustix::net::connect(&socket, &self.address().map_err(failed)?) {
            Ok(()) => Ok(Some(socket)),
            Err(Errno::NOENT | Errno::CONNREFUSED) => Ok(None),
            Err(e) => Err(failed(e)),
        }
    }

    fn socket(&self) -> Result<OwnedFd, Errno> {
        rustix::net::socket_with(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
    }

    fn address(&self) -> Result<SocketAddrUnix, Errno> {
        SocketAddrUnix::new(format!(
            "/proc/self/fd/{}/{SOCKET}",
            self.dir.as_fd().as_raw_fd()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lock_is_exclusive_and_lives_with_its_descriptor() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::open(dir.path()).unwrap();
        let lock = run.lock().unwrap();
        let copy = lock.try_clone().unwrap();
        assert_eq!(run.lock().unwrap_err(), Error::AlreadyRunning);
        drop(lock);
        assert_eq!(run.lock().unwrap_err(), Error::AlreadyRunning);
        drop(copy);
        run.lock().unwrap();
    }

    #[test]
    fn those_who_look_stop_nobody_who_takes() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::open(dir.path()).unwrap();
        drop(run.lock().unwrap());
        let path = dir.path().join(LOCK);
        let done = std::sync::atomic::AtomicBool::new(false);
        let relaxed = std::sync::atomic::Ordering::Relaxed;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(relaxed) {
                    let _ = std::fs::File::open(&path).unwrap().try_lock_shared();
                }
            });
            let failed = (0..2000).find_map(|_| run.lock().err());
            done.store(true, relaxed);
            assert_eq!(failed, None);
        });
    }

    #[test]
    fn socket_works_in_a_directory_longer_than_an_address_and_replaces_a_stale_one() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("d".repeat(120));
        std::fs::create_dir(&deep).unwrap();
        let run = RunDir::open(&deep).unwrap();
        assert!(run.connect().unwrap().is_none());
        drop(run.listen().unwrap());
        assert!(run.connect().unwrap().is_none());
        let _listener = run.listen().unwrap();
        assert!(run.connect().unwrap().is_some());
    }
}
