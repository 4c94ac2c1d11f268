//! Containers and an engine that is killed again and again: they run on, their output is logged
//! once, their ends are known.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::tempdir;

use crate::api::{
    attach, call, container, create, get, logs, payload, post, run, started, state, wait,
};
use crate::machine::Machine;

/// `short`, or `long` in a long run; as the tests of the whole machine count.
pub fn count(short: usize, long: usize) -> usize {
    if std::env::var_os("LIGHTER_LONG").is_some() {
        long
    } else {
        short
    }
}

const COUNTER: &str = "i=0; while [ ! -e /stop ]; do i=$((i+1)); echo $i; \
                       [ $((i % 7)) = 0 ] && echo e$i >&2; usleep 1000; done; printf end; exit 42";

/// Checks a log of [`COUNTER`]: every number once and in order, on both streams.
fn check_count(log: &[u8]) -> usize {
    let text = String::from_utf8(log.to_vec()).unwrap();
    let (mut numbers, mut errors) = (0, 0);
    let text = text
        .strip_suffix("end")
        .expect("the piece without a line feed is there");
    for line in text.lines() {
        if let Some(error) = line.strip_prefix('e') {
            errors += 7;
            assert_eq!(
                error,
                errors.to_string(),
                "standard error has a gap or a double"
            );
        } else {
            numbers += 1;
            assert_eq!(
                line,
                numbers.to_string(),
                "standard output has a gap or a double"
            );
        }
    }
    assert_eq!(errors, numbers / 7 * 7);
    numbers
}

#[test]
fn containers_outlive_the_engine_with_output_terminal_and_exit_code() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    run(&machine, "counter", &container(COUNTER));
    let mut terminal = container("while read line; do echo \"got $line\"; done");
    terminal["Tty"] = json!(true);
    terminal["OpenStdin"] = json!(true);
    run(&machine, "terminal", &terminal);
    let mut echo = container("exec cat");
    echo["Cmd"] = json!([crate::api::BUSYBOX, "cat"]);
    echo["OpenStdin"] = json!(true);
    run(&machine, "echo", &echo);
    let names = ["counter", "terminal", "echo"];
    let life = |name| {
        let state = state(&machine, name);
        (
            state["Running"].clone(),
            state["Pid"].clone(),
            state["StartedAt"].clone(),
        )
    };
    let before = names.map(life);
    for round in 0..count(25, 200) {
        let mut screen = attach(&machine, "terminal", "stream=1&stdin=1&stdout=1");
        let mut cat = attach(&machine, "echo", "stream=1&stdin=1&stdout=1");
        // One is killed while its clients are served, the next while they only wait.
        if round % 2 == 0 {
            screen.write_all(b"again\n").unwrap();
            cat.write_all(b"again\n").unwrap();
        }
        machine.kill_agent();
        assert_eq!(names.map(life), before, "after kill {round}");
        let mut rest = Vec::new();
        let _ = screen.read_to_end(&mut rest);
        let _ = cat.read_to_end(&mut rest);

        let mut screen = attach(&machine, "terminal", "stream=1&stdin=1&stdout=1");
        let line = format!("line {round}");
        writeln!(screen, "{line}").unwrap();
        read_until(&mut screen, &format!("got {line}"));
        let mut cat = attach(&machine, "echo", "stream=1&stdin=1&stdout=1");
        writeln!(cat, "{line}").unwrap();
        read_until(&mut cat, &line);
    }
    std::fs::File::create(stop_file(&machine)).unwrap();
    assert_eq!(wait(&machine, "counter"), 42);
    assert!(check_count(&logs(&machine, "counter")) > 0);
}

/// The file in the container `counter` that ends it, as this system sees it.
fn stop_file(machine: &Machine) -> std::path::PathBuf {
    let pid = state(machine, "counter")["Pid"].as_i64().unwrap();
    machine.root_of(i32::try_from(pid).unwrap()).join("stop")
}

pub fn read_until(stream: &mut impl Read, wanted: &str) {
    let mut seen = Vec::new();
    let mut block = [0; 4096];
    while !String::from_utf8_lossy(&seen).contains(wanted) {
        let count = stream.read(&mut block).unwrap();
        assert_ne!(
            count,
            0,
            "ended before {wanted:?}: {}",
            String::from_utf8_lossy(&seen)
        );
        seen.extend_from_slice(&block[..count]);
    }
}

#[test]
fn an_end_is_known_whenever_the_engine_is_killed() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    for round in 0..count(30, 200) {
        let name = format!("short{round}");
        let ms = round % 15;
        run(
            &machine,
            &name,
            &container(&format!("echo out; usleep {ms}000; exit 33")),
        );
        machine.kill_agent();
        assert_eq!(wait(&machine, &name), 33, "round {round}");
        assert_eq!(state(&machine, &name)["Status"], "exited");
        assert_eq!(logs(&machine, &name), b"out\n", "round {round}");
        // It can be started again: nothing of the first run is in the way.
        if round % 5 == 0 {
            post(&machine, &format!("/containers/{name}/start")).is(204);
            assert_eq!(wait(&machine, &name), 33);
        }
        call(
            &machine,
            "DELETE",
            &format!("/containers/{name}"),
            &Value::Null,
        )
        .is(204);
    }
    machine.nothing_left();
}

#[test]
fn stops_kills_and_removals_meet_ends_and_never_hang() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    for round in 0..count(60, 600) {
        let name = format!("brief{round}");
        let ms = round % 12;
        run(&machine, &name, &container(&format!("usleep {ms}000")));
        let (path, method, statuses) = match round % 3 {
            0 => (
                format!("/containers/{name}/stop?t=20"),
                "POST",
                &[204, 304][..],
            ),
            1 => (format!("/containers/{name}/kill"), "POST", &[204, 409][..]),
            _ => (format!("/containers/{name}?force=1"), "DELETE", &[204][..]),
        };
        let answer = call(&machine, method, &path, &Value::Null);
        assert!(
            statuses.contains(&answer.status),
            "round {round}: {}",
            answer.text()
        );
        if round % 3 != 2 {
            wait(&machine, &name);
            call(
                &machine,
                "DELETE",
                &format!("/containers/{name}"),
                &Value::Null,
            )
            .is(204);
        }
    }
    machine.nothing_left();
}

#[test]
fn a_stop_ends_a_crash_loop_whenever_it_comes() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    let mut looping = container("exit 3");
    looping["HostConfig"]["RestartPolicy"] = json!({ "Name": "always" });
    for round in 0..count(20, 200) {
        let name = format!("loop{round}");
        run(&machine, &name, &looping);
        // Around the first start by the policy, a tenth of a second after the end.
        std::thread::sleep(Duration::from_millis(
            100 + u64::try_from(round % 20 * 8).unwrap(),
        ));
        post(&machine, &format!("/containers/{name}/stop?t=20")).is(204);
        std::thread::sleep(Duration::from_millis(250));
        let state = state(&machine, &name);
        assert_eq!(state["Status"], "exited", "round {round}: {state}");
        assert_eq!(state["ExitCode"], 3, "round {round}: {state}");
        assert_eq!(state["Error"], "", "round {round}: {state}");
        call(
            &machine,
            "DELETE",
            &format!("/containers/{name}"),
            &Value::Null,
        )
        .is(204);
    }
    machine.nothing_left();
}

#[test]
fn a_client_that_leaves_stops_nothing_half_way() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    for round in 0..count(20, 200) {
        let name = format!("left{round}");
        create(&machine, &name, &container("exec sleep 1000"));
        let mut stream = machine.connect("api.sock");
        let head = format!("POST /containers/{name}/start HTTP/1.1\r\nHost: x\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        drop(stream);
        // Waits for the start, if that has come to the engine.
        let _ = call(
            &machine,
            "DELETE",
            &format!("/containers/{name}?force=1"),
            &Value::Null,
        )
        .is(204);
    }
    let all = get(&machine, "/containers/json?all=1").is(200).json();
    assert_eq!(all, json!([]));
    machine.nothing_left();
}

#[test]
fn input_and_output_of_many_containers_come_whole_under_load() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    let bytes: Vec<u8> = (0..3_000_000u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    for round in 0..count(2, 40) {
        std::thread::scope(|scope| {
            for number in 0..8 {
                let (machine, bytes) = (&machine, &bytes);
                scope.spawn(move || {
                    let name = format!("cat{round}-{number}");
                    let mut body = container("");
                    body["Cmd"] = json!([crate::api::BUSYBOX, "cat"]);
                    body["OpenStdin"] = json!(true);
                    body["StdinOnce"] = json!(true);
                    if number % 2 == 0 {
                        body["HostConfig"]["LogConfig"] = json!({"Type": "none"});
                    }
                    create(machine, &name, &body);
                    let stream = attach(machine, &name, "stream=1&stdin=1&stdout=1&stderr=1");
                    post(machine, &format!("/containers/{name}/start")).is(204);
                    let mut writing = stream.try_clone().unwrap();
                    let sent = bytes.clone();
                    let writer = std::thread::spawn(move || {
                        writing.write_all(&sent).unwrap();
                        writing.shutdown(Shutdown::Write).unwrap();
                    });
                    let mut got = Vec::new();
                    let mut reading = stream;
                    reading.read_to_end(&mut got).unwrap();
                    writer.join().unwrap();
                    assert!(payload(&got) == *bytes, "{name}: other bytes came back");
                    assert_eq!(wait(machine, &name), 0);
                    call(
                        machine,
                        "DELETE",
                        &format!("/containers/{name}"),
                        &Value::Null,
                    )
                    .is(204);
                });
            }
        });
    }
    machine.nothing_left();
}

#[test]
fn clients_that_vanish_and_execs_that_fail_leave_nothing() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    run(&machine, "silent", &container("exec sleep 100000"));
    let exec = |words: Value, tty: bool| {
        let body = json!({"Cmd": words, "Tty": tty, "AttachStdout": true, "AttachStdin": true});
        let made = call(&machine, "POST", "/containers/silent/exec", &body).is(201);
        let id = made.json()["Id"].as_str().unwrap().to_owned();
        let start = json!({"Detach": true, "Tty": tty});
        call(&machine, "POST", &format!("/exec/{id}/start"), &start)
    };
    exec(json!([crate::api::BUSYBOX, "true"]), false).is(200);
    drop(attach(&machine, "silent", "stream=1&stdout=1"));
    let before = machine.agent_descriptors();
    for round in 0..count(40, 400) {
        let failed = exec(json!(["/no/such/program"]), round % 2 == 0);
        assert_eq!(failed.status, 400, "{}", failed.text());
        exec(json!([crate::api::BUSYBOX, "true"]), round % 2 == 0).is(200);
        drop(attach(&machine, "silent", "stream=1&stdout=1&stderr=1"));
        drop(attach(&machine, "silent", "stream=1&stdin=1&stdout=1"));
    }
    let limit = std::time::Instant::now() + Duration::from_secs(60);
    // A session looks after its client every few seconds.
    while machine.agent_descriptors() > before {
        let now = machine.agent_descriptors();
        assert!(
            std::time::Instant::now() < limit,
            "{before} descriptors became {now}"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    call(
        &machine,
        "DELETE",
        "/containers/silent?force=1",
        &Value::Null,
    )
    .is(204);
    machine.nothing_left();
}

#[test]
fn who_waits_for_a_container_that_is_always_restarted_hears_of_its_next_end() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    let mut body = container("exit 4");
    body["HostConfig"]["RestartPolicy"] = json!({"Name": "always"});
    run(&machine, "again", &body);
    // It either runs or waits for its next start, and never ends for good.
    assert_eq!(wait(&machine, "again"), 4);
}
