//! Which backend runs the machine on this host.

use std::os::fd::OwnedFd;
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
    /// The system's virtualisation, where a monitor within this process uses it.
    pub virtualisation: Option<OwnedFd>,
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
        virtualisation: None,
    })
}

#[cfg(target_arch = "x86_64")]
fn own_monitor() -> Result<Chosen, Error> {
    Ok(Chosen {
        hypervisor: Box::new(super::kvm::Kvm),
        program: None,
        virtualisation: Some(accelerator::open()?.into()),
    })
}

#[cfg(not(target_arch = "x86_64"))]
fn own_monitor() -> Result<Chosen, Error> {
    Err(Error::Unsupported("our own monitor".into()))
}

/// What this host offers for running a machine by this backend.
pub fn check_host(asked: Backend) -> HostCheck {
    describe(asked, accelerator::without_kvm(), qemu::check)
}

/// The same by what was found; QEMU is looked for only where it would run.
fn describe(
    asked: Backend,
    without_kvm: Option<String>,
    qemu: impl FnOnce() -> Result<String, Error>,
) -> HostCheck {
    let because = |why: &str| qemu().map(|found| format!("{found}, as {why}"));
    let backend = match (asked, &without_kvm) {
        (Backend::Auto | Backend::Kvm, None) => Ok("KVM, with Lighter's own monitor".to_owned()),
        (Backend::Kvm, Some(why)) => Err(accelerator::missing(why.clone())),
        (Backend::Qemu, _) => because("the setting `backend` says"),
        (Backend::Auto, Some(_)) => {
            because("Lighter's own monitor needs the processor's virtualisation")
        }
    };
    HostCheck {
        backend,
        slow_because: without_kvm,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_the_machine_is_said_with_the_reason() {
        let qemu = || Ok("QEMU 10".to_owned());
        let never = || -> Result<String, Error> { panic!("QEMU is not asked for") };
        let why = || Some("no permission".to_owned());
        for asked in [Backend::Auto, Backend::Kvm] {
            let host = describe(asked, None, never);
            assert!(host.backend.unwrap().contains("own monitor"));
            assert_eq!(host.slow_because, None);
        }
        let host = describe(Backend::Auto, why(), qemu);
        let said = host.backend.unwrap();
        assert!(
            said.starts_with("QEMU 10, as ") && said.contains("needs"),
            "{said}"
        );
        assert_eq!(host.slow_because, why());
        let host = describe(Backend::Kvm, why(), never);
        assert_eq!(host.backend.unwrap_err().hint(), Some("no permission"));
        // QEMU uses KVM, too.
        let host = describe(Backend::Qemu, None, qemu);
        assert!(host.backend.unwrap().contains("setting `backend`"));
        assert_eq!(host.slow_because, None);
    }
}
