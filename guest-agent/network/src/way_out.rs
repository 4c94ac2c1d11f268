//! The default routes of a container.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;

use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::route::{
    RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rustix::io::Errno;

use crate::netlink::{How, Netlink};
use crate::plan::WayOut;
use crate::wires::Wires;
use crate::{NetworkError, check, links, place};

/// The metric that the kernel gives an IPv6 route of whom says none.
const NO_METRIC_V6: u32 = 1_024;

impl Wires {
    /// See [`crate::Wiring::set_way_out`].
    pub fn set_way_out(&mut self, container: &OwnedFd, way: &WayOut) -> Result<(), NetworkError> {
        for name in way.gateways.iter().map(|(_, name)| name).chain(&way.direct) {
            check::name(name)?;
        }
        place::inside(container, &self.home, || set(way))
    }
}

/// In the container's namespace.
fn set(way: &WayOut) -> Result<(), NetworkError> {
    let mut netlink = Netlink::open()?;
    let mut wanted = Vec::new();
    for (router, name) in &way.gateways {
        let index = links::find(&mut netlink, name)?.header.index;
        wanted.push(route(Some(*router), index, router.is_ipv6()));
    }
    for name in &way.direct {
        let index = links::find(&mut netlink, name)?.header.index;
        for v6 in [false, true] {
            let family = family(v6);
            let other = |route: &RouteMessage| route.header.address_family != family;
            if wanted.iter().all(other) && has_addresses(&mut netlink, index, v6)? {
                wanted.push(route(None, index, v6));
            }
        }
    }
    for v6 in [false, true] {
        let mut of_family = wanted.iter();
        match of_family.find(|route| route.header.address_family == family(v6)) {
            Some(route) => netlink
                .add(RouteNetlinkMessage::NewRoute(route.clone()), How::Replace)
                .map_err(NetworkError::of("setting the way out"))?,
            None => remove(&mut netlink, v6).map_err(NetworkError::of("removing the way out"))?,
        }
    }
    Ok(())
}

fn family(v6: bool) -> AddressFamily {
    if v6 {
        AddressFamily::Inet6
    } else {
        AddressFamily::Inet
    }
}

fn route(router: Option<IpAddr>, index: u32, v6: bool) -> RouteMessage {
    let mut message = if v6 {
        RouteMessageBuilder::<Ipv6Addr>::new()
            .output_interface(index)
            .build()
    } else {
        RouteMessageBuilder::<Ipv4Addr>::new()
            .output_interface(index)
            .build()
    };
    // What is known of a route that somebody made by hand: as dockerd's are.
    message.header.protocol = RouteProtocol::Boot;
    match router {
        Some(router) => message
            .attributes
            .push(RouteAttribute::Gateway(router.into())),
        None => message.header.scope = RouteScope::Link,
    }
    message
}

/// Whether an interface has addresses of a family that are not of its link alone.
fn has_addresses(netlink: &mut Netlink, index: u32, v6: bool) -> Result<bool, NetworkError> {
    let mut all = rtnetlink::packet_route::address::AddressMessage::default();
    all.header.family = family(v6);
    let found = netlink
        .list(&RouteNetlinkMessage::GetAddress(all))
        .map_err(NetworkError::of("listing addresses"))?;
    Ok(found.iter().any(|message| {
        matches!(message, RouteNetlinkMessage::NewAddress(address)
            if address.header.index == index
                && address.header.scope == rtnetlink::packet_route::address::AddressScope::Universe)
    }))
}

/// Removes the default routes that were set here; what a container set itself has another metric, and what it
/// heard from routers another protocol.
fn remove(netlink: &mut Netlink, v6: bool) -> Result<(), Errno> {
    let mut all = RouteMessage::default();
    all.header.address_family = family(v6);
    for message in netlink.list(&RouteNetlinkMessage::GetRoute(all))? {
        let RouteNetlinkMessage::NewRoute(route) = message else {
            continue;
        };
        if !is_ours(&route, v6) {
            continue;
        }
        match netlink.remove(RouteNetlinkMessage::DelRoute(route)) {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn is_ours(route: &RouteMessage, v6: bool) -> bool {
    let header = &route.header;
    let metric = route
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Priority(metric) => Some(*metric),
            _ => None,
        });
    header.table == RouteHeader::RT_TABLE_MAIN
        && header.destination_prefix_length == 0
        && header.kind == RouteType::Unicast
        && header.protocol == RouteProtocol::Boot
        && metric == v6.then_some(NO_METRIC_V6)
}
