//! A container's root file system: the image's layers and a directory of its own, as an overlay.

use std::collections::HashSet;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use lighter_images::{Digest, LayerMounts, Store};
use lighter_runtime::mounts::{
    MappedLayer, MountError, OverlayOptions, Source, mapped_overlay, overlay,
};

use super::{Record, lock};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::quota::storage_size;

/// Directories of a container's own: its writable layer, and what the kernel needs beside it.
const UPPER: &str = "diff";
const WORK: &str = "work";

/// What every container has above its image.
const CONTAINER: &str = "container";
/// Nothing, for overlays that want one layer more than there are.
const EMPTY: &str = "empty";
/// Layers beside those of the containers that belong to no single one.
pub(super) const LAYERS_OF_ALL: [&str; 2] = [CONTAINER, EMPTY];

/// Layers that are mounted. One stays mounted as long as its image exists: mounting it costs more
/// than a container that runs for a moment, and holding it next to nothing.
pub(crate) struct Layers {
    mounts: LayerMounts,
    mounted: Mutex<HashSet<Digest>>,
}

impl Layers {
    pub(crate) fn new(mounts: LayerMounts) -> Self {
        Self {
            mounts,
            mounted: Mutex::default(),
        }
    }

    /// Where the layer is mounted; mounts it if it is not.
    fn path(&self, store: &Store, layer: &Digest) -> Result<PathBuf> {
        let failed = |error| Error::internal(format!("layer {layer} cannot be mounted"), error);
        let files = store.require_layer(layer).map_err(failed)?;
        let mut mounted = lock(&self.mounted);
        let path = match self.mounts.mount(&files) {
            Ok(path) => path,
            Err(error) => {
                tracing::warn!(%error, "the index of a layer is made anew from its tar");
                if let Err(why) = store.rebuild_index(&files) {
                    tracing::error!(error = %why, "it cannot be");
                    return Err(failed(error));
                }
                self.mounts.mount(&files).map_err(failed)?
            }
        };
        if !mounted.insert(*layer) {
            // Held already: one hold is enough.
            self.mounts.release(layer).map_err(failed)?;
        }
        Ok(path)
    }

    /// Keeps the layer mounted from now on.
    pub(crate) fn hold(&self, store: &Store, layer: &Digest) -> Result<()> {
        self.path(store, layer).map(drop)
    }

    /// Unmounts layers that no image has any more. The caller knows that no container has them.
    pub(crate) fn drop(&self, layers: &[Digest]) -> Result<()> {
        let mut mounted = lock(&self.mounted);
        for layer in layers.iter().filter(|layer| mounted.remove(*layer)) {
            self.mounts.release(layer).map_err(|error| {
                Error::internal(format!("layer {layer} cannot be unmounted"), error)
            })?;
        }
        Ok(())
    }
}

impl Engine {
    /// The overlay of a container, detached; with the user namespace `user`, the files in it belong
    /// to the ids of that.
    pub(crate) fn root(&self, record: &Record, user: Option<BorrowedFd<'_>>) -> Result<OwnedFd> {
        // They may have gone in a crash of the machine before they reached the disk.
        let (upper, work) = self.make_own_layer(record)?;
        let volatile = record.host_config.auto_remove;
        if volatile {
            // The kernel refuses a second mount of a volatile overlay unless its mark is gone; the
            // machine did not go down in between, or the container would be gone as well.
            match std::fs::remove_dir_all(work.join("work/incompat")) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::internal(
                        "the overlay's mark cannot be removed",
                        error,
                    ));
                }
                _ => {}
            }
        }
        let options = OverlayOptions {
            volatile,
            read_only: false,
        };
        let mut lowers = vec![self.container_layer().map_err(|error| {
            Error::internal("the layer of every container cannot be made", error)
        })?];
        lowers.extend(self.lowers(record, 0)?);
        let made = match user {
            None => {
                let own = Some((Source::Path(&upper), Source::Path(&work)));
                overlay(&sources(&lowers), own, options)
            }
            Some(user) => {
                let own = MappedLayer {
                    dir: &self.overlay_dir(&record.id),
                    upper: UPPER,
                    work: WORK,
                };
                mapped_overlay(&sources(&lowers), own, options, user)
            }
        };
        made.map_err(no_root)
    }

    /// Makes the directories of a container's own layer where they are missing, within the size it was
    /// given. Whatever is in them is made after that.
    pub(super) fn make_own_layer(&self, record: &Record) -> Result<(PathBuf, PathBuf)> {
        let options = record.host_config.storage_opt.as_ref();
        let size = storage_size(options, self.projects().are_there())?;
        let own = self.overlay_dir(&record.id);
        let make = |dir: &Path| {
            std::fs::create_dir_all(dir).map_err(|error| {
                Error::internal(format!("{} cannot be made", dir.display()), error)
            })
        };
        make(&own)?;
        if let Some(bytes) = size {
            self.projects().limit(&own, bytes).map_err(|error| {
                let text = format!("Failed to set quota limit on {}", own.display());
                Error::internal(text, error)
            })?;
        }
        let (upper, work) = (self.upper(&record.id), self.work(&record.id));
        make(&upper)?;
        make(&work)?;
        Ok((upper, work))
    }

    /// The image's layers alone, read-only, detached.
    pub(crate) fn image_root(&self, record: &Record) -> Result<OwnedFd> {
        if record.layers.is_empty() {
            // No overlay is made of nothing.
            let made = self.empty_layer().and_then(std::fs::File::open);
            let failed = |error| Error::internal("the empty layer cannot be opened", error);
            return Ok(made.map_err(failed)?.into());
        }
        let options = OverlayOptions {
            volatile: false,
            read_only: true,
        };
        // An overlay without an upper layer needs two lower ones.
        let lowers = self.lowers(record, 2)?;
        overlay(&sources(&lowers), None, options).map_err(no_root)
    }

    /// Where the lower layers are, the topmost first: at least so many.
    fn lowers(&self, record: &Record, wanted: usize) -> Result<Vec<PathBuf>> {
        let mut lowers = Vec::with_capacity(record.layers.len() + 1);
        let mut seen = HashSet::new();
        // An image may have a layer twice, an overlay may not. Everything of the lower one is in
        // the upper one as well, and hidden by it.
        for layer in record
            .layers
            .iter()
            .rev()
            .filter(|layer| seen.insert(**layer))
        {
            lowers.push(self.layers().path(self.store(), layer)?);
        }
        if lowers.len() < wanted {
            let empty = self.empty_layer();
            lowers.push(
                empty.map_err(|error| Error::internal("the empty layer cannot be made", error))?,
            );
        }
        Ok(lowers)
    }

    /// What every container has above its image and below its own layer: the file by which programs tell
    /// that they are in one.
    fn container_layer(&self) -> std::io::Result<PathBuf> {
        let layer = self.config().data_root.join("overlay2").join(CONTAINER);
        std::fs::create_dir_all(&layer)?;
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create(true).mode(0o755);
        options.open(layer.join(".dockerenv"))?;
        Ok(layer)
    }

    fn empty_layer(&self) -> std::io::Result<PathBuf> {
        let empty = self.config().data_root.join("overlay2").join(EMPTY);
        std::fs::create_dir_all(&empty)?;
        Ok(empty)
    }

    /// The container's own directories of the overlay.
    pub(crate) fn overlay_dir(&self, id: &str) -> PathBuf {
        self.config().data_root.join("overlay2").join(id)
    }

    pub(crate) fn upper(&self, id: &str) -> PathBuf {
        self.overlay_dir(id).join(UPPER)
    }

    pub(crate) fn work(&self, id: &str) -> PathBuf {
        self.overlay_dir(id).join(WORK)
    }

    /// Where a container's small files and its log are.
    pub fn container_dir(&self, id: &str) -> PathBuf {
        self.config().data_root.join("containers").join(id)
    }

    /// What survives the engine and not the machine.
    pub(crate) fn container_run_dir(&self, id: &str) -> PathBuf {
        self.config().run_dir.join("containers").join(id)
    }
}

fn sources(paths: &[PathBuf]) -> Vec<Source<'_>> {
    paths.iter().map(|path| Source::Path(path)).collect()
}

fn no_root(error: MountError) -> Error {
    Error::internal("the root file system cannot be mounted", error)
}
