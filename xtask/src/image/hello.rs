//! The built-in image `lighter/hello`: busybox with its applets on the path, and a greeting.
//!
//! A `docker save` archive of one layer, with the same bytes every time.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use super::cache::Key;
use super::debian::Debian;
use super::spec::Package;
use super::{debian, manifest};

/// Raised when the way of building changes in a way that changes the result.
const RECIPE: u32 = 1;
/// The archive's name in its part.
pub const ARCHIVE: &str = "hello.tar";
const TAG: &str = "lighter/hello:latest";
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// A fixed date: the image is as old as its recipe.
const CREATED: &str = "2026-01-01T00:00:00Z";

const FOLDERS: [(&str, u32); 19] = [
    ("bin/", 0o755),
    ("dev/", 0o755),
    ("etc/", 0o755),
    ("home/", 0o755),
    ("mnt/", 0o755),
    ("proc/", 0o555),
    ("root/", 0o700),
    ("run/", 0o755),
    ("sbin/", 0o755),
    ("sys/", 0o555),
    ("tmp/", 0o1777),
    ("usr/", 0o755),
    ("usr/bin/", 0o755),
    ("usr/local/", 0o755),
    ("usr/local/bin/", 0o755),
    ("usr/sbin/", 0o755),
    ("var/", 0o755),
    ("var/spool/", 0o755),
    ("var/tmp/", 0o1777),
];

const FILES: [(&str, &str); 4] = [
    (
        "etc/group",
        "root:x:0:\nbin:x:1:\nsys:x:3:\ntty:x:5:\nmail:x:8:\nwww-data:x:33:\nnogroup:x:65534:\n",
    ),
    ("etc/hostname", "lighter\n"),
    (
        "etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\nbin:x:1:1:bin:/bin:/bin/false\nwww-data:x:33:33:www-data:/home:/bin/false\n\
         nobody:x:65534:65534:nobody:/home:/bin/false\n",
    ),
    ("etc/shells", "/bin/sh\n/bin/ash\n"),
];

/// The folder with [`ARCHIVE`], built if these inputs were never built before.
pub fn part(debian: &Debian, busybox: &Package, vm_image: &Path) -> Result<PathBuf> {
    let greeting = vm_image.join("hello/hello");
    let text = fs::read(&greeting)?;
    let name = |package: &Package| {
        Key::new("hello", RECIPE)
            .with(&package.deb_sha256)
            .with(&text)
            .finish()
    };
    if let Some(made) = debian.cache.made("hello", &name(busybox)) {
        return Ok(made);
    }
    let (package, used) = debian.unpacked(busybox)?;
    debian.cache.part("hello", &name(&used), |to| {
        let archive = archive(&package.join("bin/busybox"), &text)?;
        fs::write(to.join(ARCHIVE), archive)?;
        manifest::write_used(to, &used)
    })
}

fn archive(busybox: &Path, greeting: &[u8]) -> Result<Vec<u8>> {
    let layer = layer(busybox, greeting)?;
    let diff_id = hex::encode(Sha256::digest(&layer));
    let config = serde_json::to_vec(&json!({
        "architecture": "amd64",
        "os": "linux",
        "created": CREATED,
        "config": {
            "Cmd": ["hello"],
            "Env": [format!("PATH={PATH}")],
            "Labels": { "org.opencontainers.image.title": "lighter/hello" },
            "WorkingDir": "/",
        },
        "history": [{ "created": CREATED, "created_by": "cargo xtask image" }],
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{diff_id}")] },
    }))?;
    let config_name = format!("{}.json", hex::encode(Sha256::digest(&config)));
    let layer_name = format!("{diff_id}/layer.tar");
    let manifest = serde_json::to_vec(
        &json!([{ "Config": config_name, "RepoTags": [TAG], "Layers": [layer_name] }]),
    )?;
    let mut tar = Builder::new(Vec::new());
    file(&mut tar, &config_name, 0o644, &config)?;
    folder(&mut tar, &format!("{diff_id}/"), 0o755)?;
    file(&mut tar, &layer_name, 0o644, &layer)?;
    file(&mut tar, "manifest.json", 0o644, &manifest)?;
    Ok(tar.into_inner()?)
}

fn layer(busybox: &Path, greeting: &[u8]) -> Result<Vec<u8>> {
    let program =
        fs::read(busybox).with_context(|| format!("cannot read {}", busybox.display()))?;
    let mut applets: Vec<String> = debian::run_quiet(&busybox.to_string_lossy(), &["--list-full"])?
        .lines()
        .map(str::to_owned)
        .collect();
    applets.sort();
    ensure!(
        applets.iter().any(|a| a == "bin/sh"),
        "this busybox has no shell"
    );
    let mut tar = Builder::new(Vec::new());
    for (name, mode) in FOLDERS {
        folder(&mut tar, name, mode)?;
    }
    for (name, content) in FILES {
        file(&mut tar, name, 0o644, content.as_bytes())?;
    }
    file(&mut tar, "bin/busybox", 0o755, &program)?;
    for applet in applets.iter().filter(|a| *a != "bin/busybox") {
        let parent = applet.rsplit_once('/').map_or("", |(parent, _)| parent);
        // An applet in a folder that the layer lacks (linuxrc lies in the root) is of no use in a container.
        if FOLDERS
            .iter()
            .any(|(folder, _)| folder.trim_end_matches('/') == parent)
        {
            let mut header = header(EntryType::Link, 0o755, 0);
            tar.append_link(&mut header, applet, "bin/busybox")?;
        }
    }
    file(&mut tar, "usr/bin/hello", 0o755, greeting)?;
    Ok(tar.into_inner()?)
}

fn folder(tar: &mut Builder<Vec<u8>>, name: &str, mode: u32) -> Result<()> {
    tar.append_data(
        &mut header(EntryType::Directory, mode, 0),
        name,
        std::io::empty(),
    )?;
    Ok(())
}

fn file(tar: &mut Builder<Vec<u8>>, name: &str, mode: u32, content: &[u8]) -> Result<()> {
    tar.append_data(
        &mut header(EntryType::Regular, mode, content.len() as u64),
        name,
        content,
    )?;
    Ok(())
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}
