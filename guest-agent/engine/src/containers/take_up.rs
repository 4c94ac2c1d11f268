//! Taking up what an earlier engine left, in this run of the machine or the one before.
//!
//! A container that is running in the database and has a process descriptor in the store goes on
//! where it was: its output waits in its pipes, its end (if it came meanwhile) in the journal. One
//! without a descriptor ended with the machine.

use std::collections::HashMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use lighter_init::Exit;
use lighter_runtime::Cgroup;

use super::launch::{Ends, Outputs};
use super::plugs::NAMESPACE;
use super::record::{Record, RunState, Status};
use super::{Container, Live, endpoints, health, restart};
use crate::clock::Timestamp;
use crate::db::Sync;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::exits;
use crate::keeper::{Kept, Left};
use crate::ports;

/// The exit code of a container whose end nobody saw; dockerd's too.
const UNSEEN: i32 = 255;

/// Says, for as long as the machine is up, that what is to run again when it comes up was started.
const STARTED: &str = "started-again";

/// Whether a container that was `before` for the last engine, if there was one, is to be started. `first` says that what
/// is to run again when the machine comes up has not been started yet.
fn wanted(container: &Container, before: Status, first: bool) -> bool {
    let (record, now) = (container.record(), container.state().run);
    let policy = &record.host_config.restart_policy;
    restart::wanted_at_take_up(policy, before, &now)
        || (first && restart::wanted_at_boot(policy, &now))
}

impl Engine {
    /// Takes up every container. `same_boot` says whether the machine has been up since the last
    /// engine.
    pub(crate) async fn take_up(
        self: &Arc<Self>,
        records: Vec<(Record, RunState)>,
        mut left: Left,
        same_boot: bool,
    ) -> Result<()> {
        // What an engine that was killed had not come to is still to be started.
        let started = self.config().run_dir.join(STARTED);
        if !same_boot
            && let Err(error) = std::fs::remove_file(&started)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "what this engine does not come to is not started by the next");
        }
        let first = !same_boot || !started.exists();
        let mut known = HashMap::new();
        let mut again = Vec::new();
        // All before the first is removed: what one has another may use.
        let mut containers = Vec::new();
        for (record, run) in records {
            known.insert(record.id.clone(), record.host_config.auto_remove);
            self.containers().reserve(&record.name, &record.id)?;
            let container = Container::new(record, run);
            self.containers().add(Arc::clone(&container));
            containers.push(container);
        }
        for container in containers {
            let kept = left.containers.remove(container.id());
            let before = container.state().run.status;
            if self.take_up_one(&container, kept, same_boot).await?
                && wanted(&container, before, first)
            {
                again.push(container);
            }
        }
        for stray in left.containers.keys() {
            // Made by an engine that was killed before it recorded them: their processes wait at
            // a gate that is gone, and end.
            self.supervisor()
                .remove_prefix(&format!("c/{stray}/"))
                .map_err(|error| Error::internal("the store cannot be cleared", error))?;
        }
        self.take_up_execs(left.execs);
        self.release_unused_volumes();
        self.sweep(&known);
        self.clear_volumes().await?;
        again.sort_by_key(|container| container.record().created);
        let engine = Arc::clone(self);
        tokio::spawn(async move {
            for container in again {
                if let Err(error) = engine.start_container(&container).await {
                    tracing::warn!(
                        error = error.text(),
                        container = container.name(),
                        "a container cannot be started again"
                    );
                }
            }
            if let Err(error) = std::fs::write(&started, "") {
                // The next engine would start what has ended meanwhile and is to run always.
                tracing::warn!(%error, "that containers were started again is not noted");
            }
            engine.set_settled();
        });
        Ok(())
    }

    /// True if the container is there and does not run.
    async fn take_up_one(
        self: &Arc<Self>,
        container: &Arc<Container>,
        mut kept: Option<Kept>,
        same_boot: bool,
    ) -> Result<bool> {
        let record = container.record();
        let run = container.state().run;
        if run.status.is_running() {
            let namespace = kept.as_mut().and_then(|kept| kept.remove(NAMESPACE));
            self.take_up_places(container, namespace);
            if let Some(mut kept) = kept
                && let Some(pidfd) = kept.remove("pidfd")
                && let published = ports::kept(&mut kept)
                && self.go_on(container, pidfd, kept)
            {
                if let Err(error) = self.go_on_in_networks(container, published).await {
                    // It goes on without.
                    tracing::error!(error = error.text(), "a network is not joined again");
                }
                return Ok(false);
            }
            self.ended_unseen(container, same_boot).await;
        } else if kept.is_some() {
            self.keeper(container).clear();
        }
        if run.status == Status::Restarting {
            container.change(|state| state.run.status = Status::Exited);
        }
        if same_boot {
            self.clear_left_group(container);
        }
        if record.host_config.auto_remove && !(same_boot && run.started.is_never()) {
            let _op = container.op.lock().await;
            // A full disk, say, must not keep the others down.
            if let Err(error) = self.remove_locked(container, true).await {
                tracing::error!(error = error.text(), "a container cannot be removed");
            }
            return Ok(false);
        }
        Ok(true)
    }

    /// Makes whole what a container that goes on has in networks; nothing of one that has ended meanwhile.
    async fn go_on_in_networks(
        &self,
        container: &Arc<Container>,
        published: Option<OwnedFd>,
    ) -> Result<()> {
        let _wires = container.wires.lock().await;
        if container.live().is_none() {
            return Ok(());
        }
        if let Err(error) = self.share_names(container, &container.record()) {
            // It has those that its programs of an engine before this one lead to.
            tracing::error!(
                error = error.text(),
                container = container.name(),
                "no names"
            );
        }
        self.publish_again(container, published).await;
        self.finish_plugging(container).await?;
        self.settle_ports(container).await
    }

    /// Notes the end of a container that is gone with all that was kept of it: with the machine, or
    /// between two steps of an engine that recorded its end.
    async fn ended_unseen(&self, container: &Arc<Container>, same_boot: bool) {
        if same_boot {
            self.unplug_all(container).await;
        }
        *super::lock(&container.lease) = None;
        let run = container.state().run;
        let own = |exit: &Exit| exit.at_unix_ns >= run.started.unix_ns();
        let ended = same_boot
            .then(|| self.exits().unclaimed(run.pid, own))
            .flatten();
        container.change(|state| {
            let run = &mut state.run;
            run.status = Status::Exited;
            run.exit_code = ended.map_or(UNSEEN, |ended| ended.code());
            run.pid = 0;
            endpoints::leave(run);
            health::end(run);
            run.finished = ended.map_or_else(Timestamp::now, |ended| {
                Timestamp::from_unix_ns(ended.at_unix_ns)
            });
            state.last_exit = (run.exit_code, String::new());
        });
        if let Err(error) = self.save_state(container, Sync::Lazy).await {
            tracing::error!(
                error = error.text(),
                "the end of a container is not recorded"
            );
            return;
        }
        self.keeper(container).clear();
        if let Some(ended) = ended {
            self.exits().forget(&ended);
        }
    }

    /// Removes the group of a run that nobody looks after; a start waits for it.
    pub(super) fn clear_left_group(&self, container: &Arc<Container>) {
        if let Some(cgroup) = self.group_of(container) {
            self.clear_group(container, Arc::new(cgroup));
        }
    }

    pub(crate) fn group_of(&self, container: &Container) -> Option<Cgroup> {
        let record = container.record();
        let parent = record.host_config.cgroup_parent.trim_matches('/');
        let parent = (!parent.is_empty()).then_some(parent);
        self.launcher().cgroups().get(parent, container.id())
    }

    /// Goes on with a container that has a process, or had one when the last engine ended.
    fn go_on(self: &Arc<Self>, container: &Arc<Container>, pidfd: OwnedFd, mut kept: Kept) -> bool {
        let record = container.record();
        let Some(cgroup) = self.group_of(container) else {
            return false;
        };
        // The container's layers must not be unmounted while it lives. Trouble with one container
        // must not keep the engine from the others.
        for layer in &record.layers {
            if let Err(error) = self.hold_layer(layer) {
                tracing::error!(error = error.text(), "a layer in use cannot be held");
            }
        }
        match self.take_up_volumes(&record) {
            Ok(used) => *super::lock(&container.volumes) = Some(used),
            Err(error) => tracing::error!(error = error.text(), "a volume in use cannot be held"),
        }
        let run = container.state().run;
        let pid = run.pid;
        let own = exits::own(Some(pidfd.as_fd()), run.started);
        let exit = self.exits().wait_for(pid, own);
        let mut ends = Ends::left(&mut kept);
        let log = self.open_log(container, &record).unwrap_or_else(|error| {
            tracing::error!(error = error.text(), "output of a container is not logged");
            None
        });
        let keeper = || self.keeper(container);
        let hub = Arc::clone(&container.hub);
        let (mut outputs, stdin) = Outputs::new(&mut ends, log, Arc::clone(&hub), keeper())
            .unwrap_or_else(|error| {
                // It can still be stopped, and the store has its pipes for the next engine.
                tracing::error!(error = error.text(), "a container goes on without streams");
                (Outputs::none(hub, keeper()), None)
            });
        if let Some(log) = &outputs.log {
            log.open();
        }
        let recovered = outputs.recover(&mut kept, &mut super::lock(self.bench()));
        if let Err(error) = recovered {
            tracing::error!(%error, "output that was on its way into a log is lost");
        }
        let frozen = cgroup.is_frozen();
        let live = Arc::new(Live {
            pid,
            pidfd,
            cgroup: Arc::new(cgroup),
            user: kept.remove("user"),
            pty: ends.pty,
        });
        container.hub.set_stdin(stdin);
        self.serve_names_again(container, &live, &mut kept);
        *super::lock(&container.live) = Some(Arc::clone(&live));
        container.change(|state| {
            state.run.status = if frozen {
                Status::Paused
            } else {
                Status::Running
            };
        });
        self.spawn_run(container, live, outputs, exit);
        true
    }
}
