//! What networks of the drivers macvlan and ipvlan are upon: an interface that is there, or a VLAN of one, which is
//! made for them and goes with the last of them.
//!
//! Called by create, remove and the opening of the engine.
//! Must never: take away an interface that some network is upon.

use lighter_network::plan::Vlan;
use lighter_network::{NetworkError, Wiring};

use super::{Network, refused};
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};

impl Network {
    /// The interface that its containers' ones are upon.
    fn parent(&self) -> Option<&str> {
        let upon = !self.config_only && matches!(self.driver.as_str(), "macvlan" | "ipvlan");
        let parent = self.options.get("parent").filter(|_| upon);
        parent.map(String::as_str).filter(|name| !name.is_empty())
    }
}

impl Engine {
    /// Sees to it that the parent of a network is there.
    pub(super) async fn wire_parent(&self, wiring: &Wiring, network: &Network) -> Result<()> {
        let Some(parent) = network.parent() else {
            return Ok(());
        };
        if parent == "lo" {
            let driver = &network.driver;
            return wrong(format!(
                "loopback interface is not a valid {driver} parent link"
            ));
        }
        if wiring.has_interface(parent).await.map_err(refused)? {
            return Ok(());
        }
        let vlan = vlan(parent)?;
        wiring.set_vlan(&vlan).await.map_err(|error| match error {
            NetworkError::NoInterface(below) => {
                let text = format!("-o parent interface was not found on the host: {below}");
                Error::new(Kind::Internal, text)
            }
            error => {
                let text = format!("failed to create {parent} vlan link");
                Error::internal(text, error)
            }
        })
    }

    /// Takes a parent away that was made for a network which is the last upon it.
    pub(super) async fn unwire_parent(&self, wiring: &Wiring, network: &Network) {
        let all = self.networks().all();
        let shared = |other: &Network| other.id != network.id && other.parent() == network.parent();
        if let Some(parent) = network.parent()
            && !all.iter().any(|other| shared(other))
            && let Err(error) = wiring.remove_vlan(parent).await
        {
            tracing::warn!(%error, parent, "a VLAN stays");
        }
    }

    /// Brings the parents to what is recorded.
    pub(super) async fn wire_parents(&self, wiring: &Wiring) {
        let all = self.networks().all();
        let there = wiring.vlans().await.unwrap_or_else(|error| {
            tracing::error!(%error, "which VLANs an earlier engine made is not known");
            Vec::new()
        });
        for name in there {
            if !all.iter().any(|network| network.parent() == Some(&name))
                && let Err(error) = wiring.remove_vlan(&name).await
            {
                tracing::warn!(%error, parent = name, "a VLAN stays");
            }
        }
        for network in &all {
            if let Err(error) = self.wire_parent(wiring, network).await {
                let (error, network) = (error.text(), &network.name);
                tracing::error!(error, network, "a network is not wired");
            }
        }
    }
}

/// The VLAN that a name stands for, in dockerd's words.
fn vlan(name: &str) -> Result<Vlan> {
    if !name.contains('.') {
        return wrong(format!(
            "invalid subinterface vlan name {name}, example formatting is eth0.10"
        ));
    }
    let Some((below, id)) = name
        .split_once('.')
        .filter(|(_, number)| !number.contains('.'))
    else {
        return wrong(format!(
            "required interface name format is: name.vlan_id, ex. eth0.10 for vlan 10, instead \
             received {name}"
        ));
    };
    let Ok(id) = id.parse::<i64>() else {
        return wrong(format!(
            "unable to parse a valid vlan id from: {id} (ex. eth0.10 for vlan 10)"
        ));
    };
    match u16::try_from(id) {
        Ok(number @ 1..=4_094) if !below.is_empty() => Ok(Vlan {
            name: name.to_owned(),
            below: below.to_owned(),
            id: number,
        }),
        Ok(1..=4_094) => wrong("-o parent interface was not found on the host: ".to_owned()),
        _ => wrong(format!("vlan id must be between 1-4094, received: {id}")),
    }
}

fn wrong<T>(text: String) -> Result<T> {
    Err(Error::new(Kind::Internal, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_vlans_are_read_as_dockerd_reads_them() {
        let read = |name: &str| vlan(name).map_err(|error| error.text());
        assert_eq!(
            read("eth0.10").unwrap(),
            Vlan {
                name: "eth0.10".into(),
                below: "eth0".into(),
                id: 10
            }
        );
        for (name, part) in [
            ("eth7", "example formatting"),
            ("eth0.10.5", "instead received eth0.10.5"),
            ("eth0.", "a valid vlan id from: "),
            ("eth0.x", "a valid vlan id from: x"),
            ("eth0.0", "received: 0"),
            ("eth0.4095", "received: 4095"),
            (".10", "was not found on the host: "),
        ] {
            let said = read(name).unwrap_err();
            assert!(said.contains(part), "{said}");
        }
    }
}
