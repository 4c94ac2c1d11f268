//! The background service: settings, sockets, the machine's life.
//!
//! ```text
//!   docker.sock ──► docker_socket ──┐
//!                                   ├──► vm (one owner of the machine) ──► lighter-machine
//!   control.sock ─► control ────────┘
//!   guest's own wishes ──► host_port (dial for me, shares) ──► ports (listen for containers)
//! ```
//!
//! Called by: the program's hidden subcommand `daemon`. Calls: `lighter-machine` for the virtual
//! machine, `lighter-platform` for everything of the host.
//!
//! A crash or `kill -9` of this process leaves the machine running; the next daemon takes it over.
//! A wanted end (SIGTERM, `lighter down`) stops the containers within their time and the machine; a
//! second SIGTERM or `lighter down --force` does not wait.
//! The daemon never understands a byte of what passes over `docker.sock`.

pub mod control;
mod docker_socket;
mod folders;
mod host_port;
mod names;
mod network;
pub mod ports;
pub mod routes;
pub mod settings;
mod shares;
mod start;
pub mod vm;

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use lighter_platform::HostPaths;
use lighter_platform::sys;
use lighter_protocol::ShutdownReason;
use tokio::sync::{mpsc, watch};

use host_port::{Dials, HostPort};
pub use names::forget_killed;
use ports::Publications;
use shares::AllowList;
pub use start::{Readiness, StartError};
use start::{Sockets, Started};
use vm::{Recipe, Vm};

/// What the routes of the control socket work on.
#[derive(Debug)]
pub struct Daemon {
    paths: HostPaths,
    vm: Vm,
    allowed: Arc<AllowList>,
    dials: Arc<Dials>,
    ports: Arc<Publications>,
    /// Becomes true when the end was asked for: nobody new is served.
    ending: watch::Receiver<bool>,
    /// Becomes true when the machine has ended and the daemon is about to.
    ended: watch::Receiver<bool>,
    /// How many clients that asked for the end have no answer yet.
    unanswered: watch::Sender<usize>,
}

/// A wish for the daemon's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// With its machine, containers first.
    Down,
    /// With its machine, at once.
    Force,
    /// Without its machine, which another daemon takes over.
    Leave,
}

/// How long the answer to `down` may take to be written.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Runs the daemon until somebody ends it. With `notify`, one line of JSON on standard output
/// tells the starter that it is ready, or why not.
#[must_use]
pub fn main(notify: bool) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(run(notify));
    // A blocking job (an unpacking kernel) must not hold up an end that was asked for.
    runtime.shutdown_timeout(Duration::from_millis(100));
    code
}

async fn run(notify: bool) -> ExitCode {
    match start::start() {
        Ok(started) => {
            announce(notify, &Readiness::Ready);
            live(started).await;
            ExitCode::SUCCESS
        }
        Err(error) => {
            let failure = vm::Failure::of(&error, error.hint());
            let readiness = match error {
                StartError::Running(_) => Readiness::Running,
                _ => Readiness::Failed(failure.clone()),
            };
            announce(notify, &readiness);
            eprintln!("error: {}", failure.full_text());
            ExitCode::FAILURE
        }
    }
}

/// A client that asked for the end and waits for the answer, for as long as this lives.
struct Asker<'a>(&'a watch::Sender<usize>);

impl<'a> Asker<'a> {
    fn of(unanswered: &'a watch::Sender<usize>) -> Self {
        unanswered.send_modify(|count| *count += 1);
        Self(unanswered)
    }
}

impl Drop for Asker<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

async fn all_answered(unanswered: &watch::Sender<usize>) {
    // It cannot be closed while its sender is here.
    let _ = unanswered.subscribe().wait_for(|count| *count == 0).await;
}

/// Waits until somebody loses patience: wants the end by force, or sends so many signals more.
async fn impatience(wishes: &mut mpsc::Receiver<End>, mut signals: u32) {
    while signals > 0 {
        tokio::select! {
            Some(wish) = wishes.recv() => if wish == End::Force {
                return;
            },
            signal = sys::stop_requested() => match signal {
                // A session that ends sends it right after SIGTERM.
                Ok("SIGHUP") => {}
                Ok(signal) => {
                    tracing::info!(signal, "asked to end once more");
                    signals -= 1;
                }
                Err(error) => {
                    tracing::warn!(%error, "signals are not heard");
                    return std::future::pending().await;
                }
            },
        }
    }
}

fn announce(notify: bool, readiness: &Readiness) {
    if !notify {
        return;
    }
    let line = serde_json::to_string(readiness).unwrap_or_default();
    let mut out = std::io::stdout();
    // A starter that has gone does not matter to the daemon.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    if let Err(error) = sys::close_stdout() {
        tracing::warn!(%error, "standard output stays open");
    }
}

async fn live(started: Started) {
    let Started {
        paths,
        exe,
        sockets,
        settings,
        lock,
        boot_limit,
        disk_log,
    } = started;
    let home = sys::host_user()
        .map(|user| user.home)
        .unwrap_or_else(|_| paths.data.clone());
    let allowed = Arc::new(AllowList::new(&home, &paths));
    allowed.set_named(&settings.shares);
    let dials = Arc::new(Dials::default());
    dials.set_proxies(&settings.proxies);
    let ports = Arc::new(Publications::default());
    let (guests_in, guests) = mpsc::channel(4);
    let host_port = HostPort {
        dials: Arc::clone(&dials),
        allowed: Arc::clone(&allowed),
        ports: Arc::clone(&ports),
    };
    tokio::spawn(host_port.serve(guests));
    let recipe = Recipe {
        paths: paths.clone(),
        exe,
        boot_limit,
        disk_log,
        allowed: Arc::clone(&allowed),
        routes: routes::follow(),
    };
    network::follow_names(&paths.run);
    let vm = Vm::spawn(recipe, guests_in);
    let (ending_in, ending) = watch::channel(false);
    let (ended_in, ended) = watch::channel(false);
    let daemon = Arc::new(Daemon {
        paths,
        vm: vm.clone(),
        allowed,
        dials,
        ports,
        ending,
        ended,
        unanswered: watch::Sender::new(0),
    });
    let (end, mut wishes) = mpsc::channel(4);
    let Sockets { docker, control } = sockets;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "daemon is up");
    let asked = tokio::select! {
        signal = sys::stop_requested() => {
            tracing::info!(signal = signal.unwrap_or("an error of the handler"), "ending");
            None
        }
        wish = wishes.recv() => wish,
        () = docker_socket::serve(&docker, &vm, &daemon.paths) => None,
        () = control::server::serve(&control, &daemon, &end) => None,
    };
    // New clients find nobody; those that were accepted go down with the machine.
    docker.unlink();
    ending_in.send_replace(true);
    if asked != Some(End::Leave) {
        let reason = match asked {
            Some(_) => ShutdownReason::User,
            None => ShutdownReason::Host,
        };
        let stopped = vm.stop(reason, asked == Some(End::Force));
        tokio::pin!(stopped);
        // Whoever loses patience meanwhile is heard.
        let hurried = async {
            // The first signal, or one that comes while the user's own end is under way, is orderly.
            impatience(&mut wishes, if asked.is_some() { 2 } else { 1 }).await;
            vm.stop(reason, true).await;
        };
        tokio::select! {
            () = &mut stopped => {}
            () = hurried => stopped.await,
            () = control::server::serve(&control, &daemon, &end) => {}
        }
    }
    names::forget_machine(&daemon.paths, &lock);
    control.unlink();
    ended_in.send_replace(true);
    // Whoever asked, before a signal or after it, may have gone; the end does not depend on it.
    let _ = tokio::time::timeout(LAST_WORDS, all_answered(&daemon.unanswered)).await;
    drop(lock);
    tracing::info!("daemon is down");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn everybody_who_asked_for_the_end_is_waited_for() {
        let unanswered = watch::Sender::new(0);
        all_answered(&unanswered).await;
        let (first, second) = (Asker::of(&unanswered), Asker::of(&unanswered));
        let moment = Duration::from_millis(10);
        let waited = tokio::time::timeout(moment, all_answered(&unanswered));
        assert!(waited.await.is_err());
        drop(first);
        let waited = tokio::time::timeout(moment, all_answered(&unanswered));
        assert!(waited.await.is_err(), "one is not all");
        tokio::join!(all_answered(&unanswered), async { drop(second) });
    }
}
