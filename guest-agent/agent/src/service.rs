//! The engine's life inside the agent: opened once, served on every API listener, stopped once.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lighter_engine::Engine;
use lighter_engine::config::HostRoute;
use lighter_init::{Events, Supervisor};
use lighter_protocol::{EngineState, Hello, Route};
use tokio::sync::watch;

use crate::engine_config;
use crate::listener::Listener;
use crate::places::Places;
use crate::trim;

/// How long a container may take that was given all the time it wants: the host waits for ten minutes,
/// or for its own setting, and what follows the containers needs some of that.
const NO_LIMIT: Duration = Duration::from_secs(570);

/// So many failures in a row are taken for bad luck, and followed by another try at once.
const FREE_TRIES: u32 = 3;
/// How long clients are told the reason before the next try.
const RETRY: Duration = Duration::from_secs(3);

/// What an engine takes from the agent, once.
#[derive(Debug)]
struct Supplies {
    events: Events,
    listeners: Vec<Listener>,
}

/// The engine, or what is known of it.
pub struct Service {
    places: Arc<Places>,
    supervisor: Arc<Supervisor>,
    supplies: Mutex<Option<Supplies>>,
    engine: Mutex<Option<Arc<Engine>>>,
    state: watch::Sender<EngineState>,
    /// Counts the times that a host said hello.
    hosts: watch::Sender<u64>,
    /// Where the host has routes of its own to.
    routes: watch::Sender<Vec<HostRoute>>,
}

impl Service {
    /// An engine that is not started. Until it is, connections wait in the listeners.
    pub fn new(
        places: Arc<Places>,
        supervisor: Arc<Supervisor>,
        events: Events,
        listeners: Vec<Listener>,
    ) -> Self {
        Self {
            places,
            supervisor,
            supplies: Mutex::new(Some(Supplies { events, listeners })),
            engine: Mutex::new(None),
            state: watch::Sender::new(EngineState::Starting),
            hosts: watch::Sender::new(0),
            routes: watch::Sender::new(Vec::new()),
        }
    }

    /// Where things are.
    pub fn places(&self) -> &Places {
        &self.places
    }

    /// How far the engine is.
    pub fn state(&self) -> EngineState {
        self.state.borrow().clone()
    }

    /// Waits until the engine is open or is known not to come.
    pub async fn settled(&self) {
        let mut state = self.state.subscribe();
        let settled =
            |state: &EngineState| *state != EngineState::Starting || self.engine().is_some();
        // Fails only without a sender, which lives as long as `self`.
        let _ = state.wait_for(settled).await;
    }

    /// Notes that a host is there, perhaps another one.
    pub fn greeted(&self) {
        self.hosts.send_modify(|count| *count += 1);
    }

    /// Notes where the host has routes of its own to.
    pub fn set_routes(&self, told: &[Route]) {
        self.routes.send_replace(engine_config::routes(told));
    }

    /// The engine, once it is open.
    pub fn engine(&self) -> Option<Arc<Engine>> {
        self.engine
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Opens the engine in the background. A second call does nothing.
    pub fn start(self: &Arc<Self>, hello: &Arc<Hello>) {
        let supplies = self
            .supplies
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(supplies) = supplies else { return };
        self.set_routes(&hello.boot.routes);
        let (this, hello) = (Arc::clone(self), Arc::clone(hello));
        tokio::spawn(async move { this.run(&hello, supplies).await });
    }

    async fn run(&self, hello: &Hello, supplies: Supplies) {
        let (config, links) = engine_config::of(
            &self.places,
            hello,
            &self.supervisor,
            supplies.events,
            self.hosts.subscribe(),
            self.routes.subscribe(),
        );
        let engine = match Engine::open(config, links).await {
            Ok(engine) => engine,
            Err(error) => return self.fail(&error, supplies.listeners),
        };
        *self.engine.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&engine));
        // For those who wait for it to be open: it is not said to be ready yet.
        self.state.send_modify(|_| {});
        for listener in supplies.listeners {
            tokio::spawn(lighter_api::serve(Arc::clone(&engine), listener));
        }
        if !self.places.native {
            tokio::spawn(trim::serve(Arc::clone(&self.places), engine.removals()));
        }
        // Whoever waits for a machine expects in it what is to run again.
        engine.settled().await;
        self.change(EngineState::Ready);
    }

    /// Nobody is left waiting for an engine that does not come; but while that may be bad luck, they
    /// wait in the listeners for the next one.
    fn fail(&self, error: &lighter_engine::Error, listeners: Vec<Listener>) {
        let message = error.text();
        tracing::error!(error = message, "the engine cannot be opened");
        if !self.may_be_bad_luck() {
            for listener in listeners {
                let reason = format!("the engine cannot be opened: {message}");
                tokio::spawn(lighter_api::refuse(reason, listener));
            }
        }
        self.change(EngineState::Failed { message });
    }

    fn may_be_bad_luck(&self) -> bool {
        let info = self.supervisor.info();
        info.is_ok_and(|info| info.failed_starts < FREE_TRIES)
    }

    /// Returns the reason once the engine could not be opened and it is time for another try.
    /// Another process makes it: nothing half-opened is in its way.
    pub async fn gives_up(&self) -> String {
        let mut state = self.state.subscribe();
        let failed = state.wait_for(|state| matches!(state, EngineState::Failed { .. }));
        // No sender: as above.
        let Ok(EngineState::Failed { message }) = failed.await.as_deref().cloned() else {
            return std::future::pending().await;
        };
        if !self.may_be_bad_luck() {
            tokio::time::sleep(RETRY).await;
        }
        if self.state() == EngineState::Stopping {
            // The machine ends, and this agent sees to it.
            return std::future::pending().await;
        }
        message
    }

    /// Moves on, unless the engine is on its way down.
    fn change(&self, next: EngineState) {
        self.state.send_if_modified(|state| {
            let stopping = *state == EngineState::Stopping;
            if !stopping {
                *state = next;
            }
            !stopping
        });
    }

    /// Stops containers, for as long as that may take. True the first time it is asked.
    pub async fn stop(&self, limit: Duration) -> bool {
        let before = self.state.send_replace(EngineState::Stopping);
        if before == EngineState::Stopping {
            return false;
        }
        if let Some(engine) = self.engine() {
            // Each container gets the time it was promised, as far as the host waits for it.
            let most = NO_LIMIT.max(limit);
            let limit = engine.stop_limit(limit).unwrap_or(most).min(most);
            match tokio::time::timeout(limit, engine.shutdown()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(%error, "the engine did not stop cleanly"),
                Err(_) => tracing::warn!("containers did not stop in time; they are killed"),
            }
        }
        true
    }
}
