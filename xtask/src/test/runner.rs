//! `cargo xtask test-binary PROGRAM …`: what cargo starts in place of each test binary.
//!
//! Hidden: only `cargo xtask test` names it to cargo as the runner. It starts the binary as cargo
//! would have, passes on what it prints, and adds one line about it to the file of results. A binary
//! in which no test ends for a long time is killed, and its tests are named as unfinished. With
//! [`RETRY`] what failed or did not finish is run once more, one test at a time; what passes then is
//! `flaky`, never `ok`.

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
/// Set where tests that fail are to be run a second time.
pub const RETRY: &str = "LIGHTER_TEST_RETRY";
/// How long a binary may go without a test's end.
const SILENCE: Duration = Duration::from_secs(10 * 60);
/// The same with the large counts.
const LONG_SILENCE: Duration = Duration::from_secs(3 * 60 * 60);
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
    let silence = match std::env::var_os("LIGHTER_LONG") {
        Some(_) => LONG_SILENCE,
        None => SILENCE,
    };
    let mut ran = follow(args, silence, &mut std::io::stdout())?;
    if std::env::var_os(RETRY).is_some() {
        retry(args, silence, &mut ran, &mut std::io::stdout())?;
    }
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

/// Runs what did not pass once more and notes what passes now.
fn retry(args: &Args, silence: Duration, ran: &mut Ran, out: &mut impl Write) -> Result<()> {
    let names: Vec<String> = ran
        .tests
        .iter()
        .filter(|test| test.is_bad())
        .map(|test| test.name.clone())
        .collect();
    if names.is_empty() {
        return Ok(());
    }
    writeln!(out, "once more, one at a time: {}", names.join(" "))?;
    let again = Args {
        program: args.program.clone(),
        arguments: ["--test-threads=1", "--exact"]
            .map(str::to_owned)
            .into_iter()
            .chain(names)
            .collect(),
    };
    let second = follow(&again, silence, out)?;
    for test in ran.tests.iter_mut().filter(|test| test.is_bad()) {
        match second.tests.iter().find(|other| other.name == test.name) {
            Some(other) if other.result == "ok" => "flaky".clone_into(&mut test.result),
            // Its own end says more than that of the binary around it.
            Some(other) if test.result == "unfinished" => test.clone_from(other),
            _ => {}
        }
    }
    if second.code == 0 && !ran.tests.iter().any(Outcome::is_bad) {
        ran.code = 0;
    }
    Ok(())
}

fn follow(args: &Args, silence: Duration, out: &mut impl Write) -> Result<Ran> {
    let list = list(args)?;
    let start = Instant::now();
    let mut child = Command::new(&args.program)
        .args(&args.arguments)
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| args.program.display().to_string())?;
    let mut follower = Follower::new(&list, threads(&args.arguments), start);
    let lines = lines_of(child.stdout.take().context("no output")?);
    let id = child.id();
    let ended = wait_beside(move || child.wait());
    let mut heard = start;
    let status = loop {
        match lines.recv_timeout(Duration::from_millis(100)) {
            Ok((line, at)) => {
                // Whatever else is said, by the harness of slow tests say, is no news.
                if line.starts_with(b"test ") && !line.ends_with(b"seconds\n") {
                    heard = at;
                }
                show(out, &mut follower, &line, at)?;
            }
            // No more words: only the end itself is missing.
            Err(mpsc::RecvTimeoutError::Disconnected) => break ended.recv()?,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                if let Ok(status) = ended.try_recv() {
                    last_words(out, &lines, &mut follower)?;
                    break status;
                }
                if heard.elapsed() > silence {
                    writeln!(out, "no test has ended for {} s: killed", silence.as_secs())?;
                    kill(id);
                    heard = Instant::now();
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

/// Ends a binary that is stuck, unless it has just ended by itself. What it started lives on, if it
/// does not end with it.
fn kill(id: u32) {
    let _ = Command::new("kill")
        .args(["-KILL", &id.to_string()])
        .status();
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
        follow(&args, Duration::from_secs(60), &mut std::io::sink()).expect("followed")
    }

    /// What came of a binary with three tests that does so when called the first time, and `after`
    /// when called again.
    fn played_twice(first: &str, after: &str, silence: Duration) -> Ran {
        let folder = tempfile::tempdir().expect("a folder");
        let program = folder.path().join("played");
        let script = format!(
            "#!/bin/sh
cd {}
case $1 in --list) printf 'a: test\\nb: test\\nc: test\\n';;
--test-threads=1) echo \"$*\" > again; {after};;
*) {first};;
esac",
            folder.path().display()
        );
        std::fs::write(&program, script).expect("written");
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&program, executable).expect("executable");
        let args = Args {
            program,
            arguments: vec![],
        };
        let mut out = std::io::sink();
        let mut ran = follow(&args, silence, &mut out).expect("followed");
        retry(&args, silence, &mut ran, &mut out).expect("followed again");
        ran
    }

    fn results(ran: &Ran) -> Vec<(&str, &str)> {
        let each = ran.tests.iter();
        let mut results: Vec<_> = each.map(|t| (t.name.as_str(), t.result.as_str())).collect();
        results.sort_unstable();
        results
    }

    #[test]
    fn what_passes_the_second_time_is_flaky_and_what_fails_again_has_failed() {
        let first =
            "echo 'test a ... ok'; echo 'test b ... FAILED'; echo 'test c ... FAILED'; exit 101";
        let ran = played_twice(
            first,
            "echo 'test b ... ok'; echo 'test c ... FAILED'; exit 101",
            SILENCE,
        );
        assert_eq!(
            results(&ran),
            [("a", "ok"), ("b", "flaky"), ("c", "failed")]
        );
        assert_eq!(ran.code, 101);
        let ran = played_twice(first, "echo 'test b ... ok'; echo 'test c ... ok'", SILENCE);
        assert_eq!(results(&ran), [("a", "ok"), ("b", "flaky"), ("c", "flaky")]);
        assert_eq!(ran.code, 0);
    }

    #[test]
    fn a_binary_that_is_stuck_is_killed_and_no_test_of_it_is_forgotten() {
        let stuck = "echo 'test a ... ok'; exec sleep 1000";
        let ran = played_twice(
            stuck,
            "echo 'test b ... ok'; echo 'test c ... FAILED'; exit 101",
            Duration::from_secs(3),
        );
        assert_eq!(
            results(&ran),
            [("a", "ok"), ("b", "flaky"), ("c", "failed")]
        );
        assert_eq!(ran.code, 137);
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
