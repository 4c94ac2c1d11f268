//! A Lighter with a home of its own, driven through the programs a person would use.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use crate::env;
use crate::run::{Finished, run};
use crate::subnet;
use crate::user::User;

/// Longest one client command may take. Under emulation a boot is seconds, not minutes.
const LIMIT: Duration = Duration::from_secs(300);

/// One daemon, one virtual machine, in a temporary `LIGHTER_HOME`.
pub struct Host {
    home: PathBuf,
    lighter: PathBuf,
    docker: PathBuf,
    /// Whose it is, if not this process' user's.
    user: Option<User>,
}

static SHARED: OnceLock<Option<Host>> = OnceLock::new();
static OF_USER: OnceLock<Option<Host>> = OnceLock::new();

impl Host {
    /// The machine that all tests of one binary share, or `None` (and a counted skip of `test`)
    /// if the programs are not there.
    pub fn shared(test: &str) -> Option<&'static Self> {
        let host = SHARED.get_or_init(|| {
            if let Some(home) = env::path(env::HOME) {
                return Self::at(home);
            }
            let host = Self::new()?;
            // SHARED is never dropped; the machine must not outlive the tests all the same.
            at_exit::register(&host);
            host.bring_up();
            Some(host)
        });
        if host.is_none() {
            env::skip(
                test,
                "the programs under test are not there: run `cargo xtask test`",
            );
        }
        host.as_ref()
    }

    /// Like [`Host::shared`], but of an ordinary user made for it: programs, image and folder are the
    /// user's, and every command runs as that user.
    pub fn of_user(test: &str) -> Option<&'static Self> {
        let host = OF_USER.get_or_init(|| {
            let host = Self::new_of_user()?;
            at_exit::register(&host);
            host.bring_up();
            Some(host)
        });
        if host.is_none() {
            env::skip(
                test,
                "no ordinary user can be made: run `cargo xtask test` as root",
            );
        }
        host.as_ref()
    }

    fn new_of_user() -> Option<Self> {
        let image = env::path("LIGHTER_IMAGE_DIR")?;
        let mut host = Self::new()?;
        // Where the originals lie the user may not look.
        let copy = |from: &Path, to: PathBuf| {
            let copied = Command::new("cp").arg("-rL").arg(from).arg(&to).status();
            copied.is_ok_and(|status| status.success()).then_some(to)
        };
        host.lighter = copy(&host.lighter, host.home.join("lighter"))?;
        host.docker = copy(&host.docker, host.home.join("docker"))?;
        copy(&image, host.home.join("vm-image"))?;
        let user = User::make()?;
        user.own(&host.home);
        host.user = Some(user);
        Some(host)
    }

    /// The number of the user whose Lighter this is.
    #[must_use]
    pub fn user_id(&self) -> u32 {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata(&self.home).map_or(0, |meta| meta.uid())
    }

    /// A new empty folder of that user, shared by default as it lies below the home.
    ///
    /// # Panics
    ///
    /// If it cannot be made.
    #[must_use]
    pub fn folder(&self, name: &str) -> PathBuf {
        let folder = self.home.join("work").join(name);
        std::fs::create_dir_all(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        self.own(&self.home.join("work"));
        folder
    }

    /// Gives what a test wrote to the user whose Lighter this is.
    pub fn own(&self, folder: &Path) {
        if let Some(user) = &self.user {
            user.own(folder);
        }
    }

    fn command(&self, program: &Path) -> Command {
        match &self.user {
            Some(user) => {
                let mut command = user.command(program);
                command.env("LIGHTER_IMAGE_DIR", self.home.join("vm-image"));
                command
            }
            None => Command::new(program),
        }
    }

    /// A machine of the test's own, up and with an image named `busybox`; `None` (and a counted
    /// skip of `test`) if the programs are not there.
    #[must_use]
    pub fn started(test: &str) -> Option<Self> {
        let Some(host) = Self::new() else {
            env::skip(
                test,
                "the programs under test are not there: run `cargo xtask test`",
            );
            return None;
        };
        host.bring_up();
        Some(host)
    }

    /// Has this machine end with the tests, where it is never dropped.
    pub fn end_with_tests(&self) {
        at_exit::register(self);
    }

    fn bring_up(&self) {
        if let Some(bip) = subnet::bip() {
            self.lighter(&["config", "set", "engine.bip", bip]).ok();
        }
        self.lighter(&["up"]).ok();
        self.docker(&["tag", "lighter/hello", "busybox"]).ok();
    }

    /// The host processes of this Lighter whose command line contains `what`: those with its home
    /// in their environment, and their children (QEMU has an empty one).
    #[must_use]
    pub fn processes(&self, what: &str) -> Vec<i32> {
        let mine = format!("LIGHTER_HOME={}", self.home.display());
        let all: Vec<Process> = Process::all();
        let own = |process: &Process| process.environment.split(' ').any(|v| v == mine);
        let parents: Vec<i32> = all.iter().filter(|p| own(p)).map(|p| p.pid).collect();
        all.iter()
            .filter(|p| parents.contains(&p.pid) || parents.contains(&p.parent))
            .filter(|p| {
                !p.line.is_empty()
                    && p.line.contains(what)
                    && p.pid != std::process::id().cast_signed()
            })
            .map(|p| p.pid)
            .collect()
    }

    /// Kills (SIGKILL) the processes of this Lighter whose command line contains `what`; how many.
    pub fn kill(&self, what: &str) -> usize {
        self.signal("KILL", what)
    }

    /// Sends a signal, by its name, to the processes of this Lighter whose command line contains
    /// `what`; how many.
    pub fn signal(&self, signal: &str, what: &str) -> usize {
        let found = self.processes(what);
        for pid in &found {
            let _ = Command::new("kill")
                .args(["-s", signal, &pid.to_string()])
                .status();
        }
        found.len()
    }

    /// A machine of the test's own, not yet started; `None` if the programs are not there.
    #[must_use]
    pub fn new() -> Option<Self> {
        // Short: the path of a unix socket has 108 bytes.
        let home = tempfile::Builder::new()
            .prefix("ltr")
            .tempdir_in("/tmp")
            .ok()?
            .keep();
        Self::at(home)
    }

    fn at(home: PathBuf) -> Option<Self> {
        Some(Self {
            home,
            lighter: env::path(env::LIGHTER)?,
            docker: env::path(env::DOCKER)?,
            user: None,
        })
    }

    /// The folder that holds everything of this Lighter.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The socket that docker clients use.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.home.join("run/docker.sock")
    }

    /// A `lighter` command, ready to have arguments added.
    #[must_use]
    pub fn lighter_command(&self) -> Command {
        let mut command = self.command(&self.lighter);
        command
            .env("LIGHTER_HOME", &self.home)
            .env("HOME", &self.home)
            .env_remove("DOCKER_HOST");
        command.current_dir(&self.home);
        command
    }

    /// A `docker` command on this Lighter's socket.
    #[must_use]
    pub fn docker_command(&self) -> Command {
        self.docker_command_of(&self.docker)
    }

    /// The same with another docker CLI.
    #[must_use]
    pub fn docker_command_of(&self, docker: &Path) -> Command {
        let mut command = self.command(docker);
        command
            .env("DOCKER_HOST", format!("unix://{}", self.socket().display()))
            .env("DOCKER_CONFIG", self.home.join("docker-config"))
            .env("HOME", &self.home);
        command
    }

    /// Runs `lighter` with these arguments to its end.
    #[must_use]
    pub fn lighter(&self, args: &[&str]) -> Finished {
        let mut command = self.lighter_command();
        command.args(args);
        run(command, b"", LIMIT)
    }

    /// Runs `lighter` with these arguments and this standard input to its end.
    #[must_use]
    pub fn lighter_with(&self, args: &[&str], input: &[u8]) -> Finished {
        let mut command = self.lighter_command();
        command.args(args);
        run(command, input, LIMIT)
    }

    /// Runs `docker` with these arguments to its end.
    #[must_use]
    pub fn docker(&self, args: &[&str]) -> Finished {
        self.docker_with(args, b"")
    }

    /// Runs `docker` with these arguments and this standard input to its end.
    #[must_use]
    pub fn docker_with(&self, args: &[&str], input: &[u8]) -> Finished {
        let mut command = self.docker_command();
        command.args(args);
        run(command, input, LIMIT)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        end(&self.lighter, &self.home, self.user.as_ref());
    }
}

fn end(lighter: &Path, home: &Path, user: Option<&User>) {
    let mut down = user.map_or_else(|| Command::new(lighter), |user| user.command(lighter));
    let ended = down
        .arg("down")
        .env("LIGHTER_HOME", home)
        .env("HOME", home)
        .output();
    if let Some(user) = user {
        user.remove();
    }
    if ended.is_ok_and(|o| o.status.success()) && std::env::var_os("LIGHTER_TEST_KEEP").is_none() {
        let _ = std::fs::remove_dir_all(home);
    }
}

/// Ends the shared machines when the test binary ends.
mod at_exit {
    use std::sync::{Mutex, PoisonError};

    use super::{Host, PathBuf, User, end};

    type Left = (PathBuf, PathBuf, Option<User>);

    static LEFT: Mutex<Vec<Left>> = Mutex::new(Vec::new());

    pub(super) fn register(host: &Host) {
        let left = (host.lighter.clone(), host.home.clone(), host.user.clone());
        let mut all = LEFT.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(left);
        if all.len() == 1 {
            // libtest leaves through `exit`, which runs this.
            crate::at_exit::call(stop);
        }
    }

    extern "C" fn stop() {
        let all = std::mem::take(&mut *LEFT.lock().unwrap_or_else(PoisonError::into_inner));
        for (lighter, home, user) in &all {
            end(lighter, home, user.as_ref());
        }
    }
}

/// What /proc says of a process.
struct Process {
    pid: i32,
    parent: i32,
    line: String,
    environment: String,
}

impl Process {
    fn all() -> Vec<Self> {
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        entries
            .filter_map(|entry| Self::read(&entry.path()))
            .collect()
    }

    fn read(dir: &Path) -> Option<Self> {
        let pid = dir.file_name()?.to_str()?.parse().ok()?;
        let text = |file: &str| {
            let bytes = std::fs::read(dir.join(file)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).replace('\0', " ")
        };
        // The name, in parentheses, may hold anything; the parent is the second field behind it.
        let stat = text("stat");
        let parent = stat
            .rsplit_once(')')?
            .1
            .split_whitespace()
            .nth(1)?
            .parse()
            .ok()?;
        Some(Self {
            pid,
            parent,
            line: text("cmdline"),
            environment: text("environ"),
        })
    }
}
