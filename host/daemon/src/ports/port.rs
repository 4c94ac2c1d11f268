//! One port, and how its clients are introduced to the guest.

use std::net::{IpAddr, SocketAddr};

use lighter_protocol::{Accepted, Message, MessageError, Transport};

/// By what the guest knows a port.
#[derive(Debug)]
pub(super) struct Port {
    /// The container's id.
    pub id: String,
    /// The guest's own number of it.
    pub number: u32,
    /// What kind.
    pub transport: Transport,
}

impl Port {
    /// The frame that introduces a client who came to the address `local`.
    ///
    /// # Errors
    /// What the encoding answers.
    pub fn introduce(&self, client: SocketAddr, local: IpAddr) -> Result<Vec<u8>, MessageError> {
        let accepted = Accepted {
            id: self.id.clone(),
            number: self.number,
            transport: self.transport,
            client: known_as(client, local),
            v6: client.is_ipv6(),
        };
        Message::from(accepted).encode()
    }
}

/// The address by which a container may know a client; none for this host itself, whose own addresses
/// mean another machine in the guest, and for those that are reached over one link only.
fn known_as(client: SocketAddr, local: IpAddr) -> Option<SocketAddr> {
    let ip = client.ip();
    let link_only = matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local());
    if ip.is_loopback() || ip == local || link_only {
        return None;
    }
    Some(SocketAddr::new(ip, client.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_itself_has_no_address_and_others_have_theirs() {
        for (client, local, known) in [
            ("127.0.0.1:5", "127.0.0.1", None),
            ("127.0.0.1:5", "127.0.0.2", None),
            ("[::1]:5", "::1", None),
            ("192.168.1.2:5", "192.168.1.2", None),
            ("192.168.1.3:5", "192.168.1.2", Some("192.168.1.3:5")),
            ("[2001:db8::2]:5", "2001:db8::1", Some("[2001:db8::2]:5")),
            ("[fe80::2%3]:5", "fe80::1", None),
        ] {
            let shown = known_as(client.parse().unwrap(), local.parse().unwrap());
            assert_eq!(shown, known.map(|text| text.parse().unwrap()), "{client}");
        }
    }
}
