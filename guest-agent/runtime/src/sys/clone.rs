//! A child process that is born in its cgroup and namespaces and does nothing but exec.
//!
//! The caller is a large process with many threads, so the child shares its memory
//! (`CLONE_VM | CLONE_VFORK`: no page table is copied), runs on a stack of its own and calls the
//! kernel only. The calling thread stands still until the child has exec'd or died.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::io::Errno;

use super::{CStrings, Result, set_signal_mask, wait_for};

const STACK_SIZE: usize = 64 * 1024;

/// What [`clone_and_exec`] is to do.
#[derive(Debug)]
pub struct CloneRequest<'a> {
    /// `CLONE_NEW*` of the namespaces the child is born into.
    pub namespaces: u64,
    /// The child's cgroup.
    pub cgroup: BorrowedFd<'a>,
    /// The program, by descriptor.
    pub program: BorrowedFd<'a>,
    /// Its arguments.
    pub argv: &'a CStrings,
    /// Descriptors that stay open over the exec, under their numbers; all others are closed.
    pub keep: &'a [RawFd],
    /// The user namespace the child is born into as its root; the child's new namespaces are its.
    pub user: Option<UserNamespace<'a>>,
}

/// A user namespace to be born into.
#[derive(Debug, Clone, Copy)]
pub struct UserNamespace<'a> {
    /// It.
    pub fd: BorrowedFd<'a>,
    /// Whose PID namespace the child is born into, if not a new one or the caller's.
    pub pid_of: Option<BorrowedFd<'a>>,
}

/// A child that runs its program.
#[derive(Debug)]
pub struct Child {
    /// Its number in the caller's PID namespace.
    pub pid: i32,
    /// Its descriptor.
    pub pidfd: OwnedFd,
}

/// Kernel's `struct clone_args`, version 2.
#[repr(C, align(8))]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

impl CloneArgs {
    /// Those of a process that only serves this one: on `stack`, told of by nothing but `pidfd`.
    fn of_own(flags: libc::c_int, pidfd: &mut RawFd, stack: &Stack) -> Self {
        Self {
            flags: flags as u64 | CLONE_CLEAR_SIGHAND,
            pidfd: std::ptr::from_mut(pidfd) as u64,
            stack: stack.base as u64,
            stack_size: STACK_SIZE as u64,
            ..Self::default()
        }
    }
}

/// What the child reads, and where it leaves word of a failed exec.
struct Order {
    keep: *const RawFd,
    keep_len: usize,
    program: RawFd,
    argv: *const *const libc::c_char,
    envp: *const *const libc::c_char,
    become_root: bool,
    failed: i32,
}

/// What [`passage()`] reads, and what its clone answered.
struct Passage {
    user: RawFd,
    pid_of: RawFd,
    arguments: *const CloneArgs,
    order: *mut Order,
    result: isize,
}

const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Starts `request.program` as a sibling of the caller (a child of the caller's parent; with a user
/// namespace, of the nearest process above that takes orphans).
///
/// The caller's parent is told of its death. On failure no process is left.
pub fn clone_and_exec(request: &CloneRequest<'_>) -> Result<Child> {
    let stack = Stack::new()?;
    let environment = [std::ptr::null()];
    let mut order = Order {
        keep: request.keep.as_ptr(),
        keep_len: request.keep.len(),
        program: request.program.as_raw_fd(),
        argv: request.argv.as_ptr(),
        envp: environment.as_ptr(),
        become_root: request.user.is_some(),
        failed: 0,
    };
    let mut pidfd: RawFd = -1;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD;
    let (parent, exit_signal) = match request.user {
        None => (libc::CLONE_PARENT, 0),
        // An orphan as soon as its maker has ended.
        Some(_) => (0, libc::SIGCHLD as u64),
    };
    let arguments = CloneArgs {
        flags: (flags | parent) as u64
            | CLONE_CLEAR_SIGHAND
            | CLONE_INTO_CGROUP
            | request.namespaces,
        pidfd: std::ptr::from_mut(&mut pidfd) as u64,
        exit_signal,
        stack: stack.base as u64,
        stack_size: STACK_SIZE as u64,
        cgroup: request.cgroup.as_raw_fd() as u64,
        ..CloneArgs::default()
    };
    // A signal handler of the caller must not run in the child, which shares its memory.
    let mask = set_signal_mask(u64::MAX);
    let result = match request.user {
        // SAFETY: the stack is mapped, unused by others and lives until the child has left this
        // address space (CLONE_VFORK); `order` and what it points to likewise. `child` only makes
        // system calls and never returns.
        None => unsafe { clone3_onto(&arguments, child, std::ptr::from_mut(&mut order)) },
        Some(user) => pass(user, &arguments, &mut order),
    };
    set_signal_mask(mask);
    if result < 0 {
        return Err(Errno::from_raw_os_error(-result as i32));
    }
    let pidfd = super::own(pidfd.into());
    // SAFETY: `order` is alive; the child wrote it before it died, and this thread was not
    // running meanwhile. Volatile because the compiler does not know of that writer.
    match unsafe { std::ptr::read_volatile(&raw const order.failed) } {
        0 => Ok(Child {
            pid: result as i32,
            pidfd,
        }),
        errno => Err(Errno::from_raw_os_error(errno)),
    }
}

/// Makes the child of `arguments` in a user namespace; the kernel's answer to its clone.
///
/// A thread cannot enter a user namespace, so a process does that has nothing else to do. It leaves
/// this address space after its child has.
fn pass(user: UserNamespace<'_>, arguments: &CloneArgs, order: &mut Order) -> isize {
    let Ok(stack) = Stack::new() else {
        return -(libc::ENOMEM as isize);
    };
    let mut passage = Passage {
        user: user.fd.as_raw_fd(),
        pid_of: user.pid_of.map_or(-1, |of| of.as_raw_fd()),
        arguments,
        order,
        result: 0,
    };
    let mut pidfd: RawFd = -1;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::CLONE_FILES;
    let own = CloneArgs::of_own(flags, &mut pidfd, &stack);
    // SAFETY: as in `clone_and_exec`: `passage`, what it points to and both stacks outlive the
    // process, for which CLONE_VFORK waits, and it only makes system calls.
    let made = unsafe { clone3_onto(&own, self::passage, std::ptr::from_mut(&mut passage)) };
    if made < 0 {
        return made;
    }
    wait_for(&super::own(pidfd.into()));
    // SAFETY: `passage` is alive and its writer has ended.
    unsafe { std::ptr::read_volatile(&raw const passage.result) }
}

/// The whole life of the process between; it leaves the answer to its clone.
///
/// SAFETY (for callers): as for `child`.
unsafe extern "C" fn passage(passage: *mut Passage) -> ! {
    // SAFETY: as in `child`. The clone's stack is not this one, and CLONE_VFORK keeps this process
    // from going on while it is used.
    unsafe {
        let of = &mut *passage;
        let entered = (of.pid_of < 0
            || libc::syscall(libc::SYS_setns, of.pid_of, libc::CLONE_NEWPID) == 0)
            && libc::syscall(libc::SYS_setns, of.user, libc::CLONE_NEWUSER) == 0;
        let result = if entered {
            clone3_onto(&*of.arguments, child, of.order)
        } else {
            -(*libc::__errno_location() as isize)
        };
        std::ptr::write_volatile(&raw mut of.result, result);
        loop {
            libc::syscall(libc::SYS_exit_group, 0);
        }
    }
}

/// A new user namespace that lives as long as its descriptor; `map` writes the maps of the process
/// whose number it is given.
pub fn user_namespace(map: impl FnOnce(i32) -> std::io::Result<OwnedFd>) -> Result<OwnedFd> {
    let stack = Stack::new()?;
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let mut ends = [read.as_raw_fd(), write.as_raw_fd()];
    let mut pidfd: RawFd = -1;
    let flags = libc::CLONE_VM | libc::CLONE_PIDFD | libc::CLONE_NEWUSER;
    let arguments = CloneArgs::of_own(flags, &mut pidfd, &stack);
    let mask = set_signal_mask(u64::MAX);
    // SAFETY: the stack and `ends` live until the process has ended, for which `wait_for` waits
    // below. `holder` only makes system calls that cannot fail and never returns.
    let pid = unsafe { clone3_onto(&arguments, holder, std::ptr::from_mut(&mut ends)) };
    set_signal_mask(mask);
    if pid < 0 {
        return Err(Errno::from_raw_os_error(-pid as i32));
    }
    let mapped = map(pid as i32);
    // The end of file is what it waits for; it comes too if this process is killed.
    drop(write);
    wait_for(&super::own(pidfd.into()));
    drop((read, stack));
    mapped.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

/// The whole life of the process that holds a new user namespace open.
///
/// SAFETY (for callers): as for `child`, but that the caller goes on meanwhile: its `errno` is this
/// process's too, so nothing here may fail.
unsafe extern "C" fn holder(ends: *mut [RawFd; 2]) -> ! {
    // SAFETY: the descriptors are copies of this process's own; one byte is read onto its stack.
    unsafe {
        let [read, write] = *ends;
        let mut byte = 0u8;
        libc::syscall(libc::SYS_close, write);
        libc::syscall(libc::SYS_read, read, &raw mut byte, 1usize);
        loop {
            libc::syscall(libc::SYS_exit_group, 0);
        }
    }
}

/// The whole life of the child.
///
/// SAFETY (for callers): `order` is live and this runs in a process of its own that shares memory
/// with a thread that stands still; so no allocation, no lock, no panic.
unsafe extern "C" fn child(order: *mut Order) -> ! {
    // SAFETY: see above; each call passes integers or pointers prepared by `clone_and_exec`.
    // The raw calls leave their error in errno of the waiting thread, which does not read it.
    unsafe {
        let order = &mut *order;
        libc::syscall(
            libc::SYS_close_range,
            3,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        );
        for at in 0..order.keep_len {
            libc::syscall(libc::SYS_fcntl, *order.keep.add(at), libc::F_SETFD, 0);
        }
        // Only who is root before the exec has capabilities after it. (This takes the caller's
        // mark that it may be dumped, as the memory is the same.)
        let ready = !order.become_root
            || (libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<libc::gid_t>()) == 0
                && libc::syscall(libc::SYS_setresgid, 0, 0, 0) == 0
                && libc::syscall(libc::SYS_setresuid, 0, 0, 0) == 0);
        if ready {
            libc::syscall(
                libc::SYS_execveat,
                order.program,
                c"".as_ptr(),
                order.argv,
                order.envp,
                libc::AT_EMPTY_PATH,
            );
        }
        std::ptr::write_volatile(&raw mut order.failed, *libc::__errno_location());
        loop {
            libc::syscall(libc::SYS_exit_group, 127);
        }
    }
}

/// `clone3(2)` whose child calls `entry(order)` on its new stack; returns in the parent only.
///
/// SAFETY (for callers): as demanded in `clone_and_exec`.
#[cfg(target_arch = "x86_64")]
unsafe fn clone3_onto<T>(
    arguments: &CloneArgs,
    entry: unsafe extern "C" fn(*mut T) -> !,
    order: *mut T,
) -> isize {
    let result: isize;
    // SAFETY: the system call clobbers rax, rcx and r11 only; in the child the stack pointer is
    // the top of the new stack (aligned to 16), `call` gives `entry` the alignment the ABI wants.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call r13",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone3 as isize => result,
            in("rdi") std::ptr::from_ref(arguments),
            in("rsi") size_of::<CloneArgs>(),
            in("r12") order,
            in("r13") entry,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    result
}

/// As on x86-64.
#[cfg(target_arch = "aarch64")]
unsafe fn clone3_onto<T>(
    arguments: &CloneArgs,
    entry: unsafe extern "C" fn(*mut T) -> !,
    order: *mut T,
) -> isize {
    let result: isize;
    // SAFETY: `svc` clobbers x0 only; in the child the stack pointer is the aligned top of the
    // new stack.
    unsafe {
        std::arch::asm!(
            "svc 0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x0, x21",
            "blr x22",
            "brk 1",
            "2:",
            inlateout("x0") std::ptr::from_ref(arguments) as isize => result,
            in("x1") size_of::<CloneArgs>(),
            in("x8") libc::SYS_clone3,
            in("x21") order,
            in("x22") entry,
            lateout("x30") _,
        );
    }
    result
}

/// A mapped stack with a guard page below it.
struct Stack {
    mapping: *mut libc::c_void,
    base: *mut libc::c_void,
    length: usize,
}

impl Stack {
    fn new() -> Result<Self> {
        // The guard is as large as the largest page of any supported machine.
        const GUARD: usize = 64 * 1024;
        let length = STACK_SIZE + GUARD;
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice.
        let mapping = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_STACK,
                -1,
                0,
            )
        };
        if mapping == libc::MAP_FAILED {
            return Err(Errno::NOMEM);
        }
        // SAFETY: within the mapping made above.
        let base = unsafe { mapping.byte_add(GUARD) };
        let stack = Self {
            mapping,
            base,
            length,
        };
        // SAFETY: the upper part of our own mapping, used by nobody yet.
        if unsafe { libc::mprotect(base, STACK_SIZE, libc::PROT_READ | libc::PROT_WRITE) } != 0 {
            return Err(Errno::NOMEM);
        }
        Ok(stack)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: our own mapping; the child has left it (CLONE_VFORK).
        unsafe { libc::munmap(self.mapping, self.length) };
    }
}
