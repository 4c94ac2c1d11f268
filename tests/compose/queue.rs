//! A queue and its workers: no job is lost, whoever ends.

use std::collections::BTreeSet;

use lighter_tests::until;

use crate::app::App;

/// Asks Redis; nothing while it is not there.
fn redis(app: &App, command: &[&str]) -> String {
    let ask = [&["exec", "-T", "redis", "redis-cli"], command].concat();
    app.compose(&ask).out().trim().to_owned()
}

/// Adds jobs, one more for each number.
fn add(app: &App, numbers: std::ops::Range<u32>) {
    let commands: String = numbers.map(|n| format!("RPUSH jobs job{n}\n")).collect();
    app.compose_with(&["exec", "-T", "redis", "redis-cli"], &commands)
        .ok();
}

fn done(app: &App, count: u32) {
    until(&format!("{count} jobs are done"), || {
        redis(app, &["SCARD", "done"]) == count.to_string()
    });
}

#[test]
fn workers_come_back_and_no_job_is_lost() {
    let Some(app) = App::new("queue") else {
        return;
    };
    app.up(&[]);
    assert_eq!(app.inspect("worker", "{{.State.Status}}"), ["running"; 2]);
    add(&app, 0..20);
    done(&app, 20);

    // What it cannot do ends a worker, and its policy starts it again.
    redis(&app, &["RPUSH", "jobs", "poison"]);
    until("the job is given up", || {
        redis(&app, &["LRANGE", "failed", "0", "-1"]) == "poison"
    });
    let again = app.inspect("worker", "{{.RestartCount}}");
    assert_eq!(again.iter().collect::<BTreeSet<_>>().len(), 2, "{again:?}");

    app.compose(&["scale", "worker=4"]).ok();
    assert_eq!(app.inspect("worker", "{{.State.Status}}"), ["running"; 4]);
    app.kill_process("queue-worker-1");
    add(&app, 20..60);
    done(&app, 60);
    until("the worker is back", || app.restarts("queue-worker-1") >= 1);

    // All of them lose the queue.
    app.kill_process("queue-redis-1");
    until("the queue is back", || app.restarts("queue-redis-1") == 1);
    until("it answers", || redis(&app, &["PING"]) == "PONG");
    add(&app, 60..80);
    done(&app, 80);
    let logs = app
        .compose(&["logs", "--no-log-prefix", "worker"])
        .ok()
        .out();
    assert!(logs.contains("cannot do this job"), "{logs}");

    app.kill_machine();
    app.compose(&["ps"]).ok();
    until("it answers after the power went", || {
        redis(&app, &["SCARD", "done"]) == "80"
    });
    add(&app, 80..100);
    done(&app, 100);
    assert_eq!(app.inspect("worker", "{{.State.Status}}"), ["running"; 4]);
    app.down();
}
