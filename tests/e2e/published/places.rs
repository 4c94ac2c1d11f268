//! A host in a network of its own, and a neighbour of it.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use lighter_tests::{Host, env, network_namespace};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// The host's address on the neighbour's network, and the neighbour's.
pub const HOST: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
pub const NEIGHBOUR: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 9));
pub const HOST_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
pub const NEIGHBOUR_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9));
pub const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
pub const LOOPBACK_V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// How long whoever is asked may take.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A host, and the two networks.
pub struct Places {
    pub host: Host,
    home: File,
    neighbour: File,
}

/// Where somebody is.
#[derive(Clone, Copy, Debug)]
pub enum Who {
    /// A program of the host.
    Own,
    /// Another computer.
    Neighbour,
}

impl Places {
    /// One for all tests of this file; nothing (and a counted skip) where the programs are not there.
    pub fn shared(test: &str) -> Option<&'static Self> {
        static SHARED: OnceLock<Option<Places>> = OnceLock::new();
        let shared = SHARED.get_or_init(|| {
            let places = Self::new()?;
            places.host.end_with_tests();
            Some(places)
        });
        if shared.is_none() {
            env::skip(
                test,
                "the programs under test are not there: run `cargo xtask test`",
            );
        }
        shared.as_ref()
    }

    /// A host that is up, with an image named `busybox`.
    pub fn new() -> Option<Self> {
        let host = Host::new()?;
        let places = Self {
            host,
            home: network_namespace(),
            neighbour: network_namespace(),
        };
        let script = "nsenter --net=$1 ip link add n0 type veth peer name n1 netns $2 && \
            nsenter --net=$1 sh -ec 'ip link set lo up; ip address add 192.0.2.1/24 dev n0; \
              ip address add 2001:db8::1/64 dev n0 nodad; ip link set n0 up' && \
            nsenter --net=$2 sh -ec 'ip link set lo up; ip address add 192.0.2.9/24 dev n1; \
              ip address add 2001:db8::9/64 dev n1 nodad; ip link set n1 up'";
        let done = Command::new("sh")
            .args(["-c", script, "sh"])
            .arg(path(&places.home))
            .arg(path(&places.neighbour))
            .status();
        assert!(done.expect("sh starts").success(), "no networks");
        places.up();
        places
            .host
            .docker(&["tag", "lighter/hello", "busybox"])
            .ok();
        Some(places)
    }

    /// Starts the host's service where the host is.
    pub fn up(&self) {
        let lighter = self.host.lighter_command();
        let mut up = Command::new("nsenter");
        up.arg(format!("--net={}", path(&self.home).display()));
        up.arg(lighter.get_program()).arg("up");
        for (name, value) in lighter.get_envs() {
            match value {
                Some(value) => up.env(name, value),
                None => up.env_remove(name),
            };
        }
        let up = up.output().expect("started");
        let said = String::from_utf8_lossy(&up.stderr);
        assert!(up.status.success(), "{said}");
    }

    /// Does something there.
    pub fn at<T: Send + 'static>(&self, who: Who, work: impl FnOnce() -> T + Send + 'static) -> T {
        let namespace = match who {
            Who::Own => &self.home,
            Who::Neighbour => &self.neighbour,
        };
        let namespace = namespace.try_clone().expect("a descriptor");
        let there = std::thread::spawn(move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .expect("entered");
            work()
        });
        there.join().expect("done")
    }

    /// Connects from there.
    pub fn connect(&self, who: Who, to: impl Into<SocketAddr>) -> std::io::Result<TcpStream> {
        let to = to.into();
        let stream = self.at(who, move || TcpStream::connect_timeout(&to, PATIENCE))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(stream)
    }
}

/// By which other programs find it.
fn path(namespace: &File) -> PathBuf {
    format!("/proc/{}/fd/{}", std::process::id(), namespace.as_raw_fd()).into()
}
