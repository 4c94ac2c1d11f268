//! Kills the engine before the n-th of its system calls that change something: every step between two
//! such calls is a moment at which it may die, without a mark in its source.
//!
//! Used by `steps`. ptrace(2) belongs to a thread, so one thread does it all; `__WNOTHREAD` keeps its
//! waits from the children of other tests.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;

use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::machine::LIMIT;

/// System calls that change a file, a mount, a process or what another process knows.
const STEPS: &[i64] = &[
    libc::SYS_write,
    libc::SYS_pwrite64,
    libc::SYS_writev,
    libc::SYS_pwritev,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_truncate,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_link,
    libc::SYS_linkat,
    libc::SYS_symlink,
    libc::SYS_symlinkat,
    libc::SYS_unlink,
    libc::SYS_unlinkat,
    libc::SYS_mkdir,
    libc::SYS_mkdirat,
    libc::SYS_rmdir,
    libc::SYS_chmod,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_chown,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_setxattr,
    libc::SYS_fsetxattr,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_move_mount,
    libc::SYS_fsmount,
    libc::SYS_mount_setattr,
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_vfork,
    libc::SYS_kill,
    libc::SYS_pidfd_send_signal,
    libc::SYS_splice,
    libc::SYS_copy_file_range,
    libc::SYS_sendfile,
];

/// An engine that is watched; it ends killed in any case.
pub struct Watched {
    over: Arc<AtomicBool>,
    thread: JoinHandle<usize>,
}

/// Watches `pid` and kills it before step `at`, counted from 1.
pub fn watch(pid: i32, at: usize) -> Watched {
    let over = Arc::new(AtomicBool::new(false));
    let (ready, attached) = mpsc::channel();
    let stop = Arc::clone(&over);
    let thread = std::thread::spawn(move || follow(Pid::from_raw(pid), at, &stop, &ready));
    attached.recv_timeout(LIMIT).expect("it is being watched");
    Watched { over, thread }
}

impl Watched {
    /// Kills it if it still lives; the steps it had begun.
    pub fn end(self) -> usize {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().expect("the watcher ends")
    }
}

fn threads(pid: Pid) -> Vec<Pid> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task"));
    let names = tasks.into_iter().flatten().flatten();
    names
        .filter_map(|entry| Some(Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)))
        .collect()
}

fn follow(pid: Pid, at: usize, over: &AtomicBool, ready: &mpsc::Sender<()>) -> usize {
    let options = ptrace::Options::PTRACE_O_TRACESYSGOOD | ptrace::Options::PTRACE_O_TRACECLONE;
    // Threads that are made meanwhile belong to a seized one, or come up in the next look.
    let (mut seized, mut gone) = (HashSet::new(), HashSet::new());
    loop {
        let fresh: Vec<Pid> = threads(pid)
            .into_iter()
            .filter(|thread| !seized.contains(thread))
            .collect();
        if fresh.is_empty() {
            break;
        }
        for thread in fresh {
            // One that is followed already says EPERM, one that has ended ESRCH.
            if ptrace::seize(thread, options) == Err(Errno::ESRCH) {
                gone.insert(thread);
            }
            let _ = ptrace::interrupt(thread);
            seized.insert(thread);
        }
    }
    let mut inside = HashSet::new();
    let mut stopped = HashSet::new();
    let mut told = false;
    let mut steps = 0;
    let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD | WaitPidFlag::WNOHANG;
    loop {
        let known = |thread: &Pid| stopped.contains(thread) || gone.contains(thread);
        if !told && seized.iter().all(known) {
            told = true;
            let _ = ready.send(());
        }
        let status = match waitpid(Pid::from_raw(-1), Some(flags)) {
            Ok(WaitStatus::StillAlive) => {
                if over.load(Ordering::Relaxed) {
                    let _ = kill(pid, Signal::SIGKILL);
                }
                std::thread::yield_now();
                continue;
            }
            Ok(status) => status,
            // ECHILD: nothing is left of it.
            Err(_) => return steps,
        };
        let thread = match status {
            WaitStatus::PtraceSyscall(thread) => {
                // The same stop comes at the begin and at the end of a call.
                if inside.insert(thread) {
                    let call = ptrace::getregs(thread).map_or(-1, |all| all.orig_rax.cast_signed());
                    if STEPS.contains(&call) {
                        steps += 1;
                        if steps == at {
                            let _ = kill(pid, Signal::SIGKILL);
                        }
                    }
                } else {
                    inside.remove(&thread);
                }
                thread
            }
            WaitStatus::PtraceEvent(thread, ..) => {
                stopped.insert(thread);
                thread
            }
            WaitStatus::Stopped(thread, signal) => {
                let _ = ptrace::syscall(thread, signal);
                continue;
            }
            WaitStatus::Exited(thread, _) | WaitStatus::Signaled(thread, ..) => {
                inside.remove(&thread);
                gone.insert(thread);
                continue;
            }
            _ => continue,
        };
        // One that was killed meanwhile says ESRCH.
        let _ = ptrace::syscall(thread, None);
    }
}
