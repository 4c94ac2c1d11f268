//! The floor of a container's start: what the kernel alone takes for it.
//!
//! The same namespaces, mounts, group, capabilities, filter, exec and reaping as a container of the engine's, with as
//! many flushes of a file as the engine's database makes, and nothing else: no API, no record, no log, no process
//! that looks after it. Nobody can give a container the same walls in less.
//!
//! Run by `cargo xtask bench engine` as a program of its own ([`serve`]), since it forks. It needs root.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, BufRead as _, Write as _};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use lighter_runtime::{caps, defaults, seccomp};

/// What the container runs: this machine's static busybox.
const PROGRAM: &str = "/bin/busybox";
/// Files of the container's own that are bound over those of its image.
const FILES: [&str; 3] = ["hostname", "hosts", "resolv.conf"];
/// Bytes that a change of the engine's database adds to its log, about.
const RECORD: usize = 8 << 10;

const CLOSED: libc::c_ulong = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;

/// Answers each line on standard input with the time that one container took from nothing to nothing, in
/// microseconds.
///
/// # Errors
///
/// When a container cannot be made as it should be.
pub fn serve() -> Result<()> {
    let mut floor = Floor::new()?;
    for line in io::stdin().lock().lines() {
        line?;
        let start = Instant::now();
        floor.life()?;
        println!("{}", start.elapsed().as_micros());
        io::stdout().flush()?;
    }
    Ok(())
}

struct Floor {
    dir: tempfile::TempDir,
    groups: PathBuf,
    filter: Vec<u8>,
    flushed: File,
}

impl Floor {
    fn new() -> Result<Self> {
        // SAFETY: `unshare` and `mount` read their arguments only; this process has one thread.
        let private = unsafe {
            libc::unshare(libc::CLONE_NEWNS) == 0
                && libc::mount(
                    c"none".as_ptr(),
                    c"/".as_ptr(),
                    std::ptr::null(),
                    libc::MS_REC | libc::MS_PRIVATE,
                    std::ptr::null(),
                ) == 0
        };
        ensure!(private, "mounts of its own: {}", io::Error::last_os_error());
        // Where the engines that it is measured beside have their data.
        let dir = tempfile::Builder::new()
            .prefix("floor")
            .tempdir_in("/tmp")?;
        let lower = dir.path().join("lower");
        for folder in ["bin", "dev", "etc", "proc", "sys"] {
            std::fs::create_dir_all(lower.join(folder))?;
        }
        std::fs::copy(PROGRAM, lower.join("bin/true")).context(PROGRAM)?;
        for name in FILES {
            std::fs::write(lower.join("etc").join(name), "")?;
        }
        let mounts = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].map(Path::new);
        let mount = mounts.into_iter().find(|mount| mount.is_dir());
        let groups = mount
            .context("no cgroup2")?
            .join(format!("lighter-floor-{}", std::process::id()));
        std::fs::create_dir(&groups)?;
        let filter = seccomp::default_filter(caps::DEFAULT)?;
        let flushed = File::create(dir.path().join("flushed"))?;
        Ok(Self {
            dir,
            groups,
            filter: filter[seccomp::FLAGS_LENGTH..].to_vec(),
            flushed,
        })
    }

    /// One container: made, recorded, run, reaped, removed, recorded.
    fn life(&mut self) -> Result<()> {
        let own = self.dir.path().join("container");
        for folder in ["upper", "work", "root"] {
            std::fs::create_dir_all(own.join(folder))?;
        }
        for name in FILES {
            std::fs::write(own.join(name), "localhost\n")?;
        }
        self.flush()?;
        let group = self.groups.join("container");
        std::fs::create_dir(&group)?;
        let directory = File::open(&group)?;
        let pid = self.start(&own, &directory)?;
        let mut status = 0;
        // SAFETY: `status` lives until the call returns.
        let ended = unsafe { libc::waitpid(pid, &raw mut status, 0) };
        ensure!(
            ended == pid && status == 0,
            "the container ended with {status:#x}"
        );
        std::fs::remove_dir(&group)?;
        std::fs::remove_dir_all(&own)?;
        self.flush()
    }

    fn flush(&mut self) -> Result<()> {
        self.flushed.write_all(&[1; RECORD])?;
        Ok(self.flushed.sync_data()?)
    }

    fn start(&self, own: &Path, group: &File) -> Result<libc::pid_t> {
        let inside = Inside::new(self.dir.path(), own, &self.filter)?;
        let arguments = CloneArgs {
            flags: (libc::CLONE_NEWNS
                | libc::CLONE_NEWPID
                | libc::CLONE_NEWNET
                | libc::CLONE_NEWIPC
                | libc::CLONE_NEWUTS) as u64
                | CLONE_INTO_CGROUP,
            exit_signal: libc::SIGCHLD as u64,
            cgroup: group.as_raw_fd() as u64,
            ..CloneArgs::default()
        };
        // SAFETY: without CLONE_VM and without a stack it is a fork; this process has one thread, so
        // the child may do whatever the parent may.
        let pid = unsafe {
            libc::syscall(
                libc::SYS_clone3,
                &raw const arguments,
                size_of::<CloneArgs>(),
            )
        };
        match pid {
            0 => inside.enter(),
            1.. => Ok(libc::pid_t::try_from(pid)?),
            _ => Err(io::Error::last_os_error()).context("clone3"),
        }
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.groups);
    }
}

const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// The kernel's `struct clone_args`, version 2.
#[repr(C, align(8))]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// What the container's first process does before it is that.
struct Inside<'a> {
    root: CString,
    overlay: CString,
    binds: Vec<(CString, CString)>,
    filter: &'a [u8],
}

impl<'a> Inside<'a> {
    fn new(dir: &Path, own: &Path, filter: &'a [u8]) -> Result<Self> {
        let path = |path: &Path| CString::new(path.as_os_str().as_bytes());
        let overlay = format!(
            "lowerdir={},upperdir={},workdir={}",
            dir.join("lower").display(),
            own.join("upper").display(),
            own.join("work").display()
        );
        let bind = |name: &str| {
            Ok((
                path(&own.join(name))?,
                path(&own.join("root/etc").join(name))?,
            ))
        };
        Ok(Self {
            root: path(&own.join("root"))?,
            overlay: CString::new(overlay)?,
            binds: FILES.map(bind).into_iter().collect::<Result<_>>()?,
            filter,
        })
    }

    fn enter(&self) -> ! {
        let error = self.try_enter().unwrap_err();
        eprintln!("the floor's container: {error}");
        std::process::exit(1)
    }

    /// Returns only if something fails.
    fn try_enter(&self) -> io::Result<std::convert::Infallible> {
        mount(c"overlay", &self.root, c"overlay", 0, &self.overlay)?;
        for (from, to) in &self.binds {
            mount(from, to, c"", libc::MS_BIND, c"")?;
        }
        std::env::set_current_dir(self.root.to_str().unwrap_or_default())?;
        kernel_mounts()?;
        // As every container with a network of its own has them.
        for (name, value) in defaults::network_sysctls() {
            std::fs::write(format!("proc/sys/{}", name.replace('.', "/")), value)?;
        }
        // SAFETY: the paths are constants that end with NUL.
        check(unsafe { libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) })?;
        // SAFETY: as above.
        check(unsafe { libc::umount2(c".".as_ptr(), libc::MNT_DETACH) }.into())?;
        std::env::set_current_dir("/")?;
        hide()?;
        // SAFETY: the name is a constant of that length.
        check(unsafe { libc::sethostname(c"floor".as_ptr(), 5) }.into())?;
        self.confine()?;
        let arguments = [c"true".as_ptr(), std::ptr::null()];
        let environment = [std::ptr::null()];
        // SAFETY: both lists end with a null pointer and live until the call returns.
        unsafe {
            libc::execve(
                c"/bin/true".as_ptr(),
                arguments.as_ptr(),
                environment.as_ptr(),
            )
        };
        Err(io::Error::last_os_error())
    }

    /// The filter, while there is still the right to it, and then the capabilities.
    fn confine(&self) -> io::Result<()> {
        let program = libc::sock_fprog {
            len: u16::try_from(self.filter.len() / size_of::<libc::sock_filter>())
                .map_err(io::Error::other)?,
            filter: self.filter.as_ptr().cast_mut().cast(),
        };
        // SAFETY: the program is as long as it says and lives until the call returns.
        check(unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER,
                0,
                &raw const program,
            )
        })?;
        for number in (0..64).filter(|number| caps::DEFAULT >> number & 1 == 0) {
            // SAFETY: numbers only.
            if unsafe { libc::prctl(libc::PR_CAPBSET_READ, number, 0, 0, 0) } == 1 {
                // SAFETY: numbers only.
                check(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, number, 0, 0, 0) }.into())?;
            }
        }
        let header = [0x2008_0522_u32, 0];
        let [low, high] = [caps::DEFAULT as u32, (caps::DEFAULT >> 32) as u32];
        let sets = [low, low, 0, high, high, 0];
        // SAFETY: version 3 of the call reads two words and six.
        check(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()) })
    }
}

/// What the kernel shows in a container, relative to its root, which is the current directory.
fn kernel_mounts() -> io::Result<()> {
    mount(c"proc", c"proc", c"proc", CLOSED, c"")?;
    mount(
        c"tmpfs",
        c"dev",
        c"tmpfs",
        libc::MS_NOSUID,
        c"mode=755,size=65536k",
    )?;
    for (name, major, minor) in [
        (c"dev/null", 1, 3),
        (c"dev/zero", 1, 5),
        (c"dev/full", 1, 7),
        (c"dev/random", 1, 8),
        (c"dev/urandom", 1, 9),
        (c"dev/tty", 5, 0),
    ] {
        let device = libc::makedev(major, minor);
        // SAFETY: the path is a constant that ends with NUL.
        check(unsafe { libc::mknod(name.as_ptr(), libc::S_IFCHR | 0o666, device) }.into())?;
    }
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("core", "/proc/kcore"),
        ("ptmx", "pts/ptmx"),
    ] {
        std::os::unix::fs::symlink(target, Path::new("dev").join(name))?;
    }
    for name in ["dev/pts", "dev/shm", "dev/mqueue"] {
        std::fs::create_dir(name)?;
    }
    let pts = c"newinstance,ptmxmode=0666,mode=0620,gid=5";
    mount(
        c"devpts",
        c"dev/pts",
        c"devpts",
        libc::MS_NOSUID | libc::MS_NOEXEC,
        pts,
    )?;
    mount(
        c"shm",
        c"dev/shm",
        c"tmpfs",
        CLOSED,
        c"mode=1777,size=65536k",
    )?;
    mount(c"mqueue", c"dev/mqueue", c"mqueue", CLOSED, c"")?;
    mount(c"sysfs", c"sys", c"sysfs", CLOSED | libc::MS_RDONLY, c"")?;
    // SAFETY: a number only.
    check(unsafe { libc::unshare(libc::CLONE_NEWCGROUP) }.into())?;
    mount(
        c"cgroup",
        c"sys/fs/cgroup",
        c"cgroup2",
        CLOSED | libc::MS_RDONLY,
        c"",
    )
}

/// Masks and read-only paths, those that are there.
fn hide() -> io::Result<()> {
    for path in defaults::MASKED_PATHS {
        let Ok(what) = std::fs::metadata(path) else {
            continue;
        };
        let place = CString::new(path)?;
        if what.is_dir() {
            mount(c"tmpfs", &place, c"tmpfs", libc::MS_RDONLY, c"size=0k")?;
        } else {
            mount(c"/dev/null", &place, c"", libc::MS_BIND, c"")?;
        }
    }
    for path in defaults::READONLY_PATHS {
        let place = CString::new(path)?;
        if Path::new(path).exists() {
            mount(&place, &place, c"", libc::MS_BIND | libc::MS_REC, c"")?;
            let flags = libc::MS_BIND | libc::MS_REMOUNT | libc::MS_RDONLY | CLOSED;
            mount(c"", &place, c"", flags, c"")?;
        }
    }
    Ok(())
}

fn mount(
    source: &CStr,
    target: &CStr,
    kind: &CStr,
    flags: libc::c_ulong,
    data: &CStr,
) -> io::Result<()> {
    // SAFETY: every pointer is to a string that ends with NUL and lives until the call returns.
    let done = unsafe {
        libc::mount(
            source.as_ptr(),
            target.as_ptr(),
            kind.as_ptr(),
            flags,
            data.as_ptr().cast(),
        )
    };
    check(done.into()).map_err(|error| {
        io::Error::new(
            error.kind(),
            format!("mount of {}: {error}", target.to_string_lossy()),
        )
    })
}

fn check(result: libc::c_long) -> io::Result<()> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
