//! A machine under QEMU.
//!
//! ```text
//!   Made ──start──► Running ──exit──► (ended)
//!     └────────kill───────┴──────────────┘
//! ```

use std::{
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    process::Child,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    time::Duration,
};

use lighter_platform::sys::threads;
use lighter_vmm::{
    vhost_user,
    vsock::{GUEST_CID, Vsock},
};
use rustix::process::Signal;

use super::{
    args::{self, Fds},
    counter::Look,
    find::{self, Version},
    process, qmp,
};
use crate::{
    Accelerator, Capabilities, ClientStream, ConnectDone, Error, ExitReason, Hypervisor, Incoming,
    Observation, Ready, Vm, VmParts, VmSpec,
    sys::{accelerator, console::Console, ended::Ended, roles, streams},
};

/// How long QEMU may take to set the machine up before its greeting.
const GREETING: Duration = Duration::from_secs(30);

/// The backend.
#[derive(Debug, Default)]
pub struct Qemu;

impl Qemu {
    /// The monitor's program.
    ///
    /// # Errors
    /// [`Error::Missing`] with the package to install.
    pub fn program(&self) -> Result<std::path::PathBuf, Error> {
        find::find()
    }
}

impl Hypervisor for Qemu {
    fn name(&self) -> &'static str {
        "qemu"
    }

    fn probe(&self) -> Result<(), Error> {
        find::version(&find::find()?)?.check()
    }

    fn create(&self, spec: &VmSpec, parts: VmParts) -> Result<Box<dyn Vm>, Error> {
        spec.validate()?;
        parts.check(spec)?;
        let vsock =
            Vsock::spawn(GUEST_CID).map_err(|e| Error::system("start the vsock device", e))?;
        Ok(Box::new(QemuVm {
            vsock,
            accelerator: accelerator::choose(),
            counter: Look::take(),
            stage: Mutex::new(Stage::Made(Box::new((spec.clone(), parts)))),
            ended: Arc::new(Ended::default()),
            disk_full: qmp::DiskFull::default(),
        }))
    }
}

struct QemuVm {
    vsock: Vsock,
    accelerator: Accelerator,
    /// The processor's counter when this was made.
    counter: Option<Look>,
    stage: Mutex<Stage>,
    ended: Arc<Ended>,
    disk_full: qmp::DiskFull,
}

enum Stage {
    Made(Box<(VmSpec, VmParts)>),
    Starting,
    Running(Running),
    Ended,
}

struct Running {
    pidfd: OwnedFd,
    pid: u32,
    version: Version,
}

impl QemuVm {
    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn launch(&self, spec: &VmSpec, parts: VmParts) -> Result<Running, Error> {
        let system = |e: std::io::Error| Error::system("prepare QEMU", e);
        let program = find::find()?;
        let (vsock, vsock_theirs) = UnixStream::pair().map_err(system)?;
        let (console, console_theirs) = UnixStream::pair().map_err(system)?;
        let (qmp, qmp_theirs) = UnixStream::pair().map_err(system)?;
        vhost_user::serve(vsock, self.vsock.transport()).map_err(system)?;
        let log = Console::new(parts.console, spec.console_limit);
        log.follow(console).map_err(system)?;
        let mut theirs: Vec<OwnedFd> = vec![
            parts.kernel,
            parts.initramfs,
            vsock_theirs.into(),
            console_theirs.into(),
            qmp_theirs.into(),
        ];
        let mut fds = Fds {
            disks: process::numbers(&parts.disks),
            disk_logs: process::numbers(&parts.disk_logs),
            shares: process::numbers(&parts.shares),
            network: process::numbers(parts.network.as_slice()).first().copied(),
            ..Fds::default()
        };
        if let [kernel, initramfs, vsock, console, qmp] = process::numbers(&theirs)[..] {
            fds = Fds {
                kernel,
                initramfs,
                vsock,
                console,
                qmp,
                ..fds
            };
        }
        theirs.extend(parts.disks);
        theirs.extend(parts.disk_logs);
        theirs.extend(parts.shares);
        theirs.extend(parts.network);
        let counter_khz = match self.accelerator {
            Accelerator::Tcg => self.counter.and_then(Look::khz),
            // KVM tells the guest itself.
            Accelerator::Kvm => None,
        };
        let args = args::arguments(spec, self.accelerator, counter_khz, &fds);
        let (child, pidfd) = process::spawn(&program, &args, &process::numbers(&theirs))?;
        // Our copies go, so that the other ends see QEMU's end.
        drop(theirs);
        let pid = child.id();
        let (greeted, greeting) = mpsc::channel();
        let started = qmp::follow(qmp, greeted, self.disk_full.clone()).map_err(system);
        self.watch(child, log).map_err(system)?;
        started?;
        let version = greeting
            .recv_timeout(GREETING)
            .map_err(|_| self.failed_start(&program))?;
        Ok(Running {
            pidfd,
            pid,
            version,
        })
    }

    /// Waits for the child on a thread of its own and keeps how it ended.
    fn watch(&self, mut child: Child, log: Console) -> std::io::Result<()> {
        let ended = Arc::clone(&self.ended);
        let work = move || {
            let words = child.stderr.take().map(process::words).unwrap_or_default();
            let what = match child.wait() {
                Ok(status) => process::describe(status, &words),
                Err(e) => format!("QEMU's end could not be seen: {e}"),
            };
            ended.set(ExitReason::Crash {
                what,
                console_tail: log.tail(),
            });
        };
        threads::spawn("qemu-exit", roles::QEMU_EXIT, work).map(drop)
    }

    /// QEMU ended before it greeted. A version too old is the likeliest cause, and its hint helps.
    fn failed_start(&self, program: &std::path::Path) -> Error {
        if let Err(error) = find::version(program).and_then(Version::check) {
            return error;
        }
        match self.ended.reason() {
            Some(ExitReason::Crash { what, .. }) => Error::system("start the machine", what),
            _ => Error::system("start the machine", "QEMU did not answer"),
        }
    }
}

impl Vm for QemuVm {
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
        let made = std::mem::replace(&mut *self.stage(), Stage::Starting);
        let (spec, parts) = match made {
            Stage::Made(made) => *made,
            other => {
                let ended = matches!(other, Stage::Ended);
                *self.stage() = other;
                return Err(if ended {
                    Error::Gone
                } else {
                    Error::AlreadyStarted
                });
            }
        };
        let launched = self.launch(&spec, parts).and_then(|running| {
            running
                .version
                .check()
                .and_then(|()| ready())
                .inspect_err(|_| kill(&running.pidfd))
                .map(|()| running)
        });
        let mut stage = self.stage();
        match launched {
            Ok(running) => {
                // A kill that came meanwhile found no process to end.
                if self.ended.killed() {
                    kill(&running.pidfd);
                }
                *stage = Stage::Running(running);
                Ok(())
            }
            Err(error) => {
                *stage = Stage::Ended;
                drop(stage);
                self.ended.set(ExitReason::Crash {
                    what: error.to_string(),
                    console_tail: String::new(),
                });
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
            Stage::Running(running) => kill(&running.pidfd),
            Stage::Made(_) => {
                *stage = Stage::Ended;
                self.ended.set(ExitReason::Killed);
            }
            Stage::Starting | Stage::Ended => {}
        }
    }

    fn observe(&self) -> Observation {
        let stage = self.stage();
        let running = if let Stage::Running(running) = &*stage {
            Some(running)
        } else {
            None
        };
        Observation {
            version: running
                .map(|running| running.version.to_string())
                .unwrap_or_default(),
            accelerator: self.accelerator,
            vm_pid: running.map(|running| running.pid),
            guest_ready: self.vsock.ready(),
            streams: self.vsock.streams(),
            disk_full: self.disk_full.now(),
        }
    }

    fn wait(&self) -> ExitReason {
        self.ended.wait()
    }
}

impl Drop for QemuVm {
    fn drop(&mut self) {
        self.kill();
    }
}

fn kill(pidfd: &OwnedFd) {
    // Fails only if it is dead already.
    _ = rustix::process::pidfd_send_signal(pidfd.as_fd(), Signal::KILL);
}
