//! Datagrams of a socket that is bound to all addresses: which of the machine's each was sent to, and answers from the
//! very same, which is the only one that a client listens to.
//!
//! Source: ip(7), `IP_PKTINFO`; ipv6(7), `IPV6_RECVPKTINFO`.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd as _, RawFd};

use nix::libc::{in_addr, in_pktinfo, in6_addr, in6_pktinfo};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt,
    sockopt,
};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// An address of the machine that somebody asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct At {
    ip: IpAddr,
    /// The kernel's number of the interface, where the address means nothing without it.
    interface: u32,
}

/// A datagram that came.
#[derive(Debug)]
pub(super) struct Asked {
    pub length: usize,
    pub client: SocketAddr,
    /// Nothing where it was sent to many: answers leave from whatever address is nearest.
    pub at: Option<At>,
}

/// A socket that takes datagrams.
#[derive(Debug)]
pub(super) struct Socket(UdpSocket);

impl Socket {
    /// Of one that is bound.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn new(socket: UdpSocket) -> io::Result<Self> {
        if socket.local_addr()?.is_ipv4() {
            setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
        } else {
            setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
        }
        Ok(Self(socket))
    }

    /// Waits for the next one.
    ///
    /// # Errors
    /// What the kernel says; also that an answer did not arrive.
    pub async fn receive(&self, buffer: &mut [u8]) -> io::Result<Asked> {
        let socket = self.0.as_raw_fd();
        self.0
            .async_io(Interest::READABLE, || receive(socket, buffer))
            .await
    }

    /// Answers.
    ///
    /// # Errors
    /// What the kernel says.
    pub async fn answer(&self, bytes: &[u8], to: SocketAddr, from: Option<At>) -> io::Result<()> {
        let socket = self.0.as_raw_fd();
        self.0
            .async_io(Interest::WRITABLE, || send(socket, bytes, to, from))
            .await
    }
}

fn receive(socket: RawFd, buffer: &mut [u8]) -> io::Result<Asked> {
    let mut room = nix::cmsg_space!(in6_pktinfo);
    let mut parts = [IoSliceMut::new(buffer)];
    let flags = MsgFlags::MSG_DONTWAIT;
    let message = recvmsg::<SockaddrStorage>(socket, &mut parts, Some(&mut room), flags)?;
    let at = message.cmsgs()?.find_map(|said| match said {
        ControlMessageOwned::Ipv4PacketInfo(info) => Some(of_v4(info)),
        ControlMessageOwned::Ipv6PacketInfo(info) => of_v6(info),
        _ => None,
    });
    let client = message.address.as_ref().and_then(address);
    Ok(Asked {
        length: message.bytes,
        client: client.ok_or(io::ErrorKind::InvalidData)?,
        at,
    })
}

fn address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = storage
        .as_sockaddr_in()
        .map(|v4| SocketAddr::V4((*v4).into()));
    let v6 = || {
        storage
            .as_sockaddr_in6()
            .map(|v6| SocketAddr::V6((*v6).into()))
    };
    v4.or_else(v6)
}

/// The address of ours by which it came, which is the one on it where that is one of ours.
fn of_v4(info: in_pktinfo) -> At {
    let ip = Ipv4Addr::from(info.ipi_spec_dst.s_addr.to_ne_bytes());
    At {
        ip: ip.into(),
        interface: 0,
    }
}

fn of_v6(info: in6_pktinfo) -> Option<At> {
    let ip = Ipv6Addr::from(info.ipi6_addr.s6_addr);
    let interface = match ip.is_unicast_link_local() {
        true => info.ipi6_ifindex,
        false => 0,
    };
    (!ip.is_multicast()).then_some(At {
        ip: ip.into(),
        interface,
    })
}

fn send(socket: RawFd, bytes: &[u8], to: SocketAddr, from: Option<At>) -> io::Result<()> {
    let to = SockaddrStorage::from(to);
    let parts = [IoSlice::new(bytes)];
    let say = |said: &[ControlMessage<'_>]| {
        let flags = MsgFlags::MSG_DONTWAIT;
        sendmsg(socket, &parts, said, flags, Some(&to)).map(drop)
    };
    match from.map(|at| (at.ip, at.interface)) {
        None => say(&[]),
        Some((IpAddr::V4(ip), _)) => say(&[ControlMessage::Ipv4PacketInfo(&in_pktinfo {
            ipi_ifindex: 0,
            ipi_spec_dst: in_addr {
                s_addr: u32::from_ne_bytes(ip.octets()),
            },
            ipi_addr: in_addr { s_addr: 0 },
        })]),
        Some((IpAddr::V6(ip), interface)) => say(&[ControlMessage::Ipv6PacketInfo(&in6_pktinfo {
            ipi6_addr: in6_addr {
                s6_addr: ip.octets(),
            },
            ipi6_ifindex: interface,
        })]),
    }?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client that is connected to one address of several takes answers from that one only.
    #[tokio::test]
    async fn an_answer_comes_from_the_address_that_was_asked() {
        for (all, one) in [("0.0.0.0:0", "127.0.0.9"), ("[::]:0", "::1")] {
            let server = UdpSocket::bind(all).await.unwrap();
            let port = server.local_addr().unwrap().port();
            let server = Socket::new(server).unwrap();
            let one: IpAddr = one.parse().unwrap();
            let client = UdpSocket::bind(all).await.unwrap();
            client.connect((one, port)).await.unwrap();
            client.send(b"question").await.unwrap();
            let mut buffer = [0; 64];
            let asked = server.receive(&mut buffer).await.unwrap();
            assert_eq!(&buffer[..asked.length], b"question");
            assert_eq!(asked.client, client.local_addr().unwrap());
            assert_eq!(asked.at.unwrap().ip, one);
            let answered = server.answer(b"answer", asked.client, asked.at).await;
            answered.unwrap();
            let length = client.recv(&mut buffer).await.unwrap();
            assert_eq!(&buffer[..length], b"answer");
        }
    }
}
