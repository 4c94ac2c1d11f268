//! Reads an archive of images.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read};

use serde::Deserialize;

use crate::config::ImageConfig;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::inflate::{Compression, Growth, Inflate};
use crate::layer::Received;
use crate::manifest::{Descriptor, Document, MAX_LAYERS, Platform};
use crate::pins::Pin;
use crate::reference::Reference;
use crate::store::Store;
use crate::tar::{BLOCK, Entry, Kind, Limits, TarReader, begins_tar};

/// An image that is in the store now.
#[derive(Debug)]
pub struct LoadedImage {
    /// Digest of the configuration: the image's ID.
    pub id: Digest,
    /// The configuration.
    pub config: ImageConfig,
    /// The names the archive gives it, each with a tag.
    pub names: Vec<Reference>,
    /// Keeps what it is made of until it is recorded.
    pub pin: Pin,
}

/// Documents larger than this are not looked at.
const MAX_DOCUMENT: u64 = 4 << 20;
/// All documents of an archive together.
const MAX_DOCUMENTS: u64 = 64 << 20;
/// Entries of the archive itself.
const MAX_ENTRIES: u64 = 100_000;
/// Bytes of its extended headers: all its names are kept until its end, and honest ones are short.
const MAX_HEADERS: u64 = 16 << 20;

/// Loads every image of an archive. Blocks; layers and configurations are durable when it
/// returns, and nothing is visible of an archive that is refused before its first image.
pub fn load(store: &Store, input: impl Read) -> Result<Vec<LoadedImage>> {
    let limits = store.options.limits;
    let growth = Growth {
        ratio: limits.ratio,
        floor: limits.ratio_floor,
    };
    let unpacked = BufReader::with_capacity(256 << 10, Inflate::new(input, growth)?);
    let mut archive = Archive::read(store, unpacked)?;
    if let Some(manifest) = archive.document("manifest.json") {
        let items: Vec<DockerItem> =
            serde_json::from_slice(&manifest).map_err(|source| Error::Document {
                what: "manifest.json",
                source,
            })?;
        return items
            .iter()
            .map(|item| archive.docker_image(item))
            .collect();
    }
    match archive.document("index.json") {
        Some(index) => archive.oci_images(&index),
        None => Err(Error::Archive(
            "it has neither manifest.json nor index.json".into(),
        )),
    }
}

/// An entry of docker's `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerItem {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

/// What a path of the archive turned out to be.
enum Content {
    Document(Vec<u8>),
    Layer(Box<Received>),
    /// A layer that is in the store, by its diff_id.
    Stored(Digest),
    /// Something that could be a layer, but is not one that is taken.
    Refused(Error),
    Link(String),
}

struct Archive<'a> {
    store: &'a Store,
    /// Layers that were here already and so are not read.
    found: Pin,
    contents: HashMap<String, Content>,
    document_bytes: u64,
}

impl<'a> Archive<'a> {
    fn read(store: &'a Store, input: impl BufRead) -> Result<Self> {
        let mut archive = Self {
            store,
            found: store.pin([]),
            contents: HashMap::new(),
            document_bytes: 0,
        };
        let limits = Limits {
            entries: MAX_ENTRIES,
            header_bytes: MAX_HEADERS,
        };
        let mut reader = TarReader::new(input, limits);
        while let Some(entry) = reader.next_entry()? {
            let Some(path) = clean(&entry.path) else {
                return Err(Error::Archive("an entry's name leads out of it".into()));
            };
            // The last entry of a name counts, whatever it is.
            match archive.content(&path, &entry, &mut reader)? {
                Some(content) => archive.contents.insert(path, content),
                None => archive.contents.remove(&path),
            };
        }
        Ok(archive)
    }

    fn content(
        &mut self,
        path: &str,
        entry: &Entry,
        reader: &mut TarReader<impl BufRead>,
    ) -> Result<Option<Content>> {
        match entry.kind {
            Kind::Regular => self.file(path, entry, reader),
            // Docker once saved a layer that several images share as links to the first.
            Kind::Symlink => {
                let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
                let target = [parent.as_bytes(), b"/", &entry.link].concat();
                Ok(clean(&target).map(Content::Link))
            }
            Kind::HardLink => Ok(clean(&entry.link).map(Content::Link)),
            _ => Ok(None),
        }
    }

    fn file(
        &mut self,
        path: &str,
        entry: &Entry,
        reader: &mut TarReader<impl BufRead>,
    ) -> Result<Option<Content>> {
        let failed = |source| Error::Read {
            what: "read archive",
            source,
        };
        // What one read brings may end anywhere.
        let mut start = Vec::new();
        reader
            .by_ref()
            .take(BLOCK)
            .read_to_end(&mut start)
            .map_err(failed)?;
        let document = start.iter().find(|b| !b.is_ascii_whitespace());
        if matches!(document, Some(b'{' | b'[')) && entry.size <= MAX_DOCUMENT {
            self.document_bytes += entry.size;
            if self.document_bytes > MAX_DOCUMENTS {
                return Err(Error::Archive(
                    "its documents are larger than 64 MiB".into(),
                ));
            }
            reader.read_to_end(&mut start).map_err(failed)?;
            return Ok(Some(Content::Document(start)));
        }
        if !may_be_layer(&start) {
            return Ok(None);
        }
        // In our own archives and dockerd's a layer's name is its diff_id: one that is here
        // (verified when it came) need not be read again.
        let named = path
            .strip_prefix("blobs/sha256/")
            .and_then(|hex| Digest::from_hex(hex).ok());
        if let Some(diff_id) = named {
            let pin = self.store.pin([diff_id]);
            if self.store.layer(&diff_id).is_some() {
                self.found.add([diff_id]);
                return Ok(Some(Content::Stored(diff_id)));
            }
            drop(pin);
        }
        let received = Received::read(self.store, &mut start.chain(reader));
        Ok(Some(match received {
            Ok(received) => Content::Layer(Box::new(received)),
            // Out of room or a broken stream: nothing that follows can be read either.
            Err(error @ (Error::File { .. } | Error::Read { .. })) => return Err(error),
            Err(error) => Content::Refused(error),
        }))
    }

    fn docker_image(&mut self, item: &DockerItem) -> Result<LoadedImage> {
        let path = clean(item.config.as_bytes()).unwrap_or_default();
        let bytes = self.document(&path).ok_or_else(|| absent(&item.config))?;
        let (id, config) = parse_config(&bytes)?;
        let layers = item.layers.as_deref().unwrap_or_default();
        let diff_ids = &config.rootfs.diff_ids;
        if layers.len() != diff_ids.len() {
            return Err(Error::Archive(format!(
                "invalid manifest, layers length mismatch: expected {}, got {}",
                diff_ids.len(),
                layers.len()
            )));
        }
        let pin = self.pin(id, diff_ids)?;
        for (path, diff_id) in layers.iter().zip(diff_ids) {
            self.commit(&clean(path.as_bytes()).unwrap_or_default(), diff_id, None)?;
        }
        let names = item.repo_tags.iter().flatten().map(|name| parse_name(name));
        let names = names.collect::<Result<_>>()?;
        self.store.write_blob(&bytes)?;
        Ok(LoadedImage {
            id,
            config,
            names,
            pin,
        })
    }

    fn oci_images(&mut self, index: &[u8]) -> Result<Vec<LoadedImage>> {
        let Document::Index(index) = Document::parse(index, crate::manifest::OCI_INDEX)? else {
            return Err(Error::Archive("index.json is not an index".into()));
        };
        index
            .manifests
            .iter()
            .map(|entry| self.oci_image(entry))
            .collect()
    }

    fn oci_image(&mut self, entry: &Descriptor) -> Result<LoadedImage> {
        let bytes = self.blob(entry)?;
        let manifest = match Document::parse(&bytes, &entry.media_type)? {
            Document::Manifest(manifest) => manifest,
            Document::Index(index) => {
                let platform = Platform::native();
                let chosen = platform.choose(&index.manifests).ok_or_else(|| {
                    Error::Archive(format!("it has no image for {}", platform.display()))
                })?;
                let bytes = self.blob(chosen)?;
                match Document::parse(&bytes, &chosen.media_type)? {
                    Document::Manifest(manifest) => manifest,
                    Document::Index(_) => {
                        return Err(Error::Archive("an index within an index".into()));
                    }
                }
            }
        };
        let bytes = self.blob(&manifest.config)?;
        let (id, config) = parse_config(&bytes)?;
        if manifest.layers.len() != config.rootfs.diff_ids.len() {
            return Err(Error::Archive(
                "manifest and configuration list different layers".into(),
            ));
        }
        let pin = self.pin(id, &config.rootfs.diff_ids)?;
        for (layer, diff_id) in manifest.layers.iter().zip(&config.rootfs.diff_ids) {
            self.commit(&blob_path(&layer.digest), diff_id, Some(layer))?;
        }
        let names = oci_name(entry)?.into_iter().collect();
        self.store.write_blob(&bytes)?;
        Ok(LoadedImage {
            id,
            config,
            names,
            pin,
        })
    }

    /// Keeps an image's parts from the collector, from before they are looked for.
    fn pin(&self, id: Digest, diff_ids: &[Digest]) -> Result<Pin> {
        if diff_ids.len() > MAX_LAYERS {
            return Err(Error::LayerLimit(format!(
                "image has more than {MAX_LAYERS} layers"
            )));
        }
        Ok(self.store.pin(diff_ids.iter().copied().chain([id])))
    }

    /// Makes a layer of the archive visible in the store.
    fn commit(
        &mut self,
        path: &str,
        diff_id: &Digest,
        descriptor: Option<&Descriptor>,
    ) -> Result<()> {
        let path = self.resolve(path);
        if self.store.layer(diff_id).is_some() {
            return Ok(());
        }
        let content = self.contents.remove(&path).ok_or_else(|| absent(&path))?;
        let received = match content {
            Content::Layer(received) => *received,
            // A layer that begins like a document.
            Content::Document(bytes) => Received::read(self.store, &mut &bytes[..])?,
            Content::Stored(actual) => {
                return Err(Error::Mismatch {
                    what: "layer".into(),
                    expected: *diff_id,
                    actual,
                });
            }
            Content::Refused(error) => return Err(error),
            Content::Link(_) => return Err(absent(&path)),
        };
        if let Some(descriptor) = descriptor {
            received.check(descriptor)?;
        }
        let stored = received.layer.diff_id;
        received.layer.commit(self.store, diff_id)?;
        self.contents.insert(path, Content::Stored(stored));
        Ok(())
    }

    fn blob(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let path = blob_path(&descriptor.digest);
        let bytes = self.document(&path).ok_or_else(|| absent(&path))?;
        let actual = Digest::of(&bytes);
        if actual != descriptor.digest {
            return Err(Error::Mismatch {
                what: path,
                expected: descriptor.digest,
                actual,
            });
        }
        Ok(bytes)
    }

    fn document(&self, path: &str) -> Option<Vec<u8>> {
        match self.contents.get(&self.resolve(path))? {
            Content::Document(bytes) => Some(bytes.clone()),
            _ => None,
        }
    }

    /// Follows links within the archive, a few.
    fn resolve(&self, path: &str) -> String {
        let mut path = path.to_owned();
        for _ in 0..8 {
            match self.contents.get(&path) {
                Some(Content::Link(target)) => path.clone_from(target),
                _ => break,
            }
        }
        path
    }
}

/// The name without `.` and `..`; none if it leads out or is not text.
fn clean(path: &[u8]) -> Option<String> {
    let mut components = Vec::new();
    for component in std::str::from_utf8(path).ok()?.split('/') {
        match component {
            "" | "." => {}
            ".." => {
                components.pop()?;
            }
            name => components.push(name),
        }
    }
    Some(components.join("/"))
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// Compressed, or a tar, by the first block.
fn may_be_layer(start: &[u8]) -> bool {
    match Compression::of(start) {
        Compression::None => begins_tar(start),
        _ => true,
    }
}

fn parse_config(bytes: &[u8]) -> Result<(Digest, ImageConfig)> {
    let config = ImageConfig::parse(bytes).map_err(|source| Error::Document {
        what: "image configuration",
        source,
    })?;
    Ok((Digest::of(bytes), config))
}

fn parse_name(text: &str) -> Result<Reference> {
    let reference: Reference = text.parse()?;
    match reference.tag() {
        Some(_) if reference.digest().is_none() => Ok(reference),
        _ => Err(Error::Archive(format!("invalid tag {text:?}"))),
    }
}

/// The name that containerd, buildkit and skopeo leave in an index. A bare tag names nothing.
fn oci_name(entry: &Descriptor) -> Result<Option<Reference>> {
    let Some(annotations) = &entry.annotations else {
        return Ok(None);
    };
    let full = annotations.get("io.containerd.image.name");
    let short = annotations.get("org.opencontainers.image.ref.name");
    match full.or(short.filter(|name| name.contains([':', '/']))) {
        Some(name) => parse_name(name).map(Some),
        None => Ok(None),
    }
}

fn absent(path: &str) -> Error {
    Error::Archive(format!("{path} is missing or is not what it should be"))
}

/// An error while the archive is read that ends everything.
impl From<io::Error> for Error {
    fn from(source: io::Error) -> Self {
        Self::Read {
            what: "read archive",
            source,
        }
    }
}
