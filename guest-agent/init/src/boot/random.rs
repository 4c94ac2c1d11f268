//! Where the kernel's random numbers come from once there are enough.
//!
//! The kernel reads the random device again and again to stir what it has: every few seconds at first, every minute
//! later. Each time the machine's process on the host wakes up, on a machine in which nothing else happens. A generator
//! that has once been seeded needs nothing more (drivers/char/random.c, "Fast key erasure RNG"), and where the processor
//! has random numbers of its own the kernel goes on stirring those in.

use std::fs;
use std::io::ErrorKind;

use rustix::rand::{GetRandomFlags, getrandom};

use crate::console::say;

/// Which device is read (Documentation/admin-guide/hw_random.rst).
const CURRENT: &str = "/sys/class/misc/hw_random/rng_current";
/// No device.
const NONE: &str = "none";

/// Has the kernel read the random device no more, if it has read enough of it.
pub fn leave_the_device() {
    if !is_seeded() {
        say(format_args!(
            "the kernel's random numbers are not seeded yet: the random device stays in use"
        ));
        return;
    }
    match fs::write(CURRENT, NONE) {
        // A kernel or a machine without one.
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => say(format_args!("leaving the random device: {error}")),
        Ok(()) => {}
    }
}

/// Whether a program would get numbers at once (getrandom(2): without `GRND_INSECURE` only a seeded generator gives any).
fn is_seeded() -> bool {
    getrandom(&mut [0_u8; 1], GetRandomFlags::NONBLOCK).is_ok_and(|count| count == 1)
}
