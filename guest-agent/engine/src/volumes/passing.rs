//! Volumes that are temporary file systems (`-o type=tmpfs`): mounted where their folder is when the first
//! container uses one, shared by all that do, unmounted with the last, and their content gone with that.
//!
//! The mount is in the machine's mount namespace, so it outlives the engine: the next one takes it up
//! with the containers that have it, and lets go of those that nobody has any more.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, mount, unmount};

use super::options::{Content, Tmpfs};
use crate::containers::Record;
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};
use crate::mounts::Mount;

/// How many use each that is mounted, by its place.
#[derive(Default)]
pub(crate) struct Passing(Mutex<BTreeMap<PathBuf, usize>>);

impl Passing {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<PathBuf, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A use of volumes; ends when it is dropped.
#[derive(Default)]
pub(crate) struct InUse {
    passing: Arc<Passing>,
    places: Vec<PathBuf>,
}

impl Drop for InUse {
    fn drop(&mut self) {
        let mut all = self.passing.lock();
        for place in &self.places {
            let Some(users) = all.get_mut(place) else {
                continue;
            };
            *users -= 1;
            if *users == 0 {
                all.remove(place);
                release(place);
            }
        }
    }
}

impl Engine {
    /// Has these volumes mounted that are temporary file systems, for one user more.
    pub(crate) fn use_volumes<'a>(
        &self,
        names: impl IntoIterator<Item = &'a str>,
    ) -> Result<InUse> {
        self.in_use(names, |place, tmpfs| {
            // What is there has no user: its engine was killed before it let go of it.
            release(place);
            make(place, tmpfs)
        })
    }

    /// Takes up what a container that runs on has had from an earlier engine.
    pub(crate) fn take_up_volumes(&self, record: &Record) -> Result<InUse> {
        let names = record.mounts.iter().filter_map(Mount::volume);
        self.in_use(names, |place, tmpfs| {
            if is_mounted(place) {
                return Ok(());
            }
            make(place, tmpfs)
        })
    }

    fn in_use<'a>(
        &self,
        names: impl IntoIterator<Item = &'a str>,
        first: impl Fn(&Path, &Tmpfs) -> Result<()>,
    ) -> Result<InUse> {
        let mut used = InUse {
            passing: Arc::clone(self.passing()),
            places: Vec::new(),
        };
        for name in names {
            let Content::Tmpfs(tmpfs) = self.volume_content(name)? else {
                continue;
            };
            let place = self.volume_folder(name)?;
            let mut all = used.passing.lock();
            let users = all.get(&place).copied().unwrap_or(0);
            if users == 0 {
                first(&place, &tmpfs)?;
            }
            all.insert(place.clone(), users + 1);
            drop(all);
            used.places.push(place);
        }
        Ok(used)
    }

    /// Unmounts what no container has: called once, while the engine opens, when all that run on are
    /// taken up.
    pub(crate) fn release_unused_volumes(&self) {
        for volume in self.volumes().all() {
            let place = self.volume_path(&volume.name);
            let all = self.passing().lock();
            let of_memory = matches!(
                super::options::content(volume.options.as_ref()),
                Ok(Content::Tmpfs(_))
            );
            if of_memory && !all.contains_key(&place) {
                release(&place);
            }
        }
    }
}

/// Mounts one, with the words of dockerd where that cannot be.
fn make(place: &Path, tmpfs: &Tmpfs) -> Result<()> {
    if tmpfs.device.is_empty() {
        return Err(Error::new(
            Kind::Internal,
            format!(
                "error while mounting volume '{}': missing device in volume options",
                place.display()
            ),
        ));
    }
    let failed = |error: Errno| {
        let data = match tmpfs.data.as_str() {
            "" => String::new(),
            data => format!(", data: {data}"),
        };
        let flags = match tmpfs.flags.bits() {
            0 => String::new(),
            bits => format!(", flags: {bits:#x}"),
        };
        let (device, place) = (&tmpfs.device, place.display());
        Error::internal(
            format!(
                "error while mounting volume '{place}': failed to mount local volume: mount \
                 {device}:{place}{flags}{data}"
            ),
            std::io::Error::from(error),
        )
    };
    let data = CString::new(tmpfs.data.as_str()).map_err(|_| failed(Errno::INVAL))?;
    mount(
        tmpfs.device.as_str(),
        place,
        "tmpfs",
        tmpfs.flags,
        data.as_c_str(),
    )
    .map_err(failed)
}

/// Whether something is mounted there.
fn is_mounted(place: &Path) -> bool {
    statx(CWD, place, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::TYPE)
        .is_ok_and(|stat| stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// Unmounts what is mounted there, if anything. Containers that have it still see it.
fn release(place: &Path) {
    while is_mounted(place) {
        let flags = UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
        if let Err(errno) = unmount(place, flags) {
            tracing::warn!(%errno, place = %place.display(), "a volume stays mounted");
            return;
        }
    }
}
