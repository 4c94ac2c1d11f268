//! User namespaces, in the machine: with its kernel, its disk and the host's folders.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use lighter_tests::Host;

#[test]
fn containers_have_user_namespaces_where_the_setting_says_so() {
    let name = "containers_have_user_namespaces_where_the_setting_says_so";
    let Some(host) = Host::started(name) else {
        return;
    };
    let run = |flags: &[&str], script: &str| {
        let mut words = vec!["run", "--rm", "--network", "none"];
        words.extend(flags);
        words.extend(["busybox", "sh", "-c", script]);
        host.docker(&words)
    };
    let words = |text: String| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (map, whole) = ("0 100000 65536", "0 0 4294967295");
    let own_map = "cat /proc/self/uid_map";
    // Made before it is switched on.
    let create = ["create", "--name", "kept", "busybox", "sh", "-c"];
    let script =
        "cat /proc/self/uid_map; stat -c %u:%g / /etc/passwd /made*; mktemp /madeXXXXXX >/dev/null";
    host.docker(&[&create[..], &[script]].concat()).ok();
    host.docker(&["start", "-a", "kept"]).ok();
    let switch = |on: &str| {
        host.lighter(&["config", "set", "engine.userns-remap", on])
            .ok();
        host.lighter(&["down"]).ok();
        host.lighter(&["up"]).ok();
    };
    assert_eq!(words(run(&[], own_map).ok().out()), whole);
    switch("true");

    let info = host
        .docker(&["info", "-f", "{{json .SecurityOptions}}"])
        .ok();
    assert!(info.out().contains("\"name=userns\""), "{}", info.out());
    let said = words(host.docker(&["start", "-a", "kept"]).ok().out());
    assert_eq!(said, format!("{map} 0:0 0:0 0:0"));
    assert_eq!(words(run(&["--userns", "host"], own_map).ok().out()), whole);
    let refused = run(&["--privileged"], "true").exits(125);
    assert!(
        refused
            .err()
            .contains("privileged mode is incompatible with user namespaces."),
        "{}",
        refused.err()
    );
    // Limits above its own, a score it cannot better, devices, settings, a terminal.
    let flags = [
        "--ulimit",
        "nofile=300000:300000",
        "--oom-score-adj",
        "100",
        "-t",
        "--init",
        "--device",
        "/dev/zero:/elsewhere/zero",
        "--sysctl",
        "net.ipv4.ip_forward=1",
    ];
    let script = "ulimit -n; echo 50 >/proc/self/oom_score_adj; cat /proc/self/oom_score_adj; \
                  head -c 3 /elsewhere/zero | wc -c; cat /proc/sys/net/ipv4/ip_forward; \
                  stat -c %u:%g $(tty); cat /proc/1/comm; ls -d /sys/fs/cgroup/cgroup.procs";
    let said = words(run(&flags, script).ok().out());
    assert!(
        said.starts_with("300000 ")
            && said.ends_with(" 100 3 1 0:5 docker-init /sys/fs/cgroup/cgroup.procs"),
        "{said}"
    );
    assert!(
        said.contains("write error") || said.contains("denied"),
        "{said}"
    );
    // A folder of the host, closed to everybody but its owner.
    let folder = host.folder(name);
    std::fs::write(folder.join("hosts"), "of the host\n").expect("written");
    std::fs::set_permissions(folder.join("hosts"), PermissionsExt::from_mode(0o600)).expect("own");
    std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o700)).expect("own");
    let bind = format!("{}:/w", folder.display());
    let script = "stat -c %u:%g /w /w/hosts; cat /w/hosts; echo more >>/w/hosts; echo x >/w/made; \
                  mkdir /w/dir; chown 5:6 /w/made; stat -c %u:%g /w/made /w/dir; id -u";
    let said = words(run(&["-v", &bind], script).ok().out());
    assert_eq!(said, "0:0 0:0 of the host 5:6 0:0 0");
    let user = ["-v", &bind, "--user", "5:6"];
    assert_eq!(words(run(&user, "stat -c %u:%g /w/made; ls /w").out()), "");
    let made = std::fs::metadata(folder.join("made")).expect("on the host");
    assert_eq!(made.uid(), host.user_id());
    let text = std::fs::read_to_string(folder.join("hosts")).expect("on the host");
    assert_eq!(text, "of the host\nmore\n");
    let beside = run(
        &["-v", &bind, "--userns", "host"],
        "stat -c %u:%g /w/made /w/dir",
    );
    assert_eq!(words(beside.ok().out()), "5:6 0:0");
    // The engine's own is not given away with it.
    let own = ["-v", "/var/run/docker.sock:/s", "-v", "/var/lib/docker:/d"];
    let script = "stat -c %u /s /d; chmod 666 /s || echo closed; \
                  for f in /d/x /d/engine/x; do touch $f || echo closed; done";
    let said = words(run(&own, script).ok().out());
    assert_eq!(said, "65534 65534 closed closed closed");

    // Archives and images.
    let stay = [
        "run", "-d", "--name", "stays", "-v", "vol:/vol", "busybox", "sh", "-c",
    ];
    let script = "echo content >/file; chown 7:8 /file; cp -p /file /vol/; exec sleep 1000";
    host.docker(&[&stay[..], &[script]].concat()).ok();
    let until = "until [ -s /vol/file ]; do :; done; stat -c %u:%g /vol /vol/file";
    let said = host.docker(&["exec", "stays", "sh", "-c", until]).ok();
    assert_eq!(words(said.out()), "0:0 7:8");
    let archive = host.docker(&["cp", "-a", "stays:/file", "-"]).ok();
    host.docker_with(&["cp", "-a", "-", "stays:/tmp"], &archive.stdout)
        .ok();
    let said = host
        .docker(&["exec", "stays", "stat", "-c", "%u:%g", "/tmp/file"])
        .ok();
    assert_eq!(words(said.out()), "7:8");
    host.docker(&["commit", "stays", "copy"]).ok();
    host.docker(&["rm", "-f", "stays"]).ok();
    let copied = ["run", "--rm", "copy", "stat", "-c", "%u:%g", "/file", "/"];
    assert_eq!(words(host.docker(&copied).ok().out()), "7:8 0:0");
    let volume = run(
        &["-v", "vol:/vol", "--userns", "host"],
        "stat -c %u:%g /vol /vol/file",
    );
    assert_eq!(words(volume.ok().out()), "0:0 7:8");

    // And back.
    switch("false");
    let said = words(host.docker(&["start", "-a", "kept"]).ok().out());
    assert_eq!(said, format!("{whole} 0:0 0:0 0:0 0:0"));
    assert_eq!(words(host.docker(&copied).ok().out()), "7:8 0:0");
    run(&["--privileged"], "true").ok();
}
