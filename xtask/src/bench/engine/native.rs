//! Our engine without a machine: init and agent as the image has them, in namespaces of this system, as the
//! agent's native tests run them.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use lighter_protocol::{
    BootSettings, Decoder, EngineState, Health, Hello, Message, Secret, VERSION,
};

use super::groups;

/// Longest it may take to serve.
const LIMIT: Duration = Duration::from_secs(60);

/// A running engine; ended when dropped, with all that it made.
pub struct Native {
    process: Child,
    dir: tempfile::TempDir,
}

impl Native {
    /// Starts the programs of this folder with nothing on their disk, and waits until the engine serves.
    ///
    /// # Errors
    ///
    /// When it does not come up.
    pub fn start(programs: &Path) -> Result<Self> {
        // Short: the path of a unix socket has 108 bytes. Where the reference has its data, too.
        let dir = tempfile::Builder::new().prefix("ltn").tempdir_in("/tmp")?;
        let log = std::fs::File::create(dir.path().join("log"))?;
        let program = |name: &str| programs.join(name);
        let process = Command::new("unshare")
            .args(["--pid", "--mount", "--net", "--fork", "--kill-child"])
            .arg("--mount-proc")
            .arg(program("lighter-init"))
            .args([Path::new("--native"), Path::new("--dir"), dir.path()])
            .args([Path::new("--agent"), &program("lighter-agent")])
            .args([Path::new("--enter"), &program("lighter-enter")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("unshare")?;
        let mut native = Self { process, dir };
        native.greet().with_context(|| native.said())?;
        Ok(native)
    }

    /// The socket of the API.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("docker.sock")
    }

    /// Init, whose namespaces are those of the engine.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn init(&self) -> Result<u32> {
        let unshare = self.process.id();
        let path = format!("/proc/{unshare}/task/{unshare}/children");
        let children = std::fs::read_to_string(path)?;
        children.trim().parse().context("init has ended")
    }

    fn said(&self) -> String {
        let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
        format!("our engine does not come up: {log}")
    }

    /// Does the host's part: says hello, and asks until the engine is ready.
    fn greet(&mut self) -> Result<()> {
        let limit = Instant::now() + LIMIT;
        let mut stream = loop {
            match UnixStream::connect(self.dir.path().join("control.sock")) {
                Ok(stream) => break stream,
                Err(_) if Instant::now() < limit && self.process.try_wait()?.is_none() => {
                    // It has no event for being there.
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(error) => return Err(error).context("control.sock"),
            }
        };
        stream.set_read_timeout(Some(LIMIT))?;
        let mut decoder = Decoder::new();
        match ask(&mut stream, &mut decoder, hello()?)? {
            Message::Welcome(_) => {}
            other => bail!("{other:?} is no welcome"),
        }
        loop {
            match ask(&mut stream, &mut decoder, Health { seq: 1 })? {
                Message::HealthOk(health) if health.engine == EngineState::Ready => return Ok(()),
                Message::HealthOk(health) if health.engine == EngineState::Starting => {}
                other => bail!("the engine says {other:?}"),
            }
            ensure!(Instant::now() < limit, "the engine is not ready in time");
        }
    }
}

fn ask(
    stream: &mut UnixStream,
    decoder: &mut Decoder,
    question: impl Into<Message>,
) -> Result<Message> {
    stream.write_all(&question.into().encode()?)?;
    let mut block = [0; 4096];
    loop {
        if let Some(message) = decoder.next_message()? {
            return Ok(message);
        }
        let count = stream.read(&mut block)?;
        ensure!(count > 0, "the agent hung up");
        decoder.push(&block[..count]);
    }
}

fn hello() -> Result<Hello> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let boot = BootSettings {
        clock_unix_ns: u64::try_from(now.as_nanos())?,
        machine_id: "bench".into(),
        hostname: "bench".into(),
        ..BootSettings::default()
    };
    Ok(Hello {
        version: VERSION,
        secret: Secret::new([7; 32]),
        boot: Box::new(boot),
    })
}

impl Drop for Native {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        groups::remove(self.dir.path());
    }
}
