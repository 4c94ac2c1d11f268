//! Network namespaces to test in.

use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::process::{Command, Stdio};

use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::LinkMessage;
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use rustix::thread::UnshareFlags;

use crate::netlink::{How, Netlink};
use crate::plan::Address;
use crate::{bridge, links, place};

/// A namespace, with a loopback that is up.
pub(crate) struct Place(OwnedFd);

impl Place {
    pub fn new() -> Self {
        let made = std::thread::spawn(|| {
            #[expect(
                deprecated,
                reason = "unsound for tables of descriptors, which stay shared"
            )]
            rustix::thread::unshare(UnshareFlags::NEWNET).unwrap();
            std::fs::File::open("/proc/thread-self/ns/net").unwrap()
        });
        let place = Self(made.join().unwrap().into());
        place.up("lo");
        place
    }

    /// One that another user namespace owns.
    pub fn of_other_users() -> Self {
        let mut child = Command::new("unshare")
            .args([
                "--user",
                "--map-root-user",
                "--net",
                "sh",
                "-c",
                "echo; read x",
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = [0];
        child
            .stdout
            .as_mut()
            .unwrap()
            .read_exact(&mut line)
            .unwrap();
        let file = std::fs::File::open(format!("/proc/{}/ns/net", child.id())).unwrap();
        drop(child.stdin.take());
        child.wait().unwrap();
        let place = Self(file.into());
        place.up("lo");
        place
    }

    pub fn descriptor(&self) -> OwnedFd {
        self.0.try_clone().unwrap()
    }

    pub fn raw(&self) -> i32 {
        self.0.as_raw_fd()
    }

    /// Does something there, on a thread of its own.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let there = scope.spawn(|| {
                place::go(&self.0).unwrap();
                work()
            });
            there.join().unwrap()
        })
    }

    pub fn netlink<T: Send>(&self, work: impl FnOnce(&mut Netlink) -> T + Send) -> T {
        self.within(|| work(&mut Netlink::open().unwrap()))
    }

    pub fn socket(&self, address: SocketAddr) -> UdpSocket {
        self.within(|| UdpSocket::bind(address).unwrap())
    }

    pub fn read(&self, setting: &str) -> String {
        let path = format!("/proc/sys/{setting}");
        self.within(|| std::fs::read_to_string(path).unwrap())
            .trim()
            .to_owned()
    }

    pub fn link(&self, name: &str) -> Option<LinkMessage> {
        self.netlink(|netlink| netlink.link(links::named(name).build()).unwrap())
    }

    /// The names of all its interfaces, but for the loopback.
    pub fn names(&self) -> Vec<String> {
        let all = self.netlink(|netlink| links::list(netlink, None).unwrap());
        all.iter()
            .filter_map(links::name)
            .filter(|name| *name != "lo")
            .map(ToOwned::to_owned)
            .collect()
    }

    pub fn up(&self, name: &str) {
        self.netlink(|netlink| bridge::bring_up(netlink, links::named(name), name, None).unwrap());
    }

    pub fn address(&self, name: &str, ip: IpAddr, prefix: u8) {
        super::add(self, name, Address { ip, prefix });
    }

    /// To a subnet, or everywhere, by this router.
    pub fn route(&self, to: Option<(IpAddr, u8)>, router: IpAddr) {
        let everywhere = match router {
            IpAddr::V4(_) => (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
            IpAddr::V6(_) => (IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0),
        };
        let (subnet, prefix) = to.unwrap_or(everywhere);
        let route = RouteMessageBuilder::<IpAddr>::new()
            .destination_prefix(subnet, prefix)
            .unwrap()
            .gateway(router)
            .unwrap();
        self.netlink(|netlink| {
            netlink
                .add(RouteNetlinkMessage::NewRoute(route.build()), How::Replace)
                .unwrap();
        });
    }

    /// Has a neighbour known without asking for it.
    pub fn neighbour(&self, name: &str, ip: IpAddr, mac: [u8; 6]) {
        let mut message = NeighbourMessage::default();
        message.header.state = NeighbourState::Permanent;
        let address = match ip {
            IpAddr::V4(ip) => {
                message.header.family = AddressFamily::Inet;
                NeighbourAddress::Inet(ip)
            }
            IpAddr::V6(ip) => {
                message.header.family = AddressFamily::Inet6;
                NeighbourAddress::Inet6(ip)
            }
        };
        message
            .attributes
            .push(NeighbourAttribute::Destination(address));
        message
            .attributes
            .push(NeighbourAttribute::LinkLayerAddress(mac.to_vec()));
        self.netlink(|netlink| {
            message.header.ifindex = links::find(netlink, name).unwrap().header.index;
            netlink
                .add(RouteNetlinkMessage::NewNeighbour(message), How::Replace)
                .unwrap();
        });
    }

    /// Whether packets to this IPv6 address are for the namespace itself.
    pub fn is_local(&self, ip: &str) -> bool {
        let ip = ip.parse().unwrap();
        self.netlink(|netlink| crate::local::is_local(netlink, ip).unwrap())
    }

    /// The default routes, as router or nothing and metric.
    pub fn ways_out(&self) -> Vec<Option<IpAddr>> {
        use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteType};
        let list = |v6: bool| {
            let mut all = if v6 {
                RouteMessageBuilder::<Ipv6Addr>::new().build()
            } else {
                RouteMessageBuilder::<Ipv4Addr>::new().build()
            };
            all.attributes.clear();
            self.netlink(|netlink| netlink.list(&RouteNetlinkMessage::GetRoute(all)).unwrap())
        };
        let routes = [list(false), list(true)].concat();
        let mut found = Vec::new();
        for route in routes {
            let RouteNetlinkMessage::NewRoute(route) = route else {
                continue;
            };
            if route.header.destination_prefix_length == 0
                && route.header.table == 254
                && route.header.kind == RouteType::Unicast
            {
                found.push(
                    route
                        .attributes
                        .iter()
                        .find_map(|attribute| match attribute {
                            RouteAttribute::Gateway(RouteAddress::Inet(ip)) => {
                                Some(IpAddr::V4(*ip))
                            }
                            RouteAttribute::Gateway(RouteAddress::Inet6(ip)) => {
                                Some(IpAddr::V6(*ip))
                            }
                            _ => None,
                        }),
                );
            }
        }
        found
    }
}
