//! What a registry has under a name, without taking it.

use serde::Deserialize;

use super::client::{Access, Client};
use super::places::Places;
use super::pull::{first, same};
use super::{Credentials, Network};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::manifest::{DescriptorPlatform, Document, MAX_BYTES};
use crate::reference::Reference;

/// What a name stands for in a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// The form of the document.
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its size.
    pub size: u64,
    /// The machines there is an image for.
    pub platforms: Vec<DescribedPlatform>,
}

/// One of the machines.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct DescribedPlatform {
    /// `amd64`, `arm64`, …
    pub architecture: String,
    /// `linux`.
    pub os: String,
    /// Of an image for Windows.
    #[serde(rename = "os.version")]
    pub os_version: String,
    /// `v8` and the like.
    pub variant: String,
}

/// Asks what `reference` stands for; `latest` if it has neither tag nor digest.
pub async fn describe(
    network: &Network,
    reference: &Reference,
    credentials: &Credentials,
) -> Result<Described> {
    let reference = reference.clone().with_default_tag();
    let mut places = Places::new(network, &reference, credentials, Access::Pull)?;
    while let Some(client) = places.next()? {
        match ask(&client, &reference).await {
            Ok(described) => return Ok(described),
            Err(error) => places.failed(error),
        }
    }
    Err(places.last)
}

async fn ask(client: &Client, reference: &Reference) -> Result<Described> {
    let (digest, fetched) = first(client, reference).await?;
    let document = Document::parse(&fetched.bytes, &fetched.media_type)?;
    let platforms = match document {
        Document::Index(index) => {
            let entries = index.manifests.into_iter();
            entries
                .filter_map(|entry| Some(of_index(entry.platform?)))
                .collect()
        }
        Document::Manifest(manifest) if manifest.config.size <= MAX_BYTES as u64 => {
            let config = client.document(&manifest.config.digest).await?;
            let actual = Digest::of(&config);
            same("image configuration", &manifest.config.digest, actual)?;
            let parsed = serde_json::from_slice(&config);
            let platform: DescribedPlatform = parsed.map_err(|source| Error::Document {
                what: "image configuration",
                source,
            })?;
            let named = !platform.os.is_empty() || !platform.architecture.is_empty();
            named.then_some(platform).into_iter().collect()
        }
        Document::Manifest(_) => Vec::new(),
    };
    Ok(Described {
        media_type: fetched.media_type,
        digest,
        size: fetched.bytes.len() as u64,
        platforms,
    })
}

fn of_index(platform: DescriptorPlatform) -> DescribedPlatform {
    DescribedPlatform {
        architecture: platform.architecture,
        os: platform.os,
        os_version: platform.os_version,
        variant: platform.variant,
    }
}
