//! Runs a program to its end with a bound on its time, and keeps everything it said.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// A program that ended, or was ended at the bound.
#[derive(Debug)]
pub struct Finished {
    /// The exit code; 128 + n for signal n.
    pub code: i32,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
    /// The command line, for messages.
    pub command: String,
}

impl Finished {
    /// Standard output as text.
    #[must_use]
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard error as text.
    #[must_use]
    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// Fails the test unless the program ended with 0.
    pub fn ok(self) -> Self {
        self.exits(0)
    }

    /// Fails the test unless the program ended with this code.
    ///
    /// # Panics
    ///
    /// With everything the program said, if its code was another.
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(
            self.code,
            code,
            "`{}` ended with {}\nstdout: {}\nstderr: {}",
            self.command,
            self.code,
            self.out(),
            self.err()
        );
        self
    }
}

/// Longest time until something is so that was caused before: long, for emulation on a busy machine.
const COMES_TRUE: Duration = Duration::from_secs(180);

/// Asks until it is so; each question is a command of its own.
///
/// # Panics
///
/// If it never is.
pub fn until(what: &str, so: impl Fn() -> bool) {
    let limit = Instant::now() + COMES_TRUE;
    while !so() {
        assert!(Instant::now() < limit, "never: {what}");
    }
}

/// Runs `command` with `input` on its standard input; kills it after `limit`.
///
/// # Panics
///
/// If it cannot be started, or is still running at the limit.
#[must_use]
pub fn run(mut command: Command, input: &[u8], limit: Duration) -> Finished {
    let line = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{line}: {e}"));
    let stdin = child.stdin.take();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || {
        if let Some(mut stdin) = stdin {
            // The program may end without reading it all.
            let _ = stdin.write_all(&input);
        }
    });
    let stdout = drain(child.stdout.take());
    let stderr = drain(child.stderr.take());
    let code = wait(&mut child, &line, limit);
    let _ = writer.join();
    Finished {
        code,
        stdout: stdout.join().unwrap_or_default(),
        stderr: stderr.join().unwrap_or_default(),
        command: line,
    }
}

fn drain<R: Read + Send + 'static>(source: Option<R>) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut source) = source {
            let _ = source.read_to_end(&mut bytes);
        }
        bytes
    })
}

fn wait(child: &mut Child, line: &str, limit: Duration) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    let pid = child.id();
    let (done, over) = mpsc::channel::<()>();
    let guard = std::thread::spawn(move || {
        if over.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout) {
            let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
            return true;
        }
        false
    });
    let status = child.wait().unwrap_or_else(|e| panic!("{line}: {e}"));
    let _ = done.send(());
    let late = guard.join().unwrap_or(false);
    assert!(!late, "`{line}` was still running after {limit:?}");
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}
