//! The host's own disk: what containers no longer have, Lighter does not keep.

use std::os::unix::fs::MetadataExt as _;

use lighter_tests::{Host, until};

const MIB: u64 = 1 << 20;

/// Bytes that the data disk takes of the host's, after what the machine was asked before.
fn held(host: &Host) -> u64 {
    host.docker(&["version"]).ok();
    let disk = std::fs::metadata(host.home().join("data/disk.img"));
    disk.expect("the data disk").blocks() * 512
}

/// Writes so many MiB that no disk leaves out, in a container that runs.
fn write(host: &Host, name: &str, file: &str, mib: u64) {
    let script = format!("dd if=/dev/urandom of={file} bs=1M count={mib} 2>&1 && sync");
    host.docker(&["exec", name, "sh", "-c", &script]).ok();
}

#[test]
fn room_of_what_is_removed_goes_back_to_the_host() {
    let Some(host) = Host::started("room_of_what_is_removed_goes_back_to_the_host") else {
        return;
    };
    let run = ["run", "-d", "--network", "none", "--name", "writer"];
    let stays = ["-v", "large:/large", "busybox", "sleep", "1000000"];
    host.docker(&[&run[..], &stays].concat()).ok();
    let before = held(&host);
    write(&host, "writer", "/large/file", 96);
    write(&host, "writer", "/file", 64);
    let full = held(&host);
    assert!(full >= before + 160 * MIB, "{before}, then {full}");

    host.docker(&["rm", "-f", "writer"]).ok();
    until("a container's room is given back", || {
        held(&host) < full - 56 * MIB
    });
    let without = held(&host);
    assert!(
        without >= before + 96 * MIB,
        "{before}, then {without}: a volume's room is gone"
    );

    host.docker(&["volume", "rm", "large"]).ok();
    until("a volume's room is given back", || {
        held(&host) < full - 144 * MIB
    });
}
