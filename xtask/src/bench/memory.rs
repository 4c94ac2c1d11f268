//! Memory while idle: of the guest, of the engine in it, and of the host's processes.

use anyhow::{Context, Result};

use super::Row;
use super::flush::Flush;
use super::peer::{self, Image};
use super::processes;
use super::samples::Samples;
use super::sides::{Sides, Tools};

/// Sums the Pss of the processes of these names, as a container that shares the machine's process ids sees them.
const PSS: &str = r#"for p in /proc/[0-9]*; do read -r name < $p/comm; case " $NAMES " in *" $name "*)
 cat $p/smaps_rollup;; esac; done 2>/dev/null | awk '/^Pss:/ { kib += $2 } END { print kib + 0 }'"#;

/// `MemTotal` less `MemAvailable` as a container reads them; the engines' Pss in the guest; the host processes' Pss
/// without the guest's memory.
///
/// # Errors
///
/// When either side does not come up.
pub fn memory(pairs: usize, as_built: bool) -> Result<Vec<Row>> {
    let tools = Tools::ensure(as_built)?;
    let sides = Sides::start(&tools, &Image::ensure()?, &Flush::own())?;
    let (ours, peer) = (sides.ours.socket(), sides.peer.socket());
    let mut taken = [const { Vec::new() }; 6];
    for _ in 0..pairs {
        let [guest_a, guest_b, engine_a, engine_b, host_a, host_b] = &mut taken;
        guest_a.push(used(&tools, &ours)?);
        guest_b.push(used(&tools, &peer)?);
        engine_a.push(engine(&tools, &ours, "init lighter-init lighter-agent")?);
        engine_b.push(engine(&tools, &peer, "dockerd containerd")?);
        host_a.push(processes::without_guest_memory(&sides.ours.processes()?)?);
        host_b.push(processes::without_guest_memory(&[sides.peer.process()])?);
    }
    let [guest_a, guest_b, engine_a, engine_b, host_a, host_b] = taken;
    Ok(vec![
        row(
            "memory",
            "guest: MemTotal − MemAvailable, idle",
            guest_a,
            guest_b,
            peer::NAME,
        ),
        row(
            "memory/engine",
            "Pss in the guest: init and agent; dockerd and containerd",
            engine_a,
            engine_b,
            peer::NAME,
        ),
        row(
            "memory/host",
            "Pss on the host less the guest's memory: daemon, machine, files, QEMU; QEMU",
            host_a,
            host_b,
            "QEMU of a Debian VM",
        ),
    ])
}

fn used(tools: &Tools, socket: &str) -> Result<f64> {
    let args = [
        "run",
        "--rm",
        "--network",
        "none",
        "busybox",
        "cat",
        "/proc/meminfo",
    ];
    let text = tools.docker(socket, &args)?;
    let field = |name: &str| -> Result<f64> {
        let line = text
            .lines()
            .find(|l| l.starts_with(name))
            .context("meminfo")?;
        Ok(line.split_whitespace().nth(1).context("meminfo")?.parse()?)
    };
    Ok((field("MemTotal:")? - field("MemAvailable:")?) / 1024.0)
}

fn engine(tools: &Tools, socket: &str, names: &str) -> Result<f64> {
    let names = format!("NAMES={names}");
    let args = [
        "run",
        "--rm",
        "--network",
        "none",
        "--privileged",
        "--pid=host",
        "-e",
        &names,
        "busybox",
        "sh",
        "-c",
        PSS,
    ];
    let kib: f64 = tools.docker(socket, &args)?.trim().parse()?;
    Ok(kib / 1024.0)
}

fn row(
    name: &'static str,
    what: &'static str,
    ours: Vec<f64>,
    peer: Vec<f64>,
    peer_name: &'static str,
) -> Row {
    Row {
        name,
        what,
        unit: "MiB",
        ours: Samples::new(ours),
        peer: Samples::new(peer),
        peer_name,
        floor: None,
    }
}
