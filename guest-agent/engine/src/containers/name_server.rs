//! The name server of a container that is in networks with names: made with its first such network, served until it
//! ends, and gone on with by the next engine.

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use lighter_network::names::{self, PORT, Places as From, Service, Sockets};
use lighter_runtime::NameRedirect;

use super::endpoints::Places;
use super::known::Known;
use super::plugs::{copy, namespace_of_live};
use super::{Container, Live, Record, lock, modes};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::keeper::Kept;
use crate::networks::{self, refused};

/// Its sockets in the store.
const DATAGRAMS: &str = "dns.udp";
const CONNECTIONS: &str = "dns.tcp";

/// What serves a container; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct NameServer {
    _service: Service,
    _way: Option<Way>,
}

/// The way from port 53 to where it is served.
#[derive(Debug)]
struct Way {
    redirect: Arc<NameRedirect>,
    namespace: u64,
}

impl Drop for Way {
    fn drop(&mut self) {
        if let Err(error) = self.redirect.remove(self.namespace) {
            tracing::warn!(%error, "the way to a name server stays");
        }
    }
}

/// Whether a container with these places asks the engine for names.
pub(super) fn is_wanted(places: &Places) -> bool {
    let mut places = places.iter();
    places.any(|(name, place)| !place.interface.is_empty() && !networks::is_builtin(name))
}

impl Engine {
    /// Makes and serves the name server of a container, if it is to have one and has none; whether it has one now that
    /// it had not.
    pub(super) async fn serve_names(
        &self,
        container: &Container,
        namespace: &OwnedFd,
        places: &Places,
    ) -> Result<bool> {
        if !is_wanted(places) || lock(&container.name_server).is_some() {
            return Ok(false);
        }
        let port = self.redirect().is_none().then_some(PORT);
        let sockets = Sockets::open(copy(namespace)?, port)
            .await
            .map_err(refused)?;
        self.attach_redirect(container)?;
        let keeper = self.keeper(container);
        keeper.put(DATAGRAMS, &sockets.udp)?;
        keeper.put(CONNECTIONS, &sockets.tcp)?;
        self.serve_sockets(container, namespace, sockets)?;
        Ok(true)
    }

    /// Leads a container that has another one's network to the name server in there, should there be one.
    pub(super) fn share_names(&self, container: &Container, record: &Record) -> Result<()> {
        match modes::donor(&record.host_config.network_mode) {
            Some(_) => self.attach_redirect(container),
            None => Ok(()),
        }
    }

    fn attach_redirect(&self, container: &Container) -> Result<()> {
        let Some(redirect) = self.redirect() else {
            return Ok(());
        };
        let group = self.group_of(container);
        let group = group.ok_or_else(|| Error::unavailable("the container has no cgroup"))?;
        redirect
            .attach(&group)
            .map_err(|error| Error::internal("the way to the name server", error))
    }

    /// Goes on with the name server of a container that went on without an engine.
    pub(super) fn serve_names_again(&self, container: &Container, live: &Live, kept: &mut Kept) {
        let (Some(udp), Some(tcp)) = (kept.remove(DATAGRAMS), kept.remove(CONNECTIONS)) else {
            return;
        };
        // One that has ended meanwhile asks nobody any more.
        let Ok(namespace) = namespace_of_live(live) else {
            return;
        };
        if let Err(error) = self.serve_sockets(container, &namespace, Sockets { udp, tcp }) {
            tracing::error!(
                error = error.text(),
                container = container.name(),
                "a container goes on without a name server"
            );
        }
    }

    fn serve_sockets(
        &self,
        container: &Container,
        namespace: &OwnedFd,
        sockets: Sockets,
    ) -> Result<()> {
        let port = sockets.port().map_err(refused)?;
        let redirect = (port != PORT).then(|| self.redirect()).flatten();
        let way = redirect.map(|redirect| {
            let namespace = redirect.set(sockets.udp.as_fd(), port);
            let redirect = Arc::clone(redirect);
            namespace.map(|namespace| Way {
                redirect,
                namespace,
            })
        });
        let way = way.transpose();
        let way = way.map_err(|error| Error::internal("the way to the name server", error))?;
        let from = From {
            container: Arc::new(copy(namespace)?),
            host: self.host_network().map(Arc::clone),
        };
        let zone = Arc::new(Known(self.own()));
        let service = names::serve(sockets, container.id().to_owned(), from, zone);
        *lock(&container.name_server) = Some(NameServer {
            _service: service.map_err(refused)?,
            _way: way,
        });
        Ok(())
    }
}
