//! What a push asks of a registry: whether it has a blob, uploads, manifests.

use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION};
use hyper::{Method, StatusCode, Uri};
use tokio::sync::mpsc;

use super::RegistryError;
use super::client::Client;
use super::endpoint::Origin;
use super::http::{Ask, resolve};
use crate::digest::Digest;

/// What came of asking for a blob of another repository.
pub(super) enum Mount {
    /// It is in this one as well now.
    Mounted,
    /// The registry would rather have it sent, to here.
    Upload(Uri),
}

impl Client {
    /// Whether somebody is there who speaks; what it says does not matter yet.
    pub(super) async fn ping(&self) -> Result<(), RegistryError> {
        let url = format!("{}/v2/", self.http.endpoint.origin);
        let url: Uri = url.parse().map_err(|_| RegistryError::Protocol {
            request: url.clone(),
            problem: "this is no URL".to_owned(),
        })?;
        self.http.follow(Ask::new(Method::GET, url)).await.map(drop)
    }

    /// Whether the repository has a blob. One that is not shown counts as not there: whether it
    /// may be brought there is another question.
    pub(super) async fn has(&self, digest: &Digest) -> Result<bool, RegistryError> {
        let ask = self.ask(Method::HEAD, "blobs", &digest.to_string())?;
        match self.authorized(&ask).await {
            Ok(response) => Ok(response.status() == StatusCode::OK),
            Err(RegistryError::Refused(_) | RegistryError::Status(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Asks for a blob that another repository has.
    pub(super) async fn mount(&self, digest: &Digest, from: &str) -> Result<Mount, RegistryError> {
        let query = form_urlencoded::Serializer::new(String::from("?"))
            .append_pair("from", from)
            .append_pair("mount", &digest.to_string())
            .finish();
        let ask = self.uploads(&query)?;
        let response = self.authorized(&ask).await?;
        match response.status() {
            StatusCode::CREATED => Ok(Mount::Mounted),
            StatusCode::ACCEPTED => Ok(Mount::Upload(location(&ask, response.headers())?)),
            _ => Err(self.refusal(&ask, response).await),
        }
    }

    /// Where an upload goes.
    pub(super) async fn begin(&self) -> Result<Uri, RegistryError> {
        let ask = self.uploads("")?;
        let response = self.authorized(&ask).await?;
        match response.status() {
            StatusCode::ACCEPTED => location(&ask, response.headers()),
            _ => Err(self.refusal(&ask, response).await),
        }
    }

    /// Sends a blob's bytes while they are made; where it is to be closed.
    pub(super) async fn send(
        &self,
        url: Uri,
        chunks: mpsc::Receiver<Bytes>,
    ) -> Result<Uri, RegistryError> {
        let mut ask = Ask::new(Method::PATCH, url);
        ask.headers.insert(CONTENT_TYPE, bytes_type());
        let response = self.http.send_streamed(&self.signed(&ask), chunks).await?;
        match response.status() {
            StatusCode::ACCEPTED | StatusCode::NO_CONTENT | StatusCode::CREATED => {
                location(&ask, response.headers())
            }
            _ => Err(self.refusal(&ask, response).await),
        }
    }

    /// Closes an upload, with the rest of its bytes: from now on the blob is there.
    pub(super) async fn finish(
        &self,
        url: &Uri,
        rest: Bytes,
        digest: &Digest,
    ) -> Result<(), RegistryError> {
        let separator = if url.query().is_some() { '&' } else { '?' };
        let hex = digest.hex();
        let closed = format!("{url}{separator}digest=sha256%3A{hex}");
        let mut ask = Ask::new(Method::PUT, url.clone());
        ask.url = closed
            .parse()
            .map_err(|_| ask.protocol("the upload's location is no URL"))?;
        ask.headers.insert(CONTENT_TYPE, bytes_type());
        ask.body = rest;
        self.created(&ask).await
    }

    /// Gives a manifest its tag.
    pub(super) async fn put_manifest(
        &self,
        tag: &str,
        media_type: &'static str,
        manifest: Bytes,
    ) -> Result<(), RegistryError> {
        let mut ask = self.ask(Method::PUT, "manifests", tag)?;
        let kind = HeaderValue::from_static(media_type);
        ask.headers.insert(CONTENT_TYPE, kind);
        ask.body = manifest;
        self.created(&ask).await
    }

    async fn created(&self, ask: &Ask) -> Result<(), RegistryError> {
        let response = self.authorized(ask).await?;
        if response.status().is_success() {
            return Ok(());
        }
        Err(self.refusal(ask, response).await)
    }

    fn uploads(&self, query: &str) -> Result<Ask, RegistryError> {
        self.ask(Method::POST, "blobs/uploads", query)
    }
}

fn bytes_type() -> HeaderValue {
    HeaderValue::from_static("application/octet-stream")
}

/// Where an upload goes on. It may be another origin, but not a less private one.
fn location(ask: &Ask, headers: &HeaderMap) -> Result<Uri, RegistryError> {
    let target = headers.get(LOCATION).and_then(|value| value.to_str().ok());
    let url = target.and_then(|target| resolve(&ask.url, target));
    let (from, to) = (Origin::of(&ask.url), url.as_ref().and_then(Origin::of));
    let (Some(url), Some(from), Some(to)) = (url, from, to) else {
        return Err(ask.protocol("the upload has no usable location"));
    };
    if from.tls && !to.tls {
        return Err(ask.protocol("the upload leads from https to http"));
    }
    Ok(url)
}
