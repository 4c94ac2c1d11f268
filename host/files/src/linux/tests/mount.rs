//! The file system mounted through `/dev/fuse` in a mount namespace of the test's own, for real programs.
//!
//! Needs root for the mount. The server's threads can be an ordinary user of the host all the same: Linux
//! keeps credentials by thread.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use fuse_backend_rs::transport::{FuseBuf, FuseDevWriter, Reader};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount,
};

use crate::control::ShareId;
use crate::sys::fs::nodes::NodeLimits;
use crate::sys::fs::shares::Shares;
use crate::sys::fs::sidecar::Sidecar;
use crate::sys::fs::{Limits, ShareFs};
use crate::sys::requests::Service;

/// The ordinary user of the host that the tests use.
pub const USER: u32 = 1000;

pub struct Mount {
    pub host: PathBuf,
    point: PathBuf,
    work: tempfile::TempDir,
}

/// Why these tests cannot run here, if they cannot.
pub fn missing() -> Option<&'static str> {
    if !rustix::process::geteuid().is_root() {
        return Some("mounting needs root");
    }
    (!Path::new("/dev/fuse").exists()).then_some("/dev/fuse is missing")
}

impl Mount {
    /// A new empty directory of `user`'s, shared writably as `rw` and read-only as `ro`.
    pub fn new(user: u32) -> Self {
        Self::below(&std::env::temp_dir(), user)
    }

    /// The same with the host's directory made below `parent`.
    pub fn below(parent: &Path, user: u32) -> Self {
        let work = tempfile::tempdir_in(parent).expect("temporary directory");
        std::fs::set_permissions(
            work.path(),
            std::os::unix::fs::PermissionsExt::from_mode(0o755),
        )
        .expect("own");
        let [host, point, side] = ["host", "mount", "side"].map(|name| work.path().join(name));
        for path in [&host, &point, &side] {
            std::fs::create_dir(path).expect("fresh directory");
            std::os::unix::fs::chown(path, Some(user), Some(user)).expect("root may");
        }
        rustix::process::umask(Mode::empty());
        let shares = Arc::new(Shares::default());
        for (id, read_only) in [("rw", false), ("ro", true)] {
            let target =
                openat(CWD, &host, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).expect("open");
            shares
                .add(ShareId::new(id).expect("id"), target, read_only, id.into())
                .expect("new");
        }
        let nodes = NodeLimits {
            nodes: 1_000_000,
            descriptors: 256,
        };
        let fs = std::thread::spawn(move || {
            become_user(user);
            let sidecar =
                Sidecar::open(File::open(side).expect("open").into()).expect("empty directory");
            ShareFs::new(
                shares,
                Arc::default(),
                sidecar,
                Limits {
                    handles: 1024,
                    nodes,
                },
            )
            .expect("proc is mounted")
        });
        let fs = Arc::new(fs.join().expect("no panic"));
        // SAFETY: only this thread's mount namespace and working directory become its own; no descriptor
        // table is unshared and nothing else in the process relies on them being common.
        unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }
            .expect("root may");
        mount_change(
            "/",
            MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
        )
        .expect("root may");
        let device = openat(
            CWD,
            "/dev/fuse",
            OFlags::RDWR | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .expect("open");
        let options = format!(
            "fd={},rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other",
            device.as_raw_fd()
        );
        let options = std::ffi::CString::new(options).expect("no NUL");
        mount(
            "lighter",
            &point,
            "fuse.lighter",
            MountFlags::empty(),
            options.as_c_str(),
        )
        .expect("mount");
        // Not earlier: a read from a device without its mount is an error.
        serve(&fs, &device, user);
        Self { host, point, work }
    }

    /// The shared directory as the guest sees it.
    pub fn guest(&self) -> PathBuf {
        self.point.join("rw")
    }

    /// Runs a shell script in the mount.
    pub fn run(&self, script: &str) -> Output {
        Command::new("sh")
            .args(["-ec", &format!("umask 022; {script}")])
            .current_dir(self.guest())
            .env("HOST", &self.host)
            .env("MOUNT", &self.point)
            .env("HOME", self.work.path())
            .output()
            .expect("a shell")
    }

    /// Runs a script that must succeed; its output.
    pub fn sh(&self, script: &str) -> String {
        let output = self.run(script);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{script}\n{}\n{text}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        text
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = unmount(&self.point, UnmountFlags::DETACH);
    }
}

/// Starts threads that answer what comes out of `/dev/fuse`, until the mount ends.
fn serve(fs: &Arc<ShareFs>, device: &OwnedFd, user: u32) {
    let service = Arc::new(Service::new(Arc::clone(fs)));
    for _ in 0..4 {
        let device = File::from(device.try_clone().expect("duplicate"));
        let service = Arc::clone(&service);
        std::thread::spawn(move || {
            become_user(user);
            // With the filter of the real process, so that every system call of serving is on its list.
            crate::sys::sandbox::confine_thread();
            answer(&service, &device);
        });
    }
}

fn answer(service: &Service, mut device: &File) {
    let mut request = vec![0; (1 << 20) + 8192];
    let mut reply = vec![0; (1 << 20) + 8192];
    loop {
        let length = match device.read(&mut request) {
            Ok(length) => length,
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::ENOENT | libc::EINTR | libc::EAGAIN)
                ) =>
            {
                continue;
            }
            Err(_) => return,
        };
        let reader =
            Reader::<()>::from_fuse_buffer(FuseBuf::new(&mut request[..length])).expect("a buffer");
        let writer = FuseDevWriter::<()>::new(device.as_raw_fd(), &mut reply).expect("a buffer");
        service.handle(reader, writer.into());
    }
}

/// Makes this thread an ordinary user's, for good.
fn become_user(user: u32) {
    if user == 0 {
        return;
    }
    // SAFETY: system calls without memory; they change this thread's credentials alone, which is what is
    // wanted here and what the C library's wrappers (all threads) would prevent.
    unsafe {
        assert_eq!(
            libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<libc::gid_t>()),
            0
        );
        assert_eq!(libc::syscall(libc::SYS_setresgid, user, user, user), 0);
        assert_eq!(libc::syscall(libc::SYS_setresuid, user, user, user), 0);
    }
}
