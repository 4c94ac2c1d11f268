//! Taking up what an earlier engine left, in this run of the machine or the one before.
//!
//! A container that is running in the database and has a process descriptor in the store goes on
//! where it was: its output waits in its pipes, its end (if it came meanwhile) in the journal. One
//! without a descriptor ended with the machine.

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use super::launch::{Ends, Outputs};
use super::record::{Record, RunState, Status};
use super::remove::remove_tree;
use super::{Container, Live, restart};
use crate::clock::Timestamp;
use crate::db::Sync;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::keeper::{Kept, Left};

/// The exit code of a container whose end nobody saw; dockerd's too.
const UNSEEN: i32 = 255;

impl Engine {
    /// Takes up every container. `same_boot` says whether the machine has been up since the last
    /// engine.
    pub(crate) async fn take_up(
        self: &Arc<Self>,
        records: Vec<(Record, RunState)>,
        mut left: Left,
        same_boot: bool,
    ) -> Result<()> {
        let mut known = HashSet::new();
        let mut again = Vec::new();
        for (record, run) in records {
            known.insert(record.id.clone());
            self.containers().reserve(&record.name, &record.id)?;
            let kept = left.containers.remove(&record.id);
            let container = Container::new(record, run);
            self.containers().add(Arc::clone(&container));
            if self.take_up_one(&container, kept, same_boot).await? {
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
        self.sweep(&known);
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
        });
        Ok(())
    }

    /// True if the container is to be started.
    async fn take_up_one(
        self: &Arc<Self>,
        container: &Arc<Container>,
        kept: Option<Kept>,
        same_boot: bool,
    ) -> Result<bool> {
        let record = container.record();
        let run = container.state().run;
        if run.status.is_running() {
            if let Some(mut kept) = kept
                && let Some(pidfd) = kept.remove("pidfd")
                && self.go_on(container, pidfd, kept)?
            {
                return Ok(false);
            }
            self.keeper(container).clear();
            container.change(|state| {
                state.run.status = Status::Exited;
                state.run.exit_code = UNSEEN;
                state.run.pid = 0;
                state.run.health = None;
                state.run.finished = Timestamp::now();
            });
            self.save_state(container, Sync::Lazy).await?;
        } else if kept.is_some() {
            self.keeper(container).clear();
        }
        let was_restarting = run.status == Status::Restarting;
        if was_restarting {
            container.change(|state| state.run.status = Status::Exited);
        }
        let run = container.state().run;
        let policy = &record.host_config.restart_policy;
        if record.host_config.auto_remove && !(same_boot && run.started.is_never()) {
            let _op = container.op.lock().await;
            self.remove_locked(container, true).await?;
            return Ok(false);
        }
        Ok(if same_boot {
            was_restarting
        } else {
            restart::wanted_at_boot(policy, &run)
        })
    }

    /// Goes on with a container that has a process, or had one when the last engine ended.
    fn go_on(
        self: &Arc<Self>,
        container: &Arc<Container>,
        pidfd: OwnedFd,
        mut kept: Kept,
    ) -> Result<bool> {
        let record = container.record();
        let parent = record.host_config.cgroup_parent.trim_matches('/');
        let parent = (!parent.is_empty()).then_some(parent);
        let Some(cgroup) = self.launcher().cgroups().get(parent, container.id()) else {
            return Ok(false);
        };
        // The container's layers must not be unmounted while it lives.
        for layer in &record.layers {
            self.hold_layer(layer)?;
        }
        let pid = container.state().run.pid;
        let exit = self.exits().wait(pid);
        let mut ends = Ends::left(&mut kept);
        let log = self.open_log(container, &record)?;
        if let Some(log) = &log {
            log.file.set_open(true);
        }
        let keeper = self.keeper(container);
        let (mut outputs, stdin) =
            Outputs::new(&mut ends, log, Arc::clone(&container.hub), keeper)?;
        outputs
            .recover(&mut kept, &mut super::lock(self.bench()))
            .map_err(|error| Error::internal("output of a container cannot be taken up", error))?;
        let frozen = cgroup.is_frozen();
        let live = Arc::new(Live {
            pid,
            pidfd,
            cgroup,
            pty: ends.pty,
        });
        container.hub.set_stdin(stdin);
        *super::lock(&container.live) = Some(Arc::clone(&live));
        container.change(|state| {
            state.run.status = if frozen {
                Status::Paused
            } else {
                Status::Running
            };
        });
        self.spawn_run(container, live, outputs, exit);
        Ok(true)
    }

    /// Removes directories that belong to no container.
    fn sweep(&self, known: &HashSet<String>) {
        let root = self.config().data_root.clone();
        for (dir, keep) in [("containers", ""), ("overlay2", "empty")] {
            for name in names(&root.join(dir)) {
                if name != keep && !known.contains(&name) {
                    self.discard(&root.join(dir).join(name));
                }
            }
        }
        for name in names(&self.config().run_dir.join("containers")) {
            if !known.contains(&name) {
                remove_tree(&self.config().run_dir.join("containers").join(name));
            }
        }
        let trash = root.join("trash");
        let old: Vec<_> = names(&trash)
            .into_iter()
            .map(|name| trash.join(name))
            .collect();
        tokio::task::spawn_blocking(move || old.iter().for_each(|path| remove_tree(path)));
    }
}

fn names(dir: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}
