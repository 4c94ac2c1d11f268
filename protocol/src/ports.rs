//! Published ports: what the host listens on for containers, and who came.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::message::Check;
use crate::open::Failed;

/// Addresses of one port: a host's own, of both families, and a few more.
const MAX_ADDRESSES: usize = 16;
/// Longer than a container's id, and than any name it may have.
const MAX_NAME: usize = 256;

/// The longest datagram, and so the most that its length on a stream may say.
pub const MAX_DATAGRAM: usize = u16::MAX as usize;

/// The [`Publish::id`] of what containers of the host's network listen on; no container has such an id. The name beside
/// it is that of the container whose port it is, as far as the guest knows.
pub const HOST_NETWORK: &str = "host-network";

/// What kind of port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// Streams.
    Tcp,
    /// Datagrams.
    Udp,
}

/// In an [`Open`](crate::Open): the ports of one container, for as long as the stream is open.
///
/// After [`Opened::Publish`](crate::Opened::Publish) the stream carries [`Bind`] from the guest and, in their
/// order, [`Bound`] from the host. Everything bound is closed with the stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publish {
    /// The container's id, by which the host says whom somebody came to.
    pub id: String,
    /// Its name, for people.
    pub name: String,
}

impl Publish {
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        if self.id.is_empty() {
            return Err("id is empty");
        }
        if self.id.len() > MAX_NAME || self.name.len() > MAX_NAME {
            return Err("name is too long");
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if !self.id.bytes().chain(self.name.bytes()).all(plain) {
            return Err("name contains a character no container's name has");
        }
        Ok(())
    }
}

/// Guest to host: listen, on all of these addresses or on none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    /// Chosen by the guest; comes back in [`Bound`] and [`Accepted`].
    pub number: u32,
    /// What kind.
    pub transport: Transport,
    /// The addresses of the host; `0.0.0.0` and `::` are all of their family, and of theirs only.
    pub addresses: Vec<IpAddr>,
    /// The port.
    pub port: u16,
}

impl Check for Bind {
    fn check(&self) -> Result<(), &'static str> {
        if self.port == 0 {
            return Err("port is zero");
        }
        if self.addresses.is_empty() {
            return Err("no address");
        }
        if self.addresses.len() > MAX_ADDRESSES {
            return Err("too many addresses");
        }
        Ok(())
    }
}

/// Host to guest: the host listens, or why it does not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    /// As asked.
    pub number: u32,
    /// Why nothing of it is bound.
    #[serde(default)]
    pub failed: Option<Failed>,
}

impl Check for Bound {}

/// Host to guest, the first frame of a stream to [`port::PUBLISHED`](crate::port::PUBLISHED).
///
/// Of [`Transport::Tcp`], the stream carries the client's bytes from then on, each direction ended by its own
/// half-close. Of [`Transport::Udp`], it carries one client's datagrams both ways, each after its length (two
/// bytes, little endian), until either side closes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// Whose port: [`Publish::id`].
    pub id: String,
    /// Which: [`Bind::number`].
    pub number: u32,
    /// What kind, as bound.
    pub transport: Transport,
    /// Who came; nothing where it is the host itself.
    pub client: Option<SocketAddr>,
    /// True where the client came to an IPv6 address.
    #[serde(default)]
    pub v6: bool,
}

impl Check for Accepted {
    fn check(&self) -> Result<(), &'static str> {
        if self.id.len() > MAX_NAME {
            return Err("id is too long");
        }
        Ok(())
    }
}
