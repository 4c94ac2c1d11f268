//! What every backend keeps, whatever it is made of. A new backend is added to `support/backends.rs`.

#![cfg(target_os = "linux")]
#![expect(
    clippy::unwrap_used,
    reason = "a test stops where something is not as it should be"
)]

mod support;

use std::{io::Write, os::unix::net::UnixStream, sync::Arc};

use lighter_machine::{Error, ExitReason};
use support::{
    backends,
    guest::{Guest, each},
    port, triple_fault, until,
};

#[test]
fn second_start_is_refused_and_changes_nothing() {
    each(&kernel_or_skip!(), |guest| {
        guest.vm.start().unwrap();
        assert_eq!(guest.vm.start(), Err(Error::AlreadyStarted));
        guest.wait_until_up();
        assert_eq!(guest.vm.start(), Err(Error::AlreadyStarted));
    });
}

#[test]
fn kill_while_starting_leaves_no_process() {
    each(&kernel_or_skip!(), |guest| {
        let vm = Arc::clone(&guest.vm);
        // The machine is tied to the thread that starts it, so the other one kills.
        let killer = std::thread::spawn(move || {
            vm.kill();
            vm.wait()
        });
        let started = guest.vm.start();
        let reason = killer.join().unwrap();
        assert_eq!(reason, ExitReason::Killed, "the start said {started:?}");
        if let Some(pid) = guest.vm.observe().vm_pid {
            until("the monitor's end", || gone(pid).then_some(()));
        }
    });
}

#[test]
fn machine_that_could_not_be_made_ready_has_ended_and_says_why() {
    each(&kernel_or_skip!(), |guest| {
        let why = Error::Unsupported("a wall around it".into());
        let refused = guest.vm.start_with(&mut || Err(why.clone()));
        assert_eq!(refused, Err(why.clone()));
        let reason = guest.vm.wait();
        assert!(
            matches!(&reason, ExitReason::Crash { what, .. } if *what == why.to_string()),
            "{reason:?}"
        );
        assert_eq!(guest.vm.start(), Err(Error::Gone));
        assert_eq!(guest.try_connect(port::ECHO).unwrap_err(), Error::Gone);
        // Where the monitor is threads of this process, they end, too.
        until("the monitor's end", || {
            (!has_thread("vm-exit")).then_some(())
        });
        if let Some(pid) = guest.vm.observe().vm_pid {
            until("the monitor's process to end", || gone(pid).then_some(()));
        }
    });
}

#[test]
fn killed_machine_never_starts() {
    each(&kernel_or_skip!(), |guest| {
        guest.vm.kill();
        assert_eq!(guest.vm.wait(), ExitReason::Killed);
        assert_eq!(guest.vm.start(), Err(Error::Gone));
        assert_eq!(guest.try_connect(port::ECHO).unwrap_err(), Error::Gone);
    });
}

#[test]
fn connect_before_the_guest_is_up_fails_and_later_works() {
    each(&kernel_or_skip!(), |guest| {
        assert_eq!(guest.try_connect(port::ECHO).unwrap_err(), Error::NotReady);
        guest.vm.start().unwrap();
        let early = guest.try_connect(port::ECHO).unwrap_err();
        assert!(
            matches!(early, Error::NotReady | Error::Refused { .. }),
            "{early}"
        );
        guest.wait_until_up();
        guest.connect(port::ECHO);
    });
}

#[test]
fn first_bytes_come_before_the_streams_own_and_are_not_taken_from_it() {
    each(&kernel_or_skip!(), |guest| {
        guest.vm.start().unwrap();
        guest.wait_until_up();
        let first = [b'f'; 3000];
        let (mut stream, answer) = guest.ask_with(port::ECHO, &first);
        stream.write_all(b"own").unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        answer.recv_timeout(support::PATIENCE).unwrap().unwrap();
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut stream, &mut bytes).unwrap();
        assert_eq!(bytes, [&first[..], b"own"].concat());

        let (mut stream, answer) = guest.ask_with(999, &first);
        stream.write_all(b"own").unwrap();
        let (error, back) = answer.recv_timeout(support::PATIENCE).unwrap().unwrap_err();
        assert_eq!(error, Error::Refused { port: 999 });
        drop(stream);
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut UnixStream::from(back), &mut bytes).unwrap();
        assert_eq!(bytes, b"own");
    });
}

#[test]
fn guest_calls_are_taken_while_listened_to_and_refused_after() {
    each(&kernel_or_skip!(), |guest| {
        guest.vm.start().unwrap();
        guest.wait_until_up();
        let call = |expected: &[u8]| {
            let mut stream = guest.connect(port::CONNECT_BACK);
            stream.write_all(&1026u32.to_le_bytes()).unwrap();
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut stream, &mut bytes).unwrap();
            assert_eq!(bytes, expected);
        };
        call(b"refused: ConnectionReset");
        guest.vm.listen(1026, Some(Box::new(|_| answering())));
        call(b"hello");
        guest.vm.listen(1026, None);
        call(b"refused: ConnectionReset");
    });
}

/// A socket whose other end says hello and reads until the end.
fn answering() -> Option<std::os::fd::OwnedFd> {
    let (mut ours, theirs) = UnixStream::pair().ok()?;
    std::thread::spawn(move || {
        ours.write_all(b"hello").unwrap();
        std::io::Read::read_to_end(&mut ours, &mut Vec::new()).unwrap();
    });
    Some(theirs.into())
}

#[test]
fn dropped_machine_takes_its_process_and_streams_along() {
    each(&kernel_or_skip!(), |guest| {
        guest.vm.start().unwrap();
        guest.wait_until_up();
        let mut stream = guest.connect(port::ECHO);
        let pid = guest.vm.observe().vm_pid;
        drop(guest);
        assert_eq!(
            std::io::Read::read(&mut stream, &mut [0; 8]).unwrap_or(0),
            0
        );
        // A monitor within this process has none of its own.
        if let Some(pid) = pid {
            until("the monitor's end", || gone(pid).then_some(()));
        }
    });
}

#[test]
fn guest_panic_ends_the_machine_with_the_consoles_words() {
    each(&kernel_or_skip!(), |guest| {
        guest.vm.start().unwrap();
        guest.wait_until_up();
        guest.connect(port::ORDERS).write_all(b"e").unwrap();
        match guest.vm.wait() {
            ExitReason::Crash { console_tail, .. } => {
                assert!(console_tail.contains("Kernel panic"), "{console_tail}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(guest.try_connect(port::ECHO).unwrap_err(), Error::Gone);
    });
}

#[test]
fn triple_fault_ends_the_machine() {
    let dir = tempfile::tempdir().unwrap();
    let kernel = triple_fault::kernel(dir.path());
    for backend in backends::all() {
        let guest = Guest::create(&*backend, kernel.clone());
        guest.vm.start().unwrap();
        match guest.vm.wait() {
            ExitReason::Crash { what, .. } if backend.name() == "kvm" => {
                assert!(what.contains("triple fault"), "{what}");
            }
            ExitReason::Crash { .. } => {}
            other => panic!("{other:?}"),
        }
        assert_eq!(guest.try_connect(port::ECHO).unwrap_err(), Error::Gone);
    }
}

#[test]
fn every_processor_works() {
    let kernel = kernel_or_skip!();
    for (cpus, backend) in [2, 4]
        .into_iter()
        .flat_map(|cpus| backends::all().into_iter().map(move |b| (cpus, b)))
    {
        let dir = tempfile::tempdir().unwrap();
        let mut spec = support::spec(kernel.clone(), dir.path());
        spec.cpus = cpus.into();
        let guest = Guest::of(&*backend, &spec).boot();
        let mut orders = guest.connect(port::ORDERS);
        orders.write_all(b"p").unwrap();
        let mut worked = Vec::new();
        std::io::Read::read_to_end(&mut orders, &mut worked).unwrap();
        let all: Vec<u8> = (0..cpus).collect();
        assert_eq!(worked, all, "of {cpus}");
    }
}

#[test]
fn kill_ends_a_running_machine_and_may_be_repeated() {
    each(&kernel_or_skip!(), |guest| {
        guest.vm.start().unwrap();
        guest.wait_until_up();
        guest.vm.kill();
        guest.vm.kill();
        assert_eq!(guest.vm.wait(), ExitReason::Killed);
        guest.vm.kill();
        assert_eq!(guest.vm.wait(), ExitReason::Killed);
    });
}

#[test]
fn console_flood_stays_within_its_limit() {
    each(&kernel_or_skip!(), |guest| {
        guest.vm.start().unwrap();
        guest.wait_until_up();
        // 2.8 MB of noise against a limit of 64 KiB.
        guest.connect(port::ORDERS).write_all(b"n").unwrap();
        let size = || std::fs::metadata(&guest.console).unwrap().len();
        until("the noise", || (size() > 16 << 10).then_some(()));
        for _ in 0..200 {
            assert!(size() <= 64 << 10);
            guest.connect(port::ECHO);
        }
    });
}

#[test]
fn full_host_pauses_the_machine_until_there_is_room() {
    let kernel = kernel_or_skip!();
    let dir = tempfile::tempdir().unwrap();
    if let Err(reason) = small_file_system(dir.path(), "size=8m") {
        lighter_tests::env::skip(
            "full_host_pauses_the_machine_until_there_is_room",
            &format!("no small file system here: {reason}"),
        );
        return;
    }
    for backend in backends::all() {
        let guest = Guest::create_in(&*backend, kernel.clone(), dir.path());
        if !guest.vm.capabilities().enospc_pause {
            continue;
        }
        guest.vm.start().unwrap();
        guest.wait_until_up();
        let mut stream = guest.connect(port::ORDERS);
        stream.write_all(b"w").unwrap();
        until("a full disk", || is_full(dir.path()).then_some(()));
        // The guest stands still now, and so does its stream, which must survive that.
        stream
            .set_read_timeout(Some(std::time::Duration::from_secs(3)))
            .unwrap();
        let early = std::io::Read::read(&mut stream, &mut [0; 8]).unwrap_err();
        assert_eq!(early.kind(), std::io::ErrorKind::WouldBlock);
        remount(dir.path(), c"size=64m").unwrap();
        stream.set_read_timeout(Some(support::PATIENCE)).unwrap();
        let mut text = String::new();
        std::io::Read::read_to_string(&mut stream, &mut text).unwrap();
        assert_eq!(text, "written");
    }
}

/// A tmpfs that only this thread sees.
fn small_file_system(at: &std::path::Path, size: &str) -> rustix::io::Result<()> {
    use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
    // SAFETY: only the mount namespace of this thread changes, which no other code here relies on.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private)?;
    mount(
        "tmpfs",
        at,
        "tmpfs",
        MountFlags::empty(),
        Some(&*std::ffi::CString::new(size).unwrap()),
    )
}

fn remount(at: &std::path::Path, size: &std::ffi::CStr) -> rustix::io::Result<()> {
    rustix::mount::mount_remount(at, rustix::mount::MountFlags::empty(), size)
}

fn is_full(at: &std::path::Path) -> bool {
    rustix::fs::statvfs(at).unwrap().f_bavail == 0
}

/// Whether a thread of this process has that name.
fn has_thread(name: &str) -> bool {
    std::fs::read_dir("/proc/self/task").unwrap().any(|thread| {
        let told = std::fs::read_to_string(thread.unwrap().path().join("comm"));
        told.is_ok_and(|told| told.trim_end() == name)
    })
}

/// Whether a process has ended, also one that was not waited for yet.
fn gone(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| {
        stat.rsplit(')')
            .next()
            .is_some_and(|rest| rest.starts_with(" Z"))
    })
}
