//! The three network cards of one machine: ours, QEMU's user network, and passt.
//!
//! All three lead to the same server on the host, each by an address of its own. The two in processes of their own
//! are started here, with the queues that a machine of ours gives its card.

use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lighter_net::{NetProcess, SpawnConfig};
use lighter_protocol::link;

use super::place::address;
use crate::{packages, paths};

/// How rows name them; ours is the first.
pub const NAMES: [&str; 3] = ["lighter net", "QEMU's user network", "passt"];

const SUITE: &str = "trixie";
/// The longest that passt may take to listen.
const LIMIT: Duration = Duration::from_secs(10);
/// Its root is Debian's, exchanged for the host's: in one that is only changed to it makes no user namespace. Its
/// network is the caller's.
const PASST: &str = "set -e; mount --make-rprivate /; mount --bind \"$1\" \"$1\"; cd \"$1\"; mount -t proc proc proc; \
    pivot_root . mnt; exec /usr/bin/passt --foreground --quiet --vhost-user --socket \"$2\" --runas 0 \
    --address 10.0.3.15 --netmask 24 --gateway 10.0.3.2 --mtu 65520 --dns none --tcp-ports none --udp-ports none";

/// The cards' processes; ended when dropped.
pub struct Cards {
    ours: NetProcess,
    passt: Child,
    socket: PathBuf,
    _folder: tempfile::TempDir,
}

impl Cards {
    /// Starts both in this thread's network; `root` is [`passt`]'s.
    ///
    /// # Errors
    ///
    /// When one cannot be started.
    pub fn start(lighter: &Path, root: &Path) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let ours = NetProcess::spawn(SpawnConfig {
            exe: lighter,
            run_dir: folder.path(),
            log: None,
        })?;
        // Where it is in that root.
        let name = format!("/tmp/passt-{}", std::process::id());
        let socket = root.join(&name[1..]);
        let passt = Command::new("unshare")
            .args(["--mount", "sh", "-c", PASST, "passt"])
            .arg(root)
            .arg(&name)
            .stdin(Stdio::null())
            .spawn()
            .context("passt")?;
        let mut cards = Self {
            ours,
            passt,
            socket,
            _folder: folder,
        };
        let limit = Instant::now() + LIMIT;
        while !cards.socket.exists() {
            ensure!(cards.passt.try_wait()?.is_none(), "passt ended");
            ensure!(Instant::now() < limit, "passt does not listen");
            // It has no event for being ready.
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(cards)
    }

    /// QEMU's words for the three.
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        let fd = self.ours.vhost_user.as_raw_fd();
        let named = format!("/proc/{}/fd/{fd}", std::process::id());
        let passt = self.socket.display();
        let mac = link::GUEST_MAC.map(|byte| format!("{byte:02x}")).join(":");
        let card = |at: usize, mac: &str| {
            format!(
                "virtio-net-pci,netdev=n{at},mac={mac},romfile=,mrg_rxbuf=on,rx_queue_size=1024"
            )
        };
        let words = [
            ("-chardev", format!("socket,id=c0,path={named}")),
            ("-netdev", "vhost-user,id=n0,chardev=c0".to_owned()),
            ("-device", card(0, &mac)),
            ("-netdev", "user,id=n1".to_owned()),
            ("-device", card(1, "02:00:00:00:00:01")),
            ("-chardev", format!("socket,id=c2,path={passt}")),
            ("-netdev", "vhost-user,id=n2,chardev=c2".to_owned()),
            ("-device", card(2, "02:00:00:00:00:02")),
        ];
        let words = words.into_iter();
        words
            .flat_map(|(name, value)| [name.to_owned(), value])
            .collect()
    }

    /// The guest's commands for its addresses and routes.
    #[must_use]
    pub fn script(&self) -> String {
        let ours = format!("{}/{}", link::GUEST_V4, link::PREFIX_V4);
        let ends = [
            (ours, link::GATEWAY_V4.to_string(), 1500),
            ("10.0.2.15/24".to_owned(), "10.0.2.2".to_owned(), 1500),
            // What passt tells a guest that asks for its address.
            ("10.0.3.15/24".to_owned(), "10.0.3.2".to_owned(), 65_520),
        ];
        let mut script = String::new();
        for (at, (own, gateway, mtu)) in ends.into_iter().enumerate() {
            let to = address(at).ip();
            script += &format!(
                "ip address add {own} dev eth{at}\nip link set eth{at} mtu {mtu} up\n\
                 ip route add {to} via {gateway} dev eth{at}\n"
            );
        }
        script
    }

    /// The processes whose work a card is, beside QEMU.
    #[must_use]
    pub fn processes(&self, card: usize) -> Vec<u32> {
        match card {
            0 => vec![self.ours.child.id()],
            // QEMU is it.
            1 => Vec::new(),
            _ => vec![self.passt.id()],
        }
    }
}

impl Drop for Cards {
    fn drop(&mut self) {
        for process in [&mut self.ours.child, &mut self.passt] {
            let _ = process.kill();
            let _ = process.wait();
        }
        let _ = std::fs::remove_file(&self.socket);
    }
}

/// The folder with passt and its libraries, fetched the first time.
///
/// # Errors
///
/// When it cannot be had.
pub fn passt() -> Result<PathBuf> {
    let root = packages::unpacked_as(&paths::cache(), "trixie-passt", SUITE, &["passt", "libc6"])?;
    for folder in ["mnt", "proc", "tmp"] {
        std::fs::create_dir_all(root.join(folder))?;
    }
    for (link, to) in [("lib64", "usr/lib64"), ("lib", "usr/lib")] {
        match std::os::unix::fs::symlink(to, root.join(link)) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(error).context(link);
            }
            _ => {}
        }
    }
    Ok(root)
}
