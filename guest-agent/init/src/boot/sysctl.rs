//! Kernel settings: hardening that costs no container anything, and limits that containers
//! of this decade run into.

use std::fs;
use std::io::ErrorKind;

use crate::console::say;

/// Paths below /proc/sys, with values and the reason.
const TABLE: &[(&str, &str)] = &[
    // Kernel addresses and messages help an exploit; root in a container is not root here.
    ("kernel/kptr_restrict", "1"),
    ("kernel/dmesg_restrict", "1"),
    // eBPF and perf only for who has the capability.
    ("kernel/unprivileged_bpf_disabled", "2"),
    ("net/core/bpf_jit_harden", "1"),
    ("kernel/perf_event_paranoid", "2"),
    ("vm/unprivileged_userfaultfd", "0"),
    ("dev/tty/ldisc_autoload", "0"),
    // Debuggers attach to their own children, as on desktop distributions.
    ("kernel/yama/ptrace_scope", "1"),
    // Links and pipes in sticky folders are followed only where that cannot be a trick.
    ("fs/protected_symlinks", "1"),
    ("fs/protected_hardlinks", "1"),
    ("fs/protected_fifos", "1"),
    ("fs/protected_regular", "2"),
    // Keys on a console that nobody sits at.
    ("kernel/sysrq", "0"),
    // File watchers: the defaults are used up by one development server.
    ("fs/inotify/max_user_instances", "8192"),
    ("fs/inotify/max_user_watches", "1048576"),
    // Elasticsearch refuses to start below 262144; recent distributions have this.
    ("vm/max_map_count", "1048576"),
    // A thousand containers of some processes each.
    ("kernel/pid_max", "4194304"),
    ("kernel/threads-max", "1000000"),
    // Every container has keyrings of its own, all of them charged to root; or to the one user that
    // is root in every container with a user namespace.
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
    ("kernel/keys/maxkeys", "100000"),
    ("kernel/keys/maxbytes", "2500000"),
];

/// Applies all. What this kernel does not have is passed over; what it refuses is said.
pub fn apply() {
    for (name, value) in TABLE {
        set(name, value);
    }
    let total_kb = rustix::system::sysinfo().totalram / 1024;
    set("vm/min_free_kbytes", &min_free_kb(total_kb).to_string());
}

fn set(name: &str, value: &str) {
    match fs::write(format!("/proc/sys/{name}"), value) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            say(format_args!("setting {name} to {value}: {error}"));
        }
        _ => {}
    }
}

/// What the kernel keeps free for itself without huge pages: 4 times the root of the memory, in
/// kB (`calculate_min_free_kbytes` in mm/page_alloc.c). With them it keeps several times as much,
/// so that whole blocks stay free; that is taken from containers, and here they ask for huge
/// pages by name.
fn min_free_kb(total_kb: u64) -> u64 {
    (total_kb * 16).isqrt().clamp(1024, 65536)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserve_is_the_kernels_own() {
        assert_eq!(min_free_kb(2_042_632), 5716);
        assert_eq!(min_free_kb(0), 1024);
        assert_eq!(min_free_kb(u64::from(u32::MAX)), 65536);
    }
}
