//! Update: limits and policy of a container, while it runs too.

use std::sync::Arc;

use super::{Status, spec, validate};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::model::{HostConfig, RestartPolicy};

impl Engine {
    /// Sets what `limits` has (zero and empty leave what is there) and the policy, if given.
    pub async fn container_update(
        self: &Arc<Self>,
        reference: &str,
        limits: HostConfig,
        policy: Option<RestartPolicy>,
    ) -> Result<Vec<String>> {
        let container = self.containers().find(reference)?;
        let _op = container.op.lock().await;
        if matches!(container.status(), Status::Removing | Status::Dead) {
            return Err(Error::conflict(format!(
                "Container is marked for removal and cannot be \"update\": {}",
                container.id()
            )));
        }
        let mut record = (*container.record()).clone();
        merge(&mut record.host_config, &limits);
        if let Some(policy) = policy.filter(|policy| !policy.name.is_empty()) {
            record.host_config.restart_policy = policy;
            validate::check_policy(&record.host_config)?;
        }
        validate::check_memory(&record.host_config)?;
        validate::check_cpu(&record.host_config)?;
        let mut warnings = Vec::new();
        if let Some(live) = container.live() {
            let resources = spec::resources(&record.host_config)?;
            let applied = live.cgroup.apply(&resources);
            let applied = applied.map_err(|error| {
                Error::internal(format!("Cannot update container {}", container.id()), error)
            })?;
            warnings.extend(applied.into_iter().map(|warning| warning.0));
        }
        self.save_record(&record).await?;
        container.set_record(record);
        self.container_event(&container, "update", &[]);
        Ok(warnings)
    }
}

fn merge(own: &mut HostConfig, new: &HostConfig) {
    fn number<T: Copy + PartialEq + Default>(own: &mut T, new: T) {
        if new != T::default() {
            *own = new;
        }
    }
    if new.cpu_period != 0 || new.cpu_quota != 0 {
        own.nano_cpus = 0;
    } else if new.nano_cpus != 0 {
        (own.cpu_period, own.cpu_quota) = (0, 0);
    }
    number(&mut own.blkio_weight, new.blkio_weight);
    number(&mut own.cpu_shares, new.cpu_shares);
    number(&mut own.nano_cpus, new.nano_cpus);
    number(&mut own.cpu_period, new.cpu_period);
    number(&mut own.cpu_quota, new.cpu_quota);
    number(&mut own.memory_reservation, new.memory_reservation);
    if new.memory != 0 {
        own.memory = new.memory;
        if new.memory_swap == 0 && own.memory_swap > 0 && own.memory_swap < new.memory {
            own.memory_swap = new.memory.saturating_mul(2);
        }
    }
    number(&mut own.memory_swap, new.memory_swap);
    for (own, new) in [
        (&mut own.cpuset_cpus, &new.cpuset_cpus),
        (&mut own.cpuset_mems, &new.cpuset_mems),
    ] {
        if !new.is_empty() {
            own.clone_from(new);
        }
    }
    match new.pids_limit {
        Some(0) | None => {}
        Some(limit) => own.pids_limit = (limit > 0).then_some(limit),
    }
}
