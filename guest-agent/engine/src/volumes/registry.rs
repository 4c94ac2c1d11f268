//! The volumes in memory: their records, whose folders may still be there, and who is about to have which.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Volume;
use crate::engine::Engine;

/// All volumes.
#[derive(Default)]
pub(crate) struct Volumes(Mutex<All>);

#[derive(Default)]
struct All {
    records: BTreeMap<String, Arc<Volume>>,
    /// Removed, and the folder may not be gone.
    leaving: BTreeSet<String>,
    /// Containers that are being made, and their volumes.
    claims: BTreeMap<String, Vec<String>>,
}

impl Volumes {
    pub(crate) fn load(&self, volumes: impl IntoIterator<Item = Volume>) {
        let volumes = volumes
            .into_iter()
            .map(|volume| (volume.name.clone(), Arc::new(volume)));
        self.lock().records.extend(volumes);
    }

    pub(super) fn get(&self, name: &str) -> Option<Arc<Volume>> {
        self.lock().records.get(name).cloned()
    }

    pub(super) fn all(&self) -> Vec<Arc<Volume>> {
        self.lock().records.values().cloned().collect()
    }

    pub(super) fn add(&self, volume: &Arc<Volume>) {
        let mut all = self.lock();
        all.leaving.remove(&volume.name);
        all.records.insert(volume.name.clone(), Arc::clone(volume));
    }

    pub(super) fn remove(&self, name: &str) {
        self.lock().records.remove(name);
    }

    /// Says that they go with no container.
    pub(crate) fn disown(&self, names: &[String]) {
        let mut all = self.lock();
        for name in names {
            if let Some(volume) = all.records.get_mut(name) {
                Arc::make_mut(volume).made_for = None;
            }
        }
    }

    pub(super) fn set_leaving(&self, name: &str, leaving: bool) {
        let mut all = self.lock();
        if leaving {
            all.leaving.insert(name.to_owned());
        } else {
            all.leaving.remove(name);
        }
    }

    pub(super) fn is_leaving(&self, name: &str) -> bool {
        self.lock().leaving.contains(name)
    }

    /// Ids of the containers that are being made with this volume.
    pub(super) fn claimants(&self, name: &str) -> Vec<String> {
        let all = self.lock();
        let claims = all.claims.iter();
        let with = claims.filter(|(_, names)| names.iter().any(|other| other == name));
        with.map(|(id, _)| id.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, All> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The volumes of a container that is being made: nobody removes them. Ends when it is dropped.
pub(crate) struct Claim<'a> {
    volumes: &'a Volumes,
    id: String,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.volumes.lock().claims.remove(&self.id);
    }
}

impl Engine {
    /// Makes a container that is being made a user of these volumes.
    pub(crate) fn claim_volumes(&self, id: &str, names: Vec<String>) -> Claim<'_> {
        self.volumes().lock().claims.insert(id.to_owned(), names);
        Claim {
            volumes: self.volumes(),
            id: id.to_owned(),
        }
    }
}
