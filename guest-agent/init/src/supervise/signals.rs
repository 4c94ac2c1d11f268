//! Signals as something to read, and the reaping that SIGCHLD asks for.

use std::io;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;

use crate::options::Mode;

/// The signals init listens to, as a descriptor. All others that can be are without effect: the
/// kernel spares a first process those it has no handler for.
pub struct Signals {
    descriptor: OwnedFd,
}

impl Signals {
    /// Blocks the signals of this mode and reads them from now on.
    ///
    /// Only natively does SIGTERM end anything: in the guest, containers that share the machine's
    /// process ids can send it.
    pub fn new(mode: &Mode) -> io::Result<Self> {
        let mut wanted = vec![libc::SIGCHLD];
        if matches!(mode, Mode::Native(_)) {
            wanted.extend([libc::SIGTERM, libc::SIGINT]);
        }
        let set = set_of(&wanted);
        // SAFETY: the set is initialised and lives until the call returns; the old one is not
        // asked for.
        let blocked =
            unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
        if blocked != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: -1 asks for a new descriptor; the set is initialised.
        let descriptor =
            unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `signalfd` succeeded: the descriptor is new and nobody else's.
        let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
        Ok(Self { descriptor })
    }

    /// Reads what has come; true where one of them asks for the end.
    pub fn drain(&self) -> bool {
        let mut asked = false;
        let mut info = [0; size_of::<libc::signalfd_siginfo>()];
        while let Ok(length) = rustix::io::read(&self.descriptor, &mut info) {
            let Some(number) = info.get(..length).and_then(<[u8]>::first_chunk::<4>) else {
                break;
            };
            // `ssi_signo` comes first.
            asked |= u32::from_ne_bytes(*number) != libc::SIGCHLD.cast_unsigned();
        }
        asked
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

fn set_of(signals: &[i32]) -> libc::sigset_t {
    // SAFETY: `sigset_t` is integers only, for which zeros are a value; `sigemptyset` and
    // `sigaddset` write to it and take valid signal numbers.
    unsafe {
        let mut set: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in signals {
            libc::sigaddset(&raw mut set, *signal);
        }
        set
    }
}

/// Collects one process that has ended: its id and raw status.
pub fn reap_one() -> Option<(i32, i32)> {
    let mut status = 0;
    loop {
        // `__WALL`: also children whose end is signalled otherwise than by SIGCHLD.
        // SAFETY: `waitpid` writes one integer, which lives until it returns.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG | libc::__WALL) };
        if pid > 0 {
            return Some((pid, status));
        }
        if pid == 0 || Errno::from_io_error(&io::Error::last_os_error()) != Some(Errno::INTR) {
            return None;
        }
    }
}
