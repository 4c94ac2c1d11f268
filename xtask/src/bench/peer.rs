//! The peer: a Debian virtual machine with systemd and docker.io, under the same QEMU, CPU model,
//! 2 vCPUs and 2 GiB. Made once into the cache, started from a throw-away copy of its disk.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::packages::{self, package};
use crate::{cmd, paths};

const SUITE: &str = "trixie";
const INSIDE: &str =
    "systemd-sysv,udev,dbus,docker.io,iptables,linux-image-cloud-amd64,iproute2,ca-certificates";

/// How the peer is named in results.
pub const NAME: &str = "dockerd in a Debian VM";

/// The peer's disk and kernel.
pub struct Image {
    dir: PathBuf,
}

/// A running peer; ended when dropped.
pub struct Peer {
    qemu: Child,
    port: u16,
}

impl Image {
    /// Makes the image the first time (about four minutes).
    ///
    /// # Errors
    ///
    /// When debootstrap or mkfs fails.
    pub fn ensure() -> Result<Self> {
        let dir = paths::cache().join("peer").join(SUITE);
        if dir.join("disk.img").exists() {
            return Ok(Self { dir });
        }
        packages::ensure(&[package("debootstrap"), package("e2fsprogs")])?;
        eprintln!(
            "making the peer (Debian {SUITE}, systemd, docker.io) in {}",
            dir.display()
        );
        let new = dir.with_extension("new");
        if new.exists() {
            std::fs::remove_dir_all(&new)?;
        }
        let root = new.join("root");
        std::fs::create_dir_all(&root)?;
        cmd::run(
            Command::new("debootstrap")
                .args(["--variant=minbase", &format!("--include={INSIDE}"), SUITE])
                .arg(&root)
                .arg(packages::mirror())
                .stdout(Stdio::null()),
        )?;
        configure(&root)?;
        for (pattern, name) in [("vmlinuz-", "vmlinuz"), ("initrd.img-", "initrd")] {
            std::fs::copy(boot_file(&root, pattern)?, new.join(name))?;
        }
        let disk = new.join("disk.img");
        std::fs::File::create(&disk)?.set_len(4 << 30)?;
        cmd::run(
            Command::new("mkfs.ext4")
                .args(["-q", "-F", "-d"])
                .arg(&root)
                .arg(&disk),
        )?;
        std::fs::remove_dir_all(&root)?;
        std::fs::rename(&new, &dir)?;
        Ok(Self { dir })
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

    /// Starts the peer and waits until its engine answers a ping.
    ///
    /// # Errors
    ///
    /// When QEMU cannot be started, or the engine does not answer within five minutes.
    pub fn start(&self, docker: &Path) -> Result<Peer> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")?
            .local_addr()?
            .port();
        let file = |name: &str| self.dir.join(name).display().to_string();
        let qemu = Command::new("qemu-system-x86_64")
            .args([
                "-M",
                "q35",
                "-cpu",
                "max",
                "-accel",
                "tcg,thread=multi",
                "-smp",
                "2",
                "-m",
                "2048",
            ])
            .args([
                "-display",
                "none",
                "-nodefaults",
                "-no-user-config",
                "-kernel",
                &file("vmlinuz"),
            ])
            .args([
                "-initrd",
                &file("initrd"),
                "-append",
                "root=/dev/vda rw quiet",
            ])
            .args([
                "-drive",
                &format!("file={},format=raw,if=virtio,snapshot=on", file("disk.img")),
            ])
            .args([
                "-netdev",
                &format!("user,id=n,hostfwd=tcp:127.0.0.1:{port}-:2375"),
            ])
            .args(["-device", "virtio-net-pci,netdev=n", "-serial", "none"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("qemu-system-x86_64")?;
        let peer = Peer { qemu, port };
        let limit = Instant::now() + Duration::from_secs(300);
        while !peer.answers(docker) {
            if Instant::now() > limit {
                bail!("the peer did not answer within five minutes");
            }
            // Its engine sits behind slirp, which accepts before the guest does: only asking tells.
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(peer)
    }
}

impl Peer {
    /// Where docker clients reach it.
    #[must_use]
    pub fn socket(&self) -> String {
        format!("tcp://127.0.0.1:{}", self.port)
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
