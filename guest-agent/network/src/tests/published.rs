//! Who reaches published ports at the gateways.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV6, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::sync::watch;

use super::*;
use crate::ports::{Listening, Ports, Route, Share, Transport, Way};

const WEB: [&str; 2] = ["172.30.1.1/24", "fd00:1::1/64"];
const ORDINARY: [&str; 2] = ["172.30.2.1/24", "fd00:2::1/64"];
const INTERNAL: [&str; 2] = ["172.30.3.1/24", "fd00:3::1/64"];
const PORT: u16 = 8080;

/// The way to whoever listens on this port of the published container.
struct To(u16, watch::Sender<bool>, Arc<Share>);

impl Way for To {
    fn route(&self, _client: Option<SocketAddr>, _v6: bool) -> Option<Route> {
        Some(Route {
            to: SocketAddr::new(ip("172.30.1.2"), self.0),
            client: None,
        })
    }

    fn ended(&self) -> watch::Receiver<bool> {
        self.1.subscribe()
    }

    fn share(&self) -> Arc<Share> {
        Arc::clone(&self.2)
    }
}

/// A container that is published, and two that may ask.
struct Scene {
    runtime: tokio::runtime::Runtime,
    lab: Lab,
    _web: Place,
    streams: TcpListener,
    datagrams: UdpSocket,
    ordinary: Place,
    listening: Vec<Listening>,
}

impl Scene {
    fn new(lab: Lab) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (web, ordinary) = (network("br-w", &WEB), network("br-o", &ORDINARY));
        lab.set(&web);
        lab.set(&ordinary);
        let ordinary = lab.container(&ordinary, "vo", &["172.30.2.2/24", "fd00:2::2/64"]);
        let web = lab.container(&web, "vw", &["172.30.1.2/24", "fd00:1::2/64"]);
        let any = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
        let (streams, datagrams) = web.within(|| {
            (
                TcpListener::bind(any).unwrap(),
                UdpSocket::bind(any).unwrap(),
            )
        });
        datagrams.set_read_timeout(Some(PATIENCE)).unwrap();
        Self {
            runtime,
            lab,
            _web: web,
            streams,
            datagrams,
            ordinary,
            listening: Vec::new(),
        }
    }

    /// Publishes both ports, as an engine does that has just begun.
    fn publish(&mut self) {
        let ports = Ports::start(self.lab.home.descriptor(), self.lab.wiring.clone()).unwrap();
        let inside = [
            (Transport::Tcp, self.streams.local_addr().unwrap().port()),
            (Transport::Udp, self.datagrams.local_addr().unwrap().port()),
        ];
        self.listening.clear();
        let listened = self.runtime.block_on(async {
            ports.lead_back().await.unwrap();
            let all = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
            let mut listened = Vec::new();
            for (transport, port) in inside {
                let way: Arc<dyn Way> =
                    Arc::new(To(port, watch::Sender::new(false), Arc::default()));
                listened.push(ports.listen(transport, &all, PORT, &way).await.unwrap());
            }
            listened
        });
        self.listening = listened;
    }

    fn internal(&self, name: &str, port: &str) -> (Bridge, Place) {
        let bridge = Bridge {
            internal: true,
            ..network(name, &INTERNAL)
        };
        self.lab.set(&bridge);
        let own = ["172.30.3.2/24", "fd00:3::2/64"];
        // With a way out that the engine would not give it.
        let place = self.lab.container(&bridge, port, &own);
        (bridge, place)
    }

    /// A connection and a datagram of somebody who is answered.
    fn is_answered(&self, from: &Place, at: SocketAddr) {
        let mut client = from.within(|| TcpStream::connect_timeout(&at, PATIENCE).unwrap());
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        let (mut served, _) = self.streams.accept().unwrap();
        served.write_all(b"x").unwrap();
        client.read_exact(&mut [0]).unwrap();
        assert_eq!(self.said(from, at, b"sure"), b"sure", "{at}");
    }

    /// Says something and returns what the published container hears first.
    fn said(&self, from: &Place, at: SocketAddr, what: &[u8]) -> Vec<u8> {
        let any = match at {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let client = from.socket(SocketAddr::new(any, 0));
        client.send_to(what, at).unwrap();
        let mut buffer = [0; 16];
        let (count, _) = self.datagrams.recv_from(&mut buffer).unwrap();
        buffer[..count].to_vec()
    }

    /// That nothing of what one place says to these is heard, while what another one says is.
    fn is_silent(&self, from: &Place, at: &[SocketAddr]) {
        for at in at {
            let begun = from.within(|| {
                let family = Domain::for_address(*at);
                let socket = Socket::new(family, Type::STREAM, None).unwrap();
                socket.set_nonblocking(true).unwrap();
                let begun = socket.connect(&SockAddr::from(*at));
                assert_eq!(begun.unwrap_err().raw_os_error(), Some(115), "{at}");
                let any = IpAddr::from(Ipv6Addr::UNSPECIFIED);
                let any = if at.is_ipv4() { ip("0.0.0.0") } else { any };
                let lost = UdpSocket::bind(SocketAddr::new(any, 0)).unwrap();
                lost.send_to(b"lost", at).unwrap();
                socket
            });
            let sure = SocketAddr::new(ip("172.30.2.1"), PORT);
            assert_eq!(self.said(&self.ordinary, sure, b"sure"), b"sure", "{at}");
            // It would have been answered long ago.
            let unheard = begun.peer_addr().unwrap_err();
            assert_eq!(unheard.kind(), ErrorKind::NotConnected, "{at}");
        }
    }
}

/// Every address by which a container of the internal network may try.
fn tried(lab: &Lab, place: &Place, bridge: &str) -> Vec<SocketAddr> {
    let mut all: Vec<SocketAddr> = [
        "172.30.3.1",
        "::ffff:172.30.3.1",
        "fd00:3::1",
        "172.30.1.1",
        "172.30.2.1",
        "fd00:1::1",
        "198.19.79.2",
    ]
    .map(|text| SocketAddr::new(ip(text), PORT))
    .into();
    let [a, b, c, d, e, f] = mac_of(&lab.home, bridge).unwrap();
    // RFC 4291, appendix A.
    let words = [[a ^ 2, b], [c, 0xff], [0xfe, d], [e, f]].map(u16::from_be_bytes);
    let [w, x, y, z] = words;
    let link = Ipv6Addr::new(0xfe80, 0, 0, 0, w, x, y, z);
    let scope = place.link("eth0").unwrap().header.index;
    all.push(SocketAddrV6::new(link, PORT, 0, scope).into());
    all
}

#[test]
fn an_internal_network_is_not_answered_by_published_ports() {
    let Some(lab) = lab() else { return };
    let mut scene = Scene::new(lab);
    let (_, early) = scene.internal("br-i", "vi");
    scene.publish();
    for at in ["172.30.2.1", "::ffff:172.30.2.1", "fd00:2::1", "172.30.1.1"] {
        scene.is_answered(&scene.ordinary, SocketAddr::new(ip(at), PORT));
    }
    scene.is_silent(&early, &tried(&scene.lab, &early, "br-i"));
    // What else listens on the gateway is reached as ever.
    let own = "172.30.3.2";
    assert_eq!(
        asks(&early, own, &scene.lab.home, "172.30.3.1").unwrap(),
        ip(own)
    );
}

#[test]
fn networks_made_later_and_an_engine_started_anew_are_no_way_to_published_ports() {
    let Some(lab) = lab() else { return };
    let mut scene = Scene::new(lab);
    scene.publish();
    let (bridge, late) = scene.internal("br-i", "vi");
    let at = [SocketAddr::new(ip("172.30.3.1"), PORT)];
    scene.is_silent(&late, &at);
    // An engine that begins anew, with ports published before and after it wires what there is.
    scene.lab.restart();
    for one in [network("br-w", &WEB), network("br-o", &ORDINARY), bridge] {
        scene.lab.set(&one);
    }
    scene.publish();
    scene.is_silent(&late, &at);
    // A network that is internal no more is answered, whether it was changed or made anew.
    scene.lab.set(&network("br-i", &INTERNAL));
    scene.is_answered(&late, at[0]);
    scene.internal("br-j", "vj");
    let removed = scene.lab.wiring.remove_bridge("br-j");
    scene.lab.wait(removed).unwrap();
    let removed = scene.lab.wiring.remove_bridge("br-i");
    scene.lab.wait(removed).unwrap();
    let again = network("br-j", &INTERNAL);
    scene.lab.set(&again);
    let place = scene
        .lab
        .container(&again, "vk", &["172.30.3.3/24", "fd00:3::3/64"]);
    scene.is_answered(&place, at[0]);
}

#[test]
fn an_internal_network_that_cannot_be_wired_anew_is_no_way_to_published_ports() {
    // Ports published before it is tried or not, and what is done behind it: that, or it is tried again.
    for (published, again) in [(false, false), (true, false), (true, true)] {
        let Some(lab) = lab() else { return };
        let mut scene = Scene::new(lab);
        scene.publish();
        let (bridge, place) = scene.internal("br-i", "vi");
        scene.lab.restart();
        if published {
            scene.publish();
        }
        // Its rules are to be others, which is asked of the kernel before the bridge is.
        let mut other = bridge.clone();
        other.gateways.push(address("172.30.4.1/24"));
        scene.lab.refuse(true);
        let wired = scene.lab.wait(scene.lab.wiring.set_bridge(&other));
        scene.lab.refuse(false);
        assert_eq!(wired.unwrap_err().errno(), Some(rustix::io::Errno::PERM));
        if again {
            scene.lab.set(&bridge);
        } else {
            scene.publish();
        }
        scene.is_silent(&place, &[SocketAddr::new(ip("172.30.3.1"), PORT)]);
    }
}
