//! `-v` and `--mount type=bind` of what the host shares.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use super::{both, sh};

#[test]
fn missing_folder_is_made_by_v_and_refused_by_mount() {
    both("missing_folder_is_made_by_v_and_refused_by_mount", |host| {
        let folder = host.folder("missing");
        let new = folder.join("a/b/c");
        let bind = format!("{}:/w", new.display());
        sh(host, &["-v", &bind], "echo made > /w/file").ok();
        assert_eq!(fs::read_to_string(new.join("file")).unwrap(), "made\n");
        for made in [folder.join("a"), folder.join("a/b"), new.clone()] {
            let meta = fs::metadata(&made).unwrap();
            assert_eq!(
                meta.uid(),
                host.user_id(),
                "the owner of {}",
                made.display()
            );
            assert_eq!(
                meta.permissions().mode() & 0o777,
                0o755,
                "{}",
                made.display()
            );
        }
        let absent = folder.join("absent");
        let mount = format!("type=bind,src={},dst=/w", absent.display());
        let refused = sh(host, &["--mount", &mount], "true").exits(125);
        let text = format!(
            "invalid mount config for type \"bind\": bind source path does not exist: {}",
            absent.display()
        );
        assert!(refused.err().contains(&text), "{}", refused.err());
        assert!(!absent.exists());
    });
}

#[test]
fn ro_bind_of_a_writable_folder_is_refused_by_the_host() {
    both(
        "ro_bind_of_a_writable_folder_is_refused_by_the_host",
        |host| {
            let folder = host.folder("ro");
            fs::write(folder.join("kept"), "kept").unwrap();
            host.own(&folder);
            let (ro, rw) = (
                format!("{}:/r:ro", folder.display()),
                format!("{}:/w", folder.display()),
            );
            let script = "echo x > /r/new && exit 1
            mount -o remount,rw,bind /r || echo no remount
            for try in 'echo x > /r/new' 'rm /r/kept' 'mv /r/kept /r/moved' 'chmod 777 /r/kept' 'mkdir /r/d' \
                'ln /r/kept /r/l' 'ln -s x /r/s' 'truncate -s 0 /r/kept' 'mknod /r/p p' 'touch /r/kept'; do
                sh -c \"$try\" 2>/tmp/e && echo \"did $try\" && exit 2
                grep -q 'Read-only file system' /tmp/e || { cat /tmp/e; exit 3; }
            done
            echo y > /w/beside && cat /r/beside";
            let flags = ["--cap-add", "SYS_ADMIN", "-v", &ro, "-v", &rw];
            let out = sh(host, &flags, script).ok().out();
            assert!(out.ends_with("y\n"), "{out}");
            assert_eq!(fs::read_to_string(folder.join("kept")).unwrap(), "kept");
            assert_eq!(fs::read_dir(&folder).unwrap().count(), 2);
        },
    );
}

#[test]
fn single_files_and_binds_in_binds_show_the_right_thing() {
    both(
        "single_files_and_binds_in_binds_show_the_right_thing",
        |host| {
            let folder = host.folder("nested");
            for name in ["outer/inner", "other"] {
                fs::create_dir_all(folder.join(name)).unwrap();
            }
            fs::write(folder.join("outer/file"), "outer").unwrap();
            fs::write(folder.join("outer/inner/hidden"), "hidden").unwrap();
            fs::write(folder.join("other/seen"), "seen").unwrap();
            fs::write(folder.join("one"), "one").unwrap();
            symlink("other", folder.join("link")).unwrap();
            host.own(&folder);
            let at = |name: &str, to: &str| format!("{}:{to}", folder.join(name).display());
            let (inner, outer, file, config, link) = (
                at("other", "/w/inner"),
                at("outer", "/w"),
                at("one", "/w/file"),
                at("one", "/etc/app/deep/app.conf:ro"),
                at("link", "/link"),
            );
            let flags = [
                "-v", &inner, "-v", &outer, "-v", &file, "-v", &config, "-v", &link,
            ];
            let script = "cat /w/inner/seen /w/file /etc/app/deep/app.conf /link/seen; ls /w/inner; \
            echo two > /w/file; echo x > /etc/app/deep/app.conf 2>/dev/null || echo refused";
            let out = sh(host, &flags, script).ok().out();
            assert_eq!(out, "seenoneoneseenseen\nrefused\n");
            assert_eq!(fs::read_to_string(folder.join("one")).unwrap(), "two\n");
            assert_eq!(
                fs::read_to_string(folder.join("outer/file")).unwrap(),
                "outer"
            );
        },
    );
}

#[test]
fn what_a_container_sets_stays_in_the_guest_and_is_there_next_time() {
    let name = "what_a_container_sets_stays_in_the_guest_and_is_there_next_time";
    both(name, |host| {
        let folder = host.folder("owners");
        let bind = format!("{}:/w", folder.display());
        let script = "cd /w; echo x > f; chown 123:456 f; chmod 4750 f; mkfifo p; mkdir d; chown 7 d; chmod 1777 d; \
            mknod dev c 1 3 2>/dev/null && echo device; ln -s /etc/shadow l; stat -c '%n %u:%g %a %F' f p d l";
        let first = sh(host, &["-v", &bind], script).ok().out();
        let seen = "f 123:456 4750 regular file\np 0:0 644 fifo\nd 7:0 1777 directory\nl 0:0 777 symbolic link\n";
        assert_eq!(first, seen);
        let next =
            "cd /w; stat -c '%n %u:%g %a %F' f p d l; cat l 2>/dev/null | head -1 | cut -d: -f1";
        let again = sh(host, &["-v", &bind], next).ok().out();
        // The link leads to the container's own file, which the host's would not be.
        assert!(again.starts_with(seen), "{again}");
        for name in ["f", "p", "d"] {
            let meta = fs::symlink_metadata(folder.join(name)).unwrap();
            assert_eq!(meta.uid(), host.user_id(), "{name}");
            assert_eq!(meta.permissions().mode() & 0o7000, 0, "{name}");
        }
        assert!(fs::symlink_metadata(folder.join("p")).unwrap().is_file());
    });
}

#[test]
fn the_host_and_a_container_see_each_other_at_once() {
    both("the_host_and_a_container_see_each_other_at_once", |host| {
        let folder = host.folder("live");
        let bind = format!("{}:/w", folder.display());
        host.docker(&[
            "run", "-d", "--name", "live", "-v", &bind, "busybox", "sleep", "1000",
        ])
        .ok();
        for n in 0..20 {
            fs::write(folder.join("from-host"), format!("{n}")).unwrap();
            host.own(&folder);
            let script = format!("cat /w/from-host; echo back{n} > /w/from-guest");
            let out = host
                .docker(&["exec", "live", "sh", "-c", &script])
                .ok()
                .out();
            assert_eq!(out, n.to_string());
            let back = fs::read_to_string(folder.join("from-guest")).unwrap();
            assert_eq!(back, format!("back{n}\n"));
        }
        host.docker(&["rm", "-f", "live"]).ok();
    });
}
