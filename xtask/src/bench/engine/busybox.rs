//! The image that every side runs: this machine's static busybox in one layer.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::json;
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

const PROGRAM: &str = "/bin/busybox";
const APPLETS: [&str; 7] = ["cat", "echo", "head", "sh", "sleep", "true", "yes"];

/// Writes the archive of an image named `busybox`, as `docker save` would.
///
/// # Errors
///
/// When there is no busybox, or the file cannot be written.
pub fn write(archive: &Path) -> Result<()> {
    let layer = layer()?;
    let digest = hex::encode(Sha256::digest(&layer));
    let config = json!({
        "architecture": "amd64", "os": "linux", "created": "2026-01-01T00:00:00Z",
        "config": { "Cmd": ["sh"], "Env": ["PATH=/bin"] },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{digest}")] },
    });
    let config = serde_json::to_vec(&config)?;
    // The names by which `docker save` calls them: podman looks for no others.
    let config_name = format!("{}.json", hex::encode(Sha256::digest(&config)));
    let layer_name = format!("{digest}/layer.tar");
    let manifest = serde_json::to_vec(&json!([{
        "Config": config_name, "RepoTags": ["busybox:latest"], "Layers": [layer_name],
    }]))?;
    let mut out = Builder::new(std::fs::File::create(archive)?);
    for (name, bytes) in [
        (config_name.as_str(), &config),
        (&layer_name, &layer),
        ("manifest.json", &manifest),
    ] {
        out.append_data(&mut header(0o644, bytes.len()), name, bytes.as_slice())?;
    }
    out.into_inner()?.sync_all()?;
    Ok(())
}

fn layer() -> Result<Vec<u8>> {
    let program = std::fs::read(PROGRAM).context(PROGRAM)?;
    let mut out = Builder::new(Vec::new());
    for folder in ["bin/", "dev/", "etc/", "proc/", "sys/", "tmp/"] {
        let mut header = header(0o755, 0);
        header.set_entry_type(EntryType::Directory);
        out.append_data(&mut header, folder, std::io::empty())?;
    }
    out.append_data(
        &mut header(0o755, program.len()),
        "bin/busybox",
        program.as_slice(),
    )?;
    for applet in APPLETS {
        let mut header = header(0o777, 0);
        header.set_entry_type(EntryType::Symlink);
        out.append_link(&mut header, format!("bin/{applet}"), "busybox")?;
    }
    Ok(out.into_inner()?)
}

fn header(mode: u32, length: usize) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(mode);
    header.set_size(length as u64);
    header
}
