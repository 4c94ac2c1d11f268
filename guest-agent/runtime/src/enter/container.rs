//! A container's first process.

use std::os::fd::{AsFd, OwnedFd};

use super::credentials::{Final, Streams, enter_cwd};
use super::report::Gate;
use super::terminal::Terminal;
use super::{Step, dev, hide, mounts, rootfs, set_oom_score, take, take_optional, user};
use crate::wire::Numbers;
use crate::{ContainerSpec, Namespace, StartError, sys};

/// Sets the container up and becomes its program; returns only on failure.
pub fn enter(spec: &ContainerSpec, fds: Numbers, filter: &[u8], gate: &Gate) -> Step<()> {
    let missing = || StartError::new("rootfs", crate::FailureKind::Kernel, "no root file system");
    let rootfs = take(fds.rootfs.ok_or_else(missing)?)?;
    let program = take_optional(fds.program)?;
    let stdio = [fds.stdin, fds.stdout, fds.stderr].map(take_optional);
    let binds = fds.mounts.into_iter().map(take).collect::<Step<Vec<_>>>()?;
    let (made_dev, nodes) = (take_optional(fds.dev)?, take_optional(fds.nodes)?);
    let others = fds
        .namespaces
        .into_iter()
        .map(take)
        .collect::<Step<Vec<_>>>()?;

    let maps_ids = spec.namespaces.maps_ids();
    if !maps_ids {
        set_oom_score(spec.process.oom_score_adj)?;
    }
    namespaces(spec, &others)?;
    drop(others);
    let null = if spec.masked_paths.is_empty() {
        None
    } else {
        Some(hide::machine_null()?)
    };
    let made = mounts::Made::new(spec, binds, made_dev)?;
    let nodes = nodes.map(|nodes| dev::detached_nodes(&nodes, &spec.devices));
    let nodes = nodes.transpose()?;
    let root = rootfs::enter(&rootfs)?;
    drop(rootfs);

    rustix::process::umask(rustix::fs::Mode::empty());
    let mounted = mounts::all(&root, spec, made)?;
    dev::nodes_elsewhere(&root, &spec.devices, nodes)?;
    if let Some(null) = &null {
        hide::mask(&root, &spec.masked_paths, null)?;
    }
    hide::read_only(&root, &spec.readonly_paths)?;
    let identity = user::resolve(&root, &spec.process)?;
    enter_cwd(&root, &spec.process.cwd, true)?;
    let dev = mounted.dev.as_ref().map(AsFd::as_fd);
    let streams = match spec.process.terminal {
        Some(size) => {
            let devpts = mounted.devpts.as_ref().map(AsFd::as_fd);
            let terminal = Terminal::new(&root, devpts, size)?;
            if let Some(dev) = dev {
                terminal.be_console(dev)?;
            }
            Streams::Terminal(terminal)
        }
        None => {
            let [stdin, stdout, stderr] = stdio;
            let or_null = |stream: Step<Option<OwnedFd>>| match stream? {
                Some(stream) => Ok(stream),
                None => dev::null(&root, dev),
            };
            Streams::Files([or_null(stdin)?, or_null(stdout)?, or_null(stderr)?])
        }
    };
    drop(mounted);
    if spec.read_only_root {
        hide::read_only_root(&root)?;
    }
    Final {
        root,
        process: &spec.process,
        identity,
        filter,
        maps_ids,
        program,
    }
    .run(streams, gate)
}

/// Joins, makes and fills the namespaces that the clone did not.
fn namespaces(spec: &ContainerSpec, others: &[OwnedFd]) -> Step<()> {
    let fail = |errno| StartError::kernel("namespace", errno, "enter the namespaces");
    let wanted = &spec.namespaces;
    // Those of processes and users were entered by the clone itself.
    for (namespace, kind) in [
        (wanted.net, libc::CLONE_NEWNET),
        (wanted.ipc, libc::CLONE_NEWIPC),
        (wanted.uts, libc::CLONE_NEWUTS),
        (wanted.cgroup, libc::CLONE_NEWCGROUP),
    ] {
        if let Namespace::Join(index) = namespace {
            let of = others
                .get(index)
                .ok_or_else(|| fail(rustix::io::Errno::BADF))?;
            sys::setns(of.as_fd(), kind).map_err(fail)?;
        }
    }
    if wanted.maps_ids() && wanted.ipc == Namespace::New {
        sys::unshare(libc::CLONE_NEWIPC).map_err(fail)?;
    }
    if mounts::wants_cgroup_namespace(spec) {
        sys::unshare(libc::CLONE_NEWCGROUP).map_err(fail)?;
    }
    if wanted.net == Namespace::New {
        sys::loopback_up()
            .map_err(|errno| StartError::kernel("network", errno, "bring loopback up"))?;
    }
    if wanted.uts == Namespace::New {
        let fail = |errno| StartError::kernel("hostname", errno, "sethostname");
        if !spec.hostname.is_empty() {
            rustix::system::sethostname(spec.hostname.as_bytes()).map_err(fail)?;
        }
        if !spec.domainname.is_empty() {
            rustix::system::setdomainname(spec.domainname.as_bytes()).map_err(fail)?;
        }
    }
    Ok(())
}
