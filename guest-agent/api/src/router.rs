//! From the path to the resource. Every resource matches the rest of the path itself.

use hyper::header::{HeaderValue, LOCATION};
use hyper::{Method, Response, StatusCode};
use lighter_engine::Error;

use crate::body::{Body, empty};
use crate::call::Call;
use crate::error::ApiError;
use crate::{containers, images, lighter, networks, swarm, system, volumes};

/// What every handler answers.
pub(crate) type Answer = Result<Response<Body>, ApiError>;

/// Hands the call to the resource that its path names.
pub(crate) async fn route(call: Call) -> Answer {
    if call.method == Method::OPTIONS {
        return Ok(empty(StatusCode::OK));
    }
    match call.path.first().map(String::as_str) {
        Some("_ping" | "version" | "info" | "events" | "system") => system::route(&call).await,
        Some("containers" | "exec") => {
            call.engine.settled().await;
            containers::route(call).await
        }
        Some("auth") if call.method == Method::POST => images::login(call).await,
        Some("images") => match (call.method.as_str(), call.path.last().map(String::as_str)) {
            ("GET", Some("attestations")) => missing("attestations of images"),
            _ => images::route(call).await,
        },
        Some("volumes") => volumes::route(call).await,
        Some("networks") => networks::route(call).await,
        Some("swarm" | "nodes" | "services" | "tasks" | "secrets" | "configs") => {
            swarm::route(&call)
        }
        Some("plugins") => swarm::plugins(&call),
        Some("build") if call.path.get(1).is_some_and(|below| below == "prune") => {
            system::route(&call).await
        }
        Some("build" | "session" | "grpc") => missing("docker build"),
        Some("commit") if call.method == Method::POST => images::commit(call).await,
        Some("distribution") => images::distribution(&call).await,
        Some("lighter") => lighter::route(&call).await,
        _ => Err(ApiError::page_not_found()),
    }
}

/// Points to where a request belongs.
pub(crate) fn moved(place: &str) -> Response<Body> {
    let mut response = empty(StatusCode::MOVED_PERMANENTLY);
    // Only what a header line may have is left unescaped in it.
    if let Ok(place) = HeaderValue::from_str(place) {
        response.headers_mut().insert(LOCATION, place);
    }
    response
}

fn missing(what: &str) -> Answer {
    Err(Error::unsupported(format!("{what}: not supported yet")).into())
}
