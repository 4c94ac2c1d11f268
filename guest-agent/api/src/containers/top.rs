//! `GET /containers/{id}/top`.

use serde::Serialize;

use crate::body::ok;
use crate::call::Call;
use crate::router::Answer;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Shape {
    processes: Vec<Vec<String>>,
    titles: Vec<String>,
}

pub(super) fn top(call: &Call, name: &str) -> Answer {
    let options = call.query.get("ps_args").unwrap_or_default();
    let top = call.engine.container_top(name, options)?;
    ok(&Shape {
        processes: top.processes,
        titles: top.titles,
    })
}
