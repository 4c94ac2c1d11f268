//! Reads a layer again and says whether it is still what it is named by.
//!
//! Called by the engine's image service, for `lighter image verify`. Changes nothing.

use std::fs::File;
use std::io::Read as _;

use rustix::fs::Advice;
use sha2::{Digest as _, Sha256};

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::seal::{self, Sealed};
use crate::store::{LayerFiles, Store};

const BUFFER: usize = 1 << 20;

impl Store {
    /// Reads all of a layer: its tar has its digest, its index is the one that was sealed, and the
    /// disk gives every block of both. `go_on` is told how much of the tar was read; where it says no,
    /// nothing comes of it. Blocks.
    ///
    /// # Errors
    ///
    /// What is damaged, or cannot be read.
    pub fn verify_layer(
        &self,
        layer: &LayerFiles,
        mut go_on: impl FnMut(u64) -> bool,
    ) -> Result<Option<Sealed>> {
        let mut hash = Sha256::new();
        let mut done = 0;
        let whole = read_through(&layer.tar, |bytes| {
            hash.update(bytes);
            done += bytes.len() as u64;
            go_on(done)
        })?;
        if !whole {
            return Ok(None);
        }
        let actual = Digest::from_bytes(hash.finalize().into());
        if actual != layer.diff_id {
            return Err(Error::Mismatch {
                what: format!("the tar of layer {}", layer.diff_id),
                expected: layer.diff_id,
                actual,
            });
        }
        let sealed = match self.options.seals {
            Some(seals) => seal::check(layer, seals)?,
            None => Sealed::No,
        };
        // The kernel holds each block of a sealed file to the seal when it is read.
        let whole = read_through(&layer.index, |_| go_on(done))?;
        Ok(whole.then_some(sealed))
    }
}

/// Hands all of a file to `take`, until it wants no more; whether it wanted all.
fn read_through(path: &std::path::Path, mut take: impl FnMut(&[u8]) -> bool) -> Result<bool> {
    let failed = Error::file("read", path);
    let mut buffer = vec![0; BUFFER];
    let mut read = || {
        let mut file = File::open(path)?;
        // From the disk: what the machine has in memory was read before.
        rustix::fs::fadvise(&file, 0, None, Advice::DontNeed)?;
        loop {
            match file.read(&mut buffer) {
                Ok(0) => return Ok(true),
                Ok(count) if !take(&buffer[..count]) => return Ok(false),
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    };
    read().map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StoreOptions;
    use std::fs;

    fn taken(dir: &std::path::Path) -> (Store, LayerFiles) {
        let store = Store::open(dir, StoreOptions::default()).unwrap();
        // Ends at once, but is the layer to its last byte.
        let tar = vec![0; 3 << 20];
        let (layer, _pin) = store.take_layer(&tar[..]).unwrap();
        (store, layer)
    }

    #[test]
    fn one_changed_byte_of_the_tar_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let (store, layer) = taken(dir.path());
        let mut seen = 0;
        let sound = store.verify_layer(&layer, |done| {
            seen = done;
            true
        });
        assert_eq!(sound.unwrap(), Some(Sealed::No));
        assert_eq!(seen, layer.tar_bytes);
        let mut tar = fs::read(&layer.tar).unwrap();
        tar[2 << 20] ^= 1;
        fs::write(&layer.tar, &tar).unwrap();
        let damaged = store.verify_layer(&layer, |_| true).unwrap_err();
        assert!(
            matches!(&damaged, Error::Mismatch { expected, .. } if *expected == layer.diff_id),
            "{damaged}"
        );
        fs::remove_file(&layer.tar).unwrap();
        let gone = store.verify_layer(&layer, |_| true).unwrap_err();
        assert!(matches!(gone, Error::File { action: "read", .. }), "{gone}");
    }

    #[test]
    fn nothing_more_is_read_once_nobody_asks() {
        let dir = tempfile::tempdir().unwrap();
        let (store, layer) = taken(dir.path());
        let mut told = Vec::new();
        let left = store.verify_layer(&layer, |done| {
            told.push(done);
            told.len() < 2
        });
        assert_eq!(left.unwrap(), None);
        assert_eq!(told.len(), 2);
        assert!(told[1] < layer.tar_bytes);
    }
}
