//! This host's routes, and when they change: proc_pid_net(5), rtnetlink(7).

use std::fs::File;
use std::io::{self, Read as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};

use crate::sys::Route;

/// Of each family so many bytes are read: a host that is a router of the internet has more than anybody keeps away from.
const MOST: u64 = 1 << 20;

/// Groups of rtnetlink(7): interfaces, addresses and routes. The kernel tells of no routes that go with an interface.
const GROUPS: u32 = 0x1 | 0x10 | 0x40 | 0x100 | 0x400;

/// linux/route.h and linux/ipv6_route.h: through a router; an address of this host's own.
const GATEWAY: u32 = 0x2;
const LOCAL: u32 = 0x8000_0000;
const ANYCAST: u32 = 0x0010_0000;

/// Where this host has routes of its own to, each once; its default routes are none, nor are loopback, link-local
/// addresses and multicast.
///
/// # Errors
/// What the kernel answers.
pub fn routes() -> io::Result<Vec<Route>> {
    let mut routes: Vec<Route> = Vec::new();
    for (name, parse) in [
        ("route", parse_v4 as fn(&str) -> Option<Route>),
        ("ipv6_route", parse_v6),
    ] {
        match read(name) {
            Ok(text) => routes.extend(text.lines().filter_map(parse)),
            // A kernel without that family.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    routes.sort_unstable();
    // Of two to one place the direct one stays.
    routes.reverse();
    routes.dedup_by_key(|route| (route.to, route.prefix));
    Ok(routes)
}

/// Of the network that this thread is in.
fn read(name: &str) -> io::Result<String> {
    let mut bytes = Vec::new();
    let file = File::open(format!("/proc/thread-self/net/{name}"))?;
    file.take(MOST).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// `eth0 000200C0 00000000 0001 0 0 100 00FFFFFF 0 0 0`: addresses as the kernel has them in memory.
fn parse_v4(line: &str) -> Option<Route> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let number = |at: usize| u32::from_str_radix(fields.get(at)?, 16).ok();
    let mask = u32::from_be_bytes(number(7)?.to_ne_bytes());
    let to = Ipv4Addr::from(number(1)?.to_ne_bytes());
    let prefix = u8::try_from(mask.leading_ones()).ok()?;
    let skipped = to.is_loopback() || to.is_link_local() || to.is_multicast();
    (prefix > 0 && !skipped).then_some(Route {
        to: IpAddr::V4(to),
        prefix,
        direct: number(3)? & GATEWAY == 0,
    })
}

/// `fd00…0 40 00…0 00 00…0 00000100 00000001 00000000 00000001 eth0`.
fn parse_v6(line: &str) -> Option<Route> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let address = |at: usize| u128::from_str_radix(fields.get(at)?, 16).ok();
    let to = Ipv6Addr::from(address(0)?);
    let prefix = u8::from_str_radix(fields.get(1)?, 16).ok()?;
    let flags = u32::from_str_radix(fields.get(8)?, 16).ok()?;
    let own = flags & (LOCAL | ANYCAST) != 0 || *fields.get(9)? == "lo";
    let skipped = to.is_unicast_link_local() || to.is_multicast();
    (prefix > 0 && !own && !skipped).then_some(Route {
        to: IpAddr::V6(to),
        prefix,
        direct: flags & GATEWAY == 0,
    })
}

/// Tells of changes of this host's routes.
#[derive(Debug)]
pub struct RouteWatch(OwnedFd);

impl RouteWatch {
    /// Begins to watch: what changes from now on is told.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn new() -> io::Result<Self> {
        // NETLINK_ROUTE is the protocol of no number.
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            None,
        )?;
        bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
        Ok(Self(socket))
    }

    /// Waits until something may have changed; all that has been told of till then is one change.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn wait(&self) -> io::Result<()> {
        // What is told is looked up, not read here.
        let mut buffer = [0_u8; 64];
        let mut flags = RecvFlags::empty();
        loop {
            match recv(&self.0, &mut buffer, flags) {
                // More than was kept for us.
                Ok(_) | Err(Errno::NOBUFS) => flags = RecvFlags::DONTWAIT,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(to: &str, prefix: u8, direct: bool) -> Option<Route> {
        let to = to.parse().unwrap();
        Some(Route { to, prefix, direct })
    }

    #[test]
    fn routes_are_read_as_the_kernel_writes_them() {
        assert_eq!(
            parse_v4("Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU"),
            None
        );
        // Written in the order of this machine's bytes.
        let v4 = |to: [u8; 4], flags: u32, mask: [u8; 4]| {
            let (to, mask) = (u32::from_ne_bytes(to), u32::from_ne_bytes(mask));
            parse_v4(&format!(
                "eth0\t{to:08X}\t00000000\t{flags:04X}\t0\t0\t100\t{mask:08X}\t0\t0\t0"
            ))
        };
        assert_eq!(v4([0; 4], 3, [0; 4]), None);
        assert_eq!(
            v4([192, 0, 2, 0], 1, [255, 255, 255, 0]),
            route("192.0.2.0", 24, true)
        );
        assert_eq!(
            v4([172, 16, 0, 0], 3, [255, 240, 0, 0]),
            route("172.16.0.0", 12, false)
        );
        assert_eq!(v4([169, 254, 0, 0], 1, [255, 255, 0, 0]), None);
        let v6 = |to: u128, prefix: u8, flags: u32, device: &str| {
            parse_v6(&format!(
                "{to:032x} {prefix:02x} {0:032x} 00 {0:032x} 00000100 00000001 00000000 {flags:08x} {device}",
                0
            ))
        };
        assert_eq!(v6(0xfd00 << 112, 64, 1, "eth0"), route("fd00::", 64, true));
        assert_eq!(v6(0xfd00 << 112, 48, 3, "eth0"), route("fd00::", 48, false));
        for (to, prefix, flags, device) in [
            (0, 0, 3, "eth0"),
            (0xfe80 << 112, 64, 1, "eth0"),
            (0xff00 << 112, 8, 1, "eth0"),
            ((0xfd00 << 112) + 1, 128, LOCAL | 1, "eth0"),
            (0xfd01 << 112, 64, 1, "lo"),
        ] {
            assert_eq!(v6(to, prefix, flags, device), None);
        }
        assert!(routes().is_ok());
    }
}
