//! The daemon as a process: one of it, its sockets, what clients are told where there is no
//! machine. No virtual machine is needed: none has an image here.

mod support;

use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;

use support::{Home, LIGHTER};

#[expect(clippy::unwrap_used, reason = "a test fails by its unwrap")]
fn daemon_pid(home: &Home) -> String {
    std::fs::read_to_string(home.file("run/daemon.lock")).unwrap()
}

#[expect(clippy::unwrap_used, reason = "a test fails by its unwrap")]
fn ask(home: &Home, request: &str) -> String {
    let mut stream = UnixStream::connect(home.file("run/docker.sock")).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn clients_are_told_why_there_is_no_machine() {
    let home = Home::new();
    let up = home.run(&["up"]);
    assert_eq!(up.code, 1);
    assert!(up.err.contains("image is not complete"), "{up:?}");
    assert!(up.err.contains("hint:"), "{up:?}");
    let answer = ask(&home, "GET /v1.51/info HTTP/1.1\r\nHost: docker\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("image is not complete"), "{answer}");
    let status = home.run(&["status"]);
    assert_eq!(status.code, 1);
    assert!(status.out.starts_with("machine   failed: "), "{status:?}");
}

#[test]
fn there_is_one_daemon_and_the_second_says_so() {
    let home = Home::new();
    home.run(&["up"]);
    let second = home.run(&["daemon"]);
    assert_eq!(second.code, 1);
    let pid = daemon_pid(&home);
    assert!(second.err.contains(&format!("(pid {pid})")), "{second:?}");
    assert_eq!(daemon_pid(&home), pid, "the holder's note stays");
}

#[test]
fn what_a_killed_daemon_left_stops_nobody() {
    let home = Home::new();
    home.run(&["up"]);
    let first = daemon_pid(&home);
    assert!(
        Command::new("kill")
            .args(["-9", &first])
            .status()
            .unwrap()
            .success()
    );
    let up = home.run(&["up"]);
    assert!(up.err.contains("image is not complete"), "{up:?}");
    assert_ne!(daemon_pid(&home), first);
}

#[test]
fn many_commands_at_once_start_one_daemon() {
    let home = Home::new();
    let up = || {
        let mut command = home.command(LIGHTER);
        command
            .arg("up")
            .stderr(std::process::Stdio::piped())
            .spawn()
    };
    let started: Vec<_> = (0..8).map(|_| up().unwrap()).collect();
    for child in started {
        let output = child.wait_with_output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(err.contains("image is not complete"), "{err}");
    }
}

#[test]
fn sockets_are_private_and_go_with_the_daemon() {
    let home = Home::new();
    home.run(&["up"]);
    let mode = |name: &str| std::fs::metadata(home.file(name)).unwrap().mode() & 0o777;
    assert_eq!(mode("run"), 0o700);
    assert_eq!(mode("run/docker.sock"), 0o600);
    assert_eq!(mode("run/control.sock"), 0o600);
    let down = home.run(&["down"]);
    assert_eq!((down.code, down.err.as_str()), (0, "lighter is down\n"));
    assert!(!home.file("run/docker.sock").exists());
    assert_eq!(home.run(&["down"]).err, "lighter was not up\n");
}

#[test]
fn a_signal_ends_it_in_order() {
    let home = Home::new();
    home.run(&["up"]);
    // The stream's end is the daemon's end: no need to look repeatedly.
    let mut watched = UnixStream::connect(home.file("run/control.sock")).unwrap();
    assert!(
        Command::new("kill")
            .arg(daemon_pid(&home))
            .status()
            .unwrap()
            .success()
    );
    let mut rest = Vec::new();
    // Its request was never read: the end may come as a reset.
    let _ = watched.read_to_end(&mut rest);
    let log = std::fs::read_to_string(home.file("run/daemon.log")).unwrap();
    assert!(log.contains("ending"), "{log}");
}

#[test]
fn a_service_managers_sockets_are_used() {
    let home = Home::new();
    std::fs::create_dir(home.file("run")).unwrap();
    std::fs::set_permissions(home.file("run"), std::fs::Permissions::from_mode(0o700)).unwrap();
    let activate = "/usr/bin/systemd-socket-activate";
    if !std::path::Path::new(activate).exists() {
        eprintln!("SKIP a_service_managers_sockets_are_used: systemd is not installed");
        return;
    }
    let (docker, control) = (home.file("run/docker.sock"), home.file("run/control.sock"));
    let mut manager = home
        .command(activate)
        .args(["-E", "LIGHTER_HOME", "-E", "LIGHTER_IMAGE_DIR", "-l"])
        .arg(&docker)
        .arg("-l")
        .arg(&control)
        .args([LIGHTER, "daemon"])
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = std::io::BufReader::new(manager.stderr.take().unwrap());
    let mut lines = String::new();
    while lines.matches("Listening on").count() < 2 {
        assert_ne!(
            std::io::BufRead::read_line(&mut said, &mut lines).unwrap(),
            0,
            "{lines}"
        );
    }
    let answer = ask(&home, "GET /_ping HTTP/1.1\r\nHost: docker\r\n\r\n");
    assert!(answer.contains("image is not complete"), "{answer}");
    home.run(&["down"]);
    manager.wait().unwrap();
    assert!(
        docker.exists(),
        "the manager's socket is not the daemon's to remove"
    );
}

#[test]
fn a_folder_that_is_no_folder_of_ours_is_refused() {
    let home = Home::new();
    std::os::unix::fs::symlink("/tmp", home.file("run")).unwrap();
    let up = home.run(&["up"]);
    assert_eq!(up.code, 1);
    assert!(up.err.contains("not a folder of its own"), "{up:?}");
    assert!(up.err.contains("hint:"), "{up:?}");
}

#[test]
fn settings_that_cannot_be_used_stop_the_start() {
    let home = Home::new();
    std::fs::create_dir(home.file("config")).unwrap();
    std::fs::write(home.file("config/config.toml"), "memroy = '1g'\n").unwrap();
    let up = home.run(&["up"]);
    assert!(up.err.contains("there is no setting `memroy`"), "{up:?}");
    assert!(up.err.contains("did you mean `memory`?"), "{up:?}");
}

#[test]
fn a_path_too_long_for_a_socket_is_said_to_be() {
    let home = Home::new();
    let long = home.file(&"x".repeat(100));
    let output = home
        .command(LIGHTER)
        .arg("up")
        .env("LIGHTER_HOME", long)
        .output()
        .unwrap();
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(err.contains("longer than"), "{err}");
}

#[test]
fn a_client_that_says_nothing_does_not_stop_others() {
    let home = Home::new();
    home.run(&["up"]);
    let _silent = UnixStream::connect(home.file("run/docker.sock")).unwrap();
    let answer = ask(&home, "GET /_ping HTTP/1.1\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 503 "));
}

#[test]
fn a_dead_socket_in_the_way_is_replaced() {
    let home = Home::new();
    std::fs::create_dir(home.file("run")).unwrap();
    drop(UnixListener::bind(home.file("run/docker.sock")).unwrap());
    home.run(&["up"]);
    assert!(ask(&home, "GET /_ping HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 503 "));
}
