//! Networks: what is kept of them, and what their users are told.

use serde_json::{Value, json};
use tempfile::tempdir;

use crate::api::{
    Answer, call, container, create, get, logs, post, remove_by_force, run, started, state, wait,
};
use crate::machine::Machine;

pub fn make(machine: &Machine, body: &Value) -> Answer {
    call(machine, "POST", "/networks/create", body)
}

pub fn with_subnet(name: &str, subnet: &str) -> Value {
    json!({"Name": name, "IPAM": {"Config": [{"Subnet": subnet}]}})
}

fn names(machine: &Machine) -> Vec<String> {
    let listed = get(machine, "/networks").is(200).json();
    let name = |network: &Value| network["Name"].as_str().unwrap().to_owned();
    listed.as_array().unwrap().iter().map(name).collect()
}

#[test]
fn networks_outlive_the_engine_and_keep_their_subnets() {
    let dir = tempdir().unwrap();
    let machine = Machine::start(dir.path());
    machine.greeted();
    make(&machine, &json!({"Name": "first", "EnableIPv6": true})).is(201);
    make(&machine, &with_subnet("second", "172.19.4.0/24")).is(201);
    let before = get(&machine, "/networks/first").is(200).json();
    machine.kill_agent();
    machine.greeted();
    assert_eq!(
        names(&machine),
        ["none", "host", "bridge", "first", "second"]
    );
    assert_eq!(get(&machine, "/networks/first").is(200).json(), before);
    // The pools go on behind what is there.
    make(&machine, &json!({"Name": "third"})).is(201);
    let third = get(&machine, "/networks/third").is(200).json();
    assert_eq!(third["IPAM"]["Config"][0]["Subnet"], "172.20.0.0/16");
    for (name, subnet) in [("fourth", "172.18.7.0/24"), ("fifth", "172.16.0.0/12")] {
        let refused = make(&machine, &with_subnet(name, subnet)).is(403);
        assert!(
            refused.text().contains("Pool overlaps"),
            "{}",
            refused.text()
        );
    }
    assert_eq!(make(&machine, &json!({"Name": "first"})).status, 409);
}

#[test]
fn two_at_once_get_neither_one_name_nor_one_subnet() {
    let dir = tempdir().unwrap();
    let machine = Machine::start(dir.path());
    machine.greeted();
    let subnets = std::thread::scope(|scope| {
        let made: Vec<_> = (0..8)
            .map(|number| {
                let machine = &machine;
                scope.spawn(move || {
                    let name = format!("n{number}");
                    make(machine, &json!({ "Name": name })).is(201);
                    let twice = make(machine, &json!({"Name": "same"}));
                    let network = get(machine, &format!("/networks/{name}")).is(200).json();
                    let subnet = network["IPAM"]["Config"][0]["Subnet"].clone();
                    (subnet.to_string(), twice.status)
                })
            })
            .collect();
        made.into_iter()
            .map(|made| made.join().unwrap())
            .collect::<Vec<_>>()
    });
    let different: std::collections::BTreeSet<_> = subnets.iter().map(|(one, _)| one).collect();
    assert_eq!(different.len(), 8, "{subnets:?}");
    let made = subnets.iter().filter(|(_, status)| *status == 201).count();
    assert_eq!(made, 1, "{subnets:?}");
    let pruned = post(&machine, "/networks/prune").is(200).json();
    assert_eq!(pruned["NetworksDeleted"].as_array().unwrap().len(), 9);
    assert_eq!(names(&machine), ["none", "host", "bridge"]);
}

/// A container that runs `script` in a network.
pub fn inside(network: &str, script: &str) -> Value {
    let mut body = container(script);
    body["HostConfig"]["NetworkMode"] = network.into();
    body
}

pub const SLEEP: &str = "exec /bin/busybox sleep 100000";

/// Its place in a network, as inspect shows it.
pub fn place(machine: &Machine, name: &str, network: &str) -> Value {
    let container = get(machine, &format!("/containers/{name}/json")).is(200);
    container.json()["NetworkSettings"]["Networks"][network].take()
}

pub fn address(machine: &Machine, name: &str, network: &str) -> String {
    place(machine, name, network)["IPAddress"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// Whether a new container of this network gets an answer from an address.
pub fn reaches(machine: &Machine, network: &str, address: &str) -> bool {
    let script = format!("exec /bin/busybox ping -c 1 -W 2 {address}");
    run(machine, "asks", &inside(network, &script));
    let ended = post(machine, "/containers/asks/wait").is(200).json();
    remove_by_force(machine, "asks");
    ended["StatusCode"] == 0
}

#[test]
fn containers_of_one_network_reach_each_other_and_no_others() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    make(&machine, &with_subnet("one", "10.1.0.0/24")).is(201);
    make(&machine, &with_subnet("two", "10.2.0.0/24")).is(201);
    run(&machine, "first", &inside("one", SLEEP));
    run(&machine, "second", &inside("bridge", SLEEP));
    assert_eq!(address(&machine, "first", "one"), "10.1.0.2");
    assert_eq!(address(&machine, "second", "bridge"), "172.17.0.2");
    assert!(reaches(&machine, "one", "10.1.0.2"));
    assert!(reaches(&machine, "bridge", "172.17.0.2"));
    assert!(!reaches(&machine, "two", "10.1.0.2"));
    assert!(!reaches(&machine, "bridge", "10.1.0.2"));
    let shown = get(&machine, "/networks/bridge").is(200).json();
    let shown: Vec<&Value> = shown["Containers"].as_object().unwrap().values().collect();
    assert_eq!(shown.len(), 1);
    assert_eq!(shown[0]["Name"], "second");
    assert_eq!(shown[0]["IPv4Address"], "172.17.0.2/16");
    // Their hosts know them by name.
    let body = inside(
        "one",
        "exec /bin/busybox grep -c named.here.*named /etc/hosts",
    );
    let mut body = body;
    (body["Hostname"], body["Domainname"]) = ("named".into(), "here".into());
    run(&machine, "named", &body);
    let ended = post(&machine, "/containers/named/wait").is(200).json();
    assert_eq!(ended["StatusCode"], 0);
    let refused = call(&machine, "DELETE", "/networks/one", &Value::Null).is(403);
    assert!(
        refused.text().contains("has active endpoints"),
        "{}",
        refused.text()
    );
    remove_by_force(&machine, "first");
    call(&machine, "DELETE", "/networks/one", &Value::Null).is(204);
}

#[test]
fn addresses_come_back_and_survive_the_engine() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    make(&machine, &with_subnet("one", "10.1.0.0/24")).is(201);
    run(&machine, "first", &inside("one", SLEEP));
    run(&machine, "second", &inside("one", SLEEP));
    let before = place(&machine, "first", "one");
    machine.kill_agent();
    machine.greeted();
    assert_eq!(place(&machine, "first", "one"), before);
    assert!(reaches(&machine, "one", "10.1.0.2"));
    let mut fixed = inside("one", SLEEP);
    fixed["NetworkingConfig"] =
        json!({"EndpointsConfig": {"one": {"IPAMConfig": {"IPv4Address": "10.1.0.3"}}}});
    create(&machine, "fixed", &fixed);
    let refused = post(&machine, "/containers/fixed/start").is(403);
    assert!(
        refused
            .text()
            .contains("failed to set up container networking: Address already in use"),
        "{}",
        refused.text()
    );
    post(&machine, "/containers/second/stop?t=0").is(204);
    assert_eq!(place(&machine, "second", "one")["IPAddress"], "");
    post(&machine, "/containers/fixed/start").is(204);
    assert_eq!(address(&machine, "fixed", "one"), "10.1.0.3");
    assert!(reaches(&machine, "one", "10.1.0.3"));
    post(&machine, "/containers/second/start").is(204);
    assert_eq!(address(&machine, "second", "one"), "10.1.0.4");
    post(&machine, "/containers/second/restart?t=0").is(204);
    assert_eq!(address(&machine, "second", "one"), "10.1.0.4");
}

#[test]
fn a_container_that_runs_is_put_into_networks_and_taken_out() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    make(&machine, &with_subnet("one", "10.1.0.0/24")).is(201);
    make(&machine, &with_subnet("two", "10.2.0.0/24")).is(201);
    run(&machine, "first", &inside("one", SLEEP));
    let body = json!({"Container": "first"});
    call(&machine, "POST", "/networks/two/connect", &body).is(200);
    assert_eq!(address(&machine, "first", "two"), "10.2.0.2");
    assert!(reaches(&machine, "two", "10.2.0.2"));
    let twice = call(&machine, "POST", "/networks/two/connect", &body).is(403);
    assert!(
        twice.text().contains("already exists in network two"),
        "{}",
        twice.text()
    );
    machine.kill_agent();
    machine.greeted();
    assert!(reaches(&machine, "two", "10.2.0.2"));
    call(&machine, "POST", "/networks/one/disconnect", &body).is(200);
    assert_eq!(place(&machine, "first", "one"), Value::Null);
    // Its address is the next one's.
    run(&machine, "next", &inside("one", SLEEP));
    assert_eq!(address(&machine, "next", "one"), "10.1.0.2");
    remove_by_force(&machine, "next");
    // The name of the interface that was left is free, the other's is not.
    call(&machine, "POST", "/networks/bridge/connect", &body).is(200);
    assert_eq!(address(&machine, "first", "bridge"), "172.17.0.2");
    assert!(reaches(&machine, "bridge", "172.17.0.2"));
    call(&machine, "DELETE", "/networks/one", &Value::Null).is(204);
    assert!(reaches(&machine, "two", "10.2.0.2"));
}

#[test]
fn twenty_starts_at_once_get_twenty_addresses() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    for number in 0..20 {
        create(&machine, &format!("c{number}"), &inside("bridge", SLEEP));
    }
    std::thread::scope(|scope| {
        for number in 0..20 {
            let machine = &machine;
            scope.spawn(move || {
                post(machine, &format!("/containers/c{number}/start")).is(204);
            });
        }
    });
    let addresses: std::collections::BTreeSet<String> = (0..20)
        .map(|number| address(&machine, &format!("c{number}"), "bridge"))
        .collect();
    assert_eq!(addresses.len(), 20, "{addresses:?}");
    assert!(reaches(&machine, "bridge", addresses.last().unwrap()));
    for number in 0..20 {
        remove_by_force(&machine, &format!("c{number}"));
    }
    machine.nothing_left();
}

#[test]
fn a_restart_by_the_policy_has_an_address_again() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    let mut body = inside("bridge", "exit 1");
    body["HostConfig"]["RestartPolicy"] = json!({"Name": "on-failure", "MaximumRetryCount": 2});
    run(&machine, "again", &body);
    post(&machine, "/containers/again/wait").is(200);
    run(&machine, "other", &inside("bridge", SLEEP));
    loop {
        let state = get(&machine, "/containers/again/json").is(200).json();
        if state["State"]["Status"] == "exited" {
            assert_eq!(state["RestartCount"], 2);
            break;
        }
        std::thread::yield_now();
    }
    post(&machine, "/containers/other/restart?t=0").is(204);
    assert_eq!(address(&machine, "other", "bridge"), "172.17.0.2");
}

#[test]
fn the_address_asked_for_is_shown_and_a_shared_network_is_not_ones_own() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    let mut body = inside("bridge", SLEEP);
    let address = "02:42:ac:11:00:98";
    body["NetworkingConfig"]["EndpointsConfig"]["bridge"]["MacAddress"] = address.into();
    run(&machine, "first", &body);
    run(&machine, "second", &inside("bridge", SLEEP));
    run(&machine, "shares", &inside("container:first", SLEEP));
    run(&machine, "hosts", &inside("host", SLEEP));
    let shown = |name: &str| {
        get(&machine, &format!("/containers/{name}/json"))
            .is(200)
            .json()
    };
    assert_eq!(shown("first")["Config"]["MacAddress"], address);
    // One that the network chose is none that was asked for.
    assert!(shown("second")["Config"].get("MacAddress").is_none());
    let sandbox = |name: &str, field: &str| {
        let settings = shown(name)["NetworkSettings"].take();
        settings[field].as_str().unwrap().to_owned()
    };
    assert_ne!(sandbox("first", "SandboxID"), "");
    assert_eq!(sandbox("shares", "SandboxID"), "");
    assert_eq!(sandbox("shares", "SandboxKey"), "");
    assert!(sandbox("hosts", "SandboxKey").ends_with("/netns/default"));
}

#[test]
fn a_network_by_its_id_is_the_network() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    make(&machine, &json!({"Name": "named"})).is(201);
    let network = get(&machine, "/networks/named").is(200).json();
    let id = network["Id"].as_str().unwrap().to_owned();
    for (number, reference) in [&id[..12], &id].into_iter().enumerate() {
        let name = format!("by{number}");
        run(&machine, &name, &inside(reference, SLEEP));
        let inspected = get(&machine, &format!("/containers/{name}/json"))
            .is(200)
            .json();
        let networks = inspected["NetworkSettings"]["Networks"]
            .as_object()
            .unwrap();
        assert_eq!(
            networks.keys().collect::<Vec<_>>(),
            ["named"],
            "{reference}"
        );
        let shown = get(&machine, "/networks/named").is(200).json();
        assert_eq!(shown["Containers"].as_object().unwrap().len(), 1);
        // Nobody takes it away from under a container.
        call(&machine, "DELETE", "/networks/named", &Value::Null).is(403);
        remove_by_force(&machine, &name);
    }
    call(&machine, "DELETE", "/networks/named", &Value::Null).is(204);
}

/// What a new container of a network prints.
fn said_in(machine: &Machine, network: &str, script: &str) -> String {
    run(machine, "says", &inside(network, script));
    wait(machine, "says");
    let said = String::from_utf8(logs(machine, "says")).unwrap();
    remove_by_force(machine, "says");
    said
}

#[test]
fn a_container_has_the_link_local_addresses_that_it_asks_for() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    make(&machine, &with_subnet("one", "10.1.0.0/24")).is(201);
    let script = "/bin/busybox ip -o addr show dev eth0";
    let mut body = inside("one", script);
    body["NetworkingConfig"] = json!({"EndpointsConfig": {"one": {
        "IPAMConfig": {"LinkLocalIPs": ["169.254.5.5", "fe80::55"]}}}});
    run(&machine, "near", &body);
    wait(&machine, "near");
    let said = String::from_utf8(logs(&machine, "near")).unwrap();
    for address in ["169.254.5.5/16", "fe80::55/64", "10.1.0.2/24"] {
        assert!(said.contains(address), "{address}: {said}");
    }
}

#[test]
fn a_mode_of_the_gateway_that_is_not_there_is_refused_by_name() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    for mode in ["routed", "nat-unprotected"] {
        let mut body = with_subnet("one", "10.1.0.0/24");
        body["Options"] = json!({"com.docker.network.bridge.gateway_mode_ipv4": mode});
        let refused = make(&machine, &body).is(501).text();
        assert!(refused.contains(mode), "{refused}");
    }
    get(&machine, "/networks/one").is(404);
}

#[test]
fn a_network_may_have_no_router_or_another_one() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    let isolated = "com.docker.network.bridge.gateway_mode_ipv4";
    let inhibit = "com.docker.network.bridge.inhibit_ipv4";
    for (number, (key, value, internal, own, way)) in [
        (isolated, "isolated", true, 1, None),
        (isolated, "nat", true, 2, None),
        (inhibit, "true", true, 1, None),
        (inhibit, "true", false, 2, Some(1)),
        (inhibit, "false", false, 2, Some(1)),
    ]
    .into_iter()
    .enumerate()
    {
        let mut body = with_subnet("one", &format!("10.1.{number}.0/24"));
        (body["Internal"], body["Options"]) = (internal.into(), json!({key: value}));
        make(&machine, &body).is(201);
        let network = get(&machine, "/networks/one").is(200).json();
        let bridge = format!("br-{}", &network["Id"].as_str().unwrap()[..12]);
        let said = said_in(&machine, "one", "/bin/busybox ip -4 -o addr show dev eth0");
        assert!(said.contains(&format!("10.1.{number}.{own}/24")), "{said}");
        let said = said_in(&machine, "one", "/bin/busybox ip route");
        let default = way.map(|way| format!("default via 10.1.{number}.{way} "));
        assert_eq!(said.contains("default"), way.is_some(), "{said}");
        assert!(said.contains(&default.unwrap_or_default()), "{said}");
        let script = format!("/bin/busybox ip -4 -o addr show dev {bridge}");
        let said = said_in(&machine, "host", &script);
        assert_eq!(
            said.is_empty(),
            ["isolated", "true"].contains(&value),
            "{said}"
        );
        call(&machine, "DELETE", "/networks/one", &Value::Null).is(204);
    }
}

#[test]
fn the_hosts_network_and_none_are_had_alone() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    make(&machine, &with_subnet("one", "10.1.0.0/24")).is(201);
    for (mode, other, words) in [
        ("bridge", "host", "must be created in host network mode"),
        ("one", "host", "must be created in host network mode"),
        ("host", "bridge", "cannot be connected to any other network"),
        ("host", "none", "cannot be connected to any other network"),
        (
            "bridge",
            "none",
            "one of the networks in private (none) mode",
        ),
        ("none", "one", "one of the networks in private (none) mode"),
    ] {
        let mut body = inside(mode, SLEEP);
        body["NetworkingConfig"] = json!({"EndpointsConfig": {mode: {}, other: {}}});
        create(&machine, "both", &body);
        let refused = post(&machine, "/containers/both/start").is(400);
        assert!(
            refused.text().contains(words),
            "{mode} {other}: {}",
            refused.text()
        );
        remove_by_force(&machine, "both");
    }
    // What is named before there is such a network is judged when it is there.
    create(&machine, "later", &inside("none", SLEEP));
    let body = json!({"Container": "later"});
    call(&machine, "POST", "/networks/two/connect", &body).is(200);
    make(&machine, &with_subnet("two", "10.2.0.0/24")).is(201);
    post(&machine, "/containers/later/start").is(400);
    run(&machine, "next", &inside("one", SLEEP));
    assert_eq!(address(&machine, "next", "one"), "10.1.0.2");
}

#[test]
fn what_a_network_is_upon_has_to_be_there() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    for driver in ["macvlan", "ipvlan"] {
        for (parent, words) in [
            ("eth7", "invalid subinterface vlan name eth7"),
            ("eth7.10", "was not found on the host: eth7"),
            ("docker0.x", "unable to parse a valid vlan id from: x"),
            ("lo", "loopback interface is not a valid"),
        ] {
            let mut body = with_subnet("upon", "10.1.0.0/24");
            body["Driver"] = driver.into();
            body["Options"] = json!({"parent": parent});
            let refused = make(&machine, &body).is(500);
            assert!(refused.text().contains(words), "{}", refused.text());
        }
    }
    assert_eq!(names(&machine), ["none", "host", "bridge"]);
}

#[test]
fn a_start_says_what_its_interface_cannot_have_or_be_upon() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    let low = json!({"com.docker.network.bridge.name": "low0"});
    make(&machine, &json!({"Name": "low", "Options": low})).is(201);
    for (driver, subnet) in [("macvlan", "10.1.0.0/24"), ("ipvlan", "10.2.0.0/24")] {
        let mut body = with_subnet(driver, subnet);
        body["Driver"] = driver.into();
        body["Options"] = json!({"parent": "low0"});
        make(&machine, &body).is(201);
        create(&machine, &format!("on-{driver}"), &inside(driver, SLEEP));
    }
    let mut own = inside("ipvlan", SLEEP);
    own["NetworkingConfig"] =
        json!({"EndpointsConfig": {"ipvlan": {"MacAddress": "02:00:00:00:00:01"}}});
    create(&machine, "own", &own);
    let refused = |name: &str, why: &str| {
        let said = post(&machine, &format!("/containers/{name}/start")).is(500);
        let expected = format!("failed to set up container networking: {why}");
        assert_eq!(said.json()["message"], expected);
        let after = state(&machine, name);
        assert_eq!(
            (&after["Status"], &after["ExitCode"], &after["Error"]),
            (&json!("created"), &json!(128), &json!(expected))
        );
    };
    let why = "failed to create endpoint own on network ipvlan: ipvlan interfaces do not support custom mac address \
               assignment";
    refused("own", why);
    run(&machine, "joins", &inside("bridge", SLEEP));
    let body = json!({"Container": "joins", "EndpointConfig": {"MacAddress": "02:00:00:00:00:01"}});
    let said = call(&machine, "POST", "/networks/ipvlan/connect", &body).is(500);
    assert_eq!(said.json()["message"], why.replace(" own ", " joins "));
    assert_eq!(place(&machine, "joins", "ipvlan"), Value::Null);
    call(&machine, "DELETE", "/networks/low", &Value::Null).is(204);
    let why = "the requested parent interface low0 was not found on the Docker host";
    refused("on-macvlan", why);
    refused("on-ipvlan", why);
    // Neither is a container that runs any worse for it.
    run(&machine, "runs", &inside("bridge", SLEEP));
    let body = json!({"Container": "runs"});
    let said = call(&machine, "POST", "/networks/macvlan/connect", &body).is(500);
    assert_eq!(said.json()["message"], why);
    assert_eq!(place(&machine, "runs", "macvlan"), Value::Null);
}

#[test]
fn no_two_networks_have_one_bridge() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    make(&machine, &json!({"Name": "first"})).is(201);
    let first = get(&machine, "/networks/first").is(200).json();
    let bridge = format!("br-{}", &first["Id"].as_str().unwrap()[..12]);
    let upon = |name: &str, bridge: &str| {
        let options = json!({"com.docker.network.bridge.name": bridge});
        make(&machine, &json!({"Name": name, "Options": options}))
    };
    let refused = upon("second", &bridge).is(403);
    assert!(
        refused.text().contains("same bridge name"),
        "{}",
        refused.text()
    );
    let refused = upon("third", "lo").is(500);
    assert!(
        refused
            .text()
            .contains("existing interface lo is not a bridge"),
        "{}",
        refused.text()
    );
    // What extensions of bridges are called.
    upon("third", "lx0123abcd").is(400);
    upon("fourth", "lx0123abc").is(201);
}
