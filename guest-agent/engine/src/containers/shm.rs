//! `/dev/shm` that more than one container has: POSIX shared memory goes where the IPC namespace goes.
//!
//! A container with `--ipc shareable` gets a tmpfs of the engine's below its run directory; those that
//! join it get the same one; `--ipc host` is the machine's. The mount is in the machine's mount
//! namespace, so it outlives the engine, and it is let go when the container has ended: those
//! who joined keep their own mounts of it.

use std::ffi::CString;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use lighter_runtime::mounts::{Source, bind};
use lighter_runtime::{ContainerSpec, MountFlags, MountKind};
use rustix::io::Errno;
use rustix::mount::{MountFlags as Flags, UnmountFlags, mount, unmount};

use super::{Record, modes, users};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::mounts::resolve::Owners;

const PLACE: &str = "/dev/shm";

/// A container joins one that joined one …: longer rows than this are refused.
const DEPTH: u32 = 16;

impl Engine {
    /// Replaces the `/dev/shm` of `spec` by the shared one its IPC mode asks for.
    pub(super) fn share_shm(
        &self,
        record: &Record,
        spec: &mut ContainerSpec,
        fds: &mut Vec<OwnedFd>,
        user: Option<BorrowedFd<'_>>,
    ) -> Result<()> {
        let mode = record.host_config.ipc_mode.as_str();
        if matches!(mode, "private" | "none" | "") {
            return Ok(());
        }
        let Some(path) = self.shm_of(record, DEPTH)? else {
            return Ok(());
        };
        if mode == "shareable" {
            make(&path, record.host_config.shm_size)
                .map_err(|errno| Error::internal("mounting shm tmpfs", errno))?;
        }
        let fd = bind(Source::Path(&path), false)
            .map_err(|error| Error::internal("the shared memory cannot be bound", error))?;
        let owners = if mode == "host" {
            Owners::Machine
        } else {
            Owners::Inside
        };
        users::map(fd.as_fd(), owners, user)?;
        for mount in &mut spec.mounts {
            if matches!(mount.kind, MountKind::Shm { .. }) {
                mount.kind = MountKind::Fd(fds.len());
                mount.flags = MountFlags::default();
                mount.source = path.display().to_string();
            }
        }
        fds.push(fd);
        Ok(())
    }

    /// Where the `/dev/shm` is that this container shares; `None` if it shares none.
    pub(super) fn shm_of(&self, record: &Record, depth: u32) -> Result<Option<PathBuf>> {
        let mode = record.host_config.ipc_mode.as_str();
        match mode {
            "host" => Ok(Some(PLACE.into())),
            "shareable" => {
                let own = record.mounts.iter().any(|mount| mount.destination == PLACE);
                Ok((!own).then(|| place(&self.container_run_dir(&record.id))))
            }
            _ => match modes::donor(mode) {
                Some(reference) if depth > 0 => {
                    let other = self.containers().find(reference)?;
                    self.shm_of(&other.record(), depth - 1)
                }
                _ => Ok(None),
            },
        }
    }

    /// Refuses a donor that keeps its shared memory to itself.
    pub(super) fn check_shareable(&self, donor: &Record, reference: &str) -> Result<()> {
        if self.shm_of(donor, DEPTH)?.is_some() {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "failed to join IPC namespace: container {reference}: non-shareable IPC (hint: use \
             IpcMode:shareable for the donor container)"
        )))
    }
}

fn place(run_dir: &Path) -> PathBuf {
    run_dir.join("shm")
}

fn make(path: &Path, size: i64) -> rustix::io::Result<()> {
    let failed = |error: std::io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
    std::fs::create_dir_all(path).map_err(failed)?;
    // An engine that was killed may have left one of an earlier run.
    while unmount(path, UnmountFlags::DETACH).is_ok() {}
    let options = CString::new(format!("mode=1777,size={size}")).map_err(|_| Errno::INVAL)?;
    let flags = Flags::NOEXEC | Flags::NOSUID | Flags::NODEV;
    mount("shm", path, "tmpfs", flags, options.as_c_str())
}

/// Lets go of what [`Engine::share_shm`] has mounted below this run directory, if anything.
pub(super) fn release(run_dir: &Path) {
    match unmount(place(run_dir), UnmountFlags::DETACH) {
        // Not there, or not mounted.
        Ok(()) | Err(Errno::NOENT | Errno::INVAL) => {}
        Err(errno) => tracing::warn!(%errno, dir = %run_dir.display(), "shared memory stays"),
    }
}
