//! Start: from a record to a running first process.

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use lighter_runtime::{ContainerFds, ContainerSpec, FailureKind, Operation, StartError};

use super::container::{Log, State};
use super::endpoints::Places;
use super::launch::{self, Ends, Outputs, Started, Streams};
use super::record::Status;
use super::{Container, Live, Record, files, lock, namespaces, restart, spec, users};
use crate::clock::Timestamp;
use crate::db::Sync;
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};
use crate::io::{BatchFile, LogSink};
use crate::keeper::Keeper;
use crate::logs::{Buffer, Identity, LogFile, LogOptions};
use crate::mounts::Mount;
use crate::mounts::resolve::{self, Owners};
use crate::ports::PublishedPort;

impl Engine {
    /// Starts a container that does not run.
    pub async fn container_start(self: &Arc<Self>, reference: &str) -> Result<()> {
        self.require_open()?;
        let container = self.containers().find(reference)?;
        self.start_container(&container).await
    }

    pub(crate) async fn start_container(
        self: &Arc<Self>,
        container: &Arc<Container>,
    ) -> Result<()> {
        let _op = container.op.lock().await;
        match container.status() {
            Status::Running | Status::Restarting => {
                return Err(Error::new(
                    Kind::NotModified,
                    "container is already running",
                ));
            }
            Status::Paused => {
                return Err(Error::conflict(
                    "cannot start a paused container, try unpause instead",
                ));
            }
            Status::Removing | Status::Dead => {
                return Err(Error::conflict(
                    "container is marked for removal and cannot be started",
                ));
            }
            Status::Created | Status::Exited => {}
        }
        // Whoever stops it from here on means this run too.
        let was_stopped = container.change(|state| {
            (state.run.restart_count, state.run.backoff) = (0, 0);
            std::mem::replace(&mut state.run.manually_stopped, false)
        });
        let started = self.start_locked(container, was_stopped).await;
        if started.is_err() && container.record().host_config.auto_remove {
            self.remove_locked(container, true).await?;
        }
        started
    }

    /// Starts it; the caller holds `op` and has looked at the state. `was_stopped` says that until
    /// now its user wanted it to stay stopped.
    pub(super) async fn start_locked(
        self: &Arc<Self>,
        container: &Arc<Container>,
        was_stopped: bool,
    ) -> Result<()> {
        let clearing = lock(&container.clearing).take();
        if let Some(clearing) = clearing {
            // A panic in there was reported already.
            let _ = clearing.await;
        }
        let record = container.record();
        let before = container.state().run;
        match self.launch(container, &record, was_stopped).await {
            Ok(()) => {
                self.container_event(container, "start", &[]);
                Ok(())
            }
            Err(failed) => {
                let (error, code) = failed;
                *lock(&container.volumes) = None;
                self.unpublish(container).await;
                *lock(&container.name_server) = None;
                self.unplug_all(container).await;
                *lock(&container.lease) = None;
                container.change(|state| {
                    state.run.error = error.text();
                    state.run.exit_code = code;
                    state.run.pid = 0;
                    state.run.places = before.places;
                    state.run.ports.clear();
                    // It is as it was: only a start that came about takes the stop back.
                    state.run.manually_stopped |= was_stopped;
                    (state.run.started, state.run.finished) = (before.started, before.finished);
                    state.last_exit = (code, String::new());
                    state.recorded = None;
                });
                // Why it did not start is worth more than that this could not be written down.
                if let Err(error) = self.save_state(container, Sync::Lazy).await {
                    tracing::error!(error = error.text(), "a failed start is not recorded");
                }
                container.hub.end();
                Err(error)
            }
        }
    }

    async fn launch(
        self: &Arc<Self>,
        container: &Arc<Container>,
        record: &Arc<Record>,
        was_stopped: bool,
    ) -> Result<(), (Error, i32)> {
        let unset = unset_code(container);
        let plain = |error: Error| (error, unset);
        let names = record.mounts.iter().filter_map(Mount::volume);
        *lock(&container.volumes) = Some(self.use_volumes(names).map_err(plain)?);
        let places = self.take_places(container, record).map_err(plain)?;
        let plan = self.plan(record, &places).await.map_err(plain)?;
        let log = self.open_log(container, record).map_err(plain)?;
        let intent_changes = restart::intent_changes(
            &record.host_config.restart_policy,
            &container.state().run,
            was_stopped,
        );
        let task = {
            let (engine, container) = (Arc::clone(self), Arc::clone(container));
            tokio::task::spawn_blocking(move || {
                engine.launch_blocking(&container, plan, intent_changes)
            })
        };
        let joined = task
            .await
            .map_err(|error| plain(Error::internal("the start was cut short", error)))?;
        let Begun {
            mut started,
            mut ends,
            user,
        } = joined?;
        let keeper = self.keeper(container);
        let streams = Outputs::new(&mut ends, log, Arc::clone(&container.hub), keeper);
        let ((outputs, stdin), cgroup) = match (streams, started.cgroup.take()) {
            (Ok(streams), Some(cgroup)) => (streams, cgroup),
            (streams, cgroup) => {
                // It runs and nobody could look after it.
                launch::abandon(started, &self.keeper(container), self.exits());
                if let Some(cgroup) = cgroup {
                    self.clear_group(container, Arc::new(cgroup));
                }
                let missing = || Error::unavailable("the container has no cgroup");
                return Err(plain(streams.err().unwrap_or_else(missing)));
            }
        };
        for warning in &started.warnings {
            tracing::warn!(container = record.name, warning, "a limit is not in force");
        }
        let live = Arc::new(Live {
            pid: started.pid,
            pidfd: started.pidfd,
            cgroup: Arc::new(cgroup),
            user,
            pty: ends.pty,
        });
        self.begin_run(container, live, outputs, stdin, started.exit);
        Ok(())
    }

    /// Everything that needs waiting: paths of the host, descriptors, the specification.
    async fn plan(self: &Arc<Self>, record: &Arc<Record>, places: &Places) -> Result<Plan> {
        // The setting may have changed since it was made.
        users::check(&record.host_config, &self.config().settings)?;
        let mut spec = spec::build(record, &self.linked_variables(record)?)?;
        let namespaces = self.plan_namespaces(record)?;
        spec.namespaces = namespaces.namespaces;
        let mut mounts = Vec::new();
        let user = namespaces.user();
        if user.is_some() {
            users::adapt(&mut spec, &record.host_config);
            self.bind_groups(&mut spec, &mut mounts)?;
        }
        self.share_shm(record, &mut spec, &mut mounts, user)?;
        for mount in &record.mounts {
            let mut resolved = resolve::resolve(self, mount).await?;
            if let (lighter_runtime::MountKind::Fd(index), Some(fd)) =
                (&mut resolved.spec.kind, resolved.fd)
            {
                users::map(fd.as_fd(), resolved.owners, user)?;
                *index = mounts.len();
                mounts.push(fd);
            }
            spec.mounts.push(resolved.spec);
        }
        self.write_files(record, places)?;
        self.tell_linking(record, places);
        let dir = self.container_dir(&self.files_owner(record));
        for (name, destination) in files::FILES {
            // A mount of the user's there takes its place.
            if record
                .mounts
                .iter()
                .any(|mount| mount.destination == destination)
            {
                continue;
            }
            let source = dir.join(name);
            let fd = lighter_runtime::mounts::bind(
                lighter_runtime::mounts::Source::Path(&source),
                false,
            )
            .map_err(|error| Error::internal("a file of the container cannot be bound", error))?;
            users::map(fd.as_fd(), Owners::Inside, user)?;
            spec.mounts.push(lighter_runtime::Mount {
                destination: destination.into(),
                kind: lighter_runtime::MountKind::Fd(mounts.len()),
                flags: lighter_runtime::MountFlags::default(),
                source: source.display().to_string(),
            });
            mounts.push(fd);
        }
        if record.host_config.privileged {
            spec.make_privileged();
            spec.process.seccomp = super::validate::security_options(&record.host_config)?.seccomp;
        }
        Ok(Plan {
            spec,
            mounts,
            namespaces,
        })
    }

    fn launch_blocking(
        &self,
        container: &Arc<Container>,
        plan: Plan,
        intent_changes: bool,
    ) -> Result<Begun, (Error, i32)> {
        let unset = unset_code(container);
        let plain = |error: Error| (error, unset);
        let record = container.record();
        let user = plan.namespaces.user();
        let rootfs = self.root(&record, user).map_err(plain)?;
        // It is needed as long as the container runs.
        let user = user.map(|user| user.try_clone_to_owned()).transpose();
        let user =
            user.map_err(|error| plain(Error::internal("a descriptor cannot be copied", error)))?;
        let streams = Streams {
            terminal: record.config.tty,
            stdin: record.config.open_stdin,
            stdout: true,
            stderr: true,
        };
        let (mut ends, stdio) = Ends::pipes(streams).map_err(plain)?;
        let fds = ContainerFds {
            stdio,
            rootfs,
            mounts: plan.mounts,
            namespaces: plan.namespaces.fds,
        };
        let _starting = self.exits().starting();
        let prepared = self
            .launcher()
            .prepare(&plan.spec, fds)
            .map_err(start_error)?;
        let keeper = self.keeper(container);
        let begun = |pid: i32| {
            if let Some(user) = &user {
                keeper.put("user", user)?;
            }
            // On a thread that may block.
            let runtime = tokio::runtime::Handle::current();
            let places = runtime.block_on(self.plug_all(container, pid))?;
            let ports = runtime.block_on(self.publish(container, &record))?;
            runtime.block_on(self.hear_of_listeners(container, &record))?;
            container.change(|state| begin(state, pid, places, ports))?;
            // Whether it is to run after a restart of the machine is what its user said.
            let sync = if intent_changes {
                Sync::Durable
            } else {
                Sync::Lazy
            };
            self.save_state_blocking(container, sync)
        };
        match launch::start(prepared, &mut ends, &keeper, self.exits(), begun) {
            Ok(Ok(started)) => Ok(Begun {
                started,
                ends,
                user,
            }),
            Ok(Err(error)) => Err(start_error(error)),
            Err(error) => {
                // The process ends at its gate; its group stays.
                self.clear_left_group(container);
                Err(plain(error))
            }
        }
    }

    /// Opens the log for the run; `None` if the driver keeps none.
    pub(super) fn open_log(
        &self,
        container: &Arc<Container>,
        record: &Record,
    ) -> Result<Option<LogSink>> {
        let words = super::create::command(&record.config)?;
        let identity = Identity {
            id: &record.id,
            name: &record.name,
            image: &record.config.image,
            image_id: &record.image_id,
            command: &words,
            labels: &record.config.labels,
            env: record.config.env.as_deref().unwrap_or_default(),
        };
        let options = LogOptions::new(&record.host_config.log_config, &identity)?;
        let Some(options) = options else {
            return Ok(None);
        };
        let open = || -> std::io::Result<LogSink> {
            let run_dir = self.container_run_dir(container.id());
            std::fs::create_dir_all(&run_dir)?;
            let mut log = lock(&container.log);
            let Log { file, buffer } = match &*log {
                Some(log) => log.clone(),
                None => {
                    let file = LogFile::open(&self.log_path(record), options.shape)?;
                    let file = Arc::new(file);
                    let waiting = |limit| Buffer::new(Arc::clone(&file), limit);
                    let buffer = options.buffer.map(waiting);
                    log.insert(Log { file, buffer }).clone()
                }
            };
            let batches = BatchFile::open(&run_dir.join("batch"))?;
            Ok(LogSink {
                file,
                batches,
                buffer,
                attrs: options.attrs.as_str().into(),
                failing: AtomicBool::new(false),
            })
        };
        open()
            .map(Some)
            .map_err(|error| Error::internal("the log cannot be opened", error))
    }

    /// Where a container's log is.
    pub fn log_path(&self, record: &Record) -> std::path::PathBuf {
        let kind = match record.host_config.log_config.kind.as_str() {
            "local" => "local",
            _ => "json",
        };
        let name = format!("{}-{kind}.log", record.id);
        self.container_dir(&record.id).join(name)
    }

    /// The store, seen from a container.
    pub(crate) fn keeper(&self, container: &Container) -> Keeper {
        Keeper::new(
            Arc::clone(self.supervisor()),
            format!("c/{}/", container.id()),
        )
    }
}

struct Plan {
    spec: ContainerSpec,
    mounts: Vec<OwnedFd>,
    namespaces: namespaces::Plan,
}

/// A container's process past its gate.
struct Begun {
    started: Started,
    ends: Ends,
    user: Option<OwnedFd>,
}

/// Notes a process that is about to pass its gate, unless somebody stopped the container while it
/// was made: nobody but its user takes that back.
fn begin(state: &mut State, pid: i32, places: Places, ports: Vec<PublishedPort>) -> Result<()> {
    let run = &mut state.run;
    if run.manually_stopped {
        return Err(Error::conflict("the container was stopped meanwhile"));
    }
    run.pid = pid;
    run.places = places;
    run.ports = ports;
    run.started = Timestamp::now();
    run.finished = Timestamp::NEVER;
    state.recorded = Some(Status::Running);
    Ok(())
}

/// The exit code where nothing of a container has run: that of its last run, unless that went well.
fn unset_code(container: &Container) -> i32 {
    match container.state().run.exit_code {
        0 => 128,
        code => code,
    }
}

/// The error of a start, and the exit code that goes with it.
#[expect(
    clippy::needless_pass_by_value,
    reason = "used as the argument of map_err"
)]
fn start_error(error: StartError) -> (Error, i32) {
    let code = error.exit_code();
    let kind = match error.kind {
        FailureKind::NotFound
        | FailureKind::NotExecutable
        | FailureKind::MountType
        | FailureKind::Invalid => Kind::InvalidArgument,
        FailureKind::Unsupported => Kind::Unsupported,
        FailureKind::Refused | FailureKind::Kernel => Kind::Internal,
    };
    (Error::new(kind, error.docker_text(Operation::Create)), code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_does_not_undo_a_stop_that_came_meanwhile() {
        let mut state = State::default();
        begin(&mut state, 7, Places::new(), Vec::new()).unwrap();
        assert_eq!(state.row().status, Status::Running);
        let mut state = State::default();
        state.run.manually_stopped = true;
        assert!(begin(&mut state, 7, Places::new(), Vec::new()).is_err());
        assert!(state.run.manually_stopped);
        assert_eq!((state.run.pid, state.recorded), (0, None));
    }
}
