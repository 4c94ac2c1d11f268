//! Doors for `tests/fuzz`: what a hostile guest does to a device, as bytes.
//!
//! An input is a program of steps, each an opcode and its operands; what is missing at its end is zero. The devices
//! are the real ones without their threads ([`InPlace`]), so that an input does the same each time; they and their
//! memory are made once for a thread. After every program the device is reset and must serve an honest driver.
//!
//! [`program`] reads the bytes, [`rings`] has the steps that all rings share, [`console`], [`mmio`] and [`queues`] are targets; those
//! of the disk, of vhost-user and of the loader stand beside their code. The vsock device's is `vsock::fuzz`.
//!
//! [`InPlace`]: crate::service::in_place::InPlace

mod console;
mod mmio;
mod program;
mod queues;
pub(crate) mod rings;

pub use crate::blk::fuzz::run as block_requests;
#[cfg(target_arch = "x86_64")]
pub use crate::kvm::fuzz::run as kernel_loader;
pub use console::run as console_output;
pub use mmio::run as mmio_transport;
pub(crate) use program::Program;
pub use queues::run as device_queues;
