//! The Docker API over the daemon's socket, as any client speaks it.
//!
//! Connections that are done with are kept for the next request: each new one costs a stream
//! into the machine.

use std::path::PathBuf;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, UPGRADE, USER_AGENT};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use lighter_platform::sys::connect_local;
use serde_json::Value;
use tokio::sync::mpsc;

use crate::exit::{CliError, Code};

/// The version of the API this client is written for.
const VERSION: &str = "/v1.51";

/// What a request carries.
pub type Body = BoxBody<Bytes, std::io::Error>;

/// Nothing.
pub fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed()
}

/// Bytes that come as they are made.
pub fn streamed(source: mpsc::Receiver<std::io::Result<Bytes>>) -> Body {
    let frames = futures_util::stream::unfold(source, |mut source| async move {
        source
            .recv()
            .await
            .map(|part| (part.map(Frame::data), source))
    });
    BodyExt::boxed(StreamBody::new(frames))
}

/// What the engine says when it refuses.
#[derive(Debug, Clone)]
pub struct ApiError {
    /// The HTTP status.
    pub status: StatusCode,
    /// Its words.
    pub message: String,
}

/// Why a request has no answer.
#[derive(Debug)]
pub enum Failed {
    /// The engine refused it.
    Api(ApiError),
    /// The engine could not be reached, or broke off.
    Link(CliError),
}

impl Failed {
    /// Whether the engine knows no such thing.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Api(error) if error.status == StatusCode::NOT_FOUND)
    }
}

impl From<Failed> for CliError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Link(error) => error,
            Failed::Api(error) => match error.message.split_once("\nhint: ") {
                Some((message, hint)) => Self::new(message).with_hint(hint),
                None => Self::new(error.message.trim_end()),
            },
        }
    }
}

fn link(error: &dyn std::error::Error) -> Failed {
    Failed::Link(CliError::of(error))
}

/// The way to the engine.
pub struct Api {
    socket: PathBuf,
    idle: std::sync::Mutex<Vec<SendRequest<Body>>>,
}

impl Api {
    /// A client of the engine behind `socket`.
    pub fn new(socket: PathBuf) -> Self {
        Self {
            socket,
            idle: std::sync::Mutex::default(),
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<SendRequest<Body>>> {
        self.idle
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    async fn connection(&self) -> Result<SendRequest<Body>, Failed> {
        let kept = self.idle().pop();
        if let Some(mut kept) = kept
            && kept.ready().await.is_ok()
        {
            return Ok(kept);
        }
        let stream = connect_local(&self.socket)
            .await
            .map_err(|error| link(&error))?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| link(&error))?;
        tokio::spawn(connection.with_upgrades());
        Ok(sender)
    }

    /// Sends a request; the answer's body comes as it is made.
    pub async fn send(
        &self,
        request: Request<Body>,
    ) -> Result<(Response<Incoming>, SendRequest<Body>), Failed> {
        let mut connection = self.connection().await?;
        let response = connection
            .send_request(request)
            .await
            .map_err(|error| link(&error))?;
        if response.status().is_client_error() || response.status().is_server_error() {
            return Err(Failed::Api(refusal(response).await));
        }
        Ok((response, connection))
    }

    /// A request with an answer that is read whole.
    async fn whole(&self, request: Request<Body>) -> Result<Bytes, Failed> {
        let (response, connection) = self.send(request).await?;
        let bytes = whole_body(response.into_body(), MOST_ANSWER).await?;
        self.idle().push(connection);
        Ok(bytes)
    }

    /// GET with a JSON answer.
    pub async fn get(&self, path: &str) -> Result<Value, Failed> {
        let bytes = self.whole(request(Method::GET, path, empty())).await?;
        parse(&bytes)
    }

    /// GET whose answer is taken as it is.
    pub async fn get_bytes(&self, path: &str) -> Result<Bytes, Failed> {
        self.whole(request(Method::GET, path, empty())).await
    }

    /// POST without a body; the answer, null where there is none.
    pub async fn post(&self, path: &str) -> Result<Value, Failed> {
        let bytes = self.whole(request(Method::POST, path, empty())).await?;
        parse(&bytes)
    }

    /// POST of a JSON body; the answer, null where there is none.
    pub async fn post_json(&self, path: &str, body: &Value) -> Result<Value, Failed> {
        let bytes = self.whole(json_request(path, body)).await?;
        parse(&bytes)
    }

    /// DELETE; the answer, null where there is none.
    pub async fn delete(&self, path: &str) -> Result<Value, Failed> {
        let bytes = self.whole(request(Method::DELETE, path, empty())).await?;
        parse(&bytes)
    }

    /// GET whose answer is followed as it comes.
    pub async fn follow(&self, path: &str) -> Result<Response<Incoming>, Failed> {
        Ok(self.send(request(Method::GET, path, empty())).await?.0)
    }

    /// POST that becomes a plain stream both ways.
    pub async fn hijack(&self, path: &str, body: Option<&Value>) -> Result<Hijacked, Failed> {
        let mut request = match body {
            Some(body) => json_request(path, body),
            None => request(Method::POST, path, empty()),
        };
        let upgrade = |name: &'static str| hyper::header::HeaderValue::from_static(name);
        request.headers_mut().insert(CONNECTION, upgrade("Upgrade"));
        request.headers_mut().insert(UPGRADE, upgrade("tcp"));
        let (response, _connection) = self.send(request).await?;
        let raw = response
            .headers()
            .get(CONTENT_TYPE)
            .is_some_and(|kind| kind == "application/vnd.docker.raw-stream");
        let stream = hyper::upgrade::on(response)
            .await
            .map_err(|error| link(&error))?;
        Ok(Hijacked {
            stream: TokioIo::new(stream),
            raw,
        })
    }
}

/// A stream that began as a request.
pub struct Hijacked {
    /// Bytes both ways; its shutdown is the half-close that ends a container's input.
    pub stream: TokioIo<hyper::upgrade::Upgraded>,
    /// Whether output and errors come as one, without frames.
    pub raw: bool,
}

/// A request with the headers every request has.
pub fn request(method: Method, path: &str, body: Body) -> Request<Body> {
    let mut request = Request::new(body);
    *request.method_mut() = method;
    // Paths are made of escaped parts only; should one be wrong all the same, `/` is a 404.
    *request.uri_mut() = format!("{VERSION}{path}").parse().unwrap_or_default();
    let plain = hyper::header::HeaderValue::from_static;
    request.headers_mut().insert(HOST, plain("docker"));
    request.headers_mut().insert(
        USER_AGENT,
        plain(concat!("Lighter/", env!("CARGO_PKG_VERSION"))),
    );
    request
}

/// A POST of JSON.
pub fn json_request(path: &str, body: &Value) -> Request<Body> {
    let bytes = Bytes::from(body.to_string());
    let full = Full::new(bytes).map_err(|never| match never {}).boxed();
    let mut request = request(Method::POST, path, full);
    request.headers_mut().insert(
        CONTENT_TYPE,
        hyper::header::HeaderValue::from_static("application/json"),
    );
    request
}

/// Longest answer that is read whole: lists of all there is are far below it.
const MOST_ANSWER: usize = 256 << 20;
/// Longest refusal.
const MOST_REFUSAL: usize = 1 << 20;

/// A body up to its end, which has to come: the engine's word is no measure of this host's memory.
pub async fn whole_body(body: Incoming, most: usize) -> Result<Bytes, Failed> {
    let body = Limited::new(body, most).collect().await.map_err(|error| {
        Failed::Link(CliError::new(format!(
            "the engine's answer broke off: {error}"
        )))
    })?;
    Ok(body.to_bytes())
}

async fn refusal(response: Response<Incoming>) -> ApiError {
    let status = response.status();
    let bytes = whole_body(response.into_body(), MOST_REFUSAL)
        .await
        .unwrap_or_default();
    let told = serde_json::from_slice::<Value>(&bytes)
        .ok()
        .and_then(|value| value.get("message")?.as_str().map(str::to_owned));
    let message = told.unwrap_or_else(|| match String::from_utf8_lossy(&bytes).trim() {
        "" => format!("the engine answered {status}"),
        text => text.to_owned(),
    });
    ApiError { status, message }
}

fn parse(bytes: &Bytes) -> Result<Value, Failed> {
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(bytes).map_err(|error| {
        Failed::Link(CliError::new(format!(
            "the engine's answer is no JSON: {error}"
        )))
    })
}

/// One part of a path or a query, escaped.
pub fn escape(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes().fold(String::new(), |mut out, byte| {
        if plain(byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
        out
    })
}

/// A path with a query of the parts that have a value.
pub fn with_query(path: &str, query: &[(&str, String)]) -> String {
    let parts: Vec<String> = query
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!("{name}={}", escape(value)))
        .collect();
    if parts.is_empty() {
        path.to_owned()
    } else {
        format!("{path}?{}", parts.join("&"))
    }
}

/// The code with which `run` and `start` end when a container could not be started.
pub fn start_code(message: &str) -> Code {
    let not_found = [
        "executable file not found",
        "no such file or directory",
        "system cannot find the file",
    ];
    if not_found.iter().any(|words| message.contains(words)) {
        Code::NOT_FOUND
    } else if ["permission denied", "is a directory"]
        .iter()
        .any(|words| message.contains(words))
    {
        Code::NOT_EXECUTABLE
    } else {
        Code::USAGE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_escaped_and_empty_parts_left_out() {
        let path = with_query("/x", &[("a", "b c&d".to_owned()), ("e", String::new())]);
        assert_eq!(path, "/x?a=b%20c%26d");
        assert_eq!(with_query("/x", &[]), "/x");
    }

    #[test]
    fn start_errors_have_dockers_codes() {
        let text = "exec: \"x\": executable file not found in $PATH: unknown";
        assert_eq!(start_code(text), Code(127));
        assert_eq!(start_code("exec: \"/etc\": permission denied"), Code(126));
        assert_eq!(start_code("no space left on device"), Code(125));
    }
}
