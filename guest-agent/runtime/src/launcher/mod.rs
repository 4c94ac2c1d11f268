//! Starts processes inside walls, from a process with many threads.
//!
//! Called by: the engine, from threads that may block for the milliseconds a start takes.
//! The new process is a child of the caller's parent (PID 1 of the guest), so that it and its
//! exit code survive the engine. Until [`Prepared::start`] it waits at a gate; if the engine dies
//! first, it exits by itself.

mod outside;
mod prepared;
mod program;

use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

pub use prepared::Prepared;

use crate::sys::{self, CStrings, Child, CloneRequest, UserNamespace};
use crate::wire::{self, Numbers, Order, Task};
use crate::{
    Cgroup, CgroupRoot, ContainerSpec, ExecSpec, FailureKind, Namespace, ProcessSpec, Seccomp,
    StartError, Warning, seccomp,
};

/// More compiled filters than this are not kept: clients choose the capability sets.
const FILTERS_KEPT: usize = 64;

/// What a launcher needs to know.
#[derive(Debug, Clone)]
pub struct LauncherConfig {
    /// The program `lighter-enter`, static.
    pub enter_path: PathBuf,
    /// The group below which containers' groups are made, on a cgroup2 mount.
    pub cgroup_root: PathBuf,
}

/// Starts containers and execs. May be shared among threads.
#[derive(Debug)]
pub struct Launcher {
    program: OwnedFd,
    cgroups: CgroupRoot,
    warnings: Vec<Warning>,
    filters: Mutex<HashMap<u64, Arc<Vec<u8>>>>,
}

/// Descriptors a container is made of. They are closed in this process when `prepare` returns.
#[derive(Debug)]
pub struct ContainerFds {
    /// Standard streams; unused with a terminal.
    pub stdio: Stdio,
    /// The root file system: a detached mount, as [`crate::mounts::overlay`] makes it.
    pub rootfs: OwnedFd,
    /// Detached mounts, by the index in [`crate::MountKind::Fd`].
    pub mounts: Vec<OwnedFd>,
    /// Namespaces to join, by the index in [`Namespace::Join`].
    pub namespaces: Vec<OwnedFd>,
}

/// Standard streams of a process; `None` is the container's null device.
#[derive(Debug, Default)]
pub struct Stdio {
    /// Descriptor 0.
    pub stdin: Option<OwnedFd>,
    /// Descriptor 1.
    pub stdout: Option<OwnedFd>,
    /// Descriptor 2.
    pub stderr: Option<OwnedFd>,
}

/// Where `lighter-enter` begins.
#[derive(Clone, Copy)]
struct Born<'a> {
    /// `CLONE_NEW*` of its new namespaces.
    namespaces: u64,
    cgroup: BorrowedFd<'a>,
    /// A process whose PID namespace is its own.
    pid_of: Option<BorrowedFd<'a>>,
    /// The user namespace it is the root of.
    user: Option<BorrowedFd<'a>>,
}

/// The container an exec goes into.
#[derive(Debug, Clone, Copy)]
pub struct ExecTarget<'a> {
    /// Its first process, alive.
    pub pidfd: BorrowedFd<'a>,
    /// Its group.
    pub cgroup: &'a Cgroup,
    /// Its user namespace, if it has one.
    pub user: Option<BorrowedFd<'a>>,
}

impl Launcher {
    /// Opens the program and the cgroup tree; once per engine.
    ///
    /// # Errors
    /// Which of the two is not usable, and why.
    pub fn open(config: &LauncherConfig) -> Result<Self, StartError> {
        let program = program::open(&config.enter_path)?;
        let (cgroups, warnings) = CgroupRoot::open(&config.cgroup_root)?;
        Ok(Self {
            program,
            cgroups,
            warnings,
            filters: Mutex::default(),
        })
    }

    /// The tree of groups.
    #[must_use]
    pub const fn cgroups(&self) -> &CgroupRoot {
        &self.cgroups
    }

    /// What this machine does not offer, for `docker info`.
    #[must_use]
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// Makes a container's group and its first process, which sets itself up and waits.
    ///
    /// With a terminal this waits for the set-up, to hand out the terminal's master; else a
    /// failure of the set-up comes from [`Prepared::start`]. Blocks.
    ///
    /// # Errors
    /// Nothing is left behind then: no process, no group.
    pub fn prepare(&self, spec: &ContainerSpec, fds: ContainerFds) -> Result<Prepared, StartError> {
        check(spec, &fds)?;
        let filter = self.filter(&spec.process)?;
        let cgroup = self
            .cgroups
            .create(spec.cgroup_parent.as_deref(), &spec.id)?;
        let made = self.prepare_in(&cgroup, spec, &fds, &filter);
        // The container's ends of pipes must not stay open here.
        drop(fds);
        match made {
            Ok((child, socket, warnings)) => {
                let limits = spec.namespaces.maps_ids().then_some(&*spec.process.rlimits);
                let terminal = spec.process.terminal.is_some();
                let prepared = Prepared::new(child, socket, Some(cgroup), limits, terminal)?;
                Ok(prepared.warning(warnings))
            }
            Err(error) => {
                // What is in it, if anything, waits at its gate.
                let _ = cgroup.remove(std::time::Duration::from_secs(5));
                Err(error)
            }
        }
    }

    fn prepare_in(
        &self,
        cgroup: &Cgroup,
        spec: &ContainerSpec,
        fds: &ContainerFds,
        filter: &[u8],
    ) -> Result<(Child, OwnedFd, Vec<Warning>), StartError> {
        let warnings = cgroup.apply(&spec.resources)?;
        self.cgroups.filter_devices(cgroup, &spec.device_rules)?;
        let namespaces = &spec.namespaces;
        let joined = |namespace: Namespace| match namespace {
            Namespace::Join(index) => fds.namespaces.get(index).map(AsFd::as_fd),
            _ => None,
        };
        let user = joined(namespaces.user);
        let nodes = match user {
            None => outside::Nodes::default(),
            Some(user) => {
                outside::give(&fds.stdio)?;
                outside::nodes(spec, user)?
            }
        };
        let numbers = Numbers {
            rootfs: Some(fds.rootfs.as_raw_fd()),
            dev: nodes.dev.as_ref().map(AsRawFd::as_raw_fd),
            nodes: nodes.elsewhere.as_ref().map(AsRawFd::as_raw_fd),
            mounts: fds.mounts.iter().map(AsRawFd::as_raw_fd).collect(),
            namespaces: fds.namespaces.iter().map(AsRawFd::as_raw_fd).collect(),
            program: spec.init.then_some(self.program.as_raw_fd()),
            ..stdio_numbers(&fds.stdio)
        };
        let order: Order<&ContainerSpec, ()> = Order {
            task: Task::Container(spec),
            fds: numbers,
        };
        let memory = wire::write_order(&order, filter)?;
        let new = [
            (namespaces.pid, libc::CLONE_NEWPID),
            (namespaces.net, libc::CLONE_NEWNET),
            (namespaces.ipc, libc::CLONE_NEWIPC),
            (namespaces.uts, libc::CLONE_NEWUTS),
        ];
        // The cgroup namespace is made by the child: made here, its root would be the group of
        // the caller and not that of the container. In a user namespace so is the IPC namespace: its
        // message queues belong to whoever makes it, who is not the container's root yet.
        let by_itself = |flag: i32| user.is_some() && flag == libc::CLONE_NEWIPC;
        let flags = new
            .iter()
            .filter(|(namespace, flag)| *namespace == Namespace::New && !by_itself(*flag))
            .fold(libc::CLONE_NEWNS, |flags, (_, flag)| flags | flag);
        let born = Born {
            namespaces: flags as u64,
            cgroup: cgroup.as_fd(),
            pid_of: joined(namespaces.pid),
            user,
        };
        let (child, socket) = self.clone(&memory, &order.fds, born)?;
        if user.is_some() {
            outside::set_oom_score(child.pid, child.pidfd.as_fd(), spec.process.oom_score_adj)?;
        }
        Ok((child, socket, warnings))
    }

    /// Makes a further process in a running container, which waits at its gate.
    ///
    /// Blocks; as for [`Launcher::prepare`], a terminal's master is there when it returns.
    ///
    /// # Errors
    /// No process is left behind then.
    pub fn exec(
        &self,
        target: ExecTarget<'_>,
        spec: &ExecSpec,
        stdio: Stdio,
    ) -> Result<Prepared, StartError> {
        check_process(&spec.process)?;
        let filter = self.filter(&spec.process)?;
        let mut limits = None;
        if target.user.is_some() {
            outside::give(&stdio)?;
            limits = Some(&*spec.process.rlimits);
        }
        let numbers = Numbers {
            target: Some(target.pidfd.as_raw_fd()),
            user: target.user.as_ref().map(AsRawFd::as_raw_fd),
            ..stdio_numbers(&stdio)
        };
        let order: Order<(), &ExecSpec> = Order {
            task: Task::Exec(spec),
            fds: numbers,
        };
        let memory = wire::write_order(&order, &filter)?;
        let born = |cgroup| Born {
            namespaces: 0,
            cgroup,
            pid_of: Some(target.pidfd),
            user: None,
        };
        let first = born(target.cgroup.as_fd());
        let (child, socket) = match self.clone(&memory, &order.fds, first) {
            // The container has given its group children with controllers (an init system, or
            // Docker in Docker): new processes go where its first one has gone.
            Err(error) if error.errno == Some(Errno::BUSY.raw_os_error()) => {
                let group = prepared::group_of(target.pidfd, self.cgroups.path())?;
                self.clone(&memory, &order.fds, born(group.as_fd()))?
            }
            other => other?,
        };
        drop(stdio);
        Prepared::new(child, socket, None, limits, spec.process.terminal.is_some())
    }

    fn clone(
        &self,
        memory: &OwnedFd,
        numbers: &Numbers,
        born: Born<'_>,
    ) -> Result<(Child, OwnedFd), StartError> {
        let fail = |errno| StartError::kernel("clone", errno, "start lighter-enter");
        let (ours, theirs) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .map_err(fail)?;
        let words = [
            memory.as_raw_fd().to_string(),
            theirs.as_raw_fd().to_string(),
        ];
        let argv = CStrings::new(["lighter-enter", &words[0], &words[1]])
            .ok_or_else(|| fail(Errno::INVAL))?;
        let mut keep: Vec<RawFd> = numbers.all();
        keep.extend([memory.as_raw_fd(), theirs.as_raw_fd()]);
        let Born { pid_of, user, .. } = born;
        let request = CloneRequest {
            namespaces: born.namespaces,
            cgroup: born.cgroup,
            program: self.program.as_fd(),
            argv: &argv,
            keep: &keep,
            user: user.map(|fd| UserNamespace { fd, pid_of }),
        };
        let child = match pid_of.filter(|_| user.is_none()) {
            None => sys::clone_and_exec(&request),
            // Which PID namespace children are born into is a property of the calling thread, so
            // a thread that then ends does it.
            Some(of) => std::thread::scope(|scope| {
                let thread = scope.spawn(|| {
                    sys::setns(of, libc::CLONE_NEWPID)?;
                    sys::clone_and_exec(&request)
                });
                thread.join().unwrap_or(Err(Errno::IO))
            }),
        };
        Ok((child.map_err(fail)?, ours))
    }

    /// The compiled filter of a process; Docker's own is compiled once for each capability set.
    fn filter(&self, process: &ProcessSpec) -> Result<Arc<Vec<u8>>, StartError> {
        let own = process.capabilities.bounding;
        let capabilities = process.seccomp_for.unwrap_or(own);
        let text = match &process.seccomp {
            Seccomp::Unconfined => return Ok(Arc::default()),
            Seccomp::Profile(text) => text,
            Seccomp::Default => {
                let mut filters = self.filters.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(filter) = filters.get(&capabilities) {
                    return Ok(Arc::clone(filter));
                }
                let filter = Arc::new(seccomp::default_filter(capabilities)?);
                if filters.len() >= FILTERS_KEPT {
                    filters.clear();
                }
                filters.insert(capabilities, Arc::clone(&filter));
                return Ok(filter);
            }
        };
        Ok(Arc::new(seccomp::filter_of_profile(text, capabilities)?))
    }
}

fn stdio_numbers(stdio: &Stdio) -> Numbers {
    let number = |fd: &Option<OwnedFd>| fd.as_ref().map(AsRawFd::as_raw_fd);
    Numbers {
        stdin: number(&stdio.stdin),
        stdout: number(&stdio.stdout),
        stderr: number(&stdio.stderr),
        ..Numbers::default()
    }
}

/// Refuses what the engine got wrong, before anything is made.
fn check(spec: &ContainerSpec, fds: &ContainerFds) -> Result<(), StartError> {
    let invalid = |text: String| Err(StartError::new("check", FailureKind::Invalid, text));
    check_process(&spec.process)?;
    let namespaces = &spec.namespaces;
    if namespaces.user == Namespace::New {
        return invalid("a user namespace is made before the container".into());
    }
    for namespace in [
        namespaces.pid,
        namespaces.net,
        namespaces.ipc,
        namespaces.uts,
        namespaces.cgroup,
        namespaces.user,
    ] {
        if let Namespace::Join(index) = namespace
            && index >= fds.namespaces.len()
        {
            return invalid(format!("no descriptor {index} for a namespace"));
        }
    }
    for mount in &spec.mounts {
        if !mount.destination.starts_with('/') || mount.destination.contains('\0') {
            return invalid(format!(
                "invalid mount path: '{}' mount path must be absolute",
                mount.destination
            ));
        }
        if let crate::MountKind::Fd(index) = mount.kind
            && index >= fds.mounts.len()
        {
            return invalid(format!(
                "no descriptor {index} for the mount {}",
                mount.destination
            ));
        }
    }
    spec.sysctls
        .keys()
        .try_for_each(|name| check_sysctl(name, spec))
}

fn check_process(process: &ProcessSpec) -> Result<(), StartError> {
    let invalid = |text: &str| Err(StartError::new("check", FailureKind::Invalid, text));
    if process.args.is_empty() {
        return invalid("no command specified");
    }
    if process
        .args
        .iter()
        .chain(&process.env)
        .any(|text| text.contains('\0'))
    {
        return invalid("a NUL byte in an argument or in the environment");
    }
    Ok(())
}

/// Only settings that belong to a namespace of the container's own may be set.
fn check_sysctl(name: &str, spec: &ContainerSpec) -> Result<(), StartError> {
    const IPC: [&str; 8] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    let dotted = name.replace('/', ".");
    let plain = name
        .chars()
        .all(|letter| letter.is_ascii_alphanumeric() || "._-/".contains(letter));
    let own = |namespace| namespace != Namespace::Host;
    let namespaces = &spec.namespaces;
    let known = plain && !name.split(['.', '/']).any(str::is_empty);
    let of_ipc = IPC.contains(&dotted.as_str()) || dotted.starts_with("fs.mqueue.");
    let of_network = dotted.starts_with("net.");
    let of_uts = dotted == "kernel.domainname";
    let text = if known && of_network && !own(namespaces.net) {
        format!("sysctl \"{name}\" not allowed in host network namespace")
    } else if known && of_ipc && !own(namespaces.ipc) {
        format!("sysctl \"{name}\" is not allowed in the hosts ipc namespace")
    } else if known && (of_network || of_ipc || (of_uts && own(namespaces.uts))) {
        return Ok(());
    } else {
        format!("sysctl \"{name}\" is not in a separate kernel namespace")
    };
    Err(StartError::new("check", FailureKind::Refused, text))
}

impl From<crate::CgroupError> for StartError {
    fn from(error: crate::CgroupError) -> Self {
        Self::kernel(
            "cgroup",
            error.errno,
            format!("{}: {}", error.path.display(), error.step),
        )
    }
}

impl From<crate::mounts::MountError> for StartError {
    fn from(error: crate::mounts::MountError) -> Self {
        Self::kernel("mount", error.errno, error.step)
    }
}
