//! The engine process: the link to the host, and the engine behind it.
//!
//! ```text
//!   host ══ control ══► [control] ──hello──► [boot] ──► [service] ──► engine, API
//!   host ══ API     ══════════════════════════════════════► │
//!   container ── docker.sock ───────────────────────────────┘
//!   engine ──► [host_link] ══ dial, share ══► host
//!          ──► [host_ports] ══ publish ═════►
//!   host ══ who came ══► [published] ──► engine
//! ```
//!
//! Started by `lighter-init`, which starts it again whenever it dies; so everything that must
//! last is in init's store (listeners, the accepted hello, what the engine puts there), on the
//! data disk or under the run directory. After a restart the agent takes up the stored hello and
//! serves at once, without waiting for the host. If its engine cannot be opened then, it says why to
//! every client and makes way for another try.
//!
//! It never listens on TCP, and dials nothing itself in the guest: it has no network to do so.

pub mod boot;
pub mod clock;
pub mod control;
pub mod disk;
pub mod engine_config;
pub mod host_link;
pub mod host_ports;
pub mod kept;
pub mod listener;
pub mod options;
pub mod places;
pub mod published;
pub mod service;
pub mod shares;
pub mod shutdown;
pub mod status;
pub mod stream;
pub mod trim;

use std::sync::Arc;

use lighter_init::{Events, Supervisor, SupervisorError, name, take_inherited};

use crate::boot::Boot;
use crate::control::Control;
use crate::listener::Listener;
use crate::options::Options;
use crate::places::Places;
use crate::service::Service;

/// Why the agent cannot run at all.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// One of the sockets to init is not there.
    #[error("descriptor {number} was not inherited: {errno}")]
    Inherited {
        /// Its number.
        number: i32,
        /// What the kernel says.
        errno: rustix::io::Errno,
    },
    /// Init does not do what it must.
    #[error(transparent)]
    Supervisor(#[from] SupervisorError),
    /// A listener is missing from the store.
    #[error("the store holds no `{0}`")]
    Missing(&'static str),
    /// A listener cannot be used.
    #[error("cannot listen on `{name}`: {source}")]
    Listener {
        /// Its name in the store.
        name: &'static str,
        /// What went wrong.
        source: std::io::Error,
    },
    /// The engine could not be opened again: the next agent tries once more.
    #[error("the engine cannot be taken up, trying again: {0}")]
    TakeUp(String),
    /// The control link cannot be served any more.
    #[error("the control link failed: {0}")]
    Control(std::io::Error),
}

/// Runs until the machine ends.
pub async fn run(options: Options) -> Result<(), AgentError> {
    let inherited =
        |number| take_inherited(number).map_err(|errno| AgentError::Inherited { number, errno });
    let supervisor = Arc::new(Supervisor::from_fd(inherited(options.supervisor_fd)?)?);
    let events = Events::from_fd(inherited(options.events_fd)?)?;
    let places = Arc::new(Places::new(&options));

    let mut held = supervisor.list()?;
    let mut take = |wanted: &'static str| {
        let at = held.iter().position(|(name, _)| name == wanted);
        at.map(|at| held.swap_remove(at).1)
    };
    let boot = take(kept::BOOT);
    let host_network = take(name::HOST_NETWORK);
    let shutdown = take(kept::SHUTDOWN);
    let mut listener = |wanted: &'static str, only_host: bool| {
        let descriptor = take(wanted).ok_or(AgentError::Missing(wanted))?;
        Listener::new(descriptor, only_host).map_err(|source| AgentError::Listener {
            name: wanted,
            source,
        })
    };
    let only_host = !places.native;
    let control = listener(name::LISTEN_CONTROL, only_host)?;
    let api = listener(name::LISTEN_API, only_host)?;
    let docker = listener(name::LISTEN_DOCKER, false)?;
    let published = listener(name::LISTEN_PUBLISHED, only_host)?;
    drop(held);
    if let Some(host_network) = host_network.filter(|_| !places.native) {
        // Containers without a network are better than none.
        match lighter_network::card::attach(host_network).await {
            Ok(true) => {}
            Ok(false) => tracing::warn!("the machine has no network card"),
            Err(error) => tracing::error!(%error, "containers have no way out"),
        }
    }

    let service = Arc::new(Service::new(
        Arc::clone(&places),
        Arc::clone(&supervisor),
        events,
        vec![api, docker],
    ));
    tokio::spawn(published::serve(published, Arc::clone(&service)));
    let boot = Arc::new(Boot::new(places, Arc::clone(&supervisor), boot));
    let earlier = boot.accepted().await;
    if let Some(hello) = &earlier {
        tracing::info!("taking up after a restart");
        service.start(hello);
    }
    let sessions = Arc::new(Control::new(boot, Arc::clone(&service), supervisor));
    if let Some(stored) = shutdown {
        let sessions = Arc::clone(&sessions);
        tokio::spawn(async move { sessions.resume_shutdown(stored).await });
    }
    tokio::select! {
        served = sessions.serve(control) => served.map_err(AgentError::Control),
        // At the first start the host ends the machine; later there are containers to go on with.
        reason = service.gives_up(), if earlier.is_some() => Err(AgentError::TakeUp(reason)),
    }
}
