//! Which backends a test runs on.

use lighter_machine::{Backend, Hypervisor, Kvm, Qemu};
use lighter_tests::env;

/// The one that `$LIGHTER_TEST_BACKEND` asks for.
pub fn named() -> Option<Backend> {
    let name = std::env::var(env::BACKEND).ok()?;
    Some(match name.as_str() {
        "kvm" => Backend::Kvm,
        "qemu" => Backend::Qemu,
        other => panic!("{} is `{other}`, which is no backend", env::BACKEND),
    })
}

/// The one that is named; else QEMU everywhere, and our own monitor where the processor runs machines.
pub fn all() -> Vec<Box<dyn Hypervisor>> {
    match named() {
        Some(Backend::Kvm) => vec![Box::new(Kvm)],
        Some(Backend::Qemu) => vec![Box::new(Qemu)],
        Some(Backend::Auto) | None => every(),
    }
}

fn every() -> Vec<Box<dyn Hypervisor>> {
    let mut backends: Vec<Box<dyn Hypervisor>> = vec![Box::new(Qemu)];
    match Kvm.probe() {
        Ok(()) => backends.push(Box::new(Kvm)),
        Err(why) => {
            let why = why.hint().unwrap_or_default().to_owned();
            env::skip("machines on `kvm`", &why);
        }
    }
    backends
}
