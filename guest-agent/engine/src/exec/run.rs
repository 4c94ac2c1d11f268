//! Start and end of an exec.

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;

use lighter_init::Exit;
use lighter_runtime::{
    ExecSpec, ExecTarget, FailureKind, Operation, ProcessSpec, StartError, Stdio, TerminalSize,
};
use tokio::sync::oneshot;

use super::{Exec, ExecConfig, ExecStreams, Note};
use crate::clock::Timestamp;
use crate::containers::{Ends, Live, Outputs, Started, Streams, launch, lock, spec, validate};
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};
use crate::exits;
use crate::ids;
use crate::keeper::{Keeper, Kept};

impl Engine {
    /// Registers the client of an exec that is about to be started.
    pub fn exec_attach(&self, id: &str) -> Result<ExecStreams> {
        let exec = self.execs().find(id)?;
        check_startable(&exec)?;
        self.running(&exec.container)?;
        let config = &exec.config;
        let stdout = config.attach_stdout || config.tty;
        Ok(ExecStreams {
            tty: config.tty,
            output: exec.hub.attach(stdout, config.attach_stderr),
            stdin: config.attach_stdin.then(|| exec.hub.stdin()),
            exec,
        })
    }

    /// Starts an exec. A failure is in its exit code too.
    pub async fn exec_start(self: &Arc<Self>, id: &str, size: Option<(u32, u32)>) -> Result<()> {
        self.require_open()?;
        let exec = self.execs().find(id)?;
        check_startable(&exec)?;
        let live = self.running(&exec.container)?;
        let process = self.exec_process(&exec, size)?;
        // Whoever is first starts it.
        let first = exec.state.send_if_modified(|state| {
            let first = !state.started;
            (state.started, state.running) = (true, first || state.running);
            first
        });
        if !first {
            return check_startable(&exec);
        }
        let task = {
            let (engine, exec) = (Arc::clone(self), Arc::clone(&exec));
            tokio::task::spawn_blocking(move || engine.exec_blocking(&exec, &live, process))
        };
        let started = task
            .await
            .map_err(|error| (Error::internal("the exec was cut short", error), 126))
            .and_then(|started| started)
            .and_then(|(started, ends)| {
                self.begin_exec(&exec, started, ends)
                    .map_err(|error| (error, 126))
            });
        if let Err((error, code)) = started {
            exec.state.send_modify(|state| {
                (state.running, state.exit_code) = (false, Some(code));
            });
            exec.hub.end();
            return Err(error);
        }
        self.exec_event(&exec, &format!("exec_start: {}", exec.words()), &[]);
        Ok(())
    }

    fn exec_blocking(
        self: &Arc<Self>,
        exec: &Arc<Exec>,
        live: &Live,
        process: ProcessSpec,
    ) -> Result<(Started, Ends), (Error, i32)> {
        let plain = |error: Error| (error, 126);
        let config = &exec.config;
        let streams = Streams {
            terminal: config.tty,
            stdin: config.attach_stdin,
            stdout: config.attach_stdout,
            stderr: config.attach_stderr,
        };
        let (mut ends, stdio) = Ends::pipes(streams).map_err(plain)?;
        let _starting = self.exits().starting();
        let target = ExecTarget {
            pidfd: live.pidfd.as_fd(),
            cgroup: &live.cgroup,
            user: live.user.as_ref().map(AsFd::as_fd),
        };
        let spec = ExecSpec { process };
        let prepared = self
            .launcher()
            .exec(target, &spec, stdio)
            .map_err(start_error)?;
        let keeper = self.exec_keeper(&exec.id);
        let note = |pid: i32| self.write_note(exec, pid);
        match launch::start(prepared, &mut ends, &keeper, self.exits(), note) {
            Ok(Ok(started)) => Ok((started, ends)),
            Ok(Err(error)) => {
                self.remove_note(&exec.id);
                Err(start_error(error))
            }
            Err(error) => {
                self.remove_note(&exec.id);
                Err(plain(error))
            }
        }
    }

    fn begin_exec(
        self: &Arc<Self>,
        exec: &Arc<Exec>,
        started: Started,
        mut ends: Ends,
    ) -> Result<()> {
        let keeper = self.exec_keeper(&exec.id);
        let streams = Outputs::new(&mut ends, None, Arc::clone(&exec.hub), keeper);
        let (outputs, stdin) = match streams {
            Ok(streams) => streams,
            Err(error) => {
                launch::abandon(started, &self.exec_keeper(&exec.id), self.exits());
                self.remove_note(&exec.id);
                return Err(error);
            }
        };
        exec.hub.set_stdin(stdin);
        *lock(&exec.pty) = ends.pty;
        *lock(&exec.process) = Some(started.pidfd);
        exec.state.send_modify(|state| state.pid = started.pid);
        self.spawn_exec(exec, outputs, started.exit);
        Ok(())
    }

    fn spawn_exec(
        self: &Arc<Self>,
        exec: &Arc<Exec>,
        mut outputs: Outputs,
        mut exit: oneshot::Receiver<Exit>,
    ) {
        let (engine, exec) = (Arc::clone(self), Arc::clone(exec));
        tokio::spawn(async move {
            let ended = {
                let pump = outputs.run(engine.bench());
                tokio::pin!(pump);
                let mut pumping = true;
                loop {
                    tokio::select! {
                        ended = &mut exit => break ended,
                        () = &mut pump, if pumping => pumping = false,
                    }
                }
            };
            // Without a journal the engine is going down; the next one takes this up.
            let Ok(ended) = ended else { return };
            outputs.drain(engine.bench());
            engine.exec_keeper(&exec.id).clear();
            engine.remove_note(&exec.id);
            engine.exits().forget(&ended);
            (*lock(&exec.pty), *lock(&exec.process)) = (None, None);
            // Clients ask for the code as soon as the stream ends.
            exec.state.send_modify(|state| {
                // The id of the process stays, as in dockerd.
                state.running = false;
                state.exit_code = Some(ended.code());
            });
            exec.hub.end();
            let code = ended.code().to_string();
            engine.exec_event(&exec, "exec_die", &[("exitCode", &code)]);
        });
    }

    /// Looks the user of an exec up before there is one, as dockerd does. Only a process in the
    /// container reads the container's files: one goes in, as far as its gate.
    pub(super) async fn check_exec_user(self: &Arc<Self>, exec: &Arc<Exec>) -> Result<()> {
        let user = &exec.config.user;
        let number = |part: &str| part.parse::<u32>().is_ok_and(|id| id <= i32::MAX as u32);
        if user.is_empty() || user.split(':').all(number) {
            return Ok(());
        }
        let live = self.running(&exec.container)?;
        let mut process = self.exec_process(exec, None)?;
        (process.cwd, process.terminal) = ("/".into(), None);
        let engine = Arc::clone(self);
        let entering = tokio::task::spawn_blocking(move || {
            let _starting = engine.exits().starting();
            let target = ExecTarget {
                pidfd: live.pidfd.as_fd(),
                cgroup: &live.cgroup,
                user: live.user.as_ref().map(AsFd::as_fd),
            };
            let spec = ExecSpec { process };
            let prepared = engine.launcher().exec(target, &spec, Stdio::default());
            prepared.and_then(|mut prepared| prepared.wait_ready())
        });
        let entered = entering
            .await
            .map_err(|error| Error::internal("the exec was cut short", error))?;
        match entered {
            // What else is in the way is said by the start.
            Err(error) if error.kind == FailureKind::Invalid => Err(start_error(error).0),
            _ => Ok(()),
        }
    }

    fn exec_process(&self, exec: &Exec, size: Option<(u32, u32)>) -> Result<ProcessSpec> {
        let record = exec.container.record();
        let config: &ExecConfig = &exec.config;
        let words = config.cmd.as_ref().map_or(&[][..], |cmd| cmd.0.as_slice());
        let mut process = ProcessSpec::new(words.iter().cloned());
        let own = config.env.as_deref().unwrap_or_default();
        let linked = self.linked_variables(&record)?;
        let base = spec::environment(&record, config.tty, &linked);
        process.env = spec::override_env(&base, own);
        let first = |a: &String, b: &String, c: &str| {
            [a.as_str(), b.as_str(), c]
                .into_iter()
                .find(|text| !text.is_empty())
                .unwrap_or("")
                .to_owned()
        };
        process.cwd = first(&config.working_dir, &record.config.working_dir, "/");
        process.user = first(&config.user, &record.config.user, "");
        process.group_add = record.host_config.group_add.clone().unwrap_or_default();
        process.terminal = config.tty.then(|| {
            let (rows, cols) = size.or(config.console_size).unwrap_or_default();
            let small = |size: u32| u16::try_from(size).unwrap_or(0);
            TerminalSize {
                rows: small(rows),
                cols: small(cols),
            }
        });
        let privileged = config.privileged || record.host_config.privileged;
        process.capabilities = spec::capabilities(&record.host_config, privileged)?;
        // `exec --privileged` gives capabilities, not another filter.
        let own = spec::capabilities(&record.host_config, record.host_config.privileged)?;
        process.seccomp_for = Some(own.bounding);
        let security = validate::security_options(&record.host_config)?;
        process.seccomp = security.seccomp;
        process.no_new_privileges = security.no_new_privileges;
        process.rlimits = spec::rlimits(&record.host_config)?;
        process.oom_score_adj = record.host_config.oom_score_adj;
        Ok(process)
    }

    /// Takes up the execs an earlier engine left: their clients are gone, their ends are not.
    pub(crate) fn take_up_execs(self: &Arc<Self>, left: std::collections::BTreeMap<String, Kept>) {
        for (id, mut kept) in left {
            if let Err(error) = self.take_up_exec(&id, &mut kept) {
                tracing::warn!(
                    error = error.text(),
                    exec = ids::short(&id),
                    "an exec is let go"
                );
                self.exec_keeper(&id).clear();
                self.remove_note(&id);
            }
        }
    }

    fn take_up_exec(self: &Arc<Self>, id: &str, kept: &mut Kept) -> Result<()> {
        let text = std::fs::read(self.note_path(id))
            .map_err(|error| Error::internal("it was not recorded", error))?;
        let note: Note = serde_json::from_slice(&text)
            .map_err(|error| Error::internal("its record cannot be read", error))?;
        let container = self.containers().find(&note.container)?;
        self.running(&container)?;
        let exec = Exec::new(id.to_owned(), Arc::clone(&container), note.config);
        let pidfd = kept.remove("pidfd");
        let own = exits::own(pidfd.as_ref().map(AsFd::as_fd), note.started);
        let mut ends = Ends::left(kept);
        let keeper = self.exec_keeper(id);
        let (outputs, stdin) = Outputs::new(&mut ends, None, Arc::clone(&exec.hub), keeper)?;
        exec.hub.set_stdin(stdin);
        *lock(&exec.pty) = ends.pty;
        *lock(&exec.process) = pidfd;
        exec.state.send_modify(|state| {
            (state.started, state.running, state.pid) = (true, true, note.pid);
        });
        self.execs().lock().insert(id.to_owned(), Arc::clone(&exec));
        lock(&container.execs).push(id.to_owned());
        let exit = self.exits().wait_for(note.pid, own);
        self.spawn_exec(&exec, outputs, exit);
        Ok(())
    }

    fn exec_keeper(&self, id: &str) -> Keeper {
        Keeper::new(Arc::clone(self.supervisor()), format!("x/{id}/"))
    }

    fn note_path(&self, id: &str) -> PathBuf {
        self.config().run_dir.join("execs").join(id)
    }

    fn write_note(&self, exec: &Exec, pid: i32) -> Result<()> {
        let path = self.note_path(&exec.id);
        let note = Note {
            container: exec.container.id().to_owned(),
            config: exec.config.clone(),
            pid,
            started: Timestamp::now(),
        };
        let write = || -> std::io::Result<()> {
            if let Some(dir) = path.parent() {
                std::fs::create_dir_all(dir)?;
            }
            std::fs::write(&path, serde_json::to_vec(&note)?)
        };
        write().map_err(|error| Error::internal("the exec cannot be recorded", error))
    }

    fn remove_note(&self, id: &str) {
        match std::fs::remove_file(self.note_path(id)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(%error, "the record of an exec is left behind");
            }
            _ => {}
        }
    }

    /// Ends the input of an exec whose client has closed it.
    pub fn close_exec_stdin(&self, exec: &Exec) {
        exec.hub.set_stdin(None);
        self.exec_keeper(&exec.id).remove("stdin");
    }
}

fn check_startable(exec: &Exec) -> Result<()> {
    let state = exec.state();
    if state.running {
        return Err(Error::conflict(format!(
            "exec command {} is already running",
            exec.id
        )));
    }
    if state.started {
        return Err(Error::conflict(format!(
            "exec command {} has already run",
            exec.id
        )));
    }
    Ok(())
}

/// The error of an exec, and the exit code that goes with it.
#[expect(
    clippy::needless_pass_by_value,
    reason = "used as the argument of map_err"
)]
fn start_error(error: StartError) -> (Error, i32) {
    let (kind, code) = match error.kind {
        FailureKind::NotFound | FailureKind::MountType => (Kind::InvalidArgument, 127),
        FailureKind::NotExecutable => (Kind::InvalidArgument, 126),
        FailureKind::Invalid => (Kind::InvalidArgument, 126),
        FailureKind::Unsupported => (Kind::Unsupported, 126),
        FailureKind::Refused | FailureKind::Kernel => (Kind::Internal, 128),
    };
    (Error::new(kind, error.docker_text(Operation::Exec)), code)
}
