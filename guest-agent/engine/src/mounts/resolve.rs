//! From the model to descriptors: opens what a container's mounts name, once, right before a start.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use lighter_runtime::mounts::{self as kernel, Source as KernelSource};
use lighter_runtime::{Mount as Spec, MountFlags, MountKind, Propagation};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::source::{Meaning, classify};
use super::{Mount, Source};
use crate::config::ShareError;
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};
use crate::volumes::Content;

/// A mount ready for the launcher.
pub(crate) struct Resolved {
    pub(crate) spec: Spec,
    /// What is bound; a temporary file system has none.
    pub(crate) fd: Option<OwnedFd>,
    /// Whose its files are.
    pub(crate) owners: Owners,
}

/// Whom the owners of files are ids of: what a user namespace does with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owners {
    /// Users of the container.
    Inside,
    /// Users of the container, where the file system can tell them so.
    InsideIfPossible,
    /// Users of the machine.
    Machine,
}

/// Opens what `mount` names. The index of the descriptor in the specification is 0: the caller
/// numbers them.
pub(crate) async fn resolve(engine: &Engine, mount: &Mount) -> Result<Resolved> {
    let mut read_only = mount.read_only;
    let mut owners = Owners::Inside;
    let (kind, fd, shown) = match &mount.source {
        Source::Volume { name, subpath, .. } => {
            let path = engine.volume_path(name);
            let failed = |error| Error::internal(format!("volume {name} cannot be used"), error);
            let fd = match engine.volume_content(name)? {
                Content::Own => volume(&engine.volume_folder(name)?, subpath).map_err(failed)?,
                Content::Folder {
                    path,
                    read_only: kept,
                    recursive,
                } => {
                    read_only |= kept;
                    owners = owners_below(engine, &path);
                    let folder = open_folder(engine, name, &path, read_only).await?;
                    part(&folder, subpath, recursive).map_err(failed)?
                }
                // Mounted there, by whoever uses it.
                Content::Tmpfs(_) => volume(&path, subpath).map_err(failed)?,
            };
            (MountKind::Fd(0), Some(fd), path.display().to_string())
        }
        Source::Bind { path, create } => {
            owners = owners_below(engine, path);
            let fd = bind(engine, path, *create, read_only, !mount.non_recursive).await?;
            (MountKind::Fd(0), Some(fd), path.clone())
        }
        Source::Tmpfs { options } => {
            let (flags, options) = kernel::tmpfs_options(options)
                .map_err(|error| Error::invalid(error.to_string()))?;
            let spec = Spec {
                destination: mount.destination.clone(),
                kind: MountKind::Tmpfs { options },
                flags,
                source: "tmpfs".into(),
            };
            let fd = None;
            return Ok(Resolved { spec, fd, owners });
        }
    };
    let flags = MountFlags {
        read_only,
        read_only_non_recursive: mount.read_only_non_recursive,
        propagation: propagation(&mount.propagation),
        ..MountFlags::default()
    };
    let spec = Spec {
        destination: mount.destination.clone(),
        kind,
        flags,
        source: shown,
    };
    Ok(Resolved { spec, fd, owners })
}

/// Whose the files are that a bind of `path` shows.
fn owners_below(engine: &Engine, path: &str) -> Owners {
    match classify(path, &engine.config().api_socket_names) {
        Meaning::ApiSocket | Meaning::Machine => Owners::Machine,
        Meaning::Host | Meaning::HostReadOnly => Owners::InsideIfPossible,
    }
}

/// Where the source of a bind is in the guest, without opening it; checks the host's allow-list.
pub(crate) async fn locate(
    engine: &Engine,
    path: &str,
    create: bool,
    read_only: bool,
) -> Result<PathBuf> {
    let shares = &engine.config().host_shares;
    match classify(path, &engine.config().api_socket_names) {
        Meaning::ApiSocket => Ok(engine.config().api_socket.clone()),
        Meaning::Machine => {
            if create && !Path::new(path).exists() {
                // As on a host where nobody made it yet; most of the machine cannot be written.
                std::fs::create_dir_all(path).map_err(|error| {
                    Error::internal(format!("{path} of the machine cannot be made"), error)
                })?;
            }
            Ok(PathBuf::from(path))
        }
        Meaning::HostReadOnly => shares
            .activate(Path::new(path), true)
            .await
            .map_err(share_error),
        Meaning::Host => match shares.activate(Path::new(path), read_only).await {
            Err(ShareError::Missing(_)) if create => make(engine, Path::new(path), read_only).await,
            other => other.map_err(share_error),
        },
    }
}

/// Makes a missing directory of the host through the nearest one above it that is shared.
async fn make(engine: &Engine, path: &Path, read_only: bool) -> Result<PathBuf> {
    let shares = &engine.config().host_shares;
    for above in path.ancestors().skip(1) {
        match shares.activate(above, false).await {
            Ok(guest) => {
                let rest = path.strip_prefix(above).unwrap_or(Path::new(""));
                std::fs::create_dir_all(guest.join(rest)).map_err(|error| {
                    Error::internal(format!("{} cannot be made", path.display()), error)
                })?;
                return shares.activate(path, read_only).await.map_err(share_error);
            }
            Err(ShareError::Missing(_)) => {}
            Err(error) => return Err(share_error(error)),
        }
    }
    Err(share_error(ShareError::Missing(path.to_owned())))
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "used as the argument of map_err"
)]
fn share_error(error: ShareError) -> Error {
    let kind = match &error {
        ShareError::Missing(_) => Kind::InvalidArgument,
        ShareError::Denied(_) => Kind::Forbidden,
        ShareError::Unavailable(_) => Kind::Unavailable,
    };
    match &error {
        ShareError::Missing(_) => Error::new(
            kind,
            format!("invalid mount config for type \"bind\": {error}"),
        ),
        _ => Error::new(kind, error.to_string()),
    }
}

async fn bind(
    engine: &Engine,
    path: &str,
    create: bool,
    read_only: bool,
    recursive: bool,
) -> Result<OwnedFd> {
    let fd = open(engine, path, create, read_only).await?;
    kernel::bind(KernelSource::Fd(fd.as_fd()), recursive)
        .map_err(|error| Error::internal(format!("{path} cannot be mounted"), error))
}

/// The folder of the host that a volume is.
pub(crate) async fn open_folder(
    engine: &Engine,
    volume: &str,
    path: &str,
    read_only: bool,
) -> Result<OwnedFd> {
    let folder = open(engine, path, false, read_only).await;
    folder.map_err(|error| {
        let text = format!("failed to mount local volume {volume}: {}", error.text());
        Error::new(error.kind(), text)
    })
}

/// Opens the source of a bind, to be mounted and not to be read.
async fn open(engine: &Engine, path: &str, create: bool, read_only: bool) -> Result<OwnedFd> {
    let guest = locate(engine, path, create, read_only).await?;
    let of_host = matches!(
        classify(path, &engine.config().api_socket_names),
        Meaning::Host | Meaning::HostReadOnly
    );
    let mut resolve = ResolveFlags::NO_MAGICLINKS;
    if of_host {
        // The host has resolved the path: a link in it now was put there since.
        resolve |= ResolveFlags::NO_SYMLINKS;
    }
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    rustix::fs::openat2(CWD, &guest, flags, Mode::empty(), resolve).map_err(|errno| match errno {
        Errno::NOENT => Error::invalid(format!(
            "invalid mount config for type \"bind\": bind source path does not exist: {path}"
        )),
        _ => Error::internal(format!("{path} cannot be mounted"), io::Error::from(errno)),
    })
}

fn volume(path: &Path, subpath: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(path, flags | OFlags::NOFOLLOW, Mode::empty())?;
    part(&fd, subpath, false)
}

/// A folder or file below another, or all of it, as a mount.
fn part(whole: &OwnedFd, subpath: &str, recursive: bool) -> io::Result<OwnedFd> {
    let below = match subpath {
        "" => None,
        subpath => {
            let resolve =
                ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
            let flags = OFlags::PATH | OFlags::CLOEXEC;
            Some(rustix::fs::openat2(
                whole,
                subpath,
                flags,
                Mode::empty(),
                resolve,
            )?)
        }
    };
    let source = below.as_ref().unwrap_or(whole).as_fd();
    kernel::bind(KernelSource::Fd(source), recursive).map_err(io::Error::other)
}

fn propagation(word: &str) -> Option<Propagation> {
    Some(match word {
        "private" => Propagation::Private,
        "rprivate" => Propagation::Rprivate,
        "shared" => Propagation::Shared,
        "rshared" => Propagation::Rshared,
        "slave" => Propagation::Slave,
        "rslave" => Propagation::Rslave,
        _ => return None,
    })
}
