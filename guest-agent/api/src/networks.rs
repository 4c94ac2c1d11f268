//! `/networks`.

use std::collections::BTreeMap;

use hyper::StatusCode;
use lighter_engine::Error;
use lighter_engine::filters::Filters;
use lighter_engine::model::EndpointSettings;
use lighter_engine::networks::{
    ConfigReference, FILTERS, Ipam, Network, NetworkCreate, PRUNE_FILTERS,
};
use serde::{Deserialize, Serialize};

use crate::body::{empty, json, no_content, ok};
use crate::call::Call;
use crate::error::ApiError;
use crate::router::Answer;

/// The routes.
pub(crate) async fn route(call: Call) -> Answer {
    let path = call.path.clone();
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    match (call.method.as_str(), path.as_slice()) {
        ("GET", ["networks"] | ["networks", ""]) => list(&call),
        ("POST", ["networks", "create"]) => create(call).await,
        ("POST", ["networks", "prune"]) => prune(&call).await,
        ("GET", ["networks", name]) => inspect(&call, name),
        ("DELETE", ["networks", name]) => {
            call.engine.network_remove(name).await?;
            Ok(no_content())
        }
        ("POST", ["networks", name, "connect"]) => connect(call, name).await,
        ("POST", ["networks", name, "disconnect"]) => disconnect(call, name).await,
        _ => Err(ApiError::page_not_found()),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Shape<'a> {
    name: &'a str,
    id: &'a str,
    created: String,
    scope: &'a str,
    driver: &'a str,
    #[serde(rename = "EnableIPv4")]
    enable_ipv4: bool,
    #[serde(rename = "EnableIPv6")]
    enable_ipv6: bool,
    #[serde(rename = "IPAM")]
    ipam: &'a Ipam,
    internal: bool,
    attachable: bool,
    ingress: bool,
    config_from: ConfigReference,
    config_only: bool,
    containers: BTreeMap<String, Endpoint>,
    options: &'a BTreeMap<String, String>,
    labels: &'a BTreeMap<String, String>,
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

fn shape(network: &Network, containers: BTreeMap<String, Endpoint>) -> Shape<'_> {
    Shape {
        name: &network.name,
        id: &network.id,
        created: network.created.to_string(),
        scope: &network.scope,
        driver: &network.driver,
        enable_ipv4: network.enable_ipv4,
        enable_ipv6: network.enable_ipv6,
        ipam: &network.ipam,
        internal: network.internal,
        attachable: network.attachable,
        ingress: network.ingress,
        config_from: ConfigReference {
            network: network.config_from.clone(),
        },
        config_only: network.config_only,
        containers,
        options: &network.options,
        labels: &network.labels,
    }
}

fn inspect(call: &Call, name: &str) -> Answer {
    let network = call.engine.network_find(name)?;
    let scope = call.query.filled("scope");
    if scope.is_some_and(|scope| scope != network.scope) {
        return Err(Error::not_found(format!("network {name} not found")).into());
    }
    ok(&shape(&network, containers(call, &network)))
}

/// Who is in it.
fn containers(call: &Call, network: &Network) -> BTreeMap<String, Endpoint> {
    let address = |ip: &str, prefix: u8| {
        if ip.is_empty() {
            String::new()
        } else {
            format!("{ip}/{prefix}")
        }
    };
    let inside = call.engine.network_endpoints(network).into_iter();
    let inside = inside.map(|(container, endpoint)| {
        let shape = Endpoint {
            name: container.name(),
            ipv4_address: address(&endpoint.ip_address, endpoint.ip_prefix_len),
            ipv6_address: address(
                &endpoint.global_ipv6_address,
                endpoint.global_ipv6_prefix_len,
            ),
            endpoint_id: endpoint.endpoint_id,
            mac_address: endpoint.mac_address,
        };
        (container.id().to_owned(), shape)
    });
    inside.collect()
}

fn list(call: &Call) -> Answer {
    let filters = Filters::parse(call.query.get("filters"), FILTERS)?;
    let networks = call.engine.network_list(&filters)?;
    // Who is in them was listed too before 1.28.
    let all = !call.version.since(28);
    let shown = networks.iter().map(|network| {
        let inside = if all {
            containers(call, network)
        } else {
            BTreeMap::new()
        };
        shape(network, inside)
    });
    ok(&shown.collect::<Vec<_>>())
}

async fn create(mut call: Call) -> Answer {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Created<'a> {
        id: &'a str,
        warning: &'static str,
    }
    let request: Option<NetworkCreate> = call.json().await?;
    let mut request = request.unwrap_or_default();
    if !call.version.since(48) {
        // Older clients cannot say that, and an option can.
        request.enable_ipv4 = None;
    }
    let network = call.engine.network_create(request).await?;
    json(
        StatusCode::CREATED,
        &Created {
            id: &network.id,
            warning: "",
        },
    )
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Connection {
    container: Option<String>,
    endpoint_config: Option<EndpointSettings>,
    force: Option<bool>,
}

async fn connect(mut call: Call, name: &str) -> Answer {
    let asked: Connection = call.json().await?;
    let endpoint = asked.endpoint_config.unwrap_or_default();
    let container = asked.container.unwrap_or_default();
    call.engine
        .network_connect(name, &container, endpoint)
        .await?;
    Ok(empty(StatusCode::OK))
}

async fn disconnect(mut call: Call, name: &str) -> Answer {
    let asked: Connection = call.json().await?;
    let container = asked.container.unwrap_or_default();
    call.engine
        .network_disconnect(name, &container, asked.force.unwrap_or_default())
        .await?;
    Ok(empty(StatusCode::OK))
}

async fn prune(call: &Call) -> Answer {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Pruned {
        networks_deleted: Option<Vec<String>>,
    }
    let filters = Filters::parse(call.query.get("filters"), PRUNE_FILTERS)?;
    let names = call.engine.network_prune(&filters).await?;
    ok(&Pruned {
        networks_deleted: (!names.is_empty()).then_some(names),
    })
}
