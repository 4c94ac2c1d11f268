//! `GET /containers/json`.

use std::collections::BTreeMap;
use std::time::Duration;

use lighter_engine::containers::{FILTERS, ListOptions, Listed, Record, RunState, Status};
use lighter_engine::filters::Filters;
use lighter_engine::model::{EndpointSettings, MountPoint, PortBinding};
use lighter_engine::ports;
use serde::Serialize;

use super::mounts;
use crate::body::ok;
use crate::call::Call;
use crate::router::Answer;

/// A container as lists tell of it.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Shape {
    id: String,
    names: Vec<String>,
    image: String,
    #[serde(rename = "ImageID")]
    image_id: String,
    command: String,
    created: i64,
    ports: Vec<Port>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size_rw: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size_root_fs: Option<u64>,
    labels: BTreeMap<String, String>,
    state: &'static str,
    status: String,
    host_config: HostConfig,
    network_settings: Networks,
    mounts: Vec<MountPoint>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Port {
    #[serde(rename = "IP", skip_serializing_if = "Option::is_none")]
    ip: Option<String>,
    private_port: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    public_port: Option<u16>,
    #[serde(rename = "Type")]
    kind: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct HostConfig {
    network_mode: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Networks {
    networks: BTreeMap<String, EndpointSettings>,
}

pub(super) fn list(call: &Call) -> Answer {
    let query = &call.query;
    let options = ListOptions {
        all: query.flag("all"),
        limit: query
            .number::<i64>("limit")?
            .and_then(|limit| usize::try_from(limit).ok().filter(|limit| *limit > 0)),
        size: query.flag("size"),
        filters: Filters::parse(query.get("filters"), FILTERS)?,
    };
    let listed = call.engine.container_list(&options)?;
    let shapes: Vec<Shape> = listed.into_iter().map(|one| shape(call, &one)).collect();
    ok(&shapes)
}

/// What is told of a container.
pub(crate) fn shape(call: &Call, listed: &Listed) -> Shape {
    let record: &Record = &listed.record;
    let run = &listed.state.run;
    Shape {
        id: record.id.clone(),
        names: names(listed),
        image: record.config.image.clone(),
        image_id: record.image_id.clone(),
        command: command(record),
        created: record.created.unix(),
        ports: ports(call, record, run),
        size_rw: listed.size.map(|(own, _)| own).filter(|own| *own > 0),
        size_root_fs: listed.size.map(|(_, all)| all),
        labels: record.config.labels.clone(),
        state: run.status.name(),
        status: status(run),
        host_config: HostConfig {
            network_mode: record.host_config.network_mode.clone(),
            annotations: record.host_config.annotations.clone(),
        },
        network_settings: Networks {
            networks: record.endpoints_in(run),
        },
        mounts: mounts::points(&call.engine, record),
    }
}

/// All names in their order, as dockerd has them.
fn names(listed: &Listed) -> Vec<String> {
    let own = std::iter::once(&listed.record.name).chain(&listed.links);
    let mut names: Vec<String> = own.map(|name| format!("/{name}")).collect();
    names.sort();
    names
}

fn ports(call: &Call, record: &Record, run: &RunState) -> Vec<Port> {
    let mut all = Vec::new();
    for (key, bindings) in call.engine.port_map(record, run) {
        let (private_port, kind) = ports::key(&key);
        let port = |binding: Option<PortBinding>| Port {
            ip: binding.as_ref().map(|binding| binding.host_ip.clone()),
            private_port,
            public_port: binding.and_then(|binding| binding.host_port.parse().ok()),
            kind: kind.clone(),
        };
        match bindings {
            Some(bindings) => all.extend(bindings.into_iter().map(|one| port(Some(one)))),
            None => all.push(port(None)),
        }
    }
    all
}

/// The program and its arguments, those with spaces in quotes.
fn command(record: &Record) -> String {
    let quoted = |word: &String| {
        if word.contains(' ') {
            format!("'{word}'")
        } else {
            word.clone()
        }
    };
    let words: Vec<String> = std::iter::once(record.path.clone())
        .chain(record.args.iter().map(quoted))
        .collect();
    words.join(" ")
}

/// The state in words. User interfaces parse these.
pub(crate) fn status(run: &RunState) -> String {
    match run.status {
        Status::Created => "Created".into(),
        Status::Removing => "Removal In Progress".into(),
        Status::Dead => "Dead".into(),
        Status::Paused => format!("Up {} (Paused)", human(run.started.elapsed())),
        Status::Restarting => {
            format!(
                "Restarting ({}) {} ago",
                run.exit_code,
                human(run.finished.elapsed())
            )
        }
        Status::Exited => {
            format!(
                "Exited ({}) {} ago",
                run.exit_code,
                human(run.finished.elapsed())
            )
        }
        Status::Running => {
            let up = human(run.started.elapsed());
            match &run.health {
                Some(health) if health.status == "starting" => {
                    format!("Up {up} (health: starting)")
                }
                Some(health) => format!("Up {up} ({})", health.status),
                None => format!("Up {up}"),
            }
        }
    }
}

/// A length of time as Docker says it.
fn human(time: Duration) -> String {
    let seconds = time.as_secs();
    let minutes = seconds / 60;
    let hours = (seconds + 1800) / 3600;
    match (seconds, minutes, hours) {
        (0, ..) => "Less than a second".into(),
        (1, ..) => "1 second".into(),
        (2..60, ..) => format!("{seconds} seconds"),
        (_, 1, _) => "About a minute".into(),
        (_, 2..60, _) => format!("{minutes} minutes"),
        (.., 1) => "About an hour".into(),
        (.., 0..48) => format!("{hours} hours"),
        (.., 48..336) => format!("{} days", hours / 24),
        (.., 336..1440) => format!("{} weeks", hours / 24 / 7),
        (.., 1440..17520) => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_said_as_docker_says_them() {
        for (seconds, text) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (150, "2 minutes"),
            (3600, "About an hour"),
            (7200, "2 hours"),
            (48 * 3600, "2 days"),
            (15 * 24 * 3600, "2 weeks"),
            (70 * 24 * 3600, "2 months"),
            (800 * 24 * 3600, "2 years"),
        ] {
            assert_eq!(human(Duration::from_secs(seconds)), text);
        }
    }
}
