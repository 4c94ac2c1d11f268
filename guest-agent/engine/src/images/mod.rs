//! The image service: which images there are, what they are called, and when they may go.
//!
//! Called by the API's image routes and, for the image of a container, by `containers`. Layers and
//! configurations lie in `lighter_images::Store`, by digest; which of them are images, and their
//! names, is in the engine's database and in memory here. A name is durable before it is answered.
//!
//! Whoever puts layers into the store pins them until the image is recorded, so that what nobody
//! names yet is not collected. Recording and dropping the pin is one step for the collector.

mod collect;
mod fetch;
mod instructions;
mod known;
mod list;
mod load;
mod make;
mod names;
mod parents;
mod pull;
mod push;
mod remote;
mod remove;
mod unreadable;
mod verify;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lighter_images::{ImageConfig, Pin, Reference};
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedRwLockWriteGuard, RwLock, Semaphore};

use crate::clock::Timestamp;
use crate::db::Sync;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::events::Subject;
use known::Known;
use unreadable::Unreadable;

// What the API needs of images, so that it depends on the engine alone.
pub use lighter_images::reference;
pub use lighter_images::registry::Credentials;
pub use lighter_images::{
    Digest, Platform, Progress, ProgressDetail, ProgressEvent, channel, config,
};
pub use list::{FILTERS, ListOptions, Summary};
pub use load::LoadReport;
pub use make::{CommitOptions, ImportOptions, new_name};
pub use remote::{Described, Found, SEARCH_FILTERS};
pub use remove::{PRUNE_FILTERS, Pruned, Removed};

/// What is kept of an image beside its configuration.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ImageRecord {
    /// When it last got a name.
    pub(crate) tagged: Option<Timestamp>,
    /// Its layers, so that these are known when its configuration is lost; records of before have
    /// none.
    #[serde(default)]
    pub(crate) layers: Option<Vec<Digest>>,
    /// The image it was committed on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) parent: Option<Digest>,
}

impl ImageRecord {
    fn of(image: &Image) -> Self {
        Self {
            tagged: image.tagged,
            layers: Some(image.config.rootfs.diff_ids.clone()),
            parent: image.parent,
        }
    }
}

/// An image.
#[derive(Debug, Clone)]
pub struct Image {
    /// Digest of its configuration.
    pub id: Digest,
    /// Its configuration.
    pub config: Arc<ImageConfig>,
    /// Bytes of its layers.
    pub size: u64,
    /// When it last got a name.
    pub tagged: Option<Timestamp>,
    /// The image it was committed on.
    pub parent: Option<Digest>,
}

/// Layers that are pushed at once, by everybody together; dockerd's default.
const UPLOADS: usize = 5;

/// All images and their names.
pub(crate) struct Images {
    index: Mutex<Index>,
    /// Read by those who record what refers to layers, written by the collector. Never held while
    /// anything outside the machine is waited for.
    recording: Arc<RwLock<()>>,
    /// One change of names at a time: what is checked still holds when it is written.
    naming: tokio::sync::Mutex<()>,
    known: Known,
    /// One for each layer that is on its way to a registry.
    uploads: Arc<Semaphore>,
}

impl Default for Images {
    fn default() -> Self {
        Self {
            index: Mutex::default(),
            recording: Arc::default(),
            naming: tokio::sync::Mutex::default(),
            known: Known::default(),
            uploads: Arc::new(Semaphore::new(UPLOADS)),
        }
    }
}

#[derive(Default)]
struct Index {
    images: BTreeMap<Digest, Image>,
    names: BTreeMap<Reference, Digest>,
    /// Images of the database that cannot be read.
    unreadable: Unreadable,
}

impl Images {
    /// Keeps the collector out while something that refers to layers is recorded.
    pub(crate) async fn hold(&self) -> tokio::sync::RwLockReadGuard<'_, ()> {
        self.recording.read().await
    }

    /// Keeps out whoever records; for the collector.
    async fn still(&self) -> OwnedRwLockWriteGuard<()> {
        Arc::clone(&self.recording).write_owned().await
    }

    fn lock(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Index {
    /// The names of an image, tags before digests.
    fn names_of(&self, id: &Digest) -> Vec<Reference> {
        let names = self.names.iter().filter(|(_, image)| *image == id);
        let mut names: Vec<Reference> = names.map(|(name, _)| name.clone()).collect();
        names.sort_by_key(|name| name.digest().is_some());
        names
    }

    /// What `text` names: an id, a name, or the beginning of an id.
    fn find(&self, text: &str) -> Result<&Image> {
        let missing = || Error::not_found(format!("No such image: {}", with_latest(text)));
        let bare = text.strip_prefix("sha256:").unwrap_or(text);
        if let Ok(id) = Digest::from_hex(bare) {
            return self.images.get(&id).ok_or_else(missing);
        }
        if let Ok(reference) = text.parse::<Reference>() {
            let named = match reference.digest() {
                Some(digest) => self.names.get(&reference.with_digest(*digest)),
                None => self.names.get(&reference.with_default_tag()),
            };
            if let Some(image) = named.and_then(|id| self.images.get(id)) {
                return Ok(image);
            }
        }
        let hex = !bare.is_empty() && bare.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !hex {
            return Err(missing());
        }
        let mut found = self
            .images
            .values()
            .filter(|image| image.id.hex().starts_with(bare));
        match (found.next(), found.next()) {
            (Some(image), None) => Ok(image),
            (None, _) => Err(missing()),
            (Some(_), Some(_)) => Err(Error::invalid(format!("image {text} is ambiguous"))),
        }
    }
}

/// The text with the tag that it means, for messages.
fn with_latest(text: &str) -> String {
    let last = text.rsplit('/').next().unwrap_or(text);
    if last.contains(':') || text.contains('@') {
        text.to_owned()
    } else {
        format!("{text}:latest")
    }
}

impl Engine {
    /// The image that `text` names.
    ///
    /// # Errors
    ///
    /// Not found, or the beginning of more than one id.
    pub fn image(&self, text: &str) -> Result<Image> {
        self.images().lock().find(text).cloned()
    }

    /// How many images there are.
    #[must_use]
    pub fn image_count(&self) -> usize {
        self.images().lock().images.len()
    }

    /// The names of an image, tags before digests.
    #[must_use]
    pub fn image_names(&self, id: &Digest) -> Vec<Reference> {
        self.images().lock().names_of(id)
    }

    /// Reads the images of the database; called once, while the engine opens.
    pub(crate) async fn load_images(&self) -> Result<()> {
        self.load_known().await?;
        let rows = self.db().write(Sync::Lazy, |connection| {
            let mut statement = connection.prepare("SELECT id, body FROM images")?;
            let pair = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
            let images: Vec<(String, String)> = statement
                .query_map([], pair)?
                .collect::<std::result::Result<_, _>>()?;
            let mut statement = connection.prepare("SELECT name, image FROM image_names")?;
            let names: Vec<(String, String)> = statement
                .query_map([], pair)?
                .collect::<std::result::Result<_, _>>()?;
            Ok((images, names))
        });
        let (images, names) = rows.await?;
        for (id, body) in images {
            match self.read_image(&id, &body) {
                Ok(image) => {
                    self.images().lock().images.insert(image.id, image);
                }
                // The others must not be lost for it; `docker pull` heals this one.
                Err(error) => {
                    tracing::error!(image = id, error = error.text(), "an image cannot be read");
                    let layers = self.layers_left(&id, &body);
                    self.images().lock().unreadable.add(id, layers);
                }
            }
        }
        let mut index = self.images().lock();
        for (name, id) in names {
            let Ok(name) = name.parse::<Reference>() else {
                continue;
            };
            match id.parse::<Digest>() {
                Ok(id) if index.images.contains_key(&id) => {
                    index.names.insert(name, id);
                }
                _ => index.unreadable.add_name(name, id),
            }
        }
        Ok(())
    }

    fn read_image(&self, id: &str, body: &str) -> Result<Image> {
        let broken = |error| Error::internal("an image's record is not what it should be", error);
        let id: Digest = id
            .parse()
            .map_err(|error| Error::internal("an image's id cannot be read", error))?;
        let record: ImageRecord = serde_json::from_str(body).map_err(broken)?;
        let bytes = self.store().read_blob(&id)?;
        let config = ImageConfig::parse(&bytes).map_err(broken)?;
        Ok(self.assemble(id, config, &record))
    }

    fn assemble(&self, id: Digest, config: ImageConfig, record: &ImageRecord) -> Image {
        let layers: BTreeSet<&Digest> = config.rootfs.diff_ids.iter().collect();
        let sizes = layers
            .into_iter()
            .filter_map(|layer| self.store().layer(layer));
        let size = sizes.map(|layer| layer.tar_bytes).sum();
        Image {
            id,
            config: Arc::new(config),
            size,
            tagged: record.tagged,
            parent: record.parent,
        }
    }

    /// Records an image, gives it these names and drops its pin; durable when this returns. Names
    /// that another image had are taken from it. On a task of its own: a client that goes must not
    /// leave a record on the disk whose layers nobody keeps.
    pub(crate) async fn record_image(
        self: &Arc<Self>,
        id: Digest,
        config: ImageConfig,
        names: &[Reference],
        parent: Option<Digest>,
        pin: Pin,
    ) -> Result<()> {
        let (engine, names) = (Arc::clone(self), names.to_vec());
        let recording = tokio::spawn(async move {
            let _held = engine.images().hold().await;
            let recorded = engine.write_record(id, config, &names, parent).await;
            // Before the collector may look again.
            drop(pin);
            recorded
        });
        recording
            .await
            .map_err(|error| Error::internal("recording the image failed", error))?
    }

    async fn write_record(
        &self,
        id: Digest,
        config: ImageConfig,
        names: &[Reference],
        parent: Option<Digest>,
    ) -> Result<()> {
        let _one = self.images().naming.lock().await;
        let known = self.images().lock().images.get(&id).map(ImageRecord::of);
        let mut record = ImageRecord {
            tagged: known.as_ref().and_then(|known| known.tagged),
            layers: Some(config.rootfs.diff_ids.clone()),
            parent: parent.or(known.and_then(|known| known.parent)),
        };
        if !names.is_empty() {
            record.tagged = Some(Timestamp::now());
        }
        let image = self.assemble(id, config, &record);
        let (row, named) = (id.to_string(), names.to_vec());
        let write = self.db().write(Sync::Durable, move |connection| {
            let body = serde_json::to_string(&record)?;
            connection.execute(
                "INSERT INTO images (id, body) VALUES (?1, ?2)
                 ON CONFLICT (id) DO UPDATE SET body = excluded.body",
                (&row, &body),
            )?;
            for name in &named {
                connection.execute(
                    "INSERT INTO image_names (name, image) VALUES (?1, ?2)
                     ON CONFLICT (name) DO UPDATE SET image = excluded.image",
                    (&name.to_string(), &row),
                )?;
            }
            Ok(())
        });
        write.await?;
        let mut index = self.images().lock();
        let healed = index.unreadable.remove(&id.to_string());
        index
            .names
            .extend(healed.into_iter().map(|name| (name, id)));
        names
            .iter()
            .for_each(|name| index.unreadable.lose_name(name));
        index.images.insert(id, image);
        index
            .names
            .extend(names.iter().map(|name| (name.clone(), id)));
        Ok(())
    }

    pub(crate) fn image_event(&self, action: &str, actor: &str, name: &str, image: Option<&Image>) {
        let labels = image.and_then(|image| image.config.config.labels.clone());
        let mut attributes: BTreeMap<String, String> = labels.unwrap_or_default();
        attributes.insert("name".into(), name.to_owned());
        self.events()
            .emit(Subject::Image, action, actor, attributes);
    }
}

impl From<lighter_images::Error> for Error {
    fn from(error: lighter_images::Error) -> Self {
        use lighter_images::Error as Images;
        match &error {
            Images::Registry(refused) => Self::new(pull::kind(refused), error.to_string()),
            Images::File { .. } | Images::Missing { .. } => {
                Self::internal("the image store failed", error)
            }
            _ => Self::invalid(error.to_string()),
        }
    }
}
