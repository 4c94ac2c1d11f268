//! What a container with a user namespace cannot do for itself, since it takes the machine's root:
//! device nodes, raising its limits, its score of the out-of-memory killer.
//!
//! Called by the launcher. The process this is done for has not begun: `lighter-enter` is at its
//! gate, or before it.

use std::io::Write as _;
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
///
/// One that has ended meanwhile says why on its socket, and its number may be another's.
pub(super) fn set_oom_score(pid: i32, pidfd: BorrowedFd<'_>, score: i32) -> Result<(), StartError> {
    let fail = |error: &std::io::Error| {
        let errno = Errno::from_io_error(error).unwrap_or(Errno::IO);
        StartError::kernel("oom_score_adj", errno, "write oom_score_adj")
    };
    let path = format!("/proc/{pid}/oom_score_adj");
    let opened = std::fs::File::options().write(true).open(path);
    // What was opened while it lives is its own, whatever becomes of the number.
    if sys::send_signal(pidfd, 0).is_err() {
        return Ok(());
    }
    let mut file = opened.map_err(|error| fail(&error))?;
    match file.write_all(score.to_string().as_bytes()) {
        Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => Ok(()),
        written => written.map_err(|error| fail(&error)),
    }
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

#[cfg(test)]
mod tests {
    use rustix::process::{PidfdFlags, pidfd_open};

    use super::*;

    #[test]
    fn one_that_has_gone_gets_no_score_and_neither_does_who_has_its_number() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id().cast_signed();
        let pidfd = pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()).unwrap();
        child.wait().unwrap();
        set_oom_score(pid, pidfd.as_fd(), 7).unwrap();
        // As if its number were this process's now.
        let own = std::process::id().cast_signed();
        let score = || std::fs::read_to_string("/proc/self/oom_score_adj").unwrap();
        let before = score();
        set_oom_score(own, pidfd.as_fd(), 7).unwrap();
        assert_eq!(score(), before);
    }
}
