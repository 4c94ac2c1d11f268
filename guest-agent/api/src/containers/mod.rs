//! `/containers/…` and `/exec/…`.

mod archive;
mod attach;
mod changes;
mod create;
mod exec;
mod inspect;
mod lifecycle;
mod list;
mod logs;
mod mounts;
mod older;
mod stats;
mod top;
mod wait;

pub(crate) use list::{Shape as Listed, shape};
pub(crate) use logs::{Form, encode};

use crate::call::Call;
use crate::error::ApiError;
use crate::router::Answer;

/// The routes. Dockerd lets names have slashes here, and says that there is no such container.
pub(crate) async fn route(call: Call) -> Answer {
    let path = call.path.clone();
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    match (call.method.as_str(), path.as_slice()) {
        ("GET", ["containers", "json"]) => list::list(&call),
        ("POST", ["containers", "create"]) => create::create(call).await,
        ("POST", ["containers", "prune"]) => lifecycle::prune(&call).await,
        ("GET", ["exec", id, "json"]) => exec::inspect(&call, id),
        ("POST", ["exec", id, "start"]) => exec::start(call, id).await,
        ("POST", ["exec", id, "resize"]) => exec::resize(&call, id),
        ("GET", ["containers", name @ .., "attach", "ws"]) if !name.is_empty() => {
            attach::websocket(call, &name.join("/")).await
        }
        ("DELETE", ["containers", name @ ..]) if !name.is_empty() => {
            lifecycle::remove(&call, &name.join("/")).await
        }
        ("GET" | "HEAD" | "PUT", ["containers", name @ .., verb]) if !name.is_empty() => {
            get(call, &name.join("/"), verb).await
        }
        ("POST", ["containers", name @ .., verb]) if !name.is_empty() => {
            post(call, &name.join("/"), verb).await
        }
        _ => Err(ApiError::page_not_found()),
    }
}

async fn get(call: Call, name: &str, verb: &str) -> Answer {
    match (call.method.as_str(), verb) {
        ("GET", "json") => inspect::inspect(&call, name).await,
        ("GET", "logs") => logs::logs(&call, name),
        ("GET", "top") => top::top(&call, name),
        ("GET", "stats") => stats::stats(&call, name).await,
        ("GET", "changes") => changes::changes(&call, name).await,
        ("GET", "export") => archive::export(&call, name).await,
        ("HEAD", "archive") => archive::head(&call, name).await,
        ("GET", "archive") => archive::get(&call, name).await,
        ("PUT", "archive") => archive::put(call, name).await,
        _ => Err(ApiError::page_not_found()),
    }
}

async fn post(call: Call, name: &str, verb: &str) -> Answer {
    match verb {
        "attach" => attach::attach(call, name).await,
        "exec" => exec::create(call, name).await,
        "kill" => lifecycle::kill(&call, name).await,
        "pause" => lifecycle::pause(&call, name).await,
        "rename" => lifecycle::rename(&call, name).await,
        "resize" => lifecycle::resize(&call, name),
        "restart" => lifecycle::restart(&call, name).await,
        "start" => lifecycle::start(call, name).await,
        "stop" => lifecycle::stop(&call, name).await,
        "unpause" => lifecycle::unpause(&call, name).await,
        "update" => lifecycle::update(call, name).await,
        "wait" => wait::wait(&call, name),
        _ => Err(ApiError::page_not_found()),
    }
}
