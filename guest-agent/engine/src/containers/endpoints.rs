//! A container's places in networks: what create and connect accept, and what a start takes of it.
//!
//! Called by create, start, the end of a run, and for `/networks/{id}/connect` and `disconnect`.
//! Must never: forget what was asked for when a place is left; the next start asks for it again.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::asked::{check, wanted};
use super::plugs::Lease;
use super::record::{Place, RunState, Status};
use super::{Container, Live, Record, lock, modes};
use crate::db::Sync;
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};
use crate::model::{EndpointSettings, HostConfig};
use crate::networks::{Network, joined};

/// Places by the names of their networks.
pub(super) type Places = BTreeMap<String, Place>;

type Asked = BTreeMap<String, EndpointSettings>;

const SHARED: &str = "container sharing network namespace with another container or host cannot be \
                      connected to any other network";
const ALONE: &str = "container cannot be connected to multiple networks with one of the networks in \
                     private (none) mode";
const TO_HOST: &str = "cannot connect container to host network - container must be created in host \
                       network mode";
const FROM_HOST: &str =
    "cannot disconnect container from host network - container was created in host network mode";

/// Leaves every network; which they were stays known.
pub(super) fn leave(run: &mut RunState) {
    run.ports.clear();
    for place in run.places.values_mut() {
        *place = place.left();
    }
}

/// An interface of ipvlan has the hardware address of its parent.
fn refuse_address(container: &str, endpoint: &EndpointSettings, network: &Network) -> Result<()> {
    if network.driver != "ipvlan" || endpoint.mac_address.is_empty() {
        return Ok(());
    }
    let text = format!(
        "failed to create endpoint {container} on network {}: ipvlan interfaces do not support custom mac address \
         assignment",
        network.name
    );
    Err(Error::new(Kind::Internal, text))
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
        // A network may be named by its id, or by the beginning of one; its place is known by its name.
        let mut asked = asked
            .into_iter()
            .fold(Asked::new(), |mut named, (name, endpoint)| {
                let network = self.network_find(&name).ok();
                let name = network.map_or(name, |network| network.name.clone());
                named.entry(name).or_insert(endpoint);
                named
            });
        let network = self.network_find(mode).ok();
        let name = network.as_ref().map_or(mode, |network| &network.name);
        if asked.is_empty() {
            asked.insert(name.clone(), EndpointSettings::default());
        }
        for endpoint in asked.values_mut() {
            // What a client took from an inspection of another container is nothing that was asked.
            *endpoint = wanted(endpoint);
        }
        Ok(asked)
    }

    /// Takes the places of a run that begins.
    pub(super) fn take_places(&self, container: &Container, record: &Record) -> Result<Places> {
        let failed = |error: Error| in_networking(&error);
        let before = container.state().run.places;
        let mut lease = Lease::new(self.given().clone());
        // The default network has the first interface, the others have theirs by name.
        let mut names: Vec<&String> = record.endpoints.keys().collect();
        names.sort_by_key(|name| *name != "bridge");
        let mut networks = Vec::new();
        for name in names {
            let known = before.get(name).map(|place| place.network_id.as_str());
            let reference = known.filter(|id| !id.is_empty()).unwrap_or(name);
            let network = self.network_find(reference).map_err(failed)?;
            networks.push((name, network));
        }
        // Create does not look at that, nor a connect to a network that was not there yet.
        for (_, network) in &networks {
            check_host(record, network).map_err(failed)?;
        }
        for (name, network) in &networks {
            self.check_together(record, &before, network)
                .map_err(failed)?;
            let endpoint = &record.endpoints[*name];
            refuse_address(&record.name, endpoint, network).map_err(failed)?;
            self.take_place(&mut lease, name, endpoint, network)
                .map_err(failed)?;
        }
        let places = lease.places.clone();
        *lock(&container.lease) = Some(lease);
        // Whoever removes a network sees the places first, or is seen here.
        for place in places.values() {
            let id = &place.network_id;
            if !self.networks().stays(id) {
                return Err(failed(Error::not_found(format!("network {id} not found"))));
            }
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
            if !runs {
                return Ok(());
            }
            if before.contains_key(&network.name) {
                return Err(Error::forbidden(format!(
                    "endpoint with name {} already exists in network {}",
                    record.name, network.name
                )));
            }
        }
        self.check_together(&record, &before, &network)?;
        let _wires = container.wires.lock().await;
        let live = container.live().filter(|_| runs);
        let Some(live) = live else {
            return self.keep_place(&container, &network.name, &endpoint).await;
        };
        self.join_running(&container, &live, &network, &endpoint)
            .await
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
            return self.save_state(&container, Sync::Durable).await;
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
        let _wires = container.wires.lock().await;
        let live = container.live();
        let places = container.places().unwrap_or_default();
        if live.is_some() {
            self.note_places(&container, Some(&network.name)).await?;
        }
        let before = container.record();
        record.endpoints.remove(&network.name);
        // Before its address can be another's: an engine that comes next would plug it in again.
        self.save_record(&record).await?;
        if live.is_some()
            && let Err(error) = self.unplug_one(&container, &before, &network.name).await
        {
            // It is still in there.
            self.save_record(&before).await?;
            return Err(error);
        }
        container.set_record(record);
        if let Some(live) = &live {
            self.after_leaving(live, &before, &places, &network.name)
                .await;
            if let Err(error) = self.settle_ports(&container).await {
                let (error, name) = (error.text(), container.name());
                tracing::warn!(error, container = name, "ports after leaving a network");
            }
        }
        container.change(|state| state.run.places.remove(&network.name));
        self.save_state(&container, Sync::Lazy).await?;
        // One that has ended meanwhile has left all its networks.
        if live.is_some() {
            self.network_event("disconnect", &network, &[("container", container.id())]);
        }
        Ok(())
    }

    /// Plugs a container that runs into one more network.
    async fn join_running(
        &self,
        container: &Arc<Container>,
        live: &Live,
        network: &Network,
        endpoint: &EndpointSettings,
    ) -> Result<()> {
        let name = &network.name;
        let mut record = (*container.record()).clone();
        refuse_address(&record.name, endpoint, network)?;
        record.endpoints.insert(name.clone(), wanted(endpoint));
        {
            let mut held = lock(&container.lease);
            let given = self.given().clone();
            let lease = held.get_or_insert_with(|| Lease::new(given));
            self.take_place(lease, name, endpoint, network)?;
        }
        let joined = if self.networks().stays(&network.id) {
            self.join_noted(container, live, &record, name).await
        } else {
            Err(Error::not_found(format!("network {name} not found")))
        };
        if let Err(error) = joined {
            let places = container.places().unwrap_or_default();
            let mut without = record.clone();
            without.endpoints.remove(name);
            // Why it failed is worth more than that it could not be undone. What is to be comes first, as for one that
            // leaves.
            let _ = self.save_record(&without).await;
            let _ = self.unplug_one(container, &record, name).await;
            self.after_leaving(live, &record, &places, name).await;
            let _ = self.settle_ports(container).await;
            container.change(|state| state.run.places.remove(name));
            let _ = self.save_state(container, Sync::Lazy).await;
            container.set_record(without);
            return Err(error);
        }
        self.network_event("connect", network, &[("container", container.id())]);
        Ok(())
    }

    /// Notes the place before it is plugged: the next engine knows whose its addresses are.
    async fn join_noted(
        &self,
        container: &Arc<Container>,
        live: &Live,
        record: &Record,
        name: &str,
    ) -> Result<()> {
        self.note_places(container, Some(name)).await?;
        self.save_record(record).await?;
        container.set_record(record.clone());
        self.plug_more(container, live, record, name).await?;
        self.settle_ports(container).await?;
        self.note_places(container, None).await
    }

    /// Notes the places of a container that runs, and which of them is being plugged or unplugged.
    async fn note_places(&self, container: &Arc<Container>, pending: Option<&str>) -> Result<()> {
        let mut places = container.places().unwrap_or_default();
        if let Some(place) = pending.and_then(|name| places.get_mut(name)) {
            place.pending = true;
        }
        container.change(|state| state.run.places = places);
        self.save_state(container, Sync::Lazy).await
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
        let before = record.endpoints.insert(name.to_owned(), endpoint);
        self.save_record(&record).await?;
        container.set_record(record);
        if before.is_none() {
            // What is left of an earlier time may be of another network of that name.
            container.change(|state| state.run.places.remove(name));
        }
        Ok(())
    }

    /// Whether a container with these networks can be in this one too.
    fn check_together(&self, record: &Record, places: &Places, network: &Network) -> Result<()> {
        check_host(record, network)?;
        for name in record.endpoints.keys() {
            let place = places.get(name).map(|place| &place.network_id);
            let reference = place.filter(|id| !id.is_empty()).unwrap_or(name);
            let Ok(other) = self.network_find(reference) else {
                continue;
            };
            if other.id == network.id {
                continue;
            }
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

/// How a start fails in what it does for networks.
pub(super) fn in_networking(error: &Error) -> Error {
    let text = format!("failed to set up container networking: {}", error.text());
    Error::new(error.kind(), text)
}

/// Nobody gets into the host's network who was not made in it.
fn check_host(record: &Record, network: &Network) -> Result<()> {
    if network.driver == "host" && record.host_config.network_mode != "host" {
        return Err(Error::invalid(TO_HOST));
    }
    Ok(())
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
