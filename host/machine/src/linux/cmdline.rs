//! The guest kernel's command line, for every backend.

use crate::VmSpec;

/// Quiet but not mute: a panic (level 0) leaves its words on the console that the backend names.
/// `panic=-1` restarts at once, by a triple fault, since there is no i8042 driver, and a restart is
/// the end of the machine.
const CMDLINE: &[&str] = &[
    "quiet",
    "loglevel=1",
    "panic=-1",
    "reboot=t",
    "nomodule",
    "random.trust_cpu=1",
    "cryptomgr.notests",
    "swiotlb=noforce",
    "tsc=reliable",
    "no_timer_check",
    "rcupdate.rcu_expedited=1",
];

/// The line of a machine, with what is true of its backend alone.
pub fn of(backend: &[&str], spec: &VmSpec) -> String {
    let extra = spec.cmdline_extra.iter().map(String::as_str);
    let words = CMDLINE.iter().chain(backend).copied().chain(extra);
    words.collect::<Vec<_>>().join(" ")
}
