//! `/containers/…` and `/exec/…`.

mod attach;
mod create;
mod exec;
mod inspect;
mod lifecycle;
mod list;
mod logs;
mod mounts;
mod wait;

pub(crate) use logs::{Form, encode};

use hyper::Method;

use crate::call::Call;
use crate::error::ApiError;
use crate::router::Answer;

/// The routes.
pub(crate) async fn route(call: Call) -> Answer {
    let path = call.path.clone();
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    match (call.method.as_str(), path.as_slice()) {
        ("GET", ["containers", "json"]) => list::list(&call),
        ("POST", ["containers", "create"]) => create::create(call).await,
        ("POST", ["containers", "prune"]) => lifecycle::prune(&call).await,
        ("GET", ["containers", name, "json"]) => inspect::inspect(&call, name),
        ("GET", ["containers", name, "logs"]) => logs::logs(&call, name),
        ("DELETE", ["containers", name]) => lifecycle::remove(&call, name).await,
        ("GET", ["exec", id, "json"]) => exec::inspect(&call, id),
        (method, ["containers", name, verb]) if method == Method::POST => {
            post(call, name, verb).await
        }
        ("POST", ["exec", id, "start"]) => exec::start(call, id).await,
        ("POST", ["exec", id, "resize"]) => exec::resize(&call, id),
        _ => Err(ApiError::page_not_found()),
    }
}

async fn post(call: Call, name: &str, verb: &str) -> Answer {
    match verb {
        "attach" => attach::attach(call, name),
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
