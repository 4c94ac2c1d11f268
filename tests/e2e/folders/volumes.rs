//! Named and anonymous volumes and temporary file systems.

use lighter_tests::Host;

use super::{both, sh};

/// An image that has something at /srv/data, which it declares a volume; made once a test.
fn image(host: &Host, name: &str) {
    host.docker(&["rm", "-f", name]).stdout.clear();
    let _ = host.docker(&["volume", "rm", "-f", name]);
}

#[test]
fn named_volume_is_filled_once_shared_and_kept() {
    both("named_volume_is_filled_once_shared_and_kept", |host| {
        image(host, "vol1");
        // /etc of the image fills the empty volume, with owners and modes.
        let flags = ["-v", "vol1:/etc"];
        let out = sh(
            host,
            &flags,
            "grep -c root: /etc/passwd; echo mine > /etc/mine",
        )
        .ok()
        .out();
        assert_eq!(out, "1\n");
        let out = sh(
            host,
            &["-v", "vol1:/v:ro"],
            "cat /v/mine; echo x > /v/y 2>/dev/null || echo refused",
        );
        assert_eq!(out.ok().out(), "mine\nrefused\n");
        // What is there is not filled again.
        sh(host, &["-v", "vol1:/v"], "rm /v/passwd").ok();
        sh(host, &["-v", "vol1:/etc"], "test ! -e /etc/passwd").ok();
        let mount = [
            "--mount",
            "type=volume,src=vol1-empty,dst=/etc,volume-nocopy",
        ];
        sh(host, &mount, "test ! -e /etc/passwd").ok();
        sh(host, &["-v", "vol1-b:/etc:nocopy"], "test ! -e /etc/passwd").ok();
        let used = host.docker(&["create", "--name", "vol1", "-v", "vol1:/v", "busybox"]);
        used.ok();
        let refused = host.docker(&["volume", "rm", "vol1"]).exits(1);
        assert!(
            refused.err().contains("volume is in use"),
            "{}",
            refused.err()
        );
        host.docker(&["rm", "vol1"]).ok();
        host.docker(&["volume", "rm", "vol1", "vol1-empty", "vol1-b"])
            .ok();
    });
}

#[test]
fn anonymous_volume_goes_with_its_container() {
    both("anonymous_volume_goes_with_its_container", |host| {
        let count = || {
            host.docker(&["volume", "ls", "-q"])
                .ok()
                .out()
                .lines()
                .count()
        };
        let before = host.docker(&["volume", "ls", "-q"]).ok().out();
        host.docker(&[
            "run",
            "--name",
            "anon",
            "-v",
            "/etc",
            "busybox",
            "test",
            "-e",
            "/etc/passwd",
        ])
        .ok();
        let volume = host
            .docker(&["inspect", "-f", "{{(index .Mounts 0).Name}}", "anon"])
            .ok()
            .out();
        let volume = volume.trim();
        assert!(volume.len() == 64 && !before.contains(volume), "{volume}");
        assert!(count() > 0);
        host.docker(&["rm", "-v", "anon"]).ok();
        let after = host.docker(&["volume", "ls", "-q"]).ok().out();
        assert!(!after.contains(volume), "{after}");
    });
}

#[test]
fn volumes_from_gives_the_same_mounts_and_ro_makes_them_read_only() {
    let name = "volumes_from_gives_the_same_mounts_and_ro_makes_them_read_only";
    both(name, |host| {
        let folder = host.folder("from");
        let bind = format!("{}:/b", folder.display());
        host.docker(&[
            "run",
            "--name",
            "giver",
            "-v",
            "vol2:/v",
            "-v",
            &bind,
            "busybox",
            "sh",
            "-c",
            "echo v > /v/f; echo b > /b/f",
        ])
        .ok();
        let out = sh(
            host,
            &["--volumes-from", "giver"],
            "cat /v/f /b/f; echo more >> /v/f",
        )
        .ok();
        assert_eq!(out.out(), "v\nb\n");
        let script =
            "cat /v/f; echo x > /v/g 2>/dev/null || echo no; echo x > /b/g 2>/dev/null || echo no";
        let out = sh(host, &["--volumes-from", "giver:ro"], script).ok().out();
        assert_eq!(out, "v\nmore\nno\nno\n");
        assert!(!folder.join("g").exists());
        host.docker(&["rm", "-f", "giver"]).ok();
        host.docker(&["volume", "rm", "vol2"]).ok();
    });
}

#[test]
fn subpath_of_a_volume_is_that_folder_and_nothing_above() {
    both(
        "subpath_of_a_volume_is_that_folder_and_nothing_above",
        |host| {
            let script = "mkdir -p /v/a/b; echo in > /v/a/b/f; echo up > /v/up; ln -s /etc /v/out; ln -s a/b /v/in";
            sh(host, &["-v", "vol3:/v"], script).ok();
            let mount = |sub: &str| format!("type=volume,src=vol3,dst=/s,volume-subpath={sub}");
            let out = sh(
                host,
                &["--mount", &mount("a/b")],
                "ls /s; ls /s/.. | grep -c up; true",
            );
            assert_eq!(out.ok().out(), "f\n0\n");
            for wrong in ["../..", "/a", "out", "absent"] {
                let refused = sh(host, &["--mount", &mount(wrong)], "ls /s");
                assert_ne!(refused.code, 0, "{wrong}: {}", refused.out());
                assert!(
                    !refused.out().contains("passwd"),
                    "{wrong}: {}",
                    refused.out()
                );
            }
            host.docker(&["volume", "rm", "vol3"]).ok();
        },
    );
}

#[test]
fn tmpfs_has_the_options_it_was_given() {
    both("tmpfs_has_the_options_it_was_given", |host| {
        let script = "grep ' /t ' /proc/mounts; stat -c '%a %u' /t; dd if=/dev/zero of=/t/f bs=1M count=4 2>/dev/null; \
            stat -c %s /t/f; cp /bin/busybox /t/x; /t/x true 2>/dev/null || echo not executed";
        let flags = ["--tmpfs", "/t:rw,size=3m,mode=1770,uid=5,noexec,nosuid"];
        let out = sh(host, &flags, script).ok().out();
        let lines: Vec<&str> = out.lines().collect();
        assert!(
            lines[0].starts_with("tmpfs /t tmpfs rw,nosuid,nodev,noexec"),
            "{out}"
        );
        assert!(lines[0].contains("size=3072k"), "{out}");
        assert_eq!(lines[1..], ["1770 5", "3145728", "not executed"], "{out}");
        let mount = "type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=700";
        let out = sh(
            host,
            &["--mount", mount],
            "grep ' /t ' /proc/mounts; stat -c %a /t",
        )
        .ok()
        .out();
        assert!(
            out.contains("size=1024k") && out.ends_with("700\n"),
            "{out}"
        );
        let refused = sh(host, &["--tmpfs", "/t:bogus"], "true").exits(125);
        assert!(refused.err().contains("bogus"), "{}", refused.err());
    });
}

#[test]
fn a_folder_of_the_host_is_a_volume_when_asked() {
    both("a_folder_of_the_host_is_a_volume_when_asked", |host| {
        let folder = host.folder("as-volume");
        std::fs::write(folder.join("there"), "before\n").expect("a file");
        host.own(&folder);
        let device = format!("device={}", folder.display());
        let make = |name: &str, o: &str, device: &str| {
            let _ = host.docker(&["volume", "rm", "-f", name]);
            let o = format!("o={o}");
            let options = [
                "volume",
                "create",
                "-o",
                "type=none",
                "-o",
                &o,
                "-o",
                device,
                name,
            ];
            host.docker(&options)
        };
        make("folder", "bind", &device).ok();
        let out = sh(
            host,
            &["-v", "folder:/v"],
            "cat /v/there; echo new > /v/new",
        );
        assert_eq!(out.ok().out(), "before\n");
        let new = folder.join("new");
        assert_eq!(std::fs::read_to_string(&new).expect("on the host"), "new\n");
        let owner = std::os::unix::fs::MetadataExt::uid(&new.metadata().expect("there"));
        assert_eq!(owner, host.user_id());

        make("folder-ro", "bind,ro", &device).ok();
        let write = "echo x > /v/x || mount -o remount,rw /v; echo x > /v/x; test ! -e /v/x";
        sh(host, &["--privileged", "-v", "folder-ro:/v"], write).ok();
        assert!(!folder.join("x").exists());

        let mount = format!(
            "type=volume,src=folder-mount,dst=/v,volume-opt=type=none,volume-opt=o=bind,volume-opt={device}"
        );
        let _ = host.docker(&["volume", "rm", "-f", "folder-mount"]);
        let out = sh(host, &["--mount", &mount], "cat /v/new").ok().out();
        assert_eq!(out, "new\n");

        std::fs::create_dir(folder.join("below")).expect("a folder");
        std::fs::write(folder.join("below/deep"), "deep\n").expect("a file");
        host.own(&folder);
        let mount = "type=volume,src=folder,dst=/v,volume-subpath=below";
        assert_eq!(
            sh(host, &["--mount", mount], "cat /v/deep").ok().out(),
            "deep\n"
        );

        // An empty one gets what the image has there; nothing beside it is touched.
        let empty = host.folder("as-volume-empty");
        let beside = host.folder("as-volume-empty.new");
        std::fs::write(beside.join("mine"), "").expect("a file");
        host.own(&beside);
        make(
            "folder-empty",
            "bind",
            &format!("device={}", empty.display()),
        )
        .ok();
        sh(
            host,
            &["-v", "folder-empty:/etc"],
            "grep -q root: /etc/passwd",
        )
        .ok();
        assert!(empty.join("passwd").exists() && beside.join("mine").exists());
        host.docker(&["volume", "rm", "folder-empty"]).ok();
        std::fs::remove_dir_all(&empty).expect("the user's");

        // The volume goes, the folder is the user's.
        host.docker(&["volume", "rm", "folder", "folder-ro", "folder-mount"])
            .ok();
        assert!(new.exists());

        for (path, words) in [
            (folder.join("none"), "does not exist"),
            ("/etc".into(), "shares"),
        ] {
            make("folder-no", "bind", &format!("device={}", path.display())).ok();
            let refused = sh(host, &["-v", "folder-no:/v"], "true").exits(125).err();
            assert!(
                refused.contains("failed to mount local volume folder-no")
                    && refused.contains(words),
                "{refused}"
            );
            host.docker(&["volume", "rm", "folder-no"]).ok();
        }
    });
}
