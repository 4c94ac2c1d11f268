//! What the engine asks of the host: to listen.

use std::net::IpAddr;
use std::os::fd::{BorrowedFd, OwnedFd};

use lighter_network::ports::Transport;

use crate::config::BoxFuture;

/// Why the host does not listen.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// Somebody has the port; the text says who, if that is known.
    #[error("{0}")]
    InUse(String),
    /// Anything else, in the host's words.
    #[error("{0}")]
    Refused(String),
    /// The host does not answer.
    #[error("the host does not answer: {0}")]
    Unavailable(String),
}

/// Listens on the host. The agent implements it over the link.
pub trait HostPorts: Send + Sync {
    /// Begins with the ports of a container.
    fn open<'a>(
        &'a self,
        id: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Box<dyn HostLease>, PortError>>;

    /// Goes on with what an engine before this one began.
    ///
    /// # Errors
    /// It is nothing that can be gone on with.
    fn resume(&self, kept: OwnedFd) -> Result<Box<dyn HostLease>, PortError>;

    /// Whether there is no host but this machine, which listens for all.
    fn is_here(&self) -> bool {
        false
    }

    /// Returns when a host that was gone may be there again.
    fn returned(&self) -> BoxFuture<'_, ()>;
}

/// Ports of one container; all are closed with it.
pub trait HostLease: Send + Sync {
    /// Listens on all of these addresses, or on none.
    fn bind<'a>(
        &'a mut self,
        number: u32,
        transport: Transport,
        addresses: &'a [IpAddr],
        port: u16,
    ) -> BoxFuture<'a, Result<(), PortError>>;

    /// What it stands on, for the store of what outlives the engine.
    fn descriptor(&self) -> Option<BorrowedFd<'_>>;

    /// Returns when the host has gone.
    fn gone(&mut self) -> BoxFuture<'_, ()>;

    /// Closes all; when this returns, another container can have them.
    fn close(self: Box<Self>) -> BoxFuture<'static, ()>;
}

/// No host but this machine: what listens here is all there is.
#[derive(Debug, Default)]
pub struct OnlyHere;

impl HostPorts for OnlyHere {
    fn open<'a>(
        &'a self,
        _id: &'a str,
        _name: &'a str,
    ) -> BoxFuture<'a, Result<Box<dyn HostLease>, PortError>> {
        Box::pin(async { Ok(Box::new(Self) as Box<dyn HostLease>) })
    }

    fn resume(&self, _kept: OwnedFd) -> Result<Box<dyn HostLease>, PortError> {
        Ok(Box::new(Self))
    }

    fn is_here(&self) -> bool {
        true
    }

    fn returned(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

impl HostLease for OnlyHere {
    fn bind<'a>(
        &'a mut self,
        _number: u32,
        _transport: Transport,
        _addresses: &'a [IpAddr],
        _port: u16,
    ) -> BoxFuture<'a, Result<(), PortError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn gone(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
}
