//! The machine process as the daemon sees it: started, taken over, ended, crashed.

#![cfg(target_os = "linux")]
#![expect(
    clippy::unwrap_used,
    reason = "a test stops where something is not as it should be"
)]

mod support;

use std::{
    io::{Read, Write},
    time::Duration,
};

use lighter_machine::{Backend, Error, ExitReason, Machine, Secret};
use support::{
    PATIENCE, port,
    process::{config, connect, exited, through},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[test]
#[ignore = "started by the other tests, with their socket as its standard input"]
fn the_machine_process_itself() {
    _ = lighter_machine::process_main();
}

#[tokio::test]
async fn machine_is_launched_called_and_killed() {
    let kernel = kernel_or_skip!();
    let dir = tempfile::tempdir().unwrap();
    let machine = Machine::launch(config(kernel.clone(), dir.path()))
        .await
        .unwrap();
    assert_eq!(
        Machine::launch(config(kernel, dir.path()))
            .await
            .unwrap_err(),
        Error::AlreadyRunning
    );

    let mut stream = connect(&machine, port::ECHO).await;
    stream.write_all(b"hello").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "hello");

    // A call of the guest.
    connect(&machine, port::ORDERS).await;
    let mut asked = connect(&machine, port::CONNECT_BACK).await;
    asked.write_all(&1026u32.to_le_bytes()).await.unwrap();
    let (called, mut call) = machine.incoming().await.unwrap();
    assert_eq!(called, 1026);
    let mut words = String::new();
    call.read_to_string(&mut words).await.unwrap();
    assert_eq!(words, "guest calls");
    call.write_all(b"host answers").await.unwrap();
    drop(call);
    let mut answer = String::new();
    asked.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "host answers");

    let status = machine.status().await.unwrap();
    assert!(status.guest_ready, "{status:?}");
    // Our own monitor is in the machine process, others are its children.
    let own = status.backend == "kvm";
    assert!(own != status.vm_pid.is_some(), "{status:?}");
    for pid in [Some(status.pid), status.vm_pid].into_iter().flatten() {
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let core = limits.lines().find(|line| line.contains("core file"));
        let core: Vec<&str> = core.unwrap().split_whitespace().skip(4).collect();
        assert_eq!(core[..2], ["0", "0"], "{pid} may leave a core file");
        for thread in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
            let thread = thread.unwrap();
            // Of this program as the machine process it is the test harness's, which waits for the one that matters.
            if pid == status.pid && thread.file_name() == *pid.to_string() {
                continue;
            }
            let text = std::fs::read_to_string(thread.path().join("status")).unwrap();
            for line in ["Seccomp:\t2", "NoNewPrivs:\t1"] {
                assert!(
                    text.lines().any(|l| l == line),
                    "{pid} has not {line}: {text}"
                );
            }
        }
    }
    machine.kill().await.unwrap();
    assert_eq!(exited(&machine).await, ExitReason::Killed);
    assert_eq!(machine.connect(port::ECHO).await.unwrap_err(), Error::Gone);
    assert!(machine.incoming().await.is_none());
}

#[tokio::test]
async fn the_log_it_was_given_has_its_words_and_stays_small() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path().join("noise"), dir.path());
    let log = dir.path().join("log");
    // As if the log was long already.
    std::fs::write(&log, vec![b'x'; 5 << 20]).unwrap();
    config.log = Some(std::fs::File::options().append(true).open(&log).unwrap());
    // On every host the start fails, and the process says so.
    config.spec.backend = Backend::Kvm;
    std::fs::write(&config.spec.kernel, [0x55; 4096]).unwrap();
    Machine::launch(config).await.unwrap_err();
    let text = support::until("its words", || {
        let text = std::fs::read_to_string(&log).unwrap();
        text.contains("the machine process ends").then_some(text)
    });
    assert!(text.starts_with("(the log was full"), "{text}");
}

#[tokio::test]
async fn client_socket_is_handed_over_and_comes_back_when_refused() {
    let kernel = kernel_or_skip!();
    let dir = tempfile::tempdir().unwrap();
    let machine = Machine::launch(config(kernel, dir.path())).await.unwrap();
    connect(&machine, port::ORDERS).await;

    let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    ours.set_read_timeout(Some(PATIENCE)).unwrap();
    ours.write_all(b"before").unwrap();
    let refused = machine
        .hand_over(999, b"lost".to_vec(), theirs.into())
        .await
        .unwrap_err();
    assert_eq!(refused.error, Error::Refused { port: 999 });
    let too_long = vec![0; 4097];
    let refused = machine
        .hand_over(port::ECHO, too_long, refused.stream)
        .await
        .unwrap_err();
    assert!(matches!(refused.error, Error::System { .. }), "{refused}");
    machine
        .hand_over(port::ECHO, b"first, ".to_vec(), refused.stream)
        .await
        .unwrap();
    ours.write_all(b" and after").unwrap();
    ours.shutdown(std::net::Shutdown::Write).unwrap();
    let mut text = String::new();
    ours.read_to_string(&mut text).unwrap();
    assert_eq!(text, "first, before and after");
    machine.kill().await.unwrap();
}

#[tokio::test]
async fn a_client_of_tcp_is_handed_over_with_an_introduction_and_outlives_the_daemon() {
    let kernel = kernel_or_skip!();
    let dir = tempfile::tempdir().unwrap();
    let machine = Machine::launch(config(kernel, dir.path())).await.unwrap();
    connect(&machine, port::ORDERS).await;

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(b"early").unwrap();
    let (accepted, _) = listener.accept().unwrap();
    let first = b"who it is; ".to_vec();
    machine
        .hand_over(port::ECHO, first, accepted.into())
        .await
        .unwrap();
    drop(machine);
    let mut bytes = [0; 16];
    client.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"who it is; early");
    client.write_all(b" and late").unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    assert_eq!(text, " and late");
    let machine = Machine::take_over(dir.path()).await.unwrap().unwrap();
    machine.kill().await.unwrap();
}

#[tokio::test]
async fn next_daemon_takes_over_with_secret_and_open_streams() {
    let kernel = kernel_or_skip!();
    let dir = tempfile::tempdir().unwrap();
    assert!(Machine::take_over(dir.path()).await.unwrap().is_none());
    let first = Machine::launch(config(kernel, dir.path())).await.unwrap();
    let mut stream = connect(&first, port::ECHO).await;
    let second = Machine::take_over(dir.path()).await.unwrap().unwrap();
    assert_eq!(second.secret(), &Secret::new([7; 32]));
    assert_eq!(exited(&first).await, ExitReason::TakenOver);
    assert_eq!(
        first.connect(port::ECHO).await.unwrap_err(),
        Error::TakenOver
    );

    stream.write_all(b"still here").await.unwrap();
    let mut bytes = [0; 10];
    stream.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"still here");

    drop((first, second));
    let third = Machine::take_over(dir.path()).await.unwrap().unwrap();
    connect(&third, port::ECHO).await;
    third.bye_seen("shutdown").await.unwrap();
    let mut orders = connect(&third, port::ORDERS).await;
    orders.write_all(b"r").await.unwrap();
    assert_eq!(
        exited(&third).await,
        ExitReason::Bye {
            reason: "shutdown".into()
        }
    );
    assert!(Machine::take_over(dir.path()).await.unwrap().is_none());
}

#[tokio::test]
async fn guest_panic_is_a_crash_with_its_words() {
    let kernel = kernel_or_skip!();
    let dir = tempfile::tempdir().unwrap();
    let machine = Machine::launch(config(kernel, dir.path())).await.unwrap();
    let mut orders = connect(&machine, port::ORDERS).await;
    orders.write_all(b"e").await.unwrap();
    match exited(&machine).await {
        ExitReason::Crash { console_tail, .. } => {
            assert!(
                console_tail.contains("Attempted to kill init"),
                "{console_tail}"
            );
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn monitor_killed_from_outside_is_a_crash_or_all_that_is_known() {
    let kernel = kernel_or_skip!();
    let dir = tempfile::tempdir().unwrap();
    let machine = Machine::launch(config(kernel, dir.path())).await.unwrap();
    let mut stream = connect(&machine, port::ECHO).await;
    let status = machine.status().await.unwrap();
    support::process::kill(status.vm_pid.unwrap_or(status.pid));
    match (exited(&machine).await, status.vm_pid) {
        (ExitReason::Crash { what, .. }, Some(_)) => assert!(what.contains("signal 9"), "{what}"),
        // The monitor was the machine process: nobody is left to say how it ended.
        (ExitReason::Vanished, None) => {}
        (other, _) => panic!("{other:?}"),
    }
    assert_eq!(stream.read(&mut [0; 8]).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn missing_kernel_is_named_and_leaves_nothing_running() {
    let dir = tempfile::tempdir().unwrap();
    let error = Machine::launch(config("/nonexistent/vmlinux".into(), dir.path()))
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("`/nonexistent/vmlinux`"),
        "{error}"
    );
    assert!(Machine::take_over(dir.path()).await.unwrap().is_none());
}

#[tokio::test]
async fn crowd_of_streams_is_open_at_once_and_each_is_answered() {
    let kernel = kernel_or_skip!();
    let dir = tempfile::tempdir().unwrap();
    let machine = Machine::launch(config(kernel, dir.path())).await.unwrap();
    connect(&machine, port::ORDERS).await;
    let wanted = support::count(2_000, 16_384);
    raise_descriptor_limit();
    let mut streams = Vec::with_capacity(wanted);
    let started = std::time::Instant::now();
    while streams.len() < wanted {
        // Many requests at a time, as clients would make them.
        let mut batch = tokio::task::JoinSet::new();
        for _ in 0..(wanted - streams.len()).min(256) {
            let machine = machine.clone();
            batch.spawn(async move { machine.connect(port::CROWD).await.unwrap() });
        }
        streams.extend(batch.join_all().await);
    }
    let opened = started.elapsed();
    assert!(machine.status().await.unwrap().streams as usize >= wanted);
    let work = async {
        for (number, stream) in streams.iter_mut().enumerate() {
            stream
                .write_all(&(number as u32).to_le_bytes())
                .await
                .unwrap();
        }
        for (number, stream) in streams.iter_mut().enumerate() {
            assert_eq!(stream.read_u32_le().await.unwrap(), number as u32);
        }
    };
    tokio::time::timeout(PATIENCE, work).await.unwrap();
    let answered = started.elapsed() - opened;
    let memory = resident_kib(machine.status().await.unwrap().pid);
    eprintln!(
        "{wanted} streams: open after {opened:?}, answered after {answered:?}; the machine process holds {memory} KiB"
    );
    drop(streams);
    let closed = async {
        while machine.status().await.unwrap().streams > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, closed).await.unwrap();
    machine.kill().await.unwrap();
}

#[tokio::test]
async fn machine_out_of_descriptors_refuses_and_recovers() {
    let kernel = kernel_or_skip!();
    let dir = tempfile::tempdir().unwrap();
    let config = through(
        "/usr/bin/prlimit",
        &["--nofile=200:200"],
        config(kernel, dir.path()),
    );
    let machine = Machine::launch(config).await.unwrap();
    connect(&machine, port::ORDERS).await;
    let mut streams = Vec::new();
    let refused = loop {
        match machine.connect(port::CROWD).await {
            Ok(stream) => streams.push(stream),
            Err(error) => break error,
        }
    };
    assert_eq!(refused, Error::TooManyStreams, "after {}", streams.len());
    assert!(streams.len() > 100);
    streams.truncate(50);
    let mut stream = connect_again(&machine).await;
    stream.write_all(b"room").await.unwrap();
    stream.read_exact(&mut [0; 4]).await.unwrap();
    machine.kill().await.unwrap();
}

/// The closed streams' descriptors come free as the device notices.
async fn connect_again(machine: &Machine) -> lighter_machine::GuestStream {
    let connected = async {
        loop {
            match machine.connect(port::ECHO).await {
                Ok(stream) => break stream,
                Err(Error::TooManyStreams) => tokio::time::sleep(Duration::from_millis(5)).await,
                Err(error) => panic!("{error}"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, connected).await.unwrap()
}

#[tokio::test]
async fn old_qemu_is_refused_with_the_package_to_install() {
    let kernel = kernel_or_skip!();
    let dir = tempfile::tempdir().unwrap();
    let fake = dir.path().join("qemu");
    let script = "#!/bin/sh\n\
        [ \"$1\" = --version ] && { echo 'QEMU emulator version 7.2.18 (Debian)'; exit 0; }\n\
        echo 'unknown option' >&2; exit 1\n";
    std::fs::write(&fake, script).unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&fake, executable).unwrap();
    let named = format!("LIGHTER_QEMU={}", fake.display());
    let mut config = through("/usr/bin/env", &[&named], config(kernel, dir.path()));
    config.spec.backend = Backend::Qemu;
    let error = Machine::launch(config).await.unwrap_err();
    assert!(
        matches!(&error, Error::TooOld { found, .. } if found == "7.2.18"),
        "{error:?}"
    );
    assert!(
        error
            .hint()
            .unwrap()
            .contains("bookworm-backports qemu-system-x86")
    );
    assert!(Machine::take_over(dir.path()).await.unwrap().is_none());
}

#[tokio::test]
async fn kernel_that_is_none_is_an_error_with_the_monitors_words() {
    let kernel = kernel_or_skip!();
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(kernel, dir.path());
    config.spec.kernel = dir.path().join("noise");
    std::fs::write(&config.spec.kernel, [0x55; 4096]).unwrap();
    let words = match Machine::launch(config).await {
        Err(error) => error.to_string(),
        Ok(machine) => format!("{:?}", exited(&machine).await),
    };
    let expected = ["QEMU exited with code 1", "the guest's kernel: "];
    assert!(expected.iter().any(|e| words.contains(e)), "{words}");
}

fn resident_kib(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = text
        .lines()
        .find(|line| line.starts_with("Private_Dirty:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    )
    .unwrap();
}
