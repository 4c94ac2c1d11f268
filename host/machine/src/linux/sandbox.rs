//! What the machine process and QEMU may still do, once they have what they need.
//!
//! Two steps, since QEMU must be started in between:
//! * [`confine_files`], before anything else is started: Landlock lets this process and its
//!   children read programs and libraries and nothing of the user's, and reach no network;
//! * [`confine_calls`], once the machine runs: seccomp leaves this process the system calls of its
//!   loops. Any other fails with EPERM; it does not kill, as containers would die with it.
//!
//! QEMU brings its own seccomp filter. A kernel without Landlock confines less; that is logged.

use std::{
    collections::BTreeMap,
    io,
    os::fd::BorrowedFd,
    path::{Path, PathBuf},
};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd,
    Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

/// The newest set of rules used; older kernels apply what they know.
const LANDLOCK: ABI = ABI::V6;
/// Where programs, libraries and QEMU's firmware are.
const PROGRAMS: &[&str] = &[
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/opt",
    "/nix/store",
    "/gnu/store",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/qemu",
];
/// What programs ask about the machine they run on.
const SYSTEM: &[&str] = &[
    "/proc",
    "/sys/devices/system",
    "/sys/kernel/mm",
    "/dev/urandom",
    "/dev/random",
];
/// Devices that are also written to.
const DEVICES: &[&str] = &["/dev/null", "/dev/zero", "/dev/kvm"];

/// Lets the calling thread, and whatever it starts from now on, open only what is listed above, the
/// monitor's program and the open files given. Without a program, only the device for virtualisation is left.
pub fn confine_files(program: Option<&Path>, files: &[BorrowedFd<'_>]) -> Result<(), RulesetError> {
    let read = AccessFs::from_read(LANDLOCK);
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(LANDLOCK))?
        .handle_access(AccessNet::BindTcp)?
        .handle_access(AccessNet::ConnectTcp)?
        .scope(Scope::AbstractUnixSocket)?
        .scope(Scope::Signal)?
        .create()?;
    if let Some(program) = program {
        rules = allow_program(rules, program)?;
    }
    for path in DEVICES {
        let access = read | AccessFs::WriteFile | AccessFs::IoctlDev;
        rules = allow(rules, Path::new(path), access)?;
    }
    for file in files {
        // QEMU opens the kernel again through /proc/self/fd.
        rules = rules.add_rule(PathBeneath::new(file, BitFlags::from(AccessFs::ReadFile)))?;
    }
    let status = rules.restrict_self()?;
    if status.ruleset == RulesetStatus::NotEnforced {
        tracing::warn!("this kernel has no Landlock: the machine is confined by seccomp alone");
    }
    Ok(())
}

/// What a program of others needs to be started and to find what is its own.
fn allow_program(
    mut rules: RulesetCreated,
    program: &Path,
) -> Result<RulesetCreated, RulesetError> {
    // A QEMU outside the usual places has its firmware beside it.
    let place = program
        .canonicalize()
        .unwrap_or_else(|_| program.to_owned());
    let beside = place.parent().map(Path::to_owned);
    let share = beside
        .as_deref()
        .and_then(Path::parent)
        .map(|prefix| prefix.join("share"));
    let own = beside.into_iter().chain(share);
    let listed = PROGRAMS.iter().chain(SYSTEM).map(PathBuf::from);
    for path in listed.chain(own) {
        rules = allow(rules, &path, AccessFs::from_read(LANDLOCK))?;
    }
    Ok(rules)
}

fn allow(
    rules: RulesetCreated,
    path: &Path,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    // What this system does not have needs no rule.
    let Ok(fd) = PathFd::new(path) else {
        return Ok(rules);
    };
    let access = if path.is_dir() {
        access
    } else {
        access & AccessFs::from_file(LANDLOCK)
    };
    rules.add_rule(PathBeneath::new(fd, access))
}

/// Leaves all threads of this process the system calls of its loops.
pub fn confine_calls() -> io::Result<()> {
    seccompiler::apply_filter_all_threads(&filter()?).map_err(io::Error::other)
}

fn filter() -> io::Result<BpfProgram> {
    let mut rules: BTreeMap<i64, Vec<_>> = CALLS.iter().map(|call| (*call, Vec::new())).collect();
    // Of a socket nothing is set but that its close is a reset.
    let is = |argument, value: libc::c_int| {
        let value = u64::from(value.cast_unsigned());
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
    };
    let linger = is(1, libc::SOL_SOCKET)
        .and_then(|level| Ok(vec![level, is(2, libc::SO_LINGER)?]))
        .and_then(SeccompRule::new)
        .map_err(io::Error::other)?;
    rules.insert(libc::SYS_setsockopt, vec![linger]);
    let denied = SeccompAction::Errno(libc::EPERM as u32);
    let arch = std::env::consts::ARCH
        .try_into()
        .map_err(io::Error::other)?;
    let filter = SeccompFilter::new(rules, denied, SeccompAction::Allow, arch);
    filter
        .map_err(io::Error::other)?
        .try_into()
        .map_err(io::Error::other)
}

/// Nothing here opens, executes, connects or starts anything.
const CALLS: &[i64] = &[
    // streams and the daemon's sockets
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_recvmsg,
    libc::SYS_recvfrom,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_shutdown,
    libc::SYS_socketpair,
    libc::SYS_accept4,
    libc::SYS_getsockopt,
    libc::SYS_ioctl,
    libc::SYS_fcntl,
    libc::SYS_dup,
    libc::SYS_close,
    // waiting
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_futex,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_restart_syscall,
    libc::SYS_sched_yield,
    // the disks of our own monitor
    libc::SYS_preadv2,
    libc::SYS_pwritev,
    libc::SYS_fdatasync,
    libc::SYS_fallocate,
    // the console's file, and guest memory when QEMU describes it anew
    libc::SYS_pwrite64,
    libc::SYS_ftruncate,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_statx,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_brk,
    // QEMU's end
    libc::SYS_pidfd_send_signal,
    libc::SYS_wait4,
    libc::SYS_waitid,
    // what a Rust program does by itself
    libc::SYS_getrandom,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_sched_getaffinity,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_tgkill,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

#[cfg(test)]
mod tests {
    use std::{fs::File, os::fd::AsFd, os::unix::net::UnixStream};

    use super::*;

    /// Both kinds of confinement are a thread's own, so a thread can try them out.
    fn in_a_thread(work: impl FnOnce() + Send + 'static) {
        std::thread::spawn(work).join().unwrap();
    }

    #[test]
    fn confined_files_are_programs_and_what_was_handed_in() {
        let dir = tempfile::tempdir().unwrap();
        let (secret, kernel) = (dir.path().join("secret"), dir.path().join("kernel"));
        std::fs::write(&secret, "s").unwrap();
        std::fs::write(&kernel, "k").unwrap();
        in_a_thread(move || {
            let file = File::open(&kernel).unwrap();
            let program = Path::new("/usr/bin/qemu-system-x86_64");
            confine_files(Some(program), &[file.as_fd()]).unwrap();
            if File::open(&secret).is_ok() {
                eprintln!("SKIP: this kernel has no Landlock");
                return;
            }
            assert!(File::open("/etc/shadow").is_err());
            assert!(File::create(kernel.with_file_name("new")).is_err());
            assert!(File::options().write(true).open(&kernel).is_err());
            assert!(
                std::net::TcpStream::connect("127.0.0.1:9")
                    .unwrap_err()
                    .raw_os_error()
                    == Some(libc::EACCES)
            );
            File::open(&kernel).unwrap();
            File::open("/usr/bin/env").unwrap();
            File::options().write(true).open("/dev/null").unwrap();
        });
    }

    #[test]
    fn confined_calls_carry_streams_and_open_nothing() {
        in_a_thread(|| {
            let filter = filter().unwrap();
            seccompiler::apply_filter(&filter).unwrap();
            let denied = |result: io::Result<()>| {
                assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EPERM));
            };
            denied(File::open("/dev/null").map(drop));
            denied(std::net::TcpListener::bind("127.0.0.1:0").map(drop));
            denied(UnixStream::connect("/nonexistent").map(drop));
            denied(std::fs::remove_file("/nonexistent"));
            let (mut a, mut b) = UnixStream::pair().unwrap();
            io::Write::write_all(&mut a, b"x").unwrap();
            io::Read::read_exact(&mut b, &mut [0]).unwrap();
            rustix::net::sockopt::set_socket_linger(&a, Some(std::time::Duration::ZERO)).unwrap();
            let kept_alive = rustix::net::sockopt::set_socket_keepalive(&a, true);
            denied(kept_alive.map_err(io::Error::from));
        });
    }
}
