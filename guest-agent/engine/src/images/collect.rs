//! Gives back the layers and configurations that neither an image nor a container has.

use std::sync::Arc;

use lighter_images::{Collected, Digest, Referenced};

use crate::engine::Engine;
use crate::error::Result;

/// Gives back what a pull or load that failed, or was given up, has stored so far.
pub(super) struct Leftovers(Option<Arc<Engine>>);

impl Leftovers {
    /// It succeeded: everything it stored is an image's.
    pub(super) fn none(mut self) {
        self.0 = None;
    }
}

impl Drop for Leftovers {
    fn drop(&mut self) {
        let Some(engine) = self.0.take() else {
            return;
        };
        // Without a runtime the engine itself is ending, and the next one collects.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { engine.collect_leftovers().await });
        }
    }
}

impl Engine {
    pub(super) fn leftovers(self: &Arc<Self>) -> Leftovers {
        Leftovers(Some(Arc::clone(self)))
    }

    /// Collects; what fails here is collected the next time.
    pub(crate) async fn collect_leftovers(&self) {
        match self.collect_images().await {
            Ok(collected) if collected.bytes > 0 => {
                tracing::info!(bytes = collected.bytes, "collected what no image has");
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(error = error.text(), "collecting failed"),
        }
    }

    /// Collects what is not referenced. What loads and pulls have stored is pinned until its image
    /// is recorded: they are not waited for, or a slow registry would hold up everybody.
    pub(crate) async fn collect_images(&self) -> Result<Collected> {
        let _nobody_records = self.images().recording.write().await;
        if !self.images().lock().unreadable.is_empty() {
            tracing::warn!(
                "nothing is collected: an image cannot be read, so its layers are not known"
            );
            return Ok(Collected::default());
        }
        let keep = self.referenced();
        let gone: Vec<Digest> = self
            .store()
            .layer_ids()?
            .into_iter()
            .filter(|layer| !keep.layers.contains(layer) && !self.store().is_pinned(layer))
            .collect();
        self.release_layers(&gone)?;
        Ok(self.store().collect(&keep)?)
    }

    fn referenced(&self) -> Referenced {
        let mut keep = Referenced::default();
        for image in self.images().lock().images.values() {
            keep.blobs.insert(image.id);
            keep.layers
                .extend(image.config.rootfs.diff_ids.iter().copied());
        }
        for container in self.containers().all() {
            let record = container.record();
            keep.layers.extend(record.layers.iter().copied());
            keep.blobs.extend(record.image_id.parse::<Digest>().ok());
        }
        keep
    }
}
