//! The data disk: the guest's to write, and never more than bytes to the host.

use std::os::unix::fs::FileExt;

use lighter_tests::Host;

/// GHSA-jmr4: what a hostile guest leaves at the start of its disk, where ext4 has nothing, is the header of a
/// qcow2 image whose backing file is one of the host's. The next machine has the same disk, not that file.
#[test]
fn ghsa_jmr4_a_header_of_another_format_makes_the_disk_nothing_else() {
    let name = "ghsa_jmr4_a_header_of_another_format_makes_the_disk_nothing_else";
    let Some(host) = Host::started(name) else {
        return;
    };
    let said = |flags: &[&str], script: &str| {
        let run = [&["run", "--rm"], flags, &["busybox", "sh", "-c", script]].concat();
        host.docker(&run).ok().out()
    };
    let volume = ["-v", "kept:/v"];
    let privileged = ["--privileged"];
    let sizes = "cat /sys/class/block/vd?/size";
    said(&volume, "echo kept > /v/file; sync");
    let before = said(&privileged, sizes);
    // The running machine's kernel lets nobody write below its file system, root of everything included.
    let write =
        "printf QFI | dd of=$(ls /dev/vd? | head -n 1) conv=notrunc 2>/dev/null || echo refused";
    assert_eq!(said(&privileged, write), "refused\n");
    host.lighter(&["down"]).ok();

    let secret = host.home().join("secret");
    std::fs::write(&secret, "of the host\n".repeat(100)).expect("written");
    let disk = std::fs::File::options()
        .write(true)
        .open(host.home().join("data/disk.img"))
        .expect("the disk");
    disk.write_all_at(&header(&secret.display().to_string()), 0)
        .expect("written");
    drop(disk);
    host.lighter(&["up"]).ok();
    assert_eq!(said(&privileged, sizes), before);
    assert_eq!(said(&volume, "cat /v/file"), "kept\n");
    let first = "head -c 3 $(ls /dev/vd? | head -n 1); \
                 head -c 1048576 $(ls /dev/vd? | head -n 1) | grep -c 'of the host'";
    // `grep` finds nothing, and says so.
    let run = ["run", "--rm", "--privileged", "busybox", "sh", "-c", first];
    assert_eq!(host.docker(&run).out(), "QFI0\n");
}

/// A header of qcow2, version 2: a disk of 1 GiB in clusters of 64 KiB, nothing of it allocated, over
/// `backing`.
fn header(backing: &str) -> Vec<u8> {
    let mut header = b"QFI\xfb".to_vec();
    header.extend(2u32.to_be_bytes());
    header.extend(256u64.to_be_bytes());
    header.extend(u32::try_from(backing.len()).expect("short").to_be_bytes());
    header.extend(16u32.to_be_bytes());
    header.extend((1u64 << 30).to_be_bytes());
    header.extend(0u32.to_be_bytes());
    // Of the first table: entries, and where it is; then that of the counts, and its clusters.
    header.extend(2u32.to_be_bytes());
    for number in [3u64 << 16, 1 << 16] {
        header.extend(number.to_be_bytes());
    }
    header.extend(1u32.to_be_bytes());
    header.resize(256, 0);
    header.extend(backing.as_bytes());
    header
}
