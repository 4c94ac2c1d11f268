//! Sockets in other namespaces: the two that a container asks, and those that ask on for it.

use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};

use super::SERVER;
use crate::NetworkError;
use crate::namespace::on_thread;

/// The port that is asked, if nothing leads from it to another.
pub const PORT: u16 = 53;

/// What the threads are called that make them, and their memory in bytes: they do little.
const THREAD: &str = "names";
const STACK: usize = 64 << 10;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 16;

/// How often another port is tried, where one is free for datagrams and not for connections.
const TRIES: usize = 16;

/// What a container asks, in its namespace.
#[derive(Debug)]
pub struct Sockets {
    /// For datagrams.
    pub udp: OwnedFd,
    /// For connections.
    pub tcp: OwnedFd,
}

impl Sockets {
    /// Makes them in a namespace: on this port, or on one that the kernel chooses.
    ///
    /// # Errors
    /// The port is somebody's, or what the kernel refuses.
    pub async fn open(namespace: OwnedFd, port: Option<u16>) -> Result<Self, NetworkError> {
        on_thread(namespace, THREAD, STACK, move || open(port))
            .await?
            .map_err(NetworkError::of("making the sockets of a name server"))
    }

    /// The port that both are on.
    ///
    /// # Errors
    /// They are no such sockets.
    pub fn port(&self) -> Result<u16, NetworkError> {
        port_of(&self.udp).map_err(NetworkError::of("reading a socket's port"))
    }
}

fn open(port: Option<u16>) -> Result<Sockets, Errno> {
    let mut tries = TRIES;
    loop {
        let udp = socket(AddressFamily::INET, SocketType::DGRAM)?;
        // The loopback may not be up yet.
        sockopt::set_ip_freebind(&udp, true)?;
        rustix::net::bind(&udp, &SocketAddrV4::new(SERVER, port.unwrap_or(0)))?;
        let tcp = socket(AddressFamily::INET, SocketType::STREAM)?;
        sockopt::set_ip_freebind(&tcp, true)?;
        sockopt::set_socket_reuseaddr(&tcp, true)?;
        tries -= 1;
        match rustix::net::bind(&tcp, &SocketAddrV4::new(SERVER, port_of(&udp)?)) {
            Err(Errno::ADDRINUSE) if port.is_none() && tries > 0 => continue,
            bound => bound?,
        }
        rustix::net::listen(&tcp, BACKLOG)?;
        return Ok(Sockets { udp, tcp });
    }
}

fn port_of(socket: &OwnedFd) -> Result<u16, Errno> {
    let address = rustix::net::getsockname(socket)?;
    SocketAddr::try_from(address).map(|address| address.port())
}

/// A socket that asks a server from a namespace. One for datagrams has a port of its own and hears nobody else; one
/// for connections is not connected yet.
pub(super) async fn asking(
    namespace: OwnedFd,
    server: IpAddr,
    kind: SocketType,
) -> Result<OwnedFd, NetworkError> {
    let open = move || {
        let family = match server {
            IpAddr::V4(_) => AddressFamily::INET,
            IpAddr::V6(_) => AddressFamily::INET6,
        };
        let asking = socket(family, kind)?;
        if kind == SocketType::DGRAM {
            rustix::net::connect(&asking, &SocketAddr::new(server, PORT))?;
        }
        Ok(asking)
    };
    on_thread(namespace, THREAD, STACK, open)
        .await?
        .map_err(|errno: Errno| NetworkError::of("making a socket that asks")(errno))
}

fn socket(family: AddressFamily, kind: SocketType) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let protocol = match kind {
        SocketType::STREAM => ipproto::TCP,
        _ => ipproto::UDP,
    };
    rustix::net::socket_with(family, kind, flags, Some(protocol))
}
