//! The owner beside a machine process that is only played: it says who it is, and what it was asked.

use std::fs::File;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::mpsc as std_mpsc;

use lighter_platform::HostPaths;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept, bind,
    listen, recv, send, socket_with,
};
use serde_json::{Value, json};

use super::super::*;
use crate::shares::AllowList;

/// Holds the lock of a run directory and listens there, until it is killed.
fn play(run: &Path) -> std_mpsc::Receiver<String> {
    let lock = File::create(run.join("machine.lock")).unwrap();
    lock.try_lock().unwrap();
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
    let address = SocketAddrUnix::new(run.join("machine.sock")).unwrap();
    bind(&socket, &address).unwrap();
    listen(&socket, 8).unwrap();
    let (asked_in, asked) = std_mpsc::channel();
    std::thread::spawn(move || {
        while let Ok(daemon) = accept(&socket) {
            tell(
                &daemon,
                &json!({"kind": "attached", "secret": "07".repeat(32)}),
            );
            if !serve(&daemon, &asked_in) {
                break;
            }
        }
        drop((lock, socket));
    });
    asked
}

/// Serves one daemon; false once it has killed the machine. No guest ever answers.
fn serve(daemon: &OwnedFd, asked: &std_mpsc::Sender<String>) -> bool {
    let mut packet = [MaybeUninit::uninit(); 4096];
    while let Ok(((bytes, _), _)) = recv(daemon, &mut packet, RecvFlags::empty()) {
        let Ok(request) = serde_json::from_slice::<Value>(bytes) else {
            return true;
        };
        let kind = request["what"]["kind"].as_str().unwrap().to_owned();
        let killed = kind == "kill";
        let result = match killed {
            true => json!({"Ok": {"kind": "done"}}),
            false => json!({"Err": {"kind": "not_ready"}}),
        };
        tell(
            daemon,
            &json!({"kind": "answer", "id": request["id"], "result": result}),
        );
        // Nobody has to listen.
        let _ = asked.send(kind);
        if killed {
            tell(
                daemon,
                &json!({"kind": "exited", "reason": {"kind": "killed"}}),
            );
            return false;
        }
    }
    true
}

fn tell(daemon: &OwnedFd, message: &Value) {
    // A daemon that has gone hears nothing.
    let _ = send(daemon, message.to_string().as_bytes(), SendFlags::NOSIGNAL);
}

fn owner(dir: &Path) -> Vm {
    let at = |name: &str| {
        let path = dir.join(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    };
    let paths = HostPaths {
        config: at("config"),
        data: at("data"),
        cache: at("cache"),
        run: dir.to_owned(),
    };
    let recipe = Recipe {
        exe: dir.join("no-program"),
        boot_limit: Duration::from_millis(20),
        disk_log: None,
        allowed: Arc::new(AllowList::new(dir, &paths)),
        routes: watch::channel(Vec::new()).1,
        paths,
    };
    // Nobody serves its guest, or holds on to it.
    Vm::spawn(recipe, mpsc::channel(1).0)
}

/// What the machine was asked until nobody was left to ask.
fn all(asked: &std_mpsc::Receiver<String>) -> Vec<String> {
    let mut all: Vec<_> = asked.iter().collect();
    all.dedup();
    all
}

#[tokio::test]
async fn a_machine_that_was_found_and_is_silent_is_left_running_until_its_end_is_wanted() {
    let dir = tempfile::tempdir().unwrap();
    let asked = play(dir.path());
    let vm = owner(dir.path());
    for _ in 0..2 {
        let failure = vm.ready().await.unwrap_err();
        assert!(failure.message.contains("did not answer"), "{failure:?}");
        assert!(failure.hint.unwrap().contains("down --force"));
        let so_far: Vec<_> = asked.try_iter().collect();
        assert!(!so_far.is_empty() && !so_far.contains(&"kill".to_owned()));
    }
    vm.stop(ShutdownReason::User, true).await;
    assert_eq!(all(&asked).last().unwrap(), "kill");
}

#[tokio::test]
async fn settings_that_cannot_be_read_are_no_reason_to_end_a_machine() {
    let dir = tempfile::tempdir().unwrap();
    let asked = play(dir.path());
    std::fs::create_dir_all(dir.path().join("config")).unwrap();
    std::fs::write(dir.path().join("config/config.toml"), "cpus = ").unwrap();
    let vm = owner(dir.path());
    vm.ready().await.unwrap_err();
    assert_eq!(asked.try_iter().count(), 0);
    // In good order the end needs a guest that can be told; it is given the time of a start.
    vm.stop(ShutdownReason::User, false).await;
    assert_eq!(all(&asked), ["kill"]);
}
