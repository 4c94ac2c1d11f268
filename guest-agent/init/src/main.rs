//! `lighter-init`: PID 1 of the guest.
//!
//! ```text
//!   kernel ──► boot (root, listeners, mounts, network, disk) ──► supervise ──► end
//!                                                       agent ◄──► store, journal
//! ```
//!
//! It does little, so that it never has to be restarted: it makes the machine usable, starts
//! the agent again whenever that dies, holds descriptors and exit statuses for it meanwhile,
//! and ends the machine when the agent says so. It waits in one place ([`supervise`]), never on
//! anybody else, reads nothing that comes from outside the kernel and the agent, and has no
//! threads. When it dies the kernel panics, so nothing in here may.
//!
//! `--native` runs everything but the machine's own parts inside a fresh pid, mount and network
//! namespace of an ordinary system, for tests.

mod boot;
mod console;
mod end;
mod options;
mod supervise;

use std::process::ExitCode;

use options::Mode;

fn main() -> ExitCode {
    let mode = match options::parse(std::env::args_os().skip(1)) {
        Ok(mode) => mode,
        Err(error) => {
            console::say(format_args!("{error}"));
            return ExitCode::from(2);
        }
    };
    if std::process::id() != 1 {
        console::say(format_args!(
            "must be process 1 (of a pid namespace, for `--native`)"
        ));
        return ExitCode::from(2);
    }
    let native = matches!(mode, Mode::Native(_));
    let booted = match &mode {
        Mode::Guest => boot::guest(),
        Mode::Native(options) => boot::native(options),
    };
    let end = match booted.and_then(|booted| supervise::run(booted, &mode)) {
        Ok(end) => end,
        Err(error) => {
            console::say(format_args!("cannot go on: {error}"));
            // No `bye` was said: the host takes this for the crash that it is, and shows the line.
            lighter_init::End::Restart
        }
    };
    end::machine(end, native)
}
