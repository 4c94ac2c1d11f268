//! A container's places in networks: what create and connect accept, and what a start takes of it.
//!
//! Called by create, start, the end of a run, and for `/networks/{id}/connect` and `disconnect`.
//! Must never: forget what was asked for when a place is left; the next start asks for it again.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::record::{Place, RunState, Status};
use super::{Container, Record, modes};
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};
use crate::ids;
use crate::model::{EndpointSettings, HostConfig};
use crate::networks::{self, Network, joined};

/// Places by the names of their networks.
pub(super) type Places = BTreeMap<String, Place>;

type Asked = BTreeMap<String, EndpointSettings>;

/// What stands for an interface in the settings of an endpoint.
const SYSCTLS: &str = "com.docker.network.endpoint.sysctls";

const SHARED: &str = "container sharing network namespace with another container or host cannot be \
                      connected to any other network";
const ALONE: &str = "container cannot be connected to multiple networks with one of the networks in \
                     private (none) mode";
const TO_HOST: &str = "cannot connect container to host network - container must be created in host \
                       network mode";
const FROM_HOST: &str =
    "container cannot be disconnected from host network or connected to host network";

/// Leaves every network; which they were stays known.
pub(super) fn leave(run: &mut RunState) {
    for place in run.places.values_mut() {
        place.endpoint_id.clear();
    }
}

impl Engine {
    /// What create keeps of the networks that were asked for.
    pub(super) fn places_asked(
        &self,
        host_config: &HostConfig,
        asked: Option<Asked>,
    ) -> Result<Asked> {
        let mode = &host_config.network_mode;
        if modes::donor(mode).is_some() {
            return Ok(Asked::new());
        }
        let mut asked = asked.unwrap_or_default();
        if let Some(default) = asked.remove("default") {
            asked.insert("bridge".into(), default);
        }
        let mut wrong = Vec::new();
        for (name, endpoint) in &asked {
            let network = self.network_find(name).ok();
            if let Err(why) = check(network.as_deref(), name, endpoint) {
                wrong.push(format!("invalid config for network {name}: {why}"));
            }
        }
        if !wrong.is_empty() {
            return Err(Error::invalid(joined(&wrong)));
        }
        let network = self.network_find(mode).ok();
        let name = network.as_ref().map_or(mode, |network| &network.name);
        if let Some(network) = &network
            && !asked.contains_key(name)
            && let Some(endpoint) = asked.remove(&network.id)
        {
            asked.insert(name.clone(), endpoint);
        }
        if asked.is_empty() {
            asked.insert(name.clone(), EndpointSettings::default());
        }
        for endpoint in asked.values_mut() {
            // What a client took from an inspection of another container is nothing that was asked.
            *endpoint = wanted(endpoint);
        }
        Ok(asked)
    }

    /// The places of a run that begins.
    pub(super) fn take_places(&self, container: &Container, record: &Record) -> Result<Places> {
        let before = container.state().run.places;
        let mut places = Places::new();
        for name in record.endpoints.keys() {
            let known = before.get(name).map(|place| place.network_id.as_str());
            let reference = known.filter(|id| !id.is_empty()).unwrap_or(name);
            let failed = |error: Error| {
                let text = format!("failed to set up container networking: {}", error.text());
                Error::new(error.kind(), text)
            };
            let network = self.network_find(reference).map_err(failed)?;
            if !networks::is_builtin(&network.name) {
                return Err(unwired(&network));
            }
            let place = Place {
                network_id: network.id.clone(),
                endpoint_id: ids::new_id()?,
            };
            places.insert(name.clone(), place);
        }
        Ok(places)
    }

    /// Puts a container into a network.
    ///
    /// # Errors
    /// What is wrong with the settings, networks that cannot be had together, an unknown container.
    pub async fn network_connect(
        &self,
        reference: &str,
        container: &str,
        endpoint: EndpointSettings,
    ) -> Result<()> {
        let container = self.named_container(container)?;
        let _op = container.op.lock().await;
        refuse_removed(&container)?;
        let record = container.record();
        let runs = container.status().is_running();
        let network = match self.network_find(reference) {
            Ok(network) => network,
            Err(error) if runs => return Err(error),
            Err(_) => return self.keep_place(&container, reference, &endpoint).await,
        };
        check(Some(&network), &network.name, &endpoint).map_err(Error::invalid)?;
        if modes::donor(&record.host_config.network_mode).is_some() {
            return Err(Error::invalid(SHARED));
        }
        let before = container.state().run.places;
        if record.endpoints.contains_key(&network.name) {
            return if runs && before.contains_key(&network.name) {
                Err(Error::forbidden(format!(
                    "endpoint with name {} already exists in network {}",
                    record.name, network.name
                )))
            } else {
                Ok(())
            };
        }
        self.check_together(&record, &before, &network)?;
        if runs {
            return Err(unwired(&network));
        }
        self.keep_place(&container, &network.name, &endpoint).await
    }

    /// Takes a container out of a network.
    ///
    /// # Errors
    /// When it is not in it, or there is no such network or container.
    pub async fn network_disconnect(
        &self,
        reference: &str,
        container: &str,
        force: bool,
    ) -> Result<()> {
        let found = self.named_container(container);
        let container = match found {
            Err(error) if force && error.kind() == Kind::NotFound => {
                self.network_find(reference)?;
                let text = format!("endpoint {container} not found");
                return Err(Error::not_found(text));
            }
            found => found?,
        };
        let _op = container.op.lock().await;
        refuse_removed(&container)?;
        let mut record = (*container.record()).clone();
        let network = self.network_find(reference);
        let runs = container.status().is_running();
        let name = network.as_ref().map_or(reference, |network| &network.name);
        let there = record.endpoints.contains_key(name);
        if !runs || (network.is_err() && force) {
            if !there {
                let id = container.id();
                let text = format!("container {id} is not connected to the network {name}");
                return Err(Error::new(Kind::Internal, text));
            }
            record.endpoints.remove(name);
            self.save_record(&record).await?;
            container.change(|state| state.run.places.remove(name));
            container.set_record(record);
            return Ok(());
        }
        let network = network?;
        if network.driver == "host" && record.host_config.network_mode == "host" {
            return Err(Error::invalid(FROM_HOST));
        }
        if !there {
            let id = container.id();
            let text = format!(
                "container {id} is not connected to network {}",
                network.name
            );
            return Err(Error::new(Kind::Internal, text));
        }
        Err(unwired(&network))
    }

    fn named_container(&self, reference: &str) -> Result<Arc<Container>> {
        if reference.is_empty() {
            return Err(Error::invalid("invalid name or ID supplied: \"\""));
        }
        self.containers().find(reference)
    }

    async fn keep_place(
        &self,
        container: &Container,
        name: &str,
        endpoint: &EndpointSettings,
    ) -> Result<()> {
        let mut record = (*container.record()).clone();
        let mut endpoint = wanted(endpoint);
        if self.network_find(name).is_ok() {
            endpoint.dns_names = record.dns_names(name, &endpoint);
        }
        record.endpoints.insert(name.to_owned(), endpoint);
        self.save_record(&record).await?;
        container.set_record(record);
        Ok(())
    }

    /// Whether a container with these networks can be in this one too.
    fn check_together(&self, record: &Record, places: &Places, network: &Network) -> Result<()> {
        if network.driver == "host" && record.host_config.network_mode != "host" {
            return Err(Error::invalid(TO_HOST));
        }
        for name in record.endpoints.keys() {
            let place = places.get(name).map(|place| &place.network_id);
            let reference = place.filter(|id| !id.is_empty()).unwrap_or(name);
            let Ok(other) = self.network_find(reference) else {
                continue;
            };
            if other.driver == "host" || network.driver == "host" {
                return Err(Error::invalid(SHARED));
            }
            if other.driver == "null" || network.driver == "null" {
                return Err(Error::invalid(ALONE));
            }
        }
        Ok(())
    }
}

/// Until containers are joined to networks.
fn unwired(network: &Network) -> Error {
    Error::unsupported(format!(
        "network {}: containers cannot be in networks other than bridge, host and none yet",
        network.name
    ))
}

fn refuse_removed(container: &Container) -> Result<()> {
    match container.status() {
        Status::Removing | Status::Dead => Err(Error::conflict(format!(
            "container is marked for removal and cannot be connected or disconnected {}",
            container.id()
        ))),
        _ => Ok(()),
    }
}

/// What was asked for, without what only a run can give.
fn wanted(endpoint: &EndpointSettings) -> EndpointSettings {
    EndpointSettings {
        ipam_config: endpoint.ipam_config.clone(),
        links: endpoint.links.clone(),
        aliases: endpoint.aliases.clone(),
        mac_address: endpoint.mac_address.clone(),
        driver_opts: endpoint.driver_opts.clone(),
        gw_priority: endpoint.gw_priority,
        ..EndpointSettings::default()
    }
}

/// Judges the settings of a place, in dockerd's words.
fn check(network: Option<&Network>, name: &str, endpoint: &EndpointSettings) -> Result<(), String> {
    let ipam = endpoint.ipam_config.clone().unwrap_or_default();
    let addresses = [&ipam.ipv4_address, &ipam.ipv6_address];
    let mut wrong: Vec<String> = Vec::new();
    if networks::is_builtin(name) {
        if addresses.iter().any(|ip| !ip.is_empty()) {
            wrong.push(
                "user specified IP address is supported on user defined networks only".into(),
            );
        }
        if endpoint
            .aliases
            .as_ref()
            .is_some_and(|list| !list.is_empty())
        {
            wrong
                .push("network-scoped aliases are only supported for user-defined networks".into());
        }
    }
    for (ip, v6) in addresses.into_iter().zip([false, true]) {
        let fits = |ip: IpAddr| ip.is_ipv6() == v6 && !ip.is_unspecified();
        if !ip.is_empty() && !ip.parse().is_ok_and(fits) {
            let family = if v6 { "IPv6" } else { "IPv4" };
            wrong.push(format!("invalid {family} address: {ip}"));
        }
    }
    for ip in ipam.link_local_ips.iter().flatten() {
        if !ip.parse::<IpAddr>().is_ok_and(|ip| !ip.is_unspecified()) {
            wrong.push(format!("invalid link-local IP address: {ip}"));
        }
    }
    if let Some(network) = network {
        let outside = addresses.into_iter().zip([false, true]);
        wrong.extend(outside.filter_map(|(ip, v6)| check_inside(network, ip, v6)));
    }
    if !endpoint.mac_address.is_empty() && parse_mac(&endpoint.mac_address).is_none() {
        return Err(format!("invalid MAC address {}", endpoint.mac_address));
    }
    let sysctls = endpoint.driver_opts.iter().flatten();
    let sysctls = sysctls.filter(|(key, _)| *key == SYSCTLS);
    wrong.extend(sysctls.flat_map(|(_, list)| list.split(',').filter_map(check_sysctl)));
    if wrong.is_empty() {
        return Ok(());
    }
    Err(format!("invalid endpoint settings:\n{}", joined(&wrong)))
}

fn check_inside(network: &Network, ip: &str, v6: bool) -> Option<String> {
    if ip.is_empty() {
        return None;
    }
    let pools = network.pools.iter();
    let named: Vec<_> = pools
        .filter(|pool| pool.named && pool.subnet.is_v6() == v6)
        .collect();
    if named.is_empty() {
        let text = "user specified IP address is supported only when connecting to networks with \
                    user configured subnets";
        return Some(text.into());
    }
    let inside = |ip| named.iter().any(|pool| pool.subnet.contains(ip));
    (!ip.parse().is_ok_and(inside))
        .then(|| format!("no configured subnet or ip-range contain the IP address {ip}"))
}

fn check_sysctl(setting: &str) -> Option<String> {
    let parts: Vec<&str> = setting.splitn(5, '.').collect();
    let known = matches!(
        parts.as_slice(),
        [_, "ipv4" | "ipv6" | "mpls", _, "IFNAME" | "ifname", _]
    );
    (!known).then(|| {
        format!(
            "unrecognised network interface sysctl '{setting}'; represent 'net.X.Y.ethN.Z=V' as \
             'net.X.Y.IFNAME.Z=V', 'X' must be 'ipv4', 'ipv6' or 'mpls'"
        )
    })
}

/// Six pairs of digits with colons or dashes between them.
fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let separator = if text.contains('-') { '-' } else { ':' };
    let mut parts = text.split(separator);
    for byte in &mut mac {
        let part = parts.next().filter(|part| part.len() == 2)?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(mac)
}
