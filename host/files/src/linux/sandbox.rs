//! What this process gives up before it serves.
//!
//! Called once at the start, before any thread but the first. Landlock cannot bound which directories are
//! served, for it refuses opens below directories that come later by descriptor; what bounds them is that
//! nothing here opens by name.

use std::io;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

use rustix::fs::Mode;
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit, umask,
};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_no_new_privs,
};

/// Rights over files that the host's root has and a files process of root keeps: reading, writing and
/// changing what others own. All else goes, setting setuid bits (FSETID) and making devices (MKNOD) first.
const KEPT: CapabilitySet = CapabilitySet::DAC_OVERRIDE
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::FOWNER);

/// Closes every descriptor but the standard ones, whatever the parent forgot to close.
///
/// To be called before this process has opened anything itself.
pub fn close_inherited() {
    // SAFETY: nothing in this process owns a descriptor above 2 yet, so none can be used after this.
    unsafe { libc::close_range(3, libc::c_uint::MAX, 0) };
}

/// Gives up privileges, raises the number of descriptors to the most allowed and returns it.
pub fn prepare() -> io::Result<usize> {
    // Modes come from the guest, whose kernel has applied the caller's umask.
    umask(Mode::empty());
    set_no_new_privs(true)?;
    // No other process of this user may read guest memory out of this one.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    let held = capabilities(None)?;
    let kept = held.permitted & KEPT;
    set_capabilities(
        None,
        CapabilitySets {
            effective: kept,
            permitted: kept,
            inheritable: CapabilitySet::empty(),
        },
    )?;
    let limit = getrlimit(Resource::Nofile);
    // A limit without end is still an int to the kernel; a million descriptors is more than is ever used.
    let most = limit.maximum.unwrap_or(1 << 20).min(1 << 20);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(most),
            maximum: Some(most),
        },
    )?;
    Ok(usize::try_from(most).unwrap_or(1024))
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
    let mut rules: std::collections::BTreeMap<i64, Vec<SeccompRule>> = CALLS
        .iter()
        .chain(OLD_CALLS)
        .map(|call| (*call, Vec::new()))
        .collect();
    // Memory may be had, but none that can be executed.
    let not_executable = SeccompCondition::new(
        2,
        SeccompCmpArgLen::Dword,
        SeccompCmpOp::MaskedEq(libc::PROT_EXEC as u64),
        0,
    )?;
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        rules.insert(call, vec![SeccompRule::new(vec![not_executable.clone()])?]);
    }
    // A thread that was started just before names itself.
    let name = SeccompCondition::new(
        0,
        SeccompCmpArgLen::Dword,
        SeccompCmpOp::Eq,
        libc::PR_SET_NAME as u64,
    )?;
    rules.insert(libc::SYS_prctl, vec![SeccompRule::new(vec![name])?]);
    let architecture = std::env::consts::ARCH.try_into()?;
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::KillProcess,
        SeccompAction::Allow,
        architecture,
    )?;
    filter.try_into()
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
    // memory, threads, time, the end
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_futex,
    // these by threads that were started just before
    libc::SYS_sched_getaffinity,
    libc::SYS_rseq,
    libc::SYS_set_robust_list,
    libc::SYS_sched_yield,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_geteuid,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigaction,
    libc::SYS_sigaltstack,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Calls that only this architecture has beside the newer ones.
#[cfg(target_arch = "x86_64")]
const OLD_CALLS: &[i64] = &[libc::SYS_poll, libc::SYS_epoll_wait, libc::SYS_renameat];
/// Calls that only other architectures have beside the newer ones.
#[cfg(not(target_arch = "x86_64"))]
const OLD_CALLS: &[i64] = &[];
