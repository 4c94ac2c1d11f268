//! Links in the default network: variables, names that follow the container they lead to, and how a link goes.

use std::path::PathBuf;

use serde_json::{Value, json};
use tempfile::tempdir;

use crate::api::{Answer, call, create, get, logs, post, remove_by_force, run, started, wait};
use crate::machine::Machine;
use crate::networks::{SLEEP, address, inside, make, with_subnet};

fn linked(links: &[&str], script: &str) -> Value {
    let mut body = inside("bridge", script);
    body["HostConfig"]["Links"] = json!(links);
    body
}

fn stop(machine: &Machine, name: &str) {
    post(machine, &format!("/containers/{name}/stop?t=0")).is(204);
}

fn start(machine: &Machine, name: &str) -> Answer {
    post(machine, &format!("/containers/{name}/start"))
}

fn links(machine: &Machine, name: &str) -> Value {
    let inspected = get(machine, &format!("/containers/{name}/json")).is(200);
    inspected.json()["HostConfig"]["Links"].take()
}

/// `/etc/hosts` of a container, without what every one has.
fn hosts(machine: &Machine, name: &str) -> Vec<String> {
    let inspected = get(machine, &format!("/containers/{name}/json")).is(200);
    let path = PathBuf::from(inspected.json()["HostsPath"].as_str().unwrap());
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().skip(6).map(str::to_owned).collect()
}

fn short_id(machine: &Machine, name: &str) -> String {
    let inspected = get(machine, &format!("/containers/{name}/json")).is(200);
    inspected.json()["Id"].as_str().unwrap()[..12].to_owned()
}

/// A target `db` with an address of its own, and `web` that links to it.
fn pair(machine: &Machine) {
    let mut target = inside("bridge", SLEEP);
    target["ExposedPorts"] = json!({"5432/tcp": {}});
    target["Env"] = json!(["USER=me"]);
    run(machine, "db", &target);
    run(machine, "web", &linked(&["db:store"], SLEEP));
}

/// Has the target another address when it starts again.
fn readdress(machine: &Machine, thief: &str) -> String {
    stop(machine, "db");
    run(machine, thief, &inside("bridge", SLEEP));
    start(machine, "db").is(204);
    address(machine, "db", "bridge")
}

#[test]
fn a_link_is_variables_and_a_name() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    pair(&machine);
    let (ip, id) = (address(&machine, "db", "bridge"), short_id(&machine, "db"));
    let script = "/bin/busybox env; /bin/busybox ping -c 1 -W 2 store >/dev/null && echo reached";
    run(&machine, "asks", &linked(&["db:store"], script));
    assert_eq!(wait(&machine, "asks"), 0);
    let said = String::from_utf8(logs(&machine, "asks")).unwrap();
    for line in [
        format!("STORE_PORT=tcp://{ip}:5432"),
        format!("STORE_PORT_5432_TCP_ADDR={ip}"),
        "STORE_NAME=/asks/store".into(),
        "STORE_ENV_USER=me".into(),
        "reached".into(),
    ] {
        assert!(said.lines().any(|said| said == line), "{line}: {said}");
    }
    let own = format!(
        "{}\t{}",
        address(&machine, "web", "bridge"),
        short_id(&machine, "web")
    );
    assert_eq!(
        hosts(&machine, "web"),
        [format!("{ip}\tstore {id} db"), own]
    );
    let listed = get(&machine, "/containers/json").is(200).json();
    let target = listed.as_array().unwrap().iter();
    let target = target.map(|one| &one["Names"]);
    let target = target.filter(|names| names.as_array().unwrap().len() > 1);
    let target: Vec<_> = target.collect();
    assert_eq!(target, [&json!(["/asks/store", "/db", "/web/store"])]);
    let found = get(&machine, "/containers/web/store/json").is(200).json();
    assert_eq!(found["Name"], "/db");
}

#[test]
fn a_link_follows_its_container_and_survives_the_engine() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    pair(&machine);
    let before = address(&machine, "db", "bridge");
    let now = readdress(&machine, "first");
    assert_ne!(now, before);
    let id = short_id(&machine, "db");
    assert_eq!(hosts(&machine, "web")[0], format!("{now}\tstore {id} db"));

    machine.kill_agent();
    machine.greeted();
    assert_eq!(links(&machine, "web"), json!(["/db:/web/store"]));
    let found = get(&machine, "/containers/web/store/json").is(200).json();
    assert_eq!(found["Name"], "/db");
    let later = readdress(&machine, "second");
    assert_ne!(later, now);
    assert_eq!(hosts(&machine, "web")[0], format!("{later}\tstore {id} db"));

    // Names of both may change.
    for (old, new) in [("db", "base"), ("web", "site")] {
        post(&machine, &format!("/containers/{old}/rename?name={new}")).is(204);
    }
    assert_eq!(links(&machine, "site"), json!(["/base:/site/store"]));
    get(&machine, "/containers/web/store/json").is(404);
    get(&machine, "/containers/site/store/json").is(200);
}

#[test]
fn a_link_follows_its_container_through_other_networks() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    make(&machine, &with_subnet("other", "10.40.0.0/24")).is(201);
    pair(&machine);
    let change = |verb: &str, network: &str, container: &str| {
        let path = format!("/networks/{network}/{verb}");
        call(&machine, "POST", &path, &json!({"Container": container})).is(200);
    };
    let before = address(&machine, "db", "bridge");
    change("connect", "other", "db");
    change("disconnect", "bridge", "db");
    let exec = json!({"Cmd": ["/bin/busybox", "true"]});
    let refused = call(&machine, "POST", "/containers/web/exec", &exec).is(500);
    let said = refused.json()["message"].as_str().unwrap().to_owned();
    assert!(
        said.ends_with("not attached to default bridge network"),
        "{said}"
    );
    run(&machine, "thief", &inside("bridge", SLEEP));
    change("connect", "bridge", "db");
    let now = address(&machine, "db", "bridge");
    assert_ne!(now, before);
    let line = format!("{now}\tstore {} db", short_id(&machine, "db"));
    assert_eq!(hosts(&machine, "web")[0], line);

    // One that starts without the default network has its links with it.
    change("connect", "other", "web");
    stop(&machine, "web");
    change("disconnect", "bridge", "web");
    start(&machine, "web").is(204);
    assert!(!hosts(&machine, "web").contains(&line));
    change("connect", "bridge", "web");
    assert!(hosts(&machine, "web").contains(&line));
}

#[test]
fn a_link_leads_only_to_what_runs() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    pair(&machine);
    stop(&machine, "db");
    let refusal = "Cannot link to a non running container: /db AS /web/store";
    let exec = json!({"Cmd": ["/bin/busybox", "true"]});
    let refused = call(&machine, "POST", "/containers/web/exec", &exec).is(500);
    assert_eq!(refused.json()["message"], refusal);
    stop(&machine, "web");
    assert_eq!(start(&machine, "web").is(500).json()["message"], refusal);
    remove_by_force(&machine, "db");
    // It is still said what it was.
    assert_eq!(links(&machine, "web"), json!(["/db:/web/store"]));
    get(&machine, "/containers/web/store/json").is(404);
    assert_eq!(start(&machine, "web").is(500).json()["message"], refusal);
    create(&machine, "late", &inside("bridge", SLEEP));
    create(&machine, "early", &linked(&["late:a"], SLEEP));
    start(&machine, "early").is(500);
    start(&machine, "late").is(204);
    start(&machine, "early").is(204);
}

#[test]
fn a_link_is_removed_alone() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    pair(&machine);
    let unlink = |path: &str| {
        let path = format!("/containers/{path}?link=1");
        call(&machine, "DELETE", &path, &Value::Null)
    };
    let conflict = "Conflict, cannot remove the default link name of the container";
    assert_eq!(unlink("web").is(500).json()["message"], conflict);
    unlink("web/nix").is(404);
    unlink("nix/store").is(404);
    unlink("web/store").is(204);
    assert_eq!(hosts(&machine, "web").len(), 1);
    unlink("web/store").is(404);
    machine.kill_agent();
    machine.greeted();
    assert_eq!(links(&machine, "web"), Value::Null);
    get(&machine, "/containers/db/json").is(200);
    // Nothing keeps it from starting without its target now.
    stop(&machine, "db");
    stop(&machine, "web");
    start(&machine, "web").is(204);
}
