//! Which endpoint of a registry is asked, and which after it.
//!
//! Called by pull and push. TLS that was spoken is never followed by plain HTTP.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::client::{Access, Client};
use super::endpoint::{self, Endpoint};
use super::http::Http;
use super::{Credentials, Network};
use crate::error::{Error, Result};
use crate::reference::Reference;

/// The places to ask for an image, one after the other: mirrors before the hub, TLS before plain
/// HTTP, which is not tried where TLS was spoken.
pub(super) struct Places<'a> {
    network: &'a Network,
    reference: &'a Reference,
    credentials: &'a Credentials,
    access: Access,
    endpoints: std::vec::IntoIter<Endpoint>,
    /// The one asked last, and whether it has spoken TLS.
    asked: Option<(Endpoint, Arc<AtomicBool>)>,
    pub(super) last: Error,
}

impl<'a> Places<'a> {
    pub(super) fn new(
        network: &'a Network,
        reference: &'a Reference,
        credentials: &'a Credentials,
        access: Access,
    ) -> Result<Self> {
        let endpoints = match access {
            Access::Pull => endpoint::endpoints(network, reference)?,
            // A mirror is only read from.
            Access::Push => endpoint::named(network, reference.registry())?,
        };
        Ok(Self {
            network,
            reference,
            credentials,
            access,
            endpoints: endpoints.into_iter(),
            asked: None,
            last: Error::Worker,
        })
    }

    /// A client of the next place; none once there is no other.
    pub(super) fn next(&mut self) -> Result<Option<Client>> {
        let spoken = self
            .asked
            .as_ref()
            .is_some_and(|(asked, tls)| !asked.mirror && tls.load(Ordering::Relaxed));
        let Some(endpoint) = self
            .endpoints
            .next()
            .filter(|next| next.origin.tls || !spoken)
        else {
            return Ok(None);
        };
        let http = Http::new(self.network, endpoint.clone())?;
        self.asked = Some((endpoint, http.tls_seen()));
        Ok(Some(Client::new(
            http,
            self.reference,
            self.credentials,
            self.access,
        )))
    }

    /// Remembers why the last place was of no use.
    pub(super) fn failed(&mut self, error: Error) {
        if let Some((endpoint, _)) = self.asked.as_ref().filter(|(asked, _)| asked.mirror) {
            tracing::warn!(mirror = %endpoint.origin, %error, "a mirror failed");
        }
        self.last = error;
    }
}
