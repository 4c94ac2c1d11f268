//! Ports as inspect and lists show them.

use std::collections::BTreeMap;

use super::publish::kind;
use super::wanted::key;
use crate::containers::{Record, RunState};
use crate::engine::Engine;
use crate::model::PortBinding;

impl Engine {
    /// The ports of a container that runs and can be reached: those that are published with where, those that are
    /// only exposed with nothing. Their keys are `80/tcp`.
    pub fn port_map(
        &self,
        record: &Record,
        run: &RunState,
    ) -> BTreeMap<String, Option<Vec<PortBinding>>> {
        let mut map: BTreeMap<String, Option<Vec<PortBinding>>> = BTreeMap::new();
        if !run.status.is_running() || self.reached_at(record, &run.places).is_none() {
            return map;
        }
        for (text, _) in record.config.exposed_ports.iter().flatten() {
            let (port, kind) = key(text);
            map.entry(format!("{port}/{kind}")).or_default();
        }
        for one in &run.ports {
            let key = format!("{}/{}", one.port, kind(one.transport));
            let bindings = map.entry(key).or_default().get_or_insert_default();
            bindings.push(PortBinding {
                host_ip: one.host_ip.to_string(),
                host_port: one.host_port.to_string(),
            });
        }
        map
    }
}
