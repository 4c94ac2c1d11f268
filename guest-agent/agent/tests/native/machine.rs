//! Init and agent in namespaces of their own, and a host that talks to them.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lighter_protocol::{
    BootSettings, Decoder, EngineState, Health, Hello, Message, Refused, Secret, VERSION, Welcome,
};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::retry_on_intr;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

/// Programs of other packages, which `cargo test -p lighter-agent` does not build.
fn program(package: &str, name: &str) -> PathBuf {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| {
        for package in ["lighter-init", "lighter-runtime"] {
            let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
            let mut build = Command::new(cargo);
            build.args(["build", "--quiet", "--package", package, "--bins"]);
            assert!(build.status().unwrap().success(), "building {package}");
        }
    });
    let path = Path::new(env!("CARGO_BIN_EXE_lighter-agent")).with_file_name(name);
    assert!(path.exists(), "{package} has no program {name}");
    path
}

pub struct Machine {
    process: Child,
    dir: PathBuf,
}

impl Machine {
    /// Starts with what the folder holds from an earlier time.
    pub fn start(dir: &Path) -> Self {
        // An old socket must not be taken for the new one.
        for name in ["control.sock", "api.sock", "published.sock", "docker.sock"] {
            let _ = std::fs::remove_file(dir.join(name));
        }
        let enter = dir.join("lighter-enter");
        if !enter.exists() {
            std::fs::hard_link(program("lighter-runtime", "lighter-enter"), &enter)
                .or_else(|_| {
                    std::fs::copy(program("lighter-runtime", "lighter-enter"), &enter).map(drop)
                })
                .unwrap();
        }
        let process = Command::new("unshare")
            .args([
                "--pid",
                "--mount",
                "--net",
                "--fork",
                "--kill-child",
                "--mount-proc",
            ])
            .arg(program("lighter-init", "lighter-init"))
            .arg("--native")
            .args([Path::new("--dir"), dir])
            .args([
                Path::new("--agent"),
                Path::new(env!("CARGO_BIN_EXE_lighter-agent")),
            ])
            .args([Path::new("--enter"), &enter])
            .spawn()
            .unwrap();
        let mut machine = Self {
            process,
            dir: dir.to_owned(),
        };
        while !dir.join("docker.sock").exists() {
            assert!(
                machine.process.try_wait().unwrap().is_none(),
                "init ended early"
            );
            std::thread::yield_now();
        }
        machine
    }

    pub fn connect(&self, socket: &str) -> UnixStream {
        // Init has made all sockets by now but may not listen on the last of them yet.
        loop {
            if let Ok(stream) = UnixStream::connect(self.dir.join(socket)) {
                return stream;
            }
            std::thread::yield_now();
        }
    }

    pub fn control(&self) -> Host {
        Host::on(self.connect("control.sock"))
    }

    /// A host that is welcome, and whose guest serves.
    pub fn greeted(&self) -> Host {
        self.greeted_with(hello())
    }

    /// The same with settings of its own.
    pub fn greeted_with(&self, hello: Hello) -> Host {
        let mut host = self.control();
        host.greet(hello).unwrap();
        host.wait_ready();
        host
    }

    /// `GET /_ping` on one of the API sockets: the status line.
    pub fn ping(&self, socket: &str) -> String {
        ping_on(self.connect(socket))
    }

    /// The agent's process id as this namespace knows it.
    pub fn agent_pid(&self) -> Option<i32> {
        let dir = self.dir.to_str().unwrap();
        std::fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .find_map(|entry| {
                let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
                let line = std::fs::read(entry.path().join("cmdline")).ok()?;
                let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
                let is_agent = words.first()?.ends_with(b"/lighter-agent");
                (is_agent && words.contains(&dir.as_bytes())).then_some(pid)
            })
    }

    /// Kills the agent and waits for the next one to be there.
    pub fn kill_agent(&self) {
        let pid = loop {
            match self.agent_pid() {
                Some(pid) => break pid,
                None => std::thread::yield_now(),
            }
        };
        let raw = Pid::from_raw(pid).unwrap();
        let gone = pidfd_open(raw, PidfdFlags::empty()).unwrap();
        kill_process(raw, Signal::KILL).unwrap();
        // To its last thread: one that is just taking a connection takes it along.
        retry_on_intr(|| poll(&mut [PollFd::new(&gone, PollFlags::IN)], None)).unwrap();
        while self.agent_pid().is_none_or(|now| now == pid) {
            std::thread::yield_now();
        }
    }

    /// The root of a process of this machine, by its id in there, as this system sees it.
    pub fn root_of(&self, pid: i32) -> PathBuf {
        let init = self.init_pid();
        PathBuf::from(format!("/proc/{init}/root/proc/{pid}/root"))
    }

    /// Init as this system knows it: the child of `unshare`.
    fn init_pid(&self) -> i32 {
        let unshare = self.process.id();
        let path = format!("/proc/{unshare}/task/{unshare}/children");
        std::fs::read_to_string(path)
            .unwrap()
            .trim()
            .parse()
            .unwrap()
    }

    /// Where everything of this machine is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The `/proc` of this machine, with its processes and no others.
    pub fn proc(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root/proc", self.init_pid()))
    }

    /// The group below which those of its containers are.
    pub fn groups(&self) -> PathBuf {
        groups_of(&self.dir)
    }

    /// Bytes of memory that the agent has.
    pub fn agent_memory(&self) -> usize {
        let agent = self.agent_pid().unwrap();
        let status = std::fs::read_to_string(format!("/proc/{agent}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let kib = line.unwrap().split_whitespace().nth(1).unwrap();
        kib.parse::<usize>().unwrap() << 10
    }

    /// How many threads the agent has.
    pub fn agent_threads(&self) -> usize {
        let agent = self.agent_pid().unwrap();
        std::fs::read_dir(format!("/proc/{agent}/task"))
            .unwrap()
            .count()
    }

    /// How many descriptors the agent holds.
    pub fn agent_descriptors(&self) -> usize {
        let agent = self.agent_pid().unwrap();
        std::fs::read_dir(format!("/proc/{agent}/fd"))
            .unwrap()
            .count()
    }

    /// Fails unless nothing of any container is left: no process, directory, descriptor, group.
    pub fn nothing_left(&self) {
        let limit = std::time::Instant::now() + Duration::from_secs(30);
        loop {
            let left = self.left();
            if left.is_empty() {
                return;
            }
            // Directories and groups go in the background.
            assert!(std::time::Instant::now() < limit, "left behind: {left:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn left(&self) -> Vec<String> {
        let mut left = Vec::new();
        for dir in [
            "data/containers",
            "data/overlay2",
            "data/trash",
            "data/loose",
            "run/containers",
            "run/execs",
        ] {
            let names = std::fs::read_dir(self.dir.join(dir))
                .into_iter()
                .flatten()
                .flatten();
            // These two belong to all.
            let names = names
                .filter(|entry| entry.file_name() != "empty" && entry.file_name() != "container");
            left.extend(names.map(|entry| entry.path().display().to_string()));
        }
        let init = self.init_pid();
        let children =
            std::fs::read_to_string(format!("/proc/{init}/task/{init}/children")).unwrap();
        let children = children.split_whitespace().count();
        if children != 1 {
            left.push(format!("{children} processes"));
        }
        // Listeners, the second network, the hello; and init's own.
        let open = std::fs::read_dir(format!("/proc/{init}/fd"))
            .unwrap()
            .count();
        if open > 16 {
            left.push(format!("{open} descriptors"));
        }
        let groups = std::fs::read_dir(self.groups()).unwrap().flatten();
        let groups = groups.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        left.extend(groups.map(|entry| entry.path().display().to_string()));
        left
    }

    pub fn wait_end(mut self) -> bool {
        self.process.wait().unwrap().success()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        // The kernel of a machine that ends takes its groups along; this one's goes on. The last
        // processes end some moments after `unshare`.
        let limit = std::time::Instant::now() + Duration::from_secs(10);
        while !remove_groups(&groups_of(&self.dir)) && std::time::Instant::now() < limit {
            std::thread::yield_now();
        }
    }
}

/// As the agent chooses it in native mode.
fn groups_of(dir: &Path) -> PathBuf {
    let mounts = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].map(Path::new);
    let mount = mounts.into_iter().find(|mount| mount.is_dir()).unwrap();
    mount.join(format!("lighter-{}", dir.file_name().unwrap().display()))
}

/// Removes a group and those below; false if that has to be tried again.
fn remove_groups(group: &Path) -> bool {
    let entries = std::fs::read_dir(group).into_iter().flatten().flatten();
    for entry in entries {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_groups(&entry.path());
        }
    }
    match std::fs::remove_dir(group) {
        Ok(()) => true,
        Err(error) => error.kind() == ErrorKind::NotFound,
    }
}

/// How long anything may take before a test fails rather than waits.
pub const LIMIT: Duration = Duration::from_secs(60);

pub fn ping_on(stream: UnixStream) -> String {
    let answer = answer_to_ping(stream);
    answer.lines().next().unwrap_or_default().to_owned()
}

/// The whole answer to `GET /_ping`; nothing where the agent ended meanwhile.
pub fn answer_to_ping(mut stream: UnixStream) -> String {
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let mut answer = String::new();
    let asked = stream
        .write_all(b"GET /_ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .and_then(|()| stream.read_to_string(&mut answer));
    match asked.map_err(|error| error.kind()) {
        Ok(_) | Err(ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => answer,
        Err(error) => panic!("no answer in time: {error}"),
    }
}

pub fn secret(byte: u8) -> Secret {
    Secret::new([byte; 32])
}

pub fn hello() -> Hello {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let boot = BootSettings {
        clock_unix_ns: u64::try_from(now.as_nanos()).unwrap(),
        machine_id: "m1".into(),
        hostname: "lighter".into(),
        ..BootSettings::default()
    };
    Hello {
        version: VERSION,
        secret: secret(7),
        boot: Box::new(boot),
    }
}

/// The host's side of a control stream.
pub struct Host {
    pub stream: UnixStream,
    decoder: Decoder,
}

impl Host {
    /// Messages over a stream that is there.
    pub fn on(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        Self {
            stream,
            decoder: Decoder::new(),
        }
    }

    pub fn send(&mut self, message: impl Into<Message>) {
        self.stream
            .write_all(&message.into().encode().unwrap())
            .unwrap();
    }

    /// The next message; none at the end of the stream.
    pub fn receive(&mut self) -> Option<Message> {
        let mut buffer = [0; 4096];
        loop {
            if let Some(message) = self.decoder.next_message().unwrap() {
                return Some(message);
            }
            let count = match self.stream.read(&mut buffer) {
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    panic!("no message in time")
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => {
                    // As an end, which some tests wait for; others are to say what it was.
                    eprintln!("the stream broke: {error}");
                    0
                }
            };
            if count == 0 {
                return None;
            }
            self.decoder.push(&buffer[..count]);
        }
    }

    pub fn greet(&mut self, hello: Hello) -> Result<Welcome, Refused> {
        self.send(hello);
        match self.receive() {
            Some(Message::Welcome(welcome)) => Ok(welcome),
            Some(Message::Refused(refused)) => Err(refused),
            other => panic!("{other:?} is no answer to a hello"),
        }
    }

    pub fn health(&mut self) -> EngineState {
        self.send(Health { seq: 1 });
        match self.receive() {
            Some(Message::HealthOk(health)) => health.engine,
            other => panic!("{other:?} is no answer to a health question"),
        }
    }

    pub fn wait_ready(&mut self) {
        loop {
            match self.health() {
                EngineState::Ready => return,
                EngineState::Starting => std::thread::yield_now(),
                other => panic!("the engine is {other:?}"),
            }
        }
    }
}
