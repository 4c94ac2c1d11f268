//! `lighter files`: takes its sockets from the daemon, serves until the virtual machine is gone.
//!
//! Called by the command line's hidden `files` verb. Standard input is the daemon's setup socket; nothing
//! else is inherited and nothing is opened by name but `/proc/self/fd`.

use std::io::stdin;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use lighter_platform::BoundedLog;
use vhost::vhost_user::{Error as Gone, Listener};
use vhost_user_backend::VhostUserDaemon;
use vm_memory::{GuestMemoryAtomic, GuestMemoryMmap};

use super::control_server::{self, Observer};
use super::device::Device;
use super::fs::places::Rules;
use super::fs::shares::Shares;
use super::fs::sidecar::Sidecar;
use super::fs::{Limits, ShareFs};
use super::packet::{self, PacketError};
use super::requests::Service;
use super::sandbox;
use crate::control::{Reply, Request, Status};

/// The process could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// Standard input is not the daemon's setup socket.
    #[error("`lighter files` is started by the daemon, with its setup socket as standard input")]
    NotSetUp(#[source] PacketError),
    /// The setup message was another message, or lacked a descriptor.
    #[error("the setup message is not one")]
    BadSetup,
    /// The virtual machine's front end broke the conversation, or it could not be begun.
    #[error("vhost-user: {0}")]
    Device(vhost_user_backend::Error),
    /// A system call that must work did not.
    #[error("{what}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

/// What the daemon hands over at the start.
struct Setup {
    reply: OwnedFd,
    vhost_user: OwnedFd,
    control: OwnedFd,
    side_directory: OwnedFd,
}

/// Runs the files process to its end: all of `lighter files`.
#[must_use]
pub fn process_main() -> ExitCode {
    sandbox::close_inherited();
    // Without a descriptor for its log, a process can still serve.
    if let Ok(log) = BoundedLog::inherited() {
        let _ = tracing_subscriber::fmt()
            .with_writer(Mutex::new(log))
            .with_ansi(false)
            .try_init();
    }
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut text = error.to_string();
            let mut cause = std::error::Error::source(&error);
            while let Some(inner) = cause {
                text = format!("{text}: {inner}");
                cause = inner.source();
            }
            eprintln!("error: {text}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), ProcessError> {
    let setup = take_setup()?;
    let system = |what| move |source: std::io::Error| ProcessError::System { what, source };
    let descriptors = sandbox::prepare().map_err(system("giving up what is not needed"))?;
    let side = Sidecar::open(setup.side_directory)
        .map_err(|e| system("reading the marks of files without attributes")(e.into()))?;
    let rules = Arc::new(Rules::default());
    let shares = Arc::new(Shares::new(Arc::clone(&rules)));
    let fs = ShareFs::new(
        Arc::clone(&shares),
        Arc::clone(&rules),
        side,
        Limits::for_descriptors(descriptors),
    )
    .map_err(|e| system("opening /proc/self/fd")(e.into()))?;
    let fs = Arc::new(fs);
    let connected = Arc::new(AtomicBool::new(false));
    let observer = Arc::new(Observed {
        fs: Arc::clone(&fs),
        connected: Arc::clone(&connected),
    });
    let control = control_server::Server::new(setup.control, shares, rules).observed_by(observer);
    let memory = GuestMemoryAtomic::new(GuestMemoryMmap::new());
    let device = Device::start(Service::new(Arc::clone(&fs)), memory.clone())
        .map_err(system("starting workers"))?;
    let reply = setup
        .reply
        .try_clone()
        .map_err(system("duplicating the setup socket"))?;
    std::thread::Builder::new()
        .name("control".into())
        .spawn(move || {
            if let Err(error) = control.run(Some(reply)) {
                tracing::error!(%error, "the control socket is lost");
            }
        })
        .map_err(system("starting the control thread"))?;
    let daemon = start_device(Arc::new(device), memory, setup.vhost_user)?;
    // Every thread runs by now, so none of them need ever start another.
    sandbox::confine().map_err(system("confining this process"))?;
    connected.store(true, Ordering::Relaxed);
    packet::send(&setup.reply, &Reply::Done, &[]).map_err(ProcessError::NotSetUp)?;
    drop(setup.reply);
    let ended = wait_for_end(daemon);
    connected.store(false, Ordering::Relaxed);
    fs.forget_all();
    if let Err(error) = fs.sync_marks() {
        tracing::warn!(%error, "marks of files without attributes may be lost");
    }
    ended
}

type Daemon = VhostUserDaemon<Arc<Device>>;

/// Begins to serve the one connection, which is waiting already.
fn start_device(
    device: Arc<Device>,
    memory: GuestMemoryAtomic<GuestMemoryMmap>,
    listener: OwnedFd,
) -> Result<Daemon, ProcessError> {
    let mut listener = Listener::from(UnixListener::from(listener));
    let mut daemon =
        VhostUserDaemon::new("vhost-user".into(), device, memory).map_err(ProcessError::Device)?;
    daemon.start(&mut listener).map_err(ProcessError::Device)?;
    Ok(daemon)
}

/// Waits until the virtual machine is gone, politely or not.
fn wait_for_end(mut daemon: Daemon) -> Result<(), ProcessError> {
    let ended = daemon.wait();
    // Dropping it would wait for its queue thread, which never ends; the process does so next.
    std::mem::forget(daemon);
    match ended {
        Ok(())
        | Err(vhost_user_backend::Error::HandleRequest(
            Gone::Disconnected | Gone::PartialMessage,
        )) => Ok(()),
        Err(error) => Err(ProcessError::Device(error)),
    }
}

/// What `Status` tells of this process.
struct Observed {
    fs: Arc<ShareFs>,
    connected: Arc<AtomicBool>,
}

impl Observer for Observed {
    fn observe(&self, status: &mut Status) {
        status.connected = self.connected.load(Ordering::Relaxed);
        self.fs.observe(status);
    }

    fn rights_changed(&self) {
        self.fs.rights_changed();
    }

    fn share_removed(&self, serial: u64) {
        self.fs.share_removed(serial);
    }
}

fn take_setup() -> Result<Setup, ProcessError> {
    let reply = stdin()
        .as_fd()
        .try_clone_to_owned()
        .map_err(|source| ProcessError::System {
            what: "duplicating standard input",
            source,
        })?;
    let (request, descriptors) =
        packet::receive::<Request>(&reply).map_err(ProcessError::NotSetUp)?;
    let three: Result<[OwnedFd; 3], _> = descriptors.try_into();
    match (request, three) {
        (Request::Setup, Ok([vhost_user, control, side_directory])) => Ok(Setup {
            reply,
            vhost_user,
            control,
            side_directory,
        }),
        _ => Err(ProcessError::BadSetup),
    }
}
