//! Limits and devices.

use serde::{Deserialize, Serialize};

/// Limits of one container, in the units of Docker's API. `None` (or an empty list) leaves the
/// kernel's default; a value that means "unlimited" in Docker's API is `Some(-1)` there.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// `--memory`, bytes.
    pub memory: Option<i64>,
    /// `--memory-swap`: memory **and** swap, bytes, −1 unlimited. `None` with `memory` set gives
    /// as much swap as memory, as Docker does.
    pub memory_swap: Option<i64>,
    /// `--memory-reservation`, bytes.
    pub memory_reservation: Option<i64>,
    /// `--cpu-quota`, microseconds of each period, −1 unlimited.
    pub cpu_quota: Option<i64>,
    /// `--cpu-period`, microseconds; 100,000 when a quota is set and this is not.
    pub cpu_period: Option<u64>,
    /// `--cpus` as the API sends it: billionths of a CPU. Excludes quota and period.
    pub nano_cpus: Option<u64>,
    /// `--cpu-shares`, 2–262,144.
    pub cpu_shares: Option<u64>,
    /// `--cpuset-cpus`, for example `0-2,7`.
    pub cpuset_cpus: Option<String>,
    /// `--cpuset-mems`.
    pub cpuset_mems: Option<String>,
    /// `--pids-limit`; 0 and −1 unlimited.
    pub pids: Option<i64>,
    /// `--blkio-weight`, 10–1,000.
    pub blkio_weight: Option<u16>,
    /// `--device-read-bps` and its three siblings.
    pub blkio_throttle: Vec<BlkioThrottle>,
}

/// Bounds on the traffic of one block device.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct BlkioThrottle {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Bytes read a second.
    pub read_bps: Option<u64>,
    /// Bytes written a second.
    pub write_bps: Option<u64>,
    /// Reads a second.
    pub read_iops: Option<u64>,
    /// Writes a second.
    pub write_iops: Option<u64>,
}

/// A device node in the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Absolute path in the container.
    pub path: String,
    /// Character or block.
    pub kind: DeviceKind,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Kind of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceKind {
    /// `c`.
    Char,
    /// `b`.
    Block,
}

/// One line of the cgroup's device filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DeviceRule {
    /// Let through or refuse.
    pub allow: bool,
    /// `None` is both kinds.
    pub kind: Option<DeviceKind>,
    /// `None` is any.
    pub major: Option<u32>,
    /// `None` is any.
    pub minor: Option<u32>,
    /// Which kinds of use the rule speaks of.
    pub access: DeviceAccess,
}

/// Uses of a device: read, write, make a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DeviceAccess {
    /// `r`.
    pub read: bool,
    /// `w`.
    pub write: bool,
    /// `m`.
    pub mknod: bool,
}

impl DeviceAccess {
    /// `rwm`.
    pub const ALL: Self = Self {
        read: true,
        write: true,
        mknod: true,
    };
    /// `m`.
    pub const MKNOD: Self = Self {
        read: false,
        write: false,
        mknod: true,
    };

    /// Reads `rwm` and any part of it, in any order; `None` for another letter or an empty string.
    #[must_use]
    pub fn parse(letters: &str) -> Option<Self> {
        let mut access = Self {
            read: false,
            write: false,
            mknod: false,
        };
        for letter in letters.chars() {
            match letter {
                'r' => access.read = true,
                'w' => access.write = true,
                'm' => access.mknod = true,
                _ => return None,
            }
        }
        (!letters.is_empty()).then_some(access)
    }
}

impl DeviceRule {
    /// Everything allowed, as for `--privileged`.
    pub const ALLOW_ALL: Self = Self {
        allow: true,
        kind: None,
        major: None,
        minor: None,
        access: DeviceAccess::ALL,
    };

    /// One character device, `rwm`.
    #[must_use]
    pub const fn char_device(major: u32, minor: u32) -> Self {
        Self {
            allow: true,
            kind: Some(DeviceKind::Char),
            major: Some(major),
            minor: Some(minor),
            access: DeviceAccess::ALL,
        }
    }

    /// Reads one `--device-cgroup-rule` value: `a *:* rwm`, `c 13:* rwm`, `b 8:0 r`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let (kind, numbers, access) = (words.next()?, words.next()?, words.next()?);
        if words.next().is_some() {
            return None;
        }
        let kind = match kind {
            "a" => None,
            "c" => Some(DeviceKind::Char),
            "b" => Some(DeviceKind::Block),
            _ => return None,
        };
        let (major, minor) = numbers.split_once(':')?;
        let number = |word: &str| match word {
            "*" => Some(None),
            digits => digits.parse().ok().map(Some),
        };
        let access = DeviceAccess::parse(access)?;
        Some(Self {
            allow: true,
            kind,
            major: number(major)?,
            minor: number(minor)?,
            access,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_rules_are_read_as_docker_writes_them() {
        let rule = DeviceRule::parse("c 13:* rw").unwrap();
        assert_eq!(rule.kind, Some(DeviceKind::Char));
        assert_eq!((rule.major, rule.minor), (Some(13), None));
        assert!(rule.access.read && rule.access.write && !rule.access.mknod);
        for bad in [
            "",
            "x 1:1 r",
            "c 1 r",
            "c 1:1",
            "c 1:1 rx",
            "c 1:1 r more",
            "c -1:1 r",
        ] {
            assert!(DeviceRule::parse(bad).is_none(), "{bad}");
        }
    }
}
