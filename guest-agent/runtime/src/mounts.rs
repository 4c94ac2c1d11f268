//! Detached mounts for a container: its root file system and what is bound into it.
//!
//! Called by the engine, which hands the descriptors to [`crate::Launcher::prepare`]. A detached
//! mount is seen by nobody until `lighter-enter` attaches it, and is gone when its last
//! descriptor is closed. Paths given here are the engine's own; nothing an image or a client
//! wrote may be among them unresolved.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

use crate::as_container_root;
use crate::sys::{self, MountAttr};

/// A step of making a mount that failed.
#[derive(Debug, thiserror::Error)]
#[error("{step}: {}", crate::sys::errno_text(*errno))]
pub struct MountError {
    /// What was done.
    pub step: String,
    /// The kernel's answer.
    pub errno: Errno,
}

fn fail(step: impl Into<String>) -> impl FnOnce(Errno) -> MountError {
    |errno| MountError {
        step: step.into(),
        errno,
    }
}

/// A directory or file the engine has: by path, or by a descriptor that may be `O_PATH`.
#[derive(Debug, Clone, Copy)]
pub enum Source<'a> {
    /// In the engine's own mount namespace.
    Path(&'a Path),
    /// Open.
    Fd(BorrowedFd<'a>),
}

impl Source<'_> {
    /// A path the kernel resolves in this process: a descriptor through the process's own procfs.
    fn path(self) -> PathBuf {
        match self {
            Self::Path(path) => path.to_owned(),
            Self::Fd(fd) => format!("/proc/self/fd/{}", fd.as_raw_fd()).into(),
        }
    }

    fn text(self) -> Result<CString, MountError> {
        CString::new(self.path().into_os_string().into_encoded_bytes()).map_err(|_| MountError {
            step: "path with a NUL byte".into(),
            errno: Errno::INVAL,
        })
    }
}

/// How an overlay is made.
#[derive(Debug, Clone, Copy, Default)]
pub struct OverlayOptions {
    /// The upper layer is never synced: for containers that are removed when they end.
    pub volatile: bool,
    /// No upper layer: the union of the lowers, read-only.
    pub read_only: bool,
}

/// An overlay of `lowers` (the topmost first) under `upper` with its `work` directory, detached.
///
/// # Errors
/// The step and the kernel's answer.
pub fn overlay(
    lowers: &[Source<'_>],
    upper: Option<(Source<'_>, Source<'_>)>,
    options: OverlayOptions,
) -> Result<OwnedFd, MountError> {
    let fs = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(fail("fsopen overlay"))?;
    let set = |key: &str, value: Source<'_>| -> Result<(), MountError> {
        let text = value.text()?;
        fsconfig_set_string(fs.as_fd(), key, text.as_c_str())
            .map_err(fail(format!("overlay {key}={}", value.path().display())))
    };
    let word = |key: &str, value: &str| {
        fsconfig_set_string(fs.as_fd(), key, value).map_err(fail(format!("overlay {key}={value}")))
    };
    for lower in lowers {
        set("lowerdir+", *lower)?;
    }
    if let Some((upper, work)) = upper {
        set("upperdir", upper)?;
        set("workdir", work)?;
        if options.volatile {
            fsconfig_set_flag(fs.as_fd(), "volatile").map_err(fail("overlay volatile"))?;
        }
    }
    // Commit copies the upper layer as it is, so it may hold nothing that only makes sense
    // together with the lowers (metacopy, redirects) or with this machine (index, xino).
    for key in ["metacopy", "redirect_dir", "index", "xino"] {
        word(key, "off")?;
    }
    fsconfig_create(fs.as_fd()).map_err(fail("overlay create"))?;
    let mut attributes = MountAttrFlags::empty();
    if options.read_only {
        attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY;
    }
    fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes).map_err(fail("overlay mount"))
}

/// The writable layer of a [`mapped_overlay`].
#[derive(Debug, Clone, Copy)]
pub struct MappedLayer<'a> {
    /// Holds both.
    pub dir: &'a Path,
    /// The name of the upper directory in it.
    pub upper: &'a str,
    /// The name of the work directory in it.
    pub work: &'a str,
}

/// As [`overlay`], its files belonging to whom `user`, a user namespace, maps their owners to. No
/// overlay can be mapped, so its layers are. Makes a thread that ends with the call.
///
/// # Errors
/// The step and the kernel's answer.
pub fn mapped_overlay(
    lowers: &[Source<'_>],
    own: MappedLayer<'_>,
    options: OverlayOptions,
    user: BorrowedFd<'_>,
) -> Result<OwnedFd, MountError> {
    let mapped = |source| {
        let mount = bind(source, false)?;
        map_ids(mount.as_fd(), false, user)?;
        Ok(mount)
    };
    let lowers = lowers.iter().map(|lower| mapped(*lower));
    let lowers = lowers.collect::<Result<Vec<OwnedFd>, MountError>>()?;
    // One mount for both: the kernel wants them on the same.
    let dir = mapped(Source::Path(own.dir))?;
    let part = |name: &str| {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(&dir, name, flags, Mode::empty()).map_err(fail(name))
    };
    let (upper, work) = (part(own.upper)?, part(own.work)?);
    // What the kernel makes on behalf of the overlay belongs to whoever mounts it.
    as_container_root(|| {
        stand_on_root(lowers.iter().chain([&dir])).map_err(fail("attach the layers"))?;
        let lowers: Vec<Source<'_>> = lowers.iter().map(|fd| Source::Fd(fd.as_fd())).collect();
        let own = (Source::Fd(upper.as_fd()), Source::Fd(work.as_fd()));
        overlay(&lowers, Some(own), options)
    })
    .unwrap_or_else(|| Err(fail("a thread")(Errno::AGAIN)))
}

/// Attaches detached mounts in a mount namespace that ends with this thread, one upon the other:
/// Linux before 6.15 takes no layer from anywhere else. They are used by their descriptors.
fn stand_on_root<'a>(mounts: impl Iterator<Item = &'a OwnedFd>) -> rustix::io::Result<()> {
    sys::unshare(libc::CLONE_FS | libc::CLONE_NEWNS)?;
    let root = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let private = MountAttr {
        propagation: libc::MS_PRIVATE,
        ..MountAttr::default()
    };
    sys::mount_setattr(root.as_fd(), true, &private)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    for mount in mounts {
        move_mount(mount, "", &root, "", flags)?;
    }
    Ok(())
}

/// A layer: the EROFS `index` over the uncompressed `tar`, both files, read-only, detached.
///
/// # Errors
/// The step and the kernel's answer.
pub fn erofs(index: Source<'_>, tar: Option<Source<'_>>) -> Result<OwnedFd, MountError> {
    let fs = fsopen("erofs", FsOpenFlags::FSOPEN_CLOEXEC).map_err(fail("fsopen erofs"))?;
    let set = |key: &str, value: Source<'_>| -> Result<(), MountError> {
        let text = value.text()?;
        fsconfig_set_string(fs.as_fd(), key, text.as_c_str())
            .map_err(fail(format!("erofs {key}={}", value.path().display())))
    };
    set("source", index)?;
    if let Some(tar) = tar {
        set("device", tar)?;
    }
    // Without it every page of a layer is cached twice: in the layer and in the file below.
    fsconfig_set_flag(fs.as_fd(), "directio").map_err(fail("erofs directio"))?;
    fsconfig_set_flag(fs.as_fd(), "ro").map_err(fail("erofs ro"))?;
    fsconfig_create(fs.as_fd()).map_err(fail("erofs create"))?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY;
    fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes).map_err(fail("erofs mount"))
}

/// A detached copy of the mount at `source`, with those below it if `recursive`.
///
/// # Errors
/// The step and the kernel's answer.
pub fn bind(source: Source<'_>, recursive: bool) -> Result<OwnedFd, MountError> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    let made = match source {
        Source::Path(path) => open_tree(rustix::fs::CWD, path, flags),
        Source::Fd(fd) => open_tree(fd, "", flags | OpenTreeFlags::AT_EMPTY_PATH),
    };
    made.map_err(fail(format!("bind {}", source.path().display())))
}

/// Makes a detached mount read-only, and those below it.
///
/// # Errors
/// The kernel's answer.
pub fn make_read_only(mount: BorrowedFd<'_>) -> Result<(), MountError> {
    let attr = MountAttr {
        set: libc::MOUNT_ATTR_RDONLY,
        ..MountAttr::default()
    };
    sys::mount_setattr(mount, true, &attr).map_err(fail("mount_setattr read-only"))
}

/// Makes the files of a detached mount, and of those below it if `recursive`, belong to whom `user`,
/// a user namespace, maps their owners to. All of them or none.
///
/// # Errors
/// The kernel's answer: `EINVAL` for a file system that cannot, or a mount that is mapped already.
pub fn map_ids(
    mount: BorrowedFd<'_>,
    recursive: bool,
    user: BorrowedFd<'_>,
) -> Result<(), MountError> {
    let attr = MountAttr {
        set: libc::MOUNT_ATTR_IDMAP,
        userns_fd: u64::try_from(user.as_raw_fd()).unwrap_or(u64::MAX),
        ..MountAttr::default()
    };
    sys::mount_setattr(mount, recursive, &attr).map_err(fail("mount_setattr idmap"))
}

/// Reads the options of `--tmpfs DEST:OPTIONS`, as Docker takes them.
///
/// `noexec`, `nosuid` and `nodev` are on unless their opposite is given.
///
/// # Errors
/// The first option that a tmpfs does not have, in Docker's words.
pub fn tmpfs_options(
    text: &str,
) -> Result<(crate::MountFlags, Vec<(String, String)>), UnknownTmpfsOption> {
    let mut flags = crate::MountFlags {
        nosuid: true,
        nodev: true,
        noexec: true,
        ..Default::default()
    };
    let mut options = vec![];
    for word in text.split(',').filter(|word| !word.is_empty()) {
        match word {
            "rw" | "defaults" | "async" | "atime" | "diratime" | "relatime" | "norelatime"
            | "strictatime" | "nostrictatime" | "noatime" | "nodiratime" | "private"
            | "rprivate" => {}
            "ro" => flags.read_only = true,
            "suid" => flags.nosuid = false,
            "nosuid" => flags.nosuid = true,
            "dev" => flags.nodev = false,
            "nodev" => flags.nodev = true,
            "exec" => flags.noexec = false,
            "noexec" => flags.noexec = true,
            _ => match word.split_once('=') {
                Some((key, value))
                    if [
                        "size",
                        "mode",
                        "uid",
                        "gid",
                        "nr_inodes",
                        "nr_blocks",
                        "mpol",
                        "huge",
                    ]
                    .contains(&key) =>
                {
                    options.push((key.to_owned(), value.to_owned()));
                }
                _ => {
                    let name = word.split('=').next().unwrap_or_default();
                    return Err(UnknownTmpfsOption(name.to_owned()));
                }
            },
        }
    }
    Ok((flags, options))
}

/// An option that a tmpfs does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid tmpfs option \"{0}\"")]
pub struct UnknownTmpfsOption(pub String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tmpfs_options_have_dockers_defaults() {
        let (flags, options) = tmpfs_options("rw,exec,size=64m,mode=1777").unwrap();
        assert!(flags.nosuid && flags.nodev && !flags.noexec && !flags.read_only);
        assert_eq!(options[0], ("size".to_owned(), "64m".to_owned()));
        assert_eq!(options.len(), 2);
        assert_eq!(tmpfs_options("size=1,bogus").unwrap_err().0, "bogus");
    }
}
