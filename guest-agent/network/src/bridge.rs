//! Bridges: made, brought to the state they should have, removed.

use std::collections::BTreeSet;
use std::net::IpAddr;

use rtnetlink::packet_route::address::{
    AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope,
};
use rtnetlink::packet_route::link::{
    InfoBridgePort, InfoKind, InfoPortData, InfoPortKind, LinkInfo, LinkMessage,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::{AddressMessageBuilder, LinkMessageBuilder, LinkUnspec};
use rustix::io::Errno;

use crate::links::{self, EXTENSIONS, NETWORKS};
use crate::netlink::{How, Netlink};
use crate::plan::{Address, Bridge};
use crate::wires::{Network, Segment, Wires};
use crate::{NetworkError, check, extension, local, place, rules};

impl Wires {
    /// See [`crate::Wiring::set_bridge`].
    pub fn set_bridge(&mut self, bridge: &Bridge) -> Result<(), NetworkError> {
        check::bridge(bridge)?;
        let name = &bridge.name;
        // Nothing is told to the kernel about what is somebody else's.
        let looked = self.netlink.link(links::named(name).build());
        if let Ok(Some(link)) = &looked
            && !links::is(link, &InfoKind::Bridge)
        {
            return Err(NetworkError::Taken(name.clone()));
        }
        // Before all that can fail: there may be one, with its containers, of an engine before this one.
        if bridge.internal {
            self.keep_silent(name, true)?;
        }
        let there = looked.map_err(NetworkError::saying(|| format!("looking for {name}")))?;
        // Before there is a bridge, so that there is no moment in which anything passes it.
        self.rules
            .set(&mut self.netlink, name, &rules::of(bridge))
            .map_err(NetworkError::saying(|| format!("rules of {name}")))?;
        if !bridge.internal {
            self.keep_silent(name, false)?;
        }
        let made = match make(&mut self.netlink, name, NETWORKS) {
            Ok(made) => made,
            Err(error) => {
                if there.is_none() {
                    self.remove_segment(name)?;
                }
                return Err(error);
            }
        };
        let done = self.fill(bridge, &made);
        if done.is_err() && made.new {
            self.remove_bridge(name)?;
        }
        done
    }

    fn fill(&mut self, bridge: &Bridge, made: &Made) -> Result<(), NetworkError> {
        let name = &bridge.name;
        let v6 = bridge.gateways.iter().any(|gateway| gateway.ip.is_ipv6());
        for (setting, value) in [
            ("ipv4/conf/IFNAME/rp_filter", "1"),
            ("ipv6/conf/IFNAME/accept_ra", "0"),
            // Nobody else is on a bridge before its own address is: containers need not wait for the kernel to ask.
            ("ipv6/conf/IFNAME/accept_dad", "0"),
            ("ipv6/conf/IFNAME/disable_ipv6", if v6 { "0" } else { "1" }),
        ] {
            place::set(&format!("net/{}", setting.replace("IFNAME", name)), value)?;
        }
        let refused = |errno| NetworkError::saying(|| format!("addresses of {name}"))(errno);
        if !made.new {
            let stale = stale(&mut self.netlink, made.index, &bridge.gateways).map_err(refused)?;
            for address in stale {
                self.netlink
                    .remove(RouteNetlinkMessage::DelAddress(address))
                    .map_err(refused)?;
            }
        }
        for gateway in &bridge.gateways {
            add_address(&mut self.netlink, made.index, *gateway).map_err(NetworkError::saying(
                || format!("address {} of {name}", gateway.ip),
            ))?;
        }
        bring_up(
            &mut self.netlink,
            links::named(name).link_group(NETWORKS),
            name,
            bridge.mtu,
        )?;
        local::wait(&mut self.netlink, &bridge.gateways)?;
        self.remember(bridge, made)
    }

    /// Sees to the ports that are there, and to the extensions.
    fn remember(&mut self, bridge: &Bridge, made: &Made) -> Result<(), NetworkError> {
        let name = &bridge.name;
        let before = self.networks.remove(name);
        let first = Segment {
            name: name.clone(),
            index: made.index,
            ports: 0,
        };
        let mut network = match before {
            Some(network) if network.segments[0].index == made.index => network,
            _ => {
                let found = self.found.remove(name).unwrap_or_default();
                Network {
                    // Not known: the ports tell.
                    icc: !bridge.icc,
                    segments: [vec![first], found].concat(),
                }
            }
        };
        let changed = network.icc != bridge.icc;
        network.icc = bridge.icc;
        if !made.new && changed {
            for place in 0..network.segments.len() {
                self.take_up(&mut network, place, name)?;
            }
        }
        for place in 1..network.segments.len() {
            self.join(&network, place, bridge.mtu)?;
        }
        self.networks.insert(name.clone(), network);
        Ok(())
    }

    /// Counts the ports of a segment and has them isolated or not, as the network is.
    fn take_up(
        &mut self,
        network: &mut Network,
        place: usize,
        name: &str,
    ) -> Result<(), NetworkError> {
        let segment = &mut network.segments[place];
        let ports = links::list(&mut self.netlink, Some(segment.index))
            .map_err(NetworkError::saying(|| format!("ports of {name}")))?;
        segment.ports = ports.len();
        for port in &ports {
            let Some(port_name) = links::name(port) else {
                continue;
            };
            self.ports
                .insert(port_name.to_owned(), (name.to_owned(), place));
            // An extension's way to the first bridge leads everybody to the gateway.
            let isolated = !(network.icc || place > 0 && extension::is_join(port));
            if is_isolated(port) != Some(isolated) {
                self.netlink
                    .add(
                        RouteNetlinkMessage::NewLink(isolate(port_name, isolated).build()),
                        How::Change,
                    )
                    .map_err(NetworkError::saying(|| format!("isolating {port_name}")))?;
            }
        }
        Ok(())
    }

    /// See [`crate::Wiring::remove_bridge`].
    pub fn remove_bridge(&mut self, name: &str) -> Result<(), NetworkError> {
        check::name(name)?;
        let mut segments = vec![name.to_owned()];
        let network = self.networks.remove(name);
        let extensions = network.map(|network| network.segments);
        let found = self.found.remove(name);
        segments.extend(
            (extensions.into_iter().flatten().skip(1))
                .chain(found.into_iter().flatten())
                .map(|segment| segment.name),
        );
        // Extensions first: while the bridge is there its name says whose they are.
        for segment in segments.iter().rev() {
            self.remove_segment(segment)?;
        }
        self.ports.retain(|_, (of, _)| of != name);
        Ok(())
    }

    /// Removes one bridge, with its rules.
    pub fn remove_segment(&mut self, name: &str) -> Result<(), NetworkError> {
        let refused = |errno| NetworkError::saying(|| format!("removing {name}"))(errno);
        let found = self.netlink.link(links::named(name).build());
        if let Some(link) = found.map_err(refused)? {
            if !links::is(&link, &InfoKind::Bridge) {
                // Rules that were made for it are ours all the same.
                self.forget(name)?;
                return Err(NetworkError::Taken(name.to_owned()));
            }
            if links::group(&link) == Some(EXTENSIONS) {
                self.remove_joins(name)?;
            }
            Netlink::open()?.delete(links::named(name).build())?;
        }
        self.forget(name)
    }

    /// Forgets a bridge that is known to be gone.
    fn forget(&mut self, name: &str) -> Result<(), NetworkError> {
        self.rules
            .set(&mut self.netlink, name, &BTreeSet::new())
            .map_err(NetworkError::saying(|| format!("rules of {name}")))?;
        self.keep_silent(name, false)
    }

    /// See [`crate::Wiring::bridges`].
    pub fn bridges(&mut self) -> Result<Vec<String>, NetworkError> {
        let all = links::list(&mut self.netlink, None).map_err(NetworkError::of("bridges"))?;
        let ours = all.iter().filter(|link| {
            links::group(link) == Some(NETWORKS) && links::is(link, &InfoKind::Bridge)
        });
        let made = ours.filter_map(links::name).map(ToOwned::to_owned);
        // One whose rules are there and nothing else yet.
        let begun = self
            .rules
            .bridges()
            .filter(|name| !extension::is_name(name));
        let names: BTreeSet<_> = made.chain(begun.map(ToOwned::to_owned)).collect();
        Ok(names.into_iter().collect())
    }
}

/// A bridge that is there.
pub(crate) struct Made {
    pub index: u32,
    /// Whether it was not there before.
    pub new: bool,
}

/// Sees to it that there is a bridge of this name.
pub(crate) fn make(netlink: &mut Netlink, name: &str, group: u32) -> Result<Made, NetworkError> {
    // Without one the bridge takes a port's, another one whenever ports come and go.
    let mac = random_mac().map_err(NetworkError::of("a hardware address"))?;
    let message = LinkMessageBuilder::<LinkUnspec>::new_with_info_kind(InfoKind::Bridge)
        .name(name)
        .link_group(group)
        .address(mac.to_vec());
    let new = match netlink.add(RouteNetlinkMessage::NewLink(message.build()), How::New) {
        Ok(()) => true,
        Err(Errno::EXIST) => false,
        Err(errno) => return Err(NetworkError::saying(|| format!("making {name}"))(errno)),
    };
    let link = links::find(netlink, name)?;
    if !links::is(&link, &InfoKind::Bridge) {
        return Err(NetworkError::Taken(name.to_owned()));
    }
    Ok(Made {
        index: link.header.index,
        new,
    })
}

/// Brings an interface up, with what else `message` says of it.
pub(crate) fn bring_up(
    netlink: &mut Netlink,
    message: LinkMessageBuilder<LinkUnspec>,
    name: &str,
    mtu: Option<u32>,
) -> Result<(), NetworkError> {
    let mut message = message.up();
    if let Some(mtu) = mtu {
        message = message.mtu(mtu);
    }
    netlink
        .add(RouteNetlinkMessage::NewLink(message.build()), How::Change)
        .map_err(NetworkError::saying(|| format!("bringing up {name}")))
}

/// Gives an interface an address, at once: nobody else has it.
pub(crate) fn add_address(
    netlink: &mut Netlink,
    index: u32,
    address: Address,
) -> Result<(), Errno> {
    let mut message = match address.ip {
        IpAddr::V4(ip) => AddressMessageBuilder::<std::net::Ipv4Addr>::new()
            .address(ip, address.prefix)
            .index(index)
            .build(),
        IpAddr::V6(ip) => AddressMessageBuilder::<std::net::Ipv6Addr>::new()
            .address(ip, address.prefix)
            .index(index)
            .build(),
    };
    if address.ip.is_ipv6() {
        message.header.flags |= AddressHeaderFlags::Nodad;
    }
    netlink.ensure(RouteNetlinkMessage::NewAddress(message))
}

/// Addresses that an interface has and should not.
fn stale(
    netlink: &mut Netlink,
    index: u32,
    wanted: &[Address],
) -> Result<Vec<AddressMessage>, Errno> {
    let mut all = AddressMessage::default();
    all.header.family = AddressFamily::Unspec;
    let found = netlink.list(&RouteNetlinkMessage::GetAddress(all))?;
    Ok(found
        .into_iter()
        .filter_map(|message| match message {
            RouteNetlinkMessage::NewAddress(address) => Some(address),
            _ => None,
        })
        .filter(|address| {
            let header = &address.header;
            let own = address
                .attributes
                .iter()
                .find_map(|attribute| match attribute {
                    AddressAttribute::Local(ip) => Some(*ip),
                    AddressAttribute::Address(ip) if ip.is_ipv6() => Some(*ip),
                    _ => None,
                });
            let kept = wanted
                .iter()
                .any(|want| Some(want.ip) == own && want.prefix == header.prefix_len);
            // Those of the link alone are the kernel's own.
            header.index == index && header.scope == AddressScope::Universe && !kept
        })
        .collect())
}

/// A change of whether a port reaches others that are isolated too.
pub(crate) fn isolate(port: &str, isolated: bool) -> LinkMessageBuilder<LinkUnspec> {
    links::named(port)
        .set_port_kind(InfoPortKind::Bridge)
        .set_port_data(InfoPortData::BridgePort(vec![InfoBridgePort::Isolated(
            isolated,
        )]))
}

fn is_isolated(port: &LinkMessage) -> Option<bool> {
    let data = links::info(port).iter().find_map(|info| match info {
        LinkInfo::PortData(InfoPortData::BridgePort(data)) => Some(data),
        _ => None,
    })?;
    data.iter().find_map(|setting| match setting {
        InfoBridgePort::Isolated(isolated) => Some(*isolated),
        _ => None,
    })
}

/// One that is locally administered and no group's.
fn random_mac() -> Result<[u8; 6], Errno> {
    let mut mac = [0; 6];
    rustix::rand::getrandom(&mut mac, rustix::rand::GetRandomFlags::empty())?;
    mac[0] = mac[0] & !1 | 2;
    Ok(mac)
}
