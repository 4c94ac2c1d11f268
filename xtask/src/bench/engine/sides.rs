//! The engines that are measured, each running with the same image.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use lighter_tests::registry::Entry;
use lighter_tests::{Reference, Registry};

use super::super::flush::scratch;
use super::super::processes;
use super::native::Native;
use super::podman::Podman;
use super::{api, busybox};
use crate::bench::sides::milliseconds;
use crate::packages::{self, package};
use crate::{image, paths};

/// One engine, as a client sees it.
pub struct Daemon {
    /// As a row names it.
    pub name: &'static str,
    /// Its API.
    pub socket: PathBuf,
    /// A process that has its mount namespace, and those of no container.
    pub process: u32,
    /// What runs a container from the command line: the words before `run`.
    client: Vec<String>,
}

impl Daemon {
    /// How long `run --rm` of `true` in this network takes from the command line, in milliseconds.
    ///
    /// # Errors
    ///
    /// When it fails.
    pub fn run_by_client(&self, network: &str) -> Result<f64> {
        let start = Instant::now();
        let out = Command::new(&self.client[0])
            .args(&self.client[1..])
            .args(["run", "--rm", "--network", network, "busybox", "true"])
            .env("DOCKER_CONFIG", "/nonexistent")
            .stdin(Stdio::null())
            .output()
            .context("the client")?;
        let time = milliseconds(start);
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        ensure!(out.status.success(), "run by {}: {said}", self.name);
        Ok(time)
    }

    /// The Pss of its processes in MiB, those that it has for each container too.
    ///
    /// # Errors
    ///
    /// When /proc does not tell.
    pub fn memory(&self) -> Result<f64> {
        processes::of_mount_namespace(self.process)
    }
}

/// All engines. Dropped, they end.
pub struct Sides {
    daemons: Vec<Daemon>,
    _ours: Native,
    _dockerd: Reference,
    _podman: Option<Podman>,
    registry: Registry,
}

impl Sides {
    /// Builds ours (or takes it as built), fetches the others and starts all.
    ///
    /// # Errors
    ///
    /// When ours or dockerd does not come up. Without podman its rows are left out.
    pub fn start(as_built: bool) -> Result<Self> {
        packages::ensure(&[
            package("busybox-static"),
            package("runc"),
            package("skopeo"),
        ])?;
        let root = packages::unpacked(&paths::cache(), "sid", crate::test::CLIENTS)?;
        let tools = root.join("usr/bin");
        let docker = tools.join("docker");
        let programs = image::guest_programs(as_built)?;
        let ours = Native::start(&programs)?;
        let dockerd = Reference::with_second_groups(&tools, docker.clone())
            .context("dockerd does not start here")?;
        let mut registry = Registry::with(&tools, &Entry::Open).context("no registry")?;
        let podman = Podman::start(&registry.host())
            .inspect_err(|error| eprintln!("without podman: {error:#}"));
        let podman = podman.ok();
        let by_docker = |socket: &Path| {
            let words = [docker.as_path(), Path::new("-H")].map(|word| word.display().to_string());
            [&words[..], &[format!("unix://{}", socket.display())]].concat()
        };
        let mut daemons = vec![
            Daemon {
                name: "ours",
                client: by_docker(&ours.socket()),
                socket: ours.socket(),
                process: ours.init()?,
            },
            Daemon {
                name: "dockerd 28.5 with runc",
                client: by_docker(&dockerd.socket_path()),
                socket: dockerd.socket_path(),
                process: dockerd.process(),
            },
        ];
        if let Some(podman) = &podman {
            daemons.push(Daemon {
                name: "podman 5 with crun",
                client: podman.client(),
                socket: podman.socket(),
                process: podman.process(),
            });
        }
        for daemon in &daemons {
            registry.serve_in_network_of(daemon.process, &tools);
        }
        let folder = scratch()?;
        let archive = folder.path().join("busybox.tar");
        busybox::write(&archive)?;
        for daemon in &daemons {
            api::load(&daemon.socket, &archive).context(daemon.name)?;
        }
        Ok(Self {
            daemons,
            _ours: ours,
            _dockerd: dockerd,
            _podman: podman,
            registry,
        })
    }

    /// A registry that is `localhost` to every side, and to this program.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Ours and dockerd: podman's networks need programs that are not in its root.
    #[must_use]
    pub fn dockers(&self) -> Vec<&Daemon> {
        self.daemons.iter().take(2).collect()
    }

    /// Ours first.
    #[must_use]
    pub fn all(&self) -> Vec<&Daemon> {
        self.daemons.iter().collect()
    }
}
