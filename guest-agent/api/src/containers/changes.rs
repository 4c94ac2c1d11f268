//! `GET /containers/{id}/changes`.

use lighter_engine::files::ChangeKind;
use serde::Serialize;

use crate::body::ok;
use crate::call::Call;
use crate::router::Answer;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Shape {
    path: String,
    kind: u8,
}

pub(super) async fn changes(call: &Call, name: &str) -> Answer {
    let changes = call.engine.container_changes(name).await?;
    let shapes: Vec<Shape> = changes
        .into_iter()
        .map(|change| Shape {
            path: change.path,
            kind: match change.kind {
                ChangeKind::Modified => 0,
                ChangeKind::Added => 1,
                ChangeKind::Deleted => 2,
            },
        })
        .collect();
    // Dockerd says null where there are none.
    ok(&(!shapes.is_empty()).then_some(shapes))
}
