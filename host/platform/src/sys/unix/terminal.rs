//! The terminal a person types at.

use std::io;
use std::sync::{Mutex, Once, PoisonError};

use rustix::stdio::{stdin, stdout};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

/// How the terminal was before it was put into raw mode; nothing while it is not.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// The terminal in raw mode: every key goes through. Restored when dropped, and when this process
/// panics (the release build aborts then, and drops nothing).
pub struct RawTerminal(());

impl std::fmt::Debug for RawTerminal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RawTerminal")
    }
}

impl RawTerminal {
    /// Puts standard input into raw mode.
    ///
    /// # Errors
    /// Standard input is no terminal, or what the system answers.
    pub fn enter() -> io::Result<Self> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let others = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                restore();
                others(panic);
            }));
        });
        let before = tcgetattr(stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
        let this = Self(());
        tcsetattr(stdin(), OptionalActions::Now, &raw)?;
        Ok(this)
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        restore();
    }
}

fn restore() {
    // A panic while the lock is held elsewhere leaves the terminal as it is: waiting would hang.
    if let Ok(mut before) = BEFORE.try_lock()
        && let Some(before) = before.take()
    {
        // A terminal that has gone needs no restoring.
        let _ = tcsetattr(stdin(), OptionalActions::Now, &before);
    }
}

/// Waits until somebody wants this process to end; the signal's number.
///
/// # Errors
/// What the system answers to setting a handler.
pub async fn told_to_end() -> io::Result<i32> {
    let mut hang_up = signal(SignalKind::hangup())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut quit = signal(SignalKind::quit())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(tokio::select! {
        _ = hang_up.recv() => libc::SIGHUP,
        _ = interrupt.recv() => libc::SIGINT,
        _ = quit.recv() => libc::SIGQUIT,
        _ = terminate.recv() => libc::SIGTERM,
    })
}

/// Rows and columns of the terminal at standard output, or at standard input.
#[must_use]
pub fn terminal_size() -> Option<(u16, u16)> {
    [stdout(), stdin()]
        .into_iter()
        .find_map(|end| tcgetwinsize(end).ok())
        .map(|size| (size.ws_row, size.ws_col))
        .filter(|(rows, columns)| *rows > 0 && *columns > 0)
}

/// Tells of every change of the terminal's size.
#[derive(Debug)]
pub struct Resizes(Signal);

impl Resizes {
    /// Begins to watch.
    ///
    /// # Errors
    /// What the system answers to setting the handler.
    pub fn watch() -> io::Result<Self> {
        signal(SignalKind::window_change()).map(Self)
    }

    /// Waits for the next change.
    pub async fn next(&mut self) {
        if self.0.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

/// The signals that are passed on to a container, by their names.
///
/// # Errors
/// What the system answers to setting a handler.
pub fn forwarded_signals() -> io::Result<mpsc::Receiver<&'static str>> {
    let kinds = [
        ("HUP", SignalKind::hangup()),
        ("INT", SignalKind::interrupt()),
        ("QUIT", SignalKind::quit()),
        ("TERM", SignalKind::terminate()),
        ("USR1", SignalKind::user_defined1()),
        ("USR2", SignalKind::user_defined2()),
        ("ALRM", SignalKind::alarm()),
    ];
    let (sender, receiver) = mpsc::channel(16);
    for (name, kind) in kinds {
        let mut incoming = signal(kind)?;
        let sender = sender.clone();
        tokio::spawn(async move {
            while incoming.recv().await.is_some() && sender.send(name).await.is_ok() {}
        });
    }
    Ok(receiver)
}

/// Reads a line from the terminal without showing it.
///
/// # Errors
/// Standard input is no terminal, or what the system answers.
pub fn read_hidden_line() -> io::Result<String> {
    let before = tcgetattr(stdin())?;
    let mut hidden = before.clone();
    hidden.local_modes.remove(rustix::termios::LocalModes::ECHO);
    tcsetattr(stdin(), OptionalActions::Now, &hidden)?;
    let mut line = String::new();
    let read = io::stdin().read_line(&mut line);
    tcsetattr(stdin(), OptionalActions::Now, &before)?;
    read?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
