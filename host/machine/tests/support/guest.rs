//! A machine with the test guest in it, in this process.

use std::{
    fs,
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use lighter_machine::{Error, Hypervisor, Vm, VmParts, VmSpec};

use super::{PATIENCE, port};

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
    let open = |path: &PathBuf| OwnedFd::from(fs::File::open(path).unwrap());
    let writable = |path: &PathBuf| {
        let file = fs::File::options()
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
        virtualisation: fs::File::options()
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

    /// Fails where the machine ends first, or the guest does not come up; then with all that can be seen of it.
    pub fn wait_until_up(&self) {
        let start = Instant::now();
        loop {
            let Err(error) = self.try_connect(port::ORDERS) else {
                return;
            };
            let waited = start.elapsed();
            assert!(
                !matches!(error, Error::Gone) && waited < PATIENCE,
                "the guest's last listener is not there after {waited:?}: {error}\n{}",
                self.look()
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// What can be seen of a machine from outside: its console, and what the monitor's threads do.
    fn look(&self) -> String {
        let observed = self.vm.observe();
        let console = fs::read(&self.console).unwrap_or_default();
        let console = String::from_utf8_lossy(&console);
        let pid = observed.vm_pid.unwrap_or_else(std::process::id);
        let threads = threads(pid).join("\n");
        format!("{observed:?}\nconsole:\n{console}\nthreads:\n{threads}")
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

/// Each thread of a process: its state, the time it has run in ticks, and the system call that it is in.
fn threads(pid: u32) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten();
    let one = |task: PathBuf| {
        let read = |name: &str| fs::read_to_string(task.join(name)).unwrap_or_default();
        let (stat, call) = (read("stat"), read("syscall"));
        // proc_pid_stat(5): the name in brackets, then the state, and eleven fields later user and system time.
        let (name, rest) = stat.rsplit_once(')').unwrap_or_default();
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let at = |index: usize| fields.get(index).copied().unwrap_or("?");
        let [state, user, system] = [at(0), at(11), at(12)];
        format!("{name}) {state} {user}+{system} in {}", call.trim())
    };
    tasks.flatten().map(|task| one(task.path())).collect()
}
