//! What the guest holds open: files and directories of the host, and listings of the synthetic root.
//!
//! Called by the file system. The number is bounded, so that a guest that opens for ever is told ENFILE
//! while this process keeps descriptors for its own work.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use rustix::io::Errno;

use super::shares::Share;
use super::sys::Result;

/// One open file or directory.
#[derive(Debug)]
pub struct Handle {
    /// The share it was opened through; none for the synthetic root.
    pub share: Option<Arc<Share>>,
    /// What is open.
    pub body: Body,
}

/// What a handle holds.
#[derive(Debug)]
pub enum Body {
    /// A regular file.
    File {
        /// The open file.
        file: OwnedFd,
        /// Whether it was opened for writing.
        writable: bool,
    },
    /// A directory; the lock keeps one listing's seek and read together.
    Directory(Mutex<OwnedFd>),
    /// The synthetic root.
    Root,
}

impl Handle {
    /// The regular file, for reading.
    pub fn file(&self) -> Result<BorrowedFd<'_>> {
        self.alive()?;
        match &self.body {
            Body::File { file, .. } => Ok(file.as_fd()),
            _ => Err(Errno::ISDIR),
        }
    }

    /// The regular file, for changing it: refused on a read-only share whatever the handle says.
    pub fn file_to_change(&self) -> Result<BorrowedFd<'_>> {
        if self.share.as_ref().is_none_or(|share| share.read_only) {
            return Err(Errno::ROFS);
        }
        match &self.body {
            Body::File {
                writable: false, ..
            } => Err(Errno::BADF),
            _ => self.file(),
        }
    }

    /// Fails once the share was removed.
    pub fn alive(&self) -> Result<()> {
        match &self.share {
            Some(share) if share.is_revoked() => Err(Errno::STALE),
            _ => Ok(()),
        }
    }
}

/// All open handles.
#[derive(Debug)]
pub struct Handles {
    open: RwLock<HashMap<u64, Arc<Handle>>>,
    last: AtomicU64,
    limit: usize,
}

impl Handles {
    /// An empty table of at most `limit` handles.
    pub fn new(limit: usize) -> Self {
        Self {
            open: RwLock::default(),
            last: AtomicU64::new(0),
            limit,
        }
    }

    /// Fails where no further handle would be taken: asked before a descriptor is spent.
    pub fn room(&self) -> Result<()> {
        if self.count() < self.limit {
            Ok(())
        } else {
            Err(Errno::NFILE)
        }
    }

    /// Keeps a handle and names it.
    pub fn insert(&self, handle: Arc<Handle>) -> Result<u64> {
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= self.limit {
            return Err(Errno::NFILE);
        }
        let id = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        open.insert(id, handle);
        Ok(id)
    }

    /// The handle of this name.
    pub fn get(&self, id: u64) -> Result<Arc<Handle>> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        open.get(&id).cloned().ok_or(Errno::BADF)
    }

    /// Closes one.
    pub fn remove(&self, id: u64) -> Result<Arc<Handle>> {
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        open.remove(&id).ok_or(Errno::BADF)
    }

    /// Closes those that were opened through the share of this serial number.
    pub fn remove_share(&self, serial: u64) {
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, handle| {
            handle
                .share
                .as_ref()
                .is_none_or(|share| share.serial != serial)
        });
    }

    /// Closes all.
    pub fn clear(&self) {
        self.open
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    /// How many are open.
    pub fn count(&self) -> usize {
        self.open
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }
}
