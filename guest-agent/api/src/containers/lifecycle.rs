//! Start, stop, kill, pause, rename, resize, update, remove, prune.

use hyper::StatusCode;
use hyper::header::TRANSFER_ENCODING;
use lighter_engine::containers::{PRUNE_FILTERS, RemoveOptions};
use lighter_engine::filters::Filters;
use lighter_engine::model::{HostConfig, RestartPolicy};
use serde::{Deserialize, Serialize};

use crate::body::{empty, no_content, ok};
use crate::call::Call;
use crate::error::ApiError;
use crate::router::Answer;

pub(super) async fn start(mut call: Call, name: &str) -> Answer {
    // Clients of long ago sent a configuration here; `null` and `{}` still come.
    let unknown = call.headers.contains_key(TRANSFER_ENCODING);
    if unknown || call.bytes(1 << 20).await?.len() > 7 {
        return Err(ApiError::bad_request(
            "starting container with non-empty request body was deprecated since API v1.22 and \
             removed in v1.24",
        ));
    }
    call.engine.container_start(name).await?;
    Ok(no_content())
}

pub(super) async fn stop(call: &Call, name: &str) -> Answer {
    let (signal, timeout) = stop_options(call)?;
    call.engine.container_stop(name, signal, timeout).await?;
    Ok(no_content())
}

pub(super) async fn restart(call: &Call, name: &str) -> Answer {
    let (signal, timeout) = stop_options(call)?;
    call.engine.container_restart(name, signal, timeout).await?;
    Ok(no_content())
}

fn stop_options(call: &Call) -> Result<(Option<&str>, Option<i64>), ApiError> {
    let signal = call
        .query
        .filled("signal")
        .filter(|_| call.version.since(42));
    Ok((signal, call.query.number("t")?))
}

pub(super) async fn kill(call: &Call, name: &str) -> Answer {
    call.engine
        .container_kill(name, call.query.get("signal"))
        .await?;
    Ok(no_content())
}

pub(super) async fn pause(call: &Call, name: &str) -> Answer {
    call.engine.container_pause(name).await?;
    Ok(no_content())
}

pub(super) async fn unpause(call: &Call, name: &str) -> Answer {
    call.engine.container_unpause(name).await?;
    Ok(no_content())
}

pub(super) async fn rename(call: &Call, name: &str) -> Answer {
    let new = call.query.get("name").unwrap_or_default();
    call.engine.container_rename(name, new).await?;
    Ok(no_content())
}

pub(super) fn resize(call: &Call, name: &str) -> Answer {
    let (rows, columns) = size(call)?;
    call.engine.container_resize(name, rows, columns)?;
    Ok(empty(StatusCode::OK))
}

/// Rows and columns of a resize request.
pub(super) fn size(call: &Call) -> Result<(u16, u16), ApiError> {
    let number = |key, name| {
        let text = call.query.get(key).unwrap_or_default();
        let digits = text.strip_prefix('-').unwrap_or(text);
        let number = text.parse::<u32>().map_err(|_| {
            let why = if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                "invalid syntax"
            } else {
                "value out of range"
            };
            ApiError::bad_request(format!("invalid resize {name} \"{text}\": {why}"))
        })?;
        // The kernel has sixteen bits for it, and dockerd cuts it off as well.
        Ok::<_, ApiError>((number & 0xffff) as u16)
    };
    Ok((number("h", "height")?, number("w", "width")?))
}

/// The body of update: the limits of `HostConfig` and the policy.
#[derive(Deserialize)]
struct Update {
    #[serde(flatten)]
    limits: HostConfig,
    #[serde(rename = "RestartPolicy", default)]
    policy: Option<RestartPolicy>,
}

pub(super) async fn update(mut call: Call, name: &str) -> Answer {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Shape {
        warnings: Vec<String>,
    }
    let Update { mut limits, policy } = call.json().await?;
    if !call.version.since(40) {
        // Older clients send one they do not mean.
        limits.pids_limit = None;
    }
    if call.version.since(42) {
        limits.kernel_memory = 0;
    }
    let warnings = call.engine.container_update(name, limits, policy).await?;
    ok(&Shape { warnings })
}

pub(super) async fn remove(call: &Call, name: &str) -> Answer {
    if call.query.flag("link") {
        call.engine.container_unlink(name).await?;
        return Ok(no_content());
    }
    let options = RemoveOptions {
        force: call.query.flag("force"),
        volumes: call.query.flag("v"),
    };
    call.engine.container_remove(name, options).await?;
    Ok(no_content())
}

pub(super) async fn prune(call: &Call) -> Answer {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Shape {
        containers_deleted: Option<Vec<String>>,
        space_reclaimed: u64,
    }
    let filters = Filters::parse(call.query.get("filters"), PRUNE_FILTERS)?;
    let (removed, bytes) = call.engine.container_prune(&filters).await?;
    let containers_deleted = (!removed.is_empty()).then_some(removed);
    ok(&Shape {
        containers_deleted,
        space_reclaimed: bytes,
    })
}
