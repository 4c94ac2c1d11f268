//! The file server on the host stands still: a share that hangs.

use lighter_tests::{Host, until};

use crate::guest::inspect;

/// Who uses a folder of the host waits for it, and nobody else: others run, are started, stopped and
/// removed, and the engine answers about all of them. Once the server goes on, so does who waited.
#[test]
fn a_file_server_that_hangs_holds_up_only_those_who_use_it() {
    let name = "a_file_server_that_hangs_holds_up_only_those_who_use_it";
    let Some(host) = Host::started(name) else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("file"), "0\n").expect("written");
    let bind = format!("{}:/w", folder.path().display());
    // Each round asks the host: what is cached is dropped by the change.
    let script = "i=0; while :; do i=$((i+1)); echo $i > /w/file; echo $i; done";
    let user = [
        "run", "-d", "--name", "user", "-v", &bind, "busybox", "sh", "-c", script,
    ];
    host.docker(&user).ok();
    let other = [
        "run",
        "-d",
        "--name",
        "other",
        "busybox",
        "sh",
        "-c",
        "while :; do sleep 1; done",
    ];
    host.docker(&other).ok();
    let written = || std::fs::read_to_string(folder.path().join("file")).unwrap_or_default();
    let first = written();
    until("the user writes", || written() != first);

    assert_eq!(host.signal("STOP", "lighter files"), 1);
    assert_eq!(inspect(&host, "user", "{{.State.Running}}"), "true");
    host.docker(&["exec", "other", "true"]).ok();
    host.docker(&[
        "run",
        "--rm",
        "-v",
        "kept:/v",
        "busybox",
        "sh",
        "-c",
        "echo x > /v/f; cat /v/f",
    ])
    .ok();
    host.docker(&["ps", "-a"]).ok();
    host.docker(&["logs", "--tail", "1", "user"]).ok();
    host.docker(&["stop", "-t", "1", "other"]).ok();
    host.docker(&["rm", "-f", "other"]).ok();
    let held = written();
    assert_eq!(
        written(),
        held,
        "nobody serves the folder, and yet it is written"
    );

    assert_eq!(host.signal("CONT", "lighter files"), 1);
    until("the user goes on", || written() != held);
    host.docker(&["rm", "-f", "user"]).ok();
}
