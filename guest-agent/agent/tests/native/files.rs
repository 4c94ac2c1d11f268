//! Files of containers: copied in and out, compared, exported; running and not, and while
//! the container does its worst.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use base64::Engine as _;
use serde_json::{Value, json};
use tempfile::tempdir;

use crate::api::{
    Answer, BUSYBOX, container, create, get, post, run, started, state, try_call, wait,
};
use crate::machine::Machine;

/// A container that stays until it is killed.
fn idle() -> Value {
    container("exec sleep 100000")
}

/// `tar` over a folder.
fn tar(folder: &Path, options: &[&str]) -> Vec<u8> {
    let mut tar = Command::new("tar");
    tar.arg("-C")
        .arg(folder)
        .args(["-c", "-f", "-", "--sort=name"]);
    let made = tar.args(options).arg(".").output().unwrap();
    assert!(made.status.success());
    made.stdout
}

/// One file in a tar.
pub fn one(name: &str, content: &str) -> Vec<u8> {
    let dir = tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
    tar(dir.path(), &[])
}

/// The names in an archive, sorted, as `tar` reads it.
fn names(archive: &[u8]) -> Vec<String> {
    let listed = pipe(Command::new("tar").args(["-t", "-P", "-f", "-"]), archive);
    let mut names: Vec<String> = listed.lines().map(str::to_owned).collect();
    names.sort();
    names
}

/// The content of one file of an archive.
fn content(archive: &[u8], name: &str) -> String {
    pipe(
        Command::new("tar").args(["-x", "-O", "-P", "-f", "-", name]),
        archive,
    )
}

fn pipe(command: &mut Command, input: &[u8]) -> String {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let feeder = std::thread::spawn(move || {
        let _ = stdin.write_all(&input);
    });
    let mut out = String::new();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut out)
        .unwrap();
    feeder.join().unwrap();
    child.wait().unwrap();
    out
}

fn at(name: &str, path: &str) -> String {
    format!("/containers/{name}/archive?path={path}")
}

fn put(machine: &Machine, name: &str, path: &str, archive: &[u8]) -> Answer {
    try_call(machine, "PUT", &at(name, path), archive).unwrap()
}

/// What `HEAD` says of a path.
fn stat(machine: &Machine, name: &str, path: &str) -> Value {
    let mut stream = machine.connect("api.sock");
    let request = format!("HEAD /v1.51{} HTTP/1.0\r\nHost: x\r\n\r\n", at(name, path));
    stream.write_all(request.as_bytes()).unwrap();
    let mut head = String::new();
    stream.read_to_string(&mut head).unwrap();
    let line = head
        .lines()
        .find_map(|line| line.strip_prefix("x-docker-container-path-stat: "))
        .unwrap_or_else(|| panic!("{head}"));
    let text = base64::engine::general_purpose::STANDARD
        .decode(line)
        .unwrap();
    serde_json::from_slice(&text).unwrap()
}

fn wait_for(machine: &Machine, name: &str, path: &str) {
    let limit = std::time::Instant::now() + crate::machine::LIMIT;
    while get(machine, &at(name, path)).status != 200 {
        assert!(std::time::Instant::now() < limit, "{path} does not come");
        std::thread::yield_now();
    }
}

#[test]
fn copies_go_in_and_out_of_a_container_that_runs_and_of_one_that_does_not() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    let mut body = container("ln -s /srv /var; exec sleep 100000");
    let volume = json!({"Type": "volume", "Source": "data", "Target": "/srv/volume"});
    body["HostConfig"]["Mounts"] = json!([volume]);
    body["HostConfig"]["Tmpfs"] = json!({"/scratch": ""});
    create(&machine, "cc", &body);
    // Before it ever ran.
    put(&machine, "cc", "/srv/volume", &one("early", "1")).is(200);
    post(&machine, "/containers/cc/start").is(204);
    wait_for(&machine, "cc", "/var");
    for (path, name) in [
        ("/srv/volume", "a/b"),
        ("/", "top"),
        ("/var", "through"),
        ("/scratch", "t"),
    ] {
        put(&machine, "cc", path, &one(name, path)).is(200);
    }
    let volume = get(&machine, &at("cc", "/srv/volume")).is(200).body;
    assert_eq!(
        names(&volume),
        ["volume/", "volume/a/", "volume/a/b", "volume/early"]
    );
    let through = get(&machine, &at("cc", "/var/volume/a/.")).is(200).body;
    assert_eq!(names(&through), ["./", "./b"]);
    assert_eq!(content(&through, "./b"), "/srv/volume");
    assert_eq!(names(&get(&machine, &at("cc", "/var")).body), ["var"]);
    assert_eq!(stat(&machine, "cc", "/var")["linkTarget"], "/srv");
    assert_eq!(stat(&machine, "cc", "/var/")["linkTarget"], "");
    assert_eq!(stat(&machine, "cc", "/top")["size"], 1);
    assert_eq!(names(&get(&machine, &at("cc", "/scratch")).body).len(), 2);
    let everything = names(&get(&machine, &at("cc", "/")).is(200).body);
    assert!(everything.contains(&"/proc/".to_owned()), "{everything:?}");
    assert!(!everything.iter().any(|name| name.starts_with("/proc/1")));
    post(&machine, "/containers/cc/kill").is(204);
    wait(&machine, "cc");
    put(&machine, "cc", "/srv/volume", &one("late", "2")).is(200);
    let volume = get(&machine, &at("cc", "/srv/volume")).is(200).body;
    assert_eq!(content(&volume, "volume/late"), "2");
    assert_eq!(content(&volume, "volume/a/b"), "/srv/volume");
    assert_eq!(
        names(&get(&machine, &at("cc", "/top")).is(200).body),
        ["top"]
    );
    // And it runs again over what was put there.
    post(&machine, "/containers/cc/start").is(204);
    assert_eq!(
        names(&get(&machine, &at("cc", "/srv/through")).is(200).body),
        ["through"]
    );
}

#[test]
fn what_cannot_be_copied_is_refused_in_dockerds_words() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    let mut body = idle();
    body["HostConfig"]["ReadonlyRootfs"] = json!(true);
    body["HostConfig"]["Mounts"] = json!([
        {"Type": "volume", "Source": "vol", "Target": "/v"},
        {"Type": "volume", "Source": "read", "Target": "/w", "ReadOnly": true},
    ]);
    run(&machine, "rr", &body);
    let said = |answer: Answer, status: u16| {
        let answer = answer.is(status);
        answer.json()["message"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    let file = one("f", "x");
    for _ in 0..2 {
        assert_eq!(
            said(put(&machine, "rr", "/bin", &file), 400),
            "container rootfs is marked read-only"
        );
        assert_eq!(
            said(put(&machine, "rr", "/w", &file), 400),
            "mounted volume is marked read-only"
        );
        put(&machine, "rr", "/v", &file).is(200);
        assert_eq!(
            said(put(&machine, "rr", "/none", &file), 404),
            "Could not find the file /none in container rr"
        );
        assert_eq!(
            said(put(&machine, "rr", BUSYBOX, &file), 400),
            "extraction point is not a directory"
        );
        assert_eq!(
            said(get(&machine, &at("rr", "/none")), 404),
            "Could not find the file /none in container rr"
        );
        assert_eq!(
            said(get(&machine, &at("rr", "/bin/busybox/x")), 500),
            "lstat /bin/busybox/x: not a directory"
        );
        assert_eq!(
            said(get(&machine, "/containers/rr/archive"), 400),
            "bad parameter: pathcannot be empty"
        );
        assert_eq!(
            said(put(&machine, "rr", "/v", b"hello this is no tar"), 500),
            "unexpected EOF"
        );
        // Once more when it does not run.
        if state(&machine, "rr")["Running"] == json!(true) {
            assert_eq!(
                said(put(&machine, "rr", "/proc", &file), 400),
                "/proc holds no files"
            );
            assert_eq!(
                said(get(&machine, &at("rr", "/proc/1/environ")), 404),
                "Could not find the file /proc/1/environ in container rr"
            );
            post(&machine, "/containers/rr/kill").is(204);
            wait(&machine, "rr");
        }
    }
}

/// CVE-2018-15664: a container exchanges a directory and a link that leads out, all the time.
#[test]
fn links_exchanged_during_a_copy_lead_nowhere_outside() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    let canary = tempdir().unwrap();
    let script = format!(
        "mkdir -p /d /e; echo inside > /d/secret; ln -s {} /l; \
         while true; do mv -T /d /x; mv -T /l /d; mv -T /d /l; mv -T /x /d; done",
        canary.path().display()
    );
    std::fs::write(canary.path().join("secret"), "outside").unwrap();
    run(&machine, "evil", &container(&script));
    wait_for(&machine, "evil", "/l");
    let archive = one("planted", "x");
    let rounds = if std::env::var_os("LIGHTER_LONG").is_some() {
        20_000
    } else {
        300
    };
    let (mut reached, mut round) = (0, 0);
    while round < rounds || reached == 0 {
        let read = get(&machine, &at("evil", "/d/secret"));
        if read.status == 200 {
            assert_eq!(content(&read.body, "secret"), "inside\n");
            reached += 1;
        }
        put(&machine, "evil", "/d/", &archive);
        round += 1;
    }
    // These end the exchange: they make what is missing just then.
    let through = one("d/planted", "x");
    for _ in 0..rounds {
        put(&machine, "evil", "/", &through);
    }
    assert_eq!(std::fs::read_dir(canary.path()).unwrap().count(), 1);
}

/// CVE-2026-42306 (GHSA-vp62, GHSA-rg2x): a copy that mounts a container's volumes once more mounts them
/// where the container has meanwhile put a link. Here nothing is mounted for one that runs: its own
/// mounts are gone through, also those that only it can have made, and links inside it work.
#[test]
fn cve_2026_42306_a_copy_goes_through_the_mounts_that_are_there() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    let canary = tempdir().unwrap();
    std::fs::create_dir(canary.path().join("volume")).unwrap();
    std::fs::write(canary.path().join("volume/secret"), "outside").unwrap();
    let script = format!(
        "mkdir -p /run /usr/sbin; ln -s /run /var/run; ln -s usr/sbin /sbin; ln -s {} /l; \
         echo inside > /srv/volume/secret; echo own > /scratch/own; \
         while true; do mv -T /srv /x; mv -T /l /srv; mv -T /srv /l; mv -T /x /srv; done",
        canary.path().display()
    );
    let mut body = container(&format!("mkdir -p /var; {script}"));
    let volume = json!({"Type": "volume", "Source": "data", "Target": "/srv/volume"});
    body["HostConfig"]["Mounts"] = json!([volume]);
    body["HostConfig"]["Tmpfs"] = json!({"/scratch": ""});
    run(&machine, "evil", &body);
    wait_for(&machine, "evil", "/scratch/own");
    let own = get(&machine, &at("evil", "/scratch/own")).is(200).body;
    assert_eq!(content(&own, "own"), "own\n");
    let before = crate::footprint::Footprint::of(&machine);
    let rounds = match std::env::var_os("LIGHTER_LONG") {
        Some(_) => 20_000,
        None => 300,
    };
    let (mut reached, mut round) = (0, 0);
    while round < rounds || reached == 0 {
        let read = get(&machine, &at("evil", "/srv/volume/secret"));
        if read.status == 200 {
            assert_eq!(content(&read.body, "secret"), "inside\n");
            reached += 1;
        }
        put(&machine, "evil", "/srv/volume", &one("planted", "x"));
        round += 1;
    }
    for (place, real) in [("/var/run", "/run"), ("/sbin", "/usr/sbin")] {
        put(
            &machine,
            "evil",
            &format!("{place}/"),
            &one("daemon.pid", place),
        )
        .is(200);
        for path in [place, real] {
            let back = get(&machine, &at("evil", &format!("{path}/daemon.pid"))).is(200);
            assert_eq!(content(&back.body, "daemon.pid"), place);
        }
    }
    before.is_all_that_is_left_but_files(&machine);
    let volume = std::fs::read_dir(canary.path().join("volume")).unwrap();
    assert_eq!(volume.count(), 1);
    post(&machine, "/containers/evil/kill").is(204);
    wait(&machine, "evil");
    let real = get(&machine, &at("evil", "/run/daemon.pid")).is(200).body;
    assert_eq!(content(&real, "daemon.pid"), "/var/run");
    let through = get(&machine, &at("evil", "/var/run/daemon.pid"))
        .is(200)
        .body;
    assert_eq!(content(&through, "daemon.pid"), "/var/run");
}

/// CVE-2019-14271 and CVE-2026-41567: nothing of the container is loaded or run for a copy.
#[test]
fn compressed_archives_are_unpacked_by_no_program_of_the_container() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    let trojans = "for p in gzip unpigz xz bzip2 zstd tar; do for d in /bin /usr/bin /usr/local/bin; do \
                   mkdir -p $d; printf '#!/bin/busybox sh\\necho ran >> /ran\\n' > $d/$p; \
                   chmod 755 $d/$p; done; done; mkdir -p /lib /usr/lib; \
                   for l in libnss_files.so.2 libc.so.6; do cp /bin/gzip /lib/$l; done; echo > /ready; \
                   exec sleep 100000";
    run(&machine, "trojan", &container(trojans));
    wait_for(&machine, "trojan", "/ready");
    for (option, name) in [
        ("--gzip", "gzip"),
        ("--bzip2", "bzip2"),
        ("--xz", "xz"),
        ("--zstd", "zstd"),
    ] {
        let folder = tempdir().unwrap();
        std::fs::write(folder.path().join(name), name).unwrap();
        let mut tar = Command::new("tar");
        tar.arg("-C")
            .arg(folder.path())
            .args(["-c", option, "-f", "-", name]);
        let made = tar.output().unwrap();
        if !made.status.success() {
            // The program is not on this machine.
            continue;
        }
        put(&machine, "trojan", "/srv/", &made.stdout).is(404);
        put(&machine, "trojan", "/lib", &made.stdout).is(200);
        let back = get(&machine, &at("trojan", &format!("/lib/{name}")))
            .is(200)
            .body;
        assert_eq!(content(&back, name), name);
    }
    get(&machine, &at("trojan", "/ran")).is(404);
}

#[test]
fn owners_modes_links_and_attributes_are_kept_or_the_users() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    let mut body = idle();
    body["User"] = json!("1000:7");
    create(&machine, "cc", &body);
    let folder = tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "x").unwrap();
    std::os::unix::fs::chown(&file, Some(70_000), Some(3_000_000)).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o4755);
    std::fs::set_permissions(&file, mode).unwrap();
    std::fs::hard_link(&file, folder.path().join("link")).unwrap();
    let archive = tar(folder.path(), &["--format=posix"]);
    put(&machine, "cc", "/bin", &archive).is(200);
    let list = |path: &str| {
        let body = get(&machine, &at("cc", path)).is(200).body;
        pipe(
            Command::new("tar").args(["-tv", "--numeric-owner", "-f", "-"]),
            &body,
        )
    };
    let listed = list("/bin");
    assert!(listed.contains("-rwsr-xr-x 70000/3000000 "), "{listed}");
    assert!(listed.contains("bin/link link to bin/file"), "{listed}");
    let path = at("cc", "/bin") + "&copyUIDGID=1";
    try_call(&machine, "PUT", &path, &archive).unwrap().is(200);
    let listed = list("/bin/file");
    assert!(listed.contains(" 1000/7 "), "{listed}");
}

#[test]
fn changes_and_export_are_the_containers_own() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    let mut body = container("mkdir /new; echo x > /new/f; rm -rf /srv; exec sleep 100000");
    let volume = json!({"Type": "volume", "Source": "data", "Target": "/data"});
    body["HostConfig"]["Mounts"] = json!([volume]);
    create(&machine, "cc", &body);
    assert_eq!(
        get(&machine, "/containers/cc/changes").is(200).text(),
        "null\n"
    );
    post(&machine, "/containers/cc/start").is(204);
    wait_for(&machine, "cc", "/new/f");
    put(&machine, "cc", "/data", &one("in-volume", "x")).is(200);
    for _ in 0..2 {
        let changes = get(&machine, "/containers/cc/changes").is(200).json();
        let paths: Vec<&str> = changes
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|change| change["Path"].as_str())
            .collect();
        for path in ["/new", "/new/f", "/data", "/bin/busybox"] {
            assert!(paths.contains(&path), "{path} is not among {paths:?}");
        }
        for path in ["/proc", "/dev", "/etc/hosts", "/data/in-volume"] {
            assert!(!paths.contains(&path), "{path} is among {paths:?}");
        }
        let exported = get(&machine, "/containers/cc/export").is(200).body;
        let all = names(&exported);
        assert!(
            all.contains(&"new/f".to_owned()) && all.contains(&"data/".to_owned()),
            "{all:?}"
        );
        assert!(
            !all.iter().any(|name| name.contains("in-volume")),
            "{all:?}"
        );
        if state(&machine, "cc")["Running"] == json!(true) {
            post(&machine, "/containers/cc/kill").is(204);
            wait(&machine, "cc");
        }
    }
}

#[test]
fn a_removed_container_leaves_nothing_after_copies() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    run(&machine, "cc", &idle());
    put(&machine, "cc", "/", &one("f", "x")).is(200);
    get(&machine, &at("cc", "/bin")).is(200);
    get(&machine, "/containers/cc/export").is(200);
    try_call(&machine, "DELETE", "/containers/cc?force=1", b"")
        .unwrap()
        .is(204);
    create(&machine, "dd", &idle());
    put(&machine, "dd", "/", &one("f", "x")).is(200);
    try_call(&machine, "DELETE", "/containers/dd", b"")
        .unwrap()
        .is(204);
    machine.nothing_left();
}
