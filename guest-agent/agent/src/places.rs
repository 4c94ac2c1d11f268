//! Where things are: fixed in the guest, below one folder in native mode.

use std::path::{Path, PathBuf};

use crate::options::Options;

/// Paths, and whether this is the guest at all.
#[derive(Debug, Clone)]
pub struct Places {
    /// True for tests on an ordinary system: clock, name and devices are not ours to touch.
    pub native: bool,
    /// Root of what survives a restart of the machine.
    pub data_root: PathBuf,
    /// Root of what lives as long as the machine.
    pub run_dir: PathBuf,
    /// The socket containers may be given.
    pub api_socket: PathBuf,
    /// The program that enters containers.
    pub enter: PathBuf,
    /// The group below which containers' groups are made.
    pub cgroup_root: PathBuf,
    /// The image that comes with the machine.
    pub built_in_image: PathBuf,
    /// Native mode: where a test plays the host that listens for containers, if one does. Without it this system is its
    /// own host.
    pub played_host: Option<PathBuf>,
}

impl Places {
    /// The places of this command line.
    pub fn new(options: &Options) -> Self {
        let built_in_image = PathBuf::from("/usr/share/lighter/hello.tar");
        match &options.native {
            None => Self {
                native: false,
                data_root: "/var/lib/docker".into(),
                run_dir: "/run/lighter".into(),
                api_socket: "/run/docker.sock".into(),
                enter: "/usr/bin/lighter-enter".into(),
                cgroup_root: "/sys/fs/cgroup/docker".into(),
                built_in_image,
                played_host: None,
            },
            Some(native) => Self {
                native: true,
                data_root: native.dir.join("data"),
                run_dir: native.dir.join("run"),
                api_socket: native.dir.join("docker.sock"),
                enter: native.enter.clone(),
                cgroup_root: native_groups(&native.dir),
                built_in_image,
                played_host: Some(native.dir.join("host.sock")).filter(|path| path.exists()),
            },
        }
    }

    /// The device below the data root.
    pub fn device(&self) -> &Path {
        Path::new("/dev/vda")
    }

    /// Why init could not mount the data disk, if it could not.
    pub fn disk_trouble(&self) -> PathBuf {
        self.run_dir.join("disk-trouble")
    }

    /// Where the host's folders appear.
    pub fn shares(&self) -> PathBuf {
        self.run_dir.join("shares")
    }
}

/// The group of a native engine: one for each folder, so that engines beside each other (and the
/// system's own dockerd) never meet there. Where version 1 has the controllers, version 2 is beside it.
fn native_groups(dir: &Path) -> PathBuf {
    let beside = Path::new("/sys/fs/cgroup/unified");
    let mount = if beside.is_dir() {
        beside
    } else {
        Path::new("/sys/fs/cgroup")
    };
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    mount.join(format!("lighter-{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_of_different_folders_share_no_group() {
        let group = |dir: &str| native_groups(Path::new(dir));
        assert_ne!(group("/tmp/a"), group("/tmp/b"));
        assert_eq!(group("/tmp/a").file_name(), Some("lighter-a".as_ref()));
    }
}
