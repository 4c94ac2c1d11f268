//! The usual way into a Linux machine: dockerd in one of the same kernel and size, whose proxy carries what QEMU's
//! user network lets in. Its filter of packets is left out, with which no packet would pass the proxy.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::super::sides::Tools;
use super::guest::{Guest, Root};
use super::program::PORT;
use crate::{inner_image, paths};

/// Where dockerd listens in the machine.
const API: u16 = 2375;
/// Longest until it answers.
const LIMIT: Duration = Duration::from_secs(120);

/// The root is in memory, from which nothing pivots; dockerd's data are where overlay can be.
const SCRIPT: &str = "ip address add 10.0.2.15/24 dev eth0\nip link set eth0 up\n\
    ip route add default via 10.0.2.2\nmount -t cgroup2 cgroup /sys/fs/cgroup\nmkdir -p /dev/pts /dev/shm\n\
    mount -t devpts devpts /dev/pts\nmount -t tmpfs tmpfs /run\nmount -t tmpfs tmpfs /var/lib/docker\n\
    mount -t tmpfs tmpfs /tmp\nDOCKER_RAMDISK=1 dockerd --host tcp://0.0.0.0:2375 --tls=false --iptables=false \
    --ip6tables=false --log-level error >/dev/null 2>&1 &\n";

/// The machine.
pub struct Proxied {
    guest: Guest,
    api: u16,
    published: u16,
}

impl Proxied {
    /// Starts it in this thread's network, until dockerd answers.
    ///
    /// # Errors
    ///
    /// When its root cannot be made, or it does not come up.
    pub fn start(tools: &Tools, program: &Path) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let clients = tools.folder().join("../..");
        inner_image::files(&paths::cache(), &clients, folder.path())?;
        let proxy = "usr/sbin/docker-proxy";
        fs::copy(clients.join(proxy), folder.path().join(proxy)).context(proxy)?;
        fs::create_dir_all(folder.path().join("var/lib/docker"))?;
        let (api, published) = (free_port()?, free_port()?);
        let root = Root {
            folder: Some(folder.path().to_owned()),
            script: SCRIPT.to_owned(),
        };
        let netdev = format!(
            "user,id=n0,hostfwd=tcp:127.0.0.1:{api}-:{API},hostfwd=tcp:127.0.0.1:{published}-:{PORT}"
        );
        let card = "virtio-net-pci,netdev=n0,romfile=,mrg_rxbuf=on,rx_queue_size=1024";
        let cards = ["-netdev", &netdev, "-device", card].map(str::to_owned);
        let guest = Guest::start(&tools.built.kernel(), program, &root, &cards)?;
        let proxied = Self {
            guest,
            api,
            published,
        };
        let limit = Instant::now() + LIMIT;
        while let Err(error) = tools.docker(&proxied.socket(), &["version"]) {
            if Instant::now() > limit {
                bail!("dockerd in a machine does not answer: {error:#}");
            }
            // It has no event for being ready.
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(proxied)
    }

    /// Where docker clients reach it.
    #[must_use]
    pub fn socket(&self) -> String {
        format!("tcp://127.0.0.1:{}", self.api)
    }

    /// Where the container's port is on the host.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.published
    }

    /// QEMU's process.
    #[must_use]
    pub fn process(&self) -> u32 {
        self.guest.process()
    }
}

/// One that nobody has now; nobody else is in this network.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
