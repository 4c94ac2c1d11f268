//! Images that are made here: `docker import` from an archive of files, `docker commit` from a
//! container.
//!
//! What becomes a layer goes the way of every layer into the store (hashed, indexed, flushed,
//! pinned), then the configuration, then the record with the name: when a call returns, the image
//! is on the disk; before, there is none.

use std::io::{Read, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use lighter_images::config::RunConfig;
use lighter_images::{Digest, ImageConfig, Pin, Platform, Reference, channel};
use serde_json::{Map, Value, json};

use super::instructions;
use crate::clock::Timestamp;
use crate::containers::{Container, Record, Status, merge_image};
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};
use crate::files::changes::Placeholders;
use crate::files::{PackOptions, Packer};
use crate::model::Config;
use crate::version;

/// How an archive of files becomes an image.
#[derive(Debug, Default)]
pub struct ImportOptions {
    /// Its name.
    pub name: Option<Reference>,
    /// Its comment; empty for the usual one.
    pub message: String,
    /// Instructions as in a Dockerfile.
    pub changes: Vec<String>,
    /// What it is for; this machine if not said.
    pub platform: Option<Platform>,
}

/// How a container becomes an image.
#[derive(Debug, Default)]
pub struct CommitOptions {
    /// The image's name.
    pub name: Option<Reference>,
    /// Who made it.
    pub author: String,
    /// Its comment.
    pub comment: String,
    /// Instructions as in a Dockerfile.
    pub changes: Vec<String>,
    /// Whether the container stands still meanwhile.
    pub pause: bool,
    /// What is to be run in place of what the container runs.
    pub config: Option<Config>,
}

/// The digest of a tar without entries: no layer is made of it.
const NOTHING: &str = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";

/// The name that `repository` and `tag` make; none if there is no repository.
///
/// # Errors
///
/// Dockerd's words for what is no name.
pub fn new_name(repository: &str, tag: &str) -> Result<Option<Reference>> {
    if repository.is_empty() {
        return Ok(None);
    }
    let name: Reference =
        repository
            .parse()
            .map_err(|error: lighter_images::reference::ReferenceError| {
                Error::invalid(error.to_string())
            })?;
    if name.digest().is_some() {
        return Err(Error::invalid("cannot import digest reference"));
    }
    if tag.is_empty() {
        return Ok(Some(name.with_default_tag()));
    }
    name.with_tag(tag)
        .map(Some)
        .map_err(|_| Error::invalid("invalid tag format"))
}

impl Engine {
    /// Makes an image of one layer of an archive of files; durable when this returns.
    ///
    /// # Errors
    ///
    /// When the archive or an instruction is refused.
    pub async fn image_import(
        self: &Arc<Self>,
        input: impl Read + Send + 'static,
        options: ImportOptions,
    ) -> Result<Digest> {
        self.require_open()?;
        let native = Platform::native();
        let platform = options.platform.as_ref().unwrap_or(&native);
        if platform.os != "linux" {
            return Err(Error::invalid("operating system is not supported"));
        }
        let mut config = Config::default();
        instructions::apply(&mut config, &options.changes)?;
        let comment = match options.message.as_str() {
            "" => "Imported from -",
            message => message,
        };
        let mut document = Map::new();
        document.insert("architecture".into(), json!(platform.architecture));
        if !platform.variant.is_empty() {
            document.insert("variant".into(), json!(platform.variant));
        }
        document.insert("os".into(), json!("linux"));
        document.insert("comment".into(), json!(comment));
        document.insert("config".into(), plain(&config, true));
        document.insert("container_config".into(), plain(&Config::default(), true));
        let made = Made {
            document,
            history: Vec::new(),
            layers: Vec::new(),
            step: json!({ "comment": comment }),
        };
        let id = self.make(made, input, options.name.as_ref(), None).await?;
        self.named(&id, options.name.as_ref());
        let text = id.to_string();
        self.image_event("import", &text, &text, self.image(&text).ok().as_ref());
        Ok(id)
    }

    /// Makes an image of a container's files and of what it runs; durable when this returns.
    ///
    /// # Errors
    ///
    /// When there is no such container, or an instruction is refused.
    pub async fn container_commit(
        self: &Arc<Self>,
        reference: &str,
        options: CommitOptions,
    ) -> Result<Digest> {
        self.require_open()?;
        let container = self.containers().find(reference)?;
        let record = container.record();
        let mut config = options
            .config
            .clone()
            .unwrap_or_else(|| record.config.clone());
        instructions::apply(&mut config, &options.changes)?;
        merge_image(&mut config, &run_config(&record.config)?);
        let paused = options.pause && self.pause_for_copy(&container).await?;
        let committed = self.commit(&container, &record, config, &options).await;
        if paused && let Err(error) = self.container_unpause(container.id()).await {
            // It has ended, or somebody else was faster.
            tracing::info!(error = error.text(), "not resumed after a commit");
        }
        let id = committed?;
        self.named(&id, options.name.as_ref());
        let (text, name) = (id.to_string(), options.name.as_ref());
        let name = name.map(Reference::familiar).unwrap_or_default();
        let more = [
            ("comment", options.comment.as_str()),
            ("imageID", &text),
            ("imageRef", &name),
        ];
        self.container_event(&container, "commit", &more);
        Ok(id)
    }

    /// Pauses a container that runs; whether it has to be resumed.
    async fn pause_for_copy(&self, container: &Container) -> Result<bool> {
        if container.status() != Status::Running {
            return Ok(false);
        }
        match self.container_pause(container.id()).await {
            Ok(()) => Ok(true),
            // It has ended, or is paused already.
            Err(error) if error.kind() == Kind::Conflict => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn commit(
        self: &Arc<Self>,
        container: &Arc<Container>,
        record: &Arc<Record>,
        config: Config,
        options: &CommitOptions,
    ) -> Result<Digest> {
        // It neither starts nor goes meanwhile, and its image's layers stay.
        let _held = container.op.lock().await;
        if container.status() == Status::Removing {
            return Err(Error::conflict(format!(
                "container {} is marked for removal",
                container.id()
            )));
        }
        let base = self.base_document(record)?;
        let mut document = Map::new();
        for key in ["architecture", "variant", "os", "os.version", "os.features"] {
            if let Some(value) = base.get(key) {
                document.insert(key.into(), value.clone());
            }
        }
        document.entry("os").or_insert_with(|| json!("linux"));
        if !options.author.is_empty() {
            document.insert("author".into(), json!(options.author));
        }
        document.insert("config".into(), plain(&config, false));
        document.insert("container".into(), json!(record.id));
        document.insert("container_config".into(), plain(&record.config, false));
        let words = record.config.cmd.as_ref().map(|words| words.0.join(" "));
        let mut step = Map::new();
        for (key, text) in [
            ("created_by", words.unwrap_or_default()),
            ("author", options.author.clone()),
            ("comment", options.comment.clone()),
        ] {
            if !text.is_empty() {
                step.insert(key.into(), json!(text));
            }
        }
        let made = Made {
            document,
            history: base["history"].as_array().cloned().unwrap_or_default(),
            layers: record.layers.clone(),
            step: Value::Object(step),
        };
        let (mut writer, chunks) = channel::from_thread();
        let (engine, packed) = (Arc::clone(self), Arc::clone(record));
        let packing = tokio::task::spawn_blocking(move || {
            let packed = engine.pack_layer(&packed, &mut writer);
            packed.and_then(|()| writer.flush())
        });
        let (sender, reader) = channel::to_thread();
        let feeding = tokio::spawn(feed(chunks, packing, sender));
        let parent = record.image_id.parse().ok();
        let id = self.make(made, reader, options.name.as_ref(), parent).await;
        feeding
            .await
            .map_err(|error| Error::internal("packing was cut short", error))?;
        id
    }

    /// The configuration of a container's image, which is kept as long as the container.
    fn base_document(&self, record: &Record) -> Result<Value> {
        let broken = |error| Error::internal("the image's configuration cannot be read", error);
        let id: Digest = record
            .image_id
            .parse()
            .map_err(|error| Error::internal("the image's id cannot be read", error))?;
        let bytes = self.store().read_blob(&id)?;
        serde_json::from_slice(&bytes).map_err(broken)
    }

    /// Writes what a container has changed as a layer.
    fn pack_layer(&self, record: &Record, out: impl std::io::Write) -> std::io::Result<()> {
        let failed = |error: Error| std::io::Error::other(error.text());
        let upper: OwnedFd = std::fs::File::open(self.upper(&record.id))?.into();
        let image = self.image_root(record).map_err(failed)?;
        let placeholders = Placeholders::new(upper.as_fd(), image.as_fd())?;
        let options = PackOptions {
            layer: true,
            left_out: Some(Box::new(|path, stat| placeholders.has(path, stat))),
            ids: None,
        };
        let mut packer = Packer::new(out, options);
        packer.content(upper.as_fd(), b"")?;
        packer.finish().map(drop)
    }

    /// Takes a layer in and records the image that it completes.
    async fn make(
        self: &Arc<Self>,
        made: Made,
        layer: impl Read + Send + 'static,
        name: Option<&Reference>,
        parent: Option<Digest>,
    ) -> Result<Digest> {
        let leftovers = self.leftovers();
        let engine = Arc::clone(self);
        let stored = tokio::task::spawn_blocking(move || engine.store_made(made, layer));
        let (id, config, pin) = stored
            .await
            .map_err(|error| Error::internal("making the image failed", error))??;
        let names: Vec<Reference> = name.into_iter().cloned().collect();
        self.record_image(id, config, &names, parent, pin).await?;
        leftovers.none();
        Ok(id)
    }

    fn store_made(&self, mut made: Made, layer: impl Read) -> Result<(Digest, ImageConfig, Pin)> {
        let (layer, mut pin) = self.store().take_layer(layer)?;
        pin.add(made.layers.iter().copied());
        let mut step = made.step.as_object().cloned().unwrap_or_default();
        let now = Timestamp::now().to_string();
        step.insert("created".into(), json!(now));
        if layer.diff_id.to_string() == NOTHING {
            step.insert("empty_layer".into(), json!(true));
        } else {
            made.layers.push(layer.diff_id);
        }
        made.history.push(Value::Object(step));
        let document = &mut made.document;
        document.insert("created".into(), json!(now));
        document.insert("docker_version".into(), json!(version::ENGINE));
        document.insert("history".into(), Value::Array(made.history));
        let layers: Vec<String> = made.layers.iter().map(ToString::to_string).collect();
        document.insert(
            "rootfs".into(),
            json!({ "type": "layers", "diff_ids": layers }),
        );
        let failed = |error| Error::internal("the image's configuration cannot be written", error);
        let bytes = serde_json::to_vec(document).map_err(failed)?;
        let config = ImageConfig::parse(&bytes).map_err(failed)?;
        pin.add([Digest::of(&bytes)]);
        let id = self.store().write_blob(&bytes)?;
        Ok((id, config, pin))
    }

    fn named(&self, id: &Digest, name: Option<&Reference>) {
        if let Some(name) = name {
            let text = id.to_string();
            let image = self.image(&text).ok();
            self.image_event("tag", &text, &name.familiar(), image.as_ref());
        }
    }
}

/// An image to be, without its last layer.
struct Made {
    document: Map<String, Value>,
    history: Vec<Value>,
    layers: Vec<Digest>,
    /// Its own step of the history.
    step: Value,
}

/// A configuration as it stands in an image. `bare`: without labels there is no list of them.
fn plain(config: &Config, bare: bool) -> Value {
    let mut value = serde_json::to_value(config).unwrap_or_default();
    if bare && config.labels.is_empty() {
        value["Labels"] = Value::Null;
    }
    value
}

/// What a container runs, as an image says it: both have the same names for it.
fn run_config(config: &Config) -> Result<RunConfig> {
    serde_json::to_value(config)
        .and_then(serde_json::from_value)
        .map_err(|error| Error::internal("the container's configuration cannot be used", error))
}

/// Hands what is packed on; a failure of the packer is one of the stream.
async fn feed(
    mut chunks: tokio::sync::mpsc::Receiver<bytes::Bytes>,
    packing: tokio::task::JoinHandle<std::io::Result<()>>,
    sender: tokio::sync::mpsc::Sender<std::io::Result<bytes::Bytes>>,
) {
    while let Some(chunk) = chunks.recv().await {
        if sender.send(Ok(chunk)).await.is_err() {
            break;
        }
    }
    drop(chunks);
    let packed = packing
        .await
        .unwrap_or_else(|error| Err(std::io::Error::other(error)));
    if let Err(error) = packed {
        // The reader may have gone first, with an error of its own.
        sender.send(Err(error)).await.ok();
    }
}
