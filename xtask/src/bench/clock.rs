//! The guest's own clock from its kernel's entry on, where one instruction is one nanosecond, whatever else this machine
//! does. Our kernel's times are the same to 0.02 % at every run, Debian's to 1 %. The time until the agent is not: it
//! waits for a disk, which answers in its own time.
//!
//! QEMU emulates one processor and counts (`-icount shift=0,align=off,sleep=off`). The kernels' first program is one that
//! is not there: what they say at their end has the time at which it would have begun.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use lighter_platform::disk_template;

use super::Row;
use super::ours::Built;
use super::samples::Samples;
use crate::{packages, paths};

/// Debian's kernel for clouds, of the same series as ours.
const PEER: &str = "linux-image-6.12.*-cloud-amd64";
const PEER_NAME: &str = "Debian's 6.12 kernel for clouds";
/// Longest that a boot may take here, in seconds: counted instructions are slow ones.
const LIMIT: &str = "600";

/// What QEMU is, but for kernel and devices.
const MACHINE: &[&str] = &[
    "-nodefaults",
    "-no-user-config",
    "-no-reboot",
    "-display",
    "none",
    "-machine",
    "q35,usb=off,vmport=off,smbus=off,sata=off,hpet=off,graphics=off",
    "-accel",
    "tcg,thread=single",
    "-icount",
    "shift=0,align=off,sleep=off",
    "-cpu",
    "max,erms=off,fsrm=off,fsrs=off",
    "-smp",
    "1",
    "-m",
    "1024M",
];
/// The kernels' words; the last two have them end where a first program would begin.
const WORDS: &str = "console=ttyS0 quiet panic=-1 reboot=t mitigations=off";
const NO_PROGRAM: &str = "rdinit=/none root=/none";

/// Measures all.
///
/// # Errors
///
/// When something cannot be built or fetched, or a kernel does not come so far.
pub fn clock(as_built: bool) -> Result<Vec<Row>> {
    let built = Built::new(as_built)?;
    let folder = tempfile::tempdir()?;
    let debian = debian()?;
    let initramfs = built.kernel().with_file_name("initramfs.cpio.zst");
    let to_end = |kernel: &Path, initramfs: Option<&Path>| {
        let boot = Boot {
            kernel,
            initramfs,
            disk: None,
            words: NO_PROGRAM,
        };
        boot.until(of_the_end)
    };
    let ours = built.kernel();
    let [bare, whole] = [None, Some(&*initramfs)].map(|initramfs| {
        let sides = [&*ours, &*debian].map(|kernel| to_end(kernel, initramfs));
        let [ours, peer] = sides;
        Ok::<_, anyhow::Error>((ours?, peer?))
    });
    let (bare, whole) = (bare?, whole?);
    let disk = folder.path().join("disk");
    let template = built.kernel().with_file_name("data-disk.sparse");
    let expanded = File::create(&disk)?;
    let header = disk_template::expand(File::open(template)?, &expanded)?;
    expanded.set_len(header.disk_size)?;
    let boot = Boot {
        kernel: &ours,
        initramfs: Some(&initramfs),
        disk: Some(&disk),
        words: "",
    };
    let agent = boot.until(of_the_agent)?;
    Ok(vec![
        row("clock/kernel", "a kernel alone", bare.0, Some(bare.1)),
        row(
            "clock/unpacked",
            "the same, and our initramfs unpacked",
            whole.0,
            Some(whole.1),
        ),
        row("clock/agent", "until our agent is started", agent, None),
    ])
}

fn row(name: &'static str, what: &'static str, ours: f64, peer: Option<f64>) -> Row {
    let row = Row {
        name,
        what,
        unit: "ms",
        ours: Samples::new(vec![ours]),
        peer: Samples::new(peer.into_iter().collect()),
        peer_name: PEER_NAME,
        floor: None,
    };
    row.said()
}

/// The newest of Debian's kernels.
fn debian() -> Result<PathBuf> {
    let root = packages::unpacked_as(&paths::cache(), "trixie-kernel", "trixie", &[PEER])?;
    let mut kernels = Vec::new();
    for entry in std::fs::read_dir(root.join("boot"))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if let Some(version) = name.strip_prefix("vmlinuz-") {
            let numbers = version.split(|c: char| !c.is_ascii_digit());
            let numbers: Vec<u32> = numbers.map_while(|number| number.parse().ok()).collect();
            kernels.push((numbers, path));
        }
    }
    let newest = kernels.into_iter().max();
    Ok(newest.context("Debian's package has no kernel")?.1)
}

/// One boot.
struct Boot<'a> {
    kernel: &'a Path,
    initramfs: Option<&'a Path>,
    disk: Option<&'a Path>,
    words: &'a str,
}

impl Boot<'_> {
    /// Boots until `time` finds what it looks for on the console: in milliseconds of the guest.
    fn until(&self, time: fn(&str) -> Option<f64>) -> Result<f64> {
        let mut qemu = Command::new("timeout");
        qemu.args([LIMIT, "qemu-system-x86_64"]).args(MACHINE);
        qemu.arg("-kernel").arg(self.kernel);
        qemu.args(["-append", &format!("{WORDS} {}", self.words)]);
        qemu.args(["-serial", "stdio"]);
        if let Some(initramfs) = self.initramfs {
            qemu.arg("-initrd").arg(initramfs);
        }
        if let Some(disk) = self.disk {
            let drive = format!("file={},if=none,id=data,format=raw", disk.display());
            qemu.args(["-drive", &drive, "-device", "virtio-blk-pci,drive=data"]);
        }
        let qemu = qemu.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut running = Running(qemu.spawn().context("QEMU")?);
        let mut console = running.0.stdout.take().context("no standard output")?;
        let (mut said, mut bytes) = (Vec::new(), [0; 4096]);
        loop {
            let count = console.read(&mut bytes)?;
            said.extend_from_slice(&bytes[..count]);
            let text = String::from_utf8_lossy(&said);
            if let Some(time) = time(&text) {
                return Ok(time);
            }
            if count == 0 {
                bail!("{} does not come so far:\n{text}", self.kernel.display());
            }
        }
    }
}

/// Ended when dropped, by the program that limits it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended is as good. `timeout` passes this signal on.
        if let Ok(pid) = i32::try_from(self.0.id())
            && let Some(pid) = rustix::process::Pid::from_raw(pid)
        {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.0.wait();
    }
}

/// The time of a kernel's last line, once it is whole: `[    0.487566] Kernel panic - not syncing: VFS: …`.
fn of_the_end(said: &str) -> Option<f64> {
    let (before, _) = said.split_once("] Kernel panic - not syncing: VFS")?;
    let seconds: f64 = before.rsplit('[').next()?.trim().parse().ok()?;
    Some(seconds * 1e3)
}

/// What init says of the time: `lighter-init: the agent starts, 1889 ms after the kernel`.
fn of_the_agent(said: &str) -> Option<f64> {
    let (_, after) = said.split_once("the agent starts, ")?;
    after.split_once(" ms after")?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_from_whole_lines() {
        let end =
            "[    0.000000] x\n[    0.487566] Kernel panic - not syncing: VFS: Unable\n[    0.5] y";
        assert!((of_the_end(end).unwrap() - 487.566).abs() < 1e-9);
        assert_eq!(of_the_end("[    0.487566] Kernel panic - not syn"), None);
        let agent = "\r\nlighter-init: the agent starts, 1889 ms after the kernel\r\n";
        assert_eq!(of_the_agent(agent), Some(1889.0));
        assert_eq!(of_the_agent("lighter-init: the agent starts, 18"), None);
    }
}
