//! Layers of every kind of tar: what a container sees of them, and what `docker save` gives back.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use lighter_tests::tars::{extended, image, lister, sha256};
use lighter_tests::{Finished, run};

/// `tar` over everything in `root`.
fn tar(root: &Path, options: &[&str]) -> Vec<u8> {
    let mut tar = Command::new("tar");
    tar.arg("-C")
        .arg(root)
        .args(["-c", "-f", "-", "--sort=name"]);
    tar.args(options).arg("corpus");
    run(tar, b"", Duration::from_secs(60)).ok().stdout
}

/// A folder with one of everything in `corpus`.
fn corpus() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    let root = dir.path().join("corpus");
    let at = |name: &str| root.join(name);
    fs::create_dir_all(at("deep/er/and/deeper")).expect("folders");
    let write = |name: &str, content: &[u8]| fs::write(at(name), content).expect("a file");
    write("empty", b"");
    write("odd", &(0..100_003u32).map(|n| n as u8).collect::<Vec<_>>());
    write(&format!("long-{}", "n".repeat(200)), b"long name");
    let deep = format!("deep/er/{}/{}", "p".repeat(120), "q".repeat(120));
    fs::create_dir_all(at(&deep)).expect("folders");
    write(&format!("{deep}/file"), b"long path");
    write("deep/er/file", b"in there");
    for name in ["!", "\u{e9}t\u{e9}", "a b", "tab\tnew\nline", ".hidden"] {
        write(name, name.as_bytes());
    }
    fs::hard_link(at("odd"), at("odd-again")).expect("a link");
    fs::hard_link(at("odd"), at("deep/odd-as-well")).expect("a link");
    symlink("odd", at("link")).expect("a link");
    symlink("/nowhere/at/all", at("dangling")).expect("a link");
    symlink("x".repeat(300), at("long-link")).expect("a link");
    let mode = |name: &str, mode| {
        fs::set_permissions(at(name), fs::Permissions::from_mode(mode)).expect("a mode");
    };
    std::os::unix::fs::lchown(at("odd"), Some(70_000), Some(3_000_000)).expect("an owner");
    std::os::unix::fs::lchown(at("link"), Some(1000), Some(1000)).expect("an owner");
    mode("empty", 0o4711);
    mode("deep", 0o1777);
    for (name, time) in [
        ("empty", "1969-02-03T04:05:06Z"),
        ("odd", "2033-02-03T04:05:06.123456789Z"),
        ("deep/er", "2001-02-03T04:05:06.5Z"),
    ] {
        let mut touch = Command::new("touch");
        touch.args(["-d", time]).arg(at(name));
        run(touch, b"", Duration::from_secs(10)).ok();
    }
    let set = |name: &str, attribute: &str, value: &str| {
        let mut set = Command::new("setfattr");
        set.args(["-n", attribute, "-v", value]).arg(at(name));
        set.status().is_ok_and(|status| status.success())
    };
    // setfattr(1) is not everywhere; the extended tar has attributes in any case.
    let _ = set("odd", "user.note", "value");
    dir
}

/// The same with files that have holes.
fn sparse() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    let root = dir.path().join("corpus");
    fs::create_dir(&root).expect("a folder");
    let write = |name: &str, size: u64, pieces: &[(u64, usize)]| {
        let file = fs::File::create(root.join(name)).expect("a file");
        file.set_len(size).expect("a length");
        for (offset, length) in pieces {
            file.write_all_at(&vec![b'#'; *length], *offset)
                .expect("a piece");
        }
    };
    write("hole", 1 << 20, &[]);
    write("begin", 1 << 20, &[(0, 5000)]);
    write("end", 100_000, &[(99_000, 1000)]);
    write("middle", 3 << 20, &[(1 << 20, 4096), (2 << 20, 10_000)]);
    let many: Vec<_> = (0..60).map(|n| (n * 131_072, 100)).collect();
    write("many", 60 * 131_072, &many);
    dir
}

/// The same names again and again, each time with other content.
fn duplicates() -> Vec<u8> {
    let dir = tempfile::tempdir().expect("a folder");
    let root = dir.path().join("corpus");
    fs::create_dir(&root).expect("a folder");
    let out = dir.path().join("out.tar");
    for round in 1..=3 {
        fs::write(root.join("file"), format!("round {round}")).expect("a file");
        fs::hard_link(root.join("file"), root.join(format!("link{round}"))).expect("a link");
        let mode = if round == 1 { "-cf" } else { "-rf" };
        let mut tar = Command::new("tar");
        tar.arg(mode).arg(&out).arg("-C").arg(dir.path());
        tar.args(["--sort=name", "corpus"]);
        run(tar, b"", Duration::from_secs(60)).ok();
    }
    fs::read(out).expect("the tar")
}

fn cases() -> Vec<(&'static str, Vec<u8>)> {
    let (corpus, sparse) = (corpus(), sparse());
    let xattrs = ["--format=posix", "--xattrs", "--xattrs-include=*"];
    vec![
        ("gnu", tar(corpus.path(), &["--format=gnu"])),
        ("pax", tar(corpus.path(), &xattrs)),
        ("extended", extended("corpus")),
        ("sparse-gnu", tar(sparse.path(), &["-S", "--format=gnu"])),
        (
            "sparse-0.0",
            tar(sparse.path(), &["-S", "--sparse-version=0.0"]),
        ),
        (
            "sparse-0.1",
            tar(sparse.path(), &["-S", "--sparse-version=0.1"]),
        ),
        (
            "sparse-1.0",
            tar(sparse.path(), &["-S", "--sparse-version=1.0"]),
        ),
        ("duplicates", duplicates()),
    ]
}

/// Every layer of a saved archive is the one of this digest, byte for byte.
fn assert_saved(archive: &Path, layers: &[Vec<u8>]) {
    for layer in layers {
        let digest = sha256(layer);
        let mut read = Command::new("tar");
        let member = digest.replace("sha256:", "blobs/sha256/");
        read.arg("-xOf").arg(archive).arg(member);
        let saved = run(read, b"", Duration::from_secs(60)).ok().stdout;
        assert!(saved == *layer, "{digest} is not what came in");
    }
}

fn listing(docker: impl Fn(&[&str]) -> Finished, name: &str) -> Vec<String> {
    let run = docker(&["run", "--rm", "--network", "none", name, "/list", "/corpus"]);
    run.ok().out().lines().map(str::to_owned).collect()
}

#[test]
fn every_kind_of_tar_is_to_a_container_what_it_is_with_dockerd() {
    let name = "every_kind_of_tar_is_to_a_container_what_it_is_with_dockerd";
    let Some(both) = crate::both(name) else {
        return;
    };
    let (host, reference) = (both.ours, both.reference());
    let work = tempfile::tempdir().expect("a folder");
    for (case, layer) in cases() {
        let layers = [lister().to_vec(), layer];
        let tag = format!("tars/{case}:1");
        let (given, saved) = (work.path().join("given"), work.path().join("saved"));
        fs::write(&given, image(&layers, &tag, "{}")).expect("the archive");
        let path = |path: &Path| path.display().to_string();
        host.docker(&["load", "-i", &path(&given)]).ok();
        host.docker(&["save", "-o", &path(&saved), &tag]).ok();
        assert_saved(&saved, &layers);
        let mut skopeo = Command::new("skopeo");
        skopeo.args(["copy", "--quiet", "--insecure-policy"]);
        skopeo.arg(format!("docker-archive:{}", saved.display()));
        skopeo.arg(format!("dir:{}", work.path().join(case).display()));
        run(skopeo, b"", Duration::from_secs(60)).ok();
        let ours = listing(|args| host.docker(args), &tag);
        let load = reference.docker(&["load", "-i", &path(&saved)]);
        // What dockerd does not take is compared with GNU tar in the image room.
        let refusal = match case {
            "duplicates" => Some("duplicates of file paths not supported"),
            sparse if sparse.starts_with("sparse") => Some("unhandled tar header type 83"),
            _ => None,
        };
        if let Some(refusal) = refusal {
            let refused = load.exits(1).err();
            assert!(refused.contains(refusal), "{case}: {refused}");
            assert!(ours.len() > 4, "{case}: {ours:?}");
            continue;
        }
        load.ok();
        let theirs = listing(|args| reference.docker(args), &tag);
        assert!(ours.len() > 2, "{case}: {ours:?}");
        let other: Vec<_> = ours.iter().filter(|line| !theirs.contains(line)).collect();
        let missing: Vec<_> = theirs.iter().filter(|line| !ours.contains(line)).collect();
        assert!(
            other.is_empty() && missing.is_empty(),
            "{case}: ours {other:#?}, dockerd's {missing:#?}"
        );
        host.docker(&["rmi", &tag]).ok();
    }
}
