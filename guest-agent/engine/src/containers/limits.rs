//! Limits in a request, in Docker's words: what is refused, and what is left out with a warning since control groups
//! 2, or this kernel, do not have it.
//!
//! Called by create and by update, before anything is made or changed.

use crate::error::{Error, Result};
use crate::model::HostConfig;

const MIB: i64 = 1 << 20;
/// Of block devices.
const WEIGHTS: std::ops::RangeInclusive<u16> = 10..=1000;

/// Takes out what there is no such thing of here; the warnings. `weights` says whether this kernel shares its disks
/// by weight.
pub(super) fn discard(host_config: &mut HostConfig, weights: bool) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut warn = |what: &str, how: &str| {
        warnings.push(format!(
            "Your kernel does not support {what}. {how} discarded."
        ));
    };
    const MOUNTED: &str = "or the cgroup is not mounted";
    // -1 stands for the machine's own.
    if host_config
        .memory_swappiness
        .take()
        .is_some_and(|own| own != -1)
    {
        warn(
            &format!("memory swappiness capabilities {MOUNTED}"),
            "Memory swappiness",
        );
    }
    if std::mem::take(&mut host_config.kernel_memory) > 0 {
        warn(
            &format!("kernel memory limit capabilities {MOUNTED}"),
            "Limitation",
        );
    }
    if host_config.oom_kill_disable.take() == Some(true) {
        warn("OomKillDisable", "OomKillDisable");
    }
    // What is no weight is refused all the same.
    if !weights && WEIGHTS.contains(&host_config.blkio_weight) {
        host_config.blkio_weight = 0;
        warn(&format!("Block I/O weight {MOUNTED}"), "Weight");
    }
    let devices = host_config.blkio_weight_device.iter().flatten().count();
    if !weights && devices > 0 {
        host_config.blkio_weight_device = Some(Vec::new());
        warn(
            &format!("Block I/O weight_device {MOUNTED}"),
            "Weight-device",
        );
    }
    warnings
}

/// Checks the limits of a container that is to be.
pub(super) fn check(host_config: &HostConfig) -> Result<()> {
    let HostConfig {
        memory,
        memory_swap,
        ..
    } = *host_config;
    if memory == 0 && memory_swap > 0 {
        return Err(Error::invalid(
            "You should always set the Memory limit when using Memoryswap limit, see usage",
        ));
    }
    if host_config.cpu_realtime_period != 0 || host_config.cpu_realtime_runtime != 0 {
        return Err(Error::invalid(
            "kernel does not support CPU real-time scheduler",
        ));
    }
    check_update(host_config)
}

/// Checks limits that are to be added to those that are there.
pub(super) fn check_update(host_config: &HostConfig) -> Result<()> {
    check_memory(host_config)?;
    check_cpu(host_config)?;
    if host_config.blkio_weight != 0 && !WEIGHTS.contains(&host_config.blkio_weight) {
        return Err(Error::invalid("Range of blkio weight is from 10 to 1000"));
    }
    Ok(())
}

fn check_memory(host_config: &HostConfig) -> Result<()> {
    let HostConfig {
        memory,
        memory_swap,
        memory_reservation,
        ..
    } = *host_config;
    let text = if memory != 0 && memory < 6 * MIB {
        "Minimum memory limit allowed is 6MB"
    } else if memory > 0 && memory_swap > 0 && memory_swap < memory {
        "Minimum memoryswap limit should be larger than memory limit, see usage"
    } else if memory_reservation > 0 && memory_reservation < 6 * MIB {
        "Minimum memory reservation allowed is 6MB"
    } else if memory > 0 && memory_reservation > memory {
        "Minimum memory limit can not be less than memory reservation limit, see usage"
    } else {
        return Ok(());
    };
    Err(Error::invalid(text))
}

/// Checks a list as `0-2,5` against those the kernel has.
fn check_set(list: &str, what: &str, things: &str, file: &str) -> Result<()> {
    if list.is_empty() {
        return Ok(());
    }
    let Some(asked) = set(list) else {
        return Err(Error::invalid(format!(
            "Invalid value {list} for cpuset {what}: invalid format: {list}"
        )));
    };
    // A kernel without the file has one of them.
    let there = std::fs::read_to_string(file).unwrap_or_else(|_| "0".into());
    let there = there.trim();
    if asked
        .iter()
        .all(|number| set(there).is_none_or(|there| there.contains(number)))
    {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "Requested {things} are not available - requested {list}, available: {there}"
    )))
}

/// The numbers of a list; none if it is no list or longer than any machine needs.
fn set(list: &str) -> Option<std::collections::BTreeSet<u32>> {
    let mut numbers = std::collections::BTreeSet::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if first > last || last > 8192 {
            return None;
        }
        numbers.extend(first..=last);
    }
    Some(numbers)
}

fn check_cpu(host_config: &HostConfig) -> Result<()> {
    for (list, what, things, file) in [
        (
            &host_config.cpuset_cpus,
            "cpus",
            "CPUs",
            "/sys/devices/system/cpu/online",
        ),
        (
            &host_config.cpuset_mems,
            "mems",
            "memory nodes",
            "/sys/devices/system/node/online",
        ),
    ] {
        check_set(list, what, things, file)?;
    }
    let HostConfig {
        nano_cpus,
        cpu_period,
        cpu_quota,
        ..
    } = *host_config;
    let cpus =
        i64::try_from(std::thread::available_parallelism().map_or(1, usize::from)).unwrap_or(1);
    if nano_cpus != 0 && (cpu_period != 0 || cpu_quota != 0) {
        let what = if cpu_period == 0 { "Quota" } else { "Period" };
        return Err(Error::invalid(format!(
            "Conflicting options: Nano CPUs and CPU {what} cannot both be set"
        )));
    }
    if nano_cpus < 0 || nano_cpus > cpus.saturating_mul(1_000_000_000) {
        return Err(Error::invalid(format!(
            "range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available"
        )));
    }
    if cpu_period != 0 && !(1000..=1_000_000).contains(&cpu_period) {
        return Err(Error::invalid(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
        ));
    }
    if cpu_quota > 0 && cpu_quota < 1000 {
        return Err(Error::invalid(
            "CPU cfs quota can not be less than 1ms (i.e. 1000)",
        ));
    }
    if host_config.cpu_shares < 0 {
        return Err(Error::invalid(format!(
            "invalid CPU shares ({}): value must be a positive integer",
            host_config.cpu_shares
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host_config(text: &str) -> HostConfig {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn what_is_not_there_is_left_out_and_said() {
        let mut asked = host_config(
            r#"{"MemorySwappiness":10,"OomKillDisable":true,"BlkioWeight":300,"KernelMemory":1,
                "BlkioWeightDevice":[{"Path":"/dev/vda","Weight":200}]}"#,
        );
        assert_eq!(discard(&mut asked, false).len(), 5);
        assert_eq!((asked.blkio_weight, asked.oom_kill_disable), (0, None));
        assert_eq!(asked.blkio_weight_device, Some(Vec::new()));
        // What clients send without being asked is no reason for a warning.
        let mut usual = host_config(r#"{"MemorySwappiness":-1,"OomKillDisable":false}"#);
        assert!(discard(&mut usual, false).is_empty());
        let mut weighty = host_config(r#"{"BlkioWeight":300}"#);
        assert!(discard(&mut weighty, true).is_empty());
        assert_eq!(weighty.blkio_weight, 300);
        let mut wrong = host_config(r#"{"BlkioWeight":5}"#);
        assert!(discard(&mut wrong, false).is_empty());
        assert!(check_update(&wrong).is_err());
    }
}
