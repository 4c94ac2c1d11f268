//! What a container with a user namespace cannot do for itself, since it takes the machine's root:
//! device nodes, raising its limits, its score of the out-of-memory killer.
//!
//! Called by the launcher. The process this is done for has not begun: `lighter-enter` is at its
//! gate, or before it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode};
use rustix::io::Errno;
use rustix::process::{Pid, Rlimit as KernelRlimit, prlimit};

use super::Stdio;
use crate::enter::{dev, limits};
use crate::{CONTAINER_IDS, ContainerSpec, MountKind, Rlimit, StartError, mounts, sys, view};

/// File systems of device nodes for a container of the user namespace `user`.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    /// All of `/dev`; `None` where the container is to have none of ours.
    pub(super) dev: Option<OwnedFd>,
    /// Nodes for other places; `None` if there are none.
    pub(super) elsewhere: Option<OwnedFd>,
}

/// Makes them: the owners in there are those inside.
pub(super) fn nodes(spec: &ContainerSpec, user: BorrowedFd<'_>) -> Result<Nodes, StartError> {
    let apart = view::apart(|| {
        // The mask is shared with the other threads as long as the root directory is.
        let unshared = sys::unshare(libc::CLONE_FS);
        unshared.map_err(|errno| StartError::kernel("dev", errno, "unshare"))?;
        rustix::process::umask(Mode::empty());
        let own = spec.mounts.iter().find(|m| m.kind == MountKind::Dev);
        let dev = own.map(|mount| dev::make(mount.flags, spec)).transpose()?;
        Ok(Nodes {
            dev,
            elsewhere: dev::nodes_apart(&spec.devices)?,
        })
    });
    let nodes =
        apart.unwrap_or_else(|| Err(StartError::kernel("dev", Errno::AGAIN, "start a thread")))?;
    for mount in [&nodes.dev, &nodes.elsewhere].into_iter().flatten() {
        mounts::map_ids(mount.as_fd(), false, user)?;
    }
    Ok(nodes)
}

/// Gives pipes to the container's root, who gives them on to the program's user.
pub(super) fn give(stdio: &Stdio) -> Result<(), StartError> {
    let fail = |errno| StartError::kernel("stdio", errno, "give a stream to the container");
    let first = CONTAINER_IDS.first;
    let (uid, gid) = (
        rustix::fs::Uid::from_raw(first),
        rustix::fs::Gid::from_raw(first),
    );
    for stream in [&stdio.stdin, &stdio.stdout, &stdio.stderr] {
        let Some(stream) = stream else { continue };
        let stat = rustix::fs::fstat(stream).map_err(fail)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Fifo {
            rustix::fs::fchown(stream, Some(uid), Some(gid)).map_err(fail)?;
        }
    }
    Ok(())
}

/// Sets the score by which the kernel picks a process to kill. The lowest that the process may
/// choose for itself is this one from now on, as it is for one that set it as the machine's root.
pub(super) fn set_oom_score(pid: i32, score: i32) -> Result<(), StartError> {
    let written = std::fs::write(format!("/proc/{pid}/oom_score_adj"), score.to_string());
    written.map_err(|error| {
        let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
        StartError::kernel("oom_score_adj", errno, "write oom_score_adj")
    })
}

/// Sets limits of a process, which may be higher than it could set them itself.
pub(super) fn set_limits(pid: i32, wanted: &[Rlimit]) -> Result<(), StartError> {
    let pid = Pid::from_raw(pid);
    for limit in wanted {
        let value = KernelRlimit {
            current: limit.soft,
            maximum: limit.hard,
        };
        prlimit(pid, limits::resource(limit.resource), value)
            .map_err(|errno| limits::failed(limit.resource, errno))?;
    }
    Ok(())
}
