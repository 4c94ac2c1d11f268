//! The sockets of one port: on all of its addresses, or none.

use std::io;
use std::net::{IpAddr, SocketAddr};

use lighter_platform::sys::{self, Datagrams};
use lighter_protocol::{Bind, Transport};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UdpSocket};

/// Clients that the system lets wait until they are accepted; it may have a lower bound of its own.
const BACKLOG: i32 = 4096;

/// Sockets of one kind.
#[derive(Debug)]
pub(super) enum Listening {
    /// They listen.
    Tcp(Vec<TcpListener>),
    /// They take datagrams.
    Udp(Vec<Datagrams>),
}

/// Where it failed, and what the system said.
pub(super) type NotBound = (SocketAddr, io::Error);

impl Listening {
    /// Binds and listens. On an error nothing is left bound.
    ///
    /// Of a system without IPv6 its addresses are none: `::` and `::1` beside another address are not missed.
    pub fn open(bind: &Bind) -> Result<Self, NotBound> {
        let mut bound = Vec::new();
        let mut missing = None;
        for ip in &bind.addresses {
            let address = SocketAddr::new(ip.to_canonical(), bind.port);
            match socket(bind.transport, address) {
                Ok(socket) => bound.push((address, socket)),
                Err(error) if is_missing(address, &error) => missing = Some((address, error)),
                Err(error) => return Err((address, error)),
            }
        }
        match missing {
            Some(not_bound) if bound.is_empty() => Err(not_bound),
            _ => Self::begin(bind.transport, bound),
        }
    }

    fn begin(transport: Transport, bound: Vec<(SocketAddr, Socket)>) -> Result<Self, NotBound> {
        let each = bound.into_iter();
        match transport {
            Transport::Tcp => each
                .map(|(address, socket)| listen(socket).map_err(|error| (address, error)))
                .collect::<Result<_, _>>()
                .map(Self::Tcp),
            Transport::Udp => each
                .map(|(address, socket)| {
                    UdpSocket::from_std(socket.into())
                        .and_then(Datagrams::new)
                        .map_err(|error| (address, error))
                })
                .collect::<Result<_, _>>()
                .map(Self::Udp),
        }
    }
}

/// Whether a system without IPv6, or which has switched it off, has no such address.
fn is_missing(address: SocketAddr, error: &io::Error) -> bool {
    let IpAddr::V6(v6) = address.ip() else {
        return false;
    };
    (v6.is_unspecified() || v6.is_loopback()) && sys::is_family_missing(error)
        || v6.is_loopback() && error.kind() == io::ErrorKind::AddrNotAvailable
}

fn socket(transport: Transport, address: SocketAddr) -> io::Result<Socket> {
    let (kind, protocol) = match transport {
        Transport::Tcp => (Type::STREAM, Protocol::TCP),
        Transport::Udp => (Type::DGRAM, Protocol::UDP),
    };
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        // `::` is no IPv4: that may be somebody else's.
        socket.set_only_v6(true)?;
    }
    // Two sockets for datagrams would share what comes.
    if transport == Transport::Tcp && sys::LISTENERS_REUSE_ADDRESSES {
        socket.set_reuse_address(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn listen(socket: Socket) -> io::Result<TcpListener> {
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}
