//! `docker pull` and `docker login`.

use std::sync::Arc;
use std::time::Duration;

use lighter_images::registry::{self, Credentials, Network, PullRequest, RegistryError};
use lighter_images::{Platform, Progress, ProgressEvent, Reference};

use crate::engine::Engine;
use crate::error::{Error, Kind, Result};

/// The wait before a download's second attempt; dockerd's.
const RETRY_DELAY: Duration = Duration::from_secs(5);

impl Engine {
    /// Pulls what `reference` names; the image is durable and has its names when this returns.
    /// The first line is reported once the registry has shown the image: a failure before it is
    /// one of the request.
    ///
    /// # Errors
    ///
    /// When the registry refuses or cannot be reached, or what it sends is not what it promised.
    pub async fn image_pull(
        &self,
        reference: &Reference,
        platform: Option<Platform>,
        credentials: Credentials,
        progress: Arc<dyn Progress>,
    ) -> Result<()> {
        self.require_open()?;
        let reference = reference.clone().with_default_tag();
        let _adding = self.images().adding.read().await;
        let request = PullRequest {
            reference: reference.clone(),
            platform,
            credentials,
        };
        let pulled = registry::pull(self.store(), &self.network(), &request, &progress).await?;
        if !matches!(pulled.config.os.as_str(), "" | "linux") {
            return Err(Error::invalid(format!(
                "image operating system {:?} cannot be used on this platform: \
                 operating system is not supported",
                pulled.config.os
            )));
        }
        let mut names = vec![reference.with_digest(pulled.digest)];
        if reference.digest().is_none() {
            names.insert(0, reference.clone());
        }
        let before = self.images().lock().names.get(&names[0]).copied();
        self.record_image(pulled.id, pulled.config, &names).await?;
        let image = self.image(&pulled.id.to_string())?;
        let name = reference.familiar();
        self.image_event("pull", &name, &reference.familiar_name(), Some(&image));
        let status = if before == Some(pulled.id) {
            format!("Status: Image is up to date for {name}")
        } else {
            format!("Status: Downloaded newer image for {name}")
        };
        progress.report(ProgressEvent::message(status));
        Ok(())
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

    fn network(&self) -> Network {
        let config = self.config();
        Network {
            dialer: Arc::clone(&config.dialer),
            mirrors: config.settings.registry_mirrors.clone(),
            insecure: config.settings.insecure_registries.clone(),
            trust_roots_pem: config.trust_roots_pem.clone(),
            retry_delay: RETRY_DELAY,
        }
    }
}

/// The kind of a registry's refusal; its text is dockerd's.
pub(super) fn kind(error: &RegistryError) -> Kind {
    match error {
        RegistryError::Denied(_)
        | RegistryError::ManifestUnknown(_)
        | RegistryError::NoPlatform(_) => Kind::NotFound,
        RegistryError::Unauthorized { .. } => Kind::Unauthorized,
        _ => Kind::Internal,
    }
}
