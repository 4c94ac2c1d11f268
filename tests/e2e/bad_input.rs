//! What is wrong is said, with the cause and the next step, and leaves nothing behind.

use std::fs::Permissions;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use lighter_tests::{Finished, Host, until};

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
fn networks_that_are_not_there_are_refused_by_name() {
    let Some(host) = Host::shared("networks_that_are_not_there_are_refused_by_name") else {
        return;
    };
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
    let run = host.lighter(&["run", "--memory-swappiness", "1", "busybox"]);
    assert_ne!(run.code, 0);
    assert!(run.err().contains("memory-swappiness"), "{}", run.err());
}

/// A Lighter of the test's own that is not up; nothing where the programs are not there.
fn fresh(test: &str) -> Option<Host> {
    let host = Host::new();
    if host.is_none() {
        lighter_tests::env::skip(test, "the programs are not there");
    }
    host
}

/// `lighter` with more in its environment, to its end.
fn lighter(host: &Host, args: &[&str], environment: &[(&str, &str)]) -> Finished {
    let mut command = host.lighter_command();
    command.args(args).envs(environment.iter().copied());
    lighter_tests::run(command, b"", Duration::from_secs(180))
}

/// It failed, said the cause and the next step.
fn says(run: &Finished, cause: &str, next: &str) {
    let err = run.err();
    assert_eq!(run.code, 1, "{}{err}", run.out());
    assert!(err.contains(cause), "no {cause:?} in: {err}");
    let hint = err.split("hint:").nth(1).unwrap_or_default();
    assert!(hint.contains(next), "no {next:?} in the hint of: {err}");
}

/// Nothing of the machine runs, and the files of the installation are these.
fn leaves(host: &Host, data: &[&str]) {
    assert_eq!(host.processes("lighter machine"), Vec::<i32>::new());
    assert_eq!(host.processes("lighter files"), Vec::<i32>::new());
    let names = std::fs::read_dir(host.home().join("data"));
    let names = names.into_iter().flatten().flatten();
    let mut names: Vec<String> = names
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name != "files")
        .collect();
    names.sort();
    assert_eq!(names, data);
}

#[test]
fn missing_qemu_is_named_with_its_package() {
    let Some(host) = fresh("missing_qemu_is_named_with_its_package") else {
        return;
    };
    let gone = [("LIGHTER_QEMU", "/nonexistent/qemu-system-x86_64")];
    let package = "apt-get install -t bookworm-backports qemu-system-x86";
    says(&lighter(&host, &["up"], &gone), "qemu-system-x86", package);
    // docker's client is told the same.
    let docker = host.docker(&["ps"]);
    assert!(docker.err().contains(package), "{}", docker.err());
    leaves(&host, &["disk.img", "machine-id"]);
    let doctor = lighter(&host, &["doctor"], &gone);
    assert_eq!(doctor.code, 1);
    assert!(doctor.out().contains(package), "{}", doctor.out());
}

#[test]
fn an_old_qemu_is_refused_with_its_version_and_the_package() {
    let Some(host) = fresh("an_old_qemu_is_refused_with_its_version_and_the_package") else {
        return;
    };
    let program = host.home().join("old-qemu");
    let script = "#!/bin/sh\necho 'QEMU emulator version 7.2.18 (Debian 1:7.2+dfsg-7+deb12u18)'\n";
    std::fs::write(&program, script).expect("written");
    std::fs::set_permissions(&program, Permissions::from_mode(0o755)).expect("executable");
    let program = program.display().to_string();
    let old = [("LIGHTER_QEMU", program.as_str())];
    let up = lighter(&host, &["up"], &old);
    says(&up, "QEMU 7.2.18 is too old", "bookworm-backports");
    leaves(&host, &["disk.img", "machine-id"]);
    let doctor = lighter(&host, &["doctor"], &old);
    assert!(
        doctor.out().contains("7.2.18 is too old"),
        "{}",
        doctor.out()
    );
    // With the right one everything goes on: nothing was spoilt.
    host.lighter(&["down"]).ok();
    host.lighter(&["up"]).ok();
}

/// The names of sockets in a folder.
fn sockets(folder: &Path) -> Vec<String> {
    let entries = folder.read_dir().expect("a folder");
    let names = entries.map(|entry| entry.expect("read").file_name());
    let names = names.map(|name| name.to_string_lossy().into_owned());
    names.filter(|name| name.ends_with(".sock")).collect()
}

#[test]
fn what_dead_processes_left_stops_nobody() {
    let Some(host) = fresh("what_dead_processes_left_stops_nobody") else {
        return;
    };
    let run = host.home().join("run");
    std::fs::create_dir(&run).expect("a folder");
    for lock in ["daemon.lock", "machine.lock"] {
        std::fs::write(run.join(lock), "4194304").expect("written");
    }
    for socket in ["docker.sock", "control.sock", "machine.sock", "files.sock"] {
        drop(UnixListener::bind(run.join(socket)).expect("a socket"));
    }
    let doctor = host.lighter(&["doctor"]).ok().out();
    assert!(doctor.contains("stop nobody"), "{doctor}");
    let names = ["docker.sock", "control.sock", "machine.sock", "files.sock"];
    assert!(names.iter().all(|name| run.join(name).exists()));
    host.lighter(&["up"]).ok();
    host.docker(&["run", "--rm", "lighter/hello"]).ok();
    // Nor does anything stay of those that ended in order, or were killed.
    host.lighter(&["down"]).ok();
    assert_eq!(sockets(&run), [""; 0]);
    host.lighter(&["up"]).ok();
    assert!(sockets(&run).len() > names.len());
    host.kill("lighter daemon");
    host.kill("lighter machine");
    until("all are gone", || host.processes("lighter").is_empty());
    assert!(!sockets(&run).is_empty());
    assert_eq!(host.lighter(&["down"]).ok().err(), "lighter was not up\n");
    assert_eq!(sockets(&run), [""; 0]);
}

/// Runs a script as root in a mount namespace of its own, with `L` as our program.
fn with_mounts(host: &Host, script: &str) -> Finished {
    let lighter = lighter_tests::env::path(lighter_tests::env::LIGHTER).expect("it is there");
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "bash", "-c", script])
        .env("L", lighter)
        .env("LIGHTER_HOME", host.home())
        .env("HOME", host.home());
    lighter_tests::run(command, b"", Duration::from_secs(180))
}

#[test]
fn a_read_only_home_is_named_and_nothing_is_tried() {
    let Some(host) = fresh("a_read_only_home_is_named_and_nothing_is_tried") else {
        return;
    };
    let read_only = "mount --bind $HOME $HOME && mount -o remount,ro,bind $HOME && cd /";
    for command in ["up", "run lighter/hello", "config set cpus 1"] {
        let run = with_mounts(&host, &format!("{read_only} && exec $L {command}"));
        says(&run, "Read-only file system", "set `LIGHTER_HOME`");
    }
    let doctor = with_mounts(&host, &format!("{read_only} && exec $L doctor"));
    assert_eq!(doctor.code, 1);
    assert!(
        doctor.out().contains("read-only file system"),
        "{}",
        doctor.out()
    );
    // The same for a user without rights to it.
    let other = with_mounts(
        &host,
        "chmod 755 $HOME; exec setpriv --reuid 54321 --regid 54321 --clear-groups $L up",
    );
    says(&other, "Permission denied", "set `LIGHTER_HOME`");
    assert_eq!(std::fs::read_dir(host.home()).expect("its home").count(), 0);
}

#[test]
fn a_full_disk_of_the_host_is_named_and_nothing_is_lost() {
    let Some(host) = fresh("a_full_disk_of_the_host_is_named_and_nothing_is_lost") else {
        return;
    };
    // Too small for the data disk's template, then for the first minutes of a machine.
    let tiny = "mount -t tmpfs -o size=100k tmpfs $HOME && cd / && $L up; code=$?; \
                find $HOME/data -name 'disk*' >&2; $L down; exit $code";
    let run = with_mounts(&host, tiny);
    says(
        &run,
        "No space left on device",
        "make room on the disk that holds",
    );
    assert!(
        !run.err().contains("data/disk.img."),
        "half a disk stays: {}",
        run.err()
    );
    let small =
        "mount -t tmpfs -o size=3m tmpfs $HOME && cd / && $L up; code=$?; $L down; exit $code";
    let run = with_mounts(&host, small);
    says(
        &run,
        "is full, and the virtual machine waits",
        "make room there",
    );
    // Full while it runs: it waits, says so, and goes on when there is room.
    let later = "set -e; mount -t tmpfs -o size=60m tmpfs $HOME; cd /; $L up; \
        $L run --network none --name big lighter/hello sh -c 'dd if=/dev/zero of=/f bs=1M count=120 && sync && sha256sum /f' > /dev/null & \
        until $L status | grep -q 'machine   waiting'; do :; done; \
        $L doctor | grep -A1 'FAIL.*virtual machine waits' || true; \
        mount -o remount,size=400m $HOME; wait $!; $L logs big; $L down";
    let run = with_mounts(&host, later).ok();
    let zeroes = Command::new("bash")
        .args(["-c", "head -c 120M /dev/zero | sha256sum"])
        .output()
        .expect("bash");
    let expected = String::from_utf8_lossy(&zeroes.stdout).replace('-', "/f");
    assert!(run.out().contains(expected.trim()), "{}", run.out());
    assert!(run.out().contains("make room there"), "{}", run.out());
}

#[test]
fn a_machine_that_stands_still_on_a_full_disk_ends_when_it_is_to() {
    let Some(host) = fresh("a_machine_that_stands_still_on_a_full_disk_ends_when_it_is_to") else {
        return;
    };
    let script = "set -e; mount -t tmpfs -o size=60m tmpfs $HOME; cd /; $L up; \
        $L create --network none --name big lighter/hello sh -c 'dd if=/dev/zero of=/f bs=1M count=120; sync'; \
        $L start big; until $L status | grep -q 'machine   waiting'; do :; done; $L down; \
        grep -o 'ended where it stands' $HOME/run/daemon.log; \
        mount -o remount,size=400m $HOME; $L up; $L ps -a --format '{{.Names}}'; $L down";
    let run = with_mounts(&host, script).ok();
    let out = run.out();
    assert!(out.contains("ended where it stands\nbig\n"), "{out}");
}

#[test]
fn settings_that_cannot_be_read_stop_nothing_that_runs() {
    let Some(host) = Host::started("settings_that_cannot_be_read_stop_nothing_that_runs") else {
        return;
    };
    host.docker(&["run", "-d", "--name", "steady", "busybox", "sleep", "1000"])
        .ok();
    let file = host.home().join("config/config.toml");
    std::fs::create_dir_all(file.parent().expect("a folder")).expect("made");
    for (text, cause, next) in [
        ("cpus = [", "is not valid", "correct `"),
        (
            "memroy = '1g'",
            "there is no setting `memroy`",
            "did you mean `memory`?",
        ),
        (
            "cpus = 0",
            "`cpus` cannot be `0`",
            "lighter config set cpus",
        ),
    ] {
        std::fs::write(&file, text).expect("written");
        says(
            &host.lighter(&["config", "set", "disk", "70GiB"]),
            cause,
            next,
        );
        assert_eq!(std::fs::read_to_string(&file).expect("it is there"), text);
        // A daemon that dies now cannot come back before it is corrected; the machine lives on.
        host.kill("lighter daemon");
        says(&host.lighter(&["up"]), cause, next);
    }
    std::fs::write(&file, "cpus = 1\n").expect("written");
    host.lighter(&["up"]).ok();
    let running = ["inspect", "-f", "{{.State.Running}}", "steady"];
    assert_eq!(host.docker(&running).ok().out(), "true\n");
}

#[test]
fn missing_files_of_the_image_are_named() {
    let Some(host) = fresh("missing_files_of_the_image_are_named") else {
        return;
    };
    let whole = std::env::var("LIGHTER_IMAGE_DIR").expect("the tests have an image");
    for missing in ["vmlinux", "initramfs", "data-disk"] {
        let dir = host.home().join(format!("no-{missing}"));
        std::fs::create_dir(&dir).expect("a folder");
        for entry in std::fs::read_dir(&whole).expect("the image").flatten() {
            let name = entry.file_name();
            if !name.to_string_lossy().starts_with(missing) {
                std::os::unix::fs::symlink(entry.path(), dir.join(name)).expect("a link");
            }
        }
        let dir = dir.display().to_string();
        let part = [("LIGHTER_IMAGE_DIR", dir.as_str())];
        let up = lighter(&host, &["up"], &part);
        says(&up, &format!("{dir}/{missing}"), "cargo xtask image");
        let doctor = lighter(&host, &["doctor"], &part).out();
        assert!(doctor.contains(&format!("{dir}/{missing}")), "{doctor}");
        host.lighter(&["down"]).ok();
    }
}

#[test]
fn a_disk_that_is_garbage_or_another_machines_is_refused_and_left_alone() {
    let test = "a_disk_that_is_garbage_or_another_machines_is_refused_and_left_alone";
    let Some(host) = Host::started(test) else {
        return;
    };
    host.docker(&["create", "--name", "kept", "busybox"]).ok();
    host.lighter(&["down"]).ok();
    let data = host.home().join("data");
    let (disk, id) = (data.join("disk.img"), data.join("machine-id"));
    let (good_disk, good_id) = (data.join("good-disk"), data.join("good-id"));
    std::fs::rename(&disk, &good_disk).expect("moved");
    std::fs::write(&disk, vec![0x5a; 1 << 20]).expect("written");
    says(
        &host.lighter(&["up"]),
        "holds no ext4 file system",
        "move it away",
    );
    let garbage = std::fs::metadata(&disk).expect("it is there").len();
    assert_eq!(garbage, 1 << 20, "what is not ours is not grown");
    std::fs::remove_file(&disk).expect("removed");
    std::fs::create_dir(&disk).expect("a folder in its place");
    says(&host.lighter(&["up"]), "it is no file", "move it away");
    std::fs::remove_dir(&disk).expect("removed");
    // The mark of a file system and nothing behind it.
    let mut marked = vec![0; 1 << 20];
    marked[1080..1082].copy_from_slice(&[0x53, 0xef]);
    std::fs::write(&disk, marked).expect("written");
    let up = host.lighter(&["up"]);
    says(&up, "refused to start", "move it away");
    std::fs::remove_file(&disk).expect("removed");
    std::fs::rename(&good_disk, &disk).expect("moved back");
    // Without its identity, and with another's.
    std::fs::rename(&id, &good_id).expect("moved");
    says(
        &host.lighter(&["up"]),
        "`machine-id` that belongs to it is missing",
        "bring its `machine-id` back",
    );
    assert!(!id.exists(), "no other is made in its place");
    std::fs::write(&id, format!("{}\n", "ab".repeat(16))).expect("written");
    says(
        &host.lighter(&["up"]),
        "belongs to machine",
        "bring its `machine-id` back",
    );
    std::fs::rename(&good_id, &id).expect("moved back");
    host.lighter(&["up"]).ok();
    host.docker(&["inspect", "kept"]).ok();
}

#[test]
fn one_disk_is_not_given_to_two_machines() {
    let Some(host) = Host::started("one_disk_is_not_given_to_two_machines") else {
        return;
    };
    // Another login session: its sockets are elsewhere, its data is the same.
    let session = "mkdir -p $HOME/other/data && mount --bind $HOME/data $HOME/other/data && \
        cd / && export LIGHTER_HOME=$HOME/other && $L up; code=$?; $L down; exit $code";
    let up = with_mounts(&host, session);
    says(&up, "is in use by another machine", "XDG_RUNTIME_DIR");
    host.docker(&["run", "--rm", "lighter/hello"]).ok();
}
