//! Published ports: who reaches them, whom a container sees, and how long they last.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{
    IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, SocketAddrV6, TcpListener, TcpStream,
    UdpSocket,
};
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::Duration;

use lighter_protocol::{Accepted, Message, Transport};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::{Value, json};
use tempfile::tempdir;

use crate::api::{call, container, create, get, post, remove_by_force, run, started, state};
use crate::machine::Machine;

const SLEEP: &str = "exec /bin/busybox sleep 100000";
const PATIENCE: Duration = Duration::from_secs(60);

/// The machine's address on the neighbour's network, and the neighbour's.
const MACHINE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const NEIGHBOUR: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 9));
const MACHINE_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
const NEIGHBOUR_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9));

/// A container that publishes these: `("80/tcp", "8080")`.
fn publishing(network: &str, ports: &[(&str, &str)]) -> Value {
    let mut body = container(SLEEP);
    body["HostConfig"]["NetworkMode"] = network.into();
    for (port, host_port) in ports {
        body["ExposedPorts"][*port] = json!({});
        body["HostConfig"]["PortBindings"][*port] = json!([{ "HostPort": host_port }]);
    }
    body
}

/// The network namespace of a container that runs.
fn place_of(machine: &Machine, name: &str) -> PathBuf {
    let inspected = get(machine, &format!("/containers/{name}/json")).is(200);
    let pid = inspected.json()["State"]["Pid"].to_string();
    machine.proc().join(pid).join("ns/net")
}

/// Does something in a network namespace.
fn within<T: Send + 'static>(place: &PathBuf, work: impl FnOnce() -> T + Send + 'static) -> T {
    let place = std::fs::File::open(place).unwrap();
    let there = std::thread::spawn(move || {
        move_into_link_name_space(place.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        work()
    });
    there.join().unwrap()
}

/// Another computer beside the machine.
struct Neighbour(Child);

impl Neighbour {
    fn beside(host: &PathBuf) -> Self {
        let child = Command::new("unshare")
            .args(["--net", "sleep", "100000"])
            .spawn()
            .unwrap();
        let neighbour = Self(child);
        // Until it is in a network of its own.
        let own = std::fs::read_link("/proc/self/ns/net").unwrap();
        while std::fs::read_link(neighbour.place()).is_ok_and(|place| place == own) {
            std::thread::yield_now();
        }
        let script = "ip link set lo up; \
            nsenter --net=$1 ip link add n0 type veth peer name n1 netns $2 && \
            nsenter --net=$1 sh -c 'ip address add 192.0.2.1/24 dev n0; \
              ip address add 2001:db8::1/64 dev n0 nodad; ip link set n0 up' && \
            nsenter --net=/proc/$2/ns/net sh -c 'ip address add 192.0.2.9/24 dev n1; \
              ip address add 2001:db8::9/64 dev n1 nodad; ip link set n1 up; ip link set lo up'";
        let done = Command::new("sh")
            .args(["-c", script, "sh"])
            .arg(host)
            .arg(neighbour.0.id().to_string())
            .status();
        assert!(done.unwrap().success());
        neighbour
    }

    fn place(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.0.id()).into()
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A machine with the image, and a container that is in the host's network.
fn with_host(dir: &std::path::Path) -> (Machine, PathBuf) {
    let machine = started(dir);
    let mut host = container(SLEEP);
    host["HostConfig"]["NetworkMode"] = "host".into();
    run(&machine, "host", &host);
    let place = place_of(&machine, "host");
    (machine, place)
}

fn listener(machine: &Machine, name: &str, address: impl Into<SocketAddr>) -> TcpListener {
    let address = address.into();
    within(&place_of(machine, name), move || {
        TcpListener::bind(address).unwrap()
    })
}

fn connect(from: &PathBuf, to: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = within(from, move || TcpStream::connect(to))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn datagrams(place: &PathBuf, address: impl Into<SocketAddr>) -> UdpSocket {
    let address = address.into();
    let socket = within(place, move || UdpSocket::bind(address).unwrap());
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// Whom a server sees when this one comes; bytes go both ways and each way ends by itself.
fn seen(server: &TcpListener, from: &PathBuf, to: SocketAddr) -> SocketAddr {
    let mut client = connect(from, to).unwrap();
    let (mut served, who) = server.accept().unwrap();
    client.write_all(b"question").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut asked = Vec::new();
    served.read_to_end(&mut asked).unwrap();
    assert_eq!(asked, b"question");
    served.write_all(b"answer").unwrap();
    drop(served);
    let mut answered = Vec::new();
    client.read_to_end(&mut answered).unwrap();
    assert_eq!(answered, b"answer");
    who
}

fn network(machine: &Machine, name: &str, more: &Value) {
    let mut body = json!({ "Name": name });
    for (key, value) in more.as_object().into_iter().flatten() {
        body[key] = value.clone();
    }
    call(machine, "POST", "/networks/create", &body).is(201);
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// The ports of a container as inspect shows them.
fn ports(machine: &Machine, name: &str) -> Value {
    let container = get(machine, &format!("/containers/{name}/json")).is(200);
    container.json()["NetworkSettings"]["Ports"].take()
}

#[test]
fn a_container_sees_who_comes_to_a_published_port() {
    let dir = tempdir().unwrap();
    let (machine, host) = with_host(dir.path());
    let neighbour = Neighbour::beside(&host);
    run(
        &machine,
        "web",
        &publishing("bridge", &[("80/tcp", "8080")]),
    );
    let server = listener(&machine, "web", (Ipv4Addr::UNSPECIFIED, 80));
    let from = |place: &PathBuf, to: IpAddr| seen(&server, place, (to, 8080).into()).ip();
    assert_eq!(from(&neighbour.place(), MACHINE), NEIGHBOUR);
    // It has no IPv6, and whoever is the machine itself is the gateway to it.
    assert_eq!(from(&neighbour.place(), MACHINE_V6), ip("172.17.0.1"));
    assert_eq!(from(&host, ip("127.0.0.1")), ip("172.17.0.1"));
    assert_eq!(from(&host, ip("::1")), ip("172.17.0.1"));
    assert_eq!(from(&host, MACHINE), ip("172.17.0.1"));
    let expected = json!({"80/tcp": [
        {"HostIp": "0.0.0.0", "HostPort": "8080"}, {"HostIp": "::", "HostPort": "8080"}]});
    assert_eq!(ports(&machine, "web"), expected);
    // Containers reach it at the gateways of their own networks, also of those that do not reach the container.
    network(
        &machine,
        "other",
        &json!({"IPAM": {"Config": [{"Subnet": "10.7.0.0/24"}]}}),
    );
    let mut body = container(SLEEP);
    body["HostConfig"]["NetworkMode"] = "other".into();
    run(&machine, "asks", &body);
    let asks = place_of(&machine, "asks");
    assert_eq!(from(&asks, ip("10.7.0.1")), ip("172.17.0.1"));
    assert!(connect(&asks, (ip("10.7.0.1"), 8081).into()).is_err());
}

#[test]
fn a_network_says_where_ports_are_whose_address_nobody_chose() {
    let dir = tempdir().unwrap();
    let (machine, host) = with_host(dir.path());
    let neighbour = Neighbour::beside(&host);
    let options = json!({"com.docker.network.bridge.host_binding_ipv4": "127.0.0.1"});
    network(&machine, "near", &json!({ "Options": options }));
    let mut body = publishing("near", &[("80/tcp", "8080")]);
    body["ExposedPorts"]["81/tcp"] = json!({});
    body["HostConfig"]["PortBindings"]["81/tcp"] =
        json!([{"HostIp": "0.0.0.0", "HostPort": "8081"}]);
    run(&machine, "web", &body);
    let expected = json!({
        "80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}],
        "81/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8081"}]});
    assert_eq!(ports(&machine, "web"), expected);
    let _server = listener(&machine, "web", (Ipv4Addr::UNSPECIFIED, 80));
    let _other = listener(&machine, "web", (Ipv4Addr::UNSPECIFIED, 81));
    assert!(connect(&host, (ip("127.0.0.1"), 8080).into()).is_ok());
    assert!(connect(&neighbour.place(), (MACHINE, 8081).into()).is_ok());
    assert!(connect(&neighbour.place(), (MACHINE, 8080).into()).is_err());
}

#[test]
fn of_several_networks_that_of_ipv4_says_where_ports_are() {
    let dir = tempdir().unwrap();
    let (machine, _host) = with_host(dir.path());
    let bound = |ip: &str| json!({"com.docker.network.bridge.host_binding_ipv4": ip});
    let near = json!({ "Options": bound("127.0.0.1") });
    network(&machine, "near", &near);
    // By its name it is the first way out.
    let six = json!({
        "EnableIPv4": false, "EnableIPv6": true, "Options": bound("127.0.0.9"),
        "IPAM": {"Config": [{"Subnet": "fd00:9::/64"}]}});
    network(&machine, "a6", &six);
    let mut body = publishing("near", &[("80/tcp", "8080")]);
    body["NetworkingConfig"] = json!({"EndpointsConfig": {"near": {}, "a6": {}}});
    run(&machine, "web", &body);
    let expected = json!({"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}]});
    assert_eq!(ports(&machine, "web"), expected);
    run(&machine, "six", &publishing("a6", &[("80/tcp", "8081")]));
    let expected = json!({"80/tcp": [{"HostIp": "127.0.0.9", "HostPort": "8081"}]});
    assert_eq!(ports(&machine, "six"), expected);
}

#[test]
fn a_port_that_is_listened_on_in_the_hosts_network_is_refused_with_whose_it_is() {
    let dir = tempdir().unwrap();
    let (machine, host) = with_host(dir.path());
    let mut body = container("exec /bin/busybox httpd -f -p 8080");
    body["HostConfig"]["NetworkMode"] = "host".into();
    run(&machine, "listens", &body);
    while connect(&host, (ip("127.0.0.1"), 8080).into()).is_err() {
        assert_eq!(state(&machine, "listens")["Running"], true);
    }
    create(
        &machine,
        "web",
        &publishing("bridge", &[("80/tcp", "8080")]),
    );
    let refused = post(&machine, "/containers/web/start").is(500).json();
    let refused = refused["message"].as_str().unwrap();
    let on = "failed to bind host port for 0.0.0.0:8080:";
    let whose = "address already in use by the container `listens`";
    assert!(
        refused.contains(on) && refused.ends_with(whose),
        "{refused}"
    );
}

#[test]
fn a_container_with_ipv6_sees_clients_of_both_families() {
    let dir = tempdir().unwrap();
    let (machine, host) = with_host(dir.path());
    let neighbour = Neighbour::beside(&host);
    let subnets = json!([{"Subnet": "10.8.0.0/24"}, {"Subnet": "fd00:8::/64"}]);
    let both = json!({"EnableIPv6": true, "IPAM": {"Config": subnets}});
    network(&machine, "both", &both);
    run(
        &machine,
        "web",
        &publishing("both", &[("80/tcp", "8080"), ("53/udp", "5353")]),
    );
    let server = listener(&machine, "web", (Ipv6Addr::UNSPECIFIED, 80));
    let from = |place: &PathBuf, to: IpAddr| {
        let seen = seen(&server, place, (to, 8080).into()).ip();
        seen.to_canonical()
    };
    assert_eq!(from(&neighbour.place(), MACHINE_V6), NEIGHBOUR_V6);
    assert_eq!(from(&neighbour.place(), MACHINE), NEIGHBOUR);
    assert_eq!(from(&host, ip("::1")), ip("fd00:8::1"));
    let server = datagrams(&place_of(&machine, "web"), (Ipv6Addr::UNSPECIFIED, 53));
    let client = datagrams(&neighbour.place(), (NEIGHBOUR_V6, 4000));
    assert_eq!(
        exchange(&client, (MACHINE_V6, 5353).into(), &server).ip(),
        NEIGHBOUR_V6
    );
}

/// A datagram each way; whom the server sees.
fn exchange(client: &UdpSocket, to: SocketAddr, server: &UdpSocket) -> SocketAddr {
    let mut buffer = [0; 64];
    client.send_to(b"question", to).unwrap();
    let (count, who) = server.recv_from(&mut buffer).unwrap();
    assert_eq!(&buffer[..count], b"question");
    server.send_to(b"answer", who).unwrap();
    let (count, from) = client.recv_from(&mut buffer).unwrap();
    assert_eq!((&buffer[..count], from), (&b"answer"[..], to));
    who
}

#[test]
fn datagrams_are_the_clients_own_and_others_are_not_in_the_way() {
    let dir = tempdir().unwrap();
    let (machine, host) = with_host(dir.path());
    let neighbour = Neighbour::beside(&host);
    run(
        &machine,
        "names",
        &publishing("bridge", &[("53/udp", "5353")]),
    );
    let server = datagrams(&place_of(&machine, "names"), (Ipv4Addr::UNSPECIFIED, 53));
    let to = SocketAddr::new(MACHINE, 5353);
    let first = datagrams(&neighbour.place(), (NEIGHBOUR, 4000));
    let second = datagrams(&neighbour.place(), (NEIGHBOUR, 4001));
    assert_eq!(exchange(&first, to, &server), (NEIGHBOUR, 4000).into());
    assert_eq!(exchange(&second, to, &server), (NEIGHBOUR, 4001).into());
    assert_eq!(exchange(&first, to, &server), (NEIGHBOUR, 4000).into());
    let own = datagrams(&host, (Ipv4Addr::LOCALHOST, 4000));
    let who = exchange(&own, (Ipv4Addr::LOCALHOST, 5353).into(), &server);
    assert_eq!(who.ip(), ip("172.17.0.1"));
    // What the container says by itself from that port goes where it is sent.
    let other = datagrams(&neighbour.place(), (NEIGHBOUR, 9));
    let mut buffer = [0; 64];
    // The neighbour has to know its way back.
    let routed = Command::new("nsenter")
        .arg(format!("--net={}", neighbour.place().display()))
        .args(["ip", "route", "add", "172.17.0.0/16", "via", "192.0.2.1"])
        .status();
    assert!(routed.unwrap().success());
    server
        .send_to(b"own", SocketAddr::new(NEIGHBOUR, 9))
        .unwrap();
    let (count, from) = other.recv_from(&mut buffer).unwrap();
    assert_eq!((&buffer[..count], from.port()), (&b"own"[..], 53));
    other.send_to(b"back", from).unwrap();
    let (count, from) = server.recv_from(&mut buffer).unwrap();
    assert_eq!(
        (&buffer[..count], from),
        (&b"back"[..], (NEIGHBOUR, 9).into())
    );
}

/// The IPv6 addresses of a network namespace, and the numbers of their interfaces.
fn addresses_v6(place: &PathBuf) -> Vec<(Ipv6Addr, u32)> {
    let text = within(place, || {
        std::fs::read_to_string("/proc/thread-self/net/if_inet6").unwrap()
    });
    let read = |line: &str| {
        let mut words = line.split_whitespace();
        let ip = u128::from_str_radix(words.next()?, 16).ok()?;
        let number = u32::from_str_radix(words.next()?, 16).ok()?;
        Some((ip.into(), number))
    };
    text.lines().filter_map(read).collect()
}

/// Only an answer from the address that was asked is heard by a client that is connected to it.
#[test]
fn an_answer_leaves_from_the_address_that_was_asked() {
    let dir = tempdir().unwrap();
    let (machine, host) = with_host(dir.path());
    let pools = json!([{"Subnet": "10.7.0.0/24"}, {"Subnet": "fd00:7::/64"}]);
    let other = json!({"EnableIPv6": true, "IPAM": {"Config": pools}});
    network(&machine, "other", &other);
    run(
        &machine,
        "names",
        &publishing("bridge", &[("53/udp", "5353")]),
    );
    let mut body = container(SLEEP);
    body["HostConfig"]["NetworkMode"] = "other".into();
    run(&machine, "asks", &body);
    let asks = place_of(&machine, "asks");
    let server = datagrams(&place_of(&machine, "names"), (Ipv4Addr::UNSPECIFIED, 53));
    let ask = |place: &PathBuf, from: IpAddr, to: SocketAddr| {
        let client = datagrams(place, (from, 0));
        client.connect(to).unwrap();
        client.send(b"question").unwrap();
        let mut buffer = [0; 64];
        let (count, who) = server.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..count], b"question");
        server.send_to(b"answer", who).unwrap();
        let count = client.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..count], b"answer", "{to}");
    };
    for to in ["10.7.0.1", "172.17.0.1"] {
        ask(&asks, Ipv4Addr::UNSPECIFIED.into(), (ip(to), 5353).into());
    }
    let to = (ip("fd00:7::1"), 5353).into();
    ask(&asks, Ipv6Addr::UNSPECIFIED.into(), to);
    // That of the link, which has no name without the asker's interface.
    let (of_asks, of_host) = (addresses_v6(&asks), addresses_v6(&host));
    let bridge = of_host.iter().find(|own| own.0 == ip("fd00:7::1"));
    let link = of_host
        .iter()
        .find(|own| own.0.is_unicast_link_local() && own.1 == bridge.unwrap().1);
    let scope = of_asks.iter().find(|own| own.0.is_unicast_link_local());
    let to = SocketAddrV6::new(link.unwrap().0, 5353, 0, scope.unwrap().1);
    ask(&asks, Ipv6Addr::UNSPECIFIED.into(), to.into());
    // One client that asks at two addresses has two conversations.
    let client = datagrams(&asks, (Ipv4Addr::UNSPECIFIED, 0));
    for to in ["10.7.0.1", "172.17.0.1", "10.7.0.1"] {
        exchange(&client, (ip(to), 5353).into(), &server);
    }
    ask(&host, ip("127.0.0.1"), (ip("127.0.0.9"), 5353).into());
}

/// As dockerd has it: what comes out of an internal network is no client.
#[test]
fn an_internal_network_is_answered_by_no_published_port() {
    let dir = tempdir().unwrap();
    let (machine, host) = with_host(dir.path());
    let pool = |subnet: &str| json!({"IPAM": {"Config": [{"Subnet": subnet}]}});
    network(&machine, "other", &pool("10.6.0.0/24"));
    let internal = |name: &str, subnet: &str| {
        let mut body = pool(subnet);
        body["Internal"] = true.into();
        network(&machine, name, &body);
        let mut body = container(SLEEP);
        body["HostConfig"]["NetworkMode"] = name.into();
        run(&machine, &format!("in-{name}"), &body);
        place_of(&machine, &format!("in-{name}"))
    };
    let mut others = container(SLEEP);
    others["HostConfig"]["NetworkMode"] = "other".into();
    run(&machine, "asks", &others);
    let asks = place_of(&machine, "asks");
    let early = internal("early", "10.7.0.0/24");
    let body = publishing("bridge", &[("80/tcp", "8080"), ("53/udp", "5353")]);
    run(&machine, "web", &body);
    let late = internal("late", "10.8.0.0/24");
    let web = place_of(&machine, "web");
    let streams = listener(&machine, "web", (Ipv4Addr::UNSPECIFIED, 80));
    let names = datagrams(&web, (Ipv4Addr::UNSPECIFIED, 53));
    let is_silent = |from: &PathBuf, gateway: &str| {
        let at = ip(gateway);
        let begun = within(from, move || {
            let lost = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
            lost.send_to(b"lost", (at, 5353)).unwrap();
            let (family, kind) = (AddressFamily::INET, SocketType::STREAM);
            let begun = socket_with(family, kind, SocketFlags::NONBLOCK, None).unwrap();
            let waits = rustix::net::connect(&begun, &SocketAddr::new(at, 8080)).unwrap_err();
            assert_eq!(waits, rustix::io::Errno::INPROGRESS);
            TcpStream::from(begun)
        });
        // Had it been heard, this would be the second thing that is.
        let client = datagrams(&asks, (Ipv4Addr::UNSPECIFIED, 0));
        exchange(&client, (ip("10.6.0.1"), 5353).into(), &names);
        seen(&streams, &asks, (ip("10.6.0.1"), 8080).into());
        let unheard = begun.peer_addr().unwrap_err();
        assert_eq!(unheard.kind(), ErrorKind::NotConnected, "{gateway}");
    };
    is_silent(&early, "10.7.0.1");
    is_silent(&late, "10.8.0.1");
    machine.kill_agent();
    machine.greeted();
    is_silent(&early, "10.7.0.1");
    is_silent(&late, "10.8.0.1");
    // What a program of the host's network listens on is no published port.
    let own = listener(&machine, "host", (Ipv4Addr::UNSPECIFIED, 8081));
    connect(&early, (ip("10.7.0.1"), 8081).into()).unwrap();
    drop((own, host));
}

/// The class of CVE-2021-20199: a service that a container has for itself alone.
#[test]
fn cve_2021_20199_what_listens_on_a_containers_loopback_is_not_reached() {
    let dir = tempdir().unwrap();
    let (machine, host) = with_host(dir.path());
    run(
        &machine,
        "web",
        &publishing("bridge", &[("80/tcp", "8080")]),
    );
    let server = listener(&machine, "web", (Ipv4Addr::LOCALHOST, 80));
    server.set_nonblocking(true).unwrap();
    let mut client = connect(&host, (Ipv4Addr::LOCALHOST, 8080).into()).unwrap();
    let read = client.read(&mut [0]);
    assert!(matches!(&read, Ok(0)) || read.is_err(), "{read:?}");
    assert_eq!(server.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn ports_last_as_long_as_their_container_and_longer_than_the_engine() {
    let dir = tempdir().unwrap();
    let (machine, host) = with_host(dir.path());
    let neighbour = Neighbour::beside(&host);
    let body = publishing("bridge", &[("80/tcp", "8080"), ("53/udp", "")]);
    run(&machine, "web", &body);
    let before = ports(&machine, "web");
    assert_eq!(before["53/udp"][0]["HostPort"], "32768");
    machine.kill_agent();
    machine.greeted();
    assert_eq!(ports(&machine, "web"), before);
    let to = SocketAddr::new(MACHINE, 8080);
    let server = listener(&machine, "web", (Ipv4Addr::UNSPECIFIED, 80));
    assert_eq!(seen(&server, &neighbour.place(), to).ip(), NEIGHBOUR);
    // Another one cannot have it, and is left as it was.
    create(&machine, "second", &body);
    let refused = post(&machine, "/containers/second/start").is(500).text();
    let expected = "Bind for 0.0.0.0:8080 failed: port is already allocated by the container `web`";
    assert!(refused.contains(expected), "{refused}");
    assert!(refused.contains("programming external connectivity on endpoint second ("));
    assert_eq!(ports(&machine, "second"), json!({}));
    // A connection that is there ends with the container, with all that was said.
    let mut client = connect(&neighbour.place(), to).unwrap();
    let (mut served, _) = server.accept().unwrap();
    served.write_all(b"last words").unwrap();
    drop((served, server));
    post(&machine, "/containers/web/kill").is(204);
    let mut words = Vec::new();
    client.read_to_end(&mut words).unwrap();
    assert_eq!(words, b"last words");
    assert_eq!(ports(&machine, "web"), json!({}));
    let refused = connect(&neighbour.place(), to).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    post(&machine, "/containers/second/start").is(204);
    let server = listener(&machine, "second", (Ipv4Addr::UNSPECIFIED, 80));
    assert_eq!(seen(&server, &neighbour.place(), to).ip(), NEIGHBOUR);
    remove_by_force(&machine, "second");
    remove_by_force(&machine, "web");
    remove_by_force(&machine, "host");
    machine.nothing_left();
}

#[test]
fn ports_follow_the_networks_of_a_container_that_runs() {
    let dir = tempdir().unwrap();
    let (machine, host) = with_host(dir.path());
    network(&machine, "inner", &json!({"Internal": true}));
    network(&machine, "outer", &json!({}));
    run(&machine, "web", &publishing("inner", &[("80/tcp", "8080")]));
    let to = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 8080);
    assert_eq!(ports(&machine, "web"), json!({}));
    assert!(connect(&host, to).is_err());
    let server = listener(&machine, "web", (Ipv4Addr::UNSPECIFIED, 80));
    let web = json!({"Container": "web"});
    call(&machine, "POST", "/networks/outer/connect", &web).is(200);
    assert_eq!(ports(&machine, "web")["80/tcp"][0]["HostPort"], "8080");
    seen(&server, &host, to);
    call(&machine, "POST", "/networks/outer/disconnect", &web).is(200);
    assert_eq!(ports(&machine, "web"), json!({}));
    assert!(connect(&host, to).is_err());
    // A network cannot be joined where a port of it is somebody's, and is not then.
    run(
        &machine,
        "first",
        &publishing("bridge", &[("80/tcp", "8080")]),
    );
    let refused = call(&machine, "POST", "/networks/outer/connect", &web)
        .is(500)
        .text();
    assert!(refused.contains("port is already allocated"), "{refused}");
    let shown = get(&machine, "/containers/web/json").is(200).json();
    assert_eq!(shown["NetworkSettings"]["Networks"]["outer"], Value::Null);
}

/// The host's part is played: it says who came.
#[test]
fn clients_whom_the_host_hands_on_are_seen_wherever_they_are() {
    let dir = tempdir().unwrap();
    let (machine, _host) = with_host(dir.path());
    run(
        &machine,
        "web",
        &publishing("bridge", &[("80/tcp", "8080"), ("53/udp", "53")]),
    );
    let shown = get(&machine, "/containers/web/json").is(200).json();
    let accepted = |number, transport, client: &str| {
        let accepted = Accepted {
            id: shown["Id"].as_str().unwrap().to_owned(),
            number,
            transport,
            client: (!client.is_empty()).then(|| client.parse().unwrap()),
            v6: false,
        };
        let mut stream = machine.connect("published.sock");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
            .write_all(&Message::from(accepted).encode().unwrap())
            .unwrap();
        stream
    };
    let server = listener(&machine, "web", (Ipv4Addr::UNSPECIFIED, 80));
    // Nobody routes to this address.
    for (client, expected) in [
        ("203.0.113.5:4711", "203.0.113.5"),
        ("", "172.17.0.1"),
        ("172.17.0.9:1", "172.17.0.1"),
    ] {
        let mut stream = accepted(1, Transport::Tcp, client);
        stream.write_all(b"question").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let (mut served, who) = server.accept().unwrap();
        assert_eq!(who.ip(), ip(expected));
        let mut asked = Vec::new();
        served.read_to_end(&mut asked).unwrap();
        assert_eq!(asked, b"question");
        served.write_all(b"answer").unwrap();
        drop(served);
        let mut answered = Vec::new();
        stream.read_to_end(&mut answered).unwrap();
        assert_eq!(answered, b"answer");
    }
    let server = datagrams(&place_of(&machine, "web"), (Ipv4Addr::UNSPECIFIED, 53));
    let mut stream = accepted(0, Transport::Udp, "203.0.113.5:4711");
    stream.write_all(b"\x08\0question\0\0").unwrap();
    let mut buffer = [0; 64];
    let (count, who) = server.recv_from(&mut buffer).unwrap();
    assert_eq!(
        (&buffer[..count], who),
        (&b"question"[..], "203.0.113.5:4711".parse().unwrap())
    );
    assert_eq!(server.recv_from(&mut buffer).unwrap().0, 0);
    server.send_to(b"answer", who).unwrap();
    let mut answer = [0; 8];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"\x06\0answer");
    // Whom nobody knows is sent away.
    let mut nobody = accepted(7, Transport::Tcp, "");
    assert_eq!(nobody.read(&mut [0]).unwrap(), 0);
}

#[test]
fn datagrams_follow_a_container_and_never_go_to_who_has_its_address_next() {
    let dir = tempdir().unwrap();
    let (machine, host) = with_host(dir.path());
    for (name, subnet) in [("one", "10.1.0.0/24"), ("two", "10.2.0.0/24")] {
        let pool = json!({"IPAM": {"Config": [{"Subnet": subnet}]}});
        network(&machine, name, &pool);
    }
    run(&machine, "names", &publishing("one", &[("53/udp", "5353")]));
    let names = json!({"Container": "names"});
    call(&machine, "POST", "/networks/two/connect", &names).is(200);
    let server = datagrams(&place_of(&machine, "names"), (Ipv4Addr::UNSPECIFIED, 53));
    let client = datagrams(&host, (Ipv4Addr::LOCALHOST, 4000));
    let to = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 5353);
    assert_eq!(exchange(&client, to, &server).ip(), ip("10.1.0.1"));
    call(&machine, "POST", "/networks/one/disconnect", &names).is(200);
    let mut next = container(SLEEP);
    next["HostConfig"]["NetworkMode"] = "one".into();
    let own = json!({"IPAMConfig": {"IPv4Address": "10.1.0.2"}});
    next["NetworkingConfig"]["EndpointsConfig"]["one"] = own;
    run(&machine, "next", &next);
    let other = datagrams(&place_of(&machine, "next"), (Ipv4Addr::UNSPECIFIED, 53));
    assert_eq!(exchange(&client, to, &server).ip(), ip("10.2.0.1"));
    other.set_nonblocking(true).unwrap();
    let heard = other.recv_from(&mut [0; 64]);
    assert_eq!(heard.unwrap_err().kind(), ErrorKind::WouldBlock);
}
