//! What Docker gives every container, and what `--privileged` changes.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use crate::{
    Capabilities, ContainerSpec, Device, DeviceAccess, DeviceKind, DeviceRule, Mount, MountFlags,
    MountKind, Namespaces, ProcessSpec, Resources, Seccomp, caps,
};

/// Docker's default size of `/dev/shm`.
pub const SHM_SIZE: u64 = 64 << 20;

/// Hidden in every container that is not privileged.
pub const MASKED_PATHS: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

/// Read-only in every container that is not privileged.
pub const READONLY_PATHS: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// The mounts of every container, before the user's own.
///
/// A mount of the user's at the same place takes the default's place; one at `/dev` takes that of
/// everything below it as well.
#[must_use]
pub fn mounts(shm_size: u64) -> Vec<Mount> {
    let closed = MountFlags {
        nosuid: true,
        nodev: true,
        noexec: true,
        ..MountFlags::default()
    };
    let read_only = MountFlags {
        read_only: true,
        ..closed
    };
    let mount = |destination: &str, kind, flags| Mount {
        destination: destination.to_owned(),
        kind,
        flags,
        source: String::new(),
    };
    vec![
        mount("/proc", MountKind::Proc, closed),
        mount(
            "/dev",
            MountKind::Dev,
            MountFlags {
                nosuid: true,
                ..MountFlags::default()
            },
        ),
        mount(
            "/dev/pts",
            MountKind::Devpts,
            MountFlags {
                nosuid: true,
                noexec: true,
                ..MountFlags::default()
            },
        ),
        mount("/sys", MountKind::Sysfs, read_only),
        mount("/sys/fs/cgroup", MountKind::Cgroup, read_only),
        mount("/dev/mqueue", MountKind::Mqueue, closed),
        mount("/dev/shm", MountKind::Shm { size: shm_size }, closed),
    ]
}

/// The device filter of a container that is not privileged: nodes of any device may be made, but
/// only the harmless ones opened.
#[must_use]
pub fn device_rules() -> Vec<DeviceRule> {
    let make = |kind| DeviceRule {
        allow: true,
        kind: Some(kind),
        major: None,
        minor: None,
        access: DeviceAccess::MKNOD,
    };
    let mut rules = vec![make(DeviceKind::Char), make(DeviceKind::Block)];
    // null, zero, full, random, urandom, tty, console, ptmx, net/tun
    let devices = [
        (1, 3),
        (1, 5),
        (1, 7),
        (1, 8),
        (1, 9),
        (5, 0),
        (5, 1),
        (5, 2),
        (10, 200),
    ];
    rules.extend(devices.map(|(major, minor)| DeviceRule::char_device(major, minor)));
    // The slave sides of pseudo terminals.
    rules.push(DeviceRule {
        minor: None,
        ..DeviceRule::char_device(136, 0)
    });
    rules
}

/// Network settings Docker makes in every network namespace of a container's own: any port may be
/// bound and any group may ping.
#[must_use]
pub fn network_sysctls() -> [(&'static str, &'static str); 2] {
    [
        ("net.ipv4.ip_unprivileged_port_start", "0"),
        ("net.ipv4.ping_group_range", "0 2147483647"),
    ]
}

/// The machine's device nodes, as `--privileged` shows them: those below `/dev` but for terminals
/// and what is mounted there.
#[must_use]
pub fn host_devices() -> Vec<Device> {
    let mut devices = vec![];
    collect_devices(Path::new("/dev"), 0, &mut devices);
    devices
}

fn collect_devices(directory: &Path, depth: u32, devices: &mut Vec<Device>) {
    const SKIPPED: [&str; 8] = [
        "pts",
        "shm",
        "fd",
        "mqueue",
        ".lxc",
        ".lxd-mounts",
        ".udev",
        "console",
    ];
    const DEPTH: u32 = 8;
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Ok(meta) = entry.metadata() else { continue };
        let kind = meta.file_type();
        if kind.is_dir() && depth < DEPTH {
            if !SKIPPED.iter().any(|skipped| name == *skipped) {
                collect_devices(&entry.path(), depth + 1, devices);
            }
            continue;
        }
        let kind = match (kind.is_char_device(), kind.is_block_device()) {
            (true, _) => DeviceKind::Char,
            (_, true) => DeviceKind::Block,
            _ => continue,
        };
        if name == "console" {
            continue;
        }
        let Some(path) = entry.path().to_str().map(str::to_owned) else {
            continue;
        };
        devices.push(Device {
            path,
            kind,
            major: rustix::fs::major(meta.rdev()),
            minor: rustix::fs::minor(meta.rdev()),
            mode: meta.mode() & 0o7777,
            uid: meta.uid(),
            gid: meta.gid(),
        });
    }
}

impl ContainerSpec {
    /// A container with Docker's defaults that runs `process`.
    #[must_use]
    pub fn new(id: &str, process: ProcessSpec) -> Self {
        let own = |list: &[&str]| list.iter().map(|path| (*path).to_owned()).collect();
        Self {
            id: id.to_owned(),
            process,
            hostname: id.chars().take(12).collect(),
            domainname: String::new(),
            namespaces: Namespaces::default(),
            mounts: mounts(SHM_SIZE),
            masked_paths: own(&MASKED_PATHS),
            readonly_paths: own(&READONLY_PATHS),
            read_only_root: false,
            sysctls: network_sysctls()
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            devices: Vec::new(),
            device_rules: device_rules(),
            init: false,
            resources: Resources::default(),
            cgroup_parent: None,
        }
    }

    /// Makes the changes of `--privileged`: every capability, every device, no masks, `/sys` and
    /// the cgroup tree writable, no system call filter.
    ///
    /// Call it after the mounts are complete.
    pub fn make_privileged(&mut self) {
        self.process.capabilities = Capabilities::docker(caps::all());
        self.process.seccomp = Seccomp::Unconfined;
        self.masked_paths.clear();
        self.readonly_paths.clear();
        let own = std::mem::replace(&mut self.devices, host_devices());
        for device in own {
            // Those under another name; the machine's own are there under theirs.
            if !self.devices.iter().any(|there| there.path == device.path) {
                self.devices.push(device);
            }
        }
        self.device_rules = vec![DeviceRule::ALLOW_ALL];
        for mount in &mut self.mounts {
            if matches!(mount.kind, MountKind::Sysfs | MountKind::Cgroup) {
                mount.flags.read_only = false;
            }
        }
    }
}
