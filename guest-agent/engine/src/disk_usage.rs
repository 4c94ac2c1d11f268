//! What images, containers and volumes take of the disk: `docker system df`.
//!
//! Called by the API. Walks directories, so that whoever asks has to wait, and nobody else does.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::containers::{ListOptions, Listed};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::filters::Filters;
use crate::images::{self, Summary};
use crate::usage::directory;
use crate::volumes::Volume;

/// What is asked for.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Kinds {
    pub images: bool,
    pub containers: bool,
    pub volumes: bool,
}

/// What is used; nothing of what was not asked for.
#[derive(Default)]
pub struct DiskUsage {
    /// Images, and bytes of all their layers together.
    pub images: Option<(Vec<Summary>, u64)>,
    /// Containers with their sizes.
    pub containers: Option<Vec<Listed>>,
    /// Volumes.
    pub volumes: Option<Vec<VolumeUsage>>,
}

/// A volume and what it takes.
pub struct VolumeUsage {
    /// The volume.
    pub volume: Arc<Volume>,
    /// Bytes of its files.
    pub bytes: u64,
    /// How many containers have it.
    pub users: usize,
}

impl Engine {
    /// Works out what is used.
    ///
    /// # Errors
    ///
    /// The work was cut short.
    pub async fn disk_usage(self: &Arc<Self>, kinds: Kinds) -> Result<DiskUsage> {
        let engine = Arc::clone(self);
        let work = tokio::task::spawn_blocking(move || engine.measure(kinds));
        work.await
            .map_err(|error| Error::internal("measuring was cut short", error))?
    }

    fn measure(&self, kinds: Kinds) -> Result<DiskUsage> {
        let mut usage = DiskUsage::default();
        if kinds.images {
            let options = images::ListOptions {
                shared_size: true,
                ..images::ListOptions::default()
            };
            let all = self.image_list(&options)?;
            let layers: BTreeSet<_> = all
                .iter()
                .flat_map(|summary| summary.image.config.rootfs.diff_ids.iter().copied())
                .collect();
            let bytes = layers
                .iter()
                .filter_map(|layer| self.store().layer(layer))
                .map(|layer| layer.tar_bytes)
                .sum();
            usage.images = Some((all, bytes));
        }
        if kinds.containers {
            let options = ListOptions {
                all: true,
                size: true,
                ..ListOptions::default()
            };
            usage.containers = Some(self.container_list(&options)?);
        }
        if kinds.volumes {
            let measured = |volume: Arc<Volume>| VolumeUsage {
                bytes: directory(&self.volume_path(&volume.name)),
                users: self.volume_users(&volume.name).len(),
                volume,
            };
            let all = self.volume_list(&Filters::default())?;
            usage.volumes = Some(all.into_iter().map(measured).collect());
        }
        Ok(usage)
    }
}
