//! What the tests of the walls share: a root file system of busybox, a launcher, and a way to
//! learn exit codes.
//!
//! The launcher makes children of its caller's parent. So each test runs its body in a process of
//! its own ([`inside`]), and the test program is the parent that reaps: as PID 1 and the engine in
//! the guest.
//!
//! Needs root and `/bin/busybox` (static).

#![expect(dead_code, reason = "each test program uses a part of it")]

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Condvar, Mutex, Once, OnceLock};
use std::time::Duration;

use lighter_runtime::mounts::{Source, bind, map_ids};
use lighter_runtime::{
    Cgroup, ContainerFds, ContainerSpec, ExecSpec, ExecTarget, Launcher, LauncherConfig, Mount,
    MountFlags, MountKind, Namespace, Prepared, ProcessSpec, StartError, Stdio,
};

const INSIDE: &str = "LIGHTER_TEST_INSIDE";

/// Runs `body` in a process of its own, with mount namespace and cgroup root of its own.
///
/// `name` is the path of the calling test, as `cargo test NAME` takes it.
pub fn inside(name: &str, body: impl FnOnce(&Bench)) {
    inside_mut(name, |bench| body(bench));
}

fn inside_mut(name: &str, body: impl FnOnce(&mut Bench)) {
    if std::env::var_os(INSIDE).is_some() {
        let mut bench = Bench::new(name);
        body(&mut bench);
        return;
    }
    let enter = enter_program();
    let (ours, theirs) = UnixStream::pair().unwrap();
    rustix::io::fcntl_setfd(&theirs, rustix::io::FdFlags::empty()).unwrap();
    use std::os::fd::AsRawFd;
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([
            "--exact",
            name,
            "--nocapture",
            "--test-threads=1",
            "--include-ignored",
        ])
        .env(INSIDE, theirs.as_raw_fd().to_string())
        .env("LIGHTER_ENTER", enter)
        // Two harnesses on one output garble each other's lines; failures go to standard error.
        .stdout(std::process::Stdio::null());
    let pid = spawn(&mut command);
    drop(theirs);
    answer(&ours);
    assert_eq!(exit_of(pid), 0, "{name} failed inside");
}

/// The same twice: for containers with the machine's users, and in another folder for containers
/// with users of their own.
pub fn inside_both(name: &str, body: impl Fn(&Bench)) {
    let twice = |bench: &mut Bench| {
        body(bench);
        bench.directory = tempfile::tempdir().unwrap();
        bench.with_users();
        body(bench);
    };
    inside_mut(name, twice);
}

static EXITS: Mutex<Option<HashMap<i32, i32>>> = Mutex::new(None);
static CHANGED: Condvar = Condvar::new();

/// Starts a child and makes sure somebody reaps.
fn spawn(command: &mut Command) -> i32 {
    static REAPER: Once = Once::new();
    REAPER.call_once(|| {
        // What is born into a user namespace has no parent but who takes orphans: here PID 1 would.
        // SAFETY: takes integers.
        assert_eq!(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) }, 0);
        std::thread::spawn(|| {
            loop {
                let mut status = 0;
                // SAFETY: waitpid writes one int.
                let pid = unsafe { libc::waitpid(-1, &mut status, 0) };
                let mut exits = EXITS.lock().unwrap();
                if pid > 0 {
                    exits.get_or_insert_default().insert(pid, status);
                    CHANGED.notify_all();
                } else {
                    // No child now: the next test will have one.
                    drop(
                        CHANGED
                            .wait_timeout(exits, Duration::from_millis(5))
                            .unwrap(),
                    );
                }
            }
        });
    });
    let pid = command.spawn().unwrap().id() as i32;
    CHANGED.notify_all();
    pid
}

/// The raw wait status of a child, as exit code or 128 and the signal.
fn exit_of(pid: i32) -> i32 {
    let mut exits = EXITS.lock().unwrap();
    loop {
        if let Some(status) = exits.get_or_insert_default().remove(&pid) {
            return if libc::WIFEXITED(status) {
                libc::WEXITSTATUS(status)
            } else {
                128 + libc::WTERMSIG(status)
            };
        }
        exits = CHANGED.wait(exits).unwrap();
    }
}

/// Answers a test body's questions for exit codes until it is gone.
fn answer(stream: &UnixStream) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let mut stream = stream;
    while let Some(Ok(line)) = lines.next() {
        let code = exit_of(line.parse().unwrap());
        writeln!(stream, "{code}").unwrap();
    }
}

/// The program `lighter-enter`, static: `$LIGHTER_ENTER`, or built here.
fn enter_program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        if let Some(path) = std::env::var_os("LIGHTER_ENTER") {
            return path.into();
        }
        // As the dynamic one would do for all but `--init`, which executes it in the container.
        let exe = Path::new(env!("CARGO_BIN_EXE_lighter-enter"));
        let target = exe.parent().unwrap().parent().unwrap().join("static");
        let status = Command::new(env!("CARGO"))
            .args([
                "build",
                "--quiet",
                "-p",
                "lighter-runtime",
                "--bin",
                "lighter-enter",
            ])
            .args([
                "--target",
                &format!("{}-unknown-linux-gnu", std::env::consts::ARCH),
            ])
            .arg("--target-dir")
            .arg(&target)
            .env("RUSTFLAGS", "-C target-feature=+crt-static")
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .status()
            .unwrap();
        assert!(status.success(), "could not build a static lighter-enter");
        target.join(format!(
            "{}-unknown-linux-gnu/debug/lighter-enter",
            std::env::consts::ARCH
        ))
    })
}

/// A test body's place: a folder, a launcher, a cgroup root.
pub struct Bench {
    pub launcher: Launcher,
    pub directory: tempfile::TempDir,
    /// The user namespace of the next containers.
    users: Mutex<Option<OwnedFd>>,
    parent: Mutex<BufReader<UnixStream>>,
}

impl Bench {
    fn new(name: &str) -> Self {
        use std::os::fd::FromRawFd;
        let number = std::env::var(INSIDE).unwrap().parse().unwrap();
        // SAFETY: inherited from `inside`, taken once.
        let parent = UnixStream::from(unsafe { OwnedFd::from_raw_fd(number) });
        rustix::io::fcntl_setfd(&parent, rustix::io::FdFlags::CLOEXEC).unwrap();
        // SAFETY: this process has not entered the namespaces in another thread.
        unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }.unwrap();
        rustix::mount::mount_change(
            "/",
            rustix::mount::MountPropagationFlags::PRIVATE
                | rustix::mount::MountPropagationFlags::REC,
        )
        .unwrap();
        let group = name.replace(':', "-");
        let cgroup_root = cgroup2().join(format!("lighter-test-{group}-{}", std::process::id()));
        let enter_path = std::env::var_os("LIGHTER_ENTER").unwrap().into();
        let launcher = Launcher::open(&LauncherConfig {
            enter_path,
            cgroup_root,
        })
        .unwrap();
        let directory = tempfile::tempdir().unwrap();
        Self {
            launcher,
            directory,
            users: Mutex::new(None),
            parent: Mutex::new(BufReader::new(parent)),
        }
    }

    /// The exit code of a started process (128 and the signal if it was killed).
    pub fn exit_code(&self, pid: i32) -> i32 {
        let mut parent = self.parent.lock().unwrap();
        writeln!(parent.get_mut(), "{pid}").unwrap();
        let mut line = String::new();
        parent.read_line(&mut line).unwrap();
        line.trim().parse().unwrap()
    }

    /// A fresh root file system `name` with busybox in it.
    pub fn rootfs(&self, name: &str) -> PathBuf {
        let root = self.directory.path().join(name);
        busybox_root(&root);
        root
    }

    /// A descriptor for `ContainerFds::rootfs`: a bind of the folder, of the container's own users.
    pub fn mount(&self, path: &Path) -> OwnedFd {
        let mount = bind(Source::Path(path), false).unwrap();
        if let Some(users) = &*self.users.lock().unwrap() {
            map_ids(mount.as_fd(), false, users.as_fd()).unwrap();
        }
        mount
    }

    /// Gives the containers that follow a user namespace, all of them the same.
    pub fn with_users(&self) -> OwnedFd {
        let users = lighter_runtime::user_namespace().unwrap();
        let copy = users.try_clone().unwrap();
        *self.users.lock().unwrap() = Some(users);
        copy
    }

    /// The specification and the namespaces to join, with the users of this bench.
    pub fn users_of(&self, spec: &ContainerSpec) -> (ContainerSpec, Vec<OwnedFd>) {
        let mut spec = spec.clone();
        let users = self.users.lock().unwrap();
        let Some(users) = &*users else {
            return (spec, vec![]);
        };
        spec.namespaces.user = Namespace::Join(0);
        // No group beyond those of the namespace can be named.
        spec.sysctls.remove("net.ipv4.ping_group_range");
        (spec, vec![users.try_clone().unwrap()])
    }

    /// Runs a container to its end.
    pub fn run(&self, root: &Path, spec: &ContainerSpec) -> Result<Output, StartError> {
        self.run_with(root, spec, vec![])
    }

    /// Runs a container with bind mounts to its end.
    pub fn run_with(
        &self,
        root: &Path,
        spec: &ContainerSpec,
        mounts: Vec<OwnedFd>,
    ) -> Result<Output, StartError> {
        let (stdio, pipes) = Pipes::new();
        let (spec, namespaces) = self.users_of(spec);
        let fds = ContainerFds {
            stdio,
            rootfs: self.mount(root),
            mounts,
            namespaces,
        };
        let mut prepared = self.launcher.prepare(&spec, fds)?;
        self.finish(&mut prepared, pipes)
    }

    /// Starts a prepared process and gathers what it writes.
    pub fn finish(&self, prepared: &mut Prepared, pipes: Pipes) -> Result<Output, StartError> {
        prepared.start()?;
        let (stdout, stderr) = pipes.read();
        let code = self.exit_code(prepared.pid());
        if let Some(cgroup) = prepared.cgroup() {
            cgroup.remove(Duration::from_secs(10)).unwrap();
        }
        Ok(Output {
            code,
            stdout,
            stderr,
        })
    }

    /// Starts a container that stays until the value is dropped.
    pub fn stay(&self, root: &Path, spec: &ContainerSpec) -> Running<'_> {
        self.stay_with(root, spec, vec![])
    }

    /// As `stay`, with bind mounts.
    pub fn stay_with(
        &self,
        root: &Path,
        spec: &ContainerSpec,
        mounts: Vec<OwnedFd>,
    ) -> Running<'_> {
        let (spec, namespaces) = self.users_of(spec);
        let fds = ContainerFds {
            stdio: Stdio::default(),
            rootfs: self.mount(root),
            mounts,
            namespaces,
        };
        let mut prepared = self.launcher.prepare(&spec, fds).unwrap();
        prepared.start().unwrap();
        let (pid, pidfd, cgroup) = prepared.into_parts();
        Running {
            bench: self,
            pid,
            pidfd,
            cgroup: cgroup.unwrap(),
            users: self.users.lock().unwrap().as_ref().map(copy),
        }
    }
}

fn copy(fd: &OwnedFd) -> OwnedFd {
    fd.try_clone().unwrap()
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = fs::remove_dir(self.launcher.cgroups().path());
    }
}

/// A container that runs.
pub struct Running<'a> {
    bench: &'a Bench,
    pub pid: i32,
    pub pidfd: OwnedFd,
    pub cgroup: Cgroup,
    pub users: Option<OwnedFd>,
}

impl Running<'_> {
    /// Runs a further process in it to its end.
    pub fn exec(&self, process: ProcessSpec) -> Result<Output, StartError> {
        let (stdio, pipes) = Pipes::new();
        let mut prepared = self.prepare_exec(process, stdio)?;
        self.bench.finish(&mut prepared, pipes)
    }

    /// Prepares a further process.
    pub fn prepare_exec(&self, process: ProcessSpec, stdio: Stdio) -> Result<Prepared, StartError> {
        let target = ExecTarget {
            pidfd: self.pidfd.as_fd(),
            cgroup: &self.cgroup,
            user: self.users.as_ref().map(AsFd::as_fd),
        };
        self.bench
            .launcher
            .exec(target, &ExecSpec { process }, stdio)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let _ = self.cgroup.remove(Duration::from_secs(10));
    }
}

/// What a process left behind.
#[derive(Debug)]
pub struct Output {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// Our ends of a process's standard output and error.
pub struct Pipes {
    pub stdout: OwnedFd,
    pub stderr: OwnedFd,
}

impl Pipes {
    pub fn new() -> (Stdio, Self) {
        let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let ((stdout, out), (stderr, err)) = (pipe(), pipe());
        (
            Stdio {
                stdin: None,
                stdout: Some(out),
                stderr: Some(err),
            },
            Self { stdout, stderr },
        )
    }

    /// Both streams, to their ends.
    pub fn read(self) -> (String, String) {
        let stderr = std::thread::spawn(move || read_all(self.stderr));
        (read_all(self.stdout), stderr.join().unwrap())
    }
}

pub fn read_all(fd: OwnedFd) -> String {
    let mut bytes = vec![];
    let _ = fs::File::from(fd).read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// `sh -c SCRIPT` with a usual `PATH`.
pub fn shell(script: &str) -> ProcessSpec {
    program(&["/bin/sh", "-c", script])
}

/// A program with a usual `PATH`.
pub fn program(args: &[&str]) -> ProcessSpec {
    let mut process = ProcessSpec::new(args.iter().copied());
    process.env = vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into()];
    process
}

/// A bind mount of `destination`, of the descriptor at `index`.
pub fn bind_mount(index: usize, destination: &str) -> Mount {
    Mount {
        destination: destination.into(),
        kind: MountKind::Fd(index),
        flags: MountFlags::default(),
        source: format!("/source/{index}"),
    }
}

/// The failure of a start that had to fail; `what` it was.
pub fn refused(result: Result<Output, StartError>, what: &str) -> StartError {
    match result {
        Err(error) => error,
        Ok(output) => panic!("{what} was let through: {output:?}"),
    }
}

/// The standard descriptors of a process, by their numbers.
pub fn open_descriptors(pid: i32) -> Vec<i32> {
    let mut numbers: Vec<i32> = fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .map(|entry| {
            entry
                .unwrap()
                .file_name()
                .to_str()
                .unwrap()
                .parse()
                .unwrap()
        })
        .collect();
    numbers.sort_unstable();
    numbers
}

/// Docker's defaults around `process`; the id is unique within the test program.
pub fn container(process: ProcessSpec) -> ContainerSpec {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    ContainerSpec::new(
        &format!("{number:012x}{:052x}", std::process::id()),
        process,
    )
}

/// A folder with what an image of busybox has.
pub fn busybox_root(root: &Path) {
    for directory in [
        "bin", "etc", "tmp", "root", "dev", "proc", "sys", "var", "home/app",
    ] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
    fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
    let list = Command::new("/bin/busybox").arg("--list").output().unwrap();
    for applet in String::from_utf8_lossy(&list.stdout).lines() {
        if applet != "busybox" {
            symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
    }
    fs::write(
        root.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/home/app:/bin/sh\n",
    )
    .unwrap();
    fs::write(
        root.join("etc/group"),
        "root:x:0:\napp:x:1000:\nextra:x:55:app\n",
    )
    .unwrap();
}

fn cgroup2() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mount = mounts
        .lines()
        .filter_map(|line| {
            line.split_once(" - ")
                .filter(|(_, fs)| fs.starts_with("cgroup2 "))
        })
        .find_map(|(mount, _)| mount.split(' ').nth(4));
    PathBuf::from(mount.expect("a cgroup2 mount"))
}
