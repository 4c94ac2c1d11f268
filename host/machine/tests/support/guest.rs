//! A machine with the test guest in it, in this process.

use std::{
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
};

use lighter_machine::{Error, Hypervisor, Vm, VmParts, VmSpec};

use super::{PATIENCE, port, until};

pub type Answer = Result<(), (Error, OwnedFd)>;

/// A machine with the test guest, up to its last listener.
pub struct Guest {
    pub vm: Arc<dyn Vm>,
    pub console: PathBuf,
    dir: Option<tempfile::TempDir>,
}

/// Runs a claim against a fresh machine of every backend, which does not run yet.
pub fn each(kernel: &Path, claim: impl Fn(Guest)) {
    for backend in super::backends::all() {
        backend.probe().unwrap();
        claim(Guest::create(&*backend, kernel.to_owned()));
    }
}

pub fn open_parts(spec: &VmSpec) -> VmParts {
    let open = |path: &PathBuf| OwnedFd::from(std::fs::File::open(path).unwrap());
    let writable = |path: &PathBuf| {
        let file = std::fs::File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path);
        OwnedFd::from(file.unwrap())
    };
    VmParts {
        kernel: open(&spec.kernel),
        initramfs: open(&spec.initramfs),
        disks: spec.disks.iter().map(|disk| writable(&disk.path)).collect(),
        disk_logs: Vec::new(),
        shares: Vec::new(),
        network: None,
        console: writable(&spec.console_log),
        virtualisation: std::fs::File::options()
            .read(true)
            .write(true)
            .open("/dev/kvm")
            .ok()
            .map(OwnedFd::from),
    }
}

impl Guest {
    /// Makes a machine that does not run yet.
    pub fn create(hypervisor: &dyn Hypervisor, kernel: PathBuf) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut guest = Self::create_in(hypervisor, kernel, dir.path());
        guest.dir = Some(dir);
        guest
    }

    /// The same with its files in a directory of the caller's.
    pub fn create_in(hypervisor: &dyn Hypervisor, kernel: PathBuf, dir: &Path) -> Self {
        Self::of(hypervisor, &super::spec(kernel, dir))
    }

    /// The same of another specification.
    pub fn of(hypervisor: &dyn Hypervisor, spec: &VmSpec) -> Self {
        let vm = Arc::from(hypervisor.create(spec, open_parts(spec)).unwrap());
        Self {
            vm,
            console: spec.console_log.clone(),
            dir: None,
        }
    }

    /// Starts it and waits until its last listener is there.
    pub fn boot(self) -> Self {
        self.vm.start().unwrap();
        self.wait_until_up();
        self
    }

    pub fn wait_until_up(&self) {
        until("the guest's last listener", || {
            self.try_connect(port::ORDERS).ok()
        });
    }

    /// Asks for a stream without waiting for the answer.
    pub fn ask(&self, port: u32) -> (UnixStream, mpsc::Receiver<Answer>) {
        self.ask_with(port, b"")
    }

    /// Asks for a stream on which the guest is to read these bytes first.
    pub fn ask_with(&self, port: u32, first: &[u8]) -> (UnixStream, mpsc::Receiver<Answer>) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (sender, answer) = mpsc::channel();
        let done = Box::new(move |result| drop(sender.send(result)));
        self.vm.connect(port, first.to_vec(), theirs.into(), done);
        ours.set_read_timeout(Some(PATIENCE)).unwrap();
        ours.set_write_timeout(Some(PATIENCE)).unwrap();
        (ours, answer)
    }

    pub fn try_connect(&self, port: u32) -> Result<UnixStream, Error> {
        let (stream, answer) = self.ask(port);
        let answer = answer.recv_timeout(PATIENCE).expect("an answer");
        answer.map(|()| stream).map_err(|(error, _)| error)
    }

    pub fn connect(&self, port: u32) -> UnixStream {
        self.try_connect(port).unwrap()
    }
}
