//! The process that is the machine's network: started with it, found again by the next daemon, and told where the
//! host asks for names.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use lighter_machine::ClientStream;
use lighter_net::{NetError, NetProcess, SpawnConfig};
use lighter_platform::sys::{self, ProcessWatch, ResolutionWatch};
use tokio::sync::watch;

use crate::folders::told;
use crate::vm::{Recipe, chain};

/// The port on which servers answer for names.
const NAMES: u16 = 53;
/// How many of them are asked.
const SERVERS: usize = 3;

/// Between two looks at a process whose end is waited for; the wait itself ends with it.
const LONG: Duration = Duration::from_secs(3600);

/// A process that was just started.
#[derive(Debug)]
pub struct Network {
    /// The name of the socket the machine's card is joined to.
    pub socket: ClientStream,
    /// What the machine holds as long as it lives.
    pub lifeline: ClientStream,
    /// Becomes true when the process ends.
    pub ended: watch::Receiver<bool>,
}

impl Network {
    /// Starts the process for a new machine.
    ///
    /// # Errors
    /// What the start answers.
    pub async fn start(recipe: &Recipe) -> Result<Self, NetError> {
        let (exe, run_dir) = (recipe.exe.clone(), recipe.paths.run.clone());
        let log = sys::open_log(&recipe.paths.daemon_log()).ok();
        let started = tokio::task::spawn_blocking(move || {
            let process = NetProcess::spawn(SpawnConfig {
                exe: &exe,
                run_dir: &run_dir,
                log,
            })?;
            tell_names(&run_dir);
            Ok(process)
        });
        let NetProcess {
            mut child,
            vhost_user,
            lifeline,
        } = match started.await {
            Ok(process) => process?,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        };
        // The process must not stay behind as a zombie.
        let ended = told("the network", move || {
            let status = child.wait();
            tracing::info!(?status, "the process of the network ended");
            status.is_ok()
        });
        Ok(Self {
            socket: vhost_user,
            lifeline,
            ended,
        })
    }

    /// Watches the process of a machine that an earlier daemon started, and tells it where the host asks for
    /// names now. One that has ended already has ended at once; one that does not answer, or cannot be watched, does
    /// not end as far as anybody is told.
    pub async fn take_over(run_dir: &Path) -> watch::Receiver<bool> {
        let (run_dir, at) = (run_dir.to_owned(), run_dir.to_owned());
        let found = tokio::task::spawn_blocking(move || {
            let answer = lighter_net::status(&run_dir).inspect_err(|error| {
                let error = chain(error);
                tracing::warn!(error, "the process of the network does not answer");
            });
            let status = answer.map_err(|error| error.is_end())?;
            tell_names(&run_dir);
            // One that cannot be watched.
            ProcessWatch::of(status.pid).ok_or(false)
        });
        match found.await {
            Ok(Ok(process)) => told("the network", move || {
                while !process.wait(LONG) {}
                // By that number it may be known elsewhere only, and another one here.
                lighter_net::status(&at).is_err()
            }),
            Ok(Err(ended)) => watch::channel(ended).1,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }
}

/// Tells the process of the network, whichever there is, whenever the host asks for names elsewhere.
///
/// Its thread lives as long as the daemon.
pub fn follow_names(run_dir: &Path) {
    let run_dir = run_dir.to_owned();
    let follow = move || -> io::Result<()> {
        let mut told = servers();
        loop {
            let change = ResolutionWatch::new()?;
            // What changed before the watch began is seen here.
            if servers() == told {
                change.wait()?;
            }
            let now = servers();
            // Nobody is there between two machines: the next is told when it starts.
            if now != told && lighter_net::status(&run_dir).is_ok() {
                tracing::info!(servers = ?now, "the host asks for names elsewhere");
                tell_names(&run_dir);
            }
            told = now;
        }
    };
    let started = std::thread::Builder::new()
        .name("resolution".into())
        .spawn(move || {
            if let Err(error) = follow() {
                tracing::warn!(%error, "changes of the host's resolver are not followed");
            }
        });
    if let Err(error) = started {
        tracing::warn!(%error, "changes of the host's resolver are not followed");
    }
}

/// Tells the process which servers the host asks. Without one containers have no names.
fn tell_names(run_dir: &Path) {
    if let Err(error) = lighter_net::set_names(run_dir, &servers()) {
        let error = chain(&error);
        tracing::warn!(error, "the network is not told where to ask for names");
    }
}

/// Those that the host asks, in its order; as many as the C library does.
fn servers() -> Vec<SocketAddr> {
    let servers = sys::resolution().servers.into_iter().take(SERVERS);
    servers
        .map(|address: IpAddr| SocketAddr::new(address, NAMES))
        .collect()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_process_that_has_ended_is_known_to_have_by_the_next_daemon() {
        let dir = tempfile::tempdir().unwrap();
        // A machine of an earlier build may have none.
        assert!(!*Network::take_over(dir.path()).await.borrow());
        let path = dir.path().join(lighter_net::CONTROL_SOCKET);
        drop(std::os::unix::net::UnixListener::bind(path).unwrap());
        assert!(*Network::take_over(dir.path()).await.borrow());
    }
}
