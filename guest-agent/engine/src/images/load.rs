//! `docker load`, `docker save`, and the image that comes with the machine.

use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

use lighter_images::archive::{self, LoadedImage, SavedImage};
use lighter_images::registry::PullRequest;
use lighter_images::{Digest, Pin, Platform, Progress, ProgressEvent, Reference};

use crate::db::Sync;
use crate::engine::Engine;
use crate::error::{Error, Result};

/// What `docker load` says: one line an image or a name.
#[derive(Debug, Default)]
pub struct LoadReport {
    /// The lines, without line feeds.
    pub lines: Vec<String>,
}

/// The row that says that the built-in image was loaded once; a user who removes it keeps it so.
const BUILT_IN: &str = "built-in-image";
/// The built-in image's name.
const BUILT_IN_NAME: &str = "lighter/hello:latest";

impl Engine {
    /// Takes in every image of an archive; all are durable when this returns.
    ///
    /// # Errors
    ///
    /// When the archive is refused; the text says why.
    pub async fn image_load(
        self: &Arc<Self>,
        input: impl Read + Send + 'static,
    ) -> Result<LoadReport> {
        self.require_open()?;
        let leftovers = self.leftovers();
        let engine = Arc::clone(self);
        let read = tokio::task::spawn_blocking(move || archive::load(engine.store(), input));
        let loaded = read
            .await
            .map_err(|error| Error::internal("loading the archive failed", error))??;
        let mut report = LoadReport::default();
        for image in loaded {
            self.name_loaded(image, &mut report).await?;
        }
        leftovers.none();
        Ok(report)
    }

    async fn name_loaded(
        self: &Arc<Self>,
        loaded: LoadedImage,
        report: &mut LoadReport,
    ) -> Result<()> {
        for name in &loaded.names {
            let before = self.images().lock().names.get(name).copied();
            if let Some(before) = before.filter(|before| *before != loaded.id) {
                report.lines.push(format!(
                    "The image {} already exists, renaming the old one with ID {before} to empty string",
                    name.familiar()
                ));
            }
        }
        self.record_image(loaded.id, loaded.config, &loaded.names, None, loaded.pin)
            .await?;
        let id = loaded.id.to_string();
        let image = self.image(&id)?;
        if loaded.names.is_empty() {
            report.lines.push(format!("Loaded image ID: {id}"));
        }
        for name in &loaded.names {
            report
                .lines
                .push(format!("Loaded image: {}", name.familiar()));
        }
        self.image_event("load", &id, &id, Some(&image));
        Ok(())
    }

    /// What an archive of these images has to hold, and a pin on it. A name saves itself; an id saves no name.
    ///
    /// # Errors
    ///
    /// When one of them does not exist.
    pub fn images_to_save(&self, names: &[String]) -> Result<(Vec<SavedImage>, Pin)> {
        // In one look, so that what is found is there as long as it is pinned.
        let index = self.images().lock();
        let mut saved: Vec<SavedImage> = Vec::new();
        let mut needed: Vec<Digest> = Vec::new();
        for text in names {
            let image = index.find(text)?;
            needed.push(image.id);
            needed.extend(&image.config.rootfs.diff_ids);
            let mut tags: Vec<Reference> = Vec::new();
            let is_id = image
                .id
                .hex()
                .starts_with(text.strip_prefix("sha256:").unwrap_or(text));
            if let Ok(reference) = text.parse::<Reference>()
                && !is_id
                && reference.digest().is_none()
            {
                tags.push(reference.with_default_tag());
            }
            match saved.iter_mut().find(|known| known.id == image.id) {
                Some(known) => known.names.extend(tags),
                None => saved.push(SavedImage {
                    id: image.id,
                    names: tags,
                }),
            }
        }
        Ok((saved, self.store().pin(needed)))
    }

    /// Writes an archive of `images`. Blocks: call it on a thread that may.
    ///
    /// # Errors
    ///
    /// When the reader of the archive has gone, or a layer cannot be read.
    pub fn image_save(&self, images: &[SavedImage], out: impl Write) -> Result<()> {
        archive::save(self.store(), images, out)?;
        for image in images {
            let id = image.id.to_string();
            self.image_event("save", &id, &id, self.image(&id).ok().as_ref());
        }
        Ok(())
    }

    /// Loads the image that comes with the machine, the first time the engine opens here.
    pub(crate) async fn load_built_in(self: &Arc<Self>, archive: &Path) -> Result<()> {
        let seen = self.db().write(Sync::Lazy, |connection| {
            let count: i64 = connection.query_row(
                "SELECT count(*) FROM marks WHERE name = ?1",
                [BUILT_IN],
                |row| row.get(0),
            )?;
            Ok(count > 0)
        });
        if seen.await? || !archive.exists() {
            return Ok(());
        }
        let file = std::fs::File::open(archive)
            .map_err(|error| Error::internal("the built-in image cannot be opened", error))?;
        self.image_load(file).await?;
        let mark = self.db().write(Sync::Durable, |connection| {
            connection.execute("INSERT OR IGNORE INTO marks (name) VALUES (?1)", [BUILT_IN])?;
            Ok(())
        });
        Ok(mark.await?)
    }

    /// Takes the image that comes with the machine from the machine, if that is what is asked for: it is in no
    /// registry. Whether the name stands for another image than before; none if another is meant.
    pub(super) async fn pull_built_in(
        self: &Arc<Self>,
        request: &PullRequest,
        progress: &Arc<dyn Progress>,
    ) -> Result<Option<bool>> {
        let name = &request.reference;
        let wanted = request.platform.as_ref();
        let meant = name.digest().is_none()
            && name.familiar() == BUILT_IN_NAME
            && wanted.is_none_or(|wanted| *wanted == Platform::native());
        let archive = self.config().built_in_image.as_deref();
        let Some(archive) = archive.filter(|archive| meant && archive.exists()) else {
            return Ok(None);
        };
        let tag = name.tag().unwrap_or_default();
        let words = format!("Pulling from {}", name.familiar_name());
        progress.report(ProgressEvent::about(tag, words));
        let known = || self.images().lock().names.get(name).copied();
        let before = known();
        let file = std::fs::File::open(archive)
            .map_err(|error| Error::internal("the built-in image cannot be opened", error))?;
        self.image_load(file).await?;
        Ok(Some(before != known()))
    }

    /// The image's layers as a chain: each with everything below it, as dockerd names layers.
    pub(crate) fn chain(layers: &[Digest]) -> Vec<Digest> {
        let mut chain: Vec<Digest> = Vec::with_capacity(layers.len());
        for layer in layers {
            let next = match chain.last() {
                None => *layer,
                Some(below) => Digest::of(format!("{below} {layer}").as_bytes()),
            };
            chain.push(next);
        }
        chain
    }
}
