//! Brings one image to a registry: its layers, its configuration, then the manifest that names them.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::client::Access;
use super::places::Places;
use super::upload::Uploads;
use super::{Credentials, KnownBlob, Network};
use crate::config::ImageConfig;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::manifest::DOCKER_MANIFEST;
use crate::progress::{Progress, ProgressEvent};
use crate::reference::Reference;
use crate::store::Store;

const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

/// What goes where.
#[derive(Debug, Clone)]
pub struct PushRequest {
    /// Where: a repository and a tag.
    pub reference: Reference,
    /// The image's ID. Whoever asks keeps it and its layers pinned.
    pub image: Digest,
    /// Who asks.
    pub credentials: Credentials,
    /// What registries call the layers, by diff_id; the latest first.
    pub known: HashMap<Digest, Vec<KnownBlob>>,
    /// One for each layer that may be on its way at once.
    pub slots: Arc<Semaphore>,
}

/// An image that the registry has now.
#[derive(Debug)]
pub struct PushedImage {
    /// The manifest's digest.
    pub digest: Digest,
    /// Its size.
    pub size: u64,
    /// What the repository calls the layers, by diff_id.
    pub layers: Vec<(Digest, KnownBlob)>,
}

/// As dockerd writes it, byte for byte: the same layers have the same digest.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    schema_version: u32,
    media_type: &'static str,
    config: Entry,
    layers: Vec<Entry>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    media_type: &'static str,
    size: u64,
    digest: Digest,
}

/// Pushes an image. The tag is the last thing that is written: until then nobody sees anything.
pub async fn push(
    store: &Arc<Store>,
    network: &Network,
    request: &PushRequest,
    progress: &Arc<dyn Progress>,
) -> Result<PushedImage> {
    let (reference, credentials) = (&request.reference, &request.credentials);
    let mut places = Places::new(network, reference, credentials, Access::Push)?;
    while let Some(client) = places.next()? {
        if let Err(error) = client.ping().await {
            places.failed(error.into());
            continue;
        }
        let uploads = Uploads {
            store: Arc::clone(store),
            client: Arc::new(client),
            reference: reference.clone(),
            progress: Arc::clone(progress),
            retry_delay: network.retry_delay,
            slots: Arc::clone(&request.slots),
        };
        return Push { request, uploads }.run().await;
    }
    Err(places.last)
}

struct Push<'a> {
    request: &'a PushRequest,
    uploads: Uploads,
}

impl Push<'_> {
    async fn run(self) -> Result<PushedImage> {
        let id = self.request.image;
        let bytes = self.uploads.store.read_blob(&id)?;
        let config = ImageConfig::parse(&bytes).map_err(|source| Error::Document {
            what: "image configuration",
            source,
        })?;
        let diff_ids = &config.rootfs.diff_ids;
        let layers = self.layers(diff_ids).await?;
        let entry = |diff_id: &Digest| {
            let blob = layers.get(diff_id).ok_or(Error::Worker)?;
            Ok(Entry {
                media_type: DOCKER_LAYER,
                size: blob.size,
                digest: blob.digest,
            })
        };
        let manifest = Manifest {
            schema_version: 2,
            media_type: DOCKER_MANIFEST,
            config: Entry {
                media_type: DOCKER_CONFIG,
                size: bytes.len() as u64,
                digest: id,
            },
            layers: diff_ids.iter().map(entry).collect::<Result<_>>()?,
        };
        self.config(&id, bytes.into()).await?;
        let manifest = encode(&manifest)?;
        let (digest, size) = (Digest::of(&manifest), manifest.len() as u64);
        let tag = self.request.reference.tag().unwrap_or("latest");
        let client = &self.uploads.client;
        client
            .put_manifest(tag, DOCKER_MANIFEST, manifest.into())
            .await?;
        let report = |event| self.uploads.progress.report(event);
        report(ProgressEvent::message(format!(
            "{tag}: digest: {digest} size: {size}"
        )));
        report(ProgressEvent::pushed(tag, digest, size));
        Ok(PushedImage {
            digest,
            size,
            layers: layers.into_iter().collect(),
        })
    }

    /// Every layer once, the uppermost first.
    async fn layers(&self, diff_ids: &[Digest]) -> Result<HashMap<Digest, KnownBlob>> {
        let mut running: JoinSet<Result<(Digest, KnownBlob)>> = JoinSet::new();
        let mut wanted: Vec<Digest> = Vec::new();
        for diff_id in diff_ids.iter().rev() {
            self.uploads.say(diff_id, "Preparing");
            if !wanted.contains(diff_id) {
                wanted.push(*diff_id);
            }
        }
        for diff_id in wanted {
            let known = self.request.known.get(&diff_id).cloned();
            let uploads = self.uploads.clone();
            running.spawn(async move {
                let blob = uploads.layer(diff_id, known.unwrap_or_default()).await?;
                Ok((diff_id, blob))
            });
        }
        let mut found = HashMap::new();
        // The first failure ends the others: dropping the set aborts them.
        while let Some(ended) = running.join_next().await {
            let (diff_id, blob) = ended.map_err(|_| Error::Worker)??;
            found.insert(diff_id, blob);
        }
        Ok(found)
    }

    async fn config(&self, id: &Digest, bytes: Bytes) -> Result<()> {
        let client = &self.uploads.client;
        if !client.has(id).await? {
            let url = client.begin().await?;
            client.finish(&url, bytes, id).await?;
        }
        Ok(())
    }
}

/// Go's `MarshalIndent` with three spaces.
fn encode(manifest: &Manifest) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let format = serde_json::ser::PrettyFormatter::with_indent(b"   ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, format);
    manifest
        .serialize(&mut serializer)
        .map_err(|source| Error::Document {
            what: "manifest",
            source,
        })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes that dockerd 28.5.2 pushed, and the digest it named.
    #[test]
    fn a_manifest_has_the_digest_that_dockerd_gives_it() {
        let entry = |media_type, size, hex| Entry {
            media_type,
            size,
            digest: Digest::from_hex(hex).unwrap(),
        };
        let manifest = Manifest {
            schema_version: 2,
            media_type: DOCKER_MANIFEST,
            config: entry(
                DOCKER_CONFIG,
                893,
                "f47ff7253bcee545f4ed939483313a5566e22e6a064400e09803455f41e2118e",
            ),
            layers: vec![entry(
                DOCKER_LAYER,
                1_079_966,
                "861ef97e4de00140f8b1800628ade26f28b1d583089be68744ddc2bf5087a698",
            )],
        };
        let bytes = encode(&manifest).unwrap();
        assert_eq!(bytes.len(), 527);
        assert_eq!(
            Digest::of(&bytes).to_string(),
            "sha256:cceef8a9f85c6c1482f5a7fa45d0f4f00ea5181a7cf4d57049c94925a9b86820"
        );
    }
}
