//! From the path to the resource. Every resource matches the rest of the path itself.

use hyper::{Method, Response, StatusCode};
use lighter_engine::Error;

use crate::body::{Body, empty};
use crate::call::Call;
use crate::error::ApiError;
use crate::{containers, images, networks, swarm, system, volumes};

/// What every handler answers.
pub(crate) type Answer = Result<Response<Body>, ApiError>;

/// Hands the call to the resource that its path names.
pub(crate) async fn route(call: Call) -> Answer {
    if call.method == Method::OPTIONS {
        return Ok(empty(StatusCode::OK));
    }
    match call.path.first().map(String::as_str) {
        Some("_ping" | "version" | "info" | "events") => system::route(&call),
        Some("containers" | "exec") => containers::route(call).await,
        Some("auth") if call.method == Method::POST => images::login(call).await,
        Some("images") => images::route(call).await,
        Some("volumes") => volumes::route(call).await,
        Some("networks") => networks::route(&call),
        Some("swarm" | "nodes" | "services" | "tasks" | "secrets" | "configs") => swarm::route(),
        Some("plugins") => swarm::plugins(&call),
        Some(name @ ("build" | "session" | "grpc" | "commit" | "distribution")) => {
            Err(Error::unsupported(format!("/{name}: not supported yet")).into())
        }
        _ => Err(ApiError::page_not_found()),
    }
}
