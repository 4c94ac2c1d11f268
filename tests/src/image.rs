//! Images made up for tests, and a look at every byte of what comes back.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::Host;
use crate::run::run;

/// Makes an image archive in `dir`: so many layers of so many bytes that no other image has.
///
/// # Panics
///
/// When a tool is missing or the folder cannot be written.
#[must_use]
pub fn make(dir: &Path, layers: usize, bytes: usize) -> PathBuf {
    let parts = dir.join("parts");
    std::fs::create_dir_all(&parts).expect("a folder");
    let mut names = Vec::new();
    let mut digests = Vec::new();
    for number in 0..layers {
        let file = parts.join(format!("file{number}"));
        let random = std::fs::File::open("/dev/urandom").expect("random bytes");
        let mut random = std::io::Read::take(random, bytes as u64);
        let mut out = std::fs::File::create(&file).expect("a file");
        std::io::copy(&mut random, &mut out).expect("a file");
        let name = format!("layer{number}.tar");
        tar(&parts, &name, &[&format!("file{number}")]);
        digests.push(format!("sha256:{}", sha256(&parts.join(&name))));
        names.push(name);
    }
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {"Cmd": ["/none"]},
        "rootfs": {"type": "layers", "diff_ids": digests},
    });
    let manifest = json!([{"Config": "config.json", "RepoTags": [], "Layers": names}]);
    std::fs::write(parts.join("config.json"), config.to_string()).expect("a file");
    std::fs::write(parts.join("manifest.json"), manifest.to_string()).expect("a file");
    let mut all = vec!["manifest.json", "config.json"];
    all.extend(names.iter().map(String::as_str));
    tar(&parts, "../image.tar", &all);
    dir.join("image.tar")
}

/// Saves an image and hashes every layer.
///
/// # Panics
///
/// When it cannot be saved, or a layer is not what its name says.
pub fn verify(host: &Host, image: &str) {
    let dir = tempfile::tempdir().expect("a folder");
    let archive = dir.path().join("saved.tar");
    host.docker(&["save", "-o", &archive.display().to_string(), image])
        .ok();
    let mut unpack = Command::new("tar");
    unpack.arg("-C").arg(dir.path()).arg("-xf").arg(&archive);
    run(unpack, b"", Duration::from_secs(60)).ok();
    let read = |name: &str| -> Value {
        let text = std::fs::read(dir.path().join(name)).expect("a document of the archive");
        serde_json::from_slice(&text).expect("JSON")
    };
    let manifest = read("manifest.json");
    let config = read(manifest[0]["Config"].as_str().expect("a name"));
    let layers = manifest[0]["Layers"].as_array().expect("layers");
    let diff_ids = config["rootfs"]["diff_ids"].as_array().expect("diff_ids");
    assert_eq!(layers.len(), diff_ids.len(), "{image}");
    for (layer, diff_id) in layers.iter().zip(diff_ids) {
        let digest = sha256(&dir.path().join(layer.as_str().expect("a name")));
        assert_eq!(
            diff_id,
            &json!(format!("sha256:{digest}")),
            "a layer of {image}"
        );
    }
}

fn tar(dir: &Path, out: &str, names: &[&str]) {
    let mut tar = Command::new("tar");
    tar.arg("-C")
        .arg(dir)
        .arg("-cf")
        .arg(dir.join(out))
        .args(names);
    run(tar, b"", Duration::from_secs(60)).ok();
}

fn sha256(file: &Path) -> String {
    let mut sum = Command::new("sha256sum");
    sum.arg(file);
    let out = run(sum, b"", Duration::from_secs(60)).ok().out();
    out.split(' ').next().unwrap_or_default().to_owned()
}
