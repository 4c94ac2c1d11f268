//! From what the host says to what the engine is opened with.

use std::net::IpAddr;
use std::sync::Arc;

use lighter_engine::config::{AddressPool, HostRoute, HostShares, Proxies, Settings};
use lighter_engine::networks::Subnet;
use lighter_engine::ports::{HostPorts, OnlyHere};
use lighter_engine::{EngineConfig, Links};
use lighter_images::{Dialer, TcpDialer};
use lighter_init::{Events, Supervisor};
use lighter_protocol::{EngineSettings, Hello, Route, link};
use lighter_runtime::LauncherConfig;
use tokio::sync::watch;

use crate::host_link::{HostLink, SamePaths};
use crate::host_ports;
use crate::places::Places;

/// The engine's configuration in this boot.
pub fn of(
    places: &Arc<Places>,
    hello: &Hello,
    supervisor: &Arc<Supervisor>,
    events: Events,
    hosts: watch::Receiver<u64>,
    host_routes: watch::Receiver<Vec<HostRoute>>,
) -> (EngineConfig, Links) {
    let boot = &hello.boot;
    let link = HostLink::new(hello.secret.clone(), Arc::clone(places));
    let (host_shares, dialer): (Arc<dyn HostShares>, Arc<dyn Dialer>) = match places.native {
        true => (Arc::new(SamePaths), Arc::new(TcpDialer)),
        false => (Arc::new(link.clone()), Arc::new(link.clone())),
    };
    let host_ports: Arc<dyn HostPorts> = match places.native && places.played_host.is_none() {
        true => Arc::new(OnlyHere),
        false => Arc::new(host_ports::OnHost::new(link, hosts)),
    };
    // The link to the host is no place for networks; natively there is none.
    let link: [(IpAddr, u8); 2] = [
        (link::GATEWAY_V4.into(), link::PREFIX_V4),
        (link::GATEWAY_V6.into(), link::PREFIX_V6),
    ];
    let (outside, host_address) = match places.native {
        true => (Vec::new(), None),
        false => {
            let blocks = link
                .iter()
                .filter_map(|(ip, prefix)| Subnet::new(*ip, *prefix));
            (blocks.collect(), Some(link::HOST_V4.into()))
        }
    };
    let config = EngineConfig {
        data_root: places.data_root.clone(),
        run_dir: places.run_dir.clone(),
        api_socket: places.api_socket.clone(),
        api_socket_names: boot.api_sockets.clone(),
        hostname: boot.hostname.clone(),
        machine_id: boot.machine_id.clone(),
        dns: boot.dns.clone(),
        dns_search: boot.search.clone(),
        foreign_subnets: outside,
        host_routes,
        host_address,
        settings: settings(&boot.engine, &boot.proxies),
        built_in_image: Some(places.built_in_image.clone()),
        launcher: LauncherConfig {
            enter_path: places.enter.clone(),
            cgroup_root: places.cgroup_root.clone(),
        },
        dialer,
        trust_roots_pem: boot.trust_roots_pem.clone(),
        host_shares,
        host_ports,
    };
    let links = Links {
        supervisor: Arc::clone(supervisor),
        events,
    };
    (config, links)
}

/// The host's routes; what is no route is left out.
pub fn routes(told: &[Route]) -> Vec<HostRoute> {
    let read = |route: &Route| {
        let to = Subnet::parse(&route.to)?.masked();
        let direct = route.direct;
        Some(HostRoute { to, direct })
    };
    told.iter().filter_map(read).collect()
}

/// The same settings under the same names, as the engine's own type.
fn settings(said: &EngineSettings, proxies: &lighter_protocol::Proxies) -> Settings {
    let pools = said.default_address_pools.iter();
    Settings {
        registry_mirrors: said.registry_mirrors.clone(),
        insecure_registries: said.insecure_registries.clone(),
        log_driver: said.log_driver.clone(),
        log_opts: said.log_opts.clone(),
        dns: said.dns.clone(),
        dns_search: said.dns_search.clone(),
        dns_opts: said.dns_opts.clone(),
        default_address_pools: pools
            .map(|pool| AddressPool {
                base: pool.base.clone(),
                size: pool.size,
            })
            .collect(),
        ip: said.ip.clone(),
        bip: said.bip.clone(),
        fixed_cidr: said.fixed_cidr.clone(),
        ipv6: said.ipv6,
        fixed_cidr_v6: said.fixed_cidr_v6.clone(),
        host_network_ports: said.host_network_ports.unwrap_or(true),
        labels: said.labels.clone(),
        userns_remap: said.userns_remap,
        proxies: Proxies {
            http_proxy: proxies.http.clone(),
            https_proxy: proxies.https.clone(),
            no_proxy: proxies.none_for.clone(),
        },
    }
}
