//! A thread of another process taken over: it makes a system call that its program would never make.
//!
//! A tracer's rights stand in for the flaw by which somebody would get that far. Called by the tests of processes that
//! confine themselves, to see what becomes of the real program.

use std::io;
use std::mem::MaybeUninit;
use std::ptr;

use libc::{c_int, c_uint, c_void, pid_t, user_regs_struct};

/// What the tracing process says by its exit code.
const SURVIVED: c_int = 0;
const ENDED: c_int = 1;
const FAILED: c_int = 2;

/// How a stop at a system call is told from others (`PTRACE_O_TRACESYSGOOD`).
const AT_A_CALL: c_int = libc::SIGTRAP | 0x80;
/// Bytes of the instruction `syscall`.
const INSTRUCTION: u64 = 2;

/// Whether a thread, by its number, goes on after it made `call`, the arguments being whatever they are. One that does
/// then makes the call that it was about to make; otherwise the process was ended by `SIGSYS`.
///
/// # Errors
/// When the thread cannot be traced, or comes to another end.
pub fn survives(thread: u32, call: i64) -> io::Result<bool> {
    let thread = pid_t::try_from(thread).map_err(io::Error::other)?;
    // A process of its own: the thread's parent is this one, mostly, and somebody here waits for its end.
    // SAFETY: what runs in the child is this thread alone, and it ends below without returning.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // Other tests wait for the end of what this process has open.
        // SAFETY: nothing in the child uses a descriptor.
        unsafe { libc::close_range(3, c_uint::MAX, 0) };
        let code = match takes(thread, call) {
            Ok(true) => SURVIVED,
            Ok(false) => ENDED,
            Err(_) => FAILED,
        };
        // SAFETY: nothing of the parent's is tidied up.
        unsafe { libc::_exit(code) };
    }
    let status = waited_for(child)?;
    match (libc::WIFEXITED(status), libc::WEXITSTATUS(status)) {
        (true, SURVIVED) => Ok(true),
        (true, ENDED) => Ok(false),
        _ => Err(io::Error::other(format!("a tracer ended by {status:#x}"))),
    }
}

/// The same, by the process that calls it.
fn takes(thread: pid_t, call: i64) -> io::Result<bool> {
    trace(
        libc::PTRACE_SEIZE,
        thread,
        libc::PTRACE_O_TRACESYSGOOD as usize,
    )?;
    trace(libc::PTRACE_INTERRUPT, thread, 0)?;
    waited_for(thread)?;
    // A wait that was interrupted begins again: by the call itself, or by its own loop.
    at_next_call(thread)?;
    let own = registers(thread)?;
    let mut changed = own;
    changed.orig_rax = call.cast_unsigned();
    set_registers(thread, &changed)?;
    at_next_call(thread)?;
    // At the call's end: where it was refused, the signal comes only now.
    let mut again = own;
    again.rip -= INSTRUCTION;
    again.rax = own.orig_rax;
    set_registers(thread, &again)?;
    if !at_next_call(thread)? {
        return Ok(false);
    }
    trace(libc::PTRACE_DETACH, thread, 0)?;
    Ok(true)
}

/// Lets a thread go on to the next beginning or end of a call; whether it got there, and was not ended by `SIGSYS`.
fn at_next_call(thread: pid_t) -> io::Result<bool> {
    loop {
        trace(libc::PTRACE_SYSCALL, thread, 0)?;
        let status = waited_for(thread)?;
        if libc::WIFSTOPPED(status) && libc::WSTOPSIG(status) == AT_A_CALL {
            return Ok(true);
        }
        if libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGSYS {
            return Ok(false);
        }
        if !libc::WIFSTOPPED(status) {
            return Err(io::Error::other("it came to another end"));
        }
    }
}

fn waited_for(thread: pid_t) -> io::Result<c_int> {
    let mut status = 0;
    // SAFETY: the call writes one `int` to where it is told.
    let waited = unsafe { libc::waitpid(thread, &raw mut status, libc::__WALL) };
    if waited == thread {
        Ok(status)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// A request that touches no memory of this process.
fn trace(request: c_uint, thread: pid_t, data: usize) -> io::Result<()> {
    // SAFETY: the requests above take numbers only.
    let result = unsafe { libc::ptrace(request, thread, ptr::null_mut::<c_void>(), data) };
    checked(result)
}

fn registers(thread: pid_t) -> io::Result<user_regs_struct> {
    let mut found = MaybeUninit::<user_regs_struct>::uninit();
    let null = ptr::null_mut::<c_void>();
    // SAFETY: the call fills the whole of what it is given room for.
    let result = unsafe { libc::ptrace(libc::PTRACE_GETREGS, thread, null, found.as_mut_ptr()) };
    checked(result)?;
    // SAFETY: it was filled, as the call succeeded.
    Ok(unsafe { found.assume_init() })
}

fn set_registers(thread: pid_t, to: &user_regs_struct) -> io::Result<()> {
    let null = ptr::null_mut::<c_void>();
    // SAFETY: the call reads a whole set of registers from what it is given.
    let result = unsafe { libc::ptrace(libc::PTRACE_SETREGS, thread, null, ptr::from_ref(to)) };
    checked(result)
}

fn checked(result: libc::c_long) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_thread_makes_another_call_and_goes_on_with_its_own() {
        // It reads, which waits; then it goes on reading, or ends as its call says.
        let start = || {
            let mut cat = Command::new("cat");
            cat.stdin(Stdio::piped()).stdout(Stdio::piped());
            cat.spawn().unwrap()
        };
        let mut cat = start();
        assert!(survives(cat.id(), libc::SYS_gettid).unwrap());
        io::Write::write_all(cat.stdin.as_mut().unwrap(), b"words").unwrap();
        let output = cat.wait_with_output().unwrap();
        assert_eq!(output.stdout, b"words");
        assert!(output.status.success());
        let mut cat = start();
        // What it reads from is not at its end.
        let _open = cat.stdin.take();
        survives(cat.id(), libc::SYS_exit_group).unwrap_err();
        cat.wait().unwrap();
    }
}
