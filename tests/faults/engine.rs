//! The engine in the guest is killed; the containers must not notice.

use std::io::Read;
use std::process::{Child, ChildStdout, Stdio};

use lighter_tests::terminal::Terminal;
use lighter_tests::{Host, env, probe, until};

use crate::guest::{arm, inspect, kill_engine, life};

/// A client that is being served: the first of its output has come.
fn reader(host: &Host, args: &[&str]) -> (Child, ChildStdout) {
    let mut command = host.docker_command();
    command
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut client = command.spawn().expect("docker starts");
    let mut output = client.stdout.take().expect("its output");
    output.read_exact(&mut [0]).expect("some output");
    (client, output)
}

/// Starts a container that holds a connection to the engine's socket and asks again when it dies.
fn start_watcher(host: &Host) {
    let script = "cat > /probe && chmod +x /probe";
    let socket = "/var/run/docker.sock";
    let bind = format!("{socket}:{socket}");
    host.docker(&[
        "run",
        "-d",
        "--name",
        "watcher",
        "-v",
        &bind,
        "busybox",
        "sh",
        "-c",
        "until [ -e /go ]; do usleep 10000; done; exec /probe watch /var/run/docker.sock",
    ])
    .ok();
    host.docker_with(
        &["exec", "-i", "watcher", "sh", "-c", script],
        probe::binary(),
    )
    .ok();
    host.docker(&["exec", "watcher", "touch", "/go"]).ok();
    // Its first connection is there once it says so.
    until("the watcher is connected", || {
        host.docker(&["logs", "watcher"]).ok().out() == "alive\n"
    });
}

/// A person at a shell in a container, whose client dies with the engine.
struct Person {
    terminal: Terminal,
    docker: String,
}

impl Person {
    fn sit_down(host: &Host) -> Option<Self> {
        let docker = env::path(env::DOCKER)?;
        let docker = format!(
            "DOCKER_HOST=unix://{} {}",
            host.socket().display(),
            docker.display()
        );
        let command = format!("{docker} run -it --name typed busybox sh; clear; exec sh");
        let terminal = Terminal::open("killed", 80, 24, &command)?;
        terminal.shows("/ #");
        Some(Self { terminal, docker })
    }

    /// The shell in the container answers.
    fn types(&self, number: usize) {
        self.terminal
            .keys(&[&format!("echo typed $(({number}+1000))"), "Enter"]);
        self.terminal.shows(&format!("typed {}", number + 1000));
    }

    /// Back at the shell of the host, and to the container again.
    fn comes_back(&self, round: usize) {
        self.terminal
            .keys(&[&format!("clear; echo back $(({round}+5000))"), "Enter"]);
        self.terminal.shows(&format!("back {}", round + 5000));
        self.terminal
            .keys(&[&format!("clear; {} attach typed", self.docker), "Enter"]);
        // The shell shows its prompt once more when it is asked to.
        self.terminal.keys(&["Enter"]);
        self.terminal.shows("/ #");
    }
}

#[test]
fn engine_killed_leaves_containers_output_terminal_and_sockets() {
    let name = "engine_killed_leaves_containers_output_terminal_and_sockets";
    let Some(host) = Host::started(name) else {
        return;
    };
    arm(&host);
    let script =
        "i=0; while [ ! -e /stop ]; do i=$((i+1)); echo $i; usleep 20000; done; echo end; exit 42";
    host.docker(&[
        "run", "-d", "--name", "counter", "busybox", "sh", "-c", script,
    ])
    .ok();
    start_watcher(&host);
    let Some(person) = Person::sit_down(&host) else {
        env::skip(name, "tmux is not installed");
        return;
    };
    let names = ["counter", "watcher", "typed", "killer"];
    let before = life(&host, &names);
    let rounds = env::count(5, 200);
    for round in 0..rounds {
        person.types(round);
        let clients = [
            reader(&host, &["attach", "--no-stdin", "counter"]),
            reader(&host, &["logs", "-f", "counter"]),
        ];
        kill_engine(&host);
        assert_eq!(life(&host, &names), before, "after kill {round}");
        for (mut client, mut output) in clients {
            // Its connection died: it comes to an end, whatever it says of it.
            let mut rest = Vec::new();
            output.read_to_end(&mut rest).expect("its output");
            client.wait().expect("a client whose engine died ends");
        }
        person.comes_back(round);
    }
    person.types(rounds);
    host.docker(&["exec", "counter", "touch", "/stop"]).ok();
    assert_eq!(host.docker(&["wait", "counter"]).ok().out(), "42\n");
    let logs = host.docker(&["logs", "counter"]).ok().out();
    let lines: Vec<&str> = logs.lines().collect();
    let (last, numbers) = lines.split_last().expect("some output");
    assert_eq!(*last, "end");
    for (index, line) in numbers.iter().enumerate() {
        assert_eq!(
            *line,
            (index + 1).to_string(),
            "the log has a gap or says something twice"
        );
    }
    let watched = host.docker(&["logs", "watcher"]).ok().out();
    assert_eq!(
        watched,
        format!("alive\n{}", "died\nalive\n".repeat(rounds)),
        "the socket in a container"
    );
    person.terminal.keys(&["exit 7", "Enter"]);
    assert_eq!(host.docker(&["wait", "typed"]).ok().out(), "7\n");
}

#[test]
fn exit_while_the_engine_is_dead_is_not_lost() {
    let name = "exit_while_the_engine_is_dead_is_not_lost";
    let Some(host) = Host::started(name) else {
        return;
    };
    arm(&host);
    for round in 0..env::count(3, 50) {
        let container = format!("short{round}");
        let script = format!("usleep {}0000; exit 33", round % 40);
        host.docker(&[
            "run", "-d", "--name", &container, "busybox", "sh", "-c", &script,
        ])
        .ok();
        kill_engine(&host);
        assert_eq!(
            host.docker(&["wait", &container]).ok().out(),
            "33\n",
            "round {round}"
        );
        assert_eq!(inspect(&host, &container, "{{.State.ExitCode}}"), "33");
    }
}
