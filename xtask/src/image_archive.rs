//! Archives for `docker load`, of one layer: what a folder holds.
//!
//! Called by the makers of the tests' images. The layer is hashed as it is written, and the archive appears whole or
//! not at all.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

/// Writes the folder `root` as the image `tag`, to be run as `config` says.
///
/// # Errors
///
/// When a file cannot be read or written.
pub fn write(root: &Path, tag: &str, config: &Value, archive: &Path) -> Result<()> {
    let layer = archive.with_extension("layer");
    let diff_id = write_layer(root, &layer)?;
    let half = archive.with_extension("new");
    write_archive(&layer, &diff_id, tag, config, &half)?;
    fs::rename(&half, archive)?;
    fs::remove_file(&layer)?;
    Ok(())
}

fn write_layer(root: &Path, layer: &Path) -> Result<String> {
    let mut tar = Builder::new(Hashing::new(File::create(layer)?));
    tar.follow_symlinks(false);
    tar.mode(tar::HeaderMode::Complete);
    tar.append_dir_all("", root)?;
    let mut hashing = tar.into_inner()?;
    hashing.out.flush()?;
    Ok(hex::encode(hashing.hash.finalize()))
}

fn write_archive(layer: &Path, diff_id: &str, tag: &str, config: &Value, to: &Path) -> Result<()> {
    let config = serde_json::to_vec(&json!({
        "architecture": "amd64",
        "os": "linux",
        // Never now, which would make another image of the same files; compose wants a time to compare files with.
        "created": "1970-01-01T00:00:00Z",
        "config": config,
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{diff_id}")] },
    }))?;
    let config_name = format!("{}.json", hex::encode(Sha256::digest(&config)));
    let layer_name = format!("{diff_id}/layer.tar");
    let manifest = serde_json::to_vec(
        &json!([{ "Config": config_name, "RepoTags": [tag], "Layers": [layer_name] }]),
    )?;
    let mut tar = Builder::new(File::create(to)?);
    member(&mut tar, &config_name, config.len() as u64, &*config)?;
    let length = fs::metadata(layer)?.len();
    member(&mut tar, &layer_name, length, File::open(layer)?)?;
    member(&mut tar, "manifest.json", manifest.len() as u64, &*manifest)?;
    tar.into_inner()?.flush()?;
    Ok(())
}

fn member(
    tar: &mut Builder<File>,
    name: &str,
    length: u64,
    content: impl std::io::Read,
) -> Result<()> {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o644);
    header.set_size(length);
    Ok(tar.append_data(&mut header, name, content)?)
}

/// A file that is hashed as it is written.
struct Hashing {
    out: std::io::BufWriter<File>,
    hash: Sha256,
}

impl Hashing {
    fn new(out: File) -> Self {
        Self {
            out: std::io::BufWriter::with_capacity(1 << 20, out),
            hash: Sha256::new(),
        }
    }
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.out.write_all(bytes)?;
        self.hash.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}
