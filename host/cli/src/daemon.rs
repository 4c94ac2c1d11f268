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

/// Asks for the machine and waits until it can be used, saying what is being done.
pub async fn up(
    paths: &HostPaths,
    folder: Option<PathBuf>,
    printer: &Printer,
) -> Result<(), CliError> {
    let request = Request::Up { folder };
    let mut conversation = ask(paths, &request).await?;
    match events(&mut conversation, printer).await {
        // The daemon was killed under it. The next takes the machine over and can be asked the same;
        // one that ends again has a reason that its log tells.
        Err(ClientError::BrokenOff | ClientError::Io(_)) => {
            let mut conversation = ask(paths, &request).await?;
            follow(&mut conversation, printer).await
        }
        outcome => outcome.map_err(|error| client_error(&error))?,
    }
}

/// Follows a request to its end, saying what is being done.
pub async fn follow(conversation: &mut Conversation, printer: &Printer) -> Result<(), CliError> {
    events(conversation, printer)
        .await
        .map_err(|error| client_error(&error))?
}

/// What came of a request; an error where the daemon did not say.
async fn events(
    conversation: &mut Conversation,
    printer: &Printer,
) -> Result<Result<(), CliError>, ClientError> {
    let mut ending: Vec<sys::ProcessWatch> = Vec::new();
    let outcome = loop {
        match conversation.next().await? {
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
    Ok(outcome)
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

#[cfg(all(test, unix))]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::os::unix::net::UnixListener;

    use super::*;

    /// A daemon that says these words to each client in turn, once it has heard what is asked.
    fn played(paths: &HostPaths, turns: Vec<&'static str>) -> std::thread::JoinHandle<Vec<String>> {
        std::fs::create_dir_all(&paths.run).expect("a folder");
        let listener = UnixListener::bind(paths.control_socket()).expect("a socket");
        std::thread::spawn(move || {
            let turn = |words: &str| {
                let (mut stream, _) = listener.accept().expect("a client");
                writeln!(stream, r#"{{"event":"hello","version":"1"}}"#).expect("it listens");
                let mut heard = String::new();
                BufReader::new(&stream)
                    .read_line(&mut heard)
                    .expect("it asks");
                stream.write_all(words.as_bytes()).expect("it listens");
                heard
            };
            turns.into_iter().map(turn).collect()
        })
    }

    #[test]
    fn up_asks_the_next_daemon_if_the_first_is_killed_under_it() {
        let home = tempfile::tempdir().expect("a folder");
        let [config, data, cache, run] =
            ["config", "data", "cache", "run"].map(|name| home.path().join(name));
        let paths = HostPaths {
            config,
            data,
            cache,
            run,
        };
        let step = "{\"event\":\"progress\",\"step\":\"a\"}\n";
        let daemon = played(&paths, vec![step, "{\"event\":\"done\"}\n"]);
        let printer = Printer::for_process();
        let up = up(&paths, None, &printer);
        runtime()
            .expect("a runtime")
            .block_on(up)
            .expect("the second answers");
        let heard = daemon.join().expect("both were asked");
        assert_eq!(heard[0], heard[1]);
    }
}
