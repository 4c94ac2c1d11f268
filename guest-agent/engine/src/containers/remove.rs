//! Remove, rename, prune.

use std::path::Path;
use std::sync::Arc;

use super::record::Status;
use super::{Container, lock, shm};
use crate::clock::Timestamp;
use crate::db::Sync;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::filters::{Filters, prune_until};
use crate::names;
use crate::usage::{self, remove_tree};
use crate::volumes;

/// How to remove.
#[derive(Debug, Clone, Copy, Default)]
pub struct RemoveOptions {
    /// Kill it if it runs.
    pub force: bool,
    /// Remove its anonymous volumes too.
    pub volumes: bool,
}

/// Filters of prune.
pub const PRUNE_FILTERS: &[&str] = &["label", "label!", "until"];

impl Engine {
    /// Removes a container. When this returns it is gone, after a crash as well.
    pub async fn container_remove(
        self: &Arc<Self>,
        reference: &str,
        options: RemoveOptions,
    ) -> Result<()> {
        let container = self.containers().find(reference)?;
        if options.force && container.status() == Status::Removing {
            // Somebody else is at it, an --rm for example: done when they are.
            let mut watch = container.watch();
            let _ = watch.wait_for(|state| state.removed).await;
            return Ok(());
        }
        let (_op, status) = loop {
            if options.force {
                self.kill_container(&container).await?;
            }
            let op = container.op.lock().await;
            let status = container.status();
            // A start that was under way has come to its end meanwhile.
            if !options.force || !(status.is_running() || status == Status::Restarting) {
                break (op, status);
            }
        };
        match status {
            Status::Removing => {
                return if container.state().removed && options.force {
                    Ok(())
                } else {
                    Err(Error::conflict(format!(
                        "removal of container {reference} is already in progress"
                    )))
                };
            }
            Status::Running | Status::Restarting => {
                return Err(Error::conflict(format!(
                    "cannot remove container \"{reference}\": container is {}: stop the container \
                     before removing or force remove",
                    status.name()
                )));
            }
            Status::Paused => {
                return Err(Error::conflict(format!(
                    "cannot remove container \"{reference}\": container is paused and must be \
                     unpaused first"
                )));
            }
            Status::Created | Status::Exited | Status::Dead => {}
        }
        self.remove_locked(&container, options.volumes).await
    }

    /// Removes a container that has no process; the caller holds `op`.
    pub(super) async fn remove_locked(
        self: &Arc<Self>,
        container: &Arc<Container>,
        with_volumes: bool,
    ) -> Result<()> {
        let before =
            container.change(|state| std::mem::replace(&mut state.run.status, Status::Removing));
        let record = container.record();
        let id = record.id.clone();
        // What is lost with the machine needs no flush to be gone: see create.
        let sync = if record.host_config.auto_remove {
            Sync::Lazy
        } else {
            Sync::Durable
        };
        // Without the mark a crash behind the next step leaves folders to be put aside: no reason to
        // keep the container.
        if let Err(error) = self.mark_loose(&id) {
            tracing::warn!(error = error.text(), "a container goes unmarked");
        }
        let anonymous: Vec<String> = super::create::anonymous_volumes(&record)
            .map(str::to_owned)
            .collect();
        // Those that are not to go with it are nobody's from now on.
        let kept = if with_volumes {
            Vec::new()
        } else {
            anonymous.clone()
        };
        let orphans = kept.clone();
        let removed = self
            .db()
            .write(sync, move |connection| {
                connection.execute("DELETE FROM containers WHERE id = ?1", [&id])?;
                for volume in &orphans {
                    volumes::disown(connection, volume)?;
                }
                Ok(())
            })
            .await;
        if let Err(error) = removed {
            container.change(|state| state.run.status = before);
            if !record.host_config.auto_remove {
                self.unmark_loose(&record.id);
            }
            return Err(error.into());
        }
        let execs = std::mem::take(&mut *lock(&container.execs));
        self.forget_execs(&execs);
        self.containers().remove(container);
        if with_volumes {
            self.remove_anonymous(&anonymous).await;
        }
        self.volumes().disown(&kept);
        self.container_event(container, "destroy", &[]);
        let clearing = lock(&container.clearing).take();
        self.clear_directories_after(container.id(), clearing);
        container.change(|state| state.removed = true);
        container.hub.end();
        Ok(())
    }

    /// Gives a container another name.
    pub async fn container_rename(&self, reference: &str, name: &str) -> Result<()> {
        let name = name.strip_prefix('/').unwrap_or(name);
        if name.is_empty() {
            return Err(Error::invalid("Neither old nor new names may be empty"));
        }
        let container = self.containers().find(reference)?;
        names::check(name, "container name").map_err(|_| {
            Error::invalid(format!(
                "Error when allocating new name: Invalid container name (/{name}), only \
                 [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
            ))
        })?;
        let _op = container.op.lock().await;
        let mut record = (*container.record()).clone();
        if record.name == name {
            return Err(Error::invalid(
                "Renaming a container with the same name as its current name",
            ));
        }
        self.containers().reserve(name, container.id())?;
        let old = std::mem::replace(&mut record.name, name.to_owned());
        if let Err(error) = self.save_record(&record).await {
            self.containers().release(name);
            return Err(error);
        }
        // Before anybody else may have the old name, and links by it.
        self.containers().rename_links(&old, &record.name);
        self.containers().release(&old);
        container.set_record(record);
        self.container_event(&container, "rename", &[("oldName", &format!("/{old}"))]);
        Ok(())
    }

    /// Removes every container that does not run and passes `filters`; returns ids and bytes.
    pub async fn container_prune(
        self: &Arc<Self>,
        filters: &Filters,
    ) -> Result<(Vec<String>, u64)> {
        let until = prune_until(filters)?;
        let mut removed = Vec::new();
        let mut bytes = 0;
        for container in self.containers().all() {
            let record = container.record();
            let stopped = || {
                matches!(
                    container.status(),
                    Status::Created | Status::Exited | Status::Dead
                )
            };
            let old = until.is_none_or(|until: Timestamp| record.created < until);
            if !stopped() || !old || !filters.labels(&record.config.labels) {
                continue;
            }
            let _op = container.op.lock().await;
            if !stopped() {
                continue;
            }
            bytes += usage::directory(&self.upper(container.id()));
            self.remove_locked(&container, false).await?;
            removed.push(container.id().to_owned());
        }
        let reclaimed = [("reclaimed".to_owned(), bytes.to_string())].into();
        self.events()
            .emit(crate::events::Subject::Container, "prune", "", reclaimed);
        Ok((removed, bytes))
    }

    /// Removes a container's directories, in the background.
    pub(super) fn clear_directories(&self, id: &str) {
        self.clear_directories_after(id, None);
    }

    fn clear_directories_after(&self, id: &str, clearing: Option<tokio::task::JoinHandle<()>>) {
        for dir in [self.overlay_dir(id), self.container_dir(id)] {
            self.discard(&dir);
        }
        self.unmark_gone(id);
        let run_dir = self.container_run_dir(id);
        tokio::spawn(async move {
            if let Some(clearing) = clearing {
                // A panic in there was reported already.
                let _ = clearing.await;
            }
            let clear = move || {
                shm::release(&run_dir);
                remove_tree(&run_dir);
            };
            if let Err(error) = tokio::task::spawn_blocking(clear).await {
                tracing::error!(%error, "a directory is left behind");
            }
        });
    }

    /// Takes a directory out of sight now and removes it in the background. What a crash leaves
    /// of it is removed at the next start.
    pub(crate) fn discard(&self, dir: &Path) {
        let trash = self.config().data_root.join("trash");
        let Ok(name) = crate::ids::new_id() else {
            return;
        };
        let aside = trash.join(name);
        let moved = std::fs::create_dir_all(&trash).and_then(|()| std::fs::rename(dir, &aside));
        match moved {
            Ok(()) => self.remove_trees(vec![aside]),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(%error, dir = %dir.display(), "a directory is left behind");
            }
        }
    }
}
