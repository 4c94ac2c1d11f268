//! The floor of the rows about starts: this program again, as [`lighter_tests::floor`].

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result};

/// Says that this program is to be the floor.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Is the floor, until nobody asks any more.
///
/// # Errors
///
/// When a container cannot be made as it should be.
pub fn run(_args: &Args) -> Result<()> {
    lighter_tests::floor::serve()
}

/// The other program.
pub struct Floor {
    process: Child,
    /// None once it is to end.
    questions: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Floor {
    /// Starts it.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn start() -> Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg("bench-floor")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let questions = process.stdin.take();
        let answers = process.stdout.take().context("no standard output")?;
        Ok(Self {
            process,
            questions,
            answers: BufReader::new(answers),
        })
    }

    /// Samples in milliseconds, each the mean of some lives in a row; the first life warms all.
    ///
    /// # Errors
    ///
    /// When it ends; why is on standard error.
    pub fn samples(&mut self, count: usize, lives: u32) -> Result<Vec<f64>> {
        self.life()?;
        let mut samples = Vec::new();
        for _ in 0..count {
            let mut sum = 0.0;
            for _ in 0..lives {
                sum += self.life()?;
            }
            samples.push(sum / f64::from(lives));
        }
        Ok(samples)
    }

    fn life(&mut self) -> Result<f64> {
        let questions = self.questions.as_mut().context("no standard input")?;
        questions.write_all(b"\n").context("the floor has ended")?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        let micros: u32 = line.trim().parse().context("the floor has ended")?;
        Ok(f64::from(micros) / 1000.0)
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        // It ends with its questions, and clears up after itself.
        drop(self.questions.take());
        let _ = self.process.wait();
    }
}
