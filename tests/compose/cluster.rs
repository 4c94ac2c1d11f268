//! Three nodes of etcd: one may be missing, and what was written is in all of them.

use lighter_tests::{env, until};

use crate::app::App;

fn put(app: &App, by: &str, key: &str, value: &str) {
    until(&format!("{by} takes {key}"), || {
        let put = app.compose(&["exec", "-T", by, "etcdctl", "put", key, value]);
        put.code == 0
    });
}

/// What a node itself knows, whether or not it can ask the others.
fn known(app: &App, by: &str, key: &str) -> String {
    let get = ["exec", "-T", by, "etcdctl", "get", "--print-value-only"];
    let get = [&get[..], &["--consistency=s", key]].concat();
    app.compose(&get).out().trim().to_owned()
}

#[test]
fn a_cluster_goes_on_without_one_of_its_nodes() {
    let Some(app) = App::new("cluster") else {
        return;
    };
    app.up(&["--scale", "follower=2"]);
    put(&app, "one", "news/a", "written with all");
    until("all three know", || {
        ["one", "two", "three"]
            .iter()
            .all(|node| known(&app, node, "news/a") == "written with all")
    });

    app.compose(&["kill", "-s", "KILL", "one"]).ok();
    assert_eq!(
        app.inspect("one", "{{.State.Status}} {{.State.ExitCode}}"),
        ["exited 137"]
    );
    put(&app, "two", "news/b", "written without one");
    app.compose(&["start", "one"]).ok();
    until("the first one has caught up", || {
        known(&app, "one", "news/b") == "written without one"
    });

    // One that nobody asked to end is back by itself.
    app.kill_process("cluster-three-1");
    put(&app, "one", "news/c", "written meanwhile");
    until("the third one has caught up", || {
        app.restarts("cluster-three-1") == 1
            && known(&app, "three", "news/c") == "written meanwhile"
    });
    let logs = app
        .compose(&["logs", "--no-log-prefix", "follower"])
        .ok()
        .out();
    for told in [
        "written with all",
        "written without one",
        "written meanwhile",
    ] {
        assert!(logs.contains(told), "{told}: {logs}");
    }

    // Others are across the end of the machine in every run.
    for round in 0..env::count(0, 3) {
        app.kill_machine();
        app.compose(&["ps"]).ok();
        put(&app, "one", "news/d", &format!("written after {round}"));
        for node in ["one", "two", "three"] {
            assert_eq!(known(&app, node, "news/b"), "written without one", "{node}");
        }
    }
    app.down();
}
