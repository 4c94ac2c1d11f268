//! Containers that use the machine's network, out to what the host reaches.

use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, TcpListener, UdpSocket};
use std::thread::JoinHandle;
use std::time::Duration;

use lighter_tests::{Host, env};
use sha2::{Digest as _, Sha256};

/// What leads to the host's loopback.
const HOST: &str = "198.19.79.254";

/// Networks that lead out.
const NETWORKS: [&str; 2] = ["host", "bridge"];

/// A command in a container of a network.
fn run(host: &Host, network: &str, command: &str) -> lighter_tests::Finished {
    host.docker(&[
        "run",
        "--rm",
        "--network",
        network,
        "busybox",
        "sh",
        "-c",
        command,
    ])
}

/// Takes one connection on the host's loopback and does something with it.
fn serve<T: Send + 'static>(
    work: impl FnOnce(std::net::TcpStream) -> T + Send + 'static,
) -> (u16, JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let served = std::thread::spawn(move || work(listener.accept().expect("a connection").0));
    (port, served)
}

fn sum(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

#[test]
fn what_a_container_sends_and_reads_is_the_same_byte_for_byte() {
    let Some(host) = Host::shared("what_a_container_sends_and_reads_is_the_same_byte_for_byte")
    else {
        return;
    };
    for network in NETWORKS {
        there_and_back(host, network);
    }
}

fn there_and_back(host: &Host, network: &str) {
    let (port, served) = serve(|mut stream| {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).expect("all of it");
        sum(&all)
    });
    let sent = run(
        host,
        network,
        &format!("head -c 20000000 /dev/urandom >/f; sha256sum </f; nc {HOST} {port} </f"),
    );
    let said = sent.ok().out();
    assert_eq!(
        said.split(' ').next(),
        Some(&*served.join().expect("served"))
    );

    let block: Vec<u8> = (0..20_000_000_u32).map(|at| (at / 3) as u8).collect();
    let expected = sum(&block);
    let (port, served) = serve(move |mut stream| {
        stream.write_all(&block).expect("all of it");
        stream.shutdown(Shutdown::Write).expect("told");
        // The other way is open still.
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    });
    let read = run(
        host,
        network,
        &format!("echo question | nc {HOST} {port} | sha256sum"),
    );
    assert_eq!(read.ok().out().split(' ').next(), Some(&*expected));
    assert_eq!(served.join().expect("served"), "question\n");
}

#[test]
fn datagrams_go_there_and_back() {
    let Some(host) = Host::shared("datagrams_go_there_and_back") else {
        return;
    };
    // Its shell speaks datagrams, busybox's nc does not.
    let Some(archive) = env::path(env::DEBIAN) else {
        return env::skip(
            "datagrams_go_there_and_back",
            "the programs' image is not there: run `cargo xtask test`",
        );
    };
    let bytes = std::fs::read(&archive).expect("readable");
    host.docker_with(&["load"], &bytes).ok();
    for network in NETWORKS {
        asked_and_answered(host, network);
    }
}

fn asked_and_answered(host: &Host, network: &str) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    socket
        .set_read_timeout(Some(Duration::from_secs(60)))
        .expect("set");
    let port = socket.local_addr().expect("bound").port();
    let served = std::thread::spawn(move || {
        let mut buffer = [0; 100];
        let (length, from) = socket.recv_from(&mut buffer).expect("a datagram");
        let answer = [b"re: ", &buffer[..length]].concat();
        socket.send_to(&answer, from).expect("sent");
    });
    let script =
        format!("exec 3<>/dev/udp/{HOST}/{port}; printf asked >&3; timeout 60 head -c 9 <&3");
    let said = host.docker(&[
        "run",
        "--rm",
        "--network",
        network,
        "lighter-test/debian",
        "bash",
        "-c",
        &script,
    ]);
    assert_eq!(said.out(), "re: asked", "{}", said.err());
    served.join().expect("served");
}

#[test]
fn nothing_close_to_the_host_is_reached_and_a_refusal_comes_at_once() {
    let name = "nothing_close_to_the_host_is_reached_and_a_refusal_comes_at_once";
    let Some(host) = Host::shared(name) else {
        return;
    };
    // Something listens on the host at every one of these that is an address of its loopback.
    let listener = TcpListener::bind("0.0.0.0:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let targets = [
        "198.19.79.1",
        "198.19.79.2",
        "172.17.0.1",
        "169.254.169.254",
        "168.63.129.16",
        "127.0.0.53",
        "0.0.0.0",
        "fd6c:6967:6874::1",
        "::ffff:127.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b:1::7f00:1",
    ];
    let script: String = targets
        .iter()
        .map(|target| {
            format!(
                "nc -w 20 {target} {port} </dev/null >/dev/null 2>&1 && echo reached {target}; "
            )
        })
        .collect();
    for network in NETWORKS {
        let said = run(host, network, &format!("{script} echo done"));
        assert_eq!(said.out(), "done\n", "{network}");
    }
    listener.set_nonblocking(true).expect("set");
    assert!(listener.accept().is_err(), "somebody came");
    // The same listener is reached by the host's name alone.
    listener.set_nonblocking(false).expect("set");
    let accepted = std::thread::spawn(move || {
        for _ in NETWORKS {
            listener.accept().expect("accepted");
        }
    });
    for network in NETWORKS {
        let command = format!("nc -w 20 {HOST} {port} </dev/null && echo reached");
        let reached = run(host, network, &command);
        assert_eq!(reached.out(), "reached\n", "{network}: {}", reached.err());
    }
    accepted.join().expect("served");
}

#[test]
fn names_are_asked_of_the_hosts_own_server() {
    let Some(host) = Host::shared("names_are_asked_of_the_hosts_own_server") else {
        return;
    };
    if !names_are_answered() {
        return env::skip(
            "names_are_asked_of_the_hosts_own_server",
            "this machine's own server for names does not answer",
        );
    }
    // It needs no answer from the world: that the question came back with one is enough.
    for network in NETWORKS {
        let said = run(
            host,
            network,
            "cat /etc/resolv.conf; nslookup localhost. 198.19.79.1 2>&1",
        );
        let text = said.out();
        assert!(text.contains("nameserver 198.19.79.1"), "{network}: {text}");
        assert!(
            !text.contains("timed out"),
            "{network}: nobody answers: {text}"
        );
    }
}

#[test]
fn the_host_has_names() {
    let Some(host) = Host::shared("the_host_has_names") else {
        return;
    };
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let wanted = ["host.docker.internal", "given"];
    let accepted = std::thread::spawn(move || {
        for _ in NETWORKS.iter().flat_map(|_| wanted) {
            listener.accept().expect("accepted");
        }
    });
    for network in NETWORKS {
        for name in wanted {
            let said = host.docker(&[
                "run",
                "--rm",
                "--network",
                network,
                "--add-host",
                "given:host-gateway",
                "busybox",
                "sh",
                "-c",
                &format!("nc -w 20 {name} {port} </dev/null && echo reached"),
            ]);
            assert_eq!(said.out(), "reached\n", "{network} {name}: {}", said.err());
        }
    }
    accepted.join().expect("served");
}

#[test]
fn no_network_lies_over_the_link_to_the_host() {
    let Some(host) = Host::shared("no_network_lies_over_the_link_to_the_host") else {
        return;
    };
    for subnet in ["198.19.79.0/28", "198.19.0.0/16"] {
        let made = host.docker(&["network", "create", "--subnet", subnet, "over-the-link"]);
        assert_eq!(made.code, 1, "{subnet}");
        assert!(made.err().contains("overlaps"), "{}", made.err());
    }
}

/// Whether the first server of this machine's resolver answers at all.
fn names_are_answered() -> bool {
    let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let server = text.lines().find_map(|line| {
        let server = line.trim().strip_prefix("nameserver")?.trim();
        server.parse::<IpAddr>().ok()
    });
    let Some(server) = server else { return false };
    let any = if server.is_ipv4() {
        "0.0.0.0:0"
    } else {
        "[::]:0"
    };
    // One question, for the address of "localhost." (RFC 1035, section 4.1).
    let question =
        b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x09localhost\x00\x00\x01\x00\x01";
    let asked = || -> std::io::Result<usize> {
        let socket = UdpSocket::bind(any)?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        socket.send_to(question, (server, 53))?;
        socket.recv(&mut [0; 512])
    };
    asked().is_ok()
}
