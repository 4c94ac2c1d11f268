//! From a record to what the launcher is to build.

use std::collections::BTreeMap;
use std::os::linux::fs::MetadataExt as _;
use std::path::Path;

use lighter_runtime::{
    BlkioThrottle, Capabilities, ContainerSpec, Device, DeviceAccess, DeviceKind, DeviceRule,
    FailureKind, MountKind, Operation, ProcessSpec, Resources, Rlimit, RlimitResource, StartError,
    TerminalSize, caps,
};
use rustix::fs::{major, minor};

use super::{Record, validate};
use crate::error::{Error, Kind, Result};
use crate::model::{BlkioThrottleDevice, HostConfig};

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The specification without mounts of the user's and namespaces, which need descriptors.
pub(super) fn build(record: &Record, linked: &[String]) -> Result<ContainerSpec> {
    let (config, host_config) = (&record.config, &record.host_config);
    let mut spec = ContainerSpec::new(&record.id, process(record, linked)?);
    spec.hostname.clone_from(&config.hostname);
    spec.domainname.clone_from(&config.domainname);
    spec.init = host_config.init.unwrap_or(false) && host_config.pid_mode.is_empty();
    spec.read_only_root = host_config.readonly_rootfs;
    spec.masked_paths = host_config.masked_paths.clone().unwrap_or_default();
    spec.readonly_paths = host_config.readonly_paths.clone().unwrap_or_default();
    if !matches!(host_config.network_mode.as_str(), "bridge" | "none") {
        // Defaults for a namespace of its own; one that is shared has its owner's.
        spec.sysctls.clear();
    }
    spec.sysctls
        .extend(host_config.sysctls.clone().unwrap_or_default());
    check_sysctls(host_config)?;
    let shm = u64::try_from(host_config.shm_size).unwrap_or(0);
    for mount in &mut spec.mounts {
        if let MountKind::Shm { size } = &mut mount.kind {
            *size = shm;
        }
    }
    if host_config.ipc_mode == "none" {
        spec.mounts
            .retain(|mount| !matches!(mount.kind, MountKind::Shm { .. }));
    }
    spec.cgroup_parent = parent(&host_config.cgroup_parent);
    spec.resources = resources(host_config)?;
    devices(&mut spec, host_config)?;
    Ok(spec)
}

/// The containers' "host" network is a namespace the runtime joins as any other: that it is everybody's is known here.
fn check_sysctls(host_config: &HostConfig) -> Result<()> {
    let names = host_config.sysctls.iter().flatten().map(|(name, _)| name);
    let own = |name: &&String| name.starts_with("net.") || name.starts_with("net/");
    match names.into_iter().find(own) {
        Some(name) if host_config.network_mode == "host" => {
            let text = format!("sysctl \"{name}\" not allowed in host network namespace");
            let refused = StartError::new("check", FailureKind::Refused, text);
            Err(Error::new(
                Kind::Internal,
                refused.docker_text(Operation::Create),
            ))
        }
        _ => Ok(()),
    }
}

/// The parent of a container's group, below that of all containers: nothing leads out of it.
fn parent(path: &str) -> Option<String> {
    let mut parts = Vec::new();
    for part in path.split('/').filter(|part| !matches!(*part, "" | ".")) {
        if part == ".." {
            parts.pop();
        } else {
            parts.push(part);
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

fn process(record: &Record, linked: &[String]) -> Result<ProcessSpec> {
    let (config, host_config) = (&record.config, &record.host_config);
    let words = std::iter::once(&record.path).chain(&record.args).cloned();
    let mut process = ProcessSpec::new(words);
    process.env = environment(record, record.config.tty, linked);
    process.cwd = if config.working_dir.is_empty() {
        "/".into()
    } else {
        config.working_dir.clone()
    };
    process.user.clone_from(&config.user);
    process.group_add = host_config.group_add.clone().unwrap_or_default();
    process.terminal = config.tty.then(|| {
        let (rows, cols) = host_config.console_size;
        let small = |size: u32| u16::try_from(size).unwrap_or(0);
        TerminalSize {
            rows: small(rows),
            cols: small(cols),
        }
    });
    process.capabilities = capabilities(host_config, host_config.privileged)?;
    let security = validate::security_options(host_config)?;
    process.seccomp = security.seccomp;
    process.no_new_privileges = security.no_new_privileges;
    process.rlimits = rlimits(host_config)?;
    process.oom_score_adj = host_config.oom_score_adj;
    Ok(process)
}

pub(crate) fn capabilities(host_config: &HostConfig, privileged: bool) -> Result<Capabilities> {
    let list = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
    caps::tweak(
        &list(&host_config.cap_add),
        &list(&host_config.cap_drop),
        privileged,
    )
    .map(Capabilities::docker)
    .map_err(|error| Error::invalid(error.to_string()))
}

/// The container's variables over those every container has and those of its links.
pub(crate) fn environment(record: &Record, terminal: bool, linked: &[String]) -> Vec<String> {
    let mut base = vec![
        PATH.to_owned(),
        format!("HOSTNAME={}", record.config.hostname),
    ];
    if terminal {
        base.push("TERM=xterm".into());
    }
    base.extend_from_slice(linked);
    override_env(&base, record.config.env.as_deref().unwrap_or_default())
}

/// `own` over `base`: a name is there once, and one without `=` is taken away.
pub(crate) fn override_env(base: &[String], own: &[String]) -> Vec<String> {
    let mut order: Vec<String> = Vec::new();
    let mut values: BTreeMap<String, Option<String>> = BTreeMap::new();
    for pair in base.iter().chain(own) {
        let (name, value) = match pair.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (pair.as_str(), None),
        };
        if !values.contains_key(name) {
            order.push(name.to_owned());
        }
        values.insert(name.to_owned(), value);
    }
    order
        .into_iter()
        .filter_map(|name| {
            let value = values.remove(&name)??;
            Some(format!("{name}={value}"))
        })
        .collect()
}

pub(crate) fn rlimits(host_config: &HostConfig) -> Result<Vec<Rlimit>> {
    let limits = host_config.ulimits.iter().flatten().map(|limit| {
        let resource = RlimitResource::from_name(&limit.name)
            .ok_or_else(|| Error::invalid(format!("invalid ulimit type: {}", limit.name)))?;
        Ok(Rlimit {
            resource,
            soft: u64::try_from(limit.soft).ok(),
            hard: u64::try_from(limit.hard).ok(),
        })
    });
    limits.collect()
}

/// The limits of a container's cgroup.
pub(crate) fn resources(host_config: &HostConfig) -> Result<Resources> {
    let set = |value: i64| (value != 0).then_some(value);
    let positive = |value: i64| u64::try_from(value).ok().filter(|value| *value > 0);
    let word = |text: &String| (!text.is_empty()).then(|| text.clone());
    let mut resources = Resources {
        memory: set(host_config.memory),
        memory_swap: set(host_config.memory_swap),
        memory_reservation: set(host_config.memory_reservation),
        cpu_quota: set(host_config.cpu_quota),
        cpu_period: positive(host_config.cpu_period),
        nano_cpus: positive(host_config.nano_cpus),
        cpu_shares: positive(host_config.cpu_shares),
        cpuset_cpus: word(&host_config.cpuset_cpus),
        cpuset_mems: word(&host_config.cpuset_mems),
        pids: host_config.pids_limit,
        blkio_weight: (host_config.blkio_weight > 0).then_some(host_config.blkio_weight),
        blkio_throttle: Vec::new(),
    };
    let mut limits: BTreeMap<(u32, u32), BlkioThrottle> = BTreeMap::new();
    let mut add =
        |list: &Option<Vec<BlkioThrottleDevice>>, put: fn(&mut BlkioThrottle, u64)| -> Result<()> {
            for device in list.iter().flatten() {
                let (major, minor) = numbers(&device.path)?;
                let empty = BlkioThrottle {
                    major,
                    minor,
                    ..BlkioThrottle::default()
                };
                put(limits.entry((major, minor)).or_insert(empty), device.rate);
            }
            Ok(())
        };
    add(&host_config.blkio_device_read_bps, |limit, rate| {
        limit.read_bps = Some(rate);
    })?;
    add(&host_config.blkio_device_write_bps, |limit, rate| {
        limit.write_bps = Some(rate);
    })?;
    add(&host_config.blkio_device_read_iops, |limit, rate| {
        limit.read_iops = Some(rate);
    })?;
    add(&host_config.blkio_device_write_iops, |limit, rate| {
        limit.write_iops = Some(rate);
    })?;
    resources.blkio_throttle = limits.into_values().collect();
    Ok(resources)
}

fn numbers(path: &str) -> Result<(u32, u32)> {
    let metadata = std::fs::metadata(path)
        .map_err(|error| Error::invalid(format!("stat {path}")).with_source(error))?;
    Ok((major(metadata.st_rdev()), minor(metadata.st_rdev())))
}

fn devices(spec: &mut ContainerSpec, host_config: &HostConfig) -> Result<()> {
    for rule in host_config.device_cgroup_rules.iter().flatten() {
        let rule = DeviceRule::parse(rule).ok_or_else(|| {
            Error::invalid(format!("invalid device cgroup rule format: '{rule}'"))
        })?;
        spec.device_rules.push(rule);
    }
    for mapping in host_config.devices.iter().flatten() {
        let inside = if mapping.path_in_container.is_empty() {
            &mapping.path_on_host
        } else {
            &mapping.path_in_container
        };
        let letters = match mapping.cgroup_permissions.as_str() {
            "" => "rwm",
            letters => letters,
        };
        let access = DeviceAccess::parse(letters)
            .ok_or_else(|| Error::invalid(format!("invalid device mode: {letters}")))?;
        add_device(spec, Path::new(&mapping.path_on_host), inside, access)?;
    }
    Ok(())
}

/// A device, or every device below a directory.
fn add_device(
    spec: &mut ContainerSpec,
    source: &Path,
    inside: &str,
    access: DeviceAccess,
) -> Result<()> {
    let gather = |error: std::io::Error| {
        Error::invalid(format!(
            "error gathering device information while adding custom device \"{}\"",
            source.display()
        ))
        .with_source(error)
    };
    let no_device = || gather(std::io::Error::other("not a device node"));
    // The machine's own files are no user's business, and none of them is a device.
    if !source.starts_with("/dev") {
        return Err(no_device());
    }
    let metadata = std::fs::metadata(source).map_err(gather)?;
    let before = spec.devices.len();
    if metadata.is_dir() {
        add_below(spec, source, inside, access);
    } else if let Some(device) = device(&metadata, inside) {
        push_device(spec, device, access);
    }
    if spec.devices.len() == before {
        return Err(no_device());
    }
    Ok(())
}

/// Every device below a directory. Links are not followed, and what cannot be read is left out.
fn add_below(spec: &mut ContainerSpec, source: &Path, inside: &str, access: DeviceAccess) {
    for entry in std::fs::read_dir(source).into_iter().flatten().flatten() {
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        let below = format!("{inside}/{}", entry.file_name().to_string_lossy());
        if metadata.is_dir() {
            add_below(spec, &entry.path(), &below, access);
        } else if let Some(device) = device(&metadata, &below) {
            push_device(spec, device, access);
        }
    }
}

fn device(metadata: &std::fs::Metadata, inside: &str) -> Option<Device> {
    let mode = metadata.st_mode();
    let kind = match mode & 0o170_000 {
        0o020_000 => DeviceKind::Char,
        0o060_000 => DeviceKind::Block,
        _ => return None,
    };
    Some(Device {
        path: inside.to_owned(),
        kind,
        major: major(metadata.st_rdev()),
        minor: minor(metadata.st_rdev()),
        mode: mode & 0o7777,
        uid: metadata.st_uid(),
        gid: metadata.st_gid(),
    })
}

fn push_device(spec: &mut ContainerSpec, device: Device, access: DeviceAccess) {
    spec.device_rules.push(DeviceRule {
        allow: true,
        kind: Some(device.kind),
        major: Some(device.major),
        minor: Some(device.minor),
        access,
    });
    spec.devices.push(device);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_stays_below_that_of_all_containers() {
        assert_eq!(parent("/a//b/./c"), Some("a/b/c".into()));
        assert_eq!(parent("../../a/../b"), Some("b".into()));
        assert_eq!(parent("/.."), None);
        assert_eq!(parent(""), None);
    }

    #[test]
    fn own_variables_win_and_may_take_away() {
        let base = ["PATH=/bin", "HOSTNAME=h", "X=1"]
            .map(str::to_owned)
            .to_vec();
        let own = ["PATH=/own", "X", "Y="].map(str::to_owned);
        assert_eq!(override_env(&base, &own), ["PATH=/own", "HOSTNAME=h", "Y="]);
    }
}
