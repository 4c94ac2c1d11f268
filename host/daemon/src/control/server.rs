//! The answering end.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use lighter_platform::HostPaths;
use lighter_platform::sys::{LocalListener, LocalStream};
use lighter_platform::text::clipped;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::sync::mpsc;

use super::{Event, MOST_LINE, MachineStatus, Request, Status};
use crate::settings::Settings;
use crate::vm::boot::no_room;
use crate::vm::{Failure, Guest, Phase, chain};
use crate::{Asker, Daemon, End};

/// Most characters of a name that the guest gives.
const MOST_NAME: usize = 100;

/// A machine answers at once or hangs.
const STATUS_PATIENCE: Duration = Duration::from_secs(1);

/// Accepts clients for as long as the daemon lives; a wish for its end goes into `end`.
pub(crate) async fn serve(listener: &LocalListener, daemon: &Arc<Daemon>, end: &mpsc::Sender<End>) {
    loop {
        match listener.accept().await {
            Ok(stream) => {
                let (daemon, end) = (Arc::clone(daemon), end.clone());
                tokio::spawn(async move {
                    if let Err(error) = converse(stream, &daemon, &end).await {
                        tracing::debug!(%error, "a control client went away");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a control client");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn converse(
    mut stream: LocalStream,
    daemon: &Arc<Daemon>,
    end: &mpsc::Sender<End>,
) -> io::Result<()> {
    let ending = *daemon.ending.borrow();
    let first = match ending {
        true => Event::Ending,
        false => Event::Hello {
            version: env!("CARGO_PKG_VERSION").to_owned(),
        },
    };
    send(&mut stream, &first).await?;
    let mut stream = BufReader::new(stream);
    let mut line = Vec::new();
    (&mut stream)
        .take(MOST_LINE as u64)
        .read_until(b'\n', &mut line)
        .await?;
    let mut stream = stream.into_inner();
    let request: Request = match serde_json::from_slice(&line) {
        Ok(request) => request,
        Err(error) => {
            let text = format!("the daemon does not understand this request: {error}");
            return send(&mut stream, &Event::Failed(Failure::plain(text))).await;
        }
    };
    match request {
        Request::Ping | Request::Up { .. } | Request::Reload | Request::Leave if ending => {
            until_ended(daemon).await
        }
        Request::Ping => send(&mut stream, &Event::Done).await,
        Request::Up { folder } => up(&mut stream, daemon, folder).await,
        Request::Down { force } => {
            let _asker = Asker::of(&daemon.unanswered);
            let processes = processes(daemon).await;
            send(&mut stream, &Event::Leaving { processes }).await?;
            let wish = if force { End::Force } else { End::Down };
            leave(&mut stream, daemon, end, wish).await
        }
        Request::Leave => {
            let _asker = Asker::of(&daemon.unanswered);
            // A machine that is only half there could not be taken over.
            if matches!(*daemon.vm.watch().borrow(), Phase::Booting(_)) {
                let _ = daemon.vm.ready().await;
            }
            leave(&mut stream, daemon, end, End::Leave).await
        }
        Request::Status => {
            let status = status(daemon).await;
            send(&mut stream, &Event::Status(Box::new(status))).await
        }
        Request::Reload => match Settings::load(&daemon.paths.config_file()) {
            Ok(settings) => {
                daemon.allowed.set_named(&settings.shares);
                daemon.dials.set_proxies(&settings.proxies);
                let event = match protect_again(daemon).await {
                    Ok(()) => Event::Done,
                    Err(failure) => Event::Failed(failure),
                };
                send(&mut stream, &event).await
            }
            Err(error) => {
                send(
                    &mut stream,
                    &Event::Failed(Failure::of(&error, Some(error.hint()))),
                )
                .await
            }
        },
    }
}

/// Tells the process of shared folders what is for reading only now. One that cannot be told is told
/// again before anything is shared, but what is shared may be written until then.
async fn protect_again(daemon: &Arc<Daemon>) -> Result<(), Failure> {
    let phase = daemon.vm.watch().borrow().clone();
    let Phase::Ready(Guest {
        folders: Some(folders),
        ..
    }) = phase
    else {
        return Ok(());
    };
    let allowed = Arc::clone(&daemon.allowed);
    let told = tokio::task::spawn_blocking(move || folders.protect(&allowed)).await;
    let failed = |error: &dyn std::error::Error| {
        let text = format!(
            "the setting is kept, and what is shared for reading only could not be told: {}",
            chain(error)
        );
        tracing::warn!(text, "settings are not in force");
        let hint = "`lighter config set` once more, or `lighter down && lighter up`";
        Failure {
            hint: Some(hint.to_owned()),
            ..Failure::plain(text)
        }
    };
    told.map_err(|error| failed(&error))?
        .map_err(|error| failed(&error))
}

/// Hands the wish on and answers when it is fulfilled.
async fn leave(
    stream: &mut LocalStream,
    daemon: &Arc<Daemon>,
    end: &mpsc::Sender<End>,
    wish: End,
) -> io::Result<()> {
    if end.send(wish).await.is_err() {
        tracing::debug!("already ending");
    }
    until_ended(daemon).await?;
    send(stream, &Event::Done).await
}

async fn until_ended(daemon: &Arc<Daemon>) -> io::Result<()> {
    let mut ended = daemon.ended.clone();
    ended
        .wait_for(|ended| *ended)
        .await
        .map(drop)
        .map_err(io::Error::other)
}

/// What the end of this Lighter is the end of.
async fn processes(daemon: &Arc<Daemon>) -> Vec<u32> {
    let mut processes = vec![std::process::id()];
    let phase = daemon.vm.watch().borrow().clone();
    if let Phase::Ready(guest) = phase {
        processes.extend(guest.folders.as_ref().and_then(|folders| folders.pid()));
        match tokio::time::timeout(STATUS_PATIENCE, guest.machine.status()).await {
            Ok(Ok(status)) => processes.extend([Some(status.pid), status.vm_pid].iter().flatten()),
            Ok(Err(_)) | Err(_) => tracing::debug!("the machine does not say who it is"),
        }
    }
    processes
}

async fn send(stream: &mut LocalStream, event: &Event) -> io::Result<()> {
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    stream.write_all(&line).await
}

async fn up(
    stream: &mut LocalStream,
    daemon: &Arc<Daemon>,
    folder: Option<std::path::PathBuf>,
) -> io::Result<()> {
    if let Some(folder) = folder.filter(|folder| folder.is_absolute()) {
        daemon.allowed.add_typed(&folder);
    }
    let mut phase = daemon.vm.watch();
    let ready = daemon.vm.answering();
    tokio::pin!(ready);
    let outcome = loop {
        tokio::select! {
            outcome = &mut ready => break outcome,
            changed = phase.changed() => {
                if changed.is_err() {
                    break Err(Failure::plain("the daemon is ending"));
                }
                let step = match &*phase.borrow_and_update() {
                    Phase::Booting(step) => Some((*step).to_owned()),
                    Phase::Stopping => Some("waiting for the last machine to stop".to_owned()),
                    _ => None,
                };
                if let Some(step) = step {
                    send(stream, &Event::Progress { step }).await?;
                }
            }
        }
    };
    let last = match outcome {
        Ok(_) => Event::Done,
        Err(failure) => Event::Failed(failure),
    };
    send(stream, &last).await
}

async fn status(daemon: &Arc<Daemon>) -> Status {
    let phase = daemon.vm.watch().borrow().clone();
    let plain = |state: &str, detail: Option<String>| MachineStatus {
        state: state.to_owned(),
        detail,
        ..MachineStatus::default()
    };
    let machine = match phase {
        Phase::Off => plain("off", None),
        Phase::Booting(step) => plain("booting", Some(step.to_owned())),
        Phase::Stopping => plain("stopping", None),
        Phase::Failed(failure) => plain("failed", Some(failure.full_text())),
        Phase::Ready(guest) => ready_status(&guest, &daemon.paths).await,
    };
    let dials = daemon.dials.snapshot();
    let (ports_published, ports) = daemon.ports.snapshot();
    let shares = daemon.allowed.entries().into_iter().map(|entry| {
        let mode = if entry.read_only { " (read-only)" } else { "" };
        format!("{}{mode}", entry.path.display())
    });
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        docker_socket: daemon.paths.docker_socket(),
        machine,
        dials_open: u32::try_from(dials.open.len()).unwrap_or(u32::MAX),
        dials_total: dials.total,
        dials: dials.open,
        proxies: daemon.dials.proxies().shown(),
        shares: shares.collect(),
        ports_published,
        ports,
        ports_refused: daemon.ports.refused(),
    }
}

async fn ready_status(guest: &Guest, paths: &HostPaths) -> MachineStatus {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let (host, inside) = tokio::join!(guest.machine.status(), guest.link.status());
    let host = host.ok();
    let inside = inside.unwrap_or_default();
    let known = |value: u64| Some(value).filter(|value| *value != 0);
    let waits = host.as_ref().is_some_and(|host| host.disk_full);
    MachineStatus {
        state: if waits { "waiting" } else { "ready" }.to_owned(),
        detail: waits.then(|| no_room(paths).full_text()),
        backend: host
            .as_ref()
            .map(|h| format!("{} {}", h.backend, h.backend_version)),
        accelerator: host
            .as_ref()
            .map(|h| format!("{:?}", h.accelerator).to_lowercase()),
        pid: host.as_ref().and_then(|h| h.vm_pid.or(Some(h.pid))),
        boot_ms: guest.boot_time.map(millis),
        uptime_ms: Some(millis(guest.since.elapsed())),
        kernel: Some(clipped(&guest.welcome.kernel, MOST_NAME)),
        agent: Some(clipped(&guest.welcome.agent_version, MOST_NAME)),
        streams: host.as_ref().map(|h| h.streams),
        memory_total: known(inside.memory_total_bytes),
        memory_used: known(
            inside
                .memory_total_bytes
                .saturating_sub(inside.memory_available_bytes),
        ),
        disk_total: known(inside.disk_total_bytes),
        disk_used: known(
            inside
                .disk_total_bytes
                .saturating_sub(inside.disk_free_bytes),
        ),
    }
}
