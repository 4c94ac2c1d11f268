//! `lighter-enter`: goes through the walls and becomes the container's program.
//!
//! Called by: the program of that name, which [`crate::Launcher`] starts. One thread, static, no
//! look-up outside the container once it is inside.
//!
//! Order, for a container's first process: host-side settings, namespaces, pivot into the root
//! file system **before anything else is done in it** (from there on no path leads out), mounts,
//! hiding, terminal, user; then the report that all is ready; the gate; and last credentials,
//! capabilities, filter, exec. For an exec: namespaces of the container, then as from the terminal on.
//!
//! It must never open a path of the container but through [`inside::Root`], and never write below
//! a procfs it has not made itself.

mod container;
mod credentials;
pub(crate) mod dev;
mod exec;
mod hide;
mod init;
pub(crate) mod inside;
pub(crate) mod kernel_fs;
pub(crate) mod limits;
mod lookup;
pub(crate) mod mounts;
mod report;
pub(crate) mod rootfs;
mod terminal;
pub(crate) mod user;

use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::process::ExitCode;

use crate::wire::{self, Task};
use crate::{FailureKind, StartError, sys};

use report::Gate;

/// Result of a step.
type Step<T> = Result<T, StartError>;

/// The whole program.
///
/// Exits with 255 when the program could not be executed; the reason has been reported, or
/// written to standard error once the container counts as started.
#[must_use]
pub fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    if arguments.first().is_some_and(|name| name == init::NAME) {
        return init::main(&arguments);
    }
    let number = |at: usize| arguments.get(at)?.to_str()?.parse::<RawFd>().ok();
    let (Some(order), Some(socket)) = (
        number(1).and_then(sys::take_inherited),
        number(2).and_then(sys::take_inherited),
    ) else {
        eprintln!("lighter-enter is started by the engine only");
        return ExitCode::from(255);
    };
    let gate = Gate::new(socket);
    if let Err(error) = enter(&order, &gate) {
        gate.failed(&error);
    }
    ExitCode::from(255)
}

fn enter(order: &OwnedFd, gate: &Gate) -> Step<()> {
    let fail = |errno| StartError::kernel("setup", errno, "prepare lighter-enter");
    // What is inherited is needed here and by nobody after the exec.
    sys::close_on_exec_from(3).map_err(fail)?;
    // Processes of the container must not look into this one while it is among them
    // (CVE-2016-9962); the exec ends it.
    sys::not_dumpable().map_err(fail)?;
    let (order, filter) = wire::read_order(order.as_fd())
        .ok_or_else(|| StartError::new("setup", FailureKind::Kernel, "unreadable order"))?;
    match order.task {
        Task::Container(spec) => container::enter(&spec, order.fds, &filter, gate),
        Task::Exec(spec) => exec::enter(&spec, &order.fds, &filter, gate),
    }
}

/// Takes the descriptor at `number`, which the launcher has named in the order.
fn take(number: RawFd) -> Step<OwnedFd> {
    sys::take_inherited(number).ok_or_else(|| {
        StartError::new(
            "setup",
            FailureKind::Kernel,
            format!("descriptor {number} is not open"),
        )
    })
}

fn take_optional(number: Option<RawFd>) -> Step<Option<OwnedFd>> {
    number.map(take).transpose()
}

/// Sets the score by which the kernel picks a process to kill, in the machine's own procfs.
///
/// Must run before the container's mount namespace is entered. Always written: the engine's own
/// value of −1000 would be inherited.
fn set_oom_score(score: i32) -> Step<()> {
    use rustix::fs::{Mode, OFlags};
    let fail = |errno| StartError::kernel("oom_score_adj", errno, "write oom_score_adj");
    let path = "/proc/self/oom_score_adj";
    let read =
        rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).map_err(fail)?;
    inside::must_be_procfs(read.as_fd()).map_err(fail)?;
    let mut text = [0; 16];
    let length = rustix::io::read(&read, &mut text).map_err(fail)?;
    if text[..length].trim_ascii() == score.to_string().as_bytes() {
        return Ok(());
    }
    rustix::io::write(&read, score.to_string().as_bytes())
        .map(drop)
        .map_err(fail)
}
