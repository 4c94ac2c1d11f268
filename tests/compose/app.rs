//! One application: a copy of its folder, and the client that drives it.

use std::fs;
use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lighter_tests::{Finished, Host, env, run};

/// Longest time for one command: everything is emulated where there is no virtualisation.
const LIMIT: Duration = Duration::from_secs(600);

/// Whose turn it is.
static TURN: Mutex<()> = Mutex::new(());

/// An application that goes with this, and with it everything it made.
pub struct App {
    pub host: &'static Host,
    folder: PathBuf,
    settings: Vec<(&'static str, String)>,
    _turn: MutexGuard<'static, ()>,
}

impl App {
    /// A copy of `tests/apps/NAME` where the machine may read it; `None` (and a counted skip) without programs.
    pub fn new(name: &str) -> Option<Self> {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let (Some(archive), Some(tools)) = (env::path(env::APPS), env::path(env::TOOLS)) else {
            env::skip(
                name,
                "the programs' image is not there: run `cargo xtask test`",
            );
            return None;
        };
        let host = Host::shared(name)?;
        prepare(host, &archive, &tools);
        let folder = host.folder(name);
        let from = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("apps")
            .join(name);
        let copied = Command::new("cp")
            .args(["-a", "-T"])
            .args([&from, &folder])
            .status();
        assert!(copied.is_ok_and(|status| status.success()));
        Some(Self {
            host,
            folder,
            settings: Vec::new(),
            _turn: turn,
        })
    }

    /// Something that its files take from the environment.
    pub fn set(&mut self, name: &'static str, value: &str) {
        self.settings.push((name, value.to_owned()));
    }

    /// `docker compose` in its folder.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.host.docker_command();
        command.current_dir(&self.folder);
        for (name, value) in &self.settings {
            command.env(name, value);
        }
        command.args(["compose", "--progress", "plain"]).args(args);
        command
    }

    /// Runs `docker compose` to its end, whatever that is.
    pub fn compose(&self, args: &[&str]) -> Finished {
        run(self.command(args), b"", LIMIT)
    }

    /// The same with a standard input.
    pub fn compose_with(&self, args: &[&str], input: &str) -> Finished {
        run(self.command(args), input.as_bytes(), LIMIT)
    }

    /// `up -d --wait` with further arguments.
    pub fn up(&self, more: &[&str]) {
        let mut args = vec!["up", "-d", "--wait", "--wait-timeout", "500"];
        args.extend(more);
        self.compose(&args).ok();
    }

    /// Runs a program in a service and returns what it wrote.
    pub fn exec(&self, service: &str, command: &[&str]) -> String {
        let mut args = vec!["exec", "-T", service];
        args.extend(command);
        self.compose(&args).ok().out().trim_end().to_owned()
    }

    /// The containers of a service: one line each of what a template makes of them.
    pub fn inspect(&self, service: &str, template: &str) -> Vec<String> {
        let listed = self.compose(&["ps", "--all", "--quiet", service]);
        let listed = listed.ok().out();
        let mut args = vec!["inspect", "--format", template];
        args.extend(listed.lines());
        let shown = self.host.docker(&args).ok().out();
        shown.lines().map(str::to_owned).collect()
    }

    /// The names of a project's containers that are up, and how: `name status health`.
    pub fn states(&self) -> Vec<String> {
        let format = "{{.Name}} {{.State}} {{.Health}}";
        let shown = self.compose(&["ps", "--format", format]).ok().out();
        let mut all: Vec<String> = shown
            .lines()
            .map(|line| line.trim_end().to_owned())
            .collect();
        all.sort();
        all
    }

    /// Ends a container's first process as the kernel ends one for want of memory: nobody asked for it.
    pub fn kill_process(&self, container: &str) {
        let pid = self
            .host
            .docker(&["inspect", "--format", "{{.State.Pid}}", container]);
        let pid = pid.ok().out();
        let kill = ["run", "--rm", "--pid=host", "--network=none", "busybox"];
        let kill = [&kill[..], &["kill", "-9", pid.trim()]].concat();
        self.host.docker(&kill).ok();
    }

    /// How often a policy has started a container again.
    pub fn restarts(&self, container: &str) -> u32 {
        let shown = self
            .host
            .docker(&["inspect", "--format", "{{.RestartCount}}", container]);
        shown.ok().out().trim().parse().expect("a number")
    }

    /// The power goes. Nobody starts anything again but the next command.
    pub fn kill_machine(&self) {
        assert!(self.host.kill("qemu-system") >= 1, "no machine to kill");
    }

    /// Where the host reaches a port of a service; `None` while its container does not run.
    pub fn published(&self, service: &str, port: &str) -> Option<u16> {
        let shown = self.compose(&["port", service, port]);
        let shown = (shown.code == 0).then(|| shown.out())?;
        let (address, port) = shown.trim().rsplit_once(':')?;
        assert_eq!(address, "0.0.0.0");
        port.parse().ok()
    }

    /// The same of one that runs.
    pub fn port(&self, service: &str, port: &str) -> u16 {
        let published = self.published(service, port);
        published.unwrap_or_else(|| panic!("{port} of {service} is not published"))
    }

    /// A file of its folder, to be changed as its user changes it.
    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.join(name), text).expect("written");
    }

    /// `down -v`, after which nothing of it is there.
    pub fn down(&self) {
        self.compose(&["--profile", "*", "down", "-v"]).ok();
        let project = self.folder.file_name().expect("a name").to_string_lossy();
        let filter = format!("label=com.docker.compose.project={project}");
        for list in [&["ps", "--all"][..], &["network", "ls"], &["volume", "ls"]] {
            let left = [list, &["--quiet", "--filter", &filter]].concat();
            let left = self.host.docker(&left).ok().out();
            assert_eq!(left, "", "left behind by {list:?}");
        }
    }

    /// A command of `docker compose` that stays, line by line of both its streams.
    pub fn follow(&self, args: &[&str]) -> Followed {
        let mut command = self.command(args);
        command.stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let (sender, lines) = channel();
        pass_on(child.stdout.take().expect("its output"), sender.clone());
        pass_on(child.stderr.take().expect("its errors"), sender);
        Followed { child, lines }
    }
}

/// Sends what is written, line by line, until nobody wants to know.
fn pass_on(from: impl Read + Send + 'static, to: Sender<String>) {
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if to.send(line).is_err() {
                break;
            }
        }
    });
}

impl Drop for App {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let logs = self.compose(&["--profile", "*", "logs", "--tail", "20"]);
            eprintln!("{}{}", self.compose(&["ps", "--all"]).out(), logs.out());
            let _ = self.compose(&["--profile", "*", "down", "-v", "-t", "1"]);
        }
    }
}

/// The client finds its plugin, and the machine the image.
fn prepare(host: &Host, archive: &Path, tools: &Path) {
    let plugins = host.home().join("docker-config/cli-plugins");
    if plugins.exists() {
        return;
    }
    fs::create_dir_all(&plugins).expect("a folder");
    let plugin = tools.with_file_name("libexec/docker/cli-plugins/docker-compose");
    std::os::unix::fs::symlink(plugin, plugins.join("docker-compose")).expect("a link");
    let archive = archive.to_str().expect("a path");
    let mut load = host.docker_command();
    load.args(["load", "--input", archive]);
    run(load, b"", LIMIT).ok();
}

/// A command that stays until this is dropped.
pub struct Followed {
    child: Child,
    lines: Receiver<String>,
}

impl Followed {
    /// Waits for a line that contains `what`.
    pub fn until(&self, what: &str) -> String {
        let mut before = Vec::new();
        loop {
            let Ok(line) = self.lines.recv_timeout(LIMIT) else {
                panic!("`{what}` never came; {before:?}");
            };
            if line.contains(what) {
                return line;
            }
            before.push(line);
        }
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
