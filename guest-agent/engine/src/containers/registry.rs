//! Finds containers by id, unique beginning of an id, or name; gives names out once.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Container;
use crate::error::{Error, Result};

/// All containers.
#[derive(Default)]
pub(crate) struct Registry(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    by_id: BTreeMap<String, Arc<Container>>,
    /// Name to id; also of a container that is just being made.
    names: HashMap<String, String>,
}

impl Registry {
    /// The container that `reference` names.
    pub(crate) fn find(&self, reference: &str) -> Result<Arc<Container>> {
        let inner = self.lock();
        let missing = || Error::not_found(format!("No such container: {reference}"));
        if let Some(container) = inner.by_id.get(reference) {
            return Ok(Arc::clone(container));
        }
        let name = reference.strip_prefix('/').unwrap_or(reference);
        if let Some(container) = inner.names.get(name).and_then(|id| inner.by_id.get(id)) {
            return Ok(Arc::clone(container));
        }
        if reference.is_empty() {
            return Err(missing());
        }
        let mut matches = inner
            .by_id
            .range(reference.to_owned()..)
            .take_while(|(id, _)| id.starts_with(reference))
            .map(|(_, container)| container);
        let first = matches.next().ok_or_else(missing)?;
        if matches.next().is_some() {
            return Err(Error::invalid(format!(
                "multiple IDs found with provided prefix: {reference}"
            )));
        }
        Ok(Arc::clone(first))
    }

    /// Whether there is a container of this id.
    pub(crate) fn has(&self, id: &str) -> bool {
        self.lock().by_id.contains_key(id)
    }

    /// Reserves `name` for the container `id`.
    pub(crate) fn reserve(&self, name: &str, id: &str) -> Result<()> {
        let mut inner = self.lock();
        if let Some(owner) = inner.names.get(name) {
            return Err(Error::conflict(format!(
                "Conflict. The container name \"/{name}\" is already in use by container \
                 \"{owner}\". You have to remove (or rename) that container to be able to reuse \
                 that name."
            )));
        }
        inner.names.insert(name.to_owned(), id.to_owned());
        Ok(())
    }

    /// Gives a name back.
    pub(crate) fn release(&self, name: &str) {
        self.lock().names.remove(name);
    }

    /// Adds a container whose name is reserved.
    pub(crate) fn add(&self, container: Arc<Container>) {
        self.lock()
            .by_id
            .insert(container.id().to_owned(), container);
    }

    /// Takes a container and its name out.
    pub(crate) fn remove(&self, container: &Container) {
        let mut inner = self.lock();
        inner.by_id.remove(container.id());
        inner.names.retain(|_, id| id != container.id());
    }

    /// Every container.
    pub(crate) fn all(&self) -> Vec<Arc<Container>> {
        self.lock().by_id.values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
