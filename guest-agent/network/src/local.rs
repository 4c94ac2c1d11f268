//! Waits until IPv6 addresses are of use: the kernel takes an address, answers, and sets its local route a little
//! later, on a thread of its own. Until then it gives what comes for the address to nobody. Called by the plugs and
//! the bridges in the namespace of the interface; never decides whether there should be an address.

use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::route::{RouteMessage, RouteType};
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{Socket, SocketAddr};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::NetworkError;
use crate::netlink::Netlink;
use crate::plan::Address;

/// The kernel's `RTMGRP_IPV6_ROUTE`.
const ROUTES_V6: u32 = 0x400;
/// Whose kernel is slower than that, or routes its own addresses elsewhere, does without: nobody else's plug has to
/// wait for it.
const PATIENCE: Duration = Duration::from_secs(2);

/// Returns when the kernel receives on all these addresses, which an interface of the caller's namespace has and
/// where `netlink` was opened.
///
/// # Errors
/// What the kernel refuses. That it takes too long is none.
pub(crate) fn wait(netlink: &mut Netlink, addresses: &[Address]) -> Result<(), NetworkError> {
    let v6 = addresses.iter().filter_map(|address| match address.ip {
        std::net::IpAddr::V6(ip) => Some(ip),
        std::net::IpAddr::V4(_) => None,
    });
    let mut missing = v6.collect();
    if are_there(netlink, &mut missing)? {
        return Ok(());
    }
    let notices = Notices::open()?;
    let since = Instant::now();
    // Asked for again after the notices are listened to: no route comes unnoticed.
    while !are_there(netlink, &mut missing)? {
        let left = PATIENCE.saturating_sub(since.elapsed());
        if left.is_zero() {
            tracing::warn!(addresses = ?missing, "addresses are not in use yet");
            return Ok(());
        }
        notices.next(left)?;
    }
    Ok(())
}

/// Takes those off that are local already; whether that were all.
fn are_there(netlink: &mut Netlink, missing: &mut Vec<Ipv6Addr>) -> Result<bool, NetworkError> {
    while let Some(ip) = missing.last() {
        if !is_local(netlink, *ip).map_err(NetworkError::saying(|| {
            format!("looking for the route to {ip}")
        }))? {
            return Ok(false);
        }
        missing.pop();
    }
    Ok(true)
}

/// Whether packets to this address are for the namespace of `netlink` itself.
pub(crate) fn is_local(netlink: &mut Netlink, ip: Ipv6Addr) -> Result<bool, Errno> {
    let mut to: RouteMessage = RouteMessageBuilder::<Ipv6Addr>::new()
        .destination_prefix(ip, 128)
        .build();
    // Of any table and kind.
    to.header = rtnetlink::packet_route::route::RouteHeader {
        address_family: to.header.address_family,
        destination_prefix_length: 128,
        ..Default::default()
    };
    let route = netlink.route(to)?;
    Ok(route.is_some_and(|route| route.header.kind == RouteType::Local))
}

/// Hears of every change of the IPv6 routes of the namespace in which it was opened, from then on.
struct Notices(Socket);

impl Notices {
    fn open() -> Result<Self, NetworkError> {
        let open = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind(&SocketAddr::new(0, ROUTES_V6))?;
            socket.set_non_blocking(true)?;
            Ok::<_, std::io::Error>(socket)
        };
        Ok(Self(open().map_err(NetworkError::of("opening netlink"))?))
    }

    /// Returns after a change since the last one, or when this time is over. What changed, who asks learns from the
    /// routes themselves.
    fn next(&self, at_most: Duration) -> Result<(), NetworkError> {
        let refused = "waiting for the route of an address";
        let at_most = Timespec::try_from(at_most).map_err(NetworkError::of(refused))?;
        let mut socket = [PollFd::new(&self.0, PollFlags::IN)];
        match poll(&mut socket, Some(&at_most)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(NetworkError::of(refused)(errno)),
        }
        let mut told = Vec::with_capacity(16 << 10);
        // Until nothing is left. That more was told than was kept for us is a change too.
        while self.0.recv(&mut told, 0).is_ok() {
            told.clear();
        }
        Ok(())
    }
}
