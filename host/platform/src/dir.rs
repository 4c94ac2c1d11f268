//! Private folders and durable small files.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Why a folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DirError {
    /// Creating or examining it failed.
    #[error("cannot make the folder `{}`", path.display())]
    Create {
        /// The folder.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// A symbolic link or a file lies where the folder should be.
    #[error("`{}` is not a folder of its own (it is a link or a file)", .0.display())]
    NotADirectory(PathBuf),
    /// The folder belongs to another user.
    #[error("`{}` belongs to another user (uid {owner})", path.display())]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// A file in it could not be written.
    #[error("cannot write `{}`", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

impl DirError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Create { path, source } | Self::Write { path, source }
                if matches!(
                    source.kind(),
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
                ) =>
            {
                format!("make room on the disk that holds `{}`", path.display())
            }
            Self::Create { path, .. } | Self::Write { path, .. } => format!(
                "make `{}` writable for this user, or set `LIGHTER_HOME` to a folder that is",
                path.parent().unwrap_or(path).display()
            ),
            Self::NotADirectory(path) | Self::Foreign { path, .. } => format!(
                "move `{}` away, or set `LIGHTER_HOME` to a folder of your own",
                path.display()
            ),
        }
    }
}

/// Makes `path` (and what is missing above it) a folder that only this user can enter.
///
/// A folder that is there already is accepted when it is ours and no link; its mode is set to
/// 0700 again.
///
/// # Errors
/// See [`DirError`].
pub fn ensure_private_dir(path: &Path) -> Result<(), DirError> {
    let failed = |source| DirError::Create {
        path: path.to_path_buf(),
        source,
    };
    match fs::symlink_metadata(path) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent).map_err(failed)?;
            }
            match crate::sys::create_private_dir(path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(failed(error));
                }
                _ => {}
            }
        }
        Err(error) => return Err(failed(error)),
    }
    // Looked at again after the creation: what counts is what lies there now.
    let found = fs::symlink_metadata(path).map_err(failed)?;
    if !found.is_dir() {
        return Err(DirError::NotADirectory(path.to_path_buf()));
    }
    if let Some(owner) = crate::sys::foreign_owner(&found) {
        return Err(DirError::Foreign {
            path: path.to_path_buf(),
            owner,
        });
    }
    crate::sys::make_private(path).map_err(failed)
}

/// Replaces `path` by `content` so that after a crash either the old or the new file is there.
///
/// A link stays a link (people keep their settings elsewhere and link to them): what it leads to
/// is replaced.
///
/// # Errors
/// [`DirError::Write`]; the old file is untouched then.
pub fn write_durably(path: &Path, content: &[u8]) -> Result<(), DirError> {
    let failed = |source| DirError::Write {
        path: path.to_path_buf(),
        source,
    };
    let place = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let mut name = place.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}", random_suffix()));
    let temporary = place.with_file_name(name);
    let written = (|| {
        let mut file = crate::sys::create_private_file(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, &place)?;
        sync_parent(&place)
    })();
    if written.is_err() {
        // Nothing half-made stays behind; the first error is the one that matters.
        let _ = fs::remove_file(&temporary);
    }
    written.map_err(failed)
}

/// Makes the rename or creation of `path` survive a power cut.
///
/// # Errors
/// What opening or flushing the folder answers. Systems that cannot flush a folder skip it.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if crate::sys::CAN_SYNC_DIRECTORIES => File::open(parent)?.sync_all(),
        _ => Ok(()),
    }
}

/// Eight characters that no other process picks at the same time.
#[must_use]
pub fn random_suffix() -> String {
    let mut bytes = [0_u8; 4];
    // Only uniqueness is wanted; the process id serves if the system has no randomness yet.
    if getrandom::fill(&mut bytes).is_err() {
        bytes = std::process::id().to_le_bytes();
    }
    hex::encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_in_the_way_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("run");
        fs::write(&path, "").unwrap();
        assert!(matches!(
            ensure_private_dir(&path),
            Err(DirError::NotADirectory(_))
        ));
    }

    #[test]
    fn a_new_folder_is_made_with_its_parents_and_accepted_again() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a/b/run");
        ensure_private_dir(&path).unwrap();
        ensure_private_dir(&path).unwrap();
        assert!(path.is_dir());
    }

    #[test]
    fn a_file_is_replaced_whole_and_leaves_no_other() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("config.toml");
        write_durably(&path, b"one").unwrap();
        write_durably(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    }

    #[test]
    fn writing_into_a_missing_folder_names_the_file() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("none/config.toml");
        let error = write_durably(&path, b"x").unwrap_err();
        assert!(error.to_string().contains("none"), "{error}");
    }
}
