//! From start to end: the gate, terminals, `--init`, freezing and killing.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use common::{container, inside, program, shell};
use lighter_runtime::{ContainerFds, Stdio, TerminalSize};

#[test]
fn a_process_whose_engine_is_gone_exits_by_itself() {
    inside("a_process_whose_engine_is_gone_exits_by_itself", |bench| {
        let root = bench.rootfs("root");
        let spec = container(shell("echo ran"));
        let (stdio, pipes) = common::Pipes::new();
        let fds = ContainerFds {
            stdio,
            rootfs: bench.mount(&root),
            mounts: vec![],
            namespaces: vec![],
        };
        let prepared = bench.launcher.prepare(&spec, fds).unwrap();
        // What the kernel does for a dead engine: its end of the gate is closed.
        let (pid, _, cgroup) = prepared.into_parts();
        assert_eq!(bench.exit_code(pid), 255);
        assert_eq!(pipes.read(), (String::new(), String::new()));
        cgroup.unwrap().remove(Duration::from_secs(5)).unwrap();
    });
}

#[test]
fn a_failed_start_leaves_neither_group_nor_process() {
    inside("a_failed_start_leaves_neither_group_nor_process", |bench| {
        let root = bench.rootfs("root");
        let mut spec = container(program(&["true"]));
        spec.process.user = "nosuch".into();
        bench.run(&root, &spec).unwrap_err();
        assert!(bench.launcher.cgroups().get(None, &spec.id).is_none());
        spec.process.terminal = Some(TerminalSize::default());
        bench.run(&root, &spec).unwrap_err();
        assert!(bench.launcher.cgroups().get(None, &spec.id).is_none());
    });
}

#[test]
fn groups_freeze_count_and_kill() {
    inside("groups_freeze_count_and_kill", |bench| {
        let root = bench.rootfs("root");
        let running = bench.stay(&root, &container(shell("sleep 100 & sleep 100 & wait")));
        running.cgroup.freeze().unwrap();
        assert!(running.cgroup.is_frozen());
        running.cgroup.thaw().unwrap();
        assert!(!running.cgroup.is_frozen());
        assert!(running.cgroup.stats().unwrap().cpu.usage_usec > 0);
        let again = bench.launcher.cgroups().get(
            None,
            running.cgroup.path().file_name().unwrap().to_str().unwrap(),
        );
        assert!(again.unwrap().processes().unwrap().contains(&running.pid));
        running.cgroup.kill().unwrap();
        assert_eq!(bench.exit_code(running.pid), 137);
        running.cgroup.remove(Duration::from_secs(5)).unwrap();
        running.cgroup.remove(Duration::from_secs(5)).unwrap();
    });
}

#[test]
fn init_reaps_hands_on_signals_and_keeps_the_exit_code() {
    inside(
        "init_reaps_hands_on_signals_and_keeps_the_exit_code",
        |bench| {
            let root = bench.rootfs("root");
            let mut spec = container(shell(
                "tr '\\0' ' ' < /proc/1/cmdline; echo; echo $$; exit 9",
            ));
            spec.init = true;
            let output = bench.run(&root, &spec).unwrap();
            assert_eq!(output.code, 9);
            assert!(
                output.stdout.starts_with("/sbin/docker-init -- /bin/sh -c"),
                "{}",
                output.stdout
            );
            assert!(!output.stdout.ends_with("\n1\n"));

            let mut spec = container(program(&["nosuch"]));
            spec.init = true;
            let output = bench.run(&root, &spec).unwrap();
            assert_eq!(output.code, 127, "{}", output.stderr);

            // Orphans end up with init and are reaped; TERM goes through.
            let script = "trap 'exit 7' TERM; (sh -c 'sleep 0 &' &); echo up; while :; do sleep 1 & wait; done";
            let mut spec = container(shell(script));
            spec.init = true;
            spec.process.user = "app".into();
            let (stdio, pipes) = common::Pipes::new();
            let fds = ContainerFds {
                stdio,
                rootfs: bench.mount(&root),
                mounts: vec![],
                namespaces: vec![],
            };
            let mut prepared = bench.launcher.prepare(&spec, fds).unwrap();
            prepared.start().unwrap();
            let mut first = [0; 3];
            std::fs::File::from(pipes.stdout)
                .read_exact(&mut first)
                .unwrap();
            let pid = rustix::process::Pid::from_raw(prepared.pid()).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
            assert_eq!(bench.exit_code(prepared.pid()), 7);
            prepared
                .cgroup()
                .unwrap()
                .remove(Duration::from_secs(5))
                .unwrap();
        },
    );
}

/// Reads from a terminal until `text` has come.
fn expect(master: &mut std::fs::File, text: &str) -> String {
    let mut seen = vec![];
    let mut block = [0; 1024];
    while !String::from_utf8_lossy(&seen).contains(text) {
        match master.read(&mut block) {
            Ok(count) if count > 0 => seen.extend_from_slice(&block[..count]),
            other => panic!(
                "{other:?} before {text:?}: {}",
                String::from_utf8_lossy(&seen)
            ),
        }
    }
    String::from_utf8_lossy(&seen).into_owned()
}

#[test]
fn a_terminal_is_the_containers_own_and_its_console() {
    inside(
        "a_terminal_is_the_containers_own_and_its_console",
        |bench| {
            let root = bench.rootfs("root");
            let mut spec = container(program(&["sh"]));
            spec.process.terminal = Some(TerminalSize {
                rows: 40,
                cols: 100,
            });
            let fds = ContainerFds {
                stdio: Stdio::default(),
                rootfs: bench.mount(&root),
                mounts: vec![],
                namespaces: vec![],
            };
            let mut prepared = bench.launcher.prepare(&spec, fds).unwrap();
            let mut master = std::fs::File::from(prepared.take_pty_master().unwrap());
            prepared.start().unwrap();
            master
                .write_all(b"stty size; tty; stat -c %t:%T /dev/console; echo en''d\n")
                .unwrap();
            let seen = expect(&mut master, "end");
            assert!(seen.contains("40 100"), "{seen}");
            assert!(seen.contains("/dev/pts/0"), "{seen}");
            assert!(seen.contains("88:0"), "console is not a pty: {seen}");
            master.write_all(b"sleep 50\n").unwrap();
            expect(&mut master, "sleep 50");
            let (pid, pidfd, cgroup) = prepared.into_parts();
            let cgroup = cgroup.unwrap();
            // A second terminal by exec, of the same devpts.
            let mut process = program(&["sh", "-c", "tty; [ -t 0 ] && echo is''tty"]);
            process.terminal = Some(TerminalSize::default());
            let target = lighter_runtime::ExecTarget {
                pidfd: pidfd.as_fd(),
                cgroup: &cgroup,
                user: None,
            };
            let exec = lighter_runtime::ExecSpec { process };
            let mut second = bench
                .launcher
                .exec(target, &exec, Stdio::default())
                .unwrap();
            let mut second_master = std::fs::File::from(second.take_pty_master().unwrap());
            second.start().unwrap();
            let seen = expect(&mut second_master, "istty");
            assert!(seen.contains("/dev/pts/1"), "{seen}");
            assert_eq!(bench.exit_code(second.pid()), 0);
            // ^C reaches the foreground process: the terminal is the controlling one.
            master.write_all(b"\x03").unwrap();
            master.write_all(b"exit 5\n").unwrap();
            assert_eq!(bench.exit_code(pid), 5);
            cgroup.remove(Duration::from_secs(5)).unwrap();
        },
    );
}
