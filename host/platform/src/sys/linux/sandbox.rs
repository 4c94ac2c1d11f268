//! What the processes that serve a virtual machine give up, as far as it is the same for all of them.
//!
//! Called by those of shared folders and of the network, once at their start; each names what it needs beside this.

use std::collections::BTreeMap;
use std::io;

use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit,
};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_no_new_privs,
};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule,
};

/// Closes every descriptor but the standard ones, whatever the parent forgot to close.
///
/// To be called before this process has opened anything itself.
pub fn close_inherited() {
    // SAFETY: nothing in this process owns a descriptor above 2 yet, so none can be used after this.
    unsafe { libc::close_range(3, libc::c_uint::MAX, 0) };
}

/// Has all threads share one heap, which grows and shrinks by `brk`. The others that the C library makes for threads
/// are its own mappings, and before it first gives a part of one back it opens a file of `/proc`: a confined process
/// would end there.
///
/// To be called before another thread is started.
pub(super) fn share_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: no other thread is there that could be allocating; a number it does not take changes nothing.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1)
    };
}

/// Gives up every privilege but those of `kept` that it has, raises the number of descriptors to the most allowed
/// and returns it. To be called before another thread is started.
///
/// # Errors
/// What the kernel answers.
pub fn give_up_all_but(kept: CapabilitySet) -> io::Result<usize> {
    share_heap();
    set_no_new_privs(true)?;
    // No other process of this user may read guest memory out of this one.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    // Nor may what it starts leave any behind.
    set_both(Resource::Core, 0)?;
    let held = capabilities(None)?;
    let kept = held.permitted & kept;
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
    set_both(Resource::Nofile, most)?;
    Ok(usize::try_from(most).unwrap_or(1024))
}

/// Sets a limit that this process cannot raise again.
///
/// # Errors
/// What the kernel answers.
fn set_both(resource: Resource, limit: u64) -> io::Result<()> {
    let limit = Rlimit {
        current: Some(limit),
        maximum: Some(limit),
    };
    Ok(setrlimit(resource, limit)?)
}

/// A filter that lets through these calls, those of [`EVERYBODYS`], and those of `ruled` as far as one of their
/// rules holds. Any other call ends the process.
///
/// # Errors
/// On an architecture that has no filters.
pub fn filter(
    calls: &[&[i64]],
    ruled: impl IntoIterator<Item = (i64, Vec<SeccompRule>)>,
) -> Result<BpfProgram, BackendError> {
    let mut rules = rules(calls)?;
    rules.extend(BEGINNING.iter().map(|call| (*call, Vec::new())));
    // A thread that was started just before names itself.
    let name = SeccompCondition::new(
        0,
        SeccompCmpArgLen::Dword,
        SeccompCmpOp::Eq,
        libc::PR_SET_NAME as u64,
    )?;
    rules.insert(libc::SYS_prctl, vec![SeccompRule::new(vec![name])?]);
    rules.extend(ruled);
    program(rules)
}

/// Calls, and which of their arguments; without a rule, any.
pub(super) type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// These calls and those of [`EVERYBODYS`].
pub(super) fn rules(calls: &[&[i64]]) -> Result<Rules, BackendError> {
    let calls = calls.iter().copied().flatten().chain(EVERYBODYS);
    let mut rules: Rules = calls.map(|call| (*call, Vec::new())).collect();
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
    Ok(rules)
}

/// A filter by these rules; any other call ends the process.
pub(super) fn program(rules: Rules) -> Result<BpfProgram, BackendError> {
    let architecture = std::env::consts::ARCH.try_into()?;
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::KillProcess,
        SeccompAction::Allow,
        architecture,
    )?;
    filter.try_into()
}

/// Memory, threads, time, the end: what every one of these processes makes.
const EVERYBODYS: &[i64] = &[
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_futex,
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

/// What a thread makes that was started just before the process is confined whole.
const BEGINNING: &[i64] = &[
    libc::SYS_sched_getaffinity,
    libc::SYS_rseq,
    libc::SYS_set_robust_list,
];

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::sync::mpsc::channel;

    use super::*;

    const CONFINED: &str = "LIGHTER_TEST_CONFINED";
    const NAME: &str = "sys::linux::sandbox::tests::a_confined_process_gives_memory_back";
    const BEGUN: &str = "the heap is filled";

    #[test]
    fn a_confined_process_gives_memory_back() {
        if std::env::var_os(CONFINED).is_some() {
            return fill_and_empty_the_heap();
        }
        // On the main thread: the heap of another one would be there before.
        let starts = crate::lock::STARTS.write();
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--test-threads=1", "--nocapture", "--exact", NAME])
            .env(CONFINED, "1")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        drop(starts);
        let done = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&done.stdout);
        assert!(said.contains(BEGUN), "nothing was tried: {said}");
        assert!(done.status.success(), "{}", done.status);
    }

    #[test]
    fn what_was_given_up_is_nobodys() {
        // The child has copies of all descriptors for as long as it lives.
        let _starts = crate::lock::STARTS.write();
        // SAFETY: what runs in the child is this thread alone, and it ends below without returning; the C library's
        // heap can be used after a fork.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let given_up = std::panic::catch_unwind(|| {
                give_up_all_but(CapabilitySet::empty()).unwrap();
                let dumpable = rustix::process::dumpable_behavior().unwrap();
                assert_eq!(dumpable, DumpableBehavior::NotDumpable);
                assert_eq!(getrlimit(Resource::Core).maximum, Some(0));
                let files = getrlimit(Resource::Nofile);
                assert!(files.current.is_some() && files.current == files.maximum);
                assert!(rustix::thread::no_new_privs().unwrap());
                let held = capabilities(None).unwrap();
                let all = held.effective | held.permitted | held.inheritable;
                assert_eq!(all, CapabilitySet::empty());
            });
            // SAFETY: nothing of the parent's is tidied up.
            unsafe { libc::_exit(given_up.is_err().into()) };
        }
        let mut status = 0;
        // SAFETY: the call writes one `int` to where it is told.
        let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
        assert_eq!((waited, status), (child, 0));
    }

    fn fill_and_empty_the_heap() {
        println!("{BEGUN}");
        give_up_all_but(CapabilitySet::empty()).unwrap();
        let (go, wait) = channel();
        let worker = std::thread::spawn(move || {
            wait.recv().unwrap();
            let pieces: Vec<Vec<u8>> = (0..4_000).map(|_| vec![1; 16 << 10]).collect();
            assert!(pieces.iter().all(|piece| piece[0] == 1));
            drop(pieces);
            // Nothing is written any more, nor tidied up.
            std::process::exit(0);
        });
        seccompiler::apply_filter_all_threads(&filter(&[], []).unwrap()).unwrap();
        go.send(()).unwrap();
        worker.join().unwrap();
    }
}
