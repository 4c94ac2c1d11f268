//! The peer: a Debian virtual machine with systemd and docker.io, under the same QEMU, CPU model,
//! 2 vCPUs and 2 GiB. Made once into the cache, started on a throw-away copy of its disk: a raw file with a
//! write-back cache, as ours. (QEMU's `snapshot=on` would leave out the flushes.)

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::flush::{Flush, scratch};
use crate::image::progress;
use crate::packages::{self, package};
use crate::{cmd, paths};

const SUITE: &str = "trixie";
const INSIDE: &str =
    "systemd-sysv,udev,dbus,docker.io,iptables,linux-image-cloud-amd64,iproute2,ca-certificates";

/// Raised when the peer is made in another way.
const RECIPE: u32 = 2;
/// Lines about single packages that debootstrap prints for all of it, for the progress display only.
const STEPS: u32 = 830;

/// How the peer is named in results.
pub const NAME: &str = "dockerd in a Debian VM";

/// Longest it may take to be ready: half a minute on a quiet machine, and a benchmark may be run on another.
const LIMIT: Duration = Duration::from_secs(900);
/// The host's loopback as the peer's guest sees it (QEMU's user network).
pub const HOST: &str = "10.0.2.2";

/// The peer's disk and kernel.
pub struct Image {
    dir: PathBuf,
}

/// A running peer; ended when dropped.
pub struct Peer {
    qemu: Child,
    port: u16,
    _disk: Disk,
}

/// A copy of the disk to be written to and thrown away.
pub struct Disk {
    folder: tempfile::TempDir,
}

impl Image {
    /// Makes the image the first time (about four minutes).
    ///
    /// # Errors
    ///
    /// When this is not root, or debootstrap or mkfs fails.
    pub fn ensure() -> Result<Self> {
        let dir = paths::cache()
            .join("peer")
            .join(format!("{SUITE}-{RECIPE}"));
        if dir.join("disk.img").exists() {
            return Ok(Self { dir });
        }
        if !packages::is_root() {
            bail!(
                "the peer can only be made by root: debootstrap makes devices and owners\n\nhint: run this once with sudo"
            );
        }
        packages::ensure(&[package("debootstrap"), package("e2fsprogs")])?;
        std::fs::create_dir_all(&dir)?;
        let lock = std::fs::File::create(dir.with_extension("lock"))?;
        lock.lock().context("another benchmark makes the peer")?;
        if !dir.join("disk.img").exists() {
            make(&dir)?;
        }
        Ok(Self { dir })
    }

    /// A copy of the disk.
    ///
    /// # Errors
    ///
    /// When there is no room for it.
    pub fn disk(&self) -> Result<Disk> {
        let folder = scratch()?;
        cmd::run(
            Command::new("cp")
                .arg("--sparse=always")
                .arg(self.dir.join("disk.img"))
                .arg(folder.path().join("disk.img")),
        )?;
        Ok(Disk { folder })
    }

    /// Bytes on the disk that the peer's system takes.
    ///
    /// # Errors
    ///
    /// When the disk cannot be read.
    pub fn allocated(&self) -> Result<u64> {
        use std::os::unix::fs::MetadataExt;
        Ok(std::fs::metadata(self.dir.join("disk.img"))?.blocks() * 512)
    }

    /// Starts the peer on a fresh copy of its disk and waits until its engine answers a ping.
    ///
    /// # Errors
    ///
    /// When QEMU cannot be started, or the engine does not answer within [`LIMIT`].
    pub fn start(&self, docker: &Path, flush: &Flush) -> Result<Peer> {
        self.start_on(self.disk()?, docker, flush)
    }

    /// The same on a copy made before.
    ///
    /// # Errors
    ///
    /// When QEMU cannot be started, or the engine does not answer within [`LIMIT`].
    pub fn start_on(&self, disk: Disk, docker: &Path, flush: &Flush) -> Result<Peer> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")?
            .local_addr()?
            .port();
        let qemu = Command::new(flush.qemu())
            .args(self.arguments(&disk, port))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("qemu-system-x86_64")?;
        let mut peer = Peer {
            qemu,
            port,
            _disk: disk,
        };
        let limit = Instant::now() + LIMIT;
        while !peer.answers(docker) {
            if let Some(status) = peer.qemu.try_wait()? {
                bail!("the peer's QEMU ended: {status}");
            }
            if Instant::now() > limit {
                bail!("the peer did not answer within {} s", LIMIT.as_secs());
            }
            // Its engine sits behind slirp, which accepts before the guest does: only asking tells.
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(peer)
    }

    fn arguments(&self, disk: &Disk, port: u16) -> Vec<String> {
        let file = |name: &str| self.dir.join(name).display().to_string();
        let disk = disk.folder.path().join("disk.img").display().to_string();
        let pairs: [(&str, String); 14] = [
            ("-machine", "q35,memory-backend=ram".into()),
            ("-cpu", "max".into()),
            ("-accel", "tcg,thread=multi".into()),
            ("-smp", "2".into()),
            ("-m", "2048M".into()),
            // As ours: the guest's memory is told from QEMU's own by it.
            (
                "-object",
                "memory-backend-memfd,id=ram,size=2048M,share=on".into(),
            ),
            ("-display", "none".into()),
            ("-kernel", file("vmlinuz")),
            ("-initrd", file("initrd")),
            ("-append", "root=/dev/vda rw quiet".into()),
            (
                "-drive",
                format!("file={disk},format=raw,if=virtio,cache=writeback,aio=threads"),
            ),
            (
                "-netdev",
                format!("user,id=n,hostfwd=tcp:127.0.0.1:{port}-:2375"),
            ),
            ("-device", "virtio-net-pci,netdev=n".into()),
            ("-serial", "none".into()),
        ];
        let words = pairs
            .into_iter()
            .flat_map(|(name, value)| [name.to_owned(), value]);
        words
            .chain(["-nodefaults", "-no-user-config"].map(str::to_owned))
            .collect()
    }
}

impl Peer {
    /// Where docker clients reach it.
    #[must_use]
    pub fn socket(&self) -> String {
        format!("tcp://127.0.0.1:{}", self.port)
    }

    /// Its process on the host. (Started through a script, it is still that process.)
    #[must_use]
    pub fn process(&self) -> u32 {
        self.qemu.id()
    }

    fn answers(&self, docker: &Path) -> bool {
        let asked = Command::new("timeout")
            .arg("5")
            .arg(docker)
            .args([
                "-H",
                &self.socket(),
                "version",
                "--format",
                "{{.Server.Version}}",
            ])
            .stdin(Stdio::null())
            .output();
        asked.is_ok_and(|o| o.status.success())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Its disk is a throw-away snapshot: nothing to save.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

fn make(dir: &Path) -> Result<()> {
    let new = dir.with_extension("new");
    if new.exists() {
        std::fs::remove_dir_all(&new)?;
    }
    let root = new.join("root");
    std::fs::create_dir_all(&root)?;
    progress::run(
        &format!("the peer: Debian {SUITE} with systemd and docker.io"),
        Command::new("debootstrap")
            .args(["--variant=minbase", &format!("--include={INSIDE}"), SUITE])
            .arg(&root)
            .arg(packages::mirror()),
        STEPS,
        &dir.with_extension("log"),
        |line| {
            ["I: Retrieving ", "I: Unpacking ", "I: Configuring "]
                .iter()
                .any(|s| line.starts_with(s))
        },
    )?;
    configure(&root)?;
    for (pattern, name) in [("vmlinuz-", "vmlinuz"), ("initrd.img-", "initrd")] {
        std::fs::copy(boot_file(&root, pattern)?, new.join(name))?;
    }
    eprintln!("the peer: making its disk");
    let disk = new.join("disk.img");
    std::fs::File::create(&disk)?.set_len(4 << 30)?;
    cmd::run(
        Command::new("mkfs.ext4")
            .args(["-q", "-F", "-d"])
            .arg(&root)
            .arg(&disk),
    )?;
    std::fs::remove_dir_all(&root)?;
    // Empty until now; a rename replaces it.
    std::fs::rename(&new, dir).with_context(|| format!("cannot name {}", dir.display()))
}

/// dockerd on TCP, an address by DHCP, no waiting for what is not there.
fn configure(root: &Path) -> Result<()> {
    let write = |name: &str, text: &str| -> Result<()> {
        let path = root.join(name);
        std::fs::create_dir_all(path.parent().context("no parent")?)?;
        std::fs::write(&path, text).with_context(|| path.display().to_string())
    };
    write(
        "etc/systemd/system/docker.service.d/tcp.conf",
        "[Service]\nExecStart=\nExecStart=/usr/sbin/dockerd -H unix:///run/docker.sock -H tcp://0.0.0.0:2375\n",
    )?;
    write(
        "etc/systemd/network/e.network",
        "[Match]\nName=e*\n[Network]\nDHCP=ipv4\n",
    )?;
    // The registry on the host speaks plain HTTP.
    write(
        "etc/docker/daemon.json",
        "{ \"insecure-registries\": [\"10.0.2.0/24\"] }\n",
    )?;
    write("etc/fstab", "/dev/vda / ext4 rw 0 1\n")?;
    let systemctl = |args: &[&str]| {
        cmd::run(
            Command::new("chroot")
                .arg(root)
                .arg("systemctl")
                .args(args)
                .stderr(Stdio::null()),
        )
    };
    systemctl(&["enable", "systemd-networkd", "docker.service"])?;
    systemctl(&["disable", "docker.socket"])
}

fn boot_file(root: &Path, start: &str) -> Result<PathBuf> {
    for entry in std::fs::read_dir(root.join("boot"))? {
        let path = entry?.path();
        if path
            .file_name()
            .is_some_and(|n| n.to_string_lossy().starts_with(start))
        {
            return Ok(path);
        }
    }
    bail!("no {start}* in the peer's /boot")
}
