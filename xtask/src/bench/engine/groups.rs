//! The control group that an engine has for its own, which ends with it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// How long its last processes may take to be gone.
const LIMIT: Duration = Duration::from_secs(10);

/// Where groups of the second version are made.
fn mount() -> Option<&'static Path> {
    let mounts = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].map(Path::new);
    mounts.into_iter().find(|mount| mount.is_dir())
}

/// The group that goes with a folder, as our engine names its own in native mode.
///
/// # Errors
///
/// When there are no control groups.
pub fn of(folder: &Path) -> Result<PathBuf> {
    let name = folder.file_name().unwrap_or_default().display();
    Ok(mount()
        .context("no control groups")?
        .join(format!("lighter-{name}")))
}

/// Kills every process in a group and in those below.
pub fn kill(folder: &Path) {
    if let Ok(group) = of(folder) {
        // A kernel without this leaves them; the group then stays, and shows it.
        let _ = std::fs::write(group.join("cgroup.kill"), "1");
    }
}

/// Removes a group and those below, once they are empty.
pub fn remove(folder: &Path) {
    let limit = Instant::now() + LIMIT;
    if let Ok(group) = of(folder) {
        while !is_removed(&group) && Instant::now() < limit {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn is_removed(group: &Path) -> bool {
    for entry in std::fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            is_removed(&entry.path());
        }
    }
    // What is gone already is removed, too.
    std::fs::remove_dir(group).is_ok() || !group.exists()
}
