//! A registry as one repository's readers see it: documents and blobs, with whatever
//! authorization it asks for.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, RANGE, RETRY_AFTER};
use hyper::{Method, Response, StatusCode, Uri};

use super::auth::{self, Challenge};
use super::http::{Ask, Http, collect};
use super::{Credentials, RegistryError};
use crate::digest::Digest;
use crate::manifest::{DOCKER_INDEX, DOCKER_MANIFEST, MAX_BYTES, OCI_INDEX, OCI_MANIFEST};
use crate::reference::Reference;

/// Reads one repository at one endpoint.
pub(super) struct Client {
    http: Http,
    /// The reference as the user knows it, for messages.
    name: String,
    familiar: String,
    repository: String,
    credentials: Credentials,
    authorization: Mutex<Option<HeaderValue>>,
}

/// A manifest or index as it came.
pub(super) struct Fetched {
    pub(super) bytes: Bytes,
    pub(super) media_type: String,
}

impl Client {
    pub(super) fn new(http: Http, reference: &Reference, credentials: &Credentials) -> Self {
        let credentials = if http.endpoint.mirror {
            Credentials::default()
        } else {
            credentials.clone()
        };
        let authorization = auth::bearer(&credentials.registry_token)
            .filter(|_| !credentials.registry_token.is_empty());
        Self {
            http,
            name: reference.familiar(),
            familiar: reference.familiar_name(),
            repository: reference.repository().to_owned(),
            credentials,
            authorization: Mutex::new(authorization),
        }
    }

    /// The digest a tag has now, if the registry says it.
    pub(super) async fn resolve(&self, tag: &str) -> Result<Option<Digest>, RegistryError> {
        let mut ask = self.ask(Method::HEAD, "manifests", tag)?;
        ask.headers.insert(ACCEPT, accept());
        let response = self.authorized(&ask).await?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::METHOD_NOT_ALLOWED => return Ok(None),
            _ => return Err(self.refusal(&ask, &response)),
        }
        let digest = response.headers().get("docker-content-digest");
        Ok(digest.and_then(|value| value.to_str().ok()?.parse().ok()))
    }

    /// A manifest or index by tag or digest; not verified.
    pub(super) async fn manifest(&self, name: &str) -> Result<Fetched, RegistryError> {
        let mut ask = self.ask(Method::GET, "manifests", name)?;
        ask.headers.insert(ACCEPT, accept());
        let response = self.authorized(&ask).await?;
        if response.status() != StatusCode::OK {
            return Err(self.refusal(&ask, &response));
        }
        let kind = response.headers().get(CONTENT_TYPE);
        let kind = kind.and_then(|value| value.to_str().ok()).unwrap_or("");
        let kind = kind.split(';').next().unwrap_or("").trim().to_owned();
        Ok(Fetched {
            bytes: collect(&ask, response, MAX_BYTES).await?,
            media_type: kind,
        })
    }

    /// A small blob; not verified.
    pub(super) async fn document(&self, digest: &Digest) -> Result<Bytes, RegistryError> {
        let (ask, response) = self.blob(digest, 0).await?;
        collect(&ask, response, MAX_BYTES).await
    }

    /// A blob's bytes from `offset` on; the answer may begin at 0 all the same (status 200).
    pub(super) async fn blob(
        &self,
        digest: &Digest,
        offset: u64,
    ) -> Result<(Ask, Response<Incoming>), RegistryError> {
        let mut ask = self.ask(Method::GET, "blobs", &digest.to_string())?;
        if offset > 0 {
            let range = HeaderValue::from_str(&format!("bytes={offset}-"));
            ask.headers.insert(
                RANGE,
                range.map_err(|error| ask.protocol(error.to_string()))?,
            );
        }
        let response = self.authorized(&ask).await?;
        match response.status() {
            StatusCode::OK => Ok((ask, response)),
            StatusCode::PARTIAL_CONTENT if offset > 0 => Ok((ask, response)),
            _ => Err(self.refusal(&ask, &response)),
        }
    }

    fn ask(&self, method: Method, kind: &str, name: &str) -> Result<Ask, RegistryError> {
        let origin = &self.http.endpoint.origin;
        let url = format!("{origin}/v2/{}/{kind}/{name}", self.repository);
        let url: Uri = url.parse().map_err(|_| RegistryError::Protocol {
            request: origin.to_string(),
            problem: "the name cannot be part of a URL".to_owned(),
        })?;
        Ok(Ask::new(method, url))
    }

    /// Sends `ask`; if the registry wants authorization, gets it and sends it once more.
    async fn authorized(&self, ask: &Ask) -> Result<Response<Incoming>, RegistryError> {
        let response = self.attempt(ask).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        let Some(challenge) = Challenge::of(response.headers()) else {
            return Ok(response);
        };
        drop(response);
        let header = self.answer(ask, &challenge).await?;
        *self.lock() = Some(header);
        let response = self.attempt(ask).await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            return Err(match challenge {
                Challenge::Basic => RegistryError::Unauthorized {
                    request: ask.name(),
                },
                Challenge::Bearer { .. } => RegistryError::Denied(self.familiar.clone()),
            });
        }
        Ok(response)
    }

    async fn attempt(&self, ask: &Ask) -> Result<Response<Incoming>, RegistryError> {
        let mut ask = ask.clone();
        if let Some(value) = self.lock().clone() {
            ask.headers.insert(AUTHORIZATION, value);
        }
        self.http.follow(ask).await
    }

    async fn answer(&self, ask: &Ask, challenge: &Challenge) -> Result<HeaderValue, RegistryError> {
        match challenge {
            Challenge::Basic => {
                auth::basic(&self.credentials).ok_or_else(|| RegistryError::NoCredentials {
                    request: ask.name(),
                })
            }
            Challenge::Bearer { realm, service, .. } => {
                // Our own scope: what the registry proposes could be more.
                let scope = format!("repository:{}:pull", self.repository);
                let token =
                    auth::token(&self.http, realm, service, Some(&scope), &self.credentials)
                        .await?;
                auth::bearer(&token).ok_or_else(|| ask.protocol("the token is no header's value"))
            }
        }
    }

    fn refusal(&self, ask: &Ask, response: &Response<Incoming>) -> RegistryError {
        match response.status() {
            StatusCode::NOT_FOUND if ask.url.path().contains("/manifests/") => {
                RegistryError::ManifestUnknown(self.name.clone())
            }
            StatusCode::NOT_FOUND => ask.protocol("blob unknown to registry"),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                RegistryError::Denied(self.familiar.clone())
            }
            StatusCode::TOO_MANY_REQUESTS => {
                let after = response.headers().get(RETRY_AFTER);
                let seconds = after.and_then(|value| value.to_str().ok()?.parse().ok());
                RegistryError::TooManyRequests {
                    retry_after: seconds.map(Duration::from_secs),
                }
            }
            status => RegistryError::Status {
                request: ask.name(),
                status: status.to_string(),
            },
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<HeaderValue>> {
        self.authorization
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn accept() -> HeaderValue {
    let kinds = [
        OCI_INDEX,
        DOCKER_INDEX,
        OCI_MANIFEST,
        DOCKER_MANIFEST,
        "*/*;q=0.1",
    ];
    HeaderValue::from_str(&kinds.join(", ")).unwrap_or(HeaderValue::from_static("*/*"))
}
