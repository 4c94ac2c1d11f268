//! `POST /containers/create`.

use hyper::StatusCode;
use lighter_engine::model::{Config, CreateRequest};
use serde::Serialize;

use super::older;
use crate::body::json;
use crate::call::Call;
use crate::error::ApiError;
use crate::router::Answer;

pub(super) async fn create(mut call: Call) -> Answer {
    let request: Option<CreateRequest> = call.json().await?;
    let mut request = request
        .filter(|request| request.config != Config::default())
        .ok_or_else(|| {
            ApiError::bad_request("config cannot be empty in order to create a container")
        })?;
    if call.version.since(42) {
        request.host_config.kernel_memory = 0;
    } else {
        // Older clients send sizes they do not mean.
        request.host_config.console_size = (0, 0);
    }
    let mut warnings = older::adapt(&mut request, call.version)?;
    let name = call.query.filled("name");
    let platform = call.query.filled("platform");
    let created = call
        .engine
        .container_create(request, name, platform)
        .await?;
    warnings.extend(created.warnings);
    json(
        StatusCode::CREATED,
        &Shape {
            id: created.id,
            warnings,
        },
    )
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Shape {
    id: String,
    /// Never null: some clients take its length.
    warnings: Vec<String>,
}
