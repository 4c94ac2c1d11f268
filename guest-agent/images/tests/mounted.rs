//! Layers as the kernel sees them: mounted, and compared with what GNU tar unpacks.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{TestStore, in_mount_namespace, run, tar, walk};
use lighter_images::LayerMounts;

/// Mounts `archive` as a layer and unpacks it with GNU tar; both trees must be the same.
fn agrees_with_gnu_tar(archive: &[u8]) {
    let test = TestStore::new();
    let layer = test.add(archive).unwrap();
    assert_eq!(
        fs::read(&layer.tar).unwrap(),
        archive,
        "what came in goes out"
    );
    let mounts = LayerMounts::open(&test.path("mounts")).unwrap();
    let mounted = mounts.mount(&layer).unwrap();
    let unpacked = test.path("unpacked");
    fs::create_dir(&unpacked).unwrap();
    fs::write(test.path("a.tar"), archive).unwrap();
    run(Command::new("tar")
        .args([
            "-x",
            "-p",
            "--numeric-owner",
            "--xattrs",
            "--xattrs-include=*",
            "-f",
        ])
        .arg(test.path("a.tar"))
        .arg("-C")
        .arg(&unpacked));
    let (ours, theirs) = (walk(&mounted), walk(&unpacked));
    assert_eq!(
        ours.keys().collect::<Vec<_>>(),
        theirs.keys().collect::<Vec<_>>()
    );
    for (path, node) in &ours {
        assert_eq!(node, &theirs[path], "{}", path.display());
    }
    mounts.release(&layer.diff_id).unwrap();
    assert!(!mounted.exists());
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// One of everything a file system has.
fn one_of_everything(root: &Path) {
    let at = |name: &str| root.join(name);
    fs::write(at("empty"), b"").unwrap();
    fs::write(at("one"), b"1").unwrap();
    fs::write(at("block"), [7; 512]).unwrap();
    fs::write(
        at("odd"),
        (0..100_003u32).map(|n| n as u8).collect::<Vec<_>>(),
    )
    .unwrap();
    fs::hard_link(at("odd"), at("odd-again")).unwrap();
    symlink("odd", at("link")).unwrap();
    symlink("x".repeat(700), at("long-link")).unwrap();
    fs::hard_link(at("link"), at("link-again")).unwrap();
    fs::create_dir_all(at("deep/er/and/deeper")).unwrap();
    fs::write(at("deep/er/file"), b"in there").unwrap();
    fs::create_dir(at("many")).unwrap();
    for n in 0..700 {
        fs::write(
            at(&format!("many/{n:03}-{}", "n".repeat(n % 240))),
            n.to_string(),
        )
        .unwrap();
    }
    for name in [
        "!before",
        "-",
        "...",
        "~",
        "\u{e9}t\u{e9}",
        "a b",
        "tab\tnew\nline",
    ] {
        fs::write(at(name), name).unwrap();
    }
    let bytes: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(b"not\xffutf8\x80");
    fs::write(root.join(bytes), b"bytes").unwrap();
    run(Command::new("mkfifo").arg(at("fifo")));
    run(Command::new("mknod").arg(at("null")).args(["c", "1", "3"]));
    run(Command::new("mknod")
        .arg(at("disk"))
        .args(["b", "259", "70000"]));
    chmod(&at("one"), 0o4755);
    chmod(&at("deep"), 0o1777);
    std::os::unix::fs::lchown(at("block"), Some(70_000), Some(4_000_000_000)).unwrap();
    std::os::unix::fs::lchown(at("link"), Some(1000), Some(1000)).unwrap();
    run(Command::new("touch")
        .args(["-d", "1971-02-03T04:05:06.25Z"])
        .arg(at("one")));
    run(Command::new("touch")
        .args(["-d", "2100-02-03T04:05:06.123456789Z"])
        .arg(at("block")));
}

#[test]
fn every_kind_of_file_is_what_gnu_tar_unpacks() {
    in_mount_namespace("every_kind_of_file_is_what_gnu_tar_unpacks", || {
        let source = tempfile::tempdir().unwrap();
        one_of_everything(source.path());
        for format in ["gnu", "posix"] {
            agrees_with_gnu_tar(&tar(source.path(), &["--format", format]));
        }
    });
}

#[test]
fn old_formats_are_read() {
    in_mount_namespace("old_formats_are_read", || {
        let source = tempfile::tempdir().unwrap();
        fs::create_dir_all(source.path().join("d").join("e".repeat(90))).unwrap();
        fs::write(source.path().join("d/file"), b"content").unwrap();
        symlink("d/file", source.path().join("l")).unwrap();
        for format in ["ustar", "v7", "oldgnu"] {
            agrees_with_gnu_tar(&tar(source.path(), &["--format", format]));
        }
        fs::write(
            source
                .path()
                .join("d")
                .join("e".repeat(90))
                .join("f".repeat(90)),
            b"",
        )
        .unwrap();
        agrees_with_gnu_tar(&tar(source.path(), &["--format=ustar"]));
    });
}

#[test]
fn extended_attributes_and_acls_survive() {
    in_mount_namespace("extended_attributes_and_acls_survive", || {
        let source = tempfile::tempdir().unwrap();
        let file = source.path().join("file");
        fs::write(&file, b"x").unwrap();
        let set = |path: &Path, name: &str, value: &[u8]| {
            rustix::fs::setxattr(path, name, value, rustix::fs::XattrFlags::empty()).unwrap();
        };
        set(&file, "user.one", b"1");
        set(&file, "user.empty", b"");
        set(&file, "user.large", &[9; 3000]);
        // cap_net_bind_service+ep
        let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        set(&file, "security.capability", &capability);
        fs::create_dir(source.path().join("dir")).unwrap();
        set(&source.path().join("dir"), "user.dir", b"d");
        agrees_with_gnu_tar(&tar(source.path(), &["--xattrs", "--xattrs-include=*"]));
    });
}

#[test]
fn sparse_files_have_their_holes() {
    in_mount_namespace("sparse_files_have_their_holes", || {
        let source = tempfile::tempdir().unwrap();
        let write = |name: &str, size: u64, pieces: &[(u64, usize)]| {
            use std::os::unix::fs::FileExt;
            let file = fs::File::create(source.path().join(name)).unwrap();
            file.set_len(size).unwrap();
            for (offset, length) in pieces {
                file.write_all_at(&vec![b'#'; *length], *offset).unwrap();
            }
        };
        write("hole", 1 << 20, &[]);
        write("begin", 1 << 20, &[(0, 5000)]);
        write("end", 100_000, &[(99_000, 1000)]);
        write("middle", 3 << 20, &[(1 << 20, 4096), (2 << 20, 10_000)]);
        let many: Vec<_> = (0..60).map(|n| (n * 131_072, 100)).collect();
        write("many", 60 * 131_072, &many);
        for version in [
            "--format=gnu",
            "--sparse-version=0.0",
            "--sparse-version=0.1",
            "--sparse-version=1.0",
        ] {
            agrees_with_gnu_tar(&tar(source.path(), &["-S", version]));
        }
        // The holes are no content: the mount takes as little as the tar.
        let archive = tar(source.path(), &["-S", "--format=gnu"]);
        assert!(archive.len() < 1 << 20);
    });
}

#[test]
fn duplicate_entries_are_won_by_the_last() {
    in_mount_namespace("duplicate_entries_are_won_by_the_last", || {
        let source = tempfile::tempdir().unwrap();
        let test = TestStore::new();
        let archive = test.path("dup.tar");
        for round in 1..=3 {
            fs::write(source.path().join("file"), format!("round {round}")).unwrap();
            fs::hard_link(
                source.path().join("file"),
                source.path().join(format!("link{round}")),
            )
            .unwrap();
            let mode = if round == 1 { "-cf" } else { "-rf" };
            run(Command::new("tar")
                .arg(mode)
                .arg(&archive)
                .arg("-C")
                .arg(source.path())
                .arg("."));
        }
        agrees_with_gnu_tar(&fs::read(&archive).unwrap());
    });
}

#[test]
fn a_mount_is_shared_counted_and_taken_up_again() {
    in_mount_namespace("a_mount_is_shared_counted_and_taken_up_again", || {
        let source = tempfile::tempdir().unwrap();
        fs::write(source.path().join("file"), b"x").unwrap();
        let test = TestStore::new();
        let layer = test.add(&tar(source.path(), &[])).unwrap();
        let dir = test.path("mounts");
        let mounts = LayerMounts::open(&dir).unwrap();
        let path = mounts.mount(&layer).unwrap();
        assert_eq!(mounts.mount(&layer).unwrap(), path);
        mounts.release(&layer.diff_id).unwrap();
        assert!(path.join("file").exists(), "still one user");
        drop(mounts);

        let again = LayerMounts::open(&dir).unwrap();
        assert_eq!(again.mounted(), vec![layer.diff_id]);
        assert_eq!(again.mount(&layer).unwrap(), path);
        again.drop_unused().unwrap();
        assert!(path.join("file").exists(), "in use again");
        drop(again);

        let last = LayerMounts::open(&dir).unwrap();
        last.drop_unused().unwrap();
        assert!(last.mounted().is_empty() && !path.exists());
        assert!(fs::write(path, b"").is_ok(), "nothing is mounted there");
    });
}

/// Overlays `layers` (lowest first) and returns where.
fn overlay(test: &TestStore, mounts: &LayerMounts, layers: &[Vec<u8>]) -> PathBuf {
    let lower: Vec<String> = layers
        .iter()
        .rev()
        .map(|tar| {
            mounts
                .mount(&test.add(tar).unwrap())
                .unwrap()
                .display()
                .to_string()
        })
        .collect();
    for name in ["upper", "work", "merged"] {
        fs::create_dir(test.path(name)).unwrap();
    }
    // The upper directory must not itself lie on an overlay.
    run(Command::new("mount")
        .args(["-t", "tmpfs", "none"])
        .arg(test.path("upper")));
    let (upper, work) = (test.path("upper/u"), test.path("upper/w"));
    fs::create_dir(&upper).unwrap();
    fs::create_dir(&work).unwrap();
    let options = format!(
        "lowerdir={},upperdir={},workdir={},metacopy=off,redirect_dir=off,index=off,xino=off",
        lower.join(":"),
        upper.display(),
        work.display()
    );
    let merged = test.path("merged");
    run(Command::new("mount")
        .args(["-t", "overlay", "none", "-o", &options])
        .arg(&merged));
    merged
}

#[test]
fn whiteouts_and_opaque_directories_hide_what_is_below() {
    in_mount_namespace(
        "whiteouts_and_opaque_directories_hide_what_is_below",
        || {
            let tree = |files: &[&str]| {
                let source = tempfile::tempdir().unwrap();
                for file in files {
                    let path = source.path().join(file);
                    fs::create_dir_all(path.parent().unwrap()).unwrap();
                    fs::write(path, file).unwrap();
                }
                tar(source.path(), &["--sort=name"])
            };
            let below = tree(&[
                "kept",
                "gone",
                "dir/old",
                "dir/sub/old",
                "opaque/old",
                "again/old",
                "plain/old",
            ]);
            let above = tree(&[
                ".wh.gone",
                "dir/.wh.old",
                "dir/sub/new",
                "opaque/.wh..wh..opq",
                "opaque/new",
                ".wh.again",
                "again/new",
                "plain/new",
                ".wh..wh.plnk/1.2",
            ]);
            let test = TestStore::new();
            let mounts = LayerMounts::open(&test.path("mounts")).unwrap();
            let merged = overlay(&test, &mounts, &[below, above]);
            let found: Vec<_> = walk(&merged)
                .into_keys()
                .map(|p| p.display().to_string())
                .collect();
            let expected = [
                "",
                "again",
                "again/new",
                "dir",
                "dir/sub",
                "dir/sub/new",
                "dir/sub/old",
                "kept",
                "opaque",
                "opaque/new",
                "plain",
                "plain/new",
                "plain/old",
            ];
            assert_eq!(found, expected);
            // Written to, so that the upper layer's own copies work as well.
            fs::write(merged.join("kept"), b"changed").unwrap();
            fs::remove_dir_all(merged.join("dir")).unwrap();
            assert!(!merged.join("dir").exists());
            assert_eq!(fs::metadata(merged.join("plain/old")).unwrap().size(), 9);
        },
    );
}
