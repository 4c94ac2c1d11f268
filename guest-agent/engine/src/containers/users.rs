//! User namespaces of containers: who has one, and whose the files are that are mounted in it.
//!
//! Called by create and start. With the setting `userns-remap` every container has one in which the
//! ids from 0 are unprivileged outside; what the disk holds stays as it is and is mapped where it
//! is mounted, so a container may run with one today and without one tomorrow.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use lighter_runtime::mounts::{Source, bind, map_ids};
use lighter_runtime::{ContainerSpec, MountKind, Namespace};
use rustix::io::Errno;

use crate::config::Settings;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::model::HostConfig;
use crate::mounts::resolve::Owners;

/// Whether a container is to have a user namespace of its own.
pub(super) fn wanted(host_config: &HostConfig, settings: &Settings) -> bool {
    settings.userns_remap && host_config.userns_mode != "host"
}

/// Refuses what a container with a user namespace cannot have, in Docker's words.
pub(super) fn check(host_config: &HostConfig, settings: &Settings) -> Result<()> {
    if !wanted(host_config, settings) {
        return Ok(());
    }
    Err(Error::invalid(if host_config.privileged {
        "privileged mode is incompatible with user namespaces.  You must run the container in the \
         host namespace when running privileged mode"
    } else if host_config.network_mode == "host" {
        "cannot share the host's network namespace when user namespaces are enabled"
    } else if host_config.pid_mode == "host" {
        "cannot share the host PID namespace when user namespaces are enabled"
    } else {
        return Ok(());
    }))
}

/// Takes out of `spec` what a container with a user namespace cannot set: no group beyond those of
/// the namespace has a name in it.
pub(super) fn adapt(spec: &mut ContainerSpec, host_config: &HostConfig) {
    const PING: &str = "net.ipv4.ping_group_range";
    let own = host_config.sysctls.as_ref();
    if !own.is_some_and(|own| own.contains_key(PING)) {
        spec.sysctls.remove(PING);
    }
}

impl Engine {
    /// The machine's tree of groups for a container that is to see all of it, which nobody in a user
    /// namespace can mount.
    pub(super) fn bind_groups(
        &self,
        spec: &mut ContainerSpec,
        fds: &mut Vec<OwnedFd>,
    ) -> Result<()> {
        const CGROUP2: u64 = 0x6367_7270;
        if spec.namespaces.cgroup != Namespace::Host {
            return Ok(());
        }
        let groups = self.launcher().cgroups().path();
        let of_groups = |path: &&Path| {
            rustix::fs::statfs(*path).is_ok_and(|fs| u64::try_from(fs.f_type) == Ok(CGROUP2))
        };
        let top = groups.ancestors().take_while(of_groups).last();
        for mount in &mut spec.mounts {
            if mount.kind == MountKind::Cgroup {
                let fd = bind(Source::Path(top.unwrap_or(groups)), false);
                let fd = fd.map_err(|e| Error::internal("the groups cannot be bound", e))?;
                mount.kind = MountKind::Fd(fds.len());
                mount.source = "cgroup".into();
                fds.push(fd);
            }
        }
        Ok(())
    }
}

/// Makes the files of a mount belong to the users of the container, if it has a user namespace.
pub(super) fn map(
    mount: BorrowedFd<'_>,
    owners: Owners,
    user: Option<BorrowedFd<'_>>,
) -> Result<()> {
    let (Some(user), Owners::Inside | Owners::InsideIfPossible) = (user, owners) else {
        return Ok(());
    };
    match map_ids(mount, true, user) {
        // They are shown as nobody's then, and may do what everybody may, as with dockerd.
        Err(error) if owners == Owners::InsideIfPossible && error.errno == Errno::INVAL => Ok(()),
        other => other.map_err(|error| {
            Error::internal(
                "the files of a mount cannot be given to the container",
                error,
            )
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(host_config: &str, userns_remap: bool) -> String {
        let host_config: HostConfig = serde_json::from_str(host_config).unwrap();
        let settings = Settings {
            userns_remap,
            ..Settings::default()
        };
        check(&host_config, &settings).map_or_else(|error| error.text(), |()| "ok".into())
    }

    #[test]
    fn what_takes_the_machines_own_users_is_refused_without_them() {
        for (host_config, text) in [
            (r#"{"Privileged":true}"#, "privileged mode is incompatible"),
            (r#"{"NetworkMode":"host"}"#, "host's network namespace"),
            (r#"{"PidMode":"host"}"#, "host PID namespace"),
            (r#"{"PidMode":"host","UsernsMode":"x"}"#, "host PID"),
        ] {
            assert!(said(host_config, true).contains(text), "{host_config}");
            assert_eq!(said(host_config, false), "ok");
            let own = host_config.replacen('{', r#"{"UsernsMode":"host","#, 1);
            if !host_config.contains("Userns") {
                assert_eq!(said(&own, true), "ok");
            }
        }
        for mode in ["UTSMode", "IpcMode", "CgroupnsMode"] {
            assert_eq!(said(&format!(r#"{{"{mode}":"host"}}"#), true), "ok");
        }
    }
}
