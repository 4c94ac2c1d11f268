//! What a machine costs beside its memory: of this process and, where there is one, of QEMU's.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::Result;

/// The guest's memory, by the name of its mapping.
const GUEST: [&str; 2] = ["memfd:", "lighter-guest"];

/// Bytes that a process has for itself, without the guest's memory.
pub fn resident(pid: u32) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps"))?;
    let (mut total, mut counts) = (0, true);
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("Pss:") if counts => {
                total += words.next().unwrap_or_default().parse::<u64>()? << 10;
            }
            Some(word) if !word.ends_with(':') => {
                counts = !GUEST.iter().any(|name| line.contains(name));
            }
            _ => {}
        }
    }
    Ok(total as f64)
}

/// Seconds of processor time that a process has had.
pub fn processor(pid: u32) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let after = text.rsplit(')').next().unwrap_or_default();
    let ticks: f64 = after
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|ticks| ticks.parse::<f64>().unwrap_or_default())
        .sum();
    // Linux tells in hundredths, whatever it counts in.
    Ok(ticks / 100.0)
}

/// KVM's folders of the guests that run now.
pub fn guests() -> Result<BTreeSet<PathBuf>> {
    let mut folders = BTreeSet::new();
    for entry in fs::read_dir("/sys/kernel/debug/kvm")? {
        let path = entry?.path();
        if path.is_dir() {
            folders.insert(path);
        }
    }
    Ok(folders)
}

/// How often KVM left the guest that was not among `earlier`.
pub fn exits_beside(earlier: &BTreeSet<PathBuf>) -> Result<f64> {
    let now = guests()?;
    let mut new = now.difference(earlier);
    match (new.next(), new.next()) {
        (Some(folder), None) => count(&folder.join("exits")),
        _ => Err("not one guest of KVM more than before".into()),
    }
}

/// How often KVM left the guests that run now, by its own count.
pub fn exits() -> Result<f64> {
    count(Path::new("/sys/kernel/debug/kvm/exits"))
}

fn count(file: &Path) -> Result<f64> {
    Ok(fs::read_to_string(file)?.trim().parse()?)
}
