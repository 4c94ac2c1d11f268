//! Takes one image in: finds its manifest, then what the store does not have yet.

use std::collections::HashSet;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::client::{Access, Client, Fetched};
use super::download::Downloads;
use super::places::Places;
use super::{Credentials, KnownBlob, Network, RegistryError};
use crate::config::ImageConfig;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::layer::Received;
use crate::manifest::{Descriptor, Document, MAX_BYTES, Manifest, Platform};
use crate::pins::Pin;
use crate::progress::{Progress, ProgressEvent};
use crate::reference::Reference;
use crate::store::Store;

/// Layers that come at once; dockerd's default.
const AT_ONCE: usize = 3;

/// What is wanted.
#[derive(Debug, Clone)]
pub struct PullRequest {
    /// The image; `latest` if it has neither tag nor digest.
    pub reference: Reference,
    /// For which machine; this one if none.
    pub platform: Option<Platform>,
    /// Who asks.
    pub credentials: Credentials,
}

/// An image that is in the store now.
#[derive(Debug)]
pub struct PulledImage {
    /// Digest of the configuration: the image's ID.
    pub id: Digest,
    /// The configuration.
    pub config: ImageConfig,
    /// The digest the reference stands for in the registry: of the index if there is one.
    pub digest: Digest,
    /// What the registry calls its layers, by diff_id, where that is of use to a push.
    pub layers: Vec<(Digest, KnownBlob)>,
    /// Keeps what it is made of until it is recorded.
    pub pin: Pin,
}

/// Pulls an image. Its layers and configuration are durable when this returns; dropped before,
/// it leaves nothing but whole layers that the collector takes.
///
/// The first progress line comes once the registry has shown the manifest.
pub async fn pull(
    store: &Arc<Store>,
    network: &Network,
    request: &PullRequest,
    progress: &Arc<dyn Progress>,
) -> Result<PulledImage> {
    let request = &PullRequest {
        reference: request.reference.clone().with_default_tag(),
        ..request.clone()
    };
    let mut places = Places::new(
        network,
        &request.reference,
        &request.credentials,
        Access::Pull,
    )?;
    while let Some(client) = places.next()? {
        let platform = request.platform.clone();
        let pull = Pull {
            reference: &request.reference,
            platform: platform.unwrap_or_else(Platform::native),
            downloads: Downloads {
                store: Arc::clone(store),
                client: Arc::new(client),
                progress: Arc::clone(progress),
                retry_delay: network.retry_delay,
            },
        };
        match pull.run().await {
            Ok(pulled) => return Ok(pulled),
            Err(error) => places.failed(error),
        }
    }
    Err(places.last)
}

/// Every tag of the repository that `request` names, sorted.
pub async fn tags(network: &Network, request: &PullRequest) -> Result<Vec<Reference>> {
    let mut places = Places::new(
        network,
        &request.reference,
        &request.credentials,
        Access::Pull,
    )?;
    while let Some(client) = places.next()? {
        match client.tags(&request.reference).await {
            Ok(tags) => return Ok(tags),
            Err(error) => places.failed(error.into()),
        }
    }
    Err(places.last)
}

struct Pull<'a> {
    reference: &'a Reference,
    platform: Platform,
    downloads: Downloads,
}

impl Pull<'_> {
    async fn run(self) -> Result<PulledImage> {
        let (digest, first) = first(&self.downloads.client, self.reference).await?;
        let manifest = self.manifest(first).await?;
        let tag = match self.reference.tag() {
            Some(tag) if self.reference.digest().is_none() => tag.to_owned(),
            _ => digest.to_string(),
        };
        let from = format!("Pulling from {}", self.reference.repository());
        self.report(ProgressEvent::about(tag, from));
        let bytes = self.config(&manifest.config).await?;
        let config = ImageConfig::parse(&bytes).map_err(|source| Error::Document {
            what: "image configuration",
            source,
        })?;
        if !matches!(config.os.as_str(), "" | "linux") {
            return Err(Error::OperatingSystem(config.os));
        }
        let diff_ids = &config.rootfs.diff_ids;
        if diff_ids.len() != manifest.layers.len() {
            return Err(self.invalid("manifest and configuration list different layers"));
        }
        let needed = diff_ids.iter().copied().chain([manifest.config.digest]);
        let pin = self.downloads.store.pin(needed);
        // Of an image that is here as a whole dockerd says no more either.
        let store = &self.downloads.store;
        let whole = store.has_blob(&manifest.config.digest)
            && diff_ids
                .iter()
                .all(|diff_id| store.layer(diff_id).is_some());
        if !whole {
            self.layers(&manifest.layers, diff_ids).await?;
        }
        let layers = self.known(&manifest.layers, diff_ids);
        let store = Arc::clone(&self.downloads.store);
        let id = blocking(move || store.write_blob(&bytes)).await?;
        self.report(ProgressEvent::message(format!("Digest: {digest}")));
        Ok(PulledImage {
            id,
            config,
            digest,
            layers,
            pin,
        })
    }

    /// The manifest for the platform.
    async fn manifest(&self, first: Fetched) -> Result<Manifest> {
        let index = match Document::parse(&first.bytes, &first.media_type)? {
            Document::Manifest(manifest) => return Ok(manifest),
            Document::Index(index) => index,
        };
        let chosen = self.platform.choose(&index.manifests);
        let chosen = chosen.ok_or_else(|| RegistryError::NoPlatform(self.platform.display()))?;
        let name = chosen.digest.to_string();
        let fetched = self.downloads.client.manifest(&name).await?;
        same("manifest", &chosen.digest, Digest::of(&fetched.bytes))?;
        match Document::parse(&fetched.bytes, &fetched.media_type)? {
            Document::Manifest(manifest) => Ok(manifest),
            Document::Index(_) => Err(self.invalid("an index within an index")),
        }
    }

    async fn config(&self, expected: &Descriptor) -> Result<Vec<u8>> {
        if expected.size > MAX_BYTES as u64 {
            return Err(self.invalid("the configuration is larger than 4 MiB"));
        }
        let store = &self.downloads.store;
        if let Ok(known) = store.read_blob(&expected.digest) {
            return Ok(known);
        }
        let bytes = self.downloads.client.document(&expected.digest).await?;
        same("image configuration", &expected.digest, Digest::of(&bytes))?;
        Ok(bytes.to_vec())
    }

    /// Every layer that the store does not have. Each becomes visible once it is verified.
    async fn layers(&self, layers: &[Descriptor], diff_ids: &[Digest]) -> Result<()> {
        let mut seen = HashSet::new();
        let pairs = layers.iter().zip(diff_ids);
        let wanted: Vec<(&Descriptor, &Digest)> = pairs
            .filter(|(_, diff_id)| seen.insert(**diff_id))
            .collect();
        let slots = Arc::new(Semaphore::new(AT_ONCE));
        let mut running: JoinSet<Result<()>> = JoinSet::new();
        for (layer, diff_id) in wanted {
            let id = layer.digest.short();
            if self.downloads.store.layer(diff_id).is_some() {
                self.report(ProgressEvent::layer(id, "Already exists"));
                continue;
            }
            self.report(ProgressEvent::layer(id, "Pulling fs layer"));
            let (slots, downloads) = (Arc::clone(&slots), self.downloads.clone());
            let (layer, diff_id) = (layer.clone(), *diff_id);
            running.spawn(async move {
                let slot = match slots.clone().try_acquire_owned() {
                    Ok(slot) => Ok(slot),
                    Err(_) => {
                        downloads.report(&layer, "Waiting");
                        slots.acquire_owned().await
                    }
                };
                let _slot = slot.map_err(|_| Error::Worker)?;
                let (id, size) = (layer.digest.short(), layer.size);
                let store = Arc::clone(&downloads.store);
                let progress = Arc::clone(&downloads.progress);
                let received: Received = downloads.layer(layer).await?;
                // Unpacked while it came: what is left is to make it visible.
                progress.report(ProgressEvent::bar(&id, "Extracting", size, size));
                blocking(move || received.layer.commit(&store, &diff_id)).await?;
                progress.report(ProgressEvent::layer(id, "Pull complete"));
                Ok(())
            });
        }
        // The first failure ends the others: dropping the set aborts them.
        while let Some(ended) = running.join_next().await {
            ended.map_err(|_| Error::Worker)??;
        }
        Ok(())
    }

    /// Layers in gzip only: a push calls them that.
    fn known(&self, layers: &[Descriptor], diff_ids: &[Digest]) -> Vec<(Digest, KnownBlob)> {
        let pairs = diff_ids.iter().zip(layers);
        let pairs = pairs.filter(|(_, layer)| layer.media_type.ends_with("gzip"));
        let known = pairs.map(|(diff_id, layer)| {
            let blob = KnownBlob::of(self.reference, layer.digest, layer.size);
            (*diff_id, blob)
        });
        known.collect()
    }

    fn report(&self, event: ProgressEvent) {
        self.downloads.progress.report(event);
    }

    fn invalid(&self, problem: &str) -> Error {
        Error::Registry(RegistryError::Protocol {
            request: self.reference.familiar(),
            problem: problem.to_owned(),
        })
    }
}

/// What the reference stands for, with its digest verified or, by a bare tag, made.
pub(super) async fn first(client: &Client, reference: &Reference) -> Result<(Digest, Fetched)> {
    let expected = match (reference.digest(), reference.tag()) {
        (Some(digest), _) => Some(*digest),
        (None, Some(tag)) => client.resolve(tag).await?,
        (None, None) => None,
    };
    let name = match (&expected, reference.tag()) {
        (Some(digest), _) => digest.to_string(),
        (None, tag) => tag.unwrap_or("latest").to_owned(),
    };
    let fetched = client.manifest(&name).await?;
    let actual = Digest::of(&fetched.bytes);
    if let Some(expected) = expected {
        same("manifest", &expected, actual)?;
    }
    Ok((actual, fetched))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| Error::Worker)?
}

pub(super) fn same(what: &str, expected: &Digest, actual: Digest) -> Result<()> {
    if actual == *expected {
        return Ok(());
    }
    Err(Error::Mismatch {
        what: what.to_owned(),
        expected: *expected,
        actual,
    })
}
