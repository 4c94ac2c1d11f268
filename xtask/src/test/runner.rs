//! `cargo xtask test-binary PROGRAM …`: what cargo starts in place of each test binary.
//!
//! Hidden: only `cargo xtask test` names it to cargo as the runner. It starts the binary as cargo
//! would have, passes on what it prints, and adds one line about it to the file of results.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::libtest::{Follower, Outcome};

/// The file to which each binary adds one line of JSON.
pub const RESULTS: &str = "LIGHTER_TEST_RESULTS";
/// How long words may still arrive after the binary has ended: something it left running may hold
/// its standard output open for ever.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Run one test binary for `cargo xtask test`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The binary
    program: PathBuf,
    /// Its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// One test binary as it ended.
#[derive(Debug, Serialize, Deserialize)]
pub struct Ran {
    /// `package/binary`.
    pub binary: String,
    /// From its start to its end.
    pub seconds: f64,
    /// Its exit code, 128 + n for signal n.
    pub code: i32,
    /// Its tests in the order of their ends.
    pub tests: Vec<Outcome>,
}

/// Runs the binary and ends with its exit code.
///
/// # Errors
///
/// When it cannot be started, or the result cannot be noted.
pub fn run(args: &Args) -> Result<ExitCode> {
    let results = std::env::var_os(RESULTS);
    let is_test = args
        .program
        .parent()
        .is_some_and(|folder| folder.ends_with("deps"));
    let Some(results) = results.filter(|_| is_test) else {
        // Programs in the documentation, and whatever else cargo may run: not followed.
        let error = Command::new(&args.program).args(&args.arguments).exec();
        return Err(error).with_context(|| args.program.display().to_string());
    };
    let ran = follow(args, &mut std::io::stdout())?;
    let mut line = serde_json::to_string(&ran)?;
    line.push('\n');
    std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(&results)
        .and_then(|mut file| file.write_all(line.as_bytes()))
        .with_context(|| format!("cannot note a result in {}", Path::new(&results).display()))?;
    Ok(ExitCode::from(u8::try_from(ran.code).unwrap_or(101)))
}

fn follow(args: &Args, out: &mut impl Write) -> Result<Ran> {
    let list = list(args)?;
    let start = Instant::now();
    let mut child = Command::new(&args.program)
        .args(&args.arguments)
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| args.program.display().to_string())?;
    let mut follower = Follower::new(&list, threads(&args.arguments), start);
    let lines = lines_of(child.stdout.take().context("no output")?);
    let ended = wait_beside(move || child.wait());
    let status = loop {
        match lines.recv_timeout(Duration::from_millis(100)) {
            Ok((line, at)) => show(out, &mut follower, &line, at)?,
            // No more words: only the end itself is missing.
            Err(mpsc::RecvTimeoutError::Disconnected) => break ended.recv()?,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                if let Ok(status) = ended.try_recv() {
                    last_words(out, &lines, &mut follower)?;
                    break status;
                }
            }
        }
    }?;
    let end = Instant::now();
    Ok(Ran {
        binary: binary_name(&args.program),
        seconds: (end - start).as_secs_f64(),
        code: status
            .code()
            .unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
        tests: follower.finish(end),
    })
}

fn last_words(
    out: &mut impl Write,
    lines: &mpsc::Receiver<(Vec<u8>, Instant)>,
    follower: &mut Follower,
) -> Result<()> {
    let limit = Instant::now() + LAST_WORDS;
    while let Ok((line, at)) = lines.recv_timeout(limit.saturating_duration_since(Instant::now())) {
        show(out, follower, &line, at)?;
    }
    Ok(())
}

fn show(out: &mut impl Write, follower: &mut Follower, line: &[u8], at: Instant) -> Result<()> {
    out.write_all(line)?;
    out.flush()?;
    let text = String::from_utf8_lossy(line);
    follower.line(text.trim_end_matches(['\n', '\r']), at);
    Ok(())
}

/// The lines as they come, each with its time.
fn lines_of(from: std::process::ChildStdout) -> mpsc::Receiver<(Vec<u8>, Instant)> {
    let (give, take) = mpsc::channel();
    std::thread::spawn(move || {
        let mut from = BufReader::new(from);
        loop {
            let mut line = Vec::new();
            match from.read_until(b'\n', &mut line) {
                Ok(1..) if give.send((line, Instant::now())).is_ok() => {}
                _ => return,
            }
        }
    });
    take
}

fn wait_beside<T: Send + 'static>(wait: impl FnOnce() -> T + Send + 'static) -> mpsc::Receiver<T> {
    let (give, take) = mpsc::channel();
    std::thread::spawn(move || give.send(wait()));
    take
}

/// The tests that these arguments choose, in order. A program without the harness prints nothing.
fn list(args: &Args) -> Result<String> {
    let listed = Command::new(&args.program)
        .args(["--list", "--format", "terse"])
        .args(&args.arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .with_context(|| args.program.display().to_string())?;
    Ok(String::from_utf8_lossy(&listed.stdout).into_owned())
}

/// How many tests the harness runs at a time.
fn threads(arguments: &[String]) -> usize {
    let mut words = arguments.iter();
    let mut asked = None;
    while let Some(word) = words.next() {
        if word == "--test-threads" {
            asked = words.next().cloned();
        } else if let Some(number) = word.strip_prefix("--test-threads=") {
            asked = Some(number.to_owned());
        }
    }
    asked
        .or_else(|| std::env::var("RUST_TEST_THREADS").ok())
        .and_then(|number| number.parse().ok())
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
}

/// `package/binary`, without the hash that cargo appends.
fn binary_name(program: &Path) -> String {
    let file = program.file_name().unwrap_or_default().to_string_lossy();
    let name = file.rsplit_once('-').map_or(&*file, |(name, _)| name);
    match std::env::var("CARGO_PKG_NAME") {
        Ok(package) => format!("{package}/{name}"),
        Err(_) => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A test binary played by a shell script.
    fn played(script: &str) -> Ran {
        let folder = tempfile::tempdir().expect("a folder");
        let program = folder.path().join("played-0123abc");
        std::fs::write(&program, script).expect("written");
        let args = Args {
            program: "sh".into(),
            arguments: vec![program.display().to_string()],
        };
        // The list is asked for through the same shell, whose own options it would be: no list then.
        follow(&args, &mut std::io::sink()).expect("followed")
    }

    #[test]
    fn results_and_the_exit_code_are_the_binarys() {
        let ran = played("echo 'test a ... ok'; echo 'test b ... FAILED'; exit 101");
        assert_eq!(ran.code, 101);
        let results: Vec<&str> = ran.tests.iter().map(|t| t.result.as_str()).collect();
        assert_eq!(results, ["ok", "failed"]);
    }

    #[test]
    fn a_binary_that_leaves_something_running_does_not_hold_up_the_rest() {
        let ran = played("sleep 1000 & echo \"test $! ... ok\"; kill -9 $$");
        assert_eq!(ran.code, 137);
        let left = &ran.tests[0].name;
        let alive = Path::new("/proc").join(left).exists();
        let _ = Command::new("kill").arg(left).status();
        assert!(alive, "it waited for what was left running");
    }

    #[test]
    fn threads_are_the_harness_own_number() {
        let words = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
        assert_eq!(threads(&words(&["x", "--test-threads=3"])), 3);
        assert_eq!(threads(&words(&["--test-threads", "7"])), 7);
    }

    #[test]
    fn binaries_are_named_without_their_hash() {
        let name = binary_name(Path::new("/t/debug/deps/some-name-0f3a"));
        // Under cargo the package stands before it.
        assert_eq!(name.rsplit('/').next(), Some("some-name"));
    }
}
