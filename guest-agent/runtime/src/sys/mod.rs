//! The kernel calls that `rustix` does not wrap, each as a narrow safe function.
//!
//! Called by every other module of the crate; the only one that holds raw system calls.

mod clone;
pub mod quota;
mod ring;
pub mod verity;

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::Errno;

pub use clone::{Child, CloneRequest, UserNamespace, clone_and_exec, user_namespace};
pub use ring::Ring;

/// Result of a raw call.
pub type Result<T> = std::result::Result<T, Errno>;

fn check(value: libc::c_long) -> Result<libc::c_long> {
    if value < 0 {
        // `libc::syscall` has put the reason into errno.
        let code = std::io::Error::last_os_error()
            .raw_os_error()
            .unwrap_or(libc::EIO);
        return Err(Errno::from_raw_os_error(code));
    }
    Ok(value)
}

/// What the kernel said, in the lower-case words Go programs (and so docker's clients) use.
pub fn errno_text(errno: Errno) -> String {
    let text = std::io::Error::from_raw_os_error(errno.raw_os_error()).to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_lowercase().chain(letters).collect::<String>()
    })
}

/// How many bytes sent on a socket the other end has not read, as the kernel counts them: with what
/// it keeps beside them, and one more while it tells of the last read (`SIOCOUTQ`, unix(7)).
pub fn unread_by_peer(socket: BorrowedFd<'_>) -> Result<u32> {
    let mut unread: libc::c_int = 0;
    // SAFETY: the descriptor is open, and the call writes one `int` to where it is told.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut unread) };
    check(done.into())?;
    Ok(u32::try_from(unread).unwrap_or(0))
}

/// Sends signal `number`, real-time ones included, to the process of `pidfd`.
pub fn send_signal(pidfd: BorrowedFd<'_>, number: libc::c_int) -> Result<()> {
    // SAFETY: no memory is passed: the third argument, a `siginfo_t`, may be null.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            number,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    check(result).map(drop)
}

/// Attributes for [`mount_setattr`], as `struct mount_attr`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct MountAttr {
    /// `MOUNT_ATTR_*` to set.
    pub set: u64,
    /// `MOUNT_ATTR_*` to clear.
    pub clear: u64,
    /// `MS_PRIVATE` and its siblings, or 0.
    pub propagation: u64,
    /// User namespace of an id-mapped mount.
    pub userns_fd: u64,
}

/// Changes the mount that `mount` is the root of, with `recursive` those below it as well.
pub fn mount_setattr(mount: BorrowedFd<'_>, recursive: bool, attr: &MountAttr) -> Result<()> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: mount_setattr(2) reads a NUL-terminated path and `size` bytes of `attr`; both live
    // until the call returns and nothing is written.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(attr),
            size_of::<MountAttr>(),
        )
    })
    .map(drop)
}

/// Joins the namespaces of `kinds` (`CLONE_NEW*`) that `of` (a pidfd or a namespace file) names.
pub fn setns(of: BorrowedFd<'_>, kinds: libc::c_int) -> Result<()> {
    // SAFETY: setns(2) takes no pointer.
    check(unsafe { libc::syscall(libc::SYS_setns, of.as_raw_fd(), kinds) }).map(drop)
}

/// Waits for the end of a child of this process, whatever signal it ends with.
pub fn wait_for(child: &OwnedFd) {
    loop {
        // SAFETY: waitid(2) writes no information where it is given no place for it.
        let result = unsafe {
            libc::syscall(
                libc::SYS_waitid,
                libc::P_PIDFD,
                child.as_raw_fd(),
                std::ptr::null_mut::<libc::siginfo_t>(),
                libc::WEXITED | libc::__WALL,
                std::ptr::null_mut::<libc::rusage>(),
            )
        };
        if check(result) != Err(Errno::INTR) {
            return;
        }
    }
}

/// Makes `uid` and `gid` those that files this thread makes belong to, and keeps its powers over
/// files. Of this thread only.
pub fn set_file_ids(uid: u32, gid: u32) -> Result<()> {
    // SAFETY: both take an integer, and their raw calls change this thread alone. They answer what
    // was before, also where they fail; whether they did is asked with an id nobody has.
    let (uid_now, gid_now) = unsafe {
        libc::syscall(libc::SYS_setfsgid, gid);
        libc::syscall(libc::SYS_setfsuid, uid);
        (
            libc::syscall(libc::SYS_setfsuid, u32::MAX),
            libc::syscall(libc::SYS_setfsgid, u32::MAX),
        )
    };
    if (uid_now, gid_now) != (i64::from(uid), i64::from(gid)) {
        return Err(Errno::PERM);
    }
    // Not to be root takes them out of force.
    let (_, permitted, inheritable) = capget()?;
    capset(permitted, permitted, inheritable)
}

/// Leaves the namespaces of `kinds` for fresh ones; with `CLONE_FS`, the root and the working
/// directory that this thread shares with others.
pub fn unshare(kinds: libc::c_int) -> Result<()> {
    // SAFETY: unshare(2) takes no pointer; only `CLONE_NEW*` kinds and `CLONE_FS` are passed, which
    // do not change what this process's memory or descriptors mean.
    check(unsafe { libc::syscall(libc::SYS_unshare, kinds) }).map(drop)
}

/// Marks every descriptor from `first` upwards close-on-exec.
pub fn close_on_exec_from(first: RawFd) -> Result<()> {
    // SAFETY: close_range(2) takes no pointer, and with CLOSE_RANGE_CLOEXEC closes nothing now.
    check(unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first as libc::c_uint,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    })
    .map(drop)
}

/// Puts the descriptor that `from` is at number `to` as well, without close-on-exec.
pub fn dup_to(from: BorrowedFd<'_>, to: RawFd) -> Result<()> {
    if from.as_raw_fd() == to {
        // SAFETY: F_SETFD takes an integer.
        return check(unsafe { libc::fcntl(to, libc::F_SETFD, 0) }.into()).map(drop);
    }
    // SAFETY: dup3(2) takes no pointer. The caller gives up what was at `to`: the standard
    // streams, which nothing in this crate owns.
    check(unsafe { libc::syscall(libc::SYS_dup3, from.as_raw_fd(), to, 0) }).map(drop)
}

/// Replaces this process; returns only on failure.
///
/// `argv` and `envp` end with a null pointer each, as the caller's types make sure.
pub fn execveat(dir: BorrowedFd<'_>, path: &CStr, argv: &CStrings, envp: &CStrings) -> Errno {
    let flags = if path.is_empty() {
        libc::AT_EMPTY_PATH
    } else {
        0
    };
    // SAFETY: path is NUL-terminated; argv and envp are null-terminated arrays of NUL-terminated
    // strings owned by `CStrings`, alive until the call returns.
    let result = unsafe {
        libc::syscall(
            libc::SYS_execveat,
            dir.as_raw_fd(),
            path.as_ptr(),
            argv.as_ptr(),
            envp.as_ptr(),
            flags,
        )
    };
    check(result).err().unwrap_or(Errno::IO)
}

/// Replaces this process by the program at `path`; returns only on failure.
pub fn execve(path: &CStr, argv: &CStrings, envp: &CStrings) -> Errno {
    // SAFETY: as for `execveat`.
    let result = unsafe {
        libc::syscall(
            libc::SYS_execve,
            path.as_ptr(),
            argv.as_ptr(),
            envp.as_ptr(),
        )
    };
    check(result).err().unwrap_or(Errno::IO)
}

/// Strings in the shape `execve(2)` wants.
#[derive(Debug)]
pub struct CStrings {
    // The pointers point into these; a CString's bytes do not move when the CString does.
    _owned: Vec<std::ffi::CString>,
    pointers: Vec<*const libc::c_char>,
}

// SAFETY: the pointers are into bytes that this value owns and never changes.
unsafe impl Sync for CStrings {}

impl CStrings {
    /// `None` if one of the strings holds a NUL byte.
    pub fn new<T: AsRef<[u8]>>(strings: impl IntoIterator<Item = T>) -> Option<Self> {
        let owned = strings
            .into_iter()
            .map(|text| std::ffi::CString::new(text.as_ref()).ok())
            .collect::<Option<Vec<_>>>()?;
        let pointers = owned
            .iter()
            .map(|text| text.as_ptr())
            .chain(std::iter::once(std::ptr::null()))
            .collect();
        Some(Self {
            _owned: owned,
            pointers,
        })
    }

    /// The null-terminated array.
    pub fn as_ptr(&self) -> *const *const libc::c_char {
        self.pointers.as_ptr()
    }
}

/// Whether capability `number` is in this process's bounding set.
pub fn bounding_has(number: u32) -> bool {
    // SAFETY: PR_CAPBSET_READ takes integers.
    unsafe { libc::prctl(libc::PR_CAPBSET_READ, libc::c_ulong::from(number), 0, 0, 0) == 1 }
}

fn prctl(option: libc::c_int, a: libc::c_ulong, b: libc::c_ulong) -> Result<()> {
    // SAFETY: the callers below use only options whose arguments are integers.
    check(unsafe { libc::prctl(option, a, b, 0, 0) }.into()).map(drop)
}

/// Takes capability `number` out of the bounding set for good.
pub fn bounding_drop(number: u32) -> Result<()> {
    prctl(libc::PR_CAPBSET_DROP, number.into(), 0)
}

/// Empties the ambient set.
pub fn ambient_clear() -> Result<()> {
    prctl(
        libc::PR_CAP_AMBIENT,
        libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong,
        0,
    )
}

/// Adds capability `number` to the ambient set.
pub fn ambient_raise(number: u32) -> Result<()> {
    prctl(
        libc::PR_CAP_AMBIENT,
        libc::PR_CAP_AMBIENT_RAISE as libc::c_ulong,
        number.into(),
    )
}

/// Keeps the permitted set when the user changes from root.
pub fn keep_capabilities(keep: bool) -> Result<()> {
    prctl(libc::PR_SET_KEEPCAPS, keep.into(), 0)
}

/// No exec gains privileges from here on.
pub fn no_new_privileges() -> Result<()> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0)
}

/// Makes the memory and `/proc/PID` of this process unreachable for others until the next exec.
pub fn not_dumpable() -> Result<()> {
    prctl(libc::PR_SET_DUMPABLE, 0, 0)
}

#[repr(C)]
struct CapHeader {
    version: u32,
    pid: libc::c_int,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct CapData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Sets the three classic capability sets of this thread.
pub fn capset(effective: u64, permitted: u64, inheritable: u64) -> Result<()> {
    const VERSION_3: u32 = 0x2008_0522;
    let header = CapHeader {
        version: VERSION_3,
        pid: 0,
    };
    let half = |shift: u32| CapData {
        effective: (effective >> shift) as u32,
        permitted: (permitted >> shift) as u32,
        inheritable: (inheritable >> shift) as u32,
    };
    let data = [half(0), half(32)];
    // SAFETY: version 3 reads one header and two data records; both are alive and of that layout.
    check(unsafe { libc::syscall(libc::SYS_capset, std::ptr::from_ref(&header), data.as_ptr()) })
        .map(drop)
}

/// The effective, permitted and inheritable sets of this thread.
pub fn capget() -> Result<(u64, u64, u64)> {
    const VERSION_3: u32 = 0x2008_0522;
    let header = CapHeader {
        version: VERSION_3,
        pid: 0,
    };
    let mut data = [CapData {
        effective: 0,
        permitted: 0,
        inheritable: 0,
    }; 2];
    // SAFETY: version 3 reads one header and writes two data records; both are alive.
    check(unsafe {
        libc::syscall(
            libc::SYS_capget,
            std::ptr::from_ref(&header),
            data.as_mut_ptr(),
        )
    })?;
    let whole =
        |part: fn(&CapData) -> u32| u64::from(part(&data[0])) | u64::from(part(&data[1])) << 32;
    Ok((
        whole(|half| half.effective),
        whole(|half| half.permitted),
        whole(|half| half.inheritable),
    ))
}

/// Installs a system call filter on this thread.
///
/// `filter` is eight bytes of flags and whole 8-byte classic BPF instructions; the kernel checks
/// them.
pub fn seccomp_filter(filter: &[u8]) -> Result<()> {
    let (flags, program) = filter
        .split_first_chunk::<{ crate::seccomp::FLAGS_LENGTH }>()
        .ok_or(Errno::INVAL)?;
    let flags = u64::from_le_bytes(*flags);
    #[repr(C)]
    struct Program {
        length: libc::c_ushort,
        filter: *const u8,
    }
    let length = u16::try_from(program.len() / 8).map_err(|_| Errno::INVAL)?;
    let program = Program {
        length,
        filter: program.as_ptr(),
    };
    // SAFETY: seccomp(2) reads `length` instructions of 8 bytes from `filter`, a live slice of at
    // least that size (the instruction struct has no alignment demand on the user's side).
    check(unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            std::ptr::from_ref(&program),
        )
    })
    .map(drop)
}

/// Gives this process a session keyring of its own, which has no name: whoever joins one by its
/// name may get one that another container has made under it.
pub fn new_session_keyring() -> Result<()> {
    // SAFETY: KEYCTL_JOIN_SESSION_KEYRING takes a null pointer as "a new one, anonymous".
    check(unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            libc::KEYCTL_JOIN_SESSION_KEYRING,
            std::ptr::null::<libc::c_char>(),
        )
    })
    .map(drop)
}

/// The `bpf(2)` call; returns what the kernel returned.
pub fn bpf<T>(command: libc::c_int, attr: &mut T) -> Result<libc::c_long> {
    // SAFETY: bpf(2) reads (and for some commands writes) at most `size` bytes of `attr`, a live
    // repr(C) value of that size; pointers inside it are the caller's live buffers.
    check(unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attr),
            size_of::<T>(),
        )
    })
}

/// The kernel's number of the network namespace that a socket is of; none is given twice.
pub fn network_cookie(socket: BorrowedFd<'_>) -> Result<u64> {
    let mut cookie = 0_u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes of `cookie` and the new length, both live.
    check(i64::from(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            std::ptr::from_mut(&mut cookie).cast(),
            &raw mut length,
        )
    }))
    .map(|_| cookie)
}

/// Takes ownership of a descriptor number that a call of this module has just returned.
pub fn own(fd: libc::c_long) -> OwnedFd {
    // SAFETY: the caller passes what the kernel returned a moment ago: open and owned by nobody.
    unsafe { OwnedFd::from_raw_fd(fd as RawFd) }
}

/// Takes ownership of a descriptor that this process was started with.
///
/// Returns `None` if nothing is open at that number. Each number may be taken once.
pub fn take_inherited(number: RawFd) -> Option<OwnedFd> {
    // SAFETY: F_GETFD takes no pointer.
    let open = unsafe { libc::fcntl(number, libc::F_GETFD) } >= 0;
    // SAFETY: open, and inherited over exec: no Rust object of this program owns it.
    (number > 2 && open).then(|| unsafe { OwnedFd::from_raw_fd(number) })
}

/// The slave side of a pseudo terminal, opened through its master and through no path.
pub fn pty_peer(master: BorrowedFd<'_>, flags: libc::c_int) -> Result<OwnedFd> {
    // SAFETY: TIOCGPTPEER takes an integer and returns a new descriptor.
    check(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER as _, flags) }.into()).map(own)
}

/// Unlocks the slave side of a pseudo terminal.
pub fn pty_unlock(master: BorrowedFd<'_>) -> Result<()> {
    let unlock: libc::c_int = 0;
    // SAFETY: TIOCSPTLCK reads one int, alive here.
    check(
        unsafe {
            libc::ioctl(
                master.as_raw_fd(),
                libc::TIOCSPTLCK as _,
                std::ptr::from_ref(&unlock),
            )
        }
        .into(),
    )
    .map(drop)
}

/// Gives every signal its default action and unblocks all of them.
pub fn reset_signals() {
    for signal in 1..=64 {
        // SAFETY: an all-zero kernel sigaction is SIG_DFL without flags; the fourth argument is
        // the size of the kernel's signal set. SIGKILL and SIGSTOP answer EINVAL, which is fine.
        unsafe {
            let action = [0u64; 4];
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                action.as_ptr(),
                std::ptr::null::<u8>(),
                8usize,
            );
        }
    }
    set_signal_mask(0);
}

/// Sets the signal mask of this thread and returns the former one.
pub fn set_signal_mask(mask: u64) -> u64 {
    let mut former = 0u64;
    // SAFETY: rt_sigprocmask reads and writes 8 bytes each.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            std::ptr::from_ref(&mask),
            std::ptr::from_mut(&mut former),
            8usize,
        );
    }
    former
}

/// Blocks every signal that a small init hands on or waits for, and returns their set.
///
/// Faults of the process itself stay as they are.
pub fn block_forwarded_signals() -> u64 {
    let own = [
        libc::SIGFPE,
        libc::SIGILL,
        libc::SIGSEGV,
        libc::SIGBUS,
        libc::SIGABRT,
        libc::SIGTRAP,
        libc::SIGSYS,
    ];
    let set = own
        .iter()
        .fold(u64::MAX, |set, signal| set & !(1 << (signal - 1)));
    set_signal_mask(set);
    // A terminal's complaints about the background are for nobody.
    set & !(1 << (libc::SIGTTIN - 1)) & !(1 << (libc::SIGTTOU - 1))
}

/// Waits for one of the (blocked) signals of `set` and returns it.
pub fn wait_signal(set: u64) -> libc::c_int {
    loop {
        // SAFETY: rt_sigtimedwait reads 8 bytes of the set; information and timeout are not wanted.
        let signal = unsafe {
            libc::syscall(
                libc::SYS_rt_sigtimedwait,
                std::ptr::from_ref(&set),
                std::ptr::null::<u8>(),
                std::ptr::null::<u8>(),
                8usize,
            )
        };
        if signal > 0 {
            return signal as libc::c_int;
        }
    }
}

/// A real-time signal as `rustix` names it.
pub fn realtime(number: libc::c_int) -> Option<rustix::process::Signal> {
    // SAFETY: a signal number the kernel has just delivered; it is only sent on.
    (number > 0).then(|| unsafe { rustix::process::Signal::from_raw_unchecked(number) })
}

/// Makes a copy of this process, which must have one thread; `None` in the copy.
pub fn fork() -> Result<Option<rustix::process::Pid>> {
    // SAFETY: the callers (`lighter-enter` as an init) have a single thread.
    match check(unsafe { libc::fork() }.into())? {
        0 => Ok(None),
        pid => Ok(rustix::process::Pid::from_raw(pid as i32)),
    }
}

/// Brings the loopback interface of this process's network namespace up.
pub fn loopback_up() -> Result<()> {
    let socket = rustix::net::socket_with(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )?;
    // SAFETY: ifreq is plain data for which all zeros is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads one ifreq, alive here.
    check(
        unsafe {
            libc::ioctl(
                socket.as_fd().as_raw_fd(),
                libc::SIOCSIFFLAGS as _,
                std::ptr::from_ref(&request),
            )
        }
        .into(),
    )
    .map(drop)
}
