//! The console a person types at.

use std::io;
use std::time::Duration;

use tokio::sync::mpsc;
use windows_sys::Win32::Foundation::HANDLE;
use windows_sys::Win32::System::Console::{
    CONSOLE_SCREEN_BUFFER_INFO, ENABLE_ECHO_INPUT, ENABLE_LINE_INPUT, ENABLE_PROCESSED_INPUT,
    ENABLE_VIRTUAL_TERMINAL_INPUT, ENABLE_VIRTUAL_TERMINAL_PROCESSING, GetConsoleMode,
    GetConsoleScreenBufferInfo, GetStdHandle, STD_INPUT_HANDLE, STD_OUTPUT_HANDLE, SetConsoleMode,
};

/// How often the size is looked at: the console tells of changes only those who read its events.
const LOOK: Duration = Duration::from_millis(250);

fn handle(which: u32) -> HANDLE {
    // SAFETY: takes a constant and returns a handle that this process does not own.
    unsafe { GetStdHandle(which) }
}

fn mode(console: HANDLE) -> io::Result<u32> {
    let mut mode = 0;
    // SAFETY: the pointer is to a live u32; a handle that is no console is an error.
    if unsafe { GetConsoleMode(console, &raw mut mode) } == 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(mode)
}

fn set_mode(console: HANDLE, mode: u32) -> io::Result<()> {
    // SAFETY: no pointers; a handle that is no console is an error.
    if unsafe { SetConsoleMode(console, mode) } == 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// The console in raw mode: every key goes through. Restored when dropped.
#[derive(Debug)]
pub struct RawTerminal {
    input: u32,
    output: u32,
}

impl RawTerminal {
    /// Puts the console into raw mode.
    ///
    /// # Errors
    /// Standard input is no console, or what the system answers.
    pub fn enter() -> io::Result<Self> {
        let (stdin, stdout) = (handle(STD_INPUT_HANDLE), handle(STD_OUTPUT_HANDLE));
        let this = Self {
            input: mode(stdin)?,
            output: mode(stdout)?,
        };
        let cooked = ENABLE_ECHO_INPUT | ENABLE_LINE_INPUT | ENABLE_PROCESSED_INPUT;
        set_mode(
            stdin,
            (this.input & !cooked) | ENABLE_VIRTUAL_TERMINAL_INPUT,
        )?;
        set_mode(stdout, this.output | ENABLE_VIRTUAL_TERMINAL_PROCESSING)?;
        Ok(this)
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // A console that has gone needs no restoring.
        let _ = set_mode(handle(STD_INPUT_HANDLE), self.input);
        let _ = set_mode(handle(STD_OUTPUT_HANDLE), self.output);
    }
}

/// Rows and columns of the console's window.
#[must_use]
pub fn terminal_size() -> Option<(u16, u16)> {
    // SAFETY: the structure is plain integers, for which all zeroes is a value.
    let mut info: CONSOLE_SCREEN_BUFFER_INFO = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live structure; a handle that is no console is an error.
    if unsafe { GetConsoleScreenBufferInfo(handle(STD_OUTPUT_HANDLE), &raw mut info) } == 0 {
        return None;
    }
    let window = info.srWindow;
    let size = |from: i16, to: i16| u16::try_from(i32::from(to) - i32::from(from) + 1).ok();
    Some((
        size(window.Top, window.Bottom)?,
        size(window.Left, window.Right)?,
    ))
}

/// Tells of every change of the console's size.
#[derive(Debug)]
pub struct Resizes(Option<(u16, u16)>);

impl Resizes {
    /// Begins to watch.
    ///
    /// # Errors
    /// Never.
    pub fn watch() -> io::Result<Self> {
        Ok(Self(terminal_size()))
    }

    /// Waits for the next change.
    pub async fn next(&mut self) {
        loop {
            tokio::time::sleep(LOOK).await;
            let now = terminal_size();
            if now != self.0 {
                self.0 = now;
                return;
            }
        }
    }
}

/// What is passed on to a container: Ctrl-C, as the signal it stands for elsewhere.
///
/// # Errors
/// Never; without a handler nothing is passed on.
pub fn forwarded_signals() -> io::Result<mpsc::Receiver<&'static str>> {
    let (sender, receiver) = mpsc::channel(16);
    tokio::spawn(async move {
        while tokio::signal::ctrl_c().await.is_ok() && sender.send("INT").await.is_ok() {}
    });
    Ok(receiver)
}

/// Waits until somebody wants this process to end; the number other systems give that signal.
///
/// # Errors
/// What the system answers to setting the handler.
pub async fn told_to_end() -> io::Result<i32> {
    tokio::signal::ctrl_c().await?;
    Ok(2)
}

/// Reads a line from the console without showing it.
///
/// # Errors
/// Standard input is no console, or what the system answers.
pub fn read_hidden_line() -> io::Result<String> {
    let stdin = handle(STD_INPUT_HANDLE);
    let before = mode(stdin)?;
    set_mode(stdin, before & !ENABLE_ECHO_INPUT)?;
    let mut line = String::new();
    let read = io::stdin().read_line(&mut line);
    set_mode(stdin, before)?;
    read?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
