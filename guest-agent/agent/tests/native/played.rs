//! The host's side of published ports, played: it goes, comes back, and is asked again.

use std::os::unix::net::UnixListener;
use std::path::Path;

use lighter_protocol::{Bound, Message, Opened, Request};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::{Value, json};
use tempfile::tempdir;

use crate::api::{container, create, get, post, remove_by_force, run, started};
use crate::machine::{Host, LIMIT};

const SLEEP: &str = "exec /bin/busybox sleep 100000";

/// Where the guest asks the host.
struct Played(UnixListener);

impl Played {
    fn at(dir: &Path) -> Self {
        let path = dir.join("host.sock");
        let _ = std::fs::remove_file(&path);
        Self(UnixListener::bind(path).unwrap())
    }

    /// The next stream, and for which container its ports are asked for.
    fn asked(&self) -> (Host, String) {
        let mut waits = [PollFd::new(&self.0, PollFlags::IN)];
        let longest = Timespec::try_from(LIMIT).unwrap();
        let asked = poll(&mut waits, Some(&longest)).unwrap();
        assert_eq!(asked, 1, "the host is not asked");
        let (stream, _) = self.0.accept().unwrap();
        let mut host = Host::on(stream);
        match host.receive() {
            Some(Message::Open(open)) => match open.request {
                Request::Publish(publish) => (host, publish.name),
                other => panic!("{other:?} is asked for"),
            },
            other => panic!("{other:?} is no question"),
        }
    }
}

/// The port that is asked for on a stream, which is had from here on.
fn bound(host: &mut Host) -> u16 {
    let Some(Message::Bind(bind)) = host.receive() else {
        panic!("no port is asked for")
    };
    host.send(Bound {
        number: bind.number,
        failed: None,
    });
    bind.port
}

fn publishing(ports: &[u16]) -> Value {
    let mut body = container(SLEEP);
    body["HostConfig"]["NetworkMode"] = "bridge".into();
    for port in ports {
        let key = format!("{port}/tcp");
        body["ExposedPorts"][&key] = json!({});
        body["HostConfig"]["PortBindings"][&key] = json!([{ "HostPort": port.to_string() }]);
    }
    body
}

#[test]
fn ports_that_no_host_was_there_for_are_asked_of_the_next_one() {
    let dir = tempdir().unwrap();
    drop(Played::at(dir.path()));
    let machine = started(dir.path());
    run(&machine, "web", &publishing(&[8080, 8081]));
    let played = Played::at(dir.path());
    let _hello = machine.greeted();
    let (mut host, name) = played.asked();
    assert_eq!(name, "web");
    host.send(Opened::Publish);
    assert_eq!([bound(&mut host), bound(&mut host)], [8080, 8081]);
}

#[test]
fn a_host_that_goes_while_a_container_starts_costs_it_no_port() {
    let dir = tempdir().unwrap();
    let played = Played::at(dir.path());
    let machine = started(dir.path());
    create(&machine, "web", &publishing(&[8080, 8081]));
    std::thread::scope(|scope| {
        let start = scope.spawn(|| post(&machine, "/containers/web/start").is(204));
        let (mut host, _) = played.asked();
        host.send(Opened::Publish);
        assert_eq!(bound(&mut host), 8080);
        // It is asked for the second one, and gone.
        assert!(matches!(host.receive(), Some(Message::Bind(_))));
        drop(host);
        let (mut host, name) = played.asked();
        assert_eq!(name, "web");
        host.send(Opened::Publish);
        assert_eq!([bound(&mut host), bound(&mut host)], [8080, 8081]);
        start.join().unwrap();
    });
    let shown = get(&machine, "/containers/web/json").is(200).json();
    let shown = &shown["NetworkSettings"]["Ports"];
    assert_eq!(shown["8081/tcp"][0]["HostPort"], "8081", "{shown}");
}

/// The next host comes at the very moment at which a container's start has found none.
#[test]
fn a_host_that_comes_while_a_container_starts_is_asked_for_its_ports() {
    let dir = tempdir().unwrap();
    let played = Played::at(dir.path());
    let machine = started(dir.path());
    for round in 0..30 {
        let name = format!("web{round}");
        create(&machine, &name, &publishing(&[8080]));
        std::thread::scope(|scope| {
            let start =
                scope.spawn(|| post(&machine, &format!("/containers/{name}/start")).is(204));
            drop(played.asked());
            let (mut host, _) = played.asked();
            host.send(Opened::Publish);
            assert_eq!(bound(&mut host), 8080, "round {round}");
            start.join().unwrap();
            // It is closed when the container ends.
            let ended = scope.spawn(|| remove_by_force(&machine, &name));
            assert_eq!(host.receive(), None);
            drop(host);
            ended.join().unwrap();
        });
    }
}
