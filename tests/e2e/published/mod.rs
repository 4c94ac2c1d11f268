//! Published ports as their users reach them: from the host, from another computer, while things break.

mod bytes;
mod datagrams;
mod places;
mod resets;
mod short;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs::Permissions;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;

use lighter_tests::{env, probe, until};

use places::{HOST, HOST_V6, LOOPBACK, LOOPBACK_V6, NEIGHBOUR, NEIGHBOUR_V6, Places, Who};

/// A server that says who asks.
const SERVER: &str = "mkdir -p /www/cgi-bin; \
    printf '#!/bin/sh\\necho; echo $REMOTE_ADDR' >/www/cgi-bin/who; chmod +x /www/cgi-bin/who; \
    exec httpd -f -h /www -p 80";

/// An address as the server writes it.
fn address(text: &str) -> Option<IpAddr> {
    let address: IpAddr = text.trim_matches(['[', ']']).parse().ok()?;
    Some(address.to_canonical())
}

impl Places {
    /// Runs a web server with these options of `docker run`.
    fn serve(&self, name: &str, options: &[&str]) {
        let mut words = vec!["run", "-d", "--name", name];
        words.extend(options);
        words.extend(["busybox", "sh", "-c", SERVER]);
        self.host.docker(&words).ok();
    }

    /// Whom the server sees; nothing while nobody answers.
    fn asked(&self, who: Who, to: impl Into<SocketAddr>) -> Option<IpAddr> {
        let mut stream = self.connect(who, to).ok()?;
        stream
            .write_all(b"GET /cgi-bin/who HTTP/1.0\r\n\r\n")
            .ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        address(answer.lines().last()?)
    }

    /// The same once the server is there: it begins behind its container.
    fn seen(&self, who: Who, to: impl Into<SocketAddr>) -> IpAddr {
        let to = to.into();
        let seen = Cell::new(None);
        until("an answer", || {
            seen.set(self.asked(who, to));
            seen.get().is_some()
        });
        seen.get().expect("an answer")
    }

    /// Runs the probe in a container with these options.
    fn probe(&self, name: &str, options: &[&str], probe: &[&str]) {
        let program = self.host.home().join("probe");
        std::fs::write(&program, probe::binary()).expect("written");
        std::fs::set_permissions(&program, Permissions::from_mode(0o755)).expect("set");
        let create = [
            &["create", "--name", name],
            options,
            &["busybox", "/probe"],
            probe,
        ];
        self.host.docker(&create.concat()).ok();
        let (program, to) = (program.display().to_string(), format!("{name}:/probe"));
        self.host.docker(&["cp", &program, &to]).ok();
        self.host.docker(&["start", name]).ok();
        until("the server", || {
            self.host.docker(&["logs", name]).out().contains("ready")
        });
    }

    fn gateway(&self, name: &str, field: &str) -> IpAddr {
        let format = format!("{{{{range .NetworkSettings.Networks}}}}{{{{.{field}}}}}{{{{end}}}}");
        let said = self
            .host
            .docker(&["inspect", "-f", &format, name])
            .ok()
            .out();
        said.trim().parse().expect("an address")
    }
}

#[test]
fn a_container_sees_its_clients_wherever_they_are() {
    let Some(places) = Places::shared("a_container_sees_its_clients_wherever_they_are") else {
        return;
    };
    places.serve("seen4", &["-p", "8080:80"]);
    let gateway = places.gateway("seen4", "Gateway");
    assert_eq!(places.seen(Who::Neighbour, (HOST, 8080)), NEIGHBOUR);
    assert_eq!(places.seen(Who::Own, (LOOPBACK, 8080)), gateway);
    assert_eq!(places.seen(Who::Own, (HOST, 8080)), gateway);
    // It has no IPv6: it sees its gateway.
    assert_eq!(places.seen(Who::Neighbour, (HOST_V6, 8080)), gateway);
    assert_eq!(places.seen(Who::Own, (LOOPBACK_V6, 8080)), gateway);
    places
        .host
        .docker(&["network", "create", "--ipv6", "six"])
        .ok();
    places.serve("seen6", &["-p", "8086:80", "--network", "six"]);
    assert_eq!(places.seen(Who::Neighbour, (HOST_V6, 8086)), NEIGHBOUR_V6);
    assert_eq!(places.seen(Who::Neighbour, (HOST, 8086)), NEIGHBOUR);
    let gateway_v6 = places.gateway("seen6", "IPv6Gateway");
    assert_eq!(places.seen(Who::Own, (LOOPBACK_V6, 8086)), gateway_v6);
    // A container finds it at its own gateway and at the host.
    let ask = |at: &str| {
        let url = format!("http://{at}:8080/cgi-bin/who");
        let words = ["run", "--rm", "busybox", "wget", "-qO-", &url];
        address(places.host.docker(&words).ok().out().trim())
    };
    assert_eq!(ask("172.17.0.1"), Some(gateway));
    assert_eq!(ask("host.docker.internal"), Some(gateway));
    places.host.docker(&["rm", "-f", "seen4", "seen6"]).ok();
    places.host.docker(&["network", "rm", "six"]).ok();
}

/// The ports of an address at which somebody listens.
fn open_ports(places: &Places, address: IpAddr) -> BTreeSet<u16> {
    places.at(Who::Neighbour, move || {
        let open = |port: &u16| std::net::TcpStream::connect((address, *port)).is_ok();
        (1..=u16::MAX).filter(open).collect()
    })
}

#[test]
fn a_neighbour_reaches_what_is_published_and_nothing_else() {
    let name = "a_neighbour_reaches_what_is_published_and_nothing_else";
    // One of its own: what other tests publish meanwhile would be open, too.
    let Some(places) = Places::new() else {
        return env::skip(
            name,
            "the programs under test are not there: run `cargo xtask test`",
        );
    };
    places.serve("open", &["-p", "8181:80", "-p", "[::]:8182:80"]);
    places.serve("local", &["-p", "127.0.0.1:8183:80"]);
    places.serve("one", &["-p", "192.0.2.1:8184:80"]);
    places.seen(Who::Own, (LOOPBACK, 8183));
    places.seen(Who::Neighbour, (HOST, 8184));
    assert_eq!(open_ports(&places, HOST), BTreeSet::from([8181, 8184]));
    assert_eq!(open_ports(&places, HOST_V6), BTreeSet::from([8181, 8182]));
    // Nor by addresses of the machine and its containers, which are nobody's on the host's network.
    for address in ["172.17.0.2", "198.19.79.2", "127.0.0.1"] {
        let to: IpAddr = address.parse().expect("an address");
        let reached = places.at(Who::Neighbour, move || {
            std::net::TcpStream::connect((to, 80)).is_ok()
        });
        assert!(!reached, "{address}");
    }
}

#[test]
fn a_port_that_somebody_has_is_refused_with_whose_it_is_and_nothing_is_left() {
    let name = "a_port_that_somebody_has_is_refused_with_whose_it_is_and_nothing_is_left";
    let Some(places) = Places::shared(name) else {
        return;
    };
    let own = places.at(Who::Own, || {
        std::net::TcpListener::bind("127.0.0.1:8282").expect("free")
    });
    let run = |port: &str| {
        places
            .host
            .docker(&["run", "--rm", "-p", port, "busybox", "true"])
    };
    let refused = run("8282:80");
    assert_eq!(refused.code, 125);
    let text = "failed to bind host port for 0.0.0.0:8282:";
    assert!(refused.err().contains(text), "{}", refused.err());
    assert!(
        refused.err().contains("address already in use"),
        "{}",
        refused.err()
    );
    let program = std::env::current_exe().expect("this program");
    let program = program
        .file_name()
        .expect("a name")
        .to_string_lossy()
        .into_owned();
    // The kernel cuts names of programs.
    assert!(refused.err().contains(&program[..3]), "{}", refused.err());
    let elsewhere = run("1.2.3.4:8282:80");
    assert!(
        elsewhere.err().contains("cannot assign requested address"),
        "{}",
        elsewhere.err()
    );
    drop(own);
    // Of another container the engine knows it.
    places.serve("has", &["-p", "8282:80"]);
    let allocated = run("127.0.0.1:8282:80");
    let text = "Bind for 0.0.0.0:8282 failed: port is already allocated by the container `has`";
    assert!(allocated.err().contains(text), "{}", allocated.err());
    places.host.docker(&["rm", "-f", "has"]).ok();
    // Nor is one that is not published, but listened on in the host's network, anybody else's.
    let server = SERVER.replace("-p 80", "-p 8283");
    let listens = ["--name", "listens", "busybox", "sh", "-c", &server];
    let words = [&["run", "-d", "--network", "host"], &listens[..]].concat();
    places.host.docker(&words).ok();
    places.seen(Who::Own, (LOOPBACK, 8283));
    for port in ["8283:80", "127.0.0.1:8283:80"] {
        let text = "address already in use by the container `listens`";
        let refused = run(port);
        assert!(refused.err().contains(text), "{}", refused.err());
    }
    places.host.docker(&["rm", "-f", "listens"]).ok();
    run("8282:80").ok();
    assert_eq!(
        open_ports(places, HOST)
            .into_iter()
            .filter(|port| *port == 8282)
            .count(),
        0
    );
}

#[test]
fn ports_come_back_after_the_daemon_and_after_the_machine() {
    let name = "ports_come_back_after_the_daemon_and_after_the_machine";
    let Some(places) = Places::new() else {
        return env::skip(
            name,
            "the programs under test are not there: run `cargo xtask test`",
        );
    };
    places.serve("web", &["-p", "8383:80", "--restart", "always"]);
    assert_eq!(places.seen(Who::Neighbour, (HOST, 8383)), NEIGHBOUR);
    // A connection that is there outlives the daemon: its bytes do not pass it.
    let mut there = places
        .connect(Who::Neighbour, (HOST, 8383))
        .expect("connected");
    there.write_all(b"GET /cgi-bin/who ").expect("sent");
    // Before that it is the daemon's still. The neighbour's address and the state, as the kernel writes them.
    let is_there = "grep -q '090200C0:.... 01' /proc/net/tcp /proc/net/tcp6";
    until("the connection is the container's", || {
        let exec = ["exec", "web", "sh", "-c", is_there];
        places.host.docker(&exec).code == 0
    });
    assert_eq!(places.host.kill("lighter daemon"), 1);
    until("the port closes", || {
        places.connect(Who::Neighbour, (HOST, 8383)).is_err()
    });
    there.write_all(b"HTTP/1.0\r\n\r\n").expect("sent");
    let mut answer = String::new();
    there.read_to_string(&mut answer).expect("an answer");
    assert!(answer.contains("192.0.2.9"), "{answer}");
    places.up();
    assert_eq!(places.seen(Who::Neighbour, (HOST, 8383)), NEIGHBOUR);
    assert_eq!(places.host.kill("qemu-system"), 1);
    until("the machine's end is known", || {
        places.connect(Who::Neighbour, (HOST, 8383)).is_err()
    });
    // Any client starts it again, and with it what has a policy.
    places.host.docker(&["ps"]).ok();
    assert_eq!(places.seen(Who::Neighbour, (HOST, 8383)), NEIGHBOUR);
    let port = places.host.docker(&["port", "web", "80"]).ok().out();
    assert_eq!(port, "0.0.0.0:8383\n[::]:8383\n");
    // One that somebody has when the engine starts keeps its container down, as dockerd has it: which says why.
    places.host.lighter(&["down"]).ok();
    let own = places.at(Who::Own, || {
        std::net::TcpListener::bind((HOST, 8383)).expect("free")
    });
    places.up();
    let state = || {
        let format = "{{.State.Status}} {{.State.Error}}";
        let inspect = ["inspect", "-f", format, "web"];
        places.host.docker(&inspect).ok().out()
    };
    let taken = "failed to bind host port for 0.0.0.0:8383:";
    until("the error", || state().contains(taken));
    assert!(state().starts_with("exited failed to set up container networking: "));
    assert!(
        state().contains("address already in use by `"),
        "{}",
        state()
    );
    let log = std::fs::read_to_string(places.host.home().join("run/daemon.log")).expect("a log");
    let last = log.lines().rfind(|line| line.contains("not published"));
    assert!(last.is_some_and(|line| line.contains("8383")), "{log}");
    drop(own);
    places.host.docker(&["start", "web"]).ok();
    assert_eq!(places.seen(Who::Neighbour, (HOST, 8383)), NEIGHBOUR);
    assert!(state().starts_with("running \n"), "{}", state());
    places.host.docker(&["rm", "-f", "web"]).ok();
    assert!(places.connect(Who::Neighbour, (HOST, 8383)).is_err());
}

#[test]
fn a_container_of_the_hosts_network_is_reached_at_the_hosts_loopback_alone() {
    let name = "a_container_of_the_hosts_network_is_reached_at_the_hosts_loopback_alone";
    let Some(places) = Places::shared(name) else {
        return;
    };
    let server = SERVER.replace("-p 80", "-p 9191");
    let run = ["run", "-d", "--network", "host"];
    let sh = ["busybox", "sh", "-c", &server];
    let words = [&run[..], &["--name", "shares"], &sh].concat();
    places.host.docker(&words).ok();
    assert_eq!(places.seen(Who::Own, (LOOPBACK, 9191)), LOOPBACK_V6);
    assert_eq!(places.seen(Who::Own, (LOOPBACK_V6, 9191)), LOOPBACK_V6);
    for to in [HOST, HOST_V6] {
        assert!(places.connect(Who::Neighbour, (to, 9191)).is_err());
        assert!(places.connect(Who::Own, (to, 9191)).is_err());
    }
    // It goes with what listens, and comes with it; also over the end of the engine.
    places.host.docker(&["stop", "-t", "0", "shares"]).ok();
    until("nobody listens", || {
        places.connect(Who::Own, (LOOPBACK, 9191)).is_err()
    });
    places.host.docker(&["start", "shares"]).ok();
    places.seen(Who::Own, (LOOPBACK, 9191));
    // A port of the host's own stays the host's.
    let own = places.at(Who::Own, || {
        std::net::TcpListener::bind("127.0.0.1:9192").expect("free")
    });
    let server = SERVER.replace("-p 80", "-p 9192");
    let words = [
        &run[..],
        &["--name", "second", "busybox", "sh", "-c", &server],
    ]
    .concat();
    places.host.docker(&words).ok();
    let (mut stream, accepted) = (
        places
            .connect(Who::Own, (LOOPBACK, 9192))
            .expect("connected"),
        own.accept().expect("a connection").0,
    );
    drop(accepted);
    assert_eq!(stream.read(&mut [0]).expect("the end"), 0);
    // When the host has let it go the container has it, without anything having changed in the machine.
    let log = places.host.home().join("run/daemon.log");
    until("the host refused the port", || {
        std::fs::read_to_string(&log).is_ok_and(|said| said.contains("port=9192"))
    });
    let wanted = "9192/tcp of `second`: address already in use by `";
    for command in ["status", "doctor"] {
        let said = places.host.lighter(&[command]).out();
        assert!(said.contains(wanted), "{said}");
    }
    drop(own);
    places.seen(Who::Own, (LOOPBACK, 9192));
    let said = places.host.lighter(&["status"]).out();
    assert!(!said.contains(wanted), "{said}");
    places.host.docker(&["rm", "-f", "shares", "second"]).ok();
}
