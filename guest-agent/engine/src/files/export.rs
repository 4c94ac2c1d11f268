//! `docker export`: a container's root file system as one archive, without what is mounted in it.

use std::io::Write;
use std::sync::Arc;

use super::{Files, PackOptions, Packer};
use crate::engine::Engine;
use crate::error::Result;

/// A root file system that is about to be read.
pub struct Export(Files);

impl Export {
    /// Writes it as a tar. Blocks: call it on a thread that may.
    ///
    /// # Errors
    ///
    /// When the reader of the archive has gone, or something cannot be read.
    pub fn write(self, out: impl Write) -> std::io::Result<()> {
        let options = PackOptions {
            ids: self.0.ids,
            ..PackOptions::default()
        };
        let mut packer = Packer::new(out, options);
        packer.content(self.0.view.bare(), b"")?;
        packer.finish().map(drop)
    }
}

impl Engine {
    /// Opens a container's root file system to be read as an archive.
    ///
    /// # Errors
    ///
    /// When there is no such container, or its files cannot be reached.
    pub async fn container_export(self: &Arc<Self>, reference: &str) -> Result<Export> {
        let container = self.containers().find(reference)?;
        let files = self.container_files(&container).await?;
        self.container_event(&container, "export", &[]);
        Ok(Export(files))
    }
}
