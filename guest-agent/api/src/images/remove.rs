//! `DELETE /images/{name}` and `POST /images/prune`.

use lighter_engine::filters::Filters;
use lighter_engine::images::{PRUNE_FILTERS, Removed};
use serde::Serialize;

use crate::body::ok;
use crate::call::Call;
use crate::router::Answer;

#[derive(Serialize)]
enum Line {
    Untagged(String),
    Deleted(String),
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Pruned {
    images_deleted: Option<Vec<Line>>,
    space_reclaimed: u64,
}

impl From<Removed> for Line {
    fn from(removed: Removed) -> Self {
        match removed {
            Removed::Untagged(name) => Self::Untagged(name),
            Removed::Deleted(id) => Self::Deleted(id),
        }
    }
}

pub(super) async fn remove(call: &Call, name: &str) -> Answer {
    let (force, keep) = (call.query.flag("force"), call.query.flag("noprune"));
    let removed = call.engine.image_remove(name, force, !keep).await?;
    let lines: Vec<Line> = removed.into_iter().map(Line::from).collect();
    ok(&lines)
}

pub(super) async fn prune(call: &Call) -> Answer {
    let filters = Filters::parse(call.query.get("filters"), PRUNE_FILTERS)?;
    let pruned = call.engine.image_prune(&filters).await?;
    let lines: Vec<Line> = pruned.removed.into_iter().map(Line::from).collect();
    ok(&Pruned {
        images_deleted: (!lines.is_empty()).then_some(lines),
        space_reclaimed: pruned.bytes,
    })
}
