//! The task that owns a container while it has a process: passes its output on, has its health
//! looked after, sees its end, records it, and decides with the policy what comes next.

use std::sync::Arc;
use std::time::Duration;

use lighter_init::Exit;
use lighter_runtime::Cgroup;
use tokio::io::Interest;
use tokio::sync::oneshot;

use super::plugs::Lease;
use super::record::{RunState, Status};
use super::{Container, Live, Outputs, endpoints, health, lock, restart, shm};
use crate::clock::Timestamp;
use crate::db::Sync;
use crate::engine::Engine;
use crate::io::Stdin;
use crate::ports::Taken;

/// How long what is left of a container may take to go.
pub(super) const CLEARING: Duration = Duration::from_secs(30);

/// How long the end of a container waits for a log that it did not wait for; dockerd's.
const LOG_CLOSING: Duration = Duration::from_secs(10);

/// What a run had that only one can have: ports of the host, and addresses.
type Reserved = (Vec<Taken>, Option<Lease>);

impl Engine {
    /// Marks the container as running and starts its task.
    pub(super) fn begin_run(
        self: &Arc<Self>,
        container: &Arc<Container>,
        live: Arc<Live>,
        outputs: Outputs,
        stdin: Option<Arc<Stdin>>,
        exit: oneshot::Receiver<Exit>,
    ) {
        if let Some(log) = &outputs.log {
            log.open();
        }
        container.hub.set_stdin(stdin);
        *lock(&container.live) = Some(Arc::clone(&live));
        container.change(|state| {
            let run = &mut state.run;
            run.status = Status::Running;
            run.pid = live.pid;
            run.exit_code = 0;
            run.error.clear();
            run.oom_killed = false;
            health::begin(&container.record().config, run);
            state.recorded = None;
        });
        self.mount_events(container, "mount", "connect");
        self.spawn_run(container, live, outputs, exit);
    }

    /// The task alone, for a container whose state is known already.
    pub(super) fn spawn_run(
        self: &Arc<Self>,
        container: &Arc<Container>,
        live: Arc<Live>,
        outputs: Outputs,
        exit: oneshot::Receiver<Exit>,
    ) {
        let (engine, container) = (Arc::clone(self), Arc::clone(container));
        tokio::spawn(async move { engine.run(container, live, outputs, exit).await });
    }

    async fn run(
        self: Arc<Self>,
        container: Arc<Container>,
        live: Arc<Live>,
        mut outputs: Outputs,
        mut exit: oneshot::Receiver<Exit>,
    ) {
        let ended = {
            let pump = outputs.run(self.bench());
            tokio::pin!(pump);
            let oom = self.watch_oom(&container, &live);
            tokio::pin!(oom);
            let health = self.watch_health(&container);
            tokio::pin!(health);
            let mut pumping = true;
            let mut watching = true;
            let mut probing = true;
            loop {
                tokio::select! {
                    ended = &mut exit => break ended,
                    () = &mut pump, if pumping => pumping = false,
                    () = &mut oom, if watching => watching = false,
                    () = &mut health, if probing => probing = false,
                }
            }
        };
        let Ok(ended) = ended else {
            // The journal is closed: the engine is going down, and the next one takes this up.
            return;
        };
        let log = outputs.log.as_ref().and_then(|log| log.buffer.clone());
        let reserved = {
            let _wires = container.wires.lock().await;
            let ports = self.unpublish(&container).await;
            *lock(&container.name_server) = None;
            self.unplug_all(&container).await;
            (ports, self.end_run(&container, &live, outputs, &ended))
        };
        if let Some(log) = log {
            // Who asks for the log once the container has ended is to find all of it. A disk that
            // stands still gets it later.
            let written = tokio::time::timeout(LOG_CLOSING, log.written()).await;
            if written.is_err() {
                tracing::warn!(container = container.id(), "a log is still being written");
            }
        }
        self.after_run(&container, &live, &ended, reserved).await;
    }

    /// Passes on what is left of the output and notes the end. Nothing that a successor would
    /// need is let go of yet: it may have to do the same again. Returns the addresses it had.
    fn end_run(
        self: &Arc<Self>,
        container: &Arc<Container>,
        live: &Arc<Live>,
        mut outputs: Outputs,
        ended: &Exit,
    ) -> Option<Lease> {
        // Processes that outlived the first one (with the machine's PID namespace) go with it,
        // and so do execs.
        if let Err(error) = live.cgroup.kill() {
            tracing::warn!(%error, "what is left in a container cannot be killed");
        }
        outputs.drain(self.bench());
        let killed_for_memory = live.cgroup.oom_kills().is_some_and(|kills| kills > 0);
        if killed_for_memory && !container.state().run.oom_killed {
            container.change(|state| state.run.oom_killed = true);
            self.container_event(container, "oom", &[]);
        }
        *lock(&container.live) = None;
        *lock(&container.volumes) = None;
        let addresses = lock(&container.lease).take();
        if let Some(log) = &outputs.log {
            log.close();
        }
        self.mount_events(container, "unmount", "disconnect");
        container.change(|state| {
            let run = &mut state.run;
            run.pid = 0;
            run.exit_code = ended.code();
            run.finished = Timestamp::from_unix_ns(ended.at_unix_ns);
            endpoints::leave(run);
            health::end(run);
        });
        addresses
    }

    /// What comes next: another run, removal, or nothing.
    async fn after_run(
        self: &Arc<Self>,
        container: &Arc<Container>,
        live: &Live,
        ended: &Exit,
        reserved: Reserved,
    ) {
        let record = container.record();
        let run = container.state().run;
        let pause = (!self.is_stopping())
            .then(|| restart::decide(&record.host_config.restart_policy, &run))
            .flatten();
        let status = if pause.is_some() {
            Status::Restarting
        } else {
            Status::Exited
        };
        let again = self.finish(container, live, status, ended, reserved).await;
        let Some(pause) = pause else {
            if record.host_config.auto_remove && !self.is_stopping() && !again {
                let _op = container.op.lock().await;
                if container.status() == Status::Exited
                    && let Err(error) = self.remove_locked(container, true).await
                {
                    tracing::error!(error = error.text(), "a container cannot be removed");
                }
            }
            return;
        };
        // A box ends the cycle of types: start spawns a run, and a run starts again.
        let again: crate::config::BoxFuture<'_, ()> =
            Box::pin(self.restart_after(container, pause));
        again.await;
    }

    /// Records the end and then lets go of the run; whether a restart by its user follows.
    async fn finish(
        &self,
        container: &Arc<Container>,
        live: &Live,
        status: Status,
        ended: &Exit,
        reserved: Reserved,
    ) -> bool {
        container.change(|state| {
            state.recorded = Some(status);
            if status == Status::Restarting {
                restart::count(&mut state.run);
            }
        });
        if let Err(error) = self.save_state(container, Sync::Lazy).await {
            // The journal keeps it for the next engine.
            tracing::error!(
                error = error.text(),
                "the end of a container is not recorded"
            );
        } else {
            self.keeper(container).clear();
            self.exits().forget(ended);
        }
        // Not before: the next engine would find what is another's by then with two containers. Not later: who hears of
        // the end can have it.
        drop(reserved);
        self.clear_group(container, Arc::clone(&live.cgroup));
        // Clients see the end of the output only when the state says so too.
        let again = container.change(|state| {
            state.run.status = status;
            state.recorded = None;
            state.exits += 1;
            state.last_exit = (state.run.exit_code, String::new());
            // Who hears of it and asks is told of an end, and hears of it before whatever waits for the end goes on.
            self.died(container, &state.run);
            state.restarting
        });
        container.hub.end();
        again
    }

    fn died(&self, container: &Container, run: &RunState) {
        let ran = run.finished.since(run.started).as_secs().to_string();
        let code = run.exit_code.to_string();
        let more = [("execDuration", &*ran), ("exitCode", &*code)];
        self.container_event(container, "die", &more);
    }

    /// Removes the group of a run that is over, in the background; a start waits for it.
    pub(super) fn clear_group(&self, container: &Arc<Container>, group: Arc<Cgroup>) {
        let name = container.id().to_owned();
        let run_dir = self.container_run_dir(&name);
        let clearing = tokio::task::spawn_blocking(move || {
            shm::release(&run_dir);
            if let Err(error) = group.remove(CLEARING) {
                tracing::warn!(%error, container = name, "a cgroup cannot be removed");
            }
        });
        *lock(&container.clearing) = Some(clearing);
    }

    /// Emits the events of mounts and of the network around a run.
    fn mount_events(&self, container: &Arc<Container>, volume: &str, network: &str) {
        self.volume_events(container, volume);
        self.network_events(container, network);
    }

    /// Says of each volume of a container that it is mounted for it, or no more.
    pub(crate) fn volume_events(&self, container: &Container, volume: &str) {
        let record = container.record();
        for mount in &record.mounts {
            let Some(name) = mount.volume() else { continue };
            let writable = (!mount.read_only).to_string();
            let mut more = vec![("container", record.id.as_str())];
            if volume == "mount" {
                more.push(("destination", &mount.destination));
                more.push(("propagation", &mount.propagation));
                more.push(("read/write", &writable));
            }
            self.volume_event(volume, name, &more);
        }
    }

    fn network_events(&self, container: &Container, network: &str) {
        for place in container.state().run.places.values() {
            if let Ok(place) = self.network_find(&place.network_id) {
                self.network_event(network, &place, &[("container", container.id())]);
            }
        }
    }

    /// Tells of kills for want of memory as they happen.
    async fn watch_oom(&self, container: &Arc<Container>, live: &Live) {
        let Ok(Some(watch)) = live.cgroup.watch_oom() else {
            return;
        };
        let Ok(fd) = crate::io::watch(watch, Interest::PRIORITY) else {
            return;
        };
        let mut seen = 0;
        loop {
            let Ok(mut guard) = fd.ready(Interest::PRIORITY).await else {
                return;
            };
            guard.clear_ready();
            let Ok(kills) = fd.get_ref().0.kills() else {
                return;
            };
            if kills > seen {
                seen = kills;
                container.change(|state| state.run.oom_killed = true);
                self.container_event(container, "oom", &[]);
            }
        }
    }
}
