//! A crowd of clients that are connected and say nothing.

use std::time::Duration;

use lighter_tests::http::Connection;
use lighter_tests::{Host, env, until};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that come and go with work: what a status or a restart of the clock takes.
const SPARE: usize = 32;

/// How many descriptors the processes of this Lighter with these words hold.
fn descriptors(host: &Host, what: &str) -> usize {
    let folders = host.processes(what);
    let count = |pid: &i32| std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
    folders.iter().map(count).sum()
}

fn ping(client: &mut Connection) {
    client.request("GET", "/_ping", &[], None);
    let head = client.head();
    assert_eq!((head.code(), client.body(&head)), (200, b"OK".to_vec()));
}

/// A client's socket is given to the machine's process, whole: the daemon keeps nothing of it.
#[test]
fn idle_clients_cost_the_host_one_descriptor_each_and_are_answered_when_they_ask() {
    let name = "idle_clients_cost_the_host_one_descriptor_each_and_are_answered_when_they_ask";
    let Some(host) = Host::started(name) else {
        return;
    };
    let crowd: usize = env::count(400, 10_000);
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, raised).expect("as many as the system allows");
    let held = || {
        (
            descriptors(&host, "lighter daemon"),
            descriptors(&host, "lighter machine"),
        )
    };
    let (daemon, machine) = held();
    let mut clients: Vec<Connection> = (0..crowd)
        .map(|_| Connection::open(&host.socket()))
        .collect();
    // All are in the guest once the last is answered as well as the first.
    clients.iter_mut().for_each(ping);
    let (now, handed) = held();
    assert!(now <= daemon + SPARE, "the daemon's {daemon} became {now}");
    assert!(
        handed >= machine + crowd,
        "the machine's {machine} became {handed}"
    );
    assert!(
        handed <= machine + crowd + SPARE,
        "the machine's {machine} became {handed}"
    );
    // There is room for work, and who waited long is still there.
    host.docker(&["run", "--rm", "--network", "none", "busybox", "true"])
        .ok();
    clients.iter_mut().rev().step_by(10).for_each(ping);
    drop(clients);
    until("the descriptors are closed", || {
        let (now, handed) = held();
        std::thread::sleep(Duration::from_millis(10));
        now <= daemon + SPARE && handed <= machine + SPARE
    });
}
