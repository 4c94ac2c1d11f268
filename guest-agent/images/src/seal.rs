//! Seals the index of a layer (fs-verity) and tells one that is not what was sealed.
//!
//! Called when an index is complete, and before it is mounted. The tar is not sealed: the kernel
//! reads a sealed file through the page cache only, where each page would be twice
//! (`docs/decisions/0005`).
//!
//! Beside the index lies the record: the digest that the kernel holds it to, or why there is none.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::store::LayerFiles;

/// What the kernel does with a file; the engine hands it in.
#[derive(Debug, Clone, Copy)]
pub struct Seals {
    /// Makes a finished file immutable and has each block checked when it is read.
    pub enable: fn(BorrowedFd<'_>) -> io::Result<()>,
    /// What a sealed file is held to.
    pub measure: fn(BorrowedFd<'_>) -> io::Result<[u8; 32]>,
}

/// Whether the kernel holds an index to what it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sealed {
    /// It does, and this is that index.
    Yes,
    /// It was taken in where nothing could be sealed.
    No,
}

/// How the record of an index that could not be sealed begins.
const NONE: &str = "none: ";

pub(crate) fn record(index: &Path) -> PathBuf {
    index.with_extension("seal")
}

/// Seals an index and records it. A file system that cannot is no error: it is a second line of
/// defence, and the record says why there is none.
pub(crate) fn seal(path: &Path, index: &File, seals: Seals) -> Result<()> {
    let sealed = enable(index, seals).and_then(|()| (seals.measure)(index.as_fd()));
    let text = match sealed {
        Ok(digest) => Digest::from_bytes(digest).to_string(),
        Err(error) if is_unsupported(&error) => {
            tracing::debug!(path = %path.display(), %error, "the index is not sealed");
            format!("{NONE}{error}")
        }
        Err(error) => return Err(Error::file("seal", path)(error)),
    };
    let record = record(path);
    File::create(&record)
        .and_then(|mut file| {
            writeln!(file, "{text}")?;
            file.sync_all()
        })
        .map_err(Error::file("write", &record))
}

fn is_unsupported(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Unsupported
        || rustix::io::Errno::from_io_error(error) == Some(rustix::io::Errno::NOTTY)
}

/// How often a file is tried that somebody may still write to: a process that is just being started
/// holds copies of all descriptors until it executes its program.
const TRIES: u32 = 100;

fn enable(index: &File, seals: Seals) -> io::Result<()> {
    for _ in 1..TRIES {
        match (seals.enable)(index.as_fd()) {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => {
                std::thread::sleep(Duration::from_millis(10));
            }
            result => return result,
        }
    }
    (seals.enable)(index.as_fd())
}

/// Fails unless the layer's index is the one that was sealed, where it was.
pub(crate) fn check(layer: &LayerFiles, seals: Seals) -> Result<Sealed> {
    let path = record(&layer.index);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        // Of a time when none was written.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Sealed::No),
        Err(error) => return Err(Error::file("read", &path)(error)),
    };
    if text.starts_with(NONE) {
        return Ok(Sealed::No);
    }
    let expected: Digest = text.trim_end().parse()?;
    let actual = File::open(&layer.index)
        .and_then(|index| (seals.measure)(index.as_fd()))
        .map(Digest::from_bytes)
        .map_err(Error::file("measure the seal of", &layer.index))?;
    if actual != expected {
        return Err(Error::Mismatch {
            what: format!("the index of layer {}", layer.diff_id),
            expected,
            actual,
        });
    }
    Ok(Sealed::Yes)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use sha2::{Digest as _, Sha256};

    use super::*;
    use crate::mounts::LayerMounts;
    use crate::store::{Store, StoreOptions};

    /// A kernel that seals everything: what a file is held to is its content.
    const HONEST: Seals = Seals {
        enable: |_| Ok(()),
        measure: |file| {
            let mut content = Vec::new();
            File::from(file.try_clone_to_owned()?).read_to_end(&mut content)?;
            Ok(Sha256::digest(content).into())
        },
    };

    /// A kernel that cannot for another reason.
    const BROKEN: Seals = Seals {
        enable: |_| Err(io::ErrorKind::Other.into()),
        measure: |_| Err(io::ErrorKind::Other.into()),
    };

    /// A file system without seals.
    const NEVER: Seals = Seals {
        enable: |_| Err(io::ErrorKind::Unsupported.into()),
        measure: |_| Err(io::ErrorKind::Unsupported.into()),
    };

    fn layer(dir: &Path, seals: Option<Seals>) -> LayerFiles {
        let options = StoreOptions {
            seals,
            ..StoreOptions::default()
        };
        let store = Store::open(&dir.join("images"), options).unwrap();
        let tar = [0; 1024];
        store.add_layer(&tar[..], &Digest::of(&tar)).unwrap()
    }

    #[test]
    fn a_layer_whose_index_was_exchanged_is_never_mounted() {
        let dir = tempfile::tempdir().unwrap();
        let layer = layer(dir.path(), Some(HONEST));
        check(&layer, HONEST).unwrap();
        let mut index = fs::read(&layer.index).unwrap();
        index[1100] ^= 1;
        fs::write(&layer.index, index).unwrap();
        let mounts = LayerMounts::open(&dir.path().join("mounts")).unwrap();
        let error = mounts.checking(Some(HONEST)).mount(&layer).unwrap_err();
        assert!(matches!(error, Error::Mismatch { .. }), "{error:?}");
        // One that is there but not sealed any more.
        let error = check(&layer, NEVER).unwrap_err();
        assert!(matches!(error, Error::File { .. }), "{error:?}");
        fs::write(record(&layer.index), "sha256:").unwrap();
        assert!(check(&layer, HONEST).is_err(), "a record cut short");
    }

    #[test]
    fn a_seal_that_fails_is_not_taken_for_a_file_system_without() {
        let dir = tempfile::tempdir().unwrap();
        let options = StoreOptions {
            seals: Some(BROKEN),
            ..StoreOptions::default()
        };
        let store = Store::open(dir.path(), options).unwrap();
        let tar = [0; 1024];
        let error = store.add_layer(&tar[..], &Digest::of(&tar)).unwrap_err();
        assert!(
            matches!(error, Error::File { action: "seal", .. }),
            "{error:?}"
        );
        assert!(store.layer(&Digest::of(&tar)).is_none());
    }

    #[test]
    fn a_layer_whose_index_was_damaged_gets_a_new_one_from_its_tar() {
        let dir = tempfile::tempdir().unwrap();
        let options = StoreOptions {
            seals: Some(HONEST),
            ..StoreOptions::default()
        };
        let store = Store::open(&dir.path().join("images"), options).unwrap();
        let tar = [0; 1024];
        let layer = store.add_layer(&tar[..], &Digest::of(&tar)).unwrap();
        let index = fs::read(&layer.index).unwrap();
        fs::write(&layer.index, b"not an index").unwrap();
        assert!(check(&layer, HONEST).is_err());
        store.rebuild_index(&layer).unwrap();
        check(&layer, HONEST).unwrap();
        assert_eq!(fs::read(&layer.index).unwrap(), index);
        // A tar that is not the layer's is no source.
        fs::write(&layer.tar, [1; 1024]).unwrap();
        assert!(store.rebuild_index(&layer).is_err());
        check(&layer, HONEST).unwrap();
    }

    #[test]
    fn without_seals_the_reason_is_recorded_and_the_layer_is_used() {
        let dir = tempfile::tempdir().unwrap();
        let unsealed = layer(dir.path(), Some(NEVER));
        let text = fs::read_to_string(record(&unsealed.index)).unwrap();
        assert_eq!(text, "none: unsupported\n");
        check(&unsealed, NEVER).unwrap();
        check(&unsealed, HONEST).unwrap();
        // From before there were records.
        let dir = tempfile::tempdir().unwrap();
        let old = layer(dir.path(), None);
        assert!(!record(&old.index).exists());
        check(&old, HONEST).unwrap();
    }
}
