//! `GET /containers/{id}/json`.

use std::collections::BTreeMap;

use lighter_engine::containers::{Container, Health, Probe, Record, Status};
use lighter_engine::model::{Config, EndpointSettings, HostConfig, MountPoint, PortBinding};
use serde::Serialize;

use super::mounts;
use crate::body::ok;
use crate::call::Call;
use crate::router::Answer;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Shape<'a> {
    id: &'a str,
    created: String,
    path: &'a str,
    args: &'a [String],
    state: State<'a>,
    image: &'a str,
    resolv_conf_path: String,
    hostname_path: String,
    hosts_path: String,
    log_path: String,
    name: String,
    restart_count: u32,
    driver: &'static str,
    platform: &'static str,
    mount_label: &'static str,
    process_label: &'static str,
    app_armor_profile: &'static str,
    #[serde(rename = "ExecIDs")]
    exec_ids: Option<Vec<String>>,
    host_config: &'a HostConfig,
    graph_driver: GraphDriver,
    #[serde(skip_serializing_if = "Option::is_none")]
    size_rw: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size_root_fs: Option<u64>,
    mounts: Vec<MountPoint>,
    config: &'a Config,
    network_settings: NetworkSettings,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct State<'a> {
    status: &'static str,
    running: bool,
    paused: bool,
    restarting: bool,
    #[serde(rename = "OOMKilled")]
    oom_killed: bool,
    dead: bool,
    pid: i32,
    exit_code: i32,
    error: &'a str,
    started_at: String,
    finished_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<HealthShape<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct HealthShape<'a> {
    status: &'a str,
    failing_streak: u32,
    log: &'a [Probe],
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct GraphDriver {
    data: GraphData,
    name: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct GraphData {
    #[serde(rename = "ID")]
    id: String,
    lower_dir: String,
    merged_dir: String,
    upper_dir: String,
    work_dir: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct NetworkSettings {
    bridge: &'static str,
    #[serde(rename = "SandboxID")]
    sandbox_id: String,
    sandbox_key: String,
    ports: BTreeMap<String, Option<Vec<PortBinding>>>,
    hairpin_mode: bool,
    #[serde(rename = "LinkLocalIPv6Address")]
    link_local_ipv6_address: &'static str,
    #[serde(rename = "LinkLocalIPv6PrefixLen")]
    link_local_ipv6_prefix_len: u8,
    #[serde(rename = "SecondaryIPAddresses")]
    secondary_ip_addresses: Option<Vec<String>>,
    #[serde(rename = "SecondaryIPv6Addresses")]
    secondary_ipv6_addresses: Option<Vec<String>>,
    #[serde(rename = "EndpointID")]
    endpoint_id: String,
    gateway: String,
    #[serde(rename = "GlobalIPv6Address")]
    global_ipv6_address: String,
    #[serde(rename = "GlobalIPv6PrefixLen")]
    global_ipv6_prefix_len: u8,
    #[serde(rename = "IPAddress")]
    ip_address: String,
    #[serde(rename = "IPPrefixLen")]
    ip_prefix_len: u8,
    #[serde(rename = "IPv6Gateway")]
    ipv6_gateway: String,
    mac_address: String,
    networks: BTreeMap<String, EndpointSettings>,
}

pub(super) async fn inspect(call: &Call, name: &str) -> Answer {
    let container = call.engine.container(name)?;
    call.engine.restarted(&container).await;
    let record = container.record();
    let run = container.state().run;
    let dir = call.engine.container_dir(&record.id);
    // The files are made by the first start.
    let file = |name: &str| {
        if run.started.is_never() {
            return String::new();
        }
        dir.join(name).display().to_string()
    };
    let mut host_config = record.host_config.clone();
    host_config.links = call.engine.links_of(&record);
    if !run.started.is_never() {
        // What control groups 2 do not have is shown until the first start only.
        host_config.oom_kill_disable = None;
    }
    let mut config = record.config.clone();
    config.mac_address = address_asked_for(&record);
    let size = call.query.flag("size").then(|| call.engine.size(&record));
    let execs = call.engine.running_execs(&container);
    let logged = record.host_config.log_config.kind == "json-file" && !run.started.is_never();
    ok(&Shape {
        id: &record.id,
        created: record.created.to_string(),
        path: &record.path,
        args: &record.args,
        state: State {
            status: run.status.name(),
            // As dockerd has it: a container that waits for its next start counts as running.
            running: run.status.is_running() || run.status == Status::Restarting,
            paused: run.status == Status::Paused,
            restarting: run.status == Status::Restarting,
            oom_killed: run.oom_killed,
            dead: run.status == Status::Dead,
            pid: run.pid,
            exit_code: run.exit_code,
            error: &run.error,
            started_at: run.started.to_string(),
            finished_at: run.finished.to_string(),
            health: run.health.as_ref().map(health),
        },
        image: &record.image_id,
        resolv_conf_path: file("resolv.conf"),
        hostname_path: file("hostname"),
        hosts_path: file("hosts"),
        log_path: if logged {
            call.engine.log_path(&record).display().to_string()
        } else {
            String::new()
        },
        name: format!("/{}", record.name),
        restart_count: run.restart_count,
        driver: "overlay2",
        platform: "linux",
        mount_label: "",
        process_label: "",
        app_armor_profile: "",
        exec_ids: (!execs.is_empty()).then_some(execs),
        host_config: &host_config,
        graph_driver: graph_driver(call, &record),
        size_rw: size.map(|(own, _)| own),
        size_root_fs: size.map(|(_, all)| all),
        mounts: mounts::points(&call.engine, &record),
        config: &config,
        network_settings: network_settings(call, &container, &record),
    })
}

/// The hardware address that was asked for in the network the container was made in, or nothing.
fn address_asked_for(record: &Record) -> String {
    let made_in = match record.host_config.network_mode.as_str() {
        "" | "default" => "bridge",
        mode => mode,
    };
    let endpoint = record.endpoints.get(made_in);
    endpoint.map_or_else(String::new, |endpoint| endpoint.mac_address.clone())
}

fn health(health: &Health) -> HealthShape<'_> {
    HealthShape {
        status: &health.status,
        failing_streak: health.failing_streak,
        log: &health.log,
    }
}

fn graph_driver(call: &Call, record: &Record) -> GraphDriver {
    let dir = call
        .engine
        .config()
        .data_root
        .join("overlay2")
        .join(&record.id);
    let below = |name: &str| dir.join(name).display().to_string();
    let layers = call.engine.config().run_dir.join("layers");
    let lowers: Vec<String> = record
        .layers
        .iter()
        .rev()
        .map(|layer| layers.join(layer.hex()).display().to_string())
        .collect();
    GraphDriver {
        data: GraphData {
            id: record.id.clone(),
            lower_dir: lowers.join(":"),
            merged_dir: below("merged"),
            upper_dir: below("diff"),
            work_dir: below("work"),
        },
        name: "overlay2",
    }
}

/// Before API 1.45 the aliases told what the names of the endpoint tell now.
fn add_older_aliases(record: &Record, networks: &mut BTreeMap<String, EndpointSettings>) {
    for (name, endpoint) in networks {
        if ["bridge", "host", "none"].contains(&name.as_str()) {
            continue;
        }
        let aliases = endpoint.aliases.get_or_insert_default();
        for name in [&record.id[..12], &record.config.hostname] {
            if !aliases.iter().any(|alias| alias == name) {
                aliases.push(name.to_owned());
            }
        }
    }
}

fn network_settings(call: &Call, container: &Container, record: &Record) -> NetworkSettings {
    let running = container.status().is_running();
    let mut networks = record.endpoints_in(&container.state().run);
    if !call.version.since(45) {
        add_older_aliases(record, &mut networks);
    }
    // The fields of before there were networks show the default one.
    let default = networks.get("bridge").cloned().unwrap_or_default();
    let ports = call.engine.port_map(record, &container.state().run);
    let mode = record.host_config.network_mode.as_str();
    // One that shares another's has none of its own.
    let (sandbox_id, sandbox_key) = if running && !mode.starts_with("container:") {
        let name = match mode {
            "host" => "default",
            _ => &record.id[..12],
        };
        (record.id.clone(), format!("/run/docker/netns/{name}"))
    } else {
        (String::new(), String::new())
    };
    NetworkSettings {
        bridge: "",
        sandbox_key,
        sandbox_id,
        ports,
        hairpin_mode: false,
        link_local_ipv6_address: "",
        link_local_ipv6_prefix_len: 0,
        secondary_ip_addresses: None,
        secondary_ipv6_addresses: None,
        endpoint_id: default.endpoint_id,
        gateway: default.gateway,
        global_ipv6_address: default.global_ipv6_address,
        global_ipv6_prefix_len: default.global_ipv6_prefix_len,
        ip_address: default.ip_address,
        ip_prefix_len: default.ip_prefix_len,
        ipv6_gateway: default.ipv6_gateway,
        mac_address: default.mac_address,
        networks,
    }
}
