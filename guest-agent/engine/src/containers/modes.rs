//! Namespace modes of a request (`PidMode`, `IpcMode`, …): what create refuses in Docker's words, and
//! which container a mode names.
//!
//! Called by create; [`super::namespaces`] turns what is left into descriptors at each start.

use crate::engine::Engine;
use crate::error::{Error, Kind, Result};
use crate::model::{Config, HostConfig};

/// The reference in `container:REFERENCE`.
pub(super) fn donor(mode: &str) -> Option<&str> {
    mode.strip_prefix("container:")
}

/// The host's network has no links.
pub(super) const WITH_HOST: &str = "conflicting options: host type networking can't be used with links. This would \
                                    result in undefined behavior";

/// Whether a network mode names a network that somebody made.
pub(super) fn is_user_defined(mode: &str) -> bool {
    donor(mode).is_none() && !["", "default", "bridge", "host", "none"].contains(&mode)
}

/// What the client's own request contradicts; the image's settings must not be in it yet.
pub(super) fn conflicts(config: &Config, host_config: &HostConfig) -> Result<()> {
    fn some<T>(list: Option<&Vec<T>>) -> bool {
        list.is_some_and(|list| !list.is_empty())
    }
    let hostname = !config.hostname.is_empty();
    let mode = host_config.network_mode.as_str();
    let text = if mode == "container" || donor(mode) == Some("") {
        "invalid network mode: invalid container format container:<name|id>"
    } else if donor(mode).is_some() {
        let published = host_config.port_bindings.as_ref();
        let exposed = config.exposed_ports.as_ref();
        if hostname {
            "conflicting options: hostname and the network mode"
        } else if some(host_config.links.as_ref()) {
            "conflicting options: container type network can't be used with links. This would \
             result in undefined behavior"
        } else if some(host_config.dns.as_ref()) {
            "conflicting options: dns and the network mode"
        } else if some(host_config.extra_hosts.as_ref()) {
            "conflicting options: custom host-to-IP mapping and the network mode"
        } else if published.is_some_and(|ports| !ports.is_empty()) || host_config.publish_all_ports
        {
            "conflicting options: port publishing and the container type network mode"
        } else if exposed.is_some_and(|ports| !ports.is_empty()) {
            "conflicting options: port exposing and the container type network mode"
        } else {
            return Ok(());
        }
    } else if hostname && host_config.uts_mode == "host" {
        "conflicting options: hostname and the UTS mode"
    } else if mode == "host" && some(host_config.links.as_ref()) {
        WITH_HOST
    } else {
        return Ok(());
    };
    Err(Error::invalid(text))
}

/// Refuses modes that do not exist.
pub(super) fn check(host_config: &HostConfig) -> Result<()> {
    let HostConfig {
        ipc_mode,
        pid_mode,
        uts_mode,
        cgroupns_mode,
        ..
    } = host_config;
    let ipc = ["", "private", "shareable", "none", "host"].contains(&ipc_mode.as_str())
        || donor(ipc_mode).is_some();
    let pid = ["", "host"].contains(&pid_mode.as_str())
        || donor(pid_mode).is_some_and(|reference| !reference.is_empty());
    let uts = ["", "host"].contains(&uts_mode.as_str());
    let cgroup = ["", "private", "host"].contains(&cgroupns_mode.as_str());
    let (what, mode) = match (ipc, pid, uts, cgroup) {
        (false, ..) => ("IPC", ipc_mode),
        (_, false, ..) => ("PID", pid_mode),
        (_, _, false, _) => ("UTS", uts_mode),
        (_, _, _, false) => ("cgroup namespace", cgroupns_mode),
        _ => return Ok(()),
    };
    Err(Error::invalid(format!("invalid {what} mode: {mode}")))
}

impl Engine {
    /// Replaces names of other containers by their ids, which survive a renaming.
    ///
    /// A container whose network is wanted may be made later; the others must be there.
    pub(super) fn settle_donors(&self, host_config: &mut HostConfig) -> Result<()> {
        for (mode, may_come_later) in [
            (&mut host_config.pid_mode, false),
            (&mut host_config.ipc_mode, false),
            (&mut host_config.network_mode, true),
        ] {
            let Some(reference) = donor(mode) else {
                continue;
            };
            match self.containers().find(reference) {
                Ok(other) => *mode = format!("container:{}", other.id()),
                Err(error) if may_come_later && error.kind() == Kind::NotFound => {}
                // Not as something that is not found: clients would pull the image and ask again.
                Err(error) => return Err(Error::invalid(error.text())),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(config: &str, host_config: &str) -> String {
        let config: Config = serde_json::from_str(config).unwrap();
        let host_config: HostConfig = serde_json::from_str(host_config).unwrap();
        conflicts(&config, &host_config)
            .and_then(|()| check(&host_config))
            .map_or_else(|error| error.text(), |()| "ok".into())
    }

    #[test]
    fn modes_that_do_not_exist_are_refused_in_dockers_words() {
        for (host, text) in [
            (
                r#"{"PidMode":"host","IpcMode":"none","UTSMode":"host","CgroupnsMode":"host"}"#,
                "ok",
            ),
            (r#"{"PidMode":"container:x","IpcMode":"container:x"}"#, "ok"),
            (r#"{"PidMode":"private"}"#, "invalid PID mode: private"),
            (
                r#"{"PidMode":"container:"}"#,
                "invalid PID mode: container:",
            ),
            (r#"{"IpcMode":"bogus"}"#, "invalid IPC mode: bogus"),
            (
                r#"{"UTSMode":"container:x"}"#,
                "invalid UTS mode: container:x",
            ),
            (
                r#"{"CgroupnsMode":"shared"}"#,
                "invalid cgroup namespace mode: shared",
            ),
        ] {
            assert_eq!(result("{}", host), text);
        }
    }

    #[test]
    fn settings_of_a_namespace_of_ones_own_contradict_a_shared_one() {
        let network = r#"{"NetworkMode":"container:x"}"#;
        let with = |more: &str| format!(r#"{{"NetworkMode":"container:x",{more}}}"#);
        for (config, host, text) in [
            ("{}", network.to_owned(), "ok"),
            (
                r#"{"Hostname":"h"}"#,
                network.to_owned(),
                "conflicting options: hostname and the network mode",
            ),
            (
                r#"{"Hostname":"h"}"#,
                r#"{"UTSMode":"host"}"#.to_owned(),
                "conflicting options: hostname and the UTS mode",
            ),
            (
                "{}",
                with(r#""Dns":["1.1.1.1"]"#),
                "conflicting options: dns and the network mode",
            ),
            (
                "{}",
                with(r#""ExtraHosts":["a:1.1.1.1"]"#),
                "conflicting options: custom host-to-IP mapping and the network mode",
            ),
            (
                "{}",
                with(r#""PublishAllPorts":true"#),
                "conflicting options: port publishing and the container type network mode",
            ),
            (
                r#"{"ExposedPorts":{"80/tcp":{}}}"#,
                network.to_owned(),
                "conflicting options: port exposing and the container type network mode",
            ),
            (
                "{}",
                r#"{"NetworkMode":"container:"}"#.to_owned(),
                "invalid network mode: invalid container format container:<name|id>",
            ),
        ] {
            assert_eq!(result(config, &host), text);
        }
    }
}
