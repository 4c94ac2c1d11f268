//! Incidents of the engine's API being reachable from where it should not be.

use lighter_tests::Host;

use crate::probe;

#[test]
fn cve_2025_9074_no_engine_on_any_tcp_port_of_the_machine() {
    let Some(host) = Host::shared("cve_2025_9074_no_engine_on_any_tcp_port_of_the_machine") else {
        return;
    };
    for network in ["bridge", "host", "none"] {
        let script = "cat /proc/net/tcp /proc/net/tcp6 | grep -c ' 0A '";
        let run = host.docker(&[
            "run",
            "--rm",
            "--network",
            network,
            "busybox",
            "sh",
            "-c",
            script,
        ]);
        assert_eq!(
            run.out().trim(),
            "0",
            "a TCP listener in the containers' {network} network"
        );
    }
    for port in ["2375", "2376", "1024", "1025"] {
        for address in ["127.0.0.1", "172.17.0.1", "198.19.79.1", "198.19.79.2"] {
            let out = probe(
                host,
                &["--network", "host"],
                &["connect", &format!("{address}:{port}")],
            )
            .out();
            assert!(!out.contains("open"), "{out}");
        }
    }
}

#[test]
fn cve_2020_15257_no_abstract_sockets() {
    let Some(host) = Host::shared("cve_2020_15257_no_abstract_sockets") else {
        return;
    };
    let script = "cat /proc/net/unix | grep -c '@'";
    let run = host.docker(&[
        "run",
        "--rm",
        "--network",
        "host",
        "busybox",
        "sh",
        "-c",
        script,
    ]);
    assert_eq!(run.out().trim(), "0");
}

#[test]
fn socket_and_its_folder_are_the_users_alone() {
    use std::os::unix::fs::MetadataExt;
    let Some(host) = Host::shared("socket_and_its_folder_are_the_users_alone") else {
        return;
    };
    let mode = |path: &std::path::Path| std::fs::metadata(path).expect("there").mode() & 0o777;
    assert_eq!(mode(&host.socket()), 0o600);
    assert_eq!(mode(host.socket().parent().expect("a folder")), 0o700);
}

#[test]
fn socket_bound_into_a_container_is_the_engines_own() {
    let Some(host) = Host::shared("socket_bound_into_a_container_is_the_engines_own") else {
        return;
    };
    let bind = "/var/run/docker.sock:/var/run/docker.sock";
    let run = probe(host, &["-v", bind], &["ping", "/var/run/docker.sock"]);
    assert!(run.out().ends_with("OK"), "{}", run.out());
}
