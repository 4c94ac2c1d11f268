//! The three networks that always exist. Others come with the networks of their own.

use sha2::{Digest as _, Sha256};

use crate::error::{Error, Result};

/// A built-in network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// `bridge`, `host` or `none`.
    pub name: &'static str,
    /// 64 hexadecimal digits, the same as long as the machine's data lives.
    pub id: String,
    /// `bridge`, `host` or `null`.
    pub driver: &'static str,
}

/// The networks.
#[derive(Debug)]
pub struct Networks([Network; 3]);

impl Networks {
    pub(crate) fn new(machine_id: &str) -> Self {
        let network = |name, driver| Network {
            name,
            id: hex::encode(Sha256::digest(format!(
                "lighter network {machine_id} {name}"
            ))),
            driver,
        };
        Self([
            network("bridge", "bridge"),
            network("host", "host"),
            network("none", "null"),
        ])
    }

    /// All of them.
    pub fn all(&self) -> &[Network] {
        &self.0
    }

    /// The one that `reference` names: name, id or the beginning of an id.
    pub fn find(&self, reference: &str) -> Result<&Network> {
        let exact = |network: &&Network| network.name == reference || network.id == reference;
        let begins =
            |network: &&Network| !reference.is_empty() && network.id.starts_with(reference);
        let mut all = self.0.iter();
        all.clone()
            .find(exact)
            .or_else(|| all.find(begins))
            .ok_or_else(|| Error::not_found(format!("network {reference} not found")))
    }

    pub(crate) fn id(&self, name: &str) -> String {
        self.0
            .iter()
            .find(|network| network.name == name)
            .map_or_else(String::new, |n| n.id.clone())
    }
}
