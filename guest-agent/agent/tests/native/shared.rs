//! Containers that share namespaces, and what goes with them, over the death of the engine.

use serde_json::{Value, json};
use tempfile::tempdir;

use crate::api::{
    BUSYBOX, call, container, create, get, load_image, logs, post, remove_by_force, run, wait,
};
use crate::machine::Machine;

fn with(script: &str, settings: &[(&str, &str)]) -> Value {
    let mut body = container(script);
    for (field, value) in settings {
        body["HostConfig"][*field] = json!(value);
    }
    body
}

/// The donor's shared memory is that of who joins it, by whatever name; it survives the engine and
/// goes with the donor.
#[test]
fn shared_memory_goes_where_the_ipc_namespace_goes() {
    let dir = tempdir().unwrap();
    let machine = Machine::start(dir.path());
    machine.greeted();
    load_image(&machine, dir.path());
    let waiting =
        format!("{BUSYBOX} echo kept > /dev/shm/file; echo there; exec {BUSYBOX} sleep 1000");
    run(
        &machine,
        "open",
        &with(&waiting, &[("IpcMode", "shareable")]),
    );
    run(
        &machine,
        "closed",
        &with(&waiting, &[("IpcMode", "private")]),
    );
    while logs(&machine, "open") != b"there\n" {
        std::thread::yield_now();
    }
    let look = format!(
        "{BUSYBOX} cat /dev/shm/file; {BUSYBOX} grep -c ' /dev/shm tmpfs rw,nosuid,nodev,noexec' \
         /proc/mounts; {BUSYBOX} readlink /proc/self/ns/ipc"
    );
    let mut seen = Vec::new();
    for round in 0..3 {
        let name = format!("joined{round}");
        run(
            &machine,
            &name,
            &with(&look, &[("IpcMode", "container:open")]),
        );
        assert_eq!(wait(&machine, &name), 0);
        let said = String::from_utf8(logs(&machine, &name)).unwrap();
        assert!(said.starts_with("kept\n1\nipc:"), "{said}");
        seen.push(said);
        remove_by_force(&machine, &name);
        machine.kill_agent();
    }
    assert!(seen.iter().all(|said| *said == seen[0]), "{seen:?}");

    // One that joins who joined has the same; the donor's new name changes nothing.
    create(
        &machine,
        "second",
        &with(&look, &[("IpcMode", "container:open")]),
    );
    post(&machine, "/containers/open/rename?name=renamed").is(204);
    post(&machine, "/containers/second/start").is(204);
    assert_eq!(wait(&machine, "second"), 0);
    assert_eq!(logs(&machine, "second"), seen[0].as_bytes());

    let refused = |name: &str, mode: &str, status: u16, words: &str| {
        create(&machine, name, &with("true", &[("IpcMode", mode)]));
        let answer = post(&machine, &format!("/containers/{name}/start")).is(status);
        assert!(answer.text().contains(words), "{}", answer.text());
        remove_by_force(&machine, name);
    };
    refused(
        "xa",
        "container:closed",
        400,
        "non-shareable IPC (hint: use IpcMode:shareable",
    );
    refused(
        "xb",
        "container:second",
        409,
        "failed to join IPC namespace: container ",
    );
    let missing = with("true", &[("IpcMode", "container:nobody")]);
    let answer = call(&machine, "POST", "/containers/create?name=xc", &missing).is(400);
    assert!(answer.text().contains("No such container: nobody"));

    for name in ["second", "renamed", "closed"] {
        remove_by_force(&machine, name);
    }
    machine.nothing_left();
}

/// A container in another's network has its files and its host name.
#[test]
fn a_shared_network_comes_with_its_names() {
    let dir = tempdir().unwrap();
    let machine = Machine::start(dir.path());
    machine.greeted();
    load_image(&machine, dir.path());
    let mut donor = with(&format!("exec {BUSYBOX} sleep 1000"), &[]);
    donor["Hostname"] = json!("donor");
    donor["HostConfig"]["ExtraHosts"] = json!(["db:10.1.1.1"]);
    run(&machine, "donor", &donor);
    let look =
        format!("{BUSYBOX} hostname; {BUSYBOX} cat /etc/hostname; {BUSYBOX} grep db /etc/hosts");
    run(
        &machine,
        "guest",
        &with(&look, &[("NetworkMode", "container:donor")]),
    );
    assert_eq!(wait(&machine, "guest"), 0);
    assert_eq!(logs(&machine, "guest"), b"donor\ndonor\n10.1.1.1\tdb\n");
    let shown = get(&machine, "/containers/guest/json").is(200).json();
    assert_eq!(shown["Config"]["Hostname"], "donor");
    for name in ["guest", "donor"] {
        remove_by_force(&machine, name);
    }
    machine.nothing_left();
}
