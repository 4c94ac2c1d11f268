//! Folders of the host: what a container may have, by whatever name, and what it may not change.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use lighter_tests::Host;

/// Read-only is the host's word, not a flag in the guest that who has CAP_SYS_ADMIN there can take away.
#[test]
fn cve_2026_46695_a_read_only_bind_stays_so_after_a_remount() {
    let Some(host) = Host::shared("cve_2026_46695_a_read_only_bind_stays_so_after_a_remount")
    else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("file"), "untouched\n").expect("written");
    let before = look(folder.path());
    let bind = format!("{}:/w:ro", folder.path().display());
    let script = "mount -o remount,rw,bind /w; mount -o remount,rw /w; \
                  grep -c ' /w .* rw[, ]' /proc/mounts; \
                  mkdir -p /m && mount -t virtiofs \"$(cat /sys/fs/virtiofs/*/tag)\" /m; \
                  for file in /w/file $(find /m -name file); do \
                    echo changed > $file; echo changed >> $file; chmod 777 $file; chown 5:5 $file; \
                    touch -d 2001-01-01 $file; truncate -s 0 $file; mv $file $file.moved; \
                    ln $file $file.linked; rm -f $file; touch ${file%/*}/new; mkdir ${file%/*}/dir; \
                  done 2>/dev/null; cat /w/file";
    for flags in [
        &[
            "--cap-add",
            "SYS_ADMIN",
            "--security-opt",
            "seccomp=unconfined",
        ][..],
        &["--privileged"],
    ] {
        let mut run = vec!["run", "--rm", "-v", &bind];
        run.extend(flags);
        run.extend(["busybox", "sh", "-c", script]);
        let run = host.docker(&run).ok();
        // The flag in the guest is gone, so what holds now is the host.
        assert_eq!(run.out(), "1\nuntouched\n", "{flags:?}: {}", run.err());
        assert_eq!(look(folder.path()), before, "{flags:?}");
    }
    // The grant was this container's: the folder can be written through another's.
    let bind = format!("{}:/w", folder.path().display());
    host.docker(&[
        "run",
        "--rm",
        "-v",
        &bind,
        "busybox",
        "sh",
        "-c",
        "echo new > /w/file",
    ])
    .ok();
    assert_ne!(look(folder.path()), before);
}

/// Names, modes, owners, times and contents.
fn look(folder: &Path) -> Vec<String> {
    use std::os::unix::fs::MetadataExt;
    let mut seen = Vec::new();
    for entry in std::fs::read_dir(folder).expect("readable").flatten() {
        let meta = entry.metadata().expect("there");
        let content = std::fs::read_to_string(entry.path()).unwrap_or_default();
        seen.push(format!(
            "{:?} {:o} {}:{} {} {} {content}",
            entry.file_name(),
            meta.mode(),
            meta.uid(),
            meta.gid(),
            meta.mtime(),
            meta.nlink(),
        ));
    }
    seen.sort();
    seen
}

/// However a request spells a folder of the host, the allow-list gives one verdict on it.
#[test]
fn cve_2026_6406_every_spelling_of_a_bind_gets_the_same_verdict() {
    let Some(host) = Host::shared("cve_2026_6406_every_spelling_of_a_bind_gets_the_same_verdict")
    else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let allowed = folder.path().join("allowed");
    let keys = host.home().join(".ssh");
    for folder in [&allowed, &keys] {
        std::fs::create_dir_all(folder).expect("made");
        std::fs::set_permissions(folder, PermissionsExt::from_mode(0o755)).expect("ours");
        std::fs::write(folder.join("canary"), "seen\n").expect("written");
    }
    for (target, verdict) in [(&allowed, true), (&keys, false)] {
        let link = folder.path().join(format!("link-{verdict}"));
        symlink(target, &link).expect("a link");
        let plain = target.display().to_string();
        let name = target.file_name().expect("a name").to_string_lossy();
        let parent = target
            .parent()
            .expect("a folder above")
            .display()
            .to_string();
        let spellings = [
            plain.clone(),
            format!("{plain}/"),
            format!("/{plain}"),
            plain.replace('/', "//"),
            format!("{parent}/./{name}"),
            format!(
                "{parent}/../{}/{name}",
                parent.rsplit('/').next().unwrap_or_default()
            ),
            format!("/proc/..{plain}"),
            format!("/dev/../{plain}"),
            link.display().to_string(),
            format!("{}/.", link.display()),
        ];
        for source in &spellings {
            for flags in [
                vec!["-v".to_owned(), format!("{source}:/x")],
                vec!["-v".to_owned(), format!("{source}:/x:ro")],
                vec![
                    "--mount".to_owned(),
                    format!("type=bind,source={source},target=/x"),
                ],
            ] {
                assert_eq!(shown(host, &flags), verdict, "{flags:?}");
            }
        }
        // Ways that are no way, for either: through the machine's own /proc, or as a volume's device.
        for way in ["root", "cwd"] {
            for of in ["1", "self"] {
                let source = format!("/proc/{of}/{way}{plain}");
                for flags in [
                    vec!["-v".to_owned(), format!("{source}:/x")],
                    vec![
                        "--mount".to_owned(),
                        format!("type=bind,source={source},target=/x"),
                    ],
                ] {
                    assert!(!shown(host, &flags), "{flags:?}");
                }
            }
        }
        let driver = format!(
            "type=volume,target=/x,volume-opt=type=none,volume-opt=o=bind,volume-opt=device={plain}"
        );
        if !verdict {
            assert!(
                !shown(host, &["--mount".to_owned(), driver]),
                "a volume's device"
            );
        }
    }
    // A folder that holds the keys does not show them either.
    let home = format!("{}:/x", host.home().display());
    let run = host.docker(&[
        "run",
        "--rm",
        "-v",
        &home,
        "busybox",
        "cat",
        "/x/.ssh/canary",
    ]);
    assert!(!run.out().contains("seen"), "{}", run.out());
    std::fs::remove_dir_all(keys).expect("ours");
}

/// Whether a container with these flags sees the canary below `/x`.
fn shown(host: &Host, flags: &[String]) -> bool {
    let mut run = vec!["run", "--rm"];
    run.extend(flags.iter().map(String::as_str));
    run.extend(["busybox", "cat", "/x/canary"]);
    let run = host.docker(&run);
    let seen = run.out().contains("seen");
    assert_eq!(run.code == 0, seen, "{flags:?}: {}", run.err());
    seen
}
