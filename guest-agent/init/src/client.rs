//! The agent's side of the supervisor: asks, and listens for exits.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::{Errno, FdFlags, fcntl_getfd, fcntl_setfd};
use rustix::net::{RecvFlags, SendFlags};

use crate::packet;
use crate::wire::{End, Exit, Info, Reply, Request};

/// Why the supervisor did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    /// The socket failed: without a supervisor there is no machine.
    #[error("the supervisor cannot be reached: {0}")]
    Socket(Errno),
    /// It closed its end.
    #[error("the supervisor closed the connection")]
    Closed,
    /// It said no.
    #[error("the supervisor refused `{request}`: {errno}")]
    Refused {
        /// What was asked.
        request: String,
        /// Its reason.
        errno: Errno,
    },
    /// It answered something else than was asked.
    #[error("the supervisor gave an unexpected answer to `{0}`")]
    Unexpected(String),
}

/// Takes an inherited descriptor by its number, once, and keeps it from being inherited again.
///
/// Fails with `EBADF` where there is none, where it is one of the three standard streams, and
/// where it was inherited without being meant for this (close-on-exec still set).
pub fn take_inherited(number: RawFd) -> Result<OwnedFd, Errno> {
    static TAKEN: Mutex<Vec<RawFd>> = Mutex::new(Vec::new());
    if number <= 2 {
        return Err(Errno::BADF);
    }
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    if taken.contains(&number) {
        return Err(Errno::BADF);
    }
    // SAFETY: only borrowed to ask the kernel whether the number is open; `fcntl` answers EBADF
    // for one that is not.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    if fcntl_getfd(borrowed)?.contains(FdFlags::CLOEXEC) {
        // Everything this program opens itself is close-on-exec: this one has an owner.
        return Err(Errno::BADF);
    }
    fcntl_setfd(borrowed, FdFlags::CLOEXEC)?;
    taken.push(number);
    // SAFETY: the number is open, was not close-on-exec (so it came from outside this program and
    // nothing in here owns it), and `taken` hands it out once.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// The way to ask the supervisor. Calls take microseconds and may be made from async code.
#[derive(Debug)]
pub struct Supervisor {
    socket: Mutex<OwnedFd>,
}

impl Supervisor {
    /// Uses the inherited request socket.
    pub fn from_fd(socket: OwnedFd) -> Result<Self, SupervisorError> {
        fcntl_setfd(&socket, FdFlags::CLOEXEC).map_err(SupervisorError::Socket)?;
        Ok(Self {
            socket: Mutex::new(socket),
        })
    }

    /// Everything the store holds, in the order of names. The descriptors are fresh duplicates.
    pub fn list(&self) -> Result<Vec<(String, OwnedFd)>, SupervisorError> {
        let socket = self.lock();
        let mut all: Vec<(String, OwnedFd)> = Vec::new();
        loop {
            let after = all.last().map(|(name, _)| name.clone()).unwrap_or_default();
            let request = Request::List { after };
            let (reply, descriptors) = ask(socket.as_fd(), &request, None)?;
            let Reply::Names { last, names } = reply else {
                return unexpected(&request);
            };
            if names.len() != descriptors.len() || (names.is_empty() && !last) {
                return unexpected(&request);
            }
            all.extend(names.into_iter().zip(descriptors));
            if last {
                return Ok(all);
            }
        }
    }

    /// Puts a descriptor into the store, instead of what was there under the name.
    /// When this returns, the store holds it whatever happens to this program.
    pub fn put(&self, name: &str, descriptor: BorrowedFd<'_>) -> Result<(), SupervisorError> {
        let request = Request::Put {
            name: name.to_owned(),
        };
        self.count(&request, Some(descriptor)).map(drop)
    }

    /// Lets go of one name; says whether it was there.
    pub fn remove(&self, name: &str) -> Result<bool, SupervisorError> {
        self.count(
            &Request::Remove {
                name: name.to_owned(),
            },
            None,
        )
        .map(|count| count > 0)
    }

    /// Lets go of every name that begins so; says how many there were.
    pub fn remove_prefix(&self, prefix: &str) -> Result<u32, SupervisorError> {
        self.count(
            &Request::RemovePrefix {
                prefix: prefix.to_owned(),
            },
            None,
        )
    }

    /// The journal: every exit not forgotten yet, oldest first.
    pub fn exits(&self) -> Result<Vec<Exit>, SupervisorError> {
        let socket = self.lock();
        let mut all: Vec<Exit> = Vec::new();
        loop {
            let request = Request::Exits {
                after: all.last().map_or(0, |exit| exit.seq),
            };
            let (reply, _) = ask(socket.as_fd(), &request, None)?;
            let Reply::Exits { last, exits } = reply else {
                return unexpected(&request);
            };
            if exits.is_empty() && !last {
                return unexpected(&request);
            }
            all.extend(exits);
            if last {
                return Ok(all);
            }
        }
    }

    /// Forgets one exit, once what follows from it is on disk (or known to follow from nothing:
    /// exits of processes nobody knows must be forgotten too).
    pub fn forget(&self, exit: &Exit) -> Result<(), SupervisorError> {
        self.count(
            &Request::Forget {
                pid: exit.pid,
                seq: exit.seq,
            },
            None,
        )
        .map(drop)
    }

    /// Forgets every exit of a process id.
    pub fn forget_exit(&self, pid: i32) -> Result<(), SupervisorError> {
        self.count(&Request::Forget { pid, seq: 0 }, None).map(drop)
    }

    /// Facts about the supervisor.
    pub fn info(&self) -> Result<Info, SupervisorError> {
        let request = Request::Info;
        match ask(self.lock().as_fd(), &request, None)?.0 {
            Reply::Info(info) => Ok(info),
            _ => unexpected(&request),
        }
    }

    /// Ends the machine. Every process is killed, this one too: the caller should have nothing
    /// left to do but wait.
    pub fn reboot(&self, end: End) -> Result<(), SupervisorError> {
        self.count(&Request::End(end), None).map(drop)
    }

    fn lock(&self) -> MutexGuard<'_, OwnedFd> {
        // A panic between question and answer would leave an answer in the socket; programs of
        // ours abort on panic, so there is no such moment.
        self.socket.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(
        &self,
        request: &Request,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> Result<u32, SupervisorError> {
        match ask(self.lock().as_fd(), request, descriptor)?.0 {
            Reply::Done(count) => Ok(count),
            _ => unexpected(request),
        }
    }
}

fn ask(
    socket: BorrowedFd<'_>,
    request: &Request,
    descriptor: Option<BorrowedFd<'_>>,
) -> Result<(Reply, Vec<OwnedFd>), SupervisorError> {
    packet::send(
        socket,
        &request.encode(),
        descriptor.as_slice(),
        SendFlags::empty(),
    )
    .map_err(SupervisorError::Socket)?;
    let (bytes, descriptors) = packet::receive(socket, RecvFlags::empty())
        .map_err(SupervisorError::Socket)?
        .ok_or(SupervisorError::Closed)?;
    match Reply::decode(&bytes) {
        Some(Reply::Refused(errno)) => Err(SupervisorError::Refused {
            request: format!("{request:?}"),
            errno: Errno::from_raw_os_error(errno),
        }),
        Some(reply) => Ok((reply, descriptors)),
        None => unexpected(request),
    }
}

fn unexpected<T>(request: &Request) -> Result<T, SupervisorError> {
    Err(SupervisorError::Unexpected(format!("{request:?}")))
}

/// Exits as they happen. Not blocking: wait for the descriptor to be readable (tokio's
/// `AsyncFd` takes it as it is), then call [`Events::try_next`] until it gives none.
#[derive(Debug)]
pub struct Events {
    socket: OwnedFd,
}

impl Events {
    /// Uses the inherited event socket.
    pub fn from_fd(socket: OwnedFd) -> Result<Self, SupervisorError> {
        let prepare = || {
            fcntl_setfd(&socket, FdFlags::CLOEXEC)?;
            fcntl_setfl(&socket, fcntl_getfl(&socket)? | OFlags::NONBLOCK)
        };
        prepare().map_err(SupervisorError::Socket)?;
        Ok(Self { socket })
    }

    /// The next exit, or none for now.
    pub fn try_next(&self) -> Result<Option<Exit>, SupervisorError> {
        match packet::receive(self.socket.as_fd(), RecvFlags::DONTWAIT) {
            Ok(Some((bytes, _))) => Exit::decode(&bytes)
                .map(Some)
                .ok_or_else(|| SupervisorError::Unexpected("event".to_owned())),
            Ok(None) => Err(SupervisorError::Closed),
            Err(Errno::AGAIN) => Ok(None),
            Err(errno) => Err(SupervisorError::Socket(errno)),
        }
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Events {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}
