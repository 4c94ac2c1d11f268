//! `docker push`.

use std::sync::Arc;

use lighter_images::registry::{self, Credentials, PushRequest};
use lighter_images::{Digest, Pin, Platform, Progress, ProgressEvent, Reference};

use super::Image;
use crate::db::Sync;
use crate::engine::Engine;
use crate::error::{Error, Result};

impl Engine {
    /// Fails if the image that `reference` names is for another platform.
    ///
    /// # Errors
    ///
    /// Not found, in both cases.
    pub fn require_platform(&self, reference: &Reference, platform: &Platform) -> Result<()> {
        let name = reference.familiar();
        let config = self.image(&name)?.config;
        let own = Platform {
            os: config.os.clone(),
            architecture: config.architecture.clone(),
            variant: config.variant.clone(),
        };
        let fits = platform.os == own.os
            && platform.architecture == own.architecture
            && (platform.variant.is_empty() || platform.variant == own.variant);
        if fits {
            return Ok(());
        }
        Err(Error::not_found(format!(
            "image with reference {name} was found but its platform ({}) does not match the \
             specified platform ({})",
            own.display(),
            platform.display()
        )))
    }

    /// Pushes what `reference` names, or every tag of its repository if it names none. The first
    /// line is reported at once: what fails after it fails within the answer.
    ///
    /// # Errors
    ///
    /// When there is nothing of that name, or the registry does not take it.
    pub async fn image_push(
        self: &Arc<Self>,
        reference: &Reference,
        credentials: Credentials,
        progress: Arc<dyn Progress>,
    ) -> Result<()> {
        self.require_open()?;
        let full = format!("{}/{}", reference.registry(), reference.repository());
        progress.report(ProgressEvent::message(format!(
            "The push refers to repository [{full}]"
        )));
        for (name, image, _pin) in self.to_push(reference)? {
            let request = PushRequest {
                reference: name.clone(),
                image: image.id,
                credentials: credentials.clone(),
                known: self.images().known.of(&image.config.rootfs.diff_ids),
                slots: Arc::clone(&self.images().uploads),
            };
            let network = self.network();
            let pushed = registry::push(self.store(), &network, &request, &progress).await?;
            self.remember_blobs(&pushed.layers);
            self.name_by_digest(&image.id, name.with_digest(pushed.digest))
                .await?;
        }
        let image = self.image(&reference.familiar()).ok();
        let (name, repository) = (reference.familiar(), reference.familiar_name());
        self.image_event("push", &name, &repository, image.as_ref());
        Ok(())
    }

    /// Names and images, which stay as long as their pins do.
    fn to_push(&self, reference: &Reference) -> Result<Vec<(Reference, Image, Pin)>> {
        let index = self.images().lock();
        let repository = reference.familiar_name();
        let here = |name: &Reference| {
            (name.registry(), name.repository()) == (reference.registry(), reference.repository())
        };
        let named: Vec<(&Reference, &Digest)> =
            index.names.iter().filter(|(name, _)| here(name)).collect();
        if named.is_empty() {
            return Err(Error::not_found(format!(
                "An image does not exist locally with the tag: {repository}"
            )));
        }
        if reference.digest().is_some() {
            return Err(Error::invalid("cannot push a digest reference"));
        }
        let wanted = named.into_iter().filter(|(name, _)| {
            name.tag().is_some() && reference.tag().is_none_or(|tag| name.tag() == Some(tag))
        });
        let found: Vec<_> = wanted
            .filter_map(|(name, id)| {
                let image = index.images.get(id)?.clone();
                let layers = image.config.rootfs.diff_ids.iter().copied();
                let pin = self.store().pin(layers.chain([image.id]));
                Some((name.clone(), image, pin))
            })
            .collect();
        if found.is_empty() {
            return Err(Error::not_found(match reference.tag() {
                Some(_) => format!("tag does not exist: {}", reference.familiar()),
                None => format!("no tags to push for {repository}"),
            }));
        }
        Ok(found)
    }

    /// Gives an image the name that its registry has for it, if it is still here.
    async fn name_by_digest(&self, id: &Digest, name: Reference) -> Result<()> {
        let _one = self.images().naming.lock().await;
        let known = {
            let index = self.images().lock();
            !index.images.contains_key(id) || index.names.get(&name) == Some(id)
        };
        if known {
            return Ok(());
        }
        let (row, text) = (id.to_string(), name.to_string());
        let write = self.db().write(Sync::Durable, move |connection| {
            connection.execute(
                "INSERT INTO image_names (name, image) VALUES (?1, ?2)
                 ON CONFLICT (name) DO UPDATE SET image = excluded.image",
                (&text, &row),
            )?;
            Ok(())
        });
        write.await?;
        self.images().lock().names.insert(name, *id);
        Ok(())
    }
}
