//! The data disk. Mounting replays its journal after a crash.

use std::fs;
use std::thread;
use std::time::Duration;

use rustix::ffi::CStr;
use rustix::io::Errno;
use rustix::mount::MountFlags;

use crate::console::say;

/// Where the engine finds its data.
pub const MOUNT_POINT: &str = "/var/lib/docker";
/// The disk, named by the kernel as the first virtio one.
const DEVICE: &str = "/dev/vda";
/// Why there is no disk, for the agent to tell the host.
const TROUBLE: &str = "/run/lighter/disk-trouble";

/// prjquota: sizes of volumes and containers are limited by project. errors=remount-ro: the disk
/// stays as it was when something is found wrong with it. No `discard`: freed blocks are given
/// back in batches.
const OPTIONS: &CStr = c"prjquota,errors=remount-ro,noinit_itable";
/// For a disk that is not of our making, whose file system was made without projects: the engine finds
/// that out, and refuses sizes.
const WITHOUT_PROJECTS: &CStr = c"errors=remount-ro,noinit_itable";

/// How long the disk may take to appear: virtio probes in microseconds, other buses in more.
const PATIENCE: u32 = 200;
const PAUSE: Duration = Duration::from_millis(10);

/// Mounts the disk. A failure ends up in a file and on the console: the agent must run all the
/// same, or nobody could tell the host what is wrong.
pub fn mount() {
    let Err(error) = mount_when_there() else {
        return;
    };
    let trouble = match error {
        Errno::NOENT => format!("there is no data disk ({DEVICE})"),
        error => format!("the data disk ({DEVICE}) cannot be mounted: {error}"),
    };
    say(format_args!("{trouble}"));
    let noted = fs::create_dir_all("/run/lighter").and_then(|()| fs::write(TROUBLE, &trouble));
    if let Err(error) = noted {
        say(format_args!("the agent will not know: {error}"));
    }
}

fn mount_when_there() -> Result<(), Errno> {
    let mount = |options: &CStr| {
        rustix::mount::mount(DEVICE, MOUNT_POINT, "ext4", MountFlags::empty(), options)
    };
    for _ in 0..PATIENCE {
        match mount(OPTIONS) {
            Err(Errno::NOENT | Errno::NXIO) => thread::sleep(PAUSE),
            Err(Errno::INVAL) => return mount(WITHOUT_PROJECTS),
            result => return result,
        }
    }
    Err(Errno::NOENT)
}
