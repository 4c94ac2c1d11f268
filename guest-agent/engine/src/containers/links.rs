//! Links between containers of the default network: what create accepts of them, the variables that a start and an
//! exec have of them, and the names in `/etc/hosts`, which follow the container that is linked to from run to run.
//!
//! Called by create, start and exec, and for `DELETE /containers/{parent}/{alias}?link=1`. In other networks a link is a
//! name that the name server answers for: see [`super::known`].
//! Must never: keep a container from starting because of what those who link to it made of their files.

use std::net::IpAddr;
use std::sync::{Arc, MutexGuard};

use serde::{Deserialize, Serialize};

use super::endpoints::Places;
use super::record::Place;
use super::{Container, Record, modes};
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};
use crate::model::HostConfig;
use crate::networks::Subnet;

mod variables;

use variables::{Linked, variables};

/// The one network with links of this kind.
const NETWORK: &str = "bridge";

/// A link of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Of the container it leads to.
    pub id: String,
    /// What that was called when the link was made: it may be gone.
    pub name: String,
    /// What it is called by who has the link.
    pub alias: String,
}

impl Engine {
    /// The links of a new container.
    pub(super) fn links_asked(&self, host_config: &mut HostConfig) -> Result<Vec<Link>> {
        let mut links: Vec<Link> = Vec::new();
        for asked in host_config.links.take().iter().flatten() {
            let (name, alias) = parse(asked)?;
            // Not "not found": a client would take the image for missing.
            let unknown = |name: &str, error: &Error| {
                let text = format!("could not get container for {name}: {}", error.text());
                Error::invalid(text)
            };
            if name.is_empty() {
                let none = Error::invalid("invalid name or ID supplied: \"\"");
                return Err(unknown(name, &none));
            }
            let found = self.containers().find(name);
            let mut target = found.map_err(|error| unknown(name, &error))?;
            // Whose network it has: who has another one's must be there as long as that.
            while let Some(owner) = modes::donor(&target.record().host_config.network_mode) {
                let found = self.containers().find(owner);
                target = found.map_err(|error| unknown(owner, &error))?;
            }
            let record = target.record();
            if record.host_config.network_mode == "host" {
                return Err(Error::invalid(modes::WITH_HOST));
            }
            // The second of one alias is ignored, as in dockerd; so is one without any.
            if !alias.is_empty() && !links.iter().any(|link| link.alias == alias) {
                links.push(Link {
                    id: record.id.clone(),
                    name: record.name.clone(),
                    alias: alias.to_owned(),
                });
            }
        }
        Ok(links)
    }

    /// The links of a container as inspect shows them: `/target:/own/alias`.
    pub fn links_of(&self, record: &Record) -> Option<Vec<String>> {
        let shown = record.links.iter().map(|link| {
            let (target, own) = (self.name_of(link), &record.name);
            format!("/{target}:/{own}/{}", link.alias)
        });
        (!record.links.is_empty()).then(|| shown.collect())
    }

    fn name_of(&self, link: &Link) -> String {
        let there = self.containers().find(&link.id);
        there.map_or_else(|_| link.name.clone(), |target| target.name())
    }

    /// The variables of a container's links. Only a container that runs can be linked to.
    pub(crate) fn linked_variables(&self, record: &Record) -> Result<Vec<String>> {
        let mut all = Vec::new();
        if !record.endpoints.contains_key(NETWORK) {
            return Ok(all);
        }
        for link in &record.links {
            let own_name = format!("/{}/{}", record.name, link.alias);
            let target = self.containers().find(&link.id).ok();
            let Some(target) = target.filter(|target| target.status().is_running()) else {
                let text = format!(
                    "Cannot link to a non running container: /{} AS {own_name}",
                    self.name_of(link)
                );
                return Err(Error::new(Kind::Internal, text));
            };
            let there = target.record();
            if !there.endpoints.contains_key(NETWORK) {
                let text = format!(
                    "container {} not attached to default bridge network",
                    there.id
                );
                return Err(Error::new(Kind::Internal, text));
            }
            let place = place_of(&target).unwrap_or_default();
            all.extend(variables(&Linked {
                name: &own_name,
                ip: address(&place, false),
                config: &there.config,
            }));
        }
        Ok(all)
    }

    /// What stands in `/etc/hosts` for the links of a container with these places.
    pub(super) fn link_lines(&self, record: &Record, places: &Places) -> Vec<String> {
        let mut lines = Vec::new();
        if !places.contains_key(NETWORK) {
            return lines;
        }
        for link in &record.links {
            let Ok(target) = self.containers().find(&link.id) else {
                continue;
            };
            let (there, place) = (target.record(), place_of(&target).unwrap_or_default());
            let mut names = format!("{} {}", link.alias, there.config.hostname);
            if link.alias != there.name {
                names = format!("{names} {}", there.name);
            }
            let addresses = [address(&place, false), address(&place, true)];
            let addresses = addresses.into_iter().flatten();
            lines.extend(addresses.map(|ip| format!("{ip}\t{names}")));
        }
        lines
    }

    /// What is to be done with links where a container that runs has joined a network, which is one of these places.
    pub(super) fn link_again(&self, record: &Record, places: &Places, joined: &str) -> Result<()> {
        if joined != NETWORK {
            return Ok(());
        }
        {
            let _linking = self.linking(record);
            self.add_lines(record, self.link_lines(record, places))?;
        }
        self.tell_linking(record, places);
        Ok(())
    }

    /// Has those who link to a container that starts know its addresses of this run.
    pub(super) fn tell_linking(&self, record: &Record, places: &Places) {
        let Some(place) = places.get(NETWORK) else {
            return;
        };
        let links = self.containers().links_to(&record.id);
        if links.is_empty() {
            return;
        }
        let _linking = self.containers().linking();
        for link in links {
            let owner = link.split_once('/').map_or("", |(owner, _)| owner);
            // One that does not run writes its own when it starts.
            let owner = self.containers().find(owner).ok();
            let Some(owner) = owner.filter(|owner| owner.places().is_some()) else {
                continue;
            };
            let alias = link.rsplit('/').next().unwrap_or_default();
            for ip in [address(place, false), address(place, true)]
                .into_iter()
                .flatten()
            {
                if let Err(error) = self.readdress(&owner.record(), alias, ip) {
                    let error = error.text();
                    tracing::warn!(error, container = owner.name(), "a link keeps its address");
                }
            }
        }
    }

    /// Keeps changes of `/etc/hosts` of a container with links in one order: what it says of others, these change.
    pub(super) fn linking(&self, record: &Record) -> Option<MutexGuard<'_, ()>> {
        (!record.links.is_empty()).then(|| self.containers().linking())
    }

    /// Removes one link, known by `parent/alias`; the container that it leads to stays.
    ///
    /// # Errors
    /// When there is no such container or link, or what is named is a container and no link.
    pub async fn container_unlink(&self, reference: &str) -> Result<()> {
        let target = self.containers().find(reference)?;
        let internal = |text: String| Error::new(Kind::Internal, text);
        let name = reference.trim_start_matches('/');
        let Some((owner, alias)) = name.rsplit_once('/') else {
            let text = "Conflict, cannot remove the default link name of the container";
            return Err(internal(text.into()));
        };
        let found = self.containers().find(owner).ok();
        let Some(owner) = found.filter(|found| found.name() == owner) else {
            let text = format!("Cannot get parent /{owner} for link name /{name}");
            return Err(internal(text));
        };
        let _op = owner.op.lock().await;
        let mut record = (*owner.record()).clone();
        record.links.retain(|link| link.alias != alias);
        self.save_record(&record).await?;
        let _linking = self.containers().linking();
        self.containers().unlink(name);
        owner.set_record(record.clone());
        if owner.places().is_none() {
            return Ok(());
        }
        // Its names may have changed since; the alias and the host's name stay.
        let begin = format!("{alias} {}", target.record().config.hostname);
        self.remove_lines(&record, |line| {
            let names = line.split_once('\t').map(|(_, names)| names);
            let rest = names.and_then(|names| names.strip_prefix(&begin));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
        })
    }
}

/// The container and the alias of a link as it is asked for: `name`, `name:alias`, or as inspect shows it.
fn parse(link: &str) -> Result<(&str, &str)> {
    let bad = || Error::invalid(format!("bad format for links: {link}"));
    if link.is_empty() {
        return Err(Error::invalid("empty string specified for links"));
    }
    let (name, alias) = link.split_once(':').unwrap_or((link, link));
    if alias.contains(':') {
        return Err(bad());
    }
    if let Some(name) = name.strip_prefix('/') {
        let alias = alias.rsplit('/').next().unwrap_or_default();
        return Ok((name, alias));
    }
    // It becomes the end of a path of names.
    let strange = |part: &str| matches!(part, "" | "." | "..");
    let is_plain = link.split_once(':').is_none();
    if !is_plain && !alias.is_empty() && alias.split('/').any(strange) {
        return Err(bad());
    }
    Ok((name, alias))
}

/// Where a container that runs is in the default network.
fn place_of(container: &Arc<Container>) -> Option<Place> {
    container.places()?.remove(NETWORK)
}

fn address(place: &Place, v6: bool) -> Option<IpAddr> {
    if v6 { place.ipv6 } else { place.ipv4 }.map(Subnet::ip)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_named_in_three_ways() {
        for (link, expected) in [
            ("db", Ok(("db", "db"))),
            ("db:d", Ok(("db", "d"))),
            ("db:d/e", Ok(("db", "d/e"))),
            ("db:", Ok(("db", ""))),
            (":d", Ok(("", "d"))),
            ("/db:/web/d", Ok(("db", "d"))),
            ("", Err("empty string specified for links")),
            ("a:b:c", Err("bad format for links: a:b:c")),
            ("a:../b", Err("bad format for links: a:../b")),
            ("a:b//c", Err("bad format for links: a:b//c")),
        ] {
            let parsed = parse(link).map_err(|error| error.text());
            let expected = expected.map_err(str::to_owned);
            assert_eq!(parsed, expected, "{link}");
        }
    }
}
