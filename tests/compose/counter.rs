//! nginx, a Python program, PostgreSQL and Redis: what was counted is kept.

use std::cell::RefCell;
use std::collections::BTreeSet;

use lighter_tests::until;
use serde_json::Value;

use crate::app::App;
use crate::web;

fn counted(port: u16) -> Option<Value> {
    serde_json::from_str(&web::get(port, "/")?).ok()
}

fn count(port: u16) -> Option<u64> {
    counted(port)?["count"].as_u64()
}

#[test]
fn a_web_application_keeps_what_it_counted() {
    let Some(mut app) = App::new("counter") else {
        return;
    };
    let port = web::free_port();
    app.set("PORT", &port.to_string());
    app.up(&[]);
    assert_eq!(app.port("proxy", "80"), port);
    for wanted in 1..=3_u64 {
        let (status, body) = web::request(port, "POST", "/", "").expect("an answer");
        let body: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!((status, body["count"].as_u64()), (200, Some(wanted)));
    }
    let rows = [
        "psql",
        "-tA",
        "-c",
        "SELECT count(*) FROM counted",
        "counter",
    ];
    assert_eq!(app.exec("db", &rows), "3");
    assert_eq!(app.exec("cache", &["redis-cli", "get", "hits"]), "3");
    let logs = app
        .compose(&["logs", "--no-log-prefix", "proxy"])
        .ok()
        .out();
    assert_eq!(logs.matches("POST / HTTP/1.0").count(), 3, "{logs}");

    scaled(&app, port);
    broken(&app, port);

    // What is in the volume outlives the containers, what is in memory does not.
    app.compose(&["down"]).ok();
    assert_eq!(web::get(port, "/"), None);
    app.up(&[]);
    let first = counted(port).expect("an answer");
    assert_eq!((&first["count"], &first["hits"]), (&3.into(), &1.into()));

    app.kill_machine();
    app.compose(&["ps"]).ok();
    until("it counts on after the power went", || {
        count(port) == Some(3)
    });
    app.down();
}

/// As many as there are take turns.
fn scaled(app: &App, port: u16) {
    app.up(&["--scale", "web=2"]);
    let containers: BTreeSet<String> = app
        .inspect("web", "{{.Config.Hostname}}")
        .into_iter()
        .collect();
    assert_eq!(containers.len(), 2);
    let seen = RefCell::new(BTreeSet::new());
    until("both answer", || {
        let host = counted(port).and_then(|told| Some(told["host"].as_str()?.to_owned()));
        seen.borrow_mut().extend(host);
        *seen.borrow() == containers
    });
    app.up(&["--scale", "web=1"]);
    assert_eq!(app.inspect("web", "{{.Name}}"), ["/counter-web-1"]);
}

/// What nobody asked to end comes back by its policy, and what is asked to is started again.
fn broken(app: &App, port: u16) {
    app.kill_process("counter-db-1");
    until("the database is back", || {
        app.restarts("counter-db-1") == 1 && count(port) == Some(3)
    });
    app.compose(&["restart", "web", "proxy"]).ok();
    until("it is served again", || count(port) == Some(3));
    // Who asks for the end gets it: no policy starts it again.
    app.compose(&["kill", "-s", "KILL", "web"]).ok();
    assert_eq!(
        app.inspect("web", "{{.State.Status}} {{.State.ExitCode}}"),
        ["exited 137"]
    );
    let refused = web::request(port, "GET", "/", "").expect("an answer");
    // No name, or nobody at the address it last had.
    assert!(matches!(refused.0, 502 | 504), "{}", refused.0);
    app.up(&[]);
    until("it is served once more", || count(port) == Some(3));
}
