//! The filters, evaluated as the kernel does.

#[path = "by_capability.rs"]
mod by_capability;

use super::bpf::{Code, Instruction};
use super::profile::{Action, Profile};
use super::table::{Arch, Machine, X32_BIT};
use super::{DEFAULT_PROFILE, filter_of_profile};
use crate::caps;

const MODERN: (u32, u32) = (6, 12);
const EPERM: Action = Action::errno(1);
const ENOSYS: Action = Action::errno(38);

fn compile(text: &str, capabilities: u64) -> Vec<Instruction> {
    let profile = Profile::parse(text).unwrap();
    let rules = profile.rules_for(Machine::X86_64, capabilities, MODERN);
    Code::compile(&profile, Machine::X86_64, &rules).unwrap().0
}

/// Classic BPF, for the instructions that are used.
fn evaluate(code: &[Instruction], audit: u32, number: u32, arguments: [u64; 6]) -> Action {
    let (mut at, mut a) = (0, 0u32);
    loop {
        let i = code[at];
        at += 1;
        let jump = |condition: bool| usize::from(if condition { i.jt } else { i.jf });
        match i.code {
            0x20 => {
                a = match i.k {
                    0 => number,
                    4 => audit,
                    offset => {
                        let argument = arguments[(offset as usize - 16) / 8];
                        if offset % 8 == 0 {
                            argument as u32
                        } else {
                            (argument >> 32) as u32
                        }
                    }
                };
            }
            0x54 => a &= i.k,
            0x05 => at += i.k as usize,
            0x15 => at += jump(a == i.k),
            0x25 => at += jump(a > i.k),
            0x35 => at += jump(a >= i.k),
            0x06 => return Action(i.k),
            other => panic!("instruction {other:#x}"),
        }
    }
}

fn call(code: &[Instruction], arch: Arch, name: &str, arguments: [u64; 6]) -> Action {
    let bit = if arch == Arch::X32 { X32_BIT } else { 0 };
    evaluate(
        code,
        arch.audit(),
        arch.number(name).unwrap() | bit,
        arguments,
    )
}

const X86: [Arch; 3] = [Arch::X86_64, Arch::I386, Arch::X32];

#[test]
fn ordinary_calls_pass_and_dangerous_ones_do_not_on_every_architecture() {
    let code = compile(DEFAULT_PROFILE, caps::DEFAULT);
    for arch in X86 {
        for name in [
            "read", "execve", "openat", "getpid", "prctl", "capset", "chroot", "mseal",
        ] {
            assert_eq!(
                call(&code, arch, name, [0; 6]),
                Action::ALLOW,
                "{arch:?} {name}"
            );
        }
        for name in [
            "mount",
            "bpf",
            "kexec_load",
            "keyctl",
            "userfaultfd",
            "io_uring_setup",
            "setns",
        ] {
            assert_eq!(call(&code, arch, name, [0; 6]), EPERM, "{arch:?} {name}");
        }
        assert_eq!(call(&code, arch, "clone3", [0; 6]), ENOSYS);
    }
}

/// The calls that change the machine or reach other processes, and the capabilities any one of which
/// opens them; none: nothing does. On each architecture the calls exist on, with every capability alone.
#[test]
fn sensitive_calls_open_with_their_capability_alone() {
    const TABLE: [(&str, &str); 17] = [
        (
            "mount umount2 move_mount open_tree fsopen fsconfig fsmount fspick mount_setattr \
             unshare setns sethostname setdomainname quotactl quotactl_fd fanotify_init \
             lookup_dcookie lsm_set_self_attr",
            "CAP_SYS_ADMIN",
        ),
        ("bpf", "CAP_SYS_ADMIN CAP_BPF"),
        ("perf_event_open", "CAP_SYS_ADMIN CAP_PERFMON"),
        ("syslog", "CAP_SYS_ADMIN CAP_SYSLOG"),
        ("clone3", "CAP_SYS_ADMIN"),
        ("open_by_handle_at", "CAP_DAC_READ_SEARCH"),
        ("reboot", "CAP_SYS_BOOT"),
        ("chroot", "CAP_SYS_CHROOT"),
        ("init_module finit_module delete_module", "CAP_SYS_MODULE"),
        ("acct", "CAP_SYS_PACCT"),
        ("kcmp pidfd_getfd process_madvise", "CAP_SYS_PTRACE"),
        ("iopl ioperm", "CAP_SYS_RAWIO"),
        (
            "settimeofday clock_settime stime clock_settime64",
            "CAP_SYS_TIME",
        ),
        ("vhangup", "CAP_SYS_TTY_CONFIG"),
        ("mbind set_mempolicy get_mempolicy", "CAP_SYS_NICE"),
        (
            "kexec_load kexec_file_load keyctl add_key request_key userfaultfd io_uring_setup \
             io_uring_enter io_uring_register pivot_root swapon swapoff nfsservctl sysfs _sysctl \
             uselib ustat vm86 vm86old create_module move_pages migrate_pages",
            "",
        ),
        ("ptrace process_vm_readv process_vm_writev", "anybody"),
    ];
    let mut known = std::collections::BTreeSet::new();
    for holder in caps::names(u64::MAX).map(Some).chain([None]) {
        let code = compile(DEFAULT_PROFILE, holder.and_then(caps::bit).unwrap_or(0));
        for (calls, openers) in TABLE {
            let open = openers == "anybody"
                || holder.is_some_and(|holder| openers.split(' ').any(|name| name == holder));
            for name in calls.split_whitespace() {
                for arch in X86 {
                    let Some(number) = arch.number(name) else {
                        continue;
                    };
                    let bit = if arch == Arch::X32 { X32_BIT } else { 0 };
                    let action = evaluate(&code, arch.audit(), number | bit, [0; 6]);
                    assert_eq!(
                        action == Action::ALLOW,
                        open,
                        "{name} {arch:?} with {holder:?}"
                    );
                    known.insert(name);
                }
            }
        }
    }
    // A name that no architecture knows would be tested nowhere.
    for (calls, _) in TABLE {
        for name in calls.split_whitespace() {
            assert!(known.contains(name), "{name} is no call");
        }
    }
}

#[test]
fn every_call_of_the_profile_is_found_by_the_search() {
    let profile = Profile::parse(DEFAULT_PROFILE).unwrap();
    let rules = profile.rules_for(Machine::X86_64, caps::DEFAULT, MODERN);
    let code = compile(DEFAULT_PROFILE, caps::DEFAULT);
    for arch in X86 {
        for rule in rules.iter().filter(|rule| rule.conditions.is_empty()) {
            for name in rule.names.iter().filter(|name| arch.number(name).is_some()) {
                assert_eq!(
                    call(&code, arch, name, [0; 6]),
                    rule.action,
                    "{arch:?} {name}"
                );
            }
        }
    }
}

#[test]
fn vsock_and_alg_sockets_are_denied_and_others_are_not() {
    let code = compile(DEFAULT_PROFILE, caps::DEFAULT);
    for arch in X86 {
        for family in [1, 2, 10, 16, 17, 37, 39, 41, 44] {
            let action = call(&code, arch, "socket", [family, 1, 0, 0, 0, 0]);
            assert_eq!(action, Action::ALLOW, "{arch:?} {family}");
        }
        for family in [38, 40] {
            assert_eq!(
                call(&code, arch, "socket", [family, 1, 0, 0, 0, 0]),
                EPERM,
                "{family}"
            );
        }
    }
    // The kernel takes the lower half of the family only, so bits above must not help.
    for arch in X86 {
        for high in [1 << 32, 1 << 63, u64::MAX << 32] {
            let wide = [high | 40, 1, 0, 0, 0, 0];
            assert_eq!(
                call(&code, arch, "socket", wide),
                EPERM,
                "{arch:?} {high:#x}"
            );
        }
    }
}

#[test]
fn new_namespaces_need_the_capability() {
    let code = compile(DEFAULT_PROFILE, caps::DEFAULT);
    let clone = |flags| call(&code, Arch::X86_64, "clone", [flags, 0, 0, 0, 0, 0]);
    assert_eq!(clone(0x0120_0011), Action::ALLOW);
    assert_eq!(clone(0x1000_0011), EPERM, "CLONE_NEWUSER");
    assert_eq!(clone(0x0002_0011), EPERM, "CLONE_NEWNS");
    let admin = compile(DEFAULT_PROFILE, caps::DEFAULT | 1 << 21);
    for name in ["clone", "clone3", "mount", "unshare"] {
        assert_eq!(call(&admin, Arch::X86_64, name, [!0; 6]), Action::ALLOW);
    }
}

#[test]
fn personalities_are_those_docker_lists() {
    let code = compile(DEFAULT_PROFILE, caps::DEFAULT);
    let personality = |value| call(&code, Arch::X86_64, "personality", [value, 0, 0, 0, 0, 0]);
    for value in [0, 8, 0x20000, 0x20008, 0xffff_ffff] {
        assert_eq!(personality(value), Action::ALLOW);
    }
    for value in [1, 0x4_0000, 0xffff_ffff_ffff_ffff] {
        assert_eq!(personality(value), EPERM);
    }
}

#[test]
fn calls_newer_than_the_profile_are_unknown_and_foreign_architectures_die() {
    let code = compile(DEFAULT_PROFILE, caps::DEFAULT);
    assert_eq!(evaluate(&code, Arch::X86_64.audit(), 500, [0; 6]), ENOSYS);
    assert_eq!(evaluate(&code, Arch::X86_64.audit(), 400, [0; 6]), EPERM);
    assert_eq!(
        evaluate(&code, Arch::X86_64.audit(), X32_BIT | 600, [0; 6]),
        ENOSYS
    );
    assert_eq!(
        evaluate(&code, Arch::I386.audit(), u32::MAX, [0; 6]),
        ENOSYS
    );
    assert_eq!(
        evaluate(&code, Arch::Aarch64.audit(), 0, [0; 6]),
        Action::KILL
    );
}

#[test]
fn comparisons_hold_for_both_halves_of_an_argument() {
    let profile = |op: &str, value: u64| {
        format!(
            r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{{"names":["close"],
            "action":"SCMP_ACT_ALLOW","args":[{{"index":2,"value":{value},"op":"{op}"}}]}}]}}"#
        )
    };
    let values = [
        0,
        1,
        5,
        0xffff_ffff,
        1 << 32,
        5 << 32 | 4,
        5 << 32 | 5,
        5 << 32 | 6,
        u64::MAX,
    ];
    for bound in values {
        let codes = [
            "SCMP_CMP_LT",
            "SCMP_CMP_LE",
            "SCMP_CMP_EQ",
            "SCMP_CMP_GE",
            "SCMP_CMP_GT",
            "SCMP_CMP_NE",
        ]
        .map(|op| compile(&profile(op, bound), 0));
        for value in values {
            let expected = [
                value < bound,
                value <= bound,
                value == bound,
                value >= bound,
                value > bound,
                value != bound,
            ];
            for (code, expected) in codes.iter().zip(expected) {
                let action = call(code, Arch::X86_64, "close", [0, 0, value, 0, 0, 0]);
                assert_eq!(action == Action::ALLOW, expected, "{value} and {bound}");
            }
        }
    }
}

#[test]
fn a_profile_without_subarchitectures_judges_only_its_own() {
    let text = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
        {"name":"mkdir","action":"SCMP_ACT_ERRNO","errnoRet":13}]}"#;
    let code = compile(text, 0);
    assert_eq!(
        call(&code, Arch::X86_64, "mkdir", [0; 6]),
        Action::errno(13)
    );
    assert_eq!(call(&code, Arch::X86_64, "rmdir", [0; 6]), Action::ALLOW);
    assert_eq!(
        evaluate(&code, Arch::X86_64.audit(), 9999, [0; 6]),
        Action::ALLOW
    );
    assert_eq!(call(&code, Arch::I386, "rmdir", [0; 6]), Action::KILL);
    assert_eq!(call(&code, Arch::X32, "rmdir", [0; 6]), Action::KILL);
}

#[test]
fn two_tests_of_one_argument_are_alternatives_and_of_two_all_must_hold() {
    let text = r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[
        {"names":["close"],"action":"SCMP_ACT_ALLOW","args":[
            {"index":0,"value":1,"op":"SCMP_CMP_EQ"},{"index":0,"value":2,"op":"SCMP_CMP_EQ"}]},
        {"names":["read"],"action":"SCMP_ACT_ALLOW","args":[
            {"index":0,"value":1,"op":"SCMP_CMP_EQ"},{"index":1,"value":2,"op":"SCMP_CMP_EQ"}]}]}"#;
    let code = compile(text, 0);
    let allowed = |name, first, second| {
        call(&code, Arch::X86_64, name, [first, second, 0, 0, 0, 0]) == Action::ALLOW
    };
    assert!(allowed("close", 1, 0) && allowed("close", 2, 0) && !allowed("close", 3, 0));
    assert!(allowed("read", 1, 2) && !allowed("read", 1, 3) && !allowed("read", 2, 2));
}

#[test]
fn bad_profiles_are_refused_with_the_reason() {
    for (text, reason) in [
        ("{", "decoding seccomp profile failed"),
        (
            r#"{"defaultAction":"NO"}"#,
            "string NO is not a valid action for seccomp",
        ),
        (
            r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86"],
                "archMap":[{"architecture":"SCMP_ARCH_X86_64"}]}"#,
            "use either 'architectures' or 'archMap'",
        ),
        (
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"name":"a","names":["b"],
                "action":"SCMP_ACT_ALLOW"}]}"#,
            "use either 'name' or 'names'",
        ),
        (
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["b"],
                "action":"SCMP_ACT_ALLOW","args":[{"index":6,"value":0,"op":"SCMP_CMP_EQ"}]}]}"#,
            "invalid syscall argument index 6",
        ),
    ] {
        let error = filter_of_profile(text, 0).unwrap_err();
        assert!(error.text.contains(reason), "{}", error.text);
    }
}

#[test]
fn the_default_profile_compiles_for_both_machines() {
    let profile = Profile::parse(DEFAULT_PROFILE).unwrap();
    for machine in [Machine::X86_64, Machine::AARCH64] {
        let rules = profile.rules_for(machine, caps::DEFAULT, MODERN);
        let code = Code::compile(&profile, machine, &rules).unwrap();
        assert!(
            code.0.len() > 300 && code.0.len() < 2000,
            "{}",
            code.0.len()
        );
    }
}
