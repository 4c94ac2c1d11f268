//! The data disk: is it there, is it ours, is it as large as it should be.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use lighter_protocol::RefusedCode;

use crate::places::Places;

/// Names the machine that a data disk belongs to.
const IDENTITY: &str = "machine-id";
/// It is written here first.
const IDENTITY_DRAFT: &str = ".machine-id.new";
/// The name every fresh ext4 comes with.
const LOST_AND_FOUND: &str = "lost+found";

/// Why the data disk is not used.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// It is not mounted.
    #[error("{0}")]
    Trouble(String),
    /// It is another machine's.
    #[error("the data disk belongs to machine {found}, this is machine {expected}")]
    Foreign {
        /// Whose it is.
        found: String,
        /// Who we are.
        expected: String,
    },
    /// It holds something, and does not say whose.
    #[error("the data disk holds data (`{0}`) but does not say which machine it belongs to")]
    Unmarked(String),
    /// It cannot be read or written.
    #[error("the data disk cannot be used: {0}")]
    Io(#[from] io::Error),
}

impl DiskError {
    /// What to tell the host.
    pub fn code(&self) -> RefusedCode {
        match self {
            Self::Foreign { .. } | Self::Unmarked(_) => RefusedCode::WrongDisk,
            Self::Trouble(_) | Self::Io(_) => RefusedCode::Disk,
        }
    }
}

/// Makes sure that the disk is there and belongs to this machine; an empty one is made to.
pub fn verify(places: &Places, machine_id: &str) -> Result<(), DiskError> {
    match fs::read_to_string(places.disk_trouble()) {
        Ok(trouble) => return Err(DiskError::Trouble(trouble)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error.into()),
    }
    let root = &places.data_root;
    match fs::read_to_string(root.join(IDENTITY)) {
        Ok(found) if found.trim_end() == machine_id => Ok(()),
        Ok(found) => Err(DiskError::Foreign {
            found: found.trim_end().chars().take(64).collect(),
            expected: machine_id.to_owned(),
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => mark(root, machine_id),
        Err(error) => Err(error.into()),
    }
}

/// Writes the name on an empty disk, so that it is there whole or not at all.
fn mark(root: &Path, machine_id: &str) -> Result<(), DiskError> {
    for entry in fs::read_dir(root)? {
        let name = entry?.file_name();
        if name != LOST_AND_FOUND && name != IDENTITY_DRAFT {
            return Err(DiskError::Unmarked(name.to_string_lossy().into_owned()));
        }
    }
    let draft = root.join(IDENTITY_DRAFT);
    let mut file = File::create(&draft)?;
    writeln!(file, "{machine_id}")?;
    file.sync_all()?;
    fs::rename(&draft, root.join(IDENTITY))?;
    File::open(root)?.sync_all()?;
    Ok(())
}

/// Makes the file system as large as its device. Failing that, it stays as it is.
pub fn grow(places: &Places) {
    match lighter_init::disk::grow(&places.data_root, places.device()) {
        Ok(growth) if growth.after_bytes > growth.before_bytes => {
            tracing::info!(
                before_bytes = growth.before_bytes,
                after_bytes = growth.after_bytes,
                "the data disk has grown"
            );
        }
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "the data disk does not grow"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::{Native, Options};

    fn places(dir: &Path) -> Places {
        let native = Some(Native {
            dir: dir.to_owned(),
            enter: "/e".into(),
        });
        let places = Places::new(&Options {
            supervisor_fd: 3,
            events_fd: 4,
            native,
        });
        fs::create_dir_all(&places.data_root).unwrap();
        fs::create_dir_all(&places.run_dir).unwrap();
        places
    }

    #[test]
    fn empty_disk_becomes_ours_and_stays_ours() {
        let dir = tempfile::tempdir().unwrap();
        let places = places(dir.path());
        fs::create_dir(places.data_root.join(LOST_AND_FOUND)).unwrap();
        fs::write(places.data_root.join(IDENTITY_DRAFT), "half").unwrap();
        verify(&places, "m1").unwrap();
        verify(&places, "m1").unwrap();
        let error = verify(&places, "m2").unwrap_err();
        assert_eq!(error.code(), RefusedCode::WrongDisk);
        assert_eq!(
            error.to_string(),
            "the data disk belongs to machine m1, this is machine m2"
        );
    }

    #[test]
    fn data_without_a_name_is_not_touched() {
        let dir = tempfile::tempdir().unwrap();
        let places = places(dir.path());
        fs::create_dir(places.data_root.join("volumes")).unwrap();
        let error = verify(&places, "m1").unwrap_err();
        assert_eq!(error.code(), RefusedCode::WrongDisk);
        assert!(!places.data_root.join(IDENTITY).exists());
    }

    #[test]
    fn trouble_noted_by_init_is_passed_on() {
        let dir = tempfile::tempdir().unwrap();
        let places = places(dir.path());
        fs::write(places.disk_trouble(), "there is no data disk").unwrap();
        let error = verify(&places, "m1").unwrap_err();
        assert_eq!(
            (error.code(), error.to_string().as_str()),
            (RefusedCode::Disk, "there is no data disk")
        );
    }
}
