//! What no share shows, wherever it lies below one: keys, and Lighter's own files.
//!
//! The daemon names each by its directory's descriptor and a name, before it adds shares. Kept are the
//! directory's inode with the name, so that one made later is hidden too and a rename of a directory above
//! changes nothing, and the inode itself where there is one, so that another way to it is no way either.
//!
//! Called by the control server, which adds, and by the file system for every name.

use std::collections::HashSet;
use std::ffi::CString;
use std::os::fd::AsFd;
use std::sync::{PoisonError, RwLock};

use rustix::io::Errno;

use super::sys::{self, HostStat, Result};
use crate::control::MAX_HIDDEN;

/// The set of hidden names and inodes.
#[derive(Debug, Default)]
pub struct Hidden {
    sets: RwLock<Sets>,
}

#[derive(Debug, Default)]
struct Sets {
    names: HashSet<(u64, u64, Vec<u8>)>,
    inodes: HashSet<(u64, u64)>,
}

impl Hidden {
    /// Hides `name` in `directory`.
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
        if sets.names.len() >= MAX_HIDDEN {
            return Err(Errno::NOSPC);
        }
        sets.names
            .insert((parent.dev, parent.ino, name.into_bytes()));
        sets.inodes.extend(present);
        Ok(())
    }

    /// Refuses a hidden name in the directory of this device and inode number.
    pub fn check_name(&self, directory: (u64, u64), name: &[u8]) -> Result<()> {
        let sets = self.sets.read().unwrap_or_else(PoisonError::into_inner);
        let hidden =
            |(dev, ino, known): &(u64, u64, Vec<u8>)| (*dev, *ino) == directory && known == name;
        // A handful of entries: a scan costs less than building a key.
        if sets.names.iter().any(hidden) {
            Err(Errno::ACCESS)
        } else {
            Ok(())
        }
    }

    /// Refuses a hidden inode.
    pub fn check(&self, host: &HostStat) -> Result<()> {
        let sets = self.sets.read().unwrap_or_else(PoisonError::into_inner);
        if sets.inodes.contains(&(host.dev, host.ino)) {
            Err(Errno::ACCESS)
        } else {
            Ok(())
        }
    }
}
