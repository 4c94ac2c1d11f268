//! Interfaces of a container: which addresses a run has, and how it is plugged into its networks.
//!
//! Addresses are given out in memory and noted with the run, so that a start writes no more than it did without.

use std::net::IpAddr;
use std::os::fd::{AsFd as _, OwnedFd};

use lighter_network::NetworkError;
use lighter_network::plan::{Address, Joint, Plug};

use super::asked::SYSCTLS;
use super::endpoints::{self, Places};
use super::record::Place;
use super::{Container, Live, Record, lock, mac, name_server};
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};
use crate::ids;
use crate::model::EndpointSettings;
use crate::networks::{self, Given, Network, refused};

/// What an interface is called where its user does not say.
const IFNAME: &str = "com.docker.network.endpoint.ifname";
/// What interfaces are called in a network.
const PREFIX: &str = "com.docker.network.container_iface_prefix";

/// The namespace of a run, in the store.
pub(super) const NAMESPACE: &str = "net";

/// The places of a run; their addresses are given back when it is dropped.
pub(crate) struct Lease {
    given: Given,
    pub(crate) places: Places,
    /// Its network namespace, where an interface in there has no other end by which it could be taken away once the
    /// container has ended: another container may live on in the same network.
    namespace: Option<OwnedFd>,
}

impl Lease {
    pub(super) fn new(given: Given) -> Self {
        Self {
            given,
            places: Places::new(),
            namespace: None,
        }
    }

    /// Leaves one network.
    pub(super) fn leave(&mut self, name: &str) {
        if let Some(place) = self.places.remove(name) {
            give_back(&self.given, &place);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        for place in self.places.values() {
            give_back(&self.given, place);
        }
    }
}

fn give_back(given: &Given, place: &Place) {
    for address in [place.ipv4, place.ipv6].into_iter().flatten() {
        given.give_back(&place.network_id, address.ip());
    }
}

impl Engine {
    /// Takes a place in a network, with addresses where the network is wired.
    pub(super) fn take_place(
        &self,
        lease: &mut Lease,
        name: &str,
        endpoint: &EndpointSettings,
        network: &Network,
    ) -> Result<()> {
        let mut place = Place {
            network_id: network.id.clone(),
            endpoint_id: ids::new_id()?,
            ..Place::default()
        };
        let wired = self.wiring().is_some() && !network.pools.is_empty();
        if !wired && !networks::is_builtin(&network.name) {
            return Err(Error::unavailable(format!(
                "network {}: there is no network of the host that it could be in",
                network.name
            )));
        }
        if wired {
            place.port = format!("veth{}", &ids::short(&place.endpoint_id)[..7]);
            // That of ipvlan is its parent's.
            let own = network.driver != "ipvlan";
            if let Some(why) = mac::refusal(&endpoint.mac_address, &place.port).filter(|_| own) {
                return Err(Error::new(Kind::Internal, why));
            }
            self.give_addresses(&mut place, endpoint, network)?;
            let prefix = network.options.get(PREFIX);
            let prefix = prefix.filter(|prefix| !prefix.is_empty());
            let options = endpoint.driver_opts.as_ref();
            let named = options.and_then(|options| options.get(IFNAME)).cloned();
            let prefix = prefix.map_or("eth", String::as_str);
            place.interface = named.unwrap_or_else(|| free_name(prefix, &lease.places));
        }
        lease.places.insert(name.to_owned(), place);
        Ok(())
    }

    fn give_addresses(
        &self,
        place: &mut Place,
        endpoint: &EndpointSettings,
        network: &Network,
    ) -> Result<()> {
        let asked = endpoint.ipam_config.clone().unwrap_or_default();
        place.mac_address.clone_from(&endpoint.mac_address);
        let given = self.given();
        let has_way = !network.internal && !network.is_direct();
        if network.enable_ipv4 {
            let (address, gateway) = given.take(network, false, asked.ipv4_address.parse().ok())?;
            place.ipv4 = Some(address);
            place.gateway_v4 = gateway.filter(|_| has_way);
        }
        if network.enable_ipv6 {
            let taken = given.take(network, true, asked.ipv6_address.parse().ok());
            let (address, gateway) = taken.inspect_err(|_| give_back(given, place))?;
            place.ipv6 = Some(address);
            place.gateway_v6 = gateway.filter(|_| has_way);
        }
        Ok(())
    }

    /// Plugs a container whose process waits at its gate into its networks.
    pub(super) async fn plug_all(&self, container: &Container, pid: i32) -> Result<Places> {
        let record = container.record();
        let mut places = container.places().unwrap_or_default();
        if places.values().any(|place| !place.interface.is_empty()) {
            let namespace = namespace_of(pid)?;
            self.hold_namespace(container, &namespace, places.values())?;
            for (name, place) in &mut places {
                let plugged = self.plug_one(&namespace, &record, name, place).await;
                plugged.map_err(|error| endpoints::in_networking(&error))?;
            }
            let way = self.way_out(&record, &places);
            self.set_way_out(copy(&namespace)?, &way).await?;
            if let Some(lease) = &mut *lock(&container.lease) {
                lease.places.clone_from(&places);
            }
            self.serve_names(container, &namespace, &places).await?;
        }
        self.share_names(container, &record)?;
        Ok(places)
    }

    /// Keeps the namespace of a container with an interface of which nothing is anywhere else.
    fn hold_namespace<'a>(
        &self,
        container: &Container,
        namespace: &OwnedFd,
        places: impl IntoIterator<Item = &'a Place>,
    ) -> Result<()> {
        let has_port = |place: &Place| {
            let network = self.network_find(&place.network_id).ok();
            place.interface.is_empty() || network.is_none_or(|network| network.bridge().is_some())
        };
        if places.into_iter().all(has_port) {
            return Ok(());
        }
        self.keeper(container).put(NAMESPACE, namespace)?;
        if let Some(lease) = &mut *lock(&container.lease) {
            lease.namespace = Some(copy(namespace)?);
        }
        Ok(())
    }

    async fn plug_one(
        &self,
        namespace: &OwnedFd,
        record: &Record,
        name: &str,
        place: &mut Place,
    ) -> Result<()> {
        if let (Some(wiring), Some(plug)) = (self.wiring(), self.plug_of(record, name, place)?) {
            let namespace = copy(namespace)?;
            let plugged = wiring.plug(namespace, &plug).await;
            let mac = plugged.map_err(|error| unplugged(&plug, error))?;
            place.mac_address = mac::shown(&mac);
        }
        Ok(())
    }

    /// Plugs a container that runs into one more network.
    pub(super) async fn plug_more(
        &self,
        container: &Container,
        live: &Live,
        record: &Record,
        name: &str,
    ) -> Result<()> {
        let mut places = container.places().unwrap_or_default();
        let namespace = namespace_of_live(live)?;
        if let Some(place) = places.get_mut(name) {
            self.hold_namespace(container, &namespace, [&*place])?;
            self.plug_one(&namespace, record, name, place).await?;
        }
        if let Some(lease) = &mut *lock(&container.lease) {
            lease.places.clone_from(&places);
        }
        self.after_joining(&namespace, record, &places, name)
            .await?;
        self.serve_names(container, &namespace, &places).await?;
        if name_server::is_wanted(&places) {
            self.write_name_server(record)?;
        }
        Ok(())
    }

    /// Unplugs a container that runs, or is about to be known to have ended, from one of its networks and gives its
    /// addresses back.
    pub(super) async fn unplug_one(
        &self,
        container: &Container,
        record: &Record,
        name: &str,
    ) -> Result<()> {
        let places = container.places().unwrap_or_default();
        if let Some(place) = places.get(name)
            && let (Some(wiring), Some(plug)) = (self.wiring(), self.plug_of(record, name, place)?)
        {
            let live = container.live();
            let own = live.and_then(|live| namespace_of_live(&live).ok());
            let own = own.or_else(|| held(container, &plug.joint));
            wiring.unplug(own, &plug).await.map_err(refused)?;
        }
        if let Some(lease) = &mut *lock(&container.lease) {
            lease.leave(name);
        }
        Ok(())
    }

    /// Unplugs a container whose process has ended, or never passed its gate.
    pub(super) async fn unplug_all(&self, container: &Container) {
        let places = container.places();
        let (record, Some(wiring)) = (container.record(), self.wiring()) else {
            return;
        };
        for (name, place) in places.iter().flatten() {
            let Ok(Some(plug)) = self.plug_of(&record, name, place) else {
                continue;
            };
            if let Err(error) = wiring.unplug(held(container, &plug.joint), &plug).await {
                tracing::warn!(%error, container = record.name, "an interface stays");
            }
        }
    }

    /// The places of a container that went on without an engine are its own again.
    pub(super) fn take_up_places(&self, container: &Container, namespace: Option<OwnedFd>) {
        let mut lease = Lease::new(self.given().clone());
        lease.namespace = namespace;
        lease.places = container.state().run.places;
        for place in lease.places.values() {
            for address in [place.ipv4, place.ipv6].into_iter().flatten() {
                self.given().note(&place.network_id, address.ip());
            }
        }
        *lock(&container.lease) = Some(lease);
    }

    /// Makes whole what an engine that was killed had begun to plug or unplug. The caller holds `wires`.
    pub(super) async fn finish_plugging(&self, container: &Container) -> Result<()> {
        let (Some(live), record) = (container.live(), container.record()) else {
            return Ok(());
        };
        let places = container.places().unwrap_or_default();
        for (name, _) in places.iter().filter(|(_, place)| place.pending) {
            // What it is to be in is what its record says.
            if record.endpoints.contains_key(name) {
                self.plug_more(container, &live, &record, name).await?;
            } else {
                self.unplug_one(container, &record, name).await?;
                self.after_leaving(&live, &record, &places, name).await;
            }
            if let Some(lease) = &mut *lock(&container.lease)
                && let Some(place) = lease.places.get_mut(name)
            {
                place.pending = false;
            }
        }
        let places = container.places().unwrap_or_default();
        container.change(|state| state.run.places = places);
        Ok(())
    }

    /// The interface that a place is; nothing where there is none.
    fn plug_of(&self, record: &Record, name: &str, place: &Place) -> Result<Option<Plug>> {
        if place.interface.is_empty() {
            return Ok(None);
        }
        let network = self.network_find(&place.network_id)?;
        let none = EndpointSettings::default();
        let endpoint = record.endpoints.get(name).unwrap_or(&none);
        let addresses = [place.ipv4, place.ipv6].into_iter().flatten();
        let addresses = addresses.map(Into::into).chain(link_local(endpoint));
        let joint = network.joint(&place.port)?;
        // That of ipvlan is its parent's: it is known once it is plugged, and cannot be asked for.
        let own = !matches!(joint, Joint::Ipvlan { .. });
        let mac = mac::of_interface(&place.mac_address);
        Ok(Some(Plug {
            name: place.interface.clone(),
            joint,
            mac: mac.filter(|_| own),
            addresses: addresses.collect(),
            mtu: network.mtu(),
            sysctls: sysctls(endpoint),
        }))
    }
}

/// Why an interface could not be had.
fn unplugged(plug: &Plug, error: NetworkError) -> Error {
    match (&plug.joint, error) {
        (
            Joint::Macvlan { parent, .. } | Joint::Ipvlan { parent, .. },
            NetworkError::NoInterface(missing),
        ) if *parent == missing => {
            let text =
                format!("the requested parent interface {parent} was not found on the Docker host");
            Error::new(Kind::Internal, text)
        }
        (_, error) => refused(error),
    }
}

/// The link-local addresses that were asked for, with the prefixes that such addresses have.
fn link_local(endpoint: &EndpointSettings) -> impl Iterator<Item = Address> {
    let asked = endpoint.ipam_config.iter();
    let asked = asked.flat_map(|ipam| ipam.link_local_ips.iter().flatten());
    asked.filter_map(|text| {
        let ip: IpAddr = text.parse().ok()?;
        let prefix = if ip.is_ipv4() { 16 } else { 64 };
        Some(Address { ip, prefix })
    })
}

/// Where the interface of a container that has ended is taken away; nothing for a port, which goes without that, and
/// faster.
fn held(container: &Container, joint: &Joint) -> Option<OwnedFd> {
    match joint {
        Joint::Bridge { .. } => None,
        Joint::Macvlan { .. } | Joint::Ipvlan { .. } => {
            let lease = lock(&container.lease);
            copy(lease.as_ref()?.namespace.as_ref()?).ok()
        }
    }
}

/// The first name that no interface has; one that was left is free again.
fn free_name(prefix: &str, places: &Places) -> String {
    let taken = |name: &String| places.values().any(|place| &place.interface == name);
    let mut number = 0;
    loop {
        let name = format!("{prefix}{number}");
        if !taken(&name) {
            return name;
        }
        number += 1;
    }
}

/// The settings that a user gave for the interface, below `net.`.
fn sysctls(endpoint: &EndpointSettings) -> Vec<(String, String)> {
    let options = endpoint.driver_opts.as_ref();
    let list = options.and_then(|options| options.get(SYSCTLS));
    let settings = list.iter().flat_map(|list| list.split(','));
    let settings = settings.filter_map(|setting| setting.split_once('='));
    settings
        .map(|(name, value)| (name.replace(".ifname.", ".IFNAME."), value.to_owned()))
        .collect()
}

pub(super) fn copy(namespace: &OwnedFd) -> Result<OwnedFd> {
    let copied = namespace.try_clone();
    copied.map_err(|error| Error::internal("a descriptor cannot be copied", error))
}

/// The network namespace of a process that is known to be there.
fn namespace_of(pid: i32) -> Result<OwnedFd> {
    let opened = std::fs::File::open(format!("/proc/{pid}/ns/net"));
    opened
        .map(Into::into)
        .map_err(|error| Error::internal("the container's network cannot be had", error))
}

/// The same of one that may end at any time: what was opened is its own if it is there afterwards.
pub(super) fn namespace_of_live(live: &Live) -> Result<OwnedFd> {
    let namespace = namespace_of(live.pid)?;
    lighter_runtime::signal(live.pidfd.as_fd(), 0)
        .map_err(|error| Error::internal("the container has ended", error))?;
    Ok(namespace)
}
