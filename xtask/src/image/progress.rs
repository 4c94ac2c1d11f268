//! Shows how far a long command is, and keeps all its words in a log.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How many of the log's last lines are shown when the command fails.
const TAIL: usize = 30;

/// Runs `command`, counting those lines of its that `is_step` knows against `total`.
///
/// On a terminal one line is rewritten; elsewhere a plain line appears every five percent.
/// If the command fails, the end of its output is shown.
pub fn run(
    what: &str,
    command: &mut Command,
    total: u32,
    log: &Path,
    is_step: impl Fn(&str) -> bool,
) -> Result<u32> {
    let (reader, writer) = io::pipe()?;
    command.stdout(writer.try_clone()?).stderr(writer);
    let mut child = command
        .spawn()
        .with_context(|| format!("cannot run {:?}", command.get_program()))?;
    // The command's own copies of the pipe must go, else its end is never seen.
    command.stdout(io::stderr()).stderr(io::stderr());
    let mut log_file =
        File::create(log).with_context(|| format!("cannot create {}", log.display()))?;
    let mut display = Display::new(what, total);
    let mut tail = std::collections::VecDeque::with_capacity(TAIL);
    for line in BufReader::new(reader).split(b'\n') {
        let line = line?;
        log_file.write_all(&line)?;
        log_file.write_all(b"\n")?;
        let text = String::from_utf8_lossy(&line).into_owned();
        if is_step(&text) {
            display.step();
        }
        if tail.len() == TAIL {
            tail.pop_front();
        }
        tail.push_back(text);
    }
    display.end();
    let status = child.wait()?;
    if !status.success() {
        for line in &tail {
            eprintln!("{line}");
        }
        bail!(
            "{what} failed ({status}); everything it said is in {}",
            log.display()
        );
    }
    Ok(display.done)
}

/// What kbuild prints for each step: `  CC      fs/exec.o`.
pub fn is_step_of_kbuild(line: &str) -> bool {
    line.strip_prefix("  ")
        .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_uppercase()))
}

struct Display<'a> {
    what: &'a str,
    total: u32,
    done: u32,
    started: Instant,
    shown: Option<Instant>,
    shown_percent: u32,
    terminal: bool,
}

impl<'a> Display<'a> {
    fn new(what: &'a str, total: u32) -> Self {
        let terminal = io::stderr().is_terminal();
        Self {
            what,
            total: total.max(1),
            done: 0,
            started: Instant::now(),
            shown: None,
            shown_percent: 0,
            terminal,
        }
    }

    fn step(&mut self) {
        self.done += 1;
        // The total is only what another build needed: never claim to be finished.
        let percent = (self.done * 100 / self.total).min(99);
        let due = if self.terminal {
            self.shown
                .is_none_or(|t| t.elapsed() > Duration::from_millis(200))
        } else {
            percent >= self.shown_percent + 5
        };
        if due {
            self.shown = Some(Instant::now());
            self.shown_percent = percent;
            let text = format!(
                "{}: {percent:2} % ({} s)",
                self.what,
                self.started.elapsed().as_secs()
            );
            if self.terminal {
                eprint!("\r{text} ");
            } else {
                eprintln!("{text}");
            }
        }
    }

    fn end(&self) {
        let text = format!(
            "{}: {} steps, {} s",
            self.what,
            self.done,
            self.started.elapsed().as_secs()
        );
        eprintln!("{}{text}", if self.terminal { "\r" } else { "" });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_steps_of_kbuild_count() {
        assert!(is_step_of_kbuild("  CC      fs/exec.o"));
        assert!(is_step_of_kbuild("  LDS     arch/x86/kernel/vmlinux.lds"));
        assert!(!is_step_of_kbuild("make[1]: Entering directory"));
        assert!(!is_step_of_kbuild("fs/exec.c: warning: x"));
        assert!(!is_step_of_kbuild("   note"));
    }

    #[test]
    fn a_failing_command_is_an_error_that_names_its_log() {
        let log = tempfile::NamedTempFile::new().expect("a temporary file");
        let mut command = Command::new("sh");
        command.args(["-c", "echo '  CC      a.o'; echo broken >&2; exit 3"]);
        let error =
            run("test", &mut command, 10, log.path(), is_step_of_kbuild).expect_err("it failed");
        assert!(
            error
                .to_string()
                .contains(&log.path().display().to_string())
        );
        assert_eq!(
            std::fs::read_to_string(log.path()).expect("log"),
            "  CC      a.o\nbroken\n"
        );
    }
}
