//! The program at both ends of what is measured (`tests/wire/wire.rs`), and what it says.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use lighter_tests::probe;

/// The port on which it serves.
pub const PORT: u16 = 7070;
/// What it is called where it is put into a root of its own.
pub const NAME: &str = "wire";

/// Builds it.
///
/// # Errors
///
/// When it does not compile.
pub fn build(folder: &Path) -> Result<PathBuf> {
    let out = folder.join(NAME);
    probe::compile(Path::new(probe::WIRE), &out)?;
    Ok(out)
}

/// What it is asked to do.
#[derive(Clone, Copy)]
pub enum Order {
    /// Sends for so many seconds, by so many connections.
    Up(f64, usize),
    /// Receives, the same way.
    Down(f64, usize),
    /// One byte there and back, so often.
    Echo(usize),
    /// Connections for so many seconds, by so many hands.
    Connects(f64, usize),
}

impl Order {
    /// The words of its command line.
    #[must_use]
    pub fn words(self, to: SocketAddr) -> Vec<String> {
        let words: [String; 4] = match self {
            Self::Up(seconds, flows) => [
                "up".into(),
                to.to_string(),
                seconds.to_string(),
                flows.to_string(),
            ],
            Self::Down(seconds, flows) => [
                "down".into(),
                to.to_string(),
                seconds.to_string(),
                flows.to_string(),
            ],
            Self::Echo(count) => return vec!["echo".into(), to.to_string(), count.to_string()],
            Self::Connects(seconds, hands) => [
                "connects".into(),
                to.to_string(),
                seconds.to_string(),
                hands.to_string(),
            ],
        };
        words.into()
    }
}

/// What it answered.
#[derive(Clone, Debug)]
pub struct Answer(Vec<f64>);

impl Answer {
    /// Reads the line that it printed.
    ///
    /// # Errors
    ///
    /// When that is no line of numbers: it says there why it failed.
    pub fn parse(line: &str) -> Result<Self> {
        let numbers = line.split_whitespace().map(str::parse);
        let numbers: Vec<f64> = numbers
            .collect::<Result<_, _>>()
            .with_context(|| line.to_owned())?;
        ensure!(!numbers.is_empty(), "it printed nothing");
        Ok(Self(numbers))
    }

    fn at(&self, index: usize) -> f64 {
        self.0.get(index).copied().unwrap_or(f64::NAN)
    }

    /// Of flows: how much they carried, in bytes.
    #[must_use]
    pub fn bytes(&self) -> f64 {
        self.at(0)
    }

    /// How much there was a second: bytes of flows, connections.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.at(0) / self.at(1) * 1e6
    }

    /// Of flows: what the slowest tenth carried, as a part of what the one in the middle did.
    #[must_use]
    pub fn evenness(&self) -> f64 {
        self.at(2) / self.at(3)
    }

    /// Of an echo: the median in microseconds.
    #[must_use]
    pub fn micros(&self) -> f64 {
        self.at(0) / 1000.0
    }
}

/// The program as a server; ended when dropped.
pub struct Server(Child);

impl Server {
    /// Starts it in this thread's network.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn start(program: &Path) -> Result<Self> {
        let mut server = Command::new(program)
            .args(["serve", &PORT.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("the server")?;
        // It says that it serves.
        let said = server.stdout.as_mut().context("no standard output")?;
        std::io::Read::read_exact(said, &mut [0]).context("the server ended")?;
        Ok(Self(server))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs it as a client by this command.
///
/// # Errors
///
/// When it fails, with what it said.
pub fn run(mut command: Command, order: Order, to: SocketAddr) -> Result<Answer> {
    let out = command
        .args(order.words(to))
        .stdin(Stdio::null())
        .output()
        .context("the client")?;
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    ensure!(out.status.success(), "{:?}: {said}", order.words(to));
    Answer::parse(&String::from_utf8_lossy(&out.stdout))
}
