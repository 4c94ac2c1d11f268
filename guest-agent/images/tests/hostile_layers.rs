//! Layers that want something else than to be a layer. Each ends as a clear refusal with nothing
//! left behind, or as a tree that stays inside itself.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod common;

use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;

use common::tars::{Head, Tar, block, record, sealed};
use common::{TestStore, in_mount_namespace, run, tar, walk};
use lighter_images::{Digest, LayerLimits, LayerMounts, StoreOptions};

/// Fails unless the layer is refused with these words and leaves nothing.
fn refused(archive: &[u8], words: &str) {
    let test = TestStore::new();
    let error = test.add(archive).unwrap_err().to_string();
    assert!(error.contains(words), "{error:?} does not say {words:?}");
    test.assert_empty();
}

/// The names in the mounted layer, with the content of files and the targets of links.
fn mounted(archive: &[u8]) -> Vec<String> {
    let test = TestStore::new();
    let layer = test.add(archive).unwrap();
    let mounts = LayerMounts::open(&test.path("mounts")).unwrap();
    let root = mounts.mount(&layer).unwrap();
    let names = walk(&root).into_keys().filter(|path| path != "");
    let shown = names.map(|path| {
        let (at, name) = (root.join(&path), path.display().to_string());
        match fs::symlink_metadata(&at).unwrap() {
            meta if meta.is_symlink() => {
                format!("{name} -> {}", fs::read_link(&at).unwrap().display())
            }
            meta if meta.is_file() => {
                format!(
                    "{name}={}",
                    String::from_utf8_lossy(&fs::read(&at).unwrap())
                )
            }
            meta if meta.is_dir() => name + "/",
            _ => name,
        }
    });
    let shown = shown.collect();
    mounts.release(&layer.diff_id).unwrap();
    shown
}

#[test]
fn path_traversal_is_refused() {
    for name in ["../x", "a/../../x", "..", "/..", "./../x", "a/b/../../../x"] {
        refused(&Tar::default().file(name, b"x").end(), "leads outside");
    }
    refused(
        &Tar::default()
            .file("a", b"")
            .hard_link("b", "../../etc/passwd")
            .end(),
        "leads outside",
    );
}

#[test]
fn absolute_names_are_inside_the_layer() {
    in_mount_namespace("absolute_names_are_inside_the_layer", || {
        let archive = Tar::default().file("/etc//./x", b"1").file("//y", b"2");
        assert_eq!(mounted(&archive.end()), ["etc/", "etc/x=1", "y=2"]);
    });
}

#[test]
fn a_symlink_on_the_way_leads_nowhere_but_inside() {
    in_mount_namespace("a_symlink_on_the_way_leads_nowhere_but_inside", || {
        let outside = tempfile::tempdir().unwrap();
        let canary = outside.path().join("canary");
        fs::write(&canary, b"untouched").unwrap();
        let target = outside.path().display().to_string();
        let archive = Tar::default()
            .symlink("abs", &target)
            .file("abs/canary", b"hostile")
            .symlink("up", "../../../../..")
            .file("up/made", b"1")
            .end();
        let inside = target.trim_start_matches('/');
        let found = mounted(&archive);
        assert!(
            found.contains(&format!("{inside}/canary=hostile")),
            "{found:?}"
        );
        assert!(found.contains(&"made=1".to_owned()), "{found:?}");
        assert_eq!(fs::read(&canary).unwrap(), b"untouched");
    });
    refused(
        &Tar::default()
            .symlink("a", "b")
            .symlink("b", "a")
            .file("a/x", b"")
            .end(),
        "too many levels of symbolic links",
    );
    refused(
        &Tar::default().file("a", b"").file("a/x", b"").end(),
        "not a directory",
    );
}

#[test]
fn hard_links_lead_to_files_of_the_layer_only() {
    for target in ["/etc/passwd", "etc/passwd", "dir", "loop/x", "gone", ""] {
        let archive = Tar::default()
            .directory("dir")
            .symlink("loop", "loop")
            .file(".wh.gone", b"")
            .hard_link("link", target)
            .end();
        refused(&archive, "is not a file of this layer");
    }
    in_mount_namespace("hard_links_lead_to_files_of_the_layer_only", || {
        // A link to a symlink is one more name of the symlink: it is not followed.
        let archive = Tar::default()
            .symlink("a", "/etc/passwd")
            .hard_link("b", "a")
            .file("c", b"1")
            .hard_link("d", "/c")
            .file("c", b"2");
        let expected = ["a -> /etc/passwd", "b -> /etc/passwd", "c=2", "d=1"];
        assert_eq!(mounted(&archive.end()), expected);
    });
}

#[test]
fn whiteouts_of_nothing_or_of_the_way_up_are_refused() {
    for name in [".wh.", ".wh..", ".wh...", "a/.wh..."] {
        refused(&Tar::default().file(name, b"").end(), "invalid whiteout");
    }
    refused(&Tar::default().file("../.wh.x", b"").end(), "leads outside");
}

#[test]
fn an_opaque_marker_behind_a_symlink_stays_inside() {
    in_mount_namespace("an_opaque_marker_behind_a_symlink_stays_inside", || {
        let archive = Tar::default()
            .symlink("a", "../../b")
            .file("a/.wh..wh..opq", b"")
            .file("b/c", b"1")
            .file(".wh..wh.plnk/9.9", b"");
        assert_eq!(mounted(&archive.end()), ["a -> ../../b", "b/", "b/c=1"]);
    });
}

#[test]
fn names_with_nul_or_too_long_are_refused() {
    let pax = |name: &[u8]| Tar::default().pax(&[("path", name)]).file("x", b"").end();
    refused(&pax(b"a\0b"), "invalid name");
    refused(&pax(&[b'a'; 256]), "file name too long");
    refused(&pax(&b"a/".repeat(2048)), "file name too long");
    let link = Tar::default()
        .pax(&[("linkpath", &[b'a'; 4096])])
        .symlink("x", "y");
    refused(&link.end(), "file name too long");
    let long = Head {
        kind: b'L',
        name: b"././@LongLink",
        size: 5000,
        ..Head::default()
    };
    let archive = Tar::default()
        .raw(&block(long))
        .content(&[b'a'; 5000])
        .file("x", b"");
    refused(&archive.end(), "file name too long");
    refused(&Tar::default().entry(b'2', "x", "").end(), "has no target");
}

#[test]
fn names_are_bytes() {
    in_mount_namespace("names_are_bytes", || {
        let test = TestStore::new();
        let names: [&[u8]; 4] = [b"\xff\xfe", b"\x1b[2J", b"CASE", b"case"];
        let mut archive = Tar::default();
        for name in names {
            let head = Head {
                name,
                ..Head::default()
            };
            archive = archive.raw(&block(head));
        }
        let layer = test.add(&archive.end()).unwrap();
        let mounts = LayerMounts::open(&test.path("mounts")).unwrap();
        let root = mounts.mount(&layer).unwrap();
        for name in names {
            assert!(root.join(std::ffi::OsStr::from_bytes(name)).exists());
        }
    });
}

#[test]
fn cve_2025_62518_no_entry_hides_in_another_s_content() {
    in_mount_namespace("cve_2025_62518_no_entry_hides_in_another_s_content", || {
        let inner = Tar::default().file("smuggled", b"hostile").end();
        let size = inner.len().to_string();
        // The header says 0, the record says how much: who believes the header reads the inner tar.
        let outer = Head {
            name: b"outer",
            ..Head::default()
        };
        let archive = Tar::default()
            .pax(&[("size", size.as_bytes())])
            .raw(&block(outer))
            .content(&inner)
            .file("after", b"1")
            .end();
        let found = mounted(&archive);
        let names: Vec<_> = found
            .iter()
            .filter_map(|line| line.split('=').next())
            .collect();
        assert_eq!(names, ["after", "outer"]);

        // The other way about: the header claims what the record denies.
        let outer = Head {
            name: b"outer",
            size: inner.len() as u64,
            ..Head::default()
        };
        let archive = Tar::default()
            .pax(&[("size", b"0")])
            .raw(&block(outer))
            .raw(&Tar::default().file("visible", b"1").0)
            .end();
        assert_eq!(mounted(&archive), ["outer=", "visible=1"]);
    });
    let twice = Tar::default()
        .pax(&[("size", b"1")])
        .pax(&[("size", b"2")])
        .file("x", b"");
    refused(&twice.end(), "ambiguous");
    refused(
        &Tar::default().pax(&[("size", b"-1")]).file("x", b"").end(),
        "invalid number",
    );
    refused(
        &Tar::default()
            .pax(&[("size", b"9999999999999999999")])
            .file("x", b"")
            .end(),
        "invalid number",
    );
    let global = Head {
        kind: b'g',
        name: b"pax",
        size: record("size", b"512").len() as u64,
        ..Head::default()
    };
    let archive = Tar::default()
        .raw(&block(global))
        .content(&record("size", b"512"));
    refused(&archive.file("x", b"").end(), "is not allowed here");
    refused(
        &Tar::default()
            .pax(&[("GNU.sparse.name", b"other")])
            .file("x", b"")
            .end(),
        "invalid sparse map",
    );
}

#[test]
fn malformed_extended_headers_are_refused() {
    for body in [
        &b"99 path=x\n"[..],
        b"9 path=x",
        // As long as it says, and without the end that a record has.
        b"8 path=x",
        b"x path=x\n",
        b"0 path=x\n",
        b"-9 path=x\n",
        b"8 path\n\n",
        b"6 =xx\n",
        b"18446744073709551616 a=b\n",
    ] {
        let head = Head {
            kind: b'x',
            name: b"pax",
            size: body.len() as u64,
            ..Head::default()
        };
        let archive = Tar::default()
            .raw(&block(head))
            .content(body)
            .file("x", b"");
        refused(&archive.end(), "invalid tar at byte 0");
    }
    refused(
        &Tar::default().pax(&[("path", b"x")]).end(),
        "without an entry",
    );
    let large = Head {
        kind: b'x',
        size: 1 << 32,
        ..Head::default()
    };
    refused(
        &Tar::default().raw(&block(large)).end(),
        "too many bytes in extended headers",
    );
}

#[test]
fn a_layer_cut_anywhere_or_changed_anywhere_is_not_that_layer() {
    let whole = Tar::default()
        .file("a", &[1; 700])
        .pax(&[("path", b"b"), ("mtime", b"1.5")])
        .file("x", b"2")
        .hard_link("c", "a")
        .end();
    let (test, digest) = (TestStore::new(), Digest::of(&whole));
    for cut in (0..whole.len())
        .step_by(64)
        .chain([1, 511, 513, whole.len() - 1])
    {
        test.store.add_layer(&whole[..cut], &digest).unwrap_err();
    }
    for at in (0..whole.len()).step_by(29) {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        test.store.add_layer(&changed[..], &digest).unwrap_err();
    }
    test.assert_empty();
    test.store.add_layer(&whole[..], &digest).unwrap();
}

#[test]
fn what_no_reader_agrees_about_is_refused() {
    let one_zero = Tar::default().file("a", b"").raw(&[0; 512]).file("b", b"");
    refused(&one_zero.end(), "content after a single zero block");
    let directory = Head {
        kind: b'5',
        size: 512,
        ..Head::default()
    };
    refused(
        &Tar::default()
            .raw(&block(directory))
            .content(&[0; 512])
            .end(),
        "with content",
    );
    for kind in [b'M', b'V', b'D', b'Z', 0xff] {
        refused(
            &Tar::default().entry(kind, "x", "").end(),
            "unhandled tar header type",
        );
    }
    let mut bad = block(Head::default());
    bad[124] = b'9';
    refused(
        &Tar::default().raw(&sealed(bad)).end(),
        "invalid number in field size",
    );
    bad = block(Head::default());
    bad[0] ^= 1;
    refused(&Tar::default().raw(&bad).end(), "invalid tar header");
    refused(&[0x42; 4096], "invalid tar header");
}

#[test]
fn device_numbers_and_attributes_are_the_kernel_s_or_refused() {
    let mut device = block(Head {
        kind: b'3',
        ..Head::default()
    });
    device[329..337].copy_from_slice(b"0010000\0");
    refused(
        &Tar::default().raw(&sealed(device)).end(),
        "invalid device number",
    );
    let large = vec![b'x'; 70_000];
    let archive = Tar::default()
        .pax(&[("SCHILY.xattr.user.a", &large)])
        .file("x", b"");
    refused(&archive.end(), "extended attributes too large");
}

fn limited(limits: LayerLimits) -> TestStore {
    TestStore::with(StoreOptions {
        seals: None,
        limits,
    })
}

#[test]
fn bombs_of_every_compression_stop_at_the_limits() {
    let zeros = Tar::default().file("zeros", &vec![0; 64 << 20]).end();
    let digest = Digest::of(&zeros);
    let zip = |program: &str| {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("t"), &zeros).unwrap();
        run(std::process::Command::new(program)
            .args(["-c"])
            .arg(dir.path().join("t")))
    };
    for packed in ["gzip", "zstd", "bzip2", "xz"].map(zip) {
        let test = limited(LayerLimits {
            ratio: 100,
            ratio_floor: 1 << 20,
            ..LayerLimits::default()
        });
        let error = test.store.add_layer(&packed[..], &digest).unwrap_err();
        assert!(error.to_string().contains("grows more than"), "{error}");
        test.assert_empty();
        let test = limited(LayerLimits {
            bytes: 32 << 20,
            ..LayerLimits::default()
        });
        let error = test.store.add_layer(&packed[..], &digest).unwrap_err();
        assert!(error.to_string().contains("larger than"), "{error}");
        test.assert_empty();
        let test = limited(LayerLimits {
            reserve: u64::MAX,
            ..LayerLimits::default()
        });
        let error = test.store.add_layer(&packed[..], &digest).unwrap_err();
        assert!(
            matches!(error, lighter_images::Error::File { .. }),
            "{error:?}"
        );
        assert!(error.to_string().contains("No space left"), "{error}");
        test.assert_empty();
    }
}

/// The same bytes again and again, as many times as wanted.
fn repeated(once: &[u8], times: u64) -> impl Read {
    struct Endless(Vec<u8>, usize);
    impl Read for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let count = buffer.len().min(self.0.len() - self.1);
            buffer[..count].copy_from_slice(&self.0[self.1..self.1 + count]);
            self.1 = (self.1 + count) % self.0.len();
            Ok(count)
        }
    }
    let length = once.len() as u64 * times;
    Endless(once.to_vec(), 0).take(length)
}

/// Fails unless it is refused as too much, having taken little memory.
fn too_much(input: impl Read, limits: LayerLimits) {
    let test = limited(limits);
    let error = test.store.add_layer(input, &Digest::of(b"")).unwrap_err();
    assert!(error.to_string().contains("too many"), "{error}");
    test.assert_empty();
}

#[test]
fn bombs_of_entries_stop_at_the_limit() {
    let limits = LayerLimits {
        files: 20_000,
        ..LayerLimits::default()
    };
    too_much(repeated(&block(Head::default()), 20_001), limits);
    // Few entries, many directories on the way to them.
    let mut deep = Tar::default();
    for n in 0..20 {
        let path = format!("{n}/{}", "d/".repeat(1500));
        deep = deep.pax(&[("path", path.as_bytes())]).directory("x");
    }
    too_much(&deep.end()[..], limits);
}

#[test]
fn a_sparse_giant_takes_neither_memory_nor_disk() {
    let sparse = |size: &str, map: &str, content: &[u8]| {
        let records = [
            ("GNU.sparse.major", &b"0"[..]),
            ("GNU.sparse.minor", b"1"),
            ("GNU.sparse.size", size.as_bytes()),
            ("GNU.sparse.map", map.as_bytes()),
        ];
        Tar::default().pax(&records).file("sparse", content)
    };
    let block = [1; 512];
    // A file larger than any, one whose pieces lie beyond it, one whose pieces overlap.
    refused(
        &sparse("9223372036854775807", "512,512", &block).end(),
        "too many bytes in a sparse file",
    );
    refused(
        &sparse("1024", "1024,512", &block).end(),
        "invalid sparse map",
    );
    refused(
        &sparse("4096", "512,256,600,256", &block).end(),
        "invalid sparse map",
    );
    refused(
        &sparse("4096", "512,1024", &block).end(),
        "invalid sparse map",
    );
    refused(&sparse("4096", "512", &block).end(), "invalid sparse map");
    // One block each, at an odd place of half a gigabyte: a million chunks a file.
    let one = sparse("536870912", "512,512", &block).0;
    too_much(repeated(&one, 100), LayerLimits::default());
    // A byte each in pieces far apart: each would be copied with the zeros around it.
    let map: Vec<String> = (0..512u64).map(|n| format!("{},1", n << 34 | 1)).collect();
    refused(
        &sparse("17592186044416", &map.join(","), &block).end(),
        "takes too much room",
    );
    in_mount_namespace("a_sparse_giant_takes_neither_memory_nor_disk", || {
        let test = TestStore::new();
        let layer = test
            .add(&sparse("1099511627776", "0,512", &block).end())
            .unwrap();
        assert!(fs::metadata(&layer.index).unwrap().len() < 16 << 20);
        let mounts = LayerMounts::open(&test.path("mounts")).unwrap();
        let root = mounts.mount(&layer).unwrap();
        assert_eq!(fs::metadata(root.join("sparse")).unwrap().len(), 1 << 40);
    });
}

#[test]
fn a_giant_without_its_last_padding_takes_neither_memory_nor_disk() {
    let records = [
        ("GNU.sparse.major", &b"0"[..]),
        ("GNU.sparse.minor", b"1"),
        ("GNU.sparse.size", b"549755813988"),
        ("GNU.sparse.map", b"549755813888,100"),
    ];
    let mut archive = Tar::default().pax(&records).file("a", &[7; 100]).0;
    while archive.ends_with(&[0]) {
        archive.pop();
    }
    let test = TestStore::new();
    let layer = test.add(&archive).unwrap();
    assert!(fs::metadata(&layer.index).unwrap().len() < 32 << 20);
}

#[test]
fn a_tar_without_its_last_padding_is_read_to_its_last_byte() {
    in_mount_namespace(
        "a_tar_without_its_last_padding_is_read_to_its_last_byte",
        || {
            let content = |size: u32| (0..size).map(|n| n as u8 | 1).collect::<Vec<u8>>();
            let sparse = |content: &[u8]| {
                let records = [
                    ("GNU.sparse.major", &b"0"[..]),
                    ("GNU.sparse.minor", b"1"),
                    ("GNU.sparse.size", b"13000"),
                    ("GNU.sparse.map", b"8192,4808"),
                ];
                Tar::default().pax(&records).file("a", content)
            };
            for (whole, seen) in [
                (Tar::default().file("a", &content(1)), content(1)),
                (Tar::default().file("a", &content(5000)), content(5000)),
                (Tar::default().file("a", &content(70_001)), content(70_001)),
                (
                    sparse(&content(4808)),
                    [vec![0; 8192], content(4808)].concat(),
                ),
            ] {
                let mut archive = whole.0;
                while archive.len() > 512 && archive.ends_with(&[0]) {
                    archive.pop();
                }
                let test = TestStore::new();
                let layer = test.add(&archive).unwrap();
                assert_eq!(fs::read(&layer.tar).unwrap(), archive);
                let mounts = LayerMounts::open(&test.path("mounts")).unwrap();
                let root = mounts.mount(&layer).unwrap();
                assert!(
                    fs::read(root.join("a")).unwrap() == seen,
                    "{} bytes",
                    seen.len()
                );
                mounts.release(&layer.diff_id).unwrap();
            }
        },
    );
}

#[test]
fn an_empty_layer_is_an_empty_directory() {
    in_mount_namespace("an_empty_layer_is_an_empty_directory", || {
        for archive in [&[][..], &[0; 1024], &[0; 10_240]] {
            assert!(mounted(archive).is_empty());
        }
        let source = tempfile::tempdir().unwrap();
        assert!(mounted(&tar(source.path(), &[])).is_empty());
    });
}

#[test]
fn times_are_within_dockerd_s_bounds() {
    in_mount_namespace("times_are_within_dockerd_s_bounds", || {
        for (time, seen) in [
            ("-1.5", (0, 0)),
            ("0.000000001", (0, 1)),
            ("9223372036.5", (9_223_372_036, 500_000_000)),
            ("9223372037", (0, 0)),
            ("9223372036854775807", (0, 0)),
        ] {
            let test = TestStore::new();
            let archive = Tar::default()
                .pax(&[("mtime", time.as_bytes())])
                .file("a", b"");
            let layer = test.add(&archive.end()).unwrap();
            let mounts = LayerMounts::open(&test.path("mounts")).unwrap();
            let meta = fs::metadata(mounts.mount(&layer).unwrap().join("a")).unwrap();
            assert_eq!((meta.mtime(), meta.mtime_nsec()), seen, "{time}");
            mounts.release(&layer.diff_id).unwrap();
        }
    });
}
