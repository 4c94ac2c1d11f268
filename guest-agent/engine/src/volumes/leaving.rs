//! Removing a volume: its record goes first, and the step that takes it notes that there may be a folder. The
//! note goes when the folder is gone for good, so that the next volume of that name never finds what was
//! in this one.

use std::fs::File;
use std::path::PathBuf;

use rusqlite::Connection;

use crate::db::{DbError, Sync};
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};

/// Takes the note away, in a transaction of the caller's.
pub(super) fn forget(connection: &Connection, name: &str) -> std::result::Result<(), DbError> {
    connection.execute("DELETE FROM leaving_volumes WHERE name = ?1", [name])?;
    Ok(())
}

/// Says in the record that the volume goes with no container, in a transaction of the caller's.
pub(crate) fn disown(connection: &Connection, name: &str) -> std::result::Result<(), DbError> {
    connection.execute(
        "UPDATE volumes SET body = json_remove(body, '$.made_for') WHERE name = ?1",
        [name],
    )?;
    Ok(())
}

impl Engine {
    /// Removes a volume that nobody uses.
    pub(super) async fn volume_drop(&self, name: &str) -> Result<()> {
        self.forget_volume(name).await?;
        self.volumes().remove(name);
        self.clear_folder(name).await;
        self.volume_event("destroy", name, &[]);
        Ok(())
    }

    /// Removes the volumes that were made for a container that is gone. Those that another uses stay, and
    /// are from now on nobody's.
    pub(crate) async fn remove_anonymous(&self, names: &[String]) {
        for name in names {
            let removed = match self.volume_remove(name, true).await {
                Err(error) if error.kind() == Kind::Conflict => self.disown_volume(name).await,
                other => other,
            };
            if let Err(error) = removed {
                tracing::warn!(error = error.text(), "an anonymous volume stays");
            }
        }
    }

    async fn disown_volume(&self, name: &str) -> Result<()> {
        let record = name.to_owned();
        let disowned = self
            .db()
            .write(Sync::Lazy, move |connection| disown(connection, &record));
        disowned.await?;
        self.volumes().disown(&[name.to_owned()]);
        Ok(())
    }

    /// Takes the record away, and notes that there may be a folder.
    pub(super) async fn forget_volume(&self, name: &str) -> Result<()> {
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
        self.volumes().set_leaving(name, true);
        Ok(())
    }

    /// Takes the folder away, and the note when that is certain.
    async fn clear_folder(&self, name: &str) {
        if let Err(error) = self.discard_folder(name) {
            tracing::warn!(%error, volume = name, "its folder is left behind until the next start");
            return;
        }
        self.volumes().set_leaving(name, false);
        let record = name.to_owned();
        // Lost with the machine, it is looked for once more.
        let noted = self
            .db()
            .write(Sync::Lazy, move |connection| forget(connection, &record));
        if let Err(error) = noted.await {
            tracing::warn!(%error, volume = name, "its removal is not noted");
        }
    }

    fn discard_folder(&self, name: &str) -> std::io::Result<()> {
        let folder = self.volumes_folder().join(name);
        self.discard(&folder);
        if folder.try_exists()? {
            return Err(std::io::ErrorKind::AlreadyExists.into());
        }
        // Ids never come again, so that nobody can find what was in them.
        if name.len() == crate::ids::LENGTH && name.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Ok(());
        }
        File::open(self.volumes_folder())?.sync_all()
    }

    /// Clears away what a volume of that name has left, should that not have been possible before.
    pub(super) fn clear_former(&self, name: &str) -> Result<()> {
        if !self.volumes().is_leaving(name) {
            return Ok(());
        }
        self.discard_folder(name).map_err(|error| {
            let text = format!("what was in the volume {name} before it was removed is in the way");
            Error::internal(text, error)
        })
    }

    /// Finishes what an engine had begun with volumes when it ended: called once, while the engine opens, with
    /// all containers known.
    pub(crate) async fn clear_volumes(&self) -> Result<()> {
        let leaving = self.db().write(Sync::Lazy, |connection| {
            let mut statement = connection.prepare("SELECT name FROM leaving_volumes")?;
            let names = statement.query_map([], |row| row.get::<_, String>(0))?;
            Ok(names.collect::<std::result::Result<Vec<_>, _>>()?)
        });
        for name in leaving.await? {
            if self.volumes().get(&name).is_none() && self.volume_users(&name).is_empty() {
                self.volumes().set_leaving(&name, true);
                self.clear_folder(&name).await;
            }
        }
        let orphans: Vec<String> = self
            .volumes()
            .all()
            .into_iter()
            .filter(|volume| {
                let owner = volume.made_for.as_deref();
                owner.is_some_and(|id| !self.containers().has(id))
            })
            .map(|volume| volume.name.clone())
            .collect();
        self.remove_anonymous(&orphans).await;
        Ok(())
    }

    fn volumes_folder(&self) -> PathBuf {
        self.config().data_root.join("volumes")
    }
}
