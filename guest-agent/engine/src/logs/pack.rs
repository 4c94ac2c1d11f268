//! Log files that were rotated away, compressed as dockerd does: `x-json.log.1.gz`.
//!
//! Compressing goes on beside the writer, which never waits for it: it may rotate meanwhile, so the
//! result takes the place of the file wherever that is by then.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use rustix::fs::{CWD, Mode, OFlags, openat};

/// The file of `number`, the current one being 0: `x-json.log`, `x-json.log.1`, ….
pub(super) fn numbered(path: &Path, number: u32) -> PathBuf {
    if number == 0 {
        return path.to_owned();
    }
    with(path, &format!(".{number}"))
}

/// The same, compressed.
pub(super) fn packed(path: &Path, number: u32) -> PathBuf {
    with(path, &format!(".{number}.gz"))
}

fn with(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Removes what an engine that was killed had not finished.
pub(super) fn sweep(path: &Path) {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return;
    };
    let begin = format!("{}.packing.", name.to_string_lossy());
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(&begin)
            && let Err(error) = fs::remove_file(entry.path())
        {
            tracing::warn!(%error, "a half compressed log stays");
        }
    }
}

/// Compresses the file that is `.1` now. `place` is called with what puts the result in its place,
/// and keeps rotations out meanwhile.
pub(super) fn pack(
    path: &Path,
    generation: u64,
    max_files: u32,
    place: impl FnOnce(&mut dyn FnMut() -> io::Result<()>) -> io::Result<()>,
) -> io::Result<()> {
    let mut plain = File::open(numbered(path, 1))?;
    let inode = plain.metadata()?.ino();
    let making = with(path, &format!(".packing.{generation}"));
    let result = write_packed(&mut plain, &making).and_then(|()| {
        place(&mut || {
            for number in 1..max_files {
                let now = numbered(path, number);
                if fs::metadata(&now).is_ok_and(|found| found.ino() == inode) {
                    fs::rename(&making, packed(path, number))?;
                    return fs::remove_file(now);
                }
            }
            // It was the oldest, and is gone.
            fs::remove_file(&making)
        })
    });
    if result.is_err() {
        let _ = fs::remove_file(&making);
    }
    result
}

fn write_packed(plain: &mut File, making: &Path) -> io::Result<()> {
    let mut gzip = GzEncoder::new(super::writer::open_file(making)?, Compression::fast());
    io::copy(plain, &mut gzip)?;
    gzip.finish().map(drop)
}

/// A compressed log's content, in a file without a name beside it.
pub(super) fn unpacked(file: &File, path: &Path) -> io::Result<File> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let mut plain: File = openat(CWD, dir, flags, Mode::RUSR | Mode::WUSR)?.into();
    io::copy(&mut GzDecoder::new(file).take(MOST), &mut plain)?;
    plain.rewind()?;
    Ok(plain)
}

/// No log file is larger: what is in a folder of ours is not trusted with the disk for that.
const MOST: u64 = 1 << 40;
