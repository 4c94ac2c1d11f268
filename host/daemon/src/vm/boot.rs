//! From nothing to a guest that answers, or from a machine found running to the same.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use lighter_machine::{
    ClientStream, DeviceNetwork, DeviceShare, Disk, Error as MachineError, LaunchConfig, Machine,
    VmSpec,
};
use lighter_platform::HostPaths;
use lighter_platform::sys;
use lighter_protocol::{
    BootSettings, EngineState, Health, Hello, HostUser, Message, Refused, RefusedCode, Route,
    Secret, VERSION, Welcome, port,
};
use tokio::sync::{mpsc, watch};

use super::patience::{LOOK, waits_for_room, within};
use super::stream::StreamError;
use super::{Failure, Guest, Helpers, Launched, Link, MessageStream, chain, prepare};
use crate::folders::{Folders, Found};
use crate::host_port::proxy::Proxies;
use crate::network::Network;
use crate::settings::Settings;
use crate::shares::AllowList;

/// What every start is made from; settings are read anew each time.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// Where our files are.
    pub paths: HostPaths,
    /// The program that is also the machine process.
    pub exe: PathBuf,
    /// Longest time from launch to an engine that answers.
    pub boot_limit: Duration,
    /// Where everything stands that the machine does to its disk, for tests; see [`Disk::log`].
    pub disk_log: Option<PathBuf>,
    /// Which host folders containers may be given.
    pub allowed: Arc<AllowList>,
    /// Where the host has routes of its own to.
    pub routes: watch::Receiver<Vec<Route>>,
}

/// How long containers get to stop when no setting says otherwise.
const DEFAULT_SHUTDOWN: Duration = Duration::from_secs(15);
/// Pause between attempts to reach a guest that is not up yet.
const RETRY: Duration = Duration::from_millis(10);

impl Recipe {
    /// How long containers get to stop.
    #[must_use]
    pub fn shutdown_limit(&self) -> Duration {
        Settings::load(&self.paths.config_file())
            .ok()
            .and_then(|settings| settings.engine.shutdown_timeout)
            .map_or(DEFAULT_SHUTDOWN, |seconds| {
                Duration::from_secs(seconds.into())
            })
    }
}

/// What the engine of a found machine last said about a start that failed; it tries again by itself.
type LastWord = Mutex<Option<Failure>>;

/// Brings a guest up. A machine that is started here is put into `launched` as soon as it exists, so
/// that a caller who drops this future can end it.
///
/// # Errors
/// Why there is no guest; the machine may still be there. One that was started here has to be ended by
/// the caller, one that was found runs containers.
pub async fn boot(
    recipe: &Recipe,
    found: Option<Machine>,
    launched: &Arc<Mutex<Option<Machine>>>,
    guests: &mpsc::Sender<Launched>,
    progress: &(dyn Fn(&'static str) + Sync),
) -> Result<Guest, Failure> {
    let began = Instant::now();
    let fresh = found.is_none();
    let settings = Settings::load(&recipe.paths.config_file())
        .map_err(|error| Failure::of(&error, Some(error.hint())))?;
    let prepared = prepare_files(recipe, &settings, fresh, progress).await?;
    let (machine, folders, helpers) = match found {
        Some(machine) => {
            let network = Network::take_over(&recipe.paths.run).await;
            let (folders, folders_ended) = match take_folders_over(recipe).await {
                Some(found) => (Some(found.folders), found.ended),
                None => (None, watch::channel(false).1),
            };
            (machine, folders, Helpers::new(folders_ended, network))
        }
        None => {
            progress("starting the virtual machine");
            let started = Folders::start(recipe).map_err(|error| Failure::of(&error, None))?;
            let network = Network::start(recipe)
                .await
                .map_err(|error| Failure::of(&error, None))?;
            let sockets = [started.socket, network.socket, network.lifeline];
            let machine = launch(recipe, &settings, &prepared, sockets).await?;
            *launched.lock().unwrap_or_else(PoisonError::into_inner) = Some(machine.clone());
            let helpers = Helpers::new(started.ended, network.ended);
            (machine, Some(started.folders), helpers)
        }
    };
    let folders = folders.map(Arc::new);
    let service = Launched {
        machine: machine.clone(),
        folders: folders.clone(),
    };
    // Nobody listening only means that the daemon is ending.
    let _ = guests.send(service).await;
    let hello = hello(recipe, &settings, &prepared, &machine);
    progress("waiting for the guest");
    // One that was found runs containers: it is not ended for want of room.
    let full = || async {
        let full = !fresh && waits_for_room(&machine).await;
        if full {
            progress("waiting for room on the host's disk");
        }
        full
    };
    let last_word = LastWord::default();
    let found = (!fresh).then_some(&last_word);
    let greeting = greet(&machine, &hello, found, progress);
    let greeted = tokio::select! {
        greeted = within(recipe.boot_limit, greeting, full) => greeted,
        reason = machine.exited() => return Err(Failure::from_exit(&reason)),
        () = disk_is_full(&machine), if fresh => return Err(no_room(&recipe.paths)),
    };
    let (stream, welcome) = match greeted {
        Some(Ok(greeted)) => greeted,
        Some(Err(failure)) => {
            return Err(failure.with_console(&prepare::console_tail(&recipe.paths)));
        }
        None => {
            let said = last_word
                .into_inner()
                .unwrap_or_else(PoisonError::into_inner);
            let failure = said.unwrap_or_else(|| silent(recipe));
            return Err(match fresh {
                true => failure,
                false => runs_on(failure),
            });
        }
    };
    let boot_time = fresh.then(|| began.elapsed());
    tracing::info!(
        ?boot_time,
        kernel = welcome.kernel,
        agent = welcome.agent_version,
        "guest is ready"
    );
    let link = Link::spawn(stream, machine.clone(), hello, recipe.routes.clone());
    Ok(Guest {
        machine,
        link,
        folders,
        helpers,
        welcome: Arc::new(welcome),
        since: Instant::now(),
        boot_time,
    })
}

/// The process of a found machine's shared folders. Nothing about it is a reason to give the machine up.
async fn take_folders_over(recipe: &Recipe) -> Option<Found> {
    let (run, allowed) = (recipe.paths.run.clone(), Arc::clone(&recipe.allowed));
    // It may not answer for a while.
    let found = tokio::task::spawn_blocking(move || {
        let found = Folders::take_over(&run)?;
        // The settings may be others than those of the daemon before.
        if let Err(error) = found.folders.protect(&allowed) {
            let error = chain(&error);
            tracing::warn!(error, "what is for reading only could not be told");
        }
        Some(found)
    })
    .await;
    found.unwrap_or_else(|error| {
        tracing::warn!(%error, "shared folders are not served");
        None
    })
}

/// Waits until the machine says that its disk image cannot be written for want of room.
async fn disk_is_full(machine: &Machine) {
    loop {
        tokio::time::sleep(LOOK).await;
        match machine.status().await {
            Ok(status) if status.disk_full => return,
            Ok(_) => {}
            // Its end is told by whoever watches it.
            Err(_) => std::future::pending().await,
        }
    }
}

/// Why a machine stands still.
pub fn no_room(paths: &HostPaths) -> Failure {
    let disk = paths.disk_image();
    Failure {
        hint: Some(
            "make room there: the machine goes on by itself where it runs, else `lighter up`"
                .to_owned(),
        ),
        ..Failure::plain(format!(
            "the host's disk that holds `{}` is full, and the virtual machine waits",
            disk.display()
        ))
    }
}

fn silent(recipe: &Recipe) -> Failure {
    Failure {
        message: format!(
            "the virtual machine did not answer within {} seconds",
            recipe.boot_limit.as_secs()
        ),
        hint: Some("look at the whole console with `lighter doctor --console`".to_owned()),
        console_tail: None,
    }
    .with_console(&prepare::console_tail(&recipe.paths))
}

/// The same about a machine that was found.
fn runs_on(failure: Failure) -> Failure {
    let hint = "its containers may run on; `lighter down --force` ends it with them";
    Failure {
        hint: Some(hint.to_owned()),
        ..failure
    }
}

async fn prepare_files(
    recipe: &Recipe,
    settings: &Settings,
    fresh: bool,
    progress: &(dyn Fn(&'static str) + Sync),
) -> Result<prepare::Prepared, Failure> {
    if fresh {
        progress("preparing disk and kernel");
    }
    let (paths, disk) = (recipe.paths.clone(), settings.disk.0);
    // Unpacking and disk writes would hold up every other client of this one-threaded process.
    let prepare = move || match fresh {
        true => prepare::prepare(&paths, disk),
        false => Ok(prepare::found(&paths)),
    };
    tokio::task::spawn_blocking(prepare)
        .await
        .map_err(|error| Failure::of(&error, None))?
        .map_err(|error| Failure::of(&error, error.hint()))
}

async fn launch(
    recipe: &Recipe,
    settings: &Settings,
    prepared: &prepare::Prepared,
    [folders, network, lifeline]: [ClientStream; 3],
) -> Result<Machine, Failure> {
    let failed = |error: MachineError| Failure::of(&error, error.hint().map(str::to_owned));
    let mut secret = [0_u8; 32];
    getrandom::fill(&mut secret)
        .map_err(|error| Failure::plain(format!("the host has no random numbers: {error}")))?;
    let spec = VmSpec {
        backend: settings.backend,
        cpus: settings.effective_cpus(),
        memory_bytes: settings.effective_memory(),
        huge_pages: settings.huge_pages,
        kernel: prepared.kernel.clone(),
        initramfs: prepared.initramfs.clone(),
        cmdline_extra: Vec::new(),
        disks: vec![Disk {
            path: prepared.disk.clone(),
            read_only: false,
            log: recipe.disk_log.clone(),
        }],
        shares: vec![DeviceShare {
            tag: lighter_files::TAG.to_owned(),
        }],
        network: Some(DeviceNetwork {
            mac: lighter_protocol::link::GUEST_MAC,
        }),
        console_log: recipe.paths.console_log(),
        console_limit: 256 << 10,
    };
    let log = sys::open_log(&recipe.paths.daemon_log()).ok();
    let config = LaunchConfig {
        run_dir: recipe.paths.run.clone(),
        exe: recipe.exe.clone(),
        args: vec!["machine".to_owned()],
        spec,
        secret: lighter_machine::Secret::new(secret),
        share_sockets: vec![folders],
        network_socket: Some(network),
        log,
        hold: vec![lifeline],
    };
    Machine::launch(config).await.map_err(failed)
}

fn hello(
    recipe: &Recipe,
    settings: &Settings,
    prepared: &prepare::Prepared,
    machine: &Machine,
) -> Hello {
    let resolution = sys::resolution();
    let trust_roots_pem = sys::trust_roots_pem().unwrap_or_else(|error| {
        tracing::warn!(%error, "no trusted certificates found on this host");
        String::new()
    });
    let host_user = sys::host_user()
        .map(|user| HostUser {
            uid: user.uid,
            gid: user.gid,
            name: user.name,
            home: user.home.to_string_lossy().into_owned(),
        })
        .unwrap_or_default();
    let boot = BootSettings {
        clock_unix_ns: unix_now(),
        machine_id: prepared.machine_id.clone(),
        hostname: "lighter".to_owned(),
        // The gateway asks the host's own servers, whichever those are at the time.
        dns: vec![lighter_protocol::link::GATEWAY_V4.to_string()],
        search: resolution.search,
        trust_roots_pem,
        shares: recipe.allowed.announced(),
        api_sockets: api_sockets(&recipe.paths),
        proxies: shown_proxies(settings),
        engine: settings.engine.clone(),
        disk_size_bytes: prepared.disk_bytes,
        host_user,
        routes: recipe.routes.borrow().clone(),
    };
    let secret = Secret::new(*machine.secret().bytes());
    Hello {
        version: VERSION,
        secret,
        boot: Box::new(boot),
    }
}

fn shown_proxies(settings: &Settings) -> lighter_protocol::Proxies {
    let shown = Proxies::here(&settings.proxies).shown();
    lighter_protocol::Proxies {
        http: shown.http_proxy,
        https: shown.https_proxy,
        none_for: shown.no_proxy,
    }
}

/// The paths by which programs on this host know the engine's socket.
fn api_sockets(paths: &HostPaths) -> Vec<String> {
    let own = paths.docker_socket().to_string_lossy().into_owned();
    let system = sys::SYSTEM_DOCKER_SOCKET.map(str::to_owned);
    std::iter::once(own).chain(system).collect()
}

/// Nanoseconds since 1970 on this host's clock.
pub fn unix_now() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |age| u64::try_from(age.as_nanos()).unwrap_or(u64::MAX))
}

/// Greets the guest until its engine answers. Bounded by the caller.
async fn greet(
    machine: &Machine,
    hello: &Hello,
    found: Option<&LastWord>,
    progress: &(dyn Fn(&'static str) + Sync),
) -> Result<(MessageStream, Welcome), Failure> {
    loop {
        let mut stream = connect(machine).await?;
        let answer = match introduce(&mut stream, hello).await {
            Ok(answer) => answer,
            // The agent was restarted in the middle of it, or is not fully there: once more.
            Err(StreamError::Closed | StreamError::Io(_)) => {
                tokio::time::sleep(RETRY).await;
                continue;
            }
            Err(StreamError::Message(error)) => return Err(Failure::of(&error, None)),
        };
        let welcome = answer.map_err(|refused| refusal(&refused))?;
        progress("waiting for the engine");
        match engine_ready(&mut stream, found).await {
            Ok(Ok(())) => return Ok((stream, welcome)),
            Ok(Err(failure)) => return Err(failure),
            Err(_) => tokio::time::sleep(RETRY).await,
        }
    }
}

async fn connect(machine: &Machine) -> Result<MessageStream, Failure> {
    loop {
        match machine.connect(port::CONTROL).await {
            Ok(stream) => return Ok(MessageStream::new(stream)),
            Err(MachineError::NotReady | MachineError::Refused { .. } | MachineError::Timeout) => {
                tokio::time::sleep(RETRY).await;
            }
            // Its end is told with the console's last lines by whoever watches the machine.
            Err(MachineError::Gone) => std::future::pending().await,
            Err(error) => return Err(Failure::of(&error, error.hint().map(str::to_owned))),
        }
    }
}

/// Says hello on a fresh stream.
pub(super) async fn introduce(
    stream: &mut MessageStream,
    hello: &Hello,
) -> Result<Result<Welcome, Refused>, StreamError> {
    let mut hello = hello.clone();
    hello.boot.clock_unix_ns = unix_now();
    stream.send(hello).await?;
    loop {
        match stream.receive().await? {
            Message::Welcome(welcome) => return Ok(Ok(welcome)),
            Message::Refused(refused) => return Ok(Err(refused)),
            other => tracing::debug!(message = other.name(), "before the welcome"),
        }
    }
}

fn refusal(refused: &Refused) -> Failure {
    let hint = match refused.code {
        RefusedCode::WrongDisk => Some(
            "the data disk belongs to another installation: bring its `machine-id` back beside \
             `disk.img`, or move `disk.img` away to start with an empty one"
                .to_owned(),
        ),
        RefusedCode::Disk => Some(
            "if the disk's file system is damaged, keep a copy of `disk.img`, then move it away \
             to start with an empty one"
                .to_owned(),
        ),
        RefusedCode::Version => {
            Some("program and image are of different versions: install Lighter again".to_owned())
        }
        RefusedCode::Secret => {
            Some("end the machine with `lighter down --force` and start again".to_owned())
        }
        _ => None,
    };
    let text = format!("the virtual machine refused to start: {}", refused.message);
    Failure {
        hint,
        ..Failure::plain(text)
    }
}

/// Waits until the engine serves; the inner error is its own word that it cannot. That is not the last
/// one of a found machine's: its containers run without it, and its agent tries again.
async fn engine_ready(
    stream: &mut MessageStream,
    found: Option<&LastWord>,
) -> Result<Result<(), Failure>, StreamError> {
    let mut seq = 0;
    loop {
        seq += 1;
        stream.send(Health { seq }).await?;
        let state = loop {
            match stream.receive().await? {
                Message::HealthOk(health) if health.seq == seq => break health.engine,
                other => tracing::debug!(message = other.name(), "while the engine starts"),
            }
        };
        match state {
            EngineState::Ready => return Ok(Ok(())),
            EngineState::Failed { message } => {
                let failure = Failure::plain(format!("the engine could not start: {message}"));
                let Some(last_word) = found else {
                    return Ok(Err(failure));
                };
                *last_word.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure);
                tokio::time::sleep(RETRY).await;
            }
            EngineState::Starting | EngineState::Stopping | EngineState::Other => {
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #[cfg(target_os = "linux")]
    mod played {
        use super::super::*;
        use lighter_protocol::HealthOk;

        /// An agent whose engine fails, and then serves.
        async fn fails_once(stream: tokio::net::UnixStream) {
            let mut stream = MessageStream::new(stream);
            let message = "no room".to_owned();
            for engine in [EngineState::Failed { message }, EngineState::Ready] {
                let Ok(Message::Health(Health { seq })) = stream.receive().await else {
                    return;
                };
                stream.send(HealthOk { seq, engine }).await.unwrap();
            }
        }

        #[tokio::test]
        async fn an_engine_of_a_found_machine_may_fail_and_try_again() {
            let last_word = LastWord::default();
            for found in [None, Some(&last_word)] {
                let (ours, theirs) = tokio::net::UnixStream::pair().unwrap();
                let mut stream = MessageStream::new(ours);
                let waited = async {
                    let ready = engine_ready(&mut stream, found).await.unwrap();
                    drop(stream);
                    ready
                };
                let (ready, ()) = tokio::join!(waited, fails_once(theirs));
                assert_eq!(ready.is_ok(), found.is_some(), "{ready:?}");
            }
            let said = last_word.into_inner().unwrap().unwrap();
            assert_eq!(said.message, "the engine could not start: no room");
        }
    }
}
