//! One container, as the engine holds it.
//!
//! ```text
//!   Created ──start──► Running ◄──pause/unpause──► Paused
//!      │                 │  ▲
//!      │               exit  └──(policy, after a pause)── Restarting
//!      ▼                 ▼
//!   Removing ◄──rm─── Exited ──start──► Running
//! ```
//!
//! While there is a process, the task in `run` owns the state; else whoever holds `op` does.
//! Everyone may look at it at any time.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use lighter_runtime::Cgroup;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use super::endpoints::Places;
use super::name_server::NameServer;
use super::plugs::Lease;
use super::record::{Record, RunState, Status};
use crate::io::Hub;
use crate::logs::{Buffer, LogFile};
use crate::ports::Published;
use crate::volumes::InUse;

/// A container.
pub struct Container {
    id: String,
    record: RwLock<Arc<Record>>,
    state: watch::Sender<State>,
    /// One of start, remove, rename, update and copy at a time.
    pub(crate) op: Arc<tokio::sync::Mutex<()>>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) live: Mutex<Option<Arc<Live>>>,
    pub(crate) log: Mutex<Option<Log>>,
    pub(crate) execs: Mutex<Vec<String>>,
    /// Ends the pause before a restart by the policy.
    pub(crate) cancel_restart: Notify,
    /// The volumes in memory that its run uses.
    pub(crate) volumes: Mutex<Option<InUse>>,
    /// Its places in networks, as long as it runs.
    pub(crate) lease: Mutex<Option<Lease>>,
    /// One change of the interfaces of a run at a time: a connect, a disconnect, its end. Taken after `op`, where
    /// that is taken; whoever comes second finds what the first one left.
    pub(crate) wires: tokio::sync::Mutex<()>,
    /// What answers its questions for names, as long as it runs.
    pub(crate) name_server: Mutex<Option<NameServer>>,
    /// What is published of it, as long as it runs.
    pub(crate) published: Mutex<Option<Published>>,
    /// What is still being cleared away after the last run.
    pub(crate) clearing: Mutex<Option<JoinHandle<()>>>,
}

/// A container's log, once it was asked for.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    pub(crate) file: Arc<LogFile>,
    /// Where lines wait, if the container does not wait for its log.
    pub(crate) buffer: Option<Arc<Buffer>>,
}

/// What watchers of a container see.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// The run.
    pub run: RunState,
    /// Counts the ends of runs.
    pub exits: u64,
    /// Exit code and error of the last one.
    pub last_exit: (i32, String),
    /// Whether the container is gone.
    pub removed: bool,
    /// Whether its end is part of a restart its user asked for.
    pub restarting: bool,
    /// Whether that restart is under way, its start included.
    pub starts_again: bool,
    /// What the database is to say while the state seen by clients is not there yet: a process
    /// past its gate, an end that is being recorded.
    pub(crate) recorded: Option<Status>,
}

impl State {
    /// What the database is to say of the run.
    pub(crate) fn row(&self) -> RunState {
        let mut run = self.run.clone();
        if let Some(status) = self.recorded {
            run.status = status;
        }
        run
    }
}

/// What there is only while a container has a process.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
    pub(crate) cgroup: Arc<Cgroup>,
    /// Its user namespace, if it is not the machine's.
    pub(crate) user: Option<OwnedFd>,
    pub(crate) pty: Option<OwnedFd>,
}

impl Container {
    pub(crate) fn new(record: Record, run: RunState) -> Arc<Self> {
        Arc::new(Self {
            id: record.id.clone(),
            record: RwLock::new(Arc::new(record)),
            state: watch::channel(State {
                last_exit: (run.exit_code, String::new()),
                run,
                ..State::default()
            })
            .0,
            op: Arc::default(),
            hub: Hub::new(),
            live: Mutex::default(),
            log: Mutex::default(),
            execs: Mutex::default(),
            cancel_restart: Notify::new(),
            volumes: Mutex::default(),
            lease: Mutex::default(),
            wires: tokio::sync::Mutex::default(),
            name_server: Mutex::default(),
            published: Mutex::default(),
            clearing: Mutex::default(),
        })
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its name, without the slash.
    pub fn name(&self) -> String {
        self.record().name.clone()
    }

    /// What create made.
    pub fn record(&self) -> Arc<Record> {
        Arc::clone(&self.record.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn set_record(&self, record: Record) {
        *self.record.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(record);
    }

    /// The state now.
    pub fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// Where it is in its life.
    pub fn status(&self) -> Status {
        self.state.borrow().run.status
    }

    /// Follows the state.
    pub fn watch(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// Changes the state and tells everyone.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut result = None;
        self.state.send_modify(|state| result = Some(change(state)));
        // `send_modify` calls its argument exactly once.
        result.unwrap_or_else(|| unreachable!("the change was made"))
    }

    /// Its places in networks; nothing where it has none.
    pub(crate) fn places(&self) -> Option<Places> {
        lock(&self.lease).as_ref().map(|lease| lease.places.clone())
    }

    pub(crate) fn live(&self) -> Option<Arc<Live>> {
        lock(&self.live).clone()
    }

    /// What events about it carry: its labels, image and name.
    pub(crate) fn attributes(&self) -> BTreeMap<String, String> {
        let record = self.record();
        let mut attributes = record.config.labels.clone();
        attributes.insert("image".into(), record.config.image.clone());
        attributes.insert("name".into(), record.name.clone());
        attributes
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
