//! Answers the daemon on the control socket: one loop over the listener and its few connections.
//!
//! Called by the process at its start, on a thread of its own. A connection that misbehaves is closed; it
//! never ends the process, for the next daemon must be able to take it over.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with, sockopt::socket_peercred};
use rustix::process::geteuid;

use super::fs::places::{Places, Rules};
use super::fs::shares::{ShareError, Shares};
use super::packet::{self, PacketError};
use crate::control::{MAX_PACKET, RefusalCode, Reply, Request, ShareId, Status};

/// Most control connections at once: a daemon needs one, a successor another.
const MAX_CONNECTIONS: usize = 16;

/// Most bytes of shares in one `Status`; the rest of a packet is for what else it tells.
const ROOM_FOR_SHARES: usize = MAX_PACKET - 4096;

/// What the server tells of the rest of the process.
pub trait Observer: Send + Sync {
    /// Fills the figures that are not about shares.
    fn observe(&self, status: &mut Status);

    /// The read-only places are others now, or a share is judged otherwise.
    fn rights_changed(&self);

    /// A share was removed: what is held open below it is let go.
    fn share_removed(&self, serial: u64);
}

/// The control server.
pub struct Server {
    listener: OwnedFd,
    /// Asked for at the start: the confined process may no longer.
    pid: u32,
    shares: Arc<Shares>,
    rules: Arc<Rules>,
    /// What will be protected once the daemon has named it all.
    next: Mutex<Places>,
    observer: Option<Arc<dyn Observer>>,
}

impl Server {
    /// A server on `listener`, which the daemon bound.
    pub fn new(listener: OwnedFd, shares: Arc<Shares>, rules: Arc<Rules>) -> Self {
        Self {
            listener,
            pid: std::process::id(),
            shares,
            rules,
            next: Mutex::default(),
            observer: None,
        }
    }

    /// Names who knows the rest of `Status`.
    #[must_use]
    pub fn observed_by(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Serves for ever; `first` is a connection that exists already.
    ///
    /// # Errors
    /// The first failure of `poll`, which means that the process is beyond help.
    pub fn run(&self, first: Option<OwnedFd>) -> Result<(), Errno> {
        let mut connections: Vec<OwnedFd> = first.into_iter().collect();
        loop {
            let ready = self.wait(&connections)?;
            // From the end, so that removing one does not move those still to be looked at.
            for index in (0..connections.len()).rev() {
                if ready[index + 1] && !self.answer(&connections[index]) {
                    connections.swap_remove(index);
                }
            }
            if ready[0] {
                connections.extend(self.accept(connections.len()));
            }
        }
    }

    fn wait(&self, connections: &[OwnedFd]) -> Result<Vec<bool>, Errno> {
        let mut polled = vec![PollFd::new(&self.listener, PollFlags::IN)];
        polled.extend(connections.iter().map(|c| PollFd::new(c, PollFlags::IN)));
        loop {
            match poll(&mut polled, None) {
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
                Ok(_) => return Ok(polled.iter().map(|p| !p.revents().is_empty()).collect()),
            }
        }
    }

    fn accept(&self, present: usize) -> Option<OwnedFd> {
        let socket = accept_with(&self.listener, SocketFlags::CLOEXEC).ok()?;
        // The directory and the mode already keep others out; the peer's identity is the second wall.
        let peer = socket_peercred(&socket).ok()?;
        (peer.uid == geteuid() && present < MAX_CONNECTIONS).then_some(socket)
    }

    /// Handles one packet; false where the connection is over.
    fn answer(&self, connection: &OwnedFd) -> bool {
        let reply = match packet::receive::<Request>(connection) {
            Ok((request, descriptors)) => self.handle(request, descriptors),
            Err(PacketError::Malformed(error)) => refused(RefusalCode::Malformed, &error),
            Err(_) => return false,
        };
        packet::send(connection.as_fd(), &reply, &[]).is_ok()
    }

    fn handle(&self, request: Request, descriptors: Vec<OwnedFd>) -> Reply {
        let mut descriptors = descriptors.into_iter();
        let done = match request {
            Request::AddShare {
                id,
                read_only,
                named,
                label,
            } => match (descriptors.next(), descriptors.next()) {
                (Some(root), None) if named => self.shares.add_named(id, root, read_only, label),
                (Some(root), None) => self.shares.add(id, root, read_only, label),
                _ => Err(ShareError::NotShareable(id)),
            },
            Request::RemoveShare { id } => self.shares.remove(&id).map(|share| {
                if let Some(observer) = &self.observer {
                    observer.share_removed(share.serial);
                }
            }),
            Request::Hide { name } => {
                return add_place(&self.rules.hidden, descriptors.next(), &name);
            }
            Request::BeginProtect => {
                *self.next() = Places::default();
                return Reply::Done;
            }
            Request::Protect { name } => {
                return add_place(&self.next(), descriptors.next(), &name);
            }
            Request::EndProtect => {
                let next = std::mem::take(&mut *self.next());
                if self.rules.read_only.become_as(next) {
                    self.rights_changed();
                }
                return Reply::Done;
            }
            Request::Restrict { id, restricted } => self
                .shares
                .restrict(&id, restricted)
                .map(|()| self.rights_changed()),
            Request::Status { after } => return Reply::Status(self.status(after.as_ref())),
            Request::Setup => return refused(RefusalCode::Malformed, &"setup is done already"),
        };
        match done {
            Ok(()) => Reply::Done,
            Err(error) => refused(error.code(), &error),
        }
    }

    fn rights_changed(&self) {
        if let Some(observer) = &self.observer {
            observer.rights_changed();
        }
    }

    fn next(&self) -> MutexGuard<'_, Places> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn status(&self, after: Option<&ShareId>) -> Status {
        let (shares, more) = self.shares.status(after, ROOM_FOR_SHARES);
        let mut status = Status {
            pid: self.pid,
            shares,
            more,
            ..Status::default()
        };
        if let Some(observer) = &self.observer {
            observer.observe(&mut status);
        }
        status
    }
}

fn add_place(places: &Places, directory: Option<OwnedFd>, name: &str) -> Reply {
    match directory.map(|directory| places.add(directory, name)) {
        Some(Ok(())) => Reply::Done,
        Some(Err(Errno::NOSPC)) => {
            refused(RefusalCode::TooMany, &"too many places have such a rule")
        }
        Some(Err(error)) => refused(RefusalCode::NotShareable, &format!("`{name}`: {error}")),
        None => refused(RefusalCode::NotShareable, &"the directory is missing"),
    }
}

fn refused(code: RefusalCode, error: &dyn std::fmt::Display) -> Reply {
    Reply::Refused {
        code,
        message: error.to_string(),
    }
}
