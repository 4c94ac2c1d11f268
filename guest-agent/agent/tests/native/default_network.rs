//! The default network with subnets of its user's choice, and with IPv6.

use lighter_protocol::{EngineSettings, Hello, Route, Routes};
use serde_json::json;
use tempfile::tempdir;

use crate::api::{get, load_image, run};
use crate::machine::{Machine, hello};
use crate::networks::{SLEEP, inside, make, place, reaches, with_subnet};

fn hello_with(change: impl FnOnce(&mut EngineSettings)) -> Hello {
    let mut hello = hello();
    change(&mut hello.boot.engine);
    hello
}

#[test]
fn the_default_network_has_the_subnets_of_the_settings() {
    let dir = tempdir().unwrap();
    let machine = Machine::start(dir.path());
    let wanted = |settings: &mut EngineSettings| {
        settings.bip = "10.99.0.5/24".into();
        settings.ipv6 = true;
        settings.fixed_cidr_v6 = "fd00:99::/64".into();
    };
    machine.greeted_with(hello_with(wanted));
    load_image(&machine, dir.path());
    let bridge = get(&machine, "/networks/bridge").is(200).json();
    assert_eq!(bridge["EnableIPv6"], true);
    assert_eq!(
        bridge["IPAM"]["Config"],
        json!([
            {"Subnet": "10.99.0.0/24", "Gateway": "10.99.0.5"},
            {"Subnet": "fd00:99::/64", "IPRange": "fd00:99::/64"},
        ])
    );
    run(&machine, "first", &inside("bridge", SLEEP));
    let first = place(&machine, "first", "bridge");
    for (field, value) in [
        ("Gateway", json!("10.99.0.5")),
        ("IPAddress", json!("10.99.0.1")),
        ("IPPrefixLen", json!(24)),
        ("IPv6Gateway", json!("fd00:99::1")),
        ("GlobalIPv6Address", json!("fd00:99::2")),
        ("GlobalIPv6PrefixLen", json!(64)),
    ] {
        assert_eq!(first[field], value, "{field}");
    }
    for address in ["10.99.0.1", "fd00:99::2", "10.99.0.5", "fd00:99::1"] {
        assert!(reaches(&machine, "bridge", address), "{address}");
    }
    assert!(
        make(&machine, &with_subnet("over", "10.99.0.128/25"))
            .is(403)
            .text()
            .contains("Pool overlaps")
    );
    // Nobody has the pools' first now.
    make(&machine, &json!({"Name": "other"})).is(201);
    let other = get(&machine, "/networks/other").is(200).json();
    assert_eq!(other["IPAM"]["Config"][0]["Subnet"], "172.17.0.0/16");

    // While the machine is up it stays what it is, whatever is said.
    machine.kill_agent();
    machine.greeted();
    assert_eq!(
        get(&machine, "/networks/bridge").is(200).json()["IPAM"],
        bridge["IPAM"]
    );
    assert_eq!(place(&machine, "first", "bridge"), first);
    assert!(reaches(&machine, "bridge", "fd00:99::2"));
}

/// The subnet that a new network has.
fn chosen(machine: &Machine, name: &str) -> String {
    make(machine, &json!({"Name": name})).is(201);
    let network = get(machine, &format!("/networks/{name}")).is(200).json();
    let subnet = network["IPAM"]["Config"][0]["Subnet"].as_str();
    subnet.unwrap().to_owned()
}

#[test]
fn networks_keep_away_from_the_hosts_routes() {
    let dir = tempdir().unwrap();
    let machine = Machine::start(dir.path());
    let route = |to: &str, direct| Route {
        to: to.into(),
        direct,
    };
    let mut hello = hello();
    hello.boot.routes = vec![route("172.16.0.0/15", true), route("wrong", true)];
    let mut host = machine.greeted_with(hello);
    let bridge = get(&machine, "/networks/bridge").is(200).json();
    assert_eq!(bridge["IPAM"]["Config"][0]["Subnet"], "172.18.0.0/16");
    assert_eq!(chosen(&machine, "first"), "172.19.0.0/16");
    let routes = vec![route("172.20.9.0/24", false)];
    host.send(Routes { routes });
    // Answered behind it.
    host.health();
    assert_eq!(chosen(&machine, "second"), "172.17.0.0/16");
    assert_eq!(chosen(&machine, "third"), "172.21.0.0/16");
    make(&machine, &with_subnet("named", "172.20.9.0/25")).is(201);
    // The next agent of this machine knows what the first was told, and hears of the rest.
    machine.kill_agent();
    machine.greeted();
    assert_eq!(
        get(&machine, "/networks/bridge").is(200).json()["IPAM"],
        bridge["IPAM"]
    );
}

#[test]
fn a_default_network_that_cannot_be_is_said() {
    let dir = tempdir().unwrap();
    let machine = Machine::start(dir.path());
    let mut host = machine.control();
    let wrong = hello_with(|settings| settings.bip = "10.99.0.0/24".into());
    host.greet(wrong).unwrap();
    let said = loop {
        if let lighter_protocol::EngineState::Failed { message } = host.health() {
            break message;
        }
    };
    assert_eq!(
        said,
        "error creating default \"bridge\" network: failed to allocate gateway (10.99.0.0): Address already in use"
    );
}
