//! Health checks: what they find, who hears of it, and an engine that is killed meanwhile.

use std::io::{BufRead as _, BufReader};
use std::os::unix::net::UnixStream;

use serde_json::{Value, json};
use tempfile::tempdir;

use crate::api::{BUSYBOX, call, container, create, events, get, post, run, started, state, wait};
use crate::machine::Machine;

/// A container that sleeps, with a check that runs every tenth of a second.
fn checked(script: &str) -> Value {
    let mut body = container("exec sleep 1000");
    body["Healthcheck"] = json!({
        "Test": ["CMD", BUSYBOX, "sh", "-c", script],
        "Interval": 100_000_000, "Retries": 2,
    });
    body
}

/// The health events of a container, as they happen.
struct Heard(BufReader<UnixStream>);

impl Heard {
    fn of(machine: &Machine, name: &str) -> Self {
        Self(events(machine, name, "health_status"))
    }

    fn next(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        let event: Value = serde_json::from_str(&line).unwrap();
        event["Action"].as_str().unwrap().to_owned()
    }
}

#[test]
fn health_changes_are_told_once_and_probes_are_kept() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    create(&machine, "web", &checked("echo looked; test ! -e /bad"));
    assert!(state(&machine, "web").get("Health").is_none());
    let mut heard = Heard::of(&machine, "web");
    post(&machine, "/containers/web/start").is(204);
    assert_eq!(heard.next(), "health_status: healthy");
    let health = state(&machine, "web")["Health"].take();
    assert_eq!(
        (&health["Status"], &health["FailingStreak"]),
        (&json!("healthy"), &json!(0))
    );
    assert_eq!(health["Log"][0]["Output"], "looked\n");
    let list = get(&machine, "/containers/json").json();
    assert!(
        list[0]["Status"].as_str().unwrap().ends_with(" (healthy)"),
        "{list}"
    );

    let pid = state(&machine, "web")["Pid"].as_i64().unwrap();
    let bad = machine.root_of(i32::try_from(pid).unwrap()).join("bad");
    std::fs::write(&bad, "").unwrap();
    // The next change, whatever number of probes was between.
    assert_eq!(heard.next(), "health_status: unhealthy");
    let health = state(&machine, "web")["Health"].take();
    assert!(health["FailingStreak"].as_u64().unwrap() >= 2, "{health}");
    std::fs::remove_file(&bad).unwrap();
    assert_eq!(heard.next(), "health_status: healthy");
    assert!(
        state(&machine, "web")["Health"]["Log"]
            .as_array()
            .unwrap()
            .len()
            <= 5
    );

    post(&machine, "/containers/web/kill").is(204);
    wait(&machine, "web");
    let health = state(&machine, "web")["Health"].take();
    assert_eq!(health["Status"], "unhealthy");
    call(&machine, "DELETE", "/containers/web", &Value::Null).is(204);
    machine.nothing_left();
}

#[test]
fn a_probe_that_takes_too_long_is_ended() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    let mut body = checked("echo begun; exec sleep 1000");
    body["Healthcheck"]["Timeout"] = json!(500_000_000);
    create(&machine, "slow", &body);
    let mut heard = Heard::of(&machine, "slow");
    post(&machine, "/containers/slow/start").is(204);
    assert_eq!(heard.next(), "health_status: unhealthy");
    let health = state(&machine, "slow")["Health"].take();
    let probe = &health["Log"][0];
    assert_eq!(probe["ExitCode"], -1);
    let output = probe["Output"].as_str().unwrap();
    assert!(
        output.starts_with("Health check exceeded timeout (500ms)"),
        "{health}"
    );
    call(&machine, "DELETE", "/containers/slow?force=1", &Value::Null).is(204);
    machine.nothing_left();
}

#[test]
fn the_next_engine_goes_on_with_the_health_of_the_last() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    let mut body = checked("echo looked; test ! -e /bad");
    // So far apart that the first is the only one of this engine.
    body["Healthcheck"]["StartPeriod"] = json!(3_600_000_000_000_u64);
    body["Healthcheck"]["StartInterval"] = json!(100_000_000);
    body["Healthcheck"]["Interval"] = json!(3_600_000_000_000_u64);
    let mut heard = {
        create(&machine, "steady", &body);
        let heard = Heard::of(&machine, "steady");
        post(&machine, "/containers/steady/start").is(204);
        heard
    };
    assert_eq!(heard.next(), "health_status: healthy");
    let before = state(&machine, "steady")["Health"].take();
    run(&machine, "busy", &checked("test ! -e /bad"));
    machine.kill_agent();
    assert_eq!(state(&machine, "steady")["Health"], before);
    // And others are looked after again.
    let mut heard = Heard::of(&machine, "busy");
    let pid = state(&machine, "busy")["Pid"].as_i64().unwrap();
    let root = machine.root_of(i32::try_from(pid).unwrap());
    std::fs::write(root.join("bad"), "").unwrap();
    while heard.next() != "health_status: unhealthy" {}
    for name in ["steady", "busy"] {
        let path = format!("/containers/{name}?force=1");
        call(&machine, "DELETE", &path, &Value::Null).is(204);
    }
    machine.nothing_left();
}
