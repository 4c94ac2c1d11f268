//! How much containers and volumes may hold.

use std::process::Command;
use std::time::Duration;

use lighter_tests::{Finished, Host, limits, run, until};

/// Asks the guest's kernel for the limits there are.
const ASKER: &str = "asker";

/// Starts the container that asks.
fn ask_from(host: &Host) {
    let _ = host.docker(&["rm", "-f", ASKER]);
    let flags = ["run", "-d", "--name", ASKER, "--privileged", "--pid=host"];
    host.docker(&[&flags[..], &["busybox", "sleep", "1000000"]].concat())
        .ok();
    limits::arm(host, ASKER);
}

/// The limits on the data disk, in KiB.
fn limits(host: &Host) -> Vec<u64> {
    limits::limits(host, ASKER)
}

/// Fails unless it was the limit that stopped it.
fn says_limit(done: &Finished) {
    let said = done.err() + &done.out();
    assert_ne!(done.code, 0, "there was room: {said}");
    assert!(said.to_lowercase().contains("quota exceeded"), "{said}");
}

/// Writes so many MiB.
fn write(file: &str, mib: u32) -> String {
    format!("dd if=/dev/zero of={file} bs=1M count={mib} 2>&1")
}

/// Runs a script in a container that runs.
fn exec(host: &Host, name: &str, script: &str) -> Finished {
    host.docker(&["exec", name, "sh", "-c", script])
}

/// Starts a container that stays.
fn stay(host: &Host, name: &str, flags: &[&str]) {
    let words = ["run", "-d", "--network", "none", "--name", name];
    let sleep = ["busybox", "sleep", "1000000"];
    host.docker(&[&words[..], flags, &sleep].concat()).ok();
}

#[test]
fn a_container_holds_what_its_size_says_and_no_more() {
    let Some(host) = Host::started("a_container_holds_what_its_size_says_and_no_more") else {
        return;
    };
    ask_from(&host);
    assert_eq!(limits(&host), [0; 0]);
    stay(&host, "sized", &["--storage-opt", "size=20m"]);
    stay(&host, "free", &[]);
    assert_eq!(limits(&host), [20 << 10]);
    let shown = ["inspect", "-f", "{{json .HostConfig.StorageOpt}}", "sized"];
    assert_eq!(host.docker(&shown).ok().out(), "{\"size\":\"20m\"}\n");
    let df = exec(&host, "sized", "df -k / | tail -1 | awk '{print $2}'");
    assert_eq!(df.ok().out(), "20480\n");

    exec(&host, "sized", &write("/f", 15)).ok();
    says_limit(&exec(&host, "sized", &write("/g", 15)));
    // Neither by a copy, nor by one who may do anything.
    let large = host.folder("sizes").join("large");
    std::fs::write(&large, vec![1; 15 << 20]).expect("a file");
    let large = large.display().to_string();
    let copy = || host.docker(&["cp", &large, "sized:/h"]);
    says_limit(&copy());
    exec(&host, "sized", "rm -f /h").ok();
    let privileged = [
        "exec",
        "--privileged",
        "sized",
        "sh",
        "-c",
        &write("/g", 15),
    ];
    says_limit(&host.docker(&privileged));
    // Others go on, and what goes makes room.
    exec(&host, "free", &write("/f", 40)).ok();
    exec(&host, "sized", "rm /f /g").ok();
    exec(&host, "sized", &write("/f", 15)).ok();

    host.docker(&["stop", "-t", "0", "sized"]).ok();
    says_limit(&copy());
    host.docker(&["start", "sized"]).ok();
    exec(&host, "sized", "rm -f /h").ok();
    says_limit(&exec(&host, "sized", &write("/g", 15)));
    exec(&host, "sized", "rm /g").ok();

    // What is in the image is not counted.
    host.docker(&["commit", "sized", "large:1"]).ok();
    let small = [
        "run",
        "--rm",
        "--network",
        "none",
        "--storage-opt",
        "size=1m",
    ];
    let script = "stat -c %s /f; dd if=/dev/zero of=/g bs=1k count=500 2>/dev/null && echo fits";
    let small = host.docker(&[&small[..], &["large:1", "sh", "-c", script]].concat());
    assert_eq!(small.ok().out(), "15728640\nfits\n");
    // One that cannot even hold what a start puts into it does not, and leaves nothing.
    let tiny = |size: &str| {
        let option = format!("size={size}");
        let words = ["run", "--rm", "--network", "none", "--storage-opt", &option];
        host.docker(&[&words[..], &["busybox", "true"]].concat())
    };
    says_limit(&tiny("1k"));
    tiny("100k").ok();
    until("limits go with their containers", || {
        limits(&host) == [20 << 10]
    });

    host.lighter(&["down"]).ok();
    host.lighter(&["up"]).ok();
    host.docker(&["start", ASKER, "sized"]).ok();
    assert_eq!(limits(&host), [20 << 10]);
    says_limit(&exec(&host, "sized", &write("/g", 15)));
    host.docker(&["rm", "-f", "sized"]).ok();
    until("the limit goes with the container", || {
        limits(&host).is_empty()
    });
}

#[test]
fn wrong_sizes_are_refused_in_dockers_words_and_leave_nothing() {
    let name = "wrong_sizes_are_refused_in_dockers_words_and_leave_nothing";
    let Some(host) = Host::shared(name) else {
        return;
    };
    for (option, words) in [
        ("size=1.5qb", "invalid suffix: 'qb'"),
        ("size=-1m", "invalid size: '-1m'"),
        ("size=", "invalid size: ''"),
        ("size=m", "invalid size: 'm'"),
        ("bogus=1", "Unknown option bogus"),
    ] {
        let create = ["create", "--name", "wrong-size", "--storage-opt", option];
        let refused = host.docker(&[&create[..], &["busybox", "true"]].concat());
        let said = refused.exits(1).err();
        assert_eq!(said, format!("Error response from daemon: {words}\n"));
        let asked = host.docker(&["inspect", "wrong-size"]).exits(1);
        assert!(asked.err().contains("o such object"), "{}", asked.err());
    }
    let none = ["create", "--name", "no-size", "--storage-opt", "size=0"];
    host.docker(&[&none[..], &["busybox", "true"]].concat())
        .ok();
    host.docker(&["rm", "no-size"]).ok();
    let own = [
        "run",
        "--rm",
        "--network",
        "none",
        "--storage-opt",
        "size=7m",
    ];
    let own = host.lighter(&[&own[..], &["busybox", "df", "-k", "/"]].concat());
    let out = own.ok().out();
    assert!(out.contains(" 7168 "), "{out}");
}

#[test]
fn a_volume_holds_what_its_size_says_and_no_more() {
    let Some(host) = Host::started("a_volume_holds_what_its_size_says_and_no_more") else {
        return;
    };
    ask_from(&host);
    host.docker(&["volume", "create", "-o", "size=20m", "sized"])
        .ok();
    assert_eq!(limits(&host), [20 << 10]);
    let shown = ["volume", "inspect", "-f", "{{json .Options}}", "sized"];
    assert_eq!(host.docker(&shown).ok().out(), "{\"size\":\"20m\"}\n");
    stay(&host, "one", &["-v", "sized:/v"]);
    stay(&host, "two", &["-v", "sized:/v", "-v", "free:/free"]);
    let df = exec(&host, "one", "df -k /v | tail -1 | awk '{print $2}'");
    assert_eq!(df.ok().out(), "20480\n");
    // Both write into one: it holds so much for both.
    exec(&host, "one", &write("/v/f", 12)).ok();
    says_limit(&exec(&host, "two", &write("/v/g", 12)));
    exec(&host, "two", &write("/free/f", 40)).ok();
    exec(&host, "one", &write("/f", 40)).ok();
    let large = host.folder("sizes").join("large");
    std::fs::write(&large, vec![1; 12 << 20]).expect("a file");
    says_limit(&host.docker(&["cp", &large.display().to_string(), "one:/v/h"]));
    exec(&host, "one", "rm /v/*").ok();

    // What an image fills it with is no exception.
    let build = "mkdir /data; dd if=/dev/zero of=/data/f bs=1M count=4 2>/dev/null";
    let words = [
        "run",
        "--name",
        "full",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
    ];
    host.docker(&[&words[..], &[build]].concat()).ok();
    host.docker(&["commit", "full", "full:1"]).ok();
    let mount = "type=volume,src=small,dst=/data,volume-opt=size=1m";
    let words = ["create", "--name", "small", "--mount", mount, "full:1"];
    says_limit(&host.docker(&words));
    host.docker(&["inspect", "small", "--type", "container"])
        .exits(1);
    assert_eq!(limits(&host), [1 << 10, 20 << 10]);
    host.docker(&["volume", "rm", "small"]).ok();
    let mount = "type=volume,src=small,dst=/data,volume-opt=size=6m";
    let words = ["run", "--rm", "--mount", mount, "full:1"];
    let script = [
        "sh",
        "-c",
        "stat -c %s /data/f; echo; dd if=/dev/zero of=/data/g bs=1M count=3",
    ];
    let done = host.docker(&[&words[..], &script].concat());
    assert!(done.out().starts_with("4194304\n"), "{}", done.out());
    says_limit(&done);

    // The next of its name has what it asks for, and nothing else.
    host.docker(&["rm", "-f", "one", "two", "full"]).ok();
    host.docker(&["volume", "rm", "sized", "small"]).ok();
    until("limits go with their volumes", || limits(&host).is_empty());
    stay(&host, "one", &["-v", "sized:/v"]);
    exec(&host, "one", &write("/v/f", 40)).ok();
    assert_eq!(limits(&host), [0; 0]);

    for (option, words) in [
        ("size=1q", "invalid suffix: 'q'"),
        ("size=-1", "invalid size: '-1'"),
        ("sized=1", "invalid option: \"sized\""),
    ] {
        let refused = host
            .docker(&["volume", "create", "-o", option, "wrong"])
            .exits(1);
        let said = format!("Error response from daemon: create wrong: {words}\n");
        assert_eq!(refused.err(), said);
    }
    host.docker(&["volume", "create", "-o", "size=0", "whole"])
        .ok();
    assert_eq!(limits(&host), [0; 0]);
}

#[test]
fn a_disk_made_without_projects_has_no_sizes_until_it_is_given_them() {
    let name = "a_disk_made_without_projects_has_no_sizes_until_it_is_given_them";
    let Some(host) = Host::started(name) else {
        return;
    };
    let disk = host.home().join("data/disk.img");
    let tune = |options: &[&str]| {
        host.lighter(&["down"]).ok();
        let mut tune = Command::new("tune2fs");
        tune.env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin");
        tune.args(options).arg(&disk);
        run(tune, b"", Duration::from_secs(60)).ok();
        host.lighter(&["up"]).ok();
    };
    host.docker(&["create", "--name", "before", "busybox", "true"])
        .ok();
    tune(&["-O", "^quota,^project"]);
    let sized = ["create", "--name", "sized", "--storage-opt", "size=20m"];
    let sized = [&sized[..], &["busybox", "sleep", "1000000"]].concat();
    let refused = host.docker(&sized).exits(1).err();
    let words = "--storage-opt is supported only for overlay over xfs with 'pquota' mount option";
    assert!(refused.contains(words), "{refused}");
    let volume = ["volume", "create", "-o", "size=20m", "sized"];
    let refused = host.docker(&volume).exits(1).err();
    let words = "quota size requested but no quota support";
    assert!(refused.contains(words), "{refused}");
    host.docker(&["start", "-a", "before"]).ok();

    tune(&["-O", "project,quota", "-Q", "prjquota"]);
    host.docker(&sized).ok();
    host.docker(&volume).ok();
    host.docker(&["start", "sized"]).ok();
    says_limit(&exec(&host, "sized", &write("/f", 30)));
    host.docker(&["start", "-a", "before"]).ok();
}

#[test]
fn sizes_hold_in_a_user_namespace_and_cannot_be_left_there() {
    let name = "sizes_hold_in_a_user_namespace_and_cannot_be_left_there";
    let Some(host) = Host::started(name) else {
        return;
    };
    let leave = |container: &str| {
        stay(&host, container, &["--storage-opt", "size=20m"]);
        limits::arm(&host, container);
        let script = "echo x > /f; /probe leave /f";
        exec(&host, container, script).ok().out()
    };
    // To the owner of a file the kernel allows it elsewhere.
    assert_eq!(leave("plain"), "project open\none\nleave open\n");
    host.lighter(&["config", "set", "engine.userns-remap", "true"])
        .ok();
    host.lighter(&["down"]).ok();
    host.lighter(&["up"]).ok();
    assert_eq!(leave("mapped"), "project open\none\nleave 22\n");
    let df = exec(&host, "mapped", "df -k / | tail -1 | awk '{print $2}'");
    assert_eq!(df.ok().out(), "20480\n");
    says_limit(&exec(&host, "mapped", &write("/g", 30)));
    host.docker(&["start", "plain"]).ok();
    says_limit(&exec(&host, "plain", &write("/g", 30)));

    let volume = ["volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs"];
    let owned = ["-o", "o=size=1m,uid=5,mode=750", "memory"];
    host.docker(&[&volume[..], &owned].concat()).ok();
    host.docker(&["volume", "create", "-o", "size=20m", "disk"])
        .ok();
    stay(&host, "volumes", &["-v", "memory:/m", "-v", "disk:/d"]);
    let said = exec(
        &host,
        "volumes",
        "stat -c '%a %u' /m; echo x > /m/f && stat -c %u /m/f",
    );
    assert_eq!(said.ok().out(), "750 5\n0\n");
    says_limit(&exec(&host, "volumes", &write("/d/f", 30)));
}
