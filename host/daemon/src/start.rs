//! The daemon's first moments: folders, lock, log, sockets. Nothing here waits for anybody.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lighter_platform::sys::{self, LocalListener};
use lighter_platform::{
    BoundedLog, DirError, FileLock, HostPaths, LockError, PathsError, ensure_private_dir,
};
use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

use crate::settings::{Settings, SettingsError};
use crate::vm::Failure;

/// Why there is no daemon.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The folders cannot be named.
    #[error(transparent)]
    Paths(#[from] PathsError),
    /// A folder cannot be used.
    #[error(transparent)]
    Dir(#[from] DirError),
    /// There is one already.
    #[error("a daemon is already running: {0}")]
    Running(#[source] LockError),
    /// The lock cannot be taken.
    #[error(transparent)]
    Lock(LockError),
    /// The settings cannot be used.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A socket cannot be made.
    #[error("cannot listen on `{}`", path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The system did not give something it should.
    #[error("cannot {what}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

impl StartError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Paths(error) => Some(error.hint().to_owned()),
            Self::Dir(error) => Some(error.hint()),
            Self::Settings(error) => Some(error.hint()),
            Self::Running(_) => {
                Some("see it with `lighter status`, end it with `lighter down`".to_owned())
            }
            Self::Lock(LockError::Io { source, path }) | Self::Socket { source, path } => {
                place_hint(source, path)
            }
            Self::System { source, .. } => place_hint(source, Path::new("our folders")),
            Self::Lock(LockError::Held { .. }) => None,
        }
    }
}

/// What to do about a file that could not be made.
fn place_hint(source: &io::Error, path: &Path) -> Option<String> {
    let shown = path.display();
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Some(format!("make room on the disk that holds `{shown}`"))
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Some(format!(
            "make the folder of `{shown}` writable for this user, or set `LIGHTER_HOME` to one \
             that is"
        )),
        _ => None,
    }
}

/// The line a starter reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "readiness", rename_all = "snake_case")]
pub enum Readiness {
    /// The sockets listen.
    Ready,
    /// Another process is the daemon, or was until a moment ago.
    Running,
    /// There is no daemon, for this reason.
    Failed(Failure),
}

/// The two listening sockets.
#[derive(Debug)]
pub struct Sockets {
    /// For Docker clients.
    pub docker: LocalListener,
    /// For the daemon's own routes.
    pub control: LocalListener,
}

/// Everything the daemon begins with.
#[derive(Debug)]
pub struct Started {
    /// Where our files are.
    pub paths: HostPaths,
    /// This program.
    pub exe: PathBuf,
    /// The sockets.
    pub sockets: Sockets,
    /// The settings as they were read.
    pub settings: Settings,
    /// Makes this the only daemon.
    pub lock: FileLock,
    /// Longest time a boot may take.
    pub boot_limit: Duration,
    /// A log of what the machine does to its disk, for tests: `LIGHTER_DISK_LOG`.
    pub disk_log: Option<PathBuf>,
}

/// Ordinary limit of a boot; long, for emulation on a busy machine.
const BOOT_LIMIT: Duration = Duration::from_secs(120);

/// Takes the lock and opens the sockets.
///
/// # Errors
/// See [`StartError`].
pub fn start() -> Result<Started, StartError> {
    let paths = HostPaths::discover()?;
    sys::raise_descriptor_limit();
    ensure_private_dir(&paths.run)?;
    let lock = FileLock::try_acquire(&paths.daemon_lock()).map_err(|error| match error {
        LockError::Held { .. } => StartError::Running(error),
        LockError::Io { .. } => StartError::Lock(error),
    })?;
    let system = |what| move |source| StartError::System { what, source };
    log_to(&paths).map_err(system("open the daemon's log"))?;
    let settings = Settings::load(&paths.config_file())?;
    let exe = std::env::current_exe().map_err(system("find this program's own path"))?;
    let sockets = sockets(&paths)?;
    let boot_limit = std::env::var("LIGHTER_BOOT_TIMEOUT")
        .ok()
        .and_then(|text| text.parse().ok())
        .map_or(BOOT_LIMIT, Duration::from_secs);
    let disk_log = std::env::var_os("LIGHTER_DISK_LOG")
        .filter(|path| !path.is_empty())
        .map(PathBuf::from);
    Ok(Started {
        paths,
        exe,
        sockets,
        settings,
        lock,
        boot_limit,
        disk_log,
    })
}

fn log_to(paths: &HostPaths) -> io::Result<()> {
    let log = BoundedLog::open(&paths.daemon_log())?;
    let filter = EnvFilter::try_from_env("LIGHTER_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    // A second subscriber in one process (a test) is of no use; the first goes on.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(std::sync::Mutex::new(log))
        .try_init();
    Ok(())
}

/// Sockets of the service manager where it gave some, else our own.
fn sockets(paths: &HostPaths) -> Result<Sockets, StartError> {
    let mut inherited = sys::inherited_listeners().map_err(|source| StartError::System {
        what: "take the service manager's sockets over",
        source,
    })?;
    let mut take = |path: PathBuf| {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if let Some(found) = inherited.iter().position(|(given, _)| *given == name) {
            return Ok(inherited.swap_remove(found).1);
        }
        LocalListener::bind(&path).map_err(|source| StartError::Socket { path, source })
    };
    let docker = take(paths.docker_socket())?;
    let control = take(paths.control_socket())?;
    Ok(Sockets { docker, control })
}
