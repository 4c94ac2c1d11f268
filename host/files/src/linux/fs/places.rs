//! Places with a rule of their own, through whatever share they are reached: those that none shows (keys,
//! Lighter's own files), and those that none may change (the allow-list's entries for reading).
//!
//! The daemon names each by its directory's descriptor and a name, before it adds shares; what may not be
//! changed it names anew whenever its settings were read. Kept are the
//! directory's inode with the name, so that the rule holds for one made later too and a rename of a directory
//! above changes nothing, and the inode itself where there is one, so that another way to it is no way either.
//!
//! The daemon grants by path. So kept is also every directory above a place, up to `/`: the guest may not
//! rename or remove one, for below its new path the place, or an empty name in its stead, would be granted anew.
//! Only the host's user can still move one; a share that would begin inside what is hidden is refused all the same.
//!
//! Called by the control server, which adds, by the shares, and by the file system for every name.

use std::collections::HashSet;
use std::ffi::CString;
use std::os::fd::AsFd;
use std::sync::{PoisonError, RwLock};

use rustix::fs::FileType;
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

impl Rules {
    /// Whether a directory is one above a place of either rule, and thus stays where it is.
    pub fn stays(&self, host: &HostStat) -> bool {
        self.hidden.is_below(host) || self.read_only.is_below(host)
    }
}

/// A set of names and inodes.
#[derive(Debug, Default)]
pub struct Places {
    sets: RwLock<Sets>,
}

#[derive(Debug, Default, PartialEq)]
struct Sets {
    names: HashSet<(u64, u64, Vec<u8>)>,
    inodes: HashSet<(u64, u64)>,
    /// The directories above, the one in which the name lies first of them.
    above: HashSet<(u64, u64)>,
}

impl Places {
    /// Adds `name` in `directory`; again changes nothing but to see what is there now.
    pub fn add(&self, directory: impl AsFd, name: &str) -> Result<()> {
        let name = CString::new(name).map_err(|_| Errno::INVAL)?;
        sys::component(&name)?;
        let parent = sys::stat(&directory)?;
        let present = match sys::open_child(&directory, &name).and_then(sys::stat) {
            Ok(host) => Some(host.identity()),
            Err(Errno::NOENT) => None,
            Err(error) => return Err(error),
        };
        let mut above = Vec::new();
        sys::any_upwards(&directory, |_, host| {
            above.push(host.identity());
            Ok(false)
        })?;
        let mut sets = self.sets.write().unwrap_or_else(PoisonError::into_inner);
        let place = (parent.dev, parent.ino, name.into_bytes());
        if sets.names.len() >= MAX_HIDDEN && !sets.names.contains(&place) {
            return Err(Errno::NOSPC);
        }
        sets.names.insert(place);
        sets.inodes.extend(present);
        sets.above.extend(above);
        Ok(())
    }

    /// Takes the place of what there was, in one step; whether that was anything else.
    pub fn become_as(&self, other: Self) -> bool {
        let other = other
            .sets
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        let mut sets = self.sets.write().unwrap_or_else(PoisonError::into_inner);
        let changed = *sets != other;
        *sets = other;
        changed
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
        self.has_inode(host.identity())
    }

    /// The same of a device and inode number.
    pub fn has_inode(&self, identity: (u64, u64)) -> bool {
        let sets = self.sets.read().unwrap_or_else(PoisonError::into_inner);
        sets.inodes.contains(&identity)
    }

    /// Whether one of them lies below a directory.
    pub fn is_below(&self, host: &HostStat) -> bool {
        let sets = self.sets.read().unwrap_or_else(PoisonError::into_inner);
        sets.above.contains(&host.identity())
    }

    /// Whether what `fd` names is one of them or lies in one, wherever that is now.
    ///
    /// From a file there is no way up: of one, only itself is compared.
    pub fn holds(&self, fd: impl AsFd) -> Result<bool> {
        if self.is_empty() {
            return Ok(false);
        }
        let mut below = sys::stat(&fd)?;
        if self.has(&below) || below.kind() != FileType::Directory {
            return Ok(self.has(&below));
        }
        sys::any_upwards(fd, |directory, host| {
            let found = self.has(host)
                || self.names_in(host).iter().any(|name| {
                    let child = sys::open_child(directory, name).and_then(sys::stat);
                    child.is_ok_and(|child| child.identity() == below.identity())
                });
            below = *host;
            Ok(found)
        })
    }

    fn names_in(&self, directory: &HostStat) -> Vec<CString> {
        let sets = self.sets.read().unwrap_or_else(PoisonError::into_inner);
        let here = sets
            .names
            .iter()
            .filter(|(dev, ino, _)| (*dev, *ino) == directory.identity());
        here.filter_map(|(.., name)| CString::new(name.as_slice()).ok())
            .collect()
    }
}
