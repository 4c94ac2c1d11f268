//! What this process gives up before it serves.
//!
//! Called once at the start, before any thread but the first. Landlock cannot bound which directories are
//! served, for it refuses opens below directories that come later by descriptor; what bounds them is that
//! nothing here opens by name.

use std::io;

use lighter_platform::sys::sandbox;
pub use lighter_platform::sys::sandbox::close_inherited;
use rustix::fs::Mode;
use rustix::process::umask;
use rustix::thread::CapabilitySet;
use seccompiler::BpfProgram;

/// Rights over files that the host's root has and a files process of root keeps: reading, writing and
/// changing what others own. All else goes, setting setuid bits (FSETID) and making devices (MKNOD) first.
const KEPT: CapabilitySet = CapabilitySet::DAC_OVERRIDE
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::FOWNER);

/// Gives up privileges, raises the number of descriptors to the most allowed and returns it.
pub fn prepare() -> io::Result<usize> {
    // Modes come from the guest, whose kernel has applied the caller's umask.
    umask(Mode::empty());
    sandbox::give_up_all_but(KEPT)
}

/// Bounds every thread to the system calls that serving takes; any other ends the process.
pub fn confine() -> io::Result<()> {
    let program = filter().map_err(io::Error::other)?;
    seccompiler::apply_filter_all_threads(&program).map_err(io::Error::other)
}

/// The same for the calling thread alone.
#[cfg(test)]
pub fn confine_thread() {
    let program = filter().expect("the list is constant");
    seccompiler::apply_filter(&program).expect("every thread may");
}

fn filter() -> Result<BpfProgram, seccompiler::BackendError> {
    sandbox::filter(&[CALLS, OLD_CALLS], [])
}

/// What serving takes, by purpose. No process or thread is started, no credential changed, no socket made
/// or connected, nothing mounted, traced or controlled (`ioctl`).
const CALLS: &[i64] = &[
    // names
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_renameat2,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_readlinkat,
    libc::SYS_getdents64,
    // attributes
    libc::SYS_statx,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_fstatfs,
    libc::SYS_fchmodat,
    libc::SYS_utimensat,
    libc::SYS_getxattr,
    libc::SYS_setxattr,
    libc::SYS_listxattr,
    libc::SYS_removexattr,
    // content
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_preadv,
    libc::SYS_pwritev2,
    libc::SYS_lseek,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_copy_file_range,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_syncfs,
    libc::SYS_close,
    libc::SYS_fcntl,
    // the control socket and the front end
    libc::SYS_accept4,
    libc::SYS_recvmsg,
    libc::SYS_recvfrom,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_getsockopt,
    libc::SYS_shutdown,
    libc::SYS_ppoll,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
];

/// Calls that only this architecture has beside the newer ones.
#[cfg(target_arch = "x86_64")]
const OLD_CALLS: &[i64] = &[libc::SYS_poll, libc::SYS_epoll_wait, libc::SYS_renameat];
/// Calls that only other architectures have beside the newer ones.
#[cfg(not(target_arch = "x86_64"))]
const OLD_CALLS: &[i64] = &[];
