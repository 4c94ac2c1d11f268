//! `docker pull` and `docker login`.

use std::sync::Arc;
use std::time::Duration;

use lighter_images::registry::{self, Credentials, Network, PullRequest, RegistryError};
use lighter_images::{Platform, Progress, ProgressEvent, Reference};

use crate::engine::Engine;
use crate::error::{Kind, Result};

/// The wait before a download's second attempt; dockerd's.
const RETRY_DELAY: Duration = Duration::from_secs(5);
/// A registry that says nothing for so long is given up.
const PATIENCE: Duration = Duration::from_secs(60);

impl Engine {
    /// Pulls what `reference` names, or every tag of its repository if it names neither tag nor
    /// digest; each image is durable and has its names before the next is asked for.
    /// The first line is reported once the registry has shown the image: a failure before it is
    /// one of the request.
    ///
    /// # Errors
    ///
    /// When the registry refuses or cannot be reached, or what it sends is not what it promised.
    pub async fn image_pull(
        self: &Arc<Self>,
        reference: &Reference,
        platform: Option<Platform>,
        credentials: Credentials,
        progress: Arc<dyn Progress>,
    ) -> Result<()> {
        self.require_open()?;
        let mut request = PullRequest {
            reference: reference.clone(),
            platform,
            credentials,
        };
        let wanted = if reference.tag().is_none() && reference.digest().is_none() {
            registry::tags(&self.network(), &request).await?
        } else {
            vec![reference.clone()]
        };
        let mut newer = false;
        for reference in wanted {
            request.reference = reference;
            newer |= match self.pull_built_in(&request, &progress).await? {
                Some(newer) => newer,
                None => self.pull_one(&request, &progress).await?,
            };
        }
        let name = reference.familiar();
        let status = if newer {
            format!("Status: Downloaded newer image for {name}")
        } else {
            format!("Status: Image is up to date for {name}")
        };
        progress.report(ProgressEvent::message(status));
        Ok(())
    }

    /// Pulls one image; whether the reference stands for another one than before.
    async fn pull_one(
        self: &Arc<Self>,
        request: &PullRequest,
        progress: &Arc<dyn Progress>,
    ) -> Result<bool> {
        let leftovers = self.leftovers();
        let network = self.network();
        let pulled = registry::pull(self.store(), &network, request, progress).await?;
        let reference = &request.reference;
        let mut names = vec![reference.with_digest(pulled.digest)];
        if reference.digest().is_none() {
            names.insert(0, reference.clone());
        }
        let before = self.images().lock().names.get(&names[0]).copied();
        self.record_image(pulled.id, pulled.config, &names, None, pulled.pin)
            .await?;
        leftovers.none();
        self.remember_blobs(&pulled.layers);
        let image = self.image(&pulled.id.to_string())?;
        let (name, repository) = (reference.familiar(), reference.familiar_name());
        self.image_event("pull", &name, &repository, Some(&image));
        Ok(before != Some(pulled.id))
    }

    /// Asks the registry at `address` whether it takes these credentials.
    ///
    /// # Errors
    ///
    /// When it does not, or cannot be reached.
    pub async fn registry_login(&self, address: &str, credentials: &Credentials) -> Result<()> {
        Ok(registry::login(&self.network(), address, credentials)
            .await
            .map_err(lighter_images::Error::from)?)
    }

    pub(super) fn network(&self) -> Network {
        let config = self.config();
        Network {
            dialer: Arc::clone(&config.dialer),
            mirrors: config.settings.registry_mirrors.clone(),
            insecure: config.settings.insecure_registries.clone(),
            trust_roots_pem: config.trust_roots_pem.clone(),
            retry_delay: RETRY_DELAY,
            patience: PATIENCE,
        }
    }
}

/// The kind of a registry's refusal; its text is dockerd's.
pub(super) fn kind(error: &RegistryError) -> Kind {
    match error {
        RegistryError::Denied { .. }
        | RegistryError::NameUnknown { .. }
        | RegistryError::ManifestUnknown { .. }
        | RegistryError::NoPlatform(_) => Kind::NotFound,
        RegistryError::Unauthorized { .. } => Kind::Unauthorized,
        RegistryError::Refused(_) => Kind::Forbidden,
        RegistryError::NoEndpoint(_) => Kind::InvalidArgument,
        _ => Kind::Internal,
    }
}
