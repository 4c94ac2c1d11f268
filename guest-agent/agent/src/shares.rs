//! The mount under which the host's folders appear.

use std::path::{Component, Path, PathBuf};

use rustix::io::Errno;
use rustix::mount::MountFlags;

use crate::places::Places;

/// The device's tag.
const TAG: &str = "lighter";

/// `statfs` calls every FUSE file system so.
const FUSE_MAGIC: u64 = 0x6573_5546;

/// Mounts the device of shared folders where the machine has one. Survives the agent: a second
/// call finds it there.
pub fn mount_at(target: &Path) -> Result<bool, Errno> {
    if std::fs::create_dir_all(target).is_err() {
        return Err(Errno::ROFS);
    }
    let kind = u64::try_from(rustix::fs::statfs(target)?.f_type).unwrap_or_default();
    if kind == FUSE_MAGIC {
        return Ok(true);
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    match rustix::mount::mount(TAG, target, "virtiofs", flags, None) {
        Ok(()) => Ok(true),
        // No such tag: a machine without shared folders.
        Err(Errno::INVAL | Errno::NODEV | Errno::NOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// See [`mount_at`]; trouble is logged, and met again by whoever asks for a folder.
pub fn mount(places: &Places) {
    match mount_at(&places.shares()) {
        Ok(true) => {}
        Ok(false) => tracing::info!("the host shares no folders with this machine"),
        Err(error) => tracing::warn!(%error, "the host's folders cannot be mounted"),
    }
}

/// Where a path that the host answered is in the guest; none where it would lead elsewhere.
pub fn resolve(places: &Places, answered: &str) -> Option<PathBuf> {
    let relative = Path::new(answered);
    let plain = relative
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    (plain && !answered.is_empty()).then(|| places.shares().join(relative))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Options;

    #[test]
    fn answers_stay_below_the_mount() {
        let places = Places::new(&Options {
            supervisor_fd: 3,
            events_fd: 4,
            native: None,
        });
        let at = |answered| resolve(&places, answered);
        assert_eq!(at("g1/work"), Some("/run/lighter/shares/g1/work".into()));
        for wrong in ["", "/etc", "../x", "g1/../../x"] {
            assert_eq!(at(wrong), None, "{wrong}");
        }
    }
}
