//! Control groups, version 2 only: one group a container.
//!
//! Called by the launcher (make, limit, device filter) and by the engine (freeze, kill, stats,
//! OOM events, remove). A controller that the kernel does not offer is a [`Warning`], not an
//! error: the container runs without that limit.
//!
//! Files are opened below the group's directory descriptor; names come from this module alone.

mod bpf;
mod devices;
mod limits;
mod listens;
mod names;
mod stats;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Access, AtFlags, Mode, OFlags};
use rustix::io::Errno;

pub use listens::ListenSignal;
pub use names::NameRedirect;
pub use stats::{CpuStats, DeviceIo, MemoryStats, PidsStats, Stats};

use devices::FilterCache;

/// Controllers a container may be limited by.
const CONTROLLERS: [&str; 6] = ["cpu", "cpuset", "io", "memory", "pids", "hugetlb"];

/// How deep groups may lie below a container's: it may make its own (an init system, Docker in
/// Docker), and whoever walks them here does so by recursion.
const DEPTH: u32 = 64;

/// A step on a cgroup that failed.
#[derive(Debug, thiserror::Error)]
#[error("cgroup {}: {step}: {}", path.display(), crate::sys::errno_text(*errno))]
pub struct CgroupError {
    /// What was done.
    pub step: String,
    /// The group.
    pub path: PathBuf,
    /// The kernel's answer.
    pub errno: Errno,
}

/// Something asked for that this machine does not offer; the container runs without.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning(pub String);

/// The group below which every container's group lies.
#[derive(Debug)]
pub struct CgroupRoot {
    path: PathBuf,
    directory: OwnedFd,
    controllers: Vec<String>,
    filters: Arc<Mutex<FilterCache>>,
}

/// One container's group.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    directory: OwnedFd,
}

/// Tells of out-of-memory kills in a group.
///
/// The descriptor becomes ready for priority events (`POLLPRI`) whenever a counter has changed.
#[derive(Debug)]
pub struct OomWatch {
    file: OwnedFd,
}

impl CgroupRoot {
    /// Opens (and makes where missing) the group at `path` on a cgroup2 mount and hands every
    /// controller that is there down to it.
    ///
    /// # Errors
    /// `path` is not on a cgroup2 file system, or cannot be made.
    pub fn open(path: &Path) -> Result<(Self, Vec<Warning>), CgroupError> {
        let fail = |step: &str, errno| CgroupError {
            step: step.to_owned(),
            path: path.to_owned(),
            errno,
        };
        let mut made = vec![];
        for part in path.ancestors().collect::<Vec<_>>().into_iter().rev() {
            if is_cgroup2(part) {
                made.push(part);
            } else if let Some(parent) = part.parent()
                && made.contains(&parent)
            {
                ignore_exists(rustix::fs::mkdir(part, Mode::from_bits_truncate(0o755)))
                    .map_err(|errno| fail("mkdir", errno))?;
                made.push(part);
            }
        }
        if made.last() != Some(&path) {
            return Err(fail("not on a cgroup2 file system", Errno::NODEV));
        }
        for part in &made {
            let directory = open_directory(part).map_err(|errno| fail("open", errno))?;
            enable_controllers(&directory);
        }
        let directory = open_directory(path).map_err(|errno| fail("open", errno))?;
        let controllers: Vec<String> = read_file(directory.as_fd(), "cgroup.subtree_control")
            .map_err(|errno| fail("read cgroup.subtree_control", errno))?
            .split_whitespace()
            .map(str::to_owned)
            .collect();
        let warnings = CONTROLLERS
            .iter()
            .filter(|name| !controllers.iter().any(|there| there == *name))
            .map(|name| Warning(format!("cgroup controller {name} is not available")))
            .collect();
        let filters = Arc::new(Mutex::new(FilterCache::default()));
        Ok((
            Self {
                path: path.to_owned(),
                directory,
                controllers,
                filters,
            },
            warnings,
        ))
    }

    /// The path the groups lie below.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The controllers that limits can be set by.
    #[must_use]
    pub fn controllers(&self) -> &[String] {
        &self.controllers
    }

    /// Whether the kernel has weights for block devices; it need not, even with the controller for their limits.
    #[must_use]
    pub fn has_io_weight(&self) -> bool {
        rustix::fs::accessat(
            &self.directory,
            "io.weight",
            Access::EXISTS,
            AtFlags::empty(),
        )
        .is_ok()
    }

    /// Makes the group `name`, below `parent` (a relative path) if given.
    ///
    /// An empty group of that name, left by a dead container, is replaced.
    ///
    /// # Errors
    /// A name with empty, `.` or `..` parts, a group of that name with processes in it, or the
    /// kernel's refusal.
    pub fn create(&self, parent: Option<&str>, name: &str) -> Result<Cgroup, CgroupError> {
        let relative = self.relative(parent, name)?;
        let mut path = self.path.clone();
        let mut directory = self
            .directory
            .as_fd()
            .try_clone_to_owned()
            .map_err(|error| {
                self.fail("open", Errno::from_io_error(&error).unwrap_or(Errno::MFILE))
            })?;
        let last = relative.len() - 1;
        for (at, part) in relative.iter().enumerate() {
            path.push(part);
            let fail = |step: &str, errno| CgroupError {
                step: step.to_owned(),
                path: path.clone(),
                errno,
            };
            let mode = Mode::from_bits_truncate(0o755);
            let mut made = rustix::fs::mkdirat(&directory, *part, mode);
            if at == last && made == Err(Errno::EXIST) {
                // Left by a dead container: a fresh one has no limits and filters from before.
                // One with live processes refuses to go, and is not ours to share.
                rustix::fs::unlinkat(&directory, *part, AtFlags::REMOVEDIR)
                    .map_err(|errno| fail("remove the group of that name", errno))?;
                made = rustix::fs::mkdirat(&directory, *part, mode);
            }
            ignore_exists(made).map_err(|errno| fail("mkdir", errno))?;
            directory = rustix::fs::openat(&directory, *part, DIRECTORY, Mode::empty())
                .map_err(|errno| fail("open", errno))?;
            if at < last {
                enable_controllers(&directory);
            }
        }
        write_file(directory.as_fd(), "cgroup.max.depth", &DEPTH.to_string()).map_err(|errno| {
            CgroupError {
                step: "bound the depth of groups below".to_owned(),
                path: path.clone(),
                errno,
            }
        })?;
        Ok(Cgroup { path, directory })
    }

    /// The group `create` made before; `None` when it is gone.
    #[must_use]
    pub fn get(&self, parent: Option<&str>, name: &str) -> Option<Cgroup> {
        let relative = self.relative(parent, name).ok()?;
        let path = relative
            .iter()
            .fold(self.path.clone(), |path, part| path.join(part));
        let below: PathBuf = relative.iter().collect();
        let directory =
            rustix::fs::openat(&self.directory, &below, DIRECTORY, Mode::empty()).ok()?;
        Some(Cgroup { path, directory })
    }

    /// Attaches a device filter for `rules` to `group`, before any process is in it.
    ///
    /// # Errors
    /// The kernel has no cgroup BPF, or refused.
    pub fn filter_devices(
        &self,
        group: &Cgroup,
        rules: &[crate::DeviceRule],
    ) -> Result<(), CgroupError> {
        let mut cache = self
            .filters
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let program = cache
            .program(rules)
            .map_err(|e| group.fail("load device filter", e))?;
        devices::attach(group.directory.as_fd(), program.as_fd())
            .map_err(|errno| group.fail("attach device filter", errno))
    }

    fn relative<'a>(
        &self,
        parent: Option<&'a str>,
        name: &'a str,
    ) -> Result<Vec<&'a str>, CgroupError> {
        let parts: Vec<&str> = parent
            .unwrap_or_default()
            .split('/')
            .filter(|part| !part.is_empty())
            .chain(std::iter::once(name))
            .collect();
        let bad = |part: &&str| {
            part.is_empty() || *part == "." || *part == ".." || part.contains(['/', '\0', '\n'])
        };
        if parts.iter().any(bad) {
            return Err(self.fail(&format!("bad group name {name:?}"), Errno::INVAL));
        }
        Ok(parts)
    }

    fn fail(&self, step: &str, errno: Errno) -> CgroupError {
        CgroupError {
            step: step.to_owned(),
            path: self.path.clone(),
            errno,
        }
    }
}

impl Cgroup {
    /// Its path on the machine.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Ids of the processes in it and in groups below it, as this process sees them.
    ///
    /// # Errors
    /// The group is gone.
    pub fn processes(&self) -> Result<Vec<i32>, CgroupError> {
        let mut pids = vec![];
        self.each_group(&mut |directory| {
            let text = read_file(directory, "cgroup.procs")?;
            pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
            Ok(())
        })
        .map_err(|errno| self.fail("read cgroup.procs", errno))?;
        Ok(pids)
    }

    /// Stops every process where it is, and waits until they have stopped.
    ///
    /// # Errors
    /// The kernel refused, or a process did not stop within ten seconds (it sleeps in the
    /// kernel); it is thawed again then.
    pub fn freeze(&self) -> Result<(), CgroupError> {
        self.write("cgroup.freeze", "1")?;
        match self.wait_event("frozen", "1", Duration::from_secs(10)) {
            Ok(()) => Ok(()),
            Err(error) => {
                self.write("cgroup.freeze", "0")?;
                Err(error)
            }
        }
    }

    /// Lets the processes run on.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn thaw(&self) -> Result<(), CgroupError> {
        self.write("cgroup.freeze", "0")
    }

    /// Whether the processes are stopped by [`Cgroup::freeze`].
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        self.event("frozen").is_ok_and(|value| value == "1")
    }

    /// Kills every process in it and below it, frozen ones too.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn kill(&self) -> Result<(), CgroupError> {
        self.write("cgroup.kill", "1")
    }

    /// How many processes the kernel has killed for want of memory, `None` where the memory
    /// controller is missing.
    #[must_use]
    pub fn oom_kills(&self) -> Option<u64> {
        let text = read_file(self.directory.as_fd(), "memory.events").ok()?;
        stats::value_of(&text, "oom_kill")
    }

    /// A watch on out-of-memory kills, `None` where the memory controller is missing.
    ///
    /// # Errors
    /// The group is gone.
    pub fn watch_oom(&self) -> Result<Option<OomWatch>, CgroupError> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.directory, "memory.events", flags, Mode::empty()) {
            Ok(file) => Ok(Some(OomWatch { file })),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.fail("open memory.events", errno)),
        }
    }

    /// Kills what is left in the group, waits for its end and removes it with the groups below.
    ///
    /// Removing what is gone already is no error.
    ///
    /// # Errors
    /// A process would not die within `patience`, or the kernel refused.
    pub fn remove(&self, patience: Duration) -> Result<(), CgroupError> {
        if self.rmdir_all() {
            return Ok(());
        }
        // `cgroup.kill` on an already removed directory answers ENODEV.
        if let Err(error) = self.kill()
            && error.errno != Errno::NODEV
        {
            return Err(error);
        }
        match self.wait_event("populated", "0", patience) {
            Err(error) if error.errno != Errno::NODEV => return Err(error),
            _ => {}
        }
        if self.rmdir_all() {
            Ok(())
        } else {
            Err(self.fail("rmdir", Errno::BUSY))
        }
    }

    fn rmdir_all(&self) -> bool {
        fn below(directory: BorrowedFd<'_>) {
            for name in subdirectories(directory).unwrap_or_default() {
                if let Ok(child) =
                    rustix::fs::openat(directory, name.as_str(), DIRECTORY, Mode::empty())
                {
                    below(child.as_fd());
                }
                let _ = rustix::fs::unlinkat(directory, name.as_str(), AtFlags::REMOVEDIR);
            }
        }
        match rustix::fs::rmdir(&self.path) {
            Ok(()) | Err(Errno::NOENT) => return true,
            Err(_) => below(self.directory.as_fd()),
        }
        matches!(rustix::fs::rmdir(&self.path), Ok(()) | Err(Errno::NOENT))
    }

    fn each_group(
        &self,
        visit: &mut dyn FnMut(BorrowedFd<'_>) -> rustix::io::Result<()>,
    ) -> rustix::io::Result<()> {
        fn walk(
            directory: BorrowedFd<'_>,
            visit: &mut dyn FnMut(BorrowedFd<'_>) -> rustix::io::Result<()>,
        ) -> rustix::io::Result<()> {
            visit(directory)?;
            for name in subdirectories(directory)? {
                match rustix::fs::openat(directory, name.as_str(), DIRECTORY, Mode::empty()) {
                    Ok(child) => walk(child.as_fd(), visit)?,
                    Err(Errno::NOENT) => {}
                    Err(errno) => return Err(errno),
                }
            }
            Ok(())
        }
        walk(self.directory.as_fd(), visit)
    }

    /// Waits until `key` in `cgroup.events` has `value`.
    fn wait_event(&self, key: &str, value: &str, patience: Duration) -> Result<(), CgroupError> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.directory, "cgroup.events", flags, Mode::empty())
            .map_err(|errno| self.fail("open cgroup.events", errno))?;
        let deadline = Instant::now() + patience;
        let step = format!("wait for {key}={value}");
        loop {
            let text = pread_text(file.as_fd()).map_err(|errno| self.fail(&step, errno))?;
            if stats::text_of(&text, key) == Some(value) {
                return Ok(());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(self.fail(&step, Errno::TIMEDOUT));
            }
            let timeout = rustix::time::Timespec::try_from(left).ok();
            match poll(&mut [PollFd::new(&file, PollFlags::PRI)], timeout.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(self.fail(&step, errno)),
            }
        }
    }

    fn event(&self, key: &str) -> rustix::io::Result<String> {
        let text = read_file(self.directory.as_fd(), "cgroup.events")?;
        stats::text_of(&text, key)
            .map(str::to_owned)
            .ok_or(Errno::NODATA)
    }

    fn write(&self, file: &str, value: &str) -> Result<(), CgroupError> {
        write_file(self.directory.as_fd(), file, value)
            .map_err(|errno| self.fail(&format!("write {value:?} to {file}"), errno))
    }

    fn fail(&self, step: &str, errno: Errno) -> CgroupError {
        CgroupError {
            step: step.to_owned(),
            path: self.path.clone(),
            errno,
        }
    }
}

impl AsFd for Cgroup {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

impl OomWatch {
    /// Kills so far; also re-arms the descriptor.
    ///
    /// # Errors
    /// The group has been removed (`ENODEV`).
    pub fn kills(&self) -> io::Result<u64> {
        let text = pread_text(self.file.as_fd())?;
        Ok(stats::value_of(&text, "oom_kill").unwrap_or(0))
    }
}

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC)
    .union(OFlags::NOFOLLOW);

fn open_directory(path: &Path) -> rustix::io::Result<OwnedFd> {
    rustix::fs::open(path, DIRECTORY, Mode::empty())
}

fn is_cgroup2(path: &Path) -> bool {
    const CGROUP2_SUPER_MAGIC: i64 = 0x6367_7270;
    rustix::fs::statfs(path).is_ok_and(|stat| stat.f_type == CGROUP2_SUPER_MAGIC)
}

fn ignore_exists(result: rustix::io::Result<()>) -> rustix::io::Result<()> {
    match result {
        Err(Errno::EXIST) => Ok(()),
        other => other,
    }
}

/// Hands down each controller by itself: one that cannot be (it is bound to a v1 hierarchy, or
/// has a real-time process) must not keep the others away.
fn enable_controllers(directory: &OwnedFd) {
    let there = read_file(directory.as_fd(), "cgroup.controllers").unwrap_or_default();
    let given = read_file(directory.as_fd(), "cgroup.subtree_control").unwrap_or_default();
    for name in there.split_whitespace() {
        if CONTROLLERS.contains(&name) && !given.split_whitespace().any(|has| has == name) {
            let _ = write_file(
                directory.as_fd(),
                "cgroup.subtree_control",
                &format!("+{name}"),
            );
        }
    }
}

fn subdirectories(directory: BorrowedFd<'_>) -> rustix::io::Result<Vec<String>> {
    let mut names = vec![];
    for entry in rustix::fs::Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy();
        if entry.file_type() == rustix::fs::FileType::Directory && name != "." && name != ".." {
            names.push(name.into_owned());
        }
    }
    Ok(names)
}

fn read_file(directory: BorrowedFd<'_>, name: &str) -> rustix::io::Result<String> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(directory, name, flags, Mode::empty())?;
    pread_text(file.as_fd())
}

fn pread_text(file: BorrowedFd<'_>) -> rustix::io::Result<String> {
    // Interface files are small; this bounds even `cgroup.procs` of a fork bomb.
    const LIMIT: usize = 4 << 20;
    let mut text = vec![];
    let mut block = [0; 4096];
    while text.len() < LIMIT {
        match rustix::io::pread(file, &mut block, text.len() as u64) {
            Ok(0) => break,
            Ok(count) => text.extend_from_slice(&block[..count]),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn write_file(directory: BorrowedFd<'_>, name: &str, value: &str) -> rustix::io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(directory, name, flags, Mode::empty())?;
    rustix::io::write(&file, value.as_bytes()).map(drop)
}
