//! Remove and prune.

use std::sync::Arc;

use super::Network;
use crate::containers::Container;
use crate::db::Sync;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::events::Subject;
use crate::filters::{Filters, prune_until};
use crate::ids;
use crate::model::EndpointSettings;

/// Filters of prune.
pub const PRUNE_FILTERS: &[&str] = &["label", "label!", "until"];

impl Engine {
    /// Removes a network nobody is in. When this returns it is gone, after a crash as well.
    ///
    /// # Errors
    /// When there is none, it is one that always exists, or somebody is in it or made from it.
    pub async fn network_remove(&self, reference: &str) -> Result<()> {
        let _one = self.networks().changing.lock().await;
        let network = self.network_find(reference)?;
        if network.is_builtin() {
            return Err(Error::forbidden(format!(
                "{} is a pre-defined network and cannot be removed",
                network.name
            )));
        }
        let name = &network.name;
        let failed = |why: String| Error::forbidden(format!("error while removing network: {why}"));
        let made_from = |other: &Network| network.config_only && &other.config_from == name;
        if self.networks().all().iter().any(|other| made_from(other)) {
            return Err(failed(format!(
                "configuration network \"{name}\" is in use"
            )));
        }
        let inside = self.network_leave(&network);
        if !inside.is_empty() {
            let inside = inside.iter().map(|(container, endpoint)| {
                let id = ids::short(&endpoint.endpoint_id);
                format!("name:\"{}\" id:\"{id}\"", container.name())
            });
            let inside: Vec<String> = inside.collect();
            return Err(failed(format!(
                "network {name} has active endpoints ({})",
                inside.join(", ")
            )));
        }
        self.network_drop(&network).await
    }

    /// Removes every network that nobody is in and that passes `filters`; returns their names.
    ///
    /// # Errors
    /// When a filter has a value it cannot have, or the database fails.
    pub async fn network_prune(&self, filters: &Filters) -> Result<Vec<String>> {
        let until = prune_until(filters)?;
        let _one = self.networks().changing.lock().await;
        let mut removed = Vec::new();
        for network in self.networks().all() {
            if network.is_builtin()
                || network.config_only
                || !filters.labels(&network.labels)
                || until.is_some_and(|until| network.created >= until)
                || !self.network_leave(&network).is_empty()
            {
                continue;
            }
            self.network_drop(&network).await?;
            removed.push(network.name.clone());
        }
        let attributes = [("reclaimed".to_owned(), "0".to_owned())].into();
        self.events()
            .emit(Subject::Network, "prune", "", attributes);
        Ok(removed)
    }

    /// Who is in a network that is to go. If that is nobody, nobody gets in any more.
    fn network_leave(&self, network: &Network) -> Vec<(Arc<Container>, EndpointSettings)> {
        // First the mark, then the look; whoever gets in does it the other way round.
        self.networks().set_leaving(&network.id, true);
        let inside = self.network_endpoints(network);
        if !inside.is_empty() {
            self.networks().set_leaving(&network.id, false);
        }
        inside
    }

    async fn network_drop(&self, network: &Network) -> Result<()> {
        let id = network.id.clone();
        let deleted = self.db().write(Sync::Durable, move |connection| {
            connection.execute("DELETE FROM networks WHERE id = ?1", [&id])?;
            Ok(())
        });
        if let Err(error) = deleted.await {
            self.networks().set_leaving(&network.id, false);
            return Err(error.into());
        }
        self.unwire(network).await;
        self.networks().remove(&network.id);
        self.network_event("destroy", network, &[]);
        Ok(())
    }
}
