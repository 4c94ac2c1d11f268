//! Places with a rule of their own, through whatever share they are reached: those that none shows (keys,
//! Lighter's own files), and those that none may change (the allow-list's entries for reading).
//!
//! The daemon names each by its directory's descriptor and a name, before it adds shares. Kept are the
//! directory's inode with the name, so that the rule holds for one made later too and a rename of a directory
//! above changes nothing, and the inode itself where there is one, so that another way to it is no way either.
//!
//! Called by the control server, which adds, and by the file system for every name.

use std::collections::HashSet;
use std::ffi::CString;
use std::os::fd::AsFd;
use std::sync::{PoisonError, RwLock};

use rustix::io::Errno;

use super::sys::{self, HostStat, Result};
use crate::control::MAX_HIDDEN;

/// The places of both rules.
#[derive(Debug, Default)]
pub struct Rules {
    /// Shown by no share.
    pub hidden: Places,
    /// Changed through no share, with all that is below.
    pub read_only: Places,
}

/// A set of names and inodes.
#[derive(Debug, Default)]
pub struct Places {
    sets: RwLock<Sets>,
}

#[derive(Debug, Default)]
struct Sets {
    names: HashSet<(u64, u64, Vec<u8>)>,
    inodes: HashSet<(u64, u64)>,
}

impl Places {
    /// Adds `name` in `directory`; again changes nothing.
    pub fn add(&self, directory: impl AsFd, name: &str) -> Result<()> {
        let name = CString::new(name).map_err(|_| Errno::INVAL)?;
        sys::component(&name)?;
        let parent = sys::stat(&directory)?;
        let present = match sys::open_child(&directory, &name).and_then(sys::stat) {
            Ok(host) => Some((host.dev, host.ino)),
            Err(Errno::NOENT) => None,
            Err(error) => return Err(error),
        };
        let mut sets = self.sets.write().unwrap_or_else(PoisonError::into_inner);
        let place = (parent.dev, parent.ino, name.into_bytes());
        if sets.names.len() >= MAX_HIDDEN && !sets.names.contains(&place) {
            return Err(Errno::NOSPC);
        }
        sets.names.insert(place);
        sets.inodes.extend(present);
        Ok(())
    }

    /// Whether there is none, which costs nothing to ask.
    pub fn is_empty(&self) -> bool {
        let sets = self.sets.read().unwrap_or_else(PoisonError::into_inner);
        sets.names.is_empty()
    }

    /// Whether a name in the directory of this device and inode number is one of them.
    pub fn has_name(&self, directory: (u64, u64), name: &[u8]) -> bool {
        let sets = self.sets.read().unwrap_or_else(PoisonError::into_inner);
        let same =
            |(dev, ino, known): &(u64, u64, Vec<u8>)| (*dev, *ino) == directory && known == name;
        // A handful of entries: a scan costs less than building a key.
        sets.names.iter().any(same)
    }

    /// Whether an inode is one of them.
    pub fn has(&self, host: &HostStat) -> bool {
        let sets = self.sets.read().unwrap_or_else(PoisonError::into_inner);
        sets.inodes.contains(&(host.dev, host.ino))
    }
}
