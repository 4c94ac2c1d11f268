//! `docker import URL`: an archive that the engine itself fetches.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use lighter_images::registry::{self, Fetched, RegistryError};
use lighter_images::{Progress, ProgressDetail, ProgressEvent, channel};
use tokio::sync::mpsc;

use super::ImportOptions;
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};

/// How often the bar moves.
const BAR_EVERY: Duration = Duration::from_millis(100);

impl Engine {
    /// Makes an image of the archive at `address`; the last line is its id. The first line is
    /// reported once the archive comes: a failure before it is one of the request.
    ///
    /// # Errors
    ///
    /// When the address may not or cannot be reached, or what is there cannot be imported.
    pub async fn image_import_from(
        self: &Arc<Self>,
        address: &str,
        mut options: ImportOptions,
        progress: Arc<dyn Progress>,
    ) -> Result<()> {
        self.require_open()?;
        if options.message.is_empty() {
            options.message = format!("Imported from {address}");
        }
        let url = if address.contains("://") {
            address.to_owned()
        } else {
            format!("http://{address}")
        };
        let fetched = registry::fetch(&self.network(), &url).await;
        let fetched = fetched.map_err(refused)?;
        progress.report(ProgressEvent::message(format!("Downloading from {url}")));
        let (sender, reader) = channel::to_thread();
        // Both end with this call: an archive whose rest is not fetched any more is no image.
        let importing = self.image_import(reader, options);
        let (id, ()) = tokio::join!(importing, hand_on(fetched, sender, &*progress));
        progress.report(ProgressEvent::message(id?.to_string()));
        Ok(())
    }
}

/// Hands the archive on until it ends, or nobody wants the rest.
async fn hand_on(
    mut fetched: Fetched,
    sender: mpsc::Sender<io::Result<Bytes>>,
    progress: &dyn Progress,
) {
    let total = fetched.total.unwrap_or_default();
    let mut current = 0;
    let bar = |current| ProgressEvent {
        detail: Some(ProgressDetail { current, total }),
        ..ProgressEvent::message("Importing")
    };
    let mut told = Instant::now();
    loop {
        match fetched.chunk().await {
            Ok(Some(chunk)) => {
                current += chunk.len() as u64;
                if sender.send(Ok(chunk)).await.is_err() {
                    return;
                }
                if told.elapsed() >= BAR_EVERY {
                    progress.report(bar(current));
                    told = Instant::now();
                }
            }
            Ok(None) => return progress.report(bar(current)),
            Err(error) => {
                sender.send(Err(error)).await.ok();
                return;
            }
        }
    }
}

/// The kinds are dockerd's, but for what must not be dialled.
fn refused(error: RegistryError) -> Error {
    let kind = match &error {
        RegistryError::Address { .. } => Kind::InvalidArgument,
        RegistryError::Fetch { status, .. } => match status {
            400 => Kind::InvalidArgument,
            401 => Kind::Unauthorized,
            403 => Kind::Forbidden,
            404 => Kind::NotFound,
            _ => Kind::Internal,
        },
        RegistryError::Transport { source, .. } => match source.kind() {
            io::ErrorKind::PermissionDenied => {
                let text = format!(
                    "{error}: archives of this host and its surroundings are not fetched; \
                     download it and import the file"
                );
                return Error::forbidden(text);
            }
            io::ErrorKind::NotFound => Kind::NotFound,
            _ => Kind::Internal,
        },
        _ => return lighter_images::Error::from(error).into(),
    };
    Error::new(kind, error.to_string())
}
