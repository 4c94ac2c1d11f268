//! What is published, for as long as its container runs: the host's side of it comes and goes with hosts, and outlives
//! the engine.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use lighter_network::ports::{Listening, Transport, Way};
use tokio::sync::oneshot;

use super::PublishedPort;
use super::book::Taken;
use super::host::{HostLease, PortError};
use super::publish::Draft;
use super::way::Publication;
use crate::containers::{Container, lock};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::keeper::Kept;

/// What the host's stream is called in the store.
const KEPT: &str = "ports";
/// How long the end of a container waits for the host to have closed its ports.
const CLOSING: Duration = Duration::from_secs(4);
/// Between two tries to have again what somebody took while the host was gone.
const AGAIN: Duration = Duration::from_secs(10);

/// What is published of a container; its connections end with it.
#[derive(Debug)]
pub(crate) struct Published {
    publication: Publication,
    /// Asks whoever has the host's side to close it, and is told when that is done.
    close: oneshot::Sender<oneshot::Sender<()>>,
    listening: Vec<Listening>,
    /// Given back when nobody listens any more.
    taken: Vec<Taken>,
}

impl Published {
    /// What all of it has in common.
    pub(super) fn publication(&self) -> &Publication {
        &self.publication
    }
}

/// A port with all its addresses.
#[derive(Debug, Clone)]
struct Group {
    number: u32,
    transport: Transport,
    addresses: Vec<IpAddr>,
    host_port: u16,
    port: u16,
}

/// The host's side, and what of it is not there yet.
struct Held {
    lease: Box<dyn HostLease>,
    missing: Vec<Group>,
}

impl Engine {
    /// Puts the host's side into the store.
    pub(super) fn keep(&self, container: &Container, lease: &dyn HostLease) -> Result<()> {
        let Some(descriptor) = lease.descriptor() else {
            return Ok(());
        };
        let copied = descriptor.try_clone_to_owned();
        let copied =
            copied.map_err(|error| Error::internal("a descriptor cannot be copied", error))?;
        self.keeper(container).put(KEPT, &copied)
    }

    /// Has what was put together last until it is taken back.
    pub(super) fn hold(&self, container: &Arc<Container>, draft: Draft) {
        let (close, asked) = oneshot::channel();
        let wanted = grouped(&draft.ports);
        *lock(&container.published) = Some(Published {
            publication: draft.publication,
            close,
            listening: draft.listening,
            taken: draft.taken,
        });
        let held = draft.lease.map(|lease| Held {
            lease,
            missing: Vec::new(),
        });
        if let Some(engine) = self.own().upgrade() {
            tokio::spawn(engine.look_after(Arc::clone(container), wanted, held, asked));
        }
    }

    /// Has the host listen again whenever one comes back, until it is asked to close. What is wanted is said by whoever
    /// published it: of a start that is under way nothing is noted yet.
    async fn look_after(
        self: Arc<Self>,
        container: Arc<Container>,
        wanted: Vec<Group>,
        mut held: Option<Held>,
        mut asked: oneshot::Receiver<oneshot::Sender<()>>,
    ) {
        let done = loop {
            tokio::select! {
                done = &mut asked => break done,
                () = self.next_host(&container, &wanted, &mut held) => {}
            }
        };
        if let Some(held) = held {
            held.lease.close().await;
        }
        if let Ok(done) = done {
            // Whoever asked may have waited long enough.
            let _ = done.send(());
        }
    }

    /// Waits until the host has gone, or has come back, or what it does not listen on is to be tried again.
    async fn next_host(
        &self,
        container: &Arc<Container>,
        wanted: &[Group],
        held: &mut Option<Held>,
    ) {
        let Some(Held { lease, missing }) = held else {
            // Begun before the first try: a host that comes meanwhile is not missed.
            let returned = self.config().host_ports.returned();
            match self.bind_again(container, wanted).await {
                Ok(again) => *held = Some(again),
                Err(PortError::Unavailable(_)) => returned.await,
                // It is there and says no.
                Err(_) => tokio::select! {
                    () = returned => {}
                    () = tokio::time::sleep(AGAIN) => {}
                },
            }
            return;
        };
        if missing.is_empty() {
            lease.gone().await;
            *held = None;
            return;
        }
        tokio::select! {
            () = lease.gone() => {
                *held = None;
                return;
            }
            // Whoever has a port may let go of it.
            () = tokio::time::sleep(AGAIN) => {}
        }
        let wanted = std::mem::take(missing);
        *missing = self.bind_all(container, &mut **lease, wanted).await;
    }

    /// Asks a host that came back for the ports that a container has.
    async fn bind_again(
        &self,
        container: &Arc<Container>,
        wanted: &[Group],
    ) -> std::result::Result<Held, PortError> {
        let record = container.record();
        let open = self.config().host_ports.open(&record.id, &record.name);
        let mut lease = open.await.inspect_err(|error| {
            tracing::warn!(%error, container = record.name, "ports are not published again");
        })?;
        let all = wanted.to_vec();
        let missing = self.bind_all(container, &mut *lease, all).await;
        // One that goes with the engine is asked for again by the next.
        let _ = self.keep(container, &*lease).inspect_err(|error| {
            tracing::error!(error = error.text(), "ports do not outlive the engine");
        });
        Ok(Held { lease, missing })
    }

    /// Asks for these; those that could not be had. The others are of use without them.
    async fn bind_all(
        &self,
        container: &Container,
        lease: &mut dyn HostLease,
        wanted: Vec<Group>,
    ) -> Vec<Group> {
        let mut missing = Vec::new();
        for group in wanted {
            let (_, there) = self.sides(&group.addresses);
            if there.is_empty() {
                continue;
            }
            let bind = lease.bind(group.number, group.transport, &there, group.host_port);
            if let Err(error) = bind.await {
                let (container, port) = (container.name(), group.host_port);
                tracing::warn!(%error, container, port, "a port is not published again");
                missing.push(group);
            }
        }
        missing
    }

    /// Takes back what is published of a container. Others can have its ports when what this returns is dropped.
    pub(crate) async fn unpublish(&self, container: &Container) -> Vec<Taken> {
        let Some(mut published) = lock(&container.published).take() else {
            return Vec::new();
        };
        published.publication.ended.send_replace(true);
        for listening in published.listening.drain(..) {
            listening.close().await;
        }
        let (done, closed) = oneshot::channel();
        let asked = published.close.send(done).is_ok();
        if asked && tokio::time::timeout(CLOSING, closed).await.is_err() {
            tracing::warn!(container = container.id(), "the host does not close ports");
        }
        self.keeper(container).remove(KEPT);
        published.taken
    }

    /// Goes on with what is published of a container that went on without an engine.
    pub(crate) async fn publish_again(&self, container: &Arc<Container>, kept: Option<OwnedFd>) {
        let run = container.state().run;
        let Some(ports) = self.ports().filter(|_| !run.ports.is_empty()) else {
            if let Some(kept) = kept {
                // Of an engine that was killed before it noted what it published.
                let _ = rustix::net::shutdown(&kept, rustix::net::Shutdown::Both);
                self.keeper(container).remove(KEPT);
            }
            return;
        };
        if let Err(error) = ports.lead_back().await {
            tracing::error!(%error, "answers of published ports do not come back");
        }
        let publication = Publication::default();
        let (mut listening, mut taken) = (Vec::new(), Vec::new());
        let wanted = grouped(&run.ports);
        for group in &wanted {
            let book = self.book();
            let (id, addresses) = (container.id(), &group.addresses);
            taken.push(book.note(id, group.transport, addresses, group.host_port));
            let way: Arc<dyn Way> = Arc::new(self.way(container, group.port, &publication));
            let (here, _) = self.sides(&group.addresses);
            let listened = ports.listen(group.transport, &here, group.host_port, &way);
            match listened.await {
                Ok(one) => listening.push(one),
                Err(error) => {
                    let port = group.host_port;
                    tracing::error!(%error, port, "the machine itself does not reach a port");
                }
            }
        }
        let (close, asked) = oneshot::channel();
        *lock(&container.published) = Some(Published {
            publication,
            close,
            listening,
            taken,
        });
        let held = kept.and_then(|kept| {
            let resumed = self.config().host_ports.resume(kept);
            let warn = |error: &PortError| tracing::warn!(%error, "ports are published anew");
            let lease = resumed.inspect_err(warn).ok()?;
            let missing = Vec::new();
            Some(Held { lease, missing })
        });
        if let Some(engine) = self.own().upgrade() {
            tokio::spawn(engine.look_after(Arc::clone(container), wanted, held, asked));
        }
    }
}

/// The stream to the host among what an engine before this one kept.
pub(crate) fn kept(kept: &mut Kept) -> Option<OwnedFd> {
    kept.remove(KEPT)
}

fn grouped(ports: &[PublishedPort]) -> Vec<Group> {
    let mut all: Vec<Group> = Vec::new();
    for one in ports {
        match all.iter_mut().find(|group| group.number == one.number) {
            Some(group) => group.addresses.push(one.host_ip),
            None => all.push(Group {
                number: one.number,
                transport: one.transport,
                addresses: vec![one.host_ip],
                host_port: one.host_port,
                port: one.port,
            }),
        }
    }
    all
}
