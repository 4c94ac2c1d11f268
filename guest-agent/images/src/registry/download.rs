//! One layer: downloaded, resumed where the connection broke, unpacked while it comes.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::CONTENT_RANGE;
use tokio::sync::mpsc::Sender;

use super::client::Client;
use super::{RegistryError, retry};
use crate::channel;
use crate::error::{Error, Result};
use crate::layer::Received;
use crate::manifest::Descriptor;
use crate::progress::{Progress, ProgressEvent};
use crate::store::Store;

/// Attempts in all: a registry must not keep us by a byte at a time.
const ATTEMPTS_IN_ALL: u32 = 100;

/// What every download of a pull needs.
#[derive(Clone)]
pub(super) struct Downloads {
    pub(super) store: Arc<Store>,
    pub(super) client: Arc<Client>,
    pub(super) progress: Arc<dyn Progress>,
    pub(super) retry_delay: Duration,
}

impl Downloads {
    /// Takes the layer in, verified against its descriptor, not yet visible.
    pub(super) async fn layer(self, layer: Descriptor) -> Result<Received> {
        let (sender, mut reader) = channel::to_thread();
        let (store, promised) = (Arc::clone(&self.store), layer.clone());
        let receiving = tokio::task::spawn_blocking(move || {
            Received::read_promised(&store, &mut reader, &promised)
        });
        let sent = self.send(&layer, &sender).await;
        if sent.is_err() {
            // Else the end of the stream would look like the end of the layer.
            let broken = io::Error::from(io::ErrorKind::ConnectionAborted);
            sender.send(Err(broken)).await.ok();
        }
        drop(sender);
        let received = receiving.await.map_err(|_| Error::Worker)?;
        sent?;
        let received = received?;
        self.report(&layer, "Download complete");
        Ok(received)
    }

    pub(super) fn report(&self, layer: &Descriptor, status: &str) {
        let event = ProgressEvent::layer(layer.digest.short(), status);
        self.progress.report(event);
    }

    async fn send(&self, layer: &Descriptor, sender: &Sender<io::Result<Bytes>>) -> Result<()> {
        let mut transfer = Transfer {
            downloads: self,
            layer,
            sender,
            offset: 0,
            drawn: Instant::now(),
        };
        let id = layer.digest.short();
        let mut failures = 0;
        for _ in 0..ATTEMPTS_IN_ALL {
            let before = transfer.offset;
            let error = match transfer.attempt().await {
                Ok(()) => {
                    self.bar(&id, layer.size, layer.size);
                    self.report(layer, "Verifying Checksum");
                    return Ok(());
                }
                Err(error) => error,
            };
            failures = if transfer.offset > before {
                1
            } else {
                failures + 1
            };
            if !retry::is_temporary(&error) || failures >= retry::ATTEMPTS {
                return Err(error);
            }
            retry::wait(&*self.progress, &id, self.retry_delay, failures, &error).await;
        }
        Err(Error::Registry(RegistryError::Protocol {
            request: id,
            problem: format!("the download broke {ATTEMPTS_IN_ALL} times"),
        }))
    }

    fn bar(&self, id: &str, current: u64, total: u64) {
        self.progress
            .report(ProgressEvent::bar(id, "Downloading", current, total));
    }
}

struct Transfer<'a> {
    downloads: &'a Downloads,
    layer: &'a Descriptor,
    sender: &'a Sender<io::Result<Bytes>>,
    /// Bytes handed on.
    offset: u64,
    drawn: Instant,
}

impl Transfer<'_> {
    /// From where the last attempt broke to the end, or to where this one breaks.
    async fn attempt(&mut self) -> Result<()> {
        let (digest, size) = (&self.layer.digest, self.layer.size);
        if self.offset == size && size > 0 {
            return Ok(());
        }
        let (ask, response) = self.downloads.client.blob(digest, self.offset).await?;
        let mut skip = 0;
        if response.status() == StatusCode::PARTIAL_CONTENT {
            let range = response.headers().get(CONTENT_RANGE);
            let range = range.and_then(|value| value.to_str().ok()).unwrap_or("");
            if !range.starts_with(&format!("bytes {}-", self.offset)) {
                return Err(ask.protocol("the range is not the one asked for").into());
            }
        } else {
            skip = self.offset;
        }
        let mut body = response.into_body();
        let http = &self.downloads.client.http;
        while let Some(mut chunk) = http
            .chunk(&mut body)
            .await
            .map_err(|error| ask.transport(error))?
        {
            let known = skip.min(chunk.len() as u64);
            skip -= known;
            let chunk = chunk.split_off(usize::try_from(known).unwrap_or(chunk.len()));
            self.offset += chunk.len() as u64;
            if self.offset > size {
                return Err(self.wrong_size());
            }
            if !chunk.is_empty() && self.sender.send(Ok(chunk)).await.is_err() {
                // The receiving thread has an error of its own, which says more.
                return Ok(());
            }
            if self.drawn.elapsed() >= retry::BAR_EVERY {
                self.drawn = Instant::now();
                self.downloads.bar(&digest.short(), self.offset, size);
            }
        }
        if self.offset < size {
            return Err(ask.transport(io::ErrorKind::UnexpectedEof.into()).into());
        }
        Ok(())
    }

    fn wrong_size(&self) -> Error {
        Error::Size {
            what: "layer".into(),
            expected: self.layer.size,
            actual: self.offset,
        }
    }
}
