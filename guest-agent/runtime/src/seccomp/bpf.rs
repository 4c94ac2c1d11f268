//! From rules to classic BPF.
//!
//! One program for all architectures: it branches on the architecture, then finds the call by
//! binary search over ranges of equal fate. The kernel evaluates it once per call number when it
//! is installed, to know which numbers are always allowed; the shape keeps that and every other
//! evaluation short.

use std::collections::BTreeMap;

use super::profile::{Action, Compare, Condition, Profile, Rule};
use super::table::{Arch, Machine, X32_BIT, multiplexed};

/// `struct sock_filter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    pub code: u16,
    pub jt: u8,
    pub jf: u8,
    pub k: u32,
}

/// A whole program.
#[derive(Debug)]
pub struct Code(pub Vec<Instruction>);

const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_GREATER_OR_EQUAL: u16 = 0x35;
const RETURN: u16 = 0x06;

/// Offsets in `struct seccomp_data`, little endian.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGUMENTS: u32 = 16;

/// The kernel's limit.
const MAX_INSTRUCTIONS: usize = 4096;

const fn plain(code: u16, k: u32) -> Instruction {
    Instruction {
        code,
        jt: 0,
        jf: 0,
        k,
    }
}

/// What becomes of one call number.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Fate {
    Always(Action),
    /// The first rule whose conditions hold, else the default.
    Depends(Vec<(Vec<Condition>, Action)>),
}

impl Code {
    /// Compiles `rules` of `profile` for every architecture of `machine` it names.
    pub fn compile(profile: &Profile, machine: Machine, rules: &[Rule]) -> Result<Self, String> {
        let archs = profile.archs(machine);
        let body =
            |arch: Arch| search(&ranges(profile.default, arch, rules), arch, profile.default);
        let x32 = if archs.contains(&Arch::X32) {
            body(Arch::X32)?
        } else {
            vec![plain(RETURN, Action::KILL.0)]
        };
        let mut code = vec![plain(LOAD, ARCH)];
        for arch in archs.into_iter().filter(|arch| *arch != Arch::X32) {
            let mut part = vec![plain(LOAD, NUMBER)];
            if arch == Arch::X86_64 {
                // An x32 call carries the number of x86-64's architecture.
                let native = body(arch)?;
                part.push(Instruction {
                    code: JUMP_GREATER_OR_EQUAL,
                    jt: 0,
                    jf: 1,
                    k: X32_BIT,
                });
                part.push(plain(JUMP, native.len() as u32));
                part.extend(native);
                part.extend(x32.iter().copied());
            } else {
                part.extend(body(arch)?);
            }
            // Not this one: past its part, which may be longer than a conditional jump reaches.
            code.push(Instruction {
                code: JUMP_EQUAL,
                jt: 1,
                jf: 0,
                k: arch.audit(),
            });
            code.push(plain(JUMP, part.len() as u32));
            code.extend(part);
        }
        code.push(plain(RETURN, Action::KILL.0));
        if code.len() > MAX_INSTRUCTIONS {
            return Err(format!("seccomp profile needs {} instructions", code.len()));
        }
        Ok(Self(code))
    }

    /// As the kernel takes it.
    pub fn bytes(&self) -> Vec<u8> {
        self.0
            .iter()
            .flat_map(|i| {
                let [a, b] = i.code.to_ne_bytes();
                let [c, d, e, f] = i.k.to_ne_bytes();
                [a, b, i.jt, i.jf, c, d, e, f]
            })
            .collect()
    }
}

/// The fate of every call number, as the first numbers of ranges.
fn ranges(default: Action, arch: Arch, rules: &[Rule]) -> Vec<(u32, Fate)> {
    let mut fates: BTreeMap<u32, Vec<(Vec<Condition>, Action)>> = BTreeMap::new();
    for rule in rules {
        for name in &rule.names {
            if let Some(number) = arch.number(name) {
                fates
                    .entry(number)
                    .or_default()
                    .push((rule.conditions.clone(), rule.action));
            }
            // Who lists `socket` means it however the program makes the call.
            if arch == Arch::I386
                && let Some((outer, inner)) = multiplexed(name)
                && let Some(number) = arch.number(outer)
            {
                let condition = Condition {
                    argument: 0,
                    compare: Compare::Equal,
                    value: inner.into(),
                };
                fates
                    .entry(number)
                    .or_default()
                    .push((vec![condition], rule.action));
            }
        }
    }
    let beyond = if default.lets_through() {
        default
    } else {
        Action::UNKNOWN
    };
    let mut result = vec![(0, Fate::Always(default))];
    let mut next = 0;
    for (number, rules) in fates {
        if number > next {
            push(&mut result, next, Fate::Always(default));
        }
        // A rule without conditions goes before those with, as in libseccomp.
        let always = rules.iter().find(|(conditions, _)| conditions.is_empty());
        let fate = always.map_or_else(|| Fate::Depends(rules.clone()), |(_, a)| Fate::Always(*a));
        push(&mut result, number, fate);
        next = number + 1;
    }
    if next > 0 {
        // Calls newer than any the profile speaks of: "no such call" lets a C library fall back,
        // where "not permitted" would make it fail.
        push(&mut result, next, Fate::Always(beyond));
    }
    result
}

fn push(ranges: &mut Vec<(u32, Fate)>, from: u32, fate: Fate) {
    match ranges.last_mut() {
        Some((start, last)) if *start == from => *last = fate,
        Some((_, last)) if *last == fate => return,
        _ => ranges.push((from, fate)),
    }
    // Two neighbours may have become one.
    if let [.., (_, before), (_, last)] = ranges.as_slice()
        && before == last
    {
        ranges.pop();
    }
}

/// Binary search for the number in A.
fn search(ranges: &[(u32, Fate)], arch: Arch, default: Action) -> Result<Vec<Instruction>, String> {
    if let [(_, fate)] = ranges {
        return leaf(fate, arch, default);
    }
    let (low, high) = ranges.split_at(ranges.len() / 2);
    let bit = if arch == Arch::X32 { X32_BIT } else { 0 };
    let boundary = high.first().map_or(0, |(from, _)| *from) | bit;
    let low = search(low, arch, default)?;
    let mut code = vec![];
    match u8::try_from(low.len()) {
        Ok(length) => code.push(Instruction {
            code: JUMP_GREATER_OR_EQUAL,
            jt: length,
            jf: 0,
            k: boundary,
        }),
        Err(_) => {
            code.push(Instruction {
                code: JUMP_GREATER_OR_EQUAL,
                jt: 0,
                jf: 1,
                k: boundary,
            });
            code.push(plain(JUMP, low.len() as u32));
        }
    }
    code.extend(low);
    code.extend(search(high, arch, default)?);
    Ok(code)
}

fn leaf(fate: &Fate, arch: Arch, default: Action) -> Result<Vec<Instruction>, String> {
    let rules = match fate {
        Fate::Always(action) => return Ok(vec![plain(RETURN, action.0)]),
        Fate::Depends(rules) => rules,
    };
    let mut code = vec![];
    for (conditions, action) in rules {
        let mut tests: Vec<Test> = vec![];
        for condition in conditions {
            // "Pass" of one condition is the first test of the next.
            let mut one = tests_of(condition, arch);
            let length = one.len();
            for (at, test) in one.iter_mut().enumerate() {
                for target in [&mut test.yes, &mut test.no] {
                    if *target == Target::Pass {
                        *target = Target::Skip((length - at - 1) as u8);
                    }
                }
            }
            tests.extend(one);
        }
        let length = tests.len();
        for (at, test) in tests.into_iter().enumerate() {
            // A failed test goes past the answer of this rule.
            let offset = |target| match target {
                Target::Skip(count) => Ok(count),
                _ => u8::try_from(length - at - 1 + 1).map_err(|_| "too many conditions"),
            };
            let (jt, jf) = (offset(test.yes)?, offset(test.no)?);
            code.push(Instruction {
                jt,
                jf,
                ..test.instruction
            });
        }
        code.push(plain(RETURN, action.0));
    }
    code.push(plain(RETURN, default.0));
    Ok(code)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    /// So many instructions on.
    Skip(u8),
    Pass,
    Fail,
}

#[derive(Debug, Clone, Copy)]
struct Test {
    instruction: Instruction,
    yes: Target,
    no: Target,
}

const NEXT: Target = Target::Skip(0);

fn tests_of(condition: &Condition, arch: Arch) -> Vec<Test> {
    let at = ARGUMENTS + 8 * u32::from(condition.argument);
    let (low, high) = (condition.value as u32, (condition.value >> 32) as u32);
    let step = |code, k| Test {
        instruction: plain(code, k),
        yes: NEXT,
        no: NEXT,
    };
    let test = |code, k, yes, no| Test {
        instruction: plain(code, k),
        yes,
        no,
    };
    let (pass, fail) = (Target::Pass, Target::Fail);
    let mut tests = vec![];
    if let Compare::Masked(mask) = condition.compare {
        if arch.wide() {
            tests.extend([step(LOAD, at + 4), step(AND, (mask >> 32) as u32)]);
            tests.push(test(JUMP_EQUAL, high, NEXT, fail));
        }
        tests.extend([step(LOAD, at), step(AND, mask as u32)]);
        tests.push(test(JUMP_EQUAL, low, pass, fail));
        return tests;
    }
    if arch.wide() {
        tests.push(step(LOAD, at + 4));
        match condition.compare {
            Compare::Equal => tests.push(test(JUMP_EQUAL, high, NEXT, fail)),
            Compare::NotEqual => tests.push(test(JUMP_EQUAL, high, NEXT, pass)),
            Compare::Greater | Compare::GreaterOrEqual => {
                tests.push(test(JUMP_GREATER, high, pass, NEXT));
                tests.push(test(JUMP_EQUAL, high, NEXT, fail));
            }
            _ => {
                tests.push(test(JUMP_GREATER, high, fail, NEXT));
                tests.push(test(JUMP_EQUAL, high, NEXT, pass));
            }
        }
    }
    tests.push(step(LOAD, at));
    tests.push(match condition.compare {
        Compare::Equal => test(JUMP_EQUAL, low, pass, fail),
        Compare::NotEqual => test(JUMP_EQUAL, low, fail, pass),
        Compare::Greater => test(JUMP_GREATER, low, pass, fail),
        Compare::GreaterOrEqual => test(JUMP_GREATER_OR_EQUAL, low, pass, fail),
        Compare::Less => test(JUMP_GREATER_OR_EQUAL, low, fail, pass),
        _ => test(JUMP_GREATER, low, fail, pass),
    });
    tests
}
