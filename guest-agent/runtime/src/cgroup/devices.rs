//! The device filter of a group: a BPF program that answers which device may be opened or made.
//!
//! Without it a container's root, who has `CAP_MKNOD`, could make a node for the machine's disk
//! and read it. Rules are tried from the last to the first; a device that none speaks of is
//! refused.

use std::collections::HashMap;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use super::bpf::{self, Instruction, Kind, instruction};
use crate::sys;
use crate::{DeviceKind, DeviceRule};

/// Loaded programs by their rules: nearly every container has the same.
#[derive(Debug, Default)]
pub(super) struct FilterCache {
    programs: HashMap<Vec<DeviceRule>, Arc<OwnedFd>>,
}

impl FilterCache {
    /// More different rule sets than this are not kept.
    const LIMIT: usize = 64;

    pub(super) fn program(&mut self, rules: &[DeviceRule]) -> sys::Result<Arc<OwnedFd>> {
        if let Some(program) = self.programs.get(rules) {
            return Ok(Arc::clone(program));
        }
        let program = Arc::new(bpf::load(KIND, &compile(rules))?);
        if self.programs.len() >= Self::LIMIT {
            self.programs.clear();
        }
        self.programs.insert(rules.to_vec(), Arc::clone(&program));
        Ok(program)
    }
}

const BPF_DEVCG_DEV_BLOCK: i32 = 1;
const BPF_DEVCG_DEV_CHAR: i32 = 2;
const BPF_DEVCG_ACC_MKNOD: i32 = 1;
const BPF_DEVCG_ACC_READ: i32 = 2;
const BPF_DEVCG_ACC_WRITE: i32 = 4;

// Registers: 1 context; 2 kind; 3 access; 4 major; 5 minor; 0 answer and scratch.
const LOAD_WORD: u8 = 0x61;
const MOVE_IMMEDIATE: u8 = 0xb4;
const MOVE_REGISTER: u8 = 0xbc;
const AND_IMMEDIATE: u8 = 0x54;
const SHIFT_RIGHT: u8 = 0x74;
const JUMP_IF_NOT_EQUAL: u8 = 0x56;
const EXIT: u8 = 0x95;

/// `struct bpf_cgroup_dev_ctx` is { access << 16 | kind, major, minor }.
fn compile(rules: &[DeviceRule]) -> Vec<Instruction> {
    let mut program = vec![
        instruction(LOAD_WORD, 2, 1, 0, 0),
        instruction(MOVE_REGISTER, 3, 2, 0, 0),
        instruction(AND_IMMEDIATE, 2, 0, 0, 0xffff),
        instruction(SHIFT_RIGHT, 3, 0, 0, 16),
        instruction(LOAD_WORD, 4, 1, 4, 0),
        instruction(LOAD_WORD, 5, 1, 8, 0),
    ];
    for rule in rules.iter().rev() {
        // The kernel refuses a program with instructions that are never reached.
        if rule_code(rule, &mut program) {
            return program;
        }
    }
    program.push(instruction(MOVE_IMMEDIATE, 0, 0, 0, 0));
    program.push(instruction(EXIT, 0, 0, 0, 0));
    program
}

/// Answers if the rule speaks of the device, else falls through to the next rule; `true` if the
/// rule speaks of every device.
fn rule_code(rule: &DeviceRule, program: &mut Vec<Instruction>) -> bool {
    let mut tests = vec![];
    if let Some(kind) = rule.kind {
        let kind = match kind {
            DeviceKind::Char => BPF_DEVCG_DEV_CHAR,
            DeviceKind::Block => BPF_DEVCG_DEV_BLOCK,
        };
        tests.push(instruction(JUMP_IF_NOT_EQUAL, 2, 0, 0, kind));
    }
    // Numbers above i31 cannot be devices: the kernel's major has 12 bits, its minor 20.
    if let Some(major) = rule.major {
        tests.push(instruction(JUMP_IF_NOT_EQUAL, 4, 0, 0, major as i32));
    }
    if let Some(minor) = rule.minor {
        tests.push(instruction(JUMP_IF_NOT_EQUAL, 5, 0, 0, minor as i32));
    }
    let mut access = 0;
    access |= if rule.access.read {
        BPF_DEVCG_ACC_READ
    } else {
        0
    };
    access |= if rule.access.write {
        BPF_DEVCG_ACC_WRITE
    } else {
        0
    };
    access |= if rule.access.mknod {
        BPF_DEVCG_ACC_MKNOD
    } else {
        0
    };
    let all = BPF_DEVCG_ACC_MKNOD | BPF_DEVCG_ACC_READ | BPF_DEVCG_ACC_WRITE;
    if access != all {
        // Allowed only if nothing is asked for beyond the rule; refused only if something of
        // the rule is asked for.
        tests.push(instruction(MOVE_REGISTER, 0, 3, 0, 0));
        if rule.allow {
            tests.push(instruction(AND_IMMEDIATE, 0, 0, 0, all & !access));
            tests.push(instruction(JUMP_IF_NOT_EQUAL, 0, 0, 0, 0));
        } else {
            tests.push(instruction(AND_IMMEDIATE, 0, 0, 0, access));
            tests.push(instruction(JUMP_IF_EQUAL, 0, 0, 0, 0));
        }
    }
    // Every jump goes past the two instructions of the answer.
    let length = tests.len();
    for (at, test) in tests.iter_mut().enumerate() {
        if test.code == JUMP_IF_NOT_EQUAL || test.code == JUMP_IF_EQUAL {
            test.offset = (length - at - 1 + 2) as i16;
        }
    }
    program.append(&mut tests);
    program.push(instruction(MOVE_IMMEDIATE, 0, 0, 0, rule.allow.into()));
    program.push(instruction(EXIT, 0, 0, 0, 0));
    length == 0
}

const JUMP_IF_EQUAL: u8 = 0x16;

const KIND: Kind = Kind {
    // BPF_PROG_TYPE_CGROUP_DEVICE and BPF_CGROUP_DEVICE
    program: 15,
    attach: 6,
    name: "lighter_devices",
};

pub(super) fn attach(group: BorrowedFd<'_>, program: BorrowedFd<'_>) -> sys::Result<()> {
    bpf::attach(group, program, KIND)
}
