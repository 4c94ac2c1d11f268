//! Gives back the layers and configurations that neither an image nor a container has.

use std::sync::Arc;

use lighter_images::{Collected, Digest, Referenced};

use crate::engine::Engine;
use crate::error::{Error, Result};

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
    pub(crate) async fn collect_leftovers(self: &Arc<Self>) {
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
    pub(crate) async fn collect_images(self: &Arc<Self>) -> Result<Collected> {
        let nobody_records = self.images().still().await;
        let engine = Arc::clone(self);
        // Files of gigabytes go here: not on a thread that serves.
        let collecting = tokio::task::spawn_blocking(move || {
            // The lock goes with the work, which goes on when nobody waits for it any more.
            let _nobody_records = nobody_records;
            engine.collect_unreferenced()
        });
        collecting
            .await
            .map_err(|error| Error::internal("collecting was cut short", error))?
    }

    fn collect_unreferenced(&self) -> Result<Collected> {
        let layers = self.store().layer_ids()?;
        let mut keep = self.referenced();
        match self.images().lock().unreadable.layers() {
            Some(theirs) => keep.layers.extend(theirs),
            None => {
                tracing::warn!(
                    "no layer is collected: an image cannot be read, so its layers are not known"
                );
                keep.layers.extend(layers.iter().copied());
            }
        }
        let gone: Vec<Digest> = layers
            .into_iter()
            .filter(|layer| !keep.layers.contains(layer) && !self.store().is_pinned(layer))
            .collect();
        self.release_layers(&gone)?;
        let collected = self.store().collect(&keep)?;
        self.forget_blobs(&collected.layers);
        if collected.bytes > 0 {
            self.removed();
        }
        Ok(collected)
    }

    fn referenced(&self) -> Referenced {
        let mut keep = Referenced::default();
        let index = self.images().lock();
        for image in index.images.values() {
            keep.blobs.insert(image.id);
            keep.layers
                .extend(image.config.rootfs.diff_ids.iter().copied());
        }
        let unreadable = index.unreadable.ids();
        keep.blobs
            .extend(unreadable.filter_map(|id| id.parse::<Digest>().ok()));
        drop(index);
        for container in self.containers().all() {
            let record = container.record();
            keep.layers.extend(record.layers.iter().copied());
            keep.blobs.extend(record.image_id.parse::<Digest>().ok());
        }
        keep
    }
}
