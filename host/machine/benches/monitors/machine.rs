//! A machine of one side, and streams to it.

use std::fs::File;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use lighter_machine::{Disk, Hypervisor, Kvm, Qemu, Vm, VmParts, VmSpec};
use lighter_platform::disk_template;

use super::Result;

/// Longest that anything may take: the outer machine is emulated.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long a machine that does not listen yet is left alone: each question is an interrupt and an answer of it, and one
/// every millisecond took all of a processor for the last fifth of a boot.
const BETWEEN_QUESTIONS: Duration = Duration::from_millis(10);
/// Memory of each machine, in bytes.
const MEMORY: u64 = 1 << 30;

/// Who runs the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Our own monitor.
    Ours,
    /// QEMU's smallest board.
    Microvm,
}

/// In the order in which they are measured.
pub const SIDES: [Side; 2] = [Side::Ours, Side::Microvm];

impl Side {
    /// How rows name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "kvm",
            Self::Microvm => "microvm",
        }
    }

    fn hypervisor(self) -> Box<dyn Hypervisor> {
        match self {
            Self::Ours => Box::new(Kvm),
            Self::Microvm => Box::new(Qemu),
        }
    }
}

/// A running machine.
pub struct Machine {
    pub vm: Arc<dyn Vm>,
    /// When it was asked for.
    pub began: Instant,
    console: PathBuf,
    _folder: tempfile::TempDir,
}

impl Machine {
    /// Starts one on a disk made from this template before the clock runs.
    pub fn start(side: Side, kernel: &Path, initramfs: &Path, template: &Path) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let disk = folder.path().join("disk");
        let writable = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&disk)?;
        let header = disk_template::expand(File::open(template)?, &writable)?;
        writable.set_len(header.disk_size)?;
        let spec = VmSpec {
            backend: lighter_machine::Backend::Auto,
            cpus: 2,
            memory_bytes: MEMORY,
            huge_pages: false,
            kernel: kernel.into(),
            initramfs: initramfs.into(),
            cmdline_extra: Vec::new(),
            disks: vec![Disk {
                path: disk,
                read_only: false,
                log: None,
            }],
            shares: Vec::new(),
            network: None,
            console_log: folder.path().join("console"),
            console_limit: 1 << 20,
        };
        let console = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&spec.console_log)?;
        let hypervisor = side.hypervisor();
        let began = Instant::now();
        let kvm = File::options().read(true).write(true).open("/dev/kvm")?;
        let parts = VmParts {
            kernel: File::open(kernel)?.into(),
            initramfs: File::open(initramfs)?.into(),
            disks: vec![writable.into()],
            disk_logs: Vec::new(),
            shares: Vec::new(),
            network: None,
            console: console.into(),
            virtualisation: Some(kvm.into()),
        };
        let vm: Arc<dyn Vm> = Arc::from(hypervisor.create(&spec, parts)?);
        vm.start()?;
        Ok(Self {
            vm,
            began,
            console: spec.console_log,
            _folder: folder,
        })
    }

    /// A stream to a port of the guest, once somebody listens there.
    pub fn connect(&self, port: u32) -> Result<UnixStream> {
        loop {
            let (ours, theirs) = UnixStream::pair()?;
            let (sender, answer) = mpsc::channel();
            let done = Box::new(move |result: std::result::Result<(), _>| {
                // Nobody waits for it after the limit.
                let _ = sender.send(result.is_ok());
            });
            self.vm.connect(port, Vec::new(), theirs.into(), done);
            if answer.recv_timeout(PATIENCE)? {
                return Ok(ours);
            }
            if self.began.elapsed() > PATIENCE {
                let said = std::fs::read(&self.console).unwrap_or_default();
                let said = String::from_utf8_lossy(&said);
                return Err(format!("nobody listens on port {port} of the guest: {said}").into());
            }
            // The guest has no word for being there: it is asked again.
            std::thread::sleep(BETWEEN_QUESTIONS);
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.vm.kill();
        self.vm.wait();
    }
}
