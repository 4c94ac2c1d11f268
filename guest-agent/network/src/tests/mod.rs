//! Every test has networks of its own: a namespace that stands for the host's, one for the world behind its card,
//! and one for each container.

mod bridges;
mod isolation;
mod many;
pub(crate) mod place;
mod plugs;
mod published;
mod speed;
mod upon;
mod ways;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use lighter_protocol::link;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{InfoData, InfoKind, InfoVeth};
use rtnetlink::{LinkMessageBuilder, LinkUnspec};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

use crate::netlink::How;
use crate::plan::{Address, Bridge, Joint, Plug, WayOut};
use crate::{Wiring, bridge, links};
use place::Place;

/// An address of the world.
const WORLD: [&str; 2] = ["203.0.113.8", "2001:db8::8"];

pub(crate) struct Lab {
    runtime: tokio::runtime::Runtime,
    pub home: Place,
    pub world: Place,
    pub wiring: Wiring,
}

/// Nothing, and a word, where this user may not make namespaces.
pub(crate) fn lab() -> Option<Lab> {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: needs root to make network namespaces");
        return None;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let (home, world) = (Place::new(), Place::new());
    connect(&home, &world);
    let wiring = runtime.block_on(Wiring::open(home.descriptor())).unwrap();
    Some(Lab {
        runtime,
        home,
        world,
        wiring,
    })
}

/// The card and what is behind it.
fn connect(home: &Place, world: &Place) {
    home.netlink(|netlink| {
        let far = links::named("far").setns_by_fd(world.raw()).build();
        let pair = LinkMessageBuilder::<LinkUnspec>::new_with_info_kind(InfoKind::Veth)
            .name("eth0")
            .set_info_data(InfoData::Veth(InfoVeth::Peer(far)));
        netlink
            .add(RouteNetlinkMessage::NewLink(pair.build()), How::New)
            .unwrap();
    });
    for (place, name) in [(home, "eth0"), (world, "far")] {
        // As the card's real ends are: nobody has their addresses.
        let dad = format!("net/ipv6/conf/{name}/accept_dad");
        place.within(|| crate::place::set(&dad, "0")).unwrap();
        place.up(name);
    }
    let (v4, v6) = (link::PREFIX_V4, link::PREFIX_V6);
    home.address("eth0", link::GUEST_V4.into(), v4);
    home.address("eth0", link::GUEST_V6.into(), v6);
    world.address("far", link::GATEWAY_V4.into(), v4);
    world.address("far", link::GATEWAY_V6.into(), v6);
    for (address, prefix) in WORLD.into_iter().zip([32, 128]) {
        world.address("lo", ip(address), prefix);
    }
    home.route(None, link::GATEWAY_V4.into());
    home.route(None, link::GATEWAY_V6.into());
    // The host's end of the link knows whom it has behind the machine.
    world.route(Some((ip("172.16.0.0"), 12)), link::GUEST_V4.into());
    world.route(Some((ip("fd00::"), 8)), link::GUEST_V6.into());
}

pub(super) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(super) fn address(text: &str) -> Address {
    let (ip, prefix) = text.split_once('/').unwrap();
    Address {
        ip: ip.parse().unwrap(),
        prefix: prefix.parse().unwrap(),
    }
}

/// A network of these gateways, as docker makes them.
pub(super) fn network(name: &str, gateways: &[&str]) -> Bridge {
    Bridge {
        name: name.into(),
        gateways: gateways.iter().copied().map(address).collect(),
        internal: false,
        icc: true,
        mtu: None,
    }
}

/// What joins a container to a bridge, by a port of this name.
pub(super) fn plug(bridge: &str, port: &str, addresses: &[&str]) -> Plug {
    Plug {
        name: "eth0".into(),
        joint: Joint::Bridge {
            bridge: bridge.into(),
            port: port.into(),
        },
        mac: None,
        addresses: addresses.iter().copied().map(address).collect(),
        mtu: None,
        sysctls: Vec::new(),
    }
}

impl Lab {
    pub fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    pub fn set(&self, bridge: &Bridge) {
        self.wait(self.wiring.set_bridge(bridge)).unwrap();
    }

    pub fn plug(&self, place: &Place, plug: &Plug) -> [u8; 6] {
        self.wait(self.wiring.plug(place.descriptor(), plug))
            .unwrap()
    }

    /// A container of a bridge, which is its way out.
    pub fn container(&self, bridge: &Bridge, port: &str, addresses: &[&str]) -> Place {
        let place = Place::new();
        self.plug(&place, &plug(&bridge.name, port, addresses));
        let gateways = bridge.gateways.iter().map(|gateway| gateway.ip);
        let way = WayOut {
            gateways: gateways.map(|ip| (ip, "eth0".into())).collect(),
            direct: Vec::new(),
        };
        self.wait(self.wiring.set_way_out(place.descriptor(), &way))
            .unwrap();
        place
    }

    /// Has the kernel refuse every change that the thread of the wires asks for, or none any more.
    pub fn refuse(&self, refused: bool) {
        let done = self.wiring.ask(move |_| {
            let mut sets = capabilities(None).unwrap();
            sets.effective.set(CapabilitySet::NET_ADMIN, !refused);
            set_capabilities(None, sets).unwrap();
            Ok(())
        });
        self.wait(done).unwrap();
    }

    /// The same engine started anew.
    pub fn restart(&mut self) {
        self.wiring = self.wait(Wiring::open(self.home.descriptor())).unwrap();
    }
}

const PATIENCE: Duration = Duration::from_secs(20);

/// Sends a question from `from`, where it comes by `source`, and waits for its answer; returns as whom the other
/// side saw it.
pub(super) fn asks(
    from: &Place,
    source: &str,
    to: &Place,
    target: &str,
) -> std::io::Result<IpAddr> {
    let there = to.socket(SocketAddr::new(ip(target), 0));
    let address = there.local_addr().unwrap();
    let here = from.socket(SocketAddr::new(ip(source), 0));
    here.connect(address)?;
    here.send(b"question")?;
    there.set_read_timeout(Some(PATIENCE)).unwrap();
    here.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut buffer = [0; 16];
    std::thread::scope(|scope| {
        let answer = scope.spawn(|| {
            let mut buffer = [0; 16];
            let (length, sender) = there.recv_from(&mut buffer)?;
            assert_eq!(&buffer[..length], b"question");
            there.send_to(b"answer", sender)?;
            Ok(sender.ip())
        });
        let heard = here.recv(&mut buffer);
        let seen = answer.join().unwrap();
        heard.and(seen)
    })
}

/// Whether a connection is refused by who routes, who says so.
pub(super) fn is_refused(from: &Place, target: &str) -> bool {
    let target = SocketAddr::new(ip(target), 80);
    let told = from.within(|| std::net::TcpStream::connect_timeout(&target, PATIENCE));
    let kinds = [
        std::io::ErrorKind::NetworkUnreachable,
        std::io::ErrorKind::HostUnreachable,
    ];
    kinds.contains(&told.unwrap_err().kind())
}

/// Sends something that should not arrive, and then from `sure` what does: whether that came first.
pub(super) fn is_lost(from: &Place, source: &str, to: &Place, target: &str, sure: &Place) -> bool {
    let there = to.socket(SocketAddr::new(ip(target), 0));
    there.set_read_timeout(Some(PATIENCE)).unwrap();
    let address = there.local_addr().unwrap();
    let here = from.socket(SocketAddr::new(ip(source), 0));
    for _ in 0..3 {
        // The kernel may know that there is no way.
        let _ = here.send_to(b"lost", address);
    }
    let any = if address.is_ipv4() { "0.0.0.0" } else { "::" };
    let surely = sure.socket(SocketAddr::new(ip(any), 0));
    surely.send_to(b"sure", address).unwrap();
    let mut buffer = [0; 16];
    let length = there.recv(&mut buffer).unwrap();
    &buffer[..length] == b"sure"
}

/// What a network has of another one's container.
pub(super) fn mac_of(place: &Place, name: &str) -> Option<[u8; 6]> {
    place.netlink(|netlink| {
        links::find(netlink, name)
            .ok()
            .as_ref()
            .and_then(links::mac)
    })
}

pub(super) fn add(place: &Place, name: &str, address: Address) {
    place.netlink(|netlink| {
        let index = links::find(netlink, name).unwrap().header.index;
        bridge::add_address(netlink, index, address).unwrap();
    });
}
