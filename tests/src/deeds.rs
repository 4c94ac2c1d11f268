//! What somebody would do who has taken a confined thread over, each tried in a process of its own.
//!
//! Called by the tests of whatever confines itself.

use std::io;

/// A deed, and the system call that it is.
type Deed = (&'static str, fn());

fn call(number: i64, arguments: [i64; 4]) {
    let [a, b, c, d] = arguments;
    // SAFETY: the calls below take numbers, strings that end, and room for what they return.
    unsafe { libc::syscall(number, a, b, c, d) };
}

fn make_pair(family: i32, kind: i32) {
    let mut made = [0_i32; 2];
    let room = made.as_mut_ptr() as i64;
    call(libc::SYS_socketpair, [family.into(), kind.into(), 0, room]);
}

const HERE: i64 = libc::AT_FDCWD as i64;

const DEEDS: &[Deed] = &[
    ("open a file", || {
        call(libc::SYS_openat, [HERE, c"/".as_ptr() as i64, 0, 0]);
    }),
    ("look for a file", || {
        call(libc::SYS_newfstatat, [HERE, c"/".as_ptr() as i64, 0, 0]);
    }),
    ("look for a file anew", || {
        call(libc::SYS_statx, [HERE, c"/".as_ptr() as i64, 0, 0]);
    }),
    ("make a socket", || {
        let [family, kind] = [libc::AF_INET, libc::SOCK_STREAM].map(i64::from);
        call(libc::SYS_socket, [family, kind, 0, 0]);
    }),
    ("make sockets that reach others by name", || {
        make_pair(libc::AF_UNIX, libc::SOCK_DGRAM);
    }),
    ("make sockets of another kind", || {
        make_pair(libc::AF_TIPC, libc::SOCK_STREAM);
    }),
    ("connect", || call(libc::SYS_connect, [0; 4])),
    ("bind", || call(libc::SYS_bind, [0; 4])),
    ("start a process", || {
        call(libc::SYS_clone, [libc::SIGCHLD.into(), 0, 0, 0]);
    }),
    ("start a process anew", || call(libc::SYS_clone3, [0; 4])),
    ("become another program", || {
        let name = c"/nonexistent".as_ptr() as i64;
        call(libc::SYS_execve, [name, 0, 0, 0]);
    }),
    ("control a terminal", || {
        call(libc::SYS_ioctl, [0, libc::TIOCSTI as i64, 0, 0]);
    }),
    // KVM_CREATE_VM
    ("make a machine", || {
        call(libc::SYS_ioctl, [0, 0xae01, 0, 0]);
    }),
    ("signal another process's thread", || {
        call(libc::SYS_tgkill, [1, 1, 0, 0]);
    }),
    ("signal any thread", || call(libc::SYS_tkill, [1, 0, 0, 0])),
    ("signal a process", || call(libc::SYS_kill, [0; 4])),
    ("have memory that can be run", || {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let rights = libc::PROT_READ | libc::PROT_EXEC;
        call(libc::SYS_mmap, [0, 4096, rights.into(), flags.into()]);
    }),
    ("read another process", || {
        call(libc::SYS_process_vm_readv, [1, 0, 0, 0]);
    }),
    ("trace another process", || {
        call(libc::SYS_ptrace, [libc::PTRACE_ATTACH.into(), 1, 0, 0]);
    }),
    ("leave for another namespace", || {
        call(libc::SYS_unshare, [libc::CLONE_NEWUSER.into(), 0, 0, 0]);
    }),
    ("have its limits back", || {
        call(libc::SYS_prlimit64, [0, libc::RLIMIT_CORE.into(), 0, 0]);
    }),
    ("ask by another way", || {
        call(libc::SYS_io_uring_setup, [0; 4]);
    }),
];

/// What can be done after `confine` all the same.
///
/// # Errors
/// When the system gives no process, or one that does nothing after `confine` does not end well.
pub fn survived(confine: impl Fn() -> io::Result<()>) -> io::Result<Vec<&'static str>> {
    if !ends_well(&confine, || ())? {
        return Err(io::Error::other("doing nothing is a deed"));
    }
    let mut survived = Vec::new();
    for (name, deed) in DEEDS {
        if ends_well(&confine, deed)? {
            survived.push(*name);
        }
    }
    Ok(survived)
}

/// Whether a process that confines itself and does that ends by itself; the other end is by `SIGSYS`.
fn ends_well(confine: impl Fn() -> io::Result<()>, deed: impl Fn()) -> io::Result<bool> {
    // SAFETY: what runs in the child is this thread alone, and it ends below without returning; the C library's heap
    // can be used after a fork.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // Other tests wait for the end of what this process has open.
        // SAFETY: nothing in the child uses a descriptor.
        unsafe { libc::close_range(3, libc::c_uint::MAX, 0) };
        let code = match confine() {
            Ok(()) => {
                deed();
                0
            }
            Err(_) => 1,
        };
        // SAFETY: nothing of the parent's is tidied up.
        unsafe { libc::_exit(code) };
    }
    if child < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut status = 0;
    // SAFETY: the call writes one `int` to where it is told.
    if unsafe { libc::waitpid(child, &raw mut status, 0) } != child {
        return Err(io::Error::last_os_error());
    }
    if libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGSYS {
        return Ok(false);
    }
    if libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0 {
        return Ok(true);
    }
    Err(io::Error::other(format!("a child ended by {status:#x}")))
}
