//! Where the system is not asked whose a port is, which ports are the superuser's, nor which of the
//! host's addresses a datagram came to.

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::net::UdpSocket;

use super::{PortOwner, Received};

/// Whose socket keeps others from listening on an address: not known here.
#[must_use]
pub fn port_owner(_tcp: bool, _address: SocketAddr) -> Option<PortOwner> {
    None
}

/// The first port that is not the superuser's alone: not known here.
#[must_use]
pub fn first_unprivileged_port() -> Option<u16> {
    None
}

/// A socket for datagrams.
#[derive(Debug)]
pub struct Datagrams {
    socket: UdpSocket,
    /// The address it is bound to; all of them, if that is unspecified.
    bound: IpAddr,
}

impl Datagrams {
    /// Of a bound socket.
    ///
    /// # Errors
    /// What the system answers.
    pub fn new(socket: UdpSocket) -> io::Result<Self> {
        let bound = socket.local_addr()?.ip();
        Ok(Self { socket, bound })
    }

    /// Waits for a datagram.
    ///
    /// # Errors
    /// What the system answers.
    pub async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    /// Takes a datagram, if there is one.
    ///
    /// # Errors
    /// `WouldBlock` if there is none, else what the system answers.
    pub fn try_receive(&self, bytes: &mut [u8]) -> io::Result<Received> {
        let (length, client) = self.socket.try_recv_from(bytes)?;
        let to = self.bound;
        Ok(Received { length, client, to })
    }

    /// Sends a datagram, from the address that the system chooses; waits while it is behind.
    ///
    /// # Errors
    /// What the system answers.
    pub async fn send(&self, bytes: &[u8], client: SocketAddr, _from: IpAddr) -> io::Result<()> {
        self.socket.send_to(bytes, client).await.map(drop)
    }
}
