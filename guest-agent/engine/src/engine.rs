//! The engine as a whole: opening, the doors to its parts, closing.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use lighter_images::{Digest, LayerMounts, Seals, Store, StoreOptions};
use lighter_init::Supervisor;
use lighter_network::Wiring;
use lighter_network::ports::Ports;
use lighter_runtime::{Launcher, NameRedirect, verity};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::config::EngineConfig;
use crate::containers::{Container, Layers, Record, Registry, RunState};
use crate::db::{Db, DbError, Sync};
use crate::error::{Error, Result};
use crate::events::{Events, Subject};
use crate::exec::Execs;
use crate::exits::Exits;
use crate::images::Images;
use crate::io::Bench;
use crate::keeper;
use crate::networks::{self, Given, Networks};
use crate::ports::{Book, HostNetwork};
use crate::quota::Projects;
use crate::stats::Samplers;
use crate::volumes::{Passing, Volumes};

/// The engine. One per machine; shared by every API connection.
pub struct Engine {
    config: EngineConfig,
    supervisor: Arc<Supervisor>,
    launcher: Launcher,
    db: Db,
    store: Arc<Store>,
    layers: Layers,
    projects: Arc<Projects>,
    images: Images,
    exits: Arc<Exits>,
    bench: Mutex<Bench>,
    events: Events,
    containers: Registry,
    volumes: Volumes,
    passing: Arc<Passing>,
    /// One change of the list of volumes at a time.
    volumes_lock: tokio::sync::Mutex<()>,
    execs: Execs,
    samplers: Samplers,
    networks: Networks,
    given: Given,
    wiring: Option<Wiring>,
    host_network: Option<Arc<OwnedFd>>,
    /// Published ports; none where there is no network of the host's.
    ports: Option<Ports>,
    book: Book,
    host_listeners: HostNetwork,
    redirect: OnceLock<Option<Arc<NameRedirect>>>,
    /// For what outlives a call and must not keep the engine.
    own: Weak<Self>,
    stopping: AtomicBool,
    /// Whether the containers that are to run again have been started.
    settled: watch::Sender<bool>,
    removals: watch::Sender<u64>,
}

/// How long clients wait for the containers that are to run again.
const SETTLING: Duration = Duration::from_secs(10);

/// The engine's ends of PID 1: opened once, used up by [`Engine::open`].
pub struct Links {
    /// PID 1's descriptor store and journal of exits.
    pub supervisor: Arc<Supervisor>,
    /// Exits as they happen.
    pub events: lighter_init::Events,
}

/// The kernel's fs-verity.
const SEALS: Seals = Seals {
    enable: |file| Ok(verity::enable(file)?),
    measure: |file| Ok(verity::measure(file)?),
};

impl Engine {
    /// Opens the engine and takes up what an earlier one left: running containers, their output
    /// and exits, half-made things that have to go.
    pub async fn open(config: EngineConfig, links: Links) -> Result<Arc<Self>> {
        // The folder that removed things are put aside in is there before the disk is full.
        let trash = config.data_root.join("trash");
        for dir in [&config.data_root, &config.run_dir, &trash] {
            std::fs::create_dir_all(dir).map_err(|error| {
                Error::internal(format!("{} cannot be made", dir.display()), error)
            })?;
        }
        let earlier = recorded_data(&config.data_root);
        let db = Db::open(&config.data_root.join("engine"), earlier.as_deref())?;
        let images = |error| Error::internal("the image store cannot be opened", error);
        let options = StoreOptions {
            seals: Some(SEALS),
            ..StoreOptions::default()
        };
        let store = Store::open(&config.data_root.join("images"), options).map_err(images)?;
        let mounts = LayerMounts::open(&config.run_dir.join("layers"))
            .map_err(images)?
            .checking(Some(SEALS));
        let launcher = Launcher::open(&config.launcher)
            .map_err(|error| Error::internal("containers cannot be started", error))?;
        let supervisor = links.supervisor;
        let exits = Exits::open(Arc::clone(&supervisor))?;
        let starting = exits.starting();
        let mut left = keeper::left(&supervisor)?;
        let info = supervisor
            .info()
            .map_err(|error| Error::internal("the supervisor does not answer", error))?;
        let bench = Bench::new()
            .map_err(|error| Error::internal("the engine's pipes cannot be made", error))?;
        let records = load(&db).await?;
        let wiring = networks::open_wiring(left.host_network.as_ref()).await?;
        let projects = Arc::new(Projects::open(&config.data_root));
        let host_network = left.host_network.take().map(Arc::new);
        let ports = networks::open_ports(host_network.as_deref(), wiring.as_ref())?;
        let same_boot = info.agent_starts > 1;
        let networks = Networks::new(&config, records.networks, same_boot)?;
        let engine = Arc::new_cyclic(|own| Self {
            networks,
            given: Given::default(),
            wiring,
            supervisor,
            launcher,
            db,
            store: Arc::new(store),
            layers: Layers::new(mounts),
            projects,
            images: Images::default(),
            exits,
            bench: Mutex::new(bench),
            events: Events::default(),
            containers: Registry::default(),
            volumes: Volumes::default(),
            passing: Arc::default(),
            volumes_lock: tokio::sync::Mutex::default(),
            execs: Execs::default(),
            samplers: Samplers::default(),
            host_network,
            ports,
            book: Book::default(),
            host_listeners: HostNetwork::default(),
            redirect: OnceLock::new(),
            own: Weak::clone(own),
            stopping: AtomicBool::new(false),
            settled: watch::Sender::new(false),
            removals: watch::Sender::new(0),
            config,
        });
        engine.load_images().await?;
        engine.volumes.load(records.volumes);
        engine.restore_limits();
        engine.wire_networks().await;
        engine.take_up(records.containers, left, same_boot).await?;
        engine.hear_of_listeners_again().await;
        tokio::spawn(Arc::clone(&engine.exits).listen(links.events));
        drop(starting);
        if let Some(archive) = &engine.config.built_in_image {
            engine.load_built_in(archive).await?;
        }
        // What an engine that was killed had stored for an image it did not record.
        let collector = Arc::clone(&engine);
        tokio::spawn(async move { collector.collect_leftovers().await });
        Ok(engine)
    }

    /// Stops every container within its timeout, all at once.
    ///
    /// Called once, before the machine goes down; requests that come later fail as unavailable.
    pub async fn shutdown(self: &Arc<Self>) -> Result<()> {
        self.stopping.store(true, Ordering::Release);
        let mut stops = JoinSet::new();
        for container in self.containers.all() {
            let engine = Arc::clone(self);
            stops.spawn(async move {
                let stopped = engine.stop_container(&container, None, None, false).await;
                if let Err(error) = stopped {
                    tracing::warn!(error = error.text(), "a container does not stop");
                }
            });
        }
        stops.join_all().await;
        // An empty change after all others: when it is on the disk, they are.
        self.db.write(Sync::Durable, |_| Ok(())).await?;
        Ok(())
    }

    /// What the engine was opened with.
    pub fn config(&self) -> &EngineConfig {
        &self.config
    }

    /// The metadata database.
    pub fn db(&self) -> &Db {
        &self.db
    }

    /// Layers and blobs of images.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Everything that happens.
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// Whether the engine is going down.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Says that the containers that are to run again have been started.
    pub(crate) fn set_settled(&self) {
        self.settled.send_replace(true);
    }

    /// Waits until the containers that are to run again have been started, as whoever asks for them
    /// expects; not for ever.
    pub async fn settled(&self) {
        let mut settled = self.settled.subscribe();
        let started = settled.wait_for(|settled| *settled);
        // What takes longer is seen as it is.
        let _ = tokio::time::timeout(SETTLING, started).await;
    }

    /// Counts what has been removed from the data disk: its room is free.
    pub fn removals(&self) -> watch::Receiver<u64> {
        let mut removals = self.removals.subscribe();
        // What a crash left was removed while the engine opened.
        if *removals.borrow() > 0 {
            removals.mark_changed();
        }
        removals
    }

    /// Notes a removal, for those to whom the free room matters.
    pub(crate) fn removed(&self) {
        self.removals.send_modify(|count| *count += 1);
    }

    /// Removes trees of the data disk in the background.
    pub(crate) fn remove_trees(&self, trees: Vec<PathBuf>) {
        let (projects, removals) = (Arc::clone(&self.projects), self.removals.clone());
        tokio::task::spawn_blocking(move || {
            trees.iter().for_each(|tree| projects.remove(tree));
            removals.send_modify(|count| *count += 1);
        });
    }

    /// Fails if the engine is going down.
    pub(crate) fn require_open(&self) -> Result<()> {
        if self.is_stopping() {
            return Err(Error::unavailable("the engine is shutting down"));
        }
        Ok(())
    }

    /// Unmounts layers that no image has any more; called by the image service before it removes
    /// them. Layers of containers must not be among them.
    pub fn release_layers(&self, layers: &[Digest]) -> Result<()> {
        self.layers.drop(layers)
    }

    pub(crate) fn supervisor(&self) -> &Arc<Supervisor> {
        &self.supervisor
    }

    pub(crate) fn launcher(&self) -> &Launcher {
        &self.launcher
    }

    pub(crate) fn images(&self) -> &Images {
        &self.images
    }

    pub(crate) fn layers(&self) -> &Layers {
        &self.layers
    }

    /// Limits of folders of the data disk.
    pub(crate) fn projects(&self) -> &Arc<Projects> {
        &self.projects
    }

    pub(crate) fn exits(&self) -> &Arc<Exits> {
        &self.exits
    }

    pub(crate) fn bench(&self) -> &Mutex<Bench> {
        &self.bench
    }

    pub(crate) fn containers(&self) -> &Registry {
        &self.containers
    }

    pub(crate) fn volumes(&self) -> &Volumes {
        &self.volumes
    }

    pub(crate) fn passing(&self) -> &Arc<Passing> {
        &self.passing
    }

    pub(crate) fn volumes_lock(&self) -> &tokio::sync::Mutex<()> {
        &self.volumes_lock
    }

    pub(crate) fn execs(&self) -> &Execs {
        &self.execs
    }

    pub(crate) fn samplers(&self) -> &Samplers {
        &self.samplers
    }

    pub(crate) fn host_network(&self) -> Option<&Arc<OwnedFd>> {
        self.host_network.as_ref()
    }

    /// Published ports; none where there is no network of the host's.
    pub(crate) fn ports(&self) -> Option<&Ports> {
        self.ports.as_ref()
    }

    /// What containers of the host's network listen on.
    pub(crate) fn host_listeners(&self) -> &HostNetwork {
        &self.host_listeners
    }

    /// Which ports containers have.
    pub(crate) fn book(&self) -> &Book {
        &self.book
    }

    /// The way to containers' name servers, loaded when the first needs it; none where the kernel has no such thing.
    pub(crate) fn redirect(&self) -> Option<&Arc<NameRedirect>> {
        let load = || match NameRedirect::load() {
            Ok(loaded) => Some(Arc::new(loaded)),
            Err(error) => {
                tracing::warn!(%error, "containers cannot have port 53 for themselves");
                None
            }
        };
        self.redirect.get_or_init(load).as_ref()
    }

    /// This engine, as long as it is open.
    pub(crate) fn own(&self) -> Weak<Self> {
        Weak::clone(&self.own)
    }

    /// Addresses that are given out.
    pub(crate) fn given(&self) -> &Given {
        &self.given
    }

    /// The kernel's side of networks; none where there is no network of the host's.
    pub(crate) fn wiring(&self) -> Option<&Wiring> {
        self.wiring.as_ref()
    }

    pub(crate) fn networks(&self) -> &Networks {
        &self.networks
    }

    pub(crate) fn container_event(
        &self,
        container: &Container,
        action: &str,
        more: &[(&str, &str)],
    ) {
        let mut attributes: BTreeMap<String, String> = container.attributes();
        attributes.extend(
            more.iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned())),
        );
        self.events
            .emit(Subject::Container, action, container.id(), attributes);
    }

    pub(crate) async fn insert_container(&self, container: &Container, sync: Sync) -> Result<()> {
        let (record, run) = (container.record(), container.state().run);
        self.db
            .write(sync, move |connection| {
                connection.execute(
                    "INSERT INTO containers (id, name, body, state) VALUES (?1, ?2, ?3, ?4)",
                    (
                        &record.id,
                        &record.name,
                        &serde_json::to_string(&*record)?,
                        &serde_json::to_string(&run)?,
                    ),
                )?;
                Ok(())
            })
            .await?;
        Ok(())
    }

    /// Keeps a changed record; durable when this returns.
    pub(crate) async fn save_record(&self, record: &Record) -> Result<()> {
        let (id, name, body) = (
            record.id.clone(),
            record.name.clone(),
            serde_json::to_string(record),
        );
        let write = self.db.write(Sync::Durable, move |connection| {
            connection.execute(
                "UPDATE containers SET name = ?2, body = ?3 WHERE id = ?1",
                (&id, &name, &body?),
            )?;
            Ok(())
        });
        Ok(write.await?)
    }

    /// Keeps what the container's state is when the change is made: whoever asks later never
    /// overwrites a newer state with an older one.
    pub(crate) async fn save_state(&self, container: &Arc<Container>, sync: Sync) -> Result<()> {
        Ok(self.db.write(sync, save(container)).await?)
    }

    pub(crate) fn save_state_blocking(&self, container: &Arc<Container>, sync: Sync) -> Result<()> {
        Ok(self.db.write_blocking(sync, save(container))?)
    }

    pub(crate) fn hold_layer(&self, layer: &Digest) -> Result<()> {
        self.layers.hold(&self.store, layer)
    }
}

fn save(
    container: &Arc<Container>,
) -> impl FnOnce(&rusqlite::Connection) -> Result<(), DbError> + Send + use<> {
    let container = Arc::clone(container);
    move |connection| {
        let state = serde_json::to_string(&container.state().row())?;
        connection.execute(
            "UPDATE containers SET state = ?2 WHERE id = ?1",
            (container.id(), &state),
        )?;
        Ok(())
    }
}

/// Names what is on the disk that only a database can have put there.
fn recorded_data(data_root: &Path) -> Option<String> {
    let count = |dir: &str, but: &str| {
        let entries = std::fs::read_dir(data_root.join(dir));
        let entries = entries.into_iter().flatten().flatten();
        entries.filter(|entry| entry.file_name() != but).count()
    };
    let kinds = [
        ("volumes", count("volumes", "")),
        (
            "containers",
            count("overlay2", "empty").max(count("containers", "")),
        ),
        ("image layers", count("images/layers", "")),
    ];
    let there = kinds.iter().filter(|(_, count)| *count > 0);
    let there: Vec<String> = there
        .map(|(kind, count)| format!("{count} {kind}"))
        .collect();
    (!there.is_empty()).then(|| there.join(", "))
}

struct Records {
    containers: Vec<(Record, RunState)>,
    volumes: Vec<crate::volumes::Volume>,
    networks: Vec<networks::Network>,
}

async fn load(db: &Db) -> Result<Records> {
    let load = db.write(Sync::Lazy, |connection| {
        let mut statement = connection.prepare("SELECT body, state FROM containers")?;
        let rows = statement.query_map([], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
        })?;
        let mut containers = Vec::new();
        for row in rows {
            let (body, state) = row?;
            containers.push((serde_json::from_str(&body)?, serde_json::from_str(&state)?));
        }
        let mut statement = connection.prepare("SELECT body FROM volumes")?;
        let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
        let mut volumes = Vec::new();
        for row in rows {
            volumes.push(serde_json::from_str(&row?)?);
        }
        let mut statement = connection.prepare("SELECT body FROM networks")?;
        let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
        let mut networks = Vec::new();
        for row in rows {
            networks.push(serde_json::from_str(&row?)?);
        }
        Ok(Records {
            containers,
            volumes,
            networks,
        })
    });
    Ok(load.await?)
}
