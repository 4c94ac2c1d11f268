//! Datagrams on sockets that are bound to all addresses: which one each came to, and answers from the
//! very same (ip(7), ipv6(7): IP_PKTINFO).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use tokio::io::Interest;
use tokio::net::UdpSocket;

use crate::sys::Received;

/// The length of a `sockaddr_in6`, the longer one.
const NAME: usize = 28;
/// The length of a word, by which control messages are laid out.
const WORD: usize = size_of::<usize>();
/// The length of a control message's header.
const HEADER: usize = (WORD + 8).next_multiple_of(WORD);
/// The length of an `in_pktinfo`.
const INFO_V4: usize = 12;
/// The length of an `in6_pktinfo`.
const INFO_V6: usize = 20;
/// Room for one control message of either kind.
const CONTROL: usize = HEADER + INFO_V6.next_multiple_of(WORD);

/// A socket for datagrams that knows where each came to.
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
        if bound.is_unspecified() {
            tell_addresses(socket.as_fd(), bound.is_ipv6())?;
        }
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
        let socket = self.socket.as_fd();
        self.socket
            .try_io(Interest::READABLE, || receive(socket, bytes, self.bound))
    }

    /// Sends a datagram, from that address of this host; waits while the system is behind.
    ///
    /// # Errors
    /// What the system answers.
    pub async fn send(&self, bytes: &[u8], client: SocketAddr, from: IpAddr) -> io::Result<()> {
        if !self.bound.is_unspecified() || from.is_unspecified() {
            return self.socket.send_to(bytes, client).await.map(drop);
        }
        let socket = self.socket.as_fd();
        self.socket
            .async_io(Interest::WRITABLE, || send(socket, bytes, client, from))
            .await
    }
}

/// Wants the address that each datagram came to.
fn tell_addresses(socket: BorrowedFd<'_>, v6: bool) -> io::Result<()> {
    let (level, name) = match v6 {
        true => (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
        false => (libc::IPPROTO_IP, libc::IP_PKTINFO),
    };
    let on: libc::c_int = 1;
    // SAFETY: the descriptor is open, and the option is an `int` of the length that is said.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn receive(socket: BorrowedFd<'_>, bytes: &mut [u8], bound: IpAddr) -> io::Result<Received> {
    let (mut name, mut control) = ([0; NAME], [0; CONTROL]);
    let mut vector = libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: bytes.len(),
    };
    let mut message = message(&mut name, &mut vector, &mut control);
    let flags = libc::MSG_DONTWAIT;
    // SAFETY: every pointer in the message is to a live buffer of the length beside it.
    let result = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) };
    let length = usize::try_from(result).map_err(|_| io::Error::last_os_error())?;
    let client = address(&name).ok_or(io::ErrorKind::InvalidData)?;
    let to = match bound.is_unspecified() {
        true => came_to(&control).unwrap_or(bound),
        false => bound,
    };
    Ok(Received { length, client, to })
}

fn send(socket: BorrowedFd<'_>, bytes: &[u8], client: SocketAddr, from: IpAddr) -> io::Result<()> {
    let (mut name, mut control) = (name(client), leave_from(from));
    let mut vector = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    let message = message(&mut name, &mut vector, &mut control);
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: every pointer in the message is to a live buffer of the length beside it, and the call
    // only reads them.
    let result = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, flags) };
    match result {
        0.. => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A message of these parts, which it points into.
fn message(name: &mut [u8], vector: &mut libc::iovec, control: &mut [u8]) -> libc::msghdr {
    // SAFETY: a `msghdr` is plain numbers and pointers, for which all zero is a valid value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_name = name.as_mut_ptr().cast();
    message.msg_namelen = name.len() as libc::socklen_t;
    message.msg_iov = vector;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = control.len() as _;
    message
}

/// Makes a `sockaddr_in` or `sockaddr_in6`.
fn name(address: SocketAddr) -> Vec<u8> {
    let family = match address {
        SocketAddr::V4(_) => libc::AF_INET,
        SocketAddr::V6(_) => libc::AF_INET6,
    };
    let mut name = (family as u16).to_ne_bytes().to_vec();
    name.extend_from_slice(&address.port().to_be_bytes());
    match address {
        SocketAddr::V4(v4) => {
            name.extend_from_slice(&v4.ip().octets());
            name.extend_from_slice(&[0; 8]);
        }
        SocketAddr::V6(v6) => {
            name.extend_from_slice(&[0; 4]);
            name.extend_from_slice(&v6.ip().octets());
            name.extend_from_slice(&v6.scope_id().to_ne_bytes());
        }
    }
    name
}

/// Reads a `sockaddr_in` or `sockaddr_in6`.
fn address(name: &[u8; NAME]) -> Option<SocketAddr> {
    let family = u16::from_ne_bytes(name[..2].try_into().ok()?);
    let port = u16::from_be_bytes(name[2..4].try_into().ok()?);
    match i32::from(family) {
        libc::AF_INET => {
            let ip: [u8; 4] = name[4..8].try_into().ok()?;
            Some(SocketAddrV4::new(ip.into(), port).into())
        }
        libc::AF_INET6 => {
            let ip: [u8; 16] = name[8..24].try_into().ok()?;
            let scope = u32::from_ne_bytes(name[24..28].try_into().ok()?);
            Some(SocketAddrV6::new(ip.into(), port, 0, scope).into())
        }
        _ => None,
    }
}

/// Reads the one control message there is: the address of this host by which a datagram came. One that
/// was for many came to none that an answer may come from.
fn came_to(control: &[u8; CONTROL]) -> Option<IpAddr> {
    let number = |at: usize| Some(i32::from_ne_bytes(control[at..at + 4].try_into().ok()?));
    match (number(WORD)?, number(WORD + 4)?) {
        (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
            // After the interface: the address of this host, then that on the datagram.
            let ip: [u8; 4] = control[HEADER + 4..HEADER + 8].try_into().ok()?;
            Some(Ipv4Addr::from(ip).into())
        }
        (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
            let ip: [u8; 16] = control[HEADER..HEADER + 16].try_into().ok()?;
            let ip = Ipv6Addr::from(ip);
            (!ip.is_multicast()).then_some(ip.into())
        }
        _ => None,
    }
}

/// A control message: send from this address, by whatever interface leads to the client.
fn leave_from(from: IpAddr) -> Vec<u8> {
    let (level, name, info): (_, _, Vec<u8>) = match from {
        IpAddr::V4(ip) => {
            let mut info = vec![0; INFO_V4];
            info[4..8].copy_from_slice(&ip.octets());
            (libc::IPPROTO_IP, libc::IP_PKTINFO, info)
        }
        IpAddr::V6(ip) => {
            let mut info = vec![0; INFO_V6];
            info[..16].copy_from_slice(&ip.octets());
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info)
        }
    };
    let mut control = (HEADER + info.len()).to_ne_bytes().to_vec();
    control.extend_from_slice(&level.to_ne_bytes());
    control.extend_from_slice(&name.to_ne_bytes());
    control.resize(HEADER, 0);
    control.extend_from_slice(&info);
    control.resize(control.len().next_multiple_of(WORD), 0);
    control
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for text in ["192.0.2.7:53", "[2001:db8::7]:53", "[fe80::7%3]:53"] {
            let wanted: SocketAddr = text.parse().unwrap();
            let mut bytes = name(wanted);
            bytes.resize(NAME, 0);
            assert_eq!(address(&bytes.try_into().unwrap()), Some(wanted));
        }
        assert_eq!(address(&[0; NAME]), None);
    }

    /// A client that is connected to one address of several takes answers from that one only.
    #[tokio::test]
    async fn an_answer_comes_from_the_address_that_was_asked() {
        for (all, one) in [("0.0.0.0:0", "127.0.0.9"), ("[::]:0", "::1")] {
            let server = UdpSocket::bind(all).await.unwrap();
            let port = server.local_addr().unwrap().port();
            let server = Datagrams::new(server).unwrap();
            let one: IpAddr = one.parse().unwrap();
            let client = UdpSocket::bind(all).await.unwrap();
            client.connect((one, port)).await.unwrap();
            client.send(b"question").await.unwrap();
            let mut bytes = [0; 64];
            let received = loop {
                server.readable().await.unwrap();
                match server.try_receive(&mut bytes) {
                    Ok(received) => break received,
                    Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
                }
            };
            assert_eq!(&bytes[..received.length], b"question");
            assert_eq!(
                (received.to, received.client),
                (one, client.local_addr().unwrap())
            );
            server
                .send(b"answer", received.client, received.to)
                .await
                .unwrap();
            let length = client.recv(&mut bytes).await.unwrap();
            assert_eq!(&bytes[..length], b"answer");
        }
    }
}
