//! Which namespaces a container has for itself, shares with the machine or with another container.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use lighter_runtime::{Namespace, Namespaces};

use super::{Live, Record, modes, users};
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};

/// Namespaces and the descriptors of those that are joined.
pub(super) struct Plan {
    pub(super) namespaces: Namespaces,
    pub(super) fds: Vec<OwnedFd>,
}

impl Plan {
    /// The user namespace, if it is not the machine's.
    pub(super) fn user(&self) -> Option<BorrowedFd<'_>> {
        match self.namespaces.user {
            Namespace::Join(index) => self.fds.get(index).map(AsFd::as_fd),
            _ => None,
        }
    }
}

/// Whose user namespace a container has.
enum User {
    Machine,
    Own,
    Of(Arc<Live>),
}

impl Engine {
    pub(super) fn plan_namespaces(&self, record: &Record) -> Result<Plan> {
        let host_config = &record.host_config;
        let mut plan = Plan {
            namespaces: Namespaces::default(),
            fds: Vec::new(),
        };
        let mut user = match users::wanted(host_config, &self.config().settings) {
            true => User::Own,
            false => User::Machine,
        };
        plan.namespaces.pid = match host_config.pid_mode.as_str() {
            "" => Namespace::New,
            "host" => Namespace::Host,
            mode => self.join(&mut plan, &mut user, "PID", mode)?,
        };
        plan.namespaces.ipc = match host_config.ipc_mode.as_str() {
            "" | "private" | "shareable" | "none" => Namespace::New,
            "host" => Namespace::Host,
            mode => self.join(&mut plan, &mut user, "IPC", mode)?,
        };
        plan.namespaces.uts = match host_config.uts_mode.as_str() {
            "" => Namespace::New,
            "host" => Namespace::Host,
            mode => return Err(Error::invalid(format!("invalid UTS mode: {mode}"))),
        };
        plan.namespaces.cgroup = match host_config.cgroupns_mode.as_str() {
            "" | "private" => Namespace::New,
            "host" => Namespace::Host,
            mode => {
                return Err(Error::invalid(format!(
                    "invalid cgroup namespace mode: {mode}"
                )));
            }
        };
        plan.namespaces.net = match host_config.network_mode.as_str() {
            "host" => self.join_host_network(&mut plan)?,
            mode if modes::donor(mode).is_some() => {
                self.join(&mut plan, &mut user, "network", mode)?
            }
            _ => Namespace::New,
        };
        let failed = |error| Error::internal("a user namespace cannot be had", error);
        let user = match user {
            User::Machine => None,
            User::Own => Some(lighter_runtime::user_namespace().map_err(failed)?),
            User::Of(live) => {
                let user = live.user.as_ref().map(OwnedFd::try_clone).transpose();
                user.map_err(|error| Error::internal("a user namespace cannot be joined", error))?
            }
        };
        if let Some(user) = user {
            plan.namespaces.user = push(&mut plan, Ok(user))?;
        }
        Ok(plan)
    }

    /// The containers' "host" network is a namespace of its own that the engine is not in.
    fn join_host_network(&self, plan: &mut Plan) -> Result<Namespace> {
        let fd = self.host_network().ok_or_else(|| {
            Error::unavailable("the host network namespace is not there (ns/hostnet)")
        })?;
        push(plan, fd.try_clone())
    }

    /// Whoever shares a namespace and has not the machine's users shares the users too: others
    /// have no power over it.
    fn join(&self, plan: &mut Plan, user: &mut User, what: &str, mode: &str) -> Result<Namespace> {
        let Some(reference) = modes::donor(mode) else {
            return Err(Error::invalid(format!("invalid {what} mode: {mode}")));
        };
        let network = what == "network";
        let other = self.containers().find(reference).map_err(|error| {
            if network {
                let text = "joining network namespace of container";
                Error::new(Kind::Internal, format!("{text}: {}", error.text()))
            } else {
                Error::invalid(format!("failed to join {what} namespace: {}", error.text()))
            }
        })?;
        let live = other.live().ok_or_else(|| {
            Error::conflict(if network {
                format!(
                    "cannot join network namespace of a non running container: container {} is {}",
                    other.name(),
                    other.status().name()
                )
            } else {
                format!("failed to join {what} namespace: container {reference} is not running")
            })
        })?;
        if what == "IPC" {
            self.check_shareable(&other.record(), reference)?;
        }
        let joined = push(plan, live.pidfd.try_clone())?;
        match (&user, &live.user) {
            (User::Machine, _) => {}
            (_, Some(_)) => *user = User::Of(live),
            (_, None) => {
                return Err(Error::invalid(format!(
                    "cannot share the {what} namespace of container {reference}, which has the \
                     host's user namespace: --userns=host shares that as well"
                )));
            }
        }
        Ok(joined)
    }
}

fn push(plan: &mut Plan, fd: std::io::Result<OwnedFd>) -> Result<Namespace> {
    plan.fds
        .push(fd.map_err(|error| Error::internal("a namespace cannot be joined", error))?);
    Ok(Namespace::Join(plan.fds.len() - 1))
}
