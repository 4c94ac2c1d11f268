//! Every setting, seen to take effect in the machine.

use std::sync::{Mutex, PoisonError};

use lighter_tests::{Host, env};

/// The machine that tests share has one list of shares: whoever sets it holds this.
static SHARES: Mutex<()> = Mutex::new(());

#[test]
fn every_setting_takes_effect_in_the_machine() {
    let name = "every_setting_takes_effect_in_the_machine";
    let Some(host) = Host::started(name) else {
        return;
    };
    let inside = |command: &str| {
        let run = [
            "run",
            "--rm",
            "--network",
            "none",
            "busybox",
            "sh",
            "-c",
            command,
        ];
        host.docker(&run).ok().out().trim().to_owned()
    };
    host.docker(&["create", "--name", "kept", "busybox"]).ok();
    let disk_before = inside("df -k / | tail -1 | awk '{print $2}'");
    let settings = [
        ("cpus", "1"),
        ("memory", "640MiB"),
        ("disk", "80GiB"),
        ("engine.registry-mirrors", "http://mirror.test:5000"),
        ("engine.insecure-registries", "10.9.0.0/16,r.test:5000"),
        ("engine.log-driver", "local"),
        ("engine.log-opts", "{ max-size = \"3m\" }"),
        ("engine.dns", "10.9.8.7"),
        ("engine.dns-search", "s.test"),
        ("engine.dns-opts", "ndots:3"),
        ("engine.labels", "place=quay"),
        (
            "engine.default-address-pools",
            "[{ base = \"10.77.0.0/16\", size = 24 }]",
        ),
    ];
    for (key, value) in settings {
        let set = host.lighter(&["config", "set", key, value]).ok();
        assert!(
            set.err()
                .contains("takes effect when the machine starts again"),
            "{key}: {}",
            set.err()
        );
    }
    assert_eq!(
        inside("nproc"),
        env_cpus(),
        "nothing changes before the restart"
    );
    host.lighter(&["down"]).ok();
    host.lighter(&["up"]).ok();
    assert_eq!(inside("nproc"), "1");
    let memory: u64 = inside("awk '/MemTotal/ {print $2}' /proc/meminfo")
        .parse()
        .expect("KiB");
    assert!((560 << 10..=640 << 10).contains(&memory), "{memory} KiB");
    let grown = |text: &str| text.parse::<u64>().expect("KiB");
    let disk_after = inside("df -k / | tail -1 | awk '{print $2}'");
    let gained = grown(&disk_after) - grown(&disk_before);
    assert!(gained > 14 << 20, "from {disk_before} to {disk_after}");
    host.docker(&["inspect", "kept"]).ok();
    let info = host.docker(&["info"]).ok().out();
    for line in [
        "Registry Mirrors:\n  http://mirror.test:5000/",
        "  10.9.0.0/16",
        "  r.test:5000",
        "Logging Driver: local",
        "Labels:\n  place=quay",
        "Default Address Pools:\n   Base: 10.77.0.0/16, Size: 24",
    ] {
        assert!(info.contains(line), "no {line:?} in:\n{info}");
    }
    let log = "{{.HostConfig.LogConfig.Type}} {{index .HostConfig.LogConfig.Config \"max-size\"}}";
    host.docker(&["create", "--name", "logged", "busybox"]).ok();
    assert_eq!(
        host.docker(&["inspect", "-f", log, "logged"]).ok().out(),
        "local 3m\n"
    );
    let resolver = inside("cat /etc/resolv.conf");
    let run = [
        "run",
        "--rm",
        "--network",
        "host",
        "busybox",
        "cat",
        "/etc/resolv.conf",
    ];
    let resolver = format!("{resolver}\n{}", host.docker(&run).ok().out());
    for word in ["10.9.8.7", "s.test", "ndots:3"] {
        assert!(resolver.contains(word), "no {word:?} in:\n{resolver}");
    }
}

/// Processors of a machine by default: all of this host's.
fn env_cpus() -> String {
    std::thread::available_parallelism()
        .map_or(1, usize::from)
        .to_string()
}

#[test]
fn a_share_takes_effect_at_once_and_its_right_is_the_settings() {
    let name = "a_share_takes_effect_at_once_and_its_right_is_the_settings";
    let _shares = SHARES.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(host) = Host::shared(name) else {
        return;
    };
    let Ok(folder) = tempfile::Builder::new()
        .prefix("lighter-share")
        .tempdir_in("/srv")
    else {
        return env::skip(name, "no folder can be made in /srv");
    };
    std::fs::write(folder.path().join("f"), "shared").expect("written");
    let path = folder.path().display().to_string();
    let bind = format!("{path}:/w");
    let run = |command| {
        host.docker(&[
            "run",
            "--rm",
            "--network",
            "none",
            "-v",
            &bind,
            "busybox",
            "sh",
            "-c",
            command,
        ])
    };
    let denied = run("cat /w/f").exits(125);
    assert!(
        denied
            .err()
            .contains(&format!("`lighter config set shares {path}`")),
        "{}",
        denied.err()
    );
    let set = host
        .lighter(&["config", "set", "shares", &format!("{path}:ro")])
        .ok();
    assert_eq!(set.err(), "", "it takes effect at once");
    assert_eq!(run("cat /w/f").ok().out(), "shared");
    let written = run("echo x > /w/f");
    assert!(
        written.err().contains("Read-only file system"),
        "{}",
        written.err()
    );
    host.lighter(&["config", "set", "shares", &path]).ok();
    run("echo more >> /w/f").ok();
    assert!(
        std::fs::read_to_string(folder.path().join("f"))
            .expect("read")
            .contains("more")
    );
    host.lighter(&["config", "set", "shares", ""]).ok();
}

#[test]
fn a_folder_becomes_read_only_and_writable_again_under_a_container() {
    let name = "a_folder_becomes_read_only_and_writable_again_under_a_container";
    let _shares = SHARES.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(host) = Host::shared(name) else {
        return;
    };
    let folder = host.folder(name);
    std::fs::create_dir(folder.join("inner")).expect("made");
    host.own(&folder);
    let bind = format!("{}:/w", folder.display());
    let run = ["run", "-d", "--rm", "--name", name, "-v", &bind, "busybox"];
    host.docker(&[&run[..], &["sleep", "1000"]].concat()).ok();
    let touch = || host.docker(&["exec", name, "touch", "/w/inner/f"]);
    let entry = format!("{}:ro", folder.join("inner").display());
    touch().ok();
    for _ in 0..2 {
        host.lighter(&["config", "set", "shares", &entry]).ok();
        let refused = touch().exits(1).err();
        assert!(refused.contains("Read-only file system"), "{refused}");
        host.lighter(&["config", "set", "shares", ""]).ok();
        touch().ok();
    }
    host.docker(&["rm", "-f", name]).ok();
}
