//! `/networks`: the three that always exist.

use std::collections::BTreeMap;

use lighter_engine::Error;
use lighter_engine::filters::{Filters, name_matches};
use lighter_engine::networks::Network;
use serde::{Deserialize, Serialize};

use crate::body::ok;
use crate::call::Call;
use crate::error::ApiError;
use crate::router::Answer;

const FILTERS: &[&str] = &["dangling", "driver", "id", "label", "name", "scope", "type"];

/// The routes.
pub(crate) async fn route(call: Call) -> Answer {
    let path = call.path.clone();
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    match (call.method.as_str(), path.as_slice()) {
        ("GET", ["networks"] | ["networks", ""]) => list(&call),
        ("POST", ["networks", "create"]) => create(call).await,
        ("POST", ["networks", "prune"]) => prune(&call),
        ("GET", ["networks", name]) => ok(&shape(&call, call.engine.networks().find(name)?, true)),
        ("DELETE", ["networks", name]) => {
            let name = call.engine.networks().find(name)?.name;
            Err(Error::forbidden(format!(
                "{name} is a pre-defined network and cannot be removed"
            ))
            .into())
        }
        ("POST", ["networks", name, "connect" | "disconnect"]) => {
            call.engine.networks().find(name)?;
            Err(missing("connecting containers to networks").into())
        }
        _ => Err(ApiError::page_not_found()),
    }
}

fn missing(what: &str) -> Error {
    Error::unsupported(format!(
        "{what}: not supported yet, only bridge, host and none exist"
    ))
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Shape {
    name: &'static str,
    id: String,
    created: &'static str,
    scope: &'static str,
    driver: &'static str,
    #[serde(rename = "EnableIPv4")]
    enable_ipv4: bool,
    #[serde(rename = "EnableIPv6")]
    enable_ipv6: bool,
    #[serde(rename = "IPAM")]
    ipam: Ipam,
    internal: bool,
    attachable: bool,
    ingress: bool,
    config_from: ConfigFrom,
    config_only: bool,
    containers: BTreeMap<String, Endpoint>,
    options: BTreeMap<&'static str, &'static str>,
    labels: BTreeMap<String, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Ipam {
    driver: &'static str,
    options: Option<()>,
    config: Option<Vec<()>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ConfigFrom {
    network: &'static str,
}

#[derive(Serialize)]
struct Endpoint {
    #[serde(rename = "Name")]
    name: String,
    #[serde(rename = "EndpointID")]
    endpoint_id: String,
    #[serde(rename = "MacAddress")]
    mac_address: String,
    #[serde(rename = "IPv4Address")]
    ipv4_address: String,
    #[serde(rename = "IPv6Address")]
    ipv6_address: String,
}

fn shape(call: &Call, network: &Network, with_containers: bool) -> Shape {
    let options: &[(&str, &str)] = match network.name {
        "bridge" => &[("com.docker.network.bridge.default_bridge", "true")],
        _ => &[],
    };
    Shape {
        name: network.name,
        id: network.id.clone(),
        created: "1970-01-01T00:00:00Z",
        scope: "local",
        driver: network.driver,
        enable_ipv4: true,
        enable_ipv6: false,
        ipam: Ipam {
            driver: "default",
            options: None,
            config: (network.name == "bridge").then(Vec::new),
        },
        internal: false,
        attachable: false,
        ingress: false,
        config_from: ConfigFrom { network: "" },
        config_only: false,
        containers: if with_containers {
            containers(call, network.name)
        } else {
            BTreeMap::new()
        },
        options: options.iter().copied().collect(),
        labels: BTreeMap::new(),
    }
}

fn containers(call: &Call, network: &str) -> BTreeMap<String, Endpoint> {
    let listed = call
        .engine
        .container_list(&Default::default())
        .unwrap_or_default();
    let inside = listed.into_iter().filter_map(|listed| {
        let endpoint = listed.record.endpoints.get(network)?;
        let shape = Endpoint {
            name: listed.record.name.clone(),
            endpoint_id: endpoint.endpoint_id.clone(),
            mac_address: endpoint.mac_address.clone(),
            ipv4_address: endpoint.ip_address.clone(),
            ipv6_address: endpoint.global_ipv6_address.clone(),
        };
        Some((listed.record.id.clone(), shape))
    });
    inside.collect()
}

fn list(call: &Call) -> Answer {
    let filters = Filters::parse(call.query.get("filters"), FILTERS)?;
    let dangling = filters.boolean("dangling").map_err(|_| {
        Error::invalid(
            "invalid value for filter 'dangling', must be \"true\" (or \"1\"), or \"false\" (or \
             \"0\")",
        )
    })?;
    for kind in filters.values("type") {
        if !["builtin", "custom"].contains(&kind.as_str()) {
            return Err(Error::invalid(format!("invalid filter: 'type'='{kind}'")).into());
        }
    }
    let shown = call.engine.networks().all().iter().filter(|network| {
        filters.any("name", |pattern| name_matches(pattern, network.name))
            && filters.any("id", |id| network.id.starts_with(id))
            && filters.exact("driver", network.driver)
            && filters.exact("scope", "local")
            && filters.exact("type", "builtin")
            && filters.labels(&BTreeMap::new())
            // Built-in networks are never dangling.
            && dangling != Some(true)
    });
    ok(&shown
        .map(|network| shape(call, network, false))
        .collect::<Vec<_>>())
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Create {
    name: Option<String>,
}

async fn create(mut call: Call) -> Answer {
    let create: Create = call.json().await?;
    let name = create.name.unwrap_or_default();
    if call
        .engine
        .networks()
        .all()
        .iter()
        .any(|one| one.name == name)
    {
        return Err(Error::forbidden(format!(
            "operation is not permitted on predefined {name} network"
        ))
        .into());
    }
    Err(missing("user-defined networks").into())
}

fn prune(call: &Call) -> Answer {
    Filters::parse(call.query.get("filters"), &["label", "label!", "until"])?;
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Pruned {
        networks_deleted: Option<Vec<String>>,
    }
    ok(&Pruned {
        networks_deleted: None,
    })
}
