//! Profiles in Docker's JSON format.

use serde::Deserialize;

use super::table::{Arch, Machine};
use crate::caps;

/// A parsed profile.
#[derive(Debug)]
pub struct Profile {
    pub default: Action,
    pub flags: u64,
    archs: Archs,
    rules: Vec<RawRule>,
}

#[derive(Debug)]
enum Archs {
    /// `architectures`; empty is the machine's own.
    List(Vec<String>),
    /// `archMap`.
    Map(Vec<RawArch>),
}

/// What becomes of a call: a `SECCOMP_RET_*` value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Action(pub u32);

impl Action {
    /// `SECCOMP_RET_ALLOW`.
    pub const ALLOW: Self = Self(0x7fff_0000);
    /// `SECCOMP_RET_KILL_PROCESS`.
    pub const KILL: Self = Self(0x8000_0000);
    /// A call this filter was not written for, as a kernel without it answers.
    pub const UNKNOWN: Self = Self::errno(38);

    /// `SECCOMP_RET_ERRNO`.
    pub const fn errno(errno: u32) -> Self {
        Self(0x0005_0000 | errno & 0xffff)
    }

    fn named(name: &str, errno: Option<u32>) -> Result<Self, String> {
        const EPERM: u32 = 1;
        let data = errno.unwrap_or(EPERM);
        Ok(match name {
            "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Self(0),
            "SCMP_ACT_KILL_PROCESS" => Self::KILL,
            "SCMP_ACT_TRAP" => Self(0x0003_0000),
            "SCMP_ACT_ERRNO" => Self::errno(data),
            "SCMP_ACT_TRACE" => Self(0x7ff0_0000 | data & 0xffff),
            "SCMP_ACT_LOG" => Self(0x7ffc_0000),
            "SCMP_ACT_ALLOW" => Self::ALLOW,
            "SCMP_ACT_NOTIFY" => {
                return Err("seccomp action SCMP_ACT_NOTIFY is not supported".into());
            }
            other => return Err(format!("string {other} is not a valid action for seccomp")),
        })
    }

    /// Whether an unlisted call is let through (then one this filter does not know is, too).
    pub const fn lets_through(self) -> bool {
        matches!(self.0, 0x7fff_0000 | 0x7ffc_0000)
    }
}

/// A rule that holds for this container.
#[derive(Debug)]
pub struct Rule {
    pub names: Vec<String>,
    pub action: Action,
    /// All must hold; empty: always.
    pub conditions: Vec<Condition>,
}

/// A test of one argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Condition {
    pub argument: u8,
    pub compare: Compare,
    pub value: u64,
}

/// How the argument is compared with the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compare {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    /// Equal after masking.
    Masked(u64),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawProfile {
    default_action: String,
    default_errno_ret: Option<u32>,
    #[serde(default)]
    architectures: Option<Vec<String>>,
    #[serde(default)]
    arch_map: Option<Vec<RawArch>>,
    #[serde(default)]
    flags: Option<Vec<String>>,
    #[serde(default)]
    listener_path: String,
    #[serde(default)]
    syscalls: Option<Vec<RawRule>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawArch {
    architecture: String,
    #[serde(default)]
    sub_architectures: Option<Vec<String>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawRule {
    #[serde(default)]
    name: String,
    #[serde(default)]
    names: Option<Vec<String>>,
    action: String,
    errno_ret: Option<u32>,
    #[serde(default)]
    args: Option<Vec<Option<RawCondition>>>,
    #[serde(default)]
    includes: Option<RawFilter>,
    #[serde(default)]
    excludes: Option<RawFilter>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawCondition {
    index: u32,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: Op,
}

#[derive(Debug, Clone, Copy, Deserialize)]
enum Op {
    #[serde(rename = "SCMP_CMP_NE")]
    Ne,
    #[serde(rename = "SCMP_CMP_LT")]
    Lt,
    #[serde(rename = "SCMP_CMP_LE")]
    Le,
    #[serde(rename = "SCMP_CMP_EQ")]
    Eq,
    #[serde(rename = "SCMP_CMP_GE")]
    Ge,
    #[serde(rename = "SCMP_CMP_GT")]
    Gt,
    #[serde(rename = "SCMP_CMP_MASKED_EQ")]
    MaskedEq,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawFilter {
    caps: Option<Vec<String>>,
    arches: Option<Vec<String>>,
    min_kernel: Option<String>,
}

/// Longest profile that is read.
const LIMIT: usize = 4 << 20;

impl Profile {
    /// Reads a profile.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > LIMIT {
            return Err("seccomp profile is too long".into());
        }
        let raw: RawProfile = serde_json::from_str(text)
            .map_err(|error| format!("decoding seccomp profile failed: {error}"))?;
        if !raw.listener_path.is_empty() {
            return Err("seccomp listenerPath is not supported".into());
        }
        let list = raw.architectures.unwrap_or_default();
        let map = raw.arch_map.unwrap_or_default();
        if !list.is_empty() && !map.is_empty() {
            return Err(
                "both 'architectures' and 'archMap' are specified in the seccomp \
                        profile, use either 'architectures' or 'archMap'"
                    .into(),
            );
        }
        let rules = raw.syscalls.unwrap_or_default();
        for rule in &rules {
            if !rule.name.is_empty() && rule.names.as_ref().is_some_and(|names| !names.is_empty()) {
                return Err(
                    "both 'name' and 'names' are specified in the seccomp profile, use \
                            either 'name' or 'names'"
                        .into(),
                );
            }
            Action::named(&rule.action, rule.errno_ret)?;
            for condition in rule.args.iter().flatten().flatten() {
                if condition.index > 5 {
                    return Err(format!(
                        "invalid syscall argument index {}",
                        condition.index
                    ));
                }
            }
        }
        Ok(Self {
            default: Action::named(&raw.default_action, raw.default_errno_ret)?,
            flags: flags(raw.flags)?,
            archs: if map.is_empty() {
                Archs::List(list)
            } else {
                Archs::Map(map)
            },
            rules,
        })
    }

    /// The architectures whose calls are judged; calls of others kill.
    pub fn archs(&self, machine: Machine) -> Vec<Arch> {
        let mut archs = vec![machine.native];
        let mut add = |name: &str| {
            if let Some(arch) = Arch::from_name(name)
                && !archs.contains(&arch)
            {
                archs.push(arch);
            }
        };
        match &self.archs {
            Archs::List(names) => names.iter().for_each(|name| add(name)),
            Archs::Map(map) => map
                .iter()
                .filter(|entry| Arch::from_name(&entry.architecture) == Some(machine.native))
                .flat_map(|entry| entry.sub_architectures.iter().flatten())
                .for_each(|name| add(name)),
        }
        archs
    }

    /// The rules that hold on this machine for a process with these capabilities.
    pub fn rules_for(&self, machine: Machine, capabilities: u64, kernel: (u32, u32)) -> Vec<Rule> {
        let mut result = vec![];
        for raw in &self.rules {
            let includes = raw.includes.clone().unwrap_or_default();
            let excludes = raw.excludes.clone().unwrap_or_default();
            if !includes.includes(machine, capabilities, kernel)
                || excludes.excludes(machine, capabilities, kernel)
            {
                continue;
            }
            let Ok(action) = Action::named(&raw.action, raw.errno_ret) else {
                continue;
            };
            // One that says what holds anyway is left out, as Docker's runtime does: else it
            // would hide another rule for the same call.
            if action == self.default {
                continue;
            }
            let mut names = raw.names.clone().unwrap_or_default();
            if !raw.name.is_empty() {
                names.push(raw.name.clone());
            }
            let conditions: Vec<_> = raw
                .args
                .iter()
                .flatten()
                .flatten()
                .map(RawCondition::condition)
                .collect();
            // Two tests of one argument are alternatives (the history of Docker's runtime).
            let twice = |c: &Condition| {
                conditions
                    .iter()
                    .filter(|other| other.argument == c.argument)
                    .count()
                    > 1
            };
            if conditions.iter().any(twice) {
                for condition in conditions {
                    result.push(Rule {
                        names: names.clone(),
                        action,
                        conditions: vec![condition],
                    });
                }
            } else {
                result.push(Rule {
                    names,
                    action,
                    conditions,
                });
            }
        }
        result
    }
}

impl RawCondition {
    const fn condition(&self) -> Condition {
        let (compare, value) = match self.op {
            Op::Ne => (Compare::NotEqual, self.value),
            Op::Lt => (Compare::Less, self.value),
            Op::Le => (Compare::LessOrEqual, self.value),
            Op::Eq => (Compare::Equal, self.value),
            Op::Ge => (Compare::GreaterOrEqual, self.value),
            Op::Gt => (Compare::Greater, self.value),
            Op::MaskedEq => (Compare::Masked(self.value), self.value_two),
        };
        Condition {
            argument: self.index as u8,
            compare,
            value,
        }
    }
}

impl RawFilter {
    /// Everything named is there.
    fn includes(&self, machine: Machine, capabilities: u64, kernel: (u32, u32)) -> bool {
        let has = |name: &String| caps::bit(name).is_some_and(|bit| capabilities & bit != 0);
        self.arches
            .as_ref()
            .is_none_or(|list| list.is_empty() || list.iter().any(|name| name == machine.go_name))
            && self.caps.as_ref().is_none_or(|list| list.iter().all(has))
            && self
                .min_kernel
                .as_ref()
                .is_none_or(|min| kernel >= version(min))
    }

    /// Something named is there.
    fn excludes(&self, machine: Machine, capabilities: u64, kernel: (u32, u32)) -> bool {
        let has = |name: &String| caps::bit(name).is_some_and(|bit| capabilities & bit != 0);
        self.arches
            .iter()
            .flatten()
            .any(|name| name == machine.go_name)
            || self.caps.iter().flatten().any(has)
            || self
                .min_kernel
                .as_ref()
                .is_some_and(|min| kernel >= version(min))
    }
}

fn flags(names: Option<Vec<String>>) -> Result<u64, String> {
    // Without any, Docker's runtime asks for none of the speculation barriers a filter brings.
    let Some(names) = names else {
        return Ok(libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW);
    };
    names.iter().try_fold(0, |flags, name| {
        Ok(flags
            | match name.as_str() {
                // There is one thread when the filter is installed.
                "SECCOMP_FILTER_FLAG_TSYNC" => 0,
                "SECCOMP_FILTER_FLAG_LOG" => libc::SECCOMP_FILTER_FLAG_LOG,
                "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
                other => return Err(format!("seccomp flag {other:?} is not supported")),
            })
    })
}

/// `major.minor` of the running kernel.
pub fn running_kernel() -> (u32, u32) {
    version(&rustix::system::uname().release().to_string_lossy())
}

fn version(text: &str) -> (u32, u32) {
    let mut numbers = text
        .split(|letter: char| !letter.is_ascii_digit())
        .map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}
