//! QEMU as the monitor: for hosts without hardware virtualisation, and as a proof of our devices.
//!
//! QEMU gives processors, bus, disk, clock, console and random numbers; the vsock device is ours,
//! attached over vhost-user on a socket pair, and so are the shares. QEMU gets descriptors, never
//! names of the user's files, and dies with the process that started it.

mod args;
mod counter;
mod find;
mod process;
mod qmp;
mod vm;

pub use vm::Qemu;

use crate::Error;

/// The monitor in words, if it can be used.
pub fn check() -> Result<String, Error> {
    let program = find::find()?;
    let version = find::version(&program)?;
    version.check()?;
    Ok(format!("QEMU {version}, `{}`", program.display()))
}
