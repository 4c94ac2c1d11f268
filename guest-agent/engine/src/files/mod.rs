//! The files of containers: copied in and out as archives, compared with their image, exported.
//!
//! Called by the API's archive, changes, export and commit routes, on threads that may block.
//!
//! How a tree is walked that belongs to somebody who may change it at any moment:
//! [`lighter_runtime::View`] gives one descriptor, that of the root of the container's mount
//! namespace (its live one while it runs, else one made like it). From there on there are only
//! descriptors: paths of a request are resolved once by the kernel below that root
//! (`openat2(RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)`, so `/var/run` → `/run` stays in the
//! container), names of an archive one component at a time below the directory it is unpacked in,
//! and what is found is used by descriptor and never looked up again. A link that is exchanged
//! meanwhile (CVE-2018-15664) leads to another place of the same container at worst.
//!
//! The users of a container that runs in a user namespace have other ids out here: archives show
//! and take those inside. One that does not run is looked at without.
//!
//! Archives are read, written and unpacked by this process, which loads and executes nothing of
//! the container (CVE-2019-14271, CVE-2026-41567). Nothing is ever read from, or written to, a
//! file system of the kernel's (procfs, sysfs, …) in there: they hold no files of the container.

pub(crate) mod changes;
mod export;
mod pack;
mod place;
mod stat;
mod unpack;
mod verbs;

pub use changes::{Change, ChangeKind};
pub use export::Export;
pub use stat::PathStat;
pub use verbs::{Archive, PutOptions};

pub(crate) use pack::{Options as PackOptions, Packer};

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use lighter_runtime::mounts::{Source as KernelSource, bind};
use lighter_runtime::{CONTAINER_IDS, IdRange, Mount as Spec, MountFlags, MountKind, View};
use rustix::io::Errno;
use tokio::sync::OwnedMutexGuard;

use crate::containers::{BOUND_FILES, Container, Live, Record, Status, lock};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::mounts::{Mount, Source, resolve};
use crate::volumes::InUse;

/// A container's files, held: it neither starts nor goes away meanwhile.
pub(crate) struct Files {
    pub(crate) view: View,
    pub(crate) record: Arc<Record>,
    /// The ids outside that its users have; `None` where they are the same.
    pub(crate) ids: Option<IdRange>,
    /// Whether they were mounted for this.
    assembled: bool,
    _volumes: InUse,
    told: Option<Told>,
    /// Let go of after the view: two overlays over one directory must not be.
    _held: OwnedMutexGuard<()>,
}

/// That its volumes were mounted for a copy was told; that they are no more is told at the end.
struct Told {
    engine: Arc<Engine>,
    container: Arc<Container>,
}

impl Drop for Told {
    fn drop(&mut self) {
        self.engine.volume_events(&self.container, "unmount");
    }
}

impl Engine {
    /// Opens the files of a container to copy some of them, and tells of volumes that are mounted for that.
    async fn files_to_copy(self: &Arc<Self>, container: &Arc<Container>) -> Result<Files> {
        let mut files = self.container_files(container).await?;
        if files.assembled {
            self.volume_events(container, "mount");
            files.told = Some(Told {
                engine: Arc::clone(self),
                container: Arc::clone(container),
            });
        }
        Ok(files)
    }

    /// Opens the files of a container, whether it runs or not.
    pub(crate) async fn container_files(
        self: &Arc<Self>,
        container: &Arc<Container>,
    ) -> Result<Files> {
        let held = Arc::clone(&container.op).lock_owned().await;
        if container.status() == Status::Removing {
            return Err(Error::conflict(format!(
                "container {} is marked for removal",
                container.id()
            )));
        }
        let record = container.record();
        let (view, ids, volumes) = loop {
            let mut watch = container.watch();
            let exits = watch.borrow_and_update().exits;
            if !container.status().is_running() {
                let clearing = lock(&container.clearing).take();
                if let Some(clearing) = clearing {
                    // Its last processes have let go; a panic in there was reported already.
                    let _ = clearing.await;
                }
                let volumes = record.mounts.iter().filter_map(Mount::volume);
                let used = self.use_volumes(volumes)?;
                break (self.assemble_view(&record).await?, None, Some(used));
            }
            if let Some(live) = container.live() {
                let ids = live.user.as_ref().map(|_| CONTAINER_IDS);
                if let Some(view) = live_view(live).await? {
                    break (view, ids, None);
                }
            }
            // It has just ended, and in a moment everybody knows.
            let ended = watch.wait_for(|state| state.exits > exits).await;
            ended.map_err(|error| Error::internal("the container has gone", error))?;
        };
        Ok(Files {
            view,
            record,
            ids,
            assembled: volumes.is_some(),
            _volumes: volumes.unwrap_or_default(),
            told: None,
            _held: held,
        })
    }

    /// The files of a container without a process, as its next one would see them.
    async fn assemble_view(self: &Arc<Self>, record: &Arc<Record>) -> Result<View> {
        let (mut mounts, mut fds) = (Vec::new(), Vec::new());
        for mount in &record.mounts {
            if matches!(mount.source, Source::Tmpfs { .. }) {
                continue;
            }
            let mut resolved = resolve::resolve(self, mount).await?;
            if let (MountKind::Fd(index), Some(fd)) = (&mut resolved.spec.kind, resolved.fd) {
                *index = fds.len();
                fds.push(fd);
            }
            mounts.push(resolved.spec);
        }
        self.bind_files(record, &mut mounts, &mut fds)?;
        let (engine, record) = (Arc::clone(self), Arc::clone(record));
        let made = tokio::task::spawn_blocking(move || {
            let root = engine.root(&record, None)?;
            View::assemble(&root, mounts, fds)
                .map_err(|error| Error::internal("the container's files cannot be mounted", error))
        });
        made.await
            .map_err(|error| Error::internal("mounting was cut short", error))?
    }

    /// The small files of the engine's own, where a start has made them.
    fn bind_files(
        &self,
        record: &Record,
        mounts: &mut Vec<Spec>,
        fds: &mut Vec<OwnedFd>,
    ) -> Result<()> {
        let dir = self.container_dir(&self.files_owner(record));
        for (name, destination) in BOUND_FILES {
            let source = dir.join(name);
            let own = record.mounts.iter().any(|m| m.destination == destination);
            if own || !source.exists() {
                continue;
            }
            let fd = bind(KernelSource::Path(&source), false).map_err(|error| {
                Error::internal("a file of the container cannot be bound", error)
            })?;
            mounts.push(Spec {
                destination: destination.into(),
                kind: MountKind::Fd(fds.len()),
                flags: MountFlags::default(),
                source: source.display().to_string(),
            });
            fds.push(fd);
        }
        Ok(())
    }
}

/// The live files of a process; `None` if it has ended.
async fn live_view(live: Arc<Live>) -> Result<Option<View>> {
    let opened =
        tokio::task::spawn_blocking(
            move || match View::of_process(live.pid, live.pidfd.as_fd()) {
                Ok(view) => Ok(Some(view)),
                Err(Errno::NOENT | Errno::SRCH) => Ok(None),
                Err(errno) => Err(Error::internal(
                    "the container's files cannot be reached",
                    errno,
                )),
            },
        );
    opened
        .await
        .map_err(|error| Error::internal("opening was cut short", error))?
}
