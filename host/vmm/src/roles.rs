//! What the threads of devices and processors may call, beside what every thread may: memory, locks, time, its log.
//!
//! Each list is what the thread's own code makes, and no more: a guest that confuses one of these threads has these
//! calls and the descriptors of the process. One that runs code of its own in a thread can write the others' memory, and
//! has all lists together: what none of them has, which is to open a name, to start anything, and to make a socket that
//! reaches beyond the process.

use lighter_platform::sys::threads::{Only, Role};

/// `_IO(KVMIO, 0x80)`: run the guest.
#[cfg(target_arch = "x86_64")]
const KVM_RUN: u32 = 0xae80;
/// `TIOCOUTQ`: how much the other end of a socket has not taken.
const UNSENT: u32 = libc::TIOCOUTQ as u32;
const LINGER: u32 = libc::SO_LINGER.cast_unsigned();
const SOCKET: u32 = libc::SOL_SOCKET.cast_unsigned();
const UNIX: u32 = libc::AF_UNIX.cast_unsigned();
const STREAM: u32 = (libc::SOCK_STREAM | libc::SOCK_CLOEXEC).cast_unsigned();
const COPY: u32 = libc::F_DUPFD_CLOEXEC.cast_unsigned();

/// A processor: it runs the guest, and does what the guest's registers ask for.
#[cfg(target_arch = "x86_64")]
pub const PROCESSOR: Role = Role {
    calls: &[
        // doorbells, and the words with processes behind devices
        libc::SYS_read,
        libc::SYS_sendmsg,
        libc::SYS_recvmsg,
        libc::SYS_shutdown,
        // the serial line's end, in the console's file
        libc::SYS_pwrite64,
    ],
    only: &[
        Only(libc::SYS_ioctl, &[(1, KVM_RUN)]),
        // A device gets its own doorbell.
        Only(libc::SYS_fcntl, &[(1, COPY)]),
    ],
};

/// The streams' device.
pub const STREAMS: Role = Role {
    calls: &[
        libc::SYS_epoll_ctl,
        libc::SYS_epoll_pwait,
        libc::SYS_read,
        libc::SYS_recvmsg,
        libc::SYS_recvfrom,
        libc::SYS_sendmsg,
        libc::SYS_sendto,
        libc::SYS_shutdown,
        libc::SYS_getsockopt,
    ],
    only: &[
        // A stream that the guest opens. Sockets of datagrams would reach whoever listens in the file system.
        Only(libc::SYS_socketpair, &[(0, UNIX), (1, STREAM)]),
        Only(libc::SYS_ioctl, &[(1, UNSENT)]),
        Only(libc::SYS_setsockopt, &[(1, SOCKET), (2, LINGER)]),
    ],
};

/// A device that waits for its doorbells and needs nothing else.
pub const DOORBELLS: Role = Role {
    calls: &[libc::SYS_ppoll, libc::SYS_read],
    only: &[],
};

/// Memory that the guest gives back.
pub const BALLOON: Role = Role {
    calls: &[libc::SYS_ppoll, libc::SYS_read, libc::SYS_fallocate],
    only: &[],
};

/// What the guest prints, into the console's file.
pub const CONSOLE: Role = Role {
    calls: &[libc::SYS_ppoll, libc::SYS_read, libc::SYS_pwrite64],
    only: &[],
};

/// A disk, as far as nothing waits.
pub const DISK: Role = Role {
    calls: &[
        libc::SYS_ppoll,
        libc::SYS_read,
        libc::SYS_preadv2,
        libc::SYS_pwritev,
    ],
    only: &[],
};

/// What waits for a disk.
pub const DISK_WORK: Role = Role {
    calls: &[
        libc::SYS_preadv2,
        libc::SYS_pwritev,
        libc::SYS_fdatasync,
        libc::SYS_fallocate,
    ],
    only: &[],
};

/// The end of another process's patience.
pub const PATIENCE: Role = Role {
    calls: &[libc::SYS_shutdown],
    only: &[],
};

/// The words with a monitor that speaks vhost-user.
pub const FRONT: Role = Role {
    calls: &[
        libc::SYS_recvmsg,
        libc::SYS_recvfrom,
        libc::SYS_sendmsg,
        libc::SYS_sendto,
    ],
    only: &[Only(libc::SYS_fcntl, &[(1, COPY)])],
};

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;
    use std::os::unix::net::UnixStream;
    use std::process::{Command, Stdio};

    use lighter_platform::sys::threads;

    use super::*;
    use crate::device::Local;
    use crate::played::{DATA, Guest, SIZE, reads, writes};
    use crate::vsock::{GUEST_CID, Vsock};

    const ROLES: &[(&str, Role)] = &[
        #[cfg(target_arch = "x86_64")]
        ("processor", PROCESSOR),
        ("streams", STREAMS),
        ("doorbells", DOORBELLS),
        ("balloon", BALLOON),
        ("console", CONSOLE),
        ("disk", DISK),
        ("what waits for a disk", DISK_WORK),
        ("patience", PATIENCE),
        ("front", FRONT),
    ];

    #[test]
    fn whoever_leaves_a_role_ends() {
        for (name, role) in ROLES {
            let survived = lighter_tests::deeds::survived(|| role.take()).unwrap();
            assert_eq!(survived, [""; 0], "{name}");
        }
    }

    const CONFINED: &str = "LIGHTER_TEST_CONFINED";
    const NAME: &str = "roles::tests::every_device_does_its_work_in_its_role";

    /// In a process of its own, on whose devices' threads the roles are.
    #[test]
    fn every_device_does_its_work_in_its_role() {
        if std::env::var_os(CONFINED).is_some() {
            threads::confine();
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            let soon = std::time::Duration::from_millis(1);
            let patience = crate::patience::Patience::spawn(ours, soon).unwrap();
            let _limit = patience.limit();
            disk(None);
            disk(Some(tempfile::tempfile().unwrap()));
            memory_given_back();
            random_numbers();
            printed();
            streams();
            // The other end of whom was waited for too long.
            assert_eq!(std::io::Read::read(&mut theirs, &mut [0]).unwrap(), 0);
            // Nothing is tidied up: a thread that must not go on ends the process before this.
            std::process::exit(7);
        }
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--test-threads=1", "--nocapture", "--exact", NAME])
            .env(CONFINED, "1")
            // Its report would stand in the middle of ours.
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert_eq!(status.code(), Some(7), "{status}");
    }

    fn disk(log: Option<std::fs::File>) {
        const STATUS: u64 = DATA + 0x800;
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 20).unwrap();
        let full = crate::blk::Full::default();
        let disk = crate::blk::device(file, false, full, log).unwrap();
        let mut guest = Guest::up(disk);
        // One sector at the start: its number, how many, and no flags, for those who want ranges.
        let mut range = [0; 512];
        range[8] = 1;
        for (kind, data) in [
            (1u32, Some(reads(DATA + 0x100, 512))),
            (4, None),
            (0, Some(writes(DATA + 0x100, 512))),
            (11, Some(reads(DATA + 0x100, 16))),
            (13, Some(reads(DATA + 0x100, 16))),
            (8, Some(writes(DATA + 0x100, 20))),
        ] {
            guest.put(DATA, &[0; 16]);
            guest.put(DATA, &kind.to_le_bytes());
            guest.put(DATA + 0x100, &range);
            guest.put(STATUS, &[9]);
            let parts = [Some(reads(DATA, 16)), data, Some(writes(STATUS, 1))];
            guest.ask(0, &parts.into_iter().flatten().collect::<Vec<_>>());
            assert_eq!(guest.get(STATUS, 1), [0], "request {kind}");
        }
    }

    fn memory_given_back() {
        let mut guest = Guest::up(crate::balloon::device().unwrap());
        guest.put(DATA, b"x");
        guest.ask(2, &[writes(DATA, 4096)]);
        assert_eq!(guest.get(DATA, 1), [0]);
    }

    fn random_numbers() {
        let mut guest = Guest::up(crate::rng::device().unwrap());
        guest.ask(0, &[writes(DATA, 64)]);
        assert_eq!(guest.written(), 64);
    }

    /// To a file as the console's: written by place, and emptied.
    struct Log(std::fs::File);

    impl std::io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.set_len(0)?;
            self.0.write_at(bytes, 0)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn printed() {
        let log = Log(tempfile::tempfile().unwrap());
        let copy = log.0.try_clone().unwrap();
        let mut guest = Guest::up(crate::console::device(Box::new(log)).unwrap());
        guest.put(DATA, b"words");
        guest.ask(1, &[reads(DATA, 5)]);
        let mut bytes = [0; 5];
        copy.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(&bytes, b"words");
    }

    fn streams() {
        let vsock = Vsock::spawn(GUEST_CID).unwrap();
        let mut guest = Guest::up(Local::new(19, SIZE, 1, vsock.transport()));
        while !vsock.ready() {
            std::thread::yield_now();
        }
        guest.set_available(SIZE + 1);
        guest.is_given_up(1);
    }
}
