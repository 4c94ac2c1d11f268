//! A small virtual machine whose network is measured: our kernel, a root in memory that a shell script starts, and
//! the same QEMU, processor and memory as a machine of ours.
//!
//! ```text
//!   order ──line──► serial console ──► /init ──► wire …     its output, and a last line with its status, come back
//! ```

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::program::{Answer, NAME, Order};
use crate::image::cpio::Archive;

const BUSYBOX: &str = "/bin/busybox";
/// Begins the line that ends an answer; its status follows.
const DONE: &str = "done:";
/// Longest that a boot or an order may take.
const LIMIT: Duration = Duration::from_secs(300);

/// As a machine of ours has it, but for the disk and what a guest without our programs cannot use.
const MACHINE: [(&str, &str); 9] = [
    ("-display", "none"),
    (
        "-machine",
        "q35,memory-backend=ram,usb=off,vmport=off,smbus=off,sata=off,hpet=off,graphics=off",
    ),
    ("-accel", "tcg,thread=multi,tb-size=128"),
    ("-cpu", "max,erms=off,fsrm=off,fsrs=off"),
    ("-smp", "2"),
    ("-m", "2048M"),
    ("-object", "memory-backend-memfd,id=ram,size=2048M,share=on"),
    (
        "-append",
        "console=ttyS0 quiet loglevel=1 panic=-1 reboot=t nomodule random.trust_cpu=1 cryptomgr.notests \
         tsc=reliable no_timer_check lapic_timer_khz=1000000 cpu_init_udelay=0 mitigations=off",
    ),
    ("-serial", "stdio"),
];

/// Before everything else; the script goes on behind it.
const BEGIN: &str = "#!/bin/busybox sh\nset -e\nexport PATH=/bin:/usr/bin:/usr/sbin\n\
    /bin/busybox --install -s /bin\nmount -t proc proc /proc\nmount -t sysfs sysfs /sys\n\
    mount -t devtmpfs dev /dev\nstty raw -echo\nip link set lo up\n";
/// Behind it: orders are taken. The firmware leaves its last line without an end.
const SERVE: &str =
    "set +e\necho\necho done:0\nwhile read -r line; do wire $line 2>&1; echo done:$?; done\n";

/// What is in the root, and what its script does.
#[derive(Default)]
pub struct Root {
    /// A folder whose files are in it too.
    pub folder: Option<PathBuf>,
    /// Shell commands that make it ready.
    pub script: String,
}

/// A running machine; ended when dropped.
pub struct Guest {
    qemu: Child,
    orders: ChildStdin,
    lines: Receiver<String>,
}

impl Guest {
    /// Starts it with these cards, as words of QEMU's command line, and waits until it takes orders.
    ///
    /// # Errors
    ///
    /// When it does not come up.
    pub fn start(kernel: &Path, program: &Path, root: &Root, cards: &[String]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let initramfs = folder.path().join("initramfs");
        std::fs::write(&initramfs, archive(program, root)?)?;
        let mut qemu = Command::new("qemu-system-x86_64")
            .args(["-nodefaults", "-no-user-config", "-no-reboot"])
            .args(MACHINE.iter().flat_map(|(name, value)| [name, value]))
            .arg("-kernel")
            .arg(kernel)
            .arg("-initrd")
            .arg(&initramfs)
            .args(cards)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("QEMU")?;
        let orders = qemu.stdin.take().context("no standard input")?;
        let said = qemu.stdout.take().context("no standard output")?;
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(said).lines().map_while(Result::ok) {
                // Nobody listens once the machine is dropped.
                let _ = sender.send(line);
            }
        });
        let mut guest = Self {
            qemu,
            orders,
            lines,
        };
        guest.answer().context("the machine does not come up")?;
        Ok(guest)
    }

    /// QEMU's process.
    #[must_use]
    pub fn process(&self) -> u32 {
        self.qemu.id()
    }

    /// Has it do something with the server at `to`.
    ///
    /// # Errors
    ///
    /// When it fails, with what it said.
    pub fn order(&mut self, order: Order, to: SocketAddr) -> Result<Answer> {
        let words = order.words(to).join(" ");
        writeln!(self.orders, "{words}")?;
        Answer::parse(&self.answer().with_context(|| words.clone())?).context(words)
    }

    /// What it says until it is done.
    fn answer(&mut self) -> Result<String> {
        let limit = Instant::now() + LIMIT;
        let mut said = String::new();
        loop {
            let left = limit.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                bail!("no answer: {said}");
            };
            let line = line.trim();
            if let Some(status) = line.strip_prefix(DONE) {
                ensure!(status == "0", "{said}");
                return Ok(said);
            }
            said.push_str(line);
            said.push('\n');
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // It has no disk: nothing to save.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

fn archive(program: &Path, root: &Root) -> Result<Vec<u8>> {
    let mut archive = Archive::new(Vec::new());
    if let Some(folder) = &root.folder {
        add(&mut archive, folder, "")?;
    }
    for name in ["bin", "dev", "etc", "proc", "run", "sys", "tmp"] {
        let is_there = |folder: &PathBuf| folder.join(name).exists();
        if !root.folder.as_ref().is_some_and(is_there) {
            archive.directory(name, 0o755)?;
        }
    }
    archive.character_device("dev/console", 0o600, (5, 1))?;
    archive.file("bin/busybox", 0o755, &read(Path::new(BUSYBOX))?)?;
    archive.file(&format!("bin/{NAME}"), 0o755, &read(program)?)?;
    let script = format!("{BEGIN}{}{SERVE}", root.script);
    archive.file("init", 0o755, script.as_bytes())?;
    Ok(archive.finish()?)
}

/// Adds what is in a folder, below `to`.
fn add(archive: &mut Archive<Vec<u8>>, folder: &Path, to: &str) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        let name = format!("{to}{}", entry.file_name().display());
        if kind.is_symlink() {
            let target = std::fs::read_link(&path)?;
            archive.symbolic_link(&name, &target.display().to_string())?;
        } else if kind.is_dir() {
            archive.directory(&name, 0o755)?;
            add(archive, &path, &format!("{name}/"))?;
        } else {
            archive.file(&name, 0o755, &read(&path)?)?;
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| path.display().to_string())
}
