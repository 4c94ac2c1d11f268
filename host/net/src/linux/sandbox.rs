//! What this process gives up before it serves.
//!
//! Called once at the start. Of files nothing is left, of privileges nothing, of system calls those that sockets
//! take; none of them listens.

use std::io;

use lighter_platform::sys::sandbox;
pub use lighter_platform::sys::sandbox::close_inherited;
use rustix::thread::CapabilitySet;
use seccompiler::{BpfProgram, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule};

/// Gives up every privilege, and raises the number of descriptors to the most allowed, which is the answer: each flow
/// has one.
pub fn prepare() -> io::Result<usize> {
    sandbox::give_up_all_but(CapabilitySet::empty())
}

/// Bounds every thread to the system calls that serving takes; any other ends the process.
pub fn confine() -> io::Result<()> {
    let program = filter().map_err(io::Error::other)?;
    seccompiler::apply_filter_all_threads(&program).map_err(io::Error::other)
}

fn filter() -> Result<BpfProgram, seccompiler::BackendError> {
    // Sockets of the internet alone: no packets, no netlink, nothing of the host's own services.
    let family = |family: i32| {
        SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, family as u64)
            .and_then(|condition| SeccompRule::new(vec![condition]))
    };
    let sockets = vec![family(libc::AF_INET)?, family(libc::AF_INET6)?];
    sandbox::filter(&[CALLS, OLD_CALLS], [(libc::SYS_socket, sockets)])
}

/// What serving takes, by purpose. Nothing is opened by name, no process or thread started, nothing listened on,
/// mounted, traced or controlled (`ioctl`).
const CALLS: &[i64] = &[
    // sockets of the internet
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    libc::SYS_sendto,
    libc::SYS_recvfrom,
    libc::SYS_sendmsg,
    libc::SYS_recvmsg,
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_close,
    libc::SYS_fcntl,
    // the control socket and the front end
    libc::SYS_accept4,
    libc::SYS_fstat,
    // the log, which begins anew when it is full
    libc::SYS_lseek,
    libc::SYS_ftruncate,
    // waiting
    libc::SYS_ppoll,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_timerfd_settime,
];

/// Calls that only this architecture has beside the newer ones.
#[cfg(target_arch = "x86_64")]
const OLD_CALLS: &[i64] = &[libc::SYS_poll, libc::SYS_epoll_wait];
/// Calls that only other architectures have beside the newer ones.
#[cfg(not(target_arch = "x86_64"))]
const OLD_CALLS: &[i64] = &[];
