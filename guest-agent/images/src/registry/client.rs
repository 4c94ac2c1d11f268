//! A registry as one repository's users see it: documents and blobs, with whatever authorization
//! it asks for. What only a push needs is in `put`.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, LINK, RANGE, RETRY_AFTER,
};
use hyper::{Method, Response, StatusCode, Uri};
use serde::Deserialize;

use super::auth::{self, Challenge};
use super::endpoint::Origin;
use super::error::Said;
use super::http::{Ask, Http, resolve};
use super::{Credentials, RegistryError};
use crate::digest::Digest;
use crate::manifest::{DOCKER_INDEX, DOCKER_MANIFEST, MAX_BYTES, OCI_INDEX, OCI_MANIFEST};
use crate::reference::Reference;

/// An answer that explains a refusal is not longer.
const MAX_REFUSAL: usize = 64 << 10;
/// A repository has no more tags; `docker pull -a` of one that has is refused.
const MAX_TAGS: usize = 10_000;
const MAX_PAGES: usize = 1000;

/// What is done with a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Pull,
    Push,
}

/// Uses one repository at one endpoint.
pub(super) struct Client {
    access: Access,
    pub(super) http: Http,
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
    pub(super) fn new(
        http: Http,
        reference: &Reference,
        credentials: &Credentials,
        access: Access,
    ) -> Self {
        let credentials = if http.endpoint.mirror {
            Credentials::default()
        } else {
            credentials.clone()
        };
        let authorization = auth::bearer(&credentials.registry_token)
            .filter(|_| !credentials.registry_token.is_empty());
        Self {
            access,
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
        // Not every registry answers HEAD, and no answer to it says what is wrong: GET does.
        if response.status() != StatusCode::OK {
            return Ok(None);
        }
        let digest = response.headers().get("docker-content-digest");
        Ok(digest.and_then(|value| value.to_str().ok()?.parse().ok()))
    }

    /// Every tag of the repository, sorted; those that are no tags are left out.
    pub(super) async fn tags(
        &self,
        reference: &Reference,
    ) -> Result<Vec<Reference>, RegistryError> {
        #[derive(Deserialize)]
        struct Page {
            #[serde(default)]
            tags: Option<Vec<String>>,
        }
        let mut found = BTreeSet::new();
        let mut ask = self.ask(Method::GET, "tags", "list")?;
        for _ in 0..MAX_PAGES {
            let response = self.authorized(&ask).await?;
            if response.status() != StatusCode::OK {
                return Err(self.refusal(&ask, response).await);
            }
            let next = next_page(&ask.url, response.headers());
            let body = self.http.collect(&ask, response, MAX_BYTES).await?;
            let page: Page =
                serde_json::from_slice(&body).map_err(|error| ask.protocol(error.to_string()))?;
            let tags = page.tags.into_iter().flatten();
            found.extend(tags.filter_map(|tag| reference.with_tag(&tag).ok()));
            if found.len() > MAX_TAGS {
                return Err(ask.protocol(format!("the repository has more than {MAX_TAGS} tags")));
            }
            match next {
                None => return Ok(found.into_iter().collect()),
                // A registry's list is its own: it leads nowhere else.
                Some(url) if Origin::of(&url) == Origin::of(&ask.url) => ask.url = url,
                Some(_) => return Err(ask.protocol("the list of tags goes on elsewhere")),
            }
        }
        Err(ask.protocol("the list of tags has no end"))
    }

    /// A manifest or index by tag or digest; not verified.
    pub(super) async fn manifest(&self, name: &str) -> Result<Fetched, RegistryError> {
        let mut ask = self.ask(Method::GET, "manifests", name)?;
        ask.headers.insert(ACCEPT, accept());
        let response = self.authorized(&ask).await?;
        if response.status() != StatusCode::OK {
            return Err(self.refusal(&ask, response).await);
        }
        let kind = response.headers().get(CONTENT_TYPE);
        let kind = kind.and_then(|value| value.to_str().ok()).unwrap_or("");
        let kind = kind.split(';').next().unwrap_or("").trim().to_owned();
        Ok(Fetched {
            bytes: self.http.collect(&ask, response, MAX_BYTES).await?,
            media_type: kind,
        })
    }

    /// A small blob; not verified.
    pub(super) async fn document(&self, digest: &Digest) -> Result<Bytes, RegistryError> {
        let (ask, response) = self.blob(digest, 0).await?;
        self.http.collect(&ask, response, MAX_BYTES).await
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
            _ => Err(self.refusal(&ask, response).await),
        }
    }

    pub(super) fn ask(&self, method: Method, kind: &str, name: &str) -> Result<Ask, RegistryError> {
        let origin = &self.http.endpoint.origin;
        let url = format!("{origin}/v2/{}/{kind}/{name}", self.repository);
        let url: Uri = url.parse().map_err(|_| RegistryError::Protocol {
            request: origin.to_string(),
            problem: "the name cannot be part of a URL".to_owned(),
        })?;
        Ok(Ask::new(method, url))
    }

    /// Sends `ask`; if the registry wants authorization, gets it and sends it once more.
    pub(super) async fn authorized(&self, ask: &Ask) -> Result<Response<Incoming>, RegistryError> {
        let response = self.attempt(ask).await?;
        // Another place, where an upload was sent to, could name any token service.
        if response.status() != StatusCode::UNAUTHORIZED || !self.is_own(&ask.url) {
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
            return Err(self.refusal(ask, response).await);
        }
        Ok(response)
    }

    async fn attempt(&self, ask: &Ask) -> Result<Response<Incoming>, RegistryError> {
        self.http.follow(self.signed(ask)).await
    }

    /// With what the registry wants to know about us; a place it points to is not told.
    pub(super) fn signed(&self, ask: &Ask) -> Ask {
        let mut ask = ask.clone();
        if let Some(value) = self.lock().clone().filter(|_| self.is_own(&ask.url)) {
            ask.headers.insert(AUTHORIZATION, value);
        }
        ask
    }

    /// Whether it is the registry itself that is asked.
    fn is_own(&self, url: &Uri) -> bool {
        Origin::of(url).as_ref() == Some(&self.http.endpoint.origin)
    }

    async fn answer(&self, ask: &Ask, challenge: &Challenge) -> Result<HeaderValue, RegistryError> {
        match challenge {
            Challenge::Basic => auth::basic(&self.credentials).ok_or_else(|| match self.access {
                Access::Pull => RegistryError::NoCredentials {
                    request: ask.name(),
                },
                Access::Push => RegistryError::Unauthorized("no basic auth credentials".into()),
            }),
            Challenge::Bearer { realm, service, .. } => {
                let scopes = self.scopes(ask);
                let asked = auth::token(&self.http, realm, service, &scopes, &self.credentials);
                let token = asked.await.map_err(|error| match (self.access, error) {
                    (Access::Push, RegistryError::Unauthorized(_)) => {
                        RegistryError::Unauthorized("unauthorized: authentication required".into())
                    }
                    (_, error) => error,
                })?;
                auth::bearer(&token).ok_or_else(|| ask.protocol("the token is no header's value"))
            }
        }
    }

    /// Our own scopes: what the registry proposes could be more.
    fn scopes(&self, ask: &Ask) -> Vec<String> {
        let actions = match self.access {
            Access::Pull => "pull",
            Access::Push => "pull,push",
        };
        let mut scopes = vec![format!("repository:{}:{actions}", self.repository)];
        let query = ask.url.query().unwrap_or_default();
        let mut pairs = form_urlencoded::parse(query.as_bytes());
        if let Some((_, from)) = pairs.find(|(key, _)| key == "from") {
            scopes.push(format!("repository:{from}:pull"));
        }
        scopes
    }

    /// Why the registry says no, in its own words where it has some.
    pub(super) async fn refusal(&self, ask: &Ask, response: Response<Incoming>) -> RegistryError {
        let (status, headers) = (response.status(), response.headers().clone());
        if status.is_client_error() {
            let body = self
                .http
                .collect(ask, response, MAX_REFUSAL)
                .await
                .unwrap_or_default();
            let said = Said::of(&body);
            let error = match self.access {
                Access::Pull => self.said(status, &headers, said, ask),
                Access::Push => said_to_a_push(status, &headers, said),
            };
            if let Some(error) = error {
                return error;
            }
        }
        RegistryError::Status(status.to_string())
    }

    fn said(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        said: Option<Said>,
        ask: &Ask,
    ) -> Option<RegistryError> {
        let or = |code, message| {
            said.clone()
                .unwrap_or_else(|| Said::default_of(code, message))
        };
        let denied = "requested access to the resource is denied";
        Some(match status {
            StatusCode::NOT_FOUND if said.as_ref().is_some_and(|said| said.is("NAME_UNKNOWN")) => {
                RegistryError::NameUnknown {
                    name: self.familiar.clone(),
                    said: said?,
                }
            }
            StatusCode::NOT_FOUND if ask.url.path().contains("/manifests/") => {
                RegistryError::ManifestUnknown {
                    name: self.name.clone(),
                    said: or("MANIFEST_UNKNOWN", "manifest unknown"),
                }
            }
            StatusCode::NOT_FOUND if ask.url.path().contains("/blobs/") => {
                ask.protocol("unknown blob")
            }
            StatusCode::UNAUTHORIZED if !Challenge::of_too_little(headers) => {
                let said = or("UNAUTHORIZED", "authentication required");
                RegistryError::Unauthorized(said.to_string())
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => RegistryError::Denied {
                name: self.familiar.clone(),
                said: said
                    .filter(|said| said.is("DENIED"))
                    .unwrap_or_else(|| Said::default_of("DENIED", denied)),
            },
            StatusCode::TOO_MANY_REQUESTS => too_many(headers, said),
            _ => return None,
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<HeaderValue>> {
        self.authorization
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// A push says what the registry says, as dockerd does.
fn said_to_a_push(
    status: StatusCode,
    headers: &HeaderMap,
    said: Option<Said>,
) -> Option<RegistryError> {
    let denied = || Said::default_of("DENIED", "requested access to the resource is denied");
    let needed = || Said::default_of("UNAUTHORIZED", "authentication required");
    Some(match status {
        StatusCode::TOO_MANY_REQUESTS => too_many(headers, said),
        StatusCode::UNAUTHORIZED if Challenge::of_too_little(headers) => {
            RegistryError::Refused(denied())
        }
        StatusCode::UNAUTHORIZED => {
            RegistryError::Unauthorized(said.unwrap_or_else(needed).to_string())
        }
        StatusCode::FORBIDDEN => RegistryError::Refused(said.unwrap_or_else(denied)),
        _ => RegistryError::Refused(said?),
    })
}

fn too_many(headers: &HeaderMap, said: Option<Said>) -> RegistryError {
    let after = headers.get(RETRY_AFTER);
    let seconds = after.and_then(|value| value.to_str().ok()?.parse().ok());
    let default = || {
        let text = "the registry wants to be asked less often";
        Said::default_of("TOOMANYREQUESTS", text)
    };
    RegistryError::TooManyRequests {
        said: said.unwrap_or_else(default),
        retry_after: seconds.map(Duration::from_secs),
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

/// Where a list goes on: `Link: </v2/…>; rel="next"`.
fn next_page(url: &Uri, headers: &HeaderMap) -> Option<Uri> {
    let link = headers.get(LINK)?.to_str().ok()?;
    let (target, rest) = link.strip_prefix('<')?.split_once('>')?;
    rest.contains("next")
        .then(|| resolve(url, target))
        .flatten()
}
