//! Execs: further processes in running containers.
//!
//! An exec is made, started once, and kept for inspection until its container has had many more.
//! It survives the engine like a container does: its streams and its process are in the store,
//! what it is in a file of the run directory.

mod run;

use std::collections::HashMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::clock::Timestamp;
use crate::containers::{Container, KILL, Status, lock};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::ids;
use crate::io::{Hub, Output, Stdin};
use crate::model::{StrSlice, wire};

/// Ended execs kept for inspection, for each container.
const KEPT: usize = 64;

wire! {
    /// The body of `POST /containers/{id}/exec`.
    pub struct ExecConfig {
        /// User and group; the container's if empty.
        pub user: String,
        /// With every capability.
        pub privileged: bool,
        /// With a terminal.
        pub tty: bool,
        /// Rows and columns it starts with.
        pub console_size: Option<(u32, u32)>,
        /// The client sends input.
        pub attach_stdin: bool,
        /// The client gets standard error.
        pub attach_stderr: bool,
        /// The client gets standard output.
        pub attach_stdout: bool,
        /// Keys that detach.
        pub detach_keys: String,
        /// Variables over the container's.
        pub env: Option<Vec<String>>,
        /// Where it starts; the container's directory if empty.
        pub working_dir: String,
        /// The program and its arguments.
        pub cmd: Option<StrSlice>,
    }
}

/// An exec.
pub struct Exec {
    /// Its id.
    pub id: String,
    /// Where it runs.
    pub container: Arc<Container>,
    /// What it runs.
    pub config: ExecConfig,
    state: watch::Sender<ExecState>,
    hub: Arc<Hub>,
    pty: Mutex<Option<OwnedFd>>,
    /// Its process while it runs.
    process: Mutex<Option<OwnedFd>>,
}

/// How far an exec is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExecState {
    /// Whether it was started.
    pub started: bool,
    /// Whether its process runs.
    pub running: bool,
    /// How it ended.
    pub exit_code: Option<i32>,
    /// Its process; it may have ended.
    pub pid: i32,
}

/// The client's streams of an exec.
pub struct ExecStreams {
    /// Whether it has a terminal.
    pub tty: bool,
    /// Its output.
    pub output: Output,
    /// Where its input goes.
    pub stdin: Option<watch::Receiver<Option<Arc<Stdin>>>>,
    /// The exec.
    pub exec: Arc<Exec>,
}

/// Every exec.
#[derive(Default)]
pub(crate) struct Execs(Mutex<HashMap<String, Arc<Exec>>>);

impl Execs {
    fn find(&self, id: &str) -> Result<Arc<Exec>> {
        self.lock()
            .get(id)
            .cloned()
            .ok_or_else(|| Error::not_found(format!("No such exec instance: {id}")))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Exec>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the file in the run directory says of a started exec.
#[derive(Serialize, Deserialize)]
struct Note {
    container: String,
    config: ExecConfig,
    pid: i32,
    /// Before its program.
    started: Timestamp,
}

impl Exec {
    fn new(id: String, container: Arc<Container>, config: ExecConfig) -> Arc<Self> {
        Arc::new(Self {
            id,
            container,
            config,
            state: watch::channel(ExecState::default()).0,
            hub: Hub::new(),
            pty: Mutex::default(),
            process: Mutex::default(),
        })
    }

    /// How far it is.
    pub fn state(&self) -> ExecState {
        self.state.borrow().clone()
    }

    /// Its end, or nothing if it cannot end any more.
    pub async fn ended(&self) -> Option<i32> {
        let mut watch = self.state.subscribe();
        let ended = watch.wait_for(|state| state.exit_code.is_some()).await;
        ended.ok().and_then(|state| state.exit_code)
    }

    /// Ends its process; its end comes as any other.
    pub(crate) fn kill(&self) {
        let process = lock(&self.process);
        let Some(process) = &*process else { return };
        match lighter_runtime::signal(process.as_fd(), KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => tracing::warn!(%error, "an exec cannot be killed"),
        }
    }

    /// Program and arguments, as events show them.
    fn words(&self) -> String {
        let words = self
            .config
            .cmd
            .as_ref()
            .map_or(&[][..], |cmd| cmd.0.as_slice());
        let (program, arguments) = words.split_first().map_or(("", &[][..]), |(p, a)| (p, a));
        format!("{program} {}", arguments.join(" "))
    }
}

impl Engine {
    /// Makes an exec in a running container.
    pub async fn exec_create(
        self: &Arc<Self>,
        reference: &str,
        config: ExecConfig,
    ) -> Result<String> {
        self.require_open()?;
        if config.cmd.as_ref().is_none_or(|words| words.0.is_empty()) {
            return Err(Error::invalid("No exec command specified"));
        }
        let container = self.containers().find(reference)?;
        self.running(&container)?;
        if container.status() == Status::Paused {
            return Err(Error::conflict(format!(
                "Container {reference} is paused, unpause the container before exec"
            )));
        }
        self.linked_variables(&container.record())?;
        let exec = Exec::new(ids::new_id()?, Arc::clone(&container), config);
        self.check_exec_user(&exec).await?;
        let id = exec.id.clone();
        let mut all = self.execs().lock();
        let mut own = lock(&container.execs);
        while own.len() >= KEPT {
            let ended = own.iter().position(|id| {
                all.get(id)
                    .is_none_or(|exec| !exec.state().running && exec.state().started)
            });
            let Some(ended) = ended else { break };
            all.remove(&own.remove(ended));
        }
        own.push(id.clone());
        all.insert(id.clone(), Arc::clone(&exec));
        drop((all, own));
        self.exec_event(&exec, &format!("exec_create: {}", exec.words()), &[]);
        Ok(id)
    }

    /// An exec.
    pub fn exec(&self, id: &str) -> Result<Arc<Exec>> {
        self.execs().find(id)
    }

    /// Tells an exec's terminal its size.
    pub fn exec_resize(&self, id: &str, rows: u16, columns: u16) -> Result<()> {
        let exec = self.execs().find(id)?;
        if !exec.state().running {
            return Err(Error::conflict(format!("exec {id} is not running")));
        }
        crate::containers::resize(lock(&exec.pty).as_ref(), rows, columns)
    }

    /// Ids of the execs of a container that run.
    pub fn running_execs(&self, container: &Container) -> Vec<String> {
        let all = self.execs().lock();
        let own = lock(&container.execs);
        let runs = |id: &&String| all.get(*id).is_some_and(|exec| exec.state().running);
        own.iter().filter(runs).cloned().collect()
    }

    /// Forgets the execs of a container that is removed.
    pub(crate) fn forget_execs(&self, ids: &[String]) {
        let mut all = self.execs().lock();
        ids.iter().for_each(|id| {
            all.remove(id);
        });
    }

    /// Forgets one that nobody will ask for.
    pub(crate) fn forget_exec(&self, exec: &Exec) {
        lock(&exec.container.execs).retain(|id| *id != exec.id);
        self.execs().lock().remove(&exec.id);
    }

    fn exec_event(&self, exec: &Exec, action: &str, more: &[(&str, &str)]) {
        let mut more = more.to_vec();
        more.push(("execID", &exec.id));
        self.container_event(&exec.container, action, &more);
    }
}
