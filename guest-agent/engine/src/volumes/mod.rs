//! Named and anonymous volumes: a directory each, a record each.
//!
//! `<data_root>/volumes/<name>/_data` is the directory; a volume exists when its record does, and
//! a missing directory is made again when it is needed. The record comes first and goes first: what a
//! volume of the same name must not find is noted in the step that removes the record, until it is gone.

mod options;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::db::Sync;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::events::Subject;
use crate::filters::{Filters, name_matches};
use crate::names;

pub(crate) use options::Content;

/// The label dockerd gives volumes nobody named.
pub const ANONYMOUS: &str = "com.docker.volume.anonymous";

/// Filters of list.
pub const FILTERS: &[&str] = &["dangling", "driver", "label", "name"];
/// Filters of prune.
pub const PRUNE_FILTERS: &[&str] = &["all", "label", "label!"];

const FORGET_LEAVING: &str = "DELETE FROM leaving_volumes WHERE name = ?1";

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
}

/// All volumes, by name.
#[derive(Default)]
pub(crate) struct Volumes(Mutex<BTreeMap<String, Arc<Volume>>>);

impl Volumes {
    pub(crate) fn load(&self, volumes: impl IntoIterator<Item = Volume>) {
        let volumes = volumes
            .into_iter()
            .map(|volume| (volume.name.clone(), Arc::new(volume)));
        self.lock().extend(volumes);
    }

    fn get(&self, name: &str) -> Option<Arc<Volume>> {
        self.lock().get(name).cloned()
    }

    fn all(&self) -> Vec<Arc<Volume>> {
        self.lock().values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Volume>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What removing unused volumes gave back.
#[derive(Debug, Default)]
pub struct Pruned {
    /// Names of those removed.
    pub names: Vec<String>,
    /// Bytes they held.
    pub bytes: u64,
}

/// Checks a volume driver and its options.
pub(crate) fn check_driver(name: &str, options: Option<&BTreeMap<String, String>>) -> Result<()> {
    if !matches!(name, "" | "local") {
        return Err(Error::not_found(format!(
            "error looking up volume plugin {name}: plugin \"{name}\" not found"
        )));
    }
    options::content(options).map(drop)
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
        if let Err(error) = check_driver(driver, None) {
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
        check_driver(driver, options.as_ref()).map_err(|error| {
            Error::new(error.kind(), format!("create {name}: {}", error.text()))
        })?;
        self.volume_ensure(Volume {
            name,
            labels,
            options,
            created: Timestamp::now(),
        })
        .await
    }

    /// Makes `volume` unless there is one of its name.
    pub(crate) async fn volume_ensure(&self, volume: Volume) -> Result<Arc<Volume>> {
        let _one = self.volumes_lock().lock().await;
        if let Some(volume) = self.volumes().get(&volume.name) {
            return Ok(volume);
        }
        let record = volume.clone();
        self.db()
            .write(Sync::Durable, move |connection| {
                let body = serde_json::to_string(&record)?;
                connection.execute(
                    "INSERT INTO volumes (name, body) VALUES (?1, ?2)",
                    (&record.name, &body),
                )?;
                connection.execute(FORGET_LEAVING, [&record.name])?;
                Ok(())
            })
            .await?;
        if let Err(error) = std::fs::create_dir_all(self.volume_path(&volume.name)) {
            self.forget_volume(&volume.name).await?;
            return Err(Error::internal(
                "the volume's directory cannot be made",
                error,
            ));
        }
        let volume = Arc::new(volume);
        self.volumes()
            .lock()
            .insert(volume.name.clone(), Arc::clone(&volume));
        self.volume_event("create", &volume.name, &[]);
        Ok(volume)
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

    async fn volume_drop(&self, name: &str) -> Result<()> {
        let anonymous = self.volumes().get(name).is_some_and(|volume| {
            let labels = volume.labels.as_ref();
            labels.is_some_and(|labels| labels.contains_key(ANONYMOUS))
        });
        self.forget_volume(name).await?;
        self.volumes().lock().remove(name);
        let folder = self.config().data_root.join("volumes");
        self.discard(&folder.join(name));
        // The next of that name must not find what was in this one; nobody is called like one
        // that had no name.
        if !anonymous && let Err(error) = File::open(&folder).and_then(|dir| dir.sync_all()) {
            tracing::warn!(%error, volume = name, "its removal may not be on the disk");
        }
        self.forget_leaving(name).await;
        self.volume_event("destroy", name, &[]);
        Ok(())
    }

    /// Takes the record away, and notes that there may be a folder.
    async fn forget_volume(&self, name: &str) -> Result<()> {
        let record = name.to_owned();
        self.db()
            .write(Sync::Durable, move |connection| {
                connection.execute("DELETE FROM volumes WHERE name = ?1", [&record])?;
                connection.execute(
                    "INSERT OR IGNORE INTO leaving_volumes (name) VALUES (?1)",
                    [&record],
                )?;
                Ok(())
            })
            .await?;
        Ok(())
    }

    /// Notes that the folder is gone. Lost with the machine, it is looked for once more.
    async fn forget_leaving(&self, name: &str) {
        let record = name.to_owned();
        let noted = self.db().write(Sync::Lazy, move |connection| {
            connection.execute(FORGET_LEAVING, [&record])?;
            Ok(())
        });
        if let Err(error) = noted.await {
            tracing::warn!(%error, volume = name, "its removal is not noted");
        }
    }

    /// Clears away what an engine left of volumes that it was removing; called once, while the engine
    /// opens.
    pub(crate) async fn clear_leaving_volumes(&self) -> Result<()> {
        let leaving = self.db().write(Sync::Lazy, |connection| {
            let mut statement = connection.prepare("SELECT name FROM leaving_volumes")?;
            let names = statement.query_map([], |row| row.get::<_, String>(0))?;
            Ok(names.collect::<std::result::Result<Vec<_>, _>>()?)
        });
        for name in leaving.await? {
            if self.volumes().get(&name).is_none() {
                self.discard(&self.config().data_root.join("volumes").join(&name));
            }
            self.forget_leaving(&name).await;
        }
        Ok(())
    }

    /// Ids of the containers that have the volume.
    pub(crate) fn volume_users(&self, name: &str) -> Vec<String> {
        let containers = self.containers().all();
        let uses = |container: &Arc<crate::containers::Container>| {
            container
                .record()
                .mounts
                .iter()
                .any(|mount| mount.volume() == Some(name))
        };
        containers
            .iter()
            .filter(|container| uses(container))
            .map(|c| c.id().to_owned())
            .collect()
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
