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
    /// Binds and listens, and says at which addresses. On an error nothing is left bound.
    ///
    /// Of a system without IPv6 its addresses are none: `::` and `::1` beside another address are not missed.
    pub fn open(bind: &Bind) -> Result<(Self, Vec<IpAddr>), NotBound> {
        Self::open_by(bind, socket)
    }

    fn open_by(
        bind: &Bind,
        socket: impl Fn(Transport, SocketAddr) -> io::Result<Socket>,
    ) -> Result<(Self, Vec<IpAddr>), NotBound> {
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
            _ => {
                let addresses = bound.iter().map(|(address, _)| address.ip()).collect();
                Ok((Self::begin(bind.transport, bound)?, addresses))
            }
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

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn of_a_system_without_version_6_no_address_of_it_is_listened_on() {
        let without = |transport, address: SocketAddr| match address.is_ipv6() {
            true => Err(io::Error::from_raw_os_error(97)), // EAFNOSUPPORT
            false => socket(transport, address),
        };
        let everywhere: [IpAddr; 2] = ["0.0.0.0", "::"].map(|text| text.parse().unwrap());
        for transport in [Transport::Tcp, Transport::Udp] {
            let mut wanted = Bind {
                number: 1,
                transport,
                addresses: everywhere.to_vec(),
                port: 0,
            };
            let (_, addresses) = Listening::open_by(&wanted, without).unwrap();
            assert_eq!(addresses, everywhere[..1]);
            wanted.addresses.remove(0);
            let (address, _) = Listening::open_by(&wanted, without).unwrap_err();
            assert_eq!(address.ip(), everywhere[1]);
        }
    }
}
