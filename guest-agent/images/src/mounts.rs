//! One read-only mount per layer, shared by all containers that use it.
//!
//! Called by the engine before it builds a container's overlay, and after the container is gone.
//! Mounts live at `<dir>/<diff_id hex>`; those an earlier engine left are taken up again, and
//! [`LayerMounts::drop_unused`] lets go of the ones nobody asked for since.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, unmount,
};

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::seal::{self, Seals};
use crate::store::LayerFiles;

/// The mounts and how often each is in use.
#[derive(Debug)]
pub struct LayerMounts {
    dir: PathBuf,
    seals: Option<Seals>,
    users: Mutex<HashMap<Digest, u32>>,
}

impl LayerMounts {
    /// Opens the directory of mounts and takes up those that are there already, with no users.
    pub fn open(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir).map_err(Error::file("make directory", dir))?;
        let dir = dir.canonicalize().map_err(Error::file("resolve", dir))?;
        let table = Path::new("/proc/self/mountinfo");
        let table = fs::read(table).map_err(Error::file("read", table))?;
        let users = mounted_layers(&table, &dir)
            .into_iter()
            .map(|digest| (digest, 0))
            .collect();
        Ok(Self {
            dir,
            seals: None,
            users: Mutex::new(users),
        })
    }

    /// From now on, a layer whose index is not what was sealed is not mounted.
    #[must_use]
    pub fn checking(self, seals: Option<Seals>) -> Self {
        Self { seals, ..self }
    }

    /// Where the layer is mounted, mounting it if it is not; counts one user more.
    pub fn mount(&self, layer: &LayerFiles) -> Result<PathBuf> {
        let mut users = self.lock();
        let path = self.dir.join(layer.diff_id.hex());
        if let Some(count) = users.get_mut(&layer.diff_id) {
            *count += 1;
            return Ok(path);
        }
        if let Some(seals) = self.seals {
            seal::check(layer, seals)?;
        }
        fs::create_dir_all(&path).map_err(Error::file("make directory", &path))?;
        mount_erofs(layer, &path).map_err(|error| Error::Mount {
            action: "mount",
            layer: layer.diff_id,
            source: error,
        })?;
        users.insert(layer.diff_id, 1);
        Ok(path)
    }

    /// Counts one user less and unmounts when it was the last. The overlay over it must be gone.
    pub fn release(&self, diff_id: &Digest) -> Result<()> {
        let mut users = self.lock();
        match users.get_mut(diff_id) {
            Some(count) if *count > 1 => {
                *count -= 1;
                Ok(())
            }
            Some(_) => self.unmount(&mut users, diff_id),
            None => Ok(()),
        }
    }

    /// Unmounts what was taken up but has no user: called once, after containers were taken up.
    pub fn drop_unused(&self) -> Result<()> {
        let mut users = self.lock();
        let unused: Vec<Digest> = users
            .iter()
            .filter(|(_, count)| **count == 0)
            .map(|(digest, _)| *digest)
            .collect();
        unused
            .iter()
            .try_for_each(|digest| self.unmount(&mut users, digest))
    }

    /// The layers that are mounted: they must not be collected.
    pub fn mounted(&self) -> Vec<Digest> {
        self.lock().keys().copied().collect()
    }

    fn unmount(
        &self,
        users: &mut MutexGuard<'_, HashMap<Digest, u32>>,
        diff_id: &Digest,
    ) -> Result<()> {
        let path = self.dir.join(diff_id.hex());
        // Lazily: an open file of a container that is just dying must not make removal fail.
        unmount(&path, UnmountFlags::DETACH).map_err(|errno| Error::Mount {
            action: "unmount",
            layer: *diff_id,
            source: errno.into(),
        })?;
        users.remove(diff_id);
        fs::remove_dir(&path).map_err(Error::file("remove directory", &path))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Digest, u32>> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Mounts the index with the tar as its data device; reads of file contents bypass the tar's own
/// page cache (`directio`), else every page would be cached twice.
fn mount_erofs(layer: &LayerFiles, at: &Path) -> io::Result<()> {
    match mount_erofs_with(layer, at, true) {
        // A kernel that has no such option yet.
        Err(Errno::INVAL) => Ok(mount_erofs_with(layer, at, false)?),
        other => Ok(other?),
    }
}

fn mount_erofs_with(layer: &LayerFiles, at: &Path, directio: bool) -> Result<(), Errno> {
    let context = fsopen("erofs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "source", &layer.index)?;
    fsconfig_set_string(&context, "device", &layer.tar)?;
    if directio {
        fsconfig_set_flag(&context, "directio")?;
    }
    fsconfig_set_flag(&context, "ro")?;
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NODEV;
    let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    move_mount(
        &mount,
        "",
        rustix::fs::CWD,
        at,
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )
}

/// The layers that /proc/self/mountinfo shows below `dir`.
fn mounted_layers(mountinfo: &[u8], dir: &Path) -> Vec<Digest> {
    let lines = mountinfo.split(|b| *b == b'\n');
    let points = lines.filter_map(|line| line.split(|b| *b == b' ').nth(4));
    points
        .filter_map(|point| {
            let path = Path::new(std::str::from_utf8(point).ok()?);
            Digest::from_hex(path.strip_prefix(dir).ok()?.to_str()?).ok()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_table_names_our_layers_only() {
        let digest = Digest::of(b"layer");
        let table = format!(
            "29 1 0:25 / / rw - ext4 /dev/vda rw\n\
             30 29 0:26 / /run/l/{} ro,nodev shared:1 - erofs /x/index.erofs ro\n\
             31 29 0:27 / /run/l/other ro - tmpfs t rw\n\
             32 29 0:27 / /elsewhere/{} ro - tmpfs t rw\n",
            digest.hex(),
            Digest::of(b"other").hex()
        );
        assert_eq!(
            mounted_layers(table.as_bytes(), Path::new("/run/l")),
            vec![digest]
        );
    }
}
