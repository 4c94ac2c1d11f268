//! Whose a port is: sockets and their users by the tables below /proc/net, their processes by the descriptors of
//! those processes that this user may look at.

use std::collections::HashSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::sys::PortOwner;

/// The state of a socket that listens, as the tables write it.
const LISTENS: &str = "0A";

/// Whose socket keeps others from listening on an address.
#[must_use]
pub fn port_owner(tcp: bool, address: SocketAddr) -> Option<PortOwner> {
    let tables: &[&str] = match (tcp, address) {
        // A socket of IPv6 may be one of IPv4 as well.
        (true, SocketAddr::V4(_)) => &["/proc/net/tcp", "/proc/net/tcp6"],
        (true, SocketAddr::V6(_)) => &["/proc/net/tcp6"],
        (false, SocketAddr::V4(_)) => &["/proc/net/udp", "/proc/net/udp6"],
        (false, SocketAddr::V6(_)) => &["/proc/net/udp6"],
    };
    let mut found: Vec<Entry> = tables
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|text| text.lines().filter_map(entry).collect::<Vec<_>>())
        .filter(|entry| entry.is_in_the_way_of(address))
        .collect();
    // Of a connection that merely came from that port it is said where nobody listens.
    if found.iter().any(|entry| entry.listens) {
        found.retain(|entry| entry.listens);
    }
    whose(&found, process_with)
}

/// The first process that can be seen, else the user of the first socket.
fn whose(
    found: &[Entry],
    process: impl Fn(&HashSet<String>) -> Option<PortOwner>,
) -> Option<PortOwner> {
    let named = found
        .iter()
        .map(|entry| format!("socket:[{}]", entry.inode));
    let named: HashSet<String> = named.collect();
    let seen = (!named.is_empty()).then(|| process(&named)).flatten();
    let user = || {
        let id = found.first()?.user;
        let known = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let name = user_name(&known, id);
        Some(PortOwner::User { id, name })
    };
    seen.or_else(user)
}

/// Reads `root:x:0:0:root:/root:/bin/bash`; users that are known elsewhere have no name here.
fn user_name(known: &str, id: u32) -> Option<String> {
    let of = |line: &str| {
        let mut fields = line.split(':');
        let (name, number) = (fields.next()?, fields.nth(1)?);
        (number.parse() == Ok(id)).then(|| name.to_owned())
    };
    known.lines().find_map(of)
}

/// The first port that is not the superuser's alone.
#[must_use]
pub fn first_unprivileged_port() -> Option<u16> {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").ok()?;
    text.trim().parse().ok()
}

/// A line of a table.
struct Entry {
    local: SocketAddr,
    listens: bool,
    user: u32,
    inode: u64,
}

impl Entry {
    fn is_in_the_way_of(&self, wanted: SocketAddr) -> bool {
        if self.local.port() != wanted.port() {
            return false;
        }
        let (ours, theirs) = (wanted.ip(), self.local.ip().to_canonical());
        match (ours, theirs) {
            (IpAddr::V4(_), IpAddr::V6(all)) => all.is_unspecified(),
            (IpAddr::V6(_), IpAddr::V4(_)) => false,
            _ => ours == theirs || ours.is_unspecified() || theirs.is_unspecified(),
        }
    }
}

/// Reads `  0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000  0 4242 …`.
fn entry(line: &str) -> Option<Entry> {
    let mut words = line.split_whitespace();
    let local = address(words.nth(1)?)?;
    let state = words.nth(1)?;
    let user = words.nth(3)?.parse().ok()?;
    let inode = words.nth(1)?.parse().ok()?;
    // A connection that no process has any more keeps its line for a while.
    (inode != 0).then_some(Entry {
        local,
        listens: state == LISTENS,
        user,
        inode,
    })
}

/// Reads an address in hexadecimal: words of 32 bits in the order of this processor, then the port.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut bytes = Vec::with_capacity(16);
    for at in (0..ip.len()).step_by(8) {
        let word = u32::from_str_radix(ip.get(at..at + 8)?, 16).ok()?;
        bytes.extend_from_slice(&word.to_ne_bytes());
    }
    let ip = match bytes.len() {
        4 => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        16 => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// The first process that has one of these open, of those that this user may look at: all are looked at once.
fn process_with(sockets: &HashSet<String>) -> Option<PortOwner> {
    let has_it = |pid: u32| {
        let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else {
            return false;
        };
        descriptors
            .filter_map(|descriptor| fs::read_link(descriptor.ok()?.path()).ok())
            .any(|target| target.to_str().is_some_and(|name| sockets.contains(name)))
    };
    fs::read_dir("/proc")
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .find(|pid| has_it(*pid))
        .map(|pid| PortOwner::Process {
            pid,
            name: fs::read_to_string(format!("/proc/{pid}/comm"))
                .map(|name| name.trim_end().to_owned())
                .unwrap_or_default(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, UdpSocket};

    #[test]
    fn a_port_of_this_process_is_told_as_such() {
        let this = std::process::id();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("[::1]:0").unwrap();
        let owner = |tcp, address| match port_owner(tcp, address) {
            Some(PortOwner::Process { pid, name }) => {
                assert!(!name.is_empty());
                Some(pid)
            }
            _ => None,
        };
        let at = tcp.local_addr().unwrap();
        assert_eq!(owner(true, at), Some(this));
        let everywhere = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), at.port());
        assert_eq!(owner(true, everywhere), Some(this));
        let elsewhere = SocketAddr::new(Ipv4Addr::new(127, 0, 0, 2).into(), at.port());
        assert_eq!(port_owner(true, elsewhere), None);
        assert_eq!(owner(false, udp.local_addr().unwrap()), Some(this));
        drop(tcp);
        assert_eq!(port_owner(true, at), None);
    }

    #[test]
    fn a_socket_of_both_families_is_in_the_way_of_either() {
        let line = "   1: 00000000000000000000000000000000:1F90 00000000000000000000000000000000:0000 \
                    0A 00000000:00000000 00:00000000 00000000  1000        0 77 1 0 100 0 0 10 0";
        let entry = entry(line).unwrap();
        assert_eq!((entry.inode, entry.listens, entry.user), (77, true, 1000));
        assert!(entry.is_in_the_way_of("10.0.0.1:8080".parse().unwrap()));
        assert!(entry.is_in_the_way_of("[::1]:8080".parse().unwrap()));
        assert!(!entry.is_in_the_way_of("[::1]:8081".parse().unwrap()));
    }

    #[test]
    fn of_a_process_that_cannot_be_seen_its_user_is_known() {
        let line =
            "0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 77";
        let found = [entry(line).unwrap()];
        let seen = PortOwner::Process {
            name: "nginx".into(),
            pid: 4,
        };
        let looked = |sockets: &HashSet<String>| {
            assert_eq!(sockets.iter().collect::<Vec<_>>(), ["socket:[77]"]);
            Some(seen.clone())
        };
        assert_eq!(whose(&found, looked), Some(seen.clone()));
        let user = whose(&found, |_| None);
        assert!(
            matches!(user, Some(PortOwner::User { id: 0, .. })),
            "{user:?}"
        );
        assert_eq!(whose(&[], |_| Some(seen.clone())), None);
        let known = "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33::/:/bin/false\nodd\n";
        assert_eq!(user_name(known, 33).as_deref(), Some("www-data"));
        assert_eq!(user_name(known, 34), None);
    }

    #[test]
    fn lines_that_are_none_are_passed_over() {
        for line in [
            "  sl  local_address rem_address   st",
            "",
            "0: 7F:1 x",
            "0: 0100007F:ZZ",
        ] {
            assert!(entry(line).is_none(), "{line}");
        }
    }
}
