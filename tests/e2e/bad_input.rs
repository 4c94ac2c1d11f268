//! What is wrong is said, with the cause and the next step, and leaves nothing behind.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use lighter_tests::Host;

fn raw(host: &Host, request: &str) -> String {
    let mut socket = UnixStream::connect(host.socket()).expect("the socket");
    socket.write_all(request.as_bytes()).expect("written");
    let mut answer = String::new();
    let _ = socket.read_to_string(&mut answer);
    answer
}

#[test]
fn malformed_body_and_unknown_route_are_answered_as_dockerd_does() {
    let Some(host) = Host::shared("malformed_body_and_unknown_route_are_answered_as_dockerd_does")
    else {
        return;
    };
    let body = "{\"Image\": ";
    let answer = raw(
        host,
        &format!(
            "POST /v1.51/containers/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ),
    );
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert!(answer.contains("\"message\""), "{answer}");
    let answer = raw(
        host,
        "GET /v1.51/no/such HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    );
    assert!(
        answer.starts_with("HTTP/1.1 404") && answer.contains("page not found"),
        "{answer}"
    );
    let answer = raw(
        host,
        "GET /v9.99/info HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    );
    assert!(
        answer.contains("client version 9.99 is too new"),
        "{answer}"
    );
}

#[test]
fn broken_archives_are_refused_and_leave_nothing() {
    let name = "broken_archives_are_refused_and_leave_nothing";
    let Some(host) = Host::shared(name) else {
        return;
    };
    let path = host.home().join(format!("{name}.tar"));
    let file = path.display().to_string();
    host.docker(&["save", "-o", &file, "busybox"]).ok();
    let whole = std::fs::read(&path).expect("the archive");
    let images = || host.docker(&["images", "-aq"]).ok().out();
    let before = images();
    let middle = whole.len() / 2;
    for (what, bytes) in [("truncated", &whole[..middle]), ("text", b"not an archive")] {
        std::fs::write(&path, bytes).expect("written");
        let load = host.docker(&["load", "-i", &file]);
        assert_ne!(load.code, 0, "a {what} archive was taken: {}", load.out());
        assert!(!load.err().trim().is_empty(), "{what}: no reason was given");
        assert_eq!(images(), before, "a {what} archive left an image");
    }
}

#[test]
fn published_ports_and_other_networks_are_refused_by_name() {
    let Some(host) = Host::shared("published_ports_and_other_networks_are_refused_by_name") else {
        return;
    };
    let run = host.docker(&["run", "--rm", "-p", "8080:80", "busybox", "true"]);
    assert_ne!(run.code, 0);
    assert!(run.err().contains("publish"), "{}", run.err());
    let run = host.docker(&["run", "--rm", "--network", "elsewhere", "busybox", "true"]);
    assert_ne!(run.code, 0);
    assert!(run.err().contains("elsewhere"), "{}", run.err());
    assert!(
        !host
            .docker(&["ps", "-a"])
            .ok()
            .out()
            .contains("busybox   \"true\"")
    );
}

#[test]
fn unknown_setting_and_unknown_flag_name_the_nearest() {
    let Some(host) = Host::shared("unknown_setting_and_unknown_flag_name_the_nearest") else {
        return;
    };
    let set = host.lighter(&["config", "set", "memry", "1GiB"]);
    assert_ne!(set.code, 0);
    assert!(set.err().contains("memory"), "{}", set.err());
    let run = host.lighter(&["run", "--publish-all", "busybox"]);
    assert_ne!(run.code, 0);
    assert!(run.err().contains("publish-all"), "{}", run.err());
}

#[test]
fn missing_qemu_is_named_with_its_package() {
    let Some(host) = Host::new() else {
        return lighter_tests::env::skip(
            "missing_qemu_is_named_with_its_package",
            "the programs are not there",
        );
    };
    let mut up = host.lighter_command();
    up.arg("up")
        .env("LIGHTER_QEMU", "/nonexistent/qemu-system-x86_64");
    let up = lighter_tests::run(up, b"", std::time::Duration::from_secs(60));
    assert_ne!(up.code, 0);
    assert!(up.err().contains("qemu-system-x86"), "{}", up.err());
}
