//! The vsock device with a real guest under QEMU: every byte, every half-close, many streams.

#![cfg(target_os = "linux")]

mod support;

use std::{
    io::{Read, Write},
    net::Shutdown,
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::PathBuf,
    sync::{Arc, mpsc},
};

use lighter_machine::{Error, Hypervisor, Qemu, Vm, VmParts, VmSpec};
use support::{PATIENCE, port, until};

/// A machine with the test guest, up to its last listener.
struct Guest {
    vm: Arc<dyn Vm>,
    _dir: tempfile::TempDir,
}

fn open_parts(spec: &VmSpec) -> VmParts {
    let open = |path: &PathBuf| OwnedFd::from(std::fs::File::open(path).unwrap());
    let writable = |path: &PathBuf| {
        let file = std::fs::File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path);
        OwnedFd::from(file.unwrap())
    };
    VmParts {
        kernel: open(&spec.kernel),
        initramfs: open(&spec.initramfs),
        disks: spec.disks.iter().map(|disk| writable(&disk.path)).collect(),
        shares: Vec::new(),
        console: writable(&spec.console_log),
    }
}

impl Guest {
    fn boot(kernel: PathBuf) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let spec = support::spec(kernel, dir.path());
        let vm: Arc<dyn Vm> = Arc::from(Qemu.create(&spec, open_parts(&spec)).unwrap());
        vm.start().unwrap();
        let guest = Self { vm, _dir: dir };
        until("the guest's last listener", || {
            guest.try_connect(port::ORDERS).ok()
        });
        guest
    }

    fn try_connect(&self, port: u32) -> Result<UnixStream, Error> {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (sender, answer) = mpsc::channel();
        self.vm.connect(
            port,
            theirs.into(),
            Box::new(move |result| drop(sender.send(result))),
        );
        let answer = answer.recv_timeout(PATIENCE).expect("an answer");
        ours.set_read_timeout(Some(PATIENCE)).unwrap();
        ours.set_write_timeout(Some(PATIENCE)).unwrap();
        answer.map(|()| ours).map_err(|(error, _)| error)
    }

    fn connect(&self, port: u32) -> UnixStream {
        self.try_connect(port).unwrap()
    }
}

#[test]
fn echo_comes_back_and_nobody_listening_is_refused() {
    let guest = Guest::boot(kernel_or_skip!());
    let mut stream = guest.connect(port::ECHO);
    for len in [1, 100, 5_000, 200_000] {
        let sent = vec![b'e'; len];
        let mut writer = stream.try_clone().unwrap();
        let copy = sent.clone();
        let sender = std::thread::spawn(move || writer.write_all(&copy).unwrap());
        let mut got = vec![0; len];
        stream.read_exact(&mut got).unwrap();
        sender.join().unwrap();
        assert!(got == sent);
    }
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0);
    assert_eq!(
        guest.try_connect(999).unwrap_err(),
        Error::Refused { port: 999 }
    );
}
