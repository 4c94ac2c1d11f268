//! What Linux and macOS have in common.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener as StdUnixListener;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};

use super::{HostUser, Resolution, TimeZone};

mod ports;
mod terminal;
pub use ports::*;
pub use terminal::{
    RawTerminal, Resizes, forwarded_signals, read_hidden_line, terminal_size, told_to_end,
};

/// Whether a folder can be opened and flushed.
pub const CAN_SYNC_DIRECTORIES: bool = true;

/// A connected local socket.
pub type LocalStream = tokio::net::UnixStream;

/// Where programs look for a Docker engine that know of no other place.
pub const SYSTEM_DOCKER_SOCKET: Option<&str> = Some("/var/run/docker.sock");

/// A socket in the form of `DOCKER_HOST`.
#[must_use]
pub fn docker_endpoint(socket: &Path) -> String {
    format!("unix://{}", socket.display())
}

/// Makes a symbolic link.
///
/// # Errors
/// What the system answers.
pub fn symlink(target: &Path, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

/// Whether this process is root.
#[must_use]
pub fn is_superuser() -> bool {
    rustix::process::geteuid().is_root()
}

/// Makes one folder that only this user can enter.
///
/// # Errors
/// What the system answers.
pub fn create_private_dir(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().mode(0o700).create(path)
}

/// The owner, if it is not this user.
#[must_use]
pub fn foreign_owner(metadata: &Metadata) -> Option<u32> {
    let owner = metadata.uid();
    (owner != rustix::process::geteuid().as_raw()).then_some(owner)
}

/// Device and number of a file, which together tell it from every other.
#[must_use]
pub fn file_identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// Takes the access of everybody else from a folder.
///
/// # Errors
/// What the system answers.
pub fn make_private(path: &Path) -> io::Result<()> {
    // By descriptor: a link put in its place meanwhile must not have its target opened or closed.
    let folder = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW)
        .open(path)?;
    if folder.metadata()?.mode() & 0o777 == 0o700 {
        return Ok(());
    }
    folder.set_permissions(fs::Permissions::from_mode(0o700))
}

/// Creates a file that is new and that only this user can read.
///
/// # Errors
/// What the system answers; a file that is there already is an error.
pub fn create_private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

/// Opens a lock file, following no link.
///
/// # Errors
/// What the system answers.
pub fn open_lock_file(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
}

/// Opens a log for appending that only this user can read.
///
/// # Errors
/// What the system answers.
pub fn open_log(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
}

/// A listening local socket whose clients are checked to be this user (or root).
#[derive(Debug)]
pub struct LocalListener {
    inner: tokio::net::UnixListener,
    /// What to remove at the end: only what we bound ourselves.
    bound: Option<PathBuf>,
}

impl LocalListener {
    /// Binds `path` in a private folder, replacing what a dead process left there.
    ///
    /// The socket appears under its name only when it listens and has mode 0600.
    ///
    /// # Errors
    /// What the system answers.
    pub fn bind(path: &Path) -> io::Result<Self> {
        let mut name = path.file_name().unwrap_or_default().to_os_string();
        name.push(format!(".{}", crate::dir::random_suffix()));
        let temporary = path.with_file_name(name);
        let inner = tokio::net::UnixListener::bind(&temporary)?;
        let placed = fs::set_permissions(&temporary, fs::Permissions::from_mode(0o600))
            .and_then(|()| fs::rename(&temporary, path));
        if let Err(error) = placed {
            let _ = fs::remove_file(&temporary);
            return Err(error);
        }
        Ok(Self {
            inner,
            bound: Some(path.to_path_buf()),
        })
    }

    /// Waits for the next client of this user.
    ///
    /// Clients of other users are closed without a word: the folder keeps them out already, so
    /// one who gets here was let in by a mistake in its mode.
    ///
    /// # Errors
    /// What the system answers, such as no descriptors left; the listener stays usable.
    pub async fn accept(&self) -> io::Result<LocalStream> {
        loop {
            let (stream, _) = self.inner.accept().await?;
            // One that went away before it could be asked who it is has no wish either.
            if stream
                .peer_cred()
                .is_ok_and(|peer| peer_is_allowed(peer.uid()))
            {
                return Ok(stream);
            }
        }
    }

    /// Removes the socket's name, if this process made it.
    pub fn unlink(&self) {
        if let Some(path) = &self.bound {
            // Gone already is as good.
            let _ = fs::remove_file(path);
        }
    }
}

fn peer_is_allowed(uid: u32) -> bool {
    uid == 0 || uid == rustix::process::geteuid().as_raw()
}

/// Connects to a local socket.
///
/// # Errors
/// What the system answers; nobody listening is `ConnectionRefused` or `NotFound`.
pub async fn connect_local(path: &Path) -> io::Result<LocalStream> {
    tokio::net::UnixStream::connect(path).await
}

/// Takes a client's socket out of the runtime, to be given away.
///
/// # Errors
/// What the system answers.
pub fn into_owned(stream: LocalStream) -> io::Result<OwnedFd> {
    stream.into_std().map(OwnedFd::from)
}

/// Takes back what was not given away.
///
/// # Errors
/// What the system answers.
pub fn from_owned(stream: OwnedFd) -> io::Result<LocalStream> {
    let stream = std::os::unix::net::UnixStream::from(stream);
    stream.set_nonblocking(true)?;
    tokio::net::UnixStream::from_std(stream)
}

/// The listening sockets that a service manager handed over, with the file name each is bound to.
///
/// Empty when there are none. To be called once, early, and within a runtime.
///
/// # Errors
/// A handed descriptor that is no listening unix socket.
pub fn inherited_listeners() -> io::Result<Vec<(String, LocalListener)>> {
    let number = |name| std::env::var(name).ok().and_then(|v| v.parse::<u32>().ok());
    if number("LISTEN_PID") != Some(std::process::id()) {
        return Ok(Vec::new());
    }
    let count = number("LISTEN_FDS").unwrap_or(0).min(16);
    (0..count)
        .map(|index| adopt_listener(3 + index as RawFd))
        .collect()
}

fn adopt_listener(raw: RawFd) -> io::Result<(String, LocalListener)> {
    // SAFETY: `from_raw_fd` needs a descriptor that is open and owned by nobody else. The service
    // manager's protocol (LISTEN_PID names this process) passes these numbers to us alone; the
    // call below fails on one that is not open, before anything else uses it.
    let fd = unsafe { OwnedFd::from_raw_fd(raw) };
    rustix::io::fcntl_setfd(fd.as_fd(), rustix::io::FdFlags::CLOEXEC)?;
    if !super::listens(&fd)? {
        return Err(io::Error::other("a handed-over socket does not listen"));
    }
    let listener = StdUnixListener::from(fd);
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let name = address
        .as_pathname()
        .and_then(Path::file_name)
        .map(|name| name.to_string_lossy().into_owned())
        .ok_or_else(|| io::Error::other("a handed-over socket has no path"))?;
    let inner = tokio::net::UnixListener::from_std(listener)?;
    Ok((name, LocalListener { inner, bound: None }))
}

/// Lets this process have as many open descriptors as the system allows: every client that waits
/// for the machine is one, and the usual soft limit is 1,024.
pub fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    // Without it fewer clients can wait at once, which those beyond are told.
    let _ = setrlimit(Resource::Nofile, raised);
}

/// Starts a program that outlives this one: a session of its own, no terminal, and no descriptor
/// but its standard streams, so that it keeps no pipe of its starter's open.
///
/// # Errors
/// What the system answers.
pub fn spawn_detached(command: &mut Command) -> io::Result<Child> {
    for variable in ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"] {
        command.env_remove(variable);
    }
    // SAFETY: the closure runs between fork and exec, where only async-signal-safe calls are
    // allowed: setsid(2) and close_range(2) are, and nothing is allocated.
    unsafe {
        command.pre_exec(|| {
            rustix::process::setsid()?;
            super::keep_standard_streams_only();
            Ok(())
        });
    }
    command.spawn()
}

/// Points this process's standard output at the null device, so that whoever reads it sees its end.
///
/// # Errors
/// What the system answers.
pub fn close_stdout() -> io::Result<()> {
    let null = OpenOptions::new().write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdout(&null)?;
    Ok(())
}

/// Points this process's standard error at `log`.
///
/// # Errors
/// What the system answers.
pub fn redirect_stderr(log: &File) -> io::Result<()> {
    rustix::stdio::dup2_stderr(log)?;
    Ok(())
}

/// A descriptor of its own for what is this process's standard error.
///
/// # Errors
/// When there is none left.
pub fn standard_error() -> io::Result<File> {
    io::stderr().as_fd().try_clone_to_owned().map(File::from)
}

/// Ends when somebody asks this process to stop; says which signal it was.
///
/// # Errors
/// What the system answers to setting the handlers.
pub async fn stop_requested() -> io::Result<&'static str> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    Ok(tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
        _ = hang_up.recv() => "SIGHUP",
    })
}

/// The user of this process.
///
/// # Errors
/// No home folder is known.
pub fn host_user() -> io::Result<HostUser> {
    let uid = rustix::process::geteuid().as_raw();
    let gid = rustix::process::getegid().as_raw();
    let home = directories::BaseDirs::new()
        .map(|base| base.home_dir().to_path_buf())
        .ok_or_else(|| io::Error::other("the home folder of this user is unknown"))?;
    let name = fs::read_to_string("/etc/passwd")
        .ok()
        .and_then(|text| name_of(uid, &text))
        .or_else(|| std::env::var("USER").ok())
        .unwrap_or_else(|| uid.to_string());
    Ok(HostUser {
        uid,
        gid,
        name,
        home,
    })
}

fn name_of(uid: u32, passwd: &str) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse::<u32>().ok()? == uid).then(|| name.to_owned())
    })
}

/// The time zone of this host at a moment.
#[must_use]
pub fn time_zone_at(unix: i64) -> TimeZone {
    let moment = unix as libc::time_t;
    // SAFETY: the structure is integers and a pointer that is only read after a call that set it;
    // all zeroes is a value of it.
    let mut local: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live values; the result is the second of them or null.
    let made = unsafe { libc::localtime_r(&raw const moment, &raw mut local) };
    if made.is_null() || local.tm_zone.is_null() {
        return TimeZone::utc();
    }
    // SAFETY: `tm_zone` was set by the call above to a C string that the C library keeps.
    let name = unsafe { std::ffi::CStr::from_ptr(local.tm_zone) };
    TimeZone {
        seconds_east: i32::try_from(local.tm_gmtoff).unwrap_or(0),
        name: name.to_string_lossy().into_owned(),
    }
}

/// Bytes that this user can still write on the disk that holds `path`.
///
/// # Errors
/// What the system answers.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    let found = rustix::fs::statvfs(path)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// Bytes that a file takes on its disk, which for one with holes is less than its length.
#[must_use]
pub fn allocated_bytes(metadata: &Metadata) -> u64 {
    metadata.blocks().saturating_mul(512)
}

/// The host's name.
#[must_use]
pub fn host_name() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

/// The host's name servers and search domains.
#[must_use]
pub fn resolution() -> Resolution {
    fs::read_to_string("/etc/resolv.conf")
        .map(|text| super::parse_resolution(&text))
        .unwrap_or_default()
}

/// The certificates this host trusts, as PEM.
///
/// # Errors
/// No bundle was found where systems keep them.
pub fn trust_roots_pem() -> io::Result<String> {
    let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let known = [
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/pki/tls/certs/ca-bundle.crt",
        "/etc/ssl/ca-bundle.pem",
        "/etc/ssl/cert.pem",
    ];
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for path in named.into_iter().chain(known.iter().map(PathBuf::from)) {
        match fs::read_to_string(&path) {
            Ok(text) => return Ok(text),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The signal that ended a process, if one did.
#[must_use]
pub fn ending_signal(status: ExitStatus) -> Option<i32> {
    status.signal()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_by_its_number() {
        let passwd =
            "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\nbad line\n";
        assert_eq!(name_of(1000, passwd).as_deref(), Some("ann"));
        assert_eq!(name_of(7, passwd), None);
    }

    #[test]
    fn only_this_user_and_root_are_let_in() {
        let own = rustix::process::geteuid().as_raw();
        assert!(peer_is_allowed(own) && peer_is_allowed(0));
        for other in [1, 1000, 65534, u32::MAX] {
            assert_eq!(peer_is_allowed(other), other == own, "{other}");
        }
    }

    #[test]
    fn a_link_in_the_way_of_a_private_folder_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("run");
        std::os::unix::fs::symlink("/tmp", &path).unwrap();
        let error = crate::ensure_private_dir(&path).unwrap_err();
        assert!(
            matches!(error, crate::DirError::NotADirectory(_)),
            "{error}"
        );
    }

    #[test]
    fn a_folder_open_to_others_is_closed_to_them() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("run");
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        crate::ensure_private_dir(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
    }

    #[tokio::test]
    async fn a_socket_is_private_and_replaces_a_dead_one() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("docker.sock");
        drop(StdUnixListener::bind(&path).unwrap());
        let listener = LocalListener::bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let (client, server) = tokio::join!(connect_local(&path), listener.accept());
        client.unwrap();
        server.unwrap();
        listener.unlink();
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_link_to_settings_stays_a_link() {
        let root = tempfile::tempdir().unwrap();
        let (real, link) = (root.path().join("real"), root.path().join("link"));
        fs::write(&real, "old").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        crate::write_durably(&link, b"new").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&real).unwrap(), "new");
    }

    #[test]
    fn a_time_zone_has_a_name() {
        let zone = time_zone_at(0);
        assert!(!zone.name.is_empty());
        assert!(zone.seconds_east.abs() <= 14 * 3600, "{zone:?}");
    }

    #[test]
    fn lock_files_follow_no_link() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("daemon.lock");
        std::os::unix::fs::symlink(root.path().join("elsewhere"), &path).unwrap();
        assert!(crate::FileLock::try_acquire(&path).is_err());
        assert!(!root.path().join("elsewhere").exists());
    }
}
