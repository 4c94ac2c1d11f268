//! `GET /images/{name}/json` and `/history`.

use std::collections::BTreeMap;

use lighter_engine::clock::Timestamp;
use lighter_engine::images::config::{Empty, Healthcheck, RunConfig};
use lighter_engine::images::{Digest, Image};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::body::ok;
use crate::call::Call;
use crate::router::Answer;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Shape {
    id: String,
    repo_tags: Vec<String>,
    repo_digests: Vec<String>,
    parent: String,
    comment: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<String>,
    #[serde(flatten)]
    build: Option<Build>,
    docker_version: String,
    author: String,
    config: Config,
    architecture: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    variant: String,
    os: String,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    virtual_size: Option<u64>,
    graph_driver: GraphDriver,
    #[serde(rename = "RootFS")]
    root_fs: RootFs,
    metadata: Metadata,
}

/// The run configuration as dockerd shows it of an image: what docker's own form always has, and
/// the rest where it is set.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    #[serde(skip_serializing_if = "Option::is_none")]
    args_escaped: Option<bool>,
    cmd: Option<Vec<String>>,
    entrypoint: Option<Vec<String>>,
    env: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exposed_ports: Option<BTreeMap<String, Empty>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    healthcheck: Option<Healthcheck>,
    labels: Option<BTreeMap<String, String>>,
    on_build: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shell: Option<Vec<String>>,
    #[serde(skip_serializing_if = "String::is_empty")]
    stop_signal: String,
    user: String,
    volumes: Option<BTreeMap<String, Empty>>,
    working_dir: String,
    #[serde(flatten)]
    of_containers: Option<OfContainers>,
}

/// Fields of containers that images had too before 1.50; always as here.
#[derive(Serialize, Default)]
#[serde(rename_all = "PascalCase")]
struct OfContainers {
    attach_stderr: bool,
    attach_stdin: bool,
    attach_stdout: bool,
    domainname: &'static str,
    hostname: &'static str,
    image: &'static str,
    open_stdin: bool,
    stdin_once: bool,
    tty: bool,
}

/// The container an image was made from, which was shown before 1.45.
#[derive(Serialize, Deserialize, Default)]
#[serde(
    rename_all(serialize = "PascalCase", deserialize = "snake_case"),
    default
)]
struct Build {
    #[serde(skip_serializing_if = "String::is_empty")]
    container: String,
    container_config: Option<Map<String, Value>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct GraphDriver {
    data: BTreeMap<&'static str, String>,
    name: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct RootFs {
    #[serde(rename = "Type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    layers: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Metadata {
    last_tag_time: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Step {
    comment: String,
    created: i64,
    created_by: String,
    id: String,
    size: u64,
    tags: Option<Vec<String>>,
}

pub(super) fn inspect(call: &Call, name: &str) -> Answer {
    let image = call.engine.image(name)?;
    let names = call.engine.image_names(&image.id);
    let shown = |digests: bool| {
        let kind = names
            .iter()
            .filter(|name| name.digest().is_some() == digests);
        kind.map(|name| name.familiar()).collect::<Vec<_>>()
    };
    ok(&Shape {
        id: image.id.to_string(),
        repo_tags: shown(false),
        repo_digests: shown(true),
        parent: image.parent.map_or_else(String::new, |id| id.to_string()),
        comment: comment(&image),
        created: created(call, &image),
        build: (!call.version.since(45)).then(|| build(call, &image)),
        docker_version: image.config.docker_version.clone(),
        author: image.config.author.clone(),
        config: config(call, &image.config.config),
        architecture: image.config.architecture.clone(),
        variant: image.config.variant.clone(),
        os: image.config.os.clone(),
        size: image.size,
        virtual_size: (!call.version.since(44)).then_some(image.size),
        graph_driver: graph_driver(call, &image),
        root_fs: RootFs {
            kind: "layers",
            layers: image
                .config
                .rootfs
                .diff_ids
                .iter()
                .map(ToString::to_string)
                .collect(),
        },
        metadata: Metadata {
            last_tag_time: image.tagged.unwrap_or(Timestamp::NEVER).to_string(),
        },
    })
}

fn comment(image: &Image) -> String {
    if !image.config.comment.is_empty() {
        return image.config.comment.clone();
    }
    image
        .config
        .history
        .last()
        .map(|step| step.comment.clone())
        .unwrap_or_default()
}

fn config(call: &Call, config: &RunConfig) -> Config {
    Config {
        args_escaped: config.args_escaped.then_some(true),
        cmd: config.cmd.clone(),
        entrypoint: config.entrypoint.clone(),
        env: config.env.clone(),
        exposed_ports: config.exposed_ports.clone(),
        healthcheck: config.healthcheck.clone(),
        labels: config.labels.clone(),
        on_build: config.on_build.clone(),
        shell: config.shell.clone(),
        stop_signal: config.stop_signal.clone(),
        user: config.user.clone(),
        volumes: config.volumes.clone(),
        working_dir: config.working_dir.clone(),
        of_containers: (!call.version.since(50)).then(OfContainers::default),
    }
}

/// When it was made; clients before 1.44 know no image that does not say.
fn created(call: &Call, image: &Image) -> Option<String> {
    let created = image.config.created.clone();
    let never = || (!call.version.since(44)).then(|| Timestamp::NEVER.to_string());
    created.or_else(never)
}

/// Read again from the configuration: nothing else wants it.
fn build(call: &Call, image: &Image) -> Build {
    let bytes = call.engine.store().read_blob(&image.id);
    let said: Build = bytes
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default();
    // A container's configuration has these whether they say anything or not.
    let always = json!({
        "Hostname": "", "Domainname": "", "User": "", "AttachStdin": false, "AttachStdout": false,
        "AttachStderr": false, "Tty": false, "OpenStdin": false, "StdinOnce": false, "Env": null,
        "Cmd": null, "Image": "", "Volumes": null, "WorkingDir": "", "Entrypoint": null,
        "OnBuild": null, "Labels": null,
    });
    let own = said.container_config.unwrap_or_default();
    let fields = always.as_object().cloned().unwrap_or_default();
    Build {
        container: said.container,
        container_config: Some(fields.into_iter().chain(own).collect()),
    }
}

/// Where the layers lie, in the form clients expect of the overlay driver.
fn graph_driver(call: &Call, image: &Image) -> GraphDriver {
    let root = call.engine.config().data_root.join("overlay2");
    let chain: Vec<String> = image
        .config
        .rootfs
        .diff_ids
        .iter()
        .rev()
        .map(|layer| layer.hex())
        .collect();
    let path = |layer: &String, what: &str| root.join(layer).join(what).display().to_string();
    let mut data = BTreeMap::new();
    if let Some((top, below)) = chain.split_first() {
        if !below.is_empty() {
            let lower: Vec<String> = below.iter().map(|layer| path(layer, "diff")).collect();
            data.insert("LowerDir", lower.join(":"));
        }
        data.insert("MergedDir", path(top, "merged"));
        data.insert("UpperDir", path(top, "diff"));
        data.insert("WorkDir", path(top, "work"));
    }
    GraphDriver {
        data,
        name: "overlay2",
    }
}

pub(super) fn history(call: &Call, name: &str) -> Answer {
    let image = call.engine.image(name)?;
    let tags = |id: &Digest| {
        let names = call.engine.image_names(id);
        let tags = names.iter().filter(|name| name.digest().is_none());
        let tags: Vec<String> = tags.map(|name| name.familiar()).collect();
        (!tags.is_empty()).then_some(tags)
    };
    let mut layers = image.config.rootfs.diff_ids.iter();
    let mut steps: Vec<Step> = Vec::new();
    for step in &image.config.history {
        let layer = if step.empty_layer {
            None
        } else {
            layers.next()
        };
        let size = layer
            .and_then(|layer| call.engine.store().layer(layer))
            .map_or(0, |files| files.tar_bytes);
        let created = step
            .created
            .as_deref()
            .and_then(Timestamp::parse)
            .map_or(0, Timestamp::unix);
        steps.push(Step {
            comment: step.comment.clone(),
            created,
            created_by: step.created_by.clone(),
            id: "<missing>".into(),
            size,
            tags: None,
        });
    }
    steps.reverse();
    // Each image made one step; the steps below the first are of images that were never here.
    for (step, image) in steps.iter_mut().zip(call.engine.image_ancestry(&image)) {
        step.id = image.id.to_string();
        step.tags = tags(&image.id);
    }
    ok(&steps)
}
