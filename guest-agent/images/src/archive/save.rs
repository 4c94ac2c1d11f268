//! Writes an archive of images, as dockerd 28 does.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;

use serde::Serialize;

use super::writer::TarWriter;
use crate::config::ImageConfig;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::layer::Hashing;
use crate::manifest::{
    Descriptor, Index, Manifest, OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST,
};
use crate::reference::Reference;
use crate::store::Store;

/// An image to be written, with the names it is to have in the archive.
#[derive(Debug, Clone)]
pub struct SavedImage {
    /// Its ID.
    pub id: Digest,
    /// Names with tags; none if it was asked for by its ID.
    pub names: Vec<Reference>,
}

/// An entry of docker's `manifest.json`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DockerItem {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
    layer_sources: BTreeMap<Digest, Descriptor>,
}

/// The documents of the archive, collected image by image.
#[derive(Default)]
struct Documents {
    blobs: BTreeMap<Digest, Vec<u8>>,
    layers: BTreeSet<Digest>,
    index: Vec<Descriptor>,
    docker: Vec<DockerItem>,
    repositories: BTreeMap<String, BTreeMap<String, String>>,
}

/// Writes the images. Blocks. Layers go out byte for byte as they came in.
pub fn save(store: &Store, images: &[SavedImage], out: impl Write) -> Result<()> {
    let mut documents = Documents::default();
    for image in images {
        documents.add(store, image)?;
    }
    documents.write(store, out)
}

impl Documents {
    fn add(&mut self, store: &Store, image: &SavedImage) -> Result<()> {
        let bytes = store.read_blob(&image.id)?;
        let config = ImageConfig::parse(&bytes).map_err(|source| Error::Document {
            what: "image configuration",
            source,
        })?;
        let diff_ids = &config.rootfs.diff_ids;
        let layers = diff_ids
            .iter()
            .map(|diff_id| {
                Ok(descriptor(
                    OCI_LAYER,
                    *diff_id,
                    store.require_layer(diff_id)?.tar_bytes,
                ))
            })
            .collect::<Result<Vec<_>>>()?;
        let manifest = Manifest {
            schema_version: 2,
            media_type: OCI_MANIFEST.into(),
            config: descriptor(OCI_CONFIG, image.id, bytes.len() as u64),
            layers: layers.clone(),
        };
        let manifest = encode(&manifest)?;
        let manifest_digest = Digest::of(&manifest);
        let entry = descriptor(OCI_MANIFEST, manifest_digest, manifest.len() as u64);
        self.add_to_index(image, &entry);
        self.docker.push(DockerItem {
            config: blob_path(&image.id),
            repo_tags: (!image.names.is_empty())
                .then(|| image.names.iter().map(Reference::familiar).collect()),
            layers: diff_ids.iter().map(blob_path).collect(),
            layer_sources: layers
                .into_iter()
                .map(|layer| (layer.digest, layer))
                .collect(),
        });
        for name in &image.names {
            let tags = self.repositories.entry(name.familiar_name()).or_default();
            if let (Some(tag), Some(top)) = (name.tag(), diff_ids.last()) {
                tags.insert(tag.to_owned(), top.hex());
            }
        }
        self.layers.extend(diff_ids);
        self.blobs.insert(image.id, bytes);
        self.blobs.insert(manifest_digest, manifest);
        Ok(())
    }

    fn add_to_index(&mut self, image: &SavedImage, entry: &Descriptor) {
        if image.names.is_empty() {
            self.index.push(entry.clone());
        }
        for name in &image.names {
            let annotations = BTreeMap::from([
                ("io.containerd.image.name".to_owned(), name.to_string()),
                (
                    "org.opencontainers.image.ref.name".to_owned(),
                    name.tag().unwrap_or_default().to_owned(),
                ),
            ]);
            self.index.push(Descriptor {
                annotations: Some(annotations),
                ..entry.clone()
            });
        }
    }

    fn write(&self, store: &Store, out: impl Write) -> Result<()> {
        let mut tar = TarWriter::new(out);
        tar.directory("blobs/")?;
        tar.directory("blobs/sha256/")?;
        let names: BTreeSet<&Digest> = self.blobs.keys().chain(&self.layers).collect();
        for digest in names {
            let path = blob_path(digest);
            if let Some(bytes) = self.blobs.get(digest) {
                tar.bytes(&path, bytes)?;
                continue;
            }
            let layer = store.require_layer(digest)?;
            let file = File::open(&layer.tar).map_err(Error::file("open", &layer.tar))?;
            let mut file = Hashing::new(file);
            tar.file(&path, layer.tar_bytes, &mut file)?;
            let (actual, _) = file.finish();
            // Damage at rest must not leave the machine as a good archive.
            if actual != *digest {
                return Err(Error::Mismatch {
                    what: "layer".into(),
                    expected: *digest,
                    actual,
                });
            }
        }
        let index = Index {
            schema_version: 2,
            media_type: OCI_INDEX.into(),
            manifests: self.index.clone(),
        };
        tar.bytes("index.json", &encode(&index)?)?;
        tar.bytes("manifest.json", &encode(&self.docker)?)?;
        tar.bytes("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        if !self.repositories.is_empty() {
            tar.bytes("repositories", &encode(&self.repositories)?)?;
        }
        tar.finish()?;
        Ok(())
    }
}

fn descriptor(media_type: &str, digest: Digest, size: u64) -> Descriptor {
    Descriptor {
        media_type: media_type.into(),
        digest,
        size,
        platform: None,
        annotations: None,
    }
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn encode(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|source| Error::Document {
        what: "archive",
        source,
    })
}
