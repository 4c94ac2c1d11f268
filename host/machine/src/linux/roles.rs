//! What the machine process's own threads may call; devices and processors have theirs in `lighter-vmm`.

use lighter_platform::sys::threads::{Only, Role};

/// `SIGKILL`, for QEMU.
const END: u32 = libc::SIGKILL.cast_unsigned();
const QEMU_ENDS: Only = Only(libc::SYS_pidfd_send_signal, &[(1, END)]);

/// The main thread, once everything was started: words with daemons, and their clients' streams on the way to the
/// streams' device.
pub const CONTROL: Role = Role {
    calls: &[
        libc::SYS_epoll_ctl,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_epoll_wait,
        libc::SYS_epoll_pwait,
        libc::SYS_recvmsg,
        libc::SYS_sendmsg,
        libc::SYS_accept4,
    ],
    only: &[
        // A daemon is of the same user, and its socket does not block.
        Only(
            libc::SYS_getsockopt,
            &[
                (1, libc::SOL_SOCKET.cast_unsigned()),
                (2, libc::SO_PEERCRED.cast_unsigned()),
            ],
        ),
        Only(libc::SYS_ioctl, &[(1, libc::FIONBIO as u32)]),
        QEMU_ENDS,
    ],
};

/// Waits for the machine's end and tells of it.
pub const WAIT: Role = Role {
    calls: &[],
    only: &[QEMU_ENDS],
};

/// Waits for QEMU's end, and hears its last words.
pub const QEMU_EXIT: Role = Role {
    calls: &[libc::SYS_read, libc::SYS_wait4],
    only: &[],
};

/// Words with QEMU.
pub const QMP: Role = Role {
    calls: &[libc::SYS_recvfrom, libc::SYS_sendto],
    only: &[Only(
        libc::SYS_fcntl,
        &[(1, libc::F_DUPFD_CLOEXEC.cast_unsigned())],
    )],
};

/// What QEMU's serial line says, into the console's file.
pub const CONSOLE: Role = Role {
    calls: &[libc::SYS_recvfrom, libc::SYS_pwrite64],
    only: &[],
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_leaves_a_role_ends() {
        for (name, role) in [
            ("control", CONTROL),
            ("wait", WAIT),
            ("QEMU's end", QEMU_EXIT),
            ("words with QEMU", QMP),
            ("console", CONSOLE),
        ] {
            let survived = lighter_tests::deeds::survived(|| role.take()).unwrap();
            assert_eq!(survived, [""; 0], "{name}");
        }
    }
}
