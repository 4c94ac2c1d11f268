//! The content store: layers and small blobs as files, named by digest.
//!
//! ```text
//!   <root>/layers/<diff_id hex>/{layer.tar, index.erofs, index.seal}
//!   <root>/blobs/sha256/<hex>           configurations and manifests
//!   <root>/tmp/                         what is being made; swept at open
//! ```
//!
//! Called by: load, save and pull in this crate, and the engine's image service. There is no
//! database: what is referenced is the engine's knowledge, handed to [`Store::collect`].
//! Nothing is visible under its digest before it was verified and flushed, and nothing that is
//! visible is ever changed.

use std::collections::HashSet;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::digest::Digest;
use crate::durable;
use crate::error::{Error, Result};
use crate::layer::{LayerLimits, PendingLayer};
use crate::pins::{Pin, Pins};
use crate::seal::Seals;

/// How a store behaves.
#[derive(Debug, Clone, Copy, Default)]
pub struct StoreOptions {
    /// Seals the index of a layer; none leaves it as it is.
    pub seals: Option<Seals>,
    /// How large layers may be.
    pub limits: LayerLimits,
}

/// The store.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    pub(crate) options: StoreOptions,
    next_temporary: AtomicU64,
    pins: Pins,
}

/// The two files of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerFiles {
    /// The layer's name.
    pub diff_id: Digest,
    /// The uncompressed tar, byte for byte as it came.
    pub tar: PathBuf,
    /// The EROFS index over it.
    pub index: PathBuf,
    /// Length of the tar.
    pub tar_bytes: u64,
}

/// What [`Store::collect`] must keep.
#[derive(Debug, Default)]
pub struct Referenced {
    /// Layers by diff_id.
    pub layers: HashSet<Digest>,
    /// Configurations and manifests.
    pub blobs: HashSet<Digest>,
}

/// What [`Store::collect`] removed.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Collected {
    /// Layers that are gone.
    pub layers: Vec<Digest>,
    /// Bytes that were given back.
    pub bytes: u64,
}

impl Store {
    /// Opens the store below `root`, making it if needed and sweeping what was left half made.
    pub fn open(root: &Path, options: StoreOptions) -> Result<Self> {
        let store = Self {
            root: root.to_owned(),
            options,
            next_temporary: AtomicU64::new(0),
            pins: Pins::default(),
        };
        for dir in [
            store.root.clone(),
            store.layers(),
            store.root.join("blobs"),
            store.blobs(),
        ] {
            make_dir(&dir)?;
        }
        let tmp = store.root.join("tmp");
        match fs::remove_dir_all(&tmp) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::file("sweep", &tmp)(error));
            }
            _ => make_dir(&tmp)?,
        }
        durable::sync_dir(&store.root)?;
        Ok(store)
    }

    /// The layer's files, if it is there.
    pub fn layer(&self, diff_id: &Digest) -> Option<LayerFiles> {
        let dir = self.layer_dir(diff_id);
        let tar = dir.join("layer.tar");
        let tar_bytes = fs::metadata(&tar).ok()?.len();
        Some(LayerFiles {
            diff_id: *diff_id,
            tar,
            index: dir.join("index.erofs"),
            tar_bytes,
        })
    }

    /// Like [`Store::layer`], but an absent layer is an error.
    pub fn require_layer(&self, diff_id: &Digest) -> Result<LayerFiles> {
        self.layer(diff_id).ok_or(Error::Missing {
            what: "layer",
            digest: *diff_id,
        })
    }

    /// Makes the layer's index anew from its tar, if that is still what it was. Blocks; for a layer that
    /// cannot be mounted.
    pub fn rebuild_index(&self, layer: &LayerFiles) -> Result<()> {
        let tar = fs::File::open(&layer.tar).map_err(Error::file("open", &layer.tar))?;
        PendingLayer::receive_plain(self, tar)?.replace_index(layer)
    }

    /// Takes in one layer whose diff_id is known, unpacking it if it is compressed. Blocks; the
    /// layer is durable when this returns, and not there at all if it fails.
    pub fn add_layer(&self, input: impl io::Read, diff_id: &Digest) -> Result<LayerFiles> {
        PendingLayer::receive(self, input)?.commit(self, diff_id)
    }

    /// Takes in a layer that nobody has named yet, unpacking it if it is compressed, and pins it.
    /// Blocks; the layer is durable when this returns, and not there at all if it fails.
    pub fn take_layer(&self, input: impl io::Read) -> Result<(LayerFiles, Pin)> {
        let pending = PendingLayer::receive(self, input)?;
        let diff_id = pending.diff_id;
        let pin = self.pin([diff_id]);
        Ok((pending.commit(self, &diff_id)?, pin))
    }

    /// Reads a configuration or manifest and verifies it again: these are small.
    pub fn read_blob(&self, digest: &Digest) -> Result<Vec<u8>> {
        let path = self.blobs().join(digest.hex());
        let bytes = fs::read(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::Missing {
                what: "blob",
                digest: *digest,
            },
            _ => Error::file("read", &path)(error),
        })?;
        let actual = Digest::of(&bytes);
        if actual != *digest {
            return Err(Error::Mismatch {
                what: "blob".into(),
                expected: *digest,
                actual,
            });
        }
        Ok(bytes)
    }

    /// Whether a blob is there.
    pub fn has_blob(&self, digest: &Digest) -> bool {
        self.blobs().join(digest.hex()).exists()
    }

    /// Stores a configuration or manifest; durable when this returns. One that was damaged where it
    /// lies is replaced.
    pub fn write_blob(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        if self.read_blob(&digest).is_err() {
            let path = self.blobs().join(digest.hex());
            durable::write_file(&self.temporary("blob"), &path, bytes)?;
        }
        Ok(digest)
    }

    /// Keeps these from being collected until the pin is dropped; whether they are there is to be
    /// asked after this.
    pub fn pin(&self, digests: impl IntoIterator<Item = Digest>) -> Pin {
        self.pins.pin(digests)
    }

    /// Whether somebody keeps this from being collected.
    pub fn is_pinned(&self, digest: &Digest) -> bool {
        self.pins.unless_pinned(digest, || ()).is_none()
    }

    /// Removes every layer and blob that is neither in `keep` nor pinned. The caller holds off
    /// mounts, and whoever moves something from a pin to what is to be kept.
    pub fn collect(&self, keep: &Referenced) -> Result<Collected> {
        let mut collected = Collected::default();
        for (digest, path) in entries(&self.layers())? {
            if keep.layers.contains(&digest) {
                continue;
            }
            let bytes = directory_bytes(&path);
            // First out of sight in one step, then away: a crash in between leaves no half layer.
            let aside = self.temporary("gone");
            let moved = self.pins.unless_pinned(&digest, || {
                fs::rename(&path, &aside).map_err(Error::file("rename", &path))
            });
            let Some(moved) = moved else {
                continue;
            };
            moved?;
            durable::sync_dir(&self.layers())?;
            fs::remove_dir_all(&aside).map_err(Error::file("remove", &aside))?;
            collected.layers.push(digest);
            collected.bytes += bytes;
        }
        for (digest, path) in entries(&self.blobs())? {
            if !keep.blobs.contains(&digest) {
                let bytes = fs::metadata(&path).map_or(0, |meta| meta.len());
                let removed = self.pins.unless_pinned(&digest, || {
                    fs::remove_file(&path).map_err(Error::file("remove", &path))
                });
                if let Some(removed) = removed {
                    removed?;
                    collected.bytes += bytes;
                }
            }
        }
        durable::sync_dir(&self.blobs())?;
        Ok(collected)
    }

    /// Every layer in the store.
    pub fn layer_ids(&self) -> Result<Vec<Digest>> {
        Ok(entries(&self.layers())?
            .into_iter()
            .map(|(digest, _)| digest)
            .collect())
    }

    pub(crate) fn layer_dir(&self, diff_id: &Digest) -> PathBuf {
        self.layers().join(diff_id.hex())
    }

    /// A fresh path for something being made, on the store's file system.
    pub(crate) fn temporary(&self, what: &str) -> PathBuf {
        let number = self.next_temporary.fetch_add(1, Ordering::Relaxed);
        self.root.join("tmp").join(format!("{what}-{number}"))
    }

    fn layers(&self) -> PathBuf {
        self.root.join("layers")
    }

    fn blobs(&self) -> PathBuf {
        self.root.join("blobs/sha256")
    }
}

fn make_dir(path: &Path) -> Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        // Only the root's own parents may be missing.
        Err(error) if error.kind() == io::ErrorKind::NotFound => DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(Error::file("make directory", path)),
        other => other.map_err(Error::file("make directory", path)),
    }
}

/// The entries of a directory whose names are digests.
fn entries(dir: &Path) -> Result<Vec<(Digest, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(Error::file("list", dir))? {
        let entry = entry.map_err(Error::file("list", dir))?;
        if let Some(digest) = entry
            .file_name()
            .to_str()
            .and_then(|name| Digest::from_hex(name).ok())
        {
            found.push((digest, entry.path()));
        }
    }
    Ok(found)
}

fn directory_bytes(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else {
        return 0;
    };
    entries
        .flatten()
        .filter_map(|entry| entry.metadata().ok())
        .map(|meta| meta.len())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blobs_come_back_and_flipped_bits_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), StoreOptions::default()).unwrap();
        let digest = store.write_blob(b"{}").unwrap();
        assert_eq!(store.write_blob(b"{}").unwrap(), digest);
        assert_eq!(store.read_blob(&digest).unwrap(), b"{}");
        fs::write(dir.path().join("blobs/sha256").join(digest.hex()), b"[]").unwrap();
        assert!(matches!(
            store.read_blob(&digest),
            Err(Error::Mismatch { .. })
        ));
        // Whoever has the right bytes heals it.
        assert_eq!(store.write_blob(b"{}").unwrap(), digest);
        assert_eq!(store.read_blob(&digest).unwrap(), b"{}");
        let absent = Digest::of(b"absent");
        assert!(matches!(
            store.read_blob(&absent),
            Err(Error::Missing { .. })
        ));
    }

    #[test]
    fn collect_keeps_what_is_referenced_and_open_sweeps_the_rest() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), StoreOptions::default()).unwrap();
        let (kept, dropped) = (
            store.write_blob(b"kept").unwrap(),
            store.write_blob(b"no").unwrap(),
        );
        let layer = Digest::of(b"layer");
        fs::create_dir(store.layer_dir(&layer)).unwrap();
        fs::write(store.layer_dir(&layer).join("layer.tar"), b"1234").unwrap();
        assert_eq!(store.layer(&layer).unwrap().tar_bytes, 4);
        let keep = Referenced {
            layers: HashSet::new(),
            blobs: HashSet::from([kept]),
        };
        let (one, other) = (store.pin([layer, dropped]), store.pin([layer]));
        assert_eq!(store.collect(&keep).unwrap(), Collected::default());
        drop(one);
        assert_eq!(store.collect(&keep).unwrap().bytes, 2);
        assert!(store.layer(&layer).is_some(), "still pinned once");
        drop(other);
        let gone = store.collect(&keep).unwrap();
        assert_eq!(
            gone,
            Collected {
                layers: vec![layer],
                bytes: 4
            }
        );
        assert!(store.has_blob(&kept) && !store.has_blob(&dropped));
        assert!(store.layer(&layer).is_none());

        fs::create_dir(dir.path().join("tmp/layer-7")).unwrap();
        Store::open(dir.path(), StoreOptions::default()).unwrap();
        assert_eq!(fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0);
    }
}
