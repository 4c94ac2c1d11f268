//! What a container reaches of what is around it: every port of everything near, from every kind of network.
//!
//! Near are the machine on all its addresses, the router with the host behind it, addresses of links and of a
//! cloud's metadata, each as IPv4, IPv6 and IPv4 in IPv6. What answers is exactly what is documented: published
//! ports on the machine's addresses (out of an internal network none), names on the router's, and on the host's what
//! listens on its loopback.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::{TcpListener, UdpSocket};

use lighter_tests::{Host, env, probe as program};

use crate::probe;

/// The port on which the published container serves, inside.
const INSIDE: u16 = 7;
/// Ports on which something of the machine's, of an engine's or of a cloud's would listen, had it a network.
const KNOWN: &str =
    "1024-1030,2375-2380,3128,4243,5000,5353-5355,6443,8080,10250,24224,50051,65535";

/// Addresses of links, of a cloud's metadata and of everybody, as what they are and written as IPv6: no packet may
/// reach them whatever the network is.
const CLOSE: &str = "169.254.169.254 169.254.1.1 169.254.170.2 168.63.129.16 100.100.100.200 192.0.0.192 \
    224.0.0.251 255.255.255.255 fd00:ec2::254 fd20:ce::254 fe80::a9fe:a9fe ff02::fb ::ffff:169.254.169.254 \
    ::ffff:169.254.1.1 ::ffff:168.63.129.16 ::ffff:100.100.100.200 64:ff9b::a9fe:a9fe 64:ff9b::7f00:1 \
    2002:7f00:1:: 2002:a9fe:a9fe::";

/// Networks, a container that is published, and the ports by which it is.
struct Surroundings<'a> {
    host: &'a Host,
    /// Of the host and of the machine, for TCP and for UDP.
    published: [u16; 2],
    /// The address of IPv4 and of IPv6, and that of the link, of the gateway of a network of one's own.
    own: [String; 3],
    /// The gateway of an internal one.
    internal: String,
}

const SERVER: &str = "sweep-server";
const OWN: &str = "sweep-own";
const INTERNAL: &str = "sweep-internal";

impl<'a> Surroundings<'a> {
    fn new(host: &'a Host) -> Self {
        host.docker(&["network", "create", "--ipv6", OWN]).ok();
        host.docker(&["network", "create", "--internal", INTERNAL])
            .ok();
        let ports = [format!("{INSIDE}"), format!("{INSIDE}/udp")];
        let run = [
            "run", "-d", "--name", SERVER, "-p", &ports[0], "-p", &ports[1],
        ];
        host.docker(&[&run[..], &["busybox", "sleep", "1000000"]].concat())
            .ok();
        // It serves when it has said so.
        let script = format!(
            "cat >/probe && chmod +x /probe && (/probe serve {INSIDE} >/said 2>&1 </dev/null &) && \
             until [ -s /said ]; do :; done; cat /said"
        );
        let exec = ["exec", "-i", SERVER, "sh", "-c", &script];
        let said = host.docker_with(&exec, program::binary());
        assert_eq!(said.ok().out(), "serves\n");
        let published = ports.map(|port| {
            let said = host.docker(&["port", SERVER, &port]).ok().out();
            let first = said.lines().next().and_then(|line| line.rsplit(':').next());
            first
                .and_then(|port| port.parse().ok())
                .unwrap_or_else(|| panic!("{said}"))
        });
        let [v4, v6] = gateways(host, OWN).try_into().expect("one of each family");
        let own = [v4, v6, of_link(host)];
        let [internal] = gateways(host, INTERNAL).try_into().expect("one");
        Self {
            host,
            published,
            own,
            internal,
        }
    }

    /// The addresses of machine and router from a network, and which ports of them answer.
    fn near(&self, network: &Network) -> Vec<Target> {
        let [own_v4, own_v6, of_link] = &self.own;
        let [v4, v6] = network.routed;
        let is_machine = matches!(network.loopback, Loopback::Machines);
        let loopback = match network.loopback {
            Loopback::Empty => Answers::NONE,
            Loopback::Serves => Answers([Some(INSIDE); 2]),
            Loopback::Machines => self.published(true),
        };
        let mut targets = vec![
            Target::new("127.0.0.1", loopback),
            Target::new("::ffff:127.0.0.1", loopback),
            // The server serves on IPv4 alone; a port of the machine's is on both.
            Target::new("::1", self.published(is_machine)),
        ];
        let machine = ["172.17.0.1", "198.19.79.2", own_v4].map(|at| (at, v4));
        // Out of an internal network nothing is, at its own gateway neither.
        for (at, reached) in machine.into_iter().chain([(&*self.internal, v4)]) {
            targets.push(Target::new(at, self.published(reached)));
            targets.push(Target::new(
                &format!("::ffff:{at}"),
                self.published(reached),
            ));
        }
        for at in ["fd6c:6967:6874::2", own_v6] {
            targets.push(Target::new(at, self.published(v6)));
        }
        if network.flags.contains(&OWN) {
            let at = format!("{of_link}%eth0");
            targets.push(Target::new(&at, self.published(true)));
        }
        for (at, reached) in [
            ("198.19.79.1", v4),
            ("::ffff:198.19.79.1", v4),
            ("fd6c:6967:6874::1", v6),
        ] {
            let names = Answers([reached.then_some(53); 2]);
            targets.push(Target::new(at, names));
        }
        targets
    }

    fn published(&self, reached: bool) -> Answers {
        Answers(self.published.map(|port| reached.then_some(port)))
    }

    /// Sweeps over targets from a network; what is not as it is documented.
    fn wrong(&self, network: &Network, targets: &[Target], ports: &str) -> String {
        let addresses: Vec<&str> = targets.iter().map(|target| &*target.address).collect();
        let args = ["sweep", ports, &addresses.join(",")];
        let said = probe(self.host, &network.flags, &args).out();
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines.len(), 2 * targets.len(), "{said}");
        let mut wrong = String::new();
        for (at, line) in lines.iter().enumerate() {
            let (udp, target) = (at / targets.len(), &targets[at % targets.len()]);
            let documented = BTreeSet::from_iter(target.answers.0[udp]);
            let answered = answering(line);
            // Whether the host's server of names takes connections is its own business.
            let may_be_silent = udp == 0 && documented.contains(&53);
            if !answered.is_subset(&documented) || answered != documented && !may_be_silent {
                let _ = writeln!(wrong, "{:?}: {line}, not {documented:?}", network.flags);
            }
        }
        wrong
    }

    fn ports(&self, last: u16) -> String {
        let [tcp, udp] = self.published;
        format!("1-{last},{KNOWN},{tcp},{udp}")
    }
}

impl Drop for Surroundings<'_> {
    fn drop(&mut self) {
        // Whatever of it there is.
        let _ = self.host.docker(&["rm", "-f", SERVER]);
        let _ = self.host.docker(&["network", "rm", OWN, INTERNAL]);
    }
}

/// The ports that answer, of TCP and of UDP.
#[derive(Clone, Copy)]
struct Answers([Option<u16>; 2]);

impl Answers {
    const NONE: Self = Self([None, None]);
}

/// One address and what answers on it.
struct Target {
    address: String,
    answers: Answers,
}

impl Target {
    fn new(address: &str, answers: Answers) -> Self {
        Self {
            address: address.to_owned(),
            answers,
        }
    }
}

/// What a container finds on its own loopback.
enum Loopback {
    Empty,
    /// The server, whose namespace it is.
    Serves,
    /// The machine's.
    Machines,
}

struct Network {
    flags: [&'static str; 2],
    loopback: Loopback,
    /// Whether IPv4 and IPv6 have a way out.
    routed: [bool; 2],
}

const NETWORKS: [Network; 6] = [
    Network {
        flags: ["--network", "bridge"],
        loopback: Loopback::Empty,
        routed: [true, false],
    },
    Network {
        flags: ["--network", OWN],
        loopback: Loopback::Empty,
        routed: [true, true],
    },
    Network {
        flags: ["--network", INTERNAL],
        loopback: Loopback::Empty,
        routed: [false, false],
    },
    Network {
        flags: ["--network", "host"],
        loopback: Loopback::Machines,
        routed: [true, true],
    },
    Network {
        flags: ["--network", "none"],
        loopback: Loopback::Empty,
        routed: [false, false],
    },
    Network {
        flags: ["--network", "container:sweep-server"],
        loopback: Loopback::Serves,
        routed: [true, false],
    },
];

/// The gateways of a network.
fn gateways(host: &Host, network: &str) -> Vec<String> {
    let format = "{{range .IPAM.Config}}{{.Gateway}} {{end}}";
    let said = host
        .docker(&["network", "inspect", "-f", format, network])
        .ok()
        .out();
    said.split_whitespace().map(str::to_owned).collect()
}

/// The address of the link that the bridge of the network of one's own has.
fn of_link(host: &Host) -> String {
    let id = host
        .docker(&["network", "inspect", "-f", "{{.Id}}", OWN])
        .ok()
        .out();
    let script = format!("cat /sys/class/net/br-{}/address", &id[..12]);
    let said = host
        .docker(&[
            "run",
            "--rm",
            "--network",
            "host",
            "busybox",
            "sh",
            "-c",
            &script,
        ])
        .ok()
        .out();
    let bytes: Vec<u8> = said
        .trim()
        .split(':')
        .map(|b| u8::from_str_radix(b, 16).expect("a byte"))
        .collect();
    let [a, b, c, d, e, f] = bytes[..] else {
        panic!("{said}")
    };
    // RFC 4291, appendix A.
    format!(
        "fe80::{:x}:{:x}:{:x}:{:x}",
        u16::from_be_bytes([a ^ 2, b]),
        u16::from_be_bytes([c, 0xff]),
        u16::from_be_bytes([0xfe, d]),
        u16::from_be_bytes([e, f])
    )
}

/// The ports that answered, by line of the probe's.
fn answering(line: &str) -> BTreeSet<u16> {
    let all = line
        .split_once('{')
        .and_then(|(_, rest)| rest.strip_suffix('}'));
    let all = all.unwrap_or_else(|| panic!("{line}"));
    all.split(", ")
        .filter(|port| !port.is_empty())
        .map(|port| port.parse().expect("a port"))
        .collect()
}

#[test]
fn every_port_of_everything_near_answers_only_where_it_is_documented() {
    let name = "every_port_of_everything_near_answers_only_where_it_is_documented";
    let Some(host) = Host::shared(name) else {
        return;
    };
    let around = Surroundings::new(host);
    let all = around.ports(env::count(64, u16::MAX));
    // Those that are close are judged by their address alone.
    let some = around.ports(env::count(64, 1024));
    let close = || CLOSE.split(' ').map(|at| Target::new(at, Answers::NONE));
    let mut wrong = String::new();
    for network in NETWORKS {
        let near = around.near(&network);
        let targets: Vec<Target> = close().chain(near).collect();
        // A client command has a bound on its time.
        for targets in targets.chunks(env::count(targets.len(), 1)) {
            let is_close = |target: &Target| close().any(|one| one.address == target.address);
            let ports = if targets.iter().all(is_close) {
                &some
            } else {
                &all
            };
            wrong += &around.wrong(&network, targets, ports);
        }
    }
    // What the machine's kernel says is all that a sweep of it could find: nothing of the engine's or the agent's.
    let said = probe(host, &["--network", "host"], &["listening"]).out();
    for line in said.lines() {
        let port = line.rsplit(' ').next().and_then(|port| port.parse().ok());
        if !port.is_some_and(|port| around.published.contains(&port)) {
            let _ = writeln!(wrong, "it listens: {line}");
        }
    }
    assert!(!said.is_empty(), "the published ports are not listened on");
    assert!(wrong.is_empty(), "{wrong}");
}

/// On the host's own address is what listens on its loopback, and nothing of what is elsewhere on it.
#[test]
fn on_the_hosts_address_is_what_listens_on_its_loopback() {
    let Some(host) = Host::shared("on_the_hosts_address_is_what_listens_on_its_loopback") else {
        return;
    };
    let inside = TcpListener::bind("127.0.0.1:0").expect("a port");
    let outside = TcpListener::bind("127.0.0.2:0").expect("a port");
    let [inside, outside] = [&inside, &outside].map(|one| one.local_addr().expect("bound").port());
    let datagrams = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let echo = datagrams.local_addr().expect("bound").port();
    std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = datagrams.recv_from(&mut buffer) {
            let _ = datagrams.send_to(&buffer[..length], from);
        }
    });
    let swept = format!("1-64,{KNOWN},{inside},{outside},{echo}");
    for network in ["bridge", "host", "none"] {
        let before = here();
        let args = ["sweep", &swept, "198.19.79.254,fd6c:6967:6874::fe"];
        let said = probe(host, &["--network", network], &args).out();
        let lines: Vec<BTreeSet<u16>> = said.lines().map(answering).collect();
        let [tcp, tcp6, udp, udp6] = &lines[..] else {
            panic!("{said}")
        };
        let there = before.union(&here()).copied().collect();
        for open in &lines {
            assert!(open.is_subset(&there), "{network}: {said}");
            assert!(!open.contains(&outside), "{network}: {said}");
        }
        assert_eq!(
            tcp.contains(&inside),
            network != "none",
            "{network}: {said}"
        );
        assert_eq!(udp.contains(&echo), network != "none", "{network}: {said}");
        assert!(
            !tcp6.contains(&inside) && !udp6.contains(&echo),
            "{network}: {said}"
        );
    }
}

/// The ports of all sockets of this host that take connections or datagrams of anyone.
fn here() -> BTreeSet<u16> {
    let mut ports = BTreeSet::new();
    for (table, state) in [("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")] {
        let text = std::fs::read_to_string(format!("/proc/net/{table}")).expect("a table");
        for line in text.lines().skip(1) {
            let words: Vec<&str> = line.split_whitespace().collect();
            if words[3] == state {
                let (_, port) = words[1].split_once(':').expect("an address and a port");
                ports.insert(u16::from_str_radix(port, 16).expect("a port"));
            }
        }
    }
    ports
}
