//! A machine under our own monitor.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lighter_platform::sys::threads;
use lighter_vmm::blk::Full;
use lighter_vmm::device::{Device, Local};
use lighter_vmm::kvm::{Config, End, Monitor};
use lighter_vmm::remote::Remote;
use lighter_vmm::vsock::{GUEST_CID, Vsock};

use crate::sys::console::Console;
use crate::sys::ended::Ended;
use crate::sys::{accelerator, cmdline, roles, streams};
use crate::{
    Accelerator, Capabilities, ClientStream, ConnectDone, Error, ExitReason, Hypervisor, Incoming,
    Observation, Ready, Vm, VmParts, VmSpec,
};

/// There is no firmware, no ACPI and no PCI to look for, and KVM tells the clock's frequency. The serial line, where
/// each byte is an exit or two, has the words of a kernel that dies early, and goes silent when the console is there.
/// Nothing ran before the kernel that could have used the I/O APIC.
const CMDLINE: &[&str] = &[
    "acpi=off",
    "pci=off",
    "ioapic_untouched",
    "earlyprintk=ttyS0,115200",
    "console=hvc0",
];
/// Virtio's number of a vsock device, its rings' length, and the event ring, over which nothing ever comes.
const VSOCK: (u32, u16, usize) = (19, 128, 1);

/// The backend.
#[derive(Debug, Default)]
pub struct Kvm;

impl Hypervisor for Kvm {
    fn name(&self) -> &'static str {
        "kvm"
    }

    fn probe(&self) -> Result<(), Error> {
        accelerator::check()
    }

    fn create(&self, spec: &VmSpec, parts: VmParts) -> Result<Box<dyn Vm>, Error> {
        spec.validate()?;
        parts.check(spec)?;
        let vsock =
            Vsock::spawn(GUEST_CID).map_err(|e| Error::system("start the vsock device", e))?;
        Ok(Box::new(KvmVm {
            vsock,
            stage: Mutex::new(Stage::Made(Box::new((spec.clone(), parts)))),
            ended: Arc::default(),
            full: Full::default(),
        }))
    }
}

struct KvmVm {
    // Before the device below, which the monitor's threads use.
    stage: Mutex<Stage>,
    vsock: Vsock,
    ended: Arc<Ended>,
    full: Full,
}

enum Stage {
    Made(Box<(VmSpec, VmParts)>),
    Running(Arc<Monitor>),
    Ended,
}

impl KvmVm {
    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn launch(
        &self,
        spec: &VmSpec,
        parts: VmParts,
        ready: Ready<'_>,
    ) -> Result<Arc<Monitor>, Error> {
        let console = Console::new(parts.console, spec.console_limit);
        let devices = Devices {
            spec,
            vsock: &self.vsock,
            full: &self.full,
        };
        let disks = (parts.disks, parts.disk_logs);
        let mut devices = devices.make(disks, parts.shares, parts.network)?;
        let printed = Box::new(Lines::new(console.clone()));
        let printer = lighter_vmm::console::device(printed);
        devices.push(Box::new(
            printer.map_err(|e| Error::system("start a device", e))?,
        ));
        let kvm = parts.virtualisation.ok_or_else(|| {
            Error::Spec("there is no descriptor for the system's virtualisation".into())
        })?;
        let config = Config {
            kvm: kvm.into(),
            cpus: u8::try_from(spec.cpus).map_err(|e| Error::Spec(e.to_string()))?,
            memory_bytes: spec.memory_bytes,
            huge_pages: spec.huge_pages,
            kernel: parts.kernel.into(),
            initramfs: parts.initramfs.into(),
            command_line: cmdline::of(CMDLINE, spec),
            console: Box::new(Lines::new(console.clone())),
            devices,
        };
        let monitor = Monitor::new(config).map_err(|error| start_error(&error))?;
        let monitor = Arc::new(monitor);
        monitor.start().map_err(|error| start_error(&error))?;
        self.watch(Arc::clone(&monitor), console)?;
        // Whoever waits for the end has it, too: without this it would wait for ever.
        ready().inspect_err(|error| {
            self.failed(error);
            monitor.kill();
        })?;
        monitor.open();
        Ok(monitor)
    }

    /// It ended before it began.
    fn failed(&self, error: &Error) {
        self.ended.set(ExitReason::Crash {
            what: error.to_string(),
            console_tail: String::new(),
        });
    }

    /// Waits for the end on a thread of its own and keeps how it came.
    fn watch(&self, monitor: Arc<Monitor>, console: Console) -> Result<(), Error> {
        let ended = Arc::clone(&self.ended);
        let waited = move || {
            let what = match monitor.wait() {
                End::Reset => "the guest restarted".to_owned(),
                End::TripleFault => {
                    "the guest restarted or panicked (its processor was reset by a triple fault)"
                        .to_owned()
                }
                End::Killed => "the machine was ended".to_owned(),
                End::Failed(what) => what,
            };
            ended.set(ExitReason::Crash {
                what,
                console_tail: console.tail(),
            });
        };
        threads::spawn("vm-exit", roles::WAIT, waited)
            .map(drop)
            .map_err(|e| Error::system("start a thread", e))
    }
}

/// The devices of a specification.
struct Devices<'a> {
    spec: &'a VmSpec,
    vsock: &'a Vsock,
    full: &'a Full,
}

impl Devices<'_> {
    /// In the order in which the guest finds them: disks, which come with the logs of those that have one, are named
    /// by it.
    fn make(
        &self,
        (disks, logs): (Vec<OwnedFd>, Vec<OwnedFd>),
        shares: Vec<OwnedFd>,
        network: Option<OwnedFd>,
    ) -> Result<Vec<Box<dyn Device>>, Error> {
        let system = |e: io::Error| Error::system("start a device", e);
        let mut devices: Vec<Box<dyn Device>> = Vec::new();
        let mut logs = logs.into_iter().map(File::from);
        for (disk, file) in self.spec.disks.iter().zip(disks) {
            let log = disk.log.as_ref().and_then(|_| logs.next());
            let (file, full) = (file.into(), self.full.clone());
            let block = lighter_vmm::blk::device(file, disk.read_only, full, log);
            devices.push(Box::new(block.map_err(system)?));
        }
        let (kind, ring, extra) = VSOCK;
        let transport = self.vsock.transport();
        devices.push(Box::new(Local::new(kind, ring, extra, transport)));
        let remote = |e| Error::system("reach the process behind a device", chain(&e));
        for (share, socket) in self.spec.shares.iter().zip(shares) {
            let device = Remote::share(socket.into(), &share.tag).map_err(remote)?;
            devices.push(Box::new(device));
        }
        if let (Some(network), Some(name)) = (self.spec.network, network) {
            let socket = connect(&name).map_err(system)?;
            let device = Remote::card(socket, network.mac).map_err(remote)?;
            devices.push(Box::new(device));
        }
        devices.push(Box::new(lighter_vmm::rng::device().map_err(system)?));
        devices.push(Box::new(lighter_vmm::balloon::device().map_err(system)?));
        Ok(devices)
    }
}

/// Connects to a listening socket by the descriptor of its name.
fn connect(name: &OwnedFd) -> io::Result<UnixStream> {
    use std::os::fd::AsRawFd as _;
    UnixStream::connect(format!("/proc/self/fd/{}", name.as_raw_fd()))
}

fn start_error(error: &lighter_vmm::kvm::Error) -> Error {
    Error::system("start the machine", chain(error))
}

/// An error with what is behind it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut behind = error.source();
    while let Some(cause) = behind {
        text = format!("{text}: {cause}");
        behind = cause.source();
    }
    text
}

/// What the guest prints, kept until there is a line: the serial port gives single bytes, the kernel's console few.
struct Lines {
    console: Console,
    line: Vec<u8>,
}

impl Lines {
    /// The longest that is kept back.
    const LONGEST: usize = 256;

    fn new(console: Console) -> Self {
        Self {
            console,
            line: Vec::new(),
        }
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.line.extend_from_slice(bytes);
        if self.line.len() >= Self::LONGEST || self.line.ends_with(b"\n") {
            self.console.write(&self.line);
            self.line.clear();
        }
        Ok(bytes.len())
    }

    /// The serial port flushes after each byte; what is kept back is written with its line.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.console.write(&self.line);
    }
}

impl Vm for KvmVm {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            half_close: true,
            own_files: true,
            memory_return: true,
            enospc_pause: true,
            share_at_runtime: false,
            rtc: true,
        }
    }

    fn start_with(&self, ready: Ready<'_>) -> Result<(), Error> {
        let mut stage = self.stage();
        let (spec, parts) = match std::mem::replace(&mut *stage, Stage::Ended) {
            Stage::Made(made) => *made,
            Stage::Running(running) => {
                *stage = Stage::Running(running);
                return Err(Error::AlreadyStarted);
            }
            Stage::Ended => return Err(Error::Gone),
        };
        match self.launch(&spec, parts, ready) {
            Ok(monitor) => {
                *stage = Stage::Running(monitor);
                Ok(())
            }
            Err(error) => {
                self.failed(&error);
                Err(error)
            }
        }
    }

    fn connect(&self, port: u32, first: Vec<u8>, stream: ClientStream, done: ConnectDone) {
        if self.ended.reason().is_some() {
            return done(Err((Error::Gone, stream)));
        }
        streams::connect(&self.vsock, port, first, stream, done);
    }

    fn listen(&self, port: u32, incoming: Option<Incoming>) {
        self.vsock.listen(port, incoming);
    }

    fn kill(&self) {
        self.ended.kill();
        let mut stage = self.stage();
        match &*stage {
            Stage::Running(monitor) => monitor.kill(),
            Stage::Made(_) => {
                *stage = Stage::Ended;
                self.ended.set(ExitReason::Killed);
            }
            Stage::Ended => {}
        }
    }

    fn observe(&self) -> Observation {
        Observation {
            version: env!("CARGO_PKG_VERSION").into(),
            accelerator: Accelerator::Kvm,
            vm_pid: None,
            guest_ready: self.vsock.ready(),
            streams: self.vsock.streams(),
            disk_full: self.full.now(),
        }
    }

    fn wait(&self) -> ExitReason {
        self.ended.wait()
    }
}

impl Drop for KvmVm {
    fn drop(&mut self) {
        self.kill();
        self.ended.wait();
    }
}
