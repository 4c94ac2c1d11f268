//! What lies on the data disk changes while the machine is down.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use lighter_tests::Host;
use rustix::fs::SeekFrom;

const BLOCK: u64 = 4096;
/// Of EROFS, where its super block is.
const MAGIC: (u64, [u8; 4]) = (1024, [0xe2, 0xe1, 0xf5, 0xe0]);
/// In the first block of an index, where EROFS itself never looks.
const UNUSED: u64 = 10;

/// Changes one byte of every layer's index in a disk image; how many there were.
fn damage_indexes(disk: &Path) -> usize {
    let disk = File::options()
        .read(true)
        .write(true)
        .open(disk)
        .expect("the disk");
    let mut found = 0;
    let mut at = 0;
    // The file is sparse: where there is nothing, nothing is read.
    while let Ok(data) = rustix::fs::seek(&disk, SeekFrom::Data(at)) {
        let end = rustix::fs::seek(&disk, SeekFrom::Hole(data)).expect("a hole");
        for block in (data / BLOCK..end.div_ceil(BLOCK)).map(|number| number * BLOCK) {
            let mut magic = [0; 4];
            if disk.read_exact_at(&mut magic, block + MAGIC.0).is_ok() && magic == MAGIC.1 {
                disk.write_all_at(&[0xff], block + UNUSED).expect("written");
                found += 1;
            }
        }
        at = end;
    }
    found
}

#[test]
fn a_layer_whose_index_changed_on_the_disk_is_never_used() {
    let Some(host) = Host::started("a_layer_whose_index_changed_on_the_disk_is_never_used") else {
        return;
    };
    let run = ["run", "--rm", "busybox", "true"];
    host.docker(&run).ok();
    host.lighter(&["down"]).ok();
    assert!(damage_indexes(&host.home().join("data/disk.img")) > 0);
    host.lighter(&["up"]).ok();
    host.docker(&run).ok();
    // It ran from an index made anew, and what is on the disk now is whole again.
    let mended = || {
        let console = host.lighter(&["doctor", "--console"]).out();
        console.matches("the index of a layer is made anew").count()
    };
    let first = mended();
    assert!(first > 0);
    host.lighter(&["down"]).ok();
    host.lighter(&["up"]).ok();
    host.docker(&run).ok();
    assert!(mended() <= first, "it had to be made anew again");
}
