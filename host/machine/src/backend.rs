//! The contract between the machine process and a hypervisor.
//!
//! A backend implements [`Hypervisor`] and [`Vm`], and passes `contract.rs`. A new method on `Vm`
//! needs every backend to implement it for real.

use serde::{Deserialize, Serialize};

use crate::{ClientStream, Error, ExitReason, VmSpec};

/// What runs the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Accelerator {
    /// The Linux kernel's virtualisation.
    Kvm,
    /// Instructions are translated in software.
    Tcg,
}

/// What a backend can do; each answer changes what the engine does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// Streams carry half-close by themselves; else the link frames its bytes.
    pub half_close: bool,
    /// Files are served by our own process over vhost-user; else the platform's sharing is used.
    pub own_files: bool,
    /// Memory the guest frees returns to the host; else the engine asks for it by a balloon.
    pub memory_return: bool,
    /// The machine pauses when the host's disk is full; else the guest sees an I/O error.
    pub enospc_pause: bool,
    /// Shares can be added while the machine runs; else they are fixed at the start.
    pub share_at_runtime: bool,
    /// The guest has a clock at boot; else it waits for the first frame.
    pub rtc: bool,
}

/// The open files of a [`VmSpec`]: backends open nothing by the names in it.
#[derive(Debug)]
pub struct VmParts {
    /// The kernel, open for reading.
    pub kernel: ClientStream,
    /// The initial file system, open for reading.
    pub initramfs: ClientStream,
    /// One for each of `spec.disks`.
    pub disks: Vec<ClientStream>,
    /// One for each of `spec.disks` that has a log, in their order: an empty file, open for reading and writing.
    pub disk_logs: Vec<ClientStream>,
    /// One connected vhost-user socket for each of `spec.shares`.
    pub shares: Vec<ClientStream>,
    /// The name of a listening vhost-user socket for `spec.network`.
    pub network: Option<ClientStream>,
    /// The file that keeps the console's end, open for reading and writing.
    pub console: ClientStream,
    /// The system's virtualisation (`/dev/kvm`), for a backend within this process.
    pub virtualisation: Option<ClientStream>,
}

impl VmParts {
    /// Whether there is one for each device of `spec`; every backend asks first.
    ///
    /// # Errors
    /// [`Error::Spec`] where there is not.
    pub fn check(&self, spec: &VmSpec) -> Result<(), Error> {
        let logs = spec.disks.iter().filter(|disk| disk.log.is_some());
        let complete = self.disks.len() == spec.disks.len()
            && self.disk_logs.len() == logs.count()
            && self.shares.len() == spec.shares.len()
            && self.network.is_some() == spec.network.is_some();
        if complete {
            return Ok(());
        }
        Err(Error::Spec(
            "there is not one descriptor for each disk, log, share and network card".into(),
        ))
    }
}

/// Called once with the outcome of [`Vm::connect`], from a thread of the backend: it must not block.
/// On failure the stream comes back, unread.
pub type ConnectDone = Box<dyn FnOnce(Result<(), (Error, ClientStream)>) + Send>;

/// Asked for the host's end of a stream the guest opens, from a thread of the backend: it must not
/// block. `None` refuses the guest.
pub type Incoming = Box<dyn FnMut(u32) -> Option<ClientStream> + Send>;

/// Called when all of a machine was started; see [`Vm::start_with`].
pub type Ready<'a> = &'a mut dyn FnMut() -> Result<(), Error>;

/// What a backend sees of its machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// The monitor's version as it tells it.
    pub version: String,
    /// What runs the guest's instructions.
    pub accelerator: Accelerator,
    /// The monitor's process, where it is one of its own.
    pub vm_pid: Option<u32>,
    /// Whether the guest's vsock driver is up.
    pub guest_ready: bool,
    /// Open vsock streams.
    pub streams: u32,
    /// Whether the machine waits because the host's disk has no room for its writes.
    pub disk_full: bool,
}

/// A way to run virtual machines on this host.
pub trait Hypervisor {
    /// Its name in status and messages.
    fn name(&self) -> &'static str;
    /// Says whether it can work here, and what is missing if not. Cheap; starts no machine.
    ///
    /// # Errors
    /// [`Error::Missing`] or [`Error::TooOld`], with what the user can do.
    fn probe(&self) -> Result<(), Error>;
    /// Makes a machine, which does not run yet.
    ///
    /// # Errors
    /// [`Error::Spec`] when `parts` do not match `spec`, else as [`Hypervisor::probe`].
    fn create(&self, spec: &VmSpec, parts: VmParts) -> Result<Box<dyn Vm>, Error>;
}

/// One virtual machine. Dropping it ends it.
pub trait Vm: Send + Sync {
    /// What it can do, known before it runs.
    fn capabilities(&self) -> Capabilities;
    /// Starts it and returns at once; the guest is up when a stream can be connected.
    ///
    /// # Errors
    /// [`Error::AlreadyStarted`] a second time, [`Error::Gone`] after [`Vm::kill`].
    fn start(&self) -> Result<(), Error> {
        self.start_with(&mut || Ok(()))
    }
    /// The same, and `ready` is called on this thread when every thread and process of the machine was started: before
    /// the guest's first instruction where the backend can hold that back.
    ///
    /// # Errors
    /// As [`Vm::start`], and what `ready` says: then the machine has ended.
    fn start_with(&self, ready: Ready<'_>) -> Result<(), Error>;
    /// Joins `stream` to the guest's vsock port; bytes and half-closes are carried both ways from
    /// then on, after `first`, which the guest reads before all of them. Fails with [`Error::NotReady`], [`Error::Refused`], [`Error::TooManyStreams`] or
    /// [`Error::Gone`] through `done`.
    fn connect(&self, port: u32, first: Vec<u8>, stream: ClientStream, done: ConnectDone);
    /// Lets the guest connect to the host's vsock port, or no longer with `None`.
    fn listen(&self, port: u32, incoming: Option<Incoming>);
    /// Ends it at once. May be called at any time and more than once.
    fn kill(&self);
    /// What can be seen of it from outside the guest.
    fn observe(&self) -> Observation;
    /// Waits until it has ended and says why; `Bye` is never among the answers, as a backend does
    /// not understand the guest's words.
    fn wait(&self) -> ExitReason;
}
