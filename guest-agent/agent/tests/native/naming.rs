//! Names: containers that find each other, and whom else they ask.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsFd as _;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::{Value, json};
use tempfile::tempdir;

use crate::api::{
    call, container, create, get, load_image, logs, payload, post, remove_by_force, run, started,
};
use crate::machine::{Machine, hello};

const SLEEP: &str = "exec /bin/busybox sleep 100000";

/// A container of these networks, with aliases in each.
fn inside(networks: &[&str], aliases: &[&str]) -> Value {
    let mut body = container(SLEEP);
    body["HostConfig"]["NetworkMode"] = networks[0].into();
    let endpoint = json!({ "Aliases": aliases });
    for network in networks {
        body["NetworkingConfig"]["EndpointsConfig"][*network] = endpoint.clone();
    }
    body
}

fn network(machine: &Machine, name: &str, subnet: &str, more: &Value) {
    let mut body = json!({"Name": name, "IPAM": {"Config": [{"Subnet": subnet}]}});
    for (key, value) in more.as_object().into_iter().flatten() {
        body[key] = value.clone();
    }
    call(machine, "POST", "/networks/create", &body).is(201);
}

/// What a command in a container says.
fn says(machine: &Machine, name: &str, command: &str) -> String {
    let words = ["/bin/busybox"].into_iter().chain(command.split(' '));
    said_by(machine, name, &words.collect::<Vec<_>>())
}

pub fn said_by(machine: &Machine, name: &str, command: &[&str]) -> String {
    let body = json!({"AttachStdout": true, "AttachStderr": true, "Cmd": command});
    let made = call(machine, "POST", &format!("/containers/{name}/exec"), &body).is(201);
    let id = made.json()["Id"].as_str().unwrap().to_owned();
    let start = json!({"Detach": false, "Tty": false});
    let said = call(machine, "POST", &format!("/exec/{id}/start"), &start).is(200);
    String::from_utf8(payload(&said.body)).unwrap()
}

/// The addresses that a container finds for a name, or why it finds none.
fn finds(machine: &Machine, name: &str, wanted: &str) -> Vec<String> {
    let said = says(machine, name, &format!("nslookup -type=a {wanted}"));
    let (_, answer) = said.split_once("\n\n").unwrap_or(("", &said));
    let addresses = answer
        .lines()
        .filter_map(|line| line.strip_prefix("Address: "));
    let addresses: Vec<String> = addresses.map(ToOwned::to_owned).collect();
    if !addresses.is_empty() || answer.trim().is_empty() {
        return addresses;
    }
    let words = ["NXDOMAIN", "SERVFAIL", "REFUSED", "No answer", "no servers"];
    let found = words.into_iter().find(|word| said.contains(word));
    vec![found.unwrap_or(&said).to_owned()]
}

fn short_id(machine: &Machine, name: &str) -> String {
    let inspected = get(machine, &format!("/containers/{name}/json"))
        .is(200)
        .json();
    inspected["Id"].as_str().unwrap()[..12].to_owned()
}

/// A socket in the network of a container.
fn socket(machine: &Machine, name: &str, address: SocketAddr) -> UdpSocket {
    let inspected = get(machine, &format!("/containers/{name}/json"))
        .is(200)
        .json();
    let pid = inspected["State"]["Pid"].to_string();
    let place = std::fs::File::open(machine.proc().join(pid).join("ns/net")).unwrap();
    let there = std::thread::spawn(move || {
        move_into_link_name_space(place.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        UdpSocket::bind(address).unwrap()
    });
    let socket = there.join().unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    socket
}

/// Answers one question with an address of its own, and says who asked.
fn answers(server: UdpSocket) -> std::thread::JoinHandle<IpAddr> {
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        let (length, from) = server.recv_from(&mut buffer).unwrap();
        let mut answer = buffer[..length].to_vec();
        answer[2..8].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 1]);
        answer.extend([0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 192, 0, 2, 7]);
        server.send_to(&answer, from).unwrap();
        from.ip()
    })
}

#[test]
fn containers_find_each_other_by_every_name_they_have() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    network(&machine, "one", "10.1.0.0/24", &Value::Null);
    network(&machine, "two", "10.2.0.0/24", &Value::Null);
    let mut web = inside(&["one"], &["al", "Other"]);
    web["Hostname"] = "hosted".into();
    run(&machine, "web", &web);
    run(&machine, "second", &inside(&["one"], &["al"]));
    run(&machine, "apart", &inside(&["two"], &["al"]));
    run(&machine, "asks", &inside(&["one"], &[]));
    run(&machine, "plain", &inside(&["bridge"], &[]));
    let id = short_id(&machine, "web");
    for name in ["web", "WEB", "other", "hosted", "web.one", &id] {
        assert_eq!(finds(&machine, "asks", name), ["10.1.0.2"], "{name}");
    }
    assert_eq!(finds(&machine, "asks", "asks"), ["10.1.0.4"]);
    let mut links = inside(&["one"], &[]);
    links["NetworkingConfig"]["EndpointsConfig"]["one"]["Links"] = json!(["/web:linked"]);
    links["HostConfig"]["Links"] = json!(["/web:linked"]);
    run(&machine, "links", &links);
    let shown = get(&machine, "/containers/links/json").is(200).json();
    assert_eq!(shown["HostConfig"]["Links"], Value::Null);
    assert_eq!(finds(&machine, "links", "linked"), ["10.1.0.2"]);
    assert_eq!(finds(&machine, "asks", "linked"), ["SERVFAIL"]);
    remove_by_force(&machine, "links");
    let mut two = finds(&machine, "asks", "al");
    let firsts: std::collections::BTreeSet<String> = (0..4)
        .map(|_| finds(&machine, "asks", "al")[0].clone())
        .collect();
    two.sort();
    assert_eq!(two, ["10.1.0.2", "10.1.0.3"]);
    assert_eq!(firsts.len(), 2, "they take turns: {firsts:?}");
    assert_eq!(finds(&machine, "apart", "al"), ["10.2.0.2"]);
    for name in ["apart", "plain", "nobody"] {
        assert_eq!(finds(&machine, "asks", name), ["SERVFAIL"], "{name}");
    }
    let said = says(&machine, "asks", "nslookup 10.1.0.2");
    assert!(said.contains("name = web.one"), "{said}");
    let said = says(&machine, "asks", "nslookup -type=aaaa web");
    assert!(
        !said.contains("SERVFAIL") && !said.contains("Address: "),
        "{said}"
    );
    // By name as any program does it, and over a connection.
    let said = says(&machine, "asks", "cat /etc/resolv.conf");
    assert!(
        said.contains("\nnameserver 127.0.0.11\noptions ndots:0\n"),
        "{said}"
    );
    assert!(
        said.contains("# ExtServers: [host(198.19.79.1)]\n"),
        "{said}"
    );
    assert!(!says(&machine, "plain", "cat /etc/resolv.conf").contains("127.0.0.11"));
    for name in ["web", "second", "apart", "asks", "plain"] {
        remove_by_force(&machine, name);
    }
    machine.nothing_left();
}

#[test]
fn a_container_may_have_port_53_for_itself_and_share_its_network() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    network(&machine, "one", "10.1.0.0/24", &Value::Null);
    run(&machine, "server", &inside(&["one"], &[]));
    // As whoever is in the container does: it waits for somebody to come.
    let said = says(&machine, "server", "timeout 1 /bin/busybox nc -l -p 53");
    assert_eq!(said, "");
    let own = socket(&machine, "server", ([0, 0, 0, 0], 53).into());
    assert_eq!(finds(&machine, "server", "server"), ["10.1.0.2"]);
    let asked_by = answers(own);
    assert_eq!(
        finds(&machine, "server", "x.example 127.0.0.1"),
        ["192.0.2.7"]
    );
    asked_by.join().unwrap();
    let mut shares = container(SLEEP);
    shares["HostConfig"]["NetworkMode"] = "container:server".into();
    run(&machine, "shares", &shares);
    assert_eq!(finds(&machine, "shares", "server"), ["10.1.0.2"]);
}

/// The names come after the engine that began the sharing has ended: by programs of the next one.
#[test]
fn who_shares_a_network_has_its_names_from_the_next_engine_too() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    network(&machine, "one", "10.1.0.0/24", &Value::Null);
    run(&machine, "server", &inside(&["bridge"], &[]));
    let mut shares = container(SLEEP);
    shares["HostConfig"]["NetworkMode"] = "container:server".into();
    run(&machine, "shares", &shares);
    machine.kill_agent();
    machine.greeted();
    let server = json!({"Container": "server"});
    call(&machine, "POST", "/networks/one/connect", &server).is(200);
    for name in ["server", "shares"] {
        let found = finds(&machine, name, "server 127.0.0.11");
        assert_eq!(found, ["10.1.0.2"], "{name}");
    }
}

#[test]
fn names_are_asked_over_connections_and_networks_within_a_container_are_its_own() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    network(&machine, "one", "10.1.0.0/24", &Value::Null);
    let mut body = inside(&["one"], &[]);
    body["HostConfig"]["Privileged"] = true.into();
    run(&machine, "web", &body);
    let question = r"\0\025\022\064\1\0\0\1\0\0\0\0\0\0\3web\0\0\1\0\1";
    let script = format!(
        "printf '{question}' | /bin/busybox nc 127.0.0.11 53 | /bin/busybox hexdump -v -e '/1 \"%02x\"'"
    );
    let said = said_by(&machine, "web", &["/bin/busybox", "sh", "-c", &script]);
    assert!(
        said.contains("1234818000010001") && said.ends_with("00040a010002"),
        "{said}"
    );
    // A machine in the container, with a server of its own.
    // It answers whoever comes, whether or not that one has hung up already.
    let script = "b=/bin/busybox; $b ip link set lo up; $b nc -l -p 53 -e $b echo inner & \
        while ! $b nc 127.0.0.11 53 </dev/null 2>/dev/null; do :; done";
    let apart = [
        "/bin/busybox",
        "timeout",
        "30",
        "/bin/busybox",
        "unshare",
        "-n",
    ];
    let apart = [&apart[..], &["/bin/busybox", "sh", "-c", script]].concat();
    let said = said_by(&machine, "web", &apart);
    assert!(said.ends_with("inner\n"), "{said}");
}

#[test]
fn users_of_other_namespaces_find_names_too() {
    let dir = tempdir().unwrap();
    let machine = Machine::start(dir.path());
    let mut settings = hello();
    settings.boot.engine.userns_remap = true;
    machine.greeted_with(settings);
    load_image(&machine, dir.path());
    network(&machine, "one", "10.1.0.0/24", &Value::Null);
    run(&machine, "web", &inside(&["one"], &["al"]));
    assert_eq!(finds(&machine, "web", "al"), ["10.1.0.2"]);
    machine.kill_agent();
    machine.greeted();
    assert_eq!(finds(&machine, "web", "al"), ["10.1.0.2"]);
}

#[test]
fn names_come_and_go_with_networks_and_survive_the_engine() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    network(&machine, "one", "10.1.0.0/24", &Value::Null);
    network(&machine, "two", "10.2.0.0/24", &Value::Null);
    run(&machine, "first", &inside(&["one"], &[]));
    run(&machine, "late", &inside(&["bridge"], &[]));
    assert!(!says(&machine, "late", "cat /etc/resolv.conf").contains("127.0.0.11"));
    let body = json!({"Container": "late", "EndpointConfig": {"Aliases": ["comer"]}});
    call(&machine, "POST", "/networks/one/connect", &body).is(200);
    assert!(says(&machine, "late", "cat /etc/resolv.conf").contains("127.0.0.11"));
    assert_eq!(finds(&machine, "late", "first"), ["10.1.0.2"]);
    assert_eq!(finds(&machine, "first", "comer"), ["10.1.0.3"]);
    machine.kill_agent();
    machine.greeted();
    assert_eq!(finds(&machine, "late", "first"), ["10.1.0.2"]);
    assert_eq!(finds(&machine, "first", "late"), ["10.1.0.3"]);
    let mut shares = container(SLEEP);
    shares["HostConfig"]["NetworkMode"] = "container:first".into();
    run(&machine, "shares", &shares);
    assert_eq!(finds(&machine, "shares", "late"), ["10.1.0.3"]);
    remove_by_force(&machine, "shares");
    post(&machine, "/containers/first/rename?name=renamed").is(204);
    assert_eq!(finds(&machine, "late", "renamed"), ["10.1.0.2"]);
    assert_eq!(finds(&machine, "late", "first"), ["SERVFAIL"]);
    call(
        &machine,
        "POST",
        "/networks/one/disconnect",
        &json!({"Container": "late"}),
    )
    .is(200);
    assert_eq!(finds(&machine, "renamed", "late"), ["SERVFAIL"]);
    assert_eq!(finds(&machine, "late", "renamed"), ["SERVFAIL"]);
    call(
        &machine,
        "POST",
        "/networks/two/connect",
        &json!({"Container": "late"}),
    )
    .is(200);
    assert_eq!(finds(&machine, "late", "late"), ["10.2.0.2"]);
    // One that ended is nobody.
    call(
        &machine,
        "POST",
        "/networks/two/connect",
        &json!({"Container": "renamed"}),
    )
    .is(200);
    assert_eq!(finds(&machine, "late", "renamed"), ["10.2.0.3"]);
    post(&machine, "/containers/renamed/stop?t=0").is(204);
    assert_eq!(finds(&machine, "late", "renamed"), ["SERVFAIL"]);
    remove_by_force(&machine, "renamed");
    remove_by_force(&machine, "late");
    machine.nothing_left();
}

#[test]
fn everything_else_is_asked_of_the_containers_servers_or_the_hosts() {
    let dir = tempdir().unwrap();
    let machine = Machine::start(dir.path());
    let mut settings = hello();
    settings.boot.dns = vec!["127.0.0.1".into()];
    machine.greeted_with(settings);
    load_image(&machine, dir.path());
    network(&machine, "one", "10.1.0.0/24", &Value::Null);
    network(&machine, "inner", "10.2.0.0/24", &json!({"Internal": true}));
    let mut host = container(&format!("/bin/busybox ip link set lo up; {SLEEP}"));
    host["HostConfig"]["NetworkMode"] = "host".into();
    host["HostConfig"]["CapAdd"] = json!(["NET_ADMIN"]);
    run(&machine, "host", &host);
    run(&machine, "server", &inside(&["one", "inner"], &[]));
    run(&machine, "asks", &inside(&["one"], &[]));
    let asked_by = answers(socket(&machine, "host", ([127, 0, 0, 1], 53).into()));
    assert_eq!(finds(&machine, "asks", "x.example"), ["192.0.2.7"]);
    assert!(asked_by.join().unwrap().is_loopback());
    // From where it is, where it chose the server.
    let mut chose = inside(&["one"], &[]);
    chose["HostConfig"]["Dns"] = json!(["10.1.0.2"]);
    run(&machine, "chose", &chose);
    let asked_by = answers(socket(&machine, "server", ([0, 0, 0, 0], 53).into()));
    assert_eq!(finds(&machine, "chose", "x.example"), ["192.0.2.7"]);
    assert_eq!(asked_by.join().unwrap(), IpAddr::from([10, 1, 0, 4]));
    // Who reaches nobody does not do so by names either, but for servers that it can reach.
    run(&machine, "shut", &inside(&["inner"], &[]));
    assert_eq!(finds(&machine, "shut", "server"), ["10.2.0.2"]);
    assert_eq!(finds(&machine, "shut", "x.example"), ["SERVFAIL"]);
    let mut chose = inside(&["inner"], &[]);
    chose["HostConfig"]["Dns"] = json!(["10.2.0.2"]);
    run(&machine, "shut-chose", &chose);
    let asked_by = answers(socket(&machine, "server", ([0, 0, 0, 0], 53).into()));
    assert_eq!(finds(&machine, "shut-chose", "x.example"), ["192.0.2.7"]);
    asked_by.join().unwrap();
    assert!(logs(&machine, "host").is_empty());
}

#[test]
fn a_start_that_fails_leaves_no_sockets() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    network(&machine, "one", "10.1.0.0/24", &Value::Null);
    let mut body = inside(&["one"], &[]);
    body["Cmd"] = json!(["/nothing"]);
    for number in 0..8 {
        let name = format!("c{number}");
        create(&machine, &name, &body);
        post(&machine, &format!("/containers/{name}/start")).is(400);
        remove_by_force(&machine, &name);
    }
    machine.nothing_left();
}
