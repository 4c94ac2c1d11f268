//! Interfaces of containers: made straight in the container's namespace, and taken away.

use std::os::fd::{AsRawFd as _, OwnedFd};

use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{
    InfoData, InfoIpVlan, InfoKind, InfoMacVlan, InfoVeth, IpVlanMode, LinkAttribute, LinkInfo,
    LinkMessage, MacVlanMode,
};
use rtnetlink::{LinkMessageBuilder, LinkUnspec};
use rustix::io::Errno;

use crate::links::{self, DISCARDED};
use crate::netlink::{How, Netlink};
use crate::plan::{IpvlanMode, Joint, MacvlanMode, Plug};
use crate::wires::Wires;
use crate::{NetworkError, bridge, check, local, place};

/// What an interface upon another one is called until it is in its namespace. Kernels before 6.15 look in the parent's
/// for who has the name, and the card there is called what the first interface of most containers is.
const BEGUN: &str = "lighter-begun";

impl Wires {
    /// See [`crate::Wiring::plug`].
    pub fn plug(&mut self, container: &OwnedFd, plug: &Plug) -> Result<[u8; 6], NetworkError> {
        check::plug(plug)?;
        match &plug.joint {
            Joint::Bridge { bridge, port } => self.pair(container, plug, bridge, port)?,
            Joint::Macvlan { parent, mode } => {
                let info = [
                    LinkInfo::Kind(InfoKind::MacVlan),
                    LinkInfo::Data(macvlan(*mode)),
                ];
                self.upon(container, plug, parent, &info)?;
            }
            Joint::Ipvlan { parent, mode } => {
                let info = [
                    LinkInfo::Kind(InfoKind::IpVlan),
                    LinkInfo::Data(ipvlan(*mode)),
                ];
                self.upon(container, plug, parent, &info)?;
            }
        }
        let done = self.configure(container, plug);
        if done.is_err() {
            self.unplug(Some(container), plug)?;
        }
        done
    }

    /// Makes a pair of interfaces, one of them a port of a bridge that passes packets.
    fn pair(
        &mut self,
        container: &OwnedFd,
        plug: &Plug,
        bridge: &str,
        port: &str,
    ) -> Result<(), NetworkError> {
        let refused = || format!("making port {port} of {bridge}");
        let mut again = true;
        loop {
            let place = self.room(bridge)?;
            let Some(network) = self.networks.get_mut(bridge) else {
                return Err(NetworkError::NoInterface(bridge.to_owned()));
            };
            let icc = network.icc;
            let segment = &mut network.segments[place];
            let message = pair(container, plug, port, segment.index);
            match self
                .netlink
                .add(RouteNetlinkMessage::NewLink(message), How::New)
            {
                Ok(()) => segment.ports += 1,
                // Somebody else has ports there.
                Err(Errno::XFULL) => {
                    segment.ports = segment.ports.max(crate::extension::PORTS);
                    continue;
                }
                // One that was plugged before, or is about to end.
                Err(Errno::EXIST) if again => {
                    again = false;
                    self.unplug(Some(container), plug)?;
                    continue;
                }
                Err(Errno::EXIST) => return Err(NetworkError::Taken(plug.name.clone())),
                Err(errno) => return Err(NetworkError::saying(refused)(errno)),
            }
            self.ports
                .insert(port.to_owned(), (bridge.to_owned(), place));
            let done = self.bring_up_port(port, icc);
            if done.is_err() {
                self.unplug(Some(container), plug)?;
            }
            return done;
        }
    }

    /// A port is only for the bridge: of itself it says nothing. (The kernel's table of neighbours is one for all
    /// namespaces, and a thousand ports that have IPv6 would fill it.)
    fn bring_up_port(&mut self, port: &str, icc: bool) -> Result<(), NetworkError> {
        place::set(&format!("net/ipv6/conf/{port}/disable_ipv6"), "1")?;
        bridge::bring_up(&mut self.netlink, bridge::isolate(port, !icc), port, None)
    }

    /// Makes an interface upon another one.
    fn upon(
        &mut self,
        container: &OwnedFd,
        plug: &Plug,
        parent: &str,
        info: &[LinkInfo],
    ) -> Result<(), NetworkError> {
        let below = links::find(&mut self.netlink, parent)?.header.index;
        // One that was plugged before, which may be all that its parent allows.
        self.unplug(Some(container), plug)?;
        let made = upon(container, plug, below, info);
        let refused = || format!("making {} upon {parent}", plug.name);
        self.netlink
            .add(RouteNetlinkMessage::NewLink(made), How::New)
            .map_err(NetworkError::saying(refused))?;
        let named = place::inside(container, &self.home, || rename(&plug.name));
        if named.is_err() {
            self.unplug(Some(container), plug)?;
        }
        named
    }

    /// Gives a new interface what else it has, and brings it up.
    fn configure(&mut self, container: &OwnedFd, plug: &Plug) -> Result<[u8; 6], NetworkError> {
        place::inside(container, &self.home, || {
            let mut netlink = Netlink::open()?;
            let mac = configure(&mut netlink, plug)?;
            // Asked for a link, the kernel first does what is left to do of its coming up: until then nothing
            // passes it.
            if let Joint::Bridge { port, .. } = &plug.joint {
                links::find(&mut self.netlink, port)?;
            } else {
                links::find(&mut netlink, &plug.name)?;
            }
            // Nor are neighbours told of an address that is not in use.
            local::wait(&mut netlink, &plug.addresses)?;
            announce(&mut netlink, plug, mac)?;
            Ok(mac)
        })
    }

    /// See [`crate::Wiring::unplug`].
    pub fn unplug(&mut self, container: Option<&OwnedFd>, plug: &Plug) -> Result<(), NetworkError> {
        check::plug(plug)?;
        match (&plug.joint, container) {
            (Joint::Bridge { port, .. }, Some(_)) => {
                Netlink::open()?.delete(links::named(port).build())?;
                self.count_out(port);
            }
            (Joint::Bridge { port, .. }, None) => {
                self.discard(port)?;
                self.count_out(port);
            }
            // It ended with its namespace.
            (Joint::Macvlan { .. } | Joint::Ipvlan { .. }, None) => {}
            (Joint::Macvlan { .. }, Some(container)) => {
                place::inside(container, &self.home, || delete(plug, &InfoKind::MacVlan))?;
            }
            (Joint::Ipvlan { .. }, Some(container)) => {
                place::inside(container, &self.home, || delete(plug, &InfoKind::IpVlan))?;
            }
        }
        Ok(())
    }

    /// Puts a port out of service: down, a port passes nothing and the bridge forgets who was behind it.
    fn discard(&mut self, port: &str) -> Result<(), NetworkError> {
        let down = links::named(port).link_group(DISCARDED).down();
        match self
            .netlink
            .add(RouteNetlinkMessage::NewLink(down.build()), How::Change)
        {
            Ok(()) => self.discarded.more(),
            Err(Errno::NODEV) => {}
            Err(errno) => {
                return Err(NetworkError::saying(|| format!("ending port {port}"))(
                    errno,
                ));
            }
        }
        Ok(())
    }

    fn count_out(&mut self, port: &str) {
        if let Some((bridge, place)) = self.ports.remove(port)
            && let Some(network) = self.networks.get_mut(&bridge)
            && let Some(segment) = network.segments.get_mut(place)
        {
            segment.ports = segment.ports.saturating_sub(1);
        }
    }
}

/// The pair, whose one end is a port of the bridge of this number.
fn pair(container: &OwnedFd, plug: &Plug, port: &str, bridge: u32) -> LinkMessage {
    let mut near = LinkMessageBuilder::<LinkUnspec>::new_with_info_kind(InfoKind::Veth)
        .name(port)
        .controller(bridge);
    if let Some(mtu) = plug.mtu {
        near = near.mtu(mtu);
    }
    near.set_info_data(InfoData::Veth(InfoVeth::Peer(
        inside(container, plug, &plug.name).build(),
    )))
    .build()
}

/// What is made upon the interface of this number.
pub(crate) fn upon(container: &OwnedFd, plug: &Plug, below: u32, info: &[LinkInfo]) -> LinkMessage {
    let mut message = inside(container, plug, BEGUN).build();
    message.attributes.push(LinkAttribute::Link(below));
    message
        .attributes
        .push(LinkAttribute::LinkInfo(info.to_vec()));
    message
}

/// In the container's namespace: gives what was begun there its name.
fn rename(name: &str) -> Result<(), NetworkError> {
    let mut netlink = Netlink::open()?;
    let index = links::find(&mut netlink, BEGUN)?.header.index;
    let named = LinkUnspec::new_with_index(index).name(name).build();
    match netlink.add(RouteNetlinkMessage::NewLink(named), How::Change) {
        Err(Errno::EXIST) => Err(NetworkError::Taken(name.to_owned())),
        done => done.map_err(NetworkError::saying(|| format!("naming {name}"))),
    }
}

fn ipvlan(mode: IpvlanMode) -> InfoData {
    InfoData::IpVlan(vec![InfoIpVlan::Mode(match mode {
        IpvlanMode::L2 => IpVlanMode::L2,
        IpvlanMode::L3 => IpVlanMode::L3,
        IpvlanMode::L3s => IpVlanMode::L3S,
    })])
}

fn macvlan(mode: MacvlanMode) -> InfoData {
    InfoData::MacVlan(vec![InfoMacVlan::Mode(match mode {
        MacvlanMode::Bridge => MacVlanMode::Bridge,
        MacvlanMode::Private => MacVlanMode::Private,
        MacvlanMode::Vepa => MacVlanMode::Vepa,
        MacvlanMode::Passthru => MacVlanMode::Passthrough,
    })])
}

/// The container's interface, in its namespace.
fn inside(container: &OwnedFd, plug: &Plug, name: &str) -> LinkMessageBuilder<LinkUnspec> {
    let mut message = links::named(name).setns_by_fd(container.as_raw_fd());
    if let Some(mac) = plug.mac {
        message = message.address(mac.to_vec());
    }
    if let Some(mtu) = plug.mtu {
        message = message.mtu(mtu);
    }
    message
}

/// In the container's namespace.
fn configure(netlink: &mut Netlink, plug: &Plug) -> Result<[u8; 6], NetworkError> {
    let link = links::find(netlink, &plug.name)?;
    let v6 = plug.addresses.iter().any(|address| address.ip.is_ipv6());
    let off = format!("net/ipv6/conf/{}/disable_ipv6", plug.name);
    place::set(&off, if v6 { "0" } else { "1" })?;
    for (setting, value) in &plug.sysctls {
        place::set(&check::path_of(setting, &plug.name)?, value)?;
    }
    for address in &plug.addresses {
        bridge::add_address(netlink, link.header.index, *address).map_err(NetworkError::saying(
            || format!("address {} of {}", address.ip, plug.name),
        ))?;
    }
    bridge::bring_up(netlink, links::named(&plug.name), &plug.name, None)?;
    links::mac(&link).ok_or(NetworkError::Impossible(
        "an interface without a hardware address",
    ))
}

/// Tells the neighbours who has the addresses now: somebody else may have had them a moment ago. The kernel does that
/// where it is set to, when a hardware address is set, be it the same.
fn announce(netlink: &mut Netlink, plug: &Plug, mac: [u8; 6]) -> Result<(), NetworkError> {
    // Its hardware address is another's, and cannot be set.
    if plug.addresses.is_empty() || matches!(plug.joint, Joint::Ipvlan { .. }) {
        return Ok(());
    }
    let settings = [("v4", "arp_notify"), ("v6", "ndisc_notify")].map(|(family, setting)| {
        let path = format!("net/ip{family}/conf/{}/{setting}", plug.name);
        let asked = plug
            .addresses
            .iter()
            .any(|address| address.ip.is_ipv6() == (family == "v6"));
        asked.then_some(path)
    });
    let mut before = Vec::new();
    for path in settings.into_iter().flatten() {
        let value = place::get(&path)?;
        if value.trim() == "0" {
            place::set(&path, "1")?;
            before.push(path);
        }
    }
    let same = links::named(&plug.name).address(mac.to_vec()).build();
    netlink
        .add(RouteNetlinkMessage::NewLink(same), How::Change)
        .map_err(NetworkError::saying(|| format!("announcing {}", plug.name)))?;
    before.iter().try_for_each(|path| place::set(path, "0"))
}

/// In the container's namespace.
fn delete(plug: &Plug, kind: &InfoKind) -> Result<(), NetworkError> {
    // One that was begun is not named yet.
    for name in [plug.name.as_str(), BEGUN] {
        let mut netlink = Netlink::open()?;
        let found = netlink
            .link(links::named(name).build())
            .map_err(NetworkError::saying(|| format!("looking for {name}")))?;
        // Something else of that name is somebody else's, and so is what the container put upon an interface of its own.
        if found.is_some_and(|link| links::is(&link, kind) && links::is_upon_another(&link)) {
            netlink.delete(links::named(name).build())?;
        }
    }
    Ok(())
}
