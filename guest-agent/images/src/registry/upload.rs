//! One layer on its way to a registry: named if it is there, mounted if another repository has it,
//! else compressed while it is sent.

use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::Uri;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;

use super::client::Client;
use super::put::Mount;
use super::{KnownBlob, retry};
use crate::channel::{self, ThreadWriter};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::layer::Hashing;
use crate::progress::{Progress, ProgressEvent};
use crate::reference::Reference;
use crate::store::{LayerFiles, Store};

/// How many digests of a layer are asked for before it is sent; dockerd asks for as many.
const CHECKS: usize = 3;
/// And from how many repositories it is mounted.
const MOUNTS: usize = 4;
const PIECE: usize = 64 << 10;

/// What every upload of a push needs.
#[derive(Clone)]
pub(super) struct Uploads {
    pub(super) store: Arc<Store>,
    pub(super) client: Arc<Client>,
    pub(super) reference: Reference,
    pub(super) progress: Arc<dyn Progress>,
    pub(super) retry_delay: Duration,
    /// How many layers are on their way at once, of all pushes.
    pub(super) slots: Arc<Semaphore>,
}

impl Uploads {
    /// Sees to it that the repository has the layer, and says what it is called there.
    pub(super) async fn layer(self, diff_id: Digest, known: Vec<KnownBlob>) -> Result<KnownBlob> {
        let slot = match self.slots.clone().try_acquire_owned() {
            Ok(slot) => Ok(slot),
            Err(_) => {
                self.say(&diff_id, "Waiting");
                self.slots.clone().acquire_owned().await
            }
        };
        let _slot = slot.map_err(|_| Error::Worker)?;
        let mut failures = 0;
        loop {
            let error = match self.attempt(&diff_id, &known).await {
                Ok(blob) => return Ok(blob),
                Err(error) => error,
            };
            failures += 1;
            if !retry::is_temporary(&error) || failures >= retry::ATTEMPTS {
                return Err(error);
            }
            let (progress, id) = (&*self.progress, diff_id.short());
            retry::wait(progress, &id, self.retry_delay, failures, &error).await;
        }
    }

    async fn attempt(&self, diff_id: &Digest, known: &[KnownBlob]) -> Result<KnownBlob> {
        let own = |blob: &&KnownBlob| self.is_own(blob);
        let (mine, others): (Vec<_>, Vec<_>) = known.iter().partition(own);
        if let Some(blob) = self.there(&mine).await? {
            self.say(diff_id, "Layer already exists");
            return Ok(blob);
        }
        let mut url = None;
        let registry = self.reference.registry();
        let near = others.iter().filter(|blob| blob.registry == registry);
        for blob in near.take(MOUNTS) {
            // Whatever speaks against it, the layer can still be sent.
            match self.client.mount(&blob.digest, &blob.repository).await {
                Ok(Mount::Mounted) => {
                    self.say(diff_id, &format!("Mounted from {}", blob.repository));
                    return Ok(self.named(blob.digest, blob.size));
                }
                Ok(Mount::Upload(to)) => {
                    url = Some(to);
                    break;
                }
                Err(error) => tracing::info!(%error, "a layer cannot be mounted"),
            }
        }
        if let Some(blob) = self.there(&others).await? {
            self.say(diff_id, "Layer already exists");
            return Ok(blob);
        }
        let url = match url {
            Some(url) => url,
            None => self.client.begin().await?,
        };
        self.send(diff_id, url).await
    }

    /// The first of these that the repository has.
    async fn there(&self, known: &[&KnownBlob]) -> Result<Option<KnownBlob>> {
        for blob in known.iter().take(CHECKS) {
            if self.client.has(&blob.digest).await? {
                return Ok(Some(self.named(blob.digest, blob.size)));
            }
        }
        Ok(None)
    }

    async fn send(&self, diff_id: &Digest, url: Uri) -> Result<KnownBlob> {
        let layer = self.store.require_layer(diff_id)?;
        let bar = Bar {
            progress: Arc::clone(&self.progress),
            id: diff_id.short(),
            total: layer.tar_bytes,
            drawn: Instant::now(),
        };
        let (writer, chunks) = channel::from_thread();
        let making = tokio::task::spawn_blocking(move || compress(&layer, writer, bar));
        let sent = self.client.send(url, chunks).await;
        let made = making.await.map_err(|_| Error::Worker)?;
        // A registry that stopped reading says why; the thread only saw that it did.
        let close = sent?;
        let (digest, size) = made?;
        self.client
            .finish(&close, bytes::Bytes::new(), &digest)
            .await?;
        self.say(diff_id, "Pushed");
        Ok(self.named(digest, size))
    }

    fn is_own(&self, blob: &KnownBlob) -> bool {
        blob.registry == self.reference.registry() && blob.repository == self.reference.repository()
    }

    fn named(&self, digest: Digest, size: u64) -> KnownBlob {
        KnownBlob::of(&self.reference, digest, size)
    }

    pub(super) fn say(&self, diff_id: &Digest, status: &str) {
        let event = ProgressEvent::layer(diff_id.short(), status);
        self.progress.report(event);
    }
}

/// How much of the tar is on its way.
struct Bar {
    progress: Arc<dyn Progress>,
    id: String,
    total: u64,
    drawn: Instant,
}

impl Bar {
    fn draw(&mut self, current: u64) {
        if current < self.total && self.drawn.elapsed() < retry::BAR_EVERY {
            return;
        }
        self.drawn = Instant::now();
        let event = ProgressEvent::bar(&self.id, "Pushing", current, self.total);
        self.progress.report(event);
    }
}

/// Writes the layer in gzip: digest and size of that. The tar is verified on the way: a damaged one
/// must not get a name that others trust.
fn compress(layer: &LayerFiles, out: ThreadWriter, mut bar: Bar) -> Result<(Digest, u64)> {
    let failed = |source| Error::File {
        action: "read",
        path: layer.tar.clone(),
        source,
    };
    let unsent = |source| Error::Read {
        what: "send layer",
        source,
    };
    let mut tar = Hashing::new(File::open(&layer.tar).map_err(failed)?);
    let mut gzip = GzEncoder::new(Counting::new(out), Compression::default());
    let mut piece = vec![0; PIECE];
    let mut done = 0;
    loop {
        let count = tar.read(&mut piece).map_err(failed)?;
        if count == 0 {
            break;
        }
        gzip.write_all(&piece[..count]).map_err(unsent)?;
        done += count as u64;
        bar.draw(done);
    }
    let mut counting = gzip.finish().map_err(unsent)?;
    let (actual, _) = tar.finish();
    if actual != layer.diff_id {
        return Err(Error::Mismatch {
            what: "layer".into(),
            expected: layer.diff_id,
            actual,
        });
    }
    counting.flush().map_err(unsent)?;
    Ok(counting.finish())
}

/// Passes bytes on, hashed and counted.
struct Counting<W> {
    out: W,
    hash: Sha256,
    size: u64,
}

impl<W: Write> Counting<W> {
    fn new(out: W) -> Self {
        Self {
            out,
            hash: Sha256::new(),
            size: 0,
        }
    }

    fn finish(self) -> (Digest, u64) {
        (Digest::from_bytes(self.hash.finalize().into()), self.size)
    }
}

impl<W: Write> Write for Counting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.hash.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
