//! A container's files as the container sees them, for the engine to reach by descriptor.
//!
//! Called by the engine for copying files in and out. Two ways make a [`View`]:
//!
//! * of a container that runs, its own live mount namespace ([`View::of_process`]): nothing is
//!   mounted a second time, so there is no mount point that could be exchanged between a look and
//!   a mount (CVE-2026-42306), and its temporary file systems are there as well;
//! * of one that does not, a mount namespace made for the purpose ([`View::assemble`]) in which the
//!   code that starts containers mounts what a start would.
//!
//! Both are made on a thread that ends with the call and does nothing but enter the namespace and
//! open its root: no program is started, nothing of the container is loaded or executed, and the
//! engine's other threads stay where they are. A descriptor of a root leads on through the mounts
//! of its own namespace, whoever walks it, so all that follows is done from outside with
//! `openat2(RESOLVE_IN_ROOT)` below [`View::root`].
//!
//! The root is that of the *namespace*, not `/proc/PID/root`: that one is wherever the container's
//! first process has chroot'ed to. The view holds the namespace: should its processes end, its
//! mounts stay where they are until the view is dropped, and nobody writes beneath a volume.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::OpenTreeFlags;

use crate::enter::inside::Root;
use crate::enter::{mounts, rootfs, user};
use crate::{ContainerSpec, Mount, ProcessSpec, StartError, sys};

/// A root directory and the mount namespace it is the root of.
#[derive(Debug)]
pub struct View {
    root: OwnedFd,
    bare: OwnedFd,
    _namespace: OwnedFd,
}

impl View {
    /// The files of the process `pid`, which `pidfd` names as well. Blocks.
    ///
    /// # Errors
    /// `ENOENT` or `ESRCH` when it has ended; else the kernel's answer.
    pub fn of_process(pid: i32, pidfd: BorrowedFd<'_>) -> rustix::io::Result<Self> {
        let path = format!("/proc/{pid}/ns/mnt");
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let namespace = rustix::fs::openat(CWD, path, flags, Mode::empty())?;
        // Still there, so the number is still its own.
        sys::send_signal(pidfd, 0)?;
        let entered = apart(|| {
            sys::unshare(libc::CLONE_FS)?;
            sys::setns(namespace.as_fd(), libc::CLONE_NEWNS)?;
            Ok((open_root()?, bare_root()?))
        });
        let (root, bare) = entered.unwrap_or(Err(Errno::IO))?;
        Ok(Self {
            root,
            bare,
            _namespace: namespace,
        })
    }

    /// A namespace of `rootfs` with these mounts in it, in this order; the index in each
    /// [`crate::MountKind::Fd`] is that of its descriptor in `fds`. Blocks.
    ///
    /// # Errors
    /// The step that failed.
    pub fn assemble(
        rootfs: &OwnedFd,
        mounts: Vec<Mount>,
        fds: Vec<OwnedFd>,
    ) -> Result<Self, StartError> {
        let mut spec = ContainerSpec::new("", ProcessSpec::new([""]));
        spec.mounts = mounts;
        spec.sysctls.clear();
        let fail = |what: &'static str| move |errno| StartError::kernel("view", errno, what);
        let made = apart(|| {
            sys::unshare(libc::CLONE_FS | libc::CLONE_NEWNS).map_err(fail("unshare"))?;
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            let namespace = rustix::fs::open("/proc/thread-self/ns/mnt", flags, Mode::empty())
                .map_err(fail("open the namespace"))?;
            let made = mounts::Made::new(&spec, fds, None)?;
            let root = rootfs::enter(rootfs)?;
            mounts::all(&root, &spec, made)?;
            Ok(Self {
                root: open_root().map_err(fail("open the root"))?,
                bare: bare_root().map_err(fail("open the root"))?,
                _namespace: namespace,
            })
        });
        made.unwrap_or_else(|| Err(fail("a thread")(Errno::IO)))
    }

    /// The root directory, an `O_PATH` descriptor.
    #[must_use]
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// The root file system alone, as if nothing were mounted in it.
    #[must_use]
    pub fn bare(&self) -> BorrowedFd<'_> {
        self.bare.as_fd()
    }

    /// User and group ids of `user` (a name or number, perhaps with a group), by the container's
    /// own passwd and group files.
    ///
    /// # Errors
    /// Docker's words for a user that is not there.
    pub fn ids_of(&self, user: &str) -> Result<(u32, u32), StartError> {
        let root = self.root.try_clone();
        let root = root.map_err(|error| {
            let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
            StartError::kernel("user", errno, "open the root")
        })?;
        let mut process = ProcessSpec::new([""]);
        user.clone_into(&mut process.user);
        let identity = user::resolve(&Root::new(root), &process)?;
        Ok((identity.uid, identity.gid))
    }
}

fn open_root() -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open("/", flags, Mode::empty())
}

/// A detached copy of the root's mount, without those in it.
fn bare_root() -> rustix::io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    rustix::mount::open_tree(CWD, "/", flags)
}

/// Runs `work` on a thread of its own, which ends with it: what it unshares is its own. `None` if
/// there is no thread, or it ended by itself.
pub(crate) fn apart<T: Send>(work: impl FnOnce() -> T + Send) -> Option<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("view".into());
        let thread: io::Result<_> = thread.spawn_scoped(scope, work);
        thread.ok()?.join().ok()
    })
}
