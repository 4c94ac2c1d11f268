//! Archives of images made by hand, so that a test says what is in every byte.

#[path = "../../guest-agent/images/tests/common/tars.rs"]
#[expect(
    dead_code,
    reason = "shared with the tests of the image room, which use all of it"
)]
mod raw;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use ring::digest::{SHA256, digest};

use raw::Tar;

/// `sha256:…` of some bytes.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    let mut text = "sha256:".to_owned();
    for byte in digest(&SHA256, bytes).as_ref() {
        // A string takes everything.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// A tar of these files.
#[must_use]
pub fn layer(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = Tar::default();
    for (name, content) in files {
        tar = tar.file(name, content);
    }
    tar.end()
}

/// An entry whose extended header gives its name, size, time, attributes and values that are empty.
#[must_use]
pub fn extended(prefix: &str) -> Vec<u8> {
    // One name: a folder that no entry makes has no time of its own.
    let path = format!("{prefix}/{}", "long-name-".repeat(20));
    let head = raw::Head {
        name: b"short",
        ..raw::Head::default()
    };
    let records: [(&str, &[u8]); 9] = [
        ("path", path.as_bytes()),
        ("size", b"700"),
        ("mtime", b"1700000000.123456789"),
        ("uid", b"100000"),
        ("gid", b""),
        ("linkpath", b""),
        ("comment", b""),
        ("SCHILY.xattr.user.note", b"a\nb=c"),
        ("SCHILY.xattr.user.none", b""),
    ];
    Tar::default()
        .directory(&format!("{prefix}/"))
        .pax(&records)
        .raw(&raw::block(head))
        .content(&[b'x'; 700])
        .file(&format!("{prefix}/after"), b"visible")
        .end()
}

/// What `docker load` takes: one image of these layers, with this name and run configuration.
#[must_use]
pub fn image(layers: &[Vec<u8>], name: &str, config: &str) -> Vec<u8> {
    let diff_ids: Vec<String> = layers.iter().map(|layer| sha256(layer)).collect();
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{config},"rootfs":{{"type":"layers","diff_ids":{diff_ids:?}}}}}"#
    );
    let mut archive = Tar::default().file("config.json", config.as_bytes());
    let names: Vec<String> = (0..layers.len()).map(|n| format!("{n}.tar")).collect();
    for (name, layer) in names.iter().zip(layers) {
        archive = archive.file(name, layer);
    }
    let manifest =
        format!(r#"[{{"Config":"config.json","RepoTags":[{name:?}],"Layers":{names:?}}}]"#);
    archive.file("manifest.json", manifest.as_bytes()).end()
}

/// A layer with a static program at `/list` that lists a folder to its last bit.
///
/// # Panics
///
/// If it cannot be built.
#[must_use]
pub fn lister() -> &'static [u8] {
    static LAYER: OnceLock<Vec<u8>> = OnceLock::new();
    LAYER.get_or_init(|| {
        let program = build(
            "list",
            Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/probe/list.rs")),
        );
        let head = raw::Head {
            name: b"list",
            size: program.len() as u64,
            mode: 0o755,
            ..raw::Head::default()
        };
        Tar::default()
            .raw(&raw::block(head))
            .content(&program)
            .end()
    })
}

/// The folders of [`system`].
const FOLDERS: [&str; 17] = [
    "bin/",
    "dev/",
    "etc/",
    "home/",
    "mnt/",
    "opt/",
    "proc/",
    "root/",
    "run/",
    "sbin/",
    "sys/",
    "tmp/",
    "usr/",
    "usr/bin/",
    "usr/sbin/",
    "var/",
    "var/opt/",
];

/// A layer with this machine's static busybox, all its applets, and these files.
///
/// # Panics
///
/// If there is no such busybox.
#[must_use]
pub fn system(files: &[(&str, &[u8])]) -> Vec<u8> {
    let program = "/bin/busybox";
    let content = std::fs::read(program).unwrap_or_else(|error| panic!("{program}: {error}"));
    let list = Command::new(program).arg("--list-full").output();
    let list = list.unwrap_or_else(|error| panic!("{program}: {error}"));
    let list = String::from_utf8_lossy(&list.stdout).into_owned();
    let head = raw::Head {
        name: b"bin/busybox",
        size: content.len() as u64,
        mode: 0o755,
        ..raw::Head::default()
    };
    let folders = FOLDERS
        .iter()
        .fold(Tar::default(), |tar, folder| tar.directory(folder));
    let mut tar = folders.raw(&raw::block(head)).content(&content);
    for applet in list.lines().filter(|applet| *applet != "bin/busybox") {
        // The others lie in folders that this has not, and no test calls them.
        if FOLDERS.iter().any(|folder| {
            applet
                .rsplit_once('/')
                .is_some_and(|(parent, _)| folder.strip_suffix('/') == Some(parent))
        }) {
            tar = tar.symlink(applet, "/bin/busybox");
        }
    }
    files
        .iter()
        .fold(tar, |tar, (name, content)| tar.file(name, content))
        .end()
}

/// A static program, because the images have no libraries.
fn build(name: &str, source: &Path) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap_or_else(|error| panic!("a folder: {error}"));
    let out: PathBuf = dir.path().join(name);
    let built = Command::new("rustc")
        .args([
            "--edition",
            "2024",
            "-O",
            "-C",
            "target-feature=+crt-static",
        ])
        .args([
            "-C",
            "strip=symbols",
            "--target",
            "x86_64-unknown-linux-gnu",
            "-o",
        ])
        .arg(&out)
        .arg(source)
        .status();
    assert!(
        built.is_ok_and(|status| status.success()),
        "{name} does not compile"
    );
    std::fs::read(out).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// An OCI layout in `dir` with one image for each of these architectures, under one index.
///
/// # Panics
///
/// If it cannot be written.
pub fn layout(dir: &Path, layer: &[u8], architectures: &[&str]) {
    let blobs = dir.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap_or_else(|error| panic!("{error}"));
    let put = |bytes: &[u8], kind: &str, more: &str| {
        let digest = sha256(bytes);
        let path = blobs.join(digest.trim_start_matches("sha256:"));
        std::fs::write(path, bytes).unwrap_or_else(|error| panic!("{error}"));
        format!(
            r#"{{"mediaType":"application/vnd.oci.image.{kind}","digest":"{digest}","size":{}{more}}}"#,
            bytes.len()
        )
    };
    let diff_id = sha256(layer);
    let layer = put(layer, "layer.v1.tar", "");
    let manifests: Vec<String> = architectures
        .iter()
        .map(|architecture| {
            let config = format!(
                r#"{{"architecture":"{architecture}","os":"linux","rootfs":{{"type":"layers","diff_ids":["{diff_id}"]}}}}"#
            );
            let config = put(config.as_bytes(), "config.v1+json", "");
            let manifest = format!(
                r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{config},"layers":[{layer}]}}"#
            );
            let platform =
                format!(r#","platform":{{"architecture":"{architecture}","os":"linux"}}"#);
            put(manifest.as_bytes(), "manifest.v1+json", &platform)
        })
        .collect();
    let index = |manifests: &str| {
        format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{manifests}]}}"#
        )
    };
    let all = put(index(&manifests.join(",")).as_bytes(), "index.v1+json", "");
    let write = |name: &str, text: &str| {
        std::fs::write(dir.join(name), text).unwrap_or_else(|error| panic!("{error}"));
    };
    write("index.json", &index(&all));
    write("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#);
}
