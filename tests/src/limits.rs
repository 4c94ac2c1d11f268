//! The limits of folders on the data disk, as the guest's kernel knows them.

use crate::host::Host;
use crate::probe;

/// Makes a privileged container that has the machine's processes able to answer [`limits`].
pub fn arm(host: &Host, container: &str) {
    let put = "cat > /probe && chmod +x /probe";
    let words = ["exec", "-i", container, "sh", "-c", put];
    host.docker_with(&words, probe::binary()).ok();
}

/// Every limit there is, in KiB, smallest first.
///
/// # Panics
///
/// If the disk has no limits at all, or the container was not armed.
#[must_use]
pub fn limits(host: &Host, container: &str) -> Vec<u64> {
    let disk = "/proc/1/root/var/lib/docker";
    let asked = host.docker(&["exec", container, "/probe", "projects", disk]);
    let out = asked.ok().out();
    assert!(out.ends_with("end 2\n"), "{out}");
    let limits = out.lines().filter_map(|line| line.split_once("limit "));
    let mut limits: Vec<u64> = limits
        .filter_map(|(_, limit)| limit.parse().ok())
        .filter(|limit| *limit > 0)
        .collect();
    limits.sort_unstable();
    limits
}
