//! Named and anonymous volumes: a directory each, a record each.
//!
//! `<data_root>/volumes/<name>/_data` is the directory; a volume exists when its record does, and
//! a missing directory is made again when it is needed. The record comes first and goes first: what a
//! volume of the same name must not find is noted in the step that removes the record, until it is gone.

mod flags;
mod leaving;
mod options;
mod passing;
mod registry;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::db::Sync;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::events::Subject;
use crate::filters::{Filters, name_matches};
use crate::names;

pub(crate) use leaving::disown;
pub(crate) use options::{Content, check as check_options};
pub(crate) use passing::{InUse, Passing};
pub(crate) use registry::Volumes;

/// The label dockerd gives volumes nobody named.
pub const ANONYMOUS: &str = "com.docker.volume.anonymous";

/// Filters of list.
pub const FILTERS: &[&str] = &["dangling", "driver", "label", "name"];
/// Filters of prune.
pub const PRUNE_FILTERS: &[&str] = &["all", "label", "label!"];

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// Labels; absent and empty differ on the wire.
    pub labels: Option<BTreeMap<String, String>>,
    /// Options of the driver.
    pub options: Option<BTreeMap<String, String>>,
    /// When it was made.
    pub created: Timestamp,
    /// The container it was made for without a name, and goes with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_for: Option<String>,
}

/// What removing unused volumes gave back.
#[derive(Debug, Default)]
pub struct Pruned {
    /// Names of those removed.
    pub names: Vec<String>,
    /// Bytes they held.
    pub bytes: u64,
}

/// Checks the name of a volume driver.
pub(crate) fn check_driver(name: &str) -> Result<()> {
    if matches!(name, "" | "local") {
        return Ok(());
    }
    Err(Error::not_found(format!(
        "error looking up volume plugin {name}: plugin \"{name}\" not found"
    )))
}

impl Engine {
    /// Makes a volume, or returns the one of that name.
    pub async fn volume_create(
        &self,
        name: &str,
        driver: &str,
        labels: Option<BTreeMap<String, String>>,
        options: Option<BTreeMap<String, String>>,
    ) -> Result<Arc<Volume>> {
        if let Err(error) = check_driver(driver) {
            let text = format!("create {name}: {}", error.text());
            return Err(Error::new(error.kind(), text));
        }
        let mut labels = labels;
        let name = if name.is_empty() {
            labels
                .get_or_insert_default()
                .insert(ANONYMOUS.into(), String::new());
            crate::ids::new_id()?
        } else {
            names::check(name, "volume name").map_err(|_| {
                if name.len() < 2 {
                    return Error::invalid(format!(
                        "create {name}: volume name is too short, names should be at least two \
                         alphanumeric characters"
                    ));
                }
                Error::invalid(format!(
                    "create {name}: \"{name}\" includes invalid characters for a local volume \
                     name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to \
                     pass a host directory, use absolute path"
                ))
            })?;
            name.to_owned()
        };
        let sizes = self.projects().are_there();
        check_options(options.as_ref(), sizes).map_err(|error| {
            Error::new(error.kind(), format!("create {name}: {}", error.text()))
        })?;
        self.volume_ensure(Volume {
            name,
            labels,
            options,
            created: Timestamp::now(),
            made_for: None,
        })
        .await
    }

    /// Makes `volume` unless there is one of its name.
    pub(crate) async fn volume_ensure(&self, volume: Volume) -> Result<Arc<Volume>> {
        let _one = self.volumes_lock().lock().await;
        if let Some(volume) = self.volumes().get(&volume.name) {
            return Ok(volume);
        }
        self.clear_former(&volume.name)?;
        let record = volume.clone();
        self.db()
            .write(Sync::Durable, move |connection| {
                let body = serde_json::to_string(&record)?;
                connection.execute(
                    "INSERT INTO volumes (name, body) VALUES (?1, ?2)",
                    (&record.name, &body),
                )?;
                leaving::forget(connection, &record.name)?;
                Ok(())
            })
            .await?;
        let volume = Arc::new(volume);
        if let Err(error) = self.make_folder(&volume) {
            self.forget_volume(&volume.name).await?;
            return Err(error);
        }
        self.volumes().add(&volume);
        self.volume_event("create", &volume.name, &[]);
        Ok(volume)
    }

    /// Makes the folder of a volume where it is missing, within the size it was given.
    fn make_folder(&self, volume: &Volume) -> Result<()> {
        let path = self.volume_path(&volume.name);
        let size = options::size(volume.options.as_ref())?;
        if let (Some(bytes), Some(above)) = (size, path.parent()) {
            // Above the content, so that what is made beside it, to take its place, is counted too.
            make(above)?;
            self.projects().limit(above, bytes).map_err(|error| {
                let text = format!("the size of volume {} cannot be set", volume.name);
                Error::internal(text, error)
            })?;
        }
        make(&path)
    }

    /// Gives volumes the limits that a crash of the machine has lost: they are set after the record is synced, and
    /// are on the disk only with whatever is synced next. Called before anybody is served.
    pub(crate) fn restore_limits(&self) {
        for volume in self.volumes().all() {
            let limited = options::size(volume.options.as_ref()).is_ok_and(|size| size.is_some());
            if limited && let Err(error) = self.make_folder(&volume) {
                let (name, error) = (&volume.name, error.text());
                tracing::warn!(name, error, "a volume has its limit when it is used again");
            }
        }
    }

    /// The folder of a volume, which is there when this returns.
    pub(crate) fn volume_folder(&self, name: &str) -> Result<PathBuf> {
        let path = self.volume_path(name);
        match self.volumes().get(name) {
            Some(volume) => self.make_folder(&volume)?,
            // One whose record is gone is used as it was: removing it was forced.
            None => make(&path)?,
        }
        Ok(path)
    }

    /// One volume.
    pub fn volume(&self, name: &str) -> Result<Arc<Volume>> {
        self.volumes()
            .get(name)
            .ok_or_else(|| Error::not_found(format!("get {name}: no such volume")))
    }

    /// The volumes that pass `filters`, by name.
    pub fn volume_list(&self, filters: &Filters) -> Result<Vec<Arc<Volume>>> {
        let dangling = filters.boolean("dangling")?;
        let mut volumes = self.volumes().all();
        volumes.retain(|volume| {
            filters.any("name", |pattern| name_matches(pattern, &volume.name))
                && filters.exact("driver", "local")
                && filters.labels(volume.labels.as_ref().unwrap_or(&BTreeMap::new()))
                && dangling
                    .is_none_or(|wanted| self.volume_users(&volume.name).is_empty() == wanted)
        });
        Ok(volumes)
    }

    /// Removes a volume nobody uses. A missing one is no error with `force`.
    pub async fn volume_remove(&self, name: &str, force: bool) -> Result<()> {
        let _one = self.volumes_lock().lock().await;
        if self.volumes().get(name).is_none() {
            return if force {
                Ok(())
            } else {
                self.volume(name).map(drop)
            };
        }
        let users = self.volume_users(name);
        if !users.is_empty() {
            return Err(Error::conflict(format!(
                "remove {name}: volume is in use - [{}]",
                users.join(", ")
            )));
        }
        self.volume_drop(name).await
    }

    /// Removes every volume nobody uses that passes `filters`: anonymous ones only, unless `all`.
    pub async fn volume_prune(&self, filters: &Filters, all: bool) -> Result<Pruned> {
        let _one = self.volumes_lock().lock().await;
        let all = filters.boolean("all")?.unwrap_or(all);
        let mut pruned = Pruned::default();
        for volume in self.volumes().all() {
            let none = BTreeMap::new();
            let labels = volume.labels.as_ref().unwrap_or(&none);
            if !(all || labels.contains_key(ANONYMOUS))
                || !filters.labels(labels)
                || !self.volume_users(&volume.name).is_empty()
            {
                continue;
            }
            pruned.bytes += crate::usage::directory(&self.volume_path(&volume.name));
            self.volume_drop(&volume.name).await?;
            pruned.names.push(volume.name.clone());
        }
        let attributes = [("reclaimed".to_owned(), pruned.bytes.to_string())].into();
        self.events().emit(Subject::Volume, "prune", "", attributes);
        Ok(pruned)
    }

    /// Ids of the containers that have the volume, or are being made with it.
    pub(crate) fn volume_users(&self, name: &str) -> Vec<String> {
        let containers = self.containers().all();
        let uses = |container: &Arc<crate::containers::Container>| {
            container
                .record()
                .mounts
                .iter()
                .any(|mount| mount.volume() == Some(name))
        };
        let users = containers
            .iter()
            .filter(|container| uses(container))
            .map(|c| c.id().to_owned());
        // The claims first: a container that is added meanwhile still has its own.
        let mut all = self.volumes().claimants(name);
        all.extend(users);
        all.sort();
        all.dedup();
        all
    }

    /// Where a volume's content is.
    pub(crate) fn volume_content(&self, name: &str) -> Result<Content> {
        // One whose record is gone is used as it was: removing it was forced.
        let volume = self.volumes().get(name);
        options::content(volume.as_ref().and_then(|volume| volume.options.as_ref()))
    }

    /// The folder of the engine's for a volume, which inspect calls its mount point.
    pub fn volume_path(&self, name: &str) -> PathBuf {
        self.config()
            .data_root
            .join("volumes")
            .join(name)
            .join("_data")
    }

    pub(crate) fn volume_event(&self, action: &str, name: &str, more: &[(&str, &str)]) {
        let mut attributes: BTreeMap<_, _> = more
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        attributes.insert("driver".into(), "local".into());
        self.events()
            .emit(Subject::Volume, action, name, attributes);
    }
}

/// Makes a folder of a volume. One that is there is only looked at: a disk that stands still would hold up
/// whoever tried to make it.
fn make(folder: &Path) -> Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    std::fs::create_dir_all(folder)
        .map_err(|error| Error::internal("the volume's directory cannot be made", error))
}
