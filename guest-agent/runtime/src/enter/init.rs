//! `--init`: the small process that stays as PID 1, hands signals on and reaps.
//!
//! It is `lighter-enter` executed again, behind all walls, so that nothing of the set-up is left
//! in its memory. The file it runs from is sealed or on a read-only mount.

use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};

use crate::sys::{self, CStrings};

/// The name Docker's init has, in the container's list of processes and to tell this mode.
pub const NAME: &str = "/sbin/docker-init";

/// Path (for messages) and arguments of the init for a container's arguments.
pub fn arguments(args: &[String]) -> Vec<String> {
    [NAME, NAME, "--"]
        .iter()
        .map(|text| (*text).to_owned())
        .chain(args.iter().cloned())
        .collect()
}

/// The whole init: `arguments` are its name, `--`, and the program's.
pub fn main(arguments: &[OsString]) -> ExitCode {
    // Executed by descriptor, the process has this program's name; without ours it runs as well.
    let _ = rustix::thread::set_name(c"docker-init");
    let program = arguments.get(2..).unwrap_or_default();
    let Some(name) = program.first() else {
        return ExitCode::from(255);
    };
    let (Some(argv), Some(env)) = (CStrings::new(program.iter().map(|a| a.as_bytes())), env())
    else {
        return ExitCode::from(255);
    };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let candidates = candidates(name, &path);
    let waited = sys::block_forwarded_signals();
    let child = match sys::fork() {
        Ok(None) => {
            take_terminal();
            sys::set_signal_mask(0);
            std::process::exit(execute(name, &candidates, &argv, &env));
        }
        Ok(Some(child)) => child,
        Err(errno) => {
            eprintln!("docker-init: fork: {}", sys::errno_text(errno));
            return ExitCode::from(255);
        }
    };
    stay(child, waited)
}

/// Hands on signals and reaps until `child` has ended; its exit code is ours.
fn stay(child: Pid, waited: u64) -> ExitCode {
    let mut result = None;
    loop {
        let signal = sys::wait_signal(waited);
        if signal != libc::SIGCHLD {
            if let Some(signal) = Signal::from_named_raw(signal).or_else(|| sys::realtime(signal)) {
                let _ = rustix::process::kill_process(child, signal);
            }
            continue;
        }
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid == child => result = Some(exit_code(status)),
                Ok(Some(_)) | Err(Errno::INTR) => {}
                Ok(None) | Err(_) => break,
            }
        }
        if let Some(code) = result {
            return ExitCode::from(code);
        }
    }
}

fn exit_code(status: WaitStatus) -> u8 {
    let code = status
        .exit_status()
        .or_else(|| status.terminating_signal().map(|signal| 128 + signal))
        .unwrap_or(255);
    u8::try_from(code & 0xff).unwrap_or(255)
}

/// The program gets a process group of its own, in the foreground if there is a terminal.
fn take_terminal() {
    let _ = rustix::process::setpgid(None, None);
    // SIGTTOU is blocked here, so a background group may make itself the foreground one.
    let _ = rustix::termios::tcsetpgrp(rustix::stdio::stdin(), rustix::process::getpgrp());
}

fn candidates(name: &OsStr, path: &OsStr) -> Vec<CString> {
    let name = name.as_bytes();
    if name.contains(&b'/') {
        return CString::new(name).into_iter().collect();
    }
    path.as_bytes()
        .split(|byte| *byte == b':')
        .filter(|directory| !directory.is_empty())
        .filter_map(|directory| CString::new([directory, b"/", name].concat()).ok())
        .collect()
}

/// Executes the first candidate that can be; returns the exit code if none can.
fn execute(name: &OsStr, candidates: &[CString], argv: &CStrings, env: &CStrings) -> i32 {
    let mut reason = Errno::NOENT;
    for path in candidates {
        match sys::execve(path, argv, env) {
            Errno::NOENT | Errno::NOTDIR => {}
            errno => reason = errno,
        }
    }
    let name = name.to_string_lossy();
    eprintln!(
        "docker-init: exec {name} failed: {}",
        sys::errno_text(reason)
    );
    if reason == Errno::NOENT { 127 } else { 126 }
}

fn env() -> Option<CStrings> {
    CStrings::new(
        std::env::vars_os().map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat()),
    )
}
