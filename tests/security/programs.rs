//! Programs of another kind than the machine's under the default walls.

use lighter_tests::{Host, env};

/// Debian's busybox for i386, static: its shell, pipes, files, clock and sockets.
#[test]
fn a_32_bit_busybox_runs_under_the_default_filter() {
    let name = "a_32_bit_busybox_runs_under_the_default_filter";
    let Some(host) = Host::shared(name) else {
        return;
    };
    let Some(busybox) = env::path(env::I386_BUSYBOX) else {
        return env::skip(
            name,
            "busybox for i386 is not there: run `cargo xtask test`",
        );
    };
    let binary = std::fs::read(busybox).expect("readable");
    assert_eq!(&binary[..5], b"\x7fELF\x01", "a 32-bit program");
    let script = "cat > /busybox32 && chmod +x /busybox32 && exec /busybox32 sh -c '\
                    busybox() { /busybox32 \"$@\"; }; \
                    busybox head -c 5 /busybox32 | busybox od -An -tx1; \
                    busybox grep Seccomp: /proc/self/status; \
                    echo text | busybox sha256sum | busybox cut -c 1-8; \
                    busybox date -u -d @0 +%Y; busybox id -u; \
                    busybox ifconfig lo | busybox grep -o LOOPBACK; \
                    busybox mount -t tmpfs none /mnt 2>/dev/null || echo refused' < /dev/null";
    let run = host
        .docker_with(
            &["run", "--rm", "-i", "busybox", "sh", "-c", script],
            &binary,
        )
        .ok();
    let golden = " 7f 45 4c 46 01\nSeccomp:\t2\nb9e68e1b\n1970\n0\nLOOPBACK\nrefused\n";
    assert_eq!(run.out(), golden, "{}", run.err());
}
