//! Archives of images, honest and not: `docker load` and `docker save` below the API.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod common;

use std::io::Read;

use common::tars::{Head, Tar, block};
use common::{TestStore, run, tar};
use lighter_images::archive::{LoadedImage, SavedImage, load, save};
use lighter_images::{Digest, Error};

/// A layer of one file.
fn layer(content: &str) -> Vec<u8> {
    Tar::default().file("file", content.as_bytes()).end()
}

fn config(layers: &[Vec<u8>], more: &str) -> Vec<u8> {
    let diff_ids: Vec<String> = layers
        .iter()
        .map(|layer| format!("{:?}", Digest::of(layer).to_string()))
        .collect();
    format!(
        r#"{{"architecture":"amd64","os":"linux"{more},"rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
        diff_ids.join(",")
    )
    .into_bytes()
}

/// `manifest.json` of one image with the layers `0.tar`, `1.tar`, …
fn manifest(layers: usize, tags: &str) -> Vec<u8> {
    let layers: Vec<String> = (0..layers).map(|n| format!("\"{n}.tar\"")).collect();
    format!(
        r#"[{{"Config":"config.json","RepoTags":{tags},"Layers":[{}]}}]"#,
        layers.join(",")
    )
    .into_bytes()
}

fn archive(layers: &[Vec<u8>], tags: &str, more: &str) -> Tar {
    let mut archive = Tar::default().file("config.json", &config(layers, more));
    for (n, layer) in layers.iter().enumerate() {
        archive = archive.file(&format!("{n}.tar"), layer);
    }
    archive.file("manifest.json", &manifest(layers.len(), tags))
}

fn names(images: &[LoadedImage]) -> Vec<String> {
    let names = images.iter().flat_map(|image| &image.names);
    names.map(ToString::to_string).collect()
}

fn refused(archive: &[u8], words: &str) {
    let test = TestStore::new();
    let error = load(&test.store, archive).unwrap_err().to_string();
    assert!(error.contains(words), "{error:?} does not say {words:?}");
    let left = std::fs::read_dir(test.path("images/tmp")).unwrap().count();
    assert_eq!(left, 0, "something half made is left");
}

/// Gives at most so many bytes at a time.
struct Pieces<'a>(&'a [u8], usize);

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.1.min(buffer.len());
        self.0.read(&mut buffer[..count])
    }
}

#[test]
fn an_archive_loads_whatever_pieces_it_comes_in() {
    let layers = [layer("one"), layer("two")];
    let whole = archive(&layers, r#"["a:1"]"#, "").end();
    for size in [1, 100, 511, 513, 4099] {
        let test = TestStore::new();
        let images = load(&test.store, Pieces(&whole, size)).unwrap();
        assert_eq!(names(&images), ["docker.io/library/a:1"]);
        assert_eq!(images[0].config.rootfs.diff_ids.len(), 2);
        load(&test.store, Pieces(&packed("gzip", &whole), size)).unwrap();
    }
}

/// What a program makes of it.
fn packed(program: &str, bytes: &[u8]) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a"), bytes).unwrap();
    run(std::process::Command::new(program)
        .arg("-c")
        .arg(dir.path().join("a")))
}

#[test]
fn an_archive_and_its_layers_may_be_packed_in_every_way() {
    let layers = [layer("one"), layer("two")];
    for program in ["gzip", "zstd", "bzip2", "xz"] {
        let inside = archive(&layers, r#"["a:1"]"#, "")
            .file("0.tar", &packed(program, &layers[0]))
            .file("1.tar", &packed(program, &layers[1]))
            .end();
        for bytes in [&inside, &packed(program, &inside)] {
            let test = TestStore::new();
            let images = load(&test.store, &bytes[..]).unwrap();
            assert_eq!(names(&images), ["docker.io/library/a:1"], "{program}");
            for layer in &layers {
                let files = test.store.layer(&Digest::of(layer)).unwrap();
                assert!(std::fs::read(files.tar).unwrap() == *layer, "{program}");
            }
        }
    }
}

#[test]
fn what_goes_out_is_what_came_in() {
    let source = tempfile::tempdir().unwrap();
    std::fs::write(source.path().join("x"), vec![7; 100_000]).unwrap();
    let layers = [
        tar(source.path(), &["--format=v7"]),
        tar(source.path(), &["--format=posix", "-b", "1"]),
        // Without its last padding, and with something behind its end.
        Tar::default().file("y", b"y").0[..513].to_vec(),
        [layer("z"), vec![9; 1000]].concat(),
        vec![0; 1024],
    ];
    let test = TestStore::new();
    let images = load(
        &test.store,
        &archive(&layers, r#"["a:1","b/c:2"]"#, "").end()[..],
    )
    .unwrap();
    let saved = SavedImage {
        id: images[0].id,
        names: images[0].names.clone(),
    };
    let mut first = Vec::new();
    save(&test.store, std::slice::from_ref(&saved), &mut first).unwrap();
    let other = TestStore::new();
    let again = load(&other.store, &first[..]).unwrap();
    assert_eq!((again[0].id, names(&again)), (images[0].id, names(&images)));
    for layer in &layers {
        let files = other.store.layer(&Digest::of(layer)).unwrap();
        assert!(std::fs::read(files.tar).unwrap() == *layer);
    }
    let mut second = Vec::new();
    save(&other.store, &[saved], &mut second).unwrap();
    assert!(first == second, "the same image is the same archive");
}

#[test]
fn cve_2026_50195_no_name_is_given_that_the_manifest_does_not_give() {
    let layers = [layer("one")];
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"digest":"{0}","size":1,"annotations":{{"io.containerd.image.name":"docker.io/library/busybox:latest","org.opencontainers.image.ref.name":"ubuntu:latest"}}}}]}}"#,
        Digest::of(b"x")
    );
    let more = r#","config":{"Labels":{"io.containerd.image.name":"busybox:latest","RepoTags":"busybox"}}"#;
    let whole = archive(&layers, r#"["mine:1"]"#, more)
        .file("repositories", br#"{"busybox":{"latest":"0000"}}"#)
        .file("index.json", index.as_bytes())
        .end();
    let test = TestStore::new();
    let images = load(&test.store, &whole[..]).unwrap();
    assert_eq!(names(&images), ["docker.io/library/mine:1"]);
    for tags in ["null", "[]"] {
        let images = load(&test.store, &archive(&layers, tags, more).end()[..]).unwrap();
        assert!(names(&images).is_empty());
    }
}

#[test]
fn cve_2026_53488_what_an_image_says_of_itself_stays_text() {
    let labels: Vec<String> = [
        "io.containerd.runtime.v2.log.uri",
        "containerd.io/restart.loguri",
        "containerd.io/gc.root",
        "com.docker.compose.project",
        "lighter.privileged",
    ]
    .iter()
    .map(|name| format!(r#""{name}":"binary:///bin/sh?-c=touch+/owned""#))
    .collect();
    let more = format!(
        r#","config":{{"Labels":{{{}}}}},"privileged":true"#,
        labels.join(",")
    );
    let (test, layers) = (TestStore::new(), [layer("one")]);
    let plain = load(&test.store, &archive(&layers, "null", "").end()[..]).unwrap();
    let marked = load(&test.store, &archive(&layers, "null", &more).end()[..]).unwrap();
    assert_eq!(plain[0].config.rootfs, marked[0].config.rootfs);
    let labels = marked[0].config.config.labels.as_ref().unwrap();
    assert_eq!(labels.len(), 5, "kept as they are");
}

#[test]
fn an_image_without_layers_is_an_image() {
    let test = TestStore::new();
    for layers in ["[]", "null"] {
        let manifest = format!(r#"[{{"Config":"config.json","Layers":{layers}}}]"#);
        let whole = Tar::default()
            .file("config.json", &config(&[], ""))
            .file("manifest.json", manifest.as_bytes())
            .end();
        let images = load(&test.store, &whole[..]).unwrap();
        assert!(images[0].config.rootfs.diff_ids.is_empty());
    }
}

#[test]
fn an_archive_cut_anywhere_loads_nothing_wrong() {
    let layers = [layer("one"), layer("two")];
    let whole = archive(&layers, r#"["a:1"]"#, "").end();
    let complete = whole.len() - 1024;
    // But for the padding behind the last document.
    for cut in (0..complete - 512).step_by(100) {
        refused(&whole[..cut], "");
    }
    // The end may be missing, as dockerd's reader has it.
    load(&TestStore::new().store, &whole[..complete]).unwrap();
}

#[test]
fn archives_that_are_none_say_why() {
    let one = [layer("one")];
    let good = || archive(&one, r#"["a:1"]"#, "");
    refused(b"", "neither manifest.json nor index.json");
    refused(b"not a tar at all", "unexpected EOF");
    refused(&[7; 2048], "invalid tar header");
    refused(&good().file("../x", b"").end(), "leads out of it");
    refused(
        &good().file("manifest.json", b"[{").end(),
        "invalid manifest.json",
    );
    refused(
        &good().file("manifest.json", b"{}").end(),
        "invalid manifest.json",
    );
    refused(
        &good()
            .file(
                "manifest.json",
                br#"[{"Config":"config.json","Config":"other","Layers":[]}]"#,
            )
            .end(),
        "duplicate field",
    );
    refused(
        &good()
            .file(
                "manifest.json",
                br#"[{"Config":"/etc/passwd","Layers":[]}]"#,
            )
            .end(),
        "/etc/passwd is missing",
    );
    refused(
        &good()
            .file(
                "manifest.json",
                br#"[{"Config":"../../etc/passwd","Layers":[]}]"#,
            )
            .end(),
        "is missing",
    );
    refused(
        &good().file("manifest.json", &manifest(2, "null")).end(),
        "layers length mismatch",
    );
    refused(
        &good().file("manifest.json", &manifest(0, "null")).end(),
        "layers length mismatch",
    );
    refused(
        &good().file("config.json", b"{").end(),
        "invalid image configuration",
    );
    refused(
        &good()
            .file("config.json", br#"{"rootfs":{"diff_ids":["sha256:x"]}}"#)
            .end(),
        "invalid image configuration",
    );
    for tag in ["a@sha256:x", "A:1", "a", "a:1:2", "../a:1", "a:-"] {
        let tags = format!("[{tag:?}]");
        refused(&archive(&one, &tags, "").end(), "inval");
    }
    // Layers that are not what the configuration says, not there, or not layers.
    refused(
        &good().file("0.tar", &layer("two")).end(),
        "failed verification",
    );
    refused(&good().file("0.tar", b"text").end(), "0.tar is missing");
    refused(
        &good()
            .symlink("0.tar", "1.tar")
            .symlink("1.tar", "0.tar")
            .end(),
        "is missing",
    );
    refused(
        &good().symlink("0.tar", "../../../etc/passwd").end(),
        "is missing",
    );
    for start in [
        &b"BZh91AY&SY"[..],
        b"\xfd7zXZ\0",
        b"\x1f\x8b\x08",
        b"\x28\xb5\x2f\xfd",
    ] {
        let damaged = [start, &[0; 600]].concat();
        refused(&good().file("0.tar", &damaged).end(), "invalid tar");
    }
    let hostile = Tar::default().file("../x", b"").end();
    refused(&good().file("0.tar", &hostile).end(), "leads outside");
}

#[test]
fn an_image_of_too_many_layers_is_refused() {
    let layers = vec![layer("one"); 501];
    refused(&archive(&layers, "null", "").end(), "more than 500 layers");
}

#[test]
fn documents_without_end_are_no_documents() {
    let large = vec![b'{'; 5 << 20];
    refused(
        &Tar::default().file("manifest.json", &large).end(),
        "neither manifest.json",
    );
    let mut many = Tar::default();
    for n in 0..17 {
        many = many.file(&format!("{n}"), &large[..4 << 20]);
    }
    refused(&many.end(), "larger than 64 MiB");
    let empty = Head {
        kind: b'5',
        ..Head::default()
    };
    let entries = block(empty).repeat(100_001);
    refused(&entries, "too many entries");
    // Names and targets of links, each as long as a path may be.
    let path = "abc/".repeat(1000);
    let mut long = Tar::default();
    for n in 0..4000 {
        let path = format!("{n}/{path}");
        let records = [("path", path.as_bytes()), ("linkpath", path.as_bytes())];
        long = long.pax(&records).symlink("x", "y");
    }
    refused(&long.end(), "too many bytes in extended headers");
}

#[test]
fn a_layer_of_another_image_is_used_and_a_false_name_is_not_believed() {
    let (test, one) = (TestStore::new(), layer("one"));
    let digest = Digest::of(&one);
    let named = format!("blobs/sha256/{}", digest.hex());
    let build = |content: &[u8], config: &[u8]| {
        let manifest = format!(r#"[{{"Config":"config.json","Layers":["{named}"]}}]"#);
        Tar::default()
            .file(&named, content)
            .file("config.json", config)
            .file("manifest.json", manifest.as_bytes())
            .end()
    };
    let layers = [one.clone()];
    // Not there yet: what comes under the name is read and found out.
    let false_one = build(&layer("two"), &config(&layers, ""));
    assert!(matches!(
        load(&test.store, &false_one[..]),
        Err(Error::Mismatch { .. })
    ));
    load(&test.store, &build(&one, &config(&layers, ""))[..]).unwrap();
    // There: the stored one is used, whatever the archive has under its name …
    load(&test.store, &false_one[..]).unwrap();
    let files = test.store.layer(&digest).unwrap();
    assert_eq!(std::fs::read(files.tar).unwrap(), one);
    // … and for no other.
    let other = build(&layer("two"), &config(&[layer("two")], ""));
    assert!(matches!(
        load(&test.store, &other[..]),
        Err(Error::Mismatch { .. })
    ));
}
