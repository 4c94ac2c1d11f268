//! One request at a time over a fresh connection of the dialer, and redirects.
//!
//! `Authorization` goes to the origin it was asked for and is dropped on the way to any other.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, HOST, HeaderMap, HeaderValue, LOCATION, USER_AGENT};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use super::endpoint::{self, Endpoint, Origin};
use super::tls::Tls;
use super::{Network, RegistryError};
use crate::dial::{DialPurpose, DialTarget, Stream};

const MAX_REDIRECTS: usize = 10;
const MAX_HEADERS: usize = 128;
const MAX_HEAD_BYTES: usize = 64 << 10;

/// A server that does not shake hands for so long speaks no TLS.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// What is sent.
type Outgoing = UnsyncBoxBody<Bytes, io::Error>;

/// Sends requests on behalf of one endpoint.
pub(super) struct Http {
    network: Network,
    tls: Tls,
    /// For those whose certificate does not matter.
    any_tls: Tls,
    tls_seen: Arc<AtomicBool>,
    pub(super) endpoint: Endpoint,
}

/// A request without a way to it.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    pub(super) method: Method,
    pub(super) url: Uri,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Ask {
    pub(super) fn new(method: Method, url: Uri) -> Self {
        Self {
            method,
            url,
            headers: HeaderMap::new(),
            body: Bytes::new(),
        }
    }

    /// As Go's client names a request in its errors.
    pub(super) fn name(&self) -> String {
        let method = self.method.as_str();
        let rest = method[1..].to_ascii_lowercase();
        format!("{}{rest} \"{}\"", &method[..1], self.url)
    }

    pub(super) fn protocol(&self, problem: impl Into<String>) -> RegistryError {
        RegistryError::Protocol {
            request: self.name(),
            problem: problem.into(),
        }
    }

    pub(super) fn transport(&self, source: io::Error) -> RegistryError {
        RegistryError::Transport {
            request: self.name(),
            source,
        }
    }
}

impl Http {
    pub(super) fn new(network: &Network, endpoint: Endpoint) -> Result<Self, RegistryError> {
        Ok(Self {
            tls: Tls::verified(&network.trust_roots_pem)?,
            any_tls: Tls::unverified()?,
            tls_seen: Arc::default(),
            network: network.clone(),
            endpoint,
        })
    }

    /// Becomes true once the endpoint itself has shaken hands.
    pub(super) fn tls_seen(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.tls_seen)
    }

    /// Sends `ask` and follows redirects.
    pub(super) async fn follow(&self, mut ask: Ask) -> Result<Response<Incoming>, RegistryError> {
        let asked = Origin::of(&ask.url);
        for _ in 0..MAX_REDIRECTS {
            let response = self.send(&ask).await?;
            // Its challenge must never be answered: it could name any token service.
            if response.status() == StatusCode::UNAUTHORIZED && Origin::of(&ask.url) != asked {
                return Err(ask.protocol("unauthorized by where the redirect leads"));
            }
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(response);
            }
            let target = response.headers().get(LOCATION).map(HeaderValue::to_str);
            let Some(Ok(target)) = target else {
                return Err(ask.protocol("the redirect has no usable location"));
            };
            let (from, to) = (Origin::of(&ask.url), resolve(&ask.url, target));
            let Some((to, origin)) = to.and_then(|to| Origin::of(&to).map(|origin| (to, origin)))
            else {
                return Err(ask.protocol("the redirect's location is no URL"));
            };
            if from.as_ref() != Some(&origin) {
                ask.headers.remove(AUTHORIZATION);
                if from.is_some_and(|from| from.tls) && !origin.tls {
                    return Err(ask.protocol("the redirect leads from https to http"));
                }
            }
            ask.url = to;
        }
        Err(ask.protocol(format!("stopped after {MAX_REDIRECTS} redirects")))
    }

    /// Sends `ask` and returns the head of the answer.
    pub(super) async fn send(&self, ask: &Ask) -> Result<Response<Incoming>, RegistryError> {
        let body = Full::new(ask.body.clone()).map_err(|never| match never {});
        let exchange = self.exchange(ask, body.boxed_unsync());
        let answered = timeout(self.network.patience, exchange).await;
        let answered = answered.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        answered.map_err(|error| ask.transport(error))
    }

    /// Sends `ask` with a body that is made while it is sent; it takes as long as it moves. Nothing
    /// is followed, as nothing is left to be sent again.
    pub(super) async fn send_streamed(
        &self,
        ask: &Ask,
        chunks: mpsc::Receiver<Bytes>,
    ) -> Result<Response<Incoming>, RegistryError> {
        let (moved, mut moving) = watch::channel(());
        // Dropped with this call: a body that nobody wants any more must not be made to its end.
        let (_wanted, unwanted) = oneshot::channel();
        let exchange = self.exchange(ask, outgoing(chunks, moved, unwanted));
        tokio::pin!(exchange);
        let answered = loop {
            let still = timeout(self.network.patience, moving.changed());
            tokio::select! {
                answered = &mut exchange => break answered,
                still = still => match still {
                    Err(_) => break Err(io::ErrorKind::TimedOut.into()),
                    Ok(Ok(())) => {}
                    // The body is handed over: what is left is the answer.
                    Ok(Err(_)) => {
                        let answered = timeout(self.network.patience, &mut exchange).await;
                        break answered.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
                    }
                },
            }
        };
        answered.map_err(|error| ask.transport(error))
    }

    /// The whole body, if it is not larger than `limit`.
    pub(super) async fn collect(
        &self,
        ask: &Ask,
        response: Response<Incoming>,
        limit: usize,
    ) -> Result<Bytes, RegistryError> {
        let mut body = response.into_body();
        let mut bytes = BytesMut::new();
        while let Some(chunk) = self
            .chunk(&mut body)
            .await
            .map_err(|error| ask.transport(error))?
        {
            if bytes.len() + chunk.len() > limit {
                return Err(ask.protocol(format!("the answer is larger than {limit} bytes")));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes.freeze())
    }

    /// The next piece of a body; none at its end.
    pub(super) async fn chunk(&self, body: &mut Incoming) -> io::Result<Option<Bytes>> {
        loop {
            let frame = timeout(self.network.patience, body.frame())
                .await
                .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?;
            match frame {
                None => return Ok(None),
                Some(Err(error)) => return Err(io::Error::other(error)),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    async fn exchange(&self, ask: &Ask, body: Outgoing) -> io::Result<Response<Incoming>> {
        let origin = Origin::of(&ask.url).ok_or(io::ErrorKind::InvalidInput)?;
        let stream = self.connect(&origin).await?;
        let (mut sender, connection) = http1::Builder::new()
            .max_headers(MAX_HEADERS)
            .max_buf_size(MAX_HEAD_BYTES)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        // Ends with the answer's body, or when that is dropped.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a registry's connection broke");
            }
        });
        let path = ask.url.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::builder().method(&ask.method).uri(path);
        if let Some(headers) = request.headers_mut() {
            headers.clone_from(&ask.headers);
            let host = HeaderValue::from_str(&origin.authority()).map_err(io::Error::other)?;
            headers.insert(HOST, host);
            headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        }
        let request = request.body(body).map_err(io::Error::other)?;
        sender.send_request(request).await.map_err(io::Error::other)
    }

    async fn connect(&self, origin: &Origin) -> io::Result<Box<dyn Stream>> {
        let target = DialTarget {
            host: origin.host.clone(),
            port: origin.port,
            tls: origin.tls,
        };
        let named = &self.endpoint.origin;
        let purpose = DialPurpose {
            registry: self.endpoint.registry.clone(),
            user_named: !self.endpoint.foreign
                && named.host == origin.host
                && named.port == origin.port,
        };
        let stream = self.network.dialer.dial(&target, &purpose).await?;
        if !origin.tls {
            return Ok(stream);
        }
        let own = origin == named;
        let verified = if own || self.endpoint.foreign {
            self.endpoint.verified
        } else {
            !endpoint::is_insecure(&self.network, &origin.authority())
        };
        let tls = if verified { &self.tls } else { &self.any_tls };
        let shaken = timeout(HANDSHAKE, tls.connect(&origin.host, stream)).await;
        let stream = shaken.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        if own {
            self.tls_seen.store(true, Ordering::Relaxed);
        }
        Ok(stream)
    }
}

/// A body of chunks. It breaks off, and does not end, once it is unwanted.
fn outgoing(
    mut chunks: mpsc::Receiver<Bytes>,
    moved: watch::Sender<()>,
    mut unwanted: oneshot::Receiver<()>,
) -> Outgoing {
    let frames = stream::poll_fn(move |context| {
        if Pin::new(&mut unwanted).poll(context).is_ready() {
            return Poll::Ready(Some(Err(io::ErrorKind::ConnectionAborted.into())));
        }
        let chunk = ready!(chunks.poll_recv(context));
        moved.send_replace(());
        Poll::Ready(chunk.map(|chunk| Ok(Frame::data(chunk))))
    });
    StreamBody::new(frames).boxed_unsync()
}

const AGENT: &str = concat!("lighter/", env!("CARGO_PKG_VERSION"));

/// A location, absolute or from the root.
pub(super) fn resolve(base: &Uri, target: &str) -> Option<Uri> {
    if target.starts_with('/') && !target.starts_with("//") {
        let origin = Origin::of(base)?;
        return format!("{origin}{target}").parse().ok();
    }
    target.parse().ok()
}
