//! What the default profile lets through, capability by capability, written down as Docker's engine
//! 28.5 answers it (its sockets rule as of 29.4.3): a change of the profile shows here as a change of
//! these lists.

use std::collections::BTreeSet;

use super::super::DEFAULT_PROFILE;
use super::super::profile::Action;
use super::super::table::{Arch, names};
use super::{X86, call, compile};
use crate::caps;

/// Calls of x86-64, i386 and x32 that nobody may make without a capability.
const REFUSED: &str = "
    _sysctl acct add_key afs_syscall bdflush bpf break chroot clock_settime clock_settime64
    create_module delete_module fanotify_init file_getattr file_setattr finit_module
    fsconfig fsmount fsopen fspick ftime get_kernel_syms get_mempolicy getpmsg gtty idle
    init_module io_uring_enter io_uring_register io_uring_setup ioperm iopl kcmp
    kexec_file_load kexec_load keyctl listns lock lookup_dcookie lsm_get_self_attr
    lsm_list_modules lsm_set_self_attr mbind migrate_pages mount mount_setattr move_mount
    move_pages mpx nfsservctl nice oldfstat oldlstat oldolduname oldstat olduname
    open_by_handle_at open_tree open_tree_attr perf_event_open pidfd_getfd pivot_root
    process_madvise prof profil putpmsg query_module quotactl quotactl_fd readdir reboot
    request_key rseq_slice_yield security set_mempolicy set_mempolicy_home_node
    setdomainname sethostname setns settimeofday sgetmask sigaction signal sigpending
    sigsuspend ssetmask stime stty swapoff swapon sysfs syslog tuxcall ulimit umount umount2
    unshare uprobe uselib userfaultfd ustat vhangup vm86 vm86old vserver";

/// What each capability opens beyond that; those that are not named open nothing.
const OPENED: [(&str, &str); 14] = [
    ("CAP_BPF", "bpf"),
    ("CAP_DAC_READ_SEARCH", "open_by_handle_at"),
    ("CAP_PERFMON", "perf_event_open"),
    ("CAP_SYSLOG", "syslog"),
    (
        "CAP_SYS_ADMIN",
        "\
         bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie \
         lsm_get_self_attr lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount \
         open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns \
         syslog umount umount2 unshare",
    ),
    ("CAP_SYS_BOOT", "reboot"),
    ("CAP_SYS_CHROOT", "chroot"),
    ("CAP_SYS_MODULE", "delete_module finit_module init_module"),
    (
        "CAP_SYS_NICE",
        "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    ),
    ("CAP_SYS_PACCT", "acct"),
    (
        "CAP_SYS_PTRACE",
        "\
         kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace",
    ),
    ("CAP_SYS_RAWIO", "ioperm iopl"),
    (
        "CAP_SYS_TIME",
        "clock_settime clock_settime64 settimeofday stime",
    ),
    ("CAP_SYS_TTY_CONFIG", "vhangup"),
];

/// An argument that no condition is made for; -1 would ask `personality` what is in force.
const WILD: u64 = u64::MAX - 1;

/// Names of the calls that are let through with these arguments on at least one architecture.
fn allowed(capabilities: u64, argument: u64) -> BTreeSet<&'static str> {
    let code = compile(DEFAULT_PROFILE, capabilities);
    names()
        .filter(|name| {
            let on = |arch: &Arch| {
                arch.number(name).is_some()
                    && call(&code, *arch, name, [argument; 6]) == Action::ALLOW
            };
            X86.iter().any(on)
        })
        .collect()
}

fn words(text: &'static str) -> BTreeSet<&'static str> {
    text.split_whitespace().collect()
}

#[test]
fn without_capabilities_all_but_these_calls_are_let_through() {
    let there = |name: &&str| X86.iter().any(|arch| arch.number(name).is_some());
    let all: BTreeSet<_> = names().filter(there).collect();
    let mut refused: BTreeSet<_> = all.difference(&allowed(0, 0)).copied().collect();
    // "No such call" makes a C library take `clone`, whose flags a filter can see.
    assert!(refused.remove("clone3"));
    assert_eq!(refused, words(REFUSED));
    // What is let through only with some arguments.
    let conditional: BTreeSet<_> = allowed(0, 0)
        .difference(&allowed(0, WILD))
        .copied()
        .collect();
    assert_eq!(conditional, words("clone personality socket"));
}

#[test]
fn each_capability_opens_these_calls_and_no_others() {
    let refused: BTreeSet<_> = words(REFUSED);
    for name in caps::names(u64::MAX) {
        let capability = caps::bit(name).unwrap();
        let expected = OPENED.iter().find(|(known, _)| *known == name);
        let expected = expected.map_or_else(BTreeSet::new, |(_, calls)| words(calls));
        let opened: BTreeSet<_> = allowed(capability, WILD)
            .difference(&allowed(0, WILD))
            .copied()
            .collect();
        // Two of them need no capability since Linux 4.8.
        let news: BTreeSet<_> = expected
            .iter()
            .filter(|call| refused.contains(**call) || call.starts_with("clone"))
            .copied()
            .collect();
        assert_eq!(opened, news, "{name}");
    }
}

#[test]
fn a_call_is_judged_alike_on_every_architecture_that_has_it() {
    for capabilities in [0, caps::DEFAULT, u64::MAX] {
        let code = compile(DEFAULT_PROFILE, capabilities);
        for name in names() {
            // Not a call of 32-bit programs only, and not one by which they make many others.
            if matches!(name, "arch_prctl" | "modify_ldt") {
                continue;
            }
            let verdicts: BTreeSet<bool> = X86
                .iter()
                .filter(|arch| arch.number(name).is_some())
                .map(|arch| call(&code, *arch, name, [0; 6]) == Action::ALLOW)
                .collect();
            assert!(verdicts.len() <= 1, "{name} with {capabilities:#x}");
        }
    }
}
