//! `/dev`, complete before anybody sees it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Gid, Mode, OFlags, Uid, makedev};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use super::inside::{Place, Root};
use super::{Step, inside, kernel_fs};
use crate::{ContainerSpec, Device, DeviceKind, Mount, MountFlags, StartError};

/// The nodes every container has, with the device numbers the kernel has always given them.
const NODES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

const LINKS: [(&str, &str); 6] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
    ("ptmx", "pts/ptmx"),
];

/// A tmpfs with everything that belongs into `/dev`, detached.
///
/// It is filled through its descriptor, so nothing of the image, of a volume or of another
/// container takes part.
pub fn make(flags: MountFlags, spec: &ContainerSpec) -> Step<OwnedFd> {
    let dev = kernel_fs::detached("tmpfs", &[("mode", "755"), ("size", "65536k")], flags)?;
    fill(dev.as_fd(), spec).map_err(|errno| StartError::kernel("dev", errno, "fill /dev"))?;
    Ok(dev)
}

fn fill(dev: BorrowedFd<'_>, spec: &ContainerSpec) -> rustix::io::Result<()> {
    let devices = &spec.devices;
    for (name, major, minor) in NODES {
        // A device of the user's own in its place is made below.
        if !devices
            .iter()
            .any(|device| device.path.strip_prefix("/dev/") == Some(name))
        {
            let mode = Mode::from_raw_mode(0o666);
            rustix::fs::mknodat(
                dev,
                name,
                FileType::CharacterDevice,
                mode,
                makedev(major, minor),
            )?;
        }
    }
    for (name, target) in LINKS {
        rustix::fs::symlinkat(target, dev, name)?;
    }
    for name in ["pts", "shm", "mqueue"] {
        // Where nothing is to be mounted nothing stands: without an IPC namespace to go with it a
        // /dev/shm would only look like one.
        let mounted = |mount: &Mount| mount.destination.strip_prefix("/dev/") == Some(name);
        if spec.mounts.iter().any(mounted) {
            rustix::fs::mkdirat(dev, name, Mode::from_raw_mode(0o755))?;
        }
    }
    if spec.process.terminal.is_some() {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        rustix::fs::openat(dev, "console", flags, Mode::from_raw_mode(0o620))?;
    }
    for device in devices {
        if let Some(below) = device.path.strip_prefix("/dev/")
            // The machine's /dev/ptmx is of its own devpts; ours stays the link.
            && !LINKS.iter().any(|(name, _)| *name == below)
        {
            node_below(dev, below, device)?;
        }
    }
    Ok(())
}

/// Makes a node at a relative path, directories above it included. Only for the tmpfs made here.
fn node_below(dev: BorrowedFd<'_>, path: &str, device: &Device) -> rustix::io::Result<()> {
    let mut directory: Option<OwnedFd> = None;
    let mut parts = path.split('/').filter(|part| !part.is_empty()).peekable();
    while let Some(part) = parts.next() {
        if matches!(part, "." | "..") {
            return Err(Errno::INVAL);
        }
        let here = directory.as_ref().map_or(dev, AsFd::as_fd);
        if parts.peek().is_none() {
            return node(here, part, device);
        }
        match rustix::fs::mkdirat(here, part, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::DIRECTORY | OFlags::CLOEXEC;
        directory = Some(rustix::fs::openat(here, part, flags, Mode::empty())?);
    }
    Err(Errno::INVAL)
}

fn node(directory: BorrowedFd<'_>, name: &str, device: &Device) -> rustix::io::Result<()> {
    let kind = match device.kind {
        DeviceKind::Char => FileType::CharacterDevice,
        DeviceKind::Block => FileType::BlockDevice,
    };
    let number = makedev(device.major, device.minor);
    let mode = Mode::from_raw_mode(device.mode & 0o7777);
    match rustix::fs::mknodat(directory, name, kind, mode, number) {
        Ok(()) => {}
        // Named twice, or there already in the image: it has to be the same one.
        Err(Errno::EXIST) => {
            let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
            let stat = rustix::fs::statat(directory, name, flags)?;
            let same = FileType::from_raw_mode(stat.st_mode) == kind && stat.st_rdev == number;
            return if same { Ok(()) } else { Err(Errno::EXIST) };
        }
        Err(errno) => return Err(errno),
    }
    if (device.uid, device.gid) != (0, 0) {
        let (uid, gid) = (Uid::from_raw(device.uid), Gid::from_raw(device.gid));
        let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::chownat(directory, name, Some(uid), Some(gid), flags)?;
    }
    Ok(())
}

/// Makes the nodes the user wants outside `/dev`, in the container's root; `made`: those of
/// [`detached_nodes`], which are put there instead.
pub fn nodes_elsewhere(root: &Root, devices: &[Device], made: Option<Vec<OwnedFd>>) -> Step<()> {
    let mut made = made.map(Vec::into_iter);
    for (_, device) in elsewhere(devices) {
        let put = match &mut made {
            None => root
                .parent(&device.path)
                .and_then(|(parent, name)| node(parent.as_fd(), name, device)),
            Some(made) => match made.next() {
                Some(mount) => put_node(root, &mount, &device.path),
                None => Err(Errno::BADF),
            },
        };
        put.map_err(|errno| no_node(device, errno))?;
    }
    Ok(())
}

/// The nodes the user wants outside `/dev` on a file system of their own, detached, each named by
/// its index; `None` if there are none.
pub fn nodes_apart(devices: &[Device]) -> Step<Option<OwnedFd>> {
    let mut nodes = None;
    for (index, device) in elsewhere(devices) {
        let nodes = match &nodes {
            Some(nodes) => nodes,
            None => {
                let flags = MountFlags {
                    nosuid: true,
                    noexec: true,
                    ..MountFlags::default()
                };
                nodes.insert(kernel_fs::detached("tmpfs", &[("mode", "755")], flags)?)
            }
        };
        node(nodes.as_fd(), &index.to_string(), device).map_err(|errno| no_node(device, errno))?;
    }
    Ok(nodes)
}

fn elsewhere(devices: &[Device]) -> impl Iterator<Item = (usize, &Device)> {
    let numbered = devices.iter().enumerate();
    numbered.filter(|(_, device)| !device.path.starts_with("/dev/"))
}

/// A mount of each node of [`nodes_apart`], seen by nobody.
///
/// Must run before the container's root is entered: a mount can only be had of what is attached, so
/// `nodes` comes to lie over the machine's `/dev`, in this namespace and as long as that is there.
pub fn detached_nodes(nodes: &OwnedFd, devices: &[Device]) -> Step<Vec<OwnedFd>> {
    let fail = |errno| StartError::kernel("device", errno, "take the device nodes");
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(nodes, "", rustix::fs::CWD, "/dev", flags).map_err(fail)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let clones = elsewhere(devices).map(|(index, _)| open_tree(nodes, index.to_string(), flags));
    clones.collect::<Result<Vec<_>, Errno>>().map_err(fail)
}

fn put_node(root: &Root, mount: &OwnedFd, path: &str) -> rustix::io::Result<()> {
    let target = root.place(path, Place::File)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, "", &target, "", flags)
}

fn no_node(device: &Device, errno: Errno) -> StartError {
    let text = format!("create device node {}", device.path);
    StartError::kernel("device", errno, text)
}

/// The container's own null device for a standard stream that nobody wants.
///
/// `made`: the `/dev` made here. Else the one in the container is taken if it is the null device.
pub fn null(root: &Root, made: Option<BorrowedFd<'_>>) -> Step<OwnedFd> {
    let fail = |errno| StartError::kernel("stdio", errno, "open /dev/null in the container");
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    let null = match made {
        Some(dev) => rustix::fs::openat(dev, "null", flags | OFlags::NOFOLLOW, Mode::empty()),
        None => root.open("/dev/null", flags),
    }
    .map_err(fail)?;
    inside::must_be_device(null.as_fd(), 1, 3).map_err(fail)?;
    rustix::fs::fcntl_setfl(&null, OFlags::empty()).map_err(fail)?;
    Ok(null)
}
