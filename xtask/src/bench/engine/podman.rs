//! Podman and crun from a Debian of their own: unpacked once into the cache, run in namespaces with that as
//! their root, their containers on the same disk as everybody's.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::groups;
use crate::image::progress;
use crate::packages::{self, package};
use crate::paths;

const SUITE: &str = "trixie";
const INSIDE: &str = "podman,crun,netavark,ca-certificates";
/// Raised when the root is made in another way.
const RECIPE: u32 = 1;
/// Lines about single packages that debootstrap prints for all of it, for the progress display only.
const STEPS: u32 = 480;
/// Longest it may take to be ready.
const LIMIT: Duration = Duration::from_secs(60);

/// No systemd and no journal is there to be asked, and the second version of control groups may have no
/// controllers.
const SETTINGS: &str = "[engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\nruntime = \"crun\"\n\
    [containers]\nlog_driver = \"k8s-file\"\npids_limit = 0\n";

/// Into a group of its own, by which everything ends that podman has started: it does not end with podman.
const BEGIN: &str = "set -e; echo $$ > \"$3/cgroup.procs\"; exec unshare --net --mount --cgroup \
    bash -c \"$4\" podman \"$1\" \"$2\"";

/// A root of its own, since a container's is exchanged for the one before it: `/srv` is what the host sees.
const START: &str = "set -e; mount --make-rprivate /; ip link set lo up; mount --bind \"$1\" \"$1\"; \
    mount --bind \"$2\" \"$1/srv\"; mkdir -p \"$2/storage\"; mount --bind \"$2/storage\" \"$1/var/lib/containers\"; \
    mount -t tmpfs tmpfs \"$1/run\"; mount -t tmpfs tmpfs \"$1/tmp\"; \
    for dir in proc sys dev; do mount --rbind \"/$dir\" \"$1/$dir\"; done; \
    umount -R \"$1/sys/fs/cgroup\"; mount -t cgroup2 cgroup \"$1/sys/fs/cgroup\"; \
    echo 127.0.0.1 localhost > \"$1/etc/hosts\"; cd \"$1\"; pivot_root . mnt; \
    exec chroot . sh -c 'umount -l /mnt; exec podman system service --time=0 unix:///srv/podman.sock'";

/// A running service; ended when dropped.
pub struct Podman {
    service: Child,
    dir: tempfile::TempDir,
}

impl Podman {
    /// Starts the service, with nothing in its store. It speaks plain HTTP to `registry`.
    ///
    /// # Errors
    ///
    /// When its root cannot be made, or it does not answer.
    pub fn start(registry: &str) -> Result<Self> {
        let root = root()?;
        let dir = tempfile::Builder::new().prefix("pod").tempdir_in("/tmp")?;
        let known = format!("[[registry]]\nlocation = \"{registry}\"\ninsecure = true\n");
        std::fs::write(dir.path().join("registries.conf"), known)?;
        let group = groups::of(dir.path())?;
        std::fs::create_dir(&group)?;
        let service = Command::new("bash")
            .args(["-c", BEGIN, "podman"])
            .args([root.as_path(), dir.path(), &group])
            .arg(START)
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            // This machine may have the first version of control groups beside the second.
            .env("CONTAINERS_REGISTRIES_CONF", "/srv/registries.conf")
            .env("PODMAN_IGNORE_CGROUPSV1_WARNING", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(dir.path().join("log"))?)
            .spawn()
            .context("bash")?;
        let mut podman = Self { service, dir };
        let limit = Instant::now() + LIMIT;
        while std::os::unix::net::UnixStream::connect(podman.socket()).is_err() {
            let ended = podman.service.try_wait()?.is_some();
            if ended || Instant::now() > limit {
                let log = std::fs::read_to_string(podman.dir.path().join("log"));
                bail!("podman does not come up: {}", log.unwrap_or_default());
            }
            // It has no event for being ready.
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(podman)
    }

    /// The socket of its API, which has docker's routes too.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("podman.sock")
    }

    /// The service.
    #[must_use]
    pub fn process(&self) -> u32 {
        self.service.id()
    }

    /// The words that run podman's own command line, which asks no daemon, beside the service.
    #[must_use]
    pub fn client(&self) -> Vec<String> {
        let target = self.process().to_string();
        let enter = ["nsenter", "--target", &target];
        let namespaces = ["--mount", "--net", "--cgroup", "/usr/bin/podman"];
        let words = enter.into_iter().chain(namespaces);
        words.map(str::to_owned).collect()
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let _ = self.service.kill();
        let _ = self.service.wait();
        groups::kill(self.dir.path());
        groups::remove(self.dir.path());
    }
}

/// The folder with podman and what it needs, made the first time (a minute).
fn root() -> Result<PathBuf> {
    let done = paths::cache()
        .join("bench")
        .join(format!("podman-{SUITE}-{RECIPE}"));
    if done.is_dir() {
        return Ok(done);
    }
    ensure!(
        packages::is_root(),
        "its root is made by root only: run this once with sudo"
    );
    packages::ensure(&[package("debootstrap")])?;
    std::fs::create_dir_all(paths::cache().join("bench"))?;
    let lock = std::fs::File::create(done.with_extension("lock"))?;
    lock.lock().context("another benchmark makes it")?;
    if !done.is_dir() {
        make(&done)?;
    }
    Ok(done)
}

fn make(done: &Path) -> Result<()> {
    let new = done.with_extension("new");
    if new.exists() {
        std::fs::remove_dir_all(&new)?;
    }
    progress::run(
        &format!("podman: Debian {SUITE} with podman and crun"),
        Command::new("debootstrap")
            .args(["--variant=minbase", &format!("--include={INSIDE}"), SUITE])
            .arg(&new)
            .arg(packages::mirror()),
        STEPS,
        &done.with_extension("log"),
        |line| {
            ["I: Retrieving ", "I: Unpacking ", "I: Configuring "]
                .iter()
                .any(|start| line.starts_with(start))
        },
    )?;
    std::fs::create_dir_all(new.join("etc/containers"))?;
    std::fs::write(new.join("etc/containers/containers.conf"), SETTINGS)?;
    std::fs::create_dir_all(new.join("var/lib/containers"))?;
    std::fs::rename(&new, done).with_context(|| done.display().to_string())
}
