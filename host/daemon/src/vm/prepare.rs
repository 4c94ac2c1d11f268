//! What has to lie ready before a machine can start: the image's kernel unpacked, the data disk
//! made or grown, this installation's identity.
//!
//! Each file appears under its name only when it is whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use lighter_platform::dir::{random_suffix, sync_parent};
use lighter_platform::disk_template::{self, TemplateError};
use lighter_platform::{DirError, HostPaths, ensure_private_dir, text, write_durably};

/// Why the files could not be made ready.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// A file of the VM image is missing.
    #[error("the virtual machine's image is not complete: `{}` is missing", .0.display())]
    Image(PathBuf),
    /// A file could not be made.
    #[error("cannot make `{}`", path.display())]
    Make {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// A file of ours is not what it must be.
    #[error("`{}` cannot be used: {why}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
        /// What the user can do.
        hint: &'static str,
    },
    /// The compressed kernel is damaged.
    #[error("cannot unpack `{}`: {message}", path.display())]
    Unpack {
        /// The compressed file.
        path: PathBuf,
        /// The unpacker's words.
        message: String,
    },
    /// The data disk's template is damaged.
    #[error("cannot expand the data disk's template `{}`: {message}", path.display())]
    Template {
        /// The template.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// A folder of ours cannot be used.
    #[error(transparent)]
    Dir(#[from] DirError),
}

/// What a user can do who has no image. A daemon has the environment of the command that started it, also where its
/// machine did not come up.
pub const NO_IMAGE: &str = "build the image with `cargo xtask image`; one that is elsewhere is named by \
    `LIGHTER_IMAGE_DIR`, for which `lighter down` comes first where the daemon runs";

impl PrepareError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Image(_) | Self::Unpack { .. } | Self::Template { .. } => {
                Some(NO_IMAGE.to_owned())
            }
            Self::Dir(error) => Some(error.hint()),
            Self::Wrong { hint, .. } => Some((*hint).to_owned()),
            Self::Make { source, path } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Some(format!(
                    "make room on the disk that holds `{}`",
                    path.display()
                )),
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Some(
                    "make the folder writable, or set `LIGHTER_HOME` to one that is".to_owned(),
                ),
                _ => None,
            },
        }
    }
}

/// The files a machine is started with.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// The unpacked kernel.
    pub kernel: PathBuf,
    /// The initial file system.
    pub initramfs: PathBuf,
    /// The data disk.
    pub disk: PathBuf,
    /// Its size, which may be larger than the setting: a disk never shrinks.
    pub disk_bytes: u64,
    /// What ties disk and installation together.
    pub machine_id: String,
}

/// Makes everything ready. Blocking: the first call of an installation unpacks and writes.
///
/// # Errors
/// See [`PrepareError`].
pub fn prepare(paths: &HostPaths, disk_bytes: u64) -> Result<Prepared, PrepareError> {
    for dir in [&paths.data, &paths.cache] {
        ensure_private_dir(dir)?;
    }
    let image = one_image(paths.image_dir());
    let disk = paths.disk_image();
    check_disk(&disk, &paths.machine_id())?;
    // Unpacked if it is there: unpacking costs the guest a tenth of its boot.
    let unpacked = image.join("initramfs.cpio");
    let initramfs = existing(unpacked).or_else(|_| existing(image.join("initramfs.cpio.zst")))?;
    let kernel = kernel(&image, &paths.cache)?;
    let machine_id = machine_id(&paths.machine_id())?;
    let disk_bytes = ready_disk(&image, &disk, disk_bytes)?;
    Ok(Prepared {
        kernel,
        initramfs,
        disk,
        disk_bytes,
        machine_id,
    })
}

/// The folder behind a link such as `current`, which a builder may point at another image at any
/// moment: a kernel and an initial file system of two images never start together.
fn one_image(dir: PathBuf) -> PathBuf {
    // What is missing is named by whoever opens it.
    fs::canonicalize(&dir).unwrap_or(dir)
}

/// What a machine was started with that is running already: nothing is made, unpacked or grown
/// under it, and what is no longer there does not matter to it. Its guest knows disk and identity
/// from its first hello and goes by that.
#[must_use]
pub fn found(paths: &HostPaths) -> Prepared {
    let image = paths.image_dir();
    let disk = paths.disk_image();
    let disk_bytes = fs::metadata(&disk).map_or_else(
        |error| {
            tracing::warn!(%error, path = %disk.display(), "the running machine's disk is not there");
            0
        },
        |facts| facts.len(),
    );
    let identity = paths.machine_id();
    let machine_id = match kept_machine_id(&identity) {
        Ok(Some(kept)) => kept,
        unknown => {
            let error = unknown.err().map(|error| super::chain(&error));
            tracing::warn!(error, path = %identity.display(), "no identity for the running machine");
            String::new()
        }
    };
    Prepared {
        kernel: image.join("vmlinux"),
        initramfs: image.join("initramfs.cpio"),
        disk_bytes,
        disk,
        machine_id,
    }
}

/// Refuses what is no disk, and a disk whose identity is missing: making another would lock its
/// owner out.
fn check_disk(disk: &Path, identity: &Path) -> Result<(), PrepareError> {
    let Ok(facts) = fs::metadata(disk) else {
        return Ok(());
    };
    let wrong = |why, hint| {
        Err(PrepareError::Wrong {
            path: disk.to_path_buf(),
            why,
            hint,
        })
    };
    if !facts.is_file() {
        return wrong(
            "it is no file",
            "move it away: the data disk is made anew in its place",
        );
    }
    if !identity.exists() {
        return wrong(
            "the file `machine-id` that belongs to it is missing",
            "bring its `machine-id` back beside it, or move `disk.img` away to start with an \
             empty one",
        );
    }
    if !holds_ext4(disk) {
        return wrong(
            "it holds no ext4 file system",
            "bring the right file back from a copy, or move it away to start with an empty disk",
        );
    }
    Ok(())
}

/// Whether the mark of an ext4 superblock is where it must be. Everything else about the disk is
/// the guest's business; this keeps us from growing a file that is none of ours.
fn holds_ext4(disk: &Path) -> bool {
    const MARK_AT: u64 = 1024 + 56;
    let mut mark = [0_u8; 2];
    let read = File::open(disk).and_then(|mut file| {
        file.seek(SeekFrom::Start(MARK_AT))?;
        file.read_exact(&mut mark)
    });
    match read {
        Ok(()) => mark == [0x53, 0xef],
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => false,
        // A disk that cannot be read is told by whoever has to.
        Err(_) => true,
    }
}

fn existing(path: PathBuf) -> Result<PathBuf, PrepareError> {
    if path.exists() {
        Ok(path)
    } else {
        Err(PrepareError::Image(path))
    }
}

/// The unpacked kernel: the image's own, or the copy in the cache, made at the first start.
fn kernel(image: &Path, cache: &Path) -> Result<PathBuf, PrepareError> {
    let unpacked = image.join("vmlinux");
    if unpacked.exists() {
        return Ok(unpacked);
    }
    let packed = existing(image.join("vmlinux.zst"))?;
    let made = |source| PrepareError::Make {
        path: packed.clone(),
        source,
    };
    let facts = fs::metadata(&packed).map_err(made)?;
    let changed = facts
        .modified()
        .ok()
        .and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok())
        .map_or(0, |age| age.as_nanos());
    let target = cache.join(format!("vmlinux-{:x}-{changed:x}", facts.len()));
    if target.exists() {
        return Ok(target);
    }
    remove_old_kernels(cache);
    let file = File::open(&packed).map_err(made)?;
    let damaged = |message: String| PrepareError::Unpack {
        path: packed.clone(),
        message,
    };
    let mut decoder =
        ruzstd::decoding::StreamingDecoder::new(file).map_err(|e| damaged(e.to_string()))?;
    let written = write_new(&target, |out| io::copy(&mut decoder, out).map(drop));
    written.map_err(|error| match error.kind() {
        io::ErrorKind::Other | io::ErrorKind::InvalidData => damaged(error.to_string()),
        _ => PrepareError::Make {
            path: target.clone(),
            source: error,
        },
    })?;
    Ok(target)
}

fn remove_old_kernels(cache: &Path) {
    let Ok(entries) = fs::read_dir(cache) else {
        return;
    };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with("vmlinux-") {
            // A copy that cannot be removed only takes room.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Writes a new file under a temporary name and gives it its own when it is durable.
fn write_new(target: &Path, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let mut name = target.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}", random_suffix()));
    let temporary = target.with_file_name(name);
    let written = (|| {
        let mut file = lighter_platform::sys::create_private_file(&temporary)?;
        fill(&mut file)?;
        file.sync_all()?;
        fs::rename(&temporary, target)?;
        sync_parent(target)
    })();
    if written.is_err() {
        // Nothing half-made stays; the first error is the one that matters.
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// The identity, if there is one already.
fn kept_machine_id(path: &Path) -> Result<Option<String>, PrepareError> {
    let source = match fs::read_to_string(path) {
        Ok(text) if is_machine_id(text.trim()) => return Ok(Some(text.trim().to_owned())),
        Ok(_) => io::Error::new(io::ErrorKind::InvalidData, "it is no machine id"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => error,
    };
    Err(PrepareError::Make {
        path: path.to_path_buf(),
        source,
    })
}

fn machine_id(path: &Path) -> Result<String, PrepareError> {
    if let Some(kept) = kept_machine_id(path)? {
        return Ok(kept);
    }
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes).map_err(|error| PrepareError::Make {
        path: path.to_path_buf(),
        source: io::Error::other(error.to_string()),
    })?;
    let id = hex::encode(bytes);
    write_durably(path, format!("{id}\n").as_bytes())?;
    Ok(id)
}

fn is_machine_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Makes the data disk if there is none, grows it if the setting grew; its size.
fn ready_disk(image: &Path, disk: &Path, wanted: u64) -> Result<u64, PrepareError> {
    let made = |source| PrepareError::Make {
        path: disk.to_path_buf(),
        source,
    };
    match fs::metadata(disk) {
        Ok(found) if found.len() >= wanted => return Ok(found.len()),
        Ok(_) => {
            let file = OpenOptions::new().write(true).open(disk).map_err(made)?;
            file.set_len(wanted)
                .and_then(|()| file.sync_all())
                .map_err(made)?;
            return Ok(wanted);
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(made(source)),
    }
    let template = existing(image.join("data-disk.sparse"))?;
    let mut damaged = None;
    let written = write_new(disk, |file| {
        let source = File::open(&template)?;
        match disk_template::expand(source, file) {
            Ok(header) => file.set_len(header.disk_size.max(wanted)),
            Err(TemplateError::Write(error)) => Err(error),
            Err(error) => {
                let text = super::chain(&error);
                damaged = Some(text.clone());
                Err(io::Error::new(io::ErrorKind::InvalidData, text))
            }
        }
    });
    match (written, damaged) {
        (Ok(()), _) => fs::metadata(disk).map(|found| found.len()).map_err(made),
        (Err(_), Some(message)) => Err(PrepareError::Template {
            path: template,
            message,
        }),
        (Err(source), None) => Err(made(source)),
    }
}

/// The end of the guest's console as far as it helps a person.
#[must_use]
pub fn console_tail(paths: &HostPaths) -> String {
    const MOST: u64 = 4096;
    let read = || -> io::Result<String> {
        let mut file = File::open(paths.console_log())?;
        let length = file.seek(SeekFrom::End(0))?;
        file.seek(SeekFrom::Start(length.saturating_sub(MOST)))?;
        let mut bytes = Vec::new();
        file.take(MOST).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = text::without_controls(&read().unwrap_or_default());
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_identity_is_made_once_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("machine-id");
        let first = machine_id(&path).unwrap();
        assert!(is_machine_id(&first));
        assert_eq!(machine_id(&path).unwrap(), first);
        fs::write(&path, "nonsense").unwrap();
        assert!(
            machine_id(&path).is_err(),
            "a damaged identity must not be replaced silently"
        );
    }

    #[cfg(unix)]
    #[test]
    fn an_image_stays_the_same_when_its_link_moves() {
        let dir = tempfile::tempdir().unwrap();
        let (one, link) = (dir.path().join("1"), dir.path().join("current"));
        fs::create_dir(&one).unwrap();
        std::os::unix::fs::symlink(&one, &link).unwrap();
        assert_eq!(one_image(link), fs::canonicalize(one).unwrap());
        let absent = dir.path().join("absent");
        assert_eq!(one_image(absent.clone()), absent);
    }

    #[test]
    fn a_disk_without_its_identity_gets_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let (disk, id) = (dir.path().join("disk.img"), dir.path().join("machine-id"));
        check_disk(&disk, &id).unwrap();
        let mut disk_with_mark = vec![0; 4096];
        disk_with_mark[1080..1082].copy_from_slice(&[0x53, 0xef]);
        fs::write(&disk, &disk_with_mark).unwrap();
        let error = check_disk(&disk, &id).unwrap_err();
        assert!(matches!(error, PrepareError::Wrong { .. }), "{error}");
        assert!(error.hint().unwrap().contains("machine-id"));
        fs::write(&id, "x").unwrap();
        check_disk(&disk, &id).unwrap();
        assert!(
            check_disk(dir.path(), &id).is_err(),
            "a folder is no disk either"
        );
        for garbage in [&b"short"[..], &[7; 4096]] {
            fs::write(&disk, garbage).unwrap();
            assert!(check_disk(&disk, &id).is_err());
        }
    }

    #[test]
    fn a_running_machine_needs_no_image_and_its_disk_does_not_grow() {
        let dir = tempfile::tempdir().unwrap();
        let paths = HostPaths {
            config: dir.path().into(),
            data: dir.path().into(),
            cache: dir.path().into(),
            run: dir.path().into(),
        };
        fs::write(paths.disk_image(), b"data").unwrap();
        let id = machine_id(&paths.machine_id()).unwrap();
        let known = found(&paths);
        assert_eq!((known.disk_bytes, known.machine_id), (4, id));
        assert_eq!(fs::metadata(paths.disk_image()).unwrap().len(), 4);
        // Nor an identity or a disk: its guest has both.
        fs::write(paths.machine_id(), "nonsense").unwrap();
        assert_eq!(found(&paths).machine_id, "");
        fs::remove_file(paths.machine_id()).unwrap();
        fs::remove_file(paths.disk_image()).unwrap();
        let lost = found(&paths);
        assert_eq!((lost.disk_bytes, lost.machine_id.as_str()), (0, ""));
        assert!(!paths.machine_id().exists() && !paths.disk_image().exists());
    }

    #[test]
    fn a_missing_image_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let error = kernel(dir.path(), dir.path()).unwrap_err();
        assert!(matches!(&error, PrepareError::Image(path) if path.ends_with("vmlinux.zst")));
        assert!(error.hint().is_some());
    }

    #[test]
    fn a_damaged_kernel_is_said_to_be_damaged_and_leaves_nothing() {
        let image = tempfile::tempdir().unwrap();
        let cache = tempfile::tempdir().unwrap();
        fs::write(image.path().join("vmlinux.zst"), b"no zstd at all").unwrap();
        let error = kernel(image.path(), cache.path()).unwrap_err();
        assert!(matches!(error, PrepareError::Unpack { .. }), "{error}");
        assert_eq!(fs::read_dir(cache.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_disk_grows_and_never_shrinks() {
        let dir = tempfile::tempdir().unwrap();
        let disk = dir.path().join("disk.img");
        fs::write(&disk, b"data").unwrap();
        assert_eq!(ready_disk(dir.path(), &disk, 8192).unwrap(), 8192);
        assert_eq!(ready_disk(dir.path(), &disk, 4096).unwrap(), 8192);
        assert_eq!(&fs::read(&disk).unwrap()[..4], b"data");
    }

    #[test]
    fn the_console_tail_is_short() {
        let dir = tempfile::tempdir().unwrap();
        let paths = HostPaths {
            config: dir.path().into(),
            data: dir.path().into(),
            cache: dir.path().into(),
            run: dir.path().into(),
        };
        assert_eq!(console_tail(&paths), "");
        let text: String = (0..1000).map(|n| format!("line {n}\r\n")).collect();
        fs::write(paths.console_log(), text).unwrap();
        let tail = console_tail(&paths);
        assert_eq!(tail.lines().count(), 20);
        assert!(tail.ends_with("line 999"));
    }
}
