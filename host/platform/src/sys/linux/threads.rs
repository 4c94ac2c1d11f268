//! Threads that each may make the system calls of their work, and no others.
//!
//! A process that serves a hostile guest by many threads gives each a filter of its own: one that reads a disk never
//! makes a socket, and one that runs the guest's processor does next to nothing. Called by the machine's process and
//! the devices in it. Processes that are one kind of work confine themselves whole instead ([`super::sandbox`]), as
//! do tests: there [`spawn`] starts a thread as any other.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::{Builder, JoinHandle};

use seccompiler::{
    BackendError, BpfProgram, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule,
};

use super::sandbox;

/// Whether threads confine themselves; never taken back.
static CONFINED: AtomicBool = AtomicBool::new(false);

/// The work of a thread, by the system calls it takes beside memory, locks, time, its log and its end.
#[derive(Clone, Copy, Debug)]
pub struct Role {
    /// Calls with any arguments.
    pub calls: &'static [i64],
    /// Calls with certain arguments; a call stands in several of them where it has several uses.
    pub only: &'static [Only],
}

/// A system call with values of its arguments: their numbers, from zero, and the lower 32 bits of each.
#[derive(Clone, Copy, Debug)]
pub struct Only(pub i64, pub &'static [(u8, u32)]);

/// Signals go to threads of this process: one that runs a processor is told to look up, and a panic within a panic
/// aborts.
const SIGNAL: i64 = libc::SYS_tgkill;
/// The log is written, and emptied when it is full; an end closes what was held.
const LOG: &[i64] = &[
    libc::SYS_write,
    libc::SYS_lseek,
    libc::SYS_ftruncate,
    libc::SYS_close,
];

/// A build with checks asks whether a descriptor is open before it closes it.
const CLOSING: Only = Only(libc::SYS_fcntl, &[(1, libc::F_GETFD.cast_unsigned())]);

impl Role {
    /// Confines the calling thread for good: any other call ends the process.
    ///
    /// # Errors
    /// When the kernel has no filters.
    pub fn take(&self) -> io::Result<()> {
        let program = self.program().map_err(io::Error::other)?;
        seccompiler::apply_filter(&program).map_err(io::Error::other)
    }

    fn program(&self) -> Result<BpfProgram, BackendError> {
        let mut rules = sandbox::rules(&[self.calls, LOG])?;
        let own = SeccompRule::new(vec![is(0, std::process::id())?])?;
        rules.insert(SIGNAL, vec![own]);
        for Only(call, arguments) in self.only.iter().chain(&[CLOSING]) {
            let arguments = arguments
                .iter()
                .map(|(argument, value)| is(*argument, *value));
            let rule = SeccompRule::new(arguments.collect::<Result<_, _>>()?)?;
            rules.entry(*call).or_default().push(rule);
        }
        sandbox::program(rules)
    }
}

fn is(argument: u8, value: u32) -> Result<SeccompCondition, BackendError> {
    let (length, equal) = (SeccompCmpArgLen::Dword, SeccompCmpOp::Eq);
    SeccompCondition::new(argument, length, equal, value.into())
}

/// From now on every thread that [`spawn`] starts takes its role. To be called before another thread is started.
pub fn confine() {
    // Said again, for whoever has not given up its privileges by [`super::sandbox`]; twice is as once.
    sandbox::share_heap();
    CONFINED.store(true, Ordering::Release);
}

/// Starts a thread in its role; when this returns, its filter is in force.
///
/// # Errors
/// When the system gives no thread, or the kernel has no filters.
pub fn spawn(
    name: &str,
    role: Role,
    work: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let (told, taken) = mpsc::channel();
    let thread = Builder::new().name(name.into()).spawn(move || {
        let confined = CONFINED.load(Ordering::Acquire);
        let result = if confined { role.take() } else { Ok(()) };
        let may_work = result.is_ok();
        // Whoever started this thread waits for it.
        drop(told.send(result));
        drop(told);
        if may_work {
            work();
        }
    })?;
    // A thread that is gone without an answer panicked, which it has said.
    taken.recv().map_err(io::Error::other)??;
    Ok(thread)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::{Command, ExitStatus, Stdio};

    use super::*;

    const DEED: &str = "LIGHTER_TEST_DEED";
    const NAME: &str = "sys::linux::threads::tests::a_thread_is_confined_before_its_work";
    const READER: Role = Role {
        calls: &[libc::SYS_read],
        only: &[Only(libc::SYS_fcntl, &[(1, libc::F_GETFL as u32)])],
    };

    /// In a process of its own, which does that in a confined thread and then tells of it.
    fn done(deed: &str) -> ExitStatus {
        let starts = crate::lock::STARTS.write();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--test-threads=1", "--exact", NAME])
            .env(DEED, deed)
            .stdin(Stdio::null())
            // Its report would stand in the middle of ours.
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        drop(starts);
        child.wait().unwrap()
    }

    #[test]
    fn a_thread_is_confined_before_its_work() {
        if let Some(deed) = std::env::var_os(DEED) {
            confine();
            let deed = deed.into_string().unwrap();
            let mut log = crate::BoundedLog::inherited().unwrap();
            let thread = spawn("reader", READER, move || commit(&deed, &mut log)).unwrap();
            thread.join().unwrap();
            std::process::exit(7);
        }
        assert_eq!(done("its work").code(), Some(7));
        for deed in ["a file", "another use of a call", "a thread of its own"] {
            let status = done(deed);
            assert_eq!(status.signal(), Some(libc::SIGSYS), "{deed}: {status}");
        }
    }

    fn commit(deed: &str, log: &mut crate::BoundedLog) {
        match deed {
            "its work" => {
                // Memory comes and goes, and the log's length is asked for before a line is added.
                drop(vec![1u8; 8 << 20]);
                io::Write::write_all(log, b"a line of a confined thread\n").unwrap();
                rustix::fs::fcntl_getfl(rustix::stdio::stdin()).unwrap();
                rustix::io::read(rustix::stdio::stdin(), &mut [0u8; 0]).unwrap();
            }
            "a file" => drop(std::fs::File::open("/etc/hostname")),
            "another use of a call" => {
                let flags = rustix::io::FdFlags::CLOEXEC;
                rustix::io::fcntl_setfd(rustix::stdio::stdin(), flags).unwrap();
            }
            other => {
                assert_eq!(other, "a thread of its own");
                drop(std::thread::spawn(|| ()));
            }
        }
    }
}
