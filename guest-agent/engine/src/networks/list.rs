//! Which networks there are, and who is in them.

use std::sync::Arc;

use super::Network;
use crate::containers::Container;
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};
use crate::filters::{Filters, name_matches};
use crate::model::EndpointSettings;

/// Filters of list.
pub const FILTERS: &[&str] = &["dangling", "driver", "id", "label", "name", "scope", "type"];

impl Engine {
    /// The networks that pass `filters`.
    ///
    /// # Errors
    /// When a filter has a value it cannot have.
    pub fn network_list(&self, filters: &Filters) -> Result<Vec<Arc<Network>>> {
        let dangling = dangling(filters)?;
        for kind in filters.values("type") {
            if !["builtin", "custom"].contains(&kind.as_str()) {
                let text = format!("invalid filter: 'type'='{kind}'");
                return Err(Error::new(Kind::Internal, text));
            }
        }
        let mut networks = self.networks().all();
        networks.retain(|network| {
            let kind = if network.is_builtin() {
                "builtin"
            } else {
                "custom"
            };
            filters.any("name", |pattern| name_matches(pattern, &network.name))
                && filters.any("id", |part| name_matches(part, &network.id))
                && filters.exact("driver", &network.driver)
                && filters.exact("scope", &network.scope)
                && filters.exact("type", kind)
                && filters.labels(&network.labels)
                && dangling.is_none_or(|wanted| is_dangling(network) == wanted)
        });
        Ok(networks)
    }

    /// The containers that are in a network now: those that run or are being started.
    pub fn network_endpoints(&self, network: &Network) -> Vec<(Arc<Container>, EndpointSettings)> {
        let inside = |container: Arc<Container>| {
            let mut run = container.state().run;
            // A start or connect that is under way has its places before others see them, and before its record
            // says so.
            run.places = container.places()?;
            let mut places = run.places.iter();
            let (name, place) = places.find(|(_, place)| place.network_id == network.id)?;
            let mut endpoints = container.record().endpoints_in(&run);
            let endpoint = endpoints.remove(name).unwrap_or_else(|| {
                let mut endpoint = EndpointSettings::default();
                place.clone().show(&mut endpoint);
                endpoint
            });
            Some((container, endpoint))
        };
        self.containers()
            .all()
            .into_iter()
            .filter_map(inside)
            .collect()
    }
}

/// As dockerd has it, whose list does not look at who is in a network.
fn is_dangling(network: &Network) -> bool {
    !network.is_builtin()
}

fn dangling(filters: &Filters) -> Result<Option<bool>> {
    match filters.values("dangling") {
        [] => Ok(None),
        [value] => match value.as_str() {
            "true" | "1" => Ok(Some(true)),
            "false" | "0" => Ok(Some(false)),
            _ => Err(Error::invalid(
                "invalid value for filter 'dangling', must be \"true\" (or \"1\"), or \"false\" \
                 (or \"0\")",
            )),
        },
        _ => Err(Error::invalid(
            "got more than one value for filter key \"dangling\"",
        )),
    }
}
