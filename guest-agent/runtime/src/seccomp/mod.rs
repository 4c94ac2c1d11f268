//! System call filters: Docker's profiles, compiled to classic BPF.
//!
//! Called by the launcher, in the engine; `lighter-enter` only installs the result. One filter
//! serves every architecture a machine executes: on x86-64 also i386 programs and x32 calls.
//!
//! The default profile lets `socketcall` through, the call by which 32-bit C libraries open every
//! socket: the address family lies behind a pointer, where a filter cannot look. `AF_VSOCK` and
//! `AF_ALG`, which the profile denies to `socket`, are closed on that way by the kernel itself
//! (no `CRYPTO_USER_API`; vsock only in the initial network namespace).

mod bpf;
mod profile;
mod table;

use crate::{FailureKind, StartError};

use bpf::Code;
use profile::Profile;
use table::Machine;

/// Docker's default profile (moby 28.5, with the sockets rule of 29.4.3).
const DEFAULT_PROFILE: &str = include_str!("default.json");

/// A compiled filter: eight bytes of `SECCOMP_FILTER_FLAG_*` (little endian), then the
/// instructions.
pub const FLAGS_LENGTH: usize = 8;

/// Docker's default profile for a process with these capabilities (a mask).
///
/// # Errors
/// The profile cannot be compiled for this machine.
pub fn default_filter(capabilities: u64) -> Result<Vec<u8>, StartError> {
    filter_of_profile(DEFAULT_PROFILE, capabilities)
}

/// A profile in Docker's JSON format for a process with these capabilities (a mask).
///
/// # Errors
/// What is wrong with the profile, in Docker's words.
pub fn filter_of_profile(text: &str, capabilities: u64) -> Result<Vec<u8>, StartError> {
    let machine = Machine::host()
        .ok_or_else(|| fail("system call filters are not supported on this architecture"))?;
    let profile = Profile::parse(text).map_err(fail)?;
    let rules = profile.rules_for(machine, capabilities, profile::running_kernel());
    let code = Code::compile(&profile, machine, &rules).map_err(fail)?;
    let mut filter = profile.flags.to_le_bytes().to_vec();
    filter.extend_from_slice(&code.bytes());
    Ok(filter)
}

fn fail(text: impl Into<String>) -> StartError {
    StartError::new("seccomp", FailureKind::Invalid, text)
}

#[cfg(test)]
mod tests;
