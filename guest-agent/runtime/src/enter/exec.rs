//! A further process in a running container.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use super::credentials::{Final, Streams, enter_cwd};
use super::inside::Root;
use super::report::Gate;
use super::terminal::Terminal;
use super::{Step, dev, set_oom_score, take, take_optional, user};
use crate::wire::Numbers;
use crate::{ExecSpec, StartError, sys};

/// Joins the container and becomes the program; returns only on failure.
pub fn enter(spec: &ExecSpec, fds: &Numbers, filter: &[u8], gate: &Gate) -> Step<()> {
    let fail = |errno| StartError::kernel("namespace", errno, "enter the container");
    let user = take_optional(fds.user)?;
    let target = take(fds.target.ok_or_else(|| fail(rustix::io::Errno::BADF))?)?;
    let stdio = [fds.stdin, fds.stdout, fds.stderr].map(take_optional);
    set_oom_score(spec.process.oom_score_adj)?;
    // The PID namespace was entered by the clone itself. All at once: what the container's first
    // process has is taken, whether it is the container's own or not.
    let kinds = libc::CLONE_NEWNS
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWCGROUP;
    sys::setns(target.as_fd(), kinds).map_err(fail)?;
    drop(target);
    if let Some(user) = &user {
        // Last: what is the container's can be entered from the machine's own as well, and its
        // first process may have gone on into a namespace of its own making.
        sys::setns(user.as_fd(), libc::CLONE_NEWUSER).map_err(fail)?;
        be_root().map_err(fail)?;
    }
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let root = Root::new(rustix::fs::open("/", flags, Mode::empty()).map_err(fail)?);
    let identity = user::resolve(&root, &spec.process)?;
    enter_cwd(&root, &spec.process.cwd, false)?;
    let streams = match spec.process.terminal {
        Some(size) => Streams::Terminal(Terminal::new(&root, None, size)?),
        None => {
            let [stdin, stdout, stderr] = stdio;
            let or_null = |stream: Step<Option<OwnedFd>>| match stream? {
                Some(stream) => Ok(stream),
                None => dev::null(&root, None),
            };
            Streams::Files([or_null(stdin)?, or_null(stdout)?, or_null(stderr)?])
        }
    };
    Final {
        root,
        process: &spec.process,
        identity,
        filter,
        maps_ids: user.is_some(),
        program: None,
    }
    .run(streams, gate)
}

/// Becomes the root of the user namespace just entered, in which this process was nobody.
fn be_root() -> rustix::io::Result<()> {
    let (uid, gid) = (Uid::ROOT, Gid::ROOT);
    set_thread_groups(&[])?;
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)
}
