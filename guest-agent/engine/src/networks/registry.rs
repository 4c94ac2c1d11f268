//! The networks in memory, and how a reference finds one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::default_bridge::Addresses;
use super::pools::Pools;
use super::{Network, builtin};
use crate::config::EngineConfig;
use crate::error::{Error, Result};

/// All networks.
pub(crate) struct Networks {
    by_id: Mutex<BTreeMap<String, Arc<Network>>>,
    /// Those that are about to go.
    leaving: Mutex<BTreeSet<String>>,
    pub(super) pools: Pools,
    /// One change of the list at a time.
    pub(super) changing: tokio::sync::Mutex<()>,
}

impl Networks {
    /// Those that are recorded, and those that always exist. `same_boot` says whether the machine has been up since the
    /// last engine.
    ///
    /// # Errors
    /// Settings by which the default network cannot be.
    pub(crate) fn new(
        config: &EngineConfig,
        recorded: Vec<Network>,
        same_boot: bool,
    ) -> Result<Self> {
        let pools = Pools::new(&config.settings.default_address_pools, &config.machine_id);
        let addresses = Addresses::settled(config, &pools, &recorded, same_boot)?;
        let [none, host, mut bridge] = builtin::all(&config.machine_id);
        addresses.give(&mut bridge);
        let all = recorded.into_iter().chain([none, host, bridge]);
        let all = all.map(|network| (network.id.clone(), Arc::new(network)));
        Ok(Self {
            by_id: Mutex::new(all.collect()),
            leaving: Mutex::default(),
            pools,
            changing: tokio::sync::Mutex::default(),
        })
    }

    pub(super) fn add(&self, network: Arc<Network>) {
        self.lock().insert(network.id.clone(), network);
    }

    pub(super) fn remove(&self, id: &str) {
        self.lock().remove(id);
        self.set_leaving(id, false);
    }

    pub(super) fn set_leaving(&self, id: &str, leaving: bool) {
        let mut all = self.leaving.lock().unwrap_or_else(PoisonError::into_inner);
        if leaving {
            all.insert(id.to_owned());
        } else {
            all.remove(id);
        }
    }

    /// Whether it is there and nobody is about to remove it.
    pub(crate) fn stays(&self, id: &str) -> bool {
        let leaving = self.leaving.lock().unwrap_or_else(PoisonError::into_inner);
        !leaving.contains(id) && self.lock().contains_key(id)
    }

    /// All of them, oldest first; those that always exist before the others.
    pub(crate) fn all(&self) -> Vec<Arc<Network>> {
        let mut all: Vec<Arc<Network>> = self.lock().values().cloned().collect();
        all.sort_by_key(|network| (!network.is_builtin(), network.created));
        all
    }

    /// The one of this name.
    pub(crate) fn named(&self, name: &str) -> Option<Arc<Network>> {
        let all = self.lock();
        all.values().find(|network| network.name == name).cloned()
    }

    /// The one that `reference` names: id, name or the only one whose id begins so.
    pub(crate) fn find(&self, reference: &str) -> Result<Arc<Network>> {
        let all = self.lock();
        if let Some(network) = all.get(reference) {
            return Ok(Arc::clone(network));
        }
        if let Some(network) = all.values().find(|network| network.name == reference) {
            return Ok(Arc::clone(network));
        }
        let begin = |id: &String| id.starts_with(reference) && !reference.is_empty();
        let mut found = all.iter().filter(|(id, _)| begin(id));
        let missing = || Error::not_found(format!("network {reference} not found"));
        let (_, first) = found.next().ok_or_else(missing)?;
        match found.count() {
            0 => Ok(Arc::clone(first)),
            more => Err(Error::invalid(format!(
                "network {reference} is ambiguous ({} matches found based on ID prefix)",
                more + 1
            ))),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Network>>> {
        self.by_id.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
