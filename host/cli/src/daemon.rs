//! The way to the daemon: connects, starting it where it does not run.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use lighter_daemon::Readiness;
use lighter_daemon::control::client::{ClientError, Conversation};
use lighter_daemon::control::{Event, Request, Status};
use lighter_platform::{HostPaths, ensure_private_dir, sys};

use crate::exit::CliError;
use crate::printer::Printer;

/// How long another process may take to finish the start it began.
const OTHERS_START: Duration = Duration::from_secs(10);

/// How long a process may take from its last word to its end.
const LAST_STEPS: Duration = Duration::from_secs(10);

/// The folders of this installation.
pub fn paths() -> Result<HostPaths, CliError> {
    HostPaths::discover().map_err(|error| CliError::of(&error).with_hint(error.hint()))
}

/// A runtime for one command.
pub fn runtime() -> Result<tokio::runtime::Runtime, CliError> {
    Ok(tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?)
}

/// Asks the daemon, starting it if it does not run.
pub async fn ask(paths: &HostPaths, request: &Request) -> Result<Conversation, CliError> {
    let mut deadline = tokio::time::Instant::now() + OTHERS_START;
    loop {
        match Conversation::start(&paths.control_socket(), request).await {
            // It took its time to stop containers; the time for a start begins now.
            Err(ClientError::Ended) => deadline = tokio::time::Instant::now() + OTHERS_START,
            Err(ClientError::NotRunning) if tokio::time::Instant::now() < deadline => {}
            other => return other.map_err(|error| client_error(&error)),
        }
        if start(paths)? == Start::Others {
            // Another process holds the lock: it is about to listen, or about to be gone.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Whose daemon there is after an attempt to start one.
#[derive(Debug, PartialEq, Eq)]
enum Start {
    /// The one just started.
    Ours,
    /// One that was there already.
    Others,
}

/// An error of the control socket, with what to do next.
pub fn client_error(error: &ClientError) -> CliError {
    let told = CliError::of(error);
    let hint = match error {
        ClientError::NotRunning | ClientError::Ended => "start it with `lighter up`",
        ClientError::Strange(_) => "end the old daemon with `lighter down`, then try again",
        ClientError::BrokenOff | ClientError::Io(_) => "read its log with `lighter doctor`",
    };
    told.with_hint(hint)
}

/// Makes sure that the daemon listens; returns the socket for Docker clients.
pub async fn ensure(paths: &HostPaths) -> Result<PathBuf, CliError> {
    let socket = paths.docker_socket();
    // Its first word is enough: the answer is not waited for.
    drop(ask(paths, &Request::Ping).await?);
    Ok(socket)
}

/// Starts the daemon apart from this process and waits for its word.
fn start(paths: &HostPaths) -> Result<Start, CliError> {
    ensure_private_dir(&paths.run).map_err(|error| CliError::of(&error).with_hint(error.hint()))?;
    let exe = std::env::current_exe()?;
    let log = sys::open_log(&paths.daemon_log()).map_err(|error| {
        let path = paths.daemon_log();
        CliError::new(format!("cannot open `{}`: {error}", path.display())).with_hint(format!(
            "make room on the disk that holds `{}`, and the folder writable for this user",
            path.parent().unwrap_or(&path).display()
        ))
    })?;
    let mut command = Command::new(&exe);
    command
        .args(["daemon", "--notify"])
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log);
    let mut child = sys::spawn_detached(&mut command)?;
    let mut line = String::new();
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout).read_line(&mut line)?;
    }
    match serde_json::from_str(&line) {
        Ok(Readiness::Ready) => Ok(Start::Ours),
        Ok(Readiness::Running) => Ok(Start::Others),
        Ok(Readiness::Failed(failure)) => Err(failure.into()),
        Err(_) => {
            let log = paths.daemon_log();
            Err(CliError::new("the daemon ended before it was ready")
                .with_hint(format!("read its log: `{}`", log.display())))
        }
    }
}

/// Follows a request to its end, saying what is being done.
pub async fn follow(conversation: &mut Conversation, printer: &Printer) -> Result<(), CliError> {
    let mut ending: Vec<sys::ProcessWatch> = Vec::new();
    let outcome = loop {
        match conversation
            .next()
            .await
            .map_err(|error| client_error(&error))?
        {
            Event::Hello { .. } | Event::Ending => {}
            Event::Leaving { processes } => {
                ending.extend(processes.into_iter().filter_map(sys::ProcessWatch::of));
            }
            Event::Progress { step } => printer.passing(&format!("{step} …")),
            Event::Done | Event::Status(_) => break Ok(()),
            Event::Failed(failure) => break Err(failure.into()),
        }
    };
    // They have said their last word; what they hold of the host they give back as they go.
    if !ending.iter().all(|process| process.wait(LAST_STEPS)) {
        printer.talk("some of its processes are still on their way out");
    }
    printer.passing("");
    outcome
}

/// How things are; nothing where no daemon runs, and none is started.
pub async fn status(paths: &HostPaths) -> Result<Option<Status>, CliError> {
    let mut conversation =
        match Conversation::start(&paths.control_socket(), &Request::Status).await {
            Err(ClientError::NotRunning | ClientError::Ended) => return Ok(None),
            other => other.map_err(|error| client_error(&error))?,
        };
    match conversation
        .next()
        .await
        .map_err(|error| client_error(&error))?
    {
        Event::Status(status) => Ok(Some(*status)),
        Event::Failed(failure) => Err(failure.into()),
        _ => Err(CliError::new("the daemon gave no status")),
    }
}
