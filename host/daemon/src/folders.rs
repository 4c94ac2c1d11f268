//! The door to the process that serves host folders to the machine.
//!
//! The guest asks for a path; here it is opened, held against the allow-list by where it really
//! is, and the open descriptor is given to that process, which never opens a path itself. A grant
//! is named after what it grants, so that asking again gives the same one.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lighter_files::control::{RefusalCode, ShareId};
use lighter_files::{FilesClient, FilesError, FilesProcess, SpawnConfig};
use lighter_machine::ClientStream;
use lighter_platform::ensure_private_dir;
use lighter_platform::sys::{self, ProcessWatch};
use lighter_protocol::{ActivateShare, Failed, FailedCode, Opened};
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use crate::host_port::failed;
use crate::shares::{AllowList, Denied, plain, really};
use crate::vm::Recipe;

/// The door.
#[derive(Debug)]
pub struct Folders {
    /// One request at a time: answers have no numbers.
    line: Mutex<Line>,
    /// The process behind it, if it is known.
    pid: Option<u32>,
}

/// A connection to the process, made anew after it failed: the process outlives all of them.
#[derive(Debug)]
struct Line {
    run_dir: PathBuf,
    client: Option<FilesClient>,
}

impl Line {
    fn ask<T>(
        &mut self,
        what: impl FnOnce(&FilesClient) -> Result<T, FilesError>,
    ) -> Result<T, FilesError> {
        let client = match self.client.take() {
            Some(client) => client,
            None => FilesClient::take_over(&self.run_dir)?.ok_or(FilesError::Gone)?,
        };
        let answer = what(&client);
        let over = matches!(&answer, Err(error) if error.ends_conversation());
        self.client = Some(client).filter(|_| !over);
        answer
    }
}

/// A process that was just started.
#[derive(Debug)]
pub struct Started {
    /// The door to it.
    pub folders: Folders,
    /// The socket the machine's device is joined to.
    pub socket: ClientStream,
    /// Becomes true when the process ends.
    pub ended: watch::Receiver<bool>,
}

/// A process that an earlier daemon started.
#[derive(Debug)]
pub struct Found {
    /// The door to it.
    pub folders: Folders,
    /// Becomes true when the process ends.
    pub ended: watch::Receiver<bool>,
}

impl Folders {
    /// Starts the process for a new machine.
    ///
    /// # Errors
    /// What the start answers.
    pub fn start(recipe: &Recipe) -> Result<Started, FilesError> {
        let process = FilesProcess::spawn(SpawnConfig {
            exe: &recipe.exe,
            run_dir: &recipe.paths.run,
            data_dir: &recipe.paths.data,
            log: sys::open_log(&recipe.paths.daemon_log()).ok(),
        })?;
        let FilesProcess {
            mut child,
            vhost_user,
            control,
        } = process;
        make_missing(recipe.paths.folders());
        hide(&control, &recipe.allowed)?;
        let pid = child.id();
        // The process must not stay behind as a zombie.
        let ended = told("shared folders", move || {
            let status = child.wait();
            tracing::info!(?status, "the process of shared folders ended");
            status.is_ok()
        });
        let line = Line {
            run_dir: recipe.paths.run.clone(),
            client: Some(control),
        };
        let folders = Self {
            line: Mutex::new(line),
            pid: Some(pid),
        };
        Ok(Started {
            folders,
            socket: vhost_user,
            ended,
        })
    }

    /// Finds the process of a machine that an earlier daemon started; nothing where there is none.
    ///
    /// One that cannot be reached is there all the same: containers use its folders, and it may be
    /// reached later. One that cannot be watched does not end, as far as anybody is told.
    #[must_use]
    pub fn take_over(run_dir: &Path) -> Option<Found> {
        let run_dir = run_dir.to_owned();
        let mut line = Line {
            run_dir: run_dir.clone(),
            client: None,
        };
        let pid = match line.ask(FilesClient::pid) {
            Ok(pid) => pid,
            Err(FilesError::Gone) => return None,
            Err(error) => {
                let error = crate::vm::chain(&error);
                tracing::warn!(error, "the process of shared folders does not answer");
                None
            }
        };
        let process = pid.and_then(ProcessWatch::of);
        if process.is_none() {
            tracing::warn!(?pid, "nobody can watch the process of shared folders");
        }
        let ended = told("shared folders", move || {
            ended_for_certain(process, &run_dir)
        });
        let folders = Self {
            line: Mutex::new(line),
            pid,
        };
        Some(Found { folders, ended })
    }

    /// The process that serves the folders, if it is known.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.pid
    }

    /// Tells what is listed for reading only: a writable folder above it must not be a way to write
    /// there. Blocks, as a look at a folder may wait for a disk.
    ///
    /// # Errors
    /// What the process answers.
    pub fn protect(&self, allowed: &AllowList) -> Result<(), FilesError> {
        self.line().ask(|client| protect(client, allowed))
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a host path reachable for the guest. Blocks: opening a path may wait for a disk.
    ///
    /// # Errors
    /// The refusal the guest is told.
    pub fn activate(&self, allowed: &AllowList, wanted: &ActivateShare) -> Result<Opened, Failed> {
        let path = Path::new(&wanted.path);
        plain(path).map_err(|denied| refused(&denied))?;
        // Judged before anything is made or opened there; judged again by what was opened.
        let judge = |real: &Path| {
            let entry = allowed.check_asked(path, real);
            entry.map_err(|denied| refused(&denied))
        };
        judge(&really(path))?;
        let (target, real) = open(path)?;
        let label = real.to_string_lossy();
        let mut line = self.line();
        // With the line in hand: whoever changes the list now finds this grant when he tells of it.
        let entry = judge(&real)?;
        let read_only = wanted.read_only || entry.read_only;
        let id = name(&real, read_only)?;
        // A folder with keys that passed the judgement is one that the settings name; it may be hidden still.
        let add = |client: &FilesClient| match allowed.is_key_folder(&real) {
            true => client.add_named_share(&id, &target, read_only, &label),
            false => client.add_share(&id, &target, read_only, &label),
        };
        let added = line.ask(|client| {
            // Each time: what was missing may be there now.
            protect(client, allowed)?;
            match add(client) {
                Err(FilesError::Refused {
                    code: RefusalCode::TooMany,
                    ..
                }) => {
                    remove_stale(client)?;
                    add(client)
                }
                other => other,
            }
        });
        drop(line);
        added.map_err(|error| not_added(&error))?;
        tracing::info!(path = %label, read_only, id = id.as_str(), "folder shared");
        Ok(Opened::Share {
            path: id.as_str().to_owned(),
            read_only,
        })
    }
}

/// Tells what is for reading only: the places, and the grants that were made for writing and lie there.
fn protect(client: &FilesClient, allowed: &AllowList) -> Result<(), FilesError> {
    client.protect(&allowed.read_only())?;
    for share in client.status()?.shares {
        let entry = allowed.check(Path::new(&share.label));
        // What is no longer listed stays with those who have it.
        let wanted = !share.read_only && entry.is_ok_and(|entry| entry.read_only);
        if wanted == share.restricted {
            continue;
        }
        match client.restrict(&share.id, wanted) {
            Err(FilesError::Refused {
                code: RefusalCode::Malformed,
                ..
            }) => tracing::warn!(
                path = share.label,
                "a process of an older build lets it be written until the machine ends"
            ),
            other => other?,
        }
    }
    Ok(())
}

/// Tells what no share shows.
fn hide(client: &FilesClient, allowed: &AllowList) -> Result<(), FilesError> {
    allowed
        .hidden()
        .iter()
        .try_for_each(|path| client.hide(path))
}

/// Makes those of our folders that are missing. What is hidden needs a folder that it lies in, and on
/// a new account not even `~/.config` is there.
fn make_missing(folders: [&Path; 4]) {
    for path in folders {
        if !path.exists()
            && let Err(error) = ensure_private_dir(path)
        {
            tracing::warn!(%error, "a folder of our own is missing, and not hidden");
        }
    }
}

/// Time between two looks at a process whose end nobody tells.
const LONG: Duration = Duration::from_secs(3600);

/// Waits for the end of a process; false where it cannot be known. A machine ends with its process of
/// shared folders, so nothing but its end counts as its end.
fn ended_for_certain(process: Option<ProcessWatch>, run_dir: &Path) -> bool {
    let Some(process) = process else { return false };
    while !process.wait(LONG) {}
    // By that number it may be known elsewhere only, and another one here.
    let gone = matches!(FilesClient::take_over(run_dir), Ok(None));
    tracing::info!(gone, "the process of shared folders ended");
    gone
}

/// Becomes true when `wait` says that the process has ended, on a thread of its own, which sleeps. Has
/// no sender any more when it says otherwise.
pub(crate) fn told(
    what: &'static str,
    wait: impl FnOnce() -> bool + Send + 'static,
) -> watch::Receiver<bool> {
    let (ended_in, ended) = watch::channel(false);
    let waiter = move || {
        if wait() {
            ended_in.send_replace(true);
        }
    };
    let spawned = std::thread::Builder::new()
        .stack_size(128 << 10)
        .spawn(waiter);
    if let Err(error) = spawned {
        tracing::warn!(%error, "nobody waits for the process of {what}");
    }
    ended
}

fn refused(denied: &Denied) -> Failed {
    failed(FailedCode::Denied, denied.to_string())
}

fn not_added(error: &FilesError) -> Failed {
    let code = match error {
        FilesError::Refused {
            code: RefusalCode::TooMany,
            ..
        } => FailedCode::Busy,
        FilesError::Refused {
            code: RefusalCode::NotShareable,
            ..
        } => FailedCode::Denied,
        _ => FailedCode::Internal,
    };
    failed(code, crate::vm::chain(error))
}

/// Opens a path. A missing one is never made here, whatever the guest wishes: between the judgement and
/// the making a link could be put on the way. The engine makes it through the share above, where no link leads out.
fn open(path: &Path) -> Result<(ClientStream, PathBuf), Failed> {
    let told = |error: &io::Error| {
        let shown = path.display();
        match error.kind() {
            io::ErrorKind::NotFound => failed(
                FailedCode::NotFound,
                format!("bind source path does not exist: {shown}"),
            ),
            io::ErrorKind::PermissionDenied => failed(
                FailedCode::Denied,
                format!("the host does not let `{shown}` be opened"),
            ),
            _ => failed(FailedCode::Internal, format!("open `{shown}`: {error}")),
        }
    };
    sys::open_share_target(path).map_err(|error| told(&error))
}

/// The name of a grant: the same for the same file or folder with the same right. One that was
/// removed and made again is another.
fn name(real: &Path, read_only: bool) -> Result<ShareId, Failed> {
    let (device, number) = std::fs::symlink_metadata(real)
        .map(|found| sys::file_identity(&found))
        .unwrap_or_default();
    let text = format!("{device}:{number}:{read_only}:{}", real.display());
    let id = hex::encode(&Sha256::digest(text.as_bytes())[..10]);
    ShareId::new(id).map_err(|error| failed(FailedCode::Internal, error.to_string()))
}

/// Ends the grants of what is no longer there.
fn remove_stale(client: &FilesClient) -> Result<(), FilesError> {
    for share in client.status()?.shares {
        let current = name(Path::new(&share.label), share.read_only);
        if current.is_ok_and(|current| current != share.id)
            && let Err(error) = client.remove_share(&share.id)
        {
            tracing::warn!(%error, id = share.id.as_str(), "a stale grant stays");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_is_named_after_what_it_grants() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        std::fs::create_dir(&path).unwrap();
        let id = |read_only| name(&path, read_only).unwrap();
        assert_eq!(id(false), id(false));
        assert_ne!(id(false), id(true));
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn only_the_end_of_the_process_counts_as_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().to_owned();
        let mut child = std::process::Command::new("sleep")
            .arg("3600")
            .spawn()
            .unwrap();
        let watch = || ProcessWatch::of(child.id());
        let watches = [watch(), watch()];
        child.kill().unwrap();
        child.wait().unwrap();
        let [one, other] = watches.map(Option::unwrap);
        let ended = |process, run: &Path| {
            let run = run.to_owned();
            let mut ended = told("shared folders", move || ended_for_certain(process, &run));
            async move { ended.wait_for(|ended| *ended).await.is_ok() }
        };
        assert!(!ended(None, &run).await, "it is not known which one it is");
        assert!(!ended(ProcessWatch::of(child.id()), &run).await);
        assert!(ended(Some(one), &run).await);
        let name = run.join(lighter_files::CONTROL_SOCKET);
        let _listener = std::os::unix::net::UnixListener::bind(name).unwrap();
        assert!(!ended(Some(other), &run).await, "somebody is there");
    }

    /// A process that is only played, with these shares; what it was told of them.
    #[cfg(target_os = "linux")]
    fn play(run: &Path, shares: &[serde_json::Value]) -> std::thread::JoinHandle<Vec<String>> {
        use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
        use rustix::net::{RecvFlags, SendFlags, accept, bind, listen, recv, send, socket_with};
        let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
        let socket = socket_with(family, kind, SocketFlags::CLOEXEC, None).unwrap();
        let address = SocketAddrUnix::new(run.join(lighter_files::CONTROL_SOCKET)).unwrap();
        bind(&socket, &address).unwrap();
        listen(&socket, 8).unwrap();
        let status = serde_json::json!({
            "reply": "status", "shares": shares, "connected": true, "open_handles": 0,
            "nodes": 0, "cached_descriptors": 0,
        });
        std::thread::spawn(move || {
            let client = accept(&socket).unwrap();
            let mut told = Vec::new();
            let mut packet = vec![0; 1 << 16];
            loop {
                let (length, _) = recv(&client, &mut packet[..], RecvFlags::empty()).unwrap();
                let request = serde_json::from_slice::<serde_json::Value>(&packet[..length]);
                let Ok(request) = request else { return told };
                let reply = match request["request"].as_str().unwrap() {
                    "status" => status.to_string(),
                    "restrict" => {
                        told.push(format!("{}: {}", request["id"], request["restricted"]));
                        r#"{"reply":"done"}"#.to_owned()
                    }
                    "hide" => {
                        told.push(format!("hide {}", request["name"].as_str().unwrap()));
                        r#"{"reply":"done"}"#.to_owned()
                    }
                    _ => r#"{"reply":"done"}"#.to_owned(),
                };
                send(&client, reply.as_bytes(), SendFlags::empty()).unwrap();
            }
        })
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn grants_follow_the_list() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let paths = lighter_platform::HostPaths {
            config: at("c/config"),
            data: at("c/data"),
            cache: at("c/cache"),
            run: at("c/run"),
        };
        let allowed = AllowList::new(dir.path(), &paths);
        allowed.set_named(&[format!("{}:ro", at("inner").display())]);
        let share = |id: &str, label: &str, restricted: bool| {
            serde_json::json!({
                "id": id, "label": really(&at(label)), "read_only": false,
                "restricted": restricted, "directory": true,
            })
        };
        let shares = [
            share("at", "inner", false),
            share("below", "inner/sub", false),
            share("beside", "other", false),
            share("no-longer", "inner2", true),
        ];
        let told = play(dir.path(), &shares);
        let found = Folders::take_over(dir.path()).unwrap();
        // One that does not say its number has none.
        assert_eq!(found.folders.pid(), None);
        found.folders.protect(&allowed).unwrap();
        drop(found);
        let expected = [r#""at": true"#, r#""below": true"#, r#""no-longer": false"#];
        assert_eq!(told.join().unwrap(), expected);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_process_that_cannot_be_reached_is_there_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Folders::take_over(dir.path()).is_none());
        let name = dir.path().join(lighter_files::CONTROL_SOCKET);
        // Of another kind: no connection comes about.
        let _listener = std::os::unix::net::UnixListener::bind(name).unwrap();
        let found = Folders::take_over(dir.path()).unwrap();
        assert_eq!(found.folders.pid(), None);
        assert!(!*found.ended.borrow());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn folders_of_our_own_are_there_before_they_are_hidden() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at("home")).unwrap();
        let paths = lighter_platform::HostPaths {
            config: at("home/.config/configured"),
            data: at("home/data/kept"),
            cache: at("home/cache/cached"),
            run: at("run/running"),
        };
        // What has no folder to lie in could not be hidden.
        make_missing(paths.folders());
        assert!(paths.folders().iter().all(|path| path.is_dir()));
        let allowed = AllowList::new(&at("home"), &paths);
        let told = play(dir.path(), &[]);
        let client = FilesClient::take_over(dir.path()).unwrap().unwrap();
        hide(&client, &allowed).unwrap();
        drop(client);
        let mut told = told.join().unwrap();
        told.sort();
        let all = [
            ".aws",
            ".gnupg",
            ".ssh",
            "cached",
            "configured",
            "kept",
            "running",
        ];
        assert_eq!(told, all.map(|name| format!("hide {name}")));
    }

    #[test]
    fn a_missing_path_is_told_and_never_made() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        let error = open(&path).unwrap_err();
        assert_eq!(error.code, FailedCode::NotFound);
        assert!(error.message.starts_with("bind source path does not exist"));
        assert!(!dir.path().join("a").exists());
        std::fs::create_dir_all(&path).unwrap();
        assert_eq!(open(&path).unwrap().1, really(&path));
    }
}
