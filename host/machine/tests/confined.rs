//! What becomes of the real `lighter` when one of the machine's threads makes a call that is not of its work.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]
#![expect(
    clippy::unwrap_used,
    reason = "a test stops where something is not as it should be"
)]

mod support;

use std::fs;

use lighter_machine::{Backend, ExitReason, Machine};
use lighter_tests::{env, takeover};
use support::{backends, lighter, port, process};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// The numbers and names of a process's threads, in an order that is the same each time.
fn threads(pid: u32) -> Vec<(String, u32)> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let mut threads: Vec<_> = threads
        .map(|thread| {
            let thread = thread.unwrap();
            let name = fs::read_to_string(thread.path().join("comm")).unwrap();
            let number = thread.file_name().to_str().unwrap().parse().unwrap();
            (name.trim().to_owned(), number)
        })
        .collect();
    threads.sort();
    threads
}

#[tokio::test]
async fn every_thread_of_the_program_ends_it_by_another_programs_start() {
    const NAME: &str = "every_thread_of_the_program_ends_it_by_another_programs_start";
    let kernel = kernel_or_skip!();
    for backend in backends::all() {
        let backend = match backend.name() {
            "kvm" => Backend::Kvm,
            _ => Backend::Qemu,
        };
        let dir = tempfile::tempdir().unwrap();
        let launch = || lighter::config(backend, kernel.clone(), dir.path());
        let config = match launch() {
            Ok(config) => config,
            Err(why) => return env::skip(NAME, &why),
        };
        let machine = Machine::launch(config).await.unwrap();
        process::connect(&machine, port::ORDERS).await;
        let pid = machine.status().await.unwrap().pid;
        let mut names: Vec<String> = threads(pid).into_iter().map(|(name, _)| name).collect();
        names.dedup();
        // That a call is not the thread's own idea ends nothing.
        for (name, thread) in threads(pid) {
            assert!(
                takeover::survives(thread, libc::SYS_gettid).unwrap(),
                "{name}"
            );
        }
        answers(&machine).await;
        machine.kill().await.unwrap();
        process::exited(&machine).await;
        for name in names {
            let machine = process::launch(|| launch().unwrap()).await;
            let pid = machine.status().await.unwrap().pid;
            let (_, thread) = threads(pid).into_iter().find(|(n, _)| *n == name).unwrap();
            let survived = takeover::survives(thread, libc::SYS_execve).unwrap();
            assert!(!survived, "{name} goes on");
            let end = process::exited(&machine).await;
            assert_eq!(end, ExitReason::Vanished, "{name}");
            eprintln!("{name} ended it");
        }
    }
}

async fn answers(machine: &Machine) {
    let mut stream = process::connect(machine, port::ECHO).await;
    stream.write_all(b"still here").await.unwrap();
    let mut bytes = [0; 10];
    stream.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"still here");
}
