//! Descriptors that outlive the engine, under the names of PID 1's store.
//!
//! ```text
//!   c/<container>/{pidfd,user,stdout,stderr,stdin,pty,stdout.log,stderr.log,pty.log,net,dns.udp,dns.tcp}
//!   x/<exec>/{pidfd,stdout,stderr,stdin,pty}
//!   ns/hostnet
//! ```

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use lighter_init::{Supervisor, SupervisorError};

use crate::error::{Error, Result};

/// The descriptors of one container or exec, by the last part of their names.
pub(crate) type Kept = BTreeMap<String, OwnedFd>;

/// The store, seen from one container or exec.
#[derive(Clone)]
pub(crate) struct Keeper {
    supervisor: Arc<Supervisor>,
    prefix: String,
}

impl Keeper {
    /// `prefix` is `c/<id>/` or `x/<id>/`.
    pub(crate) fn new(supervisor: Arc<Supervisor>, prefix: String) -> Self {
        Self { supervisor, prefix }
    }

    /// Puts `fd` under `name`; when this returns it survives the engine.
    pub(crate) fn put(&self, name: &str, fd: &OwnedFd) -> Result<()> {
        let name = format!("{}{name}", self.prefix);
        self.supervisor.put(&name, fd.as_fd()).map_err(failed)
    }

    /// Lets go of one.
    pub(crate) fn remove(&self, name: &str) {
        if let Err(error) = self.supervisor.remove(&format!("{}{name}", self.prefix)) {
            tracing::error!(%error, "a descriptor stays in the store");
        }
    }

    /// Lets go of all.
    pub(crate) fn clear(&self) {
        if let Err(error) = self.supervisor.remove_prefix(&self.prefix) {
            tracing::error!(%error, "descriptors stay in the store");
        }
    }
}

/// What an earlier engine left in the store.
#[derive(Debug, Default)]
pub(crate) struct Left {
    pub(crate) containers: BTreeMap<String, Kept>,
    pub(crate) execs: BTreeMap<String, Kept>,
    pub(crate) host_network: Option<OwnedFd>,
}

/// Sorts what the store holds.
pub(crate) fn left(supervisor: &Supervisor) -> Result<Left> {
    let mut left = Left::default();
    for (name, fd) in supervisor.list().map_err(failed)? {
        let mut parts = name.splitn(3, '/');
        match (parts.next(), parts.next(), parts.next()) {
            (Some("c"), Some(id), Some(last)) => {
                left.containers
                    .entry(id.to_owned())
                    .or_default()
                    .insert(last.to_owned(), fd);
            }
            (Some("x"), Some(id), Some(last)) => {
                left.execs
                    .entry(id.to_owned())
                    .or_default()
                    .insert(last.to_owned(), fd);
            }
            (Some("ns"), Some("hostnet"), None) => left.host_network = Some(fd),
            _ => {}
        }
    }
    Ok(left)
}

fn failed(error: SupervisorError) -> Error {
    Error::internal("the supervisor does not hold a descriptor", error)
}
