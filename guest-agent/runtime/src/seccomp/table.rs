//! System call numbers by name, and the architectures of a filter.

use std::collections::HashMap;
use std::sync::OnceLock;

/// A kind of system call: what `seccomp_data.arch` (and the x32 bit) tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Arch {
    X86_64,
    I386,
    X32,
    Aarch64,
    Arm,
}

/// Marks an x32 call among those of x86-64.
pub const X32_BIT: u32 = 0x4000_0000;

impl Arch {
    /// `AUDIT_ARCH_*`.
    pub const fn audit(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => 0xc000_003e,
            Self::I386 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
            Self::Arm => 0x4000_0028,
        }
    }

    /// Arguments wider than 32 bits.
    pub const fn wide(self) -> bool {
        matches!(self, Self::X86_64 | Self::X32 | Self::Aarch64)
    }

    /// The name in profiles.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "SCMP_ARCH_X86_64" => Self::X86_64,
            "SCMP_ARCH_X86" => Self::I386,
            "SCMP_ARCH_X32" => Self::X32,
            "SCMP_ARCH_AARCH64" => Self::Aarch64,
            "SCMP_ARCH_ARM" => Self::Arm,
            _ => return None,
        })
    }

    const fn column(self) -> usize {
        match self {
            Self::X86_64 => 0,
            Self::I386 => 1,
            Self::X32 => 2,
            Self::Aarch64 => 3,
            Self::Arm => 4,
        }
    }

    /// The number of the call `name`, without the x32 bit.
    pub fn number(self, name: &str) -> Option<u32> {
        table().get(name)?[self.column()]
    }
}

/// A machine: what programs of its own kind, and of others, it executes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    /// Its own kind.
    pub native: Arch,
    /// Go's name for it, which profiles use in `includes` and `excludes`.
    pub go_name: &'static str,
}

impl Machine {
    /// An x86-64 machine.
    pub const X86_64: Self = Self {
        native: Arch::X86_64,
        go_name: "amd64",
    };
    /// A 64-bit ARM machine.
    pub const AARCH64: Self = Self {
        native: Arch::Aarch64,
        go_name: "arm64",
    };

    /// The machine this program was built for.
    pub const fn host() -> Option<Self> {
        if cfg!(target_arch = "x86_64") {
            Some(Self::X86_64)
        } else if cfg!(target_arch = "aarch64") {
            Some(Self::AARCH64)
        } else {
            None
        }
    }
}

type Numbers = [Option<u32>; 5];

fn table() -> &'static HashMap<&'static str, Numbers> {
    static TABLE: OnceLock<HashMap<&'static str, Numbers>> = OnceLock::new();
    TABLE.get_or_init(|| {
        include_str!("syscalls.tsv")
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| {
                let mut fields = line.split('\t');
                let name = fields.next()?;
                let mut numbers = Numbers::default();
                for number in &mut numbers {
                    *number = fields.next()?.parse().ok();
                }
                Some((name, numbers))
            })
            .collect()
    })
}

/// Every name in the table.
#[cfg(test)]
pub fn names() -> impl Iterator<Item = &'static str> {
    table().keys().copied()
}

/// The number of a call within `socketcall` or `ipc`, by which 32-bit x86 programs make it.
pub fn multiplexed(name: &str) -> Option<(&'static str, u32)> {
    const SOCKET: [&str; 20] = [
        "socket",
        "bind",
        "connect",
        "listen",
        "accept",
        "getsockname",
        "getpeername",
        "socketpair",
        "send",
        "recv",
        "sendto",
        "recvfrom",
        "shutdown",
        "setsockopt",
        "getsockopt",
        "sendmsg",
        "recvmsg",
        "accept4",
        "recvmmsg",
        "sendmmsg",
    ];
    const IPC: [(&str, u32); 12] = [
        ("semop", 1),
        ("semget", 2),
        ("semctl", 3),
        ("semtimedop", 4),
        ("msgsnd", 11),
        ("msgrcv", 12),
        ("msgget", 13),
        ("msgctl", 14),
        ("shmat", 21),
        ("shmdt", 22),
        ("shmget", 23),
        ("shmctl", 24),
    ];
    if let Some(at) = SOCKET.iter().position(|known| *known == name) {
        return Some(("socketcall", at as u32 + 1));
    }
    IPC.iter()
        .find(|(known, _)| *known == name)
        .map(|(_, number)| ("ipc", *number))
}
