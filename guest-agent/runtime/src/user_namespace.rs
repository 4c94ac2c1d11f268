//! The user namespace of a container: which ids outside stand for those inside, and how the engine
//! makes one.
//!
//! Called by the engine, which makes one for each container that is to have its own, maps its
//! layers and volumes by it ([`crate::mounts::map_ids`]) and passes it to
//! [`crate::Launcher::prepare`]. The files on the disk keep the ids of inside. Nobody outside this
//! process may write the maps, and none is ever written a second time.

use std::fs::File;
use std::os::fd::OwnedFd;

use crate::{StartError, sys, view};

/// Consecutive ids outside that stand for those from 0 inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange {
    /// What 0 inside is outside.
    pub first: u32,
    /// How many there are.
    pub count: u32,
}

/// The ids of every container with a user namespace; nobody else in the machine has them.
pub const CONTAINER_IDS: IdRange = IdRange {
    first: 100_000,
    count: 65_536,
};

/// What an id without a counterpart is shown as: the kernel's own number for that.
const NOBODY: u32 = 65_534;

impl IdRange {
    /// What `outside` is inside.
    #[must_use]
    pub const fn inside(self, outside: u32) -> u32 {
        match outside.checked_sub(self.first) {
            Some(inside) if inside < self.count => inside,
            _ => NOBODY,
        }
    }

    /// What `inside` is outside; `None` if nothing is.
    #[must_use]
    pub const fn outside(self, inside: u32) -> Option<u32> {
        if inside < self.count {
            Some(self.first + inside)
        } else {
            None
        }
    }
}

/// Makes a user namespace in which [`CONTAINER_IDS`] are 0 and what follows, and nobody is anybody
/// else. It has no process yet, and goes with the last descriptor or process. Blocks.
///
/// # Errors
/// The kernel's answer: there are as many as it wants to have.
pub fn user_namespace() -> Result<OwnedFd, StartError> {
    let IdRange { first, count } = CONTAINER_IDS;
    let made = sys::user_namespace(|pid| {
        for map in ["uid_map", "gid_map"] {
            std::fs::write(format!("/proc/{pid}/{map}"), format!("0 {first} {count}\n"))?;
        }
        File::open(format!("/proc/{pid}/ns/user")).map(OwnedFd::from)
    });
    made.map_err(|errno| StartError::kernel("user namespace", errno, "make a user namespace"))
}

/// Runs `work` on a thread that makes files as the root of [`CONTAINER_IDS`], with the powers of
/// this process: what an id-mapped mount wants of whoever makes something on it. `None` if the
/// thread could not be had.
pub fn as_container_root<T: Send>(work: impl FnOnce() -> T + Send) -> Option<T> {
    view::apart(|| {
        let first = CONTAINER_IDS.first;
        sys::set_file_ids(first, first).ok().map(|()| work())
    })
    .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_one_counterpart_or_none() {
        for (inside, outside) in [(0, 100_000), (1000, 101_000), (65_535, 165_535)] {
            assert_eq!(CONTAINER_IDS.outside(inside), Some(outside));
            assert_eq!(CONTAINER_IDS.inside(outside), inside);
        }
        assert_eq!(CONTAINER_IDS.outside(65_536), None);
        for outside in [0, 1000, 99_999, 165_536, u32::MAX] {
            assert_eq!(CONTAINER_IDS.inside(outside), 65_534);
        }
    }
}
