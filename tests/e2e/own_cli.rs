//! `lighter` beside the docker CLI, on one engine: the same commands, the same words and codes.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use lighter_tests::Host;

/// Runs a command by both clients; what each printed.
fn both(host: &Host, args: &[&str]) -> (String, String) {
    (host.docker(args).ok().out(), host.lighter(args).ok().out())
}

/// Both clients' answers, asked again if they differ: one second later an age reads differently.
fn agreed(host: &Host, args: &[&str]) -> (String, String) {
    let mut answers = both(host, args);
    for _ in 0..5 {
        if answers.0 != answers.1 {
            answers = both(host, args);
        }
    }
    answers
}

#[test]
fn lists_are_dockers_to_the_letter() {
    let Some(host) = Host::shared("lists_are_dockers_to_the_letter") else {
        return;
    };
    host.lighter(&[
        "create",
        "--name",
        "listed",
        "-l",
        "k=v",
        "-v",
        "listed:/d",
        "busybox",
        "sleep",
        "1",
    ])
    .ok();
    for args in [
        &["ps", "-a", "--filter", "name=listed"][..],
        &["ps", "-a", "--no-trunc", "--filter", "name=listed"],
        &["ps", "-aq", "--filter", "label=k=v"],
        &[
            "ps",
            "-a",
            "--filter",
            "name=listed",
            "--format",
            "table {{.Names}}\t{{.Mounts}}",
        ],
        &[
            "ps",
            "-a",
            "--filter",
            "name=listed",
            "--format",
            "{{.Names}}: {{.Labels}}",
        ],
        // One repository: other tests pull and remove theirs meanwhile.
        &["images", "lighter/hello"],
        &["images", "-q", "--no-trunc", "lighter/hello"],
        &["images", "--digests", "busybox"],
        &["volume", "ls", "--filter", "name=listed"],
        &["volume", "ls", "-q", "--filter", "name=listed"],
        &["volume", "inspect", "listed"],
        &["inspect", "listed"],
        &[
            "image",
            "inspect",
            "-f",
            "{{.Id}} {{json .RootFS}}",
            "busybox",
        ],
        &[
            "inspect",
            "-f",
            "{{.State.Status}} {{json .Config.Cmd}} {{index .Config.Labels \"k\"}}",
            "listed",
        ],
    ] {
        let (theirs, ours) = agreed(host, args);
        assert_eq!(ours, theirs, "{args:?}");
    }
    for args in [
        &["ps", "-a", "--filter", "name=listed", "--format"][..],
        &[
            "container",
            "ls",
            "-a",
            "--filter",
            "name=listed",
            "--format",
        ],
        &["images", "lighter/hello", "--format"],
        &["image", "ls", "lighter/hello", "--format"],
        &["volume", "ls", "--filter", "name=listed", "--format"],
        &["inspect", "listed", "--format"],
        &["container", "inspect", "listed", "--format"],
        &[
            "events",
            "--since",
            "10m",
            "--until",
            "0s",
            "--filter",
            "container=listed",
            "--format",
        ],
    ] {
        for format in ["json", "{{json .}}"] {
            let args = [args, &[format]].concat();
            let (theirs, ours) = agreed(host, &args);
            assert_eq!(ours, theirs, "{args:?}");
        }
    }
    host.lighter(&["rm", "listed"]).ok();
    host.lighter(&["volume", "rm", "listed"]).ok();
}

#[test]
fn codes_and_streams_of_run_are_dockers() {
    let Some(host) = Host::shared("codes_and_streams_of_run_are_dockers") else {
        return;
    };
    let script = "echo out; echo err >&2; exit 7";
    for (args, code) in [
        (&["run", "--rm", "busybox", "sh", "-c", script][..], 7),
        (&["run", "--rm", "busybox", "no-such-program"], 127),
        (&["run", "--rm", "busybox", "/etc"], 126),
        (&["run", "--rm", "--no-such-flag", "busybox"], 125),
        (
            &["run", "--rm", "--init", "busybox", "sh", "-c", "kill -9 $$"],
            137,
        ),
    ] {
        let ours = host.lighter(args).exits(code);
        let theirs = host.docker(args).exits(code);
        assert_eq!(ours.out(), theirs.out(), "{args:?}");
    }
    let run = host.lighter(&[
        "run",
        "--rm",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        script,
    ]);
    assert_eq!((run.out().as_str(), run.err().as_str()), ("out\n", "err\n"));
}

#[test]
fn input_reaches_the_container_and_ends() {
    let Some(host) = Host::shared("input_reaches_the_container_and_ends") else {
        return;
    };
    let data: Vec<u8> = (0..250_000_u32).flat_map(u32::to_le_bytes).collect();
    let run = host
        .lighter_with(&["run", "--rm", "-i", "busybox", "cat"], &data)
        .ok();
    assert!(
        run.stdout == data,
        "{} bytes came back of {}",
        run.stdout.len(),
        data.len()
    );
}

#[test]
fn life_of_a_container_by_our_own_command() {
    let Some(host) = Host::shared("life_of_a_container_by_our_own_command") else {
        return;
    };
    let script = "echo ready; exec sleep 1000";
    let id = host
        .lighter(&["run", "-d", "--name", "own", "busybox", "sh", "-c", script])
        .ok()
        .out();
    assert_eq!(id.trim().len(), 64);
    host.lighter(&["exec", "own", "sh", "-c", "exit 9"])
        .exits(9);
    assert_eq!(
        host.lighter(&["exec", "-i", "own", "cat", "/proc/1/comm"])
            .ok()
            .out(),
        "sleep\n"
    );
    assert_eq!(host.lighter(&["logs", "own"]).ok().out(), "ready\n");
    host.lighter(&["pause", "own"]).ok();
    assert_eq!(
        host.lighter(&["inspect", "-f", "{{.State.Paused}}", "own"])
            .ok()
            .out(),
        "true\n"
    );
    host.lighter(&["unpause", "own"]).ok();
    assert_eq!(
        host.lighter(&["stop", "-t", "0", "own"]).ok().out(),
        "own\n"
    );
    assert_eq!(host.lighter(&["wait", "own"]).ok().out(), "137\n");
    host.lighter(&["rename", "own", "other"]).ok();
    assert_eq!(host.lighter(&["rm", "other"]).ok().out(), "other\n");
    let gone = host.lighter(&["inspect", "other"]).exits(1);
    assert!(
        gone.err().contains("No such object: other"),
        "{}",
        gone.err()
    );
}

#[test]
fn images_are_read_again_on_request() {
    let Some(host) = Host::shared("images_are_read_again_on_request") else {
        return;
    };
    let told = host
        .lighter(&["image", "verify", "lighter/hello"])
        .ok()
        .out();
    assert!(told.ends_with("Sound: 1 image, 1 layer\n"), "{told}");
    // Each layer's index is held by the kernel to what it was.
    assert!(told.contains(": Sound\n"), "{told}");
    assert_eq!(host.lighter(&["image", "verify", "-q"]).ok().out(), "");
    let unknown = host.lighter(&["image", "verify", "no/such"]).exits(1);
    assert!(
        unknown.err().contains("No such image: no/such:latest"),
        "{}",
        unknown.err()
    );
}

#[test]
fn a_third_signal_leaves_a_program_that_does_not_listen() {
    let Some(host) = Host::shared("a_third_signal_leaves_a_program_that_does_not_listen") else {
        return;
    };
    let script = "trap '' INT; echo ready; while true; do sleep 1; done";
    let mut run = host.lighter_command();
    run.args([
        "run", "--rm", "--name", "deaf", "busybox", "sh", "-c", script,
    ]);
    run.stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut run = run.spawn().expect("lighter starts");
    let mut lines = BufReader::new(run.stdout.take().expect("its output")).lines();
    assert_eq!(lines.next().expect("a line").expect("a line"), "ready");
    // Signals that wait are one signal: sent until there were enough.
    lighter_tests::until("lighter gives up", || {
        let pid = run.id().to_string();
        let _ = Command::new("kill").args(["-s", "INT", &pid]).status();
        host.processes("run --rm --name deaf").is_empty()
    });
    assert_eq!(run.wait().expect("it ended").code(), Some(1));
    let mut told = String::new();
    let mut errors = run.stderr.take().expect("its errors");
    std::io::Read::read_to_string(&mut errors, &mut told).expect("text");
    assert!(
        told.contains("got 3 SIGTERM/SIGINTs, forcefully exiting"),
        "{told}"
    );
    // The container runs on.
    let state = host.docker(&["inspect", "-f", "{{.State.Running}}", "deaf"]);
    assert_eq!(state.ok().out(), "true\n");
    host.docker(&["rm", "-f", "deaf"]).ok();
}
