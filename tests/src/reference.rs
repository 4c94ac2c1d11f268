//! The reference: Debian's own dockerd, unpacked beside the system and run in a network and mount
//! namespace of its own, so that every doubt about behaviour is settled by asking it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::env;
use crate::run::{Finished, run};
use crate::subnet;

/// A running dockerd; ended when dropped.
pub struct Reference {
    daemon: Child,
    dir: tempfile::TempDir,
    docker: PathBuf,
}

const START: &str = "set -e; mount --make-rprivate /; ip link set lo up; eval \"$2\"; exec dockerd \
    --data-root \"$1/data\" --exec-root \"$1/exec\" --pidfile \"$1/pid\" -H \"unix://$1/docker.sock\" --log-level error \"${@:3}\"";

/// Takes the first version of control groups out of its sight.
const SECOND_VERSION: &str = "if [ -d /sys/fs/cgroup/unified ]; then umount -R /sys/fs/cgroup; \
    mount -t cgroup2 cgroup /sys/fs/cgroup; fi";

/// Gives it the user whose subordinate ids its containers get.
const SUBORDINATE: &str = "mkdir \"$1/etc\" \"$1/etc-work\"; \
    { grep -v dockremap /etc/passwd; echo dockremap:x:997:997::/:/bin/false; } >\"$1/etc/passwd\"; \
    { grep -v dockremap /etc/group; echo dockremap:x:997:; } >\"$1/etc/group\"; \
    echo dockremap:100000:65536 | tee \"$1/etc/subuid\" >\"$1/etc/subgid\"; \
    mount -t overlay -o \"lowerdir=/etc,upperdir=$1/etc,workdir=$1/etc-work\" overlay /etc";

impl Reference {
    /// Starts it; `None` (and a counted skip of `test`) where it cannot run.
    #[must_use]
    pub fn start(test: &str) -> Option<Self> {
        Self::start_with(test, &[])
    }

    /// The same with further arguments of the daemon.
    #[must_use]
    pub fn start_with(test: &str, arguments: &[&str]) -> Option<Self> {
        let tools = env::path(env::TOOLS);
        let (Some(tools), Some(docker)) = (tools, env::path(env::DOCKER)) else {
            env::skip(
                test,
                "the reference daemon is not there: run `cargo xtask test`",
            );
            return None;
        };
        let started = Self::prepared(&tools, docker, ":", arguments);
        if started.is_none() {
            env::skip(test, "the reference daemon does not start here");
        }
        started
    }

    /// The same with user namespaces for its containers.
    #[must_use]
    pub fn with_user_namespaces(test: &str) -> Option<Self> {
        let (tools, docker) = (env::path(env::TOOLS)?, env::path(env::DOCKER)?);
        let remap = ["--userns-remap=default"];
        let started = Self::prepared(&tools, docker, SUBORDINATE, &remap);
        if started.is_none() {
            env::skip(test, "the reference daemon does not start here");
        }
        started
    }

    /// Starts the one in this folder of programs, to be driven by this client; `None` if it does not answer.
    #[must_use]
    pub fn with(tools: &Path, docker: PathBuf) -> Option<Self> {
        Self::prepared(tools, docker, ":", &[])
    }

    /// The same, which knows the second version of control groups only, as on a system of today: where
    /// the first has the controllers there are no limits then.
    #[must_use]
    pub fn with_second_groups(tools: &Path, docker: PathBuf) -> Option<Self> {
        Self::prepared(tools, docker, SECOND_VERSION, &[])
    }

    fn prepared(tools: &Path, docker: PathBuf, before: &str, arguments: &[&str]) -> Option<Self> {
        let dir = tempfile::Builder::new()
            .prefix("ref")
            .tempdir_in("/tmp")
            .ok()?;
        let sbin = tools.with_file_name("sbin");
        let path = format!(
            "{}:{}:/usr/sbin:/usr/bin:/sbin:/bin",
            tools.display(),
            sbin.display()
        );
        let daemon = Command::new("unshare")
            .args(["--net", "--mount", "bash", "-c", START, "reference"])
            .arg(dir.path())
            .arg(before)
            .args(subnet::bip().map(|bip| format!("--bip={bip}")))
            .args(arguments)
            .env("PATH", path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(dir.path().join("log")).ok()?)
            .spawn()
            .ok()?;
        let reference = Self {
            daemon,
            dir,
            docker,
        };
        let limit = Instant::now() + Duration::from_secs(60);
        while reference.docker(&["version"]).code != 0 {
            if Instant::now() > limit {
                return None;
            }
            // It has no event for being ready.
            std::thread::sleep(Duration::from_millis(100));
        }
        Some(reference)
    }

    /// Where docker clients reach it.
    #[must_use]
    pub fn socket(&self) -> String {
        format!("unix://{}/docker.sock", self.dir.path().display())
    }

    /// dockerd's own process, whose mounts containerd and the shims have too.
    #[must_use]
    pub fn process(&self) -> u32 {
        self.daemon.id()
    }

    /// Runs a program in its network, where loopback is its own.
    #[must_use]
    pub fn beside(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net=/proc/{}/ns/net", self.daemon.id()))
            .arg(program);
        command
    }

    /// Ends it; it stops its containers and unmounts, if it can within a minute.
    pub fn stop(&mut self) {
        let _ = Command::new("kill")
            .arg(self.daemon.id().to_string())
            .status();
        let limit = Instant::now() + Duration::from_secs(60);
        while let Ok(None) = self.daemon.try_wait() {
            if Instant::now() > limit {
                let _ = self.daemon.kill();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = std::fs::remove_dir_all(self.dir.path());
    }

    /// The path of its socket.
    #[must_use]
    pub fn socket_path(&self) -> PathBuf {
        self.dir.path().join("docker.sock")
    }

    /// Runs `docker` against the reference.
    #[must_use]
    pub fn docker(&self, args: &[&str]) -> Finished {
        self.docker_with(args, b"")
    }

    /// Runs `docker` against the reference with this standard input.
    #[must_use]
    pub fn docker_with(&self, args: &[&str], input: &[u8]) -> Finished {
        let mut command = Command::new(&self.docker);
        command
            .env("DOCKER_HOST", self.socket())
            .env("DOCKER_CONFIG", self.dir.path().join("config"))
            .args(args);
        run(command, input, Duration::from_secs(120))
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        self.stop();
    }
}
