//! What Windows does its own way: named pipes in the place of socket files.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::windows::io::{AsHandle, AsRawHandle, FromRawHandle, IntoRawHandle, OwnedHandle};
use std::os::windows::process::CommandExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::{Child, Command, ExitStatus};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::windows::named_pipe::{
    ClientOptions, NamedPipeClient, NamedPipeServer, ServerOptions,
};
use tokio::sync::Mutex;
use windows_sys::Win32::Foundation::{ERROR_PIPE_BUSY, WAIT_OBJECT_0};
use windows_sys::Win32::System::SystemInformation::{GlobalMemoryStatusEx, MEMORYSTATUSEX};
use windows_sys::Win32::System::Threading::{
    CREATE_NEW_PROCESS_GROUP, DETACHED_PROCESS, OpenProcess, PROCESS_SYNCHRONIZE,
    PROCESS_TERMINATE, TerminateProcess, WaitForSingleObject,
};

use super::{HostUser, Resolution, TimeZone};

mod ports;
mod terminal;
pub use ports::*;
pub use terminal::{
    RawTerminal, Resizes, forwarded_signals, read_hidden_line, terminal_size, told_to_end,
};

/// Whether a folder can be opened and flushed.
pub const CAN_SYNC_DIRECTORIES: bool = false;

/// Where programs look for a Docker engine that know of no other place: a pipe, which is no file.
pub const SYSTEM_DOCKER_SOCKET: Option<&str> = None;

/// A pipe in the form of `DOCKER_HOST`.
#[must_use]
pub fn docker_endpoint(socket: &Path) -> String {
    format!("npipe://{}", pipe_name(socket).replace('\\', "/"))
}

/// Makes a symbolic link to a file.
///
/// # Errors
/// What the system answers.
pub fn symlink(target: &Path, link: &Path) -> io::Result<()> {
    std::os::windows::fs::symlink_file(target, link)
}

/// Elevation changes no path here.
#[must_use]
pub fn is_superuser() -> bool {
    false
}

/// Where locks and logs go; pipes have a name space of their own.
#[must_use]
pub fn default_run_dir(_superuser: bool, base: &directories::BaseDirs) -> PathBuf {
    base.data_local_dir().join("lighter").join("run")
}

/// Makes one folder; it inherits the access list of the user's profile.
///
/// # Errors
/// What the system answers.
pub fn create_private_dir(path: &Path) -> io::Result<()> {
    fs::create_dir(path)
}

/// Ownership is the business of access lists here.
#[must_use]
pub fn foreign_owner(_metadata: &Metadata) -> Option<u32> {
    None
}

/// Files are told apart by their paths here.
#[must_use]
pub fn file_identity(_metadata: &Metadata) -> (u64, u64) {
    (0, 0)
}

/// The profile's access list already keeps other users out.
///
/// # Errors
/// Never.
pub fn make_private(_path: &Path) -> io::Result<()> {
    Ok(())
}

/// Creates a file that is new.
///
/// # Errors
/// What the system answers; a file that is there already is an error.
pub fn create_private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).open(path)
}

/// Opens a lock file.
///
/// # Errors
/// What the system answers.
pub fn open_lock_file(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
}

/// Opens a log for appending.
///
/// # Errors
/// What the system answers.
pub fn open_log(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

/// One end of a named pipe.
#[derive(Debug)]
pub enum LocalStream {
    /// The end that listened.
    Server(NamedPipeServer),
    /// The end that connected.
    Client(NamedPipeClient),
}

impl AsyncRead for LocalStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Server(pipe) => Pin::new(pipe).poll_read(cx, buf),
            Self::Client(pipe) => Pin::new(pipe).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for LocalStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Server(pipe) => Pin::new(pipe).poll_write(cx, buf),
            Self::Client(pipe) => Pin::new(pipe).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Server(pipe) => Pin::new(pipe).poll_flush(cx),
            Self::Client(pipe) => Pin::new(pipe).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Server(pipe) => Pin::new(pipe).poll_shutdown(cx),
            Self::Client(pipe) => Pin::new(pipe).poll_shutdown(cx),
        }
    }
}

/// The pipe that stands for a socket path: one name per user and installation.
fn pipe_name(path: &Path) -> String {
    let flat: String = path
        .to_string_lossy()
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '.' {
                c
            } else {
                '_'
            }
        })
        .collect();
    format!(r"\\.\pipe\lighter_{flat}")
}

/// A listening pipe. Its default access list admits this user, administrators and the system.
#[derive(Debug)]
pub struct LocalListener {
    name: String,
    /// The instance the next client gets; there is always one, or clients are refused.
    next: Mutex<NamedPipeServer>,
}

impl LocalListener {
    /// Makes the pipe for `path`.
    ///
    /// # Errors
    /// What the system answers, for instance that another process has the name.
    pub fn bind(path: &Path) -> io::Result<Self> {
        let name = pipe_name(path);
        let first = ServerOptions::new()
            .first_pipe_instance(true)
            .reject_remote_clients(true)
            .create(&name)?;
        Ok(Self {
            name,
            next: Mutex::new(first),
        })
    }

    /// Waits for the next client.
    ///
    /// # Errors
    /// What the system answers; the listener stays usable.
    pub async fn accept(&self) -> io::Result<LocalStream> {
        let mut next = self.next.lock().await;
        next.connect().await?;
        let fresh = ServerOptions::new()
            .reject_remote_clients(true)
            .create(&self.name)?;
        Ok(LocalStream::Server(std::mem::replace(&mut *next, fresh)))
    }

    /// Nothing to remove: a pipe's name goes with its last handle.
    pub fn unlink(&self) {}
}

/// Connects to the pipe that stands for `path`.
///
/// # Errors
/// What the system answers; nobody listening is `NotFound`.
pub async fn connect_local(path: &Path) -> io::Result<LocalStream> {
    let name = pipe_name(path);
    loop {
        match ClientOptions::new().open(&name) {
            Ok(client) => return Ok(LocalStream::Client(client)),
            // All instances are taken; the server makes the next one at once.
            Err(error) if error.raw_os_error() == Some(ERROR_PIPE_BUSY as i32) => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// No service manager hands pipes over.
///
/// # Errors
/// Never.
pub fn inherited_listeners() -> io::Result<Vec<(String, LocalListener)>> {
    Ok(Vec::new())
}

/// What registers a program with the user's session: nothing is written for it yet.
pub const SERVICE_MANAGER: Option<&str> = None;

/// Handles are not a scarce thing here.
pub fn raise_descriptor_limit() {}

/// Starts a program that outlives this one: no console, a process group of its own.
///
/// # Errors
/// What the system answers.
pub fn spawn_detached(command: &mut Command) -> io::Result<Child> {
    command
        .creation_flags(DETACHED_PROCESS | CREATE_NEW_PROCESS_GROUP)
        .spawn()
}

/// The starter reads until its line comes; the handle may stay open here.
///
/// # Errors
/// Never.
pub fn close_stdout() -> io::Result<()> {
    Ok(())
}

/// The log subscriber writes to the file itself here.
///
/// # Errors
/// Never.
pub fn redirect_stderr(_log: &File) -> io::Result<()> {
    Ok(())
}

/// A handle of its own for what is this process's standard error.
///
/// # Errors
/// When there is none.
pub fn standard_error() -> io::Result<File> {
    io::stderr()
        .as_handle()
        .try_clone_to_owned()
        .map(File::from)
}

/// Ends when somebody asks this process to stop; says how.
///
/// # Errors
/// What the system answers to setting the handler.
pub async fn stop_requested() -> io::Result<&'static str> {
    tokio::signal::ctrl_c().await?;
    Ok("Ctrl-C")
}

/// The user of this process.
///
/// # Errors
/// No home folder is known.
pub fn host_user() -> io::Result<HostUser> {
    let home = directories::BaseDirs::new()
        .map(|base| base.home_dir().to_path_buf())
        .ok_or_else(|| io::Error::other("the home folder of this user is unknown"))?;
    let name = std::env::var("USERNAME").unwrap_or_else(|_| "user".to_owned());
    Ok(HostUser {
        uid: 0,
        gid: 0,
        name,
        home,
    })
}

/// Times are shown in UTC here.
#[must_use]
pub fn time_zone_at(_unix: i64) -> TimeZone {
    TimeZone::utc()
}

/// Bytes that this user can still write on the disk that holds `path`.
///
/// # Errors
/// What the system answers.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    use std::os::windows::ffi::OsStrExt;
    let wide: Vec<u16> = path.as_os_str().encode_wide().chain([0]).collect();
    let mut free = 0_u64;
    // SAFETY: the path is a zero-terminated text that lives through the call, the first result
    // pointer is to a live u64, the other two may be null.
    let answered = unsafe {
        windows_sys::Win32::Storage::FileSystem::GetDiskFreeSpaceExW(
            wide.as_ptr(),
            &raw mut free,
            std::ptr::null_mut(),
            std::ptr::null_mut(),
        )
    };
    if answered == 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(free)
}

/// Bytes that a file takes on its disk: its length, as holes are not told apart here.
#[must_use]
pub fn allocated_bytes(metadata: &Metadata) -> u64 {
    metadata.len()
}

/// The host's name.
#[must_use]
pub fn host_name() -> String {
    std::env::var("COMPUTERNAME").unwrap_or_else(|_| "windows".to_owned())
}

/// Containers use the gateway's resolver, which asks the host's; nothing to list.
#[must_use]
pub fn resolution() -> Resolution {
    Resolution::default()
}

/// The certificates this host trusts, as PEM.
///
/// # Errors
/// Always `Unsupported`: the certificate store is not read yet.
pub fn trust_roots_pem() -> io::Result<String> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "reading the Windows certificate store is not supported; set `SSL_CERT_FILE`",
    ))
}

/// Processes end with a code only.
#[must_use]
pub fn ending_signal(_status: ExitStatus) -> Option<i32> {
    None
}

/// Where programs put temporary files, beside what the environment says: nowhere else.
pub const TEMPORARY_FOLDERS: &[&str] = &[];

/// Takes a client's pipe out of the runtime, to be given away.
///
/// # Errors
/// What the system answers.
pub fn into_owned(stream: LocalStream) -> io::Result<OwnedHandle> {
    match &stream {
        LocalStream::Server(pipe) => pipe.as_handle().try_clone_to_owned(),
        LocalStream::Client(pipe) => pipe.as_handle().try_clone_to_owned(),
    }
}

/// Takes back what was not given away.
///
/// # Errors
/// What the system answers.
pub fn from_owned(stream: OwnedHandle) -> io::Result<LocalStream> {
    // SAFETY: the handle is owned here, is a pipe that a tokio server accepted (so opened for
    // overlapped access), and its ownership goes into the new value.
    unsafe { NamedPipeServer::from_raw_handle(stream.into_raw_handle()) }.map(LocalStream::Server)
}

/// Opens what is to be shared and says where it really is.
///
/// # Errors
/// Always `Unsupported`: folders are not shared from this system yet.
pub fn open_share_target(_path: &Path) -> io::Result<(OwnedHandle, PathBuf)> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The host's memory in bytes.
#[must_use]
pub fn total_memory_bytes() -> u64 {
    let mut status = MEMORYSTATUSEX {
        dwLength: size_of::<MEMORYSTATUSEX>() as u32,
        // SAFETY: the structure is plain integers, for which all zeroes is a value.
        ..unsafe { std::mem::zeroed() }
    };
    // SAFETY: the pointer is to a live structure whose `dwLength` says its size.
    let answered = unsafe { GlobalMemoryStatusEx(&raw mut status) };
    if answered == 0 {
        0
    } else {
        status.ullTotalPhys
    }
}

/// Another process, to see its end.
#[derive(Debug)]
pub struct ProcessWatch(OwnedHandle);

impl ProcessWatch {
    /// Watches a process that runs; none if it has gone.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        // SAFETY: plain integers; a null handle is the answer where there is no such process.
        let handle = unsafe { OpenProcess(PROCESS_SYNCHRONIZE | PROCESS_TERMINATE, 0, pid) };
        if handle.is_null() {
            return None;
        }
        // SAFETY: `OpenProcess` succeeded: the handle is new and nobody else's.
        Some(Self(unsafe { OwnedHandle::from_raw_handle(handle) }))
    }

    /// Blocks until it has gone; false if it has not within `limit`.
    #[must_use]
    pub fn wait(&self, limit: Duration) -> bool {
        let milliseconds = u32::try_from(limit.as_millis()).unwrap_or(u32::MAX - 1);
        // SAFETY: the handle is open as long as `self` lives.
        let waited = unsafe { WaitForSingleObject(self.0.as_raw_handle(), milliseconds) };
        waited == WAIT_OBJECT_0
    }

    /// Ends it at once; one that has gone is no error.
    ///
    /// # Errors
    /// What the system answers where it is somebody else's.
    pub fn kill(&self) -> io::Result<()> {
        // SAFETY: the handle is open as long as `self` lives.
        let done = unsafe { TerminateProcess(self.0.as_raw_handle(), 1) };
        // It takes no end of a process that has ended.
        if done != 0 || self.wait(Duration::ZERO) {
            return Ok(());
        }
        Err(io::Error::last_os_error())
    }
}
