//! One request, decoded as far as every handler needs it, and its body on demand.

use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, UPGRADE};
use hyper::{HeaderMap, Method, Request, StatusCode, Version};
use lighter_engine::Engine;
use lighter_engine::model::caseless;
use serde::Deserialize as _;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::mpsc;

use crate::body::empty;
use crate::error::ApiError;
use crate::hijack::{HandedOver, Hijacked, Session};
use crate::query::{Query, decode_path};
use crate::request_body::RequestBody;
use crate::router::Answer;
use crate::version::{self, ApiVersion};
use crate::websocket;

/// The most a JSON body may have; the largest honest one (create with many labels) is far below.
const JSON_LIMIT: usize = 8 << 20;

/// One request.
pub(crate) struct Call {
    pub(crate) engine: Arc<Engine>,
    pub(crate) version: ApiVersion,
    pub(crate) method: Method,
    /// The decoded path without the version, split at the slashes.
    pub(crate) path: Vec<String>,
    pub(crate) query: Query,
    pub(crate) headers: HeaderMap,
    pub(crate) body: RequestBody,
    upgrade: bool,
    hand_over: mpsc::Sender<Hijacked>,
}

impl Call {
    /// Decodes the head of `request`.
    pub(crate) fn new(
        engine: Arc<Engine>,
        request: Request<Incoming>,
        hand_over: mpsc::Sender<Hijacked>,
    ) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let (version, path) = version::split(parts.uri.path())?;
        let path = decode_path(path)?;
        let path = path.trim_start_matches('/');
        Ok(Self {
            engine,
            version,
            method: parts.method,
            path: path.split('/').map(str::to_owned).collect(),
            query: Query::parse(parts.uri.query()),
            upgrade: parts.version >= Version::HTTP_11 && parts.headers.contains_key(UPGRADE),
            body: RequestBody::new(body, &parts.headers),
            headers: parts.headers,
            hand_over,
        })
    }

    /// Gives the connection to `session`, which also sends the head of the answer. What this
    /// returns is never sent.
    pub(crate) async fn hand_over(self, kind: &'static str, session: Session) -> Answer {
        let hijacked = Hijacked::new(self.upgrade, kind, session);
        self.give_away(hijacked).await
    }

    /// The same for a session over a WebSocket, with the head that answers its handshake.
    pub(crate) async fn hand_over_websocket(
        self,
        head: Vec<u8>,
        kind: websocket::Kind,
        session: Session,
    ) -> Answer {
        let hijacked = Hijacked::websocket(head, kind, session);
        self.give_away(hijacked).await
    }

    /// Ends the connection behind `last`, which is the whole answer.
    pub(crate) async fn turn_away(self, last: Vec<u8>) -> Answer {
        self.give_away(Hijacked::refusal(last)).await
    }

    async fn give_away(self, hijacked: Hijacked) -> Answer {
        if let Err(mpsc::error::SendError(hijacked)) = self.hand_over.send(hijacked).await {
            hijacked.run_alone().await;
        }
        let mut response = empty(StatusCode::OK);
        response.extensions_mut().insert(HandedOver);
        Ok(response)
    }

    /// The body, at most `limit` bytes of it.
    pub(crate) async fn bytes(&mut self, limit: usize) -> Result<Bytes, ApiError> {
        let body = Limited::new(&mut self.body, limit)
            .collect()
            .await
            .map_err(|error| {
                ApiError::bad_request(format!("the request body cannot be read: {error}"))
            })?;
        Ok(body.to_bytes())
    }

    /// The JSON body; an empty one is an error.
    pub(crate) async fn json<T: DeserializeOwned>(&mut self) -> Result<T, ApiError> {
        let body = self.bytes(JSON_LIMIT).await?;
        if body.is_empty() {
            return Err(ApiError::bad_request(
                "invalid JSON: got EOF while reading request body",
            ));
        }
        self.decode(&body)
    }

    /// The JSON body, or nothing if it is empty or null.
    pub(crate) async fn optional_json<T: DeserializeOwned>(
        &mut self,
    ) -> Result<Option<T>, ApiError> {
        let body = self.bytes(JSON_LIMIT).await?;
        if body.is_empty() {
            Ok(None)
        } else {
            self.decode(&body)
        }
    }

    fn decode<T: DeserializeOwned>(&self, body: &Bytes) -> Result<T, ApiError> {
        let kind = self.headers.get(CONTENT_TYPE);
        let kind = kind.map_or("", |value| value.to_str().unwrap_or_default());
        let essence = kind.split(';').next().unwrap_or_default().trim();
        if essence.is_empty() {
            return Err(ApiError::bad_request(format!(
                "malformed Content-Type header ({kind}): mime: no media type"
            )));
        }
        if !essence.eq_ignore_ascii_case("application/json") {
            return Err(ApiError::bad_request(format!(
                "unsupported Content-Type header ({kind}): must be 'application/json'"
            )));
        }
        let mut decoder = serde_json::Deserializer::from_reader(body.clone().reader());
        let wrong = |error: serde_json::Error| {
            let text = if error.is_eof() {
                "unexpected EOF".into()
            } else {
                error.to_string()
            };
            ApiError::bad_request(format!("invalid JSON: {text}"))
        };
        let value = Value::deserialize(&mut decoder).map_err(wrong)?;
        decoder
            .end()
            .map_err(|_| ApiError::bad_request("unexpected content after JSON"))?;
        caseless::read(value).map_err(wrong)
    }
}
