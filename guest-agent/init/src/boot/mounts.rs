//! The kernel's file systems and the temporary ones.

use std::fs;

use rustix::ffi::CStr;
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};

use super::{At, BootError, is_absent};
use crate::console::say;

/// One file system to mount.
struct Entry {
    kind: &'static str,
    target: &'static str,
    flags: MountFlags,
    options: &'static CStr,
    /// True where the machine is of no use without it.
    needed: bool,
}

const QUIET: MountFlags = MountFlags::NOSUID
    .union(MountFlags::NODEV)
    .union(MountFlags::NOEXEC);
const PLAIN: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);

/// In the order of mounting: each target is on what comes before it.
const TABLE: &[Entry] = &[
    needed("proc", "/proc", QUIET, c""),
    needed("sysfs", "/sys", QUIET, c""),
    // nsdelegate: a container's own cgroup namespace is a border. memory_recursiveprot: what is
    // reserved for a group protects its children.
    needed(
        "cgroup2",
        "/sys/fs/cgroup",
        QUIET,
        c"nsdelegate,memory_recursiveprot",
    ),
    wanted("securityfs", "/sys/kernel/security", QUIET, c""),
    wanted("bpf", "/sys/fs/bpf", QUIET, c"mode=0700"),
    needed(
        "devtmpfs",
        "/dev",
        MountFlags::NOSUID.union(MountFlags::NOEXEC),
        c"mode=0755",
    ),
    // gid 5 is `tty` in every distribution; the master's mode lets any program make a terminal.
    needed(
        "devpts",
        "/dev/pts",
        MountFlags::NOSUID.union(MountFlags::NOEXEC),
        c"gid=5,mode=0620,ptmxmode=0666",
    ),
    needed("tmpfs", "/dev/shm", PLAIN, c"mode=1777"),
    wanted("mqueue", "/dev/mqueue", QUIET, c""),
    needed("tmpfs", "/run", PLAIN, c"mode=0755"),
    needed("tmpfs", "/tmp", PLAIN, c"mode=1777"),
];

const fn needed(
    kind: &'static str,
    target: &'static str,
    flags: MountFlags,
    options: &'static CStr,
) -> Entry {
    Entry {
        kind,
        target,
        flags,
        options,
        needed: true,
    }
}

const fn wanted(
    kind: &'static str,
    target: &'static str,
    flags: MountFlags,
    options: &'static CStr,
) -> Entry {
    Entry {
        kind,
        target,
        flags,
        options,
        needed: false,
    }
}

/// Mounts everything, making mount points in the initramfs where they are missing.
pub fn mount_all() -> Result<(), BootError> {
    for entry in TABLE {
        // Fails below file systems that have no mkdir; then the mount says what is missing.
        let _ = fs::create_dir_all(entry.target);
        match mount(
            entry.kind,
            entry.target,
            entry.kind,
            entry.flags,
            entry.options,
        ) {
            // The kernel mounted it itself (CONFIG_DEVTMPFS_MOUNT).
            Ok(()) | Err(Errno::BUSY) => {}
            Err(error) if !entry.needed && is_absent(error) => {
                say(format_args!("no {} in this kernel", entry.kind));
            }
            Err(error) => {
                return Err(error).at(format_args!("mounting {}", entry.target));
            }
        }
    }
    fs::create_dir_all(super::data::MOUNT_POINT).at("making the data disk's mount point")?;
    device_links();
    Ok(())
}

/// The names in /dev that are not devices of the kernel.
fn device_links() {
    for (name, target) in [
        ("/dev/fd", "/proc/self/fd"),
        ("/dev/stdin", "/proc/self/fd/0"),
        ("/dev/stdout", "/proc/self/fd/1"),
        ("/dev/stderr", "/proc/self/fd/2"),
    ] {
        if let Err(error) = std::os::unix::fs::symlink(target, name)
            && error.kind() != std::io::ErrorKind::AlreadyExists
        {
            say(format_args!("no {name}: {error}"));
        }
    }
}
