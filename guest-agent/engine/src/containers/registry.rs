//! Finds containers by id, unique beginning of an id, or name; gives names out once.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Container;
use crate::error::{Error, Result};

/// All containers.
#[derive(Default)]
pub(crate) struct Registry {
    inner: Mutex<Inner>,
    /// One at a time says what a link leads to.
    linking: Mutex<()>,
}

#[derive(Default)]
struct Inner {
    by_id: BTreeMap<String, Arc<Container>>,
    /// Name to id; also of a container that is just being made.
    names: HashMap<String, String>,
    /// Of links: `owner/alias` to the id of the container that it leads to.
    links: BTreeMap<String, String>,
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
        let named = inner.names.get(name).or_else(|| inner.links.get(name));
        if let Some(container) = named.and_then(|id| inner.by_id.get(id)) {
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

    /// Adds a container whose name is reserved, and the names of its links.
    pub(crate) fn add(&self, container: Arc<Container>) {
        let mut inner = self.lock();
        let record = container.record();
        let links = record.links.iter();
        let links = links.map(|link| (format!("{}/{}", record.name, link.alias), link.id.clone()));
        inner.links.extend(links);
        inner.by_id.insert(container.id().to_owned(), container);
    }

    /// Takes a container and its name out.
    pub(crate) fn remove(&self, container: &Container) {
        let mut inner = self.lock();
        inner.by_id.remove(container.id());
        inner.names.retain(|_, id| id != container.id());
        let own = format!("{}/", container.name());
        let stays = |name: &String, id: &String| id != container.id() && !name.starts_with(&own);
        inner.links.retain(|name, id| stays(name, id));
    }

    /// Gives the links of a container that has another name theirs.
    pub(crate) fn rename_links(&self, old: &str, new: &str) {
        let mut inner = self.lock();
        let links = std::mem::take(&mut inner.links).into_iter();
        let renamed = |(name, id): (String, String)| {
            let alias = name.strip_prefix(old).filter(|rest| rest.starts_with('/'));
            let name = alias.map_or_else(|| name.clone(), |alias| format!("{new}{alias}"));
            (name, id)
        };
        inner.links = links.map(renamed).collect();
    }

    /// Forgets a link.
    pub(crate) fn unlink(&self, name: &str) {
        self.lock().links.remove(name);
    }

    /// The names of the links that lead to a container, in their order.
    pub(crate) fn links_to(&self, id: &str) -> Vec<String> {
        let inner = self.lock();
        let links = inner.links.iter().filter(|(_, to)| *to == id);
        links.map(|(name, _)| name.clone()).collect()
    }

    /// Held by whoever writes into a file of a container what a link of it leads to.
    pub(crate) fn linking(&self) -> MutexGuard<'_, ()> {
        self.linking.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every container.
    pub(crate) fn all(&self) -> Vec<Arc<Container>> {
        self.lock().by_id.values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
