//! The few steps that make a file durable: write aside, fsync, rename, fsync the directory.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use crate::error::{Error, Result};

/// Flushes a directory, so that a rename in it survives a power loss.
pub(crate) fn sync_dir(path: &Path) -> Result<()> {
    File::open(path)
        .and_then(|dir| dir.sync_all())
        .map_err(Error::file("flush directory", path))
}

/// Writes a small file so that it is there wholly or not at all.
pub(crate) fn write_file(aside: &Path, path: &Path, bytes: &[u8]) -> Result<()> {
    let written = File::create(aside).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    if let Err(error) = written {
        // On a full disk it would be in the way of others; what stays is swept at the next start.
        let _ = fs::remove_file(aside);
        return Err(Error::file("write", aside)(error));
    }
    rename(aside, path)
}

/// Renames within one file system and flushes the directory it lands in.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(Error::file("rename", from))?;
    match to.parent() {
        Some(parent) => sync_dir(parent),
        None => Ok(()),
    }
}
