//! A machine in a process of its own, as the daemon has it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use lighter_machine::{Error, ExitReason, GuestStream, LaunchConfig, Machine, Secret};

use super::PATIENCE;

/// A machine whose process is this program again, with one test: `the_machine_process_itself`.
pub fn config(kernel: PathBuf, dir: &Path) -> LaunchConfig {
    // On one thread the harness runs it on the main thread, as `lighter machine` would.
    let args = [
        "--ignored",
        "--exact",
        "the_machine_process_itself",
        "--test-threads=1",
    ];
    let config = LaunchConfig {
        run_dir: dir.to_owned(),
        exe: std::env::current_exe().unwrap(),
        args: args.map(str::to_owned).to_vec(),
        spec: super::spec(kernel, dir),
        secret: Secret::new([7; 32]),
        share_sockets: Vec::new(),
        network_socket: None,
        log: None,
        hold: Vec::new(),
    };
    // A machine outlives its daemon; one of a failed test must not outlive the test.
    through("/usr/bin/setpriv", &["--pdeathsig", "KILL"], config)
}

/// Launches a machine as soon as the one before has let its lock go.
pub async fn launch(config: impl Fn() -> LaunchConfig) -> Machine {
    let launched = async {
        loop {
            match Machine::launch(config()).await {
                Ok(machine) => break machine,
                Err(Error::AlreadyRunning) => tokio::time::sleep(Duration::from_millis(5)).await,
                Err(error) => panic!("{error}"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, launched).await.unwrap()
}

/// A stream to a port, as soon as the guest listens there.
pub async fn connect(machine: &Machine, port: u32) -> GuestStream {
    let connected = async {
        loop {
            match machine.connect(port).await {
                Ok(stream) => break stream,
                Err(Error::NotReady | Error::Refused { .. }) => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                Err(error @ Error::Gone) => panic!("{error}: {:?}", exited(machine).await),
                Err(error) => panic!("{error}"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, connected)
        .await
        .expect("a guest that answers")
}

/// How it ended.
pub async fn exited(machine: &Machine) -> ExitReason {
    tokio::time::timeout(PATIENCE, machine.exited())
        .await
        .expect("an end")
}

/// The same machine, its process started through another program.
pub fn through(program: &str, args: &[&str], mut config: LaunchConfig) -> LaunchConfig {
    let mut all: Vec<String> = args.iter().map(ToString::to_string).collect();
    all.push(config.exe.to_str().unwrap().to_owned());
    all.append(&mut config.args);
    LaunchConfig {
        exe: program.into(),
        args: all,
        ..config
    }
}

/// Kills a process where it stands.
pub fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}
