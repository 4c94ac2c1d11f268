//! From the kernel's hand-over to a machine in which the agent can run.

mod cgroup;
mod data;
mod mounts;
mod network;
mod random;
mod root;
mod sysctl;

pub use data::MOUNT_POINT as DATA;

use std::fmt;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;

use lighter_init::{name, vsock};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};

use crate::console::say;
use crate::options::Native;

/// How many connections may wait for an agent that is being started again.
/// The kernel takes no more than `net.core.somaxconn`, 4096 by default.
const BACKLOG: i32 = 4096;

/// Ports as `lighter-protocol` has them; init does without the crate and its JSON.
const CONTROL_PORT: u32 = 1024;
const API_PORT: u32 = 1025;
const PUBLISHED_PORT: u32 = 1027;

/// The socket that containers are given.
const DOCKER_SOCKET: &str = "/run/docker.sock";

/// The step of booting that failed.
#[derive(Debug)]
pub struct BootError {
    step: String,
    cause: std::io::Error,
}

impl fmt::Display for BootError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.step, self.cause)
    }
}

/// Names the step an error came from.
pub trait At<T> {
    /// The error with its step.
    fn at(self, step: impl fmt::Display) -> Result<T, BootError>;
}

impl<T, E: Into<std::io::Error>> At<T> for Result<T, E> {
    fn at(self, step: impl fmt::Display) -> Result<T, BootError> {
        self.map_err(|cause| BootError {
            step: step.to_string(),
            cause: cause.into(),
        })
    }
}

/// What the agent finds in the store at its first start.
pub type Booted = Vec<(String, OwnedFd)>;

/// Boots the guest. Listeners come before everything slow: the host may connect from then on.
pub fn guest() -> Result<Booted, BootError> {
    root::make_pivotable()?;
    let control = vsock::listen(CONTROL_PORT, BACKLOG).at("listening for the host (control)")?;
    let api = vsock::listen(API_PORT, BACKLOG).at("listening for the host (API)")?;
    let published =
        vsock::listen(PUBLISHED_PORT, BACKLOG).at("listening for the host (published ports)")?;
    mounts::mount_all()?;
    raise_limits();
    sysctl::apply();
    cgroup::set_up()?;
    network::loopback_up().at("bringing up the loopback")?;
    let docker = unix_listener(Path::new(DOCKER_SOCKET))?;
    let hostnet = network::second_namespace()?;
    root::make_read_only()?;
    data::mount();
    random::leave_the_device();
    let since_start = clock_gettime(ClockId::Boottime);
    let ms = since_start.tv_sec * 1000 + since_start.tv_nsec / 1_000_000;
    say(format_args!("the agent starts, {ms} ms after the kernel"));
    Ok(named([control, api, published, docker, hostnet]))
}

/// Does the same for tests: Unix sockets instead of vsock, a folder instead of a disk.
pub fn native(options: &Native) -> Result<Booted, BootError> {
    for dir in ["data", "run"] {
        let dir = options.dir.join(dir);
        fs::create_dir_all(&dir).at(format_args!("making {}", dir.display()))?;
    }
    let control = unix_listener(&options.dir.join("control.sock"))?;
    let api = unix_listener(&options.dir.join("api.sock"))?;
    let published = unix_listener(&options.dir.join("published.sock"))?;
    let docker = unix_listener(&options.dir.join("docker.sock"))?;
    raise_limits();
    network::loopback_up().at("bringing up the loopback")?;
    let hostnet = network::second_namespace()?;
    Ok(named([control, api, published, docker, hostnet]))
}

/// The names of these, which come in this order.
fn named(descriptors: [OwnedFd; 5]) -> Booted {
    let names = [
        name::LISTEN_CONTROL,
        name::LISTEN_API,
        name::LISTEN_PUBLISHED,
        name::LISTEN_DOCKER,
        name::HOST_NETWORK,
    ];
    names
        .map(str::to_owned)
        .into_iter()
        .zip(descriptors)
        .collect()
}

/// A listener at a path, for its owner and group.
///
/// The folder above is not writable for others, so nobody can be there between making the socket
/// and setting its mode.
fn unix_listener(path: &Path) -> Result<OwnedFd, BootError> {
    let step = || format!("listening at {}", path.display());
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error).at(step()),
        _ => {}
    }
    let listener = UnixListener::bind(path).at(step())?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o660)).at(step())?;
    listener.set_nonblocking(true).at(step())?;
    let listener = OwnedFd::from(listener);
    // `bind` of the standard library listens with its own idea of a backlog.
    rustix::net::listen(&listener, BACKLOG).at(step())?;
    Ok(listener)
}

/// Init and agent hold a few descriptors for every container: the kernel's default of 1024 ends
/// at some two hundred.
fn raise_limits() {
    let limit = |value| Rlimit {
        current: value,
        maximum: value,
    };
    // `fs.nr_open` as the kernel has it.
    if let Err(error) = setrlimit(Resource::Nofile, limit(Some(1_048_576))) {
        // Natively, without the capability: as far as it goes.
        let maximum = getrlimit(Resource::Nofile).maximum;
        if setrlimit(Resource::Nofile, limit(maximum)).is_err() {
            say(format_args!("open files stay limited: {error}"));
        }
        return;
    }
    for resource in [Resource::Nproc, Resource::Core] {
        if let Err(error) = setrlimit(resource, limit(None)) {
            say(format_args!("{resource:?} stays limited: {error}"));
        }
    }
}

/// True for errors that mean the thing is not in this kernel.
fn is_absent(error: Errno) -> bool {
    matches!(error, Errno::NODEV | Errno::NOENT | Errno::NOSYS)
}
