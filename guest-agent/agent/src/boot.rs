//! The hello of this boot: accepted once, kept by init, compared with ever after.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use lighter_init::Supervisor;
use lighter_protocol::{BootSettings, Hello, Refused, RefusedCode, VERSION};
use tokio::sync::Mutex;

use crate::disk::{self, DiskError};
use crate::places::Places;
use crate::{clock, kept, shares};

/// The accepted hello, or the want of one.
#[derive(Debug)]
pub struct Boot {
    places: Arc<Places>,
    supervisor: Arc<Supervisor>,
    accepted: Mutex<Option<Arc<Hello>>>,
}

/// What became of a hello.
#[derive(Debug)]
pub enum Verdict {
    /// The first of this boot: the engine can start.
    First(Arc<Hello>),
    /// A later one, with the right secret.
    Again,
    /// No.
    Refused(Refused),
}

impl Boot {
    /// With the hello that an earlier agent left in the store, if there was one.
    pub fn new(places: Arc<Places>, supervisor: Arc<Supervisor>, stored: Option<OwnedFd>) -> Self {
        let accepted = stored.and_then(|stored| match kept::take(stored) {
            Ok(hello) => Some(Arc::new(hello)),
            Err(error) => {
                tracing::error!(%error, "the stored hello is unreadable; waiting for another");
                None
            }
        });
        Self {
            places,
            supervisor,
            accepted: Mutex::new(accepted),
        }
    }

    /// The accepted hello.
    pub async fn accepted(&self) -> Option<Arc<Hello>> {
        self.accepted.lock().await.clone()
    }

    /// Judges a hello; the first good one makes this boot what it says.
    pub async fn judge(&self, hello: Hello) -> Verdict {
        let mut accepted = self.accepted.lock().await;
        if let Some(known) = accepted.as_ref() {
            if known.secret != hello.secret {
                tracing::warn!("a hello with another secret is refused");
                return refused(RefusedCode::Secret, "this is not the secret of this boot");
            }
            self.set_clock(&hello.boot);
            return Verdict::Again;
        }
        // Before anything is written, so that the first files of a new disk have the right time.
        self.set_clock(&hello.boot);
        if let Err(error) = self.prepare(&hello.boot).await {
            tracing::error!(%error, "the hello is refused");
            return refused(error.code(), error.to_string());
        }
        let hello = Arc::new(hello);
        if let Err(error) = kept::put(&self.supervisor, kept::BOOT, &*hello) {
            tracing::error!(%error, "the hello cannot be kept");
            return refused(
                RefusedCode::Engine,
                format!("the hello cannot be kept: {error}"),
            );
        }
        *accepted = Some(Arc::clone(&hello));
        Verdict::First(hello)
    }

    fn set_clock(&self, boot: &BootSettings) {
        if !self.places.native {
            clock::set(boot.clock_unix_ns);
        }
    }

    /// Everything that the hello decides about the machine itself.
    async fn prepare(&self, boot: &BootSettings) -> Result<(), DiskError> {
        let places = Arc::clone(&self.places);
        let machine_id = boot.machine_id.clone();
        let verified = tokio::task::spawn_blocking(move || disk::verify(&places, &machine_id));
        verified.await.map_err(io::Error::other)??;
        if self.places.native {
            return Ok(());
        }
        if let Err(error) = rustix::system::sethostname(boot.hostname.as_bytes()) {
            tracing::warn!(%error, "the name of the machine stays as it is");
        }
        shares::mount(&self.places);
        let places = Arc::clone(&self.places);
        // Nobody waits for it: the file system is in use while it grows.
        tokio::task::spawn_blocking(move || disk::grow(&places));
        Ok(())
    }
}

fn refused(code: RefusedCode, message: impl Into<String>) -> Verdict {
    Verdict::Refused(Refused {
        version: VERSION,
        code,
        message: message.into(),
    })
}
