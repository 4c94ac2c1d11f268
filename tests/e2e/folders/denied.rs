//! What is not shared, and what is shared for reading only.

use std::fs;
use std::os::unix::fs::symlink;

use lighter_tests::Host;

use super::{both, sh};

fn refused(host: &Host, source: &str, words: &str) {
    let bind = format!("{source}:/x");
    let mount = format!("type=bind,src={source},dst=/x");
    for flags in [["-v", &bind], ["--mount", &mount]] {
        let refused = sh(host, &flags, "ls /x").exits(125);
        let text = refused.err();
        assert!(text.contains(words), "{source}: {text}");
        assert!(text.contains("mounts denied"), "{source}: {text}");
    }
}

#[test]
fn what_is_not_listed_is_denied_and_the_setting_named() {
    both(
        "what_is_not_listed_is_denied_and_the_setting_named",
        |host| {
            refused(host, "/usr/share", "lighter config set shares /usr/share");
            refused(host, "/etc", "shares");
            refused(host, "/", "shares");
            refused(host, "/no/such/folder", "shares");
            assert!(!std::path::Path::new("/no").exists());
            // A link below a shared folder is what it leads to.
            let folder = host.folder("links");
            symlink("/usr/share", folder.join("out")).unwrap();
            host.own(&folder);
            refused(
                host,
                &folder.join("out").display().to_string(),
                "/usr/share",
            );
            let up = format!("{}/../../../usr/share", host.home().display());
            refused(host, &up, "shares");
        },
    );
}

#[test]
fn keys_and_lighters_own_folders_are_denied_and_out_of_sight() {
    both(
        "keys_and_lighters_own_folders_are_denied_and_out_of_sight",
        |host| {
            let home = host.home();
            // Made here: this test may be the first on its host.
            let _ = host.folder("seen");
            for name in [".ssh", ".gnupg", ".aws"] {
                fs::create_dir_all(home.join(name)).unwrap();
                fs::write(home.join(name).join("secret"), "key").unwrap();
                host.own(&home.join(name));
                refused(host, &home.join(name).display().to_string(), "holds keys");
                refused(
                    host,
                    &home.join(name).join("secret").display().to_string(),
                    "holds keys",
                );
            }
            refused(
                host,
                &home.join("run").display().to_string(),
                "belongs to Lighter itself",
            );
            let bind = format!("{}:/h", home.display());
            let script = "cd /h; ls -a; cat .ssh/secret && echo read; echo x > .ssh/new && echo written; \
            mv .ssh moved && echo moved; ls run data && echo own; true";
            let out = sh(host, &["-v", &bind], script).ok().out();
            for word in [
                ".ssh", ".gnupg", ".aws", "run", "read", "written", "moved", "own",
            ] {
                assert!(!out.lines().any(|line| line == word), "{word} in {out}");
            }
            assert!(out.contains("work"), "the rest of the home is there: {out}");
            assert!(!home.join(".ssh/new").exists());
        },
    );
}

#[test]
fn entry_for_reading_is_read_only_for_the_whole_guest() {
    // Machines of their own: the setting would change what the other tests may bind.
    let Some(host) = Host::new() else {
        return lighter_tests::env::skip(
            "entry_for_reading_is_read_only_for_the_whole_guest",
            "the programs under test are not there: run `cargo xtask test`",
        );
    };
    let below = host.folder("archive");
    fs::write(below.join("old"), "old").unwrap();
    let outside = tempfile::Builder::new()
        .prefix("lro")
        .tempdir_in("/opt")
        .unwrap();
    fs::write(outside.path().join("book"), "book").unwrap();
    let shares = format!("{}:ro", below.display());
    let more = format!("{}:ro", outside.path().display());
    let both = format!("{shares},{more}");
    host.lighter(&["config", "set", "shares", &both]).ok();
    host.lighter(&["up"]).ok();
    host.docker(&["tag", "lighter/hello", "busybox"]).ok();
    // By itself, and through a writable folder above it.
    let direct = format!("{}:/r", outside.path().display());
    let above = format!("{}:/h", host.home().join("work").display());
    let flags = ["--privileged", "-v", &direct, "-v", &above];
    let script = "cat /r/book /h/archive/old; mount -o remount,rw,bind /r
        for try in 'echo x > /r/new' 'echo x > /h/archive/new' 'rm /h/archive/old' 'echo y >> /h/archive/old' \
            'chmod 777 /h/archive/old' 'mv /h/archive /h/gone' 'ln /h/archive/old /h/l' 'touch /h/archive' \
            'mv /h/archive/old /h/old'; do
            sh -c \"$try\" 2>/tmp/e && echo \"did $try\"
        done
        echo free > /h/free; true";
    let out = sh(&host, &flags, script).ok().out();
    assert_eq!(out, "bookold");
    assert_eq!(fs::read_to_string(below.join("old")).unwrap(), "old");
    assert_eq!(fs::read_dir(&below).unwrap().count(), 1);
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    assert_eq!(
        fs::read_to_string(host.home().join("work/free")).unwrap(),
        "free\n"
    );
}
