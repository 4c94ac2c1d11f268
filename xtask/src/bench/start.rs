//! Time to be ready, time to run a container, memory while idle.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::Row;
use super::ours::Ours;
use super::peer::{self, Image};
use super::samples::Samples;
use crate::{packages, paths};

/// From the command to an engine that answers ping, with nothing running and the disk made.
///
/// # Errors
///
/// When either side does not come up.
pub fn boot(pairs: usize) -> Result<Vec<Row>> {
    let (ours, image, docker) = prepare()?;
    ours.lighter(&["up"])?; // makes the disk and unpacks the kernel, once
    ours.lighter(&["down"])?;
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for _ in 0..pairs {
        let start = Instant::now();
        ours.lighter(&["up"])?;
        docker_ok(&docker, &ours.socket(), &["version"])?;
        a.push(milliseconds(start));
        ours.lighter(&["down"])?;
        let start = Instant::now();
        let peer = image.start(&docker)?;
        b.push(milliseconds(start));
        drop(peer);
    }
    Ok(vec![row("command to engine ready", "ms", a, b)])
}

/// A warm `docker run --rm --network none busybox true`, by the same client.
///
/// # Errors
///
/// When either side does not come up or a run fails.
pub fn run(pairs: usize) -> Result<Vec<Row>> {
    let (ours, image, docker) = prepare()?;
    ours.lighter(&["up"])?;
    let peer = image.start(&docker)?;
    give_busybox(&docker, &ours.socket(), &peer.socket())?;
    let command = ["run", "--rm", "--network", "none", "busybox", "true"];
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for round in 0..=pairs {
        let start = Instant::now();
        docker_ok(&docker, &ours.socket(), &command)?;
        let first = milliseconds(start);
        let start = Instant::now();
        docker_ok(&docker, &peer.socket(), &command)?;
        // The first pair warms both and is not counted.
        if round > 0 {
            a.push(first);
            b.push(milliseconds(start));
        }
    }
    Ok(vec![row("docker run --rm … true", "ms", a, b)])
}

/// Memory the guest uses while idle: `MemTotal` less `MemAvailable`, as a container reads it.
///
/// # Errors
///
/// When either side does not come up.
pub fn memory() -> Result<Vec<Row>> {
    let (ours, image, docker) = prepare()?;
    ours.lighter(&["up"])?;
    let peer = image.start(&docker)?;
    give_busybox(&docker, &ours.socket(), &peer.socket())?;
    let used = |socket: &str| -> Result<f64> {
        let args = [
            "run",
            "--rm",
            "--network",
            "none",
            "busybox",
            "cat",
            "/proc/meminfo",
        ];
        let text = docker_ok(&docker, socket, &args)?;
        let field = |name: &str| -> Result<f64> {
            let line = text
                .lines()
                .find(|l| l.starts_with(name))
                .context("meminfo")?;
            Ok(line.split_whitespace().nth(1).context("meminfo")?.parse()?)
        };
        Ok((field("MemTotal:")? - field("MemAvailable:")?) / 1024.0)
    };
    Ok(vec![row(
        "guest memory, idle",
        "MiB",
        vec![used(&ours.socket())?],
        vec![used(&peer.socket())?],
    )])
}

fn row(name: &'static str, unit: &'static str, ours: Vec<f64>, peer: Vec<f64>) -> Row {
    Row {
        name,
        unit,
        ours: Samples::new(ours),
        peer: Samples::new(peer),
        peer_name: peer::NAME,
    }
}

fn prepare() -> Result<(Ours, Image, PathBuf)> {
    let clients = packages::unpacked(&paths::cache(), "sid", crate::test::CLIENTS)?;
    Ok((
        Ours::new()?,
        Image::ensure()?,
        clients.join("usr/bin/docker"),
    ))
}

/// The built-in image under the name `busybox` on both sides.
fn give_busybox(docker: &Path, ours: &str, peer: &str) -> Result<()> {
    docker_ok(docker, ours, &["tag", "lighter/hello", "busybox"])?;
    let archive = paths::cache().join("peer/busybox.tar");
    let name = archive.display().to_string();
    docker_ok(docker, ours, &["save", "-o", &name, "busybox"])?;
    docker_ok(docker, peer, &["load", "-q", "-i", &name])?;
    Ok(())
}

fn docker_ok(docker: &Path, socket: &str, args: &[&str]) -> Result<String> {
    let out = Command::new(docker)
        .args(["-H", socket])
        .args(args)
        .env("DOCKER_CONFIG", "/nonexistent")
        .stdin(Stdio::null())
        .output()
        .context("docker")?;
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    ensure!(out.status.success(), "docker {args:?} on {socket}: {said}");
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

fn milliseconds(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1000.0
}
