//! The shares that are active: each with its own descriptor and its own read-only flag.
//!
//! Called by the control server, which adds and removes, and by the file system, which asks. A read-only
//! grant of a directory that is also shared writably is an entry of its own here: what a container may do
//! follows from the entry it was given, never from a flag of a mount in the guest.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use rustix::fs::{FileType, fstat};

use super::places::Rules;
use super::sys::check_file_system;
use crate::control::{MAX_SHARES, RefusalCode, ShareId, ShareStatus};

/// One active share.
#[derive(Debug)]
pub struct Share {
    /// Name below the synthetic root.
    pub id: ShareId,
    /// What it was said to be.
    pub label: String,
    /// Whether every change is refused.
    pub read_only: bool,
    /// Whether it is a directory; else one regular file.
    pub directory: bool,
    /// Distinguishes this share from an earlier one of the same id, and orders the synthetic root.
    pub serial: u64,
    root: OwnedFd,
    device: u64,
    inode: u64,
    revoked: AtomicBool,
    restricted: AtomicBool,
}

impl Share {
    /// The shared directory or file itself.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Whether it was removed; nothing below it may be served then.
    pub fn is_revoked(&self) -> bool {
        self.revoked.load(Ordering::Acquire)
    }

    /// Whether every change is refused, now or for ever.
    pub fn refuses_changes(&self) -> bool {
        self.read_only || self.restricted.load(Ordering::Acquire)
    }

    fn status(&self) -> ShareStatus {
        ShareStatus {
            id: self.id.clone(),
            label: self.label.clone(),
            read_only: self.read_only,
            restricted: self.restricted.load(Ordering::Acquire),
            directory: self.directory,
        }
    }
}

/// Why a share was not added or removed.
#[derive(Debug, thiserror::Error)]
pub enum ShareError {
    /// The id is taken by another target or flag.
    #[error("share `{0}` exists already with another target")]
    Exists(ShareId),
    /// No such share.
    #[error("there is no share `{0}`")]
    NotFound(ShareId),
    /// Neither directory nor regular file.
    #[error("share `{0}` is neither a directory nor a regular file")]
    NotShareable(ShareId),
    /// Inside a place that no share shows.
    #[error("share `{0}` lies in a folder that is never shared")]
    Hidden(ShareId),
    /// The descriptor cannot be looked at.
    #[error("share `{0}` cannot be read")]
    Unreadable(ShareId, #[source] rustix::io::Errno),
    /// Too many at once.
    #[error("{MAX_SHARES} shares are active already")]
    TooMany,
}

impl ShareError {
    /// The code that goes over the control socket.
    pub fn code(&self) -> RefusalCode {
        match self {
            Self::Exists(_) => RefusalCode::Exists,
            Self::NotFound(_) => RefusalCode::NotFound,
            Self::NotShareable(_) | Self::Hidden(_) | Self::Unreadable(..) => {
                RefusalCode::NotShareable
            }
            Self::TooMany => RefusalCode::TooMany,
        }
    }
}

/// All active shares.
#[derive(Debug, Default)]
pub struct Shares {
    table: RwLock<Table>,
    rules: Arc<Rules>,
}

#[derive(Debug, Default)]
struct Table {
    by_id: BTreeMap<ShareId, Arc<Share>>,
    last_serial: u64,
}

impl Shares {
    /// None yet; what the rules hide will be none.
    pub fn new(rules: Arc<Rules>) -> Self {
        Self {
            rules,
            ..Self::default()
        }
    }

    /// Activates a share; the same target under the same id and flag again changes nothing.
    ///
    /// What is hidden is refused, whatever path now leads there. A read-only place is not: how much of it
    /// is given is the daemon's to say, whose settings may have changed.
    pub fn add(
        &self,
        id: ShareId,
        root: OwnedFd,
        read_only: bool,
        label: String,
    ) -> Result<(), ShareError> {
        match self.rules.hidden.holds(&root) {
            Ok(false) => self.add_named(id, root, read_only, label),
            Ok(true) => Err(ShareError::Hidden(id)),
            Err(error) => Err(ShareError::Unreadable(id, error)),
        }
    }

    /// The same for a folder that the user named in spite of its being hidden.
    pub fn add_named(
        &self,
        id: ShareId,
        root: OwnedFd,
        read_only: bool,
        label: String,
    ) -> Result<(), ShareError> {
        check_file_system(&root).map_err(|e| ShareError::Unreadable(id.clone(), e))?;
        let stat = fstat(&root).map_err(|e| ShareError::Unreadable(id.clone(), e))?;
        let directory = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => true,
            FileType::RegularFile => false,
            _ => return Err(ShareError::NotShareable(id)),
        };
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(old) = table.by_id.get(&id) {
            let same =
                old.device == stat.st_dev && old.inode == stat.st_ino && old.read_only == read_only;
            return if same {
                Ok(())
            } else {
                Err(ShareError::Exists(id))
            };
        }
        if table.by_id.len() >= MAX_SHARES {
            return Err(ShareError::TooMany);
        }
        table.last_serial += 1;
        tracing::info!(share = %id, path = label, read_only, directory, "share activated");
        let share = Share {
            id: id.clone(),
            label,
            read_only,
            directory,
            serial: table.last_serial,
            root,
            device: stat.st_dev,
            inode: stat.st_ino,
            revoked: AtomicBool::new(false),
            restricted: AtomicBool::new(false),
        };
        table.by_id.insert(id, Arc::new(share));
        Ok(())
    }

    /// Ends a share: everything below it fails from now on.
    pub fn remove(&self, id: &ShareId) -> Result<Arc<Share>, ShareError> {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let share = table
            .by_id
            .remove(id)
            .ok_or_else(|| ShareError::NotFound(id.clone()))?;
        share.revoked.store(true, Ordering::Release);
        tracing::info!(share = %id, path = share.label, "share removed");
        Ok(share)
    }

    /// Refuses changes through a share from now on, or no longer.
    pub fn restrict(&self, id: &ShareId, restricted: bool) -> Result<(), ShareError> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let share = table.by_id.get(id);
        let share = share.ok_or_else(|| ShareError::NotFound(id.clone()))?;
        share.restricted.store(restricted, Ordering::Release);
        tracing::info!(share = %id, path = share.label, restricted, "share judged anew");
        Ok(())
    }

    /// The share of this name.
    pub fn get(&self, name: &[u8]) -> Option<Arc<Share>> {
        let id = ShareId::new(std::str::from_utf8(name).ok()?).ok()?;
        self.table
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .by_id
            .get(&id)
            .cloned()
    }

    /// All of them, in the order in which they came.
    pub fn all(&self) -> Vec<Arc<Share>> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = table.by_id.values().cloned().collect();
        all.sort_by_key(|share| share.serial);
        all
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        table.by_id.len()
    }

    /// Those after `after` in the order of their ids, as the control socket tells them: at least one, and
    /// no more than take `room` bytes there. Whether there are more after these is told with them.
    pub fn status(&self, after: Option<&ShareId>, room: usize) -> (Vec<ShareStatus>, bool) {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let (mut told, mut used) = (Vec::new(), 0);
        for share in table.by_id.range((start, Bound::Unbounded)) {
            let status = share.1.status();
            // Each is followed by a comma or the bracket.
            used += 1 + serde_json::to_vec(&status).map_or(room, |bytes| bytes.len());
            if used > room && !told.is_empty() {
                return (told, true);
            }
            told.push(status);
        }
        (told, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    fn id(text: &str) -> ShareId {
        ShareId::new(text).expect("valid id")
    }

    #[test]
    fn a_share_is_a_directory_or_a_regular_file() {
        let shares = Shares::default();
        let null = File::open("/dev/null").expect("null device");
        let refused = shares.add(id("n"), null.into(), true, "/dev/null".into());
        assert!(matches!(refused, Err(ShareError::NotShareable(_))));
        let file = File::open(std::env::current_exe().expect("known")).expect("this program");
        shares
            .add(id("f"), file.into(), true, "exe".into())
            .expect("regular file");
        assert!(!shares.get(b"f").expect("added").directory);
    }

    #[test]
    fn an_id_is_never_given_to_another_target_or_flag() {
        let shares = Shares::default();
        let open = |path: &str| OwnedFd::from(File::open(path).expect("directory"));
        shares
            .add(id("d"), open("/"), true, "/".into())
            .expect("new");
        shares
            .add(id("d"), open("/"), true, "/".into())
            .expect("same again");
        for (path, read_only) in [("/", false), ("/usr", true)] {
            let refused = shares.add(id("d"), open(path), read_only, path.into());
            assert!(
                matches!(refused, Err(ShareError::Exists(_))),
                "{path} {read_only}"
            );
        }
        let removed = shares.remove(&id("d")).expect("present");
        assert!(removed.is_revoked());
        assert!(shares.get(b"d").is_none() && shares.get(b"../d").is_none());
    }
}
