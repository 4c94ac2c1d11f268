//! How much a folder of the data disk may hold: it has a project of the file system's own, and that a limit.
//!
//! The number of a project is kept where it counts, in the folder; the kernel keeps what a project
//! takes, in the same journal as the files. Both are right after any crash, so that nothing else has
//! to be written down: a number is free when nothing on the disk has it, and a limit without any
//! file is one that was left behind. Whoever is given a free number is given its limit with it.
//!
//! Called for writable layers and for volumes. The engine's own right to pass any limit (it has
//! `CAP_SYS_RESOURCE`, for its database on a full disk) is laid down where it writes what others asked
//! for: see [`obeying`].

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use lighter_runtime::quota;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

use crate::error::{Error, Kind, Result};
use crate::units;
use crate::usage::remove_tree;

/// The first number that is given out. Lower ones are what people give to files by hand.
const FIRST: u32 = 1 << 20;

/// The projects of the data disk.
pub(crate) struct Projects {
    /// Any directory of it; `None` where the file system has no limits of projects.
    disk: Option<File>,
    /// The number to look at next. Held while one is chosen and put on a folder, and while limits that
    /// were left behind are taken away.
    next: Mutex<u32>,
}

impl Projects {
    /// Finds out whether the file system of `data_root` has limits, and clears away what an engine that
    /// was killed has left of them.
    pub(crate) fn open(data_root: &Path) -> Self {
        let disk = File::open(data_root).ok();
        let projects = Self {
            disk: disk.filter(|disk| quota::is_enforced(disk.as_fd())),
            next: Mutex::new(FIRST),
        };
        projects.clear_unused();
        projects
    }

    /// Whether folders can be limited.
    pub(crate) fn are_there(&self) -> bool {
        self.disk.is_some()
    }

    /// Limits what the folder may hold, itself included, to so many bytes. Everything in it must have been
    /// made after it was limited for the first time; doing it again is cheap.
    ///
    /// # Errors
    ///
    /// There are no limits here, or the kernel's answer.
    pub(crate) fn limit(&self, folder: &Path, bytes: u64) -> io::Result<()> {
        let disk = self.disk.as_ref().ok_or(Errno::OPNOTSUPP)?;
        let folder = open(folder)?;
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let mut project = quota::project(folder.as_fd())?;
        if project == 0 {
            project = free(disk, &mut next)?;
            quota::set_project(folder.as_fd(), project)?;
        }
        let wanted = bytes.div_ceil(1024).saturating_mul(1024);
        if quota::usage(disk.as_fd(), project)?.limit != wanted {
            quota::limit(disk.as_fd(), project, bytes)?;
        }
        Ok(())
    }

    /// Removes a folder with everything in it, and its limit. Blocks.
    pub(crate) fn remove(&self, folder: &Path) {
        let limited = self.has(folder);
        remove_tree(folder);
        if limited {
            self.clear_unused();
        }
    }

    fn has(&self, folder: &Path) -> bool {
        let project = |folder: File| quota::project(folder.as_fd()).ok();
        self.are_there()
            && open(folder)
                .ok()
                .and_then(project)
                .is_some_and(|project| project != 0)
    }

    /// Takes away limits of projects that have no file any more: of folders that are gone, once nobody
    /// has what was in them open.
    fn clear_unused(&self) {
        let Some(disk) = &self.disk else { return };
        let _next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let mut from = FIRST;
        loop {
            let found = match quota::next(disk.as_fd(), from) {
                Ok(Some(found)) => found,
                Ok(None) => return,
                Err(error) => {
                    tracing::warn!(%error, "limits of folders cannot be listed");
                    return;
                }
            };
            if found.limit > 0
                && (found.files, found.bytes) == (0, 0)
                && let Err(error) = quota::limit(disk.as_fd(), found.project, 0)
            {
                tracing::warn!(%error, project = found.project, "a limit that nobody has stays");
            }
            let Some(after) = found.project.checked_add(1) else {
                return;
            };
            from = after;
        }
    }
}

/// A number that nothing on the disk has.
fn free(disk: &File, next: &mut u32) -> io::Result<u32> {
    let first = *next;
    loop {
        let project = *next;
        *next = project.checked_add(1).unwrap_or(FIRST);
        let usage = quota::usage(disk.as_fd(), project)?;
        if (usage.files, usage.bytes) == (0, 0) {
            return Ok(project);
        }
        if *next == first {
            return Err(io::Error::other("all project numbers are in use"));
        }
    }
}

fn open(folder: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::open(folder, flags, Mode::empty())?.into())
}

/// Does something as one who may not pass limits, nor use the room that is kept for the engine. For threads that
/// block: what `work` starts on others is not covered.
pub(crate) fn obeying<T>(work: impl FnOnce() -> T) -> T {
    /// Gives the right back, whatever happens.
    struct Laid(Option<CapabilitySets>);
    impl Drop for Laid {
        fn drop(&mut self) {
            if let Some(before) = self.0
                && let Err(error) = set_capabilities(None, before)
            {
                tracing::error!(%error, "a thread of the engine may not pass limits any more");
            }
        }
    }
    let before = capabilities(None).ok();
    let _laid = Laid(before.filter(|before| {
        let mut less = *before;
        less.effective -= CapabilitySet::SYS_RESOURCE;
        let lowered = set_capabilities(None, less);
        if let Err(error) = &lowered {
            tracing::warn!(%error, "a thread of the engine may pass limits");
        }
        lowered.is_ok()
    }));
    work()
}

/// The size that `--storage-opt` gives a container; `None` for as much as there is. With the words and in
/// the order of dockerd's storage driver.
pub(crate) fn storage_size(
    options: Option<&BTreeMap<String, String>>,
    supported: bool,
) -> Result<Option<u64>> {
    let Some(options) = options else {
        return Ok(None);
    };
    let wrong = |text: String| Error::new(Kind::Internal, text);
    let is_size = |option: &String| option.eq_ignore_ascii_case("size");
    if !supported && options.keys().any(is_size) {
        return Err(wrong(NOT_SUPPORTED.to_owned()));
    }
    let mut size = 0;
    for (option, value) in options {
        if !is_size(option) {
            return Err(wrong(format!("Unknown option {}", option.to_lowercase())));
        }
        size = units::ram_in_bytes(value).map_err(wrong)?;
    }
    Ok((size > 0).then_some(size))
}

/// dockerd's answer on a file system without project quotas.
const NOT_SUPPORTED: &str =
    "--storage-opt is supported only for overlay over xfs with 'pquota' mount option";

#[cfg(test)]
mod tests {
    use super::*;

    fn size(pairs: &[(&str, &str)], supported: bool) -> Result<Option<u64>, String> {
        let owned = |pair: &(&str, &str)| (pair.0.to_owned(), pair.1.to_owned());
        let options: BTreeMap<_, _> = pairs.iter().map(owned).collect();
        storage_size(Some(&options), supported).map_err(|error| error.text())
    }

    #[test]
    fn sizes_of_containers_are_read_as_dockerd_reads_them() {
        assert_eq!(storage_size(None, false).unwrap(), None);
        for supported in [true, false] {
            assert_eq!(size(&[], supported), Ok(None));
            let unknown = size(&[("Foo", "1")], supported);
            assert_eq!(unknown, Err("Unknown option foo".into()));
        }
        for (text, wanted) in [("10m", Some(10 << 20)), ("0", None), ("1", Some(1))] {
            assert_eq!(size(&[("size", text)], true), Ok(wanted));
        }
        assert_eq!(size(&[("SIZE", "1k")], true), Ok(Some(1024)));
        assert_eq!(
            size(&[("size", "10q")], true),
            Err("invalid suffix: 'q'".into())
        );
        for text in ["1m", "0", "nonsense"] {
            assert_eq!(size(&[("size", text)], false), Err(NOT_SUPPORTED.into()));
        }
    }

    #[test]
    fn the_right_to_pass_limits_is_laid_down_and_taken_up_again() {
        let may = || {
            let sets = capabilities(None).unwrap();
            sets.effective.contains(CapabilitySet::SYS_RESOURCE)
        };
        let before = may();
        assert!(!obeying(may));
        assert_eq!(may(), before);
        assert!(std::panic::catch_unwind(|| obeying(|| panic!("of the test"))).is_err());
        assert_eq!(may(), before);
    }

    #[test]
    fn a_disk_without_projects_has_no_limits() {
        let dir = tempfile::tempdir().unwrap();
        let projects = Projects::open(dir.path());
        if !projects.are_there() {
            let refused = projects.limit(dir.path(), 1).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::Unsupported);
            assert!(!projects.has(dir.path()));
        }
    }
}
