//! A process that is set up and waits at its gate.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::io::{Errno, IoSliceMut};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, recvmsg, send};

use super::outside;
use crate::sys::{self, Child};
use crate::wire;
use crate::{Cgroup, FailureKind, Rlimit, StartError, Warning};

/// A process that exists, in its namespaces and cgroup, and has not begun.
///
/// Dropping it before [`Prepared::start`] makes the process exit; its exit is then reported to
/// the caller's parent like any other.
#[derive(Debug)]
pub struct Prepared {
    child: Child,
    socket: Option<OwnedFd>,
    cgroup: Option<Cgroup>,
    pty_master: Option<OwnedFd>,
    warnings: Vec<Warning>,
    /// Limits that the process cannot set itself.
    limits: Vec<Rlimit>,
    ready: bool,
}

/// How long a process may take to set itself up, and then to execute its program. Whoever may send
/// signals in the container can stop one that enters it.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

enum Report {
    Ready(Option<OwnedFd>),
    Executing,
    Failed(StartError),
    End,
}

impl Prepared {
    pub(super) fn new(
        child: Child,
        socket: OwnedFd,
        cgroup: Option<Cgroup>,
        limits: Option<&[Rlimit]>,
        terminal: bool,
    ) -> Result<Self, StartError> {
        let limit = set_socket_timeout(&socket, Timeout::Recv, Some(ANSWER_LIMIT));
        limit.map_err(|errno| StartError::kernel("gate", errno, "set a time limit"))?;
        let mut prepared = Self {
            child,
            socket: Some(socket),
            cgroup,
            pty_master: None,
            warnings: Vec::new(),
            limits: limits.unwrap_or_default().to_vec(),
            ready: false,
        };
        if terminal {
            prepared.wait_ready()?;
        }
        Ok(prepared)
    }

    /// The same with limits that are not in force.
    pub(super) fn warning(self, warnings: Vec<Warning>) -> Self {
        Self { warnings, ..self }
    }

    /// Its number, as the engine sees it.
    #[must_use]
    pub const fn pid(&self) -> i32 {
        self.child.pid
    }

    /// Its descriptor.
    #[must_use]
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.child.pidfd.as_fd()
    }

    /// The container's group; `None` for an exec.
    #[must_use]
    pub const fn cgroup(&self) -> Option<&Cgroup> {
        self.cgroup.as_ref()
    }

    /// Limits that are not in force, for the container's `Warnings`.
    #[must_use]
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// The master side of the terminal, once; `None` without a terminal.
    pub fn take_pty_master(&mut self) -> Option<OwnedFd> {
        self.pty_master.take()
    }

    /// Waits until the process has set itself up: mounts are in place, namespaces complete.
    ///
    /// # Errors
    /// The step of the set-up that failed. The process is gone, and so is its group.
    pub fn wait_ready(&mut self) -> Result<(), StartError> {
        if self.ready {
            return Ok(());
        }
        let outcome = match self.report() {
            Ok(Report::Ready(master)) => {
                self.pty_master = master;
                self.ready = true;
                return Ok(());
            }
            Ok(Report::Failed(error)) => error,
            Ok(Report::Executing | Report::End) => died(),
            Err(errno) => no_answer(errno),
        };
        self.give_up();
        Err(outcome)
    }

    /// Opens the gate and returns when the program runs.
    ///
    /// A program that the kernel then refuses to execute (a wrong format, a missing interpreter)
    /// counts as started: as with Docker it says so on its standard error and exits with 255.
    ///
    /// # Errors
    /// The step that failed. The process is gone, and so is its group.
    pub fn start(&mut self) -> Result<(), StartError> {
        if !self.limits.is_empty() {
            // Not before: what sets it up may need more.
            self.wait_ready()?;
            if let Err(error) = outside::set_limits(self.child.pid, &self.limits) {
                self.give_up();
                return Err(error);
            }
        }
        let Some(socket) = &self.socket else {
            return Err(StartError::new(
                "gate",
                FailureKind::Invalid,
                "already started",
            ));
        };
        // A process that failed before it came to the gate has closed its end: its report is
        // still there to be read.
        match send(socket, &[wire::GO], SendFlags::NOSIGNAL) {
            Ok(_) | Err(Errno::PIPE | Errno::CONNRESET) => {}
            Err(errno) => {
                self.give_up();
                return Err(StartError::kernel("gate", errno, "open the gate"));
            }
        }
        self.wait_ready()?;
        let outcome = match self.report() {
            Ok(Report::Executing) => match self.report() {
                Ok(Report::Failed(error)) => error,
                _ => {
                    self.socket = None;
                    return Ok(());
                }
            },
            Ok(Report::Failed(error)) => error,
            Ok(Report::Ready(_) | Report::End) => died(),
            Err(errno) => no_answer(errno),
        };
        self.give_up();
        Err(outcome)
    }

    /// The process's descriptor and the container's group, for the engine to keep.
    #[must_use]
    pub fn into_parts(self) -> (i32, OwnedFd, Option<Cgroup>) {
        (self.child.pid, self.child.pidfd, self.cgroup)
    }

    fn give_up(&mut self) {
        self.socket = None;
        // It exits by itself, as the gate is gone, unless somebody has stopped it.
        let _ = sys::send_signal(self.child.pidfd.as_fd(), libc::SIGKILL);
        if let Some(cgroup) = self.cgroup.take() {
            let _ = cgroup.remove(Duration::from_secs(5));
        }
    }

    fn report(&self) -> rustix::io::Result<Report> {
        let Some(socket) = &self.socket else {
            return Ok(Report::End);
        };
        let mut bytes = vec![0; wire::MESSAGE_LIMIT];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let count = loop {
            let mut buffers = [IoSliceMut::new(&mut bytes)];
            match recvmsg(socket, &mut buffers, &mut control, RecvFlags::CMSG_CLOEXEC) {
                Ok(message) => break message.bytes,
                // A peer that died before it read the gate's message is told once as an error; what
                // it had reported is read after that.
                Err(Errno::INTR | Errno::CONNRESET) => {}
                Err(errno) => return Err(errno),
            }
        };
        let passed = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        Ok(match bytes[..count].split_first() {
            None => Report::End,
            Some((&wire::READY, _)) => Report::Ready(passed),
            Some((&wire::EXECUTING, _)) => Report::Executing,
            Some((&wire::FAILED, json)) => {
                Report::Failed(serde_json::from_slice(json).unwrap_or_else(|_| died()))
            }
            Some(_) => Report::End,
        })
    }
}

fn no_answer(errno: Errno) -> StartError {
    if errno == Errno::AGAIN {
        let seconds = ANSWER_LIMIT.as_secs();
        let text = format!("the process did not answer within {seconds} s");
        return StartError::new("gate", FailureKind::Kernel, text);
    }
    StartError::kernel("gate", errno, "wait for lighter-enter")
}

fn died() -> StartError {
    StartError::new(
        "setup",
        FailureKind::Kernel,
        "the process died before it was set up",
    )
}

/// The group the process of `pidfd` is in, if that is below `root`.
pub(super) fn group_of(pidfd: BorrowedFd<'_>, root: &Path) -> Result<OwnedFd, StartError> {
    let fail = |errno| StartError::kernel("cgroup", errno, "find the container's group");
    let gone = || fail(Errno::SRCH);
    let info = format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd());
    let info = std::fs::read_to_string(info).map_err(|_| gone())?;
    let pid: i32 = info
        .lines()
        .find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok())
        .filter(|pid| *pid > 0)
        .ok_or_else(gone)?;
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).map_err(|_| gone())?;
    let path = groups
        .lines()
        .find_map(|line| line.strip_prefix("0::"))
        .ok_or_else(gone)?;
    // `root` is MOUNT/OWN/…; the kernel's path begins below MOUNT.
    let group = root
        .ancestors()
        .map(|mount| mount.join(path.trim_start_matches('/')))
        .find(|group| group.starts_with(root) && group.is_dir())
        .ok_or_else(gone)?;
    rustix::fs::open(
        &group,
        rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )
    .map_err(fail)
}
