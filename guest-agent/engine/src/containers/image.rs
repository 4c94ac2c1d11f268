//! What a container takes from its image: the one place where containers ask the image service.

use lighter_images::config::RunConfig;
use lighter_images::{Digest, Pin};

use crate::engine::Engine;
use crate::error::{Error, Result};

/// What a container takes from its image.
pub(super) struct ImageFacts {
    /// `sha256:…` of its configuration.
    pub(super) id: String,
    /// Its layers, lowest first.
    pub(super) layers: Vec<Digest>,
    /// How containers of it run.
    pub(super) config: RunConfig,
}

impl Engine {
    /// The image a create request names. It and its layers are not collected while the pin lives.
    pub(super) async fn image_for_create(
        &self,
        reference: &str,
        platform: Option<&str>,
    ) -> Result<(ImageFacts, Pin)> {
        // Looking it up and pinning it is one step for the collector.
        let _held = self.images().hold().await;
        let image = self.image(reference)?;
        let has = format!("{}/{}", image.config.os, image.config.architecture);
        if let Some(wanted) = platform.filter(|wanted| !wanted.is_empty())
            && !(wanted == has
                || has.ends_with(&format!("/{wanted}"))
                || wanted.starts_with(&format!("{has}/")))
        {
            return Err(Error::not_found(format!(
                "image with reference {reference} was found but its platform ({has}) does not match the \
                 specified platform ({wanted})"
            )));
        }
        let layers = image.config.rootfs.diff_ids.clone();
        let pin = self.store().pin(layers.iter().copied().chain([image.id]));
        let facts = ImageFacts {
            id: image.id.to_string(),
            layers,
            config: image.config.config.clone(),
        };
        Ok((facts, pin))
    }
}
