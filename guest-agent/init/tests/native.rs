//! Init in a namespace of its own, with a puppet for its agent.

#![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use tempfile::TempDir;

struct Machine {
    process: Child,
    dir: TempDir,
}

impl Machine {
    fn start() -> Self {
        let dir = TempDir::new().unwrap();
        let puppet = std::env::current_exe()
            .unwrap()
            .parent()
            .unwrap()
            .join("../examples/puppet_agent");
        std::os::unix::fs::symlink(puppet.canonicalize().unwrap(), dir.path().join("agent"))
            .unwrap();
        let mut command = Command::new("unshare");
        if !rustix::process::geteuid().is_root() {
            command.arg("--map-root-user");
        }
        let process = command
            .args([
                "--pid",
                "--mount",
                "--net",
                "--fork",
                "--kill-child",
                "--mount-proc",
            ])
            .arg(env!("CARGO_BIN_EXE_lighter-init"))
            .arg("--native")
            .args([Path::new("--dir"), dir.path()])
            .args([Path::new("--agent"), &dir.path().join("agent")])
            .args(["--enter", "/bin/false"])
            .spawn()
            .unwrap();
        Self { process, dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Connects to the puppet; waits for the listener, which init makes before all else.
    fn connect(&mut self) -> Wire {
        loop {
            if let Ok(stream) = UnixStream::connect(self.path("control.sock")) {
                return Wire(BufReader::new(stream));
            }
            assert!(
                self.process.try_wait().unwrap().is_none(),
                "init ended before it listened"
            );
            std::thread::yield_now();
        }
    }

    fn ask(&mut self, line: &str) -> String {
        self.connect().ask(line)
    }

    /// Sends a command that the agent does not survive.
    fn tell(&mut self, line: &str) {
        let mut wire = self.connect();
        writeln!(wire.0.get_mut(), "{line}").unwrap();
        let mut nothing = String::new();
        assert!(
            !matches!(wire.0.read_line(&mut nothing), Ok(1..)),
            "{nothing}"
        );
    }

    fn starts(&mut self) -> u32 {
        let info = self.ask("info");
        let (_, rest) = info.split_once("agent_starts: ").unwrap();
        rest.split(',').next().unwrap().parse().unwrap()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

struct Wire(BufReader<UnixStream>);

impl Wire {
    fn ask(&mut self, line: &str) -> String {
        writeln!(self.0.get_mut(), "{line}").unwrap();
        let mut answer = String::new();
        self.0.read_line(&mut answer).unwrap();
        answer.trim_end().to_owned()
    }
}

/// A named pipe that keeps a puppet's child waiting until the returned end is dropped.
fn gate(machine: &Machine, name: &str) -> (String, fs::File) {
    let path = machine.path(name);
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, 0o600.into()).unwrap();
    // Read and write, so that opening does not wait for the child.
    let held = fs::File::options()
        .read(true)
        .write(true)
        .open(&path)
        .unwrap();
    (path.to_str().unwrap().to_owned(), held)
}

#[test]
fn store_begins_with_listeners_and_a_second_network() {
    let mut machine = Machine::start();
    assert_eq!(
        machine.ask("list"),
        "listen/api listen/control listen/docker.sock listen/published ns/hostnet"
    );
    assert_ne!(machine.ask("netns"), machine.ask("own-netns"));
    // Needs CAP_SYS_RESOURCE, which not every root has.
    let allowed = Command::new("sh")
        .args(["-c", "echo -1000 >/proc/self/oom_score_adj"])
        .status();
    if allowed.unwrap().success() {
        assert_eq!(machine.ask("oom"), "-1000");
    }
    let mode = fs::metadata(machine.path("docker.sock")).unwrap();
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&mode.permissions()) & 0o777,
        0o660
    );
}

#[test]
fn children_and_descriptors_survive_fifty_agents() {
    let mut machine = Machine::start();
    let (path, held) = gate(&machine, "gate");
    let child = machine.ask(&format!("child 42 {path}"));
    assert_eq!(machine.ask("put-pipe c/1/stdout kept"), "held");
    for _ in 0..50 {
        machine.tell("die");
    }
    assert_eq!(machine.starts(), 51);
    assert_eq!(
        machine.ask("exits"),
        "",
        "the child waits still, and agents are not in the journal"
    );
    assert_eq!(machine.ask("read-pipe c/1/stdout"), "kept");
    drop(held);
    assert_eq!(machine.ask(&format!("await-exit {child}")), "42");
}

#[test]
fn exit_without_an_agent_is_told_to_the_next_until_forgotten() {
    let mut machine = Machine::start();
    let (path, held) = gate(&machine, "gate");
    let child = machine.ask(&format!("child 7 {path}"));
    let (agent, away) = (machine.path("agent"), machine.path("away"));
    fs::rename(&agent, &away).unwrap();
    machine.tell("die");
    // No agent can be started now; the child ends meanwhile.
    drop(held);
    fs::rename(&away, &agent).unwrap();
    assert_eq!(machine.ask(&format!("await-exit {child}")), "7");
    assert_eq!(
        machine.ask("exits"),
        format!("{child}:7"),
        "kept until forgotten"
    );
    machine.tell("die");
    assert_eq!(
        machine.ask("exits"),
        format!("{child}:7"),
        "kept for the next as well"
    );
    machine.ask(&format!("forget {child}"));
    assert_eq!(machine.ask("exits"), "");
}

#[test]
fn agent_that_breaks_the_rules_is_replaced() {
    let mut machine = Machine::start();
    machine.tell("garbage");
    assert_eq!(machine.starts(), 2);
    machine.tell("close");
    assert_eq!(machine.starts(), 3);
}

#[test]
fn store_holds_thousands() {
    let mut machine = Machine::start();
    assert_eq!(machine.ask("put-many x/ 3000"), "held");
    assert_eq!(machine.ask("list").split(' ').count(), 3005);
    machine.tell("die");
    assert_eq!(machine.ask("remove-prefix x/"), "3000");
    assert_eq!(machine.ask("list").split(' ').count(), 5);
}

#[test]
fn thousands_of_exits_reach_the_agent_in_order() {
    let mut machine = Machine::start();
    let (path, held) = gate(&machine, "gate");
    let mut wire = machine.connect();
    let children: Vec<String> = (0..1500)
        .map(|_| wire.ask(&format!("child 1 {path}")))
        .collect();
    drop(held);
    for child in &children {
        assert_eq!(wire.ask(&format!("await-exit {child}")), "1");
    }
    assert_eq!(wire.ask("exits").split(' ').count(), 1500);
}

#[test]
fn end_asked_for_ends_init() {
    let mut machine = Machine::start();
    let _ = machine.ask("pid");
    // Whether the answer comes through before everything ends is of no interest.
    let _ = machine.ask("end");
    assert!(machine.process.wait().unwrap().success());
}
