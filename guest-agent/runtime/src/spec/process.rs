//! The part of a specification that a container's first program and an exec have in common.

use serde::{Deserialize, Serialize};

/// A further process in a running container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExecSpec {
    /// The program and what it may do.
    pub process: ProcessSpec,
}

/// A program and what it may do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProcessSpec {
    /// Program and arguments; the program is looked up in the container's `PATH`.
    pub args: Vec<String>,
    /// `NAME=value` each. `HOME` is added from the container's passwd file when missing.
    pub env: Vec<String>,
    /// Working directory; made when missing, for a container's first program.
    pub cwd: String,
    /// `""`, `"1000"`, `"name"`, `"name:group"`, `"1000:1000"`: resolved inside the container.
    pub user: String,
    /// Further groups, by name or number.
    pub group_add: Vec<String>,
    /// `Some` gives the process a terminal of the container's own devpts.
    pub terminal: Option<TerminalSize>,
    /// Capability sets, as masks of `1 << CAP_X`.
    pub capabilities: Capabilities,
    /// System call filter.
    pub seccomp: Seccomp,
    /// The capabilities the filter is made for, where they are not the process's own bounding set:
    /// an exec with more of them than its container keeps the container's filter.
    pub seccomp_for: Option<u64>,
    /// `no-new-privileges`.
    pub no_new_privileges: bool,
    /// `--ulimit`; others are those of the engine.
    pub rlimits: Vec<Rlimit>,
    /// Always set (0 as a default): the engine's own value must not be inherited.
    pub oom_score_adj: i32,
}

/// Size of a terminal; zeros leave the kernel's default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Lines.
    pub rows: u16,
    /// Columns.
    pub cols: u16,
}

/// The five capability sets; see [`crate::caps`] for names and Docker's rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Capabilities {
    /// What can ever be gained.
    pub bounding: u64,
    /// What is in force.
    pub effective: u64,
    /// What may be put in force.
    pub permitted: u64,
    /// Kept across exec by files that ask for it. Docker sets none (CVE-2025-27612).
    pub inheritable: u64,
    /// Kept across exec of ordinary files. Docker sets none.
    pub ambient: u64,
}

impl Capabilities {
    /// As Docker applies one list: bounding, permitted and effective; never inheritable or ambient.
    #[must_use]
    pub const fn docker(mask: u64) -> Self {
        Self {
            bounding: mask,
            effective: mask,
            permitted: mask,
            inheritable: 0,
            ambient: 0,
        }
    }
}

/// Which system call filter a process gets.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Seccomp {
    /// Docker's default profile, for the process's bounding set.
    #[default]
    Default,
    /// None.
    Unconfined,
    /// A profile in Docker's JSON format, as `--security-opt seccomp=FILE` sends it.
    Profile(String),
}

/// One resource limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// Which.
    pub resource: RlimitResource,
    /// In force; `None` is unlimited.
    pub soft: Option<u64>,
    /// Upper bound of the soft one; `None` is unlimited.
    pub hard: Option<u64>,
}

/// The resources of `setrlimit(2)`, by Docker's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names are those of setrlimit(2)")]
pub enum RlimitResource {
    As,
    Core,
    Cpu,
    Data,
    Fsize,
    Locks,
    Memlock,
    Msgqueue,
    Nice,
    Nofile,
    Nproc,
    Rss,
    Rtprio,
    Rttime,
    Sigpending,
    Stack,
}

impl RlimitResource {
    /// The resource `--ulimit NAME=…` names, if there is one.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        serde_json::from_value(serde_json::Value::String(name.to_owned())).ok()
    }
}

impl ProcessSpec {
    /// `args` as root in `/` with Docker's default capabilities and filter, and no environment.
    #[must_use]
    pub fn new<S: Into<String>>(args: impl IntoIterator<Item = S>) -> Self {
        Self {
            args: args.into_iter().map(Into::into).collect(),
            env: Vec::new(),
            cwd: "/".to_owned(),
            user: String::new(),
            group_add: Vec::new(),
            terminal: None,
            capabilities: Capabilities::docker(crate::caps::DEFAULT),
            seccomp: Seccomp::Default,
            seccomp_for: None,
            no_new_privileges: false,
            rlimits: Vec::new(),
            oom_score_adj: 0,
        }
    }
}
