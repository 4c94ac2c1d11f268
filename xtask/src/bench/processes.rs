//! What host processes cost in memory, by /proc.

use std::path::Path;

use anyhow::{Context, Result, ensure};

/// The processes with this home in their environment, and their children: QEMU has an empty environment.
///
/// # Errors
///
/// When /proc cannot be read.
pub fn of_home(home: &Path) -> Result<Vec<u32>> {
    let mine = format!("LIGHTER_HOME={}", home.display());
    let all = all()?;
    let own = |pid: u32| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment
            .split(|byte| *byte == 0)
            .any(|word| word == mine.as_bytes())
    };
    let parents: Vec<u32> = all.iter().map(|p| p.0).filter(|pid| own(*pid)).collect();
    let found = all
        .iter()
        .filter(|(pid, parent)| parents.contains(pid) || parents.contains(parent));
    Ok(found
        .map(|p| p.0)
        .filter(|p| *p != std::process::id())
        .collect())
}

/// Every process with its parent. One that ends meanwhile is left out.
fn all() -> Result<Vec<(u32, u32)>> {
    let entries = std::fs::read_dir("/proc").context("/proc")?.flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let parent = |pid: u32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find_map(|l| l.strip_prefix("PPid:"))?;
        line.trim().parse().ok()
    };
    Ok(pids.filter_map(|pid| Some((pid, parent(pid)?))).collect())
}

/// The processes' Pss in MiB, without the memory that is the guest's: on both sides a memfd.
///
/// # Errors
///
/// When there is no process, or /proc does not tell.
pub fn without_guest_memory(pids: &[u32]) -> Result<f64> {
    ensure!(!pids.is_empty(), "no process to measure");
    let mut kib = 0;
    for pid in pids {
        let path = format!("/proc/{pid}/smaps");
        kib += pss_without_memfd(&std::fs::read_to_string(&path).with_context(|| path.clone())?);
    }
    Ok(f64::from(u32::try_from(kib)?) / 1024.0)
}

/// The Pss in MiB of all processes in the mount namespace of this one.
///
/// # Errors
///
/// When there is no such process, or /proc cannot be read.
pub fn of_mount_namespace(process: u32) -> Result<f64> {
    let namespace = |pid: u32| std::fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
    let wanted = namespace(process).context("the process has ended")?;
    let mut kib = 0;
    for (pid, _) in all()? {
        if namespace(pid).as_ref() != Some(&wanted) {
            continue;
        }
        // One that has ended meanwhile has no memory.
        let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"));
        let line = text.unwrap_or_default();
        let line = line.lines().find_map(|line| line.strip_prefix("Pss:"));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u32>().ok());
        kib += number.unwrap_or(0);
    }
    Ok(f64::from(kib) / 1024.0)
}

fn pss_without_memfd(smaps: &str) -> u64 {
    let (mut guest, mut kib) = (false, 0);
    for line in smaps.lines() {
        let first = line.split_whitespace().next().unwrap_or_default();
        if first.contains('-') && !first.ends_with(':') {
            guest = line.contains("/memfd:");
        } else if first == "Pss:" && !guest {
            let number = line
                .split_whitespace()
                .nth(1)
                .and_then(|n| n.parse::<u64>().ok());
            kib += number.unwrap_or(0);
        }
    }
    kib
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guests_memory_does_not_count() {
        let smaps = "7f00-8f00 rw-s 00000000 00:01 5  /memfd:memory-backend-memfd (deleted)\n\
            Size: 2097152 kB\nPss:  40000 kB\nPss_Dirty: 7 kB\n\
            9000-a000 r-xp 00000000 fe:00 7  /usr/bin/qemu\nPss:  12 kB\n\
            b000-c000 rw-p 00000000 00:00 0\nPss:  30 kB\nVmFlags: rd wr\n";
        assert_eq!(pss_without_memfd(smaps), 42);
    }

    #[test]
    fn this_process_costs_something() {
        assert!(without_guest_memory(&[std::process::id()]).expect("measured") > 0.0);
    }
}
