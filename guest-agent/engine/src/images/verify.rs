//! `lighter image verify`: reads images as they lie on the disk.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lighter_images::{Digest, LayerFiles, Pin, Progress, ProgressEvent, Sealed};

use super::Image;
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};

/// How much is read between two lines about a layer.
const STEP: u64 = 16 << 20;

/// A layer that is looked at, and the images that have it.
type Layers = BTreeMap<Digest, Vec<String>>;

/// Images, which stay as long as their pins do, and the ids of those that cannot be read.
type Wanted = (Vec<(Image, Pin)>, Vec<String>);

/// Ends the reading when the asker has gone.
struct Asker(Arc<AtomicBool>);

impl Drop for Asker {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Engine {
    /// Reads all layers and configurations of the images that `names` name, of every image if there
    /// are none, and compares them with their digests. What is found is told as it is found.
    ///
    /// # Errors
    ///
    /// No such image, or that there is damage.
    pub async fn image_verify(
        self: &Arc<Self>,
        names: &[String],
        progress: Arc<dyn Progress>,
    ) -> Result<()> {
        self.require_open()?;
        let (images, unreadable) = self.to_verify(names)?;
        let count = counted(images.len(), "image");
        progress.report(ProgressEvent::message(format!("Verifying {count}")));
        let mut damage: Vec<String> = unreadable
            .iter()
            .map(|id| format!("image {id}: its configuration cannot be read"))
            .collect();
        let mut layers = Layers::new();
        for (image, _pin) in &images {
            let name = self.shown(image);
            if let Err(error) = self.store().read_blob(&image.id) {
                damage.push(format!("{name}: {error}"));
            }
            for layer in &image.config.rootfs.diff_ids {
                layers.entry(*layer).or_default().push(name.clone());
            }
        }
        let all = counted(layers.len(), "layer");
        let mut unsealed = 0;
        for (layer, names) in layers {
            match self.verify_layer(layer, &progress).await {
                Ok(Sealed::Yes) => {}
                Ok(Sealed::No) => unsealed += 1,
                Err(error) => {
                    let short = layer.hex()[..12].to_owned();
                    progress.report(ProgressEvent::layer(short, "Damaged"));
                    damage.push(format!("{}: {}", names.join(", "), error.text()));
                }
            }
        }
        if damage.is_empty() {
            let without = match unsealed {
                0 => String::new(),
                // The tar is what it was; nobody knows it of the index over it.
                some => format!(" ({some} without a seal)"),
            };
            let told = format!("Sound: {count}, {all}{without}");
            progress.report(ProgressEvent::message(told));
            return Ok(());
        }
        Err(Error::new(
            Kind::Internal,
            format!(
                "there is damage: {}; remove these images, and pull or load them again",
                damage.join("; ")
            ),
        ))
    }

    /// The images that `names` name, or all there are.
    fn to_verify(&self, names: &[String]) -> Result<Wanted> {
        let index = self.images().lock();
        let pinned = |image: &Image| {
            let layers = image.config.rootfs.diff_ids.iter().copied();
            let pin = self.store().pin(layers.chain([image.id]));
            (image.clone(), pin)
        };
        if names.is_empty() {
            let unreadable = index.unreadable.ids().cloned().collect();
            return Ok((index.images.values().map(pinned).collect(), unreadable));
        }
        let named = names.iter().map(|name| index.find(name).map(pinned));
        Ok((named.collect::<Result<_>>()?, Vec::new()))
    }

    /// What the image is called in a message.
    fn shown(&self, image: &Image) -> String {
        let names = self.image_names(&image.id);
        match names.first() {
            Some(name) => name.familiar(),
            None => image.id.to_string(),
        }
    }

    async fn verify_layer(
        self: &Arc<Self>,
        layer: Digest,
        progress: &Arc<dyn Progress>,
    ) -> Result<Sealed> {
        let files = self.store().require_layer(&layer)?;
        let short = layer.hex()[..12].to_owned();
        let gone = Arc::new(AtomicBool::new(false));
        let _asker = Asker(Arc::clone(&gone));
        let (engine, lines, id) = (Arc::clone(self), Arc::clone(progress), short.clone());
        let reading = tokio::task::spawn_blocking(move || {
            let mut told = 0;
            engine.store().verify_layer(&files, |done| {
                if done - told >= STEP {
                    told = done;
                    let LayerFiles { tar_bytes, .. } = files;
                    lines.report(ProgressEvent::bar(
                        &id,
                        "Verifying the layer",
                        done,
                        tar_bytes,
                    ));
                }
                !gone.load(Ordering::Relaxed)
            })
        });
        let sealed = reading
            .await
            .map_err(|error| Error::internal("the reading ended unexpectedly", error))??
            .ok_or_else(|| Error::unavailable("nobody waits for it any more"))?;
        progress.report(ProgressEvent::layer(
            short,
            match sealed {
                Sealed::Yes => "Sound",
                Sealed::No => "Sound, without a seal",
            },
        ));
        Ok(sealed)
    }
}

fn counted(count: usize, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}
