//! From the engine's root to the container's user, and into its program.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use super::inside::{Place, Root};
use super::report::Gate;
use super::terminal::Terminal;
use super::user::Identity;
use super::{Step, init, limits, lookup};
use crate::sys::{self, CStrings};
use crate::{CONTAINER_IDS, Capabilities, FailureKind, ProcessSpec, StartError};

const CAP_SYS_ADMIN: u64 = 1 << 21;

/// Everything the last steps need; all of it checked before the gate.
pub struct Final<'a> {
    pub root: Root,
    pub process: &'a ProcessSpec,
    pub identity: Identity,
    pub filter: &'a [u8],
    /// In a user namespace of the container's own: the launcher sets the limits, which nobody can
    /// raise in one, and not every id is somebody.
    pub maps_ids: bool,
    /// `lighter-enter`, if it is to stay as init.
    pub program: Option<OwnedFd>,
}

/// The standard streams to be.
pub enum Streams {
    Terminal(Terminal),
    Files([OwnedFd; 3]),
}

impl Final<'_> {
    /// Passes the gate and becomes the program. Returns only if that failed.
    pub fn run(self, streams: Streams, gate: &Gate) -> Step<()> {
        let (files, master) = match streams {
            Streams::Terminal(Terminal { master, slave }) => (vec![slave], Some(master)),
            Streams::Files(files) => (files.into(), None),
        };
        let terminal = master.is_some();
        if !gate.pass(master) {
            // The engine is dead; whoever comes next starts the container anew.
            std::process::exit(255);
        }
        self.session(&files, terminal)?;
        drop(files);
        if !self.maps_ids {
            limits::set(&self.process.rlimits)?;
        }
        let argv = self.become_user()?;
        self.execute(&argv, gate)
    }

    fn session(&self, files: &[OwnedFd], terminal: bool) -> Step<()> {
        let fail = |errno| StartError::kernel("stdio", errno, "set up the standard streams");
        rustix::process::setsid().map_err(fail)?;
        for (number, at) in [(0, 0), (1, 1), (2, 2)] {
            let file = files
                .get(at)
                .or(files.first())
                .ok_or_else(|| fail(Errno::BADF))?;
            own_stream(file, self.identity.uid).map_err(fail)?;
            sys::dup_to(file.as_fd(), number).map_err(fail)?;
        }
        if terminal {
            rustix::process::ioctl_tiocsctty(rustix::stdio::stdin()).map_err(fail)?;
        }
        // Without a keyring of its own the process would share the engine's. A kernel without
        // keyrings, or a used up quota, is no reason not to start.
        let _ = sys::new_session_keyring();
        sys::reset_signals();
        rustix::process::umask(Mode::from_raw_mode(0o022));
        Ok(())
    }

    /// Changes user and capabilities, and finds the program as that user.
    fn become_user(&self) -> Step<Vec<String>> {
        let fail = |what: &'static str| move |errno| StartError::kernel("user", errno, what);
        let (_, permitted, _) = sys::capget().map_err(fail("capget"))?;
        let wanted = self.process.capabilities;
        for number in 0..64 {
            if wanted.bounding >> number & 1 == 0 && sys::bounding_has(number) {
                sys::bounding_drop(number).map_err(fail("drop a bounding capability"))?;
            }
        }
        let identity = &self.identity;
        if self.maps_ids {
            must_be_mapped(identity)?;
        }
        let groups: Vec<Gid> = identity
            .groups
            .iter()
            .map(|gid| Gid::from_raw(*gid))
            .collect();
        let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
        set_thread_groups(&groups).map_err(fail("setgroups"))?;
        set_thread_res_gid(gid, gid, gid).map_err(fail("setgid"))?;
        sys::keep_capabilities(true).map_err(fail("keep capabilities"))?;
        set_thread_res_uid(uid, uid, uid).map_err(fail("setuid"))?;
        sys::keep_capabilities(false).map_err(fail("keep capabilities"))?;
        if self.process.no_new_privileges {
            sys::no_new_privileges().map_err(fail("no_new_privs"))?;
        }
        // A capability that this machine does not have cannot be given.
        let (effective, kept) = (wanted.effective & permitted, wanted.permitted & permitted);
        // Installing the filter takes CAP_SYS_ADMIN; it stays permitted until then, not effective.
        let held = if self.filter_needs_admin() {
            permitted & CAP_SYS_ADMIN
        } else {
            0
        };
        sys::capset(
            effective & kept,
            kept | held,
            wanted.inheritable & permitted,
        )
        .map_err(fail("capset"))?;
        self.stand_in_cwd()?;
        if self.program.is_some() {
            return Ok(init::arguments(&self.process.args));
        }
        let mut argv = self.process.args.clone();
        let name = argv.first().map(String::as_str).unwrap_or_default();
        let path = lookup::program(name, &self.process.env)?;
        argv.insert(0, path);
        Ok(argv)
    }

    const fn filter_needs_admin(&self) -> bool {
        !self.filter.is_empty() && !self.process.no_new_privileges
    }

    /// A directory that only the user may enter is entered now; and wherever we stand, it must be
    /// inside the root (CVE-2024-21626).
    fn stand_in_cwd(&self) -> Step<()> {
        let fail = |errno| cwd_error(&self.process.cwd, errno);
        let directory = match rustix::process::getcwd(vec![]) {
            Ok(here) if here.as_bytes() != b"/" || matches!(&*self.process.cwd, "" | "/") => here,
            _ => {
                let flags = OFlags::PATH | OFlags::DIRECTORY;
                let directory = self.root.open(&self.process.cwd, flags).map_err(fail)?;
                rustix::process::fchdir(&directory).map_err(fail)?;
                rustix::process::getcwd(vec![]).map_err(fail)?
            }
        };
        if directory.as_bytes().first() == Some(&b'/') {
            return Ok(());
        }
        Err(StartError::new(
            "cwd",
            FailureKind::Kernel,
            "current working directory is outside of container mount namespace root -- possible \
             container breakout detected",
        ))
    }

    /// The filter, the last capabilities, the exec: nothing else may come between them.
    fn execute(&self, argv: &[String], gate: &Gate) -> Step<()> {
        let fail = |what: &'static str| move |errno| StartError::kernel("exec", errno, what);
        let invalid = || fail("arguments")(Errno::INVAL);
        let (path, argv) = argv.split_first().ok_or_else(invalid)?;
        let mut env = self.process.env.clone();
        if !env
            .iter()
            .any(|entry| entry.strip_prefix("HOME=").is_some_and(|h| !h.is_empty()))
        {
            env.retain(|entry| entry != "HOME=");
            env.push(format!("HOME={}", self.identity.home));
        }
        let path_text = CString::new(path.as_str()).map_err(|_| invalid())?;
        let argv = CStrings::new(argv).ok_or_else(invalid)?;
        let env = CStrings::new(&env).ok_or_else(invalid)?;
        let Capabilities {
            effective,
            permitted,
            inheritable,
            ambient,
            ..
        } = self.process.capabilities;
        let (_, available, _) = sys::capget().map_err(fail("capget"))?;
        let install =
            || sys::seccomp_filter(self.filter).map_err(fail("install the system call filter"));
        gate.executing();
        if self.filter_needs_admin() {
            sys::capset(
                (effective & permitted | CAP_SYS_ADMIN) & available,
                available,
                inheritable & available,
            )
            .map_err(fail("capset"))?;
            install()?;
        }
        sys::capset(
            effective & permitted & available,
            permitted & available,
            inheritable & available,
        )
        .map_err(fail("capset"))?;
        sys::ambient_clear().map_err(fail("clear ambient capabilities"))?;
        for number in (0..64).filter(|number| ambient & available >> number & 1 == 1) {
            sys::ambient_raise(number).map_err(fail("raise an ambient capability"))?;
        }
        // Where no privilege is needed for it, the filter comes last: it then need not let through
        // what the lines above do.
        if !self.filter.is_empty() && !self.filter_needs_admin() {
            install()?;
        }
        let errno = match &self.program {
            Some(program) => sys::execveat(program.as_fd(), c"", &argv, &env),
            None => sys::execve(&path_text, &argv, &env),
        };
        // From here on the container counts as started, as with Docker: the word goes where the
        // program's own would.
        let text = format!("exec {path}: {}\n", sys::errno_text(errno));
        let _ = rustix::io::write(rustix::stdio::stderr(), text.as_bytes());
        std::process::exit(255)
    }
}

/// Refuses ids beyond those of the user namespace, in docker's words.
fn must_be_mapped(identity: &Identity) -> Step<()> {
    let text = if CONTAINER_IDS.outside(identity.uid).is_none() {
        "cannot set uid to unmapped user in user namespace"
    } else if CONTAINER_IDS.outside(identity.gid).is_none() {
        "cannot set gid to unmapped user in user namespace"
    } else if identity
        .groups
        .iter()
        .any(|gid| CONTAINER_IDS.outside(*gid).is_none())
    {
        "setgroups: invalid argument"
    } else {
        return Ok(());
    };
    let text = format!("unable to setup user: {text}");
    Err(StartError::new("user", FailureKind::Kernel, text))
}

/// Goes to the working directory as root, which must be possible before the user is known;
/// `make` makes a missing one.
pub fn enter_cwd(root: &Root, cwd: &str, make: bool) -> Step<()> {
    let fail = |errno| cwd_error(cwd, errno);
    let cwd = if cwd.is_empty() { "/" } else { cwd };
    let directory = if make {
        root.place(cwd, Place::Directory)
    } else {
        root.open(cwd, OFlags::PATH | OFlags::DIRECTORY)
    }
    .map_err(fail)?;
    match rustix::process::fchdir(&directory) {
        // A file server may refuse root and let the user in.
        Ok(()) | Err(Errno::ACCESS) => Ok(()),
        Err(errno) => Err(fail(errno)),
    }
}

fn cwd_error(cwd: &str, errno: Errno) -> StartError {
    StartError::kernel(
        "cwd",
        errno,
        format!("chdir to cwd ({cwd:?}) set in config.json failed"),
    )
}

/// Lets the user open its own standard streams again by name (`/dev/stdout`), as Docker does.
fn own_stream(file: &OwnedFd, uid: u32) -> rustix::io::Result<()> {
    let stat = rustix::fs::fstat(file)?;
    if stat.st_uid == uid || stat.st_rdev == rustix::fs::makedev(1, 3) {
        return Ok(());
    }
    match rustix::fs::fchown(file, Some(Uid::from_raw(uid)), None) {
        // Sockets, and files of a read-only or foreign file system.
        Err(Errno::INVAL | Errno::PERM | Errno::ROFS) => Ok(()),
        other => other,
    }
}
