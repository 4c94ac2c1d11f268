//! Capability names and Docker's rules for them.
//!
//! Called by the engine to turn `CapAdd` and `CapDrop` into [`crate::Capabilities`].

use std::fs;

/// Every capability by number.
const NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

const fn mask_of(numbers: &[u32]) -> u64 {
    let mut mask = 0;
    let mut at = 0;
    while at < numbers.len() {
        mask |= 1 << numbers[at];
        at += 1;
    }
    mask
}

/// Docker's fourteen: chown, dac_override, fowner, fsetid, kill, setgid, setuid, setpcap,
/// net_bind_service, net_raw, sys_chroot, mknod, audit_write, setfcap.
pub const DEFAULT: u64 = mask_of(&[0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31]);

/// A name in `CapAdd` or `CapDrop` that is no capability.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown capability: \"{0}\"")]
pub struct UnknownCapability(pub String);

/// The mask bit of `CAP_X`, by its full name in capitals.
#[must_use]
pub fn bit(name: &str) -> Option<u64> {
    NAMES
        .iter()
        .position(|known| *known == name)
        .map(|number| 1 << number)
}

/// Full names of the capabilities in `mask`, in order of their numbers.
pub fn names(mask: u64) -> impl Iterator<Item = &'static str> {
    NAMES
        .iter()
        .enumerate()
        .filter(move |(number, _)| mask >> number & 1 == 1)
        .map(|(_, n)| *n)
}

/// Every capability this kernel has and this process could hand out.
#[must_use]
pub fn all() -> u64 {
    let known = fs::read_to_string("/proc/sys/kernel/cap_last_cap")
        .ok()
        .and_then(|text| text.trim().parse::<u32>().ok())
        .unwrap_or(NAMES.len() as u32 - 1)
        .min(NAMES.len() as u32 - 1);
    (0..=known)
        .filter(|number| crate::sys::bounding_has(*number))
        .fold(0, |m, n| m | 1 << n)
}

/// Names as Docker stores them: capitals, `CAP_` in front, sorted, each once; `ALL` stays alone
/// what it is.
///
/// # Errors
/// The first name that is no capability, in that form.
pub fn normalise(list: &[String]) -> Result<Vec<String>, UnknownCapability> {
    let mut result = Vec::with_capacity(list.len());
    for given in list {
        let upper = given.trim().to_ascii_uppercase();
        if upper == "ALL" {
            result.push(upper);
            continue;
        }
        let full = if upper.starts_with("CAP_") {
            upper
        } else {
            format!("CAP_{upper}")
        };
        if bit(&full).is_none() {
            return Err(UnknownCapability(full));
        }
        result.push(full);
    }
    result.sort();
    result.dedup();
    Ok(result)
}

/// The list Docker gives a container for these `CapAdd` and `CapDrop`.
///
/// `ALL` in `add` is everything but what is dropped by name; else `ALL` in `drop` is nothing but
/// what is added; else the default, less `drop`, plus `add`.
///
/// # Errors
/// A name that is no capability.
pub fn tweak(add: &[String], drop: &[String], privileged: bool) -> Result<u64, UnknownCapability> {
    if privileged {
        return Ok(all());
    }
    let mask = |list: &[String]| -> Result<(bool, u64), UnknownCapability> {
        let names = normalise(list)?;
        let everything = names.iter().any(|name| name == "ALL");
        Ok((
            everything,
            names
                .iter()
                .filter_map(|name| bit(name))
                .fold(0, |m, b| m | b),
        ))
    };
    let (add_all, add) = mask(add)?;
    let (drop_all, drop) = mask(drop)?;
    Ok(match (add_all, drop_all) {
        (true, _) => all() & !drop,
        (false, true) => add,
        (false, false) => (DEFAULT & !drop) | add,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn the_default_is_dockerds_mask() {
        assert_eq!(DEFAULT, 0xa804_25fb);
        assert_eq!(names(DEFAULT).count(), 14);
    }

    #[test]
    fn add_and_drop_follow_dockers_rules() {
        let none = list(&[]);
        assert_eq!(tweak(&none, &none, false).unwrap(), DEFAULT);
        assert_eq!(tweak(&none, &list(&["all"]), false).unwrap(), 0);
        assert_eq!(tweak(&list(&["chown"]), &list(&["ALL"]), false).unwrap(), 1);
        assert_eq!(
            tweak(&list(&["ALL"]), &list(&["CAP_CHOWN"]), false).unwrap(),
            all() & !1
        );
        assert_eq!(
            tweak(&list(&["NET_ADMIN"]), &list(&["cap_chown"]), false).unwrap(),
            (DEFAULT | 1 << 12) & !1
        );
    }

    #[test]
    fn an_unknown_name_is_given_back_in_full() {
        let error = tweak(&list(&["not_a_cap"]), &[], false).unwrap_err();
        assert_eq!(error.to_string(), "unknown capability: \"CAP_NOT_A_CAP\"");
    }
}
