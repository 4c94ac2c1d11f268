//! Gives back the layers and configurations that neither an image nor a container has.

use lighter_images::{Collected, Digest, Referenced};

use crate::engine::Engine;
use crate::error::Result;

impl Engine {
    /// Collects what is not referenced. Waits for loads and pulls, whose layers are stored before
    /// their image is recorded.
    pub(crate) async fn collect_images(&self) -> Result<Collected> {
        let _nobody_adds = self.images().adding.write().await;
        let keep = self.referenced();
        let gone: Vec<Digest> = self
            .store()
            .layer_ids()?
            .into_iter()
            .filter(|layer| !keep.layers.contains(layer))
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
