//! Processor time of processes, by /proc.

use anyhow::{Context, Result};

/// Ticks of `/proc` a second: what every Linux says to its programs.
const TICKS: f64 = 100.0;

/// Seconds that these processes have run so far, in their own code and in the kernel's.
///
/// # Errors
///
/// When one has ended.
pub fn seconds(processes: &[u32]) -> Result<f64> {
    let mut ticks = 0;
    for process in processes {
        let path = format!("/proc/{process}/stat");
        let text = std::fs::read_to_string(&path).with_context(|| path.clone())?;
        ticks += of_stat(&text).context(path)?;
    }
    Ok(f64::from(ticks) / TICKS)
}

/// The fields 14 and 15; the name, which may hold anything, is in parentheses before them.
fn of_stat(text: &str) -> Option<u32> {
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u32>().ok();
    Some(next()? + next()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_are_found_behind_any_name() {
        let text = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 31 11 5 6 20 0 1 0 99";
        assert_eq!(of_stat(text), Some(42));
    }
}
