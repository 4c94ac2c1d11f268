//! Networks that are left: by containers that end or are taken out, with an engine or without.

use std::io::Read as _;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::tempdir;

use crate::api::{call, container, get, post, remove_by_force, run, started, state, wait};
use crate::machine::{LIMIT, Machine, answer_to_ping};
use crate::naming::said_by;
use crate::networks::{SLEEP, address, inside, make, place, reaches, with_subnet};

/// Runs until there is a file `/end`.
const UNTIL_TOLD: &str = "while [ ! -e /end ]; do /bin/busybox sleep 0.02; done";

fn pid(machine: &Machine, name: &str) -> i32 {
    let pid = state(machine, name)["Pid"].as_i64().unwrap();
    i32::try_from(pid).unwrap()
}

/// Tells a container that runs `UNTIL_TOLD`.
fn tell(machine: &Machine, pid: i32) {
    std::fs::write(machine.root_of(pid).join("end"), "").unwrap();
}

/// The interfaces of a process's network.
fn interfaces(machine: &Machine, pid: i32) -> Vec<String> {
    let path = machine.proc().join(pid.to_string()).join("net/dev");
    let mut text = String::new();
    let mut file = std::fs::File::open(path).unwrap();
    file.read_to_string(&mut text).unwrap();
    let names = text.lines().filter_map(|line| line.split_once(':'));
    names.map(|(name, _)| name.trim().to_owned()).collect()
}

/// Two containers with one network, of which the first is told to end.
fn sharing(machine: &Machine, network: &str) -> (i32, i32) {
    run(machine, "owner", &inside(network, UNTIL_TOLD));
    let mut body = container(SLEEP);
    body["HostConfig"]["NetworkMode"] = "container:owner".into();
    run(machine, "guest", &body);
    let (owner, guest) = (pid(machine, "owner"), pid(machine, "guest"));
    assert_eq!(interfaces(machine, guest), ["lo", "eth0"]);
    (owner, guest)
}

#[test]
fn interfaces_go_with_their_container_and_not_with_the_last_of_a_network() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    let upon = json!({"Name": "upon", "Driver": "macvlan", "Options": {"parent": "docker0"},
        "IPAM": {"Config": [{"Subnet": "10.1.0.0/24"}]}});
    make(&machine, &upon).is(201);
    make(&machine, &with_subnet("one", "10.2.0.0/24")).is(201);
    for network in ["one", "upon"] {
        for killed in [false, true] {
            let (owner, guest) = sharing(&machine, network);
            if killed {
                machine.kill_agent();
                machine.greeted();
            }
            tell(&machine, owner);
            wait(&machine, "owner");
            // A port goes in the background, with the interface at its other end.
            let limit = Instant::now() + LIMIT;
            while interfaces(&machine, guest) != ["lo"] {
                assert!(Instant::now() < limit, "it stays in {network}, {killed}");
                std::thread::sleep(Duration::from_millis(5));
            }
            remove_by_force(&machine, "guest");
            remove_by_force(&machine, "owner");
        }
    }
    machine.nothing_left();
}

#[test]
fn who_ended_while_there_was_no_engine_has_left_its_networks() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    make(&machine, &with_subnet("one", "10.1.0.0/24")).is(201);
    let (owner, guest) = sharing(&machine, "one");
    let (there, away) = (dir.path().join("lighter-enter"), dir.path().join("away"));
    std::fs::rename(&there, &away).unwrap();
    machine.kill_agent();
    while answer_to_ping(machine.connect("docker.sock")).is_empty() {}
    tell(&machine, owner);
    let ended = machine.proc().join(owner.to_string());
    let limit = Instant::now() + LIMIT;
    while ended.exists() {
        assert!(Instant::now() < limit, "it does not end");
        std::thread::yield_now();
    }
    std::fs::rename(&away, &there).unwrap();
    while machine.ping("docker.sock") != "HTTP/1.1 200 OK" {
        assert!(Instant::now() < limit, "it is not tried again");
    }
    wait(&machine, "owner");
    assert_eq!(place(&machine, "owner", "one")["IPAddress"], "");
    while interfaces(&machine, guest) != ["lo"] {
        assert!(Instant::now() < limit, "it stays");
        std::thread::sleep(Duration::from_millis(5));
    }
    run(&machine, "next", &inside("one", SLEEP));
    assert_eq!(address(&machine, "next", "one"), "10.1.0.2");
    assert!(reaches(&machine, "one", "10.1.0.2"));
}

#[test]
fn what_a_stopped_container_was_taken_out_of_stays_left() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    let body = json!({"Container": "first"});
    make(&machine, &with_subnet("one", "10.1.0.0/24")).is(201);
    run(&machine, "first", &inside("one", SLEEP));
    post(&machine, "/containers/first/stop?t=0").is(204);
    call(&machine, "POST", "/networks/one/disconnect", &body).is(200);
    machine.kill_agent();
    machine.greeted();
    assert_eq!(place(&machine, "first", "one"), Value::Null);
    // Another network of that name is another network.
    call(&machine, "DELETE", "/networks/one", &Value::Null).is(204);
    make(&machine, &with_subnet("one", "10.2.0.0/24")).is(201);
    call(&machine, "POST", "/networks/one/connect", &body).is(200);
    post(&machine, "/containers/first/start").is(204);
    assert_eq!(address(&machine, "first", "one"), "10.2.0.2");
}

#[test]
fn a_network_is_left_even_if_its_names_cannot_be_taken_out_of_the_files() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    make(&machine, &with_subnet("one", "10.1.0.0/24")).is(201);
    run(&machine, "first", &inside("one", SLEEP));
    let inspected = get(&machine, "/containers/first/json").is(200).json();
    let hosts = std::path::PathBuf::from(inspected["HostsPath"].as_str().unwrap());
    std::fs::remove_file(&hosts).unwrap();
    std::fs::create_dir(&hosts).unwrap();
    let body = json!({"Container": "first"});
    call(&machine, "POST", "/networks/one/disconnect", &body).is(200);
    std::fs::remove_dir(&hosts).unwrap();
    assert_eq!(interfaces(&machine, pid(&machine, "first")), ["lo"]);
    assert_eq!(place(&machine, "first", "one"), Value::Null);
    run(&machine, "next", &inside("one", SLEEP));
    assert_eq!(address(&machine, "next", "one"), "10.1.0.2");
}

#[test]
fn what_a_container_set_itself_stays_when_its_other_networks_come_and_go() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    make(&machine, &with_subnet("one", "10.1.0.0/24")).is(201);
    make(&machine, &with_subnet("two", "10.2.0.0/24")).is(201);
    let mut body = inside("one", SLEEP);
    (body["Hostname"], body["HostConfig"]["CapAdd"]) = ("own".into(), json!(["NET_ADMIN"]));
    run(&machine, "first", &body);
    let says = |script| said_by(&machine, "first", &["/bin/busybox", "sh", "-c", script]);
    let hosts = || says("/bin/busybox cat /etc/hosts");
    let routes = || says("/bin/busybox ip route");
    let before = hosts();
    let script = "/bin/busybox printf '9.9.9.9 mine\\n#remark\\n10.2.0.2\\town2' >>/etc/hosts; \
        /bin/busybox ip route replace default via 10.1.0.77";
    says(script);
    let own = format!("{before}9.9.9.9 mine\n#remark\n10.2.0.2\town2\n");
    let body = json!({"Container": "first"});
    call(&machine, "POST", "/networks/two/connect", &body).is(200);
    assert_eq!(hosts(), format!("{own}10.2.0.2\town\n"));
    assert!(routes().contains("default via 10.1.0.77"), "{}", routes());
    call(&machine, "POST", "/networks/two/disconnect", &body).is(200);
    assert_eq!(hosts(), own);
    assert!(routes().contains("default via 10.1.0.77"), "{}", routes());
    // Its way changes when the network goes that it was by.
    call(&machine, "POST", "/networks/two/connect", &body).is(200);
    call(&machine, "POST", "/networks/one/disconnect", &body).is(200);
    assert!(routes().contains("default via 10.2.0.1"), "{}", routes());
    let own = format!("{own}10.2.0.2\town\n").replace("10.1.0.2\town\n", "");
    assert_eq!(hosts(), own);
    // However long it makes the file, nothing is kept from it.
    says("/bin/busybox truncate -s 1T /etc/hosts");
    call(&machine, "POST", "/networks/one/connect", &body).is(200);
    call(&machine, "POST", "/networks/one/disconnect", &body).is(200);
}

#[test]
fn who_ends_while_it_is_put_into_networks_and_taken_out_is_in_none() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    make(&machine, &with_subnet("one", "10.1.0.0/24")).is(201);
    make(&machine, &with_subnet("two", "10.2.0.0/24")).is(201);
    let body = json!({"Container": "first"});
    for round in 0..24 {
        run(&machine, "first", &inside("one", UNTIL_TOLD));
        let pid = pid(&machine, "first");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for change in ["connect", "disconnect"].iter().cycle().take(6) {
                    let path = format!("/networks/two/{change}");
                    call(&machine, "POST", &path, &body);
                }
            });
            std::thread::sleep(Duration::from_millis(round * 3));
            tell(&machine, pid);
            wait(&machine, "first");
        });
        for network in ["one", "two"] {
            let shown = get(&machine, &format!("/networks/{network}"))
                .is(200)
                .json();
            assert_eq!(shown["Containers"], json!({}), "round {round}");
        }
        remove_by_force(&machine, "first");
        // Its addresses are free.
        for (network, first) in [("one", "10.1.0.2"), ("two", "10.2.0.2")] {
            run(&machine, "next", &inside(network, SLEEP));
            assert_eq!(address(&machine, "next", network), first, "round {round}");
            remove_by_force(&machine, "next");
        }
    }
    machine.nothing_left();
}
