//! `GET /info`.

use std::collections::BTreeMap;

use lighter_engine::clock::Timestamp;
use lighter_engine::version;
use serde::Serialize;

use crate::body::ok;
use crate::call::Call;
use crate::router::Answer;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Shape {
    #[serde(rename = "ID")]
    id: String,
    containers: usize,
    containers_running: usize,
    containers_paused: usize,
    containers_stopped: usize,
    images: usize,
    driver: &'static str,
    driver_status: Vec<[&'static str; 2]>,
    plugins: Plugins,
    memory_limit: bool,
    swap_limit: bool,
    #[serde(rename = "KernelMemoryTCP")]
    kernel_memory_tcp: bool,
    cpu_cfs_period: bool,
    cpu_cfs_quota: bool,
    #[serde(rename = "CPUShares")]
    cpu_shares: bool,
    #[serde(rename = "CPUSet")]
    cpu_set: bool,
    pids_limit: bool,
    #[serde(rename = "IPv4Forwarding")]
    ipv4_forwarding: bool,
    debug: bool,
    #[serde(rename = "NFd")]
    n_fd: usize,
    oom_kill_disable: bool,
    #[serde(rename = "NGoroutines")]
    n_goroutines: usize,
    system_time: String,
    logging_driver: String,
    cgroup_driver: &'static str,
    cgroup_version: &'static str,
    #[serde(rename = "NEventsListener")]
    n_events_listener: usize,
    kernel_version: String,
    operating_system: &'static str,
    #[serde(rename = "OSVersion")]
    os_version: &'static str,
    #[serde(rename = "OSType")]
    os_type: &'static str,
    architecture: String,
    index_server_address: &'static str,
    registry_config: RegistryConfig,
    #[serde(rename = "NCPU")]
    n_cpu: usize,
    mem_total: u64,
    generic_resources: Option<()>,
    docker_root_dir: String,
    http_proxy: String,
    https_proxy: String,
    no_proxy: String,
    name: String,
    labels: Vec<String>,
    experimental_build: bool,
    server_version: &'static str,
    runtimes: BTreeMap<&'static str, Runtime>,
    default_runtime: &'static str,
    swarm: Swarm,
    live_restore_enabled: bool,
    isolation: &'static str,
    init_binary: &'static str,
    containerd_commit: Commit,
    runc_commit: Commit,
    init_commit: Commit,
    security_options: Vec<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    default_address_pools: Vec<AddressPool>,
    firewall_backend: Firewall,
    #[serde(rename = "CDISpecDirs")]
    cdi_spec_dirs: [&'static str; 0],
    containerd: Containerd,
    warnings: Option<Vec<String>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Plugins {
    volume: [&'static str; 1],
    network: [&'static str; 3],
    authorization: Option<()>,
    log: [&'static str; 2],
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct RegistryConfig {
    index_configs: BTreeMap<String, Index>,
    #[serde(rename = "InsecureRegistryCIDRs")]
    insecure_registry_cidrs: Vec<String>,
    mirrors: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Index {
    mirrors: Vec<String>,
    name: String,
    official: bool,
    secure: bool,
}

#[derive(Serialize)]
struct Runtime {
    path: &'static str,
}

#[derive(Serialize)]
struct Swarm {
    #[serde(rename = "NodeID")]
    node_id: &'static str,
    #[serde(rename = "NodeAddr")]
    node_addr: &'static str,
    #[serde(rename = "LocalNodeState")]
    local_node_state: &'static str,
    #[serde(rename = "ControlAvailable")]
    control_available: bool,
    #[serde(rename = "Error")]
    error: &'static str,
    #[serde(rename = "RemoteManagers")]
    remote_managers: Option<()>,
}

#[derive(Serialize)]
struct Commit {
    #[serde(rename = "ID")]
    id: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct AddressPool {
    base: String,
    size: u8,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Firewall {
    driver: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Containerd {
    address: &'static str,
    namespaces: Namespaces,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Namespaces {
    containers: &'static str,
    plugins: &'static str,
}

pub(super) fn info(call: &Call) -> Answer {
    let engine = &call.engine;
    let config = engine.config();
    let machine = engine.machine_info();
    let (running, paused, stopped) = engine.container_counts();
    let has = |controller: &str| machine.controllers.iter().any(|name| name == controller);
    let driver = &config.settings.log_driver;
    let tasks = tokio::runtime::Handle::current()
        .metrics()
        .num_alive_tasks();
    ok(&Shape {
        id: config.machine_id.clone(),
        containers: running + paused + stopped,
        containers_running: running,
        containers_paused: paused,
        containers_stopped: stopped,
        images: engine.image_count(),
        driver: "overlay2",
        driver_status: vec![
            ["Backing Filesystem", "extfs"],
            ["Supports d_type", "true"],
            ["Using metacopy", "false"],
            ["Native Overlay Diff", "true"],
            ["userxattr", "false"],
        ],
        plugins: Plugins {
            volume: ["local"],
            network: ["bridge", "host", "null"],
            authorization: None,
            log: ["json-file", "local"],
        },
        memory_limit: has("memory"),
        swap_limit: has("memory"),
        kernel_memory_tcp: false,
        cpu_cfs_period: has("cpu"),
        cpu_cfs_quota: has("cpu"),
        cpu_shares: has("cpu"),
        cpu_set: has("cpuset"),
        pids_limit: has("pids"),
        ipv4_forwarding: machine.forwarding,
        debug: false,
        n_fd: machine.descriptors,
        oom_kill_disable: false,
        n_goroutines: tasks,
        system_time: Timestamp::now().to_string(),
        logging_driver: if driver.is_empty() {
            "json-file".into()
        } else {
            driver.clone()
        },
        cgroup_driver: "cgroupfs",
        cgroup_version: "2",
        n_events_listener: engine.events().listeners(),
        kernel_version: machine.kernel,
        operating_system: "Lighter",
        os_version: env!("CARGO_PKG_VERSION"),
        os_type: "linux",
        architecture: machine.architecture,
        index_server_address: "https://index.docker.io/v1/",
        registry_config: registries(call),
        n_cpu: machine.cpus,
        mem_total: machine.memory,
        generic_resources: None,
        docker_root_dir: config.data_root.display().to_string(),
        http_proxy: config.settings.proxies.http_proxy.clone(),
        https_proxy: config.settings.proxies.https_proxy.clone(),
        no_proxy: config.settings.proxies.no_proxy.clone(),
        name: config.hostname.clone(),
        labels: config.settings.labels.clone(),
        experimental_build: false,
        server_version: version::ENGINE,
        runtimes: [(
            "runc",
            Runtime {
                path: "lighter-enter",
            },
        )]
        .into(),
        default_runtime: "runc",
        swarm: Swarm {
            node_id: "",
            node_addr: "",
            local_node_state: "inactive",
            control_available: false,
            error: "",
            remote_managers: None,
        },
        live_restore_enabled: true,
        isolation: "",
        init_binary: "docker-init",
        containerd_commit: Commit { id: "" },
        runc_commit: Commit { id: "" },
        init_commit: Commit { id: "" },
        security_options: if config.settings.userns_remap {
            vec![
                "name=seccomp,profile=builtin",
                "name=userns",
                "name=cgroupns",
            ]
        } else {
            vec!["name=seccomp,profile=builtin", "name=cgroupns"]
        },
        default_address_pools: address_pools(call),
        firewall_backend: Firewall { driver: "" },
        cdi_spec_dirs: [],
        containerd: Containerd {
            address: "",
            namespaces: Namespaces {
                containers: "",
                plugins: "",
            },
        },
        warnings: (!machine.warnings.is_empty()).then_some(machine.warnings),
    })
}

fn address_pools(call: &Call) -> Vec<AddressPool> {
    let pools = call.engine.config().settings.default_address_pools.iter();
    pools
        .map(|pool| AddressPool {
            base: pool.base.clone(),
            size: pool.size,
        })
        .collect()
}

fn registries(call: &Call) -> RegistryConfig {
    let settings = &call.engine.config().settings;
    let mirrors: Vec<String> = settings
        .registry_mirrors
        .iter()
        .map(|mirror| format!("{}/", mirror.trim_end_matches('/')))
        .collect();
    let hub = Index {
        mirrors: mirrors.clone(),
        name: "docker.io".into(),
        official: true,
        secure: true,
    };
    let mut index_configs = BTreeMap::from([("docker.io".to_owned(), hub)]);
    let mut cidrs = vec!["::1/128".to_owned(), "127.0.0.0/8".to_owned()];
    for registry in &settings.insecure_registries {
        if registry.contains('/') {
            cidrs.push(registry.clone());
            continue;
        }
        let index = Index {
            mirrors: Vec::new(),
            name: registry.clone(),
            official: false,
            secure: false,
        };
        index_configs.insert(registry.clone(), index);
    }
    RegistryConfig {
        index_configs,
        insecure_registry_cidrs: cidrs,
        mirrors,
    }
}
