//! `docker rmi` and `docker image prune`, with dockerd's rules and its words.

use std::sync::Arc;

use lighter_images::{Digest, Reference};

use super::Image;
use crate::containers::{Container, Status};
use crate::db::Sync;
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};
use crate::filters::{Filters, prune_until};

/// Filters of prune.
pub const PRUNE_FILTERS: &[&str] = &["dangling", "label", "label!", "until"];

/// One line of what a removal did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    /// A name is gone.
    Untagged(String),
    /// An image, or a layer nobody else has, is gone.
    Deleted(String),
}

/// What a prune gave back.
#[derive(Debug, Default)]
pub struct Pruned {
    /// What was removed.
    pub removed: Vec<Removed>,
    /// Bytes of layers that are gone.
    pub bytes: u64,
}

impl Engine {
    /// Removes a name, and the image with its last one.
    ///
    /// # Errors
    ///
    /// Not found; a conflict with a container or with other names, unless forced.
    pub async fn image_remove(
        self: &Arc<Self>,
        text: &str,
        force: bool,
        prune: bool,
    ) -> Result<Vec<Removed>> {
        self.require_open()?;
        let one = self.images().naming.lock().await;
        let image = match self.image(text) {
            Ok(image) => image,
            // Anything else, an ambiguous id say, is not to end in the removal of another image.
            Err(error) if error.kind() != Kind::NotFound => return Err(error),
            Err(error) => {
                let removed = self.remove_unreadable(text, force).await?.ok_or(error)?;
                drop(one);
                self.collect_leftovers().await;
                return Ok(removed);
            }
        };
        let names = self.image_names(&image.id);
        let mut removed = Vec::new();
        let given = self.given_name(text, &image.id)?;
        if let Some(name) = &given {
            if !force && single(&names) {
                self.refuse_used_reference(text, &image)?;
            }
            let gone = with_digests(name, &names);
            self.take_names(&image.id, &gone).await?;
            removed.extend(gone.iter().map(|name| Removed::Untagged(name.familiar())));
            if gone.len() < names.len() {
                return Ok(removed);
            }
            if self.users(&image.id).next().is_some() || self.has_children(&image.id) {
                // What was made of it keeps the image, which has no name now.
                return Ok(removed);
            }
        } else {
            self.refuse_in_use(&image.id, &names, force)?;
            self.take_names(&image.id, &names).await?;
            removed.extend(names.iter().map(|name| Removed::Untagged(name.familiar())));
        }
        self.forget(&image).await?;
        let parents = if prune {
            self.forget_parents(&image).await?
        } else {
            Vec::new()
        };
        drop(one);
        if prune {
            for gone in std::iter::once(&image).chain(&parents) {
                removed.extend(self.after_forgetting(gone).await?.0);
            }
        } else {
            removed.push(Removed::Deleted(image.id.to_string()));
        }
        Ok(removed)
    }

    /// Removes images nobody uses: those without a name or, with `dangling=false`, all.
    ///
    /// # Errors
    ///
    /// A filter that is none.
    pub async fn image_prune(self: &Arc<Self>, filters: &Filters) -> Result<Pruned> {
        let dangling = filters.boolean("dangling")?.unwrap_or(true);
        let before = prune_until(filters)?;
        let mut pruned = Pruned::default();
        let images: Vec<Image> = self.images().lock().images.values().cloned().collect();
        for image in images {
            let _one = self.images().naming.lock().await;
            let names = self.image_names(&image.id);
            let labels = image.config.config.labels.clone().unwrap_or_default();
            let created = super::list::created(&image);
            let keep = (dangling && !names.is_empty())
                || self.users(&image.id).next().is_some()
                || self.has_children(&image.id)
                || !filters.labels(&labels)
                || before
                    .is_some_and(|before| created.is_some_and(|created| created > before.unix()));
            if keep {
                continue;
            }
            self.take_names(&image.id, &names).await?;
            pruned
                .removed
                .extend(names.iter().map(|name| Removed::Untagged(name.familiar())));
            self.forget(&image).await?;
            let parents = self.forget_parents(&image).await?;
            drop(_one);
            for gone in std::iter::once(&image).chain(&parents) {
                let (removed, bytes) = self.after_forgetting(gone).await?;
                pruned.removed.extend(removed);
                pruned.bytes += bytes;
            }
        }
        let reclaimed = [("reclaimed".to_owned(), pruned.bytes.to_string())].into();
        let events = self.events();
        events.emit(crate::events::Subject::Image, "prune", "", reclaimed);
        Ok(pruned)
    }

    /// Deletes the record; durable when this returns. The caller holds `naming`.
    async fn forget(&self, image: &Image) -> Result<()> {
        let row = image.id.to_string();
        let write = self.db().write(Sync::Durable, move |connection| {
            connection.execute("DELETE FROM images WHERE id = ?1", [&row])?;
            Ok(())
        });
        write.await?;
        self.images().lock().images.remove(&image.id);
        let id = image.id.to_string();
        self.image_event("delete", &id, &id, Some(image));
        Ok(())
    }

    /// Deletes the records of those that only this image kept: without a name, a container or another
    /// child. The caller holds `naming`; the image itself is gone.
    async fn forget_parents(&self, image: &Image) -> Result<Vec<Image>> {
        let mut gone = Vec::new();
        for parent in self.image_ancestry(image).into_iter().skip(1) {
            let kept = !self.image_names(&parent.id).is_empty()
                || self.users(&parent.id).next().is_some()
                || self.has_children(&parent.id);
            if kept {
                break;
            }
            self.forget(&parent).await?;
            gone.push(parent);
        }
        Ok(gone)
    }

    /// What is gone with an image: itself, and the layers that nobody else has.
    async fn after_forgetting(self: &Arc<Self>, image: &Image) -> Result<(Vec<Removed>, u64)> {
        let collected = self.collect_images().await?;
        let layers = &image.config.rootfs.diff_ids;
        let mut removed = vec![Removed::Deleted(image.id.to_string())];
        let chain = Self::chain(layers);
        for (layer, chained) in layers.iter().zip(&chain).rev() {
            if collected.layers.contains(layer) {
                removed.push(Removed::Deleted(chained.to_string()));
            }
        }
        Ok((removed, collected.bytes))
    }

    /// Containers of an image.
    fn users(&self, id: &Digest) -> impl Iterator<Item = Arc<Container>> + use<> {
        let id = id.to_string();
        self.containers()
            .all()
            .into_iter()
            .filter(move |container| container.record().image_id == id)
    }

    fn refuse_used_reference(&self, text: &str, image: &Image) -> Result<()> {
        let Some(container) = self.users(&image.id).next() else {
            return Ok(());
        };
        Err(Error::conflict(format!(
            "conflict: unable to remove repository reference \"{text}\" (must force) - container {} is using its \
             referenced image {}",
            short(container.id()),
            image.id.short()
        )))
    }

    /// Refuses to remove an image that something keeps.
    pub(super) fn refuse_in_use(
        &self,
        image: &Digest,
        names: &[Reference],
        force: bool,
    ) -> Result<()> {
        let id = image.short();
        if self.has_children(image) {
            return Err(Error::conflict(format!(
                "conflict: unable to delete {id} (cannot be forced) - image has dependent child images"
            )));
        }
        let running = |c: &Arc<Container>| {
            matches!(
                c.status(),
                Status::Running | Status::Paused | Status::Restarting
            )
        };
        if let Some(container) = self.users(image).find(running) {
            return Err(Error::conflict(format!(
                "conflict: unable to delete {id} (cannot be forced) - image is being used by running container {}",
                short(container.id())
            )));
        }
        if force {
            return Ok(());
        }
        if !single(names) && !names.is_empty() {
            return Err(Error::conflict(format!(
                "conflict: unable to delete {id} (must be forced) - image is referenced in multiple repositories"
            )));
        }
        if let Some(container) = self.users(image).next() {
            return Err(Error::conflict(format!(
                "conflict: unable to delete {id} (must be forced) - image is being used by stopped container {}",
                short(container.id())
            )));
        }
        Ok(())
    }
}

fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

/// At most one tag, and all names in one repository.
fn single(names: &[Reference]) -> bool {
    let tags = names.iter().filter(|name| name.digest().is_none()).count();
    let first = names.first().map(Reference::familiar_name);
    tags <= 1 && names.iter().all(|name| Some(name.familiar_name()) == first)
}

/// The name, and the digests of its repository if it was the last tag there.
pub(super) fn with_digests(name: &Reference, names: &[Reference]) -> Vec<Reference> {
    let mut gone = vec![name.clone()];
    let repository = name.familiar_name();
    let same = |other: &&Reference| other.familiar_name() == repository && *other != name;
    let tags_left = names
        .iter()
        .filter(same)
        .any(|other| other.digest().is_none());
    if name.digest().is_none() && !tags_left {
        gone.extend(names.iter().filter(same).cloned());
    }
    gone
}
