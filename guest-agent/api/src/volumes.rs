//! `/volumes`.

use std::collections::BTreeMap;

use hyper::StatusCode;
use lighter_engine::Engine;
use lighter_engine::disk_usage::VolumeUsage;
use lighter_engine::filters::Filters;
use lighter_engine::volumes::{FILTERS, PRUNE_FILTERS, Volume};
use serde::{Deserialize, Serialize};

use crate::body::{json, no_content, ok};
use crate::call::Call;
use crate::error::ApiError;
use crate::router::Answer;
use crate::swarm;

/// The routes.
pub(crate) async fn route(call: Call) -> Answer {
    let path = call.path.clone();
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    match (call.method.as_str(), path.as_slice()) {
        ("GET", ["volumes"]) => list(&call),
        ("POST", ["volumes", "create"]) => create(call).await,
        ("POST", ["volumes", "prune"]) => prune(&call).await,
        ("GET", ["volumes", name]) => ok(&shape(&call.engine, &*call.engine.volume(name)?)),
        ("DELETE", ["volumes", name]) => {
            call.engine
                .volume_remove(name, call.query.flag("force"))
                .await?;
            Ok(no_content())
        }
        ("PUT", ["volumes", _]) => swarm::route(&call),
        _ => Err(ApiError::page_not_found()),
    }
}

/// A volume.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Shape {
    created_at: String,
    driver: &'static str,
    labels: Option<BTreeMap<String, String>>,
    mountpoint: String,
    name: String,
    options: Option<BTreeMap<String, String>>,
    scope: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage_data: Option<UsageData>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct UsageData {
    ref_count: usize,
    size: u64,
}

/// A volume, with what it takes of the disk.
pub(crate) fn measured(engine: &Engine, usage: &VolumeUsage) -> Shape {
    Shape {
        usage_data: Some(UsageData {
            ref_count: usage.users,
            size: usage.bytes,
        }),
        ..shape(engine, &usage.volume)
    }
}

fn shape(engine: &Engine, volume: &Volume) -> Shape {
    let created = volume.created.to_string();
    // Whole seconds, as dockerd takes the time from the directory.
    let seconds = created.split(['.', 'Z']).next().unwrap_or_default();
    Shape {
        created_at: format!("{seconds}Z"),
        driver: "local",
        labels: volume.labels.clone(),
        mountpoint: engine.volume_path(&volume.name).display().to_string(),
        name: volume.name.clone(),
        options: volume.options.clone(),
        scope: "local",
        usage_data: None,
    }
}

fn list(call: &Call) -> Answer {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct List {
        volumes: Vec<Shape>,
        warnings: Option<Vec<String>>,
    }
    let filters = Filters::parse(call.query.get("filters"), FILTERS);
    let filters = filters.map_err(|error| match error.text().as_str() {
        "invalid filter" => ApiError::bad_request("error reading volume filters: invalid filter"),
        _ => error.into(),
    })?;
    let volumes = call.engine.volume_list(&filters)?;
    let volumes = volumes
        .iter()
        .map(|volume| shape(&call.engine, volume))
        .collect();
    ok(&List {
        volumes,
        warnings: None,
    })
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Create {
    name: Option<String>,
    driver: Option<String>,
    driver_opts: Option<BTreeMap<String, String>>,
    labels: Option<BTreeMap<String, String>>,
    cluster_volume_spec: Option<serde_json::Value>,
}

async fn create(mut call: Call) -> Answer {
    let create: Create = call.optional_json().await?.unwrap_or_default();
    if create.cluster_volume_spec.is_some() {
        return swarm::route(&call);
    }
    let (name, driver) = (
        create.name.unwrap_or_default(),
        create.driver.unwrap_or_default(),
    );
    let options = create.driver_opts;
    let volume = call
        .engine
        .volume_create(&name, &driver, create.labels, options)
        .await?;
    json(StatusCode::CREATED, &shape(&call.engine, &volume))
}

async fn prune(call: &Call) -> Answer {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Pruned {
        volumes_deleted: Option<Vec<String>>,
        space_reclaimed: u64,
    }
    let filters = Filters::parse(call.query.get("filters"), PRUNE_FILTERS)?;
    // Named volumes were pruned too before 1.42.
    let pruned = call
        .engine
        .volume_prune(&filters, !call.version.since(42))
        .await?;
    ok(&Pruned {
        volumes_deleted: (!pruned.names.is_empty()).then_some(pruned.names),
        space_reclaimed: pruned.bytes,
    })
}
