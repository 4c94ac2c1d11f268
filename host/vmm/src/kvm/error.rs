//! Why a machine could not be made.

use std::io;

use crate::mmio::TransportError;

/// A machine could not be made or started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel's virtualisation refused a step.
    #[error("KVM: {what}")]
    Kvm {
        /// The step.
        what: &'static str,
        /// Why.
        #[source]
        source: kvm_ioctls::Error,
    },
    /// The guest's memory could not be made.
    #[error("the guest's memory: {0}")]
    Memory(String),
    /// The kernel is no PVH kernel, or it and the initial file system do not fit into the memory.
    #[error("the guest's kernel: {0}")]
    Kernel(String),
    /// More devices than interrupt lines.
    #[error("too many devices")]
    TooManyDevices,
    /// A device's registers.
    #[error("a device")]
    Device(#[from] TransportError),
    /// The system gave no thread or descriptor.
    #[error("{what}")]
    System {
        /// For what.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// For `map_err` on a call of KVM.
    pub(super) fn kvm(what: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> Self {
        move |source| Self::Kvm { what, source }
    }

    pub(super) fn system(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { what, source }
    }
}
