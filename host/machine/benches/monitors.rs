//! Our monitor and QEMU's board microvm beside each other, in a machine that has KVM.
//!
//! `cargo xtask bench vmm` puts this program into its outer machine and reads what it prints, a line a measurement:
//! `row NAME SIDE NUMBER`. It decides nothing. Without arguments (as `cargo test` and `cargo bench` call it) it
//! measures nothing.
//!
//! ```text
//!   monitors IMAGE GUEST     a folder of the image, and the archive with the tests' init; every side once
//! ```
//!
//! Under the name of QEMU it is QEMU's way in: the arguments of our backend, which are for another board, are passed on
//! in that board's words. QEMU pays for that way.

#![cfg_attr(
    not(all(target_os = "linux", target_arch = "x86_64")),
    allow(unused, reason = "there is nothing to measure elsewhere")
)]

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[path = "monitors/mod.rs"]
mod monitors;

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn main() -> std::process::ExitCode {
    monitors::main()
}

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
fn main() {}
