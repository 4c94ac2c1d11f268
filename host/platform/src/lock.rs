//! One holder at a time, by a lock of the kernel on an open file.
//!
//! The lock goes with its holder, however that ends: a file left behind by a killed process
//! stops nobody.

use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why the lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process holds it.
    #[error("`{}` is held by another process{}", path.display(), holder(*pid))]
    Held {
        /// The lock file.
        path: PathBuf,
        /// The holder, as far as it wrote itself down.
        pid: Option<u32>,
    },
    /// The file could not be opened or locked.
    #[error("cannot lock `{}`", path.display())]
    Io {
        /// The lock file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

fn holder(pid: Option<u32>) -> String {
    pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
}

/// A lock held until this is dropped or the process ends.
#[derive(Debug)]
pub struct FileLock {
    file: File,
}

impl FileLock {
    /// Takes the lock at `path`, or says who has it. Never waits.
    ///
    /// # Errors
    /// See [`LockError`].
    pub fn try_acquire(path: &Path) -> Result<Self, LockError> {
        let failed = |source| LockError::Io {
            path: path.to_path_buf(),
            source,
        };
        let mut file = crate::sys::open_lock_file(path).map_err(failed)?;
        match take(&file) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(LockError::Held {
                    path: path.to_path_buf(),
                    pid: read_pid(&mut file),
                });
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        // The number is for people reading the file and for `Held`; the lock does not need it.
        let noted = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| write!(file, "{}", std::process::id()));
        noted.map_err(failed)?;
        Ok(Self { file })
    }

    /// Whether a process holds the lock at `path`. Writes nothing down; shares the lock for a moment,
    /// for which takers have patience.
    #[must_use]
    pub fn is_held(path: &Path) -> bool {
        File::open(path)
            .is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }

    /// The open file that carries the lock.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }
}

/// How often a lock is tried that others only look at: each look is over in microseconds.
const TRIES: usize = 100;
/// Time between two tries.
const MOMENT: Duration = Duration::from_millis(1);

/// Takes the lock, if nobody holds it. Those who only look share it, and stop nobody for that.
fn take(file: &File) -> Result<(), TryLockError> {
    for _ in 0..TRIES {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => {}
            other => return other,
        }
        // With a holder it cannot be shared, with others who look it can.
        file.try_lock_shared()?;
        file.unlock().map_err(TryLockError::Error)?;
        std::thread::sleep(MOMENT);
    }
    Err(TryLockError::WouldBlock)
}

fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    Read::take(file, 16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// For the tests of this crate: a process that is being started has for a moment whatever is open here, locks too. Who
/// starts one writes, who says that nobody holds a lock reads.
#[cfg(test)]
pub(crate) static STARTS: std::sync::RwLock<()> = std::sync::RwLock::new(());

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn second_taker_is_told_who_holds_it() {
        let _nobody_starts = STARTS.read();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("daemon.lock");
        let first = FileLock::try_acquire(&path).unwrap();
        let error = FileLock::try_acquire(&path).unwrap_err();
        assert!(matches!(&error, LockError::Held { .. }), "{error}");
        drop(first);
        FileLock::try_acquire(&path).unwrap();
    }

    #[test]
    fn looking_at_a_lock_changes_nothing() {
        let _nobody_starts = STARTS.read();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("machine.lock");
        assert!(!FileLock::is_held(&path));
        assert!(!path.exists());
        let held = FileLock::try_acquire(&path).unwrap();
        assert!(FileLock::is_held(&path));
        drop(held);
        assert!(!FileLock::is_held(&path));
    }

    #[test]
    fn those_who_look_stop_nobody_who_takes() {
        let _nobody_starts = STARTS.read();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("machine.lock");
        drop(FileLock::try_acquire(&path).unwrap());
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        let _ = FileLock::is_held(&path);
                    }
                });
            }
            let taken = (0..2000).find_map(|_| FileLock::try_acquire(&path).err());
            done.store(true, Ordering::Relaxed);
            assert!(taken.is_none(), "{taken:?}");
        });
    }

    #[test]
    fn a_file_left_behind_stops_nobody() {
        let _nobody_starts = STARTS.read();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("daemon.lock");
        std::fs::write(&path, "4194304").unwrap();
        let lock = FileLock::try_acquire(&path).unwrap();
        drop(lock);
        let pid = std::fs::read_to_string(&path).unwrap();
        assert_eq!(pid, std::process::id().to_string());
    }
}
