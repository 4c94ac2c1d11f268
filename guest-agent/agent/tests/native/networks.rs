//! Networks: what is kept of them, and what their users are told.

use serde_json::{Value, json};
use tempfile::tempdir;

use crate::api::{Answer, call, get, post};
use crate::machine::Machine;

fn make(machine: &Machine, body: &Value) -> Answer {
    call(machine, "POST", "/networks/create", body)
}

fn with_subnet(name: &str, subnet: &str) -> Value {
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
