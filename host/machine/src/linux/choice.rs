//! Which backend runs the machine on this host.

use std::path::PathBuf;

use super::accelerator;
use super::qemu::{self, Qemu};
use crate::{Backend, Error, HostCheck, Hypervisor};

/// A backend, and the program it starts beside this process, where it does.
pub struct Chosen {
    /// The backend.
    pub hypervisor: Box<dyn Hypervisor>,
    /// The monitor's program.
    pub program: Option<PathBuf>,
}

/// Our own monitor where the processor runs machines, else QEMU; or the one that was asked for.
///
/// # Errors
/// When the one asked for cannot be used here, or neither can.
pub fn choose(asked: Backend) -> Result<Chosen, Error> {
    match asked {
        // The question is one machine's life: it is asked once.
        Backend::Auto if accelerator::without_kvm().is_none() => return own_monitor(),
        Backend::Kvm => {
            accelerator::check()?;
            return own_monitor();
        }
        Backend::Auto | Backend::Qemu => {}
    }
    Ok(Chosen {
        program: Some(Qemu.program()?),
        hypervisor: Box::new(Qemu),
    })
}

#[cfg(target_arch = "x86_64")]
fn own_monitor() -> Result<Chosen, Error> {
    Ok(Chosen {
        hypervisor: Box::new(super::kvm::Kvm),
        program: None,
    })
}

#[cfg(not(target_arch = "x86_64"))]
fn own_monitor() -> Result<Chosen, Error> {
    Err(Error::Unsupported("our own monitor".into()))
}

/// What this host offers for running a machine.
pub fn check_host() -> HostCheck {
    let slow_because = accelerator::without_kvm().map(str::to_owned);
    let backend = match slow_because {
        None => Ok("KVM, with Lighter's own monitor".to_owned()),
        Some(_) => qemu::check(),
    };
    HostCheck {
        backend,
        slow_because,
    }
}
