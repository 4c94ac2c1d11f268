//! Update: limits and policy of a container, while it runs too.

use std::sync::Arc;

use super::{Status, limits, spec, validate};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::model::{HostConfig, RestartPolicy};

impl Engine {
    /// Sets what `new` has (zero and empty leave what is there) and the policy, if given; the warnings.
    ///
    /// # Errors
    ///
    /// What is no limit, or cannot be beside what the container has; a container that is not there.
    pub async fn container_update(
        self: &Arc<Self>,
        reference: &str,
        mut new: HostConfig,
        policy: Option<RestartPolicy>,
    ) -> Result<Vec<String>> {
        let warnings = limits::discard(&mut new, self.has_weights());
        limits::check_update(&new)?;
        let policy = policy.filter(|policy| !policy.name.is_empty());
        if let Some(policy) = &policy {
            new.restart_policy.clone_from(policy);
            validate::check_policy(&new)?;
        }
        let container = self.containers().find(reference)?;
        let _op = container.op.lock().await;
        let cannot = |error: Error| {
            let text = format!(
                "Cannot update container {}: {}",
                container.id(),
                error.text()
            );
            Error::new(error.kind(), text)
        };
        if matches!(container.status(), Status::Removing | Status::Dead) {
            return Err(cannot(Error::conflict(
                "container is marked for removal and cannot be \"update\"",
            )));
        }
        let mut record = (*container.record()).clone();
        merge(&mut record.host_config, &new).map_err(cannot)?;
        if let Some(policy) = policy {
            if record.host_config.auto_remove && policy.name != "no" {
                return Err(cannot(Error::conflict(
                    "Restart policy cannot be updated because AutoRemove is enabled for the container",
                )));
            }
            record.host_config.restart_policy = policy;
        }
        if let Some(live) = container.live() {
            let resources = spec::resources(&record.host_config)?;
            let applied = live.cgroup.apply(&resources);
            applied.map_err(|error| {
                Error::internal(format!("Cannot update container {}", container.id()), error)
            })?;
        }
        self.save_record(&record).await?;
        container.set_record(record);
        self.container_event(&container, "update", &[]);
        Ok(warnings)
    }

    /// Whether this kernel shares its disks by weight.
    pub(super) fn has_weights(&self) -> bool {
        self.launcher().cgroups().has_io_weight()
    }
}

/// Puts `new` over `own`, which it must fit.
fn merge(own: &mut HostConfig, new: &HostConfig) -> Result<()> {
    fn number<T: Copy + PartialEq + Default>(own: &mut T, new: T) {
        if new != T::default() {
            *own = new;
        }
    }
    for (new, what, old, set) in [
        (new.nano_cpus, "Nano CPUs", own.cpu_period, "CPU Period"),
        (new.nano_cpus, "Nano CPUs", own.cpu_quota, "CPU Quota"),
        (new.cpu_period, "CPU Period", own.nano_cpus, "NanoCPUs"),
        (new.cpu_quota, "CPU Quota", own.nano_cpus, "NanoCPUs"),
    ] {
        if new > 0 && old > 0 {
            return Err(Error::conflict(format!(
                "Conflicting options: {what} cannot be updated as {set} has already been set"
            )));
        }
    }
    if new.memory != 0 && new.memory > own.memory_swap && new.memory_swap == 0 {
        return Err(Error::conflict(
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
        ));
    }
    number(&mut own.blkio_weight, new.blkio_weight);
    number(&mut own.cpu_shares, new.cpu_shares);
    number(&mut own.nano_cpus, new.nano_cpus);
    number(&mut own.cpu_period, new.cpu_period);
    number(&mut own.cpu_quota, new.cpu_quota);
    number(&mut own.cpu_realtime_period, new.cpu_realtime_period);
    number(&mut own.cpu_realtime_runtime, new.cpu_realtime_runtime);
    number(&mut own.memory_reservation, new.memory_reservation);
    number(&mut own.memory, new.memory);
    number(&mut own.memory_swap, new.memory_swap);
    if own.memory > 0 && own.memory_swap > 0 && own.memory_swap < own.memory {
        return Err(Error::invalid(
            "memory+swap limit should be >= memory limit",
        ));
    }
    for (own, new) in [
        (&mut own.cpuset_cpus, &new.cpuset_cpus),
        (&mut own.cpuset_mems, &new.cpuset_mems),
    ] {
        if !new.is_empty() {
            own.clone_from(new);
        }
    }
    // Whatever stands for "no limit" becomes the one that dockerd keeps.
    own.pids_limit = new.pids_limit.map(|limit| limit.max(0)).or(own.pids_limit);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_limits_must_fit_those_that_are_there() {
        let parsed = |text: &str| serde_json::from_str::<HostConfig>(text).unwrap();
        let merged = |own: &str, new: &str| {
            let mut own = parsed(own);
            merge(&mut own, &parsed(new)).map(|()| own)
        };
        let limited = r#"{"Memory":100,"MemorySwap":200,"NanoCpus":5,"PidsLimit":10}"#;
        for (new, said) in [
            (
                r#"{"Memory":201}"#,
                "update the memoryswap at the same time",
            ),
            (r#"{"CpuQuota":1000}"#, "as NanoCPUs has already been set"),
            (r#"{"CpuPeriod":1000}"#, "as NanoCPUs has already been set"),
            (r#"{"MemorySwap":50}"#, "should be >= memory limit"),
        ] {
            let error = merged(limited, new).unwrap_err();
            assert!(error.text().contains(said), "{}", error.text());
        }
        let own = merged(limited, r#"{"Memory":150,"PidsLimit":-1}"#).unwrap();
        assert_eq!((own.memory, own.memory_swap), (150, 200));
        assert_eq!(own.pids_limit, Some(0));
        let own = merged(limited, r#"{"CpuShares":7}"#).unwrap();
        assert_eq!((own.cpu_shares, own.pids_limit), (7, Some(10)));
    }
}
