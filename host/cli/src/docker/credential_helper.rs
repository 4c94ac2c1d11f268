//! Programs that keep credentials (`docker-credential-*`): asked as docker asks them, with bounds.
//!
//! Called by `login`. A helper is run without a shell, and nothing of what it is told or says is written
//! down; its answer is parsed by who asked.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::exit::CliError;

/// How long a helper may take: it may have to ask its user for a passphrase first.
const HELPER_LIMIT: Duration = Duration::from_secs(120);
/// Most that is taken of what it says.
const MOST_SAID: usize = 1 << 20;

/// What `helper VERB` says to `input`.
///
/// # Errors
///
/// When there is no such program, it fails, or it has to be ended.
pub fn ask(helper: &str, verb: &str, input: &str) -> Result<String, CliError> {
    ask_within(helper, verb, input, HELPER_LIMIT)
}

/// Runs a helper, without a shell; one that does not end, or does not stop talking, is ended.
fn ask_within(helper: &str, verb: &str, input: &str, limit: Duration) -> Result<String, CliError> {
    let failed = |what: String| CliError::new(format!("`{helper} {verb}`: {what}"));
    let end = Instant::now() + limit;
    let mut child = Command::new(helper)
        .arg(verb)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let (sender, said) = mpsc::channel();
    let input = input.to_owned();
    // It ends when the helper does, which is seen to below.
    std::thread::spawn(move || sender.send(talk(stdin, stdout, &input)));
    let answered = said
        .recv_timeout(limit)
        .map_err(|_| format!("no answer within {} seconds", limit.as_secs()))
        .and_then(|said| said.map_err(|error| error.to_string()))
        .and_then(|said| {
            if said.len() > MOST_SAID {
                return Err("the answer is larger than 1 MiB".to_owned());
            }
            let status = wait_until(&mut child, end).map_err(|error| error.to_string())?;
            let text = String::from_utf8_lossy(&said).into_owned();
            match status {
                None => Err(format!("it did not end within {} seconds", limit.as_secs())),
                Some(status) if status.success() => Ok(text),
                Some(_) => Err(text.trim().to_owned()),
            }
        });
    if answered.is_err() {
        // Fails where it has ended by itself.
        let _ = child.kill();
        let _ = child.wait();
    }
    answered.map_err(failed)
}

/// Says `input` and listens to the end of the answer, or to its limit.
fn talk(
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    input: &str,
) -> std::io::Result<Vec<u8>> {
    if let Some(mut stdin) = stdin {
        // One that does not listen says by its exit code what it makes of that.
        let _ = stdin.write_all(input.as_bytes());
    }
    let mut said = Vec::new();
    if let Some(stdout) = stdout {
        stdout.take(MOST_SAID as u64 + 1).read_to_end(&mut said)?;
    }
    Ok(said)
}

/// How the process ended; none if it has not by then.
fn wait_until(child: &mut Child, end: Instant) -> std::io::Result<Option<ExitStatus>> {
    loop {
        let status = child.try_wait()?;
        if status.is_some() || Instant::now() > end {
            return Ok(status);
        }
        // The standard library has no wait with a limit; that it has ended is near, as it said all it had to.
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The words of a helper that is this shell script, given no longer than `limit`.
    #[cfg(unix)]
    fn helped(script: &str, input: &str, limit: Duration) -> Result<String, String> {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("docker-credential-x");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        let path = path.to_str().unwrap();
        loop {
            match ask_within(path, "get", input, limit) {
                // Another test has just forked, and holds what was written here.
                Err(error) if error.message.contains("busy") => std::thread::yield_now(),
                said => return said.map_err(|error| error.message),
            }
        }
    }

    #[test]
    #[cfg(unix)]
    fn a_helper_without_end_is_ended_and_its_words_are_bounded() {
        let (ample, short) = (Duration::from_secs(60), Duration::from_millis(300));
        assert_eq!(
            helped("cat; echo $1", "r.test;$x", ample).unwrap(),
            "r.test;$xget\n"
        );
        let refused = |script: &str, limit| helped(script, "x", limit).unwrap_err();
        assert!(refused("echo no such thing; exit 1", ample).ends_with(": no such thing"));
        assert!(refused("exec yes", ample).ends_with("larger than 1 MiB"));
        assert!(refused("exec sleep 1000", short).contains("no answer within"));
        // One that says nothing more but does not go.
        let silent = refused("exec sleep 1000 >&-", short);
        assert!(silent.contains("did not end within"), "{silent}");
        // One that is told more than it takes.
        let long = "x".repeat(1 << 20);
        assert_eq!(helped("echo enough", &long, ample).unwrap(), "enough\n");
    }
}
