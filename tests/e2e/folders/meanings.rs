//! Paths that mean something else than the host's: the API socket, the machine's own, `/etc/localtime`.

use super::{both, sh};

#[test]
fn docker_sock_is_the_engines_own_under_every_spelling() {
    both(
        "docker_sock_is_the_engines_own_under_every_spelling",
        |host| {
            let own = host.socket().display().to_string();
            for source in [
                "/var/run/docker.sock",
                "/run/docker.sock",
                "/var/run/../run//docker.sock",
                &own,
            ] {
                let bind = format!("{source}:/s");
                let script = "printf 'GET /_ping HTTP/1.0\\r\\n\\r\\n' | nc local:/s 2>/dev/null || true; test -S /s && echo socket";
                let out = sh(host, &["-v", &bind], script).ok().out();
                assert!(out.contains("socket"), "{source}: {out}");
            }
            let mount = "type=bind,src=/var/run/docker.sock,dst=/s";
            let out = sh(host, &["--mount", mount], "test -S /s && echo socket")
                .ok()
                .out();
            assert_eq!(out, "socket\n");
        },
    );
}

#[test]
fn paths_of_the_machine_are_the_machines() {
    both("paths_of_the_machine_are_the_machines", |host| {
        let binds = [
            "/proc:/m/proc:ro",
            "/sys:/m/sys:ro",
            "/dev:/m/dev:ro",
            "/lib/modules:/m/modules:ro",
        ];
        let flags: Vec<&str> = binds.iter().flat_map(|bind| ["-v", bind]).collect();
        let script = "cat /m/proc/sys/kernel/osrelease; test -d /m/sys/fs/cgroup && test -c /m/dev/null && test -d /m/modules && echo all";
        let out = sh(host, &flags, script).ok().out();
        assert!(out.contains("6.12") && out.ends_with("all\n"), "{out}");
        let out = sh(
            host,
            &["-v", "/var/lib/docker:/m", "-v", "/run/udev:/u:ro"],
            "test -d /m && echo there",
        );
        assert_eq!(out.ok().out(), "there\n");
    });
}

#[test]
fn localtime_is_the_hosts_and_read_only() {
    both("localtime_is_the_hosts_and_read_only", |host| {
        let Ok(zone) = std::fs::read("/etc/localtime") else {
            return lighter_tests::env::skip(
                "localtime_is_the_hosts_and_read_only",
                "this host has no /etc/localtime",
            );
        };
        let flags = [
            "--cap-add",
            "SYS_ADMIN",
            "-v",
            "/etc/localtime:/etc/localtime",
        ];
        let script = "wc -c < /etc/localtime; mount -o remount,rw,bind /etc/localtime; \
            echo x > /etc/localtime 2>/dev/null || echo refused";
        let out = sh(host, &flags, script).ok().out();
        assert_eq!(out, format!("{}\nrefused\n", zone.len()));
    });
}
